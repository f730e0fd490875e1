"""Restarts, reassignments and evictions are nobody's wish to end a run: it is never cancelled, and the wait goes on."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.airflow_host.host import Host, HostError, Outside, Task, until
from tests.airflow_host.moments import PARENTS, parent_of

RUN = "moves"
DEFERRED = tuple(Task("moves", RUN, f"{provider}_deferred") for provider in PARENTS)
EVICTED, EVICTED_FOR_GOOD = Task("moves", RUN, "onepin_worker"), Task("moves", RUN, "nyx_worker")
BROKEN = Task("moves", RUN, "nexio_broken")
ALL = (*DEFERRED, BROKEN, EVICTED, EVICTED_FOR_GOOD)
FIRST, SECOND = "airflow-triggerer-1", "airflow-triggerer-2"


def runs(outside: Outside, task: Task) -> list[dict[str, Any]]:
    provider = task.task_id.partition("_")[0]
    return outside.submitted(provider, **{PARENTS[provider]: parent_of(RUN, task.task_id)})


def watched(outside: Outside, tasks: tuple[Task, ...], why: str, seconds: float = 120.0) -> float:
    """Wait until somebody looks at the runs of these tasks again; how long that took."""
    began = time.monotonic()
    parents = [parent_of(RUN, task.task_id) for task in tasks]
    before = outside.reads()

    def all_seen() -> bool:
        reads = outside.reads()
        return all(reads[parent] > before[parent] for parent in parents)

    until(f"watched {why}", seconds, all_seen)
    return time.monotonic() - began


def check(host: Host, outside: Outside, tasks: tuple[Task, ...] = ALL) -> None:
    for task in tasks:
        (run,) = runs(outside, task)
        assert (run["cancels"], run["over"]) == (0, False), host.log(task)
        assert not outside.requests(action="cancel", run_id=run["run_id"])


@pytest.fixture(scope="module", autouse=True)
def waiting(host: Host, outside: Outside) -> None:
    """All tasks wait."""
    host.wait_for_dags(["moves", "moves_blocked"])
    host.trigger("moves", RUN, {})

    def all_wait() -> bool:
        states = host.states("moves", RUN)
        return all(states.get(task) == "deferred" for task in (*DEFERRED, BROKEN)) and all(
            states.get(task) == "running" and runs(outside, task) for task in (EVICTED, EVICTED_FOR_GOOD)
        )

    until("all tasks wait", 240, all_wait)
    watched(outside, ALL, "at first")


def gone(host: Host, name: str) -> Callable[[], bool]:
    return lambda: host.components[name].process.poll() is not None


def test_a_sigterm_to_a_triggerer_moves_its_triggers_and_cancels_nothing(host: Host, outside: Outside) -> None:
    host.kill(SECOND, number=signal.SIGTERM)
    until("the triggerer has ended", 30, gone(host, SECOND))
    print(f"moved after SIGTERM: {watched(outside, DEFERRED, 'by the other triggerer'):.1f} s")
    check(host, outside)


def test_a_restart_of_the_only_triggerer_cancels_nothing(host: Host, outside: Outside) -> None:
    host.kill(FIRST, number=signal.SIGTERM)
    until("the triggerer has ended", 30, gone(host, FIRST))
    host.restart(FIRST)
    print(f"watched after a restart: {watched(outside, DEFERRED, 'after the restart'):.1f} s")
    check(host, outside)


def test_a_blocked_loop_moves_the_triggers_and_cancels_nothing(host: Host, outside: Outside) -> None:
    blocker = Task("moves_blocked", RUN, "block")
    # All triggers are with the first triggerer now, and so is the one that blocks it.
    host.trigger(blocker.dag_id, blocker.run_id, {})
    host.wait_for(blocker, {"deferred"})
    host.restart(SECOND)

    def moved() -> bool:
        return all(host.triggerer_of(task) not in (None, first) for task in DEFERRED)

    first = host.triggerer_of(DEFERRED[0])
    until("the second triggerer has taken over", 60, moved)
    watched(outside, DEFERRED, "by the second triggerer")

    def let_go() -> bool:
        # Airflow 3.3 takes the move for a kill by a person, and says so to the trigger that moved.
        return all(
            "Left alone:" in host.log(task) and "state of its task is deferred" in host.log(task)
            for task in DEFERRED[1:]
        )

    try:
        until("the first triggerer wakes up", 60, let_go)
    except HostError:
        pytest.fail("\n".join(host.log(task) for task in DEFERRED))
    check(host, outside)


def test_an_evicted_worker_leaves_the_run_and_the_next_try_re_attaches(host: Host, outside: Outside) -> None:
    supervised = host.runner_of(EVICTED_FOR_GOOD)
    for task in (EVICTED, EVICTED_FOR_GOOD):
        host.evict(task)
    for task in (EVICTED, EVICTED_FOR_GOOD):
        until(
            f"{task} was asked to end", 20,
            lambda: "since nobody is known to have killed its task" in host.log(task),  # noqa: B023
        )  # fmt: skip
    # What does not end by itself in its time is ended.
    assert host.runner_of(EVICTED_FOR_GOOD) == supervised
    host.kill_task(EVICTED_FOR_GOOD)
    until("the next try re-attaches", 90, lambda: "Re-attached" in host.log(EVICTED_FOR_GOOD, 2))
    check(host, outside)


def test_a_trigger_that_breaks_is_followed_by_another_for_the_same_run_in_the_same_try(
    host: Host, outside: Outside
) -> None:
    until("the task has looked itself", 60, lambda: "The trigger broke" in host.log(BROKEN))
    host.wait_for(BROKEN, {"deferred"})
    assert host.instance(BROKEN)["try_number"] == 1
    check(host, outside, (BROKEN,))


def test_in_the_end_each_wait_ends_with_its_one_run(host: Host, outside: Outside) -> None:
    for task in ALL:
        outside.finish(runs(outside, task)[0]["run_id"])
    for task in ALL:
        assert host.wait_for(task, {"success", "failed"}) == "success", host.log(task)
        (run,) = runs(outside, task)
        assert host.value(task)["run_id"] == run["run_id"]
        assert run["cancels"] == 0
