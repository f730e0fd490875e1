"""How users type against the Airflow side: checked by pyright in ``make check``, never run."""

from __future__ import annotations

from datetime import timedelta
from typing import assert_type

from runops.airflow import (
    B3osRunOperator,
    NektRunSensor,
    NexioHook,
    NexioRunOperator,
    NyxRunOperator,
    OnepinRunSensor,
    RunOperator,
    RunSensor,
)
from runops.core import NYX_GATE

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

NexioRunOperator(task_id="decide", input={})  # pyright: ignore[reportCallIssue]
B3osRunOperator(task_id="pay", workflow_id=7)  # pyright: ignore[reportArgumentType]
