"""What is said about a set of runs and is refused before the first POST, and the pure parts that carry it."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runops.core import (
    ConfigurationError,
    ConflictError,
    NotSupported,
    Outcome,
    PollingError,
    RunRef,
    RunSnapshot,
    SubmitUncertainError,
    Verdict,
    find,
)
from runops.core.many.ledger import PAGE_ROWS, Ledger, key_of_call
from runops.core.many.results import compact, full, summary
from runops.core.many.retry import take_up
from runops.core.many.row_json import from_json, to_json
from runops.core.many.rows import Row, RowState
from runops.core.many.rules import ManyRules, Requirement, check_calls, check_run_ids
from runops.core.many.schedule import MOST_WAITING, Schedule
from runops.core.many.tally import LineThrottle, Standing, Tally
from runops.core.model.errors import RequestRefused, ServerTrouble
from runops.core.waiting.intent import Intent
from runops.core.waiting.turns import Turn
from tests.many import arguments

NYX, NEXIO, B3OS, ONEPIN = find("nyx"), find("nexio"), find("b3os"), find("onepin")
SECRET = "hunter2-secret-payload"


def calls(count: int, provider: str = "nyx") -> list[dict[str, Any]]:
    return [arguments(provider, number) for number in range(count)]


def at(index: int, **wrong: Any) -> list[dict[str, Any]]:
    """A thousand calls, one of which is wrong."""
    made = calls(1000)
    made[index] = {**made[index], **wrong}
    return made


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "calls is empty: name one at least"),
        ("[{}]", "calls must be a list of submissions, not str. Where a template gives it"),
        ({"config_name": "a"}, "calls must be a list of submissions, not dict"),
        (None, "calls must be a list of submissions, not NoneType"),
        ([*calls(3), calls(2)[1]], "calls[3] is the same submission as calls[1]: let them differ"),
        (["nightly"], "calls[0]: this must be a mapping of the arguments of a submit to Nyx, not str"),
        ([{1: "a"}], "calls[0]: an argument is named by int, not by a text"),
        (at(699, confg_name="x"), "calls[699]: A submit to Nyx has unknown arguments: confg_name"),
        (at(699, config_name=""), "calls[699]: config_name must be a non-empty text, not empty"),
        (at(699, budget_usd=-1), "calls[699]: budget_usd must be a number above 0"),
        (at(699, severity_target="urgent"), "calls[699]: severity_target='urgent' is not one of"),
        ([*calls(2), {"name": "n"}], "calls[2]: A submit to Nyx has missing arguments: config_name"),
    ],
)
def test_bad_calls_are_refused_and_the_index_of_the_bad_one_is_named(given: Any, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_calls(NYX, given)
    assert said in str(caught.value)


def test_the_nearest_right_name_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"calls\[699\].*Did you mean 'config_name'\?"):
        check_calls(NYX, at(699, confg_name="x"))


def test_no_refusal_shows_what_was_to_be_submitted_nor_keeps_it_in_a_frame() -> None:
    bad = calls(3)
    bad[1] |= {"objective": SECRET, "budget_usd": 0}
    with pytest.raises(ConfigurationError) as caught:
        check_calls(NYX, bad)
    assert SECRET not in str(caught.value)
    trace = caught.value.__traceback__
    while trace is not None:
        if "runops" in trace.tb_frame.f_code.co_filename and "test_" not in trace.tb_frame.f_code.co_filename:
            assert SECRET not in repr(trace.tb_frame.f_locals)
        trace = trace.tb_next


def test_calls_that_are_made_already_are_taken_and_those_of_another_provider_are_not() -> None:
    made = [NEXIO.call(**arguments("nexio", number)) for number in range(2)]
    assert check_calls(NEXIO, made) == made
    with pytest.raises(ConfigurationError, match=r"calls\[0\]: This call is for nexio, not for Nyx"):
        check_calls(NYX, made)


def test_a_provider_that_documents_no_submit_is_named() -> None:
    with pytest.raises(NotSupported, match="Nekt documents no way to start a run"):
        check_calls(find("nekt"), [{}])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "run_ids is empty"),
        ("a,b", "run_ids must be a list of run ids, not str"),
        (["a", "b", "A "], "run_ids[2] is the same run as run_ids[0]: name each run once"),
        (["a", ""], "run_ids[1]: run_id is empty"),
        (["a", None], "run_ids[1]: run_id must be a text, not NoneType"),
        (["a", "../b"], "run_ids[1]: run_id='../b' cannot be an id"),
        ([*map(str, range(700)), True], "run_ids[700]: run_id must be a text, not bool"),
    ],
)
def test_bad_run_ids_are_refused_and_the_index_of_the_bad_one_is_named(given: Any, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_run_ids(NYX, given)
    assert said in str(caught.value)


def test_runs_of_several_parents_are_named_one_by_one() -> None:
    workflow = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
    refs = check_run_ids(ONEPIN, ["a", "b"], {"workflow_id": workflow})
    assert [ref.parents for ref in refs] == [{"workflow_id": workflow}] * 2
    refs = check_run_ids(ONEPIN, ["a", "a"], [{"workflow_id": "w1"}, {"workflow_id": "w2"}])
    assert [ref.parents["workflow_id"] for ref in refs] == ["w1", "w2"]
    with pytest.raises(ConfigurationError, match="names 2 runs and there are parents for 1"):
        check_run_ids(ONEPIN, ["a", "b"], [{"workflow_id": "w1"}])
    with pytest.raises(ConfigurationError, match=r"run_ids\[0\]: workflow_id is missing"):
        check_run_ids(ONEPIN, ["a"])
    assert check_run_ids(NYX, [7])[0].run_id == "7"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_active": 0}, "max_active must be a whole number, 1 or more, not 0"),
        ({"max_active": -5}, "max_active must be a whole number, 1 or more, not -5"),
        ({"max_active": True}, "max_active must be a whole number, 1 or more, not True"),
        ({"max_active": 2.5}, "max_active must be a whole number, 1 or more, not 2.5"),
        ({"max_active": "many"}, "max_active must be a whole number"),
        ({"require": 0}, "require=0 is not one of all, any, nor a share above 0 and up to 1 such as 0.95"),
        ({"require": 1.5}, "require=1.5 is not one of all, any"),
        ({"require": True}, "require=True is not one of all, any"),
        ({"require": "al"}, "Did you mean 'all'?"),
        ({"require": None}, "require=None is not one of"),
        ({"stop_early": "yes"}, "stop_early must be True or False, not 'yes'"),
        ({"max_spend": 0}, "max_spend must be a number above 0"),
        ({"max_spend": -1}, "max_spend must be a number above 0"),
    ],
)
def test_bad_rules_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        ManyRules.build(**settings)
    assert said in str(caught.value)


def test_rules_are_read_from_what_templates_render_and_survive_a_journey() -> None:
    rules = ManyRules.build(max_active="7", require="0.5", stop_early=True, max_spend="12.5")
    assert rules == ManyRules(max_active=7, require=Requirement(0.5), stop_early=True, max_spend=12.5)
    assert ManyRules.from_dict(json.loads(json.dumps(rules.to_dict()))) == rules
    assert ManyRules.from_dict({"of a newer version": 1}) == ManyRules()


@pytest.mark.parametrize(
    ("require", "total", "needed"),
    [("all", 7, 7), ("any", 7, 1), (0.95, 100, 95), (0.95, 7, 7), (0.29, 100, 29), (1, 5, 5), (1e-9, 5, 1)],
)
def test_so_many_have_to_end_well(require: Any, total: int, needed: int) -> None:
    assert Requirement.of(require).needed(total) == needed


# --- rows and pages -----------------------------------------------------------------------------------------------


def ended(index: int, outcome: Outcome, **about: Any) -> Row:
    ref = RunRef(provider="nyx", run_id=f"r_{index:010d}")
    row = Row(index=index, key=f"{index:016x}").submitted(ref, 1_800_000_000.0)
    last = RunSnapshot(ref=ref, state="x", outcome=outcome, details={"spent_usd": 2.5}, **about)
    return row.ended(last, NYX.policy().judge(last), NYX)


ROWS = st.builds(
    Row,
    index=st.just(0),
    key=st.text(min_size=1, max_size=20),
    state=st.sampled_from(RowState),
    run_id=st.none() | st.text(min_size=1, max_size=40),
    parents=st.dictionaries(
        st.sampled_from(["workflow_id", "config_name"]), st.text(min_size=1, max_size=10), max_size=1
    ),
    intent=st.none() | st.builds(Intent, mark=st.none() | st.just("[bcdfghjklmnpq]"), clock=st.none() | st.just(5.0)),
    turn=st.none() | st.builds(Turn, parent=st.just({"workflow_id": "w"}), since=st.just(1.0), until=st.just(9.0)),
    submitted_at=st.none() | st.just(1_800_000_000.5),
    attached=st.booleans(),
    stopped=st.booleans(),
    outcome=st.none() | st.sampled_from(Outcome),
    verdict=st.none() | st.sampled_from(Verdict),
    spend=st.none() | st.floats(0, 1e6),
    spent_before=st.floats(0, 1e6),
    ended_by=st.sampled_from([None, "timeout", "stop_early"]),
    reason=st.none() | st.text(max_size=200),
    url=st.none() | st.just("https://example.com/1"),
    error=st.none() | st.just("PollingError"),
)


@pytest.mark.long
@given(ROWS)
def test_a_row_comes_back_from_its_record_as_it_was(row: Row) -> None:
    ledger = Ledger([row])
    pages = {"0": json.loads(json.dumps(ledger.page(0)))}
    assert Ledger.rows_from_pages(pages) == [row]
    assert from_json(0, json.loads(json.dumps(to_json(row))), row.parents) == row
    assert "null" not in json.dumps(ledger.page(0))


def test_a_page_of_a_newer_version_is_read_and_one_that_is_none_stops_all() -> None:
    page = Ledger([ended(0, Outcome.SUCCEEDED)]).page(0)
    page["rows"][0]["of a newer version"] = 1
    assert Ledger.rows_from_pages({0: page})[0].outcome is Outcome.SUCCEEDED
    for broken in (
        {},
        {"rows": [{}]},
        {"rows": [{"k": "a", "s": "no such"}]},
        None,
        {"rows": [{"k": "a", "s": "ended", "p": 3}]},
    ):
        with pytest.raises(ConfigurationError, match=r"cannot be read \(page 0: \w+\), so nobody knows"):
            Ledger.rows_from_pages({0: broken})
    for name in ("x", "", None, "1.5"):
        with pytest.raises(ConfigurationError, match=rf"cannot be read \(page {name!r}: \w+\), so nobody knows"):
            Ledger.rows_from_pages({name: {"rows": []}})
    with pytest.raises(ConfigurationError, match=r"cannot be read \(page 0: \w+\), so nobody knows"):
        Ledger.rows_from_pages({"0": {}, 0: {}})


def test_only_pages_that_have_changed_are_written_and_a_failed_write_is_not_forgotten() -> None:
    ledger = Ledger.plan(key_of_call(call, "x") for call in check_calls(NYX, calls(250)))
    assert ledger.to_pages() == {}
    assert not ledger.take_changes().indices
    ledger.set(ended(120, Outcome.SUCCEEDED))
    changes = ledger.take_changes()
    assert list(changes.pages()) == [1]
    assert changes.indices == {120}
    assert not ledger.take_changes().indices
    ledger.put_back(changes)
    assert list(ledger.take_changes().pages()) == [1]
    assert not ledger.set(ledger[120])
    assert not ledger.take_changes().indices


@pytest.mark.long
def test_a_page_stays_small_and_10_000_rows_too() -> None:
    """The figures of docs/how_to/many_runs.md."""
    mixed = random.Random(5)
    good = Ledger(ended(index, Outcome.SUCCEEDED) for index in range(10_000))
    some_bad = Ledger(
        ended(index, Outcome.FAILED if mixed.random() < 0.05 else Outcome.SUCCEEDED, reason="x" * 120)
        for index in range(10_000)
    )
    sizes = {
        name: [len(json.dumps(page)) for page in ledger.to_pages().values()]
        for name, ledger in (("good", good), ("some bad", some_bad))
    }
    assert max(sizes["good"]) < 15_000
    assert max(sizes["some bad"]) < 17_000
    assert sum(sizes["some bad"]) < 1_600_000
    assert len(sizes["good"]) == 10_000 // PAGE_ROWS


def test_no_row_holds_what_was_submitted() -> None:
    bad = calls(1)
    bad[0]["objective"] = SECRET
    call = check_calls(NYX, bad)[0]
    row = Row(index=0, key=key_of_call(call, "https://api.example.com"))
    assert SECRET not in repr(row)
    assert SECRET not in json.dumps(Ledger([row.submitting(Intent("[m]"), 1.0)]).page(0))


# --- the whole ----------------------------------------------------------------------------------------------------


def test_the_line_of_the_whole_reads_like_a_sentence_of_numbers() -> None:
    rows = [
        *(ended(index, Outcome.SUCCEEDED) for index in range(290)),
        *(ended(index, Outcome.DEGRADED) for index in range(290, 310)),
        *(ended(index, Outcome.FAILED) for index in range(310, 312)),
    ]
    rows += [Row(index=i, key=str(i)).submitted(RunRef(provider="nyx", run_id=str(i)), 1.0) for i in range(312, 353)]
    rows += [Row(index=i, key=str(i)) for i in range(353, 1000)]
    assert Tally(rows).line(NYX) == "312/1,000: 290 succeeded, 20 degraded, 2 failed, 41 running, 780 USD"
    assert Tally(rows[:1]).line(NYX) == "1/1: 1 succeeded, 2.50 USD"
    assert Tally(rows[353:]).line(NYX) == "0/647: none begun"
    assert Tally(rows[:1]).line() == "1/1: 1 succeeded"


@given(st.lists(st.sampled_from([*Outcome, None]), min_size=1, max_size=30), st.sampled_from(["all", "any", 0.5, 0.9]))
def test_what_is_decided_stays_decided_whatever_becomes_of_the_rest(
    outcomes: list[Outcome | None], require: Any
) -> None:
    requirement = Requirement.of(require)
    rows = [
        Row(index=index, key=str(index)) if outcome is None else ended(index, outcome)
        for index, outcome in enumerate(outcomes)
    ]
    tally = Tally(rows)
    best = Tally(ended(row.index, Outcome.SUCCEEDED) if row.outcome is None else row for row in rows)
    worst = Tally(ended(row.index, Outcome.CANCELLED) if row.outcome is None else row for row in rows)
    standing = tally.decided(requirement)
    assert (standing is Standing.MET) == (worst.verdict(requirement) is not Verdict.FAIL)
    assert (standing is Standing.MISSED) == (best.verdict(requirement) is Verdict.FAIL)


@pytest.mark.parametrize(
    ("outcomes", "require", "verdict"),
    [
        (["succeeded", "succeeded"], "all", "succeed"),
        (["succeeded", "degraded"], "all", "succeed"),
        (["degraded", "exhausted"], "all", "skip"),
        (["succeeded", "failed"], "all", "fail"),
        (["succeeded", "failed"], "any", "warn"),
        (["degraded", "failed"], "any", "skip"),
        (["failed", "failed"], "any", "fail"),
        (["succeeded", "cancelled"], 0.5, "warn"),
    ],
)
def test_the_whole_means_for_its_task(outcomes: list[str], require: Any, verdict: str) -> None:
    tally = Tally(ended(index, Outcome(outcome)) for index, outcome in enumerate(outcomes))
    assert tally.verdict(Requirement.of(require)) == verdict


def test_a_retry_may_help_as_long_as_what_it_repeats_could_be_enough() -> None:
    rows = [ended(0, Outcome.SUCCEEDED), ended(1, Outcome.FAILED), ended(2, Outcome.CANCELLED)]
    tally = Tally(rows)
    assert not tally.retry_may_help(Requirement.of("all"))
    assert tally.retry_may_help(Requirement.of(0.6))
    ref = RunRef(provider="nyx", run_id="r")
    asked = Row(index=0, key="k").submitted(ref, 1.0)
    for error, helps in (
        (PollingError(ref, 900, ServerTrouble("502")), True),
        (RequestRefused("402"), False),
    ):
        assert Tally([asked.failed(error)]).retry_may_help(Requirement.of("all")) is helps
    planned = Row(index=0, key="k")
    for error, helps in (
        (ConflictError("busy"), True),
        (RequestRefused("422"), False),
        (ServerTrouble("429"), True),
        (SubmitUncertainError("lost"), False),
    ):
        assert Tally([planned.failed(error)]).retry_may_help(Requirement.of("all")) is helps
    marked = planned.submitting(Intent("[bcdfghjklmnpq]"), 1.0).failed(SubmitUncertainError("lost"))
    assert Tally([marked]).retry_may_help(Requirement.of("all"))


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from([*Outcome, None])), max_size=40))
def test_a_tally_that_is_kept_up_to_date_is_the_one_that_is_counted_anew(
    steps: list[tuple[int, Outcome | None]],
) -> None:
    ledger = Ledger.plan(map(str, range(10)))
    for index, outcome in steps:
        ledger.set(ledger[index].planned_anew() if outcome is None else ended(index, outcome))
    counted = Tally(ledger)
    assert ledger.tally.to_dict() == counted.to_dict()
    assert (ledger.tally.good, ledger.tally.bad, ledger.tally.hopeless) == (counted.good, counted.bad, counted.hopeless)


def test_a_line_is_told_once_and_no_more_often_than_every_few_seconds() -> None:
    throttle = LineThrottle(10.0)
    assert throttle.due_in(0.0) == 0.0
    assert throttle.is_news("1/2", 0.0)
    assert not throttle.is_news("1/2", 20.0)
    assert throttle.due_in(4.0) == 6.0
    assert throttle.is_news("2/2", 10.0)


def test_a_set_is_told_in_one_form_everywhere() -> None:
    ledger = Ledger([ended(0, Outcome.SUCCEEDED), ended(1, Outcome.FAILED, reason="broken"), Row(index=2, key="c")])
    told = summary(ledger, NYX, ManyRules(), kept=1, submitted=1)
    assert json.loads(json.dumps(told)) == told
    assert {name: told[name] for name in ("total", "outcomes", "verdicts", "spend", "spend_unit", "met", "unsent")} == {
        "total": 3,
        "outcomes": {"succeeded": 1, "failed": 1},
        "verdicts": {"succeed": 1, "fail": 1},
        "spend": 5.0,
        "spend_unit": "USD",
        "met": False,
        "unsent": 1,
    }
    assert [run["run_id"] for run in told["failed"]] == ["r_0000000001"]
    assert told["failed"][0]["reason"] == "broken"
    assert full(ledger[1], NYX)["url"] == "https://app.fabraix.com/nyx/runs/r_0000000001"
    assert compact(ledger[0]) == {
        "index": 0,
        "run_id": "r_0000000000",
        "outcome": "succeeded",
        "verdict": "succeed",
        "spend": 2.5,
    }
    assert compact(ledger[2], NYX) == {"index": 2}
    many = Ledger(ended(index, Outcome.FAILED) for index in range(150))
    assert len(summary(many, NYX, ManyRules())["failed"]) == 100
    assert summary(many, NYX, ManyRules())["failed_count"] == 150


# --- schedule -----------------------------------------------------------------------------------------------------


@given(
    st.lists(st.sampled_from("abc"), min_size=1, max_size=20),
    st.integers(1, 4),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_never_too_many_are_active_never_two_of_one_parent_and_all_have_their_turn(
    parents: list[str], max_active: int, exclusive: bool, chance: random.Random
) -> None:
    schedule = Schedule(max_active, exclusive=exclusive)
    for index, parent in enumerate(parents):
        schedule.plan(index, {"config_name": parent})
    active: list[int] = []
    begun: list[int] = []
    while len(begun) < len(parents) or active:
        index = schedule.next()
        if index is None:
            assert active
            # Nothing is held back without need.
            free = {parents[i] for i in range(len(parents)) if i not in begun} - {parents[i] for i in active}
            assert len(active) == max_active or not (free if exclusive else set(parents) and len(schedule))
            schedule.ended(active.pop(chance.randrange(len(active))))
            continue
        active.append(index)
        begun.append(index)
        assert len(active) <= max_active
        assert schedule.active == len(active)
        if exclusive:
            assert len({parents[i] for i in active}) == len(active)
    assert sorted(begun) == list(range(len(parents)))


def test_who_waits_for_a_turn_is_not_active_and_there_are_not_too_many_of_those() -> None:
    schedule = Schedule(1, exclusive=True)
    for index in range(MOST_WAITING + 5):
        schedule.plan(index, {"config_name": str(index)})
    for index in range(MOST_WAITING):
        assert schedule.next() == index
        assert schedule.next() is None
        schedule.waits(index)
    assert schedule.next() is None
    assert schedule.may_go_on(3)
    assert not schedule.may_go_on(4)
    schedule.ended(3)
    assert schedule.next() == MOST_WAITING


def test_what_an_earlier_try_has_left_keeps_its_parent() -> None:
    schedule = Schedule(5, exclusive=True)
    schedule.hold(0, {"config_name": "a"})
    schedule.plan(1, {"config_name": "a"})
    schedule.plan(2, {"config_name": "b"})
    assert schedule.next() == 2
    assert schedule.next() is None
    schedule.ended(0)
    assert schedule.next() == 1


# --- a new try ----------------------------------------------------------------------------------------------------


def test_a_new_try_matches_by_what_is_submitted_and_what_is_left_over_by_its_place() -> None:
    running = Row(index=1, key="b").submitted(RunRef(provider="nyx", run_id="r1"), 1.0)
    rows = [
        ended(0, Outcome.SUCCEEDED),
        running,
        Row(index=2, key="c").submitted(RunRef(provider="nyx", run_id="r2"), 1.0),
    ]
    taken = take_up(rows, ["c", "other", rows[0].key])
    assert [row.run_id for row in taken.ledger] == ["r2", "r1", "r_0000000000"]
    assert [row.key for row in taken.ledger] == ["c", "other", rows[0].key]
    assert (taken.kept, taken.waited, taken.changed, taken.left) == (1, 2, 1, ())
    # What has no place any more is named, so that nobody forgets a run that goes on.
    fewer = take_up(rows, ["b"])
    assert [row.run_id for row in fewer.left] == ["r2"]


def test_a_new_try_does_for_each_row_what_it_would_for_a_single_run() -> None:
    ref = RunRef(provider="nyx", run_id="r")
    submitted = Row(index=0, key="k").submitted(ref, 1.0)
    marked = Row(index=0, key="k").submitting(Intent("[bcdfghjklmnpq]"), 1.0)
    turn = Turn(parent={}, since=1.0, until=9.0)
    timed_out = RunSnapshot(ref=ref, state="x", outcome=Outcome.TIMED_OUT, ended_by="timeout")
    cases: list[tuple[Row, RowState, str]] = [
        (ended(0, Outcome.SUCCEEDED), RowState.ENDED, "kept"),
        (ended(0, Outcome.CANCELLED), RowState.ENDED, "kept"),
        (ended(0, Outcome.FAILED), RowState.PLANNED, "anew"),
        (submitted, RowState.SUBMITTED, "waited"),
        (submitted.failed(PollingError(ref, 900, ServerTrouble("502"))), RowState.SUBMITTED, "waited"),
        (submitted.ended(timed_out, NYX.policy().judge(timed_out), NYX), RowState.SUBMITTED, "waited"),
        (submitted.given_up("stop_early", cancelled=True), RowState.SUBMITTED, "waited"),
        (marked, RowState.SUBMITTING, "searched"),
        (marked.failed(SubmitUncertainError("lost")), RowState.SUBMITTING, "searched"),
        (Row(index=0, key="k").failed(RequestRefused("422")), RowState.PLANNED, "anew"),
        (Row(index=0, key="k").awaiting(turn), RowState.AWAITING_TURN, "unsent"),
        (Row(index=0, key="k"), RowState.PLANNED, "unsent"),
    ]
    for row, state, count in cases:
        taken = take_up([row], [row.key])
        assert taken.ledger[0].state is state, row
        assert {name: getattr(taken, name) for name in ("kept", "waited", "anew", "searched", "unsent")} == {
            name: int(name == count) for name in ("kept", "waited", "anew", "searched", "unsent")
        }
        # In the same try nothing that is over begins again, and nothing gives way.
        same = take_up([row], [row.key], retry=False)
        assert same.ledger[0] == row
        assert same.again == frozenset()
