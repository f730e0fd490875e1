"""Tasks of 200 runs: one for each moment at which something can die, and those that a person kills or clears."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import dag

from tests.airflow_host.sets import ACTIVE, CASES, HeldSet, calls


@dag(schedule=None, catchup=False, default_args={"retries": 3, "retry_delay": timedelta(seconds=1)})
def sets() -> None:
    for case in CASES:
        HeldSet(
            task_id=case.name,
            provider=case.provider,
            conn_id=f"{case.provider}_patient",
            calls=calls(case.provider, case.name),
            max_active=ACTIVE,
            moment=case.moment,
            deferrable=case.deferrable,
            adopt_uncertain=case.adopt,
            submit_grace=20,
            poll_interval=3,
        )


@dag(schedule=None, catchup=False)
def people_of_sets() -> None:
    for deed in ("fail", "succeed", "clear"):
        for where, deferrable in (("deferred", True), ("worker", False)):
            HeldSet(
                task_id=f"{deed}_{where}",
                provider="b3os",
                calls=calls("b3os", f"{deed}_{where}", count=60, seconds=600),
                max_active=40,
                deferrable=deferrable,
                poll_interval=3,
            )
    HeldSet(
        task_id="some_fail",
        provider="b3os",
        calls=calls("b3os", "some_fail", seconds=5, bad=10),
        max_active=ACTIVE,
        deferrable=True,
        poll_interval=3,
        retries=1,
        retry_delay=timedelta(seconds=1),
    )


sets()
people_of_sets()
