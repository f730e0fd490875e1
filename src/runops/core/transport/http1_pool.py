"""HTTP/1.1 over asyncio with the parser of httptools: a pool of connections, and nothing that knows of runs.

It does what a poll needs and no more: requests that are bytes already, whole answers, kept connections. Proxies,
redirects, cookies and HTTP/2 are not its business; where one of them is needed, httpx does the work. So it does for a
service whose answers this strict parser refuses and httpx reads: from the first such answer on, for good
(HttpxFallback in httpx_pool.py).

An exchange takes the connection that was used last (:class:`IdleConnections`), or stands in a queue until one is opened
or becomes free. Connections are opened by tasks of the pool, as many as exchanges wait, up to ``max_connections``. Each
connection (http1_connection.py) says when it stands, is free, takes no more requests, and is gone.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
from dataclasses import dataclass

import httpx

from runops.core.model.errors import AnswerLost, ConnectionFailed
from runops.core.model.secret import Opaque
from runops.core.transport.base import CONNECT_SECONDS, AcceptAsync, Answer, Prepared, accept_any
from runops.core.transport.certificates import Certificates
from runops.core.transport.confirmation import STEP, listening
from runops.core.transport.failures import Peer, connection_failed, no_place, pool_closed
from runops.core.transport.http1_connection import Deadlines, Http1Connection, Unreadable
from runops.core.transport.httpx_pool import HttpxFallback
from runops.core.transport.network_settings import BY_ENVIRONMENT, NetworkSettings
from runops.core.transport.reuse import check_process

IDLE_SECONDS = 30.0
"""A kept connection is closed after so long without use."""
CLOSING_SECONDS = 0.25
"""For so long a connect that is under way may go on when the pool closes."""
NEXT_ADDRESS_AFTER = 0.25
"""Seconds that one address of a host has before the next is tried beside it (RFC 8305)."""

_REPEATABLE = frozenset({"GET", "HEAD"})


class Http1Pool:
    """Connections to one root. It belongs to the event loop of its first exchange.

    Args:
        root: The address of the service: its scheme, host and port.
        max_connections: The most connections; exchanges over it wait their turn.
        peer: Whom requests go to, for messages.
        network: Certificates; a proxy is not for this pool.
    """

    def __init__(
        self,
        root: str,
        *,
        max_connections: int,
        peer: Peer | None = None,
        network: NetworkSettings = BY_ENVIRONMENT,
    ) -> None:
        self.peer = peer or network.peer(root)
        self._target = Target.of(root, network.certificates)
        self._fallback = HttpxFallback(self._target.url, self.peer, network)
        self._most = max_connections
        self._open: set[Http1Connection] = set()
        self._standing: set[Http1Connection] = set()
        self.deadlines = Deadlines(self._open)
        self._idle = IdleConnections()
        self._connecting: set[asyncio.Task[None]] = set()
        # Who waits for a connection, in order. They do not connect themselves: an exchange may be cancelled at any
        # moment, and a connect that is cancelled in its last moment can leave a socket behind.
        self._queue: dict[asyncio.Future[Http1Connection], None] = {}
        self._closed = False
        self._ended = asyncio.Event()
        self._pid = os.getpid()

    def __repr__(self) -> str:
        return f"<Http1Pool {self._target.host}:{self._target.port}, {self.connections} connections>"

    @property
    def connections(self) -> int:
        """Open connections, and those being opened."""
        return len(self._open) + len(self._connecting) + self._fallback.connections

    @property
    def max_connections(self) -> int:
        """The most connections. When it is lowered, those over it close as they become free."""
        return self._most

    @max_connections.setter
    def max_connections(self, most: int) -> None:
        self._most = most
        self._fallback.limit_to(most)
        while self._idle and self.connections > most:
            self._idle.close_oldest()
        self._open_more()

    def prepare(self, request: httpx.Request) -> Prepared:
        """A request as the bytes that go on the wire, to be sent any number of times."""
        method = request.method.encode("ascii")
        lines = [b"%b %b HTTP/1.1" % (method, request.url.raw_path)]
        lines += [b"%b: %b" % header for header in request.headers.raw]
        return Prepared(request.method, Opaque(b"\r\n".join([*lines, b"", request.read()])))

    async def exchange(
        self, prepared: Prepared, *, limit: int, seconds: float, accept: AcceptAsync = accept_any
    ) -> Answer:
        """See :meth:`~runops.core.transport.base.Pool.exchange`."""
        if os.getpid() != self._pid:
            check_process(self._pid, "This pool of connections")
        ends = asyncio.get_running_loop().time() + seconds
        if self._fallback.in_use:
            return await self._exchange_by_httpx(prepared, limit, seconds, accept)
        try:
            return await self._exchange(prepared, limit, ends, seconds, accept)
        except Unreadable:
            if prepared.method not in _REPEATABLE:
                # What it was sent for may be done: the next one is read by httpx.
                self._leave_to_httpx()
                raise
        left = ends - asyncio.get_running_loop().time()
        answer = await self._exchange_by_httpx(prepared, limit, left, accept)
        self._leave_to_httpx()
        return answer

    async def _exchange(
        self, prepared: Prepared, limit: int, ends: float, seconds: float, accept: AcceptAsync
    ) -> Answer:
        connection = self._idle.take() or await self._turn(ends)
        answer: Answer | None = None
        try:
            answer = await connection.ask(prepared, limit, ends, seconds)
        except AnswerLost:
            if not connection.went_stale or prepared.method not in _REPEATABLE:
                raise
        if answer is None:
            # What lies idle may have gone stale with it.
            if self._idle and self.connections >= self._most:
                self._idle.close_oldest()
            connection = await self._turn(ends)
            answer = await connection.ask(prepared, limit, ends, seconds)
        try:
            looking = accept(answer)
            if looking is not None:
                await looking
        except BaseException:
            connection.abort()
            raise
        connection.give_back()
        return answer

    async def _exchange_by_httpx(self, prepared: Prepared, limit: int, seconds: float, accept: AcceptAsync) -> Answer:
        if self._closed:
            raise pool_closed()
        return await self._fallback.exchange(prepared, limit, seconds, accept, self._most)

    def _leave_to_httpx(self) -> None:
        self._fallback.use_from_now_on()
        self._idle.close_all()

    async def close(self) -> None:
        """Close every connection for good; what is on its way fails."""
        self._closed = True
        if os.getpid() != self._pid:
            # They belong to the process that forked this one, and so does what the loop watches.
            return
        self._idle.cancel()
        self.deadlines.cancel()
        for waiter in tuple(self._queue):
            _fail(waiter, pool_closed())
        for connection in tuple(self._open):
            connection.give_up()
        if self._connecting:
            # asyncio loses the socket of a connect that is cancelled in its last moment; most are over at once.
            await asyncio.wait(tuple(self._connecting), timeout=CLOSING_SECONDS)
        for task in self._connecting:
            task.cancel()
        self._signal_end()
        await self._fallback.close()
        await self._ended.wait()

    # --- places ---

    async def _turn(self, ends: float) -> Http1Connection:
        """The next connection that is opened or becomes free."""
        if self._closed:
            raise pool_closed()
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Http1Connection] = loop.create_future()
        self._queue[waiter] = None
        self._open_more()

        def end_waiting() -> None:
            # Where none is open yet, it is the connection itself that takes too long.
            _fail(waiter, no_place(self.peer) if self._open else connection_failed(TimeoutError(), self.peer))

        timer = loop.call_at(ends, end_waiting)
        try:
            return await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled() and waiter.exception() is None:
                # Cancelled with the connection in hand.
                self.freed(waiter.result())
            raise
        finally:
            self._queue.pop(waiter, None)
            timer.cancel()

    def _open_more(self) -> None:
        while len(self._connecting) < len(self._queue) and self.connections < self._most:
            # In a context of its own: it serves whoever comes, not the one who happened to ask first.
            task = asyncio.get_running_loop().create_task(self._connect(), context=contextvars.Context())
            self._connecting.add(task)
            task.add_done_callback(self._connected)

    async def _connect(self) -> None:
        async with asyncio.timeout(CONNECT_SECONDS):
            connection = await self._target.connect(self)
        if not connection.usable:
            raise ConnectionResetError
        task = asyncio.current_task()
        assert task is not None
        self._connecting.discard(task)
        self._open.add(connection)
        self.freed(connection)

    def _connected(self, task: asyncio.Task[None]) -> None:
        self._connecting.discard(task)
        error = None if task.cancelled() else task.exception()
        waiter = _next_in(self._queue) if error is not None else None
        if waiter is not None and error is not None:
            waiter.set_exception(connection_failed(error, self.peer))
        self._open_more()
        self._signal_end()

    def made(self, connection: Http1Connection) -> None:
        """A connection stands; what opened it will say so in its turn."""
        self._standing.add(connection)

    def freed(self, connection: Http1Connection) -> None:
        """A connection can take a request."""
        if self._closed or len(self._open) > self._most:
            connection.abort()
        elif not connection.usable:
            return
        elif (waiter := _next_in(self._queue)) is not None:
            waiter.set_result(connection)
        else:
            self._idle.add(connection)

    def leaving(self, connection: Http1Connection) -> None:
        """A connection takes no more requests."""
        if connection in self._open:
            self._open.remove(connection)
            self._idle.discard(connection)
            self._open_more()

    def gone(self, connection: Http1Connection) -> None:
        """A connection is closed: the loop says so in a round after the one in which it was closed."""
        self._standing.discard(connection)
        self._signal_end()

    def _signal_end(self) -> None:
        if self._closed and not (self._standing or self._connecting):
            self._ended.set()


@dataclass(frozen=True, slots=True)
class Target:
    """Where a pool's connections go."""

    url: httpx.URL
    host: str
    port: int
    tls: Certificates | None

    @classmethod
    def of(cls, root: str, certificates: Certificates) -> Target:
        """The one that an address names."""
        url = httpx.URL(root)
        tls = certificates if url.scheme == "https" else None
        return cls(url, url.raw_host.decode("ascii"), url.port or (443 if tls else 80), tls)

    async def connect(self, pool: Http1Pool) -> Http1Connection:
        """A new connection.

        Raises:
            ConfigurationError: A file of certificates cannot be used, and none could before.
        """
        # A file that was renewed meanwhile counts from the next connection on.
        context = await self.tls.context_off_loop() if self.tls else None
        began = asyncio.get_running_loop().time()
        transport, connection = await asyncio.get_running_loop().create_connection(
            lambda: Http1Connection(pool),
            self.host,
            self.port,
            ssl=context,
            server_hostname=self.host if context else None,
            happy_eyeballs_delay=NEXT_ADDRESS_AFTER,
        )
        if context is not None:
            took = asyncio.get_running_loop().time() - began
            try:
                await self._confirm(connection, transport, took)
            except BaseException:
                transport.abort()
                raise
        return connection

    async def _confirm(self, connection: Http1Connection, transport: asyncio.Transport, handshake: float) -> None:
        """See confirmation.py."""
        for seconds in listening(transport.get_extra_info("ssl_object"), handshake, None):
            if not connection.usable:
                break
            await asyncio.sleep(seconds)
        if not connection.usable:
            # Why is said in one of the next rounds of the loop.
            await asyncio.sleep(STEP)
            raise connection.broken_by or ConnectionResetError


