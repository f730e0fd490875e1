"""One sensor begun and ended in the triggerer: a triggerer's first one pays for imports, and for what answers it."""

from __future__ import annotations

from airflow.sdk import dag

from benchmarks.dags import OURS, given
from runops.airflow import RunSensor

BOTH = {**OURS, "start_from_trigger": True, "end_from_trigger": True}


@dag(schedule=None, catchup=False)
def warm_triggerer() -> None:
    RunSensor(task_id="run", run_id=given(0), **BOTH)


warm_triggerer()
