"""Network streams for httpx that keep one deadline for a whole exchange, and bound what is read beside its body.

httpx bounds each step of an exchange: a service that sends a byte from time to time resets that clock, and answers
with 1xx for ever reset it too. Here every step asks how much is left of the whole. The streams of asyncio only count:
there the caller's ``asyncio.timeout`` bounds the time.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from queue import Empty, SimpleQueue
from typing import Any, TypeVar, cast

import httpcore

from runops.core.model.errors import MalformedAnswer
from runops.core.transport.retry import not_http

R = TypeVar("R")

LONGEST_HEAD = 65_536
"""Bytes of header, interim answers included, and of framing between two pieces of a body."""
_TLS_RECORD = 16_384

_SocketOption = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]
_Addresses = list[tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]]


class Exchange:
    """One request and its answer, as far as the streams see it.

    Args:
        ends: When it must be over, on the clock of :func:`time.monotonic`.
    """

    __slots__ = ("begun", "ends", "hung_up", "read", "unread")

    def __init__(self, ends: float) -> None:
        self.ends = ends
        self.read = False
        """Whether one of our streams reads for it."""
        self.begun = False
        """Whether something has come."""
        self.hung_up = False
        """Whether the other side has closed the connection."""
        self.unread = 0
        """Bytes read since the last piece of the body."""

    @contextmanager
    def current(self) -> Generator[None]:
        """Let the streams of this thread or task work for it."""
        mark = _current.set(self)
        try:
            yield
        finally:
            _current.reset(mark)

    def before_read(self) -> None:
        """Refuse to read on where the header has no end.

        Raises:
            MalformedAnswer: Too much was read that is no body.
        """
        self.read = True
        if self.unread > LONGEST_HEAD:
            raise head_too_large()

    def after_read(self, data: bytes, speaks_http: bool) -> None:
        """Count what was read; nothing means that the other side has closed.

        Raises:
            MalformedAnswer: An answer of another protocol begins; httpx would wait for more of it.
        """
        if speaks_http and data and not self.begun and not begins_like_http(data):
            raise not_http()
        self.begun = True
        self.unread += len(data)
        self.hung_up = self.hung_up or not data


_current: ContextVar[Exchange | None] = ContextVar("runops_exchange", default=None)


def head_too_large() -> MalformedAnswer:
    """The error for an answer whose header has no end."""
    return MalformedAnswer(f"The answer's header is larger than {LONGEST_HEAD} bytes.")


def begins_like_http(data: bytes) -> bool:
    """Whether an answer may begin with some bytes."""
    return b"HTTP/".startswith(data[:5])


def _left(timeout: float | None) -> float | None:
    """Seconds for the next step: what the caller gives it, within what the exchange has left.

    Raises:
        TimeoutError: The exchange is over.
    """
    exchange = _current.get()
    if exchange is None:
        return timeout
    left = exchange.ends - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left if timeout is None else min(timeout, left)


@contextmanager
def _raising(late: type[Exception], broken: type[Exception]) -> Generator[None]:
    try:
        yield
    except TimeoutError as error:
        raise late(str(error)) from error
    except (OSError, UnicodeError) as error:
        # A host's name that no DNS label can carry is a UnicodeError.
        raise broken(str(error)) from error


# --- blocking ---


class Backend(httpcore.NetworkBackend):
    """Opens blocking connections; see httpcore.NetworkBackend.

    Args:
        speaks_http: Whether the other side speaks nothing but HTTP, as a SOCKS proxy does not.
    """

    def __init__(self, *, speaks_http: bool = True) -> None:
        self._speaks_http = speaks_http

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[_SocketOption] | None = None,
    ) -> httpcore.NetworkStream:
        """A connection to the first address of a host that takes one; ``timeout`` is for all of it, DNS included."""
        with _raising(httpcore.ConnectTimeout, httpcore.ConnectError):
            seconds = _left(timeout)
            ends = None if seconds is None else time.monotonic() + seconds
            connection = _connect(_resolve(host, port, seconds), ends)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for option in socket_options or ():
                connection.setsockopt(*cast("Any", option))
        return Stream(connection, self._speaks_http)


def _resolve(host: str, port: int, seconds: float | None) -> _Addresses:
    """The addresses of a host. Nothing can interrupt the resolver, so it works in a thread that may be left behind."""
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        pass
    found: SimpleQueue[_Addresses | Exception] = SimpleQueue()

    def resolve() -> None:
        try:
            found.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            found.put(error)

    try:
        threading.Thread(target=resolve, name="runops-resolve", daemon=True).start()
    except RuntimeError:
        # No thread is to be had, such as while the interpreter ends.
        resolve()
    try:
        result = found.get(timeout=seconds)
    except Empty:
        raise TimeoutError("the name was not resolved in time") from None
    if isinstance(result, Exception):
        raise result
    return result


def _connect(addresses: _Addresses, ends: float | None) -> socket.socket:
    """A connection to the first address that takes one. None of them may use up the time of those after it."""
    failure: OSError = OSError("the host has no address")
    for tried, (family, kind, protocol, _, address) in enumerate(addresses):
        left = None if ends is None else (ends - time.monotonic()) / (len(addresses) - tried)
        connection: socket.socket | None = None
        try:
            if left is not None and left <= 0:
                raise TimeoutError("timed out")
            connection = socket.socket(family, kind, protocol)
            connection.settimeout(left)
            connection.connect(address)
        except OSError as error:
            failure = error
            if connection is not None:
                connection.close()
        except BaseException:
            if connection is not None:
                connection.close()
            raise
        else:
            return connection
    raise failure


class Stream(httpcore.NetworkStream):
    """A blocking connection; see httpcore.NetworkStream.

    Args:
        connection: The connected socket, plain or TLS.
        speaks_http: As in :class:`Backend`.
    """

    def __init__(self, connection: socket.socket, speaks_http: bool) -> None:
        self._socket = connection
        self._speaks_http = speaks_http

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """The next bytes; none when the other side has closed."""
        exchange = _current.get()
        if exchange is not None:
            exchange.before_read()
        with _raising(httpcore.ReadTimeout, httpcore.ReadError):
            self._socket.settimeout(_left(timeout))
            data = self._socket.recv(max_bytes)
        if exchange is not None:
            exchange.after_read(data, self._speaks_http)
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of it."""
        with _raising(httpcore.WriteTimeout, httpcore.WriteError):
            rest = memoryview(buffer)
            while rest:
                self._socket.settimeout(_left(timeout))
                rest = rest[self._socket.send(rest) :]

    def close(self) -> None:
        """Close at once."""
        self._socket.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """The same connection, encrypted."""
        try:
            if isinstance(self._socket, ssl.SSLSocket):
                # From here on this stream carries what the one inside has encrypted.
                self._speaks_http = False
                return TlsInTls(self, ssl_context, server_hostname, timeout)
            with _raising(httpcore.ConnectTimeout, httpcore.ConnectError):
                self._socket.settimeout(_left(timeout))
                encrypted = ssl_context.wrap_socket(self._socket, server_hostname=server_hostname)
                return Stream(encrypted, self._speaks_http)
        except BaseException:
            self.close()
            raise

    def get_extra_info(self, info: str) -> Any:
        """What httpcore asks about a connection."""
        if info == "ssl_object":
            return self._socket if isinstance(self._socket, ssl.SSLSocket) else None
        if info == "is_readable":
            return is_readable(self._socket)
        return self._socket if info == "socket" else None


