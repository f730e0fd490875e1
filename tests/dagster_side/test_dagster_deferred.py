"""build_submit_job and build_completion_sensor: a run is submitted by one process and told of by another."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg
import httpx
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run
from pytest_mock import MockerFixture

from runops.core import ConfigurationError
from runops.dagster import ProviderResource, build_completion_sensor, build_submit_job

CALL = {"workflow_id": "wf_1"}


class Deferred:
    """A submit job and its sensor, with an instance of their own."""

    def __init__(self, runs: Any, instance: dg.DagsterInstance, job: dict[str, Any], sensor: dict[str, Any]) -> None:
        self.runs, self.instance = runs, instance
        self.name = runs.provider.name
        of_the_job: dict[str, Any] = {"name": "start", "resource_key": self.name, "call": CALL, **job}
        self.job = build_submit_job(**of_the_job)
        self.sensor = build_completion_sensor(
            name="ends", job=self.job, asset="outside/report", resource_key=self.name, **sensor
        )
        self.cursor: str | None = None

    def submit(self, **options: Any) -> Any:
        return self.job.execute_in_process(
            instance=self.instance, resources={self.name: self.runs.resource}, raise_on_error=False, **options
        )

    def tick(self, dies: bool = False) -> Any:
        context = dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, resources={self.name: self.runs.resource}
        )
        data = self.sensor.evaluate_tick(context)
        for event in data.asset_events:
            self.instance.report_runless_asset_event(event)
        if not dies:
            self.cursor = data.cursor or self.cursor
        return data

    @property
    def materialized(self) -> list[Any]:
        key = dg.AssetKey(["outside", "report"])
        return [r.asset_materialization for r in self.instance.fetch_materializations(key, limit=100).records]

    @property
    def pending(self) -> int:
        return self.instance.get_runs_count(dg.RunsFilter(tags={"runops/pending": "true"}))


@pytest.fixture
def deferred(service: Callable[[str], Any]) -> Iterator[Callable[..., Deferred]]:
    made: list[dg.DagsterInstance] = []

    def make(name: str = "b3os", job: Any = None, **sensor: Any) -> Deferred:
        instance = dg.DagsterInstance.ephemeral()
        made.append(instance)
        return Deferred(service(name), instance, job or {}, sensor)

    yield make
    for instance in made:
        instance.dispose()


def test_the_job_ends_at_once_and_the_sensor_tells_the_end_once(deferred: Any, clock: Any) -> None:
    pair = deferred()
    assert pair.tick().skip_message == "No run is pending."
    result = pair.submit()
    assert result.success
    (run,) = pair.runs.emulator.runs(provider="b3os")
    assert result.output_for_node("start_submit")["run_id"] == run["run_id"]
    assert (pair.runs.submits, pair.pending) == (1, 1)
    assert pair.tick().asset_events == []
    clock.now += 3600
    pair.tick()
    (materialization,) = pair.materialized
    assert materialization.metadata["runops/run_id"].value == run["run_id"]
    for _ in range(3):
        assert pair.tick().asset_events == []
    assert pair.pending == 0
    assert len(pair.materialized) == 1


def test_a_re_execution_that_has_taken_over_tags_is_pending_only_for_what_it_submits(deferred: Any, clock: Any) -> None:
    pair = deferred()
    first = pair.submit()
    inherited = dict(pair.instance.get_run_by_id(first.run_id).tags)
    # What the web interface starts: a run with all tags of its parent, whose step has not begun.
    again = pair.instance.create_run_for_job(
        pair.job, parent_run_id=first.run_id, root_run_id=first.run_id, tags=inherited
    )
    clock.now += 3600
    pair.tick()
    pair.tick()
    assert len(pair.materialized) == 1
    assert pair.instance.get_run_by_id(first.run_id).tags["runops/pending"] == "false"
    # The sensor has not touched it, so that what it submits is told too.
    assert pair.instance.get_run_by_id(again.run_id).tags == inherited


@pytest.mark.parametrize(("over", "submits"), [(True, 2), (False, 1)])
def test_a_submit_job_that_is_executed_again_submits_anew_once_its_run_is_over(
    deferred: Any, service: Callable[[str], Any], clock: Any, over: bool, submits: int
) -> None:
    resources = {"b3os": service("b3os").resource}
    pair = deferred(job={"resource_defs": resources, "executor_def": dg.in_process_executor})
    first = pair.instance.create_run_for_job(pair.job)
    assert execute_run(InMemoryJob(pair.job), first, pair.instance).success
    clock.now += 3600 if over else 0
    again = pair.instance.create_run_for_job(pair.job, parent_run_id=first.run_id, root_run_id=first.run_id)
    assert execute_run(InMemoryJob(pair.job), again, pair.instance).success
    assert (pair.runs.submits, pair.runs.cancels) == (submits, 0)


def test_a_daemon_that_dies_before_the_cursor_is_kept_tells_the_end_once(deferred: Any, clock: Any) -> None:
    pair = deferred()
    pair.submit()
    clock.now += 3600
    pair.tick(dies=True)
    pair.tick(dies=True)
    assert pair.pending == 1
    pair.tick()
    pair.tick()
    assert (pair.pending, len(pair.materialized)) == (0, 1)


@pytest.mark.parametrize(
    ("script", "severity"), [("failed", dg.AssetCheckSeverity.ERROR), ("cancelled", dg.AssetCheckSeverity.WARN)]
)
def test_a_run_that_did_not_succeed_leaves_an_observation_and_a_failed_check(
    deferred: Any, clock: Any, script: str, severity: Any
) -> None:
    pair = deferred(on_outcome={"cancelled": "skip"})
    pair.runs.emulator.set_defaults("b3os", script=script)
    pair.submit()
    clock.now += 3600
    observation, check = pair.tick().asset_events
    assert isinstance(observation, dg.AssetObservation)
    assert (check.passed, check.severity) == (False, severity)
    assert pair.materialized == []


def test_the_partition_of_the_job_s_run_is_materialized(deferred: Any, clock: Any) -> None:
    partitions = dg.StaticPartitionsDefinition(["north", "south"])
    call = lambda context: {**CALL, "payload": {"shop": context.partition_key}}  # noqa: E731
    pair = deferred(job={"partitions_def": partitions, "call": call})
    pair.submit(partition_key="south")
    clock.now += 3600
    pair.tick()
    assert [event.partition for event in pair.materialized] == ["south"]


def test_a_run_that_takes_too_long_is_cancelled_and_said_to_be_timed_out(deferred: Any, clock: Any) -> None:
    pair = deferred(timeout=600)
    pair.runs.emulator.set_defaults("b3os", script="forever")
    pair.submit()
    clock.now += 599
    assert pair.tick().asset_events == []
    assert pair.runs.cancels == 0
    clock.now += 2
    observation, _ = pair.tick().asset_events
    assert observation.metadata["runops/outcome"].value == "timed_out"
    assert pair.runs.cancels == 1
    assert pair.tick().skip_message == "No run is pending."


def test_a_run_that_is_over_by_the_last_look_wins_over_the_timeout(deferred: Any, clock: Any) -> None:
    pair = deferred(timeout=600)
    pair.submit()
    clock.now += 3600
    pair.tick()
    assert len(pair.materialized) == 1
    assert pair.runs.cancels == 0


def test_one_run_that_cannot_be_read_does_not_hide_the_others(deferred: Any, clock: Any) -> None:
    pair = deferred()
    for _ in range(3):
        pair.submit()
    first = pair.runs.emulator.runs(provider="b3os")[0]["run_id"]
    pair.runs.emulator.add_fault(kind="status", status=500, provider="b3os", run_id=first, count=3)
    clock.now += 3600
    data = pair.tick()
    assert len(pair.materialized) == 2
    assert "500" in data.skip_message
    for _ in range(4):
        pair.tick()
    assert len(pair.materialized) == 3


def test_many_pending_runs_all_get_their_turn(deferred: Any, clock: Any) -> None:
    pair = deferred(tick_seconds=10)
    pair.runs.emulator.set_defaults("b3os", script="forever")
    for _ in range(15):
        pair.submit()
    # Reads take two seconds each, so that one tick has time for five.
    real = pair.runs.emulator.now

    def slow() -> float:
        clock.now += 1
        return real()

    pair.runs.emulator.now = slow
    for _ in range(8):
        pair.tick()
    assert {run["reads"] > 0 for run in pair.runs.emulator.runs(provider="b3os")} == {True}


def test_a_retry_of_the_submit_takes_the_run_up_again(deferred: Any, mocker: MockerFixture) -> None:
    pair = deferred(job={"retry_policy": dg.RetryPolicy(max_retries=1)})
    write = dg.DagsterInstance.add_run_tags
    broken = iter([True])

    def once_broken(self: dg.DagsterInstance, run_id: str, tags: Any) -> None:
        if "runops/pending" in tags and next(broken, False):
            raise OSError("the storage is away")
        write(self, run_id, tags)

    mocker.patch.object(dg.DagsterInstance, "add_run_tags", once_broken)
    assert pair.submit().success
    assert (pair.runs.submits, pair.pending) == (1, 1)


def test_terminate_during_the_submit_cancels_the_run(deferred: Any, mocker: MockerFixture) -> None:
    pair = deferred()
    client = ProviderResource.client
    real = httpx.HTTPTransport()

    class Terminating(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            if request.method == "POST":
                pair.instance.report_run_canceling(pair.instance.get_runs(limit=1)[0])
                signal.raise_signal(signal.SIGINT)
            return real.handle_request(request)

    def through(self: ProviderResource, **settings: Any) -> Any:
        return client(self, **settings if "request_timeout" in settings else {**settings, "transport": Terminating()})

    mocker.patch.object(ProviderResource, "client", through)
    result = pair.submit()
    real.close()
    run = pair.instance.get_run_by_id(result.run_id)
    assert run is not None
    assert run.status is dg.DagsterRunStatus.CANCELED
    assert (pair.runs.submits, pair.runs.cancels, pair.pending) == (1, 1, 0)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"timeout": 0}, "timeout"),
        ({"on_outcome": {"timed_out": "succeed"}}, "timed_out"),
        ({"resource_key": "a b"}, "resource_key"),
        ({"tick_seconds": -1}, "tick_seconds"),
    ],
)
def test_bad_arguments_of_a_completion_sensor_are_refused(options: dict[str, Any], told: str) -> None:
    given: dict[str, Any] = {"name": "ends", "job": "start", "asset": "a", "resource_key": "b3os", **options}
    with pytest.raises(ConfigurationError, match=told) as raised:
        build_completion_sensor(**given)
    assert str(raised.value).startswith("build_completion_sensor('ends')")


def test_a_submit_job_needs_something_to_submit() -> None:
    call: Any = "wf_1"
    with pytest.raises(ConfigurationError, match="call must be a mapping"):
        build_submit_job(name="start", resource_key="b3os", call=call)
