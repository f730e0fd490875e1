"""200 runs as one task in a real Airflow, whatever is killed: 200 submits, no run twice, and none left behind."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import psutil
import pytest

from tests.airflow_host.host import TASK_OVER, Host, Outside, Task, until
from tests.airflow_host.moments import DURING, PARENTS, RESUMING, WAITING
from tests.airflow_host.sets import CASES, FATAL, RUNS, SetCase, parent_of_one

ARRIVAL_SECONDS = 200.0
END_SECONDS = 300.0
"""Far more than it takes: a machine may have other things to do."""
PEOPLE = "people-of-sets"
TRIGGERERS = ("airflow-triggerer-1", "airflow-triggerer-2")

DEFERRED = tuple(case for case in CASES if case.moment == WAITING and case.deferrable)
AT_WORK = tuple(case for case in CASES if case not in DEFERRED)

everything = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


@dataclass
class Wave:
    """One DAG run of the matrix."""

    host: Host
    outside: Outside
    run_id: str
    took: dict[str, float] = field(default_factory=dict)

    def task(self, case: SetCase) -> Task:
        return Task("sets", self.run_id, case.name)

    def runs(self, case: SetCase) -> list[dict[str, Any]]:
        return runs_of(self.outside, case.provider, self.run_id, case.name)

    def log(self, case: SetCase) -> str:
        return self.host.log(self.task(case))

    def begin(self) -> None:
        """Start the tasks, and wait until each is at its moment."""
        began = time.monotonic()
        for case in CASES:
            if case.moment == DURING:
                self.outside.tell(
                    "faults", kind="delay", seconds=300, when="after", action="submit", provider=case.provider,
                    path_contains=parent_of_one(self.run_id, case.name, FATAL - 1),
                )  # fmt: skip
        self.host.trigger("sets", self.run_id, {})
        waiting = set(CASES)
        limit = time.monotonic() + ARRIVAL_SECONDS
        while waiting:
            states = self.host.states("sets", self.run_id)
            for case in list(waiting):
                state = states.get(self.task(case))
                assert state not in TASK_OVER, self.log(case)
                if case.moment == RESUMING and state == "deferred":
                    self.outside.tell("advance", provider=case.provider)
                if self._arrived(case, state):
                    waiting.remove(case)
            assert time.monotonic() < limit, f"not at their moments: {sorted(case.name for case in waiting)}"
            time.sleep(1.0)
        self.took["arrived"] = time.monotonic() - began

    def _arrived(self, case: SetCase, state: str | None) -> bool:
        if case.moment == DURING:
            fatal = parent_of_one(self.run_id, case.name, FATAL - 1)
            return any(fatal in run["parents"].values() for run in self.runs(case))
        if case.moment == WAITING and case.deferrable:
            return state == "deferred"
        if case.moment == WAITING:
            return state == "running" and len(self.runs(case)) >= FATAL
        return self.host.reached(self.task(case), case.moment)

    def end(self) -> None:
        """Let everything go on, end the runs outside as they come, and wait for the tasks."""
        began = time.monotonic()
        self.host.release(self.run_id)
        while True:
            states = self.host.states("sets", self.run_id)
            left = [case for case in CASES if states[self.task(case)] not in TASK_OVER]
            if not left:
                break
            assert time.monotonic() < began + END_SECONDS, {case.name: states[self.task(case)] for case in left}
            for provider in {case.provider for case in CASES}:
                self.outside.tell("advance", provider=provider)
            time.sleep(3.0)
        self.took["ended"] = time.monotonic() - began
        print(self.run_id, {what: round(seconds, 1) for what, seconds in self.took.items()})


def runs_of(outside: Outside, provider: str, run_id: str, task_id: str) -> list[dict[str, Any]]:
    """What a task has submitted, oldest first."""
    kind, begin = PARENTS[provider], f"{run_id}-{task_id}-"
    return [run for run in outside.submitted(provider) if run["parents"].get(kind, "").startswith(begin)]


def check(wave: Wave, case: SetCase) -> None:
    """What holds wherever the task or its triggerer has died."""
    runs, log = wave.runs(case), wave.log(case)
    each = Counter(run["parents"][PARENTS[case.provider]] for run in runs)
    assert [parent for parent, count in each.items() if count > 1] == [], log
    assert len(runs) == case.submits, log
    assert [run["run_id"] for run in runs if run["cancels"] or not run["over"]] == [], log
    told = wave.host.value(wave.task(case))
    rows = wave.host.value(wave.task(case), "runs")
    known = {row["run_id"] for row in rows if "run_id" in row}
    ours = {run["run_id"] for run in runs}
    assert told["total"] == RUNS
    if case.loses_one:
        assert wave.host.state(wave.task(case)) == "failed", log
        assert "SubmitUncertainError" in log
        assert told["outcomes"] == {"succeeded": RUNS - 1}, log
        assert known < ours or case.submits < RUNS
    else:
        assert wave.host.state(wave.task(case)) == "success", log
        assert told["outcomes"] == {"succeeded": RUNS}, log
        assert known == ours


@pytest.fixture(scope="module", autouse=True)
def dags(host: Host) -> None:
    host.wait_for_dags(["sets", "people_of_sets"])


@pytest.fixture(scope="module")
def killed(host: Host, outside: Outside) -> Wave:
    """``kill -9`` of every worker at its moment, of half of them with the process that watches over it, and of both
    triggerers, which are started again.
    """
    wave = Wave(host, outside, "killed")
    host.trigger("people_of_sets", PEOPLE, {})
    wave.begin()
    for number, case in enumerate(AT_WORK):
        # On a busy machine Airflow itself may have given a worker up, and killed it there.
        with suppress(psutil.NoSuchProcess):
            host.kill_task(wave.task(case), supervisor=number % 2 == 0)
    host.kill(*TRIGGERERS)
    host.restart(*TRIGGERERS)
    wave.end()
    return wave


@everything
def test_whatever_is_killed_each_run_is_submitted_once_and_all_results_are_right(killed: Wave, case: SetCase) -> None:
    check(killed, case)


# --- people ---

CANCEL_SECONDS = 15.0
CANCELLED = ["fail_deferred", "succeed_deferred", "clear_deferred", "fail_worker", "succeed_worker", "clear_worker"]


@pytest.fixture(scope="module")
def struck(host: Host, outside: Outside, killed: Wave) -> dict[str, float]:
    """When a person did to each task what it is named after; 40 runs of each were active."""

    def all_wait() -> bool:
        states = host.states("people_of_sets", PEOPLE)
        return all(
            states.get(Task("people_of_sets", PEOPLE, name)) == ("deferred" if "deferred" in name else "running")
            and len(runs_of(outside, "b3os", PEOPLE, name)) >= 40
            for name in CANCELLED
        )

    until("all tasks wait", 200, all_wait, pause=1.0)
    # A trigger hears of a kill once it is there.
    time.sleep(5.0)
    at: dict[str, float] = {}
    for name in CANCELLED:
        task = Task("people_of_sets", PEOPLE, name)
        at[name] = time.time()
        if name.startswith("clear"):
            host.clear(task)
        else:
            host.mark(task, "failed" if name.startswith("fail") else "success")
    return at


@pytest.mark.parametrize("name", CANCELLED)
def test_what_a_person_does_to_the_task_cancels_all_that_is_active(
    host: Host, outside: Outside, struck: dict[str, float], name: str
) -> None:
    def first_ones() -> list[dict[str, Any]]:
        return runs_of(outside, "b3os", PEOPLE, name)[:40]

    until(f"the runs of {name} are cancelled", CANCEL_SECONDS + 30, lambda: all(it["cancels"] for it in first_ones()))
    print(f"{name}: all 40 cancelled {time.time() - struck[name]:.1f} s later at the most")
    if name.startswith("clear"):
        until("a new set begins", 90, lambda: len(runs_of(outside, "b3os", PEOPLE, name)) >= 80)
        host.mark(Task("people_of_sets", PEOPLE, name), "failed")
    else:
        assert len(runs_of(outside, "b3os", PEOPLE, name)) == 40


def test_a_retry_submits_only_what_failed_and_keeps_the_rest(
    host: Host, outside: Outside, struck: dict[str, float]
) -> None:
    task = Task("people_of_sets", PEOPLE, "some_fail")
    assert host.wait_for(task, TASK_OVER, 240) == "failed", host.log(task)
    runs = runs_of(outside, "b3os", PEOPLE, "some_fail")
    each = Counter(run["parents"]["workflow_id"] for run in runs)
    twice = {parent for parent, count in each.items() if count == 2}
    assert twice == {parent_of_one(PEOPLE, "some_fail", number) for number in range(10)}
    assert len(runs) == RUNS + 10
    told = host.value(task)
    assert (told["kept"], told["submitted"], told["outcomes"]) == (190, 10, {"failed": 10, "succeeded": 190})
    assert "190 of an earlier try are kept" in host.log(task, 2)
