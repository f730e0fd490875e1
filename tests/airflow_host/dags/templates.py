"""Sensors that are to begin in the triggerer, each with another template."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param, dag, task

from runops.airflow import NyxRunSensor
from tests.airflow_host import templates as cases


def same(text: str) -> str:
    return text


def sensor(task_id: str, run_id: str, **more: Any) -> Any:
    return NyxRunSensor(task_id=task_id, run_id=run_id, deferrable=True, start_from_trigger=True, timeout=600, **more)


@dag(
    schedule=None,
    catchup=False,
    default_args={"retries": 0},
    params={"run": Param("", type="string")},
    user_defined_macros={"same": same},
    user_defined_filters={"twisted": same},
)
def templates() -> None:
    @task
    def source(dag_run: Any = None) -> str:
        return dag_run.conf["run"]

    first = source()
    for task_id, template in cases.IN_TRIGGERER.items():
        sensor(task_id, template)
    for task_id, (template, _) in cases.ON_WORKER.items():
        # The DAG run gives a text for it. A triggerer finds that out where it ends it, and all that it waits for.
        params = {"number": Param(1, type="integer")} if task_id == "param" else {}
        first >> sensor(task_id, template, params=params)
    sensor("never", cases.NEVER)


templates()
