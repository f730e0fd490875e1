"""What triggers store of their waits: how often all of a loop may, in which order, and what each of them stores."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_mock import MockerFixture

from runops.airflow import trigger_record
from runops.airflow.external_run import ExternalRun, iso
from runops.airflow.recording import Owed, Recording
from runops.airflow.trigger_record import RecordWriter, TriggerRecord, record_of
from runops.core import Outcome, Phase, RunRef, RunSnapshot, find
from runops.core.many.ledger import Ledger
from runops.core.model.policy import OutcomePolicy
from runops.core.model.run import Progress

NYX = find("nyx")
REF = RunRef(provider="nyx", run_id="r1")
NOW = 1_700_000_000.0


def snapshot(state: str = "running", **fields: Any) -> RunSnapshot:
    return RunSnapshot(ref=REF, state=state, **{"phase": Phase.RUNNING, **fields})


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


# --- how often --------------------------------------------------------------------------------------------------------


class Wait:
    """Something that wants to be written."""

    def __init__(self, name: str, log: list[str], error: Exception | None = None) -> None:
        self.name, self.log, self.error = name, log, error

    async def write(self) -> None:
        self.log.append(self.name)
        if self.error is not None:
            raise self.error

    def look_up_hold(self) -> None:
        self.log.append(f"hold {self.name}")


class Timer:
    """What a writer has asked to be called later; a test rings it."""

    def __init__(self, seconds: float, act: Callable[[], object]) -> None:
        self.seconds, self.act, self.cancelled = seconds, act, False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """A writer on a clock of its own, what it has written, and its timers."""

    def __init__(self) -> None:
        self.now = 100.0
        self.log: list[str] = []
        self.timers: list[Timer] = []
        later: Any = self._later
        self.writer = RecordWriter(lambda: self.now, later)

    def _later(self, seconds: float, act: Callable[[], object]) -> Timer:
        self.timers.append(Timer(seconds, act))
        return self.timers[-1]

    async def offer(self, *names: str, owed: Owed = Owed.CHANGE) -> list[Wait]:
        waits = [Wait(name, self.log) for name in names]
        for wait in waits:
            self.writer.offer(wait, owed)
        await settled()
        return waits

    async def ring(self) -> None:
        """The last timer rings."""
        self.now += self.timers[-1].seconds
        self.timers[-1].act()
        await settled()


def on_loop(story: Callable[[Loop], Coroutine[Any, Any, None]]) -> None:
    async def scene() -> None:
        await story(Loop())

    asyncio.run(scene())


def names(first: int, last: int) -> list[str]:
    return [str(number) for number in range(first, last)]


def test_ten_writes_come_at_once_and_then_one_each_half_second() -> None:
    async def story(loop: Loop) -> None:
        await loop.offer(*names(0, 13))
        assert loop.log == names(0, 10)
        for written in (11, 12, 13):
            assert loop.timers[-1].seconds == pytest.approx(0.5)
            await loop.ring()
            assert loop.log == names(0, written)
        assert len(loop.timers) == 3

    on_loop(story)


@pytest.mark.parametrize(("idle", "more"), [(0.25, 0), (0.5, 1), (3.0, 6), (5.0, 10), (3600.0, 10)])
def test_time_without_a_write_makes_room_for_some_and_never_for_more_than_ten(idle: float, more: int) -> None:
    async def story(loop: Loop) -> None:
        await loop.offer(*names(0, 10))
        loop.now += idle
        await loop.offer(*names(10, 30))
        assert len(loop.log) == 10 + more
        if idle == 0.25:
            assert loop.timers[-1].seconds == pytest.approx(0.25)

    on_loop(story)


def test_sums_of_fractions_of_seconds_make_room_too() -> None:
    async def story(loop: Loop) -> None:
        await loop.offer(*names(0, 11))
        loop.now += 0.4999999
        loop.timers[-1].act()
        await settled()
        assert loop.log == names(0, 11)

    on_loop(story)


def test_a_change_goes_before_progress_and_a_wait_is_written_once_for_the_soonest_it_owes() -> None:
    async def story(loop: Loop) -> None:
        await loop.offer(*names(0, 10))
        sign, progress, change = (Wait(name, loop.log) for name in ("sign", "progress", "change"))
        both = Wait("both", loop.log)
        for wait, owed in (
            (sign, Owed.REFRESH), (both, Owed.REFRESH), (progress, Owed.PROGRESS), (change, Owed.CHANGE),
            (both, Owed.PROGRESS), (both, Owed.REFRESH), (change, Owed.REFRESH), (change, Owed.CHANGE),
        ):  # fmt: skip
            loop.writer.offer(wait, owed)
        loop.now += 60
        await loop.ring()
        assert loop.log[10:] == ["change", "progress", "both", "sign"]

    on_loop(story)


def test_a_wait_that_has_ended_is_out_of_the_line_and_the_last_of_it_stops_the_clocks() -> None:
    async def story(loop: Loop) -> None:
        await loop.offer(*names(0, 10))
        one, other = await loop.offer("one", "other")
        assert len(loop.timers) == 1
        for wait in (one, other):
            loop.writer.join(wait)
        (turn, sweep) = loop.timers
        assert sweep.seconds == 15.0
        loop.writer.leave(one)
        assert (turn.cancelled, sweep.cancelled) == (False, False)
        loop.writer.leave(other)
        assert (turn.cancelled, sweep.cancelled) == (True, True)
        loop.writer.join(one)
        await loop.offer("new")
        assert [timer.seconds for timer in loop.timers[2:]] == [15.0, pytest.approx(0.5)]
        await loop.ring()
        assert loop.log[10:] == ["new"]

    on_loop(story)


def test_one_timer_looks_at_all_waits_again_and_again() -> None:
    async def story(loop: Loop) -> None:
        for name in ("a", "b"):
            loop.writer.join(Wait(name, loop.log))
        assert len(loop.timers) == 1
        await loop.ring()
        await loop.ring()
        assert loop.log == ["hold a", "hold b"] * 2
        assert [timer.seconds for timer in loop.timers] == [15.0] * 3

    on_loop(story)


def test_that_a_write_failed_is_said_once_by_the_name_of_its_error(caplog: pytest.LogCaptureFixture) -> None:
    async def story(loop: Loop) -> None:
        for name in ("a", "b"):
            loop.writer.offer(Wait(name, loop.log, RuntimeError("secret")), Owed.CHANGE)
        await loop.offer("c")
        assert loop.log == ["a", "b", "c"]

    on_loop(story)
    assert caplog.messages == ["What the page External runs shows could not be stored: RuntimeError"]


def test_a_loop_has_one_writer_on_its_own_clock() -> None:
    async def here() -> RecordWriter:
        log: list[str] = []
        writer = RecordWriter.here()
        assert RecordWriter.here() is writer
        wait = Wait("a", log)
        writer.offer(wait, Owed.CHANGE)
        writer.join(wait)
        await settled()
        assert log == ["a"]
        writer.leave(wait)
        return writer

    assert asyncio.run(here()) is not asyncio.run(here())


# --- what -------------------------------------------------------------------------------------------------------------


class Line:
    """Stands for the writer: notes who is in line for what."""

    def __init__(self) -> None:
        self.offered: list[Owed] = []
        self.waits: list[Any] = []

    def join(self, wait: Any) -> None:
        self.waits.append(wait)

    def leave(self, wait: Any) -> None:
        self.waits.remove(wait)

    def offer(self, wait: Any, owed: Owed) -> None:
        assert wait in self.waits
        self.offered.append(owed)


class Kept:
    """A trigger's record, on a clock, with what Airflow has stored and what it is given to store."""

    def __init__(self, mocker: MockerFixture) -> None:
        self.now = NOW
        mocker.patch.object(trigger_record, "time", SimpleNamespace(time=lambda: self.now))
        mocker.patch.object(trigger_record, "get_xcom", self._get)
        mocker.patch.object(trigger_record, "set_xcom", self._set)
        self.stored: Any = None
        self.asked: list[Any] = []
        self.writes: list[Any] = []
        self.ti = SimpleNamespace(try_number=2)
        self.line: Any = Line()
        first = ExternalRun(provider="nyx", run_id="r1", try_number=2)
        self.record = TriggerRecord(self.ti, Recording(NYX, first, NOW), self.line)

    async def _get(self, ti: Any, key: str) -> Any:
        self.asked.append((ti, key))
        if isinstance(self.stored, Exception):
            raise self.stored
        return self.stored

    async def _set(self, ti: Any, key: str, value: Any) -> None:
        self.writes.append((ti, key, value))

    def write(self) -> None:
        asyncio.run(self.record.write())


