"""A JSON API that is no provider's, such as a host's own: signed requests, bounded answers, judged as a provider's are.

A read is sent again after a passing error; what changes something is sent once. Nothing follows a redirect.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import httpx

from runops import __version__
from runops.core.declaration import AuthScheme
from runops.core.declaration.address import root_of
from runops.core.declaration.arguments import DEFAULT_MAX_RESPONSE_BYTES, DEFAULT_REQUEST_TIMEOUT
from runops.core.model.cadence import backoff
from runops.core.model.errors import MalformedAnswer, TransientError
from runops.core.model.secret import Secret
from runops.core.transport.auth import HeaderAuth
from runops.core.transport.base import ACCEPT_ENCODING, timeouts
from runops.core.transport.connections import sync_transport
from runops.core.transport.httpx_pool import send
from runops.core.transport.network_settings import BY_ENVIRONMENT, NetworkSettings
from runops.core.transport.retry import from_answer

READ_TRIES = 4
_BEARER = AuthScheme("Authorization", "Bearer ")


class JsonApi:
    """A JSON API of one address. A context manager; not for several threads at once.

    Args:
        address: The address, with or without the path under which the API stands.
        title: The service's name, for messages.
        path: The path under which the API stands.
        token: Sent as ``Authorization: Bearer``; None sends no credential.
        origin: Where the token was set, for messages.
        allow_http: Allow plain HTTP to other machines than this one.
        network: Certificates and proxy; by default what the environment says.
        absent: What a 404 means, in words.
        secrets: What must not appear in any text beside the token and the proxy, such as a password that is sent.
        transport: Takes the place of real connections, for tests.
        sleep: For tests.

    Raises:
        ConfigurationError: The address or the token cannot be used; the text never holds the token.
    """

    def __init__(
        self,
        address: str,
        *,
        title: str,
        path: str,
        token: Secret | None,
        origin: str,
        allow_http: bool = False,
        network: NetworkSettings = BY_ENVIRONMENT,
        absent: str = "It is not there",
        secrets: tuple[Secret, ...] = (),
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.title = title
        self.root = root_of(address, example="https://airflow.example.com", version_path=path, allow_http=allow_http)
        self._path = path
        self._auth = None if token is None else HeaderAuth(_BEARER, token, origin=origin)
        self._origin = origin
        self._absent = absent
        self._secrets = (*secrets, *network.secrets, *(() if self._auth is None else self._auth.secrets))
        self._network = network
        self._peer = network.peer(self.root, title)
        self._given = transport
        self._kept = transport
        self._sleep = sleep

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._kept is not None and self._given is None:
            self._kept.close()
            self._kept = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.title!r}, root={self.root!r})"

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        """Read something, again after a passing error.

        Args:
            path: The path below that of the API.
            query: Parameters; a list stands for several of one name.

        Raises:
            AnswerError: It cannot be had.
        """
        for attempt in range(1, READ_TRIES + 1):
            try:
                return self._exchange("GET", self._path + path, query=query)
            except TransientError as error:
                if attempt == READ_TRIES:
                    raise
                self._sleep(error.retry_after or backoff(attempt))
        raise AssertionError("unreachable")

    def send(self, method: str, path: str, body: Callable[[], Mapping[str, Any]], *, below: bool = True) -> Any:
        """Send something, once.

        Args:
            method: The method.
            path: The path below that of the API, or below the root.
            body: Gives what is sent. It may hold a password, and so stands in no variable of a frame.
            below: Whether it stands below the path of the API.

        Raises:
            AnswerError: It was not taken.
        """
        return self._exchange(method, (self._path if below else "") + path, body=body)

    def _exchange(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Callable[[], Mapping[str, Any]] | None = None,
    ) -> Any:
        request = httpx.Request(
            method,
            self.root + path,
            params=None if query is None else dict(query),
            headers={
                "Accept": "application/json",
                "Accept-Encoding": ACCEPT_ENCODING,
                "User-Agent": f"runops/{__version__}",
            },
            json=None if body is None else dict(body()),
            extensions=timeouts(DEFAULT_REQUEST_TIMEOUT),
        )
        if self._auth is not None:
            request = next(self._auth.auth_flow(request))
        if self._kept is None:
            self._kept = sync_transport(self.root, network=self._network)
        answer = send(
            self._kept, request, limit=DEFAULT_MAX_RESPONSE_BYTES, seconds=DEFAULT_REQUEST_TIMEOUT, peer=self._peer
        )
        del request
        if not answer.ok:
            raise from_answer(
                answer,
                origin=self._origin,
                description=f"{method} {path} of {self.title}",
                absent=self._absent,
                secrets=self._secrets,
            )
        if not answer.content:
            return None
        try:
            return json.loads(answer.content)
        except (ValueError, RecursionError):
            pass
        # Outside of the handler, so that no error that quotes the body stands behind it.
        raise MalformedAnswer(f"{method} {path} of {self.title} was answered with something that is no JSON.")
