"""The processes of test_shared_limit.py: a triggerer's loop with its many waits, and a job of fifty steps."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg

from runops.core import AsyncRunClient, find
from runops.dagster import NexioResource, wait_for_run

TOLD: dict[str, Any] = json.loads(os.environ.get("RUNOPS_TEST_LIMITED", "{}"))
"""``base_url``, ``store``, ``limit``, ``processes``, ``steps`` (a run each), ``waits`` (the runs of each triggerer)."""


async def trigger(runs: list[str]) -> list[str]:
    """Wait for many runs in one loop until somebody ends this process; which waits were over before that."""
    over: list[str] = []
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    async with AsyncRunClient(
        find("nexio"),
        token="canary-key-5f2b9c7e1d",
        base_url=TOLD["base_url"],
        requests_per_minute=TOLD["limit"],
        processes=TOLD["processes"],
        rate_store=TOLD["store"],
    ) as client:

        async def wait(run_id: str) -> None:
            try:
                last = await client.wait(client.ref(run_id), 3600, poll_interval=15)
                over.append(f"{run_id} {last.outcome}")
            except Exception as error:
                over.append(f"{run_id} {type(error).__name__}: {error}")

        waits = [asyncio.create_task(wait(run_id)) for run_id in runs]
        await told.wait()
        ended = list(over)
        for each in waits:
            each.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
    return ended


def step_of(name: str, run_id: str) -> Callable[[], Any]:
    """A step that waits for one run."""

    @dg.op(name=name, out={})
    def step(context: dg.OpExecutionContext, nexio: NexioResource) -> None:
        wait_for_run(context, nexio, ref=nexio.ref(run_id), timeout=3600, poll_interval=5)

    return step


@dg.job(
    executor_def=dg.multiprocess_executor.configured(
        {
            "max_concurrent": 60,
            "start_method": {"forkserver": {"preload_modules": ["dagster", "runops.dagster.builders.asset"]}},
        }
    ),
    resource_defs={
        "nexio": NexioResource(
            api_key="canary-key-5f2b9c7e1d",
            base_url=TOLD.get("base_url"),
            requests_per_minute=TOLD.get("limit"),
            processes=TOLD.get("processes"),
            rate_store=TOLD.get("store"),
        )
    },
)
def limited() -> None:
    """Fifty steps, each in a process of its own."""
    for number, run_id in enumerate(TOLD.get("steps", [])):
        step_of(f"step_{number}", run_id)()


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(asyncio.run(trigger(TOLD["waits"][sys.argv[1]]))))
