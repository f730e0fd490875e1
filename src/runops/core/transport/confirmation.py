"""Whether a service has accepted us, heard before the first request on a connection.

In TLS 1.3 our side is done with the handshake before the other has looked at our certificate. A request that leaves at
once may cross its refusal, and then nobody can tell whether it was read, nor why the connection broke. Most servers
send a session ticket as soon as they are done, and all of them close when they refuse: so a new connection listens for
a moment, as long as the handshake took.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Generator
from typing import Any

import httpcore

from runops.core.transport.exchange import seconds_left

LONGEST = 1.0
"""Seconds: with a server that sends no ticket, each new connection costs what it listens for."""
SHORTEST = 0.05
STEP = 0.005
"""Seconds between two looks for a ticket."""


def listening(connection: Any, handshake: float, timeout: float | None) -> Generator[float]:
    """Seconds to listen for, one time after the other, until it is known that the other side has accepted us.

    Args:
        connection: The SSLSocket or SSLObject, after its handshake.
        handshake: Seconds that it took: the way there and back.
        timeout: Seconds that the caller gives for all of it; None for no bound.
    """
    left = seconds_left(timeout)
    ends = time.monotonic() + min(max(handshake, SHORTEST), LONGEST, LONGEST if left is None else left / 2)
    while connection.version() == "TLSv1.3" and not _has_ticket(connection) and time.monotonic() < ends:
        yield STEP


def confirm(stream: httpcore.NetworkStream, connection: Any, handshake: float, timeout: float | None) -> None:
    """Listen for a refusal on a stream that is encrypted now.

    Args:
        stream: It reads what is decrypted.
        connection: As :func:`listening` takes it.
        handshake: As there.
        timeout: As there.

    Raises:
        ConnectError: The service has refused us, or closed the connection.
    """
    for seconds in listening(connection, handshake, timeout):
        try:
            unasked = stream.read(1, seconds)
        except httpcore.ReadTimeout:
            continue
        except httpcore.ReadError as error:
            raise httpcore.ConnectError(str(error)) from error
        raise _unusable(unasked)


async def confirm_async(stream: httpcore.AsyncNetworkStream, handshake: float, timeout: float | None) -> None:
    """The same for asyncio."""
    for seconds in listening(stream.get_extra_info("ssl_object"), handshake, timeout):
        try:
            unasked = await stream.read(1, seconds)
        except httpcore.ReadTimeout:
            continue
        except (httpcore.ReadError, ssl.SSLError) as error:
            raise httpcore.ConnectError(str(error)) from error
        raise _unusable(unasked)


def _has_ticket(connection: Any) -> bool:
    session = connection.session
    return session is not None and session.has_ticket


def _unusable(unasked: bytes) -> ConnectionError:
    return ConnectionAbortedError("it spoke before it was asked") if unasked else ConnectionResetError("it closed")
