"""One poke by itself: what it reads of earlier ones, how it reads, what it keeps for the next, and when it gives up."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from runops.airflow import exceptions
from runops.airflow.reschedule import Poke
from runops.core import AuthError, PollingError, RunNotFound, RunRef, RunSnapshot, find
from runops.core.model.codes import Code
from runops.core.model.run import Outcome, Phase
from runops.core.waiting.limits import WaitProgress
from runops.core.waiting.options import WaitOptions

REF = RunRef(provider="b3os", run_id="r1")
OPEN = RunSnapshot(ref=REF, state="running", phase=Phase.RUNNING)
OVER = RunSnapshot(ref=REF, state="success", outcome=Outcome.SUCCEEDED)
KEY = "runops"
GONE, REFUSED = RunNotFound("There is none."), AuthError("The key is refused.")
DOWN = PollingError(REF, 60.0, GONE)
CLOCKS = ("max_paused", "max_stalled")


class Service:
    """The connection of a poke: it ends the wait as it is asked to, and keeps what it was given."""

    def __init__(self) -> None:
        self.provider = find("b3os")
        self.answer: Any = OPEN
        self.learns: dict[str, Any] = {}
        self.given: dict[str, Any] = {}

    @contextmanager
    def client(self) -> Iterator[Service]:
        yield self

    def wait(self, ref: RunRef, **given: Any) -> RunSnapshot:
        self.given = {"ref": ref, **given, "past": replace(given["past"])}
        for name, value in self.learns.items():
            setattr(given["past"], name, value)
        if isinstance(self.answer, Exception):
            raise self.answer
        given["on_update"](self.answer)
        return self.answer


class Pokes:
    """``pokes(...)``: a poke at the clock's time, of a wait that began 1,000 s ago."""

    def __init__(self, host: Any) -> None:
        self.clock, self.service, self.context = host.clock, Service(), host.context()
        self.began = host.clock.now - 1000.0
        self.options = WaitOptions.build(self.service.provider, now=self.began, timeout=5000, error_budget=600)

    @property
    def state(self) -> dict[str, Any]:
        return self.context["task_state_store"].get(KEY) or {}

    def keep(self, **state: Any) -> None:
        self.context["task_state_store"].set(KEY, {"version": 1, "generation": 0, "kept": True, **state})

    def without_store(self) -> None:
        del self.context["task_state_store"]

    def poke(self, **options: Any) -> Poke:
        clocks = replace(self.options, **options)
        hook: Any = self.service
        return Poke(self.context, hook=hook, options=clocks, began=self.began, log=structlog.get_logger("a_task"))


@pytest.fixture
def pokes(host: Any) -> Pokes:
    made = Pokes(host)
    state = made.context["task_state_store"]
    made.keep()
    assert list(state.values) == [KEY]
    return made


# --- what earlier pokes have learnt ---


def test_a_poke_goes_on_with_all_that_earlier_ones_have_learnt(pokes: Pokes) -> None:
    kept = {"seen": True, "failing_since": 1.0, "parked_since": 2.0, "changed_at": 3.0, "signature": "s",
            "refused_since": 4.0}  # fmt: skip
    pokes.keep(**kept)
    pokes.poke().read(REF)
    assert pokes.service.given["past"] == WaitProgress(began=pokes.began, resumed=True, **kept)
    assert pokes.service.given["submitted_at"] == pokes.began
    assert pokes.service.given["ref"] == REF


def test_the_first_poke_has_nothing_to_go_on_with(pokes: Pokes) -> None:
    pokes.poke().read(REF)
    assert pokes.service.given["past"] == WaitProgress(began=pokes.began)


@pytest.mark.parametrize(("before", "seen"), [(1.0, True), (0.0, False)])
def test_without_a_record_the_run_counts_as_seen_from_the_second_poke_on(
    pokes: Pokes, before: float, seen: bool
) -> None:
    pokes.without_store()
    pokes.began = pokes.context["ti"].start_date.timestamp() - before
    pokes.poke().read(REF)
    assert pokes.service.given["past"].seen is seen


# --- how long it reads, and by which clocks ---


@pytest.mark.parametrize(("left", "store", "grace", "seconds"), [
    (5000.0, True, 900.0, 90.0), (30.0, True, 900.0, 30.0), (-7.0, True, 900.0, 0.0),
    (5000.0, False, 900.0, 910.0), (5000.0, False, 30.0, 90.0), (30.0, False, 900.0, 30.0),
])  # fmt: skip
def test_a_poke_reads_again_for_90_seconds_and_without_a_record_for_the_whole_grace_of_a_key(
    pokes: Pokes, left: float, store: bool, grace: float, seconds: float
) -> None:
    if not store:
        pokes.without_store()
    pokes.poke(deadline=pokes.clock.now + left, auth_grace=grace).read(REF)
    assert pokes.service.given["patience"].deadline == pokes.clock.now + seconds


