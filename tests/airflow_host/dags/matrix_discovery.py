"""Sensors that find a run by themselves, in DAG runs of each kind."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import Asset, dag

from runops.airflow import B3osWorkflowSensor, NektPipelineSensor, NyxConfigSensor, OnepinWorkflowSensor
from tests.airflow_host.matrix import workflow_of

TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


@dag(
    schedule="@daily",
    start_date=TODAY - timedelta(days=2),
    catchup=True,
    max_active_runs=1,
    is_paused_upon_creation=True,
)
def matrix_daily() -> None:
    NektPipelineSensor(task_id="found", pipeline="matrix-orders", which="next", deferrable=True)


@dag(schedule=None, catchup=False)
def matrix_by_hand() -> None:
    NyxConfigSensor(task_id="found", config_name="matrix-nightly", deferrable=True)
    OnepinWorkflowSensor(
        task_id="found_by_poking", workflow_id=workflow_of("found_by_poking"), deferrable=False, mode="reschedule"
    )


@dag(schedule=[Asset("matrix_asset")], catchup=False)
def matrix_by_asset() -> None:
    B3osWorkflowSensor(task_id="found", workflow_id="wf_matrix_asset", deferrable=True)


matrix_daily()
matrix_by_hand()
matrix_by_asset()
