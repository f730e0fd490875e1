"""Event loops that wait for no timer: where nothing else is on its way, they move the clock to the next one.

What is on its way, and must not be overtaken by a timeout:

- requests of runops: a pool says when one begins and ends;
- threads of the loop's executor, and what a loop beside a task asks of the task's thread;
- connections to anything but the emulator, of which nobody says whether an answer is due: they get a moment of real
  time before each jump.
"""

from __future__ import annotations

import asyncio
import asyncio.events
import functools
import os
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from runops.core.client import asynchronous
from runops.core.polling.side_loop import SideLoop
from runops.core.transport import lean_pool
from runops.core.transport.httpx_pool import HttpxPool
from runops.testing import airflow_channel
from runops.testing.selector import ForwardingSelector

if TYPE_CHECKING:
    from runops.testing.clock import FakeTime

BESIDE = "runops-loop"
"""The name of threads in which runops runs a loop beside a task."""
MOMENT = 0.02
"""Real seconds for connections of which nobody knows whether something is due on them."""

_monotonic = time.monotonic


class JumpingLoop(asyncio.SelectorEventLoop):
    """See the module.

    Args:
        clock: What it moves.
        ports: Where what is known to be idle is connected to.
    """

    def __init__(self, clock: FakeTime, ports: Collection[int]) -> None:
        self._clock = clock
        self.busy = 0
        """What is on its way."""
        selector = _JumpingSelector(self, clock, ports)
        super().__init__(selector)
        # The loop's own pipe, by which threads wake it.
        selector.own = set(_numbers(selector))

    def time(self) -> float:
        """Seconds, those that were jumped included."""
        return _monotonic() + self._clock.passed

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """As ever; no timer is jumped to until it is done."""
        future = super().run_in_executor(executor, func, *args)
        self.busy += 1
        future.add_done_callback(self._done)
        return future

    def _done(self, future: asyncio.Future[Any]) -> None:
        self.busy -= 1


class _JumpingSelector(ForwardingSelector):
    """The system's selector; what it would only wait for a timer for has passed at once."""

    def __init__(self, loop: JumpingLoop, clock: FakeTime, ports: Collection[int]) -> None:
        super().__init__()
        self._loop = loop
        self._clock = clock
        self._ports = frozenset(ports)
        self.own: set[int] = set()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._real.select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if timeout is None or self._loop.busy:
            return self._real.select(timeout)
        if any(not self._is_idle(fd) for fd in _numbers(self._real)):
            ready = self._real.select(min(timeout, MOMENT))
            if ready:
                return ready
        self._clock.move(timeout)
        return []

    def _is_idle(self, fd: int) -> bool:
        if fd in self.own:
            return True
        try:
            with socket.socket(fileno=os.dup(fd)) as connection:
                return connection.getpeername()[1] in self._ports
        except (OSError, IndexError):
            return False


def _numbers(selector: selectors.BaseSelector) -> list[int]:
    return [key.fd for key in selector.get_map().values()]


@contextmanager
def jumping_loops(clock: FakeTime, ports: Collection[int]) -> Iterator[None]:
    """Have ``asyncio.run`` make such loops, in this thread and in those that runops starts beside a task.

    Args:
        clock: What they move.
        ports: As in :class:`JumpingLoop`.
    """
    tests_thread = threading.get_ident()
    make = asyncio.events.new_event_loop

    def make_jumping() -> asyncio.AbstractEventLoop:
        here = threading.current_thread()
        # A server in a thread of its own looks every so often whether it is to stop: it would run away with the time.
        ours = here.ident == tests_thread or here.name == BESIDE
        return JumpingLoop(clock, ports) if ours else make()

    with ExitStack() as stack:
        stack.enter_context(patch.object(asyncio.events, "new_event_loop", make_jumping))
        for owner, name in (*((pool, "exchange") for pool in _pools()), (SideLoop, "in_caller")):
            stack.enter_context(patch.object(owner, name, _on_its_way(getattr(owner, name))))
        for name in ("in_caller", "soon_in_caller"):
            stack.enter_context(patch.object(SideLoop, name, _asking_in_turn(getattr(SideLoop, name))))
        stack.enter_context(patch.object(asynchronous, "send_async", _on_its_way(asynchronous.send_async)))
        stack.enter_context(patch.object(SideLoop, "run", _serving_one_at_a_time(SideLoop.run, stack)))
        yield


def _pools() -> tuple[type[Any], ...]:
    """What carries requests here: the pool of the extra ``fast`` too, where its parser is installed."""
    lean = lean_pool()
    return (HttpxPool,) if lean is None else (HttpxPool, lean)


def _serving_one_at_a_time(run: Callable[..., Any], patches: ExitStack) -> Callable[..., Any]:
    """Before a loop beside a task begins: what it has done in the task's thread, and beside it, asks one by one."""

    @functools.wraps(run)
    def prepared(self: SideLoop[Any]) -> Any:
        if "runops.airflow.many.ledger_store" in sys.modules:
            airflow_channel.keep_threads_apart(patches)
        return run(self)

    return prepared


def _asking_in_turn(ask: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(ask)
    def asking(self: SideLoop[Any], act: Callable[[], object]) -> Any:
        return ask(self, airflow_channel.one_at_a_time(act))

    return asking


def _on_its_way(act: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(act)
    async def counted(*args: Any, **kwargs: Any) -> Any:
        loop = asyncio.get_running_loop()
        if not isinstance(loop, JumpingLoop):
            return await act(*args, **kwargs)
        loop.busy += 1
        try:
            return await act(*args, **kwargs)
        finally:
            loop.busy -= 1

    return counted