@pytest.fixture
def kept(mocker: MockerFixture) -> Kept:
    return Kept(mocker)


def test_what_is_seen_is_in_line_once_it_is_worth_a_write(kept: Kept) -> None:
    kept.record.observed(snapshot())
    assert (kept.line.offered, kept.line.waits) == ([Owed.CHANGE], [kept.record])
    kept.write()
    kept.record.observed(snapshot())
    assert kept.line.offered == [Owed.CHANGE]
    kept.now += 30
    kept.record.observed(snapshot(progress=Progress(done=1, total=2, unit="x")))
    kept.record.counted(Ledger.of_refs([REF]).tally)
    kept.record.held("key")
    assert kept.line.offered == [Owed.CHANGE, Owed.PROGRESS, Owed.PROGRESS, Owed.CHANGE]
    kept.write()
    _, key, written = kept.writes[-1]
    assert (key, written["holds"], "holds_for" in written) == ("external_run", "key", False)
    assert (written["looked_at"], written["written_at"], written["counts"]["total"]) == (iso(NOW + 30),) * 2 + (1,)
    kept.record.held("turn", "r0")
    kept.write()
    assert kept.writes[-1][2]["holds_for"] == "r0"
    kept.record.held(None)
    kept.write()
    assert "holds" not in kept.writes[-1][2]
    assert {ti.try_number for ti, *_ in kept.writes} == {2}


