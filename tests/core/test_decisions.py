"""The decisions of the core that need no connection: states, verdicts, cadence, waits. Pure and fast."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runops.core import (
    DEFAULT_VERDICTS,
    NYX_AUDIT,
    NYX_GATE,
    PROVIDERS,
    ConfigurationError,
    Outcome,
    OutcomePolicy,
    Phase,
    PollingError,
    RequestRefused,
    RunNotFound,
    RunRef,
    RunSnapshot,
    StateTable,
    TransientError,
    Verdict,
    find,
)
from runops.core.declaration.decode import Observation
from runops.core.model.cadence import Cadence, RateLimiter, backoff, spread
from runops.core.model.policy import SOFTENED, retry_may_submit
from runops.core.model.run import Progress
from runops.core.model.states import StateRow
from runops.core.waiting.options import WaitOptions
from runops.core.waiting.state import LogThrottle, WaitState

OUTCOMES = [outcome.value for outcome in Outcome]
VERDICTS = [verdict.value for verdict in Verdict]
NOW = 1_900_000_000.0


# --- states ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)
def test_every_word_reads_as_its_row_says_whatever_its_case_and_space(provider: Any) -> None:
    for word, qualifier, row in provider.states:
        for spelled in (word, word.upper(), f"  {word.title()} \n"):
            for ended in (True, False):
                reading = provider.states.read(spelled, qualifier, ended=ended)
                assert (reading.meaning, reading.known, reading.reason) == (row.meaning, True, row.reason)


@given(word=st.text(max_size=40), qualifier=st.none() | st.text(max_size=20), ended=st.booleans())
@settings(max_examples=60)
def test_every_text_reads_as_something_and_an_unknown_one_never_as_an_outcome(
    word: str, qualifier: str | None, ended: bool
) -> None:
    for provider in PROVIDERS.values():
        reading = provider.states.read(word, qualifier, ended=ended)
        if not reading.known:
            assert reading.meaning in (None, Phase.RUNNING)
            assert len(reading.state) <= 200


def test_an_unknown_word_runs_on_until_there_is_an_end_time() -> None:
    states = find("nexio").states
    assert states.read("reviewing").meaning is Phase.RUNNING
    assert states.read("reviewing", ended=True).meaning is None
    assert not states.read("").known


def test_an_unknown_second_word_beside_a_terminal_one_has_no_meaning() -> None:
    states = find("nyx").states
    assert states.read("completed", "inconclusive").meaning is None
    assert states.read("failed", "inconclusive").meaning is None
    assert states.read("running", "inconclusive").meaning is Phase.RUNNING
    assert states.read("cancelled", "inconclusive").meaning is Outcome.CANCELLED


@pytest.mark.parametrize("absent", [None, "", "  "])
def test_an_empty_second_word_is_an_absent_one(absent: str | None) -> None:
    assert find("nyx").states.read("failed", absent).meaning is Outcome.FAILED


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"a": Outcome.SUCCEEDED, "b": Outcome.TIMED_OUT}, "timed_out"),
        ({"a": Outcome.SUCCEEDED}, "a word for failure"),
        ({"a": Outcome.FAILED}, "a word for success"),
        ({"a": {None: StateRow(Outcome.TIMED_OUT)}}, "timed_out"),
    ],
)
def test_a_table_that_cannot_be_right_is_refused(words: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        StateTable(words)


# --- verdicts --------------------------------------------------------------------------------------------------


def test_the_default_verdicts_are_those_that_the_readme_promises() -> None:
    assert {outcome.value: verdict.value for outcome, verdict in DEFAULT_VERDICTS.items()} == {
        "succeeded": "succeed",
        "degraded": "skip",
        "exhausted": "skip",
        "failed": "fail",
        "cancelled": "fail",
        "timed_out": "fail",
    }


@given(
    on_outcome=st.dictionaries(st.sampled_from(OUTCOMES), st.sampled_from(VERDICTS)),
    provider=st.dictionaries(st.sampled_from(Outcome), st.sampled_from(Verdict)),
    soft_fail=st.booleans(),
)
def test_a_policy_is_total_and_the_users_word_comes_last(
    on_outcome: dict[str, str], provider: dict[Outcome, Verdict], soft_fail: bool
) -> None:
    expected = {**DEFAULT_VERDICTS, **provider}
    if soft_fail:
        expected |= dict.fromkeys(SOFTENED, Verdict.SKIP)
    expected |= {Outcome(name): Verdict(verdict) for name, verdict in on_outcome.items()}
    if expected[Outcome.TIMED_OUT] is Verdict.SUCCEED:
        with pytest.raises(ConfigurationError, match="timed_out"):
            OutcomePolicy.build(on_outcome, provider_verdicts=provider, soft_fail=soft_fail)
        return
    policy = OutcomePolicy.build(on_outcome, provider_verdicts=provider, soft_fail=soft_fail)
    assert {outcome: policy.decide(outcome) for outcome in Outcome} == expected


@pytest.mark.parametrize(
    ("on_outcome", "said"),
    [
        ({"sucess": "skip"}, "'sucess'.*succeeded, degraded, exhausted, failed, cancelled, timed_out"),
        ({"running": "skip"}, "outcome 'running'"),
        ({"failed": "ignore"}, "'ignore'.*succeed, warn, skip, fail"),
        ({"failed": None}, "verdict None"),
        ({None: "skip"}, "outcome None"),
        ({"Failed": "skip"}, "outcome 'Failed'"),
        ({"timed_out": "succeed"}, "choose warn, skip or fail"),
        ("degraded", "must be a mapping"),
        (["degraded"], "must be a mapping"),
    ],
)
def test_a_wrong_policy_is_refused_by_name(on_outcome: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        find("nexio").policy(on_outcome)


def test_soft_fail_softens_and_an_explicit_word_wins_over_it() -> None:
    policy = find("nexio").policy({"failed": "fail", "degraded": "warn"}, soft_fail=True)
    assert policy.decide(Outcome.FAILED) is Verdict.FAIL
    assert policy.decide(Outcome.CANCELLED) is Verdict.SKIP
    assert policy.decide(Outcome.TIMED_OUT) is Verdict.SKIP
    assert policy.decide(Outcome.DEGRADED) is Verdict.WARN


def test_the_two_readings_of_nyx_say_what_they_say() -> None:
    audit, gate = find("nyx").policy(NYX_AUDIT), find("nyx").policy(NYX_GATE)
    assert (audit.decide(Outcome.SUCCEEDED), audit.decide(Outcome.EXHAUSTED)) == (Verdict.SUCCEED, Verdict.SKIP)
    assert (gate.decide(Outcome.SUCCEEDED), gate.decide(Outcome.EXHAUSTED)) == (Verdict.FAIL, Verdict.SUCCEED)


def test_only_a_failed_run_may_be_submitted_anew() -> None:
    assert [outcome for outcome in Outcome if retry_may_submit(outcome)] == [Outcome.FAILED]


# --- cadence ---------------------------------------------------------------------------------------------------


@given(
    first=st.floats(0.01, 100),
    factor=st.floats(1, 5),
    room=st.floats(0, 1000),
    age=st.floats(-1e6, 1e12),
    jitter=st.floats(0, 1),
)
def test_a_delay_lies_between_the_first_and_the_ceiling(
    first: float, factor: float, room: float, age: float, jitter: float
) -> None:
    cadence = Cadence(first=first, factor=factor, ceiling=first + room)
    delay = cadence.delay(age, jitter=jitter)
    assert first <= delay <= (first + room) * 1.05 + 1e-9
    assert cadence.delay(age) <= cadence.delay(age + 10)


def test_the_cadence_of_nexio_is_the_one_that_its_page_asks_for() -> None:
    cadence, age, delays = find("nexio").cadence, 0.0, []
    for _ in range(8):
        delays.append(cadence.delay(age))
        age += delays[-1]
    assert delays == pytest.approx([2.0, 3.0, 4.5, 6.75, 10.125, 15.1875, 22.78125, 30.0])


@pytest.mark.parametrize("wrong", [{"first": 0}, {"first": 31}, {"factor": 0.9}, {"first": math.nan}, {"ceiling": -1}])
def test_a_cadence_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="0 < first <= ceiling"):
        Cadence(**{"first": 2, "factor": 1.5, "ceiling": 30, **wrong})


def test_a_users_interval_takes_the_place_of_the_first_and_may_exceed_the_ceiling() -> None:
    cadence = Cadence(first=2, factor=1.5, ceiling=30)
    assert cadence.at_least(60).delay(0) == cadence.at_least(60).delay(1e6) == 60
    assert cadence.at_least(None, ceiling=10).delay(1e6) == 10
    assert cadence.at_least(None, factor=1).delay(1e6) == 2
    assert cadence.at_least(None) == cadence
    for wrong in (0, -1, math.nan):
        with pytest.raises(ConfigurationError, match="interval"):
            cadence.at_least(wrong)


def test_a_jitter_only_lengthens() -> None:
    assert all(0 <= spread() <= 1 for _ in range(200))


def test_backoff_doubles_up_to_its_ceiling() -> None:
    assert [backoff(attempt) for attempt in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert backoff(10_000) == 60


def test_a_gate_spaces_requests_evenly_and_keeps_an_asked_for_pause() -> None:
    gate = RateLimiter(30)
    assert [gate.reserve(100) for _ in range(4)] == [0, 2, 4, 6]
    gate.hold(200)
    assert gate.reserve(150) == 50
    free = RateLimiter()
    assert [free.reserve(100) for _ in range(4)] == [0, 0, 0, 0]


def test_a_gate_survives_a_clock_that_is_set_back() -> None:
    gate = RateLimiter()
    gate.reserve(10_000)
    gate.hold(10_030)
    assert gate.reserve(10_010) == 20
    assert gate.reserve(9_000) <= 20


@given(times=st.lists(st.floats(0, 1e9), min_size=2, max_size=30), rate=st.floats(1, 6000))
def test_no_jump_of_the_clock_holds_a_request_for_longer_than_those_before_it(times: list[float], rate: float) -> None:
    gate = RateLimiter(rate)
    for waiting, now in enumerate(times):
        assert gate.reserve(now) <= waiting * 60 / rate * (1 + 1e-6) + 1e-3


@pytest.mark.parametrize("rate", [0, -1, math.nan])
def test_a_rate_that_cannot_be_is_refused(rate: float) -> None:
    with pytest.raises(ConfigurationError, match="requests_per_minute"):
        RateLimiter(rate)


# --- patience --------------------------------------------------------------------------------------------------


def test_patience_survives_json_and_defaults_to_a_week() -> None:
    patience = WaitOptions.build(find("nyx"), now=NOW, max_paused=timedelta(hours=1), interval="7")  # pyright: ignore[reportArgumentType]
    assert patience.deadline == NOW + 604_800
    assert (patience.error_budget, patience.max_paused, patience.cadence.first) == (900, 3600, 7)
    assert WaitOptions.from_dict(json.loads(json.dumps(patience.to_dict()))) == patience


def test_patience_from_a_newer_release_is_read() -> None:
    written = WaitOptions.build(find("nyx"), now=NOW).to_dict()
    assert WaitOptions.from_dict({**written, "added_later": 1}).deadline == written["deadline"]


@pytest.mark.parametrize("field", ["timeout", "error_budget", "max_paused", "interval", "ceiling"])
@pytest.mark.parametrize("wrong", [0, -1, "soon", math.nan, math.inf, timedelta(0), timedelta(seconds=-5), True, [1]])
def test_a_duration_that_cannot_be_is_refused_by_name(field: str, wrong: Any) -> None:
    name = {"interval": "poll_interval", "ceiling": "the longest interval"}.get(field, field)
    with pytest.raises(ConfigurationError, match=name):
        WaitOptions.build(find("nyx"), now=NOW, **{field: wrong})


# --- one wait --------------------------------------------------------------------------------------------------

REF = RunRef(provider="nyx", run_id="r_1")


def watch(
    provider: str = "nyx", *, submitted_at: float | None = None, seen: bool = False, **patience: Any
) -> WaitState:
    declared = find(provider)
    clocks = WaitOptions.build(declared, now=NOW, **patience)
    return WaitState(declared, REF, clocks, began=NOW, submitted_at=submitted_at, seen=seen)


def look(provider: str = "nyx", **fields: Any) -> Observation:
    declared = find(provider)
    body = declared.body.model_validate({"run_id": "r_1", "id": "r_1", "status": "running", **fields})
    return declared.reader.observe(REF, body)


def trouble(retry_after: float | None = None) -> TransientError:
    return TransientError("It is down.", retry_after=retry_after)


def test_a_wait_goes_on_while_the_run_does_and_ends_with_it() -> None:
    waiting = watch()
    assert waiting.observed(look(), NOW) is None
    assert waiting.expired(NOW + 604_799) is None
    last = waiting.observed(look(status="completed", result="success"), NOW + 5)
    assert last is not None
    assert last.outcome is Outcome.SUCCEEDED


def test_a_deadline_makes_the_last_snapshot_a_time_out() -> None:
    waiting = watch(timeout=60)
    waiting.observed(look(spent_usd=1.5), NOW)
    assert waiting.expired(NOW + 59.9) is None
    last = waiting.expired(NOW + 60)
    assert last is not None
    assert (last.outcome, last.phase, last.ended_by, last.run_ended) == (Outcome.TIMED_OUT, None, "timeout", False)
    assert (last.state, last.details["spent_usd"]) == ("running", 1.5)
    assert last.reason == "The wait ended (timeout); the run was last seen 'running' (running)."
    result = last.to_result()
    assert (result["run_ended"], result["ended_by"], result["outcome"]) == (False, "timeout", "timed_out")


def test_a_time_out_before_any_look_has_no_state_and_one_line() -> None:
    last = watch().timed_out("execution_timeout")
    assert (last.state, last.outcome, last.ended_by) == (None, Outcome.TIMED_OUT, "execution_timeout")
    assert "not seen" in last.summary()


def test_the_reason_of_a_time_out_is_at_most_200_characters() -> None:
    waiting = watch("onepin", timeout=60)
    waiting.observed(look("onepin", status="paused", pause_error="word " * 100), NOW)
    last = waiting.expired(NOW + 60)
    assert last is not None
    assert len(last.reason or "") == 200


def test_a_deadline_over_failing_reads_is_a_polling_error_when_the_run_was_never_seen() -> None:
    waiting = watch(timeout=60)
    waiting.failed(trouble(), NOW + 10)
    with pytest.raises(PollingError, match="50 s"):
        waiting.expired(NOW + 60)
    waiting = watch(timeout=20)
    waiting.failed(RunNotFound("No."), NOW + 10)
    with pytest.raises(RunNotFound):
        waiting.expired(NOW + 20)


def test_the_error_budget_counts_failures_in_a_row() -> None:
    waiting = watch(error_budget=100)
    waiting.failed(trouble(), NOW)
    waiting.failed(trouble(), NOW + 99)
    waiting.observed(look(), NOW + 99.5)
    waiting.failed(trouble(), NOW + 150)
    waiting.failed(trouble(), NOW + 249)
    with pytest.raises(PollingError, match=r"It is down.*neither cancelled nor submitted again"):
        waiting.failed(trouble(), NOW + 250)


def test_a_final_error_ends_a_wait_at_once_but_for_a_run_that_is_not_there() -> None:
    with pytest.raises(RequestRefused):
        watch().failed(RequestRefused("No.", status=422), NOW)
    waiting = watch()
    # Counted from the first read: a long line may have stood before it.
    for moment in (29, 58):
        waiting.failed(RunNotFound("No.", status=404), NOW + moment)
    with pytest.raises(RunNotFound):
        waiting.failed(RunNotFound("No.", status=404), NOW + 59)


@pytest.mark.parametrize(
    ("submitted", "seen", "passing"), [(NOW - 29, False, True), (NOW - 30, False, False), (NOW - 9999, True, True)]
)
def test_the_grace_of_a_missing_run_counts_from_its_submit(submitted: float, seen: bool, passing: bool) -> None:
    waiting = watch(submitted_at=submitted, seen=seen)
    if passing:
        waiting.failed(RunNotFound("No.", status=404), NOW)
    else:
        with pytest.raises(RunNotFound):
            waiting.failed(RunNotFound("No.", status=404), NOW)


def test_a_run_that_was_seen_does_not_vanish_before_the_error_budget() -> None:
    waiting = watch(error_budget=100)
    waiting.observed(look(), NOW)
    waiting.failed(RunNotFound("No.", status=404), NOW + 50)
    with pytest.raises(PollingError):
        waiting.failed(RunNotFound("No.", status=404), NOW + 150)


def test_max_paused_counts_only_while_the_run_is_parked() -> None:
    waiting = watch("onepin", max_paused=100)
    waiting.observed(look("onepin", status="paused"), NOW)
    waiting.observed(look("onepin"), NOW + 90)
    waiting.observed(look("onepin", pause_requested_at="2026-01-01T00:00:00Z"), NOW + 95)
    waiting.observed(look("onepin", status="paused"), NOW + 150)
    assert waiting.expired(NOW + 194) is None
    last = waiting.expired(NOW + 195)
    assert last is not None
    assert (last.outcome, last.ended_by) == (Outcome.TIMED_OUT, "max_paused")


def test_a_result_that_settles_late_is_believed_and_one_that_never_comes_fails_after_a_minute() -> None:
    waiting = watch()
    assert waiting.observed(look(status="completed"), NOW) is None
    assert waiting.observed(look(status="completed"), NOW + 59) is None
    late = waiting.observed(look(status="completed", result="success"), NOW + 59.5)
    assert late is not None
    assert late.outcome is Outcome.SUCCEEDED
    waiting = watch()
    waiting.observed(look(status="completed"), NOW)
    never = waiting.observed(look(status="completed"), NOW + 60)
    assert never is not None
    assert (never.outcome, never.reason) == (
        Outcome.FAILED,
        "The run is completed, but no result came within 60 s.",
    )


def test_an_unsettled_word_gives_no_reason_yet() -> None:
    assert look(status="completed").snapshot.reason is None


def test_an_unknown_word_warns_once_for_each_new_word(caplog: pytest.LogCaptureFixture) -> None:
    waiting = watch()
    with caplog.at_level(logging.WARNING):
        for word in ("resting", "resting", "resting", "thinking", "resting"):
            waiting.observed(look(status=word), NOW)
    assert ["resting" in caplog.messages[0], "thinking" in caplog.messages[1], len(caplog.messages)] == [True, True, 2]


@given(
    now=st.floats(0, 700_000),
    failures=st.integers(0, 50),
    retry_after=st.none() | st.floats(0, 900),
    parked=st.booleans(),
)
def test_a_pause_never_passes_a_clock_of_the_wait(
    now: float, failures: int, retry_after: float | None, parked: bool
) -> None:
    waiting = watch("onepin", max_paused=500, error_budget=5_000)
    if parked:
        waiting.observed(look("onepin", status="paused"), NOW)
    for _ in range(failures):
        waiting.failed(trouble(retry_after), NOW + now)
    pause = waiting.pause(NOW + now)
    ends = [604_800.0, *([500.0] if parked else [])]
    assert 0 <= pause <= max(0.0, min(ends) - now) + 1e-3
    assert waiting.latest_read <= NOW + min(ends)


def test_failing_reads_back_off_and_keep_an_asked_for_pause() -> None:
    waiting = watch()
    pauses: list[float] = []
    for _ in range(8):
        waiting.failed(trouble(), NOW)
        pauses.append(waiting.pause(NOW))
    # Each up to half shorter, so that waits that failed together do not come back together.
    for pause, longest in zip(pauses, [1, 2, 4, 8, 16, 32, 60, 60], strict=True):
        assert longest / 2 <= pause <= longest
    waiting.failed(trouble(retry_after=200), NOW)
    assert waiting.pause(NOW) == 200
    waiting.observed(look(), NOW)
    assert 5 <= waiting.pause(NOW) <= 5.5


def test_no_pause_outlasts_the_error_budget_so_that_a_last_read_can_still_come() -> None:
    waiting = watch(error_budget=100)
    waiting.failed(trouble(retry_after=900), NOW + 10)
    assert waiting.pause(NOW + 10) == 100
    waiting.failed(trouble(retry_after=900), NOW + 70)
    assert waiting.pause(NOW + 70) == 40
    # Never none at all: where the budget is all but over, reads must not follow each other without a pause.
    assert waiting.pause(NOW + 109.9) == 0.5


def test_news_are_changes_at_once_and_a_sign_of_life_every_few_minutes() -> None:
    news = LogThrottle(every=300)
    running, done = look().snapshot, look(status="completed", result="success").snapshot
    said = [news.worth_saying(snapshot, NOW + age) for age, snapshot in ((0, running), (5, running), (299, running))]
    assert said == [True, False, False]
    assert news.worth_saying(running, NOW + 300)
    assert not news.worth_saying(running, NOW + 301)
    assert news.worth_saying(done, NOW + 302)


# --- the vocabulary --------------------------------------------------------------------------------------------

KEYS = {
    "schema", "provider", "run_id", "parents", "state", "outcome", "verdict", "reason", "progress", "created_at",
    "started_at", "finished_at", "url", "details", "run_ended", "ended_by", "unmet",
}  # fmt: skip


def test_a_result_has_exactly_its_keys_and_survives_json() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678_900, tzinfo=UTC)
    snapshot = RunSnapshot(
        ref=RunRef(provider="onepin", run_id="a", parents={"workflow_id": "w"}),
        state="completed",
        outcome=Outcome.SUCCEEDED,
        progress=Progress(done=1, total=None, unit="nodes"),
        created_at=moment,
        started_at=moment.replace(tzinfo=None),
        finished_at=moment.astimezone(datetime.fromisoformat("2026-01-01T00:00:00+02:00").tzinfo),
        details={"token_cost": 3},
    )
    for verdict in (None, "warn", Verdict.WARN):
        result = snapshot.to_result(verdict)
        assert set(result) == KEYS
        assert json.loads(json.dumps(result)) == result
        assert type(result["outcome"]) is str
        assert result["schema"] == 1
    assert result["created_at"] == result["started_at"] == result["finished_at"] == "2026-01-02T03:04:05.678900Z"
    assert result["progress"] == {"done": 1.0, "total": None, "unit": "nodes"}
    assert type(result["verdict"]) is str


def test_a_snapshot_survives_json() -> None:
    snapshot = look(spent_usd=1, budget_usd=5).snapshot
    assert RunSnapshot.parse(json.loads(json.dumps(snapshot.to_dict()))) == snapshot
    assert RunSnapshot.parse({**snapshot.to_dict(), "added_later": 1}) == snapshot


def test_an_address_survives_json_counts_as_a_key_and_is_refused_when_it_is_none() -> None:
    ref = RunRef(provider="onepin", run_id="a", parents={"workflow_id": "w"})
    assert {RunRef.parse(json.loads(ref.model_dump_json())): 1}[ref] == 1
    for wrong in (None, "a", {}, {"provider": "nyx"}, {"provider": "nyx", "run_id": 3, "parents": 4}):
        with pytest.raises(ConfigurationError, match="not the address of a run"):
            RunRef.parse(wrong)


@pytest.mark.parametrize(
    ("change", "news"),
    [({}, False), ({"state": "other"}, True), ({"reason": "why"}, True), ({"details": {"a": 1}}, False)],
)
def test_a_change_is_another_word_status_or_reason(change: dict[str, Any], news: bool) -> None:
    before = look().snapshot
    assert before.changed_from(None)
    assert replace(before, **change).changed_from(before) is news
