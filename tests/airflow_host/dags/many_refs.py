"""Sensors of ten thousand runs each, in three ways to wait."""

from __future__ import annotations

from airflow.sdk import dag, get_current_context, task

from runops.airflow import NexioRunsSensor
from tests.airflow_host.refs import ids_of


@dag(schedule=None, catchup=False)
def many_refs() -> None:
    @task
    def ids() -> list[str]:
        conf = get_current_context()["dag_run"].conf or {}
        return ids_of(conf["deferred"], conf["count"])

    @task
    def polled_ids() -> list[str]:
        conf = get_current_context()["dag_run"].conf or {}
        return ids_of(conf["polled"], conf["count"] // 2)

    NexioRunsSensor(task_id="deferred", run_ids=ids(), deferrable=True, poke_interval=60)
    NexioRunsSensor(
        task_id="started",
        run_ids="{{ dag_run.conf['ids'] | tojson }}",
        deferrable=True,
        start_from_trigger=True,
        poke_interval=60,
    )
    NexioRunsSensor(
        task_id="polled", run_ids=polled_ids(), deferrable=False, mode="reschedule", poke_interval=20, require=0.5
    )


many_refs()
