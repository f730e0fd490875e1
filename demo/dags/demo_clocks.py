"""The ends that the examples would show only after hours: clocks that run out, here within seconds.

A wait that ends as ``timed_out`` cancels its run where the task has started it and the provider can cancel. Nexio has
no cancel; a sensor never cancels.
"""

from __future__ import annotations

from airflow.sdk import dag

from runops.airflow import B3osRunSensor, NektRunSensor, NexioRunOperator, NyxRunOperator, OnepinRunOperator
from runops.core import NYX_AUDIT

TIMEOUT = 16
"""Seconds: long enough that the wait goes on in the triggerer, which a task hands over to after 10 s."""
PATIENCE = 3
"""Seconds that a run may stay paused or waiting."""


@dag(
    schedule=None,
    params={
        "nexio": {},
        "nyx": {},
        "onepin": {},
        "b3os_run": "",
        "nekt_late": "",
        "nekt_failed": "",
        "nekt_canceled": "",
    },
    render_template_as_native_obj=True,
    doc_md=__doc__,
    tags=["demo"],
)
def demo_clocks() -> None:
    NexioRunOperator(
        task_id="engine_never_ends",
        engine_slug="{{ params.nexio.engine_slug }}",
        input="{{ params.nexio.input }}",
        timeout=TIMEOUT,
        deferrable=True,
    )
    NyxRunOperator(
        task_id="audit_never_ends",
        config_name="{{ params.nyx.config_name }}",
        name="{{ params.nyx.name }}",
        target="{{ params.nyx.target }}",
        objective="{{ params.nyx.objective }}",
        budget_usd="{{ params.nyx.budget_usd }}",
        severity_target="{{ params.nyx.severity_target }}",
        hints="{{ params.nyx.hints }}",
        on_outcome=NYX_AUDIT,
        timeout=TIMEOUT,
        deferrable=True,
    )
    OnepinRunOperator(
        task_id="voice_is_paused",
        workflow_id="{{ params.onepin.workflow_id }}",
        script_text="{{ params.onepin.script_text }}",
        max_paused=PATIENCE,
        timeout=60,
        deferrable=False,
    )
    B3osRunSensor(
        task_id="approval_does_not_come",
        run_id="{{ params.b3os_run }}",
        max_paused=PATIENCE,
        soft_fail=True,
        timeout=60,
        deferrable=True,
    )
    NektRunSensor(task_id="load_is_late", run_id="{{ params.nekt_late }}", timeout=8, poke_interval=2, deferrable=False)
    NektRunSensor(task_id="load_fails", run_id="{{ params.nekt_failed }}", timeout=60, deferrable=True)
    NektRunSensor(task_id="load_is_canceled", run_id="{{ params.nekt_canceled }}", timeout=60, deferrable=True)


demo_clocks()
