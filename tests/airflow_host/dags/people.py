"""Tasks that a person kills or clears, deferred and on the worker."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import dag

from tests.airflow_host.moments import KINDS, TEMPLATED_PARENT, arguments, parent_of

CANCELLING = ("nyx", "onepin", "b3os")
"""The providers that can cancel a run."""
LASTS = arguments("onepin", "")["script_text"]


@dag(schedule=None, catchup=False)
def people() -> None:
    for deed in ("fail", "succeed", "clear"):
        for provider in CANCELLING:
            KINDS[provider](
                task_id=f"{deed}_{provider}_deferred", deferrable=True, poll_interval=2,
                **arguments(provider, TEMPLATED_PARENT),
            )  # fmt: skip
    for deed, provider in (("fail", "onepin"), ("succeed", "b3os"), ("clear", "nyx")):
        KINDS[provider](
            task_id=f"{deed}_{provider}_worker", deferrable=False, poll_interval=2,
            **arguments(provider, TEMPLATED_PARENT),
        )  # fmt: skip
    for where, deferrable in (("deferred", True), ("worker", False)):
        KINDS["onepin"](
            task_id=f"reattach_onepin_{where}", deferrable=deferrable, on_clear="reattach", poll_interval=2,
            **arguments("onepin", TEMPLATED_PARENT),
        )  # fmt: skip
    KINDS["onepin"].partial(
        task_id="mapped_onepin_deferred", deferrable=True, poll_interval=2, script_text=LASTS,
    ).expand(workflow_id=[parent_of("people", f"mapped-{index}") for index in range(2)])  # fmt: skip
    KINDS["b3os"](
        task_id="finished_b3os_worker", deferrable=False, poll_interval=2,
        **arguments("b3os", TEMPLATED_PARENT, seconds=1),
    )  # fmt: skip
    KINDS["nexio"](
        task_id="retrying_nexio_worker", deferrable=False, poll_interval=2, retries=1,
        retry_delay=timedelta(minutes=30), timeout=12, **arguments("nexio", TEMPLATED_PARENT),
    )  # fmt: skip
    KINDS["nyx"](
        task_id="spare_nyx_deferred", deferrable=True, cancel_on_kill=False, poll_interval=2,
        **arguments("nyx", TEMPLATED_PARENT),
    )  # fmt: skip


@dag(schedule=None, catchup=False)
def people_run() -> None:
    for provider, deferrable in (("nyx", True), ("onepin", True), ("b3os", False)):
        KINDS[provider](
            task_id=f"{provider}_{'deferred' if deferrable else 'worker'}", deferrable=deferrable, poll_interval=2,
            **arguments(provider, TEMPLATED_PARENT),
        )  # fmt: skip


people()
people_run()
