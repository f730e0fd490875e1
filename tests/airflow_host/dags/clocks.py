"""Both clocks of a wait, and a gate that must not be tried again."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import dag

from runops.core import NYX_GATE
from tests.airflow_host.moments import KINDS, TEMPLATED_PARENT, arguments

LATER = timedelta(minutes=30)


@dag(schedule=None, catchup=False)
def clocks() -> None:
    KINDS["nyx"](
        task_id="gate", deferrable=True, retries=2, retry_delay=timedelta(seconds=1), on_outcome=NYX_GATE,
        poll_interval=2, **arguments("nyx", TEMPLATED_PARENT, seconds=22),
    )  # fmt: skip
    for provider, deferrable in (("nyx", True), ("nexio", True), ("onepin", False)):
        where = "deferred" if deferrable else "worker"
        KINDS[provider](
            task_id=f"execution_timeout_{provider}_{where}", deferrable=deferrable, poll_interval=2,
            execution_timeout=timedelta(seconds=30), retries=1, retry_delay=LATER,
            **arguments(provider, TEMPLATED_PARENT),
        )  # fmt: skip
    for provider, deferrable in (("b3os", True), ("nexio", True), ("onepin", False)):
        where = "deferred" if deferrable else "worker"
        KINDS[provider](
            task_id=f"timeout_{provider}_{where}", deferrable=deferrable, poll_interval=2, timeout=28,
            **arguments(provider, TEMPLATED_PARENT),
        )  # fmt: skip
    KINDS["onepin"](
        task_id="timeout_skips", deferrable=True, poll_interval=2, timeout=28, on_outcome={"timed_out": "skip"},
        cancel_on_timeout=False, **arguments("onepin", TEMPLATED_PARENT),
    )  # fmt: skip


clocks()
