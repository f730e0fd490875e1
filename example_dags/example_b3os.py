"""Run a B3OS workflow that pays out, and let somebody look where it did not go through.

The reason of a failure (which node failed, and what it said) is in the task's log, in its exception and in the XCom
``run``. A workflow that waits for an approval may wait for a day.

Connection: ``b3os_default`` (type B3OS, the API key as password).
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import Param, dag

from runops.airflow import B3osRunOperator


@dag(
    schedule=None,
    params={
        "workflow_id": Param("wf_payout", type="string", description="The published workflow"),
        "payload": Param({"amount": 10}, type="object", description="The payload of its trigger"),
    },
    render_template_as_native_obj=True,
    doc_md=__doc__,
    tags=["runops", "b3os"],
)
def example_b3os() -> None:
    pay_out = B3osRunOperator(
        task_id="pay_out",
        workflow_id="{{ params.workflow_id }}",
        payload="{{ params.payload }}",
        max_paused=timedelta(days=1),
        timeout=timedelta(days=2),
        deferrable=True,
    )
    pay_out >> EmptyOperator(task_id="confirm")
    pay_out >> EmptyOperator(task_id="look_into_it", trigger_rule="one_failed")


example_b3os()