@pytest.mark.parametrize(("stalled", "here"), [(None, None), (60.0, math.inf)])
def test_the_wait_in_a_poke_only_notes_what_the_limits_need(pokes: Pokes, stalled: Any, here: Any) -> None:
    pokes.poke(max_paused=50.0, max_spend=5.0, max_stalled=stalled).read(REF)
    patience = pokes.service.given["patience"]
    assert (patience.max_paused, patience.max_spend, patience.max_stalled) == (None, None, here)


# --- what it keeps for the next ---


def test_a_good_read_keeps_what_the_wait_has_learnt_and_ends_both_kinds_of_failure(pokes: Pokes) -> None:
    pokes.keep(failing_since=1.0, refused_since=2.0)
    pokes.service.learns = {"parked_since": pokes.clock.now, "changed_at": 6.0, "signature": "t"}
    assert pokes.poke().read(REF) is None
    assert pokes.state == {
        "version": 1, "generation": 0, "kept": True, "seen": True, "failing_since": None, "refused_since": None,
        "parked_since": pokes.clock.now, "changed_at": 6.0, "signature": "t",
    }  # fmt: skip


def test_a_poke_that_could_not_read_to_its_end_keeps_since_when(pokes: Pokes) -> None:
    cut = RunSnapshot(ref=REF, state=None, outcome=Outcome.TIMED_OUT, ended_by="timeout")
    pokes.service.answer, pokes.service.learns = cut, {"failing_since": 5.0, "refused_since": 6.0}
    assert pokes.poke(deadline=pokes.clock.now + 1).read(REF) is None
    assert (pokes.state["failing_since"], pokes.state["refused_since"]) == (5.0, 6.0)
    # Where the whole wait is over, so is this one.
    assert pokes.poke(deadline=pokes.clock.now).read(REF) == cut


def test_an_end_is_handed_on_as_it_was_read(pokes: Pokes) -> None:
    pokes.service.answer = OVER
    assert pokes.poke().read(REF) == OVER


@pytest.mark.parametrize(("left", "ended_by"), [(1.0, None), (0.0, "timeout"), (-1.0, "timeout")])
def test_a_run_that_goes_on_ends_the_wait_at_its_deadline(pokes: Pokes, left: float, ended_by: str | None) -> None:
    ended = pokes.poke(deadline=pokes.clock.now + left).read(REF)
    assert (None if ended is None else ended.ended_by) == ended_by
    if ended is not None:
        assert (ended.state, ended.outcome) == ("running", Outcome.TIMED_OUT)


@pytest.mark.parametrize(("ago", "ended_by"), [(59.0, None), (60.0, "max_paused")])
def test_a_pause_ends_the_wait_at_its_limit_and_says_which(pokes: Pokes, ago: float, ended_by: str | None) -> None:
    pokes.keep(parked_since=pokes.clock.now - ago)
    ended = pokes.poke(max_paused=60.0).read(REF)
    assert (None if ended is None else ended.ended_by) == ended_by
    if ended is not None:
        assert "paused or waiting for 60 s" in (ended.reason or "")


# --- reads that fail ---


@pytest.mark.parametrize(("error", "seen", "since", "left", "then"), [
    (DOWN, False, None, 100.0, "again"), (DOWN, True, None, 100.0, "again"),
    (DOWN, True, 599.0, 100.0, "again"), (DOWN, True, 600.0, 100.0, "raised"),
    (DOWN, False, 599.0, 100.0, "again"), (DOWN, False, 600.0, 100.0, "raised"),
    (DOWN, True, None, 0.0, "over"), (DOWN, False, None, 0.0, "raised"), (DOWN, False, None, -1.0, "raised"),
    (GONE, False, None, 100.0, "raised"), (GONE, True, None, 100.0, "again"), (GONE, True, None, -1.0, "over"),
])  # fmt: skip
def test_a_poke_that_fails_is_followed_by_another_within_the_error_budget(
    pokes: Pokes, error: Any, seen: bool, since: float | None, left: float, then: str
) -> None:
    moment = None if since is None else pokes.clock.now - since
    pokes.keep(failing_since=moment)
    poke = pokes.poke(deadline=pokes.clock.now + left)
    if then == "raised":
        with pytest.raises(getattr(exceptions, type(error).__name__)):
            poke.failed(error, seen=seen)
        return
    assert poke.failed(error, seen=seen) is (then == "over")
    assert pokes.state["failing_since"] == (pokes.clock.now if moment is None else moment)


