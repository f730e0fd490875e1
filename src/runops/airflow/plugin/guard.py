"""What stands before every route: headers that a browser obeys, whose page a request came from, and how often."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Awaitable, Callable, MutableMapping
from functools import cache
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Request
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from runops.airflow.plugin._compat import BaseUser, GetUserDep, own_hosts

READS_PER_MINUTE = 240
"""Of one person in one process of the API server: four pages that are renewed every second."""
ACTIONS_PER_MINUTE = 30
"""Looks and cancels of one person in one process."""
MARK = "x-runops"
"""The header that an action must have: no other site can have a browser send it without being asked first."""

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "font-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'self'",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "SAMEORIGIN",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}
"""On every answer of ours, errors too."""
NOT_KEPT = {"cache-control": "no-store"}
"""Where a route says nothing else: what a person may see is nobody else's."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Headers:
    """Sets :data:`HEADERS` on every answer of an application.

    :param app: The application.
    """

    def __init__(self, app: Callable[[Message, Receive, Send], Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve a request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                there = {name.lower() for name, _ in message["headers"]}
                more = {name.encode(): value.encode() for name, value in {**NOT_KEPT, **HEADERS}.items()}
                ours = [(name, value) for name, value in more.items() if name not in there]
                message["headers"] = [*message["headers"], *ours]
            await send(message)

        await self._app(scope, receive, send_with_headers)


# --- whose page a request came from ---


def from_own_page(request: Request) -> None:
    """Refuse an action that a page of another site may have sent, with the cookie of who looks at it.

    :raises HTTPException: 415 or 403.
    """
    headers = request.headers
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "Send JSON, with the content type application/json.")
    if headers.get(MARK) != "1":
        raise HTTPException(403, "The header X-Runops is missing.")
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site not in (None, "same-origin") or (origin is not None and not _is_own(origin, request)):
        raise HTTPException(403, "This was sent by a page of another site.")
    # A program shows its token; only a browser sends what it was once given along by itself.
    if site is None and origin is None and not headers.get("authorization", "").lower().startswith("bearer "):
        raise HTTPException(403, "The headers Origin and Sec-Fetch-Site are missing.")


def _is_own(origin: str, request: Request) -> bool:
    # The scheme is not compared: a proxy in front may speak TLS, and Airflow not know of it.
    host = origin.partition("://")[2].lower()
    return bool(host) and host in {request.headers.get("host", "").lower(), *map(str.lower, own_hosts())}


# --- how often ---


@cache
def _limiter() -> MovingWindowRateLimiter:
    return MovingWindowRateLimiter(MemoryStorage())


def _within(limit: RateLimitItemPerMinute, what: str, user: BaseUser) -> None:
    who = hashlib.sha256(str(user.get_id()).encode()).hexdigest()
    if _limiter().hit(limit, what, who):
        return
    again = _limiter().get_window_stats(limit, what, who).reset_time - time.time()
    wait = str(max(1, math.ceil(again)))
    raise HTTPException(429, f"Too many requests: again in {wait} s.", headers={"retry-after": wait})


def reader(user: GetUserDep) -> BaseUser:
    """Who asks, unless too often.

    :raises HTTPException: 401, or 429.
    """
    _within(RateLimitItemPerMinute(READS_PER_MINUTE), "read", user)
    return user


def actor(request: Request, user: GetUserDep) -> BaseUser:
    """Who acts, by our own page, and not too often.

    :raises HTTPException: 401, 403, 415, or 429.
    """
    from_own_page(request)
    _within(RateLimitItemPerMinute(ACTIONS_PER_MINUTE), "act", user)
    return user


Reader = Annotated[BaseUser, Depends(reader)]
Actor = Annotated[BaseUser, Depends(actor)]
