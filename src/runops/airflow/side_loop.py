"""An event loop beside a task, in a thread of its own. It knows no runs.

Airflow interrupts the main thread of a task wherever it stands: by ``execution_timeout``, whose exception a loop would
put into whatever it was at, and by a kill. So the loop runs in another thread, where nothing strikes. The main thread
does what the loop asks of Airflow (connections, records, XComs), one thing after the other, as Airflow's channel wants
it; what interrupts it asks the loop to come to an end, and serves it until it has.
"""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Generic, TypeVar

R = TypeVar("R")
T = TypeVar("T")


class SideLoop(Generic[R]):
    """Runs one coroutine beside the task; used once.

    :param work: Given this, what runs in the loop. An interrupt does not cancel it: ``stop`` tells it.
    :param stop: Called in the loop when an interrupt has come: the work is to end soon, by itself.
    :param patience: Seconds for which an interrupt waits for that.
    """

    def __init__(
        self,
        work: Callable[[SideLoop[R]], Coroutine[Any, Any, R]],
        stop: Callable[[], object],
        *,
        patience: float = 15.0,
    ) -> None:
        self._work = work
        self._stop = stop
        self._patience = patience
        self._asked: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = False
        self._result: Any = None
        self._error: BaseException | None = None

    def run(self) -> R:
        """The result of the work; to be called in the task's own thread.

        :raises BaseException: What the work has raised; or the interrupt, once the work has ended for it.
        """
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(self._run_loop,), name="runops-loop", daemon=True)
        thread.start()
        try:
            self._serve()
        except BaseException:
            self.stop()
            limit = threading.Timer(self._patience, self._asked.put, (None,))
            limit.start()
            self._serve()
            limit.cancel()
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

    async def in_task(self, act: Callable[[], T]) -> T:
        """What a function gives that is called in the task's own thread; asked from the loop.

        :param act: It may talk to Airflow.
        :raises Exception: What it raises.
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

        self._asked.put(do)
        return await answer

    def _serve(self) -> None:
        """Do what the loop asks for until it has ended, or for as long as an interrupt waits for that."""
        while (asked := self._asked.get()) is not None:
            asked()

    def _run_loop(self) -> None:
        try:
            self._result = asyncio.run(self._begin())
        except BaseException as error:  # noqa: BLE001 - raised again in the task's thread
            self._error = error
        finally:
            self._asked.put(None)

    async def _begin(self) -> R:
        self._loop = asyncio.get_running_loop()
        if self._stopping:
            # It may have come before there was a loop to tell.
            self._stop()
        return await self._work(self)


def _settle(answer: asyncio.Future[Any], settle: Callable[[Any], None], value: Any) -> None:
    if not answer.done():
        settle(value)