def test_a_failure_counts_from_the_begin_of_its_poke_and_is_logged(
    pokes: Pokes, capsys: pytest.CaptureFixture[str]
) -> None:
    began, poke = pokes.clock.now, pokes.poke()
    pokes.clock.sleep(70)
    assert poke.failed(DOWN, seen=True) is False
    assert pokes.state["failing_since"] == began
    assert "could not be read for 60 s" in capsys.readouterr().out


@pytest.mark.parametrize(("left", "over"), [(1.0, False), (0.0, True)])
def test_a_wait_that_cannot_read_ends_at_its_deadline_where_the_run_was_seen(
    pokes: Pokes, left: float, over: bool
) -> None:
    pokes.keep(seen=True)
    pokes.service.answer = DOWN
    ended = pokes.poke(deadline=pokes.clock.now + left).read(REF)
    assert (ended is not None and ended.ended_by == "timeout") is over


@pytest.mark.parametrize(
    ("seen", "since", "again"),
    [(True, None, True), (True, 899.0, True), (True, 900.0, False), (False, None, False), (False, 1.0, False)],
)
def test_a_key_that_was_accepted_may_be_refused_for_its_grace(
    pokes: Pokes, seen: bool, since: float | None, again: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    moment = None if since is None else pokes.clock.now - since
    pokes.keep(refused_since=moment)
    poke = pokes.poke(auth_grace=900.0)
    began = pokes.clock.now
    if not again:
        with pytest.raises(exceptions.AuthError):
            poke.refused(REFUSED, seen=seen)
        return
    poke.refused(REFUSED, seen=seen)
    assert pokes.state["refused_since"] == (began if moment is None else moment)
    said = capsys.readouterr().out
    assert "The key is refused. The connection is read again at the next poke." in said
    assert Code.KEY_REREAD.value in said


# --- how it is told that a poke gives up ---


@pytest.mark.parametrize(("tries", "left"), [(0, False), (1, True)])
def test_a_poke_that_gives_up_leaves_a_span_unless_another_try_follows(
    pokes: Pokes, tries: int, left: bool, mocker: Any
) -> None:
    erred = mocker.patch("runops.airflow.reschedule.TaskTrace.erred")
    counted = mocker.patch("runops.airflow.reschedule.METER.erred")
    pokes.context["ti"].max_tries = tries
    pokes.keep(generation=tries, seen=True, failing_since=1.0)
    pokes.service.answer = DOWN
    with pytest.raises(exceptions.PollingError):
        pokes.poke().read(REF)
    counted.assert_called_once_with("b3os", DOWN)
    assert erred.call_count == (0 if left else 1)
    if not left:
        run, error, began = erred.call_args.args
        assert (run(), type(error), began()) == (REF, exceptions.PollingError, pokes.began)


# --- clocks that need a record ---


def _warned(pokes: Pokes, capsys: pytest.CaptureFixture[str], **options: Any) -> list[str]:
    pokes.poke(**options).read(REF)
    said = capsys.readouterr().out
    return [name for name in CLOCKS if f"{name} needs Airflow 3.3 or newer in reschedule mode" in said]


@pytest.mark.parametrize("name", CLOCKS)
def test_a_clock_that_begins_anew_at_each_poke_is_warned_of_by_name(
    pokes: Pokes, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    since = "parked_since" if name == "max_paused" else "changed_at"
    limit = {name: 5000.0}
    pokes.service.learns = {since: pokes.clock.now}
    assert _warned(pokes, capsys, **limit) == []
    pokes.without_store()
    assert _warned(pokes, capsys, **limit) == [name]
    assert _warned(pokes, capsys) == []
    pokes.service.learns = {since: pokes.clock.now - 1}
    assert _warned(pokes, capsys, **limit) == []
    pokes.service.learns = {}
    assert _warned(pokes, capsys, **limit) == []
    # The first poke does not begin anew what it has only begun.
    pokes.service.learns, pokes.began = {since: pokes.clock.now}, pokes.clock.now
    assert _warned(pokes, capsys, **limit) == []


def test_phases_are_observed_by_the_clock_of_the_look(pokes: Pokes) -> None:
    seen: list[Any] = []

    def late(snapshot: RunSnapshot, now: float) -> None:
        seen.append((snapshot, now))
        pokes.clock.sleep(100)

    phases: Any = SimpleNamespace(observe=late)
    poke = pokes.poke(deadline=pokes.clock.now + 50)
    poke._phases = phases
    began = pokes.clock.now
    assert poke.read(REF) is None
    assert seen == [(OPEN, began)]


def test_a_record_of_the_page_hears_of_the_read(pokes: Pokes) -> None:
    heard: list[RunSnapshot] = []
    record: Any = SimpleNamespace(observed=heard.append)
    pokes.poke().read(REF, record)
    assert heard == [OPEN]
