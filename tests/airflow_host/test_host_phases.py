"""on_phase in a real Airflow whose triggerers are killed before and after the call: once for each entry, none lost."""

from __future__ import annotations

from typing import Any

import pytest

from tests.airflow_host.host import TASK_OVER, Host, Outside, Task, until

pytestmark = pytest.mark.promise("on_phase calls once each time that a run enters a phase")

RUN = "phases"
OWN, BOTH_ENDS = Task("phases", RUN, "own"), Task("phases", RUN, "both_ends")
TASKS = (OWN, BOTH_ENDS)
TRIGGERERS = ("airflow-triggerer-1", "airflow-triggerer-2")
SECONDS = 120.0


def test_a_killed_triggerer_loses_no_wait_and_no_call_and_repeats_none(host: Host, outside: Outside) -> None:
    host.wait_for_dags(["phases"])
    outside.tell("defaults", provider="b3os", script="running")
    given = outside.tell("runs", provider="b3os", script="running")["run_id"]
    host.trigger("phases", RUN, {"run_id": given})

    def all_deferred() -> bool:
        states = host.states("phases", RUN)
        return all(states.get(task) == "deferred" for task in TASKS)

    def told(task: Task) -> list[str]:
        file = host.pauses / f"{RUN}.{task.task_id}.calls"
        return file.read_text().splitlines() if file.exists() else []

    def is_now(status: str) -> None:
        for run_id in runs:
            outside.tell("set", provider="b3os", run_id=run_id, set={"status": status})

    until("both wait in a triggerer", SECONDS, all_deferred)
    (own,) = [run["run_id"] for run in outside.submitted("b3os", workflow_id="wf_phases")]
    runs: dict[str, Task] = {own: OWN, given: BOTH_ENDS}
    # Seen by nobody, or by a triggerer that dies with it: the next one reads the same rows.
    is_now("waiting")
    host.kill(*TRIGGERERS)
    host.restart(*TRIGGERERS)
    until("both were called for", SECONDS, lambda: all(told(task) for task in TASKS))
    until("both wait again", SECONDS, all_deferred)
    # After the call: the run waits still, and nobody is called again.
    host.kill(*TRIGGERERS)
    host.restart(*TRIGGERERS)
    watched(host, outside, runs)
    is_now("running")
    watched(host, outside, runs)
    is_now("waiting")
    until("both were called for again", SECONDS, lambda: all(len(told(task)) == 2 for task in TASKS))
    is_now("success")
    for run_id, task in runs.items():
        assert host.wait_for(task, TASK_OVER, SECONDS) == "success", host.log(task)
        assert told(task) == [f"{run_id} waiting"] * 2
        assert host.value(task)["outcome"] == "succeeded"
    assert len(outside.submitted("b3os", workflow_id="wf_phases")) == 1
    assert not outside.requests(action="cancel", provider="b3os")


def watched(host: Host, outside: Outside, runs: dict[str, Task]) -> None:
    """Wait until each run was read some times more."""
    before = reads(outside)

    def read_more() -> Any:
        return all(reads(outside)[run_id] >= before[run_id] + 3 for run_id in runs)

    until("the runs are looked at", SECONDS, read_more)


def reads(outside: Outside) -> dict[str, int]:
    return {run["run_id"]: run["reads"] for run in outside.runs()}
