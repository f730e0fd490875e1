"""Fabraix Nyx's run API as its pages and its command line describe it.

A submitted run goes as entries of ``hints`` say: ``"emulator:script=NAME"``,
``"emulator:seconds=3"``, ``"emulator:hidden_seconds=1"``. Configs whose name starts with
``missing`` have no runs and accept none. One run per ``config_name`` may be active (409).

What a run spends follows from its ``budget_usd``: every named script spends shares of it, ``exhausted`` and ``spends``
all of it. With a budget of 5 dollars the amounts are those of the vendor's page.

Targets are what only the source of the official command line (0.1.8) shows: ``nyx run`` looks one up by its name, makes
it where there is none, and sends its id as ``target_id`` with the run. The id is not checked against the list: nothing
says how the service answers an unknown one.

Where the vendor is silent: a submit and a new target answer 201, ``limit`` is 1 to 100 (422 otherwise), a cancel of
a run that is over is 409, and a cancelled run has no ``result``.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from runops.emulator.api import Api, RefusedError, Route, Store, Submission, invalid_field, options_from_text
from runops.emulator.runs import NOW, Moment, Run, Step, at, share, timestamp
from runops.emulator.wire import Answer, BadJsonError, Request

HINT = "emulator:"
SEVERITIES = ("low", "medium", "high", "critical")
HIGHEST_BUDGET = 1e12
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
DETAIL_STATUSES = frozenset({404, 405, 422})
#: Whose token it is, as the command line's ``login --check`` reads it.
ACCOUNT: dict[str, Any] = {
    "userId": "user_emulated",
    "email": "jane.doe@example.com",
    "username": "jane",
    "beta": "",
    "skillCreated": False,
}


def _spent(fraction: float) -> dict[str, Any]:
    return share(fraction, "budget_usd")


STARTED = (
    at(0, status="queued"),
    at(0.2, status="running", spent_usd=_spent(0.082), attempts_completed=2),
    at(0.6, status="running", spent_usd=_spent(0.246), attempts_completed=7),
)
FOUND: dict[str, Any] = {"spent_usd": _spent(0.574), "attempts_completed": 14, "findings_count": 1}
SPENT: dict[str, Any] = {"spent_usd": _spent(1.0), "attempts_completed": 31}


def _ends(status: str, result: str | None, **fields: Any) -> tuple[Moment, ...]:
    return (*STARTED, at(1, status=status, result=result, completed_at=NOW, **fields))


ALL_BUT_ID_AND_STATUS = (
    "config_name", "name", "result", "budget_usd", "spent_usd", "attempts_completed",
    "findings_count", "created_at", "updated_at", "completed_at",
)  # fmt: skip

SCRIPTS: dict[str, tuple[Moment, ...]] = {
    "queued": (at(0, status="queued"),),
    "running": (at(0, status="running", spent_usd=_spent(0.082), attempts_completed=2),),
    "forever": STARTED,
    "succeeded": _ends("completed", "success", **FOUND),
    "exhausted": _ends("completed", "exhausted", **SPENT),
    # A tenth of the budget at every tenth of the time, and over when it is spent.
    "spends": (
        at(0, status="running"),
        *(at(tenth / 10, spent_usd=_spent(tenth / 10), attempts_completed=3 * tenth) for tenth in range(1, 10)),
        at(1, status="completed", result="exhausted", completed_at=NOW, **SPENT),
    ),
    "exhausted_failed": _ends("failed", "exhausted", **SPENT),
    "failed": _ends("failed", "error"),
    "failed_without_result": _ends("failed", None),
    "failed_success": _ends("failed", "success", **FOUND),
    "error": _ends("completed", "error"),
    "late_result": (
        *STARTED,
        at(0.7, status="completed", result=None, completed_at=NOW, **FOUND),
        at(1, result="success"),
    ),
    "no_result": _ends("completed", None),
    "unknown_result": _ends("completed", "inconclusive"),
    "early_result": (
        *STARTED,
        at(0.7, status="running", result="success", findings_count=1),
        at(1, status="completed", result="exhausted", completed_at=NOW, **SPENT),
    ),
    "cancelled": _ends("cancelled", None),
    "cancelled_success": _ends("cancelled", "success", **FOUND),
    "unknown_word": (
        at(0, status="queued"),
        at(0.25, status="awaiting_operator"),
        at(1, status="completed", result="success", completed_at=NOW, **FOUND),
    ),
    "unknown_word_forever": (at(0, status="queued"), at(0.25, status="awaiting_operator")),
    "unknown_word_ended": (at(0, status="queued"), at(1, status="archived", completed_at=NOW)),
    "bare": (
        at(0, status="running", removed=ALL_BUT_ID_AND_STATUS),
        at(1, status="completed", result="success"),
    ),
    "unreadable_times": (
        at(0, status="running", created_at="yesterday"),
        at(1, status="completed", result="success", completed_at="soon", **FOUND),
    ),
}


class NyxApi(Api):
    """``/v1/nyx/runs`` and what lies below it."""

    name = "nyx"
    title = "Nyx"
    state_field = "status"
    over = frozenset({"completed", "failed", "cancelled"})
    scripts = SCRIPTS
    choosing_script: ClassVar[Mapping[str, Any]] = {"hints": ["emulator:script=failed", "emulator:seconds=3"]}
    parent_name = "config_name"
    default_parent = "playground"
    updated_field = "updated_at"

    def __init__(self, store: Store, seed: int) -> None:
        self._targets: list[dict[str, Any]] = []
        super().__init__(store, seed)

    def declare_routes(self) -> Iterable[Route]:
        """Return the paths that Nyx's pages document and its command line calls."""
        yield Route("GET", "/v1/nyx/runs", "list", self._list_runs)
        yield Route("POST", "/v1/nyx/runs", "submit", self._submit)
        yield Route("GET", "/v1/nyx/runs/by-config/{config_name}", "latest", self._latest)
        yield Route("GET", "/v1/nyx/runs/{run_id}", "get", self._get)
        yield Route("POST", "/v1/nyx/runs/{run_id}/cancel", "cancel", self._cancel)
        yield Route("GET", "/v1/nyx/runs/{run_id}/report", "report", self._report)
        yield Route("GET", "/v1/nyx/targets", "targets", self._list_targets)
        yield Route("POST", "/v1/nyx/targets", "new_target", self._create_target)
        yield Route("GET", "/v1/verify/token-validation", "probe", self._validate_token)

    def reset(self) -> None:
        """Start ids over from the seed, and forget the targets."""
        super().reset()
        self._targets.clear()

    def read_key(self, request: Request) -> str | None:
        """Return the token of ``X-Verification-Token``."""
        return request.headers.get("x-verification-token") or None

    def error(self, status: int, message: str, code: str | None = None) -> Answer:
        """Write an error; this API is not of one mind: ``detail``, ``message`` or ``error``."""
        if status in DETAIL_STATUSES:
            return Answer.json(status, {"detail": message})
        if status in (409, 425):
            return Answer.json(status, {"message": message})
        if code is not None:
            return Answer.json(status, {"error": {"message": message, "type": "error", "code": code}})
        return Answer.json(status, {"error": message})

    def new_id(self) -> str:
        """Make an id of Nyx's form."""
        return "r_" + "".join(self.random.choices(ALPHABET, k=10))

    def first_fields(self, run_id: str, parents: Mapping[str, str], shape: str | None) -> dict[str, Any]:
        """Return what Nyx shows of a run just made."""
        config_name = parents["config_name"]
        return {
            "run_id": run_id,
            "config_name": config_name,
            "name": f"Audit of {config_name}",
            "status": "queued",
            "result": None,
            "budget_usd": 5.0,
            "spent_usd": 0.0,
            "attempts_completed": 0,
            "findings_count": 0,
            "created_at": NOW,
            "updated_at": NOW,
            "completed_at": None,
        }

    def cancel_steps(self, run: Run) -> list[Step]:
        """Return what Nyx does with a run on cancel."""
        return [Step(0, {"status": "cancelled", "completed_at": NOW})]

    def _validate_token(self, request: Request) -> Answer:
        return Answer.json(200, {**ACCOUNT, "token": request.key})

    def _list_targets(self, request: Request) -> Answer:
        # A bare list, oldest first.
        return Answer.json(200, self._targets)

    def _create_target(self, request: Request) -> Answer:
        body = self._body_of(request)
        target = _target_of(body)
        made = timestamp(self.store.now(), self.digits)
        # Not from the generator that numbers the runs: a target more or less changes no run's id.
        bits = random.Random(f"{self.seed}:{self.name}:target:{len(self._targets)}").getrandbits(128)
        row = {"id": str(uuid.UUID(int=bits, version=4)), "user_id": ACCOUNT["userId"], **target}
        self._targets.append({**row, "created_at": made, "updated_at": made})
        return Answer.json(201, self._targets[-1])

    def _body_of(self, request: Request) -> dict[str, Any]:
        try:
            return request.json_object()
        except BadJsonError as problem:
            raise RefusedError(invalid_field("body", "body", str(problem))) from problem

    def _get(self, request: Request) -> Answer:
        return Answer.json(200, self.read_run(request).fields)

    def _latest(self, request: Request) -> Answer:
        runs = self.store.children(request.params["config_name"])
        if not runs:
            raise RefusedError(self.error(404, "No run for this config"))
        runs[0].reads += 1
        return Answer.json(200, runs[0].fields)

    def _list_runs(self, request: Request) -> Answer:
        try:
            limit, offset = self.page_of(request, default=10, maximum=100)
        except ValueError as problem:
            raise RefusedError(invalid_field("query", str(problem).split(" ", 1)[0], str(problem))) from problem
        runs = self.store.children()
        wanted = request.query.get("status")
        if wanted:
            runs = [run for run in runs if run.state == wanted]
        page = runs[offset : offset + limit]
        items = [run.fields for run in page]
        return Answer.json(200, {"runs": items, "total": len(runs), "limit": limit, "offset": offset})

    def _cancel(self, request: Request) -> Answer:
        run = self.find_run(request)
        if run.refuses_cancel or self.is_over(run):
            raise RefusedError(self.error(409, "Run is not active"))
        self.store.cancel(run)
        return Answer.json(200, {"run_id": run.run_id, "status": run.fields.get("status")})

    def _report(self, request: Request) -> Answer:
        run = self.find_run(request)
        if not self.is_over(run):
            raise RefusedError(self.error(425, "Run is still in progress. Report not ready yet."))
        text = f"# {run.fields.get('name', run.run_id)}\n\nResult: {run.fields.get('result')}\n"
        return Answer(200, text.encode(), {"content-type": "text/markdown; charset=utf-8"})

    def _submit(self, request: Request) -> Answer:
        body = self._body_of(request)
        _check_run(body)
        config_name = self.check_parent(body["config_name"], "Config")
        if self.store.active(config_name) is not None:
            raise RefusedError(self.error(409, "A run for this config is already in progress"))
        hints = body.get("hints") or []
        words = [hint.removeprefix(HINT) for hint in hints if isinstance(hint, str) and hint.startswith(HINT)]
        fields = {"name": body["name"], "budget_usd": float(body["budget_usd"])}
        submission = Submission({"config_name": config_name}, body, options_from_text(words), fields)
        run = self.start(submission, lambda problem: invalid_field("body", "hints", problem))
        shown = {
            name: run.fields[name] for name in ("run_id", "config_name", "status", "created_at") if name in run.fields
        }
        return Answer.json(201, shown).creating(run.run_id)


