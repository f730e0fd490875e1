"""Our sensor in reschedule mode: each look of each task has a worker of its own."""

from __future__ import annotations

from airflow.sdk import dag

from benchmarks.dags import OURS, TASKS, given
from runops.airflow import RunSensor

RESCHEDULE = {**OURS, "deferrable": False, "mode": "reschedule"}


@dag(schedule=None, catchup=False)
def reschedule() -> None:
    for number in range(TASKS):
        RunSensor(task_id=f"run_{number}", run_id=given(number), **RESCHEDULE)


reschedule()
