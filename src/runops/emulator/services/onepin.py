"""OnePin's workflow runs as its pages, its SDK and its command line describe them.

A submitted run goes as ``script_text`` says if that starts with ``emulator:``: the name of a script,
then options, as in ``"emulator:paused seconds=3 hidden_seconds=1"``. Workflows whose id starts with
``missing`` do not exist; any other id does. One run per workflow may be active (409). A resume has a
paused run go on and complete, unless ``on_resume`` says something else; 409 leaves it paused.

Any key is bound to the workspace :data:`DEFAULT_WORKSPACE`, or to ``<id>`` if it ends in
``-ws-<id>``. A request with another ``X-Workspace-Id`` is answered 403.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any
from urllib.parse import urlencode

from runops.emulator.api import Api, RefusedError, Route, Submission, invalid_field, is_uuid, options_from_text
from runops.emulator.runs import NOW, Moment, Run, Step, at, timestamp
from runops.emulator.wire import Answer, BadJsonError, Request

DEFAULT_WORKSPACE = "5b1f0a52-7c1d-4a0e-9c39-0d1f6a7b8c9d"
WORKSPACE_MARK = "-ws-"
SCRIPT_MARK = "emulator:"
USER_ID = "d290f1ee-6c54-4b01-90e6-d701748f0851"
STATUSES = ("pending", "running", "completed", "failed", "cancelled", "paused")
SORTS = ("created_at", "started_at", "completed_at", "status")
CODES = {
    400: "BAD_REQUEST",
    401: "INVALID_API_KEY",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    409: "CONFLICT",
    422: "VALIDATION_ERROR",
    426: "UPGRADE_REQUIRED",
    429: "RATE_LIMITED",
}
DETAIL_ONLY = frozenset({"definition_snapshot", "credits_absorbed", "public_share_id", "shared_at"})
NOT_IN_STATUS = DETAIL_ONLY | {"credits"}
NOT_IN_LIST = DETAIL_ONLY | {"workflow_id", "updated_at", "error", "has_export", "token_cost"}

STARTED = (
    at(0, status="pending"),
    at(0.2, status="running", started_at=NOW, finished_steps=20, finished_nodes=3, token_cost=80),
    at(0.5, status="running", finished_steps=45, finished_nodes=6, token_cost=350, has_export=True),
    at(0.8, status="running", finished_steps=70, finished_nodes=5),
)
DONE: dict[str, Any] = {
    "finished_steps": 120,
    "finished_nodes": 15,
    "token_cost": 910,
    "credits": 46,
    "has_export": True,
}
ENDED = {"status": "completed", "completed_at": NOW, **DONE}
PAUSED: dict[str, Any] = {
    "status": "paused",
    "paused_at": NOW,
    "pause_requested_at": None,
    "pause_reason": "provider_outage",
    "pause_error": "A voice provider is not answering; the run goes on when you resume it.",
    "held_nodes": [{"node_id": "node-6", "locales": ["en-us"]}],
}
RESUMED: dict[str, Any] = {
    "status": "running",
    "paused_at": None,
    "paused_ms": 600,
    "pause_reason": None,
    "pause_error": None,
    "held_nodes": None,
}

ALL_BUT_ID_AND_STATUS = (
    "workflow_id", "run_number", "token_cost", "created_at", "updated_at", "total_nodes",
    "total_steps", "finished_steps", "finished_nodes", "held_nodes", "usage_summary", "started_at",
    "completed_at", "pause_requested_at", "paused_at", "paused_ms", "pause_reason", "pause_error",
    "error", "has_export", "triggered_by",
)  # fmt: skip

SCRIPTS: dict[str, tuple[Moment, ...]] = {
    "queued": (at(0, status="pending"),),
    "running": (at(0, status="running", started_at=NOW, finished_steps=20, finished_nodes=3),),
    "forever": STARTED,
    "succeeded": (*STARTED, at(1, status="completed", completed_at=NOW, **DONE)),
    "failed": (
        *STARTED,
        at(1, status="failed", completed_at=NOW, error="Node node-6 failed: the voice is not available"),
    ),
    "failed_without_error": (*STARTED, at(1, status="failed", completed_at=NOW)),
    "cancelled": (*STARTED, at(1, status="cancelled", completed_at=NOW)),
    "paused": (*STARTED[:2], at(0.5, **PAUSED)),
    "paused_then_succeeded": (
        *STARTED[:2],
        at(0.4, **PAUSED),
        at(0.7, **RESUMED),
        at(1, status="completed", completed_at=NOW, **DONE),
    ),
    "pausing": (*STARTED[:2], at(0.5, status="running", pause_requested_at=NOW, pause_reason="user")),
    "unknown_word": (
        at(0, status="pending"),
        at(0.25, status="rendering", started_at=NOW),
        at(1, status="completed", completed_at=NOW, **DONE),
    ),
    "unknown_word_forever": (at(0, status="pending"), at(0.25, status="rendering", started_at=NOW)),
    "unknown_word_ended": (*STARTED, at(1, status="archived", completed_at=NOW)),
    "bare": (
        at(0, status="running", removed=ALL_BUT_ID_AND_STATUS),
        at(1, status="completed"),
    ),
    "unreadable_times": (
        at(0, status="running", created_at="yesterday", started_at="just now"),
        at(1, status="completed", completed_at="soon", **DONE),
    ),
}


class OnepinApi(Api):
    """``/api/v1/workflows/{workflow_id}/runs`` and what lies below it."""

    name = "onepin"
    title = "OnePin"
    state_field = "status"
    over = frozenset({"completed", "failed", "cancelled"})
    scripts = SCRIPTS
    parent_name = "workflow_id"
    default_parent = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
    updated_field = "updated_at"
    digits = 6

    def declare_routes(self) -> Iterable[Route]:
        """Return the paths that OnePin's pages document."""
        runs = "/api/v1/workflows/{workflow_id}/runs"
        yield Route("GET", "/api/v1/auth/whoami", "probe", self._whoami)
        yield Route("GET", "/api/v1/workflows/{workflow_id}", "workflow", self._workflow)
        yield Route("GET", runs, "list", self._list_runs)
        yield Route("POST", runs, "submit", self._submit)
        yield Route("GET", f"{runs}/summary", "summary", self._summary)
        yield Route("POST", f"{runs}/preview", "preview", self._preview)
        yield Route("POST", f"{runs}/estimate", "preview", self._preview)
        yield Route("GET", f"{runs}/{{run_id}}", "detail", partial(self._get, hidden=frozenset()))
        yield Route("GET", f"{runs}/{{run_id}}/status", "get", partial(self._get, hidden=NOT_IN_STATUS))
        yield Route("GET", f"{runs}/{{run_id}}/steps", "steps", self._steps)
        yield Route("POST", f"{runs}/{{run_id}}/cancel", "cancel", self._cancel)
        yield Route("POST", f"{runs}/{{run_id}}/pause", "pause", self._pause)
        yield Route("POST", f"{runs}/{{run_id}}/resume", "resume", self._resume)

    def check_key(self, request: Request) -> str:
        """Check the key, then the workspace it is bound to."""
        key = super().check_key(request)
        workspace = request.headers.get("x-workspace-id")
        if workspace and workspace != workspace_of(key):
            raise RefusedError(self.error(403, "X-Workspace-Id does not match the key's workspace"))
        return key

    def error(self, status: int, message: str, code: str | None = None) -> Answer:
        """Write an error in OnePin's body."""
        error = {"code": code or CODES.get(status, "INTERNAL_ERROR"), "message": message}
        return Answer.json(status, {"error": error, "meta": self._meta()})

    def first_fields(self, run_id: str, parents: Mapping[str, str], shape: str | None) -> dict[str, Any]:
        """Return what OnePin shows of a run just made."""
        return {
            "id": run_id,
            "workflow_id": parents["workflow_id"],
            "status": "pending",
            "run_number": self.store.number_of(parents["workflow_id"]) + 1,
            "token_cost": 0,
            "created_at": NOW,
            "updated_at": NOW,
            "total_nodes": 15,
            "total_steps": 120,
            "finished_steps": 0,
            "finished_nodes": 0,
            "held_nodes": None,
            "usage_summary": {"cpu_seconds": 12.5, "memory_mb": 256, "api_calls": 8},
            "started_at": None,
            "completed_at": None,
            "pause_requested_at": None,
            "paused_at": None,
            "paused_ms": None,
            "pause_reason": None,
            "pause_error": None,
            "error": None,
            "has_export": False,
            "triggered_by": {"user_id": USER_ID, "user_name": "jane.doe@example.com"},
            "credits": 0,
            "credits_absorbed": 0.0,
            "definition_snapshot": {"graph": {"nodes": [], "edges": []}, "execution": {}},
            "public_share_id": None,
            "shared_at": None,
        }

    def cancel_steps(self, run: Run) -> list[Step]:
        """Return what OnePin does with a run on cancel."""
        return [Step(0, {"status": "cancelled", "completed_at": NOW})]

    def _whoami(self, request: Request) -> Answer:
        return self._data(
            {
                "auth_kind": "api_key",
                "user_id": USER_ID,
                "workspace_id": workspace_of(request.key),
                "api_key_id": "0f8fad5b-d9cb-469f-a165-70867728950e",
                "scopes": ["workflows:read", "workflows:run", "workflows:write"],
            }
        )

    def _workflow(self, request: Request) -> Answer:
        workflow_id = self._workflow_id(request)
        runs = self.store.children(workflow_id)
        return self._data(
            {
                "id": workflow_id,
                "user_id": USER_ID,
                "name": "Emulated workflow",
                "name_source": "user",
                "description": None,
                "definition": {"graph": {"nodes": [], "edges": []}, "execution": {}},
                "created_at": "2024-04-20T14:00:00Z",
                "updated_at": "2024-04-20T14:00:00Z",
                "runs_count": len(runs),
                "last_run_at": runs[0].fields.get("created_at") if runs else None,
                "last_run_status": runs[0].state if runs else None,
            }
        )

    def _list_runs(self, request: Request) -> Answer:
        workflow_id = self._workflow_id(request)
        try:
            limit, offset = self.page_of(request, default=20, maximum=100)
        except ValueError as problem:
            raise RefusedError(invalid_field("query", str(problem).split(" ", 1)[0], str(problem))) from problem
        runs = _sorted(_filtered(self, self.store.children(workflow_id), request), request)
        page = [_without(run.fields, NOT_IN_LIST) for run in runs[offset : offset + limit]]
        pagination = {
            "next": _page_url(request, offset + limit) if offset + limit < len(runs) else None,
            "prev": _page_url(request, max(0, offset - limit)) if offset > 0 else None,
            "limit": limit,
            "total": len(runs),
        }
        return Answer.json(200, {"data": page, "meta": self._meta(), "pagination": pagination})

    def _submit(self, request: Request) -> Answer:
        workflow_id = self._workflow_id(request)
        try:
            body = request.json_object(empty_allowed=True)
        except BadJsonError as problem:
            raise RefusedError(self.error(422, str(problem))) from problem
        text = body.get("script_text")
        if text is not None and not isinstance(text, str):
            raise RefusedError(self.error(422, "script_text must be a string"))
        if self.store.active(workflow_id) is not None:
            raise RefusedError(self.error(409, "Another run of this workflow is already active"))
        submission = Submission({"workflow_id": workflow_id}, body, _options(text or ""))
        run = self.start(submission, lambda problem: self.error(422, f"script_text: {problem}"))
        return self._data(_without(run.fields, DETAIL_ONLY), status=202).creating(run.run_id)

    def _get(self, request: Request, hidden: frozenset[str]) -> Answer:
        return self._data(_without(self.read_run(request).fields, hidden))

    def _steps(self, request: Request) -> Answer:
        run = self.find_run(request)
        status = run.state if run.state in STATUSES else "running"
        step = {
            "id": f"{run.run_id}-1",
            "node_id": "node-6",
            "node_type": "operator_generator",
            "status": status,
            "iteration": 1,
            "started_at": run.fields.get("started_at"),
            "completed_at": run.fields.get("completed_at"),
            "error": run.fields.get("error"),
            "pause_error": run.fields.get("pause_error"),
        }
        return self._data([step])

    def _cancel(self, request: Request) -> Answer:
        run = self.find_run(request)
        if run.refuses_cancel:
            raise RefusedError(self.error(409, "The run changed while it was being cancelled"))
        if not self.is_over(run):
            self.store.cancel(run)
        return self._data(_without(run.fields, DETAIL_ONLY))

    def _pause(self, request: Request) -> Answer:
        run = self.find_run(request)
        if run.state != "running":
            raise RefusedError(self.error(409, "Only a running run can be paused"))
        run.follow([Step(0, {**PAUSED, "pause_reason": "user", "pause_error": None})], self.store.now())
        return self._data(_without(run.fields, DETAIL_ONLY))

    def _resume(self, request: Request) -> Answer:
        run = self.find_run(request)
        if run.state != "paused":
            raise RefusedError(self.error(409, "Only a paused run can be resumed"))
        others = [each.state for each in self.store.children(run.parents["workflow_id"])]
        if run.refuses_resume or {"pending", "running"} & set(others):
            raise RefusedError(self.error(409, "Another run is active, or the workspace is at its limit"))
        self.store.resume(run, [Step(0, RESUMED), Step(self.store.seconds / 2, ENDED)])
        return self._data(_without(run.fields, DETAIL_ONLY))

    def _preview(self, request: Request) -> Answer:
        self._workflow_id(request)
        return self._data(
            {
                "min_credits": 40,
                "expected_credits": 46,
                "max_credits": 60,
                "current_balance": 10_000,
                "deficit_at_max": 0,
                "can_run": True,
            }
        )

    def _summary(self, request: Request) -> Answer:
        runs = self.store.children(self._workflow_id(request))
        counts = {status: sum(run.state == status for run in runs) for status in STATUSES}
        judged = counts["completed"] + counts["failed"]
        return self._data(
            {
                "total_runs": len(runs),
                **counts,
                "pass_rate": counts["completed"] / judged if judged else None,
                "delivered_audio_ms": 0,
                "average_duration_seconds": None,
            }
        )

    def find_run(self, request: Request) -> Run:
        """Return the run of this workflow named in the path."""
        workflow_id = self._workflow_id(request)
        run = self.store.lookup(request.params["run_id"])
        if run is None and not is_uuid(request.params["run_id"]):
            raise RefusedError(invalid_field("path", "run_id", "Input should be a valid UUID", "uuid_parsing"))
        if run is None or run.parents.get("workflow_id") != workflow_id:
            raise RefusedError(self.error(404, "Run not found"))
        return run

    def _workflow_id(self, request: Request) -> str:
        return self.check_parent(request.params["workflow_id"], "Workflow")

    def _meta(self) -> dict[str, str]:
        return {
            "request_id": self.request_id("req_"),
            "timestamp": timestamp(self.store.now(), self.digits),
        }

    def _data(self, data: Any, status: int = 200) -> Answer:
        return Answer.json(status, {"data": data, "meta": self._meta()})


