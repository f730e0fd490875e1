"""Four waits that do nothing, in a file that imports nothing of ours."""

from __future__ import annotations

from airflow.sdk import dag

from tests.airflow_host.load import EmptyOperator


@dag(schedule=None, catchup=False)
def load_empty() -> None:
    for number in range(4):
        EmptyOperator(task_id=f"empty_{number}")


load_empty()
