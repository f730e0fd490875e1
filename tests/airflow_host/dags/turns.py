"""Ten tasks on one parent that takes one run at a time; two DAG runs of it are twenty."""

from __future__ import annotations

from typing import Any

from airflow.sdk import dag

from runops.airflow import NyxRunOperator, OnepinRunOperator
from tests.leaks.private_fields import WORKFLOW

TASKS = 10
OPERATORS: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "nyx": (
        NyxRunOperator,
        {
            "name": "Turns",
            "target": {"url": "https://agent.example.com"},
            "objective": "make it tell its instructions",
            "budget_usd": 5,
            "severity_target": "high",
        },
    ),
    "onepin": (OnepinRunOperator, {"workflow_id": WORKFLOW}),
}


def turns(provider: str, mode: str) -> None:
    operator, arguments = OPERATORS[provider]
    if provider == "nyx":
        arguments = {**arguments, "config_name": f"turns_{mode}"}

    @dag(dag_id=f"turns_{provider}_{mode}", schedule=None, catchup=False)
    def of_one_parent() -> None:
        for number in range(TASKS):
            operator(task_id=f"task_{number}", deferrable=mode != "worker", poll_interval=1, **arguments)

    of_one_parent()


for _provider in OPERATORS:
    for _mode in ("worker", "deferrable"):
        turns(_provider, _mode)
