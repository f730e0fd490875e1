"""``on_conflict`` in a step: it waits for its turn, attaches to what is active, or fails; its records tell which."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from runops.core import ConfigurationError, RunClient
from runops.dagster import (
    RunResource,
    build_completion_sensor,
    build_run_asset,
    build_run_op,
    build_submit_job,
    wait_for_run,
)
from tests.services import CALLS, WORKFLOW

SINGLE = ["nyx", "onepin"]
PARENT = {"nyx": {"config_name": "nightly"}, "onepin": {"workflow_id": WORKFLOW}}
ONE_RETRY = dg.RetryPolicy(max_retries=1)


def asset_of(provider: str = "nyx", **options: Any) -> dg.AssetsDefinition:
    return build_run_asset(key="external", resource_key=provider, call=CALLS[provider], **options)


def busy(runs: Any, *, script: str = "succeeded", seconds: float = 300) -> str:
    """A stranger's run that is active."""
    return runs.made(script=script, seconds=seconds, parents=PARENT[runs.provider.name]).run_id


def own(runs: Any) -> list[str]:
    return [run["run_id"] for run in runs.emulator.runs(provider=runs.provider.name) if run["submitted"]]


def statuses(runs: Any) -> list[int]:
    return [entry["status"] for entry in runs.emulator.requests(action="submit")]


@pytest.mark.parametrize("provider", SINGLE)
def test_a_step_waits_for_its_turn_and_names_the_run_in_the_way_once(
    service: Callable[[str], Any], clock: Any, provider: str
) -> None:
    runs = service(provider)
    stranger = busy(runs)
    ended = runs.materialize(asset_of(provider))
    assert ended.materialized == ["external"]
    assert len(own(runs)) == 1
    assert statuses(runs)[:-1] == [409]
    assert clock.now - clock.began < 300 + 60
    told = [line for line in ended.log.splitlines() if line.startswith("Waiting for a turn") and stranger in line]
    assert len(told) == 1
    assert runs.cancels == 0
    kinds = [kind for kind in ("submitting", "refused", "turn awaited", "submitted") if f'"{kind}"' in ended.log]
    assert kinds == ["submitting", "refused", "turn awaited", "submitted"]


@pytest.mark.parametrize("provider", SINGLE)
def test_a_wait_that_is_over_fails_retryably_and_says_for_how_long_and_for_which_run(
    service: Callable[[str], Any], provider: str
) -> None:
    runs = service(provider)
    stranger = busy(runs, script="forever")
    ended = runs.materialize(asset_of(provider, timeout=600, retry_policy=ONE_RETRY))
    assert ended.failure.metadata["runops/error"].value == "ConflictError"
    assert "within 600 s (timeout)" in ended.failure.description
    assert stranger in ended.failure.description
    # Each try waits for its own time, and submits nothing after it.
    assert len(ended.of(dg.DagsterEventType.STEP_UP_FOR_RETRY)) == 1
    assert set(statuses(runs)) == {409}
    assert runs.cancels == 0


def test_fail_ends_at_once_and_a_retry_may_follow(service: Callable[[str], Any], clock: Any) -> None:
    runs = service("nyx")
    stranger = busy(runs, script="forever")
    ended = runs.materialize(asset_of(on_conflict="fail", retry_policy=ONE_RETRY))
    assert stranger in ended.failure.description
    assert len(ended.of(dg.DagsterEventType.STEP_UP_FOR_RETRY)) == 1
    assert clock.now - clock.began < 1


def test_terminate_during_the_wait_ends_at_once_and_submits_and_cancels_nothing(
    service: Callable[[str], Any], clock: Any, terminate_newest: Callable[[dg.DagsterInstance], None]
) -> None:
    runs = service("nyx")
    busy(runs, script="forever")

    def terminate(seconds: float) -> None:
        if clock.now - clock.began > 60:
            clock.on_sleep = lambda seconds: None
            terminate_newest(runs.instance)

    clock.on_sleep = terminate
    ended = runs.materialize(asset_of())
    run = runs.instance.get_run_by_id(ended.result.run_id)
    assert run is not None
    assert run.status is dg.DagsterRunStatus.CANCELED
    assert clock.now - clock.began < 90
    assert statuses(runs) == [409]
    assert runs.cancels == 0


def test_a_step_that_died_while_it_waited_goes_on_in_its_retry_and_looks_for_nothing(
    service: Callable[[str], Any], clock: Any
) -> None:
    runs = service("nyx")
    busy(runs, seconds=400)

    def die(seconds: float) -> None:
        if clock.now - clock.began > 100:
            clock.on_sleep = lambda seconds: None
            raise RuntimeError("out of memory")

    clock.on_sleep = die
    ended = runs.materialize(asset_of(timeout=1000, retry_policy=ONE_RETRY))
    assert ended.materialized == ["external"]
    assert len(own(runs)) == 1
    assert "Looking for the run" not in ended.log
    assert clock.now - clock.began < 400 + 60


