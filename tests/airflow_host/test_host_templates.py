"""A sensor with ``start_from_trigger`` ends with its run whatever its templates call, in a real Airflow."""

from __future__ import annotations

import time

import pytest

from tests.airflow_host.host import TASK_OVER, Host, Outside, Task
from tests.airflow_host.templates import IN_TRIGGERER, ON_WORKER

RUN = "templates"
TASKS = (*IN_TRIGGERER, *ON_WORKER, "never")
BEGINS = "start_from_trigger is set, but the task begins on a worker"


def the(task_id: str) -> Task:
    return Task("templates", RUN, task_id)


@pytest.fixture(scope="module")
def waited_for(host: Host, outside: Outside) -> str:
    """The run that all tasks wait for, after they have ended."""
    run_id = outside.tell("runs", provider="nyx", script="succeeded", seconds=1)["run_id"]
    host.wait_for_dags(["templates"])
    host.ask("POST", "/api/v2/variables", body={"key": "templates_run", "value": run_id}, expect=(201,))
    host.trigger("templates", RUN, {"run": run_id})
    limit = time.monotonic() + 150
    while True:
        states = host.states("templates", RUN)
        left = [task.task_id for task in map(the, TASKS) if states.get(task) not in TASK_OVER]
        if not left:
            return run_id
        assert time.monotonic() < limit, f"not over: {left}"
        time.sleep(0.5)


@pytest.mark.parametrize("task_id", IN_TRIGGERER)
def test_what_a_triggerer_can_render_never_sees_a_worker_before_the_end(
    host: Host, waited_for: str, task_id: str
) -> None:
    log = host.log(the(task_id))
    assert host.state(the(task_id)) == "success", log
    assert host.value(the(task_id), "run_id") == waited_for
    assert BEGINS not in log


@pytest.mark.parametrize("task_id", ON_WORKER)
def test_what_a_triggerer_cannot_render_begins_on_a_worker_and_the_log_says_why(
    host: Host, waited_for: str, task_id: str
) -> None:
    log = host.log(the(task_id))
    _, why = ON_WORKER[task_id]
    assert host.state(the(task_id)) == "success", log
    assert host.value(the(task_id), "run_id") == waited_for
    assert log.count(BEGINS) == 1
    assert why in log


def test_a_template_that_nobody_can_render_fails_at_once_and_says_so(host: Host, waited_for: str) -> None:
    log = host.log(the("never"))
    assert host.state(the("never")) == "failed", log
    assert "could not be rendered in the triggerer" in log
    assert "nobody_gave_this" in log


def test_no_triggerer_is_ended_by_any_of_them(host: Host, waited_for: str) -> None:
    host.wait_until_healthy()
    assert all(host.components[name].process.poll() is None for name in host.triggerers)
