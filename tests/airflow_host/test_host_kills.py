"""Whatever is killed, and at whatever moment: one run outside at most, never cancelled, and every wait ends."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.airflow_host.cases import CASES, UNCERTAIN, Case
from tests.airflow_host.host import TASK_OVER, Host, Outside, Task, until
from tests.airflow_host.moments import BEFORE, DURING, MARKED, PARENTS, RESUMING, WAITING, parent_of

ARRIVAL_SECONDS = 240.0
END_SECONDS = 240.0
"""Far more than it takes: a machine may have other things to do."""
TRIGGERERS = ("airflow-triggerer-1", "airflow-triggerer-2")

DEFERRED = tuple(case for case in CASES if case.moment == WAITING and case.deferrable)
AT_WORK = tuple(case for case in CASES if case not in DEFERRED)
"""The cases whose tasks have a worker at their moment."""

everything = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


@dataclass
class Wave:
    """One DAG run of the matrix: its tasks are brought to their moments, and then something is killed."""

    host: Host
    outside: Outside
    run_id: str
    took: dict[str, float] = field(default_factory=dict)

    def task(self, case: Case) -> Task:
        return Task("kills", self.run_id, case.name)

    def parent(self, case: Case) -> dict[str, str]:
        return {PARENTS[case.provider]: parent_of(self.run_id, case.name)}

    def runs(self, case: Case) -> list[dict[str, Any]]:
        return self.outside.submitted(case.provider, **self.parent(case))

    def log(self, case: Case, attempt: int | None = None) -> str:
        return self.host.log(self.task(case), attempt)

    def begin(self) -> None:
        """Start the tasks, and wait until each is at its moment."""
        began = time.monotonic()
        for case in CASES:
            if case.moment == DURING:
                self.outside.tell(
                    "faults", kind="delay", seconds=300, when="after", action="submit", provider=case.provider,
                    path_contains=parent_of(self.run_id, case.name),
                )  # fmt: skip
        self.host.trigger("kills", self.run_id, {})
        waiting = set(CASES)
        ended: set[Case] = set()
        limit = time.monotonic() + ARRIVAL_SECONDS
        while waiting:
            states = self.host.states("kills", self.run_id)
            for case in list(waiting):
                state = states.get(self.task(case))
                assert state not in TASK_OVER, self.log(case)
                if case.moment == RESUMING and case not in ended and state == "deferred":
                    self.outside.finish(self.runs(case)[0]["run_id"])
                    ended.add(case)
                if self._arrived(case, state):
                    waiting.remove(case)
            assert time.monotonic() < limit, f"not at their moments: {sorted(case.name for case in waiting)}"
            time.sleep(0.5)
        self.took["arrived"] = time.monotonic() - began

    def _arrived(self, case: Case, state: str | None) -> bool:
        if case.moment == DURING:
            return len(self.runs(case)) == 1
        if case.moment == WAITING and case.deferrable:
            return state == "deferred"
        if case.moment == WAITING:
            return state == "running" and len(self.runs(case)) == 1 and self.runs(case)[0]["reads"] >= 2
        return self.host.reached(self.task(case), case.moment)

    def watched_again(self, what: str) -> None:
        """Wait until somebody looks at the runs of all deferred tasks, which nobody does at the moment."""
        began = time.monotonic()
        parents = [parent_of(self.run_id, case.name) for case in DEFERRED]
        before = self.outside.reads()

        def all_seen() -> bool:
            reads = self.outside.reads()
            return all(reads[parent] > before[parent] for parent in parents)

        until(f"the runs are looked at again after {what}", 120.0, all_seen)
        self.took[what] = time.monotonic() - began

    def second_tries(self, cases: tuple[Case, ...]) -> None:
        """Wait until the second try of each has begun."""
        began = time.monotonic()

        def begun() -> bool:
            instances = [self.host.instance(self.task(case)) for case in cases]
            return all(it["try_number"] > 1 and it["state"] in ("running", "deferred", "failed") for it in instances)

        until("the second tries have begun", 150.0, begun)
        self.took["second tries"] = time.monotonic() - began

    def end(self) -> None:
        """Let everything go on, end the runs outside as soon as they are there, and wait for the tasks."""
        began = time.monotonic()
        self.host.release(self.run_id)
        while True:
            states = self.host.states("kills", self.run_id)
            left = [case for case in CASES if states[self.task(case)] not in TASK_OVER]
            for case in left:
                self._end_runs(case, states[self.task(case)])
            if not left:
                break
            assert time.monotonic() < began + END_SECONDS, {case.name: states[self.task(case)] for case in left}
            time.sleep(0.5)
        self.took["ended"] = time.monotonic() - began
        print(self.run_id, {what: round(seconds, 1) for what, seconds in self.took.items()})

    def _end_runs(self, case: Case, state: str) -> None:
        """End what is outside, but only after the task has found it again: a second run would show beside the first."""
        if state in ("deferred", "running"):
            task = self.host.instance(self.task(case))
            if case in DEFERRED or (task["try_number"] > 1 and self.waits_again(case)):
                for run in self.runs(case):
                    if not run["over"]:
                        self.outside.finish(run["run_id"])

    def waits_again(self, case: Case) -> bool:
        """Whether a later try waits for a run."""
        return any(
            word in log
            for log in self.logs(case)[1:]
            for word in ("Submitted", "Re-attached", "Took up", "the triggerer watches")
        )

    def logs(self, case: Case) -> list[str]:
        """What each try has logged."""
        tries = self.host.instance(self.task(case))["try_number"]
        return [self.log(case, number + 1) for number in range(tries)]


def check_after_death(wave: Wave, case: Case, *, lives_on: bool = False) -> None:
    """What holds if the worker of a task died at its moment; a deferred one has none, and stays as it was."""
    state = wave.host.state(wave.task(case))
    runs = wave.runs(case)
    if lives_on and case.moment == MARKED:
        # A worker that nobody counts on any more may have sent, before it is told, what it had announced.
        check_announced(wave, case)
        return
    assert len(runs) == case.runs_after_death, wave.log(case)
    assert [run["cancels"] for run in runs] == [0] * len(runs), wave.log(case)
    if case.error_after_death is None:
        assert state == "success", wave.log(case)
        result = wave.host.value(wave.task(case))
        assert (result["run_id"], result["outcome"]) == (runs[0]["run_id"], "succeeded")
    else:
        assert state == "failed", wave.log(case)
        assert case.error_after_death in wave.log(case)
        # Nobody may try again by himself: the first try that says so is the last, though more retries were allowed.
        assert [UNCERTAIN in log for log in wave.logs(case)].index(True) == len(wave.logs(case)) - 1
    if case in DEFERRED:
        assert wave.host.instance(wave.task(case))["try_number"] == 1


def check_announced(wave: Wave, case: Case) -> None:
    """One run or none, and the task either waited for it or says that nobody knows."""
    runs = wave.runs(case)
    assert len(runs) <= 1, wave.log(case)
    if wave.host.state(wave.task(case)) == "success":
        assert wave.host.value(wave.task(case))["run_id"] == runs[0]["run_id"]
    else:
        assert UNCERTAIN in wave.log(case)


@pytest.fixture(scope="module", autouse=True)
def dags(host: Host) -> None:
    host.wait_for_dags(["kills"])


@pytest.fixture(scope="module")
def workers_killed(host: Host, outside: Outside) -> Wave:
    """``kill -9`` of every worker at its moment, of half of them together with the process that watches over it."""
    wave = Wave(host, outside, "workers")
    wave.begin()
    for number, case in enumerate(AT_WORK):
        host.kill_task(wave.task(case), supervisor=number % 2 == 0)
    wave.end()
    return wave


@everything
def test_a_killed_worker_leaves_one_run_and_its_next_try_finds_it(workers_killed: Wave, case: Case) -> None:
    check_after_death(workers_killed, case)


@pytest.fixture(scope="module")
def triggerers_killed(host: Host, outside: Outside) -> Wave:
    """``kill -9`` of the triggerer that has a trigger, then of both, then a restart of both."""
    wave = Wave(host, outside, "others")
    wave.begin()
    host.kill(TRIGGERERS[0])
    wave.watched_again("one triggerer")
    host.restart(TRIGGERERS[0])
    host.wait_until_healthy()
    host.kill(*TRIGGERERS)
    host.restart(*TRIGGERERS)
    wave.watched_again("both triggerers")
    return wave


@everything
def test_killed_triggerers_change_nothing_for_a_task_at_any_moment(triggerers_killed: Wave, case: Case) -> None:
    wave = triggerers_killed
    instance = wave.host.instance(wave.task(case))
    assert instance["state"] == ("deferred" if case in DEFERRED else "running"), wave.log(case)
    assert instance["try_number"] == 1
    runs = wave.runs(case)
    assert len(runs) == (0 if case.moment in (BEFORE, MARKED) else 1)
    assert all(run["cancels"] == 0 for run in runs)


@pytest.fixture(scope="module")
def scheduler_killed(triggerers_killed: Wave) -> Wave:
    """``kill -9`` of the scheduler only, while its workers live on: they are given up, and do not know it yet.

    The tasks that lost both triggerers before are the ones that lose the scheduler too.
    """
    wave = triggerers_killed
    host = wave.host
    host.kill("airflow-scheduler", alone=True)
    host.restart("airflow-scheduler")
    # The held ones go on while the second tries of the same tasks run already.
    wave.second_tries(tuple(case for case in AT_WORK if case.moment == BEFORE))
    wave.end()
    host.bury()
    return wave


@everything
def test_a_killed_scheduler_leaves_one_run_and_the_next_try_finds_it(scheduler_killed: Wave, case: Case) -> None:
    check_after_death(scheduler_killed, case, lives_on=True)


@pytest.fixture(scope="module")
def all_killed(host: Host, outside: Outside) -> Wave:
    """``kill -9`` of everything that is Airflow, its workers included, and a restart of everything."""
    wave = Wave(host, outside, "all")
    wave.begin()
    host.kill(*host.components)
    host.restart(*host.components)
    host.wait_until_healthy()
    wave.end()
    return wave


@everything
def test_a_restart_of_everything_leaves_one_run_and_the_next_try_finds_it(all_killed: Wave, case: Case) -> None:
    check_after_death(all_killed, case)
