"""Blocking network streams for httpx that keep the deadline of an :class:`~runops.core.transport.exchange.Exchange`."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from typing import Any, TypeVar, cast

import httpcore

from runops.core.transport.certificates import latest
from runops.core.transport.confirmation import confirm
from runops.core.transport.exchange import Readable, current, raising, seconds_left

R = TypeVar("R")

_TLS_RECORD = 16_384

SocketOption = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]
_Addresses = list[tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]]


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
        socket_options: Iterable[SocketOption] | None = None,
    ) -> httpcore.NetworkStream:
        """A connection to the first address of a host that takes one; ``timeout`` is for all of it, DNS included."""
        with raising(httpcore.ConnectTimeout, httpcore.ConnectError):
            seconds = seconds_left(timeout)
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
        exchange = current.get()
        if exchange is not None:
            exchange.before_read()
        with raising(httpcore.ReadTimeout, httpcore.ReadError):
            self._socket.settimeout(seconds_left(timeout))
            data = self._socket.recv(max_bytes)
        if exchange is not None:
            exchange.after_read(data, self._speaks_http)
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of it."""
        with raising(httpcore.WriteTimeout, httpcore.WriteError):
            rest = memoryview(buffer)
            while rest:
                self._socket.settimeout(seconds_left(timeout))
                rest = rest[self._socket.send(rest) :]

    def close(self) -> None:
        """Close at once."""
        self._socket.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """The same connection, encrypted."""
        try:
            ssl_context = latest(ssl_context)
            if isinstance(self._socket, ssl.SSLSocket):
                # From here on this stream carries what the one inside has encrypted.
                self._speaks_http = False
                return TlsInTls(self, ssl_context, server_hostname, timeout)
            with raising(httpcore.ConnectTimeout, httpcore.ConnectError):
                self._socket.settimeout(seconds_left(timeout))
                began = time.monotonic()
                encrypted = ssl_context.wrap_socket(self._socket, server_hostname=server_hostname)
                # From here on it is the one that has the descriptor.
                self._socket = encrypted
                stream = Stream(encrypted, self._speaks_http)
                confirm(stream, encrypted, time.monotonic() - began, timeout)
                return stream
        except BaseException:
            self.close()
            raise

    def get_extra_info(self, info: str) -> Any:
        """What httpcore asks about a connection."""
        if info == "ssl_object":
            return self._socket if isinstance(self._socket, ssl.SSLSocket) else None
        if info == "is_readable":
            return bool(Readable(self._socket))
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
            with raising(httpcore.ConnectTimeout, httpcore.ConnectError):
                began = time.monotonic()
                self._do(self._tls.do_handshake, timeout)
                confirm(self, self._tls, time.monotonic() - began, timeout)
        except httpcore.TimeoutException as error:
            raise httpcore.ConnectTimeout(str(error)) from error
        except httpcore.NetworkError as error:
            raise httpcore.ConnectError(str(error)) from error

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """The next bytes; none when the other side has closed."""
        with raising(httpcore.ReadTimeout, httpcore.ReadError):
            try:
                return self._do(lambda: self._tls.read(max_bytes), timeout)
            except ssl.SSLZeroReturnError:
                return b""

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of it."""
        with raising(httpcore.WriteTimeout, httpcore.WriteError):
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
