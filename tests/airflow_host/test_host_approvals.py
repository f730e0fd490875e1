"""The example in which a person decides, in a real Airflow: approved, rejected and not asked, by its REST API."""

from __future__ import annotations

import time
from typing import Any

import pytest

from runops.airflow.task_base import EARLIEST_SECONDS
from tests.airflow_host.host import TASK_OVER, Host, Outside, Task, until

DAG = "example_approval"
WORKFLOWS = {
    "approved": "11111111-1111-4111-8111-111111111111",
    "rejected": "22222222-2222-4222-8222-222222222222",
    "unasked": "33333333-3333-4333-8333-333333333333",
}
ANSWERS = {"approved": "Approve", "rejected": "Reject"}
QUESTIONS = ("may_it_go_on", "try_again")
DOWNSTREAM = ("may_it_go_on", "go_on", "spoken", "stop", "try_again", "pay_out_again", "look_into_it")


def payouts(run: str) -> str:
    return f"wf_{run}"


def answer(host: Host, task: Task, option: str) -> None:
    """What a person does under Required Actions."""
    path = f"/api/v2/dags/{task.dag_id}/dagRuns/{task.run_id}/taskInstances/{task.task_id}/-1/hitlDetails"
    host.ask("PATCH", path, body={"chosen_options": [option], "params_input": {}})


def asks(host: Host, task: Task) -> bool:
    """Whether a task is waiting for its answer: one that comes before it has left its worker would be lost on it."""
    state = host.state(task)
    assert state not in TASK_OVER, (host.states(task.dag_id, task.run_id), host.log(task))
    return state in ("awaiting_input", "deferred")


@pytest.fixture(scope="module")
def decided(sqlite_host: Host, outside: Outside) -> Host:
    """Three runs of the example: each question approved, rejected, and never asked."""
    host = sqlite_host
    host.wait_for_dags([DAG])
    for run, workflow in WORKFLOWS.items():
        asked = run in ANSWERS
        conf: dict[str, Any] = {
            "workflow_id": workflow,
            "script_text": f"emulator:{'paused' if asked else 'succeeded'} seconds=1",
            "payout_workflow_id": payouts(run),
            "payload": {"emulator": {"script": "failed" if asked else "succeeded", "seconds": 1}},
        }
        host.trigger("example_approval", run, conf)
    questions = [Task(DAG, run, question) for run in ANSWERS for question in QUESTIONS]
    for task in questions:
        until(f"{task} asks", 120, lambda task=task: asks(host, task))
    # As with a trigger that fires too soon: a task that is resumed before the scheduler has seen it leave its worker is
    # failed by Airflow. Nobody answers so fast.
    time.sleep(EARLIEST_SECONDS)
    # Nothing goes on before somebody has answered.
    for run in ANSWERS:
        sent = outside.requests(method="POST", path_contains=WORKFLOWS[run])
        assert [entry["action"] for entry in sent] == ["submit"]
        assert len(outside.submitted("b3os", workflow_id=payouts(run))) == 1
    for task in questions:
        answer(host, task, ANSWERS[task.run_id])

    def over() -> bool:
        states = host.states(DAG)
        return len(states) >= len(WORKFLOWS) * (len(DOWNSTREAM) + 4) and all(
            each in TASK_OVER for each in states.values()
        )

    until("all tasks are over", 180, over)
    for task in questions:
        assert host.state(task) == "success", host.log(task)
    return host


def states(host: Host, run: str) -> dict[str, str]:
    return {task.task_id: state for task, state in host.states(DAG, run).items()}


def test_an_approval_resumes_the_paused_run_and_waits_for_its_end(decided: Host, outside: Outside) -> None:
    found = states(decided, "approved")
    assert {name: found[name] for name in ("speak", "may_it_go_on", "go_on", "spoken", "stop")} == {
        "speak": "success",
        "may_it_go_on": "success",
        "go_on": "success",
        "spoken": "success",
        "stop": "skipped",
    }
    (run,) = outside.submitted("onepin", workflow_id=WORKFLOWS["approved"])
    assert (run["status"], run["resumes"], run["cancels"]) == ("completed", 1, 0)
    assert decided.value(Task(DAG, "approved", "speak"))["ended_by"] == "max_paused"
    assert decided.value(Task(DAG, "approved", "spoken"))["run_id"] == run["run_id"]


def test_a_rejection_cancels_it_and_resumes_nothing(decided: Host, outside: Outside) -> None:
    found = states(decided, "rejected")
    assert [found[name] for name in ("may_it_go_on", "go_on", "spoken", "stop")] == [
        "success", "skipped", "skipped", "success"
    ]  # fmt: skip
    (run,) = outside.submitted("onepin", workflow_id=WORKFLOWS["rejected"])
    assert (run["status"], run["resumes"], run["cancels"]) == ("cancelled", 0, 1)


def test_an_approval_retries_the_failed_run_once_and_waits_for_the_new_one(decided: Host, outside: Outside) -> None:
    found = states(decided, "approved")
    assert [found[name] for name in ("pay_out", "try_again", "pay_out_again", "look_into_it")] == [
        "success", "success", "success", "skipped"
    ]  # fmt: skip
    first, second = outside.submitted("b3os", workflow_id=payouts("approved"))
    assert len(outside.requests(action="retry", run_id=first["run_id"])) == 1
    assert decided.value(Task(DAG, "approved", "pay_out_again"))["run_id"] == second["run_id"]
    assert second["status"] == "success"


def test_a_rejection_leaves_the_failed_run_as_it_is(decided: Host, outside: Outside) -> None:
    found = states(decided, "rejected")
    assert [found[name] for name in ("try_again", "pay_out_again", "look_into_it")] == ["success", "skipped", "success"]
    (only,) = outside.submitted("b3os", workflow_id=payouts("rejected"))
    assert only["status"] == "failure"


def test_nobody_is_asked_where_nothing_stands_still(decided: Host, outside: Outside) -> None:
    found = states(decided, "unasked")
    assert {name: found[name] for name in DOWNSTREAM} == dict.fromkeys(DOWNSTREAM, "skipped")
    assert len(outside.submitted("b3os", workflow_id=payouts("unasked"))) == 1
