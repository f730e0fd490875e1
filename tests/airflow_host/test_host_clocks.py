"""Both clocks hold while a task is deferred, each with its own end; and a gate is not tried until it is content."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import pytest

from tests.airflow_host.host import TASK_OVER, Host, Outside, Task
from tests.airflow_host.moments import PARENTS, parent_of

RUN = "clocks"
TASKS = (
    "gate", "execution_timeout_nyx_deferred", "execution_timeout_nexio_deferred", "execution_timeout_onepin_worker",
    "timeout_b3os_deferred", "timeout_nexio_deferred", "timeout_onepin_worker", "timeout_skips",
)  # fmt: skip


def the(task_id: str) -> Task:
    return Task("clocks", RUN, task_id)


@pytest.fixture(scope="module")
def ended(host: Host) -> Host:
    """The host, after every try of the DAG run has ended."""
    host.wait_for_dags(["clocks"])
    host.trigger("clocks", RUN, {})
    limit = time.monotonic() + 120
    while True:
        states = host.states("clocks", RUN)
        left = [task for task in map(the, TASKS) if states[task] not in TASK_OVER | {"up_for_retry"}]
        if not left:
            return host
        assert time.monotonic() < limit, {task.task_id: states[task] for task in left}
        time.sleep(0.5)


BUSY = 28
"""Seconds that a busy machine may add to a limit: a limit that began anew somewhere would add as much again."""


def runs(outside: Outside, provider: str, task_id: str) -> list[dict[str, Any]]:
    return outside.submitted(provider, **{PARENTS[provider]: parent_of(RUN, task_id)})


def seconds_of_first_try(host: Host, task: Task) -> float:
    first = host.tries(task)[0]
    return (datetime.fromisoformat(first["end_date"]) - datetime.fromisoformat(first["start_date"])).total_seconds()


def test_a_gate_that_finds_a_vulnerability_submits_once_and_fails_whatever_its_retries(
    ended: Host, outside: Outside
) -> None:
    gate = the("gate")
    assert ended.state(gate) == "failed", ended.log(gate)
    assert ended.instance(gate)["try_number"] == 1
    assert len(runs(outside, "nyx", "gate")) == 1
    result = ended.value(gate)
    assert (result["outcome"], result["verdict"]) == ("succeeded", "fail")
    assert "RunRejected" in ended.log(gate)


@pytest.mark.parametrize(("provider", "where"), [("nyx", "deferred"), ("nexio", "deferred"), ("onepin", "worker")])
def test_execution_timeout_ends_a_try_as_a_retryable_failure(
    ended: Host, outside: Outside, provider: str, where: str
) -> None:
    task = the(f"execution_timeout_{provider}_{where}")
    assert ended.state(task) == "up_for_retry", ended.log(task)
    assert 30 <= seconds_of_first_try(ended, task) < 30 + BUSY
    result = ended.value(task)
    assert (result["outcome"], result["ended_by"]) == ("timed_out", "execution_timeout")
    (run,) = runs(outside, provider, task.task_id)
    # cancel_on_timeout is on, and Nexio has no cancel.
    assert run["cancels"] == (0 if provider == "nexio" else 1)
    print(task.task_id, seconds_of_first_try(ended, task))


@pytest.mark.parametrize(("provider", "where"), [("b3os", "deferred"), ("nexio", "deferred"), ("onepin", "worker")])
def test_timeout_ends_the_wait_with_the_timed_out_verdict(
    ended: Host, outside: Outside, provider: str, where: str
) -> None:
    task = the(f"timeout_{provider}_{where}")
    assert ended.state(task) == "failed", ended.log(task)
    assert 28 <= seconds_of_first_try(ended, task) < 28 + BUSY
    result = ended.value(task)
    assert (result["outcome"], result["verdict"], result["ended_by"]) == ("timed_out", "fail", "timeout")
    assert not result["run_ended"]
    (run,) = runs(outside, provider, task.task_id)
    assert run["cancels"] == (0 if provider == "nexio" else 1)


def test_a_timeout_is_what_the_user_calls_it_and_leaves_the_run_where_he_says_so(ended: Host, outside: Outside) -> None:
    task = the("timeout_skips")
    assert ended.state(task) == "skipped", ended.log(task)
    assert ended.value(task)["verdict"] == "skip"
    (run,) = runs(outside, "onepin", task.task_id)
    assert (run["cancels"], run["over"]) == (0, False)
