"""Killed at every moment of a submit and a wait, then re-executed from failure: never a second external run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
import pytest

ANSWER_SECONDS = 25.0
"""What an answer to a submit takes where it is to be killed before it: as long as a busy machine may need for that, and
less than the limit of a request."""
AT_ONCE = 7
"""Dagster runs at the same time: each is a process, and a step another."""


@dataclass(frozen=True)
class Death:
    """One scenario.

    Args:
        provider: The service.
        executor: The executor of the job.
        moment: When: before our record of the submit, between the record and the POST, during the POST, between
            the answer and its record, during the wait.
        killed: What: the step, the worker of the run, or both.
    """

    provider: str
    executor: str
    moment: str
    killed: str

    @property
    def parent(self) -> str:
        return f"{self.provider}-{self.executor}-{self.moment}-{self.killed}".replace("_", "-")

    @property
    def parks(self) -> bool:
        return self.moment in ("unrecorded", "recorded", "answered")


DEATHS = [
    *[Death("nyx", "multiprocess", "unrecorded", killed) for killed in ("worker", "both")],
    *[Death("nyx", "multiprocess", "recorded", killed) for killed in ("worker", "both")],
    *[
        Death("nyx", "multiprocess", moment, killed)
        for moment in ("answering", "answered", "waiting")
        for killed in ("step", "worker", "both")
    ],
    *[Death("nyx", "in_process", moment, "worker") for moment in ("unrecorded", "answering", "answered", "waiting")],
    *[Death("nexio", "in_process", moment, "worker") for moment in ("recorded", "answering", "answered", "waiting")],
    *[Death("onepin", "in_process", moment, "worker") for moment in ("answering", "answered", "waiting")],
    *[Death("b3os", "in_process", moment, "worker") for moment in ("answering", "answered", "waiting")],
]
NAMES = [death.parent for death in DEATHS]


@dataclass
class Told:
    """What came of a scenario, once its re-execution was over."""

    first: dg.DagsterRunStatus
    again: dg.DagsterRunStatus
    log_of_first: str
    log_of_again: str
    started: int
    cancelled: int


@pytest.fixture(scope="module")
def deaths(host: Any) -> dict[str, Told]:
    """All scenarios, several at a time."""
    emulator = host.emulator
    for provider in ("nexio", "nyx", "onepin", "b3os"):
        emulator.set_defaults(provider, script="succeeded", seconds=3600)
    told: dict[str, Told] = {}
    for each in rounds(DEATHS, AT_ONCE):
        told |= _round(host, each)
    return told


def rounds(deaths: Sequence[Death], most: int) -> Iterator[Sequence[Death]]:
    """Those to play at once: the ones that are killed during the answer apart, since theirs alone is to come late."""
    for late in (False, True):
        those = [death for death in deaths if (death.moment == "answering") is late]
        yield from (those[begin : begin + most] for begin in range(0, len(those), most))


def die(host: Any, deaths: Sequence[Death]) -> dict[Death, str]:
    """Launch a Dagster run for each, and kill it at its moment; the ids of these runs."""
    for provider in {death.provider for death in deaths if death.moment == "answering"}:
        host.emulator.add_fault(
            kind="delay", seconds=ANSWER_SECONDS, provider=provider, action="submit", when="after", count=None
        )
    for death in deaths:
        if death.parks:
            host.ask_to_park(death.parent, death.moment)
    first = {death: host.launch(f"{death.provider}_{death.executor}", death.parent) for death in deaths}
    _kill_each_at_its_moment(host, first)
    for run_id in first.values():
        host.ended(run_id)
    host.emulator.reset(only=("faults",))
    return first


def _round(host: Any, deaths: Sequence[Death]) -> dict[str, Told]:
    emulator = host.emulator
    first = die(host, deaths)
    statuses = {death: host.status(run_id) for death, run_id in first.items()}
    looks = {death: reads(host, death) for death in deaths}
    again = {death: host.reexecute(first[death]) for death in deaths}
    for death in deaths:
        host.until(
            lambda death=death: _is_over(host, again[death]) or reads(host, death) > looks[death] + 2,
            f"the re-execution of {death.parent}",
        )
    for death in deaths:
        # A step whose worker was killed goes on from where it stood, beside the re-execution.
        host.release(death.parent)
    for death in deaths:
        for run in host.external(death.provider, death.parent):
            emulator.advance(None, provider=death.provider, run_id=run["run_id"])
    ends = {death: host.ended(run_id) for death, run_id in again.items()}
    return {
        death.parent: Told(
            first=statuses[death],
            again=ends[death],
            log_of_first=host.log(first[death]),
            log_of_again=host.log(again[death]),
            started=len(host.external(death.provider, death.parent)),
            cancelled=len(host.cancels(death.provider, death.parent)),
        )
        for death in deaths
    }


def _kill_each_at_its_moment(host: Any, first: dict[Death, str]) -> None:
    """Kill in whatever order the moments come: an answer that is on its way waits for no other."""
    left = dict(first)

    def killed_all() -> bool:
        for death in [death for death in left if _moment_is_there(host, death)]:
            host.kill(left.pop(death), death.killed)
        return not left

    host.until(killed_all, "the moments to kill", 240)


def _moment_is_there(host: Any, death: Death) -> bool:
    if death.parks:
        return host.parked(death.parent)
    if death.moment == "answering":
        return bool(host.external(death.provider, death.parent))
    return reads(host, death) > 2


def reads(host: Any, death: Death) -> int:
    return sum(run["reads"] for run in host.external(death.provider, death.parent))


def _is_over(host: Any, run_id: str) -> bool:
    return host.status(run_id) in (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE)


def those(*moments: str, providers: tuple[str, ...] = ("nexio", "nyx", "onepin", "b3os")) -> list[str]:
    return [death.parent for death in DEATHS if death.moment in moments and death.provider in providers]


@pytest.mark.parametrize("name", NAMES)
def test_no_death_leads_to_a_second_external_run_or_to_a_cancel(deaths: dict[str, Told], name: str) -> None:
    told = deaths[name]
    assert told.first is dg.DagsterRunStatus.FAILURE
    assert told.started <= 1
    assert told.cancelled == 0


@pytest.mark.parametrize("name", those("waiting"))
def test_a_run_whose_submit_was_recorded_is_taken_up_again(deaths: dict[str, Told], name: str) -> None:
    told = deaths[name]
    assert (told.again, told.started) == (dg.DagsterRunStatus.SUCCESS, 1)
    assert "Took up" in told.log_of_again


@pytest.mark.parametrize("name", those("answering", "answered", providers=("nyx",)))
def test_a_run_whose_answer_was_lost_is_found_by_its_mark(deaths: dict[str, Told], name: str) -> None:
    told = deaths[name]
    assert (told.again, told.started) == (dg.DagsterRunStatus.SUCCESS, 1)
    assert "Took up" in told.log_of_again


@pytest.mark.parametrize("name", those("recorded", "answering", "answered", providers=("nexio", "onepin", "b3os")))
def test_a_run_that_cannot_be_told_is_uncertain_and_said_so(deaths: dict[str, Told], name: str) -> None:
    told = deaths[name]
    assert told.again is dg.DagsterRunStatus.FAILURE
    assert "is lost" in told.log_of_again
    assert "launch the asset or job anew" in told.log_of_again
    assert told.started == (0 if "-recorded-" in name else 1)


@pytest.mark.parametrize("name", those("recorded", providers=("nyx",)))
def test_a_submit_that_was_never_sent_is_sent_once_where_the_service_allows_one_run_and_shows_no_mark(
    deaths: dict[str, Told], name: str
) -> None:
    told = deaths[name]
    assert (told.again, told.started) == (dg.DagsterRunStatus.SUCCESS, 1)
    assert "Looking for the run of a submit that was not answered" in told.log_of_again


@pytest.mark.parametrize("name", those("unrecorded"))
def test_a_step_that_died_before_its_submit_is_simply_run_again(deaths: dict[str, Told], name: str) -> None:
    told = deaths[name]
    assert (told.again, told.started) == (dg.DagsterRunStatus.SUCCESS, 1)
    assert "Took up" not in told.log_of_again


@pytest.mark.parametrize("name", ["nyx-multiprocess-unrecorded-worker", "nyx-multiprocess-recorded-worker"])
def test_a_step_that_has_outlived_its_worker_submits_nothing_when_it_goes_on(
    host: Any, deaths: dict[str, Told], name: str
) -> None:
    assert deaths[name].first is dg.DagsterRunStatus.FAILURE
    first = host.first_of(f"'{name}'")
    host.until(lambda: "The Dagster run is over already" in host.log(first), "what the step says", 30)
    assert len(host.external("nyx", name)) == deaths[name].started
