"""B3OS, web3 workflow automation (docs.b3os.org): everything runops knows of it, and nothing of any other service."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, ValidationError

from runops.core.declaration import (
    Call,
    Count,
    Explanation,
    Flag,
    Lenient,
    Listing,
    Moment,
    Number,
    Part,
    Provider,
    Retry,
    Route,
    RunBody,
    Spend,
    Submission,
    Text,
    bearer,
    json_object,
    required_text,
    validated,
)
from runops.core.model.cadence import Cadence
from runops.core.model.redaction import LONGEST, clean, cut
from runops.core.model.run import Outcome, Phase
from runops.core.model.states import StateTable


class B3osRun(RunBody):
    """GET /v1/runs/{id} (docs.b3os.org, "Get a specific run by ID"). Times are plain strings there."""

    DETAILS = (
        "workflowId",
        "workflowVersion",
        "totalCu",
        "triggerSource",
        "isSimulation",
        "isDustTest",
        "sourceRunId",
    )

    run_id: str = Field(min_length=1, validation_alias="id")
    started_at: Moment = Field(None, validation_alias="startedAt")
    finished_at: Moment = Field(None, validation_alias="finishedAt")
    workflowId: Text = None
    workflowVersion: Count = None
    totalCu: Number = None
    triggerSource: Text = None
    isSimulation: Flag = None
    isDustTest: Flag = None
    sourceRunId: Text = None

    def belongs_to(self, parent_kind: str) -> Sequence[str] | None:
        return None if parent_kind != "workflow_id" or self.workflowId is None else (self.workflowId,)


class B3osNodeResult(Part):
    """What a failed node says, and nothing else of its result."""

    error: Text = None
    message: Text = None


class B3osNode(Part):
    """A node of ``executionState``; its inputs are never read."""

    type: Text = None
    status: Text = None
    result: Lenient[B3osNodeResult] = None


class B3osExecution(Part):
    """The part of a run that ``summary=true`` leaves out."""

    executionState: dict[str, Lenient[B3osNode]]


class B3osExecutionAnswer(Part):
    """The envelope around it."""

    data: B3osExecution


_SHOWN = re.compile(r"[\w.:-]{1,64}")
_NODE_FAILED = "failure"


def failed_nodes(content: bytes) -> str | None:
    """Which nodes failed, their types and the error or message of their results, cleaned; None if unreadable."""
    try:
        nodes = validated(B3osExecutionAnswer, content).data.executionState
    except ValidationError:
        return None
    line = ""
    for node_id, node in nodes.items():
        if node is None or node.status != _NODE_FAILED:
            continue
        where = f"{_shown(node_id)} ({_shown(node.type or '')})"
        what = clean(node.result.error) or clean(node.result.message) if node.result else None
        line += ("; " if line else "") + (f"{where}: {what}" if what else where)
        if len(line) > LONGEST:
            # Further nodes would not be seen, and there may be thousands.
            break
    return cut(line) or None


def _shown(text: str) -> str:
    return text if _SHOWN.fullmatch(text) else "?"


def submit(*, workflow_id: str, payload: Mapping[str, Any] | None = None) -> Call:
    """A run of a published workflow (docs.b3os.org, "Run a workflow"). Runs of one workflow may overlap.

    Args:
        workflow_id: The workflow.
        payload: The trigger payload, a JSON object.

    Raises:
        ConfigurationError: An argument has the wrong type, or ``workflow_id`` is empty.
    """
    parent = {"workflow_id": required_text("workflow_id", workflow_id).strip()}
    body = None if payload is None else {"payload": json_object("payload", payload)}
    return Call("b3os", _RUN.fill(parent), body, parent=parent)


_RUN = Route("POST", "/v1/workflows/{workflow_id}/run")

B3OS = Provider(
    name="b3os",
    title="B3OS",
    position=4,
    docs="https://docs.b3os.org",
    base_url="https://api.b3os.org",
    version_path="/v1",
    auth=bearer("b3sk_"),
    key_variable="B3OS_API_KEY",
    # For user sessions only; an API key carries its organisation.
    options={"org_id": "X-Org-ID"},
    body=B3osRun,
    envelope="data",
    states=StateTable(
        {
            "running": Phase.RUNNING,
            "waiting": Phase.WAITING,
            "success": Outcome.SUCCEEDED,
            "failure": Outcome.FAILED,
            "cancelled": Outcome.CANCELLED,
        }
    ),
    # The literal "true" leaves out the execution state and the workflow, which every poll would drag along.
    status=Route("GET", "/v1/runs/{run_id}", query={"summary": "true"}),
    result=Route("GET", "/v1/runs/{run_id}"),
    submit=Submission(submit, run_id=("data", "runId")),
    cancel=Route("POST", "/v1/runs/{run_id}/cancel"),
    # From failure only, as a new run that leaves out the nodes that succeeded (packages/mcp of b3-fun/b3os).
    retry=Retry(Route("POST", "/v1/runs/{run_id}/retry"), run_id=("data", "runId")),
    explain=Explanation(Route("GET", "/v1/runs/{run_id}"), failed_nodes),
    listing=Listing(
        Route("GET", "/v1/workflows/{workflow_id}/runs", query={"limit": "100"}),
        items=("data", "items"),
        parent_kinds=("workflow_id",),
        page_size=100,
        paging="offset",
        complete=True,
        parent_detail="workflowId",
    ),
    probe=Route("GET", "/v1/runs", query={"limit": "1"}),
    # Nothing is said of polling; the rate limit is per organisation.
    cadence=Cadence(first=2.0, factor=1.25, ceiling=20.0),
    spend=Spend("CU", ("totalCu",)),
    link="https://b3os.org/workflows/edit?id={workflowId}",
)
