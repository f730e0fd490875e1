"""How OnePin speaks: its workspaces, its envelope, its errors and its pages, whatever they tell of."""

from __future__ import annotations

import datetime as dt
from typing import Any
from urllib.parse import parse_qsl, urlencode

from runops.emulator.api import Api, RefusedError, invalid_field, is_uuid
from runops.emulator.runs import Run, timestamp
from runops.emulator.wire import Answer, Request

DEFAULT_WORKSPACE = "5b1f0a52-7c1d-4a0e-9c39-0d1f6a7b8c9d"
WORKSPACE_MARK = "-ws-"
USER_ID = "d290f1ee-6c54-4b01-90e6-d701748f0851"
STATUSES = ("pending", "running", "completed", "failed", "cancelled", "paused")
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


class OnepinWire(Api):
    """What the handlers of all its routes share."""

    name = "onepin"
    title = "OnePin"
    state_field = "status"
    over = frozenset({"completed", "failed", "cancelled"})
    parent_name = "workflow_id"
    default_parent = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
    digits = 6
    workflow_name = "Emulated workflow"
    user_id = USER_ID

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

    def limits_of(self, request: Request) -> tuple[int, int]:
        """Read ``limit`` and ``offset``.

        Raises:
            RefusedError: With 422 if one makes no sense.
        """
        try:
            return self.page_of(request, default=20, maximum=100)
        except ValueError as problem:
            raise RefusedError(invalid_field("query", str(problem).split(" ", 1)[0], str(problem))) from problem

    def page(self, request: Request, data: Any, *, limit: int, offset: int, total: int) -> Answer:
        """Answer one page of a list."""
        pagination = {
            "next": _page_url(request, offset + limit) if offset + limit < total else None,
            "prev": _page_url(request, max(0, offset - limit)) if offset > 0 else None,
            "limit": limit,
            "total": total,
        }
        return Answer.json(200, {"data": data, "meta": self._meta(), "pagination": pagination})

    def counts(self, runs: list[Run]) -> dict[str, int]:
        """Count runs by their states."""
        return {status: sum(run.state == status for run in runs) for status in STATUSES}

    def active_ms(self, run: Run) -> int | None:
        """Return how long a run that is over has been at work, in milliseconds, or None."""
        ends = [run.fields.get(name) for name in ("started_at", "completed_at")]
        try:
            began, ended = (dt.datetime.fromisoformat(str(end)) for end in ends)
        except ValueError:
            return None
        return round((ended - began).total_seconds() * 1000) - (run.fields.get("paused_ms") or 0)

    def find_run(self, request: Request) -> Run:
        """Return the run of this workflow named in the path."""
        workflow_id = self.workflow_of(request)
        run = self.store.lookup(request.params["run_id"])
        if run is None and not is_uuid(request.params["run_id"]):
            raise RefusedError(invalid_field("path", "run_id", "Input should be a valid UUID", "uuid_parsing"))
        if run is None or run.parents.get("workflow_id") != workflow_id:
            raise RefusedError(self.error(404, "Run not found"))
        return run

    def workflow_of(self, request: Request) -> str:
        """Return the workflow named in the path.

        Raises:
            RefusedError: With 404 if it is said not to exist.
        """
        return self.check_parent(request.params["workflow_id"], "Workflow")

    def _meta(self) -> dict[str, str]:
        return {
            "request_id": self.request_id("req_"),
            "timestamp": timestamp(self.store.now(), self.digits),
        }

    def data(self, data: Any, status: int = 200) -> Answer:
        """Write an answer in OnePin's envelope."""
        return Answer.json(status, {"data": data, "meta": self._meta()})


def _page_url(request: Request, offset: int) -> str:
    # Not from the dict: some parameters stand there several times.
    query = [(name, value) for name, value in parse_qsl(request.query_text) if name != "offset"]
    return f"{request.root_url}{request.path}?{urlencode([*query, ('offset', str(offset))])}"


def workspace_of(key: str) -> str:
    """Return the workspace a key is bound to."""
    return key.rpartition(WORKSPACE_MARK)[2] if WORKSPACE_MARK in key else DEFAULT_WORKSPACE