def _check_run(body: Mapping[str, Any]) -> None:
    _texts(body, "config_name", "name", "objective")
    target = body.get("target")
    if not isinstance(target, dict) or not (target.get("url") or target.get("endpoint")):
        raise RefusedError(invalid_field("body", "target", "url or endpoint is required"))
    _budget(body, "budget_usd")
    _severity(body)
    if not isinstance(body.get("hints") or [], Sequence):
        raise RefusedError(invalid_field("body", "hints", "Input should be a valid list"))
    if not isinstance(body.get("target_id"), (str, type(None))):
        raise RefusedError(invalid_field("body", "target_id", "Input should be a valid string"))


def _target_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """Check what a target is to be, and return its fields in the order of the official client."""
    _texts(body, "name", "slug")
    if not (body.get("url") or body.get("endpoint")):
        raise RefusedError(invalid_field("body", "url", "url or endpoint is required"))
    _severity(body)
    _budget(body, "default_budget_usd")
    usual: dict[str, Any] = {"url": None, "endpoint": None, "credentials": {}, "hints": []}
    for name, default in usual.items():
        kinds = str if default is None else type(default)
        if body.get(name) is not None and not isinstance(body[name], kinds):
            raise RefusedError(invalid_field("body", name, f"Input should be a valid {kinds.__name__}"))
    return {
        "name": body["name"],
        "slug": body["slug"],
        **{name: default if body.get(name) is None else body[name] for name, default in usual.items()},
        "severity_target": body["severity_target"],
        "default_budget_usd": float(body["default_budget_usd"]),
    }


def _texts(body: Mapping[str, Any], *names: str) -> None:
    for name in names:
        if not isinstance(body.get(name), str) or not body[name]:
            raise RefusedError(invalid_field("body", name, "Field required"))


def _budget(body: Mapping[str, Any], name: str) -> None:
    budget = body.get(name)
    if isinstance(budget, bool) or not isinstance(budget, (int, float)) or not 0 < budget < HIGHEST_BUDGET:
        raise RefusedError(invalid_field("body", name, "Input should be greater than 0"))


def _severity(body: Mapping[str, Any]) -> None:
    if body.get("severity_target") not in SEVERITIES:
        raise RefusedError(invalid_field("body", "severity_target", f"Input should be one of {', '.join(SEVERITIES)}"))
