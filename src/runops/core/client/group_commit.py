"""One write for all that has changed: whoever must know that a change is written waits for the write that holds it.

While one write is under way, changes gather for the next one. So a set of a thousand runs costs as many writes as
there is time for, and not one for each change.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from runops.core.many.ledger import Changes, Ledger
from runops.core.many.rows import Row

logger = logging.getLogger("runops")

Store = Callable[[Changes], Awaitable[None]]
"""Writes what has changed. Where it raises, nothing counts as written."""
LAZY = 3.0
"""Seconds for which a change that nobody waits for may wait for others: an end that gets lost is read again."""
LAST_PAUSES = (0.5, 1.0)
"""Seconds between the tries of the last write."""
AGAIN = 5.0
"""Seconds until the next try of a write that has failed."""


class GroupCommit:
    """The writes of one ledger; see the module.

    Args:
        ledger: What is written.
        store: How; None where nothing is kept.
        changed: Called after each change.
    """

    def __init__(self, ledger: Ledger, store: Store | None, changed: Callable[[], None]) -> None:
        self.ledger = ledger
        self.changed = changed
        self._store = store
        self._written = 0
        self._writing: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._soon: set[asyncio.Task[None]] = set()
        self._warned = False

    def put(self, row: Row, seconds: float = LAZY) -> None:
        """Note what has become of a row, and have it written.

        Args:
            row: As it is now.
            seconds: For how long the write may wait for other changes.
        """
        if self.ledger.set(row):
            self.soon(seconds)
            self.changed()

    async def flush(self) -> None:
        """Return once all that has changed up to now is written.

        Raises:
            Exception: What the store has raised.
        """
        wanted = self.ledger.version
        while self._store is not None and self._written < wanted:
            if self._writing is None:
                self._writing = asyncio.get_running_loop().create_task(self._write(self._store))
                self._writing.add_done_callback(_seen)
            # Others wait for the same write: whoever is cancelled leaves it alone.
            await asyncio.shield(self._writing)

    def soon(self, seconds: float = LAZY) -> None:
        """Have written what has changed, without anybody waiting for it.

        Args:
            seconds: For how long it may wait for other changes.
        """
        if self._store is None:
            return
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            if self._timer.when() <= loop.time() + seconds:
                return
            self._timer.cancel()
        self._timer = loop.call_later(seconds, self._begin)

    async def close(self) -> None:
        """Write what is left, in a few tries. That it cannot be written is logged: it is true all the same."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for pause in LAST_PAUSES:
            try:
                await self.flush()
            except Exception:  # noqa: BLE001 - a store raises what it likes, and the last failure is logged
                await asyncio.sleep(pause)
            else:
                return
        await self._try_flush(again=False)

    def _begin(self) -> None:
        self._timer = None
        task = asyncio.get_running_loop().create_task(self._try_flush(again=True))
        self._soon.add(task)
        task.add_done_callback(self._soon.discard)

    async def _try_flush(self, *, again: bool) -> None:
        try:
            await self.flush()
        except Exception as error:  # noqa: BLE001 - a store raises what it likes
            if not self._warned or not again:
                self._warned = True
                logger.warning(
                    "The record of this set of runs could not be written (%s)%s; a retry after a crash may not find "
                    "all that it did.",
                    type(error).__name__,
                    " and is tried again" if again else "",
                )
            if again:
                self.soon(AGAIN)
        else:
            self._warned = False

    async def _write(self, store: Store) -> None:
        try:
            # What others change in this round of the loop goes with it.
            await asyncio.sleep(0)
            changes = self.ledger.take_changes()
            try:
                if changes.indices:
                    await store(changes)
            except BaseException:
                self.ledger.put_back(changes)
                raise
            self._written = max(self._written, changes.version)
        finally:
            self._writing = None


def _seen(task: asyncio.Task[None]) -> None:
    """Whoever waits for a write is told of its error; where nobody does, the loop shall not complain of it."""
    if not task.cancelled():
        task.exception()
