"""Ask a person where a run stands still, and do what they decide: never more, and never by itself.

OnePin pauses runs for outages and for billing. Where a pause lasts for ten minutes, the task `speak` gives up its wait
and cancels nothing; Airflow asks under "Required Actions" whether the run may go on. **Approve** resumes it and waits
for its end, **Reject** cancels it.

B3OS can go on with a run that failed, from the node that failed. That starts a new run, which costs what a run costs,
so Airflow asks before it. **Approve** retries the run, once, and waits for the new one; **Reject** leaves it to people.

Needs Airflow 3.1 or newer, for the `ApprovalOperator` of its standard provider. A question that nobody answers within a
day counts as rejected.

Connections: ``onepin_default`` (type OnePin) and ``b3os_default`` (type B3OS), each with the API key as password.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param, dag, task

from runops.airflow import B3osRunOperator, OnepinHook, OnepinRunOperator, OnepinRunSensor

PATIENCE = timedelta(minutes=10)
"""How long a run may stay paused before somebody is asked: many a pause ends without anybody."""
A_DAY = timedelta(days=1)
RUN_ID = "{{{{ ti.xcom_pull(task_ids='{}', key='run_id') }}}}"
REASON = "{{{{ ti.xcom_pull(task_ids='{}')['reason'] or 'It does not say why.' }}}}"


@task.short_circuit
def is_paused(run: Any) -> bool:
    """Whether the wait for a run ended because it stayed paused."""
    return run["ended_by"] == "max_paused"


@task.short_circuit
def has_failed(run: Any) -> bool:
    """Whether a run failed."""
    return run["outcome"] == "failed"


# One answer ends one pause: a retry of this task could end a later one, which nobody was asked about.
@task(retries=0)
def go_on(run: Any) -> None:
    """Have a paused run go on."""
    OnepinHook().resume(run["run_id"], workflow_id=run["parents"]["workflow_id"])


@task(trigger_rule="all_skipped")
def stop(**context: Any) -> None:
    """Cancel the run, since going on was rejected. It reads the run itself: an argument would be one more upstream."""
    run = context["ti"].xcom_pull(task_ids="speak")
    with OnepinHook().client() as client:
        client.cancel(client.ref(run["run_id"], run["parents"]))


@dag(
    schedule=None,
    params={
        "workflow_id": Param("7c9e6679-7425-40de-944b-e07fc1f90ae7", type="string", description="The OnePin workflow"),
        "script_text": Param("The new rates are here.", type="string", description="What is to be said"),
        "payout_workflow_id": Param("wf_payout", type="string", description="The published B3OS workflow"),
        "payload": Param({"amount": 10}, type="object", description="The payload of its trigger"),
    },
    render_template_as_native_obj=True,
    doc_md=__doc__,
    tags=["runops", "onepin", "b3os"],
)
def example_approval() -> None:
    speak = OnepinRunOperator(
        task_id="speak",
        workflow_id="{{ params.workflow_id }}",
        script_text="{{ params.script_text }}",
        max_paused=PATIENCE,
        cancel_on_timeout=False,
        on_outcome={"timed_out": "warn"},
        deferrable=True,
    )
    may_it_go_on = ApprovalOperator(
        task_id="may_it_go_on",
        subject=f"OnePin has paused the run {RUN_ID.format('speak')}. May it go on?",
        body=REASON.format("speak"),
        defaults="Reject",
        response_timeout=A_DAY,
    )
    spoken = OnepinRunSensor(
        task_id="spoken",
        workflow_id="{{ params.workflow_id }}",
        run_id=RUN_ID.format("speak"),
        deferrable=True,
    )
    going_on = go_on(speak.output)
    is_paused(speak.output) >> may_it_go_on >> going_on >> spoken
    going_on >> stop()

    pay_out = B3osRunOperator(
        task_id="pay_out",
        workflow_id="{{ params.payout_workflow_id }}",
        payload="{{ params.payload }}",
        on_outcome={"failed": "warn"},
        deferrable=True,
    )
    try_again = ApprovalOperator(
        task_id="try_again",
        subject=f"The pay-out {RUN_ID.format('pay_out')} failed. Retry it from the node that failed?",
        body=REASON.format("pay_out"),
        defaults="Reject",
        response_timeout=A_DAY,
    )
    pay_out_again = B3osRunOperator(
        task_id="pay_out_again",
        workflow_id="{{ params.payout_workflow_id }}",
        retry_of=RUN_ID.format("pay_out"),
        deferrable=True,
    )
    look_into_it = EmptyOperator(task_id="look_into_it", trigger_rule="all_skipped")
    has_failed(pay_out.output) >> try_again >> pay_out_again >> look_into_it


approval = example_approval()
