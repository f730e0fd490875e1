"""A wait that goes on in another process: its clocks hold over the change, and none of them ends it too early."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from runops.core import PollingError, RunNotFound, RunRef, TransientError, find
from runops.core.declaration.decode import Observation
from runops.core.waiting.options import WaitOptions
from runops.core.waiting.state import FRESH, WaitProgress, WaitState

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()
PARENTS = {"onepin": {"workflow_id": "w_1"}}


def ref(provider: str) -> RunRef:
    return find(provider).ref("r_1", PARENTS.get(provider))


def look(provider: str, **fields: Any) -> Observation:
    declared = find(provider)
    body = declared.body.model_validate({"run_id": "r_1", "id": "r_1", "status": "running", **fields})
    return declared.reader.observe(ref(provider), body)


def part(provider: str, past: WaitProgress, *, began: float = NOW, **patience: Any) -> WaitState:
    declared = find(provider)
    clocks = WaitOptions.build(declared, now=NOW, **patience)
    return WaitState(declared, ref(provider), clocks, began=began, past=past)


def handed_over(past: WaitProgress, *, at: float, read_at: float | None = None) -> WaitProgress:
    """What another process reads of a past that was written down."""
    return WaitProgress.from_dict(json.loads(json.dumps(past.to_dict(at))), at if read_at is None else read_at)


def stamp(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat()


def test_max_paused_counts_over_both_parts() -> None:
    past = WaitProgress()
    part("b3os", past).observed(look("b3os", status="waiting"), NOW + 2)
    second = part("b3os", handed_over(past, at=NOW + 10), began=NOW + 12, max_paused=60)
    second.observed(look("b3os", status="waiting"), NOW + 12)
    assert second.expired(NOW + 61) is None
    ended = second.expired(NOW + 62)
    assert ended is not None
    assert ended.ended_by == "max_paused"


def test_a_clock_that_was_written_down_long_ago_begins_anew_and_never_ends_a_wait_too_early() -> None:
    past = WaitProgress(began=NOW, seen=True, failing_since=NOW, parked_since=NOW, provisional_since=NOW)
    late = handed_over(past, at=NOW, read_at=NOW + FRESH + 1)
    assert late == WaitProgress(began=NOW, seen=True)
    assert handed_over(past, at=NOW, read_at=NOW + FRESH) == past
    assert handed_over(past, at=NOW + 100, read_at=NOW) == WaitProgress(began=NOW, seen=True)


def test_where_the_provider_says_since_when_a_run_is_paused_a_restart_changes_nothing() -> None:
    past = WaitProgress(began=NOW, seen=True)
    paused = look("onepin", status="paused", paused_at=stamp(NOW + 100))
    after_a_restart = part("onepin", handed_over(past, at=NOW, read_at=NOW + 500), began=NOW + 500, max_paused=600)
    after_a_restart.observed(paused, NOW + 500)
    assert after_a_restart.expired(NOW + 699) is None
    assert after_a_restart.expired(NOW + 700) is not None


@pytest.mark.parametrize(
    ("told", "counts_from"),
    [(NOW - 5000, NOW), (NOW + 50, NOW + 50), (NOW + 5000, NOW + 100), (None, NOW + 100)],
    ids=["before the wait began", "since", "in a future of another clock", "not told"],
)
def test_a_pause_counts_within_the_wait_only(told: float | None, counts_from: float) -> None:
    past = WaitProgress(began=NOW)
    paused = look("onepin", status="paused", paused_at=None if told is None else stamp(told))
    part("onepin", past).observed(paused, NOW + 100)
    assert past.parked_since == counts_from


def test_a_run_that_an_earlier_part_saw_does_not_vanish() -> None:
    past = WaitProgress()
    part("nexio", past).observed(look("nexio", status="processing"), NOW)
    gone = RunNotFound("no such run", status=404)
    second = part("nexio", handed_over(past, at=NOW + 10, read_at=NOW + 5000), began=NOW + 5000)
    second.failed(gone, NOW + 5000)
    second.failed(gone, NOW + 5300)
    with pytest.raises(PollingError):
        second.failed(gone, NOW + 5900)


def test_reads_that_failed_before_count_in_the_error_budget() -> None:
    past, down = WaitProgress(), TransientError("down")
    part("nexio", past).failed(down, NOW + 3)
    second = part("nexio", handed_over(past, at=NOW + 10), began=NOW + 11, error_budget=60)
    second.failed(down, NOW + 62)
    with pytest.raises(PollingError, match="for 60 s"):
        second.failed(down, NOW + 63)


def test_a_good_read_in_between_ends_the_count() -> None:
    past, down = WaitProgress(failing_since=NOW), TransientError("down")
    second = part("nexio", past, error_budget=60)
    second.observed(look("nexio", status="processing"), NOW + 50)
    second.failed(down, NOW + 70)
    assert past.failing_since == NOW + 70


def test_a_late_result_is_waited_for_once_over_both_parts() -> None:
    past = WaitProgress()
    provisional = look("nyx", status="completed", completed_at=stamp(NOW))
    assert part("nyx", past).observed(provisional, NOW) is None
    second = part("nyx", handed_over(past, at=NOW + 10), began=NOW + 12)
    assert second.observed(provisional, NOW + 59) is None
    last = second.observed(provisional, NOW + 60)
    assert last is not None
    assert last.outcome == "failed"


def test_an_old_run_is_looked_at_as_seldom_after_a_restart_as_before() -> None:
    young, old = part("nexio", WaitProgress()), part("nexio", WaitProgress(began=NOW - 100_000))
    for each in (young, old):
        each.observed(look("nexio", status="processing"), NOW)
    assert old.pause(NOW) > 2 * young.pause(NOW)


def test_where_nothing_is_written_down_a_wait_begins() -> None:
    assert WaitProgress.from_dict(None, 0.0) == WaitProgress()
