"""What a good end is, on the command line: ``get``, ``watch``, ``submit --wait`` and ``explain``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from runops.cli import main
from runops.core import PROVIDERS
from runops.emulator.server import Server, running
from tests.good_ends import SERVICES, WRONG
from tests.services import PARENTS

pytestmark = pytest.mark.http

FAST = ("--poll-interval", "0.05")
AUDIT = [
    "submit", "nyx", "--config-name", "nightly", "--name", "n", "--target", '{"url": "https://a.example.com"}',
    "--objective", "o", "--budget-usd", "5", "--severity-target", "high", "--wait", *FAST,
]  # fmt: skip


@pytest.fixture(scope="module")
def emulator() -> Iterator[Server]:
    with running(seed=7, seconds=0.2) as server:
        yield server


@pytest.fixture
def server(emulator: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    emulator.emulator.reset()
    for name, provider in PROVIDERS.items():
        monkeypatch.setenv(provider.key_variable, "k")
        monkeypatch.setenv(f"{name.upper()}_BASE_URL", emulator.base_url(name))
    return emulator


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    """``run(...)``: the exit code of a command, and what it prints."""

    def call(*argv: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(argv)
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return call


def test_get_and_watch_judge_what_is_expected_and_say_what_was_not_met(server: Server, run: Any) -> None:
    run_id = server.emulator.create_run("nyx", script="succeeded", age_seconds=60)
    for command in ("get", "watch"):
        code, out, _ = run(command, "nyx", run_id, "--expect", "findings_count=0", "--expect", "attempts_completed>=1")
        assert (code, "not met: findings_count is 1, expected == 0" in out) == (1, True)
        code, out, _ = run(command, "nyx", run_id, "--expect", "findings_count = 0", "--on-unmet", "skip", "--json")
        result = json.loads(out)
        assert (code, result["verdict"]) == (3, "skip")
        assert result["unmet"] == {"findings_count": {"expected": "== 0", "found": 1}}
        assert run(command, "nyx", run_id, "--expect", "findings_count>0")[0] == 0


def test_a_word_is_taught(server: Server, run: Any) -> None:
    word, fields = SERVICES["nexio"].word
    run_id = server.emulator.create_run("nexio", script=[{"at": 0, "set": dict(fields)}])
    assert run("get", "nexio", run_id)[0] == 4
    for command in ("get", "watch"):
        assert run(command, "nexio", run_id, "--state", f"{word}=degraded")[0] == 3


@pytest.mark.parametrize("limit", [("--max-spend", "0.4"), ("--max-stalled", "0.2")])
def test_a_limit_ends_a_watch_and_cancels_only_what_the_command_has_started(
    server: Server, run: Any, limit: tuple[str, str]
) -> None:
    ended_by = limit[0].removeprefix("--").replace("-", "_")
    run_id = server.emulator.create_run("nyx", script="running")
    code, out, _ = run("watch", "nyx", run_id, *limit, *FAST, "--json")
    assert (code, json.loads(out)["ended_by"]) == (1, ended_by)
    assert server.emulator.requests(action="cancel") == []
    server.emulator.set_defaults(provider="nyx", script="running")
    code, out, err = run(*AUDIT, *limit, "--json")
    assert (code, json.loads(out)["ended_by"]) == (1, ended_by)
    assert len(server.emulator.requests(action="cancel")) == 1
    assert "asked to stop it" in err


def test_explain_names_the_word_the_expectations_and_the_rule(server: Server, run: Any) -> None:
    run_id = server.emulator.create_run("nyx", script="succeeded", age_seconds=60)
    code, out, _ = run("explain", "nyx", run_id, "--expect", "findings_count=0", "--expect", "result=success")
    assert code == 1
    assert "'completed+success' means succeeded: the provider documents it" in out
    assert "expect findings_count == 0: found 1, not met" in out
    assert "expect result == 'success': found 'success', met" in out
    assert "verdict fail by the rule expect" in out
    for said, rule in (
        ((), "default"),
        (("--on-outcome", "succeeded=warn"), "on_outcome"),
        (("--expect", "findings_count=0"), "expect"),
    ):
        assert json.loads(run("explain", "nyx", run_id, "--json", *said)[1])["rule"] == rule
    failed = server.emulator.create_run("nyx", script="failed", age_seconds=60)
    code, out, _ = run("explain", "nyx", failed, "--soft-fail", "--json")
    assert (code, json.loads(out)["rule"]) == (3, "soft_fail")


def test_explain_says_of_a_run_that_goes_on_what_a_clock_or_limit_would_do(server: Server, run: Any) -> None:
    run_id = server.emulator.create_run("nyx", script="running", age_seconds=60)
    code, out, _ = run("explain", "nyx", run_id)
    assert (code, "no verdict yet" in out) == (0, True)
    told = json.loads(run("explain", "nyx", run_id, "--on-outcome", "timed_out=warn", "--json")[1])
    assert (told["verdict"], told["if_timed_out"]["verdict"]) == (None, "warn")
    code, out, _ = run("explain", "nyx", run_id, "--max-spend", "0.4")
    assert (code, "max_spend ends the wait: 0.41 of at most 0.4 USD are spent" in out) == (1, True)
    told = json.loads(run("explain", "nyx", run_id, "--max-stalled", "0.001", "--json")[1])
    assert (told["outcome"], told["ended_by"]) == ("timed_out", "max_stalled")


def test_explain_names_a_taught_word_and_one_that_nobody_knows(server: Server, run: Any) -> None:
    going = server.emulator.create_run("nexio", script=[{"at": 0, "set": {"status": "reviewing"}}])
    assert "no documentation has it, so it counts as running" in run("explain", "nexio", going)[1]
    told = json.loads(run("explain", "nexio", going, "--state", "reviewing=waiting", "--json")[1])
    assert (told["word"], told["word_is"]) == ("reviewing", "taught")
    over = server.emulator.create_run("nexio", script=[{"at": 0, "set": dict(SERVICES["nexio"].word[1])}])
    code, _, err = run("explain", "nexio", over)
    assert (code, "states=" in err) == (4, True)


@pytest.mark.parametrize(("provider", "said", "texts"), WRONG)
def test_what_is_wrong_is_a_usage_error_and_nothing_is_sent(
    server: Server, run: Any, provider: str, said: dict[str, Any], texts: tuple[str, ...]
) -> None:
    from tests.explained import arguments

    line = arguments(provider, "r", PARENTS.get(provider, {}), said)
    for command in ("explain", "watch"):
        code, _, err = run(command, *line[1:])
        assert code == 2
        # Of a limit the option is named; and a sign that is none in Python is a part of the condition here.
        if not any(name.startswith("max_") for name in said) and "=> 1" not in str(said):
            assert all(text in err for text in texts)
    assert server.emulator.requests() == []


@pytest.mark.parametrize("condition", ["findings_count", "=1", "findings count = 1"])
def test_a_condition_that_cannot_be_read_is_a_usage_error(server: Server, run: Any, condition: str) -> None:
    code, _, err = run("get", "nyx", "r", "--expect", condition)
    assert (code, "--expect takes a condition such as" in err) == (2, True)
