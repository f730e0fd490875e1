"""Keeps web pages away from the emulator: they may not steer it, and no name of theirs may stand for this machine.

A browser lets any page send requests to 127.0.0.1, and a page whose name is made to resolve to 127.0.0.1 (DNS
rebinding) may even read the answers. What gives both away is in the headers that only the browser can set: ``Host``,
``Origin`` and ``Sec-Fetch-Site``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

CONTROL = "/_control"
EVERY_ADDRESS = frozenset({"0.0.0.0", "::"})
OWN_SITE = frozenset({"same-origin", "none"})
"""``none``: a person has typed the address."""


class Guard:
    """ASGI middleware that refuses what a web page from elsewhere has sent.

    Args:
        app: What is guarded.
        hosts: Names that ``Host`` may carry beside those of this machine and the address that the request came to;
            with ``0.0.0.0`` or ``::`` among them, any address.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = ()) -> None:
        self.app = app
        self.hosts = frozenset(host.lower().strip("[]") for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        if refusal is None:
            await self.app(scope, receive, send)
        else:
            status, reason = refusal
            await JSONResponse({"error": reason}, status_code=status)(scope, receive, send)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        hosts = _values(scope, b"host")
        for host in hosts:
            if not self._is_ours(host, scope):
                advice = "start it with runops emulate --allow-host NAME if it should be"
                return 421, f"Host {_shown(host)} is not a name of this emulator: {advice}"
        if not scope["path"].startswith(CONTROL):
            return None
        for origin in _values(scope, b"origin"):
            if _place(origin) not in {host.lower() for host in hosts}:
                return 403, f"Origin {_shown(origin)} may not control the emulator"
        for site in _values(scope, b"sec-fetch-site"):
            if site.lower() not in OWN_SITE:
                return 403, f"Sec-Fetch-Site {_shown(site)} may not control the emulator"
        return None

    def _is_ours(self, host: str, scope: Scope) -> bool:
        name = _name(host)
        if name is None:
            return False
        server = scope.get("server")
        if name == "localhost" or name in self.hosts or (server and name == server[0].lower()):
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        # An address is no name that could be made to stand for another one.
        return address.is_loopback or not self.hosts.isdisjoint(EVERY_ADDRESS)


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]


def _name(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _place(origin: str) -> str | None:
    """The host and port of an origin, or None where it has none (``null``)."""
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None


def _shown(value: str) -> str:
    return ascii(value[:80])