class IdleConnections:
    """Connections without work. The last one used is used next, so that those beyond the need grow old and are closed.

    A connection that is closed leaves by :meth:`discard`, which its pool calls.
    """

    def __init__(self) -> None:
        self._connections: list[Http1Connection] = []
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._connections)

    def take(self) -> Http1Connection | None:
        """The last one used, or None."""
        return self._connections.pop() if self._connections else None

    def add(self, connection: Http1Connection) -> None:
        """Keep a connection until it is taken, or for :data:`IDLE_SECONDS`."""
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        self._connections.append(connection)
        if self._timer is None:
            self._timer = loop.call_later(IDLE_SECONDS, self._close_old)

    def discard(self, connection: Http1Connection) -> None:
        """Let go of a connection that is closed."""
        if connection in self._connections:
            self._connections.remove(connection)

    def close_oldest(self) -> None:
        """Close the one that has waited longest."""
        self._connections[0].abort()

    def close_all(self) -> None:
        """Close every one of them."""
        for connection in tuple(self._connections):
            connection.abort()

    def cancel(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _close_old(self) -> None:
        loop = asyncio.get_running_loop()
        while self._connections and self._connections[0].idle_since <= loop.time() - IDLE_SECONDS:
            self.close_oldest()
        oldest = self._connections[0].idle_since if self._connections else None
        self._timer = None if oldest is None else loop.call_at(oldest + IDLE_SECONDS, self._close_old)


def _next_in(queue: dict[asyncio.Future[Http1Connection], None]) -> asyncio.Future[Http1Connection] | None:
    """The first exchange in a queue that still waits, taken out of it."""
    while queue:
        waiter = next(iter(queue))
        del queue[waiter]
        if not waiter.done():
            return waiter
    return None


def _fail(waiter: asyncio.Future[Http1Connection], error: ConnectionFailed) -> None:
    if not waiter.done():
        waiter.set_exception(error)
