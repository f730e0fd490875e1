"""OnePin's workflow runs as its pages, its SDK and its command line describe them.

A submitted run goes as ``script_text`` says if that starts with ``emulator:``: the name of a script,
then options, as in ``"emulator:paused seconds=3 hidden_seconds=1"``. Workflows whose id starts with
``missing`` do not exist; any other id does. One run per workflow may be active (409). A pause of a run
that goes on shows ``running`` with ``pause_requested_at`` at first, and ``paused`` an eighth of the default script
duration later; a queued run is paused at once, and a pause of a paused run changes nothing. A resume has a
paused run go on and complete, unless ``on_resume`` says something else; 409 leaves it paused.

What lies beside the runs is in :mod:`runops.emulator.services.onepin_workflows`, and what a run brought about in
:mod:`runops.emulator.services.onepin_results`.

Any key is bound to the workspace :data:`~runops.emulator.services.onepin_wire.DEFAULT_WORKSPACE`, or to ``<id>`` if it
ends in ``-ws-<id>``. A request with another ``X-Workspace-Id`` is answered 403.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, ClassVar

from runops.emulator.api import RefusedError, Route, Submission, invalid_field, options_from_text
from runops.emulator.runs import NOW, Moment, Run, Step, at
from runops.emulator.services.onepin_files import LINES, TOTAL_MS
from runops.emulator.services.onepin_results import DEFINITION, OnepinResults
from runops.emulator.services.onepin_wire import STATUSES, USER_ID, OnepinWire, workspace_of
from runops.emulator.services.onepin_workflows import OnepinWorkflows
from runops.emulator.wire import Answer, BadJsonError, Request

SCRIPT_MARK = "emulator:"
SORTS = ("created_at", "started_at", "completed_at", "status")
DETAIL_ONLY = frozenset({"definition_snapshot", "credits_absorbed", "public_share_id", "shared_at"})
NOT_IN_STATUS = DETAIL_ONLY | {"credits"}
NOT_IN_LIST = DETAIL_ONLY | {"workflow_id", "updated_at", "error", "has_export", "token_cost", "held_nodes"}

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


class OnepinApi(OnepinWire):
    """``/api/v1/workflows/{workflow_id}/runs`` and what lies below it."""

    scripts = SCRIPTS
    choosing_script: ClassVar[Mapping[str, Any]] = {"script_text": "emulator:failed seconds=3"}
    updated_field = "updated_at"

    def declare_routes(self) -> Iterable[Route]:
        """Return the paths that OnePin's pages document and its official client calls."""
        workflow = "/api/v1/workflows/{workflow_id}"
        run = f"{workflow}/runs/{{run_id}}"
        yield Route("GET", "/api/v1/auth/whoami", "probe", self._whoami)
        yield from OnepinWorkflows(self).routes(workflow)
        yield Route("GET", f"{workflow}/runs", "list", self._list_runs)
        yield Route("POST", f"{workflow}/runs", "submit", self._submit)
        yield Route("GET", run, "detail", partial(self._get, hidden=frozenset()))
        yield Route("GET", f"{run}/status", "get", partial(self._get, hidden=NOT_IN_STATUS))
        yield from OnepinResults(self).routes(run)
        yield Route("POST", f"{run}/cancel", "cancel", self._cancel)
        yield Route("POST", f"{run}/pause", "pause", self._pause)
        yield Route("POST", f"{run}/resume", "resume", self._resume)

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
            "definition_snapshot": DEFINITION,
            "public_share_id": None,
            "shared_at": None,
        }

    def cancel_steps(self, run: Run) -> list[Step]:
        """Return what OnePin does with a run on cancel."""
        return [Step(0, {"status": "cancelled", "completed_at": NOW})]

    def _whoami(self, request: Request) -> Answer:
        return self.data(
            {
                "auth_kind": "api_key",
                "user_id": USER_ID,
                "workspace_id": workspace_of(request.key),
                "api_key_id": "0f8fad5b-d9cb-469f-a165-70867728950e",
                "scopes": ["workflows:read", "workflows:run", "workflows:write"],
            }
        )

    def _list_runs(self, request: Request) -> Answer:
        workflow_id = self.workflow_of(request)
        limit, offset = self.limits_of(request)
        runs = _sorted(_filtered(self, self.store.children(workflow_id), request), request)
        page = [{**_without(run.fields, NOT_IN_LIST), **_delivered(run)} for run in runs[offset : offset + limit]]
        return self.page(request, page, limit=limit, offset=offset, total=len(runs))

    def _submit(self, request: Request) -> Answer:
        workflow_id = self.workflow_of(request)
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
        return self.data(_without(run.fields, DETAIL_ONLY), status=202).creating(run.run_id)

    def _get(self, request: Request, hidden: frozenset[str]) -> Answer:
        return self.data(_without(self.read_run(request).fields, hidden))

    def _cancel(self, request: Request) -> Answer:
        run = self.find_run(request)
        if run.refuses_cancel:
            raise RefusedError(self.error(409, "The run changed while it was being cancelled"))
        if not self.is_over(run):
            self.store.cancel(run)
        return self.data(_without(run.fields, DETAIL_ONLY))

    def _pause(self, request: Request) -> Answer:
        run = self.find_run(request)
        if self.is_over(run):
            raise RefusedError(self.error(409, "The run is over"))
        if run.state != "paused" and not run.fields.get("pause_requested_at"):
            requested = {"pause_requested_at": NOW, "pause_reason": "user"}
            paused = {**PAUSED, "pause_reason": "user", "pause_error": None}
            # What is at work may end first; nothing of a queued run is.
            drain = [] if run.state == "pending" else [Step(0, requested)]
            due = self.store.seconds / 8 if drain else 0
            run.follow([*drain, Step(due, paused)], self.store.now())
        return self.data(_without(run.fields, DETAIL_ONLY))

    def _resume(self, request: Request) -> Answer:
        run = self.find_run(request)
        if run.state != "paused":
            raise RefusedError(self.error(409, "Only a paused run can be resumed"))
        others = [each.state for each in self.store.children(run.parents["workflow_id"])]
        if run.refuses_resume or {"pending", "running"} & set(others):
            raise RefusedError(self.error(409, "Another run is active, or the workspace is at its limit"))
        self.store.resume(run, [Step(0, RESUMED), Step(self.store.seconds / 2, ENDED)])
        return self.data(_without(run.fields, DETAIL_ONLY))


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


def _delivered(run: Run) -> dict[str, Any]:
    done = run.state == "completed"
    return {"output_line_count": len(LINES) if done else 0, "delivered_audio_ms": TOTAL_MS if done else 0}


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


def _without(fields: Mapping[str, Any], hidden: frozenset[str] | set[str]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in hidden}


def _options(text: str) -> dict[str, Any]:
    if not text.startswith(SCRIPT_MARK):
        return {}
    words = text.removeprefix(SCRIPT_MARK).split()
    if words and "=" not in words[0]:
        words[0] = f"script={words[0]}"
    return options_from_text(words)
