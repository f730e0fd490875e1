"""OnePin's own published client (command line and SDK) starts, watches, lists and cancels emulated runs.

It was written by the vendor against the real service, so what it accepts is not our reading.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

onepin = pytest.importorskip("onepin")

from onepin.core.api_error import ApiError  # noqa: E402
from onepin.errors import UnprocessableEntityError  # noqa: E402

from tests.emulator.onepin_command import KEY, CommandLine  # noqa: E402

WORKSPACE = "5b1f0a52-7c1d-4a0e-9c39-0d1f6a7b8c9d"
WORKFLOW = "7c9e6679-7425-40de-944b-e07fc1f90ae7"


@pytest.fixture
def command(served, emulator, tmp_path) -> Iterator[CommandLine]:
    yield CommandLine(served.base_url("onepin"), tmp_path)
    assert emulator.requests(action="unknown") == []


@pytest.fixture
def client(served, emulator) -> Iterator[Any]:
    with httpx.Client(follow_redirects=True) as http:
        yield onepin.OnepinClient(api_key=KEY, base_url=served.base_url("onepin"), httpx_client=http)
    assert emulator.requests(action="unknown") == []


@pytest.mark.slow
def test_the_guard_does_refuse_to_leave_the_machine(command) -> None:
    program = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=command.environment
    )
    assert "no network beyond this machine" in done.stderr
    assert command.log.read_text() == "192.0.2.1\n"


@pytest.mark.slow
def test_the_command_line_sees_its_workspace(command) -> None:
    assert command.json("whoami")["workspace_id"] == WORKSPACE
    refused = command("whoami", code=1, ONEPIN_API_KEY="invalid-key")
    assert "INVALID_API_KEY" in refused.stderr


@pytest.mark.slow
def test_the_command_line_watches_a_run_to_its_end(command, emulator) -> None:
    run = command.json("workflows", "run", WORKFLOW, "--script", "emulator:succeeded", "--watch")
    assert (run["status"], run["finished_nodes"], run["total_nodes"]) == ("completed", 15, 15)
    assert [entry["status"] for entry in emulator.requests(action="submit")] == [202]
    assert len(emulator.requests(action="get")) >= 1


@pytest.mark.slow
def test_the_command_line_fails_with_a_run_that_fails(command, emulator) -> None:
    done = command("workflows", "run", WORKFLOW, "--script", "emulator:failed", "--watch", code=1)
    run_id = emulator.runs(provider="onepin")[0]["run_id"]
    assert f"Run {run_id} finished: failed." in done.stdout


@pytest.mark.slow
def test_the_command_line_starts_lists_shows_and_cancels(command, emulator) -> None:
    workspace = ("--workspace", WORKSPACE)
    started = command.json(*workspace, "workflows", "run", WORKFLOW, "--script", "emulator:forever seconds=0")
    assert started["status"] in ("pending", "running")
    run_id = started["id"]
    listed = command.json(*workspace, "workflows", "runs", "list", WORKFLOW, "--status", "running")
    assert [run["id"] for run in listed] == [run_id]
    assert command.json("workflows", "runs", "status", WORKFLOW, run_id)["run_number"] == 1
    assert "definition_snapshot" in command.json("workflows", "runs", "show", WORKFLOW, run_id)
    steps = command.json("workflows", "runs", "steps", WORKFLOW, run_id)
    assert [step["node_id"] for step in steps] == [f"node-{number}" for number in range(1, 7)]
    assert [step["status"] for step in steps] == ["completed"] * 5 + ["running"]
    assert command.json("workflows", "runs", "summary", WORKFLOW)["running"] == 1
    assert command.json("workflows", "runs", "cancel", WORKFLOW, run_id, "--yes")["status"] == "cancelled"
    assert command.json("workflows", "runs", "status", WORKFLOW, run_id)["status"] == "cancelled"
    assert emulator.runs(run_id=run_id)[0]["cancels"] == 1


def test_the_sdk_starts_watches_lists_and_cancels(client, emulator) -> None:
    runs = client.workflows.runs
    emulator.hold(provider="onepin")
    script = onepin.WorkflowRunStartIn(script_text="emulator:paused_then_succeeded seconds=10")
    run = runs.start(WORKFLOW, request=script, workspace_id=WORKSPACE).data
    assert (run.status, run.run_number) == ("pending", 1)
    seen = []
    for _ in range(11):
        seen.append(runs.status(WORKFLOW, run.id).data)
        emulator.advance(1, run_id=run.id)
    assert [page.status for page in seen] == (
        ["pending"] * 2 + ["running"] * 2 + ["paused"] * 3 + ["running"] * 3 + ["completed"]
    )
    assert seen[4].pause_reason == "provider_outage"
    assert seen[4].held_nodes[0].node_id == "node-6"
    assert seen[-1].completed_at > seen[-1].started_at >= seen[-1].created_at
    second = runs.start(WORKFLOW, request=onepin.WorkflowRunStartIn(script_text="emulator:forever")).data
    listed = runs.list(WORKFLOW, limit=1)
    assert [item.id for item in listed.data] == [second.id]
    assert (listed.pagination.total, listed.pagination.limit) == (2, 1)
    assert runs.cancel(WORKFLOW, second.id).data.status == "cancelled"
    assert runs.cancel(WORKFLOW, run.id).data.status == "completed"
    assert runs.get(WORKFLOW, run.id).data.credits == 46
    assert client.workflows.get(WORKFLOW).data.runs_count == 2


def test_the_sdk_understands_the_errors(client, emulator) -> None:
    runs = client.workflows.runs
    once = {"max_retries": 0}
    runs.start(WORKFLOW)
    with pytest.raises(ApiError) as conflict:
        runs.start(WORKFLOW, request_options=once)
    assert conflict.value.status_code == 409
    with pytest.raises(UnprocessableEntityError):
        runs.list(WORKFLOW, status="canceled")
    with pytest.raises(ApiError) as mismatch:
        runs.list(WORKFLOW, workspace_id="00000000-0000-4000-8000-000000000000")
    assert mismatch.value.status_code == 403
    emulator.add_fault(kind="status", status=426, headers={"X-OnePin-Required-Version": "99.0"})
    with pytest.raises(ApiError) as outdated:
        runs.list(WORKFLOW)
    assert outdated.value.status_code == 426


def test_the_sdk_takes_every_status_page_of_every_script(client, emulator) -> None:
    for script in emulator.apis["onepin"].scripts:
        if script in ("bare", "unreadable_times"):
            continue
        run_id = emulator.create_run("onepin", script=script, seconds=10, held=True)
        for _ in range(6):
            assert client.workflows.runs.status(WORKFLOW, run_id).data.id == run_id
            emulator.advance(2, run_id=run_id)


def test_the_async_sdk_starts_watches_lists_and_cancels(served, emulator) -> None:
    emulator.hold(provider="onepin")

    async def story() -> list[str]:
        async with httpx.AsyncClient(follow_redirects=True) as http:
            url = served.base_url("onepin")
            runs = onepin.AsyncOnepinClient(api_key=KEY, base_url=url, httpx_client=http).workflows.runs
            run = (await runs.start(WORKFLOW)).data
            seen = [run.status]
            while seen[-1] not in ("completed", "failed", "cancelled"):
                emulator.advance(0.1, run_id=run.id)
                seen.append((await runs.status(WORKFLOW, run.id)).data.status)
            second = (await runs.start(WORKFLOW)).data
            listed = await runs.list(WORKFLOW)
            assert [item.id for item in listed.data] == [second.id, run.id]
            seen.append((await runs.cancel(WORKFLOW, second.id)).data.status)
            return seen

    assert asyncio.run(story()) == ["pending", "running", "running", "running", "completed", "cancelled"]
