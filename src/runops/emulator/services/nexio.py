"""Nexio's run API as its pages describe it: submit and read; there is no cancel and no list.

A submitted run goes as ``input.emulator`` says, an object with any of ``script`` (a name below or a
list of steps), ``seconds``, ``hidden_seconds``, ``fields`` and ``on_cancel``. Engines whose slug
starts with ``missing`` do not exist.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from runops.emulator.api import Api, RefusedError, Route, Submission
from runops.emulator.runs import NOW, Moment, at
from runops.emulator.wire import Answer, BadJsonError, Request

CODES = {
    400: "invalid_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    422: "invalid_request",
    429: "rate_limited",
    500: "internal_error",
    503: "auth_unavailable",
}
SUMMARY = {"summary": "Three offerings evaluated", "evaluated": 3}
STARTED = (
    at(0, status="queued"),
    at(0.25, status="processing", stage="FILTER"),
    at(0.6, status="processing", stage="EVALUATE"),
)
ENDED = {"duration_ms": 1840, "completed_at": NOW}
SOLUTIONS = [
    {"rank": 1, "offering": "offering-a", "score": 0.92},
    {"rank": 2, "offering": "offering-b", "score": 0.71},
]

SCRIPTS: dict[str, tuple[Moment, ...]] = {
    "queued": (at(0, status="queued"),),
    "running": (at(0, status="processing", stage="EVALUATE"),),
    "forever": (at(0, status="queued"), at(0.25, status="processing", stage="EVALUATE")),
    "succeeded": (*STARTED, at(1, status="completed", output=SUMMARY, **ENDED)),
    "placement": (*STARTED, at(1, status="completed", output=SUMMARY, solutions=SOLUTIONS, **ENDED)),
    "degraded": (
        *STARTED,
        at(
            1,
            status="degraded",
            output={**SUMMARY, "degradation_reason": "one carrier did not answer"},
            **ENDED,
        ),
    ),
    "degraded_without_output": (*STARTED, at(1, status="degraded", completed_at=NOW)),
    "failed": (
        *STARTED,
        at(
            1,
            status="failed",
            error="The engine could not evaluate the input",
            error_details={"stage": "EVALUATE", "reason": "rule_error"},
            **ENDED,
        ),
    ),
    "failed_without_error": (*STARTED, at(1, status="failed", completed_at=NOW)),
    "unknown_word": (
        at(0, status="queued"),
        at(0.25, status="reviewing"),
        at(1, status="completed", output=SUMMARY, **ENDED),
    ),
    "unknown_word_forever": (at(0, status="queued"), at(0.25, status="reviewing")),
    "unknown_word_ended": (at(0, status="queued"), at(1, status="archived", completed_at=NOW)),
    "bare": (
        at(0, status="queued", removed=("environment", "created_at")),
        at(0.5, status="processing"),
        at(1, status="completed"),
    ),
    "unreadable_times": (
        at(0, status="processing", created_at="yesterday"),
        at(1, status="completed", output=SUMMARY, completed_at="soon", duration_ms=1840),
    ),
}


class NexioApi(Api):
    """``POST /api/v1/engines/{engine_slug}/runs`` and ``GET /api/v1/runs/{run_id}``."""

    name = "nexio"
    title = "Nexio"
    state_field = "status"
    over = frozenset({"completed", "degraded", "failed"})
    scripts = SCRIPTS
    choosing_script: ClassVar[Mapping[str, Any]] = {"input": {"emulator": {"script": "failed", "seconds": 3}}}
    parent_name = "engine_slug"

    def declare_routes(self) -> Iterable[Route]:
        """Return the paths that Nexio's pages document."""
        yield Route("GET", "/api/v1/runs/{run_id}", "get", self._get)
        yield Route("POST", "/api/v1/engines/{engine_slug}/runs", "submit", self._submit)
        yield Route("GET", "/health", "health", lambda request: Answer.json(200, {"status": "ok"}), public=True)

    def error(self, status: int, message: str, code: str | None = None) -> Answer:
        """Write an error in Nexio's body."""
        return Answer.json(status, {"code": code or CODES.get(status, "error"), "message": message})

    def first_fields(self, run_id: str, parents: Mapping[str, str], shape: str | None) -> dict[str, Any]:
        """Return what Nexio shows of a run just made."""
        return {"run_id": run_id, "status": "queued", "environment": "test", "created_at": NOW}

    def _get(self, request: Request) -> Answer:
        return Answer.json(200, self.read_run(request).fields)

    def _submit(self, request: Request) -> Answer:
        slug = self.check_parent(request.params["engine_slug"], "Engine")
        try:
            body = request.json_object()
        except BadJsonError as problem:
            raise RefusedError(self.error(400, str(problem))) from problem
        given = body.get("input")
        if not isinstance(given, dict):
            raise RefusedError(self.error(400, "input must be an object"))
        fields: dict[str, Any] = {"environment": _environment(request.key)}
        version = body.get("engine_version")
        if version is not None:
            if not isinstance(version, str) or not re.fullmatch(r"\d+\.(\d+|x)", version):
                raise RefusedError(self.error(400, "engine_version must be major.minor or major.x"))
            fields["engine_version"] = version.replace("x", "3")
        options = given.get("emulator") or {}
        submission = Submission({"engine_slug": slug}, body, options, fields)
        run = self.start(submission, lambda problem: self.error(400, f"input.emulator: {problem}"))
        return Answer.json(202, {"run_id": run.run_id, "status": "queued"}).creating(run.run_id)


def _environment(key: str) -> str:
    found = re.match(r"nx_([a-z0-9_]{1,16})_", key)
    return found.group(1) if found else "test"
