"""What steps have left behind: found by the records of their Dagster runs, and cancelled only while nothing waits."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from runops.cli import main
from runops.cli.examples import examples
from runops.core import RunRef
from runops.core.client.orphans import OrphanReview
from runops.core.waiting.orphans import Act
from runops.dagster import build_run_asset, build_submit_job, cancel_orphans
from runops.dagster.orphans import DagsterRuns, submissions_of
from tests.open_telemetry import Numbers, numbers
from tests.services import CALLS

__all__ = ["numbers"]

PROJECT = Path(__file__).resolve().parents[2] / "examples" / "dagster" / "src"
STOPS = {"timeout": 30, "cancel_on_timeout": False}
"""A wait that ends before its run does, and lets it go on."""


@pytest.fixture
def own(service: Callable[[str], Any]) -> Iterator[Callable[[str], Any]]:
    """A provider, and an instance that no other test has seen."""
    with dg.DagsterInstance.ephemeral() as instance:

        def make(name: str) -> Any:
            runs = service(name)
            runs.instance = instance
            return runs

        yield make


def asset_of(runs: Any, **settings: Any) -> dg.AssetsDefinition:
    name = runs.provider.name
    return build_run_asset(key="outside", resource_key=name, call=CALLS[name], **{**STOPS, **settings})


def left(runs: Any, *, cancel: bool = False) -> list[dict[str, Any]]:
    context = dg.build_op_context(instance=runs.instance)
    return cancel_orphans(context, {runs.provider.name: runs.resource}, cancel=cancel)


def newest(runs: Any) -> dg.DagsterRun:
    return runs.instance.get_runs(limit=1)[0]


@pytest.mark.parametrize("name", ["nexio", "nyx", "onepin", "b3os"])
def test_a_run_that_outlives_its_wait_is_listed_with_its_step_and_the_reason(own: Any, clock: Any, name: str) -> None:
    runs = own(name)
    runs.emulator.set_defaults(name, seconds=3600)
    assert not runs.materialize(asset_of(runs)).success
    (found,) = left(runs)
    (run,) = runs.emulator.runs(provider=name)
    assert (found["provider"], found["run_id"], found["standing"], found["act"]) == (name, run["run_id"], "left", None)
    assert found["holder"] == {
        "host": "dagster",
        "job": newest(runs).job_name,
        "dagster_run_id": newest(runs).run_id,
        "step": "outside",
        "partition": None,
        "status": "FAILURE",
    }
    assert found["why"] == "its Dagster run is over (failure)"
    assert found["credential"] == name
    assert runs.cancels == 0
    assert left(runs) == [found]


def test_how_many_are_left_is_a_number(own: Any, clock: Any, numbers: Numbers) -> None:
    runs = own("nyx")
    runs.emulator.set_defaults("nyx", seconds=3600)
    runs.materialize(asset_of(runs))
    left(runs)
    assert numbers.of("runops.orphans") == {("nyx",): 1}
    left(runs, cancel=True)
    assert numbers.of("runops.orphans") == {("nyx",): 0}


@pytest.mark.parametrize("name", ["nyx", "onepin", "b3os"])
def test_a_cancel_ends_it_and_a_re_execution_submits_a_new_one(own: Any, clock: Any, name: str) -> None:
    runs = own(name)
    runs.emulator.set_defaults(name, seconds=3600)
    first = runs.materialize(asset_of(runs))
    (found,) = left(runs, cancel=True)
    assert (found["act"], runs.cancels) == ("cancelled", 1)
    assert left(runs, cancel=True) == []
    assert runs.cancels == 1

    runs.emulator.set_defaults(name, seconds=1)
    tags = {"dagster/parent_run_id": first.result.run_id, "dagster/root_run_id": first.result.run_id}
    again = runs.materialize(asset_of(runs, timeout=3600), tags=tags)
    assert again.success, again.log
    assert runs.submits == 2


def test_where_a_service_cannot_cancel_it_is_said_so(own: Any, clock: Any) -> None:
    runs = own("nexio")
    runs.emulator.set_defaults("nexio", seconds=3600)
    runs.materialize(asset_of(runs))
    (found,) = left(runs, cancel=True)
    assert (found["standing"], found["act"]) == ("left", "failed")
    assert "no way to cancel" in found["message"]


def test_a_run_that_has_ended_since_is_not_listed(own: Any, clock: Any) -> None:
    runs = own("onepin")
    runs.emulator.set_defaults("onepin", seconds=60)
    runs.materialize(asset_of(runs))
    assert len(left(runs)) == 1
    clock.now += 3600
    assert left(runs) == []


def test_a_given_run_is_never_listed(own: Any, clock: Any) -> None:
    runs = own("nyx")
    given = runs.made(seconds=3600)
    outside = build_run_asset(key="outside", resource_key="nyx", run_id=given.run_id, timeout=30)
    assert not runs.materialize(outside).success
    assert left(runs) == []


def test_a_run_that_ended_while_it_was_waited_for_costs_no_read(own: Any, clock: Any) -> None:
    runs = own("b3os")
    runs.emulator.set_defaults("b3os", seconds=1)
    assert runs.materialize(asset_of(runs)).success
    before = len(runs.emulator.requests())
    assert left(runs) == []
    assert len(runs.emulator.requests()) == before


WAITING: dict[str, Callable[[Any, dg.DagsterRun], None]] = {
    "its own Dagster run goes on": lambda runs, run: status(runs, run, dg.DagsterRunStatus.STARTED),
    "its own Dagster run is being terminated": lambda runs, run: status(runs, run, dg.DagsterRunStatus.CANCELING),
    "a re-execution goes on": lambda runs, run: again(runs, run, dg.DagsterRunStatus.STARTED),
    "a re-execution has not begun": lambda runs, run: again(runs, run, dg.DagsterRunStatus.NOT_STARTED),
    "a run retry is due": lambda runs, run: runs.instance.add_run_tags(run.run_id, {"dagster/will_retry": "true"}),
    "another Dagster run was given it": lambda runs, run: given_to_another(runs, "awaited"),
    "another Dagster run has taken it up": lambda runs, run: given_to_another(runs, "submitted"),
    "a sensor reports it": lambda runs, run: runs.instance.add_run_tags(run.run_id, pending(runs)),
}


def status(runs: Any, run: dg.DagsterRun, value: dg.DagsterRunStatus) -> None:
    """Let a Dagster run stand as if it had not ended; its records stay."""
    records = list(runs.instance.all_logs(run.run_id))
    runs.instance.delete_run(run.run_id)
    runs.instance.add_run(run._replace(status=value))
    for record in records:
        if record.dagster_event is not None and record.dagster_event.is_engine_event:
            runs.instance.store_event(record)


def again(runs: Any, run: dg.DagsterRun, value: dg.DagsterRunStatus) -> None:
    tags = {**run.tags, "dagster/parent_run_id": run.run_id, "dagster/root_run_id": run.run_id}
    made = dg.DagsterRun(
        job_name=run.job_name, status=value, tags=tags, parent_run_id=run.run_id, root_run_id=run.run_id
    )
    runs.instance.add_run(made)


def given_to_another(runs: Any, relation: str) -> None:
    (run,) = runs.emulator.runs(provider=runs.provider.name)
    tags = {f"runops.{runs.provider.name}/{run['run_id']}": relation}
    runs.instance.add_run(dg.DagsterRun(job_name="another", status=dg.DagsterRunStatus.STARTED, tags=tags))


def pending(runs: Any) -> Mapping[str, str]:
    (run,) = runs.emulator.runs(provider=runs.provider.name)
    ref = RunRef(provider=runs.provider.name, run_id=run["run_id"], parents=runs.parents or {})
    return {"runops/pending": "true", "runops/pending_run": ref.model_dump_json()}


@pytest.mark.parametrize("way", WAITING)
def test_what_is_waited_for_is_not_listed(own: Any, clock: Any, way: str) -> None:
    runs = own("onepin")
    runs.emulator.set_defaults("onepin", seconds=3600)
    runs.materialize(asset_of(runs))
    assert len(left(runs)) == 1
    WAITING[way](runs, newest(runs))
    assert left(runs, cancel=True) == []
    assert runs.cancels == 0


@pytest.mark.parametrize(
    "tags",
    [{"runops/pending": "false"}, {"runops/pending_in": "the-run-that-this-one-executes-again"}],
    ids=["a sensor has reported it", "its tags are those of the Dagster run before it"],
)
def test_a_run_that_no_sensor_will_report_is_listed(own: Any, clock: Any, tags: Mapping[str, str]) -> None:
    runs = own("onepin")
    runs.emulator.set_defaults("onepin", seconds=3600)
    runs.materialize(asset_of(runs))
    runs.instance.add_run_tags(newest(runs).run_id, {**pending(runs), **tags})
    assert len(left(runs)) == 1


def test_a_run_that_is_taken_up_between_the_list_and_its_cancel_is_left_alone(own: Any, clock: Any) -> None:
    runs = own("onepin")
    runs.emulator.set_defaults("onepin", seconds=3600)
    runs.materialize(asset_of(runs))
    host = DagsterRuns(runs.instance, since=datetime.now(UTC) - timedelta(days=1))
    with OrphanReview(host, lambda name, credential: runs.resource.client()) as review:
        (found,) = review.find()
        again(runs, newest(runs), dg.DagsterRunStatus.STARTED)
        assert review.cancel(found).act is Act.TAKEN_UP
    assert runs.cancels == 0


def test_a_run_that_ends_between_the_list_and_its_cancel_is_left_alone(own: Any, clock: Any) -> None:
    runs = own("onepin")
    runs.emulator.set_defaults("onepin", seconds=3600)
    runs.materialize(asset_of(runs))
    host = DagsterRuns(runs.instance, since=datetime.now(UTC) - timedelta(days=1))
    with OrphanReview(host, lambda name, credential: runs.resource.client()) as review:
        (found,) = review.find()
        clock.now += 7200
        assert review.cancel(found).act is Act.TAKEN_UP
    assert runs.cancels == 0


def test_a_key_that_may_not_read_a_run_cancels_nothing_and_says_so(own: Any, clock: Any) -> None:
    runs = own("b3os")
    runs.emulator.set_defaults("b3os", seconds=3600)
    runs.materialize(asset_of(runs))
    runs.resource = type(runs.resource)(api_key="invalid-key", base_url=runs.base_url)
    (found,) = left(runs, cancel=True)
    assert (found["standing"], found["act"], runs.cancels) == ("unreadable", None, 0)
    assert "401" in found["message"]
    assert "invalid-key" not in json.dumps(found)


def test_a_lost_submit_is_found_by_its_mark_or_said_to_be_unknown(own: Any, clock: Any) -> None:
    for name, standing in (("nyx", "left"), ("b3os", "uncertain"), ("nexio", "uncertain")):
        runs = own(name)
        runs.emulator.set_defaults(name, seconds=3600)
        runs.emulator.add_fault(kind="reset", provider=name, action="submit", when="after", count=1)
        runs.emulator.add_fault(kind="status", status=503, provider=name, action="list", count=None)
        runs.emulator.add_fault(kind="status", status=503, provider=name, action="latest", count=None)
        assert not runs.materialize(asset_of(runs, submit_grace=1)).success
        runs.emulator.reset(only=("faults",))
        (run,) = runs.emulator.runs(provider=name)
        (found,) = [each for each in left(runs) if each["provider"] == name]
        assert found["standing"] == standing, found
        if standing == "left":
            assert found["run_id"] == run["run_id"]


def test_an_older_dagster_run_is_not_looked_at(own: Any, clock: Any) -> None:
    runs = own("onepin")
    runs.emulator.set_defaults("onepin", seconds=3600)
    runs.materialize(asset_of(runs))
    later = DagsterRuns(runs.instance, since=datetime.now(UTC) + timedelta(hours=1))
    assert list(later.suspects()) == []


def test_every_page_of_dagster_runs_is_read(own: Any, clock: Any, mocker: Any) -> None:
    mocker.patch("runops.dagster.orphans.PAGE", 2)
    runs = own("b3os")
    runs.emulator.set_defaults("b3os", seconds=3600)
    for _ in range(5):
        runs.materialize(asset_of(runs))
    assert len(left(runs)) == 5


def test_a_job_that_only_submits_is_waited_for_by_its_sensor(own: Any, clock: Any) -> None:
    runs = own("b3os")
    runs.emulator.set_defaults("b3os", seconds=3600)
    job = build_submit_job(name="start", resource_key="b3os", call=CALLS["b3os"])
    assert job.execute_in_process(instance=runs.instance, resources={"b3os": runs.resource}).success
    assert left(runs) == []


def test_every_submission_of_a_step_counts_not_only_its_last() -> None:
    run = dg.DagsterRun(job_name="job")
    marks = {"version": 1, "provider": "b3os", "partition": None, "submission": "x", "nth": 0}

    def record(kind: str, run_id: str | None = None, **more: Any) -> tuple[str, dict[str, Any]]:
        ref = None if run_id is None else {"provider": "b3os", "run_id": run_id, "parents": {}}
        return "step", {**marks, "kind": kind, "ref": ref, **more}

    entries = [
        record("submitting"), record("submitted", "one"),
        record("submitting"), record("refused"),
        record("submitting"), record("submitted", "two"), record("ended", ended="succeeded"),
        record("taken up", "three"), record("ended", ended="timed_out"),
        record("submitting"),
        record("of a later version"),
    ]  # fmt: skip
    found = [(each.ref and each.ref.run_id, each.ended) for each in submissions_of([(run, entries)])]
    assert found == [("one", False), ("two", True), ("three", False), (None, False)]


def test_a_submit_that_was_refused_for_want_of_a_turn_and_a_run_that_was_active_already_are_nobodys() -> None:
    run = dg.DagsterRun(job_name="job")
    marks = {"version": 1, "provider": "nyx", "partition": None, "submission": "x", "nth": 0}
    ref = {"provider": "nyx", "run_id": "another's", "parents": {}}
    for kinds in (
        ["submitting", "turn awaited"],
        ["submitting", "turn awaited", "submitting", "turn awaited", "refused"],
    ):
        entries = [("step", {**marks, "kind": kind, "ref": ref}) for kind in kinds]
        assert submissions_of([(run, entries)]) == []
    own = [("step", {**marks, "kind": kind, "ref": {**ref, "run_id": "ours"}}) for kind in ("submitting", "submitted")]
    for attached in ({"kind": "attached"}, {"kind": "taken up", "attached": True}):
        given = [("step", {**marks, "kind": "submitting"}), ("step", {**marks, "ref": ref, **attached})]
        ended = [("step", {**marks, "kind": "ended", "ended": "succeeded"})]
        found = submissions_of([(run, [*own, *given, *ended])])
        assert [(each.ref and each.ref.run_id, each.given, each.ended) for each in found] == [
            ("ours", False, False), ("another's", True, True),
        ]  # fmt: skip


def test_the_command_line_reads_an_instance_by_its_folder(
    own: Any, clock: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = own("onepin")
    runs.emulator.set_defaults("onepin", seconds=3600)
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        runs.instance = instance
        runs.materialize(asset_of(runs))
    monkeypatch.setenv("ONEPIN_API_KEY", "a-key-of-ours")
    monkeypatch.setenv("ONEPIN_BASE_URL", runs.base_url)
    assert main(["orphans", "dagster", "--dagster-home", str(tmp_path), "--json"]) == 0
    (line,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (line["provider"], line["standing"]) == ("onepin", "left")
    with monkeypatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(tmp_path))
        for example in examples()["orphans dagster"]:
            assert main(shlex.split(example.line)[1:]) == example.code
            assert json.loads(capsys.readouterr().out) == line
    assert main(["orphans", "dagster", "--dagster-home", str(tmp_path), "--cancel"]) == 0
    assert "the provider was asked to stop it" in capsys.readouterr().out
    assert main(["orphans", "dagster", "--dagster-home", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "Nothing is left behind.\n"
    assert main(["orphans", "dagster", "--dagster-home", str(tmp_path / "nowhere")]) == 2
    assert "There is no folder" in capsys.readouterr().err


def test_the_maintenance_job_of_the_example_project_cancels_what_is_left(
    own: Any, clock: Any, served: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = own("b3os")
    runs.emulator.set_defaults("b3os", seconds=3600)
    runs.materialize(asset_of(runs))
    monkeypatch.syspath_prepend(PROJECT)
    for name, variable in (("nexio", "NEXIO_API_KEY"), ("nyx", "NYX_TOKEN"), ("b3os", "B3OS_API_KEY")):
        monkeypatch.setenv(variable, "a-key")
        monkeypatch.setenv(f"{name.upper()}_BASE_URL", served.base_url(name))
    from agent_desk.defs import maintenance, shared

    resources = shared.shared(None).resources or {}
    ended = maintenance.maintenance.execute_in_process(
        instance=runs.instance, resources={key: resources[key] for key in maintenance.KEYS}
    )
    assert (ended.output_for_node("cancel_what_is_left"), runs.cancels) == (1, 1)
    schedule = maintenance.every_hour
    assert (schedule.job_name, schedule.cron_schedule) == ("maintenance", "0 * * * *")
    assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED
