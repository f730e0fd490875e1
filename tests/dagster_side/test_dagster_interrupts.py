"""Terminate and sudden death: the run is cancelled or taken up again, and never submitted twice."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from runops.dagster import build_run_asset
from runops.dagster.step.interrupts import HeldInterrupts
from runops.emulator.server import Server
from tests.dagster_side.job_process import JobProcess

SCRIPT = Path(__file__).with_name("external_job.py")
CALL = {"workflow_id": "wf_1", "payload": {"amount": 3}}


def asset_of(**options: Any) -> dg.AssetsDefinition:
    return build_run_asset(key="external", resource_key="b3os", call=CALL, **options)


def ends_of(runs: Any, asset: dg.AssetsDefinition) -> tuple[dg.DagsterRunStatus, str]:
    """Materialize under an interrupt; the status of the Dagster run, and its log."""
    ended = runs.materialize(asset)
    run = runs.instance.get_run_by_id(ended.result.run_id)
    return run.status, ended.log


@pytest.mark.parametrize(("method", "nth"), [("POST", 1), ("GET", 2), ("GET", 4)])
def test_terminate_cancels_the_run_wherever_it_strikes(
    service: Callable[[str], Any], terminated: Callable[..., None], method: str, nth: int
) -> None:
    runs = service("b3os")
    runs.emulator.set_defaults("b3os", script="forever")
    terminated(method, nth)
    status, log = ends_of(runs, asset_of())
    assert status is dg.DagsterRunStatus.CANCELED
    assert (runs.submits, runs.cancels) == (1, 1)
    assert "Asked B3OS to cancel" in log


def test_terminate_before_the_submit_submits_nothing(
    service: Callable[[str], Any], terminated: Callable[..., None]
) -> None:
    runs = service("b3os")
    terminated("GET", 1)
    status, _ = ends_of(runs, asset_of())
    assert status is dg.DagsterRunStatus.CANCELED
    assert (runs.submits, runs.cancels) == (0, 0)


def test_terminate_while_a_refused_submit_waits_for_its_next_try_gives_up_at_once(
    service: Callable[[str], Any], clock: Any, terminate_newest: Callable[[dg.DagsterInstance], None]
) -> None:
    runs = service("b3os")
    runs.emulator.add_fault(kind="status", status=429, retry_after=120, provider="b3os", action="submit", count=None)
    clock.on_sleep = lambda seconds: terminate_newest(runs.instance) if runs.submits else None
    status, _ = ends_of(runs, asset_of())
    assert status is dg.DagsterRunStatus.CANCELED
    assert runs.submits == 1
    assert runs.emulator.runs(provider="b3os") == []


def test_an_interrupt_that_has_struck_in_a_pause_does_not_strike_again_at_the_end() -> None:
    struck: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: struck.append(number))
    try:
        with HeldInterrupts() as held:
            signal.raise_signal(signal.SIGINT)
            held.let_through()
            assert struck == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)
    assert struck == [signal.SIGINT]


def interrupted_in(held: HeldInterrupts, done: list[str]) -> None:
    with held:
        signal.raise_signal(signal.SIGINT)
        held.sleep(0.01)
        done.append("answer")


@pytest.mark.parametrize(("may_break", "expected"), [(False, ["answer"]), (True, [])])
def test_an_interrupt_is_held_through_what_it_could_lose(may_break: bool, expected: list[str]) -> None:
    held, done = HeldInterrupts(), list[str]()
    held.may_break = may_break
    with pytest.raises(KeyboardInterrupt):
        interrupted_in(held, done)
    assert done == expected
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_that_comes_while_the_handlers_are_swapped_is_held_too(monkeypatch: pytest.MonkeyPatch) -> None:
    real, left = signal.signal, iter([True])

    def interrupting(number: int, handler: Any) -> Any:
        before = real(number, handler)
        if next(left, False):
            signal.raise_signal(signal.SIGINT)
        return before

    monkeypatch.setattr(signal, "signal", interrupting)
    done: list[str] = []
    held = HeldInterrupts()
    held.may_break = False
    with pytest.raises(KeyboardInterrupt), held:
        done.append("answer")
    assert done == ["answer"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_cancel_is_not_tried_again_where_the_service_asks_for_a_long_pause(
    service: Callable[[str], Any], terminated: Callable[..., None], clock: Any
) -> None:
    runs = service("b3os")
    runs.emulator.set_defaults("b3os", script="forever")
    runs.emulator.add_fault(kind="status", status=429, retry_after=120, provider="b3os", action="cancel", count=None)
    terminated("GET", 2)
    status, log = ends_of(runs, asset_of())
    assert status is dg.DagsterRunStatus.CANCELED
    assert runs.cancels == 1
    assert "could not be cancelled and may go on: the service asks for a pause" in log


def test_an_interrupt_that_is_on_its_way_already_may_be_dropped() -> None:
    done: list[str] = []
    held = HeldInterrupts(drop=True)
    held.may_break = False
    interrupted_in(held, done)
    assert done == ["answer"]


def test_a_run_is_left_alone_where_the_step_was_told_so(
    service: Callable[[str], Any], terminated: Callable[..., None]
) -> None:
    runs = service("b3os")
    runs.emulator.set_defaults("b3os", script="forever")
    terminated("GET", 3)
    _, log = ends_of(runs, asset_of(cancel_on_interrupt=False))
    assert runs.cancels == 0
    assert "goes on" in log


def test_a_run_of_somebody_else_is_left_alone(service: Callable[[str], Any], terminated: Callable[..., None]) -> None:
    runs = service("b3os")
    ref = runs.made(script="forever")
    terminated("GET", 2)
    ends_of(runs, build_run_asset(key="external", resource_key="b3os", run_id=ref.run_id))
    assert runs.cancels == 0


def test_a_cancel_that_fails_does_not_hide_the_interrupt(
    service: Callable[[str], Any], terminated: Callable[..., None]
) -> None:
    runs = service("b3os")
    runs.emulator.set_defaults("b3os", script="forever")
    runs.emulator.add_fault(kind="status", status=403, provider="b3os", action="cancel", count=None)
    terminated("GET", 3)
    status, log = ends_of(runs, asset_of())
    assert status is dg.DagsterRunStatus.CANCELED
    assert "could not be cancelled and may go on" in log


def test_a_service_without_a_cancel_is_said_to_go_on(
    service: Callable[[str], Any], terminated: Callable[..., None]
) -> None:
    runs = service("nexio")
    runs.emulator.set_defaults("nexio", script="forever")
    terminated("GET", 2)
    asset = build_run_asset(key="external", resource_key="nexio", call={"engine_slug": "e", "input": {}})
    _, log = ends_of(runs, asset)
    assert "Nexio has no way to cancel a run" in log


# --- processes of their own ------------------------------------------------------------------------------------


@pytest.fixture
def home(on_disk: Callable[..., Any]) -> Iterator[dg.DagsterInstance]:
    """An instance on disk, shared with child processes."""
    with on_disk() as instance:
        yield instance


@pytest.fixture
def start(served: Server, home: dg.DagsterInstance) -> Iterator[Callable[..., JobProcess]]:
    """``start("run", executor="multiprocess")``: the job in a process of its own, on the real clock."""
    children: list[JobProcess] = []
    served.emulator.reset()

    def begin(*arguments: str, executor: str = "in_process") -> JobProcess:
        environment = {
            **os.environ,
            "DAGSTER_HOME": home.root_directory,
            "EXTERNAL_URL": served.base_url("nyx"),
            "EXTERNAL_EXECUTOR": executor,
        }
        child = JobProcess(SCRIPT, *arguments, environment=environment)
        children.append(child)
        return child

    yield begin
    for child in children:
        # A step whose run worker was killed lives on in the same session.
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait(timeout=30)
    served.emulator.reset()


def until(seen: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    """What ``seen`` gives as soon as it gives something."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = seen()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what}: not within {seconds} s")


