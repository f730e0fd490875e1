"""Twelve of our waits; many DAG runs of them are a load."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import dag

from runops.airflow import B3osRunSensor, NektRunSensor, NexioRunSensor, NyxRunSensor, OnepinRunSensor
from tests.leaks.private_fields import WORKFLOW

SENSORS: dict[str, tuple[type[Any], int]] = {
    "nexio": (NexioRunSensor, 3),
    "nyx": (NyxRunSensor, 3),
    "onepin": (OnepinRunSensor, 2),
    "b3os": (B3osRunSensor, 2),
    "nekt": (NektRunSensor, 2),
}


@dag(schedule=None, catchup=False)
def load() -> None:
    for provider, (sensor, count) in SENSORS.items():
        for number in range(count):
            task_id = f"{provider}_{number}"
            sensor(
                task_id=task_id,
                run_id=f"{{{{ dag_run.conf['{task_id}'] }}}}",
                deferrable=True,
                start_from_trigger=True,
                poke_interval=5,
                max_wait=timedelta(seconds=5),
                **({"workflow_id": WORKFLOW} if provider == "onepin" else {}),
            )


load()
