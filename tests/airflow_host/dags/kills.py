"""One task for each moment at which something can die."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import dag

from tests.airflow_host.cases import CASES
from tests.airflow_host.moments import KINDS, TEMPLATED_PARENT, arguments


@dag(schedule=None, catchup=False, default_args={"retries": 3, "retry_delay": timedelta(seconds=1)})
def kills() -> None:
    for case in CASES:
        KINDS[case.provider](
            task_id=case.name,
            moment=case.moment,
            deferrable=case.deferrable,
            adopt_uncertain=case.adopt,
            mark_runs=case.marked,
            submit_grace=20,
            poll_interval=2,
            **{f"{case.provider}_conn_id": f"{case.provider}_patient"},
            **arguments(case.provider, TEMPLATED_PARENT),
        )


kills()
