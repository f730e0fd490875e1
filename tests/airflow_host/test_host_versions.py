"""What holds on each version of Airflow, in a real one on sqlite with one triggerer; ``make airflow-versions``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.processes import Supervisor
from tests.airflow_host.conftest import running
from tests.airflow_host.host import Host, Outside, Task, until
from tests.airflow_host.moments import PARENTS, parent_of

RUN = "versions"
NAMES = [
    "fail_onepin_worker", "fail_b3os_deferred", "clear_nyx_deferred", "reattach_nyx_deferred", "reattach_b3os_deferred",
    "crash_b3os_worker", "crash_nyx_worker", "gives_up_b3os_deferred", "between_b3os_worker",
    "alone_b3os_worker", "whole_b3os_worker",
]  # fmt: skip
CRASHED = [name for name in NAMES if name.startswith("crash")]
DYING = ["alone_b3os_worker", "whole_b3os_worker"]
TURNS = ["first", "second"]
CANCEL_SECONDS = 20.0


def task_of(name: str) -> Task:
    return Task("versions", RUN, name)


def runs(outside: Outside, name: str) -> list[dict[str, Any]]:
    provider = next(word for word in name.split("_") if word in PARENTS)
    return outside.submitted(provider, **{PARENTS[provider]: parent_of(RUN, name)})


def cancelled(outside: Outside, run: dict[str, Any]) -> bool:
    asked = outside.requests(action="cancel", run_id=run["run_id"])
    return any(request["status"] is not None and request["status"] < 300 for request in asked)


@pytest.fixture(scope="module")
def version_host(supervisor: Supervisor, folder: Path, outside: Outside) -> Iterator[Host]:
    """Airflow on sqlite with one triggerer, which soon notices that a worker is gone."""
    own = folder / "versions"
    own.mkdir()
    settings = {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{own}/airflow/airflow.db?timeout=60",
        "AIRFLOW__CORE__PARALLELISM": "12",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "45",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    }
    yield from running(Host(supervisor, own, outside.connections(), settings=settings))


@pytest.fixture(scope="module")
def waiting(version_host: Host, outside: Outside) -> Host:
    """All tasks wait, each on its run; then a person, or a crash, does what each is named after."""
    host = version_host
    host.wait_for_dags(["versions", "versions_turns"])
    host.trigger("versions", RUN, {})
    for run_id in TURNS:
        host.trigger("versions_turns", run_id, {})
    until("each task has submitted", 300, lambda: all(runs(outside, name) for name in NAMES), pause=1.0)
    for name in (*CRASHED, *DYING):
        host.wait_for(task_of(name), {"running"})
        host.kill_task(task_of(name), supervisor=name.startswith("whole"))
    for name in NAMES[:5]:
        host.wait_for(task_of(name), {"running" if name.endswith("worker") else "deferred"})
    # A trigger of a task that has just been deferred is not there to be killed yet.
    before = outside.reads()
    deferred = [parent_of(RUN, name) for name in NAMES[1:5]]
    until("the triggerer watches", 60, lambda: all(outside.reads()[each] > before[each] + 1 for each in deferred))
    for name in NAMES[:2]:
        host.mark(task_of(name), "failed")
    for name in NAMES[2:5]:
        host.clear(task_of(name))
    return host


def again(host: Host, outside: Outside, name: str) -> list[dict[str, Any]]:
    """The runs of a task, once its next try waits for one of them, or has ended."""

    def begun() -> bool:
        tries = host.instance(task_of(name))["try_number"]
        waits = host.state(task_of(name)) in ("running", "deferred")
        return tries > 1 and (waits or host.state(task_of(name)) in ("success", "failed"))

    until(f"the next try of {name}", 120, begun, pause=1.0)
    words = ("Re-attached", "Found by its mark", "Took up", "Submitted", "has discarded")

    def decided() -> bool:
        return any(word in host.log(task_of(name), 2) for word in words)

    until(f"the next try of {name} knows its run", 60, decided, pause=1.0)
    return runs(outside, name)


@pytest.mark.promise("a person marks a running task failed: its run is cancelled")
def test_a_kill_of_a_running_task_cancels(waiting: Host, outside: Outside) -> None:
    (run,) = runs(outside, "fail_onepin_worker")
    until("the run is cancelled", CANCEL_SECONDS, lambda: cancelled(outside, run))


@pytest.mark.promise("a person marks a deferred task failed: its run is cancelled", since="3.3")
def test_a_kill_of_a_deferred_task_cancels(waiting: Host, outside: Outside) -> None:
    (run,) = runs(outside, "fail_b3os_deferred")
    until("the run is cancelled", CANCEL_SECONDS, lambda: cancelled(outside, run))


@pytest.mark.promise("a clear cancels the run of before and submits a new one (Nyx)")
def test_a_clear_cancels_and_submits_anew(waiting: Host, outside: Outside) -> None:
    first, second = again(waiting, outside, "clear_nyx_deferred")
    until("the run is cancelled", CANCEL_SECONDS, lambda: cancelled(outside, first))
    assert not cancelled(outside, second)


@pytest.mark.promise('a clear with on_clear="reattach" goes on with the run of before (Nyx, by its mark)')
def test_a_clear_that_re_attaches_finds_the_run_by_its_mark(waiting: Host, outside: Outside) -> None:
    (run,) = again(waiting, outside, "reattach_nyx_deferred")
    assert not cancelled(outside, run)


@pytest.mark.promise('a clear with on_clear="reattach" submits nothing beside a run that may live (B3OS)', since="3.3")
def test_a_clear_that_re_attaches_submits_nothing_beside_the_live_run(waiting: Host, outside: Outside) -> None:
    (run,) = again(waiting, outside, "reattach_b3os_deferred")
    assert not cancelled(outside, run)


@pytest.mark.promise("a retry after a crash of the worker finds its run (Nyx, by its mark)")
def test_a_retry_after_a_crash_finds_its_run_by_its_mark(waiting: Host, outside: Outside) -> None:
    assert len(again(waiting, outside, "crash_nyx_worker")) == 1


@pytest.mark.promise("a retry after a crash of the worker finds its run (B3OS, by the task state)", since="3.3")
def test_a_retry_after_a_crash_finds_its_run_by_its_record(waiting: Host, outside: Outside) -> None:
    assert len(again(waiting, outside, "crash_b3os_worker")) == 1


@pytest.mark.promise("cancel_on_failure: a task that fails for good cancels its run")
def test_a_task_that_fails_for_good_cancels_its_run(waiting: Host, outside: Outside) -> None:
    waiting.wait_for(task_of("gives_up_b3os_deferred"), {"failed"}, 180)
    (run,) = runs(outside, "gives_up_b3os_deferred")
    until("the run is cancelled", CANCEL_SECONDS, lambda: cancelled(outside, run))


@pytest.mark.promise(
    "a person marks a task failed between two tries: its run is cancelled",
    missing="Airflow has no process and no trigger then that could hear of it; `runops orphans` finds the run",
)
def test_a_kill_between_two_tries_cancels(waiting: Host, outside: Outside) -> None:
    task = task_of("between_b3os_worker")
    waiting.wait_for(task, {"up_for_retry"}, 120)
    waiting.mark(task, "failed")
    (run,) = runs(outside, "between_b3os_worker")
    until("the run is cancelled", CANCEL_SECONDS, lambda: cancelled(outside, run))


@pytest.mark.promise("cancel_on_failure: the whole worker dies on the last try: its run is cancelled")
def test_a_worker_that_dies_for_good_has_its_run_cancelled(waiting: Host, outside: Outside) -> None:
    waiting.wait_for(task_of("whole_b3os_worker"), {"failed"}, 180)
    (run,) = runs(outside, "whole_b3os_worker")
    until("the run is cancelled", 60, lambda: cancelled(outside, run))


@pytest.mark.promise(
    "cancel_on_failure: the task's process dies on the last try: its run is cancelled",
    missing="Airflow calls no callback then; `runops orphans` finds the run",
)
def test_a_task_process_that_dies_for_good_has_its_run_cancelled(waiting: Host, outside: Outside) -> None:
    waiting.wait_for(task_of("alone_b3os_worker"), {"failed"}, 120)
    (run,) = runs(outside, "alone_b3os_worker")
    until("the run is cancelled", CANCEL_SECONDS, lambda: cancelled(outside, run))


@pytest.mark.promise("two DAG runs on one parent take turns and both succeed (Nyx, deferrable)")
def test_two_dag_runs_take_turns(waiting: Host, outside: Outside) -> None:
    for run_id in TURNS:
        task = Task("versions_turns", run_id, "nyx_deferred")
        assert waiting.wait_for(task, {"success", "failed"}, 200) == "success", waiting.log(task)
    assert len(outside.submitted("nyx", config_name="one-at-a-time")) == len(TURNS)
