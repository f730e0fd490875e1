"""One exchange as the streams of httpx see it: its one deadline, and what may be read beside its body.

httpx bounds each step of an exchange: a service that sends a byte from time to time resets that clock, and answers
with 1xx for ever reset it too. Here every step asks how much is left of the whole. The streams of asyncio only count:
there the caller's ``asyncio.timeout`` bounds the time.
"""

from __future__ import annotations

import math
import select
import socket
import time
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

from runops.core.transport.base import LONGEST_HEAD
from runops.core.transport.failures import head_too_large, not_http


class Exchange:
    """One request and its answer, as far as the streams see it.

    Args:
        ends: When it must be over, on the clock of :func:`time.monotonic`; never, where the caller bounds the time.
    """

    __slots__ = ("begun", "connecting", "ends", "hung_up", "read", "unread", "written")

    def __init__(self, ends: float = math.inf) -> None:
        self.ends = ends
        self.connecting = False
        """Whether one of our streams is made for it."""
        self.written = False
        """Whether one of them may have sent something of it."""
        self.read = False
        """Whether one of our streams reads for it."""
        self.begun = False
        """Whether something has come."""
        self.hung_up = False
        """Whether the other side has closed the connection."""
        self.unread = 0
        """Bytes read since the last piece of the body."""

    @contextmanager
    def under_way(self) -> Generator[None]:
        """Let the streams of this thread or task work for it."""
        mark = current.set(self)
        try:
            yield
        finally:
            current.reset(mark)

    @property
    def unsent(self) -> bool:
        """Whether certainly nothing was sent: it has never come further than to a connection of its own."""
        return self.connecting and not self.written

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


current: ContextVar[Exchange | None] = ContextVar("runops_exchange", default=None)


def begins_like_http(data: bytes) -> bool:
    """Whether an answer may begin with some bytes."""
    return b"HTTP/".startswith(data[:5])


def seconds_left(timeout: float | None) -> float | None:
    """Seconds for the next step: what the caller gives it, within what the exchange has left.

    Raises:
        TimeoutError: The exchange is over.
    """
    exchange = current.get()
    if exchange is None:
        return timeout
    left = exchange.ends - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left if timeout is None else min(timeout, left)


@contextmanager
def raising(late: type[Exception], broken: type[Exception]) -> Generator[None]:
    """Raise the errors of a step as those of httpcore: ``late`` for one out of time, ``broken`` for any other."""
    try:
        yield
    except TimeoutError as error:
        raise late(str(error)) from error
    except (OSError, UnicodeError) as error:
        # A host's name that no DNS label can carry is a UnicodeError.
        raise broken(str(error)) from error


class Readable:
    """Whether bytes or the end wait in a socket: on a kept connection, either makes it useless.

    Args:
        connection: The socket. It is asked before each request: what that takes is made ready here, once.
    """

    __slots__ = ("_connection", "_number", "_poll")

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._number = connection.fileno()
        self._poll: select.poll | None = None
        if hasattr(select, "poll") and self._number >= 0:
            # Select fails with descriptors over 1023.
            self._poll = select.poll()
            self._poll.register(self._number, select.POLLIN)

    def __bool__(self) -> bool:
        number = self._connection.fileno()
        if number < 0 or number != self._number:
            # Closed; its number may be another one's by now.
            return True
        if self._poll is not None:
            return bool(self._poll.poll(0))
        return bool(select.select([number], [], [], 0)[0])
