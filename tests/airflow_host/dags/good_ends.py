"""Every case of what a good end is, each in one way to wait, and runs that spend too much while a triggerer is dead."""

from __future__ import annotations

from typing import Any

from airflow.sdk import dag

from runops import airflow as ours
from tests.airflow_host.matrix import MODES, PARENTS, SUBMITS
from tests.good_ends import CASES

NAMES = {"nexio": "Nexio", "nyx": "Nyx", "onepin": "Onepin", "b3os": "B3os", "nekt": "Nekt"}


@dag(schedule=None, catchup=False, default_args={"retries": 0})
def good_ends() -> None:
    for nth, case in enumerate(CASES):
        mode = list(MODES.values())[nth % len(MODES)]
        task_id = str(case).replace("-", "_")
        sensor: Any = getattr(ours, f"{NAMES[case.provider]}RunSensor")
        sensor(
            task_id=task_id,
            run_id=f"{{{{ dag_run.conf['{task_id}'] }}}}",
            timeout=900,
            **{**case.said(), **mode},
            **PARENTS.get(case.provider, {}),
        )


@dag(schedule=None, catchup=False, default_args={"retries": 0})
def overspent() -> None:
    arguments: dict[str, Any] = {
        **SUBMITS["nyx"],
        "target": {"url": "https://agent.example.com"},
        "objective": "o",
        "hints": None,
    }
    for task_id in ("killed_before", "killed_as_it_is_reached"):
        operator: Any = ours.NyxRunOperator
        operator(
            task_id=task_id, deferrable=True, poll_interval=2, max_spend=4, **{**arguments, "config_name": task_id}
        )


good_ends()
overspent()
