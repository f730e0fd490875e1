"""Terminate, as a person presses it: the external run is cancelled at once, and no second one is submitted."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import dagster as dg
import pytest

ANSWER_SECONDS = 10.0
"""What an answer to a submit takes, so that Terminate can come before it."""
AT_ONCE = 6


@dataclass(frozen=True)
class Press:
    """One scenario.

    Args:
        executor: The executor of the job.
        retrying: Whether the step has a retry policy.
        moment: When: during the POST, between the answer and its record, during the wait.
        provider: The service.
    """

    executor: str
    retrying: bool
    moment: str
    provider: str = "b3os"

    @property
    def parent(self) -> str:
        retrying = "retrying" if self.retrying else "once"
        return f"{self.provider}-{self.executor}-{retrying}-{self.moment}".replace("_", "-")

    @property
    def job(self) -> str:
        return f"{self.provider}_{self.executor}{'_retrying' if self.retrying else ''}"


PRESSES = [
    *[
        Press(executor, retrying, moment)
        for executor in ("in_process", "multiprocess")
        for retrying in (False, True)
        for moment in ("answering", "answered", "waiting")
    ],
    Press("in_process", True, "waiting", "nexio"),
]


@dataclass
class Told:
    """What came of a scenario.

    Args:
        status: How the Dagster run ended.
        cancel_seconds: From Terminate, or from the answer to the submit where that came later, to the cancel.
        end_seconds: From the same moment to the end of the Dagster run.
        runs: The external runs.
        cancels: How often the service was asked to cancel one.
        log: What people can read.
    """

    status: dg.DagsterRunStatus
    cancel_seconds: float | None
    end_seconds: float
    runs: list[dict[str, Any]]
    cancels: int
    log: str


@pytest.fixture(scope="module")
def presses(host: Any) -> dict[str, Told]:
    """All scenarios: launched several at a time, terminated one after the other."""
    for provider in ("b3os", "nexio"):
        host.emulator.set_defaults(provider, script="forever")
    told: dict[str, Told] = {}
    for moment in ("answering", "answered", "waiting"):
        waiting = [press for press in PRESSES if press.moment == moment]
        for begin in range(0, len(waiting), AT_ONCE):
            told |= _round(host, waiting[begin : begin + AT_ONCE])
    return told


def _round(host: Any, presses: list[Press]) -> dict[str, Told]:
    if presses[0].moment == "answering":
        host.emulator.add_fault(
            kind="delay", seconds=ANSWER_SECONDS, provider="b3os", action="submit", when="after", count=None
        )
    for press in presses:
        if press.moment == "answered":
            host.ask_to_park(press.parent, "answered")
    launched: dict[Press, str] = {}
    told: dict[str, Told] = {}
    for press in presses:
        launched[press] = host.launch(press.job, press.parent)
        if press.moment == "answering":
            # Its moment passes: no time to let others come to theirs.
            told[press.parent] = _pressed(host, press, launched[press])
    for press in presses:
        if press.moment == "answered":
            host.until(lambda press=press: host.parked(press.parent), press.parent)
        elif press.moment == "waiting":
            host.until(lambda press=press: _reads(host, press) > 2, press.parent)
    for press in presses:
        if press.moment != "answering":
            told[press.parent] = _pressed(host, press, launched[press])
    host.emulator.reset(only=("faults",))
    return told


def _pressed(host: Any, press: Press, run_id: str) -> Told:
    if press.moment == "answering":
        host.until(lambda: host.external(press.provider, press.parent), press.parent)
    created = time.time()
    host.terminate(run_id)
    began = time.time()
    if press.moment == "answering":
        began = max(began, created + ANSWER_SECONDS)
    if press.moment == "answered":
        # The interrupt is there before the step goes on.
        time.sleep(1)
        host.release(press.parent)
        began = time.time()
    status = host.ended(run_id)
    ended = time.time()
    cancels = host.cancels(press.provider, press.parent)
    return Told(
        status=status,
        cancel_seconds=cancels[0]["time"] - began if cancels else None,
        end_seconds=ended - began,
        runs=host.external(press.provider, press.parent),
        cancels=len(cancels),
        log=host.log(run_id),
    )


def _reads(host: Any, press: Press) -> int:
    return sum(run["reads"] for run in host.external(press.provider, press.parent))


@pytest.mark.parametrize("press", PRESSES, ids=lambda press: press.parent)
def test_terminate_ends_both_runs_and_starts_none(presses: dict[str, Told], press: Press) -> None:
    told = presses[press.parent]
    print(f"{press.parent}: cancel after {told.cancel_seconds}, over after {told.end_seconds:.2f} s")
    assert told.status is dg.DagsterRunStatus.CANCELED
    assert len(told.runs) == 1
    if press.provider == "nexio":
        assert "Nexio has no way to cancel a run" in told.log
        return
    assert told.cancels == 1
    assert told.runs[0]["status"] == "cancelled"
    assert "Asked B3OS to cancel" in told.log


@pytest.mark.parametrize("press", [press for press in PRESSES if press.provider == "b3os"], ids=lambda p: p.parent)
def test_the_cancel_follows_terminate_within_a_second_or_the_pending_answer(
    presses: dict[str, Told], press: Press
) -> None:
    seconds = presses[press.parent].cancel_seconds
    assert seconds is not None
    assert seconds < 1.5


@pytest.mark.parametrize("job", ["b3os_in_process_retrying", "b3os_multiprocess_retrying"])
def test_a_run_that_dagster_ends_for_its_run_time_is_cancelled_outside_and_submits_nothing_more(
    host: Any, job: str
) -> None:
    host.emulator.set_defaults("b3os", script="forever")
    parent = f"run-time-{job}".replace("_", "-")
    run_id = host.launch(job, parent, {"dagster/max_runtime": "20"})
    assert host.ended(run_id) in (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
    (run,) = host.until(lambda: host.cancels("b3os", parent) and host.external("b3os", parent), "the cancel")
    # A retry policy would begin its next try now: all that is left of the step is waited for.
    host.until(lambda: "Asked B3OS to cancel" in host.log(run_id), "the cancel in the log")
    host.until(lambda: host.worker_is_gone(run_id), "the end of the worker")
    assert run["status"] == "cancelled"
    assert len(host.external("b3os", parent)) == 1
