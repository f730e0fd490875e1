"""What keeps a triggerer's loop going round while thousands of triggers begin at once, as after a restart.

All that ask for one connection at the same moment share one read of it: each read is several requests to Airflow, and a
millisecond of its work on the loop. What each of them makes of the answer, it makes in a round of the loop of its own.
"""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

SAME_MOMENT = 1.0
"""Seconds for which a read that is under way serves those who come later: a key may be changed meanwhile."""


@dataclass
class Crowd:
    """The triggers of one event loop."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    reads: dict[str, tuple[float, asyncio.Task[Any]]] = field(default_factory=dict)


_crowds: WeakKeyDictionary[AbstractEventLoop, Crowd] = WeakKeyDictionary()


def _crowd() -> Crowd:
    return _crowds.setdefault(asyncio.get_running_loop(), Crowd())


async def own_round() -> None:
    """Come back in a round of the loop in which nobody else does who waits here."""
    async with _crowd().turn:
        await asyncio.sleep(0)


async def shared(name: str, read: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """What a read gives. It goes on as long as somebody waits for it.

    :param name: What is read: those who name the same share it.
    :param read: Reads it.
    """
    now = asyncio.get_running_loop().time()
    reads = _crowd().reads
    began, task = reads.get(name, (0.0, None))
    if task is None or task.done() or now - began > SAME_MOMENT:
        task = asyncio.create_task(read())
        task.add_done_callback(_take_error)
        reads[name] = (now, task)
    waiting = _waiting.setdefault(task, [0])
    waiting[0] += 1
    try:
        return await asyncio.shield(task)
    finally:
        waiting[0] -= 1
        if not waiting[0]:
            # Nobody is left; once it is done, this does nothing.
            task.cancel()
            if reads.get(name, (0.0, None))[1] is task:
                del reads[name]


_waiting: WeakKeyDictionary[asyncio.Task[Any], list[int]] = WeakKeyDictionary()


def _take_error(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        # Those who waited for it may be gone: then nobody else takes its error.
        task.exception()
