"""The routes of B3OS as its official client calls them: each tool's method, path, query and body, and what it reads.

The client is an MCP server (0.1.8) that is on no package index, so its calls are replayed here from its source: one row
for each tool about runs, workflows to run and whose key it is. Where ``RUNOPS_B3OS_MCP`` is the path of a built
``dist/index.js``, the server itself is started and each tool is called over its standard streams; see
docs/project/official_clients.md.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from runops.emulator.store import Emulator

BUILT = os.environ.get("RUNOPS_B3OS_MCP", "")
KEY = "b3sk_0123456789"
WORKFLOW = "wf_emulated"
DEFINITION = {"nodes": {"root": {"type": "manual", "payload": {}, "children": ["log"]}, "log": {"type": "log"}}}
WORKFLOW_ID = re.compile(r"wf_\w+")
RUN_ID = re.compile(r"run_\w+")


@dataclass(frozen=True)
class Tool:
    """One call of a tool of the client: what it sends, and a check of what it takes from ``data`` of the answer.

    ``RUN`` in a path or argument is a run of the script ``of`` that was made before; the check is told its id.
    """

    name: str
    method: str
    path: str
    reads: Callable[[Any, str], None]
    query: dict[str, str] = field(default_factory=dict)
    body: Any = None
    arguments: dict[str, Any] = field(default_factory=dict)
    of: str | None = None


def listed(*names: str) -> Callable[[Any, str], None]:
    """What a tool for a list takes: some fields of each item, and whether there are more."""

    def read(data: Any, run_id: str) -> None:
        assert isinstance(data["hasMore"], bool)
        assert all(isinstance(item[name], str) for item in data["items"] for name in names)
        assert data["items"]
        assert not run_id or [item["id"] for item in data["items"]] == [run_id]

    return read


def started(data: Any, run_id: str) -> None:
    assert RUN_ID.fullmatch(data["runId"])
    assert data["runId"] != run_id


def in_one_go(status: str) -> Callable[[Any, str], None]:
    """What the tool for a run in one go takes: each node's type, status and result but those of the root."""

    def read(data: Any, run_id: str) -> None:
        started(data, run_id)
        assert data["durationMs"] >= 0
        nodes = {name: node for name, node in data["executionState"].items() if name != "root"}
        assert all(node["result"] for node in nodes.values())
        assert (data["status"], nodes["swap"]["status"], nodes["swap"]["type"]) == (status, status, "send-token")

    return read


def whole(data: Any, run_id: str) -> None:
    assert (data["id"], data["status"]) == (run_id, "success")
    assert {"executionState", "workflowDefinition"} <= set(data)


def light(data: Any, run_id: str) -> None:
    assert (data["id"], data["status"]) == (run_id, "waiting")
    assert not {"executionState", "workflowDefinition"} & set(data)


def one_node(data: Any, run_id: str) -> None:
    assert {name: node["result"] for name, node in data["executionState"].items()} == {
        "swap": {"error": "insufficient funds for gas"}
    }


def definition(data: Any, run_id: str) -> None:
    assert data["definition"]["nodes"]["root"]["type"] == "manual"


def no_wallet(data: Any, run_id: str) -> None:
    assert data.get("connector", {}).get("type") != "wallet"


def action_result(data: Any, run_id: str) -> None:
    assert data["result"]["inputs"] == {"coin": "ether"}
    assert data["durationMs"] >= 0


def nothing(data: Any, run_id: str) -> None:
    """It takes an empty body, too."""


SHOWN_RUN = ("id", "workflowId", "status", "triggerSource", "startedAt", "finishedAt")
SHOWN_WORKFLOW = ("id", "name", "status", "description", "createdAt")
FIELDS = "id,name,status,description,lastTriggeredAt,createdAt"

