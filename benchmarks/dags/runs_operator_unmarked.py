"""One operator that submits many runs that bear no mark, and that no list shows: one POST at a time, each recorded."""

from __future__ import annotations

from airflow.sdk import dag

from benchmarks.dags import OURS, RUNS
from runops.airflow import RunsOperator


@dag(schedule=None, catchup=False)
def runs_operator_unmarked() -> None:
    RunsOperator(
        task_id="runs",
        calls=[{"engine_slug": "placement", "input": {"number": number}} for number in range(RUNS)],
        max_active=RUNS,
        **OURS,
    )


runs_operator_unmarked()
