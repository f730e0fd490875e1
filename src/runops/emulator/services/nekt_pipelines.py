"""Nekt's sources and transformations, as far as they tell of runs: each with its pipeline and the last run of it.

The fields are those of the older pages of ``GET /api/v1/sources/`` and ``GET /api/v1/transformations/``, in which
``last_run`` is an object. Nothing is made here: a source or transformation exists once it has had a run, and so does
the pipeline of a run in the shape ``pipeline``, as a source, for its type is ``extractor``. The default pipeline is
always there. A source's ``current_connector_slug`` is the first word of its name: ``orders`` of ``orders-extractor``.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from runops.emulator.api import RefusedError, Route, is_uuid
from runops.emulator.runs import timestamp
from runops.emulator.wire import Answer

if TYPE_CHECKING:
    from runops.emulator.runs import Run
    from runops.emulator.services.nekt_wire import NektWire
    from runops.emulator.wire import Request

MADE = "2023-11-07T05:31:56Z"
USUAL_PAGE = 20
LONGEST_PAGE = 100
IN_LAST_RUN = ("id", "created_at", "updated_at", "started_at", "ended_at", "status")
STATUSES = frozenset({"pending_events", "queued", "running", "success", "failed", "cancelling", "canceled"})
SOURCES = ("source", "pipeline")
TRANSFORMATIONS = ("transformation",)


def seeded_uuid(seed: int, name: str) -> str:
    """Make the UUID of a thing by its name: always the same, and without a change to the ids of runs."""
    return str(uuid.UUID(int=random.Random(f"{seed}:nekt:{name}").getrandbits(128), version=4))


def triggers_of(seed: int, pipeline: str) -> list[dict[str, Any]]:
    """Return what starts a pipeline by itself: every morning, and after another one has ended."""
    made = {"created_at": MADE, "updated_at": MADE}
    return [
        {
            "id": seeded_uuid(seed, f"{pipeline}:cron"),
            **made,
            "type": "cron",
            "cron_expression": "0 6 * * *",
            "cron_timezone": "Africa/Abidjan",
            "events": [],
            "event_rule": "any",
        },
        {
            "id": seeded_uuid(seed, f"{pipeline}:event"),
            **made,
            "type": "event",
            "cron_expression": "",
            "cron_timezone": "Africa/Abidjan",
            "events": ["upstream-extractor"],
            "event_rule": "any",
        },
    ]


class NektPipelines:
    """The handlers of these lists.

    Args:
        api: The API whose runs they tell of.
    """

    def __init__(self, api: NektWire) -> None:
        self.api = api

    def routes(self) -> Iterable[Route]:
        """Return the routes."""
        for path, kinds, row in (
            ("sources", SOURCES, self._source),
            ("transformations", TRANSFORMATIONS, self._transformation),
        ):
            yield Route("GET", f"/api/v1/{path}/", path, partial(self._list, kinds=kinds, row=row))

    def _list(self, request: Request, kinds: tuple[str, ...], row: Any) -> Answer:
        rows = [row(name, runs) for name, runs in self._with_runs(kinds).items()]
        wanted = request.query.get("last_run_status")
        if wanted:
            words = wanted.split(",")
            unknown = [word for word in words if word not in STATUSES]
            if unknown:
                problem = f"Select a valid choice. {unknown[0]} is not one of the available choices."
                raise RefusedError(Answer.json(400, {"last_run_status": [problem]}))
            rows = [each for each in rows if each["last_run"] and each["last_run"]["status"] in words]
        connector = request.query.get("connector_slug")
        if connector and kinds == SOURCES:
            rows = [each for each in rows if each["current_connector_slug"] == connector]
        text = request.query.get("page_size", "")
        size = min(int(text), LONGEST_PAGE) if text.isdecimal() and len(text) < 9 and int(text) else USUAL_PAGE
        return self.api.paged(request, rows, size)

    def _with_runs(self, kinds: tuple[str, ...]) -> dict[str, list[Run]]:
        """The names of these kinds, that of the newest run first, and the runs of each, newest first."""
        found: dict[str, list[Run]] = {}
        for run in self.api.store.children():
            for kind in kinds:
                if kind in run.parents:
                    found.setdefault(run.parents[kind], []).append(run)
        if "pipeline" in kinds:
            found.setdefault(self.api.default_parent, [])
        return found

    def _common(self, name: str, runs: list[Run]) -> dict[str, Any]:
        last = runs[0] if runs else None
        return {
            "id": name if is_uuid(name) else seeded_uuid(self.api.seed, name),
            "pipeline_slug": "emulated-pipeline" if is_uuid(name) else name,
            "pipeline_active": True,
            "pipeline_current_status": last.state if last else None,
            "last_run": {field: last.fields.get(field) for field in IN_LAST_RUN} if last else None,
            "created_at": MADE,
            "updated_at": timestamp(last.changed, self.api.digits) if last else MADE,
        }

    def _source(self, name: str, runs: list[Run]) -> dict[str, Any]:
        return {
            **self._common(name, runs),
            "name": name,
            "logo": "",
            "current_connector_slug": name.partition("-")[0],
            "current_connector_allow_manual_incremental_sync": False,
            "current_connector_allow_manual_log_based_sync": False,
            "current_connector_requires_manual_replication_key": False,
            "current_connector_config": {},
            "description": "Copies the orders",
            "full_sync_cron": "",
            "full_sync_cron_timezone": "Africa/Abidjan",
            "pipeline_triggers": triggers_of(self.api.seed, name),
        }

    def _transformation(self, name: str, runs: list[Run]) -> dict[str, Any]:
        return {
            **self._common(name, runs),
            "type": "transformation",
            "output_table_name": name.replace("-", "_"),
            "output_table_id": seeded_uuid(self.api.seed, f"{name}:table"),
            "output_layer": {
                "id": seeded_uuid(self.api.seed, "layer"),
                "name": "Trusted",
                "slug": "trusted",
            },
            "created_by": {
                "id": 123,
                "first_name": "Jane",
                "last_name": "Smith",
                "email": "jsmith@example.com",
                "picture": "",
                "role": "admin",
                "functional_area": "data_analytics",
                "other_functional_area": "",
                "date_joined": MADE,
                "last_login": MADE,
                "is_active": True,
                "permission_groups": [],
            },
            "description": "Joins orders and customers",
            "code": "",
            "dependencies": [],
        }
