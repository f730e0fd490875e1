"""How long a trigger waits for Airflow itself: no request to a triggerer's supervisor is sure to be answered.

And none may be left in the middle: below Airflow 3.2 the answer to a request whose trigger was cancelled is taken for
the answer to the next one, of whatever trigger, and all after it are wrong too (apache/airflow#50185, #65286). There
each request is a task of its own, which nobody's cancellation and no clock reaches.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from runops.airflow._compat import answers_in_turn, supervisor
from runops.airflow.exceptions import TriggerCrashed

R = TypeVar("R")

AIRFLOW_SECONDS = 300.0
"""For one answer. Thousands of triggers that begin together wait in line for theirs."""


_UNDER_WAY: set[asyncio.Future[Any]] = set()
"""The loop holds its tasks weakly, and who waited for one may be gone."""


async def within(seconds: float, what: str, work: Awaitable[R]) -> R:
    """What ``work`` gives. Where the channel to Airflow needs that, it goes on to its end without who waits for it.

    :param seconds: How long to wait for it.
    :param what: What is waited for, for the message.
    :raises TriggerCrashed: It did not come in time.
    """
    if answers_in_turn(supervisor()):
        request = asyncio.ensure_future(work)
        _UNDER_WAY.add(request)
        request.add_done_callback(_ended)
        work = asyncio.shield(request)
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await work
    except TimeoutError:
        if not limit.expired():
            raise
        raise TriggerCrashed(f"Airflow did not answer within {seconds:g} s when asked for {what}.") from None


def _ended(request: asyncio.Future[Any]) -> None:
    _UNDER_WAY.discard(request)
    if not request.cancelled():
        # Who waited for it may be gone: then nobody else takes its error.
        request.exception()


async def in_own_thread(work: Callable[[], R]) -> R:
    """What ``work`` gives, in a thread that is used for nothing else.

    If it hangs, it takes none of the few threads that all of a loop share, and does not keep the process from ending.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[R] = loop.create_future()

    def resolve(set_it: Callable[[], None]) -> None:
        if not done.done():
            set_it()

    def run() -> None:
        set_it: Callable[[], None]
        try:
            set_it = partial(done.set_result, work())
        except BaseException as error:  # noqa: BLE001 - raised where the result is awaited
            set_it = partial(done.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(resolve, set_it)

    target = contextvars.copy_context().run
    threading.Thread(target=target, args=(run,), name="runops-attempt", daemon=True).start()
    return await done
