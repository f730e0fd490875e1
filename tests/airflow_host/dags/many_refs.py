"""Sensors of ten thousand runs each, in three ways to wait."""

from __future__ import annotations

from typing import Any

from airflow.sdk import dag, get_current_context, task

from runops.airflow import NexioRunsSensor
from tests.airflow_host.refs import ids_of


def conf() -> dict[str, Any]:
    """What the DAG run was given."""
    run: Any = get_current_context().get("dag_run")
    return run.conf or {}


@dag(schedule=None, catchup=False)
def many_refs() -> None:
    @task
    def ids() -> list[str]:
        return ids_of(conf()["deferred"], conf()["count"])

    @task
    def polled_ids() -> list[str]:
        return ids_of(conf()["polled"], conf()["count"] // 2)

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
