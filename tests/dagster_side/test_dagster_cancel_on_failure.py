"""``cancel_on_failure``: a step that fails for good cancels the run that it leaves, and no run that a try takes up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest
from pytest_mock import MockerFixture

from runops.core import RunClient
from runops.dagster import build_run_asset, build_run_op, build_submit_job, wait_for_run
from tests.services import CALLS

ONE_RETRY = dg.RetryPolicy(max_retries=1)


def asset_of(provider: str = "b3os", **options: Any) -> dg.AssetsDefinition:
    settings = {"cancel_on_failure": True, "cancel_on_timeout": False, "error_budget": 60, **options}
    return build_run_asset(key="external", resource_key=provider, call=CALLS[provider], **settings)


def reads_fail(runs: Any, _: MockerFixture) -> None:
    runs.emulator.add_fault(kind="status", status=503, provider="b3os", action="get", count=None)


def key_may_not_read(runs: Any, _: MockerFixture) -> None:
    runs.emulator.add_fault(kind="status", status=403, provider="b3os", action="get", count=None)


def ends_unknown(runs: Any, _: MockerFixture) -> None:
    runs.emulator.set_defaults("b3os", script="unknown_word_ended", seconds=20)


def time_is_over(runs: Any, _: MockerFixture) -> None:
    """Nothing else: the run goes on for ever."""


def process_breaks(runs: Any, mocker: MockerFixture) -> None:
    mocker.patch.object(RunClient, "wait", side_effect=RuntimeError("out of memory"))


WAYS = {each.__name__: each for each in (reads_fail, key_may_not_read, ends_unknown, time_is_over, process_breaks)}
FINAL = {"key_may_not_read", "ends_unknown"}
"""After these no retry policy tries again."""


@pytest.fixture
def failing(service: Callable[[str], Any], mocker: MockerFixture) -> Callable[..., tuple[Any, Any]]:
    """A run asset whose step fails in one of the ways, while its run goes on for ever."""

    def fail(way: str, **options: Any) -> tuple[Any, Any]:
        runs = service("b3os")
        runs.emulator.set_defaults("b3os", script="forever")
        WAYS[way](runs, mocker)
        return runs, runs.materialize(asset_of(timeout=600, **options))

    return fail


@pytest.mark.parametrize("way", WAYS)
def test_a_step_that_fails_for_good_cancels_its_run(failing: Any, way: str) -> None:
    runs, ended = failing(way)
    assert not ended.success
    assert (runs.submits, runs.cancels) == (1, 1)


@pytest.mark.parametrize("way", WAYS)
def test_without_the_setting_nothing_is_cancelled(failing: Any, way: str) -> None:
    runs, ended = failing(way, cancel_on_failure=False)
    assert not ended.success
    assert runs.cancels == 0


@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_a_retry_takes_up_is_cancelled_by_the_last_try_only(failing: Any, way: str) -> None:
    runs, ended = failing(way, retry_policy=ONE_RETRY)
    assert len(ended.of(dg.DagsterEventType.STEP_RESTARTED)) == (0 if way in FINAL else 1)
    # Two tries on one run: the first has left it alone.
    assert (runs.submits, runs.cancels) == (1, 1)


def test_where_no_try_takes_the_run_up_each_cancels_its_own(failing: Any) -> None:
    runs, _ = failing("time_is_over", retry_policy=ONE_RETRY, reattach=False)
    assert (runs.submits, runs.cancels) == (2, 2)


@pytest.mark.parametrize(("tag", "cancels"), [("2", 0), ("0", 1), (None, 1)])
def test_a_run_retry_of_dagster_takes_the_run_up(
    service: Callable[[str], Any], mocker: MockerFixture, tag: str | None, cancels: int
) -> None:
    runs = service("b3os")
    runs.emulator.set_defaults("b3os", script="forever")
    mocker.patch.object(dg.DagsterInstance, "run_retries_enabled", True)
    tags = {} if tag is None else {"dagster/max_retries": tag}
    runs.materialize(asset_of(timeout=60), tags=tags)
    assert runs.cancels == cancels


def test_a_re_execution_after_the_cancel_submits_anew(service: Callable[[str], Any]) -> None:
    runs = service("b3os")
    runs.emulator.set_defaults("b3os", script="forever")
    first = runs.materialize(asset_of(timeout=60))
    runs.emulator.set_defaults("b3os", script="succeeded")
    tags = {"dagster/parent_run_id": first.result.run_id, "dagster/root_run_id": first.result.run_id}
    again = runs.materialize(asset_of(timeout=60), tags=tags)
    assert again.success
    assert (runs.submits, runs.cancels) == (2, 1)


@pytest.mark.parametrize("script", ["succeeded", "failed", "cancelled"])
def test_a_run_that_is_over_is_not_cancelled(service: Callable[[str], Any], script: str) -> None:
    runs = service("b3os")
    runs.emulator.set_defaults("b3os", script=script)
    runs.materialize(asset_of())
    assert runs.cancels == 0


def test_a_given_run_is_never_cancelled(service: Callable[[str], Any]) -> None:
    runs = service("b3os")
    ref = runs.made(script="forever")
    with pytest.raises(dg.Failure):
        runs.wait(ref=ref, timeout=30, cancel_on_failure=True)
    assert runs.cancels == 0


def test_a_refused_key_cannot_cancel_and_that_is_said(service: Callable[[str], Any]) -> None:
    runs = service("b3os")
    runs.emulator.set_defaults("b3os", script="forever")
    for action in ("get", "cancel"):
        runs.emulator.add_fault(kind="status", status=401, provider="b3os", action=action, count=None)
    ended = runs.materialize(asset_of())
    assert "could not be cancelled and may go on" in ended.log
    assert "`runops orphans` lists it" in ended.log
    assert "401" in ended.log


def test_a_submit_that_nothing_can_prove_is_cancelled_by_nobody_and_that_is_said(service: Callable[[str], Any]) -> None:
    runs = service("onepin")
    runs.emulator.add_fault(kind="reset", provider="onepin", action="submit", when="after")
    ended = runs.materialize(asset_of("onepin"))
    assert ended.failure.metadata["runops/error"].value == "SubmitUncertainError"
    assert runs.cancels == 0
    assert "may yet show up" in ended.log


def test_the_run_of_a_lost_submit_is_cancelled_where_a_last_look_shows_its_mark(
    service: Callable[[str], Any], clock: Any
) -> None:
    runs = service("nyx")
    runs.emulator.set_defaults("nyx", script="forever")
    runs.emulator.add_fault(kind="reset", provider="nyx", action="submit", when="after")
    # The lists fail until the grace is over, so that the look after it is the first that shows anything.
    fault = {"kind": "status", "status": 500, "provider": "nyx", "method": "GET"}
    began = clock.now
    runs.emulator.add_fault(**fault, skip=1, count=None)

    def later(seconds: float) -> None:
        if clock.now - began > 300:
            runs.emulator.reset(["faults"])

    clock.on_sleep = later
    ended = runs.materialize(asset_of("nyx", timeout=60))
    assert not ended.success
    assert runs.cancels == 1


def test_an_op_a_function_and_a_submit_job_take_it_too(service: Callable[[str], Any], mocker: MockerFixture) -> None:
    runs = service("b3os")
    runs.emulator.set_defaults("b3os", script="forever")
    settings: Any = {"timeout": 60, "cancel_on_timeout": False, "cancel_on_failure": True}
    op = build_run_op(name="external", resource_key="b3os", call=CALLS["b3os"], **settings)

    @dg.op(required_resource_keys={"b3os"})
    def own(context) -> None:
        wait_for_run(context, runs.resource, call=runs.resource.call(**CALLS["b3os"]), **settings)

    submits = build_submit_job(name="submits", resource_key="b3os", call=CALLS["b3os"], cancel_on_failure=True)
    mocker.patch("runops.dagster.builders.deferred._keep", side_effect=RuntimeError("no storage"))

    @dg.job
    def ops() -> None:
        op()
        own()

    for job in (ops, submits):
        ended = job.execute_in_process(instance=runs.instance, resources={"b3os": runs.resource}, raise_on_error=False)
        assert not ended.success
    assert (runs.submits, runs.cancels) == (3, 3)


def test_a_run_that_was_attached_to_is_never_cancelled(service: Callable[[str], Any]) -> None:
    runs = service("nyx")
    runs.made(script="forever", parents={"config_name": "nightly"})
    ended = runs.materialize(asset_of("nyx", on_conflict="attach", timeout=60))
    assert not ended.success
    assert runs.cancels == 0