class TlsInTls(httpcore.NetworkStream):
    """TLS to a service through a proxy that is spoken to over TLS itself: no socket of Python's can do that.

    Args:
        stream: The connection to the proxy.
        context: For the TLS inside.
        server_hostname: The service's name.
        timeout: Seconds for the handshake.
    """

    def __init__(
        self, stream: Stream, context: ssl.SSLContext, server_hostname: str | None, timeout: float | None
    ) -> None:
        self._stream = stream
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)
        try:
            with _raising(httpcore.ConnectTimeout, httpcore.ConnectError):
                self._do(self._tls.do_handshake, timeout)
        except httpcore.TimeoutException as error:
            raise httpcore.ConnectTimeout(str(error)) from error
        except httpcore.NetworkError as error:
            raise httpcore.ConnectError(str(error)) from error

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """The next bytes; none when the other side has closed."""
        with _raising(httpcore.ReadTimeout, httpcore.ReadError):
            try:
                return self._do(lambda: self._tls.read(max_bytes), timeout)
            except ssl.SSLZeroReturnError:
                return b""

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of it."""
        with _raising(httpcore.WriteTimeout, httpcore.WriteError):
            rest = memoryview(buffer)
            while rest:
                piece = rest[:_TLS_RECORD]
                rest = rest[self._do(lambda piece=piece: self._tls.write(piece), timeout) :]

    def close(self) -> None:
        """Close at once."""
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        """What httpcore asks about a connection."""
        return self._tls if info == "ssl_object" else self._stream.get_extra_info(info)

    def _do(self, step: Callable[[], R], timeout: float | None) -> R:
        """One step of TLS, with the reads and writes that it takes."""
        while True:
            result: R | None = None
            wants_more = False
            try:
                result = step()
            except ssl.SSLWantReadError:
                wants_more = True
            if pending := self._outgoing.read():
                self._stream.write(pending, timeout)
            if not wants_more:
                return cast("R", result)
            data = self._stream.read(_TLS_RECORD, timeout)
            if data:
                self._incoming.write(data)
            else:
                self._incoming.write_eof()


def is_readable(connection: socket.socket) -> bool:
    """Whether bytes or the end wait there: on a kept connection, either makes it useless."""
    number = connection.fileno()
    if number < 0:
        return True
    if hasattr(select, "poll"):
        # Select fails with descriptors over 1023.
        poll = select.poll()
        poll.register(number, select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([number], [], [], 0)[0])


# --- asyncio ---


class AsyncBackend(httpcore.AsyncNetworkBackend):
    """Opens connections of asyncio; see httpcore.AsyncNetworkBackend. ``speaks_http`` as in :class:`Backend`."""

    def __init__(self, *, speaks_http: bool = True) -> None:
        self._speaks_http = speaks_http
        self._inner = cast("httpcore.AsyncNetworkBackend", httpcore.AnyIOBackend())

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[_SocketOption] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection, within ``timeout`` for all addresses of the host."""
        with _raising(httpcore.ConnectTimeout, httpcore.ConnectError):
            stream = await self._inner.connect_tcp(host, port, timeout, local_address, cast("Any", socket_options))
        return AsyncStream(stream, self._speaks_http)

    async def sleep(self, seconds: float) -> None:
        """Wait for some seconds."""
        await self._inner.sleep(seconds)


class AsyncStream(httpcore.AsyncNetworkStream):
    """A connection of asyncio; see httpcore.AsyncNetworkStream.

    Args:
        stream: The one that does the work.
        speaks_http: As in :class:`Backend`.
    """

    def __init__(self, stream: httpcore.AsyncNetworkStream, speaks_http: bool) -> None:
        self._speaks_http = speaks_http
        self._inner = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """The next bytes; none when the other side has closed."""
        exchange = _current.get()
        if exchange is not None:
            exchange.before_read()
        data = await self._inner.read(max_bytes, timeout)
        if exchange is not None:
            exchange.after_read(data, self._speaks_http)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of it."""
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        """Close it."""
        await self._inner.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        """The same connection, encrypted."""
        with _raising(httpcore.ConnectTimeout, httpcore.ConnectError):
            stream = await self._inner.start_tls(ssl_context, server_hostname, timeout)
        return AsyncStream(stream, self._speaks_http)

    def get_extra_info(self, info: str) -> Any:
        """What httpcore asks about a connection."""
        return self._inner.get_extra_info(info)