TOOLS = [
    Tool("whoami", "GET", "/v1/organizations", listed("id", "name", "slug", "description")),
    Tool("list_workflows", "GET", "/v1/workflows", listed(*SHOWN_WORKFLOW), {"limit": "20", "_fields_filter": FIELDS}),
    # With a status it asks for three times the page, 60 rows at least, and filters them itself.
    Tool(
        "list_workflows", "GET", "/v1/workflows", listed(*SHOWN_WORKFLOW),
        {"limit": "300", "_fields_filter": FIELDS}, arguments={"status": "active", "limit": 100},
    ),
    Tool(
        "get_workflow", "GET", f"/v1/workflows/{WORKFLOW}", definition,
        arguments={"workflowId": WORKFLOW},
    ),
    Tool("run_workflow", "POST", f"/v1/workflows/{WORKFLOW}/run", started, arguments={"workflowId": WORKFLOW}),
    Tool(
        "run_workflow", "POST", f"/v1/workflows/{WORKFLOW}/run", started, body={"payload": {"amount": 3}},
        arguments={"workflowId": WORKFLOW, "payload": {"amount": 3}},
    ),
    Tool(
        "run_ephemeral", "POST", "/v1/runs/sync", in_one_go("success"), body={"definition": DEFINITION},
        arguments={"definition": DEFINITION},
    ),
    Tool(
        "run_ephemeral", "POST", "/v1/runs/sync", in_one_go("failure"),
        body={"definition": DEFINITION, "payload": {"emulator": {"script": "failed"}}},
        arguments={"definition": DEFINITION, "payload": {"emulator": {"script": "failed"}}},
    ),
    Tool("run_action", "GET", "/v1/actions/get-price", no_wallet),
    Tool(
        "run_action", "POST", "/v1/actions/get-price/run", action_result,
        body={"inputs": {"coin": "ether"}}, arguments={"actionType": "get-price", "inputs": {"coin": "ether"}},
    ),
    Tool("list_runs", "GET", "/v1/runs", listed(*SHOWN_RUN), {"limit": "20"}, of="running"),
    Tool(
        "list_runs", "GET", "/v1/runs", listed(*SHOWN_RUN), {"limit": "60", "workflowId": WORKFLOW},
        arguments={"status": "failure", "limit": 5, "workflowId": WORKFLOW}, of="failed",
    ),
    Tool(
        "list_runs", "GET", "/v1/runs", listed(*SHOWN_RUN), {"limit": "300"},
        arguments={"status": "waiting", "limit": 1000}, of="waiting",
    ),
    Tool("get_run", "GET", "/v1/runs/RUN", whole, arguments={"runId": "RUN"}, of="succeeded"),
    Tool(
        "get_run", "GET", "/v1/runs/RUN", light, {"summary": "true"},
        arguments={"runId": "RUN", "summary": True}, of="waiting",
    ),
    Tool(
        "get_run", "GET", "/v1/runs/RUN", one_node, {"nodeIds": "swap"},
        arguments={"runId": "RUN", "nodeIds": ["swap"]}, of="failed",
    ),
    Tool("cancel_run", "POST", "/v1/runs/RUN/cancel", nothing, arguments={"runId": "RUN"}, of="waiting"),
    Tool("retry_run", "POST", "/v1/runs/RUN/retry", started, arguments={"runId": "RUN"}, of="failed"),
]  # fmt: skip


def made(emulator: Emulator, tool: Tool) -> str:
    """Make the run that a tool is to be called for."""
    return emulator.create_run("b3os", script=tool.of, seconds=0) if tool.of else ""


def named(value: Any, run_id: str) -> Any:
    return json.loads(json.dumps(value).replace("RUN", run_id))


def by_name(tool: Tool) -> str:
    return "-".join([tool.name, *map(str, tool.query.values()), *sorted(tool.arguments)])


@pytest.mark.parametrize("tool", TOOLS, ids=by_name)
def test_what_a_tool_sends_is_answered_with_what_it_reads(call, emulator, tool: Tool) -> None:
    run_id = made(emulator, tool)
    path = tool.path.replace("RUN", run_id)
    # It says that it sends JSON, with a body or without.
    sent = {"content": json.dumps(tool.body)} if tool.body is not None else {}
    headers = {"content-type": "application/json"}
    answer = call("b3os", tool.method, path, params=tool.query, headers=headers, key=KEY, **sent)
    assert answer.status_code == 200, answer.text
    tool.reads(answer.json()["data"] if answer.content else None, run_id)


def test_the_ids_have_the_form_that_the_client_insists_on(call, emulator) -> None:
    for workflow in call("b3os", "GET", "/v1/workflows").json()["data"]["items"]:
        assert WORKFLOW_ID.fullmatch(workflow["id"])
    assert RUN_ID.fullmatch(emulator.create_run("b3os"))
    assert re.fullmatch(r"org_\w+", call("b3os", "GET", "/v1/organizations").json()["data"]["items"][0]["id"])


