"""A code location that sets OpenTelemetry up, as a user's does: a run in a step, and many in another."""

from __future__ import annotations

import os

import dagster as dg
from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from runops.dagster import NyxResource, build_run_op, wait_for_runs

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
metrics.set_meter_provider(MeterProvider())

CALL = {
    "config_name": "traced",
    "name": "Nightly audit",
    "target": {"url": "https://agent.example.com"},
    "objective": "o",
    "budget_usd": 5,
    "severity_target": "high",
}
RUNS = os.environ.get("HOST_RUNS", "").split(",")

submits = build_run_op(name="submits", resource_key="nyx", call=CALL, poll_interval=0.2)


@dg.op(required_resource_keys={"nyx"})
def waits(context) -> None:
    nyx = context.resources.nyx
    with trace.get_tracer("users").start_as_current_span("step"):
        wait_for_runs(context, nyx, refs=[nyx.ref(run_id) for run_id in RUNS], poll_interval=0.2)


@dg.job(executor_def=dg.multiprocess_executor, resource_defs={"nyx": NyxResource(
    api_key="a-key-canary-77", base_url=os.environ.get("HOST_URL"))})  # fmt: skip
def traced() -> None:
    submits()
    waits()


defs = dg.Definitions(jobs=[traced])
