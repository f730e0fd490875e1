"""The ASGI app: sends each request to its provider's API, writes it down, lets faults befall it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from email.utils import formatdate
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request as PlainRequest
from starlette.responses import JSONResponse
from starlette.routing import Mount
from starlette.routing import Route as PlainRoute
from starlette.types import Message, Receive, Scope, Send

from runops import __version__
from runops.emulator.api import FORBIDDEN_KEY, INVALID_KEY, Api, RefusedError, Route
from runops.emulator.befall import befall
from runops.emulator.control import control_routes
from runops.emulator.guard import Guard
from runops.emulator.journal import REQUESTS_KEPT
from runops.emulator.keys import id_of
from runops.emulator.services import default_apis
from runops.emulator.store import Emulator
from runops.emulator.wire import Answer, Request, TooLargeError, read_request

LONGEST_KEPT = 1_000
"""Characters of a path, a query or a header's name that are remembered."""


class ProviderApp:
    """One provider's API as an ASGI app."""

    def __init__(self, emulator: Emulator, api: Api) -> None:
        self.emulator = emulator
        self.api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        send = self._dated(send)
        try:
            request = await read_request(scope, receive)
        except TooLargeError as problem:
            await self.api.error(413, str(problem)).send(send)
            return
        route, refusal = self._route(request)
        entry = self._entry(request, route)
        self.emulator.journal.record(entry)

        def carry_out() -> Answer:
            answer = refusal if refusal is not None else self._answer(request, route)
            entry["created_run_id"] = answer.created_run_id
            return answer

        def note_status(status: int | None) -> None:
            entry["status"] = status

        fault = self.emulator.take_fault(
            provider=self.api.name,
            action=entry["action"],
            method=request.method,
            path=request.path,
            run_id=request.params.get("run_id"),
        )
        if fault is None:
            answer = carry_out()
            note_status(answer.status)
            await answer.send(send)
            return
        entry["fault"] = fault.kind
        await befall(
            fault,
            carry_out=carry_out,
            write_error=self.api.error,
            note_status=note_status,
            scope=scope,
            receive=receive,
            send=send,
        )

    def _dated(self, send: Send) -> Send:
        """Let every answer bear the time of the emulator's clock, as those of the real services bear theirs."""

        async def send_dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                date = formatdate(self.emulator.now(), usegmt=True).encode()
                message = {**message, "headers": [*message.get("headers", ()), (b"date", date)]}
            await send(message)

        return send_dated

    def _route(self, request: Request) -> tuple[Route | None, Answer | None]:
        try:
            return self.api.find_route(request), None
        except RefusedError as refused:
            return None, refused.answer

    def _answer(self, request: Request, route: Route | None) -> Answer:
        if route is None:
            return self.api.not_found(request)
        with self.emulator.lock:
            try:
                if not route.public:
                    self._check_key(self.api.check_key(request))
                return route.handler(request)
            except RefusedError as refused:
                return refused.answer

    def _check_key(self, key: str) -> None:
        """Refuse a key of which somebody has said so, as the service refuses any bad one."""
        state = self.emulator.keys.state(self.api.name, key)
        if state == "revoked":
            raise RefusedError(self.api.error(401, "Invalid credentials"))
        if state == "forbidden":
            raise RefusedError(self.api.error(403, "This key may not do that"))

    def _entry(self, request: Request, route: Route | None) -> dict[str, Any]:
        key, keys = self.api.read_key(request), self.emulator.keys
        state = "accepted" if key is None else keys.state(self.api.name, key)
        return {
            "time": self.emulator.now(),
            "provider": self.api.name,
            "action": route.action if route is not None else "unknown",
            "method": request.method,
            "path": request.path[:LONGEST_KEPT],
            "query": request.query_text[:LONGEST_KEPT],
            "status": None,
            "run_id": request.params.get("run_id", "")[:LONGEST_KEPT] or None,
            "created_run_id": None,
            "headers": sorted(name[:LONGEST_KEPT] for name in request.headers),
            "user_agent": request.headers.get("user-agent", "")[:LONGEST_KEPT] or None,
            "trace_id": request.headers.get("x-trace-id", "")[:LONGEST_KEPT] or None,
            "client": request.client,
            "key": _judged(key) if state == "accepted" else state,
            "key_id": None if key is None else id_of(key),
            "key_label": None if key is None else keys.label(self.api.name, key),
            "fault": None,
        }


def _judged(key: str | None) -> str:
    if key is None:
        return "missing"
    if key.startswith(INVALID_KEY):
        return "invalid"
    return "forbidden" if key.startswith(FORBIDDEN_KEY) else "accepted"


def create_app(
    seed: int = 0,
    *,
    apis: Iterable[type[Api]] | None = None,
    seconds: float = 2.0,
    now: Callable[[], float] = time.time,
    hosts: Iterable[str] = (),
    requests_kept: int = REQUESTS_KEPT,
) -> Starlette:
    """Build the ASGI app; ``app.state.emulator`` is the :class:`~runops.emulator.store.Emulator`.

    Args:
        seed: Where ids and random faults start from. The same seed gives the same behaviour.
        apis: The services; the five of :func:`~runops.emulator.services.default_apis` if None.
        seconds: How long a named script lasts when a run does not say so.
        now: The clock, in seconds since the epoch.
        hosts: What the header ``Host`` may say beside the names of this machine; see :mod:`runops.emulator.guard`.
        requests_kept: How many GET requests are remembered, and how many others; the oldest are forgotten first.

    Raises:
        ValueError: Two APIs have one name.
    """
    served = default_apis() if apis is None else apis
    emulator = Emulator(served, seed, seconds=seconds, now=now, requests_kept=requests_kept)
    mounts = [Mount(f"/{name}", app=ProviderApp(emulator, api)) for name, api in emulator.apis.items()]

    async def index(request: PlainRequest) -> JSONResponse:
        providers = {name: f"{request.base_url}{name}" for name in emulator.apis}
        return JSONResponse({"runops": __version__, "providers": providers, "control": f"{request.base_url}_control"})

    control = Mount("/_control", routes=control_routes(emulator))
    guard = Middleware(Guard, hosts=frozenset(hosts))
    app = Starlette(routes=[PlainRoute("/", index), control, *mounts], middleware=[guard])
    app.state.emulator = emulator
    return app
