"""Every hour, cancel what tasks have left behind: runs that may still go on, and that no task waits for.

A task that is killed between two tries, or that fails for good while its run goes on, has nobody left to cancel it.
This DAG reads Airflow's REST API, looks each such run up at its provider, and cancels it with the connection that has
submitted it. It is the same as ``runops orphans airflow --cancel`` from a cron job. It is paused until it is wanted.

Connections: ``airflow_api`` (type HTTP: the address of the API server as host, and a user with a password, or a token
as the password), and those of the tasks that are looked after.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, task

from runops.airflow import cancel_orphans


@dag(
    schedule="@hourly",
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=True,
    params={"cancel": Param(True, type="boolean", description="Cancel; otherwise only list")},
    doc_md=__doc__,
    tags=["runops", "maintenance"],
)
def example_orphans() -> None:
    @task(retries=2, retry_delay=timedelta(minutes=5))
    def cancel_what_is_left(params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        # The log names each run; what could not be read or cancelled stands there as a warning.
        return cancel_orphans("airflow_api", since=timedelta(days=7), cancel=(params or {}).get("cancel", True))

    cancel_what_is_left()


maintenance = example_orphans()
