"""Let OnePin speak an announcement, and publish it when the run is done.

OnePin pauses runs for outages and for billing, and only a person moves them on. ``max_paused`` gives that person
half an hour; then the wait ends as ``timed_out``, the run is cancelled and the task fails.

Connection: ``onepin_default`` (type OnePin, the API key as password; the extra ``workspace_id`` if there are several).
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import Param, dag

from runops.airflow import OnepinRunOperator


@dag(
    schedule=None,
    params={
        "workflow_id": Param("7c9e6679-7425-40de-944b-e07fc1f90ae7", type="string", description="The workflow"),
        "script_text": Param("The new rates are here.", type="string", description="What is to be said"),
    },
    doc_md=__doc__,
    tags=["runops", "onepin"],
)
def example_onepin() -> None:
    speak = OnepinRunOperator(
        task_id="speak",
        workflow_id="{{ params.workflow_id }}",
        script_text="{{ params.script_text }}",
        source_language="en-us",
        max_paused=timedelta(minutes=30),
        timeout=timedelta(hours=2),
        deferrable=True,
    )
    speak >> EmptyOperator(task_id="publish")


example_onepin()
