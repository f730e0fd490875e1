"""One request and its whole answer, and pools for many. It knows no provider and decides nothing about an answer."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import re
import time
import zlib
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Protocol

import httpx

from runops.core.model.errors import AnswerLost, ConnectionFailed, MalformedAnswer
from runops.core.model.secret import Opaque
from runops.core.transport.connections import async_transport, peer_of, proxy_for
from runops.core.transport.network import LONGEST_HEAD, Exchange
from runops.core.transport.retry import UNNAMED, Answer, Peer, from_transport, not_http, too_large
from runops.core.transport.reuse import (
    Accept,
    AcceptAsync,
    accept_any,
    check_process,
    hang_up,
    hang_up_async,
    look_at,
    more_came,
)

AsyncTransport = httpx.AsyncBaseTransport
"""What a user may give in the place of real connections."""

CONNECT_SECONDS = 10.0

REQUEST_TIMEOUT = "request_timeout="
"""What bounds an exchange where nothing else does, as it stands before the seconds in a message."""

LARGE_CHUNK = 10_000
"""Bytes of a piece of a body after which others get their turn."""
ACCEPT_ENCODING = "gzip"
"""What :class:`Inflater` can undo within a limit."""


def timeouts(seconds: float) -> dict[str, dict[str, float | None]]:
    """The request extension that bounds each step of one request."""
    # Connecting and TLS fail well before the whole request does: then nothing was sent, and that is known.
    limits = httpx.Timeout(seconds, connect=min(seconds * 0.45, CONNECT_SECONDS), pool=None)
    return {"timeout": limits.as_dict()}


def send(
    transport: httpx.BaseTransport,
    request: httpx.Request,
    *,
    limit: int,
    seconds: float,
    peer: Peer = UNNAMED,
    bound: str = REQUEST_TIMEOUT,
    accept: Accept = accept_any,
) -> Answer:
    """One request, its whole body within ``limit`` bytes, all of it within ``seconds``.

    Args:
        transport: From ``sync_transport`` of connections.py: only such a one bounds the header's time too.
        request: The request.
        limit: The most bytes of body, decompressed.
        seconds: For everything: the name's address, the connection, header and body.
        peer: Whom it goes to, for messages.
        bound: What stands before ``seconds`` in messages.
        accept: Looks at the answer before its connection is used again.

    Raises:
        ConnectionFailed: Nothing was sent.
        AnswerLost: The answer did not come whole, or not in time.
        MalformedAnswer: The answer is too large, cannot be decoded, or is no HTTP/1.1.
    """
    exchange = Exchange(time.monotonic() + seconds)
    try:
        with exchange.current(), _headers_unlogged():
            response = transport.handle_request(request)
            kept = False
            try:
                body = _body_of(response, limit, peer)
                stream = response.stream
                assert isinstance(stream, httpx.SyncByteStream)
                for chunk in stream:
                    exchange.unread = 0
                    body.feed(chunk)
                    if time.monotonic() > exchange.ends:
                        raise took_too_long(seconds, peer, bound)
                    # A frame that an error comes through may be shown, and a piece of a body in it.
                    del chunk
                answer = Answer(response.status_code, _headers(response), body.finish())
                accept(answer)
                kept = not more_came(response)
            finally:
                if not kept:
                    hang_up(response)
                response.close()
    except (httpx.ReadTimeout, httpx.WriteTimeout):
        raise took_too_long(seconds, peer, bound) from None
    except httpx.HTTPError as error:
        raise from_transport(error, peer, unreadable=exchange.read and not exchange.hung_up) from None
    return answer


async def send_async(
    transport: httpx.AsyncBaseTransport,
    request: httpx.Request,
    *,
    limit: int,
    peer: Peer = UNNAMED,
    accept: AcceptAsync = accept_any,
) -> Answer:
    """The same for asyncio; the caller bounds the time."""
    exchange = Exchange(math.inf)
    time_of = asyncio.get_running_loop().time
    sent_at = time_of()
    try:
        with exchange.current(), _headers_unlogged():
            response = await transport.handle_async_request(request)
            kept = False
            try:
                body = _body_of(response, limit, peer)
                stream = response.stream
                assert isinstance(stream, httpx.AsyncByteStream)
                async for chunk in stream:
                    exchange.unread = 0
                    body.feed(chunk)
                    large = len(chunk) >= LARGE_CHUNK
                    del chunk
                    if large:
                        # What has arrived already comes without a pause, however much it is: let others go on.
                        await asyncio.sleep(0)
                came_at = time_of()
                answer = Answer(response.status_code, _headers(response), body.finish(), sent_at, came_at)
                await look_at(accept, answer)
                kept = not more_came(response)
            finally:
                try:
                    if not kept:
                        await hang_up_async(response)
                finally:
                    await response.aclose()
    except httpx.HTTPError as error:
        raise from_transport(error, peer, unreadable=exchange.read and not exchange.hung_up) from None
    return answer


def _body_of(response: httpx.Response, limit: int, peer: Peer) -> Inflater:
    """What collects the body of an answer.

    Raises:
        MalformedAnswer: It is none that we have asked for, or says in two ways where it ends.
    """
    headers = response.headers
    if response.status_code < 200 or ("transfer-encoding" in headers and "content-length" in headers):
        # An upgrade, or what one side reads as one answer and another as two.
        raise not_http(peer)
    return Inflater(headers.get("content-encoding"), limit)


class _WithoutOurHeaders(logging.Filter):
    """Lets through what httpcore logs at DEBUG, but for the headers of answers to us: cookies, and who knows what."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (_ours.get() and "receive_response_headers.complete" in str(record.msg))


