"""Nexio, decision engines (docs.usenexio.com): everything runops knows of it, and nothing of any other service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from runops.core.declaration import (
    Call,
    Count,
    Lenient,
    Moment,
    Part,
    Provider,
    Route,
    RunBody,
    Submission,
    Text,
    bearer,
    json_object,
    json_objects,
    optional_text,
    required_text,
    uuid,
)
from runops.core.model.cadence import Cadence
from runops.core.model.redaction import clean
from runops.core.model.run import Outcome, Phase
from runops.core.model.states import StateTable


class NexioOutput(Part):
    """The one field that we read of a run's output; the rest is the customer's."""

    degradation_reason: Text = None


class NexioRun(RunBody):
    """GET /api/v1/runs/{run_id} (docs.usenexio.com, "Get Run Status")."""

    DETAILS = ("environment", "engine_version", "stage", "duration_ms")

    finished_at: Moment = Field(None, validation_alias="completed_at")
    environment: Text = None
    engine_version: Text = None
    stage: Text = None
    duration_ms: Count = None
    error: Text = None
    output: Lenient[NexioOutput] = None

    def reason(self) -> str | None:
        return clean(self.error) or clean(self.output.degradation_reason if self.output else None)


def submit(
    *,
    engine_slug: str,
    input: Mapping[str, Any],
    offerings: Sequence[Mapping[str, Any]] | None = None,
    engine_version: str | None = None,
) -> Call:
    """A run of an engine (docs.usenexio.com, "Submit run").

    Args:
        engine_slug: The engine.
        input: The engine's input, a JSON object.
        offerings: JSON objects, for placement engines only.
        engine_version: ``"1.3"`` or ``"1.x"``; without it the engine's current configuration runs.

    Raises:
        ConfigurationError: An argument has the wrong type, or ``engine_slug`` is empty.
    """
    body: dict[str, Any] = {"input": json_object("input", input)}
    if offerings is not None:
        body["offerings"] = json_objects("offerings", offerings)
    if engine_version is not None:
        body["engine_version"] = optional_text("engine_version", engine_version)
    return Call("nexio", _SUBMIT.fill({"engine_slug": required_text("engine_slug", engine_slug)}), body)


_SUBMIT = Route("POST", "/api/v1/engines/{engine_slug}/runs")

NEXIO = Provider(
    name="nexio",
    title="Nexio",
    position=1,
    docs="https://docs.usenexio.com",
    base_url="https://api.usenexio.com",
    version_path="/api/v1",
    auth=bearer("nx_"),
    key_variable="NEXIO_API_KEY",
    body=NexioRun,
    states=StateTable(
        {
            "queued": Phase.QUEUED,
            "processing": Phase.RUNNING,
            "completed": Outcome.SUCCEEDED,
            "degraded": Outcome.DEGRADED,
            "failed": Outcome.FAILED,
        }
    ),
    status=Route("GET", "/api/v1/runs/{run_id}"),
    # A 503 that talks about auth and is none: the key could not be checked (docs.usenexio.com, authentication).
    submit=Submission(submit, run_id=("run_id",), turned_away=((503, "auth_unavailable"),)),
    # There is no route that only checks a key: a run id that cannot exist is answered 404 with a good one.
    probe=Route("GET", "/api/v1/runs/00000000-0000-0000-0000-000000000000"),
    probe_absent=True,
    # "Start at 2 seconds, multiply by 1.5, cap at 30 seconds" (docs.usenexio.com, "Get job status").
    cadence=Cadence(first=2.0, factor=1.5, ceiling=30.0),
    id_key=uuid,
    # No page of a single run is documented.
    link="https://platform.usenexio.com/runs",
)
