"""Waits that call somebody when their run waits: an own run that is handed over, and a given one without a worker."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from airflow.sdk import dag

from runops.airflow import B3osRunOperator, B3osRunSensor
from tests.airflow_host.host import KILL_FOLDER


def note(context: Any, run: Any) -> None:
    """Leave a line for each call."""
    ti = context["ti"]
    with (Path(os.environ[KILL_FOLDER]) / f"{ti.run_id}.{ti.task_id}.calls").open("a") as file:
        file.write(f"{run['run_id']} {run['phase']}\n")


@dag(schedule=None, catchup=False, default_args={"retries": 0})
def phases() -> None:
    common: dict[str, Any] = {"on_phase": {"waiting": note}, "deferrable": True}
    B3osRunOperator(task_id="own", workflow_id="wf_phases", poll_interval=2, **common)
    B3osRunSensor(
        task_id="both_ends",
        run_id="{{ dag_run.conf['run_id'] }}",
        start_from_trigger=True,
        end_from_trigger=True,
        poke_interval=2,
        **common,
    )


phases()