def test_the_deadline_of_a_turn_outlives_the_death_of_a_step(service: Callable[[str], Any], clock: Any) -> None:
    runs = service("nyx")
    busy(runs, script="forever")

    def die(seconds: float) -> None:
        if clock.now - clock.began > 700:
            clock.on_sleep = lambda seconds: None
            raise RuntimeError("out of memory")

    clock.on_sleep = die
    ended = runs.materialize(asset_of(timeout=1000, retry_policy=ONE_RETRY))
    assert "within 1000 s (timeout)" in ended.failure.description
    assert clock.now - clock.began == pytest.approx(1000, abs=10)


def test_a_re_execution_after_terminate_submits_when_its_turn_comes(
    service: Callable[[str], Any], clock: Any, terminate_newest: Callable[[dg.DagsterInstance], None]
) -> None:
    runs = service("nyx")
    busy(runs, seconds=300)

    def terminate(seconds: float) -> None:
        if clock.now - clock.began > 60:
            clock.on_sleep = lambda seconds: None
            terminate_newest(runs.instance)

    clock.on_sleep = terminate
    first = runs.materialize(asset_of())
    tags = {"dagster/parent_run_id": first.result.run_id, "dagster/root_run_id": first.result.run_id}
    ended = runs.materialize(asset_of(), tags=tags)
    assert ended.materialized == ["external"]
    assert len(own(runs)) == 1


def test_an_answer_that_is_lost_after_a_turn_is_looked_for_as_ever(service: Callable[[str], Any]) -> None:
    runs = service("nyx")
    busy(runs, seconds=100)
    runs.emulator.add_fault(kind="reset", provider="nyx", action="submit", when="after", skip=1)
    ended = runs.materialize(asset_of())
    assert ended.materialized == ["external"]
    assert len(own(runs)) == 1
    assert runs.submits == 2


def test_a_lost_submit_that_meets_a_strangers_run_waits_for_its_turn(service: Callable[[str], Any], clock: Any) -> None:
    runs = service("nyx")
    runs.emulator.add_fault(kind="reset", provider="nyx", action="submit", when="before")
    theirs: list[str] = []
    clock.on_sleep = lambda seconds: theirs or theirs.append(busy(runs, seconds=600)) if runs.submits else None
    ended = runs.materialize(asset_of())
    assert ended.materialized == ["external"]
    assert len(own(runs)) == 1
    assert runs.cancels == 0


def test_two_equal_submissions_of_one_step_stay_apart_over_turns_and_deaths(
    service: Callable[[str], Any], mocker: Any
) -> None:
    """The number of a submission counts submissions, and no refused POSTs."""
    runs = service("nyx")
    runs.emulator.set_defaults("nyx", script="succeeded", seconds=30)
    busy(runs, seconds=100)

    @dg.op(required_resource_keys={"nyx"}, retry_policy=ONE_RETRY)
    def twice(context) -> None:
        call = context.resources.nyx.call(**CALLS["nyx"])
        for _ in range(2):
            wait_for_run(context, context.resources.nyx, call=call)
        if context.retry_number == 0:
            raise RuntimeError("out of memory")

    @dg.job
    def both() -> None:
        twice()

    result = both.execute_in_process(instance=runs.instance, resources={"nyx": runs.resource}, raise_on_error=False)
    assert result.success
    # The retry takes both up again: they are over, so that it reads their ends and starts nothing.
    assert len(own(runs)) == 2


# --- attach -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", SINGLE)
def test_attach_waits_for_the_active_run_and_a_timeout_or_failure_cancels_it_never(
    service: Callable[[str], Any], provider: str
) -> None:
    runs = service(provider)
    stranger = busy(runs, script="forever")
    asset = asset_of(
        provider,
        on_conflict="attach",
        timeout=100,
        cancel_on_timeout=True,
        cancel_on_interrupt=True,
        cancel_on_failure=True,
        retry_policy=ONE_RETRY,
    )
    ended = runs.materialize(asset)
    assert not ended.success
    assert stranger in ended.failure.description
    assert ended.tags[f"runops.{provider}/{stranger}"] == "awaited"
    assert own(runs) == []
    assert runs.cancels == 0


