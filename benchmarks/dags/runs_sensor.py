"""One sensor that waits for many runs that are there already."""

from __future__ import annotations

from airflow.sdk import dag

from benchmarks.dags import OURS, RUNS, given
from runops.airflow import RunsSensor


@dag(schedule=None, catchup=False)
def runs_sensor() -> None:
    RunsSensor(task_id="runs", run_ids=[given(number) for number in range(RUNS)], **OURS)


runs_sensor()