def test_a_workflow_shows_when_it_was_started_last_once_it_has_been(call, emulator) -> None:
    (row,) = call("b3os", "GET", "/v1/workflows").json()["data"]["items"]
    assert "lastTriggeredAt" not in row
    emulator.create_run("b3os", parents={"workflow_id": "wf_other"})
    rows = call("b3os", "GET", "/v1/workflows", params={"_fields_filter": FIELDS}).json()["data"]["items"]
    assert [sorted(row) for row in rows] == [
        sorted(FIELDS.split(",")),
        sorted(set(FIELDS.split(",")) - {"lastTriggeredAt"}),
    ]


def test_a_run_in_one_go_is_there_to_be_read_afterwards(call, emulator) -> None:
    emulator.hold(provider="b3os")
    answer = call("b3os", "POST", "/v1/runs/sync", json={"definition": DEFINITION}).json()["data"]
    assert answer["status"] == "success"
    assert call.read("b3os", answer["runId"]).json()["data"]["status"] == "success"
    assert emulator.requests(action="sync")[0]["created_run_id"] == answer["runId"]


@pytest.mark.parametrize(
    "definition",
    [None, [], {}, {"nodes": {}}, {"nodes": {"log": {}}}, {"nodes": {"root": {}, **{f"n{i}": {} for i in range(20)}}}],
)
def test_a_run_in_one_go_needs_a_definition_of_at_most_twenty_nodes(call, emulator, definition) -> None:
    assert call("b3os", "POST", "/v1/runs/sync", json={"definition": definition}).status_code == 400
    assert emulator.runs() == []


@pytest.mark.parametrize("path", ["/v1/actions/missing-action", "/v1/actions/Not_a_slug"])
def test_an_action_that_does_not_exist_is_404(call, emulator, path) -> None:
    assert call("b3os", "GET", path).status_code == 404
    assert call("b3os", "POST", f"{path}/run", json={"inputs": {}}).status_code == 404


class Mcp:
    """The client itself, as an MCP server on its standard streams."""

    def __init__(self, url: str, home: Path) -> None:
        node = shutil.which("node")
        assert node is not None, "RUNOPS_B3OS_MCP needs node"
        environment = {"PATH": os.environ["PATH"], "HOME": str(home), "B3OS_API_KEY": KEY, "B3OS_SERVER_URL": url}
        self.process = subprocess.Popen(
            [node, str(Path(BUILT).resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            # Without it the client takes https only.
            env={**environment, "NODE_ENV": "development"},
        )
        self.sent = 0
        about = {"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": {"name": "runops", "version": "0"}}
        self.ask("initialize", **about)
        self.tell({"method": "notifications/initialized"})

    def tell(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        self.process.stdin.flush()

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        self.sent += 1
        self.tell({"id": self.sent, "method": method, "params": params})
        assert self.process.stdout is not None
        for line in self.process.stdout:
            answer = json.loads(line)
            if answer.get("id") == self.sent:
                assert "error" not in answer, answer
                return answer["result"]
        raise AssertionError("the MCP server has ended")


@pytest.fixture
def mcp(served, emulator, tmp_path) -> Iterator[Mcp]:
    if not BUILT:
        pytest.skip("RUNOPS_B3OS_MCP is not set: the path of dist/index.js of B3OS's MCP server")
    server = Mcp(served.base_url("b3os"), tmp_path)
    yield server
    server.process.kill()
    server.process.communicate()
    assert emulator.requests(action="unknown") == []


@pytest.mark.slow
def test_each_tool_of_the_client_itself_is_answered(mcp, emulator) -> None:
    for tool in TOOLS:
        if tool.path == "/v1/actions/get-price":
            continue
        emulator.reset(["requests"])
        run_id = made(emulator, tool)
        result = mcp.ask("tools/call", name=f"b3os_{tool.name}", arguments=named(tool.arguments, run_id))
        assert not result.get("isError"), result
        assert result["content"][0]["text"]
        (*before, sent) = emulator.requests()
        assert (sent["method"], sent["path"], sent["status"]) == (tool.method, tool.path.replace("RUN", run_id), 200)
        assert dict(part.split("=", 1) for part in sent["query"].replace("%2C", ",").split("&") if part) == tool.query
        assert [entry["action"] for entry in before] == (["action"] if tool.name == "run_action" else [])
