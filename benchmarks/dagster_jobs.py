"""The code location whose cost is measured: a step for each run, one step for all, and steps that do nothing."""

import os
from typing import Any

import dagster as dg

from runops import dagster as ours
from runops.dagster import RunResource, wait_for_run

STEPS = int(os.environ.get("BENCH_TASKS", "20"))
RUNS = int(os.environ.get("BENCH_RUNS", "1000"))
AT_ONCE = int(os.environ.get("BENCH_AT_ONCE", "8"))
EXECUTOR = dg.multiprocess_executor.configured({"max_concurrent": AT_ONCE})
RESOURCES: dict[str, Any] = {
    "steady": RunResource(
        provider="benchmarks.steady:STEADY",
        api_key="key-0",
        base_url=os.environ.get("BENCH_URL", ""),
        verify=os.environ.get("BENCH_CERTIFICATE"),
    )
}


def nothing(number: int) -> dg.OpDefinition:
    """A step that does nothing."""

    @dg.op(name=f"nothing_{number}")
    def made() -> None:
        pass

    return made


def waits(number: int) -> dg.OpDefinition:
    """A step that submits one run and waits for it."""

    @dg.op(name=f"run_{number}", required_resource_keys={"steady"})
    def made(context: dg.OpExecutionContext) -> None:
        resource = context.resources.steady
        wait_for_run(context, resource, call=resource.call(engine_slug="placement", input={"number": number}))

    return made


@dg.op(required_resource_keys={"steady"})
def all_runs(context: dg.OpExecutionContext) -> None:
    """One step that submits all runs and waits for them."""
    calls = [{"engine_slug": "placement", "input": {"number": number}} for number in range(RUNS)]
    ours.wait_for_runs(context, context.resources.steady, calls=calls, max_active=RUNS)


@dg.job(executor_def=EXECUTOR)
def empty() -> None:
    """Steps that do nothing."""
    for number in range(STEPS):
        nothing(number)()


@dg.job(executor_def=EXECUTOR, resource_defs=RESOURCES)
def steps() -> None:
    """A step process for each run."""
    for number in range(STEPS):
        waits(number)()


@dg.job(executor_def=EXECUTOR, resource_defs=RESOURCES)
def one_step() -> None:
    """One step process for all runs."""
    all_runs()


definitions = dg.Definitions(jobs=[empty, steps, one_step])
