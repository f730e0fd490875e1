"""One wait that begins in the triggerer and is over at once."""

from __future__ import annotations

from airflow.sdk import dag

from benchmarks.dags import OURS, given
from runops.airflow import RunSensor


@dag(schedule=None, catchup=False)
def warm() -> None:
    RunSensor(task_id="run", run_id=given(0), start_from_trigger=True, **OURS)


warm()
