"""The control API below ``/_control``; what it does, :class:`~runops.emulator.store.Emulator` does.

All bodies are JSON objects, sent as ``Content-Type: application/json`` (``curl --json``). A request that makes no sense
is answered 400 ``{"error": message}``, and the message names the field; 413 is a body of more than 1,000,000 bytes, 415
another type. What a web page from elsewhere has sent is refused: 403 by its ``Origin`` or ``Sec-Fetch-Site``, 421 by
its ``Host``, see :mod:`runops.emulator.guard`.

Of the requests the newest 20,000 reads (GET) and the newest 20,000 others are remembered, of each provider's runs
20,000 (those that are over are forgotten first), and of the faults 1,000 (those that are used up likewise). Where
something was forgotten, the lists say how much as ``dropped``.

``POST /_control/runs``: make a run that no client submitted; answers 201
    ``{"provider", "run_id", "parents"}``. Keys: ``provider`` (required); ``script``, the name of a
    script or a list of steps; ``seconds``, how long a named script lasts (default 2); ``run_id``;
    ``parents``; ``fields``, wire fields to start with; ``shape`` (Nekt: ``pipeline`` or ``flat``);
    ``hidden_seconds``, how long reads answer 404; ``held``; ``age_seconds``, how long ago it was
    created; ``on_cancel``, what a cancel does: a list of steps, ``"ignored"`` or ``"refused"``;
    ``on_resume``, what a resume does (OnePin), likewise; ``on_retry``, the script of the run that a
    retry makes (B3OS), a name or a list of steps.

    A step is ``{"after": 1.5, "set": {"status": "running"}, "unset": ["error"]}``: ``after`` counts
    seconds from the previous step, ``at`` instead from the run's creation. ``"$now"`` as a value is
    the moment of the step, written the provider's way, and ``{"$share": 0.5, "of": "budget_usd"}`` is a share of
    another number of the run, as that stands then. Fields that follow from others are not
    invented: a script that ends a run sets the end time itself. Only ``updated_at`` follows along.
``GET /_control/runs[?provider=&run_id=]``: ``{"runs": [...]}`` with ids, script, wire fields,
    whether submitted and with which body, reads, cancels and resumes.
``POST /_control/defaults``: what submitted runs become when the submission does not say:
    ``provider`` (all if absent), ``script, seconds, hidden_seconds, fields, on_cancel,
    on_resume, on_retry``; null forgets.
``POST /_control/hold``: ``{"held": true|false, "provider"?, "run_id"?}``: stop the runs' clocks or let
    them go on. Without ``run_id`` also for runs made later.
``POST /_control/advance``: ``{"seconds": 5 | null, "provider"?, "run_id"?}``: move the clocks on; null or
    absent: to the end of the scripts.
``POST /_control/set``: ``{"provider", "run_id", "set": {...}, "unset": [...]}``:
    change wire fields now.
``POST /_control/faults``:
    plan a fault, see :mod:`runops.emulator.faults`; answers 201 ``{"id"}``.
``GET /_control/faults``:
    the planned faults, with how many they have befallen.
``GET /_control/requests``: ``{"count", "requests"}``: what was received, oldest first:
    ``index, time, provider, action, method, path, query, status`` (null for a reset), ``run_id, created_run_id,
    headers`` (names), ``user_agent, trace_id`` (``X-Trace-Id``), ``client`` (address and port), ``key``
    (``accepted missing invalid forbidden revoked``), ``key_id`` (12 letters of its SHA-256), ``key_label`` (see
    below), ``fault``. Never a key. Filters as query parameters: ``provider, action, method, run_id, status, fault, key,
    key_id, key_label, path_contains, after`` (index); ``count_only=true`` leaves the list out.
    Where older ones were forgotten: ``dropped``, how many.
``GET /_control/scripts``:
    the names of the scripts of each provider.
``POST /_control/keys``: say what a key is from now on, to rotate it under those who use it:
    ``{"key", "state", "provider"?, "label"?}``, where ``state`` is ``revoked`` (answered 401), ``forbidden`` (403) or
    ``accepted``, at one provider or at all. Answers ``{"key_id"}``, which names it in the journal; the key itself is
    kept nowhere.
``GET /_control/keys``:
    ``{"keys": [...]}``: what was said, by ``key_id``.
``POST /_control/reset``:
    forget everything, or ``{"only": ["runs", "faults", "requests", "keys"]}``.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from runops.emulator import checks
from runops.emulator.runs import ScriptError
from runops.emulator.wire import TooLargeError, parse_json, read_body

if TYPE_CHECKING:
    from runops.emulator.store import Emulator

LARGEST_BODY = 1_000_000
"""Bytes."""
RUN_KEYS = frozenset(
    {
        "provider", "script", "seconds", "run_id", "parents", "fields", "shape", "hidden_seconds", "held",
        "age_seconds", "on_cancel", "on_resume", "on_retry",
    }
)  # fmt: skip


def control_routes(emulator: Emulator) -> list[Route]:
    """Return the routes of the control API."""
    return Control(emulator).routes()


class ControlResponse(JSONResponse):
    """JSON in ASCII, so that whatever a client has sent can be shown."""

    def render(self, content: Any) -> bytes:
        """Write the body."""
        return json.dumps(content, separators=(",", ":")).encode()


class WrongTypeError(Exception):
    """The body of a request is not said to be JSON."""


def _checked(
    handler: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    async def checked(request: Request) -> Response:
        try:
            return await handler(request)
        except TooLargeError as problem:
            return ControlResponse({"error": str(problem)}, status_code=413)
        except WrongTypeError as problem:
            return ControlResponse({"error": str(problem)}, status_code=415)
        except ValueError as problem:
            return ControlResponse({"error": str(problem)}, status_code=400)

    return checked


async def _body(request: Request, allowed: frozenset[str] | None = None) -> dict[str, Any]:
    raw = await read_body(request.receive, LARGEST_BODY)
    if not raw.strip():
        return {}
    # A form of a web page can send other types without asking first.
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise WrongTypeError(f"Content-Type is {checks.shown(kind)}; send application/json (curl --json)")
    body = parse_json(raw)
    if not isinstance(body, dict):
        raise ScriptError("the body is not a JSON object")
    if allowed is not None:
        checks.names("key", body, allowed)
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
            Route("/keys", _checked(self._set_key), methods=["POST"]),
            Route("/keys", _checked(self._list_keys), methods=["GET"]),
            Route("/reset", _checked(self._reset), methods=["POST"]),
        ]

    async def _create_run(self, request: Request) -> Response:
        body = await _body(request, RUN_KEYS)
        provider = body.pop("provider", None)
        # null is as good as absent.
        body = {name: value for name, value in body.items() if value is not None}
        run_id = self.emulator.create_run(provider, **body)
        run = self.emulator.runs(provider=provider, run_id=run_id)[0]
        answer = {"provider": provider, "run_id": run_id, "parents": run["parents"]}
        return ControlResponse(answer, status_code=201)

    async def _list_runs(self, request: Request) -> Response:
        query = request.query_params
        runs = self.emulator.runs(provider=query.get("provider"), run_id=query.get("run_id"))
        return ControlResponse({"runs": runs, **_dropped(self.emulator.dropped_runs)})

    async def _set_defaults(self, request: Request) -> Response:
        body = await _body(request)
        self.emulator.set_defaults(body.pop("provider", None), **body)
        return ControlResponse({})

    async def _hold(self, request: Request) -> Response:
        body = await _body(request, frozenset({"held", "provider", "run_id"}))
        count = self.emulator.hold(
            checks.flag("held", body.get("held", True)), provider=body.get("provider"), run_id=body.get("run_id")
        )
        return ControlResponse({"runs": count})

    async def _advance(self, request: Request) -> Response:
        body = await _body(request, frozenset({"seconds", "provider", "run_id"}))
        seconds = body.get("seconds")
        count = self.emulator.advance(
            None if seconds is None else checks.seconds("seconds", seconds),
            provider=body.get("provider"),
            run_id=body.get("run_id"),
        )
        return ControlResponse({"runs": count})

    async def _set_fields(self, request: Request) -> Response:
        body = await _body(request, frozenset({"provider", "run_id", "set", "unset"}))
        if not isinstance(body.get("provider"), str) or not isinstance(body.get("run_id"), str):
            raise ScriptError("provider and run_id are required, as texts")
        self.emulator.set_fields(body["provider"], body["run_id"], body.get("set", {}), body.get("unset", []))
        return ControlResponse({})

    async def _add_fault(self, request: Request) -> Response:
        return ControlResponse({"id": self.emulator.add_fault(**await _body(request))}, status_code=201)

    async def _list_faults(self, request: Request) -> Response:
        faults = self.emulator.fault_list
        return ControlResponse({"faults": faults.described(), **_dropped(faults.dropped)})

    async def _list_requests(self, request: Request) -> Response:
        filters: dict[str, Any] = dict(request.query_params)
        count_only = filters.pop("count_only", "false") == "true"
        for name in {"status", "after"} & set(filters):
            filters[name] = _whole(name, filters[name])
        entries = self.emulator.requests(**filters)
        answer = {"count": len(entries), **_dropped(self.emulator.journal.dropped)}
        return ControlResponse(answer if count_only else {**answer, "requests": entries})

    async def _list_scripts(self, request: Request) -> Response:
        return ControlResponse({name: list(api.scripts) for name, api in self.emulator.apis.items()})

    async def _set_key(self, request: Request) -> Response:
        body = await _body(request, frozenset({"key", "state", "provider", "label"}))
        key_id = self.emulator.set_key(
            body.get("key", ""), body.get("state", ""), provider=body.get("provider"), label=body.get("label")
        )
        return ControlResponse({"key_id": key_id})

    async def _list_keys(self, request: Request) -> Response:
        return ControlResponse({"keys": self.emulator.keys.described()})

    async def _reset(self, request: Request) -> Response:
        body = await _body(request, frozenset({"only"}))
        self.emulator.reset(**({"only": body["only"]} if "only" in body else {}))
        return ControlResponse({})


def _whole(name: str, value: str) -> int:
    if not (value.isascii() and value.isdecimal() and len(value) <= 18):
        raise ScriptError(f"{name} is a whole number; got {checks.shown(value)}")
    return int(value)


def _dropped(count: int) -> dict[str, int]:
    return {"dropped": count} if count else {}
