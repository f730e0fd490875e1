"""``runops resume`` and ``runops retry`` against the emulator: what is sent, what is said, and the exit codes."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from runops.cli import arguments, main
from runops.core import PROVIDERS
from runops.core.waiting import options
from runops.emulator.server import Server, running

pytestmark = pytest.mark.http

KEY = "key-canary-5b1e77"
WORKFLOW = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
AT = ("--workflow-id", WORKFLOW)
WAIT = ("--wait", "--poll-interval", "0.05")


@pytest.fixture(scope="module")
def emulator() -> Iterator[Server]:
    with running(seed=7, seconds=0.2) as server:
        yield server


@pytest.fixture
def server(emulator: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    emulator.emulator.reset()
    for provider in PROVIDERS.values():
        monkeypatch.setenv(provider.key_variable, KEY)
        monkeypatch.setenv(f"{provider.name.upper()}_BASE_URL", emulator.base_url(provider.name))
    return emulator


def made(server: Server, provider: str, script: str, **more: Any) -> str:
    parents = {"workflow_id": WORKFLOW if provider == "onepin" else "wf_1"}
    return server.emulator.create_run(provider, script=script, age_seconds=60, parents=parents, **more)


def posts(server: Server) -> list[str]:
    return [entry["action"] for entry in server.emulator.requests(method="POST")]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


# --- resume ----------------------------------------------------------------------------------------------------


def test_resume_has_a_paused_run_go_on_and_shows_how_it_stands(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = made(server, "onepin", "paused", on_resume=[{"set": {"status": "running"}}])
    assert main(["resume", "onepin", run_id, *AT]) == 0
    assert f"onepin run {run_id}: running" in capsys.readouterr().out
    assert posts(server) == ["resume"]


@pytest.mark.parametrize(("end", "code"), [("completed", 0), ("failed", 1), ("cancelled", 1)])
def test_resume_with_wait_stays_until_the_end_and_exits_with_its_verdict(
    server: Server, capsys: pytest.CaptureFixture[str], end: str, code: int
) -> None:
    steps = [{"set": {"status": "running"}}, {"after": 0.2, "set": {"status": end, "completed_at": "$now"}}]
    run_id = made(server, "onepin", "paused", on_resume=steps)
    assert main(["resume", "onepin", run_id, *AT, *WAIT, "--json"]) == code
    said = capsys.readouterr()
    assert json.loads(said.out)["state"] == end
    assert "running" in said.err


def test_resume_of_a_run_that_goes_on_already_sends_nothing(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    run_id = made(server, "onepin", "running")
    assert main(["resume", "onepin", run_id, *AT, "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["run_id"] == run_id
    assert "there is nothing to resume" in said.err
    assert posts(server) == []


def test_resume_of_a_run_that_is_over_exits_4_and_names_the_state(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["resume", "onepin", made(server, "onepin", "succeeded"), *AT]) == 4
    assert "completed (succeeded)" in capsys.readouterr().err
    assert posts(server) == []


def test_resume_behind_another_run_exits_4_and_names_it(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    run_id, other = made(server, "onepin", "paused"), made(server, "onepin", "running")
    assert main(["resume", "onepin", run_id, *AT]) == 4
    assert f"Active there now: run {other}" in capsys.readouterr().err


# --- retry -----------------------------------------------------------------------------------------------------


def test_retry_prints_the_new_run(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    run_id = made(server, "b3os", "failed")
    assert main(["retry", "b3os", run_id, "--json"]) == 0
    again = json.loads(capsys.readouterr().out)["run_id"]
    assert again != run_id
    assert posts(server) == ["retry"]


@pytest.mark.parametrize(("script", "code"), [("succeeded", 0), ("failed", 1)])
def test_retry_with_wait_stays_until_the_end_of_the_new_run(
    server: Server, capsys: pytest.CaptureFixture[str], script: str, code: int
) -> None:
    run_id = made(server, "b3os", "failed", on_retry=script)
    assert main(["retry", "b3os", run_id, *WAIT, "--json"]) == code
    result = json.loads(capsys.readouterr().out)
    assert result["run_id"] != run_id
    assert result["details"]["sourceRunId"] == run_id


@pytest.mark.parametrize(("answer", "sent"), [("y\n", ["retry"]), ("n\n", []), ("\n", []), ("", [])])
def test_retry_asks_on_a_terminal_first(
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: str,
    sent: list[str],
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    assert main(["retry", "b3os", made(server, "b3os", "failed")]) == 0
    assert "costs what a run costs. [y/N]" in capsys.readouterr().err
    assert posts(server) == sent


def test_retry_with_yes_asks_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(""))
    assert main(["retry", "b3os", made(server, "b3os", "failed"), "--yes"]) == 0
    assert "[y/N]" not in capsys.readouterr().err
    assert posts(server) == ["retry"]


def test_retry_of_a_run_that_has_not_failed_exits_4_and_names_the_state(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["retry", "b3os", made(server, "b3os", "succeeded")]) == 4
    assert "is success (succeeded), and only one that failed can be retried" in capsys.readouterr().err
    assert posts(server) == []


def test_retry_whose_answer_is_lost_exits_4_with_the_candidates_and_sends_no_second_one(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = made(server, "b3os", "failed")
    server.emulator.add_fault(kind="reset", when="after", provider="b3os", action="retry")
    assert main(["retry", "b3os", run_id]) == 4
    (candidate,) = {run["run_id"] for run in server.emulator.runs(provider="b3os")} - {run_id}
    assert candidate in capsys.readouterr().err
    assert posts(server) == ["retry"]


# --- both ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["resume", "b3os", "run_1"], "documents no way to resume a run"),
        (["retry", "nexio", "run_1"], "documents no way to retry a run"),
        (["resume", "onepin", "3f2504e0-4f89-41d3-9a0c-0305e82c3301"], "--workflow-id"),
        (["resume", "onepin", "x", *AT, "--timeout", "soon"], "--timeout"),
        (["retry", "b3os", "run_1", "--on-outcome", "failed=laugh"], "laugh"),
    ],
)
def test_what_can_never_work_is_a_usage_error_and_nothing_is_sent(
    server: Server, capsys: pytest.CaptureFixture[str], argv: list[str], said: str
) -> None:
    assert main(argv) == 2
    assert said in capsys.readouterr().err
    assert server.emulator.requests() == []


def test_the_parser_which_loads_no_core_has_the_defaults_of_the_core() -> None:
    assert arguments.SUBMIT_GRACE == options.SUBMIT_GRACE
    assert arguments.ON_CONFLICT == options.ON_CONFLICT
