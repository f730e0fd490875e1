"""Where an event loop has large bodies read: in a thread, one at a time. It knows nothing of what they hold."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import TypeVar
from weakref import WeakKeyDictionary

from runops.core.declaration.decode import LARGE

R = TypeVar("R")

_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


async def off_loop(read: Callable[[], R], size: int) -> R:
    """What ``read`` makes of a body, without holding the loop where the body is large.

    Args:
        read: Works on nothing that the loop changes meanwhile, and calls Python now and then: while one call into C
            lasts, no other thread goes on.
        size: Of the body, in bytes.
    """
    if size <= LARGE:
        return read()
    loop = asyncio.get_running_loop()
    turn = _turns.get(loop)
    if turn is None:
        turn = _turns[loop] = asyncio.Lock()
    # Several at once would not be faster, and would take the interpreter's lock from the loop in turns.
    async with turn:
        return await asyncio.to_thread(_uncollected, read)


def _uncollected(read: Callable[[], R]) -> R:
    # A tree of JSON holds no cycles. A collection that it sets off while it grows looks through the whole process, and
    # no thread goes on meanwhile.
    collects = gc.isenabled()
    gc.disable()
    try:
        return read()
    finally:
        if collects:
            gc.enable()
