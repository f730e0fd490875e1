"""Why a run gets its verdict: the word, what was expected, the rule, and what a clock would make of it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from runops.core import Outcome, OutcomePolicy, StateTable, find
from runops.core.declaration import Provider
from runops.core.model.states import StateRow
from runops.core.waiting.explanation import VerdictExplanation, explain_verdict
from runops.core.waiting.options import WaitOptions

NOW = 1_775_044_800.0
"""2026-04-01T12:00:00Z."""
TAUGHT = find("nexio").with_states({"resting": "waiting"})


def explained(
    provider: Provider | str, run: dict[str, Any], policy: OutcomePolicy | None = None, **limits: Any
) -> VerdictExplanation:
    provider = find(provider) if isinstance(provider, str) else provider
    ref = provider.ref("r", {"workflow_id": "w"} if provider.parents else None)
    whole = {"id": "r", "run_id": "r", **run}
    observation = provider.read(ref, json.dumps({"data": whole} if provider.envelope else whole).encode())
    options = WaitOptions.build(provider, now=NOW, **limits)
    return explain_verdict(provider, observation, policy or provider.policy(), options, NOW)


LATER = "no verdict yet: the run goes on; if a clock ends the wait, verdict fail by the rule "
BY_DEFAULT = "default: the verdict on timed_out is fail"


@pytest.mark.parametrize(
    ("provider", "run", "word", "source", "lines"),
    [
        (
            "nexio",
            {"status": "processing"},
            "processing",
            "documented",
            ["nexio run r: processing (running)", "'processing' means running: the provider documents it",
             LATER + BY_DEFAULT],
        ),
        (
            TAUGHT,
            {"status": "resting"},
            "resting",
            "taught",
            ["nexio run r: resting (waiting)", "'resting' means waiting: states says so", LATER + BY_DEFAULT],
        ),
        (
            "nexio",
            {"status": "odd"},
            "odd",
            "unknown",
            ["nexio run r: odd (running)",
             "'odd' means running: no documentation has it, so it counts as running until the deadline",
             LATER + BY_DEFAULT],
        ),
        (
            "nyx",
            {"status": "completed"},
            "completed",
            "documented",
            ["nyx run r: completed (running)", "'completed' means running, for up to 60 s: the provider documents it",
             LATER + BY_DEFAULT],
        ),
        (
            "nyx",
            {"status": "completed", "completed_at": "2026-04-01T11:59:00Z"},
            "completed",
            "documented",
            ["nyx run r: completed (failed), The run is completed, but no result came within 60 s.",
             "'completed' means failed: the provider documents it",
             "verdict fail by the rule default: the verdict on failed is fail"],
        ),
        (
            "nyx",
            {"status": "completed", "completed_at": "2026-04-01T11:59:00.001Z"},
            "completed",
            "documented",
            ["nyx run r: completed (running)", "'completed' means running, for up to 60 s: the provider documents it",
             LATER + BY_DEFAULT],
        ),
        (
            "nexio",
            {"status": "degraded", "output": {"degradation_reason": "few"}},
            "degraded",
            "documented",
            ["nexio run r: degraded, few", "'degraded' means degraded: the provider documents it",
             "verdict skip by the rule default: the verdict on degraded is skip"],
        ),
    ],
)  # fmt: skip
def test_a_verdict_is_explained_by_the_word_and_the_rule(
    provider: Provider | str, run: dict[str, Any], word: str, source: str, lines: list[str]
) -> None:
    found = explained(provider, run)
    assert (found.word, found.source, list(found.lines)) == (word, source, lines)


def test_what_was_expected_is_shown_beside_what_was_found() -> None:
    policy = find("nyx").policy(
        expect={"findings_count": ">= 1", "result": "success", "attempts_completed": 3}, on_unmet="warn"
    )
    run = {"status": "completed", "result": "success", "findings_count": 0}
    found = explained("nyx", run, policy)
    because = "expect is not met (findings_count is 0, expected >= 1, attempts_completed is missing, expected == 3) "
    assert found.lines[2:] == (
        "expect findings_count >= 1: found 0, not met",
        "expect result == 'success': found 'success', met",
        "expect attempts_completed == 3: it is missing, not met",
        f"verdict warn by the rule expect: {because}and on_unmet says warn",
    )
    failed = explained("nyx", {"status": "failed", "result": "error"}, policy)
    assert failed.lines[2:] == ("verdict fail by the rule default: the verdict on failed is fail",)


@pytest.mark.parametrize(
    ("provider", "run", "limits", "line", "ended_by"),
    [
        (
            "nyx", {"status": "running", "spent_usd": 5}, {"max_spend": 5},
            "max_spend ends the wait: 5 of at most 5 USD are spent", "max_spend",
        ),
        (
            "onepin", {"status": "paused", "paused_at": "2026-04-01T11:59:00Z"}, {"max_paused": 60},
            "max_paused ends the wait: paused or waiting for 60 s", "max_paused",
        ),
        (
            "nexio", {"status": "processing", "updated_at": "2026-04-01T11:59:00Z"}, {"max_stalled": 60},
            "max_stalled ends the wait: nothing has changed for 60 s of at most 60 s", "max_stalled",
        ),
    ],
)  # fmt: skip
def test_a_limit_that_is_reached_ends_the_wait(
    provider: str, run: dict[str, Any], limits: dict[str, Any], line: str, ended_by: str
) -> None:
    found = explained(provider, run, **limits)
    assert found.lines[2:] == (line, "verdict fail by the rule default: the verdict on timed_out is fail")
    assert (found.snapshot.ended_by, found.snapshot.outcome) == (ended_by, "timed_out")
    figure = line.removeprefix(f"{ended_by} ends the wait: ")
    assert (found.snapshot.reason or "").startswith(f"The wait ended ({ended_by}: {figure}); the run was last seen ")
    assert found.judgement == found.if_timed_out
    for name, limit in limits.items():
        beyond = explained(provider, run, **{name: limit + 1})
        assert (beyond.judgement, beyond.lines[2]) == (None, LATER + BY_DEFAULT)


def test_an_explanation_as_plain_data_is_the_result_and_why_it_is_that_one() -> None:
    policy = OutcomePolicy.build({"succeeded": "warn", "timed_out": "skip"})
    over = explained("nexio", {"status": "completed"}, policy).to_dict()
    by_clock = {
        "verdict": "skip", "rule": "on_outcome", "because": "on_outcome says skip for timed_out",
    }  # fmt: skip
    assert {name: over[name] for name in ("run_id", "outcome", "verdict", "word", "word_is", "rule", "because")} == {
        "run_id": "r", "outcome": "succeeded", "verdict": "warn", "word": "completed", "word_is": "documented",
        "rule": "on_outcome", "because": "on_outcome says warn for succeeded",
    }  # fmt: skip
    assert over["if_timed_out"] == by_clock
    going_on = explained("nexio", {"status": "queued"}, policy).to_dict()
    names = ("outcome", "verdict", "rule", "because", "if_timed_out")
    assert {name: going_on[name] for name in names} == {
        "outcome": None, "verdict": None, "rule": None, "because": None, "if_timed_out": by_clock,
    }  # fmt: skip


@pytest.mark.parametrize(("grace", "status"), [(0.0, "failed"), (0.5, "running"), (1.0, "running")])
def test_a_word_that_settles_has_stood_for_no_time_where_its_run_does_not_say_when_it_ended(
    grace: float, status: str
) -> None:
    words = {"done": StateRow(Outcome.FAILED, grace_seconds=grace), "ok": Outcome.SUCCEEDED}
    found = explained(replace(find("nexio"), states=StateTable(words)), {"status": "done"})
    assert found.snapshot.status == status
