"""What the records of steps say of their submissions, for whoever looks for what was left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from runops.core import ConfigurationError, Outcome, RunRef, Verdict
from runops.core.many.rows import Row, RowState
from runops.core.waiting.intent import Intent
from runops.dagster import RunResource, _compat, cancel_orphans
from runops.dagster.many.records import record_of, rows_of
from runops.dagster.orphans import DagsterRuns, Submission, instance_at, submissions_of
from runops.dagster.step.records import RECORD, SUBMITS

MARKS = {"version": 1, "provider": "b3os", "partition": None, "submission": "x", "nth": 0}
REF = {"provider": "b3os", "run_id": "one", "parents": {}}
RUN = dg.DagsterRun(job_name="job")


def record(kind: str, **more: Any) -> tuple[str, dict[str, Any]]:
    return "step", {**MARKS, "kind": kind, **more}


def found(*records: tuple[str, dict[str, Any]]) -> list[Submission]:
    return submissions_of([(RUN, records)])


def test_what_was_known_before_a_submit_stays_known_after_it() -> None:
    (one,) = found(
        record("submitting", parent={"workflow_id": "wf"}, credential="c"),
        record("submitted", ref=REF, deadline=7.0),
    )
    assert (one.ref, one.ended, one.given) == (RunRef.parse(REF), False, False)
    told = {name: one.about.get(name) for name in ("parent", "credential", "deadline", "kind")}
    assert told == {"parent": {"workflow_id": "wf"}, "credential": "c", "deadline": 7.0, "kind": "submitted"}
    assert (one.run, one.step_key, dict(one.marks)) == (RUN, "step", MARKS)


def test_a_run_that_is_taken_up_without_an_earlier_record_is_known_by_that_one() -> None:
    (one,) = found(record("taken up", ref=REF, credential="c"))
    assert (one.ref, one.about["credential"]) == (RunRef.parse(REF), "c")


@pytest.mark.parametrize("kind", ["ended", "refused", "turn awaited", "failed before", "of a later version"])
def test_a_record_that_nothing_came_before_is_no_submission(kind: str) -> None:
    assert found(record(kind, ended="succeeded")) == []


@pytest.mark.parametrize(
    ("ended", "over"),
    [("succeeded", True), ("failed", True), ("cancelled", True), ("timed_out", False), ("other", False), (None, False)],
)
def test_a_run_is_over_by_its_own_end_and_not_by_that_of_its_wait(ended: str | None, over: bool) -> None:
    (one,) = found(record("submitting"), record("submitted", ref=REF), record("ended", ended=ended))
    assert one.ended is over


@pytest.mark.parametrize("other", [{"partition": "north"}, {"submission": "y"}, {"nth": 1}, {"provider": "nyx"}])
def test_submissions_of_another_partition_call_or_place_are_others(other: dict[str, Any]) -> None:
    (one,) = found(record("submitting"), record("submitting", **other), record("refused"))
    assert {name: one.marks[name] for name in other} == other


def test_a_refusal_takes_back_only_what_was_never_answered() -> None:
    (one,) = found(record("submitting"), record("submitted", ref=REF), record("refused"))
    assert one.ref == RunRef.parse(REF)


def test_an_end_is_that_of_the_newest_try_in_the_run_that_has_seen_it() -> None:
    later = dg.DagsterRun(job_name="job")
    two = {**REF, "run_id": "two"}
    first = [record("submitting"), record("submitted", ref=REF), record("submitting"), record("submitted", ref=two)]
    found = submissions_of([(RUN, first), (later, [record("ended", ended="succeeded")])])
    assert [(each.ref and each.ref.run_id, each.ended, each.run) for each in found] == [
        ("one", False, RUN),
        ("two", True, later),
    ]


def test_the_newest_row_of_each_run_of_a_set_counts_while_it_may_be_alive() -> None:
    marks = {"version": 1, "provider": "b3os", "partition": None, "set": "s"}
    going = [Row(index=n, key=f"k{n}", run_id=f"r{n}", state=RowState.SUBMITTED) for n in range(3)]
    over = replace(going[1], state=RowState.ENDED, outcome=Outcome.SUCCEEDED, verdict=Verdict.SUCCEED)
    entries = [("step", {**marks, **record_of(rows)}) for rows in (going, [over])]
    found = submissions_of([(RUN, entries)])
    assert [(each.ref and each.ref.run_id, each.row and each.row.index, each.given) for each in found] == [
        ("r0", 0, False),
        ("r2", 2, False),
    ]


@pytest.mark.parametrize("kind", ["submitted", "taken up", "attached"])
def test_another_run_of_a_submission_stands_beside_the_first_and_the_same_one_in_its_place(kind: str) -> None:
    first, two = record("submitted", ref=REF, credential="c"), RunRef.parse({**REF, "run_id": "two"})
    (same,) = found(first, record(kind, ref=REF))
    assert (same.ref, same.given, same.about["credential"]) == (RunRef.parse(REF), kind == "attached", "c")
    beside = found(first, record(kind, ref=two.model_dump()))
    assert [(each.ref, each.given) for each in beside] == [(RunRef.parse(REF), False), (two, kind == "attached")]


@pytest.mark.parametrize(("attached", "given"), [(True, True), (False, False), (None, False)])
def test_a_run_that_was_active_already_is_somebody_else_s(attached: bool | None, given: bool) -> None:
    (one,) = found(record("submitting"), record("submitted", ref=REF, attached=attached))
    assert one.given is given


SET = {"version": 1, "provider": "b3os", "partition": None, "set": 0}
INTENT = Intent(mark="[bcdfghjbcdfgh]", ids_before=frozenset({"a"}), clock=7.0)
ROW = Row(index=4, key="k4", run_id="r4", state=RowState.SUBMITTED)


def rows(*rows: Row, listed_under: Mapping[str, Mapping[str, str]] | None = None, **other: Any) -> tuple[str, Any]:
    return "step", {**SET, **record_of(rows, listed_under), **other}


def test_a_row_whose_submit_is_lost_keeps_what_was_known_of_it_and_under_which_parent_it_is_listed() -> None:
    lost = replace(ROW, run_id=None, state=RowState.SUBMITTING, intent=INTENT)
    (one,) = found(rows(lost, listed_under={"k4": {"workflow_id": "wf"}}))
    assert (one.ref, one.row, one.about["parent"]) == (None, lost, {"workflow_id": "wf"})
    assert Intent.from_dict(one.about["intent"]) == INTENT
    assert dict(one.marks) == SET
    (two,) = found(rows(lost, listed_under={"k4": {"workflow_id": "wf"}}), rows(replace(lost, submitted_at=3.0)))
    assert (two.row and two.row.submitted_at, two.about["parent"]) == (3.0, {"workflow_id": "wf"})
    (three,) = found(rows(lost))
    assert not three.about["parent"]


@pytest.mark.parametrize("other", [{"partition": "north"}, {"set": 1}, {"provider": "nyx"}, {"version": 2}])
def test_rows_of_another_set_are_others(other: dict[str, Any]) -> None:
    two = found(rows(ROW), rows(replace(ROW, run_id="r5"), **other))
    assert [each.ref and each.ref.run_id for each in two] == ["r4", "r5"]
    assert {**SET, **other} == dict(two[1].marks)


def test_a_later_run_of_a_row_stands_beside_the_one_that_may_be_alive() -> None:
    attached = replace(ROW, run_id="r5", state=RowState.ATTACHED, attached=True)
    two = found(rows(ROW), rows(attached))
    assert [(each.ref and each.ref.run_id, each.given) for each in two] == [("r4", False), ("r5", True)]
    lost = replace(ROW, run_id=None, state=RowState.SUBMITTING, intent=INTENT)
    (one,) = found(rows(lost), rows(ROW))
    assert one.ref == RunRef.parse({**REF, "run_id": "r4"})


# --- what is suspected -----------------------------------------------------------------------------------------


def suspected(tags: dict[str, str], *, status: Any = dg.DagsterRunStatus.FAILURE) -> list[Any]:
    """The suspects of an instance in which one step has submitted a run."""
    with dg.DagsterInstance.ephemeral() as instance:
        run = dg.DagsterRun(job_name="job", status=status, tags={SUBMITS: "true", **tags})
        instance.add_run(run)
        for kind, more in (("submitting", {"parent": {"workflow_id": "wf"}, "credential": "c"}), ("submitted", {})):
            data = {**MARKS, "kind": kind, "ref": REF, **more}
            _compat.note_in_run(instance, run, "step", "noted", {RECORD: dg.MetadataValue.json(data)})
        return list(DagsterRuns(instance, since=datetime(2000, 1, 1, tzinfo=UTC)).suspects())


def test_a_suspect_says_which_step_of_which_run_has_left_what() -> None:
    (one,) = suspected({})
    run_id = one.holder["dagster_run_id"]
    assert one.holder == {
        "host": "dagster",
        "job": "job",
        "dagster_run_id": run_id,
        "step": "step",
        "partition": None,
        "status": "FAILURE",
    }
    assert (one.provider, one.ref, one.intent) == ("b3os", RunRef.parse(REF), None)
    assert (one.why, one.credential, one.parent) == (
        "its Dagster run is over (failure)",
        "c",
        {"workflow_id": "wf"},
    )


PENDING = {"runops/pending": "true", "runops/pending_run": RunRef.parse(REF).model_dump_json()}


@pytest.mark.parametrize(
    ("tags", "left"),
    [
        (PENDING, 0),
        ({**PENDING, "runops/pending": "false"}, 1),
        ({**PENDING, "runops/pending_in": "another-run"}, 1),
        ({**PENDING, "runops/pending_run": "{}"}, 1),
        ({"runops/pending": "true"}, 1),
        ({**PENDING, "runops/pending_run": '{"provider":"b3os","run_id":"two"}'}, 1),
    ],
)
def test_a_run_whose_end_a_sensor_has_yet_to_report_is_not_left_behind(tags: dict[str, str], left: int) -> None:
    assert len(suspected(tags)) == left


@pytest.mark.parametrize(
    ("status", "left"),
    [
        (dg.DagsterRunStatus.SUCCESS, 1),
        (dg.DagsterRunStatus.CANCELED, 1),
        (dg.DagsterRunStatus.STARTED, 0),
        (dg.DagsterRunStatus.CANCELING, 0),
    ],
)
def test_only_what_a_dagster_run_that_is_over_has_submitted_is_left_behind(status: Any, left: int) -> None:
    assert len(suspected({}, status=status)) == left


# --- what is looked at again and written down --------------------------------------------------------------------


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """One that no other test has seen."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def over(instance: dg.DagsterInstance, *records: tuple[str, dict[str, Any]], **tags: str) -> dg.DagsterRun:
    """A Dagster run that has failed, and the records of its step."""
    run = dg.DagsterRun(job_name="job", status=dg.DagsterRunStatus.FAILURE, tags={SUBMITS: "true", **tags})
    instance.add_run(run)
    for step, data in records:
        _compat.note_in_run(instance, run, step, "noted", {RECORD: dg.MetadataValue.json(data)})
    return run