_ours: ContextVar[bool] = ContextVar("runops_request", default=False)
for _name in ("httpcore.http11", "httpcore.http2", "httpcore.proxy"):
    logging.getLogger(_name).addFilter(_WithoutOurHeaders())


@contextmanager
def _headers_unlogged() -> Generator[None]:
    mark = _ours.set(True)
    try:
        yield
    finally:
        _ours.reset(mark)


def took_too_long(seconds: float, peer: Peer = UNNAMED, bound: str = REQUEST_TIMEOUT) -> AnswerLost:
    """The error for an answer that is not whole in time.

    Args:
        seconds: How long it had.
        peer: Whose answer it is.
        bound: What stands before the seconds.
    """
    return AnswerLost(f"No whole answer of {peer} came within {bound}{round(seconds, 2):g} s.")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request in the form in which a pool sends it, any number of times. Its ``repr`` shows no header."""

    method: str
    message: bytes | httpx.Request = field(repr=False)


class Pool(Protocol):
    """Connections to one root, for many exchanges in one event loop."""

    @property
    def max_connections(self) -> int:
        """The most connections; exchanges over it wait their turn. It may be set at any time."""
        ...

    @max_connections.setter
    def max_connections(self, most: int) -> None: ...

    @property
    def connections(self) -> int:
        """Open connections, and those being opened; those at work, where no more is known."""
        ...

    def prepare(self, request: httpx.Request) -> Prepared:
        """A request made ready once, to be sent any number of times."""
        ...

    async def exchange(
        self, prepared: Prepared, *, limit: int, seconds: float, accept: AcceptAsync = accept_any
    ) -> Answer:
        """One request and its whole answer.

        Args:
            prepared: From :meth:`prepare`.
            limit: The most bytes of body, decompressed.
            seconds: For everything: a place in the pool, the connection, header and body.
            accept: Looks at the answer; what it raises is raised.

        Raises:
            ConnectionFailed: Nothing was sent.
            AnswerLost: The answer did not come whole, or not in time.
            MalformedAnswer: The answer is too large, or cannot be decoded.
            ConfigurationError: The pool was made before a fork, in the process that forked this one.
        """
        ...

    async def close(self) -> None:
        """Close every connection for good; what is on its way fails."""
        ...


def open_pool(
    root: str,
    *,
    max_connections: int,
    transport: httpx.AsyncBaseTransport | None = None,
    lean: bool = True,
    peer: Peer | None = None,
) -> Pool:
    """A pool for one root. It opens no connection before the first exchange.

    Args:
        root: The address of the service.
        max_connections: The most connections.
        transport: Takes the place of real connections; the pool does not close it.
        lean: Use the HTTP/1.1 pool where it serves: httptools is installed, and there is no proxy.
        peer: Whom requests go to, for messages.

    Raises:
        ConfigurationError: The proxy or the certificates that the environment names cannot be used.
    """
    peer = peer or peer_of(root)
    if lean and transport is None and proxy_for(root) is None:
        try:
            from runops.core.transport.http1_pool import Http1Pool
        except ModuleNotFoundError as error:
            if error.name != "httptools":
                raise
        else:
            return Http1Pool(root, max_connections=max_connections, peer=peer)
    return HttpxPool(root, max_connections=max_connections, transport=transport, peer=peer)


class HttpxPool:
    """The pool that works everywhere: plain httpx. What is over ``max_connections`` waits here, not in httpx.

    Args:
        root: The address of the service.
        max_connections: The most connections.
        transport: Takes the place of real connections; the pool does not close it.
        peer: Whom requests go to, for messages.
    """

    def __init__(
        self,
        root: str,
        *,
        max_connections: int,
        transport: httpx.AsyncBaseTransport | None = None,
        peer: Peer | None = None,
    ) -> None:
        self._most = max_connections
        self._peer = peer or peer_of(root)
        self._owned = transport is None
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=max_connections, keepalive_expiry=30.0)
        self._transport = transport or async_transport(root, limits=limits)
        self._working = 0
        self._pid = os.getpid()
        self._clocks: set[asyncio.Timeout] = set()
        self._queue: deque[asyncio.Future[None]] = deque()
        self._closed = False
        self._ended = asyncio.Event()

    @property
    def max_connections(self) -> int:
        """The most connections."""
        return self._most

    @max_connections.setter
    def max_connections(self, most: int) -> None:
        self._most = most
        self._call_next()

    @property
    def connections(self) -> int:
        """The connections at work; httpx tells of no others."""
        return self._working

    def prepare(self, request: httpx.Request) -> Prepared:
        """See :meth:`Pool.prepare`."""
        request.read()
        return Prepared(request.method, request)

    async def exchange(
        self, prepared: Prepared, *, limit: int, seconds: float, accept: AcceptAsync = accept_any
    ) -> Answer:
        """See :meth:`Pool.exchange`."""
        check_process(self._pid, "This pool of connections")
        assert isinstance(prepared.message, httpx.Request)
        if self._closed:
            raise pool_closed()
        placed = False
        clock = asyncio.timeout(seconds)
        self._clocks.add(clock)
        try:
            async with clock:
                await self._place()
                placed = True
                return await send_async(self._transport, prepared.message, limit=limit, peer=self._peer, accept=accept)
        except TimeoutError:
            if self._closed:
                raise (closed_on_the_way() if placed else pool_closed()) from None
            raise (took_too_long(seconds, self._peer) if placed else no_place(self._peer)) from None
        finally:
            self._clocks.discard(clock)
            if self._closed and not self._clocks:
                self._ended.set()
            if placed:
                self._working -= 1
                self._call_next()

    async def close(self) -> None:
        """See :meth:`Pool.close`."""
        self._closed = True
        if os.getpid() != self._pid:
            return
        for clock in self._clocks:
            clock.reschedule(0)
        if self._clocks:
            await self._ended.wait()
        if self._owned:
            await self._transport.aclose()

    async def _place(self) -> None:
        if self._working < self._most:
            self._working += 1
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                # Cancelled with the place in hand.
                self._working -= 1
                self._call_next()
            raise

    def _call_next(self) -> None:
        while self._queue and self._working < self._most:
            waiter = self._queue.popleft()
            if not waiter.done():
                self._working += 1
                waiter.set_result(None)


def no_place(peer: Peer = UNNAMED) -> ConnectionFailed:
    """The error for an exchange that got no connection in time."""
    return ConnectionFailed(f"No connection to {peer} became free in time; all are in use.")


def pool_closed() -> ConnectionFailed:
    """The error for an exchange that a closed pool cannot begin."""
    return ConnectionFailed("The connections to the service are closed.")


def closed_on_the_way() -> AnswerLost:
    """The error for an exchange whose pool was closed under it."""
    return AnswerLost("The connections were closed before the answer came.")


class Inflater:
    """Collects a body and undoes its compression, never holding more than ``limit`` bytes.

    Args:
        encoding: The ``Content-Encoding`` of the answer.
        limit: The most bytes that the body may have, decompressed.

    Raises:
        MalformedAnswer: The encoding is none that was asked for.
    """

    def __init__(self, encoding: str | None, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = self._received = 0
        self._decoder: zlib._Decompress | None = None  # pyright: ignore[reportPrivateUsage] - a type of typeshed only
        self._waiting = b""
        """What has come and cannot be told apart yet."""
        self._begun = self._ended = False
        """Whether a first compressed member has begun, and whether all that follows is padding."""
        names = [name for name in re.split(r"[\s,]+", (encoding or "").lower()) if name not in ("", "identity")]
        if names and names not in (["gzip"], ["x-gzip"], ["deflate"]):
            raise MalformedAnswer("The answer is compressed in a way that was not asked for.")
        self._encoding = names[0] if names else None

    def feed(self, chunk: bytes) -> None:
        """Take the next piece off the wire.

        Raises:
            MalformedAnswer: The body is over the limit, or its compression is broken.
        """
        if self._encoding is None:
            self._take(chunk)
            return
        self._received += len(chunk)
        if self._received > self._limit + LONGEST_HEAD:
            # Compression that grows: empty members without end, which would never reach the limit.
            raise too_large(self._limit)
        # A body may be several compressed members, one after the other.
        chunk, self._waiting = self._waiting + chunk, b""
        while chunk and not self._ended:
            decoder = self._decoder = self._decoder or self._begin(chunk)
            if decoder is None:
                return
            try:
                self._take(decoder.decompress(chunk, self._limit - self._size + 1))
            except zlib.error:
                raise MalformedAnswer("The answer's compression is broken.") from None
            chunk = decoder.unused_data
            if decoder.eof:
                self._decoder = None

    def _begin(self, chunk: bytes) -> zlib._Decompress | None:  # pyright: ignore[reportPrivateUsage]
        """The decoder of a member, by its first two bytes; None where there are fewer, or no further member."""
        if len(chunk) < 2:
            self._waiting = chunk
            return None
        gzipped = chunk[:2] == b"\x1f\x8b"
        if self._begun and not gzipped:
            self._ended = True
            return None
        self._begun = True
        bare = self._encoding == "deflate" and (chunk[0] & 0x0F != zlib.DEFLATED or int.from_bytes(chunk[:2]) % 31 != 0)
        # Some call deflate what has no zlib header.
        return zlib.decompressobj(wbits=-zlib.MAX_WBITS if bare and not gzipped else zlib.MAX_WBITS | 32)

    def _take(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._limit:
            raise too_large(self._limit)
        if piece:
            self._parts.append(piece)

    def finish(self) -> bytes:
        """The whole body.

        Raises:
            AnswerLost: The compressed body is cut off.
        """
        if self._decoder is not None or (self._waiting and not self._begun):
            raise AnswerLost("The answer's compressed body is cut off.")
        return Opaque(b"".join(self._parts))


def _headers(response: httpx.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}
