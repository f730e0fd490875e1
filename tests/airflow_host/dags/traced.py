"""A run in each way to wait, with an outlet where there may be one; and who reads what its asset event says."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Asset, dag, task

from runops.airflow import NyxRunOperator, NyxRunSensor
from runops.airflow._compat import renders_in_triggerer
from tests.airflow_host.matrix import SUBMITS

WAYS: dict[str, dict[str, Any]] = {
    "poke": {"mode": "poke", "deferrable": False},
    "reschedule": {"mode": "reschedule", "deferrable": False, "poke_interval": 5},
    "deferrable": {"deferrable": True},
}
if renders_in_triggerer():
    WAYS["started"] = {"deferrable": True, "start_from_trigger": True}

with DAG("traced", schedule=None, catchup=False, default_args={"retries": 0}):
    for name, way in WAYS.items():
        NyxRunSensor(
            task_id=name,
            run_id=f"{{{{ dag_run.conf['{name}'] }}}}",
            outlets=[Asset(f"traced_{name}", uri=f"runops-test://traced/{name}")],
            on_outcome={"exhausted": "warn"},
            timeout=600,
            **way,
        )
    NyxRunSensor(
        task_id="ended", run_id="{{ dag_run.conf['ended'] }}", timeout=600, deferrable=True, end_from_trigger=True
    )
    NyxRunSensor(task_id="failed", run_id="{{ dag_run.conf['failed'] }}", timeout=600, deferrable=True)
    submit: dict[str, Any] = {**SUBMITS["nyx"], "config_name": "traced"}
    submit |= {"target": {"url": "https://agent.example.com"}, "objective": "o", "hints": None}
    outlet = Asset("traced_submitted", uri="runops-test://traced/submitted")
    NyxRunOperator(task_id="submitted", deferrable=True, outlets=[outlet], **submit)

for name in ("poke", "deferrable"):

    @dag(dag_id=f"traced_reader_{name}", schedule=[Asset(f"traced_{name}", uri=f"runops-test://traced/{name}")])
    def reader() -> None:
        @task
        def read(triggering_asset_events: Any = None) -> list[Any]:
            return [event.extra for events in triggering_asset_events.values() for event in events]

        read()

    reader()
