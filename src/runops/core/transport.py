"""The one place that opens connections and reads bodies. It knows no provider and decides nothing about an answer."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
import zlib
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from typing import Protocol
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from runops.core.errors import AnswerLost, ConnectionFailed, MalformedAnswer
from runops.core.retry import Answer, from_transport, too_large

AsyncTransport = httpx.AsyncBaseTransport
"""What a user may give in the place of real connections."""

CONNECT_SECONDS = 10.0
KEPT_CONNECTIONS = 100

ACCEPT_ENCODING = "gzip"
"""What :class:`Inflater` can undo within a limit."""


@cache
def ssl_context() -> ssl.SSLContext:
    """One context per process: loading the trust store costs more than a hundred polls."""
    context = httpx.create_ssl_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def proxy_for(root: str) -> str | None:
    """The proxy that the environment names for an address, or None."""
    parts = urlsplit(root)
    host = parts.hostname or ""
    if host in ("localhost", "::1") or host.startswith("127.") or proxy_bypass(host):
        return None
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


def sync_transport(root: str, *, keep: bool = True) -> httpx.BaseTransport:
    """A transport for one root. ``keep=False`` uses a fresh connection for each request."""
    return httpx.HTTPTransport(verify=ssl_context(), proxy=proxy_for(root), limits=_limits(keep))


def async_transport(root: str, *, keep: bool = True) -> httpx.AsyncBaseTransport:
    """The same for asyncio."""
    return httpx.AsyncHTTPTransport(verify=ssl_context(), proxy=proxy_for(root), limits=_limits(keep))


def timeouts(seconds: float) -> dict[str, dict[str, float | None]]:
    """The request extension that bounds each step of one request."""
    # Connecting and TLS fail well before the whole request does: then nothing was sent, and that is known.
    limits = httpx.Timeout(seconds, connect=min(seconds * 0.45, CONNECT_SECONDS), pool=None)
    return {"timeout": limits.as_dict()}


def send(transport: httpx.BaseTransport, request: httpx.Request, *, limit: int, seconds: float) -> Answer:
    """One request, its whole body within ``limit`` bytes and about ``seconds``.

    Raises:
        ConnectionFailed: Nothing was sent.
        AnswerLost: The answer did not come whole, or not in time.
        MalformedAnswer: The body is too large or cannot be decoded.
    """
    ends = time.monotonic() + seconds
    try:
        with _headers_unlogged():
            response = transport.handle_request(request)
        try:
            body = Inflater(response.headers.get("content-encoding"), limit)
            stream = response.stream
            assert isinstance(stream, httpx.SyncByteStream)
            for chunk in stream:
                body.feed(chunk)
                # A slow drip resets the read timeout with each byte; the whole answer has a time too.
                if time.monotonic() > ends:
                    raise took_too_long(seconds)
        finally:
            response.close()
    except httpx.HTTPError as error:
        raise from_transport(error) from None
    return Answer(response.status_code, _headers(response), body.finish())


async def send_async(transport: httpx.AsyncBaseTransport, request: httpx.Request, *, limit: int) -> Answer:
    """The same for asyncio; the caller bounds the time."""
    try:
        with _headers_unlogged():
            response = await transport.handle_async_request(request)
        try:
            body = Inflater(response.headers.get("content-encoding"), limit)
            stream = response.stream
            assert isinstance(stream, httpx.AsyncByteStream)
            async for chunk in stream:
                body.feed(chunk)
        finally:
            await response.aclose()
    except httpx.HTTPError as error:
        raise from_transport(error) from None
    return Answer(response.status_code, _headers(response), body.finish())


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


def took_too_long(seconds: float) -> AnswerLost:
    """The error for an answer that is not whole in time."""
    return AnswerLost(f"No whole answer came within request_timeout={seconds:g} s.")


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

    async def exchange(self, prepared: Prepared, *, limit: int, seconds: float) -> Answer:
        """One request and its whole answer.

        Args:
            prepared: From :meth:`prepare`.
            limit: The most bytes of body, decompressed.
            seconds: For everything: a place in the pool, the connection, header and body.

        Raises:
            ConnectionFailed: Nothing was sent.
            AnswerLost: The answer did not come whole, or not in time.
            MalformedAnswer: The answer is too large, or cannot be decoded.
        """
        ...

    async def close(self) -> None:
        """Close every connection for good; what is on its way fails."""
        ...


def open_pool(
    root: str, *, max_connections: int, transport: httpx.AsyncBaseTransport | None = None, lean: bool = True
) -> Pool:
    """A pool for one root. It opens no connection before the first exchange.

    Args:
        root: The address of the service.
        max_connections: The most connections.
        transport: Takes the place of real connections; the pool does not close it.
        lean: Use :mod:`runops.core.http1` where it serves: httptools is installed, and no proxy stands between.
    """
    if lean and transport is None and proxy_for(root) is None:
        try:
            from runops.core.http1 import Http1Pool
        except ModuleNotFoundError as error:
            if error.name != "httptools":
                raise
        else:
            return Http1Pool(root, max_connections=max_connections)
    return HttpxPool(root, max_connections=max_connections, transport=transport)


class HttpxPool:
    """The pool that works everywhere: plain httpx. What is over ``max_connections`` waits here, not in httpx.

    Args:
        root: The address of the service.
        max_connections: The most connections.
        transport: Takes the place of real connections; the pool does not close it.
    """

    def __init__(self, root: str, *, max_connections: int, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._most = max_connections
        self._owned = transport is None
        self._transport = transport or httpx.AsyncHTTPTransport(
            verify=ssl_context(),
            proxy=proxy_for(root),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=max_connections, keepalive_expiry=30.0),
        )
        self._working = 0
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

    async def exchange(self, prepared: Prepared, *, limit: int, seconds: float) -> Answer:
        """See :meth:`Pool.exchange`."""
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
                return await send_async(self._transport, prepared.message, limit=limit)
        except TimeoutError:
            if self._closed:
                raise (closed_on_the_way() if placed else pool_closed()) from None
            raise (took_too_long(seconds) if placed else no_place()) from None
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


def no_place() -> ConnectionFailed:
    """The error for an exchange that got no connection in time."""
    return ConnectionFailed("No connection to the service became free in time.")


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
        self._size = 0
        name = (encoding or "identity").strip().lower()
        if name in ("gzip", "x-gzip", "deflate"):
            self._decoder = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
        elif name in ("identity", ""):
            self._decoder = None
        else:
            raise MalformedAnswer("The answer is compressed in a way that was not asked for.")

    def feed(self, chunk: bytes) -> None:
        """Take the next piece off the wire.

        Raises:
            MalformedAnswer: The body is over the limit, or its compression is broken.
        """
        if self._decoder is not None:
            if self._decoder.eof:
                return
            try:
                chunk = self._decoder.decompress(chunk, self._limit - self._size + 1)
            except zlib.error:
                raise MalformedAnswer("The answer's compression is broken.") from None
        self._size += len(chunk)
        if self._size > self._limit:
            raise too_large(self._limit)
        self._parts.append(chunk)

    def finish(self) -> bytes:
        """The whole body.

        Raises:
            AnswerLost: The compressed body is cut off.
        """
        if self._decoder is not None and self._size and not self._decoder.eof:
            raise AnswerLost("The answer's compressed body is cut off.")
        return b"".join(self._parts)


def _headers(response: httpx.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


def _limits(keep: bool) -> httpx.Limits:
    if keep:
        return httpx.Limits(max_connections=KEPT_CONNECTIONS, max_keepalive_connections=KEPT_CONNECTIONS)
    return httpx.Limits(max_keepalive_connections=0)
