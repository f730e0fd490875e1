"""HTTP/1.1 over asyncio with the parser of httptools: a pool of connections, and nothing that knows of runs.

It does what a poll needs and no more: requests that are bytes already, whole answers, kept connections. Proxies,
redirects, cookies and HTTP/2 are not its business; where one of them is needed, httpx does the work. So it does for a
service whose answers this strict parser refuses and httpx reads: from the first such answer on, for good.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import socket
import ssl
from typing import cast

import httptools
import httpx

from runops.core.model.errors import AnswerError, AnswerLost, ConnectionFailed, MalformedAnswer
from runops.core.model.secret import Opaque
from runops.core.transport.connections import peer_of, ssl_context
from runops.core.transport.network import LONGEST_HEAD, begins_like_http, head_too_large, is_readable
from runops.core.transport.pool import (
    CONNECT_SECONDS,
    HttpxPool,
    Inflater,
    Prepared,
    closed_on_the_way,
    no_place,
    pool_closed,
    timeouts,
    took_too_long,
)
from runops.core.transport.retry import Answer, Peer, connection_failed, not_http, too_large
from runops.core.transport.reuse import AcceptAsync, accept_any, check_process, look_at

logger = logging.getLogger("runops")

IDLE_SECONDS = 30.0
"""A kept connection is closed after so long without use."""
CLOSING_SECONDS = 0.25
"""For so long a connect that is under way may go on when the pool closes."""
NEXT_ADDRESS_AFTER = 0.25
"""Seconds that one address of a host has before the next is tried beside it (RFC 8305)."""

PART = 16_384
"""Bytes that the parser is given at once."""
_REPEATABLE = frozenset({"GET", "HEAD"})
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_LEFT_TO_HTTPX: set[str] = set()
"""Services of this process whose answers only httpx reads, by scheme, host and port."""


class Http1Pool:
    """Connections to one root. It belongs to the event loop of its first exchange.

    Args:
        root: The address of the service: its scheme, host and port.
        max_connections: The most connections; exchanges over it wait their turn.
        peer: Whom requests go to, for messages.
    """

    def __init__(self, root: str, *, max_connections: int, peer: Peer | None = None) -> None:
        url = httpx.URL(root)
        self._url = url
        self.peer = peer or peer_of(root)
        self._host = url.raw_host.decode("ascii")
        self._tls: ssl.SSLContext | None = ssl_context() if url.scheme == "https" else None
        self._port = url.port or (443 if self._tls else 80)
        self._most = max_connections
        self._place = f"{url.scheme}://{self._host}:{self._port}"
        self._httpx: HttpxPool | None = None
        self._open: set[_Connection] = set()
        self._standing: set[_Connection] = set()
        self._idle: list[_Connection] = []
        self._connecting: set[asyncio.Task[None]] = set()
        # Who waits for a connection, in order. They do not connect themselves: an exchange may be cancelled at any
        # moment, and a connect that is cancelled in its last moment can leave a socket behind.
        self._queue: dict[asyncio.Future[_Connection], None] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._clock: asyncio.TimerHandle | None = None
        self._closed = False
        self._ended = asyncio.Event()
        self._pid = os.getpid()

    def __repr__(self) -> str:
        return f"<Http1Pool {self._host}:{self._port}, {self.connections} connections>"

    @property
    def connections(self) -> int:
        """Open connections, and those being opened."""
        return len(self._open) + len(self._connecting) + (0 if self._httpx is None else self._httpx.connections)

    @property
    def max_connections(self) -> int:
        """The most connections. When it is lowered, those over it close as they become free."""
        return self._most

    @max_connections.setter
    def max_connections(self, most: int) -> None:
        self._most = most
        if self._httpx is not None:
            self._httpx.max_connections = most
        while self._idle and self.connections > most:
            self._idle[0].abort()
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
        """One request and its whole answer.

        Args:
            prepared: From :meth:`prepare`.
            limit: The most bytes of body, decompressed.
            seconds: For everything: a place in the pool, the connection, header and body.
            accept: Looks at the answer before its connection is used again; what it raises is raised.

        Raises:
            ConnectionFailed: Nothing was sent.
            AnswerLost: The answer did not come whole, or not in time.
            MalformedAnswer: The answer is too large, or is no HTTP/1.1.
            ConfigurationError: The pool was made before a fork, in the process that forked this one.
        """
        check_process(self._pid, "This pool of connections")
        ends = asyncio.get_running_loop().time() + seconds
        if self._place in _LEFT_TO_HTTPX:
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
        connection = self._idle.pop() if self._idle else await self._turn(ends)
        answer: Answer | None = None
        try:
            answer = await connection.ask(prepared, limit, ends, seconds)
        except AnswerLost:
            if not connection.went_stale or prepared.method not in _REPEATABLE:
                raise
        if answer is None:
            # What lies idle may have gone stale with it.
            if self._idle and self.connections >= self._most:
                self._idle[0].abort()
            connection = await self._turn(ends)
            answer = await connection.ask(prepared, limit, ends, seconds)
        try:
            await look_at(accept, answer)
        except BaseException:
            connection.abort()
            raise
        connection.give_back()
        return answer

    async def _exchange_by_httpx(self, prepared: Prepared, limit: int, seconds: float, accept: AcceptAsync) -> Answer:
        if self._closed:
            raise pool_closed()
        if self._httpx is None:
            self._httpx = HttpxPool(str(self._url), max_connections=self._most, peer=self.peer)
        plain = Prepared(prepared.method, self._for_httpx(prepared, seconds))
        return await self._httpx.exchange(plain, limit=limit, seconds=seconds, accept=accept)

    def _for_httpx(self, prepared: Prepared, seconds: float) -> httpx.Request:
        """What :meth:`prepare` has made, undone. Its locals hold the key: nothing here waits."""
        assert isinstance(prepared.message, bytes)
        head, _, content = prepared.message.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        _, target, _ = first.split(b" ")
        headers = [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]
        url = self._url.copy_with(raw_path=target)
        limits = timeouts(max(seconds, 0.001))
        return httpx.Request(prepared.method, url, headers=headers, content=content, extensions=limits)

    def _leave_to_httpx(self) -> None:
        if self._place not in _LEFT_TO_HTTPX:
            _LEFT_TO_HTTPX.add(self._place)
            logger.info("%s answers in a form that only httpx reads: it does the work there from now on.", self.peer)
        for connection in tuple(self._idle):
            connection.abort()

    async def close(self) -> None:
        """Close every connection for good; what is on its way fails."""
        self._closed = True
        if os.getpid() != self._pid:
            # They belong to the process that forked this one, and so does what the loop watches.
            return
        for handle in (self._sweep, self._clock):
            if handle is not None:
                handle.cancel()
        for waiter in tuple(self._queue):
            _fail(waiter, pool_closed())
        for connection in tuple(self._open):
            connection.give_up()
        if self._connecting:
            # asyncio loses the socket of a connect that is cancelled in its last moment; most are over at once.
            await asyncio.wait(tuple(self._connecting), timeout=CLOSING_SECONDS)
        for task in self._connecting:
            task.cancel()
        self._tell_end()
        if self._httpx is not None:
            await self._httpx.close()
        await self._ended.wait()

    # --- places ---

    async def _turn(self, ends: float) -> _Connection:
        """The next connection that is opened or becomes free."""
        if self._closed:
            raise pool_closed()
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[_Connection] = loop.create_future()
        self._queue[waiter] = None
        self._open_more()
        timer = loop.call_at(ends, self._end_waiting, waiter)
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

    def _end_waiting(self, waiter: asyncio.Future[_Connection]) -> None:
        # Where none is open yet, it is the connection itself that takes too long.
        _fail(waiter, no_place(self.peer) if self._open else connection_failed(TimeoutError(), self.peer))

    def _open_more(self) -> None:
        while len(self._connecting) < len(self._queue) and self.connections < self._most:
            # In a context of its own: it serves whoever comes, not the one who happened to ask first.
            task = asyncio.get_running_loop().create_task(self._connect(), context=contextvars.Context())
            self._connecting.add(task)
            task.add_done_callback(self._connected)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_SECONDS):
            _, connection = await loop.create_connection(
                lambda: _Connection(self),
                self._host,
                self._port,
                ssl=self._tls,
                server_hostname=self._host if self._tls else None,
                happy_eyeballs_delay=NEXT_ADDRESS_AFTER,
            )
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
        waiter = self._next() if error is not None else None
        if waiter is not None and error is not None:
            waiter.set_exception(connection_failed(error, self.peer))
        self._open_more()
        self._tell_end()

    def _next(self) -> asyncio.Future[_Connection] | None:
        while self._queue:
            waiter = next(iter(self._queue))
            del self._queue[waiter]
            if not waiter.done():
                return waiter
        return None

    def made(self, connection: _Connection) -> None:
        """A connection stands; what opened it will say so in its turn."""
        self._standing.add(connection)

    def freed(self, connection: _Connection) -> None:
        """A connection can take a request."""
        if self._closed or len(self._open) > self._most:
            connection.abort()
        elif not connection.usable:
            return
        elif (waiter := self._next()) is not None:
            waiter.set_result(connection)
        else:
            # The last one used is used next, so that those beyond the need grow old.
            loop = asyncio.get_running_loop()
            connection.idle_since = loop.time()
            self._idle.append(connection)
            if self._sweep is None:
                self._sweep = loop.call_later(IDLE_SECONDS, self._close_idle)

    def leaving(self, connection: _Connection) -> None:
        """A connection takes no more requests."""
        if connection in self._open:
            self._open.remove(connection)
            if connection in self._idle:
                self._idle.remove(connection)
            self._open_more()

    def gone(self, connection: _Connection) -> None:
        """A connection is closed: the loop says so in one of its rounds after it was told."""
        self._standing.discard(connection)
        self._tell_end()

    def end_by(self, ends: float) -> None:
        """See that an exchange is over by then. All share one timer: one for each costs more than the rest of it."""
        if self._clock is None or ends < self._clock.when():
            if self._clock is not None:
                self._clock.cancel()
            self._clock = asyncio.get_running_loop().call_at(ends, self._end_late, context=contextvars.Context())

    def _end_late(self) -> None:
        self._clock = None
        now = asyncio.get_running_loop().time()
        for connection in tuple(self._open):
            connection.end_if_late(now)
        ends = [connection.ends for connection in self._open if connection.ends is not None]
        if ends:
            self.end_by(min(ends))

    def _tell_end(self) -> None:
        if self._closed and not (self._standing or self._connecting):
            self._ended.set()

    def _close_idle(self) -> None:
        loop = asyncio.get_running_loop()
        while self._idle and self._idle[0].idle_since <= loop.time() - IDLE_SECONDS:
            self._idle[0].abort()
        oldest = self._idle[0].idle_since if self._idle else None
        self._sweep = None if oldest is None else loop.call_at(oldest + IDLE_SECONDS, self._close_idle)


class Unreadable(MalformedAnswer):
    """An answer that the parser of httptools refuses, and another one may read."""


class _Connection(asyncio.Protocol):
    """One connection: it sends a request and collects its answer, one at a time."""

    def __init__(self, pool: Http1Pool) -> None:
        self._pool = pool
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Answer] | None = None
        self._asked = 0
        self._ends = self._seconds = self._sent_at = 0.0
        self.idle_since = 0.0
        self.went_stale = False
        """It had been kept, and ended before the first byte of this answer."""

    async def ask(self, prepared: Prepared, limit: int, ends: float, seconds: float) -> Answer:
        """Send a request and wait for its answer. Afterwards :meth:`give_back` is due, or the connection is closed."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        self._answer = answer
        self._asked += 1
        self._limit = limit
        self._bodiless = prepared.method == "HEAD"
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._size = self._unread = 0
        self._begun = self._headed = self._framed = self._unframed = self._complete = self._spoilt = False
        self._ends, self._seconds = ends, seconds
        self._pool.end_by(ends)
        assert isinstance(prepared.message, bytes)
        try:
            if self._transport is None or self._transport.is_closing() or (self._asked > 1 and self._has_unread()):
                # What came before this request was sent is no answer to it.
                self._lost(None)
            else:
                self._sent_at = loop.time()
                self._transport.write(prepared.message)
            return await answer
        except BaseException:
            # Also cancelled on the way: what still comes must not be taken for the next answer.
            self.abort()
            raise

    def give_back(self) -> None:
        """An answer was taken: let the next request have the connection, or close it if it is spoilt or ends."""
        if self._complete and self._kept and not self._spoilt:
            self._pool.freed(self)
        else:
            self.abort()

    def _has_unread(self) -> bool:
        """Whether bytes wait in the socket that the loop has not come to."""
        waiting: socket.socket | None = self._transport and self._transport.get_extra_info("socket")
        return waiting is not None and is_readable(waiting)

    def abort(self) -> None:
        """Close at once."""
        self._answer = None
        if self._transport is not None:
            self._transport.abort()
        self._pool.leaving(self)

    def give_up(self) -> None:
        """Close at once, and say so to who waits."""
        self._fail(closed_on_the_way())

    @property
    def usable(self) -> bool:
        """Whether the other side has kept it open, as far as this side knows."""
        return self._transport is not None and not self._transport.is_closing()

    # --- what asyncio tells ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._pool.made(self)

    def data_received(self, data: bytes) -> None:
        if self._answer is None:
            # Nobody has asked: this could be taken for the answer to the next request.
            self.abort()
            return
        if not self._begun and not begins_like_http(data):
            self._fail(not_http(self._pool.peer))
            return
        self._begun = True
        # In parts: within one, nobody can tell how much stood before or behind the body.
        for start in range(0, len(data), PART):
            if not self._feed(data[start : start + PART]):
                return
        if self._unframed:
            # The parser would read on; httpx refuses it.
            self._fail(_unreadable(self._pool.peer))
        elif self._size > self._limit:
            self._fail(too_large(self._limit))
        elif self._complete:
            self._succeed()

    def _feed(self, part: bytes) -> bool:
        """Let the parser read on; whether the exchange may go on."""
        self._unread += len(part)
        try:
            self._parser.feed_data(part)
        except httptools.HttpParserUpgrade:
            self._spoilt = True
            if not self._complete:
                self._fail(not_http(self._pool.peer))
                return False
        except httptools.HttpParserError:
            self._spoilt = True
            if not self._complete:
                self._fail(_unreadable(self._pool.peer))
                return False
        if self._unread > LONGEST_HEAD and not self._complete:
            self._fail(head_too_large())
            return False
        return True

    def eof_received(self) -> None:
        if self._answer is not None and self._headed and not self._framed:
            # An answer without a length lasts until the connection ends.
            self._succeed()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost(exc)
        self._pool.leaving(self)
        self._pool.gone(self)

    # --- what the parser tells ---

    def on_message_begin(self) -> None:
        if self._complete:
            self._spoilt = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._headed:
            name = name.lower()
            self._framed = self._framed or name in _FRAMING
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._headed or self._parser.get_status_code() < 200:
            return
        self._headed = True
        self._status = self._parser.get_status_code()
        self._kept = self._parser.should_keep_alive()
        codings = [value for name, value in self._headers if name == b"transfer-encoding"]
        self._unframed = bool(codings) and [coding.lower() for coding in codings] != [b"chunked"]
        if self._bodiless:
            # The parser would wait for the body that the header announces: this connection is not used again.
            self._complete = self._spoilt = True

    def on_body(self, body: bytes) -> None:
        if not self._complete:
            self._body.append(body)
            self._size += len(body)
            self._unread = 0

    def on_message_complete(self) -> None:
        if self._headed:
            self._complete = True
        else:
            # An interim answer (1xx): the one that counts is still to come.
            self._headers.clear()
            self._framed = False

    # --- how an exchange ends ---

    def _succeed(self) -> None:
        try:
            result = self._collected()
        except AnswerError as error:
            self._fail(error)
            return
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_result(result)

    def _collected(self) -> Answer:
        headers: dict[str, str] = {}
        for name, value in self._headers:
            key, text = name.decode("latin-1"), value.decode("latin-1")
            headers[key] = f"{headers[key]}, {text}" if key in headers else text
        body = Inflater(headers.get("content-encoding"), self._limit)
        for piece in self._body:
            body.feed(piece)
        came_at = asyncio.get_running_loop().time()
        return Answer(self._status, headers, body.finish(), self._sent_at, came_at)

    def _fail(self, error: AnswerError) -> None:
        answer = self._answer
        self.abort()
        if answer is not None and not answer.done():
            answer.set_exception(error)

    def _lost(self, exc: Exception | None) -> None:
        if self._answer is not None:
            self.went_stale = self._asked > 1 and not self._begun
            kind = type(exc).__name__ if exc is not None else "closed by the service"
            told = f"The connection to {self._pool.peer} broke before the answer was whole ({kind})."
            self._fail(AnswerLost(told))

    @property
    def ends(self) -> float | None:
        """When the exchange that is under way must be over, in the time of the loop."""
        return None if self._answer is None else self._ends

    def end_if_late(self, now: float) -> None:
        """Fail the exchange whose time is over."""
        if self._answer is not None and self._ends <= now:
            self._fail(took_too_long(self._seconds, self._pool.peer))


def _unreadable(peer: Peer) -> Unreadable:
    return Unreadable(str(not_http(peer)))


def _fail(waiter: asyncio.Future[_Connection], error: ConnectionFailed) -> None:
    if not waiter.done():
        waiter.set_exception(error)
