"""Place all submissions of a day as one task, with at most one worker, and look at those that went wrong.

Each submission is sent once, whatever dies in between; a retry sends only those anew that failed. The task succeeds
where 95 % of them ended well. Nexio takes as many at once as ``max_active`` says; the rest follows as places get free.

Connection: ``nexio_default`` (type Nexio, the API key as password).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, XComArg, dag, task

from runops.airflow import NexioRunsOperator


@dag(
    schedule=None,
    params={"count": Param(40, type="integer", minimum=2, description="How many submissions there are today")},
    doc_md=__doc__,
    tags=["runops", "nexio"],
)
def example_many_runs() -> None:
    @task
    def submissions(params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        count = (params or {})["count"]
        return [{"engine_slug": "placement", "input": {"insured": f"Example {number} Ltd"}} for number in range(count)]

    @task(trigger_rule="all_done")
    def tell(runs: Any) -> list[int]:
        """Which ones did not end well, by their place in the list."""
        return [run["index"] for run in runs if run.get("verdict") not in ("succeed", "warn", "skip")]

    place = NexioRunsOperator(
        task_id="place",
        calls=submissions(),
        max_active=25,
        require=0.95,
        on_outcome={"degraded": "warn"},
        timeout=timedelta(hours=6),
        retries=2,
        deferrable=True,
    )
    tell(XComArg(place, "runs"))


example_many_runs()
