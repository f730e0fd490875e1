"""Tasks by which each version of Airflow shows what holds there."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import dag

from tests.airflow_host.moments import KINDS, TEMPLATED_PARENT, arguments


@dag(schedule=None, catchup=False)
def versions() -> None:
    def task(task_id: str, provider: str, **more: object) -> None:
        KINDS[provider](
            task_id=task_id, poll_interval=2, **{"deferrable": True, **arguments(provider, TEMPLATED_PARENT), **more}
        )

    task("fail_onepin_worker", "onepin", deferrable=False)
    task("fail_b3os_deferred", "b3os")
    task("clear_nyx_deferred", "nyx")
    task("reattach_nyx_deferred", "nyx", on_clear="reattach")
    task("reattach_b3os_deferred", "b3os", on_clear="reattach")
    task("crash_b3os_worker", "b3os", deferrable=False, retries=1, retry_delay=timedelta(seconds=1))
    task("crash_nyx_worker", "nyx", deferrable=False, retries=1, retry_delay=timedelta(seconds=1))
    task("gives_up_b3os_deferred", "b3os", timeout=20, cancel_on_timeout=False, cancel_on_failure=True)
    for name in ("alone_b3os_worker", "whole_b3os_worker"):
        task(name, "b3os", deferrable=False, cancel_on_failure=True)
    task("between_b3os_worker", "b3os", deferrable=False, timeout=10, cancel_on_timeout=False, retries=1,
         retry_delay=timedelta(minutes=30))  # fmt: skip


@dag(schedule=None, catchup=False)
def versions_turns() -> None:
    KINDS["nyx"](
        task_id="nyx_deferred", deferrable=True, poll_interval=2, max_active_tis_per_dag=1,
        **arguments("nyx", "one-at-a-time", seconds=15),
    )  # fmt: skip


versions()
versions_turns()
