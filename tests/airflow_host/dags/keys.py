"""Waits under which keys are rotated: some begin in the triggerer, some are handed over by a worker."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import dag

from runops.airflow import (
    B3osRunOperator,
    B3osRunSensor,
    NektRunSensor,
    NexioRunOperator,
    NexioRunSensor,
    NyxRunSensor,
    OnepinRunSensor,
)
from tests.leaks.private_fields import WORKFLOW

SENSORS: dict[str, type[Any]] = {
    "nexio": NexioRunSensor,
    "nyx": NyxRunSensor,
    "onepin": OnepinRunSensor,
    "b3os": B3osRunSensor,
    "nekt": NektRunSensor,
}
EACH = 2


def waits(dag_id: str, **how: Any) -> None:
    @dag(dag_id=dag_id, schedule=None, catchup=False, default_args={"retries": 0})
    def of_all_services() -> None:
        for provider, sensor in SENSORS.items():
            for number in range(EACH):
                task_id = f"{provider}_{number}"
                sensor(
                    task_id=task_id,
                    run_id=f"{{{{ dag_run.conf['{task_id}'] }}}}",
                    deferrable=True,
                    poke_interval=5,
                    max_wait=timedelta(seconds=5),
                    **({"workflow_id": WORKFLOW} if provider == "onepin" else {}),
                    **how,
                )

    of_all_services()


@dag(schedule=None, catchup=False, default_args={"retries": 0})
def keys_few() -> None:
    NexioRunOperator(task_id="operator_deferred", engine_slug="few-1", input={}, deferrable=True, poll_interval=5)
    B3osRunOperator(task_id="operator_deferred_too", workflow_id="few-2", deferrable=True, poll_interval=5)
    NexioRunOperator(task_id="operator_on_a_worker", engine_slug="few-3", input={}, poll_interval=5)
    given = {"run_id": "{{ dag_run.conf['nyx'] }}", "poke_interval": 5, "max_wait": timedelta(seconds=5)}
    NyxRunSensor(task_id="poke", mode="poke", **given)
    NyxRunSensor(task_id="reschedule", mode="reschedule", **given)


waits("keys_begun", start_from_trigger=True)
waits("keys_handed_over")
keys_few()
