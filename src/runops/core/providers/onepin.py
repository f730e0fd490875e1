"""OnePin, voice workflows (docs.onepin.ai): everything runops knows of it, and nothing of any other service."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from runops.core.declaration import (
    Call,
    Count,
    Flag,
    Lenient,
    Listing,
    Moment,
    Part,
    Provider,
    Route,
    RunBody,
    Spend,
    Submission,
    Text,
    bearer,
    optional_text,
    required_text,
    uuid,
)
from runops.core.model.cadence import Cadence
from runops.core.model.redaction import clean
from runops.core.model.run import Outcome, Phase, Progress
from runops.core.model.states import StateTable

PAUSING = "pause requested"


class OnepinUser(Part):
    """The user who started a run; the name, often an e-mail address, is never read."""

    user_id: Text = None


class OnepinRun(RunBody):
    """GET .../runs/{run_id}/status (docs.onepin.ai, "Get Run Status"; further fields: PyPI ``onepin`` 0.16.1)."""

    DETAILS = (
        "run_number",
        "token_cost",
        "total_nodes",
        "finished_nodes",
        "total_steps",
        "finished_steps",
        "has_export",
        "pause_reason",
        "paused_ms",
    )

    run_id: str = Field(min_length=1, validation_alias="id")
    finished_at: Moment = Field(None, validation_alias="completed_at")
    workflow_id: Text = None
    run_number: Count = None
    token_cost: Count = None
    total_nodes: Count = None
    finished_nodes: Count = None
    total_steps: Count = None
    finished_steps: Count = None
    has_export: Flag = None
    pause_requested_at: Text = None
    pause_reason: Text = None
    paused_at: Moment = None
    paused_ms: Count = None
    pause_error: Text = None
    error: Text = None
    triggered_by: Lenient[OnepinUser] = None

    def started_by(self) -> str | None:
        return self.triggered_by.user_id if self.triggered_by else None

    def qualifier(self) -> str | None:
        return PAUSING if self.pause_requested_at else None

    def paused_since(self) -> datetime | None:
        return self.paused_at

    def reason(self) -> str | None:
        return clean(self.error) or clean(self.pause_error) or clean(self.pause_reason)

    def progress(self) -> Progress | None:
        # Steps count retries too and may go back; nodes are what a person sees.
        if self.finished_nodes is not None:
            return Progress(done=self.finished_nodes, total=self.total_nodes, unit="nodes")
        if self.finished_steps is not None:
            return Progress(done=self.finished_steps, total=self.total_steps, unit="steps")
        return None


def submit(*, workflow_id: str, script_text: str | None = None, source_language: str | None = None) -> Call:
    """A run of a workflow (docs.onepin.ai, "Start Run"). One run per workflow may be active.

    Args:
        workflow_id: The workflow.
        script_text: The script, where the workflow takes one.
        source_language: The script's language.

    Raises:
        ConfigurationError: An argument has the wrong type, or ``workflow_id`` is empty.
    """
    given = {"script_text": script_text, "source_language": source_language}
    body: dict[str, Any] = {field: optional_text(field, value) for field, value in given.items() if value is not None}
    parent = {"workflow_id": required_text("workflow_id", workflow_id).strip()}
    return Call("onepin", _RUNS.fill(parent), body or None, parents=parent, parent=parent)


_RUNS = Route("POST", "/api/v1/workflows/{workflow_id}/runs")

ONEPIN = Provider(
    name="onepin",
    title="OnePin",
    position=3,
    docs="https://docs.onepin.ai",
    base_url="https://api.onepin.ai",
    version_path="/api/v1",
    auth=bearer("op_"),
    key_variable="ONEPIN_API_KEY",
    # Sent only when set: a value that is not the key's own workspace is answered 403.
    options={"workspace_id": "X-Workspace-Id"},
    body=OnepinRun,
    envelope="data",
    states=StateTable(
        {
            "pending": Phase.QUEUED,
            "running": {None: Phase.RUNNING, PAUSING: Phase.PAUSED},
            "paused": Phase.PAUSED,
            "completed": Outcome.SUCCEEDED,
            "failed": Outcome.FAILED,
            "cancelled": Outcome.CANCELLED,
        }
    ),
    status=Route("GET", "/api/v1/workflows/{workflow_id}/runs/{run_id}/status"),
    result=Route("GET", "/api/v1/workflows/{workflow_id}/runs/{run_id}"),
    # No text of ours is shown again. Whose key started a run is: whoami and triggered_by name the user (onepin 0.16.1).
    submit=Submission(submit, run_id=("data", "id"), one_at_a_time=True, account=("data", "user_id")),
    cancel=Route("POST", "/api/v1/workflows/{workflow_id}/runs/{run_id}/cancel"),
    # Refused with 409 while another run of the workflow is active: then the run stays paused (PyPI onepin 0.16.1).
    resume=Route("POST", "/api/v1/workflows/{workflow_id}/runs/{run_id}/resume"),
    listing=Listing(
        Route(
            "GET",
            "/api/v1/workflows/{workflow_id}/runs",
            query={"limit": "100", "sort": "created_at", "order": "desc"},
        ),
        items=("data",),
        parent_kinds=("workflow_id",),
        page_size=100,
        paging="offset",
    ),
    probe=Route("GET", "/api/v1/auth/whoami"),
    # The official command line polls every 2 s; nothing says that a long run must be polled as often.
    cadence=Cadence(first=2.0, factor=1.25, ceiling=15.0),
    # token_cost counts billing units, not money (PyPI onepin 0.16.1).
    spend=Spend("characters", ("token_cost",)),
    id_key=uuid,
    # No page of a single run is documented.
    link="https://app.onepin.ai",
)