@pytest.mark.parametrize(("seconds", "asked"), [(14.9, []), (15.0, [15.0]), (400.0, [400.0])])
@pytest.mark.parametrize("held", ["rate_limit", None])
def test_what_holds_a_wait_up_is_asked_once_nothing_was_heard_for_fifteen_seconds(
    kept: Kept, seconds: float, asked: list[float], held: Any
) -> None:
    heard: list[float] = []

    def what_holds(seconds: float) -> Any:
        heard.append(seconds)
        return held

    kept.record.look_up_hold()
    kept.write()
    kept.record.what_holds = what_holds
    kept.now += seconds
    kept.record.look_up_hold()
    assert heard == asked
    assert kept.line.offered == ([Owed.CHANGE] if held and asked else [])
    kept.write()
    assert kept.writes[-1][2].get("holds") == (held if asked else None)


def test_a_wait_that_has_ended_stores_and_asks_for_nothing_more(kept: Kept) -> None:
    kept.record.close()
    kept.record.observed(snapshot())
    kept.record.held("key")
    kept.write()
    assert (kept.line.waits, kept.line.offered, kept.writes) == ([], [], [])
    judgement = OutcomePolicy.build().judge(snapshot(phase=None, outcome=Outcome.SUCCEEDED))
    kept.line.waits.append(kept.record)
    assert asyncio.run(kept.record.last(snapshot(phase=None, outcome=Outcome.SUCCEEDED), judgement)) is None


