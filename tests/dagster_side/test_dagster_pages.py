"""What Dagster's pages get to show of runs: numbers that they plot, links from run to run, kinds and descriptions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg
import pytest

from runops.core import PROVIDERS, Outcome, Progress, RunRef, RunSnapshot, Verdict
from runops.dagster import (
    build_completion_sensor,
    build_run_asset,
    build_run_multi_asset,
    build_run_op,
    build_run_sensor,
    build_submit_job,
)
from runops.dagster.verdicts import shown

PLOTTED = (dg.IntMetadataValue, dg.FloatMetadataValue)
NYX = {
    "config_name": "nightly",
    "name": "probe",
    "target": {"type": "web", "url": "https://t.test"},
    "objective": "o",
    "budget_usd": 9,
}


def nyx_call(script: str) -> dict[str, Any]:
    return {**NYX, "severity_target": "high", "hints": [f"emulator:script={script}", "emulator:seconds=5"]}


VERDICT = Verdict.SUCCEED


def run_of(provider: str, **values: Any) -> RunSnapshot:
    ref = RunRef(provider=provider, run_id="r1")
    progress = Progress(**values.pop("progress")) if "progress" in values else None
    return RunSnapshot(ref=ref, state="completed", outcome=Outcome.SUCCEEDED, progress=progress, **values)


def plotted(metadata: Any) -> dict[str, float]:
    return {name: float(value.value or 0) for name, value in metadata.items() if isinstance(value, PLOTTED)}


def test_spend_duration_findings_and_progress_are_numbers_that_dagster_plots(service: Callable[[str], Any]) -> None:
    runs = service("nyx")
    ended = runs.materialize(build_run_asset(key="audit", resource_key="nyx", call=nyx_call("succeeded")))
    (event,) = ended.of(dg.DagsterEventType.ASSET_MATERIALIZATION)
    (check,) = ended.of(dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    for metadata in (event.materialization.metadata, check.asset_check_evaluation_data.metadata):
        numbers = plotted(metadata)
        # Of a budget of 9 USD, as much as 2.87 of 5.
        assert numbers["runops/spend"] == pytest.approx(2.87 * 9 / 5)
        assert metadata["runops/spend_unit"].value == "USD"
        assert numbers["runops/duration_seconds"] > 0
        assert numbers["runops/details/findings_count"] == 1


def test_progress_is_a_number_and_a_share_where_its_total_is_known() -> None:
    def numbers(**progress: Any) -> dict[str, float]:
        snapshot = run_of("nexio", progress={"unit": "rows", **progress})
        return {name: n for name, n in plotted(shown(snapshot, VERDICT).metadata).items() if "progress" in name}

    assert numbers(done=3, total=4) == {"runops/progress_done": 3.0, "runops/progress_percent": 75.0}
    assert numbers(done=3, total=None) == {"runops/progress_done": 3.0}
    assert numbers(done=1, total=3) == {"runops/progress_done": 1.0, "runops/progress_percent": 33.3}
    for nonsense in (0, -0.5):
        assert numbers(done=3, total=nonsense) == {"runops/progress_done": 3.0}
    assert shown(run_of("nexio"), VERDICT).metadata.keys().isdisjoint({"runops/progress_done", "runops/spend"})


def test_an_asset_links_to_the_dagster_run_that_waited_before(service: Callable[[str], Any]) -> None:
    metadata = shown(run_of("nexio"), VERDICT, dagster_runs={"taken_up_from": "a-run"}).metadata
    assert metadata["runops/taken_up_from"] == dg.MetadataValue.dagster_run("a-run")


@pytest.fixture
def apart() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def test_a_submitting_run_and_what_is_reported_of_it_lead_to_each_other(
    service: Callable[[str], Any], apart: dg.DagsterInstance, clock: Any
) -> None:
    runs = service("b3os")
    job = build_submit_job(name="start", resource_key="b3os", call={"workflow_id": "wf_1"})
    sensor = build_completion_sensor(name="ends", job=job, asset="report", resource_key="b3os")
    submitted = job.execute_in_process(instance=apart, resources={"b3os": runs.resource})
    before = apart.get_run_by_id(submitted.run_id)
    assert before is not None
    assert "runops/outcome" not in before.tags
    clock.now += 3600
    data = sensor.evaluate_tick(dg.build_sensor_context(instance=apart, resources={"b3os": runs.resource}))
    assert data.asset_events
    for event in data.asset_events:
        assert event.metadata["runops/submitted_in"] == dg.MetadataValue.dagster_run(submitted.run_id)
    after = apart.get_run_by_id(submitted.run_id)
    assert after is not None
    assert (after.tags["runops/outcome"], after.tags["runops/verdict"]) == ("succeeded", "succeed")


def test_a_storage_that_refuses_tags_keeps_no_end_from_being_reported(
    service: Callable[[str], Any], apart: dg.DagsterInstance, clock: Any, mocker: Any
) -> None:
    runs = service("b3os")
    job = build_submit_job(name="start", resource_key="b3os", call={"workflow_id": "wf_1"})
    sensor = build_completion_sensor(name="ends", job=job, asset="report", resource_key="b3os")
    job.execute_in_process(instance=apart, resources={"b3os": runs.resource})
    clock.now += 3600
    mocker.patch("runops.dagster._compat.tag_run", side_effect=RuntimeError("database is locked"))
    data = sensor.evaluate_tick(dg.build_sensor_context(instance=apart, resources={"b3os": runs.resource}))
    assert [type(event) for event in data.asset_events] == [dg.AssetMaterialization, dg.AssetCheckEvaluation]


def test_a_requested_run_says_for_which_run_it_is_and_where_that_is_seen(
    service: Callable[[str], Any], apart: dg.DagsterInstance
) -> None:
    runs = service("nyx")

    @dg.job
    def take() -> None: ...

    ref = runs.made(parents={"config_name": "nightly"}, seconds=0)
    sensor = build_run_sensor(name="audits", resource_key="nyx", targets={"audit": [ref]}, request_job=take)
    data = sensor.evaluate_tick(dg.build_sensor_context(instance=apart, resources={"nyx": runs.resource}))
    (request,) = data.run_requests or []
    assert request.tags["runops/outcome"] == "succeeded"
    assert request.tags["runops/url"] == PROVIDERS["nyx"].url(ref)


CALL = {"workflow_id": "wf_1"}


@pytest.mark.parametrize(
    ("resource_key", "given", "kinds"),
    [("b3os", {}, {"b3os"}), ("chain", {}, set()), ("b3os", {"kinds": {"dbt"}}, {"dbt"})],
)
def test_the_provider_is_the_kind_of_an_asset_unless_the_user_gives_another(
    resource_key: str, given: dict[str, Any], kinds: set[str]
) -> None:
    alone = build_run_asset(key="one", resource_key=resource_key, call=CALL, **given)
    together = build_run_multi_asset(
        name="both", specs=[dg.AssetSpec("one", **given)], resource_key=resource_key, call=CALL
    )
    for asset in (alone, together):
        (spec,) = asset.specs
        assert spec.kinds == kinds


def test_everything_that_is_built_says_what_it_does_unless_the_user_does() -> None:
    job = build_submit_job(name="start", resource_key="b3os", call=CALL)
    made = {
        "asset": next(iter(build_run_asset(key="one", resource_key="b3os", call=CALL).specs)).description,
        "many": next(iter(build_run_asset(key="one", resource_key="b3os", calls=[CALL]).specs)).description,
        "given": build_run_op(name="wait", resource_key="b3os", run_id="run_1").description,
        "given_many": build_run_op(name="wait", resource_key="b3os", run_ids=["run_1"]).description,
        "job": job.description,
        "ends": build_completion_sensor(name="ends", job=job, asset="a/b", resource_key="b3os").description,
        "sensor": build_run_sensor(
            name="runs", resource_key="b3os", targets={f"out/{n}": f"wf_{n}" for n in range(7)}
        ).description,
    }
    assert made == {
        "asset": "Submits an external run through the resource `b3os` and waits until it is over.",
        "many": "Submits many external runs through the resource `b3os` and waits until they are over.",
        "given": "Waits through the resource `b3os` for an external run that something else starts.",
        "given_many": "Waits through the resource `b3os` for external runs that something else starts.",
        "job": "Submits an external run through the resource `b3os` and ends. The tags of its Dagster run show how the "
        "external one ended, once a sensor of build_completion_sensor has reported it.",
        "ends": "Reports to `a/b` how the external runs ended that the job `start` has submitted.",
        "sensor": "Reports to its asset each external run that is over, of: `out/0` (wf_0), `out/1` (wf_1), "
        "`out/2` (wf_2), `out/3` (wf_3), `out/4` (wf_4) and 2 more.",
    }
    own = "Mine."
    assert build_run_op(name="wait", resource_key="b3os", call=CALL, description=own).description == own
    assert build_submit_job(name="start", resource_key="b3os", call=CALL, description=own).description == own


def test_a_sensor_says_what_it_watches_in_each_of_its_forms() -> None:
    ref = RunRef(provider="nyx", run_id="r1")
    targets: dict[str, Any] = {"a": {"pipeline": "p1"}, "b": ref, "c": [ref, RunRef(provider="nyx", run_id="r2")]}
    sensor = build_run_sensor(name="runs", resource_key="nyx", targets=targets, request_job="take")
    assert sensor.description == (
        "Requests a run of the job `take` for each external run that is over, of: `a` (pipeline p1), `b` (one run), "
        "`c` (2 runs)."
    )
