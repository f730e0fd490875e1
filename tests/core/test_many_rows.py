"""What a row of a set says of its run at each place where it may stand, and what a set gives to later tasks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runops.core import ConflictError, Outcome, PollingError, RunRef, RunSnapshot, SubmitUncertainError, Verdict, find
from runops.core.many.ledger import Ledger, key_of_ref
from runops.core.many.results import compact, full, summary
from runops.core.many.retry import TakenUp, take_up
from runops.core.many.rows import Row, RowState
from runops.core.many.rules import ManyRules, Requirement
from runops.core.many.schedule import MOST_WAITING, Schedule
from runops.core.many.tally import LineThrottle, Tally, amount
from runops.core.model.errors import RequestRefused, ServerTrouble
from runops.core.waiting.intent import Intent
from runops.core.waiting.turns import Turn

NYX, NEXIO, ONEPIN = find("nyx"), find("nexio"), find("onepin")
NOW = 1_800_000_000.0
REF = RunRef(provider="nyx", run_id="r_1")
MARKED, BARE = Intent("[bcdfghjklmnpq]"), Intent(None, frozenset("a"))
TURN = Turn(parent={"config_name": "c"}, since=1.0, until=9.0)
PLANNED = Row(index=0, key="k")


def ended(outcome: Outcome, row: Row | None = None, **about: Any) -> Row:
    last = RunSnapshot(ref=REF, state="x", outcome=outcome, **{"details": {"spent_usd": 2.5}, **about})
    return (row or SUBMITTED).ended(last, NYX.policy().judge(last), NYX)


SUBMITTED = PLANNED.submitted(REF, NOW + 0.06)
ATTACHED = PLANNED.submitted(REF, None, attached=True)
TIMED_OUT = ended(Outcome.TIMED_OUT, ended_by="timeout")
UNREAD = SUBMITTED.failed(PollingError(REF, 900, ServerTrouble("502")))
OUR_CANCEL = ended(Outcome.CANCELLED, SUBMITTED.cancelled())

ROWS: list[tuple[str, Row, str]] = [
    # over, running, may be alive, ours to cancel, good, a retry may change it, fails anew
    ("planned", PLANNED, "-----r-"),
    ("awaiting its turn", PLANNED.awaiting(TURN), "-----r-"),
    ("submitting", PLANNED.submitting(MARKED, NOW), "--a--r-"),
    ("submitted", SUBMITTED, "-rac-r-"),
    ("attached", ATTACHED, "-ra--r-"),
    ("asked to stop", SUBMITTED.cancelled(), "-ra--r-"),
    ("succeeded", ended(Outcome.SUCCEEDED), "o---g--"),
    ("degraded", ended(Outcome.DEGRADED), "o---g--"),
    ("failed", ended(Outcome.FAILED), "o----rf"),
    ("cancelled", ended(Outcome.CANCELLED), "o------"),
    ("timed out", TIMED_OUT, "o-ac-r-"),
    ("timed out, attached", ended(Outcome.TIMED_OUT, ATTACHED, ended_by="timeout"), "o-a--r-"),
    ("given up", SUBMITTED.given_up("stop_early", cancelled=False), "o-ac-r-"),
    ("given up and cancelled", SUBMITTED.given_up("killed", cancelled=True), "o-a--r-"),
    ("refused for good", PLANNED.failed(RequestRefused("422")), "o------"),
    ("refused by a conflict", PLANNED.failed(ConflictError("busy")), "o----r-"),
    ("refused for now", PLANNED.failed(ServerTrouble("502")), "o----r-"),
    ("unclear, marked", PLANNED.submitting(MARKED, NOW).failed(SubmitUncertainError("lost")), "o-a--r-"),
    ("unclear, unmarked", PLANNED.submitting(BARE, NOW).failed(SubmitUncertainError("lost")), "o-a----"),
    ("unread", UNREAD, "o-ac-r-"),
    ("unread for good", SUBMITTED.failed(RequestRefused("410")), "o-ac---"),
]


@pytest.mark.parametrize(("row", "said"), [case[1:] for case in ROWS], ids=[case[0] for case in ROWS])
def test_a_row_says_what_may_be_done_about_its_run(row: Row, said: str) -> None:
    told = (
        row.is_over, row.is_running, row.may_be_alive, row.ours_to_cancel, row.good, row.retry_may_change,
        row.fails_anew,
    )  # fmt: skip
    assert "".join(letter if each else "-" for letter, each in zip("oracgrf", told, strict=True)) == said


def test_what_is_known_before_a_submit_is_recorded_with_it_and_goes_with_its_answer() -> None:
    sent = PLANNED.awaiting(TURN).submitting(MARKED, NOW + 0.06, {"config_name": "c"})
    assert (sent.state, sent.intent, sent.turn, sent.submitted_at) == (RowState.SUBMITTING, MARKED, None, NOW + 0.1)
    assert (sent.parents, PLANNED.submitting(MARKED, NOW).parents) == ({"config_name": "c"}, {})
    again = sent.awaiting(TURN)
    assert (again.state, again.intent, again.turn, again.submitted_at) == (RowState.AWAITING_TURN, None, TURN, None)
    known = replace(sent, turn=TURN).submitted(RunRef(provider="onepin", run_id="r", parents={"workflow_id": "w"}), NOW)
    assert (known.intent, known.turn, known.parents) == (None, None, {"workflow_id": "w"})
    assert (SUBMITTED.submitted_at, ATTACHED.submitted_at) == (NOW + 0.1, None)
    assert (SUBMITTED.state, ATTACHED.state) == (RowState.SUBMITTED, RowState.ATTACHED)


@pytest.mark.parametrize(("mark", "ids", "kept"), [("[m]", 5, True), ("[m]", 6, False), (None, 6, True)])
def test_a_marked_submit_records_a_few_ids_at_the_most(mark: str | None, ids: int, kept: bool) -> None:
    before = Intent(mark, frozenset(map(str, range(ids))), clock=5.0)
    intent = PLANNED.submitting(before, NOW).intent
    assert intent == (before if kept else replace(before, ids_before=None))


def test_an_end_is_noted_with_what_a_person_has_to_know_of_it() -> None:
    failed = ended(Outcome.FAILED, reason="broken", url="https://example.com/1")
    assert (failed.reason, failed.url, failed.spend, failed.verdict) == (
        "broken", "https://example.com/1", 2.5, Verdict.FAIL,
    )  # fmt: skip
    assert ended(Outcome.FAILED, url=NYX.url(REF)).url is None
    good = ended(Outcome.SUCCEEDED, reason="fine", url="https://example.com/1")
    assert (good.reason, good.url) == (None, None)
    assert ended(Outcome.DEGRADED, reason="slow").reason == "slow"
    assert ended(Outcome.SUCCEEDED, SUBMITTED.spending(1.5), details={}).spend == 1.5
    last = RunSnapshot(ref=REF, state="x", outcome=Outcome.SUCCEEDED, details={"findings_count": 3}, reason="so")
    unmet = SUBMITTED.ended(last, NYX.policy(expect={"findings_count": 0}).judge(last), NYX)
    assert unmet.reason is not None
    assert unmet.reason.startswith("expect is not met (")
    assert unmet.reason.endswith(": so")


def test_an_error_is_noted_by_its_name_and_in_its_words() -> None:
    assert (UNREAD.error, UNREAD.state, UNREAD.run_id) == ("PollingError", RowState.UNREAD, "r_1")
    refused = replace(PLANNED.submitting(MARKED, NOW), turn=TURN).failed(RequestRefused("No such config."))
    assert (refused.state, refused.intent, refused.turn, refused.reason) == (
        RowState.REFUSED, None, None, "No such config.",
    )  # fmt: skip
    unclear = PLANNED.submitting(MARKED, NOW).failed(SubmitUncertainError("lost"))
    assert (unclear.state, unclear.intent) == (RowState.UNCLEAR, MARKED)


def test_a_row_that_begins_anew_knows_what_was_spent_before() -> None:
    anew = replace(ended(Outcome.FAILED), spent_before=1.0).planned_anew()
    assert anew == Row(index=0, key="k", spent_before=3.5)
    assert (anew.spent, PLANNED.spent) == (3.5, 0.0)


def test_a_row_that_is_waited_for_again_forgets_how_its_wait_ended() -> None:
    again = ended(Outcome.TIMED_OUT, ended_by="timeout", reason="late", url="https://example.com/1").waited_for_again()
    assert again == replace(SUBMITTED, spend=2.5)
    assert UNREAD.waited_for_again() == SUBMITTED
    assert ended(Outcome.TIMED_OUT, ATTACHED, ended_by="timeout").waited_for_again().state is RowState.ATTACHED


def test_a_row_stays_stopped_whoever_gives_it_up() -> None:
    stopped = SUBMITTED.cancelled().given_up("killed", cancelled=False)
    assert (stopped.stopped, stopped.ended_by, stopped.state) == (True, "killed", RowState.ENDED)
    assert not SUBMITTED.given_up("killed", cancelled=False).stopped


# --- the ledger ---------------------------------------------------------------------------------------------------


def test_the_rows_of_a_ledger_stand_at_their_index() -> None:
    with pytest.raises(ValueError, match="stand at their index"):
        Ledger([Row(index=1, key="k")])


def test_runs_that_were_given_are_waited_for_and_never_cancelled() -> None:
    parents = {"workflow_id": "w", "account": "a"}
    refs = [RunRef(provider="onepin", run_id="r1", parents=parents), RunRef(provider="onepin", run_id="r2")]
    ledger = Ledger.of_refs(refs, submitted_at=NOW)
    assert [row.key for row in ledger] == ["a/w/r1", "r2"] == [key_of_ref(ref) for ref in refs]
    assert {(row.state, row.attached, row.submitted_at) for row in ledger} == {(RowState.ATTACHED, True, NOW)}
    assert Ledger.of_refs(refs)[0].submitted_at is None


@pytest.mark.parametrize(("rows", "pages"), [(0, 0), (1, 1), (100, 1), (101, 2), (250, 3)])
def test_a_page_holds_a_hundred_rows(rows: int, pages: int) -> None:
    assert Ledger.plan(map(str, range(rows))).page_count == pages


def test_a_change_counts_once_and_is_written_where_that_is_wanted() -> None:
    ledger = Ledger.plan(["a", "b"])
    row = Row(index=1, key="b").submitted(REF, NOW)
    assert ledger.set(row, record=False)
    assert (ledger.version, ledger.take_changes().indices) == (1, frozenset())
    assert not ledger.set(row)
    assert ledger.set(row.spending(1.0))
    assert (ledger.version, ledger.tally.running) == (2, 1)
    changes = ledger.take_changes()
    assert (changes.indices, changes.version) == ({1}, 2)


def test_a_page_names_each_parent_once() -> None:
    def row(index: int, **parents: str) -> Row:
        return Row(index=index, key=str(index)).submitted(RunRef(provider="p", run_id="r", parents=parents), None)

    page = Ledger([row(0, a="1", b="2"), row(1, b="2", a="1"), row(2), row(3, a="2")]).page(0)
    assert page["parents"] == [{"a": "1", "b": "2"}, {"a": "2"}]
    assert [each.get("p") for each in page["rows"]] == [0, 0, None, 1]
    assert page["version"] == 1
    assert "parents" not in Ledger([PLANNED]).page(0)


def test_a_page_of_plans_alone_is_left_out_unless_something_was_spent() -> None:
    rows = [Row(index=index, key=str(index)) for index in range(300)]
    rows[150] = replace(rows[150], spent_before=1.0)
    rows[299] = rows[299].submitted(REF, NOW)
    assert list(Ledger(rows).to_pages()) == [1, 2]
    read = Ledger.rows_from_pages({str(number): page for number, page in Ledger(rows).to_pages().items()})
    assert [read[0].index, read[50], read[199]] == [100, rows[150], rows[299]]


# --- the whole ----------------------------------------------------------------------------------------------------


def test_the_counts_of_a_set_tell_each_place() -> None:
    rows = [replace(row, index=index) for index, (_, row, _) in enumerate(ROWS)]
    tally = Tally(rows)
    assert (tally.total, tally.over, tally.running, tally.active, tally.unsent) == (21, 15, 3, 4, 2)
    assert (tally.good, tally.bad, tally.given_up, tally.hopeless) == (2, 11, 2, 4)
    assert tally.spend == 15.0
    assert tally.line(NYX) == (
        "15/21: 1 succeeded, 1 degraded, 1 failed, 1 cancelled, 2 timed out, 3 refused, 2 unclear, 2 unread, "
        "2 given up, 3 running, 1 being submitted, 1 waiting for a turn, 15 USD"
    )
    assert tally.line(NEXIO) == tally.line() == tally.line(NYX).removesuffix(", 15 USD")
    assert tally.to_dict() == {
        "total": 21,
        "over": 15,
        "states": {
            "attached": 1, "awaiting turn": 1, "ended": 8, "planned": 1, "refused": 3, "submitted": 2,
            "submitting": 1, "unclear": 2, "unread": 2,
        },
        "outcomes": {"cancelled": 1, "degraded": 1, "failed": 1, "succeeded": 1, "timed_out": 2},
        "verdicts": {"fail": 4, "skip": 1, "succeed": 1},
        "spend": 15.0,
    }  # fmt: skip
    assert Tally([PLANNED]).spend is None
    assert Tally([replace(PLANNED, spent_before=0.1), replace(SUBMITTED, spend=0.2)]).spend == 0.3


@pytest.mark.parametrize(("value", "shown"), [(3.0, "3 USD"), (1234.0, "1,234 USD"), (2.5, "2.50 USD")])
def test_what_is_spent_is_shown_in_whole_numbers_or_with_two_decimals(value: float, shown: str) -> None:
    assert amount(value, "USD") == shown


def test_a_line_is_due_ten_seconds_after_the_last_one() -> None:
    throttle = LineThrottle()
    assert throttle.due_in(5.0) == 0.0
    assert throttle.is_news("1/2", 5.0)
    assert not throttle.is_news("1/2", 6.0)
    assert [throttle.due_in(now) for now in (5.0, 12.0, 15.0, 16.0)] == [10.0, 3.0, 0.0, 0.0]
    assert LineThrottle(2.0).is_news("", 1.0) is False


@pytest.mark.parametrize(
    ("share", "total", "needed"), [(0.29, 100, 29), (0.291, 100, 30), (0.5, 3, 2), (0.01, 10, 1), (1e-12, 5, 1)]
)
def test_a_share_is_rounded_up_to_a_run(share: float, total: int, needed: int) -> None:
    assert Requirement.of(share).needed(total) == needed


# --- what later tasks get -----------------------------------------------------------------------------------------


def test_a_set_is_plain_data_with_all_that_is_known() -> None:
    rows = [ended(Outcome.SUCCEEDED), replace(UNREAD, index=1), replace(PLANNED, index=2)]
    rules = ManyRules(require=Requirement("any"))
    told = summary(Ledger(rows), NYX, rules, stopped_early=True, kept=4, submitted=5)
    failed = told.pop("failed")
    assert failed == [full(rows[1], NYX)]
    assert told == {
        "schema": 1, "provider": "nyx", "total": 3, "outcomes": {"succeeded": 1}, "verdicts": {"succeed": 1},
        "spend": 2.5, "spend_unit": "USD", "failed_count": 1, "requirement": "any", "met": True,
        "stopped_early": True, "kept": 4, "submitted": 5, "unsent": 1,
    }  # fmt: skip
    usual = summary(Ledger([replace(SUBMITTED, index=0)]), NEXIO, ManyRules())
    assert (usual["stopped_early"], usual["kept"], usual["submitted"], usual["met"]) == (False, 0, 0, False)
    assert (usual["spend"], usual["spend_unit"], usual["requirement"]) == (None, None, "all")


def test_what_is_known_of_a_failed_run_in_full_takes_the_place_of_its_row() -> None:
    known = full(ended(Outcome.FAILED, reason="in full"), NYX)
    told = summary(Ledger([ended(Outcome.FAILED)]), NYX, ManyRules(), results={0: known})
    assert told["failed"] == [known]


@pytest.mark.parametrize(("count", "in_full"), [(99, 99), (100, 100), (101, 100)])
def test_the_first_hundred_that_failed_are_shown_in_full(count: int, in_full: int) -> None:
    rows = [replace(ended(Outcome.FAILED), index=index, run_id=f"r_{index}") for index in range(count)]
    told = summary(Ledger(rows), NYX, ManyRules())
    assert ([run["run_id"] for run in told["failed"]], told["failed_count"]) == (
        [f"r_{index}" for index in range(in_full)],
        count,
    )


def test_a_run_in_short_is_all_that_is_known_of_it() -> None:
    row = ended(Outcome.TIMED_OUT, ended_by="timeout")
    address = NYX.url(REF)
    assert compact(row, NYX) == {
        "index": 0, "run_id": "r_1", "outcome": "timed_out", "verdict": "fail", "spend": 2.5, "url": address,
        "ended_by": "timeout",
    }  # fmt: skip
    assert compact(replace(row, url="https://example.com/1"), NYX)["url"] == "https://example.com/1"
    assert "url" not in compact(row)
    assert compact(UNREAD)["error"] == "PollingError"


def test_a_run_in_full_is_as_far_as_its_row_knows_it() -> None:
    given_up = full(SUBMITTED.given_up("stop_early", cancelled=False), NYX)
    assert (given_up["ended_by"], given_up["outcome"], given_up["url"]) == (None, None, NYX.url(REF))
    late = full(ended(Outcome.TIMED_OUT, ended_by="max_spend", reason="too much"), NYX)
    assert (late["ended_by"], late["reason"], late["verdict"]) == ("max_spend", "too much", "fail")
    never = full(PLANNED.submitting(MARKED, NOW, {"config_name": "c"}), NYX)
    assert (never["run_id"], never["url"]) == ("", None)


# --- a new try ----------------------------------------------------------------------------------------------------


def test_a_new_try_says_what_it_does() -> None:
    rows = [
        replace(row, index=index, key=str(index))
        for index, row in enumerate(
            [ended(Outcome.SUCCEEDED), SUBMITTED, PLANNED.submitting(MARKED, NOW), ended(Outcome.FAILED), PLANNED]
        )
    ]
    taken = take_up(rows, list("01234"))
    assert taken.line() == (
        "Of 5 runs 1 of an earlier try are kept, 1 are waited for again, 1 are looked for, since the answer to their "
        "submit is lost, 1 are submitted anew, 1 are submitted for the first time."
    )
    assert (taken.again, take_up(rows, list("01234"), retry=False).again) == ({1}, frozenset())
    assert TakenUp(Ledger.plan("ab"), unsent=2).line() == "Of 2 runs 2 are submitted for the first time."
    spent = replace(PLANNED, spent_before=1.0)
    assert take_up([spent], ["k"]).anew == 1


def test_a_row_without_a_place_is_matched_by_its_place_only_where_something_was_sent() -> None:
    rows = [replace(PLANNED, key="old"), replace(SUBMITTED, index=1, key="gone"), replace(SUBMITTED, index=7, key="x")]
    taken = take_up(rows, ["a", "b"])
    assert [(row.key, row.state) for row in taken.ledger] == [("a", RowState.PLANNED), ("b", RowState.SUBMITTED)]
    assert (taken.changed, [row.index for row in taken.left]) == (1, [7])
    over = take_up([replace(ended(Outcome.SUCCEEDED), index=7, key="x")], ["a"])
    assert (over.changed, over.left) == (0, ())
    twice = take_up([SUBMITTED, replace(SUBMITTED, index=1)], ["k", "b"])
    assert [row.run_id for row in twice.ledger] == ["r_1", "r_1"]
    assert twice.changed == 1
    kept = take_up([replace(PLANNED, key="old", spent_before=2.0)], ["a"])
    assert (kept.changed, kept.ledger[0].spent_before, kept.anew) == (1, 2.0, 1)


# --- who is active ------------------------------------------------------------------------------------------------


def test_a_schedule_counts_what_is_planned_active_and_free() -> None:
    schedule = Schedule(2, exclusive=False)
    for index in (2, 0, 1):
        schedule.plan(index, {"config_name": "same"})
    assert (len(schedule), schedule.active, schedule.free) == (3, 0, 2)
    assert [schedule.next(), schedule.next(), schedule.next()] == [0, 1, None]
    assert (len(schedule), schedule.active, schedule.free) == (1, 2, 0)
    schedule.hold(9, {}, active=True)
    assert (schedule.active, schedule.free) == (3, 0)
    schedule.ended(0)
    schedule.ended(9)
    assert (schedule.next(), schedule.next()) == (2, None)
    schedule.ended(77)
    assert schedule.active == 2


def test_a_row_that_waits_for_its_turn_keeps_its_parent_and_takes_no_place() -> None:
    schedule = Schedule(1, exclusive=True)
    schedule.hold(0, {"config_name": "a"}, active=False)
    schedule.plan(1, {"config_name": "a"})
    schedule.plan(2, {"config_name": "b"})
    assert (schedule.active, schedule.next()) == (0, 2)
    assert not schedule.may_go_on(0)
    schedule.ended(2)
    assert schedule.may_go_on(0)
    assert schedule.may_go_on(0)
    schedule.ended(0)
    assert schedule.next() == 1


@pytest.mark.parametrize(("most", "waiting"), [(1, MOST_WAITING), (MOST_WAITING + 3, MOST_WAITING + 3)])
def test_so_many_may_wait_for_a_turn_before_nothing_more_is_tried(most: int, waiting: int) -> None:
    schedule = Schedule(most, exclusive=True)
    for index in range(waiting):
        schedule.hold(index, {"config_name": str(index)}, active=False)
    schedule.plan(999, {"config_name": "free"})
    assert schedule.next() is None
    schedule.ended(0)
    assert schedule.next() == 999
