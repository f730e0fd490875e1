"""The commands about a run, with a client in place of a service: what is asked, shown, and exited with."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

import pytest
from pytest_mock import MockerFixture

from runops.cli import commands, main, notes, settings
from runops.cli.bars import Bars
from runops.cli.display import JsonLines, Lines
from runops.core import Outcome, OutcomePolicy, RunopsError, RunRef, RunSnapshot, find
from runops.core.waiting import flows

NYX, NEXIO = find("nyx"), find("nexio")
REF = NYX.ref("r1")


class Client:
    """One that notes what it is asked."""

    provider = NYX
    root = "https://nyx.test"

    def __init__(self, snapshot: RunSnapshot | None = None, error: Exception | None = None) -> None:
        self.snapshot, self.error = snapshot, error
        self.cancelled: list[RunRef] = []

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def clock(self) -> float:
        return 1000.0

    def drive(self, flow: Any) -> Any:
        return self.snapshot

    def cancel(self, ref: RunRef) -> None:
        self.cancelled.append(ref)
        if self.error:
            raise self.error


@pytest.fixture
def connected(mocker: MockerFixture) -> Callable[..., Client]:
    def connect(*given: Any, **more: Any) -> Client:
        made = Client(*given, **more)
        mocker.patch.object(settings, "connect", return_value=made)
        return made

    return connect


def end(outcome: str | None = "failed", **about: Any) -> RunSnapshot:
    return RunSnapshot(ref=REF, state="done", outcome=None if outcome is None else Outcome(outcome), **about)


@pytest.mark.parametrize(("outcome", "code"), [("failed", 1), ("succeeded", 0), ("degraded", 3), (None, 0)])
@pytest.mark.parametrize("form", [(), ("--json",)], ids=["lines", "json"])
def test_get_reads_what_is_expected_of_a_run_and_shows_its_verdict(
    connected: Any,
    mocker: MockerFixture,
    capsys: pytest.CaptureFixture[str],
    outcome: str | None,
    code: int,
    form: tuple[str, ...],
) -> None:
    connected(end(outcome, url="https://p.example", details={"findings_count": 1}))
    asked = mocker.spy(flows, "get")
    waiting = mocker.spy(notes, "waiting_for")
    soft = ("--on-outcome", "degraded=skip", "--expect", "findings_count>=0", "--on-unmet", "warn")
    assert main(["get", "nyx", "r1", *soft, *form]) == (0 if outcome == "succeeded" else code)
    ((provider, ref, wanted), _) = asked.call_args
    assert (provider, ref, set(wanted)) == (NYX, REF, {"findings_count"})
    waiting.assert_called_once_with(NYX, "https://nyx.test")
    told = capsys.readouterr().out
    if form:
        assert json.loads(told)["outcome"] == outcome
    else:
        assert told.startswith("nyx run r1: done")
        assert told.splitlines()[-1] == "  https://p.example"


def test_cancel_asks_the_provider_and_says_so(
    connected: Any, mocker: MockerFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    client = connected()
    waiting = mocker.spy(notes, "waiting_for")
    assert main(["cancel", "nyx", "r1"]) == 0
    assert (client.cancelled, capsys.readouterr().out) == ([REF], f"{REF}: the provider was asked to stop it\n")
    assert main(["cancel", "nyx", "r1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["run_id"], told["state"], told["url"]) == ("r1", None, NYX.url(REF))
    waiting.assert_called_with(NYX, "https://nyx.test")
    assert main(["cancel", "nexio", "r1"]) == 2
    assert "Nexio documents no way to cancel a run. [not-supported]" in capsys.readouterr().err
    assert len(client.cancelled) == 2


@pytest.mark.parametrize(
    ("ended_by", "error", "said"),
    [
        ("max_stalled", None, f"runops: {REF}: the provider was asked to stop it\n"),
        ("max_spend", None, f"runops: {REF}: the provider was asked to stop it\n"),
        ("max_spend", RunopsError("It is gone."), f"runops: {REF} could not be cancelled and may go on: "),
        ("timeout", None, ""),
        (None, None, ""),
    ],
)
def test_a_run_of_our_own_that_reached_a_limit_is_stopped(
    connected: Any,
    mocker: MockerFixture,
    capsys: pytest.CaptureFixture[str],
    ended_by: Any,
    error: Exception | None,
    said: str,
) -> None:
    client = connected(error=error)
    waiting = mocker.spy(notes, "waiting_for")
    ends = [None, end("timed_out", ended_by=ended_by), end()]
    commands.stop_what_reached_a_limit(NYX, ends)
    assert client.cancelled == ([REF] if said else [])
    told = capsys.readouterr().err
    assert told.startswith(said) if said else told == ""
    if error:
        assert "It is gone." in told
    if said:
        waiting.assert_called_once_with(NYX, "https://nyx.test")
    commands.stop_what_reached_a_limit(NEXIO, ends)
    assert len(client.cancelled) == bool(said)


@pytest.mark.parametrize("own", [False, True])
def test_a_wait_has_its_clocks_its_display_and_the_worst_of_its_ends(mocker: MockerFixture, own: bool) -> None:
    clock = {"timeout": "70", "error_budget": "60", "auth_grace": "50", "poll_interval": "40"}
    limits = dict.fromkeys(("max_paused", "max_stalled", "max_spend"))
    verdicts = {"on_outcome": [], "expect": [], "on_unmet": "fail"}
    options = argparse.Namespace(**clock, **limits, **verdicts, json=True)
    client = mocker.patch.object(settings, "connect_async").return_value
    client.clock.return_value = 1000.0
    ends = [end("succeeded"), None, end("failed")]
    watched = mocker.patch.object(commands, "watch_runs", return_value=ends)
    stopped = mocker.patch.object(commands, "stop_what_reached_a_limit")
    assert commands.wait_for(NYX, [REF], options, own=own) == 4
    asked, refs, clocks, display, policy = watched.call_args.args
    assert (asked, refs, clocks.deadline) == (client, [REF], 1070.0)
    assert isinstance(display, JsonLines)
    assert policy == settings.policy(NYX, options)
    assert stopped.call_args_list == ([mocker.call(NYX, ends)] if own else [])
    watched.return_value = [ends[0], ends[2]]
    assert commands.wait_for(NYX, [REF], options) == 1
    assert stopped.call_count == own


@pytest.mark.parametrize(
    ("as_json", "terminal", "term", "kind"),
    [
        (True, True, "xterm", JsonLines),
        (False, True, "xterm", Bars),
        (False, True, None, Bars),
        (False, True, "dumb", Lines),
        (False, False, "xterm", Lines),
    ],
)
def test_the_display_is_that_of_the_output(
    mocker: MockerFixture, monkeypatch: pytest.MonkeyPatch, as_json: bool, terminal: bool, term: str | None, kind: Any
) -> None:
    mocker.patch("sys.stdout.isatty", return_value=terminal)
    monkeypatch.delenv("TERM", raising=False)
    if term:
        monkeypatch.setenv("TERM", term)
    assert type(commands.display_for(NYX, [REF], OutcomePolicy.build(), as_json=as_json)) is kind


def test_each_run_is_watched_once_and_in_the_order_that_was_given(mocker: MockerFixture) -> None:
    waited = mocker.patch.object(commands, "wait_for", return_value=3)
    assert main(["watch", "nyx", "r2", "r1", "r2", "--state", "odd=failed"]) == 3
    ((provider, refs, options), how) = waited.call_args
    assert (refs, how) == ([NYX.ref("r2"), NYX.ref("r1")], {})
    assert "odd" in provider.states.known
    assert options.command == "watch"


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["lines", "json"])
def test_states_shows_a_provider_or_all_with_columns_as_wide_as_they_must_be(
    mocker: MockerFixture, capsys: pytest.CaptureFixture[str], form: tuple[str, ...]
) -> None:
    rows = [("A", "a-long-word", "m", "v"), ("Bee", "b", "meaning of it", "verdict of it")]
    shown = mocker.patch.object(commands.tables, "all_states", return_value=rows)
    assert main(["states", *form]) == 0
    told = capsys.readouterr().out
    if form:
        assert json.loads(told)[0] == {"provider": "A", "word": "a-long-word", "meaning": "m", "verdict": "v"}
    else:
        assert told.splitlines() == [
            "provider  word         meaning        verdict",
            "A         a-long-word  m              v",
            "Bee       b            meaning of it  verdict of it",
        ]
    shown.assert_called_once_with()
    main(["states", "nyx", *form])
    assert shown.call_args.args == ([NYX],)
