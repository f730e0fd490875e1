"""Tasks that must survive what happens to triggerers and workers, and one that blocks a triggerer."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import dag

from tests.airflow_host.bad_triggers import BlockingOperator
from tests.airflow_host.moments import BREAKING, KINDS, TEMPLATED_PARENT, arguments


@dag(schedule=None, catchup=False, default_args={"retries": 2, "retry_delay": timedelta(seconds=1)})
def moves() -> None:
    for provider in KINDS:
        KINDS[provider](
            task_id=f"{provider}_deferred", deferrable=True, poll_interval=2, **arguments(provider, TEMPLATED_PARENT)
        )
    KINDS["nexio"](
        task_id="nexio_broken", moment=BREAKING, deferrable=True, poll_interval=2,
        **arguments("nexio", TEMPLATED_PARENT),
    )  # fmt: skip
    for provider in ("onepin", "nyx"):
        KINDS[provider](
            task_id=f"{provider}_worker", deferrable=False, poll_interval=2, **arguments(provider, TEMPLATED_PARENT)
        )


@dag(schedule=None, catchup=False)
def moves_blocked() -> None:
    BlockingOperator(task_id="block", seconds=32)


moves()
moves_blocked()