@pytest.mark.parametrize("deaths", [[], [60.0], [60.0, 90.0]], ids=["first try", "retry", "retry of a retry"])
def test_terminate_leaves_an_attached_run_alone(
    service: Callable[[str], Any],
    clock: Any,
    terminate_newest: Callable[[dg.DagsterInstance], None],
    deaths: list[float],
) -> None:
    runs = service("nyx")
    busy(runs, script="forever")
    left = [*deaths]

    def strike(seconds: float) -> None:
        if left and clock.now - clock.began > left[0]:
            left.pop(0)
            raise RuntimeError("out of memory")
        if clock.now - clock.began > 120:
            clock.on_sleep = lambda seconds: None
            terminate_newest(runs.instance)

    clock.on_sleep = strike
    retries = dg.RetryPolicy(max_retries=2)
    ended = runs.materialize(asset_of(on_conflict="attach", cancel_on_interrupt=True, retry_policy=retries))
    run = runs.instance.get_run_by_id(ended.result.run_id)
    assert run is not None
    assert run.status is dg.DagsterRunStatus.CANCELED
    assert runs.cancels == 0
    assert own(runs) == []


def test_attach_with_nothing_active_submits_a_run_of_its_own(service: Callable[[str], Any]) -> None:
    runs = service("nyx")
    runs.emulator.set_defaults("nyx", script="forever")
    ended = runs.materialize(asset_of(on_conflict="attach", timeout=100))
    assert not ended.success
    assert len(own(runs)) == 1
    assert runs.cancels == 1


def test_attach_never_guesses(service: Callable[[str], Any]) -> None:
    runs = service("nyx")
    runs.emulator.add_fault(kind="status", status=409, provider="nyx", action="submit", count=None)
    ended = runs.materialize(asset_of(on_conflict="attach", retry_policy=ONE_RETRY))
    assert "There is no run to attach to" in ended.failure.description
    assert len(ended.of(dg.DagsterEventType.STEP_UP_FOR_RETRY)) == 1


def test_a_completion_sensor_never_cancels_a_run_that_its_job_has_attached_to(
    service: Callable[[str], Any], clock: Any
) -> None:
    runs = service("nyx")
    busy(runs, script="forever")
    job = build_submit_job(name="start", resource_key="nyx", call=CALLS["nyx"], on_conflict="attach")
    sensor = build_completion_sensor(name="ends", job=job, asset="outside", resource_key="nyx", timeout=60)
    with dg.DagsterInstance.ephemeral() as instance:
        assert job.execute_in_process(instance=instance, resources={"nyx": runs.resource}).success
        clock.now += 120
        context = dg.build_sensor_context(instance=instance, resources={"nyx": runs.resource})
        data = sensor.evaluate_tick(context)
    assert data.asset_events
    assert runs.cancels == 0


# --- surfaces -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "build",
    [
        lambda **more: build_run_asset(key="a", resource_key="nyx", call=CALLS["nyx"], **more),
        lambda **more: build_run_op(name="a", resource_key="nyx", call=CALLS["nyx"], **more),
        lambda **more: build_submit_job(name="a", resource_key="nyx", call=CALLS["nyx"], **more),
    ],
    ids=["asset", "op", "submit job"],
)
def test_another_word_is_refused_when_the_definition_is_built(build: Callable[..., Any]) -> None:
    with pytest.raises(ConfigurationError, match="on_conflict='queue' is not one of wait, attach, fail"):
        build(on_conflict="queue")
    build(on_conflict="attach")


@pytest.mark.parametrize("kind", ["named", "generic"])
def test_the_submit_of_a_resource_waits_attaches_or_fails(service: Callable[[str], Any], clock: Any, kind: str) -> None:
    runs = service("nyx")
    generic = RunResource(provider="nyx", api_key="k", base_url=runs.base_url)

    def submit(**more: Any) -> Any:
        if kind == "named":
            return runs.resource.submit(**CALLS["nyx"], **more)
        return generic.submit(generic.call(**CALLS["nyx"]), **more)

    stranger = busy(runs, seconds=100)
    assert submit(on_conflict="attach").run_id == stranger
    with pytest.raises(Exception, match=stranger):
        submit(on_conflict="fail")
    with pytest.raises(Exception, match="within 30 s"):
        submit(timeout=30)
    with pytest.raises(ConfigurationError, match="on_conflict"):
        submit(on_conflict="queue")
    assert [submit().run_id] == own(runs)


def test_the_client_waits_by_default(service: Callable[[str], Any], clock: Any) -> None:
    runs = service("onepin")
    busy(runs, seconds=50)
    with runs.resource.client() as client:
        assert isinstance(client, RunClient)
        assert [client.submit(client.provider.call(**CALLS["onepin"])).run_id] == own(runs)
