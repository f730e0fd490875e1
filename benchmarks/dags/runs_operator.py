"""One operator that submits many runs and waits for all of them."""

from __future__ import annotations

from airflow.sdk import dag

from benchmarks.dags import OURS, RUNS
from runops.airflow import RunsOperator


@dag(schedule=None, catchup=False)
def runs_operator() -> None:
    RunsOperator(
        task_id="runs",
        calls=[{"engine_slug": "placement", "input": {"number": number}} for number in range(RUNS)],
        max_active=RUNS,
        **OURS,
    )


runs_operator()
