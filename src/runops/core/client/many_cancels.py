"""The cancel of many runs at once, for whoever ends a set: a kill, a clear, Terminate, or a last failure."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from runops.core.many.rows import Row
from runops.core.model.errors import RunopsError
from runops.core.waiting.intent import Intent

if TYPE_CHECKING:
    from runops.core.client.asynchronous import AsyncRunClient

CANCELS_AT_ONCE = 16
"""Requests to cancel that are under way for one set."""


async def cancel_rows(client: AsyncRunClient, rows: Iterable[Row], seconds: float | None = None) -> dict[int, str]:
    """Ask for the runs of rows to be cancelled, several at once. A failure of one keeps no other from it.

    A run whose submit was not answered is looked for once, by its mark.

    Args:
        client: Sends.
        rows: Of runs that are ours.
        seconds: After which no more is waited for; None where the caller sees to that.

    Returns:
        What is not known to be cancelled, and why, by the row's index.
    """
    at_once = asyncio.Semaphore(CANCELS_AT_ONCE)
    left: dict[int, str] = {}

    async def cancel(row: Row) -> None:
        ref = row.ref(client.provider.name)
        try:
            async with at_once:
                if ref is None:
                    ref = await client.find_submitted(row.parents, row.intent or Intent(), submit_grace=0.0)
                await client.cancel(ref)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller names it beside the run that may go on
            left[row.index] = error.text if isinstance(error, RunopsError) else type(error).__name__
        else:
            del left[row.index]

    loop = asyncio.get_running_loop()
    tasks: list[asyncio.Task[None]] = []
    for row in rows:
        left[row.index] = "there was no answer in time"
        tasks.append(loop.create_task(cancel(row)))
    if not tasks:
        return left
    try:
        await asyncio.wait(tasks, timeout=seconds)
    finally:
        for task in tasks:
            task.cancel()
    return left
