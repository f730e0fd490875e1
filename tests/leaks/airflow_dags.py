"""One DAG of sensors for each kind of run, and one of an operator for each submit. Private texts are templated."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from airflow.sdk import DAG

import runops.airflow

PLAN: dict[str, Any] = json.loads(Path(os.environ["LEAKS_PLAN"]).read_text())
TITLES = {"nexio": "Nexio", "nyx": "Nyx", "onepin": "Onepin", "b3os": "B3os", "nekt": "Nekt"}
COMMON: dict[str, Any] = {
    "on_outcome": {"cancelled": "skip"},
    "on_failure_callback": sys.modules["__main__"].__dict__.get("failed"),
}


def templated(value: Any) -> Any:
    """The same, with each variable that the plan names as a template."""
    if isinstance(value, dict):
        return {name: templated(item) for name, item in value.items()}
    if isinstance(value, list):
        return [templated(item) for item in value]
    if isinstance(value, str) and value.startswith("$env:"):
        return f"{{{{ var.value.{value.removeprefix('$env:').lower()} }}}}"
    return value


for shape, waits in PLAN["waits"].items():
    sensor = getattr(runops.airflow, f"{TITLES[shape.removesuffix('-flat')]}RunSensor")
    with DAG(f"waits_{shape}", schedule=None) as dag:
        for name, wait in waits.items():
            sensor(
                task_id=name,
                run_id=wait["run_id"],
                timeout=0.3 if wait["scenario"] == "timed_out" else 60,
                poke_interval=0.1,
                deferrable=wait["way"] == "deferred",
                **wait["parents"],
                **COMMON,
            )
    globals()[dag.dag_id] = dag

for submit in PLAN["submits"]:
    with DAG(f"submits_{submit['name']}", schedule=None) as dag:
        for provider, arguments in submit["calls"].items():
            getattr(runops.airflow, f"{TITLES[provider]}RunOperator")(
                task_id=provider,
                timeout=0.3 if submit["scenario"] == "timed_out" else 60,
                poll_interval=0.1,
                deferrable=submit["way"] == "deferred",
                **templated(arguments),
                **COMMON,
            )
    globals()[dag.dag_id] = dag
