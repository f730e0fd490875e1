"""Network streams of asyncio for httpx that count what an exchange reads; its caller bounds the time."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable
from typing import Any, cast

import httpcore

from runops.core.transport.certificates import latest_off_loop
from runops.core.transport.confirmation import confirm_async
from runops.core.transport.exchange import current, raising
from runops.core.transport.network import SocketOption


class AsyncBackend(httpcore.AsyncNetworkBackend):
    """Opens connections of asyncio; see httpcore.AsyncNetworkBackend.

    Args:
        speaks_http: As in :class:`~runops.core.transport.network.Backend`.
    """

    def __init__(self, *, speaks_http: bool = True) -> None:
        self._speaks_http = speaks_http
        self._inner = cast("httpcore.AsyncNetworkBackend", httpcore.AnyIOBackend())

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection, within ``timeout`` for all addresses of the host."""
        exchange = current.get()
        if exchange is not None:
            exchange.connecting = True
        with raising(httpcore.ConnectTimeout, httpcore.ConnectError):
            stream = await self._inner.connect_tcp(host, port, timeout, local_address, cast("Any", socket_options))
        return AsyncStream(stream, self._speaks_http)

    async def sleep(self, seconds: float) -> None:
        """Wait for some seconds."""
        await self._inner.sleep(seconds)


class AsyncStream(httpcore.AsyncNetworkStream):
    """A connection of asyncio; see httpcore.AsyncNetworkStream.

    Args:
        stream: The one that does the work.
        speaks_http: As in :class:`~runops.core.transport.network.Backend`.
    """

    def __init__(self, stream: httpcore.AsyncNetworkStream, speaks_http: bool) -> None:
        self._speaks_http = speaks_http
        self._inner = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """The next bytes; none when the other side has closed."""
        exchange = current.get()
        if exchange is not None:
            exchange.before_read()
        # What TLS is told after the handshake, anyio lets through as it is.
        with raising(httpcore.ReadTimeout, httpcore.ReadError):
            data = await self._inner.read(max_bytes, timeout)
        if exchange is not None:
            exchange.after_read(data, self._speaks_http)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of it."""
        exchange = current.get()
        if exchange is not None:
            exchange.written = True
        with raising(httpcore.WriteTimeout, httpcore.WriteError):
            await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        """Close it."""
        await self._inner.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        """The same connection, encrypted."""
        try:
            ssl_context = await latest_off_loop(ssl_context)
            with raising(httpcore.ConnectTimeout, httpcore.ConnectError):
                began = time.monotonic()
                stream = await self._inner.start_tls(ssl_context, server_hostname, timeout)
                await confirm_async(stream, time.monotonic() - began, timeout)
        except BaseException:
            # httpcore closes it after an error, but not where a handshake is cancelled, as one is that takes too long.
            await self._inner.aclose()
            raise
        return AsyncStream(stream, self._speaks_http)

    def get_extra_info(self, info: str) -> Any:
        """What httpcore asks about a connection."""
        return self._inner.get_extra_info(info)
