"""What a process that shares a limit runs, without a host: a triggerer's loop with many waits, or the wait of one step.

``python -m tests.limited_waits loop|step NAME FILE``; what it needs stands in ``RUNOPS_TEST_LIMITED``. It goes on until
it is told to end (SIGTERM), and writes down which waits were over before that.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from runops.core import AsyncRunClient, RunClient, find
from runops.core.model.cadence import Cadence

TOLD: dict[str, Any] = json.loads(os.environ.get("RUNOPS_TEST_LIMITED", "{}"))
"""``client`` (settings), ``runs`` (by the name of the process), ``intervals`` (seconds of a loop, and of a step)."""
_SECONDS = TOLD.get("intervals", (5.0, 5.0))[sys.argv[1:2] != ["loop"]]
OFTEN = replace(find("nexio"), name="often", cadence=Cadence(first=_SECONDS, factor=1.0, ceiling=_SECONDS))
"""Nexio, where a wait that has lasted for a while looks as often as one that has just begun."""


class Told(BaseException):
    """Somebody ends this process."""


async def loop(runs: list[str]) -> list[str]:
    """Wait for many runs in one loop; which waits were over before it was told to end."""
    over: list[str] = []
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    async with AsyncRunClient(OFTEN, **TOLD["client"]) as client:

        async def wait(run_id: str) -> None:
            try:
                last = await client.wait(client.ref(run_id), 3600)
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


def step(runs: list[str]) -> list[str]:
    """Wait for one run, as a step does; as above."""

    def end(number: int, frame: FrameType | None) -> NoReturn:
        raise Told

    signal.signal(signal.SIGTERM, end)
    try:
        with RunClient(OFTEN, **TOLD["client"]) as client:
            last = client.wait(client.ref(runs[0]), 3600)
            ended = [f"{runs[0]} {last.outcome}"]
    except Told:
        return []
    except Exception as error:
        ended = [f"{runs[0]} {type(error).__name__}: {error}"]
    with suppress(Told):
        time.sleep(3600)
    return ended


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    kind, name, file = sys.argv[1:]
    ended = asyncio.run(loop(TOLD["runs"][name])) if kind == "loop" else step(TOLD["runs"][name])
    Path(file).write_text(json.dumps(ended))
