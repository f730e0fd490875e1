"""Our sensor begun and ended in the triggerer: no worker at all."""

from __future__ import annotations

from airflow.sdk import dag

from benchmarks.dags import OURS, TASKS, given
from runops.airflow import RunSensor

BOTH = {**OURS, "start_from_trigger": True, "end_from_trigger": True}


@dag(schedule=None, catchup=False)
def both_ends() -> None:
    for number in range(TASKS):
        RunSensor(task_id=f"run_{number}", run_id=given(number), **BOTH)


both_ends()
