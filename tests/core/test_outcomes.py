"""Every documented answer of every provider ends as the documentation says: one look and a whole wait, both clients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from runops.core import Outcome, Phase, UnknownStateError

# provider, payload, state, phase or outcome, reason
DOCUMENTED = [
    ("nexio", "queued", "queued", Phase.QUEUED, None),
    ("nexio", "processing", "processing", Phase.RUNNING, None),
    ("nexio", "completed", "completed", Outcome.SUCCEEDED, None),
    ("nexio", "completed_placement", "completed", Outcome.SUCCEEDED, None),
    ("nexio", "degraded", "degraded", Outcome.DEGRADED, "one carrier did not answer"),
    ("nexio", "degraded_without_output", "degraded", Outcome.DEGRADED, None),
    ("nexio", "failed", "failed", Outcome.FAILED, "The engine could not evaluate the input"),
    ("nexio", "failed_with_nulls", "failed", Outcome.FAILED, None),
    ("nexio", "bare", "completed", Outcome.SUCCEEDED, None),
    ("nyx", "queued", "queued", Phase.QUEUED, None),
    ("nyx", "running", "running", Phase.RUNNING, None),
    ("nyx", "running_early_success", "running", Phase.RUNNING, None),
    ("nyx", "queued_early_error", "queued", Phase.QUEUED, None),
    ("nyx", "bare", "running", Phase.RUNNING, None),
    ("nyx", "completed_success", "completed", Outcome.SUCCEEDED, None),
    ("nyx", "completed_exhausted", "completed", Outcome.EXHAUSTED, "The budget is spent and nothing was found."),
    ("nyx", "completed_error", "completed", Outcome.FAILED, "The run is completed, but its result is error."),
    ("nyx", "completed_no_result", "completed", Phase.RUNNING, None),
    ("nyx", "failed_success", "failed", Outcome.FAILED, "The run failed although its result is success."),
    ("nyx", "failed_exhausted", "failed", Outcome.EXHAUSTED, "The budget is spent and nothing was found."),
    ("nyx", "failed_error", "failed", Outcome.FAILED, "The run's result is error."),
    ("nyx", "failed_no_result", "failed", Outcome.FAILED, None),
    ("nyx", "cancelled_no_result", "cancelled", Outcome.CANCELLED, None),
    ("nyx", "cancelled_success", "cancelled", Outcome.CANCELLED, None),
    ("nyx", "cancelled_exhausted", "cancelled", Outcome.CANCELLED, None),
    ("nyx", "cancelled_error", "cancelled", Outcome.CANCELLED, None),
    ("onepin", "pending", "pending", Phase.QUEUED, None),
    ("onepin", "running", "running", Phase.RUNNING, None),
    ("onepin", "running_with_nodes", "running", Phase.RUNNING, None),
    ("onepin", "pausing", "running", Phase.PAUSED, "user"),
    ("onepin", "paused", "paused", Phase.PAUSED, "The voice provider does not answer"),
    ("onepin", "completed", "completed", Outcome.SUCCEEDED, None),
    ("onepin", "failed", "failed", Outcome.FAILED, "Node node-6 failed: the voice is not available"),
    ("onepin", "cancelled", "cancelled", Outcome.CANCELLED, None),
    ("onepin", "bare", "pending", Phase.QUEUED, None),
    ("b3os", "page_sample", "running", Phase.RUNNING, None),
    ("b3os", "running", "running", Phase.RUNNING, None),
    ("b3os", "running_code_0", "running", Phase.RUNNING, None),
    ("b3os", "waiting", "waiting", Phase.WAITING, None),
    ("b3os", "success", "success", Outcome.SUCCEEDED, None),
    ("b3os", "failure_summary", "failure", Outcome.FAILED, None),
    ("b3os", "failure_full", "failure", Outcome.FAILED, "swap (send-token): insufficient funds for gas"),
    ("b3os", "cancelled", "cancelled", Outcome.CANCELLED, None),
    ("b3os", "bare", "success", Outcome.SUCCEEDED, None),
    *[
        ("nekt", f"{shape}{word}", word, meaning, None)
        for shape in ("", "flat_")
        for word, meaning in {
            "queued": Phase.QUEUED,
            "running": Phase.RUNNING,
            "cancelling": Phase.STOPPING,
            "success": Outcome.SUCCEEDED,
            "failed": Outcome.FAILED,
            "canceled": Outcome.CANCELLED,
        }.items()
    ],
    ("nekt", "flat_pending_events", "pending_events", Phase.WAITING, None),
    ("nekt", "bare", "success", Outcome.SUCCEEDED, None),
]


@pytest.mark.parametrize(("provider", "name", "state", "status", "reason"), DOCUMENTED, ids=lambda v: str(v or "-"))
def test_every_documented_answer_reads_as_documented(
    runs_of: Callable[..., Any],
    payload: Callable[[str, str], Any],
    provider: str,
    name: str,
    state: str,
    status: Phase | Outcome,
    reason: str | None,
) -> None:
    runs = runs_of(provider)
    body = payload(provider, name)
    runs.emulator.add_fault(kind="json", provider=provider, body=body, count=None)
    ref = runs.ref_of(body)

    snapshot = runs("get", ref)

    assert (snapshot.state, snapshot.status, snapshot.reason) == (state, status, reason)
    assert (snapshot.phase is None) != (snapshot.outcome is None)
    if isinstance(status, Outcome):
        assert runs("wait", ref) == snapshot
    else:
        last = runs("wait", ref, 30)
        assert (last.outcome, last.state, last.ended_by) == (Outcome.TIMED_OUT, state, "timeout")


def test_every_payload_file_is_in_the_table() -> None:
    from pathlib import Path

    folder = Path(__file__).resolve().parents[1] / "payloads"
    files = {(path.parent.name, path.stem) for path in folder.glob("*/*.json")}
    assert {(provider, name) for provider, name, *_ in DOCUMENTED} == {
        (provider, name) for provider, name in files if provider != "emulator_schemas"
    }


FUNDS = "swap (send-token): insufficient funds for gas"
# provider, script of the emulator, last state, outcome, reason
ENDS = [
    ("nexio", "succeeded", "completed", Outcome.SUCCEEDED, None),
    ("nexio", "placement", "completed", Outcome.SUCCEEDED, None),
    ("nexio", "degraded", "degraded", Outcome.DEGRADED, "one carrier did not answer"),
    ("nexio", "degraded_without_output", "degraded", Outcome.DEGRADED, None),
    ("nexio", "failed", "failed", Outcome.FAILED, "The engine could not evaluate the input"),
    ("nexio", "failed_without_error", "failed", Outcome.FAILED, None),
    ("nyx", "succeeded", "completed", Outcome.SUCCEEDED, None),
    ("nyx", "exhausted", "completed", Outcome.EXHAUSTED, "The budget is spent and nothing was found."),
    ("nyx", "exhausted_failed", "failed", Outcome.EXHAUSTED, "The budget is spent and nothing was found."),
    ("nyx", "failed", "failed", Outcome.FAILED, "The run's result is error."),
    ("nyx", "failed_without_result", "failed", Outcome.FAILED, None),
    ("nyx", "failed_success", "failed", Outcome.FAILED, "The run failed although its result is success."),
    ("nyx", "error", "completed", Outcome.FAILED, "The run is completed, but its result is error."),
    ("nyx", "late_result", "completed", Outcome.SUCCEEDED, None),
    ("nyx", "no_result", "completed", Outcome.FAILED, "The run is completed, but no result came within 60 s."),
    ("nyx", "early_result", "completed", Outcome.EXHAUSTED, "The budget is spent and nothing was found."),
    ("nyx", "cancelled", "cancelled", Outcome.CANCELLED, None),
    ("nyx", "cancelled_success", "cancelled", Outcome.CANCELLED, None),
    ("onepin", "succeeded", "completed", Outcome.SUCCEEDED, None),
    ("onepin", "failed", "failed", Outcome.FAILED, "Node node-6 failed: the voice is not available"),
    ("onepin", "failed_without_error", "failed", Outcome.FAILED, None),
    ("onepin", "cancelled", "cancelled", Outcome.CANCELLED, None),
    ("onepin", "paused_then_succeeded", "completed", Outcome.SUCCEEDED, None),
    ("b3os", "succeeded", "success", Outcome.SUCCEEDED, None),
    ("b3os", "failed", "failure", Outcome.FAILED, FUNDS),
    ("b3os", "failed_message", "failure", Outcome.FAILED, "swap (send-token): the target contract reverted"),
    (
        "b3os",
        "failed_secret",
        "failure",
        Outcome.FAILED,
        "swap (send-token): POST [removed] failed for [removed] with token [removed]",
    ),
    ("b3os", "failed_odd_result", "failure", Outcome.FAILED, "swap (send-token)"),
    ("b3os", "failed_without_state", "failure", Outcome.FAILED, None),
    ("b3os", "cancelled", "cancelled", Outcome.CANCELLED, None),
    ("b3os", "waiting_then_succeeded", "success", Outcome.SUCCEEDED, None),
    ("b3os", "empty_times", "success", Outcome.SUCCEEDED, None),
    ("nekt", "succeeded", "success", Outcome.SUCCEEDED, None),
    ("nekt", "failed", "failed", Outcome.FAILED, None),
    ("nekt", "cancelled", "canceled", Outcome.CANCELLED, None),
    ("nekt", "pending_events_then_succeeded", "success", Outcome.SUCCEEDED, None),
    *[
        (provider, script, word, Outcome.SUCCEEDED, None)
        for provider, word in {
            "nexio": "completed",
            "nyx": "completed",
            "onepin": "completed",
            "b3os": "success",
            "nekt": "success",
        }.items()
        for script in ("unknown_word", "bare", "unreadable_times")
    ],
]


@pytest.mark.parametrize(("provider", "script", "state", "outcome", "reason"), ENDS, ids=lambda v: str(v or "-"))
def test_a_wait_ends_as_the_run_does(
    runs_of: Callable[..., Any], provider: str, script: str, state: str, outcome: Outcome, reason: str | None
) -> None:
    runs = runs_of(provider)
    last = runs("wait", runs.made(script=script), 600)
    assert (last.state, last.outcome, last.reason, last.run_ended) == (state, outcome, reason, True)


@pytest.mark.parametrize("shape", ["pipeline", "flat"])
def test_a_nekt_run_is_followed_to_its_end_in_both_shapes(runs_of: Callable[..., Any], shape: str) -> None:
    runs = runs_of("nekt")
    last = runs("wait", runs.made(script="succeeded", shape=shape), 600)
    assert (last.state, last.outcome) == ("success", Outcome.SUCCEEDED)
    assert last.finished_at is not None


@pytest.mark.parametrize(
    ("provider", "script", "state"),
    [
        ("nexio", "forever", "processing"),
        ("nyx", "forever", "running"),
        ("onepin", "forever", "running"),
        ("onepin", "paused", "paused"),
        ("onepin", "pausing", "running"),
        ("b3os", "forever", "running"),
        ("b3os", "waiting", "waiting"),
        ("nekt", "forever", "running"),
        ("nekt", "cancelling", "cancelling"),
        ("nekt", "pending_events", "pending_events"),
    ],
)
def test_a_run_that_never_ends_times_out_and_is_not_called_over(
    runs_of: Callable[..., Any], provider: str, script: str, state: str
) -> None:
    runs = runs_of(provider)
    last = runs("wait", runs.made(script=script), 300)
    assert (last.state, last.outcome, last.run_ended, last.ended_by) == (state, Outcome.TIMED_OUT, False, "timeout")
    assert repr(state) in last.reason
    assert runs.clock.passed == pytest.approx(300, abs=1)


@pytest.mark.parametrize(
    ("provider", "script"),
    [("onepin", "paused"), ("onepin", "pausing"), ("b3os", "waiting"), ("nekt", "pending_events")],
)
def test_max_paused_bounds_a_pause_and_not_the_whole_wait(
    runs_of: Callable[..., Any], provider: str, script: str
) -> None:
    runs = runs_of(provider)
    last = runs("wait", runs.made(script=script), 3600, max_paused=40)
    assert (last.outcome, last.ended_by, last.run_ended) == (Outcome.TIMED_OUT, "max_paused", False)
    assert 40 <= runs.clock.passed <= 80


@pytest.mark.parametrize("provider", ["nexio", "nyx", "onepin", "b3os", "nekt"])
def test_an_unknown_word_counts_as_running_warns_once_and_is_named_at_the_deadline(
    runs_of: Callable[..., Any], caplog: pytest.LogCaptureFixture, provider: str
) -> None:
    word = {
        "nexio": "reviewing",
        "nyx": "awaiting_operator",
        "onepin": "rendering",
        "b3os": "retrying",
        "nekt": "compacting",
    }[provider]
    runs = runs_of(provider)
    last = runs("wait", runs.made(script="unknown_word_forever"), 200)
    assert (last.outcome, last.state) == (Outcome.TIMED_OUT, word)
    assert word in last.reason
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert word in warnings[0]


@pytest.mark.parametrize("provider", ["nexio", "nyx", "onepin", "b3os", "nekt"])
def test_an_unknown_word_with_an_end_time_is_a_clear_error_at_once(runs_of: Callable[..., Any], provider: str) -> None:
    runs = runs_of(provider)
    ref = runs.made(script="unknown_word_ended")
    runs.emulator.advance(None)
    with pytest.raises(UnknownStateError, match="'archived'") as caught:
        runs("wait", ref)
    assert runs.clock.passed == 0
    assert set(caught.value.known) == set(runs.provider.states.known)


def test_an_unknown_result_on_a_terminal_status_is_a_clear_error(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("nyx")
    ref = runs.made(script="unknown_result")
    with pytest.raises(UnknownStateError, match=r"completed\+inconclusive"):
        runs("wait", ref)


def test_a_late_result_is_read_again_at_the_usual_pace(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("nyx")
    last = runs("wait", runs.made(script="no_result", seconds=1))
    assert last.outcome is Outcome.FAILED
    assert 60 <= runs.clock.passed <= 75
    assert len(runs.requests(action="get")) <= 15


@pytest.mark.parametrize("spoiler", [{"kind": "status", "status": 500}, {"kind": "gzip_bomb"}, {"kind": "html"}])
def test_a_failure_reason_that_cannot_be_read_costs_only_the_reason(
    runs_of: Callable[..., Any], spoiler: dict[str, Any]
) -> None:
    runs = runs_of("b3os")
    ref = runs.made(script="failed")
    runs.emulator.advance(None)
    runs.emulator.add_fault(provider="b3os", skip=1, count=None, **spoiler)
    last = runs("wait", ref)
    assert (last.outcome, last.reason) == (Outcome.FAILED, None)


def test_watch_yields_the_changes_and_ends_with_the_outcome(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("nexio")
    seen = [snapshot.status for snapshot in runs("watch", runs.made(script="degraded"))]
    assert seen == [Phase.QUEUED, Phase.RUNNING, Outcome.DEGRADED]


def test_what_stands_in_an_answer_stands_in_the_snapshot(
    runs_of: Callable[..., Any], payload: Callable[[str, str], Any]
) -> None:
    runs = runs_of("nyx")
    runs.emulator.add_fault(kind="json", provider="nyx", body=payload("nyx", "completed_success"))
    result = runs("get", runs.ref("r_01H2X3Y4Z5")).to_result("succeed")
    assert result == {
        "schema": 1,
        "provider": "nyx",
        "run_id": "r_01H2X3Y4Z5",
        "parents": {},
        "state": "completed",
        "outcome": "succeeded",
        "verdict": "succeed",
        "reason": None,
        "progress": {"done": 2.87, "total": 5.0, "unit": "USD"},
        "created_at": "2026-04-18T14:30:45.123000Z",
        "started_at": None,
        "finished_at": "2026-04-18T14:42:01.789000Z",
        "url": "https://app.fabraix.com/nyx/runs/r_01H2X3Y4Z5",
        "details": {
            "config_name": "playground",
            "name": "Fabraix Playground: The Gatekeeper",
            "result": "success",
            "budget_usd": 5.0,
            "spent_usd": 2.87,
            "attempts_completed": 14,
            "findings_count": 1,
        },
        "run_ended": True,
        "ended_by": None,
        "unmet": None,
    }
