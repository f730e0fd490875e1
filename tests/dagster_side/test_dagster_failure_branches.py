"""What a step and a sensor promise where something fails on the way: a cancel, a record, a look, a storage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run
from pytest_mock import MockerFixture

from runops.dagster import _compat, build_completion_sensor, build_run_asset, build_run_op, build_submit_job
from runops.dagster.tick.reader import Reader
from tests.services import CALLS

CALL = {"workflow_id": "wf_1", "payload": {"amount": 3}}
AUDIT = CALLS["nyx"]
SLOW_CANCEL = [{"after": 15, "set": {"status": "cancelled", "finishedAt": "$now"}}]
"""What a service does that takes its time: for a while the run goes on as if nobody had asked."""
ONE_RETRY = dg.RetryPolicy(max_retries=1)


def asset_of(**options: Any) -> dg.AssetsDefinition:
    return build_run_asset(key="external", resource_key="b3os", call=CALL, **options)


def succeeding_from_the_second(runs: Any, clock: Any, script: str = "forever", **options: Any) -> None:
    """The first run follows a script of its own, and every later one succeeds."""
    runs.emulator.set_defaults("b3os", script=script, **options)

    def later(seconds: float) -> None:
        if runs.submits:
            runs.emulator.set_defaults("b3os", script="succeeded", seconds=5, on_cancel=None)

    clock.on_sleep = later


# --- a cancel of our own ---------------------------------------------------------------------------------------


def test_a_retry_submits_anew_once_the_run_that_it_had_asked_to_cancel_is_over_and_not_before(
    service: Callable[[str], Any], clock: Any
) -> None:
    runs = service("b3os")
    succeeding_from_the_second(runs, clock, on_cancel=SLOW_CANCEL)
    ended = runs.materialize(asset_of(timeout=60, retry_policy=ONE_RETRY))
    assert ended.materialized == ["external"]
    first, second = sorted(runs.emulator.requests(provider="b3os", action="submit"), key=lambda each: each["time"])
    (cancel,) = runs.emulator.requests(provider="b3os", action="cancel")
    assert cancel["run_id"] == first["created_run_id"]
    assert second["time"] >= cancel["time"] + 15
    assert "Took up" in ended.log
    assert "is cancelled, as this step had asked; a new run is submitted" in ended.log


def test_a_run_that_ends_well_although_its_cancel_was_asked_for_is_the_result(
    service: Callable[[str], Any], clock: Any
) -> None:
    runs = service("b3os")
    finishing = [{"after": 20, "set": {"status": "success", "finishedAt": "$now"}}]
    runs.emulator.set_defaults("b3os", script="forever", on_cancel=finishing)
    ended = runs.materialize(asset_of(timeout=60, retry_policy=ONE_RETRY))
    assert ended.materialized == ["external"]
    assert (runs.submits, runs.cancels) == (1, 1)


def test_a_submit_job_that_cancelled_its_run_submits_anew_once_that_is_over(
    service: Callable[[str], Any], clock: Any, terminated: Callable[..., None]
) -> None:
    runs = service("b3os")
    runs.emulator.set_defaults("b3os", script="forever", on_cancel=SLOW_CANCEL)
    options = {"resource_defs": {"b3os": runs.resource}, "executor_def": dg.in_process_executor}
    job = build_submit_job(name="start", resource_key="b3os", call=CALL, **options)
    terminated("POST")
    first = runs.instance.create_run_for_job(job)
    execute_run(InMemoryJob(job), first, runs.instance, raise_on_error=False)
    assert (runs.submits, runs.cancels) == (1, 1)

    again = runs.instance.create_run_for_job(job, parent_run_id=first.run_id, root_run_id=first.run_id)
    assert execute_run(InMemoryJob(job), again, runs.instance, raise_on_error=False).success
    first_submit, second_submit = runs.emulator.requests(provider="b3os", action="submit")
    assert second_submit["time"] >= first_submit["time"] + 15
    assert runs.cancels == 1


def test_a_cancel_after_the_timeout_that_fails_changes_neither_the_end_nor_the_next_try(
    service: Callable[[str], Any], clock: Any
) -> None:
    runs = service("b3os")
    runs.emulator.set_defaults("b3os", script="succeeded", seconds=90)
    runs.emulator.add_fault(kind="status", status=500, provider="b3os", action="cancel", count=None)
    ended = runs.materialize(asset_of(timeout=60, retry_policy=ONE_RETRY))
    assert "could not be cancelled and may go on" in ended.log
    # As no cancel was taken, the run counts as alive: the retry waits for it and submits nothing.
    assert ended.materialized == ["external"]
    assert runs.submits == 1


# --- a sensor's last look --------------------------------------------------------------------------------------


@pytest.fixture
def pending(service: Callable[[str], Any], clock: Any) -> Iterator[Any]:
    """``pending(script=...)``: a run that a submit job started, and ticks of the sensor that tells its end."""
    instance = dg.DagsterInstance.ephemeral()
    runs = service("b3os")

    class Pending:
        def __init__(self, **defaults: Any) -> None:
            runs.emulator.set_defaults("b3os", **defaults)
            job = build_submit_job(name="start", resource_key="b3os", call=CALL)
            self.runs, self.logged = runs, list[str]()
            self._sensor = build_completion_sensor(
                name="ends", job=job, asset="report", resource_key="b3os", timeout=600
            )
            assert job.execute_in_process(instance=instance, resources={"b3os": runs.resource}).success

        def tick(self) -> Any:
            context = dg.build_sensor_context(instance=instance, resources={"b3os": runs.resource})
            context._logger = Logger(self.logged)  # type: ignore[assignment]
            return self._sensor.evaluate_tick(context)

    yield Pending
    instance.dispose()


class Logger:
    """Keeps the warnings of a tick."""

    def __init__(self, kept: list[str]) -> None:
        self._kept = kept

    def warning(self, text: str, *arguments: Any) -> None:
        self._kept.append(text % arguments)

    def has_captured_logs(self) -> bool:
        return False


def test_a_run_that_ends_between_two_looks_at_its_deadline_is_told_as_it_ended_and_not_cancelled(
    pending: Any, clock: Any, mocker: MockerFixture
) -> None:
    told = pending(script="succeeded", seconds=3600)
    real = Reader.observe

    def observe(self: Reader, ref: Any) -> Any:
        found = real(self, ref)
        told.runs.emulator.advance(None, provider="b3os")
        return found

    mocker.patch.object(Reader, "observe", autospec=True, side_effect=observe)
    clock.now += 601
    materialization, _ = told.tick().asset_events
    assert isinstance(materialization, dg.AssetMaterialization)
    assert materialization.metadata["runops/outcome"].value == "succeeded"
    assert told.runs.cancels == 0


def test_a_cancel_of_a_sensor_that_fails_leaves_the_end_as_it_is_with_one_warning(pending: Any, clock: Any) -> None:
    told = pending(script="forever")
    told.runs.emulator.add_fault(kind="status", status=500, provider="b3os", action="cancel", count=None)
    clock.now += 601
    observation, check = told.tick().asset_events
    assert observation.metadata["runops/outcome"].value == "timed_out"
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert told.runs.cancels >= 1
    assert len([line for line in told.logged if "could not be cancelled and may go on" in line]) == 1


# --- records ---------------------------------------------------------------------------------------------------


def failing_to_write(mocker: MockerFixture, *kinds: str) -> None:
    """The storage takes every event but the records of these kinds."""
    real = _compat.write_engine_event

    def write(context: Any, run: Any, message: str, metadata: Any) -> None:
        if metadata["runops/record"].data["kind"] in kinds:
            raise OSError("the storage is away")
        real(context, run, message, metadata)

    mocker.patch.object(_compat, "write_engine_event", write)


def test_a_run_whose_record_cannot_be_written_is_waited_for_all_the_same_and_that_is_said(
    service: Callable[[str], Any], mocker: MockerFixture
) -> None:
    failing_to_write(mocker, "submitted", "ended")
    runs = service("b3os")
    ended = runs.materialize(asset_of())
    assert ended.materialized == ["external"]
    assert (runs.submits, runs.cancels) == (1, 0)
    assert "runops could not record that a run was submitted (OSError)" in ended.log
    assert "the storage is away" not in ended.log


def test_nothing_is_submitted_where_it_cannot_be_written_down_before(
    service: Callable[[str], Any], mocker: MockerFixture
) -> None:
    failing_to_write(mocker, "submitting")
    runs = service("b3os")
    assert not runs.materialize(asset_of()).success
    assert runs.submits == 0


@pytest.mark.parametrize(
    ("tags", "submits"),
    [({"dagster/is_resume_retry": "true"}, 2), ({"dagster/is_resume_retry": "true", "dagster/retry_number": "1"}, 1)],
    ids=["a-person", "the-daemon"],
)
def test_only_a_person_gets_a_new_run_after_one_whose_end_was_refused(
    service: Callable[[str], Any], tags: dict[str, str], submits: int
) -> None:
    runs = service("b3os")
    op = build_run_op(name="external", resource_key="b3os", call=CALL)

    @dg.job(resource_defs={"b3os": runs.resource}, executor_def=dg.in_process_executor)
    def job() -> None:
        op()

    runs.emulator.set_defaults("b3os", script="cancelled")
    first = runs.instance.create_run_for_job(job)
    execute_run(InMemoryJob(job), first, runs.instance, raise_on_error=False)
    runs.emulator.set_defaults("b3os", script="succeeded")
    again = runs.instance.create_run_for_job(job, parent_run_id=first.run_id, root_run_id=first.run_id, tags=tags)
    result = execute_run(InMemoryJob(job), again, runs.instance, raise_on_error=False)
    assert runs.submits == submits
    assert result.success is (submits == 2)
    said = "\n".join(entry.user_message for entry in runs.instance.all_logs(again.run_id))
    assert ("a new run was asked for" in said) is (submits == 2)


# --- what an op hands on ---------------------------------------------------------------------------------------


def test_the_output_of_an_op_shows_the_link_the_durations_and_the_end_of_its_run(service: Callable[[str], Any]) -> None:
    runs = service("nyx")
    runs.emulator.set_defaults("nyx", script="succeeded", seconds=5)
    op = build_run_op(name="audit", resource_key="nyx", call=AUDIT)

    @dg.job(resource_defs={"nyx": runs.resource})
    def job() -> None:
        op()

    result = job.execute_in_process(instance=runs.instance)
    (output,) = [event for event in result.all_events if event.event_type is dg.DagsterEventType.STEP_OUTPUT]
    shown = output.step_output_data.metadata
    run_id = result.output_for_node("audit")["run_id"]
    assert isinstance(shown["runops/url"], dg.UrlMetadataValue)
    assert run_id in str(shown["runops/url"].value)
    assert shown["runops/duration_seconds"].value == pytest.approx(5, abs=5)
    assert shown["runops/outcome"].value == "succeeded"
    assert shown["runops/verdict"].value == "succeed"
    assert shown["runops/run_id"].value == run_id
