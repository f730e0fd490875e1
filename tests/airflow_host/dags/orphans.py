"""Tasks without a try left, which die at a moment or are ended by a person, beside others that go on."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import dag

from runops.airflow import NyxRunSensor
from tests.airflow_host.cases import CASES
from tests.airflow_host.moments import KINDS, TEMPLATED_PARENT, arguments

BESIDE = ("nyx", "onepin", "b3os")


@dag(schedule=None, catchup=False)
def orphans() -> None:
    """Each dies with its last try, or is ended while nobody can hear it."""
    for case in CASES:
        KINDS[case.provider](
            task_id=case.name,
            moment=case.moment,
            deferrable=case.deferrable,
            adopt_uncertain=case.adopt,
            mark_runs=case.marked,
            submit_grace=20,
            poll_interval=2,
            cancel_on_kill=False,
            **{f"{case.provider}_conn_id": f"{case.provider}_patient"},
            **arguments(case.provider, TEMPLATED_PARENT),
        )


@dag(schedule=None, catchup=False, params={"given": ""})
def orphans_beside() -> None:
    """These wait on, or have given their runs away."""
    for provider in BESIDE:
        for where, deferrable in (("deferred", True), ("worker", False)):
            KINDS[provider](
                task_id=f"{provider}_{where}", deferrable=deferrable, poll_interval=2,
                **arguments(provider, TEMPLATED_PARENT),
            )  # fmt: skip
    KINDS["onepin"](
        task_id="onepin_retrying", deferrable=False, poll_interval=2, retries=1, retry_delay=timedelta(minutes=30),
        **arguments("onepin", TEMPLATED_PARENT),
    )  # fmt: skip
    KINDS["b3os"](
        task_id="b3os_given_away", deferrable=False, poll_interval=2, wait=False,
        **arguments("b3os", TEMPLATED_PARENT),
    )  # fmt: skip
    # A clear of this one lets the first run go on beside the second.
    KINDS["b3os"](
        task_id="b3os_cleared", deferrable=True, poll_interval=2, cancel_on_kill=False,
        **arguments("b3os", TEMPLATED_PARENT),
    )  # fmt: skip
    NyxRunSensor(task_id="sensor", run_id="{{ params.given }}", deferrable=True, mode="poke")


orphans()
orphans_beside()
