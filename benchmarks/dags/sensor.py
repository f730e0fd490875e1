"""Our deferrable sensor: each task waits for one run that is there already, and has a worker before and after."""

from __future__ import annotations

from airflow.sdk import dag

from benchmarks.dags import OURS, TASKS, given
from runops.airflow import RunSensor


@dag(schedule=None, catchup=False)
def sensor() -> None:
    for number in range(TASKS):
        RunSensor(task_id=f"run_{number}", run_id=given(number), **OURS)


sensor()
