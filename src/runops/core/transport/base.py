"""What all ways to a service share: an answer, a request made ready, a pool's interface, and their limits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import httpx

CONNECT_SECONDS = 10.0
"""The most that connecting and TLS may take."""

LONGEST_HEAD = 65_536
"""Bytes of header, interim answers included, and of framing between two pieces of a body."""

REQUEST_TIMEOUT = "request_timeout="
"""What bounds an exchange where nothing else does, as it stands before the seconds in a message."""

ACCEPT_ENCODING = "gzip"
"""What :class:`~runops.core.transport.inflate.Inflater` can undo within a limit."""


def timeouts(seconds: float) -> dict[str, dict[str, float | None]]:
    """The request extension of httpx that bounds each step of one request."""
    # Connecting and TLS fail well before the whole request does: then nothing was sent, and that is known.
    connect = min(seconds * 0.45, CONNECT_SECONDS)
    return {"timeout": {"connect": connect, "read": seconds, "write": seconds, "pool": None}}


def number(value: str | None) -> float | None:
    """A finite number that stands in a header, or None."""
    try:
        number = float(value) if value is not None else None
    except ValueError:
        return None
    return number if number is not None and number == number and abs(number) != float("inf") else None


@dataclass(slots=True)
class Answer:
    """A whole answer: status, headers with lower-case names, decoded body."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    content: bytes = field(repr=False)
    sent_at: float = field(default=0.0, compare=False)
    """When its request was written, by the clock of the event loop; 0 without one."""
    came_at: float = field(default=0.0, compare=False)
    """When it was whole."""

    def __repr__(self) -> str:
        # A frame with it may be shown; neither its headers nor its body are anybody's business.
        return f"Answer({self.status}, {len(self.content)} bytes)"

    @property
    def ok(self) -> bool:
        """Whether it is a 2xx."""
        return 200 <= self.status < 300

    @property
    def date(self) -> float | None:
        """When it was given, by the service's own clock in unix seconds; None where no readable date came with it."""
        try:
            given = parsedate_to_datetime(self.headers["date"]).timestamp()
        except (KeyError, ValueError, TypeError, OverflowError):
            return None
        # A cache on the way says how long it has kept the answer.
        return given + max(number(self.headers.get("age")) or 0.0, 0.0)


Accept = Callable[[Answer], object]
"""Looks at a whole answer before anything else is sent on its connection; if it raises, the connection is closed."""

AcceptAsync = Callable[[Answer], "Awaitable[object] | None"]
"""The same where there is an event loop: it may take its time."""


def accept_any(answer: Answer) -> None:
    """The :data:`Accept` of requests whose answers cannot be told from one another."""


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
