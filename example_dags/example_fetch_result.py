"""Use what a degraded Nexio run could answer: succeed with a warning, then fetch the fields that matter.

A wait never reads the payload of a run. The task ``keep_evaluation`` fetches it on purpose and returns two chosen
fields: what a task returns is stored by Airflow and shown in its pages.

Connection: ``nexio_default`` (type Nexio, the API key as password).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, task

from runops.airflow import NexioHook, NexioRunOperator
from runops.core import RunRef


@task
def keep_evaluation(run: Any) -> dict[str, Any]:
    """Two fields of the run's output, which is all that later tasks need."""
    with NexioHook("nexio_default").client() as client:
        output = client.fetch_result(RunRef.parse(run)).get("output") or {}
    return {"evaluated": output.get("evaluated"), "incomplete_because": output.get("degradation_reason")}


@dag(
    schedule=None,
    params={
        "engine_slug": Param("small-business-liability", type="string", description="The engine to run"),
        "input": Param({"company": "Example Bakery", "employees": 12}, type="object", description="Its input"),
    },
    render_template_as_native_obj=True,
    doc_md=__doc__,
    tags=["runops", "nexio"],
)
def example_fetch_result() -> None:
    evaluate = NexioRunOperator(
        task_id="evaluate",
        engine_slug="{{ params.engine_slug }}",
        input="{{ params.input }}",
        on_outcome={"degraded": "warn"},
        timeout=timedelta(hours=1),
        deferrable=True,
    )
    keep_evaluation(evaluate.output)


example_fetch_result()