def _filtered(api: OnepinApi, runs: list[Run], request: Request) -> list[Run]:
    wanted = request.query.get("status")
    if wanted is not None:
        words = wanted.split(",")
        unknown = [word for word in words if word not in STATUSES]
        if unknown:
            raise RefusedError(api.error(422, f"Unknown run status {unknown[0]!r}"))
        runs = [run for run in runs if run.state in words]
    search = request.query.get("search", "").lower()
    if search:
        runs = [run for run in runs if search in str(run.fields.get("triggered_by")).lower()]
    return runs


def _sorted(runs: list[Run], request: Request) -> list[Run]:
    sort = request.query.get("sort", "created_at")
    order = request.query.get("order", "desc")
    if sort not in SORTS:
        raise RefusedError(invalid_field("query", "sort", f"Input should be one of {', '.join(SORTS)}"))
    if order not in ("asc", "desc"):
        raise RefusedError(invalid_field("query", "order", "Input should be 'asc' or 'desc'"))
    if sort == "created_at":
        return runs if order == "desc" else runs[::-1]
    return sorted(runs, key=lambda run: str(run.fields.get(sort) or ""), reverse=order == "desc")


def _page_url(request: Request, offset: int) -> str:
    query = urlencode({**request.query, "offset": str(offset)})
    return f"{request.root_url}{request.path}?{query}"


def workspace_of(key: str) -> str:
    """Return the workspace a key is bound to."""
    return key.rpartition(WORKSPACE_MARK)[2] if WORKSPACE_MARK in key else DEFAULT_WORKSPACE


def _without(fields: Mapping[str, Any], hidden: frozenset[str] | set[str]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in hidden}


def _options(text: str) -> dict[str, Any]:
    if not text.startswith(SCRIPT_MARK):
        return {}
    words = text.removeprefix(SCRIPT_MARK).split()
    if words and "=" not in words[0]:
        words[0] = f"script={words[0]}"
    return options_from_text(words)