def test_a_trigger_that_ends_its_task_stores_the_end_itself_with_all_of_before(kept: Kept) -> None:
    earlier = ExternalRun(provider="nyx", run_id="r1", try_number=2, began_at=iso(NOW - 60))
    kept.stored = earlier.to_dict()
    over = snapshot("completed", phase=None, outcome=Outcome.SUCCEEDED)
    kept.now += 5
    form = asyncio.run(kept.record.last(over, OutcomePolicy.build().judge(over)))
    assert form is not None
    assert (form["outcome"], form["verdict"], form["began_at"]) == ("succeeded", "succeed", iso(NOW - 60))
    assert form["ended_at"] == iso(NOW + 5)
    assert (kept.line.waits, kept.writes) == ([], [])


@pytest.mark.parametrize(("number", "writes"), [(1, 1), (2, 1), (3, 0)])
def test_what_is_stored_of_a_later_try_is_never_written_over(kept: Kept, number: int, writes: int) -> None:
    kept.stored = ExternalRun(provider="nyx", run_id="r1", try_number=number).to_dict()
    kept.write()
    kept.write()
    assert len(kept.writes) == 2 * writes
    assert kept.asked == [(kept.ti, "external_run")]
    assert bool(kept.line.waits) is bool(writes)


def test_what_could_not_be_read_before_a_write_is_read_before_the_next_one(kept: Kept) -> None:
    kept.stored = ConnectionError("gone")
    kept.record.observed(snapshot())
    with pytest.raises(ConnectionError):
        kept.write()
    assert kept.writes == []
    kept.record.observed(snapshot())
    assert kept.line.offered == [Owed.CHANGE], "what failed is tried again at the next change, and not at once"
    kept.stored = None
    kept.write()
    assert (len(kept.asked), len(kept.writes)) == (2, 1)


# --- whether ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def here(mocker: MockerFixture, kept: Kept) -> Any:
    mocker.patch.object(RecordWriter, "here", return_value=kept.line)
    may_set = mocker.patch.object(trigger_record, "may_set_xcom", return_value=True)
    installed = mocker.patch.object(trigger_record.page_extra, "installed", return_value=True)
    return SimpleNamespace(may_set=may_set, installed=installed)


@pytest.mark.parametrize("what", ["may_set", "installed"])
def test_nothing_is_kept_where_nothing_can_be_stored_or_shown(here: Any, kept: Kept, what: str) -> None:
    getattr(here, what).return_value = False
    assert record_of(kept.ti, NYX, None) is None


@pytest.mark.parametrize(("ti", "number"), [(SimpleNamespace(try_number=4), 4), (SimpleNamespace(), 0)])
def test_a_record_begins_with_what_is_known(here: Any, kept: Kept, ti: Any, number: int) -> None:
    record = record_of(ti, NYX, None, conn_id="mine", own=True)
    assert record is not None
    ti.try_number = number
    asyncio.run(record.write())
    here.may_set.assert_called_once_with(ti)
    form = kept.writes[-1][2]
    assert (form["provider"], form["try_number"], form["conn_id"], form["own"]) == ("nyx", number, "mine", True)
    assert form["began_at"] == form["written_at"] == iso(NOW)


@pytest.mark.parametrize(
    ("shown", "hold", "owed"),
    [
        (None, None, [Owed.CHANGE]), ({}, None, [Owed.CHANGE]), ({"holds_for": "r0"}, "turn", []),
        ({"holds_for": "r0"}, None, [Owed.CHANGE]), ({"holds_for": "r9"}, "turn", [Owed.CHANGE]),
    ],
)  # fmt: skip
def test_what_its_worker_has_stored_of_a_wait_is_not_stored_again(
    here: Any, kept: Kept, shown: Any, hold: Any, owed: list[Owed]
) -> None:
    record = record_of(kept.ti, NYX, shown, hold)
    assert record is not None
    record.held("turn", "r0")
    assert kept.line.offered == owed
