"""What a person kills or clears ends outside too, within seconds; what he only wants moved does not."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.airflow_host.host import Host, Outside, Task, until
from tests.airflow_host.moments import PARENTS, parent_of

RUN, RUN_LEVEL = "people", "people-run"
CANCEL_SECONDS = 10.0

DEEDS: dict[str, Callable[[Host, Task], None]] = {
    "fail": lambda host, task: host.mark(task, "failed"),
    "succeed": lambda host, task: host.mark(task, "success"),
    "clear": lambda host, task: host.clear(task),
    "reattach": lambda host, task: host.clear(task),
    "spare": lambda host, task: host.mark(task, "failed"),
}
"""What happens to a task, by the first word of its name."""

CANCELLED = [
    *(f"{deed}_{provider}_deferred" for deed in ("fail", "succeed", "clear") for provider in ("nyx", "onepin", "b3os")),
    "fail_onepin_worker", "succeed_b3os_worker", "clear_nyx_worker",
]  # fmt: skip
SPARED = ["reattach_onepin_deferred", "reattach_onepin_worker", "spare_nyx_deferred"]
MAPPED = [Task("people", RUN, "mapped_onepin_deferred", index) for index in range(2)]
RUN_TASKS = ["nyx_deferred", "onepin_deferred", "b3os_worker"]


def provider_of(task: Task) -> str:
    return next(word for word in task.task_id.split("_") if word in PARENTS)


def runs(outside: Outside, task: Task) -> list[dict[str, Any]]:
    provider = provider_of(task)
    return outside.submitted(provider, **{PARENTS[provider]: parent_of(task.run_id, task.task_id)})


def accepted(outside: Outside, run_id: str) -> list[float]:
    """When cancels of a run were accepted."""
    asked = outside.requests(action="cancel", run_id=run_id)
    return [request["time"] for request in asked if request["status"] is not None and request["status"] < 300]


@pytest.fixture(scope="module")
def struck(host: Host, outside: Outside) -> dict[Task, float]:
    """When a person did to each task what it is named after."""
    host.wait_for_dags(["people", "people_run"])
    host.trigger("people", RUN, {})
    host.trigger("people_run", RUN_LEVEL, {})
    single = [Task("people", RUN, name) for name in CANCELLED + SPARED]
    whole = [Task("people_run", RUN_LEVEL, name) for name in RUN_TASKS]

    parents = {task: parent_of(task.run_id, task.task_id) for task in single + whole}

    def all_wait() -> bool:
        states = host.states("people", RUN) | host.states("people_run", RUN_LEVEL)
        reads = outside.reads()
        return all(
            states.get(task) == ("deferred" if task.task_id.endswith("deferred") else "running") and parent in reads
            for task, parent in parents.items()
        )

    until("all tasks wait", 240, all_wait, pause=1.0)
    before = outside.reads()

    def all_watched() -> bool:
        reads = outside.reads()
        return all(reads[parent] > before[parent] for parent in parents.values())

    until("all runs are watched", 60, all_watched)
    until("both mapped tasks wait", 60, lambda: all(host.state(task) == "deferred" for task in MAPPED))
    at: dict[Task, float] = {}
    for task in single:
        at[task] = time.time()
        DEEDS[task.task_id.partition("_")[0]](host, task)
    at[MAPPED[1]] = time.time()
    host.mark(MAPPED[1], "failed")
    now = time.time()
    host.mark_dag_run("people_run", RUN_LEVEL, "failed")
    at |= dict.fromkeys(whole, now)
    return at


def cancelled_within(outside: Outside, task: Task, struck: dict[Task, float]) -> float:
    run_id = runs(outside, task)[0]["run_id"]
    until(f"the run of {task} is cancelled", CANCEL_SECONDS + 5, lambda: accepted(outside, run_id))
    return accepted(outside, run_id)[0] - struck[task]


@pytest.mark.parametrize("name", CANCELLED)
def test_a_person_s_deed_cancels_the_run_within_ten_seconds(
    host: Host, outside: Outside, struck: dict[Task, float], name: str
) -> None:
    task = Task("people", RUN, name)
    took = cancelled_within(outside, task, struck)
    print(f"{name}: {took:.1f} s")
    assert took <= CANCEL_SECONDS, host.log(task)


@pytest.mark.parametrize("name", RUN_TASKS)
def test_a_failed_dag_run_cancels_the_runs_of_its_tasks_within_ten_seconds(
    host: Host, outside: Outside, struck: dict[Task, float], name: str
) -> None:
    task = Task("people_run", RUN_LEVEL, name)
    took = cancelled_within(outside, task, struck)
    print(f"DAG run failed, {name}: {took:.1f} s")
    assert took <= CANCEL_SECONDS, host.log(task)


def test_a_killed_mapped_task_cancels_its_own_run_and_no_other(
    host: Host, outside: Outside, struck: dict[Task, float]
) -> None:
    spared, killed = (outside.submitted("onepin", workflow_id=parent_of(RUN, f"mapped-{index}")) for index in range(2))
    until("the run is cancelled", CANCEL_SECONDS + 5, lambda: accepted(outside, killed[0]["run_id"]))
    assert accepted(outside, killed[0]["run_id"])[0] - struck[MAPPED[1]] <= CANCEL_SECONDS
    assert not accepted(outside, spared[0]["run_id"])
    assert host.state(MAPPED[0]) == "deferred"
    outside.finish(spared[0]["run_id"])


@pytest.mark.parametrize(
    ("name", "before"), [("finished_b3os_worker", "success"), ("retrying_nexio_worker", "up_for_retry")]
)
def test_a_clear_of_a_task_that_has_ended_or_waits_for_its_retry_submits_anew(
    host: Host, outside: Outside, struck: dict[Task, float], name: str, before: str
) -> None:
    task = Task("people", RUN, name)
    host.wait_for(task, {before})
    assert len(runs(outside, task)) == 1
    host.clear(task)
    until(f"{task} submits anew", 60, lambda: len(runs(outside, task)) == 2)
    first, second = runs(outside, task)
    outside.finish(second["run_id"])
    assert host.wait_for(task, {"success", "failed"}) == "success", host.log(task)
    assert host.value(task)["run_id"] == second["run_id"] != first["run_id"]


@pytest.mark.parametrize("name", [name for name in CANCELLED if name.startswith("clear")])
def test_a_clear_submits_anew_and_waits_for_the_new_run(
    host: Host, outside: Outside, struck: dict[Task, float], name: str
) -> None:
    task = Task("people", RUN, name)
    until(f"{task} submits anew", 60, lambda: len(runs(outside, task)) == 2)
    first, second = runs(outside, task)
    outside.finish(second["run_id"])
    assert host.wait_for(task, {"success", "failed"}) == "success", host.log(task)
    assert host.value(task)["run_id"] == second["run_id"]
    assert accepted(outside, first["run_id"])
    assert not accepted(outside, second["run_id"])


@pytest.mark.parametrize("name", SPARED[:2])
def test_a_clear_that_re_attaches_never_cancels(
    host: Host, outside: Outside, struck: dict[Task, float], name: str
) -> None:
    task = Task("people", RUN, name)

    def begun_again() -> bool:
        return "Re-attached" in host.log(task)

    until(f"{task} re-attaches", 60, begun_again)
    (run,) = runs(outside, task)
    outside.finish(run["run_id"])
    assert host.wait_for(task, {"success", "failed"}) == "success", host.log(task)
    assert run["cancels"] == 0
    assert len(runs(outside, task)) == 1


def test_without_cancel_on_kill_the_run_lives_on(host: Host, outside: Outside, struck: dict[Task, float]) -> None:
    task = Task("people", RUN, "spare_nyx_deferred")
    until("the trigger is gone", 30, lambda: "Trigger cancelled by user action" in host.log(task))
    (run,) = runs(outside, task)
    assert (run["cancels"], run["over"]) == (0, False)
