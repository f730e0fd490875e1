"""An event loop whose time is made up: a wait of hours takes milliseconds, and a busy machine changes nothing.

How it works. A loop asks its selector what is ready, and to wait for it until the next timer. Here the selector never
waits: where nothing is ready, nothing can happen before that timer, and the clock jumps to it. Only while a thread of
the loop's executor is at work (``off_loop``), or where no timer is left, does the loop wait in real time, and its own
clock stands still meanwhile. Other threads are not known to it: time may run away under them.

For this, both ends of every connection are in one loop. ``create_server`` listens on a port that no other process can
see, and ``create_connection`` to such a port makes a pair of connected sockets: what one end has written can be read at
the other end at once, and the system is left nothing to do later. All above that is real: asyncio's transports, TLS,
the parser, and how connections end. A connection to anywhere else is refused.

``run`` takes the place of ``asyncio.run``. Inside it ``asyncio.sleep``, ``asyncio.timeout`` and ``loop.call_later``
follow the made-up time; ``wall_clock`` is the same time in unix seconds, for all that takes a ``clock``.
``stand_still`` lets time pass while the loop does nothing, as when a callback computes or others use the core.
"""

from __future__ import annotations

import asyncio
import itertools
import selectors
import socket
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from runops.testing.selector import ForwardingSelector

T = TypeVar("T")

BEGAN = 1_800_000_000.0
"""Unix seconds at which each loop begins, at its own time 0."""
REAL_PATIENCE = 60.0
"""Real seconds after which a thread, or somebody outside, counts as lost."""
FIRST_PORT = 40_000
STEP = 1e-8
"""Seconds that pass in each round of the loop: a timer that is set anew for now must come to an end, as it does."""


class SimulatedLoop(asyncio.SelectorEventLoop):
    """See the module. Its ``time()`` begins at 0."""

    def __init__(self) -> None:
        self._selector_of_time = _Selector()
        self._now = 0.0
        self._outside = 0
        self._ports = itertools.count(FIRST_PORT)
        self._listening: dict[int, SimulatedServer] = {}
        super().__init__(self._selector_of_time)
        self._selector_of_time.loop = self

    def time(self) -> float:
        """Made-up seconds."""
        return self._now

    def wall_clock(self) -> float:
        """The same as unix seconds."""
        return BEGAN + self._now

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Wait for its threads, as long as they take: from Python 3.12 on a clock bounds it, and this one jumps."""
        await super().shutdown_default_executor()

    def stand_still(self, seconds: float) -> None:
        """Let time pass in which the loop does nothing."""
        self._now += seconds

    @property
    def waits_for_others(self) -> bool:
        """Whether a thread of the executor is at work for this loop."""
        return self._outside > 0

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """As ever; time stands still until it is done."""
        future = super().run_in_executor(executor, func, *args)
        self._outside += 1
        future.add_done_callback(self._back)
        return future

    def _back(self, future: asyncio.Future[Any]) -> None:
        self._outside -= 1

    async def create_server(self, protocol_factory: Any, host: Any = None, port: Any = None, **options: Any) -> Any:
        """Listen on a port that only this loop knows; 0 for any. ``ssl`` is heeded, other options are not."""
        number = port or next(self._ports)
        server = self._listening[number] = SimulatedServer(self, protocol_factory, number, options.get("ssl"))
        return server

    async def create_connection(
        self, protocol_factory: Any, host: Any = None, port: Any = None, *, ssl: Any = None, **options: Any
    ) -> Any:
        """Connect to a port of this loop, or take a connected ``sock``."""
        theirs = options.pop("sock", None)
        if theirs is None:
            await asyncio.sleep(0)
            server = self._listening.get(port)
            if server is None:
                raise ConnectionRefusedError(f"no server of this loop listens on port {port}")
            theirs = server.accept()
        name = options.get("server_hostname") or (host if ssl else None)
        return await super().create_connection(protocol_factory, sock=theirs, ssl=ssl, server_hostname=name)

    def stop_listening(self, port: int) -> None:
        """Refuse connections to a port from now on."""
        self._listening.pop(port, None)


class SimulatedServer:
    """What ``create_server`` gives: as much of ``asyncio.Server`` as tests use."""

    def __init__(self, loop: SimulatedLoop, factory: Callable[[], Any], port: int, ssl: Any) -> None:
        self._loop = loop
        self._factory = factory
        self._port = port
        self._ssl = ssl
        self._accepting: set[asyncio.Task[Any]] = set()
        self.sockets = (self,)

    def getsockname(self) -> tuple[str, int]:
        """The address, as a listening socket says it."""
        return "127.0.0.1", self._port

    def accept(self) -> socket.socket:
        """A new connection; this is the client's end."""
        client, here = socket.socketpair()
        for end in (client, here):
            end.setblocking(False)
        task = self._loop.create_task(self._loop.connect_accepted_socket(self._factory, here, ssl=self._ssl))
        self._accepting.add(task)
        task.add_done_callback(self._accepted)
        return client

    def _accepted(self, task: asyncio.Task[Any]) -> None:
        self._accepting.discard(task)
        if not task.cancelled():
            # A handshake that the client broke off is told at the client.
            task.exception()

    def close(self) -> None:
        """Refuse new connections; those that stand go on."""
        self._loop.stop_listening(self._port)

    async def wait_closed(self) -> None:
        """Nothing is left to wait for."""

    async def __aenter__(self) -> SimulatedServer:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


class _Selector(ForwardingSelector):
    """The system's selector, which waits for nothing but threads."""

    def __init__(self) -> None:
        super().__init__()
        self.loop: SimulatedLoop | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._real.select(0)
        if self.loop is not None:
            self.loop.stand_still(STEP)
        if ready or self.loop is None or (timeout is not None and timeout <= 0):
            return ready
        if timeout is None or self.loop.waits_for_others:
            ready = self._real.select(REAL_PATIENCE)
            if not ready:
                raise RuntimeError("nothing is left that could wake this loop")
            return ready
        self.loop.stand_still(timeout)
        return []


def run(main: Coroutine[Any, Any, T]) -> T:
    """``asyncio.run`` in made-up time."""
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        return runner.run(main)


def loop() -> SimulatedLoop:
    """The running one."""
    running = asyncio.get_running_loop()
    assert isinstance(running, SimulatedLoop)
    return running


def wall_clock() -> float:
    """Unix seconds, for all that takes a ``clock``: in a simulated loop the made-up ones."""
    return loop().wall_clock()


async def until(condition: Callable[[], Any], seconds: float = 10.0, *, every: float = 0.005) -> None:
    """Wait for something that will be true soon, by the time of the loop."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(every)
