"""Whether a kept connection may be used again: by this process, and when nothing came on it but the right answer."""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING, Any

from runops.core.model.errors import ConfigurationError
from runops.core.transport.base import AcceptAsync, Answer

if TYPE_CHECKING:
    import httpx


async def look_at(accept: AcceptAsync, answer: Answer) -> None:
    """Have an answer looked at."""
    looking = accept(answer)
    if looking is not None:
        await looking


def check_process(pid: int, what: str) -> None:
    """Refuse connections that were made before a fork: two processes would read each other's answers.

    Args:
        pid: The process that made them.
        what: What holds them, for the message.

    Raises:
        ConfigurationError: This is another process.
    """
    here = os.getpid()
    if here != pid:
        raise ConfigurationError(
            f"{what} was made in process {pid} and is used in process {here}, which was forked from it: both would "
            "read answers from the same connections. Make a new client in the forked process."
        )


def more_came(response: httpx.Response) -> bool:
    """Whether more than an answer has come on its connection, which the next request would take for its own.

    What comes later is seen by httpcore: it uses no kept connection again that has something to read.
    """
    connection = response.extensions.get("network_stream")
    if connection is None:
        # A transport of the user's own, without connections.
        return False
    stream: Any = response.stream
    try:
        # httpcore keeps what it has read beyond an answer, takes it for the next one, and shows it nowhere.
        unread, _ = stream._httpcore_stream._stream._connection._h11_state.trailing_data
    except AttributeError:
        # Another httpcore, or a wrapped one: it cannot be told.
        return True
    return bool(unread) or _waits_behind_tls(connection.get_extra_info("ssl_object"))


def _waits_behind_tls(tls: ssl.SSLSocket | ssl.SSLObject | None) -> bool:
    """Whether bytes that are not in the socket any more have not been handed on."""
    if not isinstance(tls, ssl.SSLObject):
        return tls is not None and tls.pending() > 0
    try:
        # Whole records may wait undecrypted in memory, which only a read can tell.
        return bool(tls.read(1))
    except ssl.SSLWantReadError:
        return False
    except ssl.SSLError:
        return True


def hang_up(response: httpx.Response) -> None:
    """Close the connection of an answer before its pool has it back, which takes it for closed then."""
    connection = response.extensions.get("network_stream")
    if connection is not None:
        connection.close()


async def hang_up_async(response: httpx.Response) -> None:
    """The same for asyncio."""
    connection = response.extensions.get("network_stream")
    if connection is not None:
        await connection.aclose()
