"""What a good end is: words that users teach, what they expect of a run, and the limits that a run reaches."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from runops.core import ConfigurationError, Outcome, Phase, RunSnapshot, UnknownStateError, find
from runops.core.declaration import Spend
from runops.core.declaration.decode import Observation
from runops.core.model.errors import AnswerError, AuthError, FinalError, MalformedAnswer, RunNotFound, ServerTrouble
from runops.core.model.expectation import Expectations
from runops.core.model.policy import Rule, Verdict
from runops.core.providers import PROVIDERS
from runops.core.transport.keys import KeyRead
from runops.core.waiting import flows
from runops.core.waiting.limits import WaitProgress
from runops.core.waiting.options import WaitOptions
from runops.core.waiting.state import WaitState
from runops.core.waiting.steps import Send
from tests.good_ends import CASES, WRONG, Case
from tests.services import PARENTS

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()


def look(provider: str, **fields: Any) -> Observation:
    declared = find(provider)
    body = declared.body.model_validate({"run_id": "r_1", "id": "r_1", "status": "running", **fields})
    return declared.reader.observe(declared.ref("r_1", PARENTS.get(provider)), body)


def stamp(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat()


# --- the table, by both clients --------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_wait_ends_as_the_case_says(case: Case, runs_of: Any) -> None:
    said = case.said()
    states, expect, on_unmet = (said.pop(name, None) for name in ("states", "expect", "on_unmet"))
    runs = runs_of(case.provider, states=states)
    policy = runs.provider.policy(expect=expect, on_unmet=on_unmet or "fail")
    patience = WaitOptions.build(runs.provider, now=runs.clock(), wanted=policy.expect.details, **said)
    last = runs("wait", runs.made(**case.run()), patience=patience)
    judged = policy.judge(last)
    assert (str(last.outcome), str(judged.verdict), last.ended_by) == (case.outcome, case.verdict, case.ended_by)
    assert (judged.result(last)["unmet"] or {}).keys() == (case.unmet or {}).keys()
    assert {name: each["found"] for name, each in judged.unmet.items()} == (case.unmet or {})
    if case.ended_by in ("max_stalled", "max_spend"):
        assert " of at most " in str(last.reason)


@pytest.mark.parametrize(("provider", "said", "texts"), WRONG)
def test_what_is_wrong_is_refused_by_field_value_and_nearest_right_name(
    provider: str, said: dict[str, Any], texts: tuple[str, ...]
) -> None:
    clocks = {name: value for name, value in said.items() if name.startswith("max_")}

    def checked() -> None:
        declared = find(provider).with_states(said.get("states"))
        declared.policy(expect=said.get("expect"), on_unmet=said.get("on_unmet", "fail"))
        WaitOptions.build(declared, now=NOW, **clocks)

    with pytest.raises(ConfigurationError) as refused:
        checked()
    for text in texts:
        assert text in str(refused.value)


def test_the_wait_arguments_of_both_clients_take_the_limits(runs_of: Any) -> None:
    runs = runs_of("nyx")
    last = runs("wait", runs.made(script="running"), max_spend=0.4)
    assert (last.ended_by, last.run_ended) == ("max_spend", False)
    assert "0.41 of at most 0.4 USD are spent" in last.reason
    still = runs("watch", runs.made(script="running"), max_stalled=120)
    assert [each.ended_by for each in still] == [None, "max_stalled"]


def test_a_detail_that_is_missing_for_a_broken_read_is_read_again(runs_of: Any) -> None:
    runs = runs_of("b3os")
    ref = runs.made(script=[{"at": 0, "set": {"status": "success", "totalCu": None}}])
    runs.emulator.add_fault(provider="b3os", action="get", kind="status", status=503, skip=1, count=2)
    policy = runs.provider.policy(expect={"totalCu": "> 0"})
    patience = WaitOptions.build(runs.provider, now=runs.clock(), wanted=policy.expect.details)
    last = runs("wait", ref, patience=patience)
    assert policy.judge(last).unmet["totalCu"]["found"] is None
    assert len(runs.requests(action="get")) >= 4


def test_a_body_with_details_of_its_own_may_be_expected_to_show_anything() -> None:
    from runops.core.declaration import RunBody

    class Odd(RunBody):
        def details(self) -> dict[str, Any]:
            return {"anything": 3}

    assert Odd.detail_kinds() is None
    expect = Expectations.build({"anything": ">= 3"}, Odd.detail_kinds())
    assert expect.unmet({"anything": 3}) == {}
    assert list(expect.unmet({"anything": "3"})) == ["anything"]


@pytest.mark.parametrize(
    ("spend", "text"),
    [(("USD", ("cost",)), "spend.details"), (("", ("spent_usd",)), "spend.unit"), (("USD", ()), "spend.details")],
)
def test_a_declaration_that_spends_nothing_it_shows_is_refused(spend: Any, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        replace(find("nyx"), name="nyx_two", spend=Spend(*spend))


# --- words -----------------------------------------------------------------------------------------------------


def test_a_taught_word_is_compared_as_a_documented_one() -> None:
    states = find("nexio").with_states({" Partial ": "degraded"}).states
    assert states.read("PARTIAL ").meaning is Outcome.DEGRADED
    assert "partial" in [word.strip().lower() for word in states.known]


def test_a_taught_phase_of_a_run_with_an_end_time_is_an_error_at_once() -> None:
    taught = find("nekt").with_states({"compacting": "running"})
    body = taught.body.model_validate({"id": "r_1", "status": "compacting", "ended_at": "2026-03-01T12:00:00Z"})
    with pytest.raises(UnknownStateError, match="takes for one that goes on"):
        taught.reader.observe(taught.ref("r_1"), body)
    going = taught.body.model_validate({"id": "r_1", "status": "compacting"})
    assert taught.reader.observe(taught.ref("r_1"), going).snapshot.phase is Phase.RUNNING


def test_teaching_leaves_the_provider_as_it_is_found_by_name() -> None:
    taught = find("nexio").with_states({"partial": "degraded"})
    assert find("nexio").taught == {}
    assert not find("nexio").states.read("partial").known
    assert (taught.name, dict(taught.taught)) == ("nexio", {"partial": "degraded"})


def test_what_is_taught_later_wins_and_the_rest_stays() -> None:
    taught = find("nexio").with_states({"partial": "degraded", "archived": "failed"}).with_states({"Partial": "failed"})
    assert {word: taught.states.read(word).meaning for word in ("partial", "archived")} == {
        "partial": Outcome.FAILED,
        "archived": Outcome.FAILED,
    }


def test_a_word_that_a_later_release_documents_with_the_same_meaning_may_stay_taught() -> None:
    assert find("nexio").with_states({"degraded": "degraded"}).states.read("degraded").taught is False


def test_a_second_field_is_taught_beside_its_status_and_a_status_without_one() -> None:
    states = find("nyx").with_states({"completed+partial": "degraded", "expired": "cancelled"}).states
    assert states.read("completed", "Partial").meaning is Outcome.DEGRADED
    assert states.read("completed", "other").meaning is None
    assert states.read("expired", "anything").meaning is Outcome.CANCELLED


def test_waits_that_read_a_word_differently_share_no_poller() -> None:
    from runops.core.transport.session import Session

    keys = [
        Session(find("nexio").with_states(states), token="k").key
        for states in (None, {"partial": "degraded"}, {"partial": "failed"}, {"partial": "failed"})
    ]
    assert (len(set(keys)), keys[2] == keys[3]) == (3, True)


# --- expectations ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_detail_of_a_provider_is_declared_with_its_kind(name: str) -> None:
    kinds = PROVIDERS[name].body.detail_kinds()
    assert kinds
    assert "any" not in kinds.values()


@pytest.mark.parametrize(
    ("wanted", "found", "met"),
    [
        (0, 0, True),
        (0, 0.0, True),
        ("0", 0, True),
        ("== 0", 1, False),
        ("!= 0", 1, True),
        ("!= 0", None, False),
        ("<1", 0.5, True),
        ("<= 1", 1, True),
        ("> 1", 1, False),
        (">= 1", None, False),
        ([1, 2], 2, True),
        (["1", "2"], 3, False),
    ],
)
def test_a_number_is_compared_as_a_number(wanted: Any, found: Any, met: bool) -> None:
    expect = find("nyx").policy(expect={"findings_count": wanted}).expect
    assert (expect.unmet({"findings_count": found}) == {}) is met


def test_a_flag_and_a_text_are_compared_as_such() -> None:
    onepin = find("onepin").policy(expect={"has_export": "true", "pause_reason": "== user"}).expect
    assert onepin.unmet({"has_export": True, "pause_reason": "user"}) == {}
    assert list(onepin.unmet({"has_export": False, "pause_reason": "User"})) == ["has_export", "pause_reason"]


@pytest.mark.parametrize(
    ("outcome", "ended_by", "said", "verdict", "rule"),
    [
        ("succeeded", None, {}, "succeed", Rule.DEFAULT),
        ("degraded", None, {"on_outcome": {"degraded": "warn"}}, "warn", Rule.ON_OUTCOME),
        ("failed", None, {"soft_fail": True}, "skip", Rule.SOFT_FAIL),
        ("failed", None, {"soft_fail": True, "on_outcome": {"failed": "fail"}}, "fail", Rule.ON_OUTCOME),
        ("timed_out", "execution_timeout", {"soft_fail": True}, "fail", Rule.EXECUTION_TIMEOUT),
        ("timed_out", "max_spend", {"soft_fail": True}, "skip", Rule.SOFT_FAIL),
        ("succeeded", None, {"expect": {"findings_count": 0}}, "fail", Rule.EXPECT),
        ("degraded", None, {"expect": {"findings_count": 0}, "on_unmet": "warn"}, "warn", Rule.EXPECT),
        ("succeeded", None, {"expect": {"findings_count": 0}, "soft_fail": True}, "fail", Rule.EXPECT),
        ("exhausted", None, {"expect": {"findings_count": 0}}, "skip", Rule.DEFAULT),
        ("failed", None, {"expect": {"findings_count": 0}, "on_unmet": "skip"}, "fail", Rule.DEFAULT),
    ],
)
def test_a_verdict_names_the_rule_that_gave_it(
    outcome: str, ended_by: Any, said: dict[str, Any], verdict: str, rule: Rule
) -> None:
    nyx = find("nyx")
    ended = RunSnapshot(ref=nyx.ref("r"), state="x", outcome=Outcome(outcome), ended_by=ended_by)
    judged = nyx.policy(said.pop("on_outcome", None), **said).judge(ended)
    assert (judged.verdict, judged.rule) == (Verdict(verdict), rule)
    assert str(judged.verdict) in judged.because or rule in (Rule.SOFT_FAIL, Rule.EXECUTION_TIMEOUT)


# --- limits ----------------------------------------------------------------------------------------------------


def wait(provider: str, past: WaitProgress | None = None, *, began: float = NOW, **limits: Any) -> WaitState:
    declared = find(provider)
    options = WaitOptions.build(declared, now=NOW, **limits)
    return WaitState(declared, declared.ref("r_1", PARENTS.get(provider)), options, began=began, past=past)


def handed_over(past: WaitProgress, *, at: float, read_at: float) -> WaitProgress:
    return WaitProgress.from_dict(json.loads(json.dumps(past.to_dict(at))), read_at)


def ended_by(state: WaitState, now: float) -> str | None:
    ended = state.expired(now)
    return None if ended is None else ended.ended_by


@pytest.mark.parametrize(
    "change",
    [{"spent_usd": 2.0}, {"updated_at": stamp(NOW + 50)}, {"status": "queued"}],
    ids=["progress", "updated", "state"],
)
def test_any_change_of_state_progress_or_the_provider_s_time_begins_the_stall_clock_anew(
    change: dict[str, Any],
) -> None:
    state = wait("nyx", max_stalled=60)
    before = {"spent_usd": 1.0, "updated_at": stamp(NOW)}
    state.observed(look("nyx", **before), NOW)
    state.observed(look("nyx", **before), NOW + 50)
    assert ended_by(state, NOW + 59) is None
    state.observed(look("nyx", **{**before, **change}), NOW + 55)
    assert ended_by(state, NOW + 114) is None
    state.observed(look("nyx", **{**before, **change}), NOW + 115)
    assert ended_by(state, NOW + 115) == "max_stalled"


def test_an_entry_of_a_list_that_lacks_progress_is_no_change() -> None:
    state = wait("onepin", max_stalled=60)
    for moment in range(0, 60, 10):
        whole = {"finished_nodes": 3, "updated_at": stamp(NOW)} if moment % 20 == 0 else {}
        state.observed(look("onepin", **whole), NOW + moment)
    assert ended_by(state, NOW + 60) == "max_stalled"


def test_a_paused_run_is_not_stalled_and_its_clock_begins_as_it_goes_on() -> None:
    state = wait("b3os", max_stalled=60)
    state.observed(look("b3os"), NOW)
    state.observed(look("b3os", status="waiting"), NOW + 30)
    assert ended_by(state, NOW + 5000) is None
    state.observed(look("b3os"), NOW + 5000)
    assert ended_by(state, NOW + 5059) is None
    assert ended_by(state, NOW + 5060) == "max_stalled"


def test_a_run_that_cannot_be_read_is_not_called_stalled() -> None:
    from runops.core import TransientError

    state = wait("b3os", max_stalled=60)
    state.observed(look("b3os"), NOW)
    state.failed(TransientError("no"), NOW + 50)
    assert ended_by(state, NOW + 70) is None
    assert state.pause(NOW + 70) > 0.5
    state.observed(look("b3os"), NOW + 80)
    assert ended_by(state, NOW + 80) == "max_stalled"


def test_a_look_is_taken_when_the_stall_clock_is_over_and_a_held_back_one_may_come_later() -> None:
    state = wait("nekt", max_stalled=60)
    state.observed(look("nekt"), NOW)
    assert 0 < state.pause(NOW + 58) <= 2
    assert state.latest_read > NOW + 3600


def test_the_stall_clock_survives_restarts_that_read_the_same_old_record() -> None:
    past = WaitProgress()
    wait("nexio", past, max_stalled=3600).observed(look("nexio", status="processing"), NOW)
    for restart in (600, 1200, 3000):
        state = wait("nexio", handed_over(past, at=NOW + 5, read_at=NOW + restart), max_stalled=3600)
        state.observed(look("nexio", status="processing"), NOW + restart)
        assert ended_by(state, NOW + restart) is None
    state = wait("nexio", handed_over(past, at=NOW + 5, read_at=NOW + 3600), max_stalled=3600)
    state.observed(look("nexio", status="processing"), NOW + 3600)
    assert ended_by(state, NOW + 3600) == "max_stalled"


def test_over_a_restart_the_provider_s_own_time_dates_a_change_that_nobody_saw() -> None:
    past = WaitProgress()
    wait("nekt", past, max_stalled=1000).observed(look("nekt", updated_at=stamp(NOW)), NOW)
    told = {"updated_at": stamp(NOW + 100)}
    state = wait("nekt", handed_over(past, at=NOW + 5, read_at=NOW + 900), max_stalled=1000)
    state.observed(look("nekt", **told), NOW + 900)
    assert ended_by(state, NOW + 1099) is None
    assert ended_by(state, NOW + 1100) == "max_stalled"


def test_a_provider_s_clock_that_is_hours_behind_ends_no_wait_that_goes_on() -> None:
    state = wait("nekt", max_stalled=60)
    for moment in range(0, 600, 30):
        state.observed(look("nekt", updated_at=stamp(NOW - 7200 + moment)), NOW + moment)
        assert ended_by(state, NOW + moment) is None


def test_a_record_of_before_has_no_stall_clock_and_no_limits() -> None:
    old = {"began": NOW, "seen": True, "failing_since": None, "parked_since": None, "provisional_since": None}
    assert WaitProgress.from_dict({**old, "as_of": NOW}, NOW).signature is None
    written = WaitOptions.build(find("nyx"), now=NOW).to_dict()
    for name in ("max_stalled", "max_spend", "wanted"):
        del written[name]
    assert (read := WaitOptions.from_dict(written)).max_spend is None
    assert (read.max_stalled, read.wanted) == (None, ())


def test_limits_travel_as_json() -> None:
    options = WaitOptions.build(find("nyx"), now=NOW, max_stalled=5, max_spend=2.5, wanted=["result"])
    assert WaitOptions.from_dict(json.loads(json.dumps(options.to_dict()))) == options


def test_costs_of_several_details_are_added_and_one_that_is_missing_is_nothing() -> None:
    spend = find("nekt").spend
    assert spend is not None
    assert spend.of({"el_cost_usd": 0.4, "transformation_cost_usd": 0.2}) == pytest.approx(0.6)
    assert spend.of({"el_cost_usd": 0.4}) == 0.4
    assert spend.of({}) is None


# --- details that a list leaves out ----------------------------------------------------------------------------


def completed(observation: Observation, error: AnswerError) -> Observation:
    """An end whose read for what it lacks fails with an error, by a key that stays the same."""
    flow = flows.with_details(find("nyx"), observation, wanted=("attempts_completed",))
    effect = next(flow)
    while True:
        try:
            effect = flow.throw(error) if isinstance(effect, Send) else flow.send(KeyRead(changed=False))
        except StopIteration as stop:
            return stop.value


@pytest.mark.parametrize(
    "error",
    [
        FinalError("No.", status=422),
        RunNotFound("Gone.", status=404),
        AuthError("Not this one.", status=403),
        MalformedAnswer("A page of a proxy."),
        UnknownStateError(find("nyx").ref("r_1"), "archived", ("completed",)),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_detail_that_cannot_be_read_is_missing_and_changes_nothing_else(error: AnswerError) -> None:
    over = look("nyx", status="completed", result="success")
    assert completed(over, error) is over


@pytest.mark.parametrize("error", [ServerTrouble("Down.", status=503), AuthError("Who?", status=401)])
def test_a_detail_whose_read_may_succeed_later_is_waited_for(error: AnswerError) -> None:
    with pytest.raises(type(error)):
        completed(look("nyx", status="completed", result="success"), error)


@pytest.mark.parametrize(
    ("wanted", "found", "met"),
    [
        ("'done'", "done", True),
        ('"done"', "done", True),
        ("== 'done'", "done", True),
        ("'done'", "'done'", False),
        ("'done", "'done", True),
        ("'done\"", "'done\"", True),
        ("'", "'", True),
        ("done", "done", True),
    ],
)
def test_a_text_is_compared_without_the_quotes_around_it_and_with_any_other(wanted: str, found: str, met: bool) -> None:
    expect = Expectations.build({"grade": wanted}, {"grade": "text"})
    assert (expect.unmet({"grade": found}) == {}) is met
