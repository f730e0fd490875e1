"""Many waits at once on one client. What they show is the display's business, what an end is worth the policy's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from runops.cli import notes, unexpected
from runops.cli.display import Display
from runops.cli.output import OutputError
from runops.core import AsyncRunClient, ConfigurationError, OutcomePolicy, RunopsError, RunRef, RunSnapshot
from runops.core.telemetry import METER, RunEnd, now, record
from runops.core.waiting.options import WaitOptions

TICK = 0.5
"""Seconds between two drawings of a live display."""


def watch_runs(
    client: AsyncRunClient, refs: Sequence[RunRef], patience: WaitOptions, display: Display, policy: OutcomePolicy
) -> list[RunSnapshot | None]:
    """Wait until all runs are over; the last snapshot of each, or None where that could not be told.

    Raises:
        OutputError: What they show cannot be written.
        ConfigurationError: A setting is wrong, for all of them alike.
    """
    with notes.shown(display.note):
        return asyncio.run(_watch(client, refs, patience, display, policy))


async def _watch(
    client: AsyncRunClient, refs: Sequence[RunRef], patience: WaitOptions, display: Display, policy: OutcomePolicy
) -> list[RunSnapshot | None]:
    async with client:
        waits = asyncio.gather(*(_one(client, ref, patience, display, policy) for ref in refs))
        if not display.live:
            return await waits
        ticking = asyncio.create_task(_tick(display))
        try:
            await asyncio.wait({waits, ticking}, return_when=asyncio.FIRST_COMPLETED)
            if ticking.done():
                # Nothing but an error ends it: nobody would see what the waits still show.
                ticking.result()
            return waits.result()
        finally:
            ticking.cancel()
            waits.cancel()
            await asyncio.gather(waits, ticking, return_exceptions=True)
            display.leave()


async def _one(
    client: AsyncRunClient, ref: RunRef, patience: WaitOptions, display: Display, policy: OutcomePolicy
) -> RunSnapshot | None:
    began = now()
    try:
        last = await client.wait(ref, on_update=display.saw, patience=patience)
    except (OutputError, ConfigurationError):
        raise
    except RunopsError as error:
        METER.erred(ref.provider, error)
        record(RunEnd.unknown(ref, error, began=began, ended=now()))
        display.failed(ref, str(error))
        return None
    except Exception as error:  # noqa: BLE001
        # Whatever it is, the other runs are waited for all the same.
        display.failed(ref, f"{ref}: {unexpected.describe(error)}")
        return None
    verdict = policy.judge(last).verdict
    METER.ended(client.provider, last, verdict)
    record(RunEnd.of(client.provider, last, verdict, began=began, ended=now()))
    display.ended(last)
    return last


async def _tick(display: Display) -> None:
    while True:
        await asyncio.sleep(TICK)
        display.tick()
