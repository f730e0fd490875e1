"""Nekt's run API as its pages describe it, in both shapes; no way to start a run is documented.

Runs are made by the control API. ``shape`` says which page they show: ``pipeline`` (the object with
``pipeline``, ``log`` and people) or ``flat`` (the newer one with ``number``, costs and ``source``,
``destination``, ``transformation``). It follows from ``parents`` if not given.

Every path ends in a slash; without it the answer is 301 to the path with one, for POST too. A page
of the list holds 20 runs. The lists of sources and transformations (:mod:`runops.emulator.services.nekt_pipelines`)
tell of the last run of each. A cancel turns a run to ``cancelling``, and a quarter of the default
script duration later to ``canceled``; a cancel of a run that is over changes nothing.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any

from runops.emulator.api import RefusedError, Route, is_uuid
from runops.emulator.runs import NOW, Moment, Run, ScriptError, Step, at
from runops.emulator.services.nekt_pipelines import NektPipelines, triggers_of
from runops.emulator.services.nekt_wire import NektWire
from runops.emulator.wire import Answer, Request

PAGE_SIZE = 20
SHAPES = ("pipeline", "flat")
RELATIONS = ("source", "destination", "transformation")

STARTED = (at(0, status="queued"), at(0.25, status="running", started_at=NOW))

ALL_BUT_ID_AND_STATUS = (
    "created_at", "updated_at", "started_at", "ended_at", "pipeline", "log", "use_custom_logs",
    "trigger", "trigger_type", "triggered_by", "triggered_by_token", "number", "duration_seconds",
    "full_sync", "extra_config", "credit_charge_status", "el_cost_usd", "el_cost_metadata",
    "transformation_cost_usd", "transformation_cost_metadata", *RELATIONS,
)  # fmt: skip

SCRIPTS: dict[str, tuple[Moment, ...]] = {
    "queued": (at(0, status="queued"),),
    "running": (at(0, status="running", started_at=NOW),),
    "forever": STARTED,
    "succeeded": (*STARTED, at(1, status="success", ended_at=NOW)),
    "failed": (*STARTED, at(1, status="failed", ended_at=NOW)),
    "cancelled": (*STARTED, at(0.7, status="cancelling"), at(1, status="canceled", ended_at=NOW)),
    "cancelling": (*STARTED, at(0.5, status="cancelling")),
    "pending_events": (at(0, status="pending_events"),),
    "pending_events_then_succeeded": (
        at(0, status="pending_events"),
        at(0.3, status="queued"),
        at(0.5, status="running", started_at=NOW),
        at(1, status="success", ended_at=NOW),
    ),
    "unknown_word": (*STARTED, at(0.5, status="compacting"), at(1, status="success", ended_at=NOW)),
    "unknown_word_forever": (*STARTED, at(0.5, status="compacting")),
    "unknown_word_ended": (*STARTED, at(1, status="archived", ended_at=NOW)),
    "bare": (
        at(0, status="running", removed=ALL_BUT_ID_AND_STATUS),
        at(1, status="success"),
    ),
    "unreadable_times": (
        at(0, status="running", created_at="yesterday", started_at="just now"),
        at(1, status="success", ended_at="soon"),
    ),
}


class NektApi(NektWire):
    """``/api/v1/runs/`` and what lies below it."""

    scripts = SCRIPTS
    updated_field = "updated_at"

    def declare_routes(self) -> Iterable[Route]:
        """Return the paths that Nekt's pages document."""
        yield Route("GET", "/api/v1/runs/", "list", self._list_runs)
        yield Route("GET", "/api/v1/runs/{run_id}/", "get", self._get)
        yield Route("POST", "/api/v1/runs/{run_id}/cancel/", "cancel", self._cancel)
        yield from NektPipelines(self).routes()

    def shape_for(self, parents: Mapping[str, str], shape: str | None) -> str | None:
        """Take the shape asked for, or the one that goes with the parents."""
        if shape is None:
            return "flat" if any(name in RELATIONS for name in parents) else "pipeline"
        if shape not in SHAPES:
            raise ScriptError(f"shape is one of {', '.join(SHAPES)}; got {shape!r}")
        return shape

    def first_fields(self, run_id: str, parents: Mapping[str, str], shape: str | None) -> dict[str, Any]:
        """Return what Nekt shows of a run just made."""
        times = {"created_at": NOW, "updated_at": NOW, "started_at": None, "ended_at": None}
        common = {"id": run_id, **times, "status": "queued"}
        return {**common, **(self._flat(parents) if shape == "flat" else self._pipeline(parents))}

    def cancel_steps(self, run: Run) -> list[Step]:
        """Return what Nekt does with a run on cancel."""
        ended = Step(self.store.seconds / 4, {"status": "canceled", "ended_at": NOW})
        return [Step(0, {"status": "cancelling"}), ended]

    def _get(self, request: Request) -> Answer:
        run = self.read_run(request)
        return Answer.json(200, _page_of(run))

    def _list_runs(self, request: Request) -> Answer:
        return self.paged(request, [_page_of(run) for run in self.store.children()], PAGE_SIZE)

    def _cancel(self, request: Request) -> Answer:
        run = self.find_run(request)
        if run.refuses_cancel:
            raise RefusedError(self.error(400, "This run can not be canceled."))
        if not self.is_over(run) and run.state != "cancelling":
            self.store.cancel(run)
        return Answer.json(200, _page_of(run))

    def _pipeline(self, parents: Mapping[str, str]) -> dict[str, Any]:
        name = parents.get("pipeline", self.default_parent)
        return {
            "pipeline": {
                "id": name if is_uuid(name) else self.uuid(),
                "slug": "emulated-pipeline" if is_uuid(name) else name,
                "description": "Copies the orders",
                "type": "extractor",
                "active": True,
                "created_at": "2023-11-07T05:31:56Z",
                "updated_at": "2023-11-07T05:31:56Z",
                "triggers": triggers_of(self.seed, name),
            },
            "log": {"id": self.uuid(), "parsed_log": "", "created_at": NOW, "updated_at": NOW},
            "use_custom_logs": False,
            "trigger_type": "manual",
            "trigger": {"type": "manual", "cron_expression": "", "cron_timezone": "", "event_rule": "any"},
            "triggered_by": {
                "id": 123,
                "first_name": "Jane",
                "last_name": "Smith",
                "email": "jsmith@example.com",
                "picture": "",
                "role": "admin",
                "date_joined": "2023-11-07T05:31:56Z",
                "last_login": "2023-11-07T05:31:56Z",
                "is_active": True,
            },
            "triggered_by_token": {
                "id": self.uuid(),
                "token": "nekt-emulated-token-never-to-be-shown",
                "is_active": True,
                "description": "orchestrator",
                "created_at": "2023-11-07T05:31:56Z",
                "updated_at": "2023-11-07T05:31:56Z",
                "last_used_at": "2023-11-07T05:31:56Z",
            },
        }

    def _flat(self, parents: Mapping[str, str]) -> dict[str, Any]:
        given = {name: parents.get(name) for name in RELATIONS}
        return {
            "number": 7,
            "duration_seconds": None,
            "trigger": {"type": "manual", "cron_expression": None, "cron_timezone": None, "event_rule": None},
            "full_sync": False,
            "extra_config": None,
            "credit_charge_status": "charged",
            "el_cost_usd": 0.12,
            "el_cost_metadata": None,
            "transformation_cost_usd": None,
            "transformation_cost_metadata": None,
            "triggered_by": 123,
            "triggered_by_token": "nekt-emulated-token-never-to-be-shown",
            **given,
        }


def _page_of(run: Run) -> dict[str, Any]:
    pipeline = run.fields.get("pipeline")
    if not isinstance(pipeline, dict):
        unknown = run.fields.get("duration_seconds", 0) is None
        return {**run.fields, "duration_seconds": _seconds_of(run)} if unknown else run.fields
    # Each run shows itself as the latest one of its pipeline.
    times = {f"latest_run_{name}": run.fields.get(f"{name}_at") for name in ("started", "ended")}
    current = {**times, "latest_run_status": run.state, "current_status": run.state, **pipeline}
    return {**run.fields, "pipeline": current}


def _seconds_of(run: Run) -> int | None:
    """How long a run took that is over, in whole seconds."""
    try:
        began, ended = (dt.datetime.fromisoformat(str(run.fields.get(name))) for name in ("started_at", "ended_at"))
    except ValueError:
        return None
    return round((ended - began).total_seconds())
