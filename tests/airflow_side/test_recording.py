"""What one wait is recorded as, moment by moment: what is worth a write, what another process takes up, how it ends."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from runops.airflow.external_run import Counts, ExternalRun, Moment, iso
from runops.airflow.recording import Owed, Recording
from runops.core import Outcome, RunRef, RunSnapshot, Verdict, find
from runops.core.many.ledger import Ledger
from runops.core.many.rows import Row, RowState
from runops.core.model.policy import Judgement, Rule
from runops.core.model.run import Phase, Progress

NYX = find("nyx")
REF = RunRef(provider="nyx", run_id="r1")
AT = 1_700_000_000.0
MARK = iso(AT)


def snapshot(state: str | None = "running", **fields: Any) -> RunSnapshot:
    return RunSnapshot(**{"ref": REF, "state": state, "phase": Phase.RUNNING, **fields})


def over(outcome: Outcome = Outcome.FAILED, **fields: Any) -> RunSnapshot:
    return snapshot("completed", phase=None, outcome=outcome, **fields)


def wait(**fields: Any) -> Recording:
    """A wait that has stored once what it knew at its beginning."""
    recording = Recording(NYX, ExternalRun(**{"provider": "nyx", "run_id": "r1", "try_number": 2, **fields}), AT)
    recording.take(AT)
    return recording


def judged(verdict: Verdict, outcome: Outcome = Outcome.FAILED) -> Judgement:
    return Judgement(outcome, verdict, Rule.DEFAULT)


# --- what is seen ---


def test_a_read_is_stored_with_all_that_it_shows() -> None:
    recording = wait(url="https://nyx.example/first")
    moments = {name: datetime(2026, 5, day, tzinfo=UTC) for day, name in enumerate(("created_at", "started_at"), 1)}
    recording.observed(
        snapshot(
            "probing", reason="why", progress=Progress(done=1, total=3, unit="x"), details={"spent_usd": 0.5}, **moments
        ),
        AT + 7,
    )
    stored = recording.take(AT + 9)
    assert (stored.state, stored.phase, stored.outcome, stored.reason) == ("probing", "running", None, "why")
    assert (stored.progress, stored.details) == ({"done": 1, "total": 3, "unit": "x"}, {"spent_usd": 0.5})
    assert (stored.spend, stored.spend_unit, stored.url) == (0.5, "USD", "https://nyx.example/first")
    assert (stored.created_at, stored.started_at) == ("2026-05-01T00:00:00.000Z", "2026-05-02T00:00:00.000Z")
    assert (stored.began_at, stored.looked_at, stored.written_at) == (MARK, iso(AT + 7), iso(AT + 9))
    assert (stored.holds, stored.run_ended, stored.ended_by, stored.finished_at) == (None, False, None, None)
    assert stored.timeline == (Moment(iso(AT + 7), "probing", "running"),)


def test_a_service_that_tells_no_spend_has_none_in_any_unit() -> None:
    recording = wait()
    recording.observed(snapshot(), AT + 1)
    assert (recording.take(AT + 1).spend, recording.take(AT + 1).spend_unit) == (None, None)
    other = Recording(find("nexio"), ExternalRun(provider="nexio"), AT)
    other.observed(snapshot(details={"spent_usd": 1.0}), AT + 1)
    assert (other.take(AT + 1).spend, other.take(AT + 1).spend_unit) == (None, None)


@pytest.mark.parametrize("began_at", [None, iso(AT - 60)])
def test_a_wait_began_when_it_is_said_to_or_else_now(began_at: str | None) -> None:
    assert Recording(NYX, ExternalRun(provider="nyx", began_at=began_at), AT).take(AT).began_at == (began_at or MARK)


CHANGES: dict[str, tuple[dict[str, Any], Owed | None, int]] = {
    "nothing": ({}, None, 1),
    "its word": ({"state": "probing"}, Owed.CHANGE, 2),
    "its phase": ({"phase": Phase.STOPPING}, Owed.CHANGE, 2),
    "its reason": ({"reason": "other"}, Owed.CHANGE, 1),
    "its page": ({"url": "https://nyx.example/r1"}, Owed.CHANGE, 1),
    "its progress": ({"progress": Progress(done=2, total=3, unit="x")}, Owed.PROGRESS, 1),
    "its details": ({"details": {"stage": "b"}}, Owed.PROGRESS, 1),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_has_changed_between_two_reads_says_how_soon_it_is_written(what: str) -> None:
    fields, owed, entries = CHANGES[what]
    recording = wait()
    recording.observed(snapshot(), AT + 1)
    recording.take(AT + 1)
    recording.observed(snapshot(**fields), AT + 2)
    assert recording.owes(AT + 2) is (Owed.CHANGE if owed is Owed.CHANGE else None)
    assert recording.owes(AT + 30) is (Owed.CHANGE if owed is Owed.CHANGE else None)
    assert recording.owes(AT + 31) is owed
    assert len(recording.timeline) == entries


def test_what_was_written_is_owed_again_only_as_a_sign_of_life() -> None:
    recording = wait()
    recording.observed(snapshot(), AT + 1)
    recording.take(AT + 1)
    assert [recording.owes(AT + 1 + seconds) for seconds in (0, 30, 299.9, 300)] == [None, None, None, Owed.REFRESH]
    assert sorted(Owed) == [Owed.CHANGE, Owed.PROGRESS, Owed.REFRESH] == [0, 1, 2]


def test_how_long_nothing_was_heard_counts_from_the_begin_or_the_last_read() -> None:
    recording = wait()
    assert recording.unread_for(AT + 20) == 20
    recording.observed(snapshot(), AT + 15)
    assert recording.unread_for(AT + 20) == 5


def test_the_timeline_keeps_five_first_and_fifteen_last_changes() -> None:
    recording = wait()
    for number in range(30):
        recording.observed(snapshot(f"s{number}"), AT + number)
    words = [f"s{number}" for number in (0, 1, 2, 3, 4, *range(15, 30))]
    assert [each.state for each in recording.timeline] == words
    assert [each.state for each in recording.take(AT + 31).timeline] == words


@pytest.mark.parametrize(("phase", "holds"), [("paused", "paused"), ("waiting", "waiting"), ("running", None)])
def test_a_run_that_waits_for_somebody_is_held_up_by_that(phase: str, holds: str | None) -> None:
    recording = wait()
    recording.observed(snapshot(phase=Phase(phase)), AT + 1)
    assert recording.take(AT + 1).holds == holds


# --- what holds the wait up ---


def test_what_holds_a_wait_up_is_stored_with_its_words_until_it_does_no_more() -> None:
    recording = wait()
    recording.held("turn", "r0")
    assert recording.owes(AT) is Owed.CHANGE
    held = recording.take(AT + 1)
    assert (held.holds, held.holds_for) == ("turn", "r0")
    recording.held("turn", "r0")
    assert recording.owes(AT + 2) is None
    recording.held("turn", "r9")
    assert recording.owes(AT + 2) is Owed.CHANGE
    assert recording.take(AT + 3).holds_for == "r9"
    recording.held(None, None)
    assert recording.owes(AT + 3) is Owed.CHANGE
    after = recording.take(AT + 3)
    assert (after.holds, after.holds_for) == (None, None)


def test_a_good_read_ends_what_holds_a_wait_up_even_where_it_shows_nothing_new() -> None:
    recording, same = wait(), snapshot()
    recording.observed(same, AT + 1)
    recording.held("key", None)
    recording.take(AT + 2)
    recording.observed(same, AT + 3)
    assert recording.owes(AT + 3) is Owed.CHANGE
    stored = recording.take(AT + 3)
    assert (stored.holds, stored.looked_at) == (None, iso(AT + 3))


def test_a_run_that_is_found_ends_a_wait_for_it_and_is_stored_with_whose_it_is() -> None:
    recording = wait(run_id=None, url="https://nyx.example/list")
    recording.held("turn", "r0")
    recording.take(AT)
    recording.found(RunRef(provider="onepin", run_id="r1", parents={"workflow_id": "w"}), None, own=True, cancels=True)
    assert (recording.run_id, recording.owes(AT + 1)) == ("r1", Owed.CHANGE)
    stored = recording.take(AT + 1)
    assert (stored.own, stored.cancels, stored.parents, stored.holds) == (True, True, {"workflow_id": "w"}, None)
    assert stored.url == "https://nyx.example/list"
    again = RunRef(provider="onepin", run_id="r1", parents={"workflow_id": "w"})
    recording.found(again, "https://nyx.example/list", own=True, cancels=True)
    assert recording.owes(AT + 2) is None
    recording.found(again, "https://nyx.example/r1", own=True, cancels=False)
    stored = recording.take(AT + 2)
    assert (stored.url, stored.own, stored.cancels) == ("https://nyx.example/r1", True, False)


def test_a_run_that_was_known_already_ends_a_wait_for_a_turn_too() -> None:
    recording = wait()
    recording.held("turn", "r0")
    recording.take(AT)
    recording.found(REF, None, own=False, cancels=False)
    assert recording.owes(AT + 1) is Owed.CHANGE
    assert recording.take(AT + 1).holds is None


# --- what another process has stored ---


@pytest.mark.parametrize("hold", [None, "turn"])
def test_before_a_first_read_another_process_is_told_only_what_holds_the_wait_up(hold: Any) -> None:
    recording = wait()
    recording.held(hold, "r0" if hold else None)
    assert recording.shown() == ({"holds_for": "r0"} if hold else {})
    later = wait()
    later.assume_stored(recording.shown(), hold, AT + 10)
    later.held(hold, "r0" if hold else None)
    assert later.owes(AT + 11) is None
    assert later.owes(AT + 309) is None
    assert later.owes(AT + 310) is Owed.REFRESH


def test_after_it_another_process_is_told_how_the_run_stood() -> None:
    recording = wait()
    recording.observed(snapshot("probing"), AT + 1)
    assert recording.shown() == {"state": "probing", "status": "running"}
    later = Recording(NYX, ExternalRun(provider="nyx", run_id="r1"), AT + 5)
    later.assume_stored(recording.shown(), None, AT + 5)
    later.observed(snapshot("other"), AT + 6)
    assert later.owes(AT + 6) is Owed.CHANGE
    assert [each.state for each in later.timeline] == ["other"]


STORED = ExternalRun(
    provider="nyx", run_id="r1", try_number=2, conn_id="of_before", own=True, cancels=True, began_at=iso(AT - 90),
    looked_at=iso(AT - 30), counts=Counts(3), timeline=(Moment(iso(AT - 60), "queued", "queued"),
    Moment(iso(AT - 30), "running", "running")),
)  # fmt: skip


def test_what_an_earlier_process_of_the_try_has_stored_is_gone_on_with() -> None:
    recording = Recording(NYX, ExternalRun(provider="nyx", run_id="r1", try_number=2), AT)
    recording.take_up(STORED)
    run = recording.take(AT)
    assert (run.conn_id, run.own, run.cancels, run.counts) == ("of_before", True, False, Counts(3))
    assert (run.began_at, run.looked_at, run.timeline) == (iso(AT - 90), iso(AT - 30), STORED.timeline)


def test_what_is_known_here_wins_over_what_was_stored() -> None:
    recording = Recording(NYX, ExternalRun(provider="nyx", run_id="r1", try_number=2, conn_id="mine", own=False), AT)
    recording.observed(snapshot(), AT + 1)
    recording.counted(Ledger.of_refs([REF]).tally, AT + 1)
    recording.take_up(STORED)
    run = recording.take(AT + 1)
    assert (run.conn_id, run.looked_at) == ("mine", iso(AT + 1))
    assert run.counts is not None
    assert run.counts.total == 1
    # The state of before was seen again, which is no change.
    assert run.timeline == STORED.timeline


def test_a_change_since_comes_behind_what_was_stored_and_what_came_before_does_not() -> None:
    recording = Recording(NYX, ExternalRun(provider="nyx", run_id="r1", try_number=2), AT)
    recording.observed(snapshot("early"), AT - 45)
    recording.observed(snapshot("probing"), AT + 1)
    recording.take_up(STORED)
    assert [each.state for each in recording.timeline] == ["queued", "running", "probing"]


FOREIGN = {
    "of another try": {"try_number": 1}, "of another run": {"run_id": "r2"},
    "of a set": {"kind": "set"}, "of nothing": None,
}  # fmt: skip


@pytest.mark.parametrize("whose", FOREIGN)
def test_what_was_stored_of_something_else_is_not_taken_up(whose: str) -> None:
    from dataclasses import replace

    fields: Any = FOREIGN[whose]
    recording = Recording(NYX, ExternalRun(provider="nyx", run_id="r1", try_number=2), AT)
    recording.take_up(None if fields is None else replace(STORED, **fields))
    run = recording.take(AT)
    assert (run.conn_id, run.own, run.began_at, run.timeline) == (None, False, MARK, ())


def test_a_record_from_before_the_run_was_known_says_nothing_of_whose_it_is() -> None:
    from dataclasses import replace

    recording = Recording(NYX, ExternalRun(provider="nyx", run_id="r1", try_number=2, own=False), AT)
    recording.take_up(replace(STORED, run_id=None, began_at=None))
    run = recording.take(AT)
    assert (run.own, run.conn_id, run.began_at) == (False, "of_before", MARK)


# --- how it ends ---


@pytest.mark.parametrize("verdict", list(Verdict))
def test_an_end_is_stored_with_its_verdict(verdict: Verdict) -> None:
    recording = wait()
    recording.held("key", "k")
    assert recording.is_over is False
    end = datetime(2026, 5, 3, tzinfo=UTC)
    run = recording.ended(over(reason="broke", finished_at=end), judged(verdict), AT + 9)
    assert (run.outcome, run.phase, run.verdict, run.reason) == ("failed", None, str(verdict), "broke")
    assert (run.ended_at, run.looked_at, run.written_at) == (iso(AT + 9), iso(AT + 9), iso(AT + 9))
    assert (run.finished_at, run.run_ended, run.holds) == ("2026-05-03T00:00:00.000Z", True, None)
    assert run.timeline == (Moment(iso(AT + 9), "completed", "failed"),)
    assert recording.is_over is True


def test_an_end_by_a_clock_is_no_look_at_the_run() -> None:
    recording = wait()
    recording.observed(snapshot(), AT + 1)
    run = recording.ended(
        snapshot(phase=None, outcome=Outcome.TIMED_OUT, ended_by="timeout"), judged(Verdict.FAIL), AT + 9
    )
    assert (run.outcome, run.ended_by, run.run_ended) == ("timed_out", "timeout", False)
    assert (run.looked_at, run.ended_at) == (iso(AT + 1), iso(AT + 9))


def test_an_error_that_ends_a_wait_is_stored_by_name_and_text_over_what_the_run_said() -> None:
    recording = wait()
    recording.observed(snapshot(reason="of the run"), AT + 1)
    recording.held("key", None)
    run = recording.failed(ValueError("it\nbroke"), AT + 9)
    assert (run.error, run.reason, run.ended_at, run.holds) == ("ValueError", "it broke", iso(AT + 9), None)
    assert (run.state, run.looked_at, run.verdict) == ("running", iso(AT + 1), None)
    assert recording.is_over


def test_a_run_that_nobody_waits_for_is_stored_as_queued_and_left() -> None:
    run = wait().let_go(AT + 9)
    assert (run.phase, run.outcome, run.ended_at, run.run_ended) == ("queued", None, iso(AT + 9), False)


# --- sets ---


def tally(*rows: Row) -> Any:
    return Ledger(rows).tally


def of_set() -> Recording:
    recording = Recording(NYX, ExternalRun(provider="nyx", kind="set"), AT)
    recording.take(AT)
    return recording


def test_a_set_is_stored_with_its_counts_its_progress_and_its_spend() -> None:
    good = Row(index=0, key="a", state=RowState.ENDED, run_id="a", outcome=Outcome.SUCCEEDED, verdict=Verdict.SUCCEED,
               spend=1.5)  # fmt: skip
    bad = Row(
        index=1, key="b", state=RowState.ENDED, run_id="b", outcome=Outcome.FAILED, verdict=Verdict.FAIL, spend=2.0
    )
    lost = Row(index=2, key="c", state=RowState.UNCLEAR, error="SubmitUncertainError")
    left = Row(index=3, key="d", state=RowState.ENDED, run_id="d", ended_by="stop_early")
    open_row = Row(index=4, key="e").submitted(REF, None)
    recording = of_set()
    recording.counted(tally(good, bad, lost, left, open_row), AT + 5)
    run = recording.take(AT + 6)
    assert run.counts == Counts(5, 4, 1, {"succeeded": 1, "failed": 1}, {"succeed": 1, "fail": 1}, 1)
    assert (run.phase, run.progress) == ("running", {"done": 4, "total": 5, "unit": "runs"})
    assert (run.spend, run.spend_unit, run.looked_at) == (3.5, "USD", iso(AT + 5))


def test_counts_that_have_changed_are_written_like_progress_and_others_not() -> None:
    recording, one = of_set(), Row(index=0, key="a").submitted(REF, None)
    recording.counted(tally(one), AT + 1)
    assert (recording.owes(AT + 29), recording.owes(AT + 30)) == (None, Owed.PROGRESS)
    recording.take(AT + 30)
    recording.counted(tally(one), AT + 31)
    assert recording.owes(AT + 100) is None
    spent = Row(index=0, key="a", state=RowState.SUBMITTED, run_id="r1", spend=2.0)
    recording.counted(tally(spent), AT + 101)
    assert recording.owes(AT + 101) is Owed.PROGRESS
    assert (recording.take(AT + 101).spend, recording.take(AT + 101).spend_unit) == (2.0, "USD")


@pytest.mark.parametrize("verdict", ["succeed", "fail", None])
def test_the_end_of_a_set_has_its_verdict_and_no_phase(verdict: str | None) -> None:
    recording = of_set()
    recording.counted(tally(Row(index=0, key="a").submitted(REF, None)), AT + 1)
    run = recording.ended_as_set(verdict, AT + 2)
    assert (run.verdict, run.phase, run.ended_at, run.outcome) == (verdict, None, iso(AT + 2), None)
    assert run.counts is not None