def step_of(home: dg.DagsterInstance, run_id: str) -> int:
    """The process of the step that runs."""
    started = home.all_logs(run_id, of_type=dg.DagsterEventType.STEP_WORKER_STARTED)
    pid = started[-1].get_dagster_event().engine_event_data.metadata["pid"].value
    return int(str(pid))


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["in_process", "multiprocess"])
def test_a_terminated_process_cancels_within_a_second_and_its_retry_submits_nothing(
    served: Server, home: dg.DagsterInstance, start: Callable[..., JobProcess], executor: str
) -> None:
    emulator = served.emulator
    emulator.set_defaults("nyx", script="forever")
    child = start("run", executor=executor)
    until(lambda: len(emulator.requests(provider="nyx", action="get")) > 2, "the wait")
    (run,) = home.get_runs()
    home.report_run_canceling(run)
    began = time.time()
    child.send_signal(signal.SIGINT)
    (cancel,) = until(lambda: emulator.requests(provider="nyx", action="cancel"), "the cancel")
    child.wait(timeout=60)

    assert cancel["time"] - began < 1
    assert len(emulator.requests(provider="nyx", action="submit")) == 1
    assert [record.status for record in home.get_runs()] == [dg.DagsterRunStatus.CANCELED]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("executor", "killed"),
    [("in_process", "worker"), ("multiprocess", "worker"), ("multiprocess", "both")],
)
def test_a_killed_process_leaves_a_run_that_a_retry_from_failure_takes_up(
    served: Server, home: dg.DagsterInstance, start: Callable[..., JobProcess], executor: str, killed: str
) -> None:
    emulator = served.emulator
    emulator.set_defaults("nyx", script="succeeded", seconds=3600)
    child = start("run", executor=executor)
    until(lambda: len(emulator.requests(provider="nyx", action="get")) > 2, "the wait")
    (run,) = home.get_runs()
    child.kill()
    child.wait(timeout=30)
    if killed == "both":
        os.kill(step_of(home, run.run_id), signal.SIGKILL)
    # What run monitoring does once it misses the worker.
    home.report_run_failed(run)

    looks = len(emulator.requests(provider="nyx", action="get"))
    again = start("retry", run.run_id, executor=executor)
    until(lambda: len(home.get_runs()) == 2, "the retry")
    until(lambda: len(emulator.requests(provider="nyx", action="get")) > looks + 1, "the wait of the retry")
    emulator.advance(None, provider="nyx")
    assert again.wait(timeout=60) == 0
    assert len(emulator.requests(provider="nyx", action="submit")) == 1
    assert emulator.requests(provider="nyx", action="cancel") == []
    newest = home.get_runs(limit=1)[0]
    assert (newest.parent_run_id, newest.status) == (run.run_id, dg.DagsterRunStatus.SUCCESS)


