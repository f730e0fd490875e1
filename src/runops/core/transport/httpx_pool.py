"""The way that works everywhere: plain httpx. One exchange, blocking or not, a pool of them, and the fallback."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

import httpx

from runops.core.model.errors import AnswerError
from runops.core.transport.base import REQUEST_TIMEOUT, Accept, AcceptAsync, Answer, Prepared, accept_any, timeouts
from runops.core.transport.connections import async_transport
from runops.core.transport.exchange import Exchange
from runops.core.transport.failures import (
    UNNAMED,
    Peer,
    closed_on_the_way,
    connection_failed,
    from_transport,
    no_place,
    not_http,
    pool_closed,
    took_too_long,
)
from runops.core.transport.inflate import Inflater
from runops.core.transport.network_settings import BY_ENVIRONMENT, NetworkSettings
from runops.core.transport.reuse import check_process, hang_up, hang_up_async, look_at, more_came

AsyncTransport = httpx.AsyncBaseTransport
"""What a user may give in the place of real connections."""

LARGE_CHUNK = 10_000
"""Bytes of a piece of a body after which others get their turn."""

_LEFT_TO_HTTPX: set[tuple[str, str, int | None]] = set()
"""Services of this process whose answers only httpx reads, by scheme, host and port."""

logger = logging.getLogger("runops")


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
        with exchange.under_way(), _headers_unlogged():
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
        failure: AnswerError = took_too_long(seconds, peer, bound)
    except httpx.HTTPError as error:
        failure = from_transport(error, peer, unreadable=exchange.read and not exchange.hung_up)
    else:
        return answer
    # Outside of the handler: frames of httpcore hold what is said to a proxy, and no error of theirs stands behind it.
    raise failure


async def send_async(
    transport: httpx.AsyncBaseTransport,
    request: httpx.Request,
    *,
    limit: int,
    peer: Peer = UNNAMED,
    accept: AcceptAsync = accept_any,
    exchange: Exchange | None = None,
) -> Answer:
    """The same for asyncio; the caller bounds the time, and asks ``exchange`` how far it has come by then."""
    exchange = exchange or Exchange()
    time_of = asyncio.get_running_loop().time
    sent_at = time_of()
    try:
        with exchange.under_way(), _headers_unlogged():
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
        failure = from_transport(error, peer, unreadable=exchange.read and not exchange.hung_up)
    else:
        return answer
    raise failure


def out_of_time(exchange: Exchange, seconds: float, peer: Peer = UNNAMED, bound: str = REQUEST_TIMEOUT) -> AnswerError:
    """The error for an exchange of asyncio whose time is over.

    Args:
        exchange: How far it has come.
        seconds: What it had.
        peer: Whom it went to.
        bound: What stands before ``seconds`` in messages.
    """
    return connection_failed(TimeoutError(), peer) if exchange.unsent else took_too_long(seconds, peer, bound)


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


def _headers(response: httpx.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


class HttpxPool:
    """The pool that works everywhere: plain httpx. What is over ``max_connections`` waits here, not in httpx.

    Args:
        root: The address of the service.
        max_connections: The most connections.
        transport: Takes the place of real connections; the pool does not close it.
        peer: Whom requests go to, for messages.
        network: Certificates and proxy.
    """

    def __init__(
        self,
        root: str,
        *,
        max_connections: int,
        transport: httpx.AsyncBaseTransport | None = None,
        peer: Peer | None = None,
        network: NetworkSettings = BY_ENVIRONMENT,
    ) -> None:
        self._most = max_connections
        self._peer = peer or network.peer(root)
        self._owned = transport is None
        # How many there may be is ours to say, and changes; httpcore would close what is idle while that many are open.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=30.0)
        self._transport = transport or async_transport(root, limits=limits, network=network)
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
        """The connections at work; httpx shows no others."""
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
        clock, exchange = asyncio.timeout(seconds), Exchange()
        self._clocks.add(clock)
        try:
            async with clock:
                await self._place()
                placed = True
                return await send_async(
                    self._transport, prepared.message, limit=limit, peer=self._peer, accept=accept, exchange=exchange
                )
        except TimeoutError:
            if self._closed:
                raise (closed_on_the_way() if placed else pool_closed()) from None
            raise (out_of_time(exchange, seconds, self._peer) if placed else no_place(self._peer)) from None
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


class HttpxFallback:
    """httpx in the place of our own connections, for a service whose answers our parser refuses.

    Args:
        url: The address of the service.
        peer: Whom requests go to, for messages.
        network: Certificates and proxy.
    """

    def __init__(self, url: httpx.URL, peer: Peer, network: NetworkSettings) -> None:
        self._network = network
        self._url = url
        self._place = (url.scheme, url.host, url.port)
        self._peer = peer
        self._pool: HttpxPool | None = None

    @property
    def in_use(self) -> bool:
        """Whether all requests to this service go through httpx."""
        return self._place in _LEFT_TO_HTTPX

    def use_from_now_on(self) -> None:
        """Let all requests of this process to this service go through httpx."""
        if self._place not in _LEFT_TO_HTTPX:
            _LEFT_TO_HTTPX.add(self._place)
            logger.info("%s answers in a form that only httpx reads: it does the work there from now on.", self._peer)

    @property
    def connections(self) -> int:
        """Its connections at work."""
        return 0 if self._pool is None else self._pool.connections

    def limit_to(self, most: int) -> None:
        """Set the most connections."""
        if self._pool is not None:
            self._pool.max_connections = most

    async def exchange(self, prepared: Prepared, limit: int, seconds: float, accept: AcceptAsync, most: int) -> Answer:
        """See :meth:`Pool.exchange`; ``most`` is the most connections."""
        if self._pool is None:
            self._pool = HttpxPool(str(self._url), max_connections=most, peer=self._peer, network=self._network)
        plain = Prepared(prepared.method, self._as_request(prepared, seconds))
        return await self._pool.exchange(plain, limit=limit, seconds=seconds, accept=accept)

    def _as_request(self, prepared: Prepared, seconds: float) -> httpx.Request:
        """What ``prepare`` of http1_pool.py has made, undone. Its locals hold the key: nothing here waits."""
        assert isinstance(prepared.message, bytes)
        head, _, content = prepared.message.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        _, target, _ = first.split(b" ")
        headers = [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]
        url = self._url.copy_with(raw_path=target)
        limits = timeouts(max(seconds, 0.001))
        return httpx.Request(prepared.method, url, headers=headers, content=content, extensions=limits)

    async def close(self) -> None:
        """Close its connections for good."""
        if self._pool is not None:
            await self._pool.close()
