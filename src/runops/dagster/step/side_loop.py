"""An event loop beside a step, in a thread of its own. It knows neither runs nor records.

Dagster interrupts the main thread, wherever that stands, and an event loop that is interrupted anywhere leaves its
tasks in pieces. So the loop runs in another thread, where nothing strikes. The step's own thread does what the loop
asks of Dagster, one thing after the other (records, lines of the log, questions to the instance: not every storage
takes several threads), and it hears of interrupts in between: then it asks the loop to come to an end, and goes on to
serve it until it has.
"""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Generic, TypeVar

from runops.dagster.step.interrupts import HeldInterrupts

R = TypeVar("R")
T = TypeVar("T")

_SLICE = 0.1
"""Seconds after which an interrupt is heard at the latest."""


class SideLoop(Generic[R]):
    """Runs one coroutine beside the step.

    Args:
        work: What runs in the loop; it is not cancelled on an interrupt, but told by ``stop``.
        stop: Called in the loop, maybe twice, when an interrupt has come: the work is to end soon, by itself.
    """

    def __init__(self, work: Callable[[], Coroutine[Any, Any, R]], stop: Callable[[], None]) -> None:
        self._work = work
        self._stop = stop
        self._asked: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = threading.Event()
        self._result: R | None = None
        self._error: BaseException | None = None

    def run(self) -> R:
        """The result of the work; in the step's own thread.

        Raises:
            BaseException: What the work has raised; or the interrupt, once the work has ended for it.
        """
        held = HeldInterrupts()
        thread = threading.Thread(target=self._run_loop, name="runops-loop", daemon=True)
        with held:
            thread.start()
            try:
                self._serve(held)
            except BaseException:
                self._ask_to_stop()
                self._serve(None)
                raise
            finally:
                thread.join()
        if self._error is not None:
            raise self._error
        return self._result  # pyright: ignore[reportReturnType] - without an error there is one

    async def in_step(self, act: Callable[[], T]) -> T:
        """What a function gives that is called in the step's own thread; asked from the loop."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def do() -> None:
            try:
                value, settle = act(), answer.set_result
            except Exception as error:  # noqa: BLE001 - it belongs to whoever asked
                value, settle = error, answer.set_exception
            # Whoever asked may be gone, and the loop with it.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_settle, settle, answer, value)

        self._asked.put(do)
        return await answer

    def tell(self, act: Callable[[], object]) -> None:
        """Have something done in the step's own thread, and do not wait for it; from any thread."""
        self._asked.put(lambda: _quietly(act))

    def _serve(self, held: HeldInterrupts | None) -> None:
        """Do what the loop asks for until it has ended, or until an interrupt strikes where one may."""
        while True:
            if held is not None:
                held.let_through()
            try:
                asked = self._asked.get(timeout=_SLICE)
            except queue.Empty:
                continue
            if asked is None:
                return
            asked()

    def _ask_to_stop(self) -> None:
        self._stopping.set()
        loop = self._loop
        if loop is not None:
            # A loop that is closed by now has nothing left to end.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._stop)

    def _run_loop(self) -> None:
        try:
            # Without the step's own variables: what runs here outlives no step, and logs through the step's thread.
            self._result = contextvars.Context().run(asyncio.run, self._begin())
        except BaseException as error:  # noqa: BLE001 - raised again in the step's thread
            self._error = error
        finally:
            self._asked.put(None)

    async def _begin(self) -> R:
        self._loop = asyncio.get_running_loop()
        if self._stopping.is_set():
            # It may have come before there was a loop to tell.
            self._stop()
        return await self._work()


def _settle(settle: Callable[[Any], None], answer: asyncio.Future[Any], value: Any) -> None:
    if not answer.done():
        settle(value)


def _quietly(act: Callable[[], object]) -> None:
    # A line that the log does not take ends no wait.
    with suppress(Exception):
        act()
