"""What a failure below HTTP means: errors that name the service, the cause and what to check. It sends nothing."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from runops.core.model.errors import AnswerLost, ConnectionFailed, MalformedAnswer, TransientError
from runops.core.model.redaction import clean
from runops.core.transport.base import LONGEST_HEAD, REQUEST_TIMEOUT

if TYPE_CHECKING:
    import httpx


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
        more = ", ".join([*through, *([self.origin] if self.origin else [])])
        return f"{self.name} ({more})" if more else self.name


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
                what = "name not found" if absent else "the name could not be resolved"
                return f"{what} ({cause.strerror})", REACH
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


def took_too_long(seconds: float, peer: Peer = UNNAMED, bound: str = REQUEST_TIMEOUT) -> AnswerLost:
    """The error for an answer that is not whole in time.

    Args:
        seconds: How long it had.
        peer: Whose answer it is.
        bound: What stands before the seconds.
    """
    return AnswerLost(f"No whole answer of {peer} came within {bound}{round(seconds, 2):g} s.")


def no_place(peer: Peer = UNNAMED) -> ConnectionFailed:
    """The error for an exchange that got no connection in time."""
    return ConnectionFailed(f"No connection to {peer} became free in time; all are in use.")


def pool_closed() -> ConnectionFailed:
    """The error for an exchange that a closed pool cannot begin."""
    return ConnectionFailed("The connections to the service are closed.")


def closed_on_the_way() -> AnswerLost:
    """The error for an exchange whose pool was closed under it."""
    return AnswerLost("The connections were closed before the answer came.")


def too_large(limit: int) -> MalformedAnswer:
    """The error for a body over the limit of ``limit`` bytes."""
    return MalformedAnswer(f"The answer is larger than max_response_bytes={limit}.")


def head_too_large() -> MalformedAnswer:
    """The error for an answer whose header has no end."""
    return MalformedAnswer(f"The answer's header is larger than {LONGEST_HEAD} bytes.")
