"""Nekt, data pipelines (docs.nekt.com): everything runops knows of it, and nothing of any other service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, cast

from pydantic import BeforeValidator, Field

from runops.core.declaration import (
    AuthScheme,
    Count,
    Flag,
    Listing,
    Moment,
    Number,
    Provider,
    Route,
    RunBody,
    Spend,
    Text,
    detail,
    uuid,
)
from runops.core.model.cadence import Cadence
from runops.core.model.expectation import DetailKind
from runops.core.model.run import Outcome, Phase
from runops.core.model.states import StateTable


def _names(value: object) -> tuple[str, ...] | None:
    """The id and slug of a relation, which comes as an object, a scalar or null."""
    if isinstance(value, dict):
        relation = cast("dict[str, Any]", value)
        return tuple(str(relation[key]) for key in ("id", "slug") if isinstance(relation.get(key), (int, str))) or None
    return None if value is None or value == "" or isinstance(value, (list, bool)) else (str(value),)


Relation = Annotated[tuple[str, ...] | None, BeforeValidator(_names)]


class NektRun(RunBody):
    """GET /api/v1/runs/{id}/ in the shape of docs.nekt.ai (``pipeline``) and the newer one of docs.nekt.com.

    The payload carries a credential (``triggered_by_token``) and personal data (``triggered_by``): never read.
    """

    DETAILS = (
        "trigger_type",
        "number",
        "duration_seconds",
        "full_sync",
        "credit_charge_status",
        "el_cost_usd",
        "transformation_cost_usd",
    )

    run_id: str = Field(min_length=1, validation_alias="id")
    finished_at: Moment = Field(None, validation_alias="ended_at")
    pipeline: Relation = None
    source: Relation = None
    destination: Relation = None
    transformation: Relation = None
    trigger_type: Text = None
    number: Count = None
    duration_seconds: Number = None
    full_sync: Flag = None
    credit_charge_status: Text = None
    el_cost_usd: Number = None
    transformation_cost_usd: Number = None

    def belongs_to(self, parent_kind: str) -> Sequence[str] | None:
        return getattr(self, parent_kind)

    @classmethod
    def detail_kinds(cls) -> Mapping[str, DetailKind]:
        parents: dict[str, DetailKind] = dict.fromkeys(NEKT_PARENTS, "text")
        return parents | cls.declared_details()

    def details(self) -> dict[str, Any]:
        named = {kind: getattr(self, kind) for kind in NEKT_PARENTS}
        return {kind: detail(names[-1]) for kind, names in named.items() if names} | super().details()


NEKT_PARENTS = ("pipeline", "source", "destination", "transformation")

NEKT = Provider(
    name="nekt",
    title="Nekt",
    position=5,
    docs="https://docs.nekt.com",
    base_url="https://api.nekt.ai",
    version_path="/api/v1",
    auth=AuthScheme("x-api-key"),
    key_variable="NEKT_API_KEY",
    body=NektRun,
    states=StateTable(
        {
            "pending_events": Phase.WAITING,
            "queued": Phase.QUEUED,
            "running": Phase.RUNNING,
            "cancelling": Phase.STOPPING,
            "success": Outcome.SUCCEEDED,
            "failed": Outcome.FAILED,
            "canceled": Outcome.CANCELLED,
        }
    ),
    # The slash at the end is part of every Nekt route.
    status=Route("GET", "/api/v1/runs/{run_id}/"),
    # How a run is started over the API is documented nowhere.
    cancel=Route("POST", "/api/v1/runs/{run_id}/cancel/", json={}),
    listing=Listing(
        Route("GET", "/api/v1/runs/"),
        items=("results",),
        parent_kinds=NEKT_PARENTS,
        filtered=True,
        # Pages turn by number; their size is not documented, so any page with runs on it may have a next one.
        page_size=1,
        paging="page",
        complete=True,
    ),
    probe=Route("GET", "/api/v1/runs/"),
    # Nothing is said of polling; pipelines run for minutes.
    cadence=Cadence(first=5.0, factor=1.25, ceiling=30.0),
    spend=Spend("USD", ("el_cost_usd", "transformation_cost_usd")),
    id_key=uuid,
    # No page of a single run is documented.
    link="https://app.nekt.ai",
)
