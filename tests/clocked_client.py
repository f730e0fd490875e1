"""A client for asyncio whose waits follow the clock and the sleep of a test, beside services that run elsewhere."""

from __future__ import annotations

from typing import Any

from runops.core import AsyncRunClient, RunRef, RunSnapshot
from runops.core.waiting import flows
from runops.core.waiting.options import DEFAULT_TIMEOUT, Seconds


class ClockedClient(AsyncRunClient):
    """Each wait by itself. A poller keeps the time of its loop, which runs away under threads."""

    async def wait(self, ref: RunRef, timeout: Seconds = DEFAULT_TIMEOUT, **settings: Any) -> RunSnapshot:
        options, context = self._wait_options(timeout, settings)  # pyright: ignore[reportArgumentType]
        with self._waits(ref) as ended:
            return ended(await self.drive(flows.wait(self.provider, ref, options, clock=self.clock, **context)))
