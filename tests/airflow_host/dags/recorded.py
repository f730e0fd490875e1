"""Two waits whose records the page "External runs" shows: one that a worker hands over, one that no worker begins."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import dag

from runops.airflow import OnepinRunSensor
from tests.leaks.private_fields import WORKFLOW


@dag(schedule=None, catchup=False, default_args={"retries": 0})
def recorded() -> None:
    for task_id, begins_there in (("handed_over", False), ("begun_there", True)):
        OnepinRunSensor(
            task_id=task_id,
            workflow_id=WORKFLOW,
            run_id=f"{{{{ dag_run.conf['{task_id}'] }}}}",
            deferrable=True,
            poke_interval=2,
            max_wait=timedelta(seconds=2),
            start_from_trigger=begins_there,
            end_from_trigger=begins_there,
        )


recorded()
