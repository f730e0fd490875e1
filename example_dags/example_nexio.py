"""Ask a Nexio engine for a quote, and let a person look where the engine could only answer in part.

A run that ends as ``degraded`` skips the task (the default verdict), so that ``send_offer`` is skipped too and
``ask_underwriter``, whose trigger rule waits for exactly that, takes over. A failed run fails the task.

Connection: ``nexio_default`` (type Nexio, the API key as password).
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import Param, dag

from runops.airflow import NexioRunOperator


@dag(
    schedule=None,
    params={
        "engine_slug": Param("small-business-liability", type="string", description="The engine to run"),
        "input": Param({"company": "Example Bakery", "employees": 12}, type="object", description="Its input"),
    },
    # Params that are objects reach the operator as objects, not as their text.
    render_template_as_native_obj=True,
    doc_md=__doc__,
    tags=["runops", "nexio"],
)
def example_nexio() -> None:
    quote = NexioRunOperator(
        task_id="quote",
        engine_slug="{{ params.engine_slug }}",
        input="{{ params.input }}",
        timeout=timedelta(hours=1),
        deferrable=True,
    )
    quote >> EmptyOperator(task_id="send_offer")
    quote >> EmptyOperator(task_id="ask_underwriter", trigger_rule="all_skipped")


example_nexio()
