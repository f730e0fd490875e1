"""What a failure below HTTP means: errors that name the service, the cause and what to check. It sends nothing."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from runops.core.model.errors import AnswerLost, ConnectionFailed, MalformedAnswer, TransientError
from runops.core.model.redaction import clean
from runops.core.model.secret import Secret
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
        proxy_setting: Where a person set the proxy; empty where the environment names it.
        accepts: The setting that names the accepted authorities; empty for the usual ones.
        shows: The setting that names our own certificate; empty for none.
        secrets: What no message may hold.
    """

    name: str = "the service"
    origin: str = ""
    proxy: str = ""
    proxy_setting: str = ""
    accepts: str = ""
    shows: str = ""
    secrets: tuple[Secret, ...] = field(default=(), repr=False)

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
    if isinstance(error, httpx.NetworkError) and turned_away_by_tls(_origin_of(error)):
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
    why, advice = _why_no_connection(error, peer)
    return ConnectionFailed(f"No connection to {peer}: {why}. {advice}")


def turned_away_by_tls(error: BaseException | None) -> bool:
    """Whether the other side has refused our certificate, or that there is none.

    In TLS 1.3 it says so after our side takes the handshake for done, and a request may have left: but it reads none
    before it has accepted us, so that nothing was done.

    Args:
        error: What the socket or TLS raised.
    """
    return isinstance(error, ssl.SSLError) and (error.reason or "").partition("_ALERT_")[2] in _ALERTS_ABOUT_US


def _origin_of(error: BaseException) -> BaseException | None:
    """What the socket or TLS raised; not what the caller may have been handling, which says nothing about this."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, OSError):
        # What httpcore raises again has lost its cause, and still has it as its context.
        theirs = type(found).__module__.partition(".")[0] in ("httpx", "httpcore")
        found = found.__cause__ or (found.__context__ if theirs else None)
    return found


_ALERTS_ABOUT_US = frozenset(
    {
        "ACCESS_DENIED",
        "BAD_CERTIFICATE",
        "CERTIFICATE_EXPIRED",
        "CERTIFICATE_REQUIRED",
        "CERTIFICATE_REVOKED",
        "CERTIFICATE_UNKNOWN",
        "DECRYPT_ERROR",
        "UNKNOWN_CA",
        "UNSUPPORTED_CERTIFICATE",
    }
)
"""What a server says of a client's certificate, without the version of TLS that precedes it."""
_ALERT_OF_ANY_KIND = "HANDSHAKE_FAILURE"
"""Before TLS 1.3 servers say this too where they want a certificate."""

REACH = "Check the base URL (the host), and whether this machine can reach it."
_TRUST = (
    "Check the base URL (the host); where a proxy or a private authority signs certificates, name its certificates in "
    "verify, or in the environment variable SSL_CERT_FILE."
)
_HOST = "Check the base URL (the host): the certificate is for another one."
_DATES = "Whoever runs the service has to renew it; check the clock of this machine too."
_NOT_YET_VALID, _EXPIRED, _OTHER_HOST, _OTHER_ADDRESS = 9, 10, 62, 64
"""What OpenSSL calls these failures."""
_NO_TLS = "Check whether the base URL's port speaks TLS (https://)."
_PROXY = "Check the proxy that the environment names (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY), or add the host to NO_PROXY."


def _why_no_connection(error: BaseException, peer: Peer) -> tuple[str, str]:
    """The cause of a failed connect in words, and what to check."""
    reach = f"{REACH} {_about_proxy(peer)}" if peer.proxy else REACH
    for cause in _causes(error):
        match cause:
            case ssl.SSLCertVerificationError():
                return f"its TLS certificate is not accepted ({cause.verify_message})", _about_trust(cause, peer)
            case ssl.SSLError():
                return _why_no_tls(cause, peer)
            case socket.gaierror():
                absent = cause.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", None))
                what = "name not found" if absent else "the name could not be resolved"
                return f"{what} ({cause.strerror})", reach
            case UnicodeError():
                return "name not found (DNS cannot carry such a name)", reach
            case ConnectionRefusedError():
                return "connection refused", reach
            case TimeoutError():
                return "timed out", reach
            case ConnectionResetError() | ConnectionAbortedError():
                return "the other side closed the connection", reach
            case OSError() if cause.errno is not None:
                return (cause.strerror or type(cause).__name__).lower(), reach
            case _:
                continue
    kind = type(error).__name__
    if kind == "ProxyError":
        answer = clean(str(error), *peer.secrets) or "with a refusal"
        return f"the proxy answered {answer}", _about_proxy(peer)
    return ("timed out" if "Timeout" in kind else f"it failed ({kind})"), reach


def _why_no_tls(error: ssl.SSLError, peer: Peer) -> tuple[str, str]:
    reason = error.reason or type(error).__name__
    alert = reason.partition("_ALERT_")[2]
    if not turned_away_by_tls(error) and alert != _ALERT_OF_ANY_KIND:
        return f"TLS failed ({reason})", _NO_TLS
    words = alert.replace("_", " ").lower()
    if peer.shows:
        return f"it does not accept our TLS certificate ({words})", f"Check {peer.shows}."
    return (
        f"it refused TLS, most likely since it asks for a certificate of ours ({words})",
        "Name its file in client_cert, and that of its key in client_key.",
    )


def _about_trust(error: ssl.SSLCertVerificationError, peer: Peer) -> str:
    if error.verify_code in (_OTHER_HOST, _OTHER_ADDRESS):
        return _HOST
    if error.verify_code in (_EXPIRED, _NOT_YET_VALID):
        return _DATES
    if peer.accepts:
        return f"Check the base URL (the host), and {peer.accepts}: no other authority is accepted."
    return _TRUST


def _about_proxy(peer: Peer) -> str:
    return f"Check {peer.proxy_setting}: the address, user and password." if peer.proxy_setting else _PROXY


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
