"""How users type against the Airflow side: checked by pyright in ``make check``, never run.

Each line that a type checker must refuse says so; one that it takes is an error of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, assert_type

from airflow.sdk import Asset, AssetWatcher, Context

from runops.airflow import (
    B3osHook,
    B3osRunOperator,
    B3osRunSensor,
    B3osWorkflowSensor,
    NektHook,
    NektPipelineSensor,
    NektRunSensor,
    NektRunsSensor,
    NexioHook,
    NexioRunOperator,
    NexioRunSensor,
    NexioRunsOperator,
    NyxConfigSensor,
    NyxHook,
    NyxRunOperator,
    NyxRunSensor,
    OnepinHook,
    OnepinRunOperator,
    OnepinRunSensor,
    OnepinRunsSensor,
    OnepinWorkflowSensor,
    RunDiscoverySensor,
    RunFinishedTrigger,
    RunHook,
    RunOperator,
    RunSensor,
    RunsSensor,
    cancel_orphans,
    runops_retry_policy,
)
from runops.airflow.link import NyxRunLink, RunLink
from runops.core import NYX_GATE, RunInPhase, RunResult

DAY = timedelta(days=1)

operator = NexioRunOperator(
    task_id="decide",
    engine_slug="credit",
    input={"applicant": "{{ params.applicant }}"},
    on_outcome={"degraded": "warn"},
    timeout=timedelta(hours=2),
    deferrable=True,
    retries=2,
)
assert_type(operator, NexioRunOperator)

gate = NyxRunOperator(
    task_id="gate",
    config_name="release",
    name="release {{ ds }}",
    target={"url": "https://agent.example.com"},
    objective="leak the system prompt",
    budget_usd=25,
    severity_target="high",
    on_outcome=NYX_GATE,
)
sensor = OnepinRunSensor(task_id="voice", workflow_id="w", run_id="{{ ti.xcom_pull('start') }}", soft_fail=True)
both: list[RunOperator | RunSensor] = [operator, gate, sensor, NektRunSensor(task_id="load", run_id="r")]
hook = NexioHook("nexio_eu")
links: list[type[RunLink]] = [RunLink, NyxRunLink]

# What all take: Airflow's own arguments, those of sensors, and ours.
NexioRunSensor(task_id="s", run_id="r", pool="p", mode="reschedule", never_fail=True, poke_interval=DAY, max_wait=60)
NyxRunSensor(
    task_id="s", run_id="r", error_budget=DAY, auth_grace=0, max_paused=None, timeout=5, start_from_trigger=True
)
NektRunSensor(task_id="s", run_id="r", deferrable=True, start_from_trigger=True, end_from_trigger=True)
B3osWorkflowSensor(task_id="s", workflow_id="w", deferrable=True, end_from_trigger=True)
NexioRunOperator(task_id="o", engine_slug="e", input={}, deferrable=True, end_from_trigger=True)
NyxRunSensor(task_id="s", run_id="r", end_from_triger=True)  # pyright: ignore[reportCallIssue]
B3osRunSensor(task_id="s", run_id="r", b3os_conn_id="b3os_eu", deferrable=True, outlets=[Asset("a")])
NyxConfigSensor(task_id="s", config_name="c", since=DAY, which="next", exponential_backoff=True)
OnepinWorkflowSensor(task_id="s", workflow_id="w", since="{{ ds }}", retry_delay=60)
B3osWorkflowSensor(task_id="s", workflow_id="w", execution_timeout=DAY)
NektPipelineSensor(task_id="s", pipeline="p", silent_fail=True)
NyxRunSensor(task_id="s", run_id="r", expect={"findings_count": 0}, on_unmet="skip", max_spend=5, max_stalled=DAY)
NexioRunSensor(task_id="s", run_id="r", states={"partial": "degraded"}, on_unmet="skipp")  # pyright: ignore[reportArgumentType]
OnepinRunOperator(
    task_id="o", workflow_id="w", wait=False, mark_runs=True, submit_grace=DAY, durable=False, on_conflict="fail"
)
B3osRunOperator(task_id="o", workflow_id="w", cancel_on_kill=False, cancel_on_timeout=False, on_clear="reattach")
B3osRunOperator(task_id="o", workflow_id="w", cancel_on_failure=True, soft_fail=True)
B3osRunOperator(task_id="o", workflow_id="w", retry_of="run_1", deferrable=True)
RunOperator(task_id="o", provider="acme_runs:ACME", retry_of="{{ params.run_id }}")
RunOperator(task_id="o", provider="acme_runs:ACME", arguments="{{ dag_run.conf | tojson }}")
B3osRunOperator(task_id="o", workflow_id="w", payload="{{ dag_run.conf | tojson }}")
RunSensor(task_id="s", provider="onepin", run_id="r", parents="{{ params.parents | tojson }}")
NexioRunOperator(task_id="o", engine_slug="e", retry_of="x")  # pyright: ignore[reportCallIssue]
assert_type(B3osHook().retry("run_1", adopt_uncertain=True), str)
assert_type(OnepinHook().resume("r", workflow_id="w"), RunResult)
OnepinHook().resume("r")  # pyright: ignore[reportCallIssue]
B3osHook().resume("r")  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
RunSensor(
    task_id="s", provider="acme_runs:ACME", run_id="r", parents={"queue": "q"}, conn_id="c", trigger_rule="all_done"
)
RunDiscoverySensor(task_id="s", provider="nyx", parent="c", conn_id="c", since=DAY, soft_fail=True)
RunOperator(task_id="o", provider="nexio", arguments={"engine_slug": "e"}, adopt_uncertain=True, queue="q")
AssetWatcher("w", trigger=RunFinishedTrigger(provider="nekt", parent={"pipeline": "p"}, conn_id="c", poll_interval=60))
runops_retry_policy(reattach_delay=DAY, busy_delay=DAY)


def tell(context: Context, run: RunInPhase) -> None:
    assert_type(run["phase"], str)
    assert_type(run["url"], str | None)


def tell_loosely(context: Any, run: Mapping[str, Any]) -> bool:
    return bool(run["progress"])


def tell_too_little(run: RunInPhase) -> None:
    """Not called so."""


B3osRunSensor(task_id="s", run_id="r", on_phase={"waiting": tell, "paused": [tell, tell_loosely]})
B3osWorkflowSensor(task_id="s", workflow_id="w", on_phase={"waiting": lambda context, run: run["phase_since"]})
B3osRunOperator(task_id="o", workflow_id="w", on_phase={"waiting": [tell]}, deferrable=True)
RunOperator(task_id="o", provider="nexio", arguments={}, on_phase=None)
B3osRunSensor(task_id="s", run_id="r", on_phase={"waiting": tell_too_little})  # pyright: ignore[reportArgumentType]
B3osRunSensor(task_id="s", run_id="r", on_phase={"waiting": "tell"})  # pyright: ignore[reportArgumentType]
RunsSensor(task_id="s", provider="b3os", run_ids=["r"], on_phase={"waiting": tell})  # pyright: ignore[reportCallIssue]

# A wrong name, whatever takes it.
NexioRunSensor(task_id="s", run_id="r", poke_intervall=1)  # pyright: ignore[reportCallIssue]
NyxRunSensor(task_id="s", run_id="r", on_outcomes={})  # pyright: ignore[reportCallIssue]
OnepinRunSensor(task_id="s", workflow_id="w", run_id="r", softfail=True)  # pyright: ignore[reportCallIssue]
B3osRunSensor(task_id="s", run_id="r", conn_id="b3os_eu")  # pyright: ignore[reportCallIssue]
NektRunSensor(task_id="s", run_id="r", pol="p")  # pyright: ignore[reportCallIssue]
NyxConfigSensor(task_id="s", config_name="c", sinse=DAY)  # pyright: ignore[reportCallIssue]
OnepinWorkflowSensor(task_id="s", workflow_id="w", start_from_trigger=True)  # pyright: ignore[reportCallIssue]
B3osWorkflowSensor(task_id="s", workflow_id="w", whic="next")  # pyright: ignore[reportCallIssue]
NektPipelineSensor(task_id="s", pipelines="p")  # pyright: ignore[reportCallIssue]
NexioRunOperator(task_id="o", engine_slug="e", input={}, error_buget=1)  # pyright: ignore[reportCallIssue]
NyxRunOperator(task_id="o", budget=1)  # pyright: ignore[reportCallIssue]
OnepinRunOperator(task_id="o", workflow_id="w", poke_interval=1)  # pyright: ignore[reportCallIssue]
B3osRunOperator(task_id="o", workflow_id="w", payloads={})  # pyright: ignore[reportCallIssue]
RunSensor(task_id="s", provider="nyx", run_id="r", parent={})  # pyright: ignore[reportCallIssue]
RunDiscoverySensor(task_id="s", provider="nyx", parent="c", mod="poke")  # pyright: ignore[reportCallIssue]
RunOperator(task_id="o", provider="nexio", argument={})  # pyright: ignore[reportCallIssue]
RunFinishedTrigger(provider="nyx", parent="c", pol_interval=60)  # pyright: ignore[reportCallIssue]
RunHook("c", providers="nyx")  # pyright: ignore[reportCallIssue]
NexioHook(conn_id="c")  # pyright: ignore[reportCallIssue]
NyxHook(onepin_conn_id="c")  # pyright: ignore[reportCallIssue]
OnepinHook("c", logger="l")  # pyright: ignore[reportCallIssue]
B3osHook("c", provider="b3os")  # pyright: ignore[reportCallIssue]
NektHook("c", timeout=5)  # pyright: ignore[reportCallIssue]
runops_retry_policy(reatach_delay=DAY)  # pyright: ignore[reportCallIssue]

# A name that is missing, and a value of the wrong kind.
NexioRunOperator(task_id="decide", input={})  # pyright: ignore[reportCallIssue]
NyxRunSensor(run_id="r")  # pyright: ignore[reportCallIssue]
B3osRunOperator(task_id="pay", workflow_id=7)  # pyright: ignore[reportArgumentType]
NexioRunSensor(task_id="s", run_id="r", mode="rescedule")  # pyright: ignore[reportArgumentType]
OnepinRunOperator(task_id="o", workflow_id="w", retries="2")  # pyright: ignore[reportArgumentType]
NektPipelineSensor(task_id="s", pipeline="p", which="newest")  # pyright: ignore[reportArgumentType]

assert_type(cancel_orphans("airflow_api", since=timedelta(days=1), cancel=False), list[dict[str, Any]])
cancel_orphans(since=60)  # pyright: ignore[reportArgumentType]

many = NektRunsSensor(task_id="loaded", run_ids=["a", "b"], require=0.95, stop_early=True, deferrable=True)
assert_type(many, NektRunsSensor)
NektRunsSensor(task_id="loaded", run_ids=operator.output, require="any", max_spend=5.0, start_from_trigger=True)
NektRunsSensor(task_id="loaded", run_ids="{{ dag_run.conf['ids'] | tojson }}")
OnepinRunsSensor(task_id="voiced", workflow_id=["w1", "w2"], run_ids=["a", "b"])
RunsSensor(task_id="any", provider="acme_runs:ACME", run_ids=["a"], parents=[{"project": "p"}])
NexioRunsOperator(task_id="place", calls=[{"engine_slug": "e", "input": {}}], max_active=50, require=0.9)
NexioRunsOperator(task_id="place", calls=operator.output)
NektRunsSensor(task_id="loaded", run_ids=["a"], require="some")  # pyright: ignore[reportArgumentType]
NektRunsSensor(task_id="loaded", run_ids=["a"], max_active=3)  # pyright: ignore[reportCallIssue]