def noted(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[tuple[str, str, dict[str, Any]]]:
    """The step, the text and the record of each event, oldest first."""
    events = [(each.step_key, each.dagster_event) for each in instance.all_logs(run.run_id)]
    return [
        (step or "", event.message or "", dict(event.engine_event_data.metadata[RECORD].value))  # type: ignore[arg-type]
        for step, event in events
        if event is not None
    ]


def looking(instance: dg.DagsterInstance) -> DagsterRuns:
    return DagsterRuns(instance, since=datetime(2000, 1, 1, tzinfo=UTC))


def test_a_cancel_is_written_into_the_log_of_the_step_that_had_submitted_the_run(instance: dg.DagsterInstance) -> None:
    two = {**REF, "run_id": "two"}
    run = over(
        instance,
        record("submitted", ref=REF),
        ("other", {**MARKS, "kind": "submitted", "ref": two, "submission": "y"}),
    )
    host = looking(instance)
    first, second = host.suspects()
    host.cancelled(second, RunRef.parse(two))
    step, text, written = noted(instance, run)[-1]
    assert (step, text) == ("other", "Nothing waited for b3os run two any more: asked for it to be cancelled.")
    assert written == {**MARKS, "submission": "y", "process": "orphans", "kind": "stopped", "ref": two}
    assert host.still_left(first)


def test_a_cancel_of_one_of_many_is_written_as_a_row_that_was_stopped(instance: dg.DagsterInstance) -> None:
    lost = replace(ROW, index=5, key="k5", run_id=None, state=RowState.SUBMITTING, intent=INTENT)
    run = over(instance, rows(ROW, lost))
    host = looking(instance)
    known, unknown = host.suspects()
    assert (known.holder["index"], unknown.holder["index"]) == (4, 5)
    assert (known.ref and known.ref.run_id, known.intent, unknown.ref, unknown.intent) == ("r4", None, None, INTENT)
    for suspect, run_id in ((known, "r4"), (unknown, "r5")):
        host.cancelled(suspect, RunRef.parse({**REF, "run_id": run_id}))
    for index, run_id, (_, _, written) in zip((4, 5), ("r4", "r5"), noted(instance, run)[-2:], strict=True):
        ((row, _),) = rows_of(written)
        assert (row.index, row.run_id, row.state, row.stopped) == (index, run_id, RowState.SUBMITTED, True)
        assert {name: written.get(name) for name in SET} == SET


def test_what_is_not_left_any_more_is_not_written_down(instance: dg.DagsterInstance) -> None:
    run = over(instance, record("submitted", ref=REF))
    host = looking(instance)
    (one,) = host.suspects()
    assert host.still_left(one)
    assert not host.still_left(replace(one, ref=RunRef.parse({**REF, "run_id": "two"})))
    assert not host.still_left(replace(one, intent=INTENT))
    _compat.note_in_run(
        instance, run, "step", "noted", {RECORD: dg.MetadataValue.json(record("ended", ended="failed")[1])}
    )
    assert not host.still_left(one)
    before = noted(instance, run)
    host.cancelled(one, RunRef.parse(REF))
    assert noted(instance, run) == before
    instance.delete_run(run.run_id)
    assert not host.still_left(one)
    assert list(host.suspects()) == []


def test_a_lost_submit_is_known_by_its_parent_and_by_what_was_there_before(instance: dg.DagsterInstance) -> None:
    over(instance, record("submitting", parent={"workflow_id": 7}, intent=INTENT.to_dict()))
    (one,) = looking(instance).suspects()
    assert (one.ref, one.intent, one.parent, one.credential) == (None, INTENT, {"workflow_id": "7"}, None)


@pytest.mark.parametrize(
    ("tag", "status", "waits"),
    [
        ("submitted", dg.DagsterRunStatus.STARTED, True),
        ("awaited", dg.DagsterRunStatus.STARTING, True),
        ("reported", dg.DagsterRunStatus.STARTED, False),
        ("awaited", dg.DagsterRunStatus.SUCCESS, False),
        ("awaited", dg.DagsterRunStatus.FAILURE, False),
        ("awaited", dg.DagsterRunStatus.CANCELED, False),
        ("awaited", dg.DagsterRunStatus.CANCELING, True),
    ],
)
def test_a_run_is_awaited_while_a_dagster_run_that_bears_its_tag_goes_on(
    instance: dg.DagsterInstance, tag: str, status: dg.DagsterRunStatus, waits: bool
) -> None:
    instance.add_run(dg.DagsterRun(job_name="job", status=status, tags={"runops.b3os/one": tag}))
    assert looking(instance).awaits(RunRef.parse(REF)) is waits
    assert looking(instance).awaits(RunRef.parse({**REF, "run_id": "two"})) is False


# --- who looks ---------------------------------------------------------------------------------------------------


def test_an_instance_is_that_of_the_folder_that_is_named_else_that_of_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "other").mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "other"))
    for given, folder in ((str(tmp_path / "own"), "own"), (None, "other"), ("", "other")):
        with instance_at(given) as found:
            assert os.path.realpath(found.root_directory) == os.path.realpath(tmp_path / folder)
    nowhere = str(tmp_path / "nowhere")
    for given, text in ((nowhere, repr(nowhere)), (f"/{'x' * 300}", f"'/{'x' * 199}'")):
        with pytest.raises(ConfigurationError) as raised, instance_at(given):
            pass
        assert str(raised.value).startswith(f"There is no folder {text}: it should hold the dagster.yaml")
    monkeypatch.delenv("DAGSTER_HOME")
    with pytest.raises(ConfigurationError) as raised, instance_at(None):
        pass
    assert "says --dagster-home, or the variable DAGSTER_HOME" in str(raised.value)


