"""dbt Cloud's deferrable operator, mapped, with its provider's released code."""

from __future__ import annotations

import importlib

from airflow.sdk import dag

from benchmarks.dags import CADENCE, TASKS

OPERATOR = importlib.import_module("airflow.providers.dbt.cloud.operators.dbt").DbtCloudRunJobOperator


@dag(schedule=None, catchup=False)
def dbt_cloud() -> None:
    OPERATOR.partial(
        task_id="run", dbt_cloud_conn_id="dbt_bench", job_id=3, deferrable=True, check_interval=CADENCE
    ).expand(trigger_reason=[f"run {number}" for number in range(TASKS)])  # fmt: skip


dbt_cloud()
