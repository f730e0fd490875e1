"""200 runs in one step of a real Dagster, killed, terminated and executed again at every moment: 200 submits in all."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import dagster as dg
import pytest

MANY = 200
AT_ONCE = 4
ANSWER_SECONDS = 8.0


@dataclass(frozen=True)
class Death:
    """One scenario.

    Args:
        provider: The service: Nyx shows our mark, B3OS shows none.
        executor: The executor of the job.
        moment: When: before or after the record of the 37th submit, before that of its answer, during its POST, or
            when so many runs have ended.
        killed: What: the step, the worker of the run, or both.
    """

    provider: str
    executor: str
    moment: str
    killed: str

    @property
    def parent(self) -> str:
        return f"many-{self.provider}-{self.executor}-{self.moment}-{self.killed}".replace("_", "-").replace(".", "-")

    @property
    def parks(self) -> bool:
        return "." in self.moment


DEATHS = [
    Death("nyx", "multiprocess", "submitting.before", "both"),
    Death("nyx", "multiprocess", "submitting.after", "step"),
    Death("nyx", "in_process", "submitted.before", "worker"),
    Death("nyx", "multiprocess", "ended", "worker"),
    Death("b3os", "in_process", "submitting.after", "worker"),
    Death("b3os", "multiprocess", "submitted.before", "both"),
    Death("b3os", "in_process", "answering", "worker"),
    Death("b3os", "multiprocess", "ended", "step"),
]


def of(host: Any, provider: str, parent: str) -> list[dict[str, Any]]:
    """The external runs of a scenario."""
    kind = {"nyx": "config_name", "b3os": "workflow_id"}[provider]
    found = [(run["parents"].get(kind, ""), run) for run in host.emulator.runs(provider=provider)]
    return [run for name, run in found if name == parent or name.startswith(f"{parent}-")]


def what(run: dict[str, Any]) -> str:
    """What a run was submitted for."""
    body = run["body"]
    return str(body.get("config_name") or body["payload"]["number"])


@dataclass
class Told:
    """What came of a scenario, once its re-execution was over."""

    first: dg.DagsterRunStatus
    again: dg.DagsterRunStatus
    log: str
    submitted: list[str]
    alive: int
    cancels: int


@pytest.fixture(scope="module")
def deaths(host: Any) -> dict[str, Told]:
    """All scenarios, several at a time."""
    for provider in ("nyx", "b3os"):
        host.emulator.set_defaults(provider, script="succeeded", seconds=6)
    told: dict[str, Told] = {}
    for begin in range(0, len(DEATHS), AT_ONCE):
        told |= _round(host, DEATHS[begin : begin + AT_ONCE])
    return told


def _round(host: Any, deaths: list[Death]) -> dict[str, Told]:
    for death in deaths:
        if death.parks:
            host.ask_to_park(death.parent, death.moment)
        if death.moment == "answering":
            host.emulator.add_fault(
                kind="delay",
                seconds=ANSWER_SECONDS,
                provider=death.provider,
                action="submit",
                path_contains=death.parent,
                when="after",
                skip=36,
                count=1,
            )
    first = {death: host.launch(f"many_{death.provider}_{death.executor}", death.parent) for death in deaths}
    left = dict(first)

    def killed_all() -> bool:
        for death in [death for death in left if _is_there(host, death)]:
            host.kill(left.pop(death), death.killed)
        return not left

    try:
        host.until(killed_all, "the moments of all", 200)
    except AssertionError as error:
        raise AssertionError(f"{error}: {sorted(death.parent for death in left)}") from None
    ends = {death: host.ended(run_id) for death, run_id in first.items()}
    for death in deaths:
        host.release(death.parent)
    again = {death: host.reexecute(first[death]) for death in deaths}
    statuses = {death: host.ended(run_id, 240) for death, run_id in again.items()}
    return {
        death.parent: Told(
            first=ends[death],
            again=statuses[death],
            log=host.log(again[death]),
            submitted=[what(run) for run in of(host, death.provider, death.parent)],
            alive=sum(not run["over"] for run in of(host, death.provider, death.parent)),
            cancels=sum(run["cancels"] for run in of(host, death.provider, death.parent)),
        )
        for death in deaths
    }


def _is_there(host: Any, death: Death) -> bool:
    if death.parks:
        return host.parked(death.parent)
    runs = of(host, death.provider, death.parent)
    if death.moment == "answering":
        return len(runs) >= 37
    return sum(run["over"] for run in runs) >= 80


@pytest.mark.parametrize("death", DEATHS, ids=lambda death: death.parent)
def test_a_killed_set_is_taken_up_as_one_and_each_run_is_submitted_once(deaths: dict[str, Told], death: Death) -> None:
    told = deaths[death.parent]
    assert told.first is dg.DagsterRunStatus.FAILURE
    assert (told.alive, told.cancels) == (0, 0)
    assert len(told.submitted) == len(set(told.submitted))
    assert "Of 200 runs" in told.log
    if told.again is dg.DagsterRunStatus.FAILURE:
        # Killed between the record of a submit and its answer: of one run that bears no mark nobody can tell.
        assert death.provider == "b3os"
        assert len(told.submitted) >= MANY - 1
        assert "1 unclear" in told.log
        return
    assert len(told.submitted) == MANY
    assert f"200/200: {MANY} succeeded" in told.log


# --- Terminate -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("provider", "executor"), [("nyx", "in_process"), ("b3os", "multiprocess")])
def test_terminate_cancels_all_that_is_active_and_the_re_execution_submits_the_rest(
    host: Any, provider: str, executor: str
) -> None:
    emulator, parent = host.emulator, f"terminated-{provider}-{executor}".replace("_", "-")
    emulator.set_defaults(provider, script="forever")
    run_id = host.launch(f"many_{provider}_{executor}", parent)
    host.until(lambda: len(of(host, provider, parent)) >= 50, "fifty runs")
    host.terminate(run_id)
    pressed = time.time()
    assert host.ended(run_id) is dg.DagsterRunStatus.CANCELED
    made = of(host, provider, parent)
    assert [run["run_id"] for run in made if not run["over"]] == []
    assert all(run["cancels"] == 1 for run in made)
    ours = {run["run_id"] for run in made}
    cancels = [each["time"] for each in emulator.requests(provider=provider, action="cancel") if each["run_id"] in ours]
    print(f"{parent}: {len(made)} runs, cancels {min(cancels) - pressed:.2f} to {max(cancels) - pressed:.2f} s after")
    assert min(cancels) - pressed < 2

    emulator.set_defaults(provider, script="succeeded", seconds=0)
    again = host.reexecute(run_id)
    assert host.ended(again, 240) is dg.DagsterRunStatus.SUCCESS
    everything = of(host, provider, parent)
    # What this side has cancelled itself is submitted anew, and everything else for the first time.
    assert len(everything) == MANY + len(made)
    assert {what(run) for run in everything if not run["cancels"]} == {what(run) for run in everything}


# --- from failure ----------------------------------------------------------------------------------------------


def test_a_re_execution_from_failure_submits_only_what_has_failed(host: Any) -> None:
    emulator, parent = host.emulator, "failed-in-part"
    emulator.set_defaults("b3os", script="failed", seconds=4)
    run_id = host.launch("many_b3os_in_process", parent)
    host.until(lambda: len(of(host, "b3os", parent)) >= 40, "forty runs")
    emulator.set_defaults("b3os", script="succeeded", seconds=0)
    assert host.ended(run_id, 240) is dg.DagsterRunStatus.FAILURE
    before = of(host, "b3os", parent)
    failed = {what(run) for run in before if run["status"] == "failure"}
    assert len(before) == MANY
    assert 40 <= len(failed) < MANY
    again = host.reexecute(run_id)
    assert host.ended(again, 240) is dg.DagsterRunStatus.SUCCESS
    after = of(host, "b3os", parent)[MANY:]
    assert sorted(what(run) for run in after) == sorted(failed)
    assert f"{MANY - len(failed)} of an earlier try are kept, {len(failed)} are submitted anew" in host.log(again)

    # All steps: nothing is alive, so everything is wanted anew.
    whole = host.reexecute(again, "ALL_STEPS")
    assert host.ended(whole, 240) is dg.DagsterRunStatus.SUCCESS
    assert len(of(host, "b3os", parent)) == 2 * MANY + len(failed)
