"""The host of these tests can be trusted: it runs tasks, and its two triggerers are two."""

from __future__ import annotations

from tests.airflow_host.host import Host, Outside, Task


def test_a_run_is_submitted_watched_in_the_triggerer_and_ends(host: Host, outside: Outside) -> None:
    host.wait_for_dags(["probe"])
    task = Task("probe", "itself", "audit")
    host.trigger(task.dag_id, task.run_id, {})
    host.wait_for(task, {"deferred"})
    assert host.triggerer_of(task) is not None or host.state(task) == "deferred"
    assert host.wait_for(task, {"success", "failed"}) == "success", host.log(task)
    assert host.value(task)["outcome"] == "succeeded"
    assert len(outside.submitted("nyx", config_name="probe")) == 1
