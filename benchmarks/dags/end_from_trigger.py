"""Our sensor begun on a worker and ended in the triggerer."""

from __future__ import annotations

from airflow.sdk import dag

from benchmarks.dags import OURS, TASKS, given
from runops.airflow import RunSensor

END = {**OURS, "end_from_trigger": True}


@dag(schedule=None, catchup=False)
def end_from_trigger() -> None:
    for number in range(TASKS):
        RunSensor(task_id=f"run_{number}", run_id=given(number), **END)


end_from_trigger()
