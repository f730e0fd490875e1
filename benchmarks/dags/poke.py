"""Our sensor in poke mode: each task holds a worker for all of its wait."""

from __future__ import annotations

from airflow.sdk import dag

from benchmarks.dags import OURS, TASKS, given
from runops.airflow import RunSensor

POKE = {**OURS, "deferrable": False}


@dag(schedule=None, catchup=False)
def poke() -> None:
    for number in range(TASKS):
        RunSensor(task_id=f"run_{number}", run_id=given(number), **POKE)


poke()
