"""Databricks' deferrable operator, mapped, with its provider's released code."""

from __future__ import annotations

import importlib

from airflow.sdk import dag

from benchmarks.dags import CADENCE, TASKS

OPERATOR = importlib.import_module("airflow.providers.databricks.operators.databricks").DatabricksSubmitRunOperator


@dag(schedule=None, catchup=False)
def databricks() -> None:
    OPERATOR.partial(
        task_id="run",
        databricks_conn_id="databricks_bench",
        deferrable=True,
        polling_period_seconds=CADENCE,
        existing_cluster_id="bench",
    ).expand(notebook_task=[{"notebook_path": f"/bench/{number}"} for number in range(TASKS)])


databricks()
