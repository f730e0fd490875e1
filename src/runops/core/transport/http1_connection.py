"""One HTTP/1.1 connection of asyncio: it sends a request and collects its answer, one at a time.

:class:`Http1Connection` is what the loop calls: it knows who waits for the answer, and whether the connection can be
used again. :class:`AnswerReader` is what the parser of httptools calls: it knows how much of an answer has come. Both
say what went wrong by an error that they hand on and do not raise: the frames that an error comes through may be shown,
and their variables hold pieces of a body. Nothing here opens a connection or chooses one; that is http1_pool.py.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Collection
from functools import lru_cache
from typing import Protocol, cast

import httptools

from runops.core.model.errors import AnswerError, AnswerLost, MalformedAnswer
from runops.core.transport.base import LONGEST_HEAD, Answer, Prepared
from runops.core.transport.exchange import Readable, begins_like_http
from runops.core.transport.failures import (
    Peer,
    closed_on_the_way,
    connection_failed,
    head_too_large,
    not_http,
    too_large,
    took_too_long,
    turned_away_by_tls,
)
from runops.core.transport.inflate import whole_body

PART = 16_384
"""Bytes that the parser is given at once."""


class Unreadable(MalformedAnswer):
    """An answer that the parser of httptools refuses, and another one may read."""


def unreadable(peer: Peer) -> Unreadable:
    """The error for an answer that another parser may read."""
    return Unreadable(str(not_http(peer)))


class Owner(Protocol):
    """The pool of a connection, as far as the connection calls it."""

    peer: Peer
    deadlines: Deadlines

    def made(self, connection: Http1Connection) -> None:
        """A connection stands; what opened it will say so in its turn."""
        ...

    def freed(self, connection: Http1Connection) -> None:
        """A connection can take a request."""
        ...

    def leaving(self, connection: Http1Connection) -> None:
        """A connection takes no more requests."""
        ...

    def gone(self, connection: Http1Connection) -> None:
        """A connection is closed: the loop says so in a round after the one in which it was closed."""
        ...


class Deadlines:
    """Ends the exchanges whose time is over. All share one timer: one for each costs more than the rest of it.

    Args:
        connections: The open ones; the pool adds and removes them.
    """

    def __init__(self, connections: Collection[Http1Connection]) -> None:
        self._connections = connections
        self._timer: asyncio.TimerHandle | None = None

    def end_by(self, ends: float) -> None:
        """See that an exchange is over by then, in the time of the loop."""
        if self._timer is None or ends < self._timer.when():
            self.cancel()
            self._timer = asyncio.get_running_loop().call_at(ends, self._end_late, context=contextvars.Context())

    def cancel(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _end_late(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        for connection in tuple(self._connections):
            connection.end_if_late(now)
        ends = [connection.ends for connection in self._connections if connection.ends is not None]
        if ends:
            self.end_by(min(ends))


class AnswerReader:
    """Collects one answer at a time from what the parser finds in the bytes of a connection.

    Args:
        peer: Whose answers they are, for messages.
    """

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._parser = httptools.HttpResponseParser(self)
        self.begun = self._headed = self.complete = False
        self.expect(0, bodiless=False)

    def expect(self, limit: int, *, bodiless: bool) -> None:
        """Begin anew for the answer to the next request.

        Args:
            limit: The most bytes of body, decompressed.
            bodiless: Whether the answer has no body, whatever its header announces.
        """
        self._limit = limit
        self._bodiless = bodiless
        self._raw_headers: list[tuple[bytes, bytes]] = []
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._size = self._unread = 0
        self.begun = self._headed = self._unframed = self.complete = False
        self.keeps = False
        """Whether the connection can carry another request after this answer."""

    def feed(self, data: bytes) -> AnswerError | None:
        """Read on; the error if the exchange cannot go on."""
        if not self.begun and not begins_like_http(data):
            return not_http(self._peer)
        self.begun = True
        # In parts: within one, nobody can tell how much stood before or behind the body.
        parts = (data,) if len(data) <= PART else [data[start : start + PART] for start in range(0, len(data), PART)]
        for part in parts:
            error = self._feed(part)
            if error is not None:
                return error
        if self._unframed:
            # The parser would read on; httpx refuses it.
            return unreadable(self._peer)
        # What does not compress is a little larger than it is; the whole body is measured when it is undone.
        spare = LONGEST_HEAD if "content-encoding" in self._headers else 0
        return too_large(self._limit) if self._size > self._limit + spare else None

    def _feed(self, part: bytes) -> AnswerError | None:
        self._unread += len(part)
        try:
            self._parser.feed_data(part)
        except httptools.HttpParserUpgrade:
            self.keeps = False
            if not self.complete:
                return not_http(self._peer)
        except httptools.HttpParserError:
            self.keeps = False
            if not self.complete:
                return unreadable(self._peer)
        return head_too_large() if self._unread > LONGEST_HEAD and not self.complete else None

    @property
    def lasts_until_the_end(self) -> bool:
        """Whether the answer has no length, and is whole when the connection ends."""
        return self._headed and not ("content-length" in self._headers or "transfer-encoding" in self._headers)

    def answer(self, sent_at: float, came_at: float) -> Answer:
        """What was collected; for the two times see :class:`~runops.core.transport.base.Answer`.

        Raises:
            AnswerError: It cannot be decompressed within the limit.
        """
        headers = self._headers
        body = whole_body(self._body, headers.get("content-encoding"), self._limit)
        return Answer(self._status, headers, body, sent_at, came_at)

    # --- what the parser calls ---

    def on_message_begin(self) -> None:
        """An answer begins."""
        if self.complete:
            self.keeps = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer behind the body."""
        if not self._headed:
            self._raw_headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The header is whole."""
        status = self._parser.get_status_code()
        if self._headed or status < 200:
            return
        self._headed = True
        self._status = status
        self.keeps = self._parser.should_keep_alive()
        headers = self._headers
        for raw, value in self._raw_headers:
            name, text = _name(raw), value.decode("latin-1")
            headers[name] = f"{headers[name]}, {text}" if name in headers else text
        self._unframed = headers.get("transfer-encoding", "chunked").lower() != "chunked"
        if self._bodiless:
            # The parser would wait for the body that the header announces: this connection is not used again.
            self.complete, self.keeps = True, False

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if not self.complete:
            self._body.append(body)
            self._size += len(body)
            self._unread = 0

    def on_message_complete(self) -> None:
        """The answer is whole."""
        if self._headed:
            self.complete = True
        else:
            # An interim answer (1xx): the one that counts is still to come.
            self._raw_headers.clear()


@lru_cache(maxsize=128)
def _name(raw: bytes) -> str:
    """The name of a header. A service sends the same few with every answer."""
    return raw.lower().decode("latin-1")


class Http1Connection(asyncio.Protocol):
    """One connection, and the exchange that is under way on it.

    Args:
        pool: What opened it, and is to know what becomes of it.
    """

    def __init__(self, pool: Owner) -> None:
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._reader = AnswerReader(pool.peer)
        self.broken_by: Exception | None = None
        """What ended it, where that was no plain end."""
        self._transport: asyncio.Transport | None = None
        self._unread: Readable | None = None
        """Whether bytes wait in the socket that the loop has not come to."""
        self._answer: asyncio.Future[Answer] | None = None
        self._requests = 0
        self._ends = self._seconds = self._sent_at = 0.0
        self.idle_since = 0.0
        self.went_stale = False
        """It had been kept, and ended before the first byte of this answer."""

    async def ask(self, prepared: Prepared, limit: int, ends: float, seconds: float) -> Answer:
        """Send a request and wait for its answer. Afterwards :meth:`give_back` is due, or the connection is closed."""
        answer: asyncio.Future[Answer] = self._loop.create_future()
        self._answer = answer
        self._requests += 1
        self._reader.expect(limit, bodiless=prepared.method == "HEAD")
        self._ends, self._seconds = ends, seconds
        self._pool.deadlines.end_by(ends)
        assert isinstance(prepared.message, bytes)
        try:
            if self._transport is None or self._transport.is_closing() or (self._requests > 1 and self._unread):
                # What came before this request was sent is no answer to it.
                self._lost(None)
            else:
                self._sent_at = self._loop.time()
                self._transport.write(prepared.message)
            return await answer
        except BaseException:
            # Also cancelled on the way: what still comes must not be taken for the next answer.
            self.abort()
            raise

    def give_back(self) -> None:
        """An answer was taken: let the next request have the connection, or close it if it cannot carry one."""
        if self._reader.complete and self._reader.keeps:
            self._pool.freed(self)
        else:
            self.abort()

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

    @property
    def ends(self) -> float | None:
        """When the exchange that is under way must be over, in the time of the loop."""
        return None if self._answer is None else self._ends

    def end_if_late(self, now: float) -> None:
        """Fail the exchange whose time is over."""
        if self._answer is not None and self._ends <= now:
            self._fail(took_too_long(self._seconds, self._pool.peer))

    # --- what asyncio calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)
        socket = transport.get_extra_info("socket")
        self._unread = None if socket is None else Readable(socket)
        self._pool.made(self)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._answer is None:
            # There is no request: this could be taken for the answer to the next one.
            self.abort()
            return
        error = self._reader.feed(data)
        if error is not None:
            self._fail(error)
        elif self._reader.complete:
            self._succeed()

    def eof_received(self) -> None:
        """See asyncio.Protocol."""
        if self._answer is not None and self._reader.lasts_until_the_end:
            self._succeed()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self.broken_by = exc
        self._lost(exc)
        self._pool.leaving(self)
        self._pool.gone(self)

    # --- how an exchange ends ---

    def _succeed(self) -> None:
        try:
            result = self._reader.answer(self._sent_at, self._loop.time())
        except AnswerError as error:
            self._fail(error)
            return
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_result(result)

    def _fail(self, error: AnswerError) -> None:
        answer = self._answer
        self.abort()
        if answer is not None and not answer.done():
            answer.set_exception(error)

    def _lost(self, exc: Exception | None) -> None:
        if self._answer is not None:
            self.went_stale = self._requests > 1 and not self._reader.begun
            if exc is not None and turned_away_by_tls(exc) and not self._reader.begun:
                self._fail(connection_failed(exc, self._pool.peer))
                return
            kind = type(exc).__name__ if exc is not None else "closed by the service"
            self._fail(AnswerLost(f"The connection to {self._pool.peer} broke before the answer was whole ({kind})."))
