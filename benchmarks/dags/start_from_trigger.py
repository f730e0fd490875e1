"""Our sensor begun in the triggerer: a worker at the end only."""

from __future__ import annotations

from airflow.sdk import dag

from benchmarks.dags import OURS, TASKS, given
from runops.airflow import RunSensor


@dag(schedule=None, catchup=False)
def start_from_trigger() -> None:
    for number in range(TASKS):
        RunSensor(task_id=f"run_{number}", run_id=given(number), start_from_trigger=True, **OURS)


start_from_trigger()
