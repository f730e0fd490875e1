"""Which failures deserve another try, and after how long. Pure: it reads answers and exceptions and sends nothing."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Collection, Generator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, cast

from runops.core.declaration.routes import NO_SUCH_RUN
from runops.core.model.errors import (
    AnswerError,
    AnswerLost,
    AuthError,
    ConflictError,
    ConnectionFailed,
    FinalError,
    MalformedAnswer,
    RequestRefused,
    RunNotFound,
    ServerTrouble,
    TransientError,
)
from runops.core.model.redaction import clean, code, cut
from runops.core.model.secret import Secret

if TYPE_CHECKING:
    import httpx

LONGEST_HELD = 900.0
"""Seconds: an asked-for pause is honoured up to here."""

LARGEST_ERROR = 100_000
"""Bytes up to which the body of an error is read: its message must not hold an event loop."""

TRANSIENT_STATUSES = frozenset({408, 425, 429})
RATE_LIMITED = 429


@dataclass(frozen=True, slots=True)
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
        return given + max(_number(self.headers.get("age")) or 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Peer:
    """Whom requests go to, in words for messages.

    Args:
        name: Service, host and port, such as ``Nexio at api.example.com:443``.
        origin: Where a person set the address, such as ``connection 'nexio_default'``; empty where nobody did.
        proxy: Host and port of the proxy that stands between; empty for none.
    """

    name: str = "the service"
    origin: str = ""
    proxy: str = ""

    def __str__(self) -> str:
        through = [f"through the proxy {self.proxy}"] if self.proxy else []
        told = ", ".join([*through, *([self.origin] if self.origin else [])])
        return f"{self.name} ({told})" if told else self.name


UNNAMED = Peer()


def from_transport(error: httpx.HTTPError, peer: Peer = UNNAMED, *, unreadable: bool = False) -> TransientError:
    """What a failure below HTTP means. Only a failed connect proves that nothing was sent.

    Args:
        error: What httpx raised.
        peer: Whom the request went to.
        unreadable: Whether the other side has kept the connection, so that what it broke is the protocol.
    """
    # Whoever has such an error has loaded httpx; to decide takes nothing of it.
    import httpx

    if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)):
        return connection_failed(error, peer)
    if unreadable and isinstance(error, httpx.RemoteProtocolError):
        return not_http(peer)
    return AnswerLost(f"The connection to {peer} broke before the answer was whole ({type(error).__name__}).")


def not_http(peer: Peer = UNNAMED) -> MalformedAnswer:
    """The error for an answer that no parser can read."""
    return MalformedAnswer(f"The answer of {peer} is not HTTP/1.1.")


def connection_failed(error: BaseException, peer: Peer = UNNAMED) -> ConnectionFailed:
    """The error for a connection that could not be made: to whom, why, and what to check.

    Args:
        error: What httpx or asyncio raised.
        peer: Whom it was to go to.
    """
    why, advice = _why_no_connection(error)
    return ConnectionFailed(f"No connection to {peer}: {why}. {advice}")


REACH = "Check the base URL (the host), and whether this machine can reach it."
_TRUST = (
    "Check the base URL (the host); where a proxy or a private authority signs certificates, name its certificates in "
    "the environment variable SSL_CERT_FILE."
)
_NO_TLS = "Check whether the base URL's port speaks TLS (https://)."
_PROXY = "Check the proxy that the environment names (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY), or add the host to NO_PROXY."


def _why_no_connection(error: BaseException) -> tuple[str, str]:
    """The cause of a failed connect in words, and what to check."""
    for cause in _causes(error):
        match cause:
            case ssl.SSLCertVerificationError():
                return f"its TLS certificate is not accepted ({cause.verify_message})", _TRUST
            case ssl.SSLError():
                return f"TLS failed ({cause.reason or type(cause).__name__})", _NO_TLS
            case socket.gaierror():
                absent = cause.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", None))
                told = "name not found" if absent else "the name could not be resolved"
                return f"{told} ({cause.strerror})", REACH
            case UnicodeError():
                return "name not found (DNS cannot carry such a name)", REACH
            case ConnectionRefusedError():
                return "connection refused", REACH
            case TimeoutError():
                return "timed out", REACH
            case ConnectionResetError() | ConnectionAbortedError():
                return "the other side closed the connection", REACH
            case OSError() if cause.errno is not None:
                return (cause.strerror or type(cause).__name__).lower(), REACH
            case _:
                continue
    kind = type(error).__name__
    if kind == "ProxyError":
        return f"the proxy answered {clean(str(error)) or 'with a refusal'}", _PROXY
    return ("timed out" if "Timeout" in kind else f"it failed ({kind})"), REACH


def _causes(error: BaseException | None) -> Generator[BaseException]:
    """An error and what led to it, the outermost first: beyond the cause may stand what the caller was handling."""
    if error is None:
        return
    yield error
    if isinstance(error, BaseExceptionGroup):
        for each in cast("tuple[BaseException, ...]", error.exceptions):  # pyright: ignore[reportUnknownMemberType]
            yield from _causes(each)
    # httpcore cuts off the causes of what it raises, but not their context.
    yield from _causes(error.__cause__ or error.__context__)


def from_answer(
    answer: Answer, *, origin: str, asked: str, absent: str = NO_SUCH_RUN, secrets: tuple[str | Secret, ...] = ()
) -> AnswerError:
    """The error that a non-2xx answer means.

    Args:
        answer: The answer.
        origin: Where the credential was set, for 401 and 403.
        asked: The request in words, such as ``GET nexio run 1f...``; no query, no header.
        absent: What a 404 means, in words.
        secrets: Texts that must not appear in the error.
    """
    provider_code, message = _said(answer.content, secrets)
    status = answer.status
    parts = [f"{asked} was answered {status}"]
    if provider_code:
        parts.append(f"({provider_code})")
    if message:
        parts.append(f"- {message}")
    text = " ".join(parts).rstrip(".") + "."
    if status in TRANSIENT_STATUSES or status >= 500:
        return ServerTrouble(text, status=status, code=provider_code, retry_after=asked_pause(answer))
    kind: type[FinalError] = _FINAL.get(status, RequestRefused)
    advice = _ADVICE.get(status, "").format(origin=origin, absent=absent)
    return kind(text + advice, status=status, code=provider_code, is_json=_json_object(answer.content) is not None)


_FINAL: Mapping[int, type[FinalError]] = {
    401: AuthError,
    403: AuthError,
    404: RunNotFound,
    409: ConflictError,
}
_ADVICE: Mapping[int, str] = {
    401: " Check the key in {origin}: it is missing, wrong, revoked or expired.",
    402: " The account has no balance left for this.",
    403: " The key in {origin} lacks a right, or belongs to another workspace or organisation.",
    404: " {absent}, or the key belongs to another environment or account.",
    409: " Something else is active there right now; try again later.",
    426: " The service asks for a newer client: check for a newer runops.",
}


def asked_pause(answer: Answer, *, now: float | None = None) -> float | None:
    """Seconds that ``Retry-After`` (seconds or a date) or ``X-RateLimit-Reset`` (unix seconds) asks for, capped."""
    moment = time.time() if now is None else now
    asked = _retry_after(answer.headers.get("retry-after"), moment)
    if asked is None and answer.status == RATE_LIMITED:
        # Some services send the reset time with every answer; only here does it ask for a pause.
        reset = _number(answer.headers.get("x-ratelimit-reset"))
        asked = None if reset is None else reset - moment if reset > 1e9 else reset
    return None if asked is None else min(max(asked, 0.0), LONGEST_HELD)


def submit_may_repeat(error: AnswerError, turned_away: Collection[tuple[int, str]] = ()) -> bool:
    """Whether a request that starts a run surely started none: nothing was sent, or it was turned away unread.

    Args:
        error: The failure.
        turned_away: What the provider declares, see ``Submission.turned_away``.
    """
    if isinstance(error, ConnectionFailed):
        return True
    return error.status == RATE_LIMITED or (error.status, error.code) in turned_away


def submit_is_uncertain(error: AnswerError, turned_away: Collection[tuple[int, str]] = ()) -> bool:
    """Whether a run may exist although the answer to its submit is lost; arguments as in :func:`submit_may_repeat`."""
    return isinstance(error, TransientError) and not submit_may_repeat(error, turned_away)


def may_pass(error: FinalError) -> bool:
    """Whether a final error can be a passing one in a wait: a run not visible yet, a detour of a gateway."""
    return isinstance(error, RunNotFound) or (error.status is not None and 300 <= error.status < 400)


def too_large(limit: int) -> MalformedAnswer:
    """The error for a body over the limit of ``limit`` bytes."""
    return MalformedAnswer(f"The answer is larger than max_response_bytes={limit}.")


def _retry_after(value: str | None, now: float) -> float | None:
    if value is None:
        return None
    seconds = _number(value)
    if seconds is not None:
        return seconds
    try:
        return parsedate_to_datetime(value).timestamp() - now
    except (ValueError, TypeError, OverflowError):
        return None


def _number(value: str | None) -> float | None:
    try:
        number = float(value) if value is not None else None
    except ValueError:
        return None
    return number if number is not None and number == number and abs(number) != float("inf") else None


def _said(content: bytes, secrets: tuple[str | Secret, ...]) -> tuple[str | None, str | None]:
    """The code and message of an error body, in any of the shapes that the five APIs use; neither must be there."""
    outer = _json_object(content)
    if outer is None:
        return None, None
    inner: Any = outer.get("error")
    source = cast("dict[str, Any]", inner) if isinstance(inner, dict) else outer
    found_code = code(source.get("code"), *secrets) or code(source.get("type"), *secrets)
    for name in ("message", "error", "detail"):
        text = clean(source.get(name), *secrets)
        if text:
            return found_code, text
    return found_code, _fields(outer.get("detail") or source.get("details"), secrets)


def _json_object(content: bytes) -> dict[str, Any] | None:
    if len(content) > LARGEST_ERROR:
        return None
    try:
        body: Any = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", body) if isinstance(body, dict) else None


def _fields(problems: Any, secrets: tuple[str | Secret, ...]) -> str | None:
    """The names of the fields that a validation error complains about; never their values."""
    if not isinstance(problems, list):
        return None
    names: list[str] = []
    for problem in cast("list[Any]", problems)[:5]:
        if isinstance(problem, dict):
            found = cast("dict[str, Any]", problem)
            place = found.get("loc") or found.get("field")
            parts = cast("list[Any]", place)[:8] if isinstance(place, list) else [place]
            name = ".".join(filter(None, (_field(part, secrets) for part in parts)))
            if name:
                names.append(name)
    return cut(f"fields: {', '.join(names)}") if names else None


def _field(part: object, secrets: tuple[str | Secret, ...]) -> str | None:
    """A part of a field's place, where it can be a name or an index: services put keys and values of payloads there."""
    if isinstance(part, int):
        return str(part) if 0 <= part < 10_000 else "?"
    return (code(part, *secrets) or "?") if isinstance(part, str) else None
