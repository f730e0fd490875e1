"""An event loop beside a thread that a host may interrupt anywhere. It knows neither runs nor hosts.

Airflow and Dagster interrupt the main thread of a task or step wherever it stands: by a clock or by a kill. An event
loop that an exception strikes in the middle leaves its tasks in pieces. So the loop runs in another thread, where
nothing strikes. The thread that a host knows does what the loop asks of that host (connections, records, lines of the
log), one thing after the other, since not every channel or storage takes several threads. What interrupts it asks the
loop to come to an end, and the thread serves the loop until it has.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import queue
import threading
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager, suppress
from typing import Any, Generic, TypeVar

R = TypeVar("R")
T = TypeVar("T")

SLICE_SECONDS = 0.1
"""Seconds after which an interrupt that was held back is heard at the latest."""


class SideLoop(Generic[R]):
    """Runs one coroutine beside the thread that calls :meth:`run`; used once.

    Args:
        work: Given this, what runs in the loop. An interrupt does not cancel it: ``stop`` is called.
        stop: Called in the loop, maybe twice, when an interrupt has come: the work is to end soon, by itself.
        patience: Seconds for which an interrupt waits for that; ``math.inf`` for as long as it takes.
        let_through: Called between two things that the thread does for the loop, at least every ``SLICE_SECONDS``:
            raises an interrupt that was held back. None where interrupts strike by themselves.
        context: What the work's variables are; by default those of the thread.
    """

    def __init__(
        self,
        work: Callable[[SideLoop[R]], Coroutine[Any, Any, R]],
        stop: Callable[[], object],
        *,
        patience: float = 15.0,
        let_through: Callable[[], object] | None = None,
        context: contextvars.Context | None = None,
    ) -> None:
        self._work = work
        self._stop = stop
        self._patience = patience
        self._let_through = let_through
        self._context = context
        self._calls: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = False
        self._result: Any = None
        self._error: BaseException | None = None

    def run(self) -> R:
        """The result of the work.

        Raises:
            BaseException: What the work has raised; or the interrupt, once the work has ended for it.
        """
        context = contextvars.copy_context() if self._context is None else self._context
        threading.Thread(target=context.run, args=(self._run_loop,), name="runops-loop", daemon=True).start()
        try:
            self._serve(self._let_through)
        except BaseException:
            self.stop()
            with self._for_long_enough():
                self._serve(None)
            raise
        if self._error is not None:
            raise self._error
        return self._result

    def stop(self) -> None:
        """Ask the work to end soon; from any thread, a signal's handler included."""
        self._stopping = True
        self.call(self._stop)

    def call(self, act: Callable[[], object]) -> None:
        """Have something done in the loop; from any thread."""
        loop = self._loop
        if loop is not None:
            # A loop that is closed by now has nothing left to do.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(act)

    async def in_caller(self, act: Callable[[], T]) -> T:
        """What a function gives that is called in the thread beside; asked from the loop.

        Args:
            act: It may ask the host.

        Raises:
            Exception: What it raises.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def do() -> None:
            try:
                value, settle = act(), answer.set_result
            except Exception as error:  # noqa: BLE001 - it belongs to whoever asked
                value, settle = error, answer.set_exception
            with suppress(RuntimeError):  # whoever asked may be gone, and the loop with it
                loop.call_soon_threadsafe(_settle, answer, settle, value)

        self._calls.put(do)
        return await answer

    def soon_in_caller(self, act: Callable[[], object]) -> None:
        """Have something done in the thread beside, and do not wait for it; from any thread. Its errors are dropped."""
        self._calls.put(lambda: _quietly(act))

    def _serve(self, let_through: Callable[[], object] | None) -> None:
        """Do what the loop asks for until it has ended, or an interrupt has waited for that for long enough."""
        while True:
            if let_through is not None:
                let_through()
            try:
                call = self._calls.get(timeout=None if let_through is None else SLICE_SECONDS)
            except queue.Empty:
                continue
            if call is None:
                return
            call()

    @contextmanager
    def _for_long_enough(self) -> Generator[None]:
        if math.isinf(self._patience):
            yield
            return
        limit = threading.Timer(self._patience, self._calls.put, (None,))
        limit.daemon = True
        limit.start()
        try:
            yield
        finally:
            limit.cancel()

    def _run_loop(self) -> None:
        try:
            self._result = asyncio.run(self._begin())
        except BaseException as error:  # noqa: BLE001 - raised again in the thread beside
            self._error = error
        finally:
            self._calls.put(None)

    async def _begin(self) -> R:
        self._loop = asyncio.get_running_loop()
        if self._stopping:
            # It may have come before there was a loop to tell.
            self._stop()
        return await self._work(self)


def _settle(answer: asyncio.Future[Any], settle: Callable[[Any], None], value: Any) -> None:
    if not answer.done():
        settle(value)


def _quietly(act: Callable[[], object]) -> None:
    # A line that a log does not take ends no wait.
    with suppress(Exception):
        act()