def test_each_run_is_read_with_the_resource_that_submitted_it_else_with_the_first_of_its_service(
    instance: dg.DagsterInstance, mocker: Any
) -> None:
    for place, credential in enumerate(("second", "gone", None, "nyx")):
        over(instance, record("submitted", ref={**REF, "run_id": f"r{place}"}, credential=credential))
    over(instance, ("step", {**MARKS, "provider": "nexio", "kind": "submitted", "ref": {**REF, "provider": "nexio"}}))
    used: list[str] = []

    def client(self: RunResource) -> Any:
        used.append(self.base_url or "")
        raise ConfigurationError("not opened")

    mocker.patch.object(RunResource, "client", client)
    resources = {
        name: RunResource(provider=provider, api_key="k", base_url=f"https://{name}.example.com")
        for name, provider in (("nyx", "nyx"), ("first", "b3os"), ("second", "b3os"))
    }
    found = cancel_orphans(dg.build_op_context(instance=instance), resources)
    assert {each["run_id"]: each["message"] for each in found} == {
        "one": "No resource for nexio was given.",
        **{f"r{place}": "not opened" for place in range(4)},
    }
    assert sorted(used) == [f"https://{name}.example.com" for name in ("first", "first", "first", "second")]


def test_only_dagster_runs_that_have_changed_since_are_looked_at(instance: dg.DagsterInstance) -> None:
    over(instance, record("submitted", ref=REF))
    resources = {"nyx": RunResource(provider="nyx", api_key="k")}
    context = dg.build_op_context(instance=instance)
    assert len(cancel_orphans(context, resources, cancel=False)) == 1
    assert cancel_orphans(context, resources, since=timedelta(hours=-1), cancel=False) == []
