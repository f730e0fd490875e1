"""Our deferrable operator, mapped: each task submits one run and waits for it in the triggerer."""

from __future__ import annotations

from airflow.sdk import dag

from benchmarks.dags import OURS, TASKS
from runops.airflow import RunOperator


@dag(schedule=None, catchup=False)
def deferrable() -> None:
    RunOperator.partial(task_id="run", **OURS).expand(
        arguments=[{"engine_slug": "placement", "input": {"number": number}} for number in range(TASKS)]
    )


deferrable()
