"""One credential's way to one service: requests signed, answers judged, pauses kept. It opens no connection."""

from __future__ import annotations

import copy
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from typing import Any, TypedDict
from urllib.parse import unquote
from weakref import WeakValueDictionary

import httpx

from runops import __version__
from runops.core.declaration import Provider, Request, arguments
from runops.core.declaration.arguments import DEFAULT_MAX_RESPONSE_BYTES, DEFAULT_REQUEST_TIMEOUT
from runops.core.declaration.routes import NO_SUCH_RUN
from runops.core.metrics import Meter
from runops.core.model.cadence import RateLimiter
from runops.core.model.codes import Code
from runops.core.model.errors import AuthError, ConfigurationError, MalformedAnswer, TransientError
from runops.core.model.secret import Secret
from runops.core.model.shared_rate import SharedRate
from runops.core.transport.auth import HeaderAuth
from runops.core.transport.base import ACCEPT_ENCODING, REQUEST_TIMEOUT, Answer, timeouts
from runops.core.transport.keys import Reread
from runops.core.transport.network_settings import BY_ENVIRONMENT, NetworkSettings, PathSetting
from runops.core.transport.offload import off_loop
from runops.core.transport.rate_settings import NO_LIMIT, RateSettings
from runops.core.transport.rate_store import line_key, store_at
from runops.core.transport.retry import from_answer
from runops.core.transport.reuse import check_process
from runops.core.transport.shared_budget import SharedBudget
from runops.core.transport.trace_id import TraceId

LAST_LOOK_SECONDS = 5.0
"""Seconds after the end of a wait for which a look that is under way may go on."""

_RATE_LIMITERS: WeakValueDictionary[tuple[object, ...], RateLimiter | SharedBudget] = WeakValueDictionary()
"""One for each credential of the process: a pause that one client is asked for holds for all that share its key."""


class ClientSettings(TypedDict, total=False):
    """What a client of one credential takes beside its provider and its token, as users name it."""

    base_url: str | None
    """Another root than the public API's."""
    options: Mapping[str, str | None] | None
    """The provider's further settings, such as ``{"workspace_id": ...}``; None values are left out."""
    origin: str | None
    """Where the token was set, such as ``connection 'nexio_default'``; for error messages."""
    reread: Reread | None
    """Gives the token as it stands now, where it was set; called when the service refuses the one in use. For an
    :class:`AsyncRunClient` it may be a coroutine function; a plain one is called in a thread. Clients of one event loop
    whose ``reread`` is equal share what it gives. Default: the token stays what it is."""
    request_timeout: float | timedelta
    """Seconds (or a timedelta) for one whole request. Default: 30."""
    max_response_bytes: int
    """The largest body, decompressed, that is read. Default: 10,000,000."""
    requests_per_minute: float | None
    """A limit of ours, spread evenly. It holds in this process; see ``processes`` and ``rate_store``. Default: none."""
    processes: int | None
    """How many processes send with this credential: each keeps to the limit divided by it. Default: 1."""
    rate_store: str | Secret | None
    """``redis://[user:password@]host:port/db``, or ``rediss://`` for TLS, of a Redis through which all processes that
    send with this credential share the limit. While it cannot be used, each keeps to the limit divided by
    ``processes``. Needs ``runops[redis]``. Default: none."""
    allow_http: bool
    """Allow plain HTTP to other machines than this one. Default: False."""
    user_agent: str
    """What to say beside ``runops/<version>``."""
    mark_runs: bool
    """Whether a submit adds its mark to a text that the provider shows again, so that its run can be told from others.
    Default: True."""
    states: Mapping[str, str] | None
    """Words that are in no documentation, and the phase or outcome that each means: ``{"partial": "degraded"}``."""
    clock: Callable[[], float]
    """Unix seconds; for tests."""
    address_origin: str
    """Where the address was set, such as ``connection 'nexio_default'``; for error messages."""
    verify: PathSetting
    """The path of a file of the authorities (PEM) that are accepted, and no others. Default: True, the usual ones or
    those that SSL_CERT_FILE names. False is refused."""
    client_cert: PathSetting
    """The path of our own certificate (PEM), for a service that asks for one. Default: none."""
    client_key: PathSetting
    """The path of its key (PEM, without a password), where that is not in the same file."""
    proxy: str | Secret | None
    """``scheme://[user:password@]host:port`` of a proxy; http, https, socks5 or socks5h. Default: what HTTPS_PROXY,
    HTTP_PROXY, ALL_PROXY and NO_PROXY say."""
    network_origin: str
    """Where these four were set, such as ``connection 'nexio_default'``; for error messages."""
    trace_id: str | None
    """32 hex digits, sent where the provider declares a header for them and no trace of OpenTelemetry is active; one
    that is active goes first. Default: an id of the client's own."""
    meter: Meter | None
    """For hosts: who counts reads, turns and adoptions. With one, the end of a wait is the host's to count and to
    trace, since it alone knows the verdict. Default: OpenTelemetry, where the process has set it up."""


