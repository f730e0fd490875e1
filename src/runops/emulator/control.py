"""The control API below ``/_control``; what it does, :class:`~runops.emulator.store.Emulator` does.

All bodies are JSON objects. A request that makes no sense is answered 400 ``{"error": message}``.

``POST /_control/runs``: make a run that no client submitted; answers 201
    ``{"provider", "run_id", "parents"}``. Keys: ``provider`` (required); ``script``, the name of a
    script or a list of steps; ``seconds``, how long a named script lasts (default 2); ``run_id``;
    ``parents``; ``fields``, wire fields to start with; ``shape`` (Nekt: ``pipeline`` or ``flat``);
    ``hidden_seconds``, how long reads answer 404; ``held``; ``age_seconds``, how long ago it was
    created; ``on_cancel``, what a cancel does: a list of steps, ``"ignored"`` or ``"refused"``.

    A step is ``{"after": 1.5, "set": {"status": "running"}, "unset": ["error"]}``: ``after`` counts
    seconds from the previous step, ``at`` instead from the run's creation. ``"$now"`` as a value is
    the moment of the step, written the provider's way. Fields that follow from others are not
    invented: a script that ends a run sets the end time itself. Only ``updated_at`` follows along.
``GET /_control/runs[?provider=&run_id=]``: ``{"runs": [...]}`` with ids, script, wire fields,
    whether submitted and with which body, reads and cancels.
``POST /_control/defaults``: what submitted runs become when the submission does not say:
    ``provider`` (all if absent), ``script, seconds, hidden_seconds, fields, on_cancel``; null forgets.
``POST /_control/hold``: ``{"held": true|false, "provider"?, "run_id"?}``: stop the runs' clocks or let
    them go on. Without ``run_id`` also for runs made later.
``POST /_control/advance``: ``{"seconds": 5 | null, "provider"?, "run_id"?}``: move the clocks on; null or
    absent: to the end of the scripts.
``POST /_control/set``: ``{"provider", "run_id", "set": {...}, "unset": [...]}``: change wire fields now.
``POST /_control/faults``: plan a fault, see :mod:`runops.emulator.faults`; answers 201 ``{"id"}``.
``GET /_control/faults``: the planned faults, with how many they have befallen.
``GET /_control/requests``: ``{"count", "requests"}``: what was received, oldest first: ``index, time,
    provider, action, method, path, query, status`` (null for a reset), ``run_id, created_run_id,
    headers`` (names), ``user_agent, client`` (address and port), ``key`` (``accepted missing invalid
    forbidden``), ``fault``. Never a key. Filters as query parameters: ``provider, action, method,
    run_id, status, fault, key, path_contains, after`` (index); ``count_only=true`` leaves the list out.
``GET /_control/scripts``: the names of the scripts of each provider.
``POST /_control/reset``: forget everything, or ``{"only": ["runs", "faults", "requests"]}``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from runops.emulator.runs import ScriptError

if TYPE_CHECKING:
    from runops.emulator.store import Emulator

RUN_KEYS = frozenset(
    {
        "provider", "script", "seconds", "run_id", "parents", "fields", "shape", "hidden_seconds", "held",
        "age_seconds", "on_cancel",
    }
)  # fmt: skip


def control_routes(emulator: Emulator) -> list[Route]:
    """Return the routes of the control API."""
    return Control(emulator).routes()


def _checked(
    handler: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    async def checked(request: Request) -> Response:
        try:
            return await handler(request)
        except (ScriptError, TypeError, ValueError) as problem:
            return JSONResponse({"error": str(problem)}, status_code=400)

    return checked


async def _body(request: Request, allowed: frozenset[str] | None = None) -> dict[str, Any]:
    raw = await request.body()
    body = await request.json() if raw.strip() else {}
    if not isinstance(body, dict):
        raise ScriptError("the body is not a JSON object")
    if allowed is not None and set(body) - allowed:
        raise ScriptError(f"unknown key {sorted(set(body) - allowed)}; allowed: {sorted(allowed)}")
    return body


class Control:
    """The handlers of the control API."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator

    def routes(self) -> list[Route]:
        """Return the routes; their paths are described at the top of this module."""
        return [
            Route("/runs", _checked(self._create_run), methods=["POST"]),
            Route("/runs", _checked(self._list_runs), methods=["GET"]),
            Route("/defaults", _checked(self._set_defaults), methods=["POST"]),
            Route("/hold", _checked(self._hold), methods=["POST"]),
            Route("/advance", _checked(self._advance), methods=["POST"]),
            Route("/set", _checked(self._set_fields), methods=["POST"]),
            Route("/faults", _checked(self._add_fault), methods=["POST"]),
            Route("/faults", _checked(self._list_faults), methods=["GET"]),
            Route("/requests", _checked(self._list_requests), methods=["GET"]),
            Route("/scripts", _checked(self._list_scripts), methods=["GET"]),
            Route("/reset", _checked(self._reset), methods=["POST"]),
        ]

    async def _create_run(self, request: Request) -> Response:
        body = await _body(request, RUN_KEYS)
        provider = body.pop("provider", None)
        run_id = self.emulator.create_run(provider, **body)
        run = self.emulator.runs(provider=provider, run_id=run_id)[0]
        answer = {"provider": provider, "run_id": run_id, "parents": run["parents"]}
        return JSONResponse(answer, status_code=201)

    async def _list_runs(self, request: Request) -> Response:
        query = request.query_params
        runs = self.emulator.runs(provider=query.get("provider"), run_id=query.get("run_id"))
        return JSONResponse({"runs": runs})

    async def _set_defaults(self, request: Request) -> Response:
        body = await _body(request)
        self.emulator.set_defaults(body.pop("provider", None), **body)
        return JSONResponse({})

    async def _hold(self, request: Request) -> Response:
        body = await _body(request, frozenset({"held", "provider", "run_id"}))
        held = bool(body.get("held", True))
        count = self.emulator.hold(held, provider=body.get("provider"), run_id=body.get("run_id"))
        return JSONResponse({"runs": count})

    async def _advance(self, request: Request) -> Response:
        body = await _body(request, frozenset({"seconds", "provider", "run_id"}))
        seconds = body.get("seconds")
        count = self.emulator.advance(
            None if seconds is None else float(seconds),
            provider=body.get("provider"),
            run_id=body.get("run_id"),
        )
        return JSONResponse({"runs": count})

    async def _set_fields(self, request: Request) -> Response:
        body = await _body(request, frozenset({"provider", "run_id", "set", "unset"}))
        if not isinstance(body.get("provider"), str) or not isinstance(body.get("run_id"), str):
            raise ScriptError("provider and run_id are required")
        self.emulator.set_fields(body["provider"], body["run_id"], body.get("set", {}), body.get("unset", []))
        return JSONResponse({})

    async def _add_fault(self, request: Request) -> Response:
        return JSONResponse({"id": self.emulator.add_fault(**await _body(request))}, status_code=201)

    async def _list_faults(self, request: Request) -> Response:
        return JSONResponse({"faults": self.emulator.fault_list.described()})

    async def _list_requests(self, request: Request) -> Response:
        filters: dict[str, Any] = dict(request.query_params)
        count_only = filters.pop("count_only", "false") == "true"
        if "status" in filters:
            filters["status"] = int(filters["status"])
        entries = self.emulator.requests(**filters)
        return JSONResponse({"count": len(entries)} if count_only else {"count": len(entries), "requests": entries})

    async def _list_scripts(self, request: Request) -> Response:
        return JSONResponse({name: list(api.scripts) for name, api in self.emulator.apis.items()})

    async def _reset(self, request: Request) -> Response:
        body = await _body(request, frozenset({"only"}))
        self.emulator.reset(**({"only": body["only"]} if "only" in body else {}))
        return JSONResponse({})
