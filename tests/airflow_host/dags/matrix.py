"""A sensor for every end of every provider in each way to wait, and what is to be seen beside them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import dag, task

from runops import airflow as ours
from tests.airflow_host import matrix as cases
from tests.leaks.private_fields import CANARIES

NAMES = {"nexio": "Nexio", "nyx": "Nyx", "onepin": "Onepin", "b3os": "B3os", "nekt": "Nekt"}


def sensor(provider: str, **arguments: Any) -> Any:
    return getattr(ours, f"{NAMES[provider]}RunSensor")(**arguments)


def operator(provider: str, **arguments: Any) -> Any:
    return getattr(ours, f"{NAMES[provider]}RunOperator")(**arguments)


@dag(schedule=None, catchup=False, default_args={"retries": 0})
def matrix() -> None:
    for soft, table in ((False, cases.ENDS), (True, cases.SOFT_ENDS)):
        for provider, scenario in table:
            for mode, ways in cases.MODES.items():
                task_id = cases.sensor_id(provider, scenario, mode, soft=soft)
                sensor(
                    provider,
                    task_id=task_id,
                    run_id=f"{{{{ dag_run.conf['{task_id}'] }}}}",
                    timeout=cases.TIMEOUT if scenario == "timed_out" else 600,
                    soft_fail=soft,
                    **ways,
                    **cases.PARENTS.get(provider, {}),
                )


@dag(schedule=None, catchup=False, default_args={"retry_delay": timedelta(seconds=1)})
def matrix_broken() -> None:
    for name, (provider, arguments, _) in cases.BROKEN.items():
        for mode, ways in cases.MODES.items():
            # A host that cannot be reached is the only one of these that another try could find in order.
            retries = 0 if name == "unreachable_host" else 1
            task_id = f"{name}_{mode}"
            sensor(provider, task_id=task_id, timeout=600, soft_fail=True, retries=retries, **ways, **arguments)


@dag(schedule=None, catchup=False, user_defined_macros={"private": CANARIES, "workflow_of": cases.workflow_of})
def matrix_submits() -> None:
    for provider, arguments in cases.SUBMITS.items():
        for deferrable in (False, True):
            task_id = f"{provider}_{'deferrable' if deferrable else 'worker'}"
            operator(provider, task_id=task_id, poll_interval=2, deferrable=deferrable, **arguments)


@dag(schedule=None, catchup=False)
def matrix_shapes() -> None:
    @task
    def listed(dag_run: Any = None) -> list[str]:
        return list(dag_run.conf["mapped"])

    ours.NyxRunSensor(
        task_id="begun_in_triggerer",
        run_id="{{ dag_run.conf['begun_in_triggerer'] }}",
        deferrable=True,
        start_from_trigger=True,
    )
    ids = listed()
    ours.NyxRunSensor.partial(task_id="mapped", deferrable=True, start_from_trigger=True).expand(run_id=ids)
    ours.NyxRunSensor.partial(task_id="mapped_poked", deferrable=False, mode="reschedule").expand(run_id=ids)


matrix()
matrix_broken()
matrix_submits()
matrix_shapes()
