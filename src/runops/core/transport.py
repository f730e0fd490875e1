"""The one place that opens connections and reads bodies. It knows no provider and decides nothing about an answer."""

from __future__ import annotations

import ssl
import time
import zlib
from functools import cache
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from runops.core.errors import AnswerLost, MalformedAnswer
from runops.core.retry import Answer, from_transport, too_large

CONNECT_SECONDS = 10.0
KEPT_CONNECTIONS = 100

ACCEPT_ENCODING = "gzip"
"""What :class:`Inflater` can undo within a limit."""


@cache
def ssl_context() -> ssl.SSLContext:
    """One context per process: loading the trust store costs more than a hundred polls."""
    return httpx.create_ssl_context()


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


def took_too_long(seconds: float) -> AnswerLost:
    """The error for an answer that is not whole in time."""
    return AnswerLost(f"No whole answer came within request_timeout={seconds:g} s.")


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