class Session:
    """What every request of one credential shares.

    Args:
        provider: The service, from :func:`runops.core.find`.
        token: The API key or token.
        base_url: Another root than the public API's.
        options: The provider's further settings, such as ``{"workspace_id": ...}``; None values are left out.
        origin: Where the token was set, such as ``connection 'nexio_default'``; for error messages.
        reread: Gives the token as it stands now; see :class:`ClientSettings`.
        request_timeout: Seconds (or a timedelta) for one whole request.
        max_response_bytes: The largest body, decompressed, that is read.
        rate: A limit of ours; by default none.
        allow_http: Allow plain HTTP to other machines than this one.
        user_agent: What to say beside ``runops/<version>``.
        clock: Unix seconds; for tests.
        address_origin: Where the address was set, such as ``connection 'nexio_default'``; for error messages.
        network: Certificates and proxy; by default what the environment says.
        trace_id: See :class:`ClientSettings`.

    Raises:
        ConfigurationError: A setting is wrong; the text names it and never holds the token.
    """

    def __init__(
        self,
        provider: Provider,
        *,
        token: str | Secret,
        base_url: str | None = None,
        options: Mapping[str, str | None] | None = None,
        origin: str | None = None,
        reread: Reread | None = None,
        request_timeout: float | timedelta = DEFAULT_REQUEST_TIMEOUT,
        max_response_bytes: int = DEFAULT_MAX_RESPONSE_BYTES,
        rate: RateSettings = NO_LIMIT,
        allow_http: bool = False,
        user_agent: str = "",
        clock: Callable[[], float] = time.time,
        address_origin: str = "",
        network: NetworkSettings = BY_ENVIRONMENT,
        trace_id: str | None = None,
    ) -> None:
        token = Secret(token)
        self.provider = provider
        self.root = provider.root(base_url, allow_http=allow_http)
        try:
            httpx.URL(self.root)
        except httpx.InvalidURL as error:
            raise ConfigurationError(
                f"base_url {self.root!r} is not a web address such as {provider.base_url}: {error}.",
                error_code=Code.BAD_CONNECTION,
            ) from None
        self.network = network
        self.peer = network.peer(self.root, provider.title, origin=address_origin)
        self.timeout = arguments.seconds("request_timeout", request_timeout)
        self.limit = int(arguments.positive("max_response_bytes", max_response_bytes))
        self.rate = rate
        self.reread = reread
        self.clock = clock
        self._pid = os.getpid()
        self.trace_id = TraceId(trace_id)
        self._auth = HeaderAuth(provider.auth, token, origin=origin or f"the token of {provider.title}")
        self.rate_limiter = self._shared_rate_limiter()
        self._headers = {
            "Accept": "application/json",
            "Accept-Encoding": ACCEPT_ENCODING,
            "User-Agent": " ".join((f"runops/{__version__}", *_product(user_agent))),
            **_option_headers(provider, options or {}),
        }

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.provider.name!r}, root={self.root!r})"

    def with_token(self, token: Secret) -> Session:
        """The same way to the service with another credential: its own key, rate limiter and pauses.

        Raises:
            ConfigurationError: It is no usable token.
        """
        other = copy.copy(self)
        other._auth = HeaderAuth(self.provider.auth, token, origin=self._auth.origin)
        other.rate_limiter = other._shared_rate_limiter()
        return other

    @property
    def token(self) -> Secret:
        """The credential."""
        return self._auth.secret

    @property
    def origin(self) -> str:
        """Where the credential was set, for messages."""
        return self._auth.origin

    def _shared_rate_limiter(self) -> RateLimiter | SharedBudget:
        key = (self.provider.name, self.root, self._auth.fingerprint, self.rate.key, self.clock)
        limiter = _RATE_LIMITERS.get(key)
        if limiter is None:
            limiter = _RATE_LIMITERS[key] = _new_limiter(self, self._auth.fingerprint)
        return limiter

    @property
    def budget(self) -> SharedBudget | None:
        """What is shared with other processes, where that is set."""
        return self.rate_limiter if isinstance(self.rate_limiter, SharedBudget) else None

    @property
    def key(self) -> tuple[object, ...]:
        """What two sessions must share for their waits to share connections; the credential only as a hash."""
        # Waits that read a word differently cannot share what was read.
        words = sorted(self.provider.taught.items())
        settings = (self.timeout, self.limit, self.rate.key, self.network.key, *words)
        return (self.provider.name, self.root, self._auth.fingerprint, *sorted(self._headers.items()), *settings)

    @property
    def is_forked(self) -> bool:
        """Whether this is a copy, in a process that was forked from the one that made it."""
        return os.getpid() != self._pid

    def check_process(self) -> None:
        """Refuse to be used in a forked process.

        Raises:
            ConfigurationError: This is another process than the one that made the client.
        """
        check_process(self._pid, f"This client of {self.provider.title}")

    def prepare(self, request: Request, trace_id: str | None = None) -> httpx.Request:
        """A request, signed.

        Args:
            request: The request.
            trace_id: Where it was asked for in another context: what :attr:`trace_id` was there.
        """
        content = None if request.json is None else json.dumps(request.json, allow_nan=False).encode()
        headers = dict(self._headers)
        if content is not None:
            headers["Content-Type"] = "application/json"
        if self.provider.trace_header is not None:
            headers[self.provider.trace_header] = trace_id or self.trace_id.here()
        prepared = httpx.Request(
            request.method,
            self._address(request),
            params=dict(request.query) or None,
            headers=headers,
            content=content,
            extensions=timeouts(self.timeout),
        )
        return next(self._auth.auth_flow(prepared))

    def _address(self, request: Request) -> str | httpx.URL:
        """Where a request goes. An address that came in an answer is followed only below our root: the key goes along.

        Raises:
            MalformedAnswer: It stands elsewhere.
        """
        if not request.url:
            return self.root + request.path
        root = httpx.URL(self.root)
        try:
            url = httpx.URL(self.root + request.path).join(request.url)
        except httpx.InvalidURL:
            raise MalformedAnswer(
                f"The {request.description} names a next page whose address cannot be read."
            ) from None
        below = unquote(url.path).startswith(f"{root.path.rstrip('/')}/") and ".." not in unquote(unquote(url.path))
        if (url.scheme, url.host, url.port, url.userinfo) != (root.scheme, root.host, root.port, b"") or not below:
            raise MalformedAnswer(
                f"The {request.description} names a next page at {url.scheme}://{url.host[:80]}, which is not below "
                f"{self.root}: it is not followed, since the key would go there too. Check the base URL."
            )
        return url.copy_with(fragment=None)

    def time_for(self, by: float | None) -> tuple[float, str]:
        """Seconds that an exchange may take, and what stands before them in a message.

        Args:
            by: Unix seconds at which the wait that needs it is over: the last look may end a little later.
        """
        if by is not None:
            left = max(by - self.clock(), 0.0) + LAST_LOOK_SECONDS
            if left < self.timeout:
                return left, "the rest of the wait, "
        return self.timeout, REQUEST_TIMEOUT

    def turns(self, by: float | None = None) -> Iterator[float]:
        """What to sleep, in seconds, one after the other, until the next request may leave.

        Args:
            by: Unix seconds after which it need not leave any more.

        Raises:
            TransientError: The service asked for a pause, or a limit holds it back, for longer than that.
        """
        while self.budget is not None:
            self.budget.find_place()
            if not (seconds := self.budget.ask_in()):
                break
            self._check_delay(by)
            yield seconds
        yield self.turn(by)

    async def turns_async(self, by: float | None = None) -> AsyncIterator[float]:
        """As :meth:`turns`, without holding the loop where other processes share the limit."""
        while self.budget is not None:
            await self.budget.find_place_async()
            if not (seconds := self.budget.ask_in()):
                break
            self._check_delay(by)
            yield seconds
        yield self.turn(by)

    def turn(self, by: float | None = None) -> float:
        """Take the next place that is known; seconds until it comes. See :meth:`turns`."""
        self._check_delay(by)
        return self.rate_limiter.reserve(self.clock())

    def _check_delay(self, by: float | None) -> None:
        now = self.clock()
        if by is not None and self.rate_limiter.delay(now) > max(by - now, 0.0):
            raise TransientError("The service asked for a pause that lasts longer than the wait.")

    def check(self, request: Request, answer: Answer) -> None:
        """Look at an answer before its connection is used again.

        Raises:
            AnotherRun: It is a good one, but not to this request.
        """
        if answer.ok:
            self.provider.check(request, answer.content)

    async def check_async(self, request: Request, answer: Answer) -> None:
        """As :meth:`check`, without holding the loop where the answer is large."""
        await off_loop(partial(self.check, request, answer), len(answer.content))

    def judge(self, description: str, answer: Answer, *, absent: str = NO_SUCH_RUN) -> bytes:
        """The body of a good answer. The wish of any other one for a pause is kept for all requests.

        Args:
            description: The request in words.
            absent: What a 404 means, in words.
            answer: What came back.

        Raises:
            AnswerError: It is no 2xx.
        """
        if answer.ok:
            return answer.content
        error = from_answer(
            answer,
            origin=self._auth.origin,
            description=f"The {description}",
            absent=absent,
            secrets=(*self._auth.secrets, *self.network.secrets),
        )
        if isinstance(error, AuthError):
            error.origin, error.key_mark = self._auth.origin, self._auth.secret.mark
        if error.retry_after:
            self.rate_limiter.hold(self.clock() + error.retry_after)
        raise error


def _new_limiter(session: Session, fingerprint: str) -> RateLimiter | SharedBudget:
    rate = session.rate
    if not rate.store or rate.requests_per_minute is None:
        return RateLimiter(rate.alone)
    return SharedBudget(
        SharedRate(rate.requests_per_minute, rate.processes),
        store_at(rate.store),
        key=line_key(session.provider.name, session.root, fingerprint),
        title=session.provider.title,
        share=rate.requests_per_minute / rate.processes,
        clock=session.clock,
    )


def _product(user_agent: str) -> list[str]:
    return [arguments.header_value("user_agent", user_agent)] if user_agent else []


def _option_headers(provider: Provider, options: Mapping[str, Any]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in options.items():
        if name not in provider.options:
            known = ", ".join(provider.options) or "none"
            raise ConfigurationError(
                f"{provider.title} has no option {name!r}; options: {known}.", error_code=Code.UNKNOWN_NAME
            )
        if value:
            headers[provider.options[name]] = arguments.header_value(name, value)
    return headers
