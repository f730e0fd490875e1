"""The job of test_shared_limit.py: fifty steps that wait for a run each, each in a process of its own."""

import json
import os
from collections.abc import Callable
from typing import Any

import dagster as dg

from runops.dagster import RunResource, wait_for_run

TOLD: dict[str, Any] = json.loads(os.environ.get("RUNOPS_TEST_LIMITED", "{}"))
"""See tests/limited_waits.py."""
CLIENT: dict[str, Any] = TOLD.get("client", {"token": ""})


def step_of(name: str, run_id: str) -> Callable[[], Any]:
    """A step that waits for one run."""

    @dg.op(name=name, out=dg.Out(dg.Nothing))
    def step(context: dg.OpExecutionContext, nexio: RunResource) -> None:
        wait_for_run(context, nexio, ref=nexio.ref(run_id), timeout=3600)

    return step


@dg.job(
    executor_def=dg.multiprocess_executor.configured(
        {
            "max_concurrent": 60,
            "start_method": {"forkserver": {"preload_modules": ["dagster", "runops.dagster.builders.asset"]}},
        }
    ),
    resource_defs={
        "nexio": RunResource(
            provider="tests.limited_waits:OFTEN",
            api_key=CLIENT["token"] or "k",
            **{name: value for name, value in CLIENT.items() if name != "token"},
        )
    },
)
def limited() -> None:
    """A step for each run."""
    for name, runs in TOLD.get("runs", {}).items():
        if name.startswith("step"):
            step_of(name.replace(" ", "_"), runs[0])()


def main() -> None:
    """Run the job."""
    with (
        dg.DagsterInstance.get() as instance,
        dg.execute_job(dg.reconstructable(limited), instance=instance, raise_on_error=False) as result,
    ):
        print("ENDED", result.success)
