"""Many waits at once on one client. What they show is the display's business, what an end is worth the policy's."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from runops.cli.display import Display
from runops.core import AsyncRunClient, Outcome, RunopsError, RunRef

TICK = 0.5
"""Seconds between two drawings of a live display."""


def watch_runs(
    client: AsyncRunClient, refs: Sequence[RunRef], clocks: Mapping[str, Any], display: Display
) -> list[Outcome | None]:
    """Wait until all runs are over; how each ended, or None where that could not be told."""
    return asyncio.run(_watch(client, refs, clocks, display))


async def _watch(
    client: AsyncRunClient, refs: Sequence[RunRef], clocks: Mapping[str, Any], display: Display
) -> list[Outcome | None]:
    async with client:
        ticking = asyncio.create_task(_tick(display)) if display.live else None
        try:
            return await asyncio.gather(*(_one(client, ref, clocks, display) for ref in refs))
        finally:
            if ticking is not None:
                ticking.cancel()


async def _one(client: AsyncRunClient, ref: RunRef, clocks: Mapping[str, Any], display: Display) -> Outcome | None:
    try:
        last = await client.wait(ref, on_look=display.saw, **clocks)
    except RunopsError as error:
        display.failed(ref, error)
        return None
    display.ended(last)
    return last.outcome


async def _tick(display: Display) -> None:
    while True:
        await asyncio.sleep(TICK)
        display.tick()
