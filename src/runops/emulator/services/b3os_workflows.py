"""What lies beside the runs of B3OS and is asked for before one is started: workflows, organizations, single actions.

All of it is what the source of the official client (its MCP server, 0.1.8) calls and reads; the pages of these routes
are not known. Workflows are not made here: there is ``wf_emulated``, and one for each workflow that has had a
run. All are published. Any action exists whose type does not start with ``missing``;
none of them needs a wallet, and all of them succeed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from runops.emulator.api import RefusedError, Route
from runops.emulator.runs import timestamp

if TYPE_CHECKING:
    from runops.emulator.runs import Run
    from runops.emulator.services.b3os_wire import B3osWire
    from runops.emulator.wire import Answer, Request

ORGANIZATION_ID = "org_emulated"
MOST_NODES = 20
"""Of a run in one go."""
ACTION_TYPE = re.compile(r"[a-z0-9][a-z0-9-]*")
DEFINITION: dict[str, Any] = {
    "inputSchema": [{"key": "amount", "type": "number", "required": False, "description": "How much"}],
    "nodes": {
        "root": {"type": "manual", "children": ["quote"]},
        "quote": {"type": "http-request", "children": ["swap"]},
        "swap": {"type": "send-token", "children": []},
    },
}
ORGANIZATION: dict[str, Any] = {
    "id": ORGANIZATION_ID,
    "slug": "emulated",
    "name": "Emulated",
    "description": "Served on this machine",
    "createdBy": "user_emulated",
    "createdAt": "2026-01-05T08:00:00.000Z",
    "updatedAt": "2026-01-05T08:00:00.000Z",
}


class B3osWorkflows:
    """The handlers of these routes.

    Args:
        api: The API whose runs they tell of.
    """

    def __init__(self, api: B3osWire) -> None:
        self.api = api

    def routes(self) -> Iterable[Route]:
        """Return the routes."""
        yield Route("GET", "/v1/workflows", "workflows", self._list_workflows)
        yield Route("GET", "/v1/workflows/{workflow_id}", "workflow", self._workflow)
        yield Route("GET", "/v1/organizations", "organizations", self._organizations)
        yield Route("GET", "/v1/actions/{action_type}", "action", self._action)
        yield Route("POST", "/v1/actions/{action_type}/run", "run_action", self._run_action)

    def _list_workflows(self, request: Request) -> Answer:
        # No filter by status: the client says that the service has none, and filters what it is given.
        rows = [self._row(workflow_id) for workflow_id in self._known()]
        wanted = request.query.get("_fields_filter", "").split(",")
        if wanted != [""]:
            rows = [{name: row[name] for name in wanted if name in row} for row in rows]
        return self.api.paged(request, rows)

    def _workflow(self, request: Request) -> Answer:
        workflow_id = self.api.check_parent(request.params["workflow_id"], "Workflow")
        return self.api.data({**self._row(workflow_id), "definition": DEFINITION})

    def _organizations(self, request: Request) -> Answer:
        return self.api.paged(request, [ORGANIZATION])

    def _action(self, request: Request) -> Answer:
        kind = self._action_type(request)
        return self.api.data({"type": kind, "name": kind, "description": "", "category": "emulated", "tags": []})

    def _run_action(self, request: Request) -> Answer:
        kind = self._action_type(request)
        inputs = self.api.body_of(request).get("inputs")
        if not isinstance(inputs, dict):
            raise RefusedError(self.api.error(400, "inputs must be an object"))
        return self.api.data({"result": {"action": kind, "inputs": inputs}, "durationMs": 12})

    def _action_type(self, request: Request) -> str:
        kind = self.api.check_parent(request.params["action_type"], "Action")
        if ACTION_TYPE.fullmatch(kind) is None:
            raise RefusedError(self.api.error(404, "Action not found"))
        return kind

    def _known(self) -> list[str]:
        """The workflows, that of the newest run first."""
        parents = [run.parents["workflow_id"] for run in self.api.store.children()]
        return list(dict.fromkeys([*parents, self.api.default_parent]))

    def _row(self, workflow_id: str) -> dict[str, Any]:
        runs = self.api.store.children(workflow_id)
        row: dict[str, Any] = {
            "id": workflow_id,
            "version": 3,
            "organizationId": ORGANIZATION_ID,
            "name": f"Emulated {workflow_id}",
            "description": "Served on this machine",
            "status": "active",
            "type": "workflow",
            "maxRuns": 0,
            "remainRuns": 0,
            "cooldownMs": 0,
            "createdBy": "user_emulated",
            "createdAt": ORGANIZATION["createdAt"],
            "updatedAt": ORGANIZATION["updatedAt"],
            "hasDraft": False,
            "hasLiveVersion": True,
        }
        return {**row, "lastTriggeredAt": self._time_of(runs[0])} if runs else row

    def _time_of(self, run: Run) -> str:
        return timestamp(run.created, self.api.digits)


def check_definition(api: B3osWire, definition: Any) -> None:
    """Check what is to be run in one go.

    Raises:
        RefusedError: With 400 if it is no definition, or too large a one.
    """
    nodes = definition.get("nodes") if isinstance(definition, dict) else None
    if not isinstance(nodes, dict) or "root" not in nodes:
        raise RefusedError(api.error(400, "definition must have nodes, with a root among them"))
    if len(nodes) > MOST_NODES:
        raise RefusedError(api.error(400, f"a run in one go has {MOST_NODES} nodes at most"))