@pytest.mark.slow
def test_a_killed_step_is_run_again_by_its_retry_policy_and_takes_the_run_up(
    served: Server, home: dg.DagsterInstance, start: Callable[..., JobProcess]
) -> None:
    emulator = served.emulator
    emulator.set_defaults("nyx", script="succeeded", seconds=3600)
    child = start("run", executor="multiprocess")
    until(lambda: len(emulator.requests(provider="nyx", action="get")) > 2, "the wait")
    (run,) = home.get_runs()
    os.kill(step_of(home, run.run_id), signal.SIGKILL)
    looks = len(emulator.requests(provider="nyx", action="get"))
    until(lambda: len(emulator.requests(provider="nyx", action="get")) > looks + 2, "the wait of the next try")
    emulator.advance(None, provider="nyx")
    assert child.wait(timeout=60) == 0
    assert len(emulator.requests(provider="nyx", action="submit")) == 1
    assert [record.status for record in home.get_runs()] == [dg.DagsterRunStatus.SUCCESS]


@pytest.mark.slow
def test_both_executors_give_out_the_same(
    served: Server, home: dg.DagsterInstance, start: Callable[..., JobProcess]
) -> None:
    served.emulator.set_defaults("nyx", script="succeeded", seconds=0.5)
    said: list[dict[str, Any]] = []
    for executor in ("in_process", "multiprocess"):
        assert start("run", executor=executor).wait(timeout=60) == 0
        run = home.get_runs(limit=1)[0]
        (output,) = home.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_OUTPUT)
        metadata = output.get_dagster_event().step_output_data.metadata
        said.append({name: value.value for name, value in metadata.items()})
    own = ("run_id", "created_at", "started_at", "finished_at", "url", "overview", "duration_seconds", "queued_seconds")
    plain = [{name: value for name, value in one.items() if name.split("/")[-1] not in own} for one in said]
    for one in plain:
        # The rest is the mark of its own that each submit bears.
        one["runops/details/name"] = one["runops/details/name"].partition(" [")[0]
    assert said[0].keys() == said[1].keys()
    assert plain[0] == plain[1]
    assert plain[0]["runops/details/name"]
    assert plain[0]["runops/outcome"] == "succeeded"
