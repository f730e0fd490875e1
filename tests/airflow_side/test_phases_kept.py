"""What is remembered of the phases of a run: by a process, over processes, and in the triggerer."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_mock import MockerFixture

from runops.airflow import phases
from runops.airflow.phases import PhaseCalls, PhasesInTrigger, for_trigger, later
from runops.core import Phase, RunRef, RunSnapshot, find
from runops.core.waiting.phases import PhaseEntered, PhasesSeen
from tests.airflow_side.conftest import Store

NOW = 1_700_000_000.0
REF = RunRef(provider="b3os", run_id="r1")
LOG = logging.getLogger("a task")
WAITING = PhasesSeen(Phase.WAITING, NOW - 9, 2)


def at(phase: Phase) -> RunSnapshot:
    return RunSnapshot(ref=REF, state=str(phase), phase=phase)


class Task:
    """A task that calls somebody for a phase: its store, its XCom, and who was called."""

    def __init__(self) -> None:
        self.store = Store()
        self.left: Any = None
        self.called: list[str] = []
        self.ti = SimpleNamespace(
            task_id="a_task", map_index=3, max_tries=2, try_number=4, xcom_pull=self._pull
        )  # fmt: skip
        self.context = {"ti": self.ti, "task_state_store": self.store}

    def _pull(self, **asked: Any) -> Any:
        assert asked == {"task_ids": "a_task", "key": "run_phase_left", "map_indexes": 3}
        if isinstance(self.left, Exception):
            raise self.left
        return self.left

    def calls(self, *, everlasting: bool | None = None) -> PhaseCalls:
        def call(context: Any, run: Any) -> None:
            assert context is self.context
            self.called.append(run["phase"])

        given = {} if everlasting is None else {"everlasting": everlasting}
        return PhaseCalls(self.context, {Phase.WAITING: (call,)}, REF, log=LOG, **given)

    @property
    def kept(self) -> Any:
        return self.store.get("runops_phases")

    @kept.setter
    def kept(self, value: Any) -> None:
        self.store.set("runops_phases", value)


@pytest.fixture
def task() -> Task:
    return Task()


RECORD = {"version": 1, "run_id": "r1", "generation": 2, **WAITING.to_dict()}
NOTE = {"version": 1, "run_id": "r1", "try_number": 4, **PhasesSeen(Phase.RUNNING, NOW, 2).to_dict()}


# --- one process ----------------------------------------------------------------------------------------------------


def test_an_entry_calls_once_and_is_kept_and_that_it_was_left_is_kept_too(task: Task) -> None:
    calls = task.calls()
    calls.observe(at(Phase.RUNNING), NOW)
    assert (task.kept, task.called) == (None, [])
    calls.observe(at(Phase.WAITING), NOW + 1)
    calls.observe(at(Phase.WAITING), NOW + 2)
    entered = PhasesSeen(Phase.WAITING, NOW + 1, 1).to_dict()
    assert task.kept == {"version": 1, "run_id": "r1", "generation": 2, **entered}
    calls.observe(at(Phase.RUNNING), NOW + 3)
    left = PhasesSeen(Phase.RUNNING, NOW + 3, 1).to_dict()
    assert task.kept == {"version": 1, "run_id": "r1", "generation": 2, **left}
    calls.observe(at(Phase.QUEUED), NOW + 4)
    assert (task.kept["phase"], task.called) == ("running", ["waiting"])


def test_a_wait_is_interrupted_for_a_call_and_keeps_what_was_left(task: Task, mocker: MockerFixture) -> None:
    mocker.patch.object(phases, "time", SimpleNamespace(time=lambda: NOW))
    heard: list[RunSnapshot] = []
    on_update = task.calls().interrupting(heard.append)
    with pytest.raises(PhaseEntered):
        on_update(at(Phase.WAITING))
    on_update(at(Phase.RUNNING))
    assert (len(heard), task.kept["phase"], task.kept["since"]) == (2, "running", NOW)
    nobody = PhaseCalls(task.context, {}, REF, log=LOG)
    observer: Any = object()
    assert nobody.interrupting(observer) is observer


@pytest.mark.parametrize(("entries", "called"), [(1, ["waiting"]), (2, []), (3, [])])
def test_what_a_trigger_has_seen_is_called_for_unless_it_was(
    task: Task, entries: int, called: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    task.kept = {**RECORD, "entries": entries}
    calls = task.calls()
    with caplog.at_level(logging.INFO):
        calls.go_on(at(Phase.WAITING), WAITING)
    assert (task.called, calls.watch.seen) == (called, WAITING)
    said = "The callbacks of this phase were called already, before this process began."
    assert (said in caplog.messages) is (not called)
    assert task.kept["entries"] == (2 if called else entries)


def test_a_phase_that_nobody_is_called_for_calls_nobody_and_is_kept(task: Task) -> None:
    calls = task.calls()
    calls.call(at(Phase.RUNNING), WAITING)
    calls.call(RunSnapshot(ref=REF, state=None), WAITING)
    assert (task.called, task.kept["entries"]) == ([], 2)


def test_phases_that_no_run_shows_are_warned_of_once(task: Task, caplog: pytest.LogCaptureFixture) -> None:
    nexio = find("nexio")
    calls = PhaseCalls(task.context, {Phase.PAUSED: (print,)}, REF, log=LOG)
    for _ in range(2):
        calls.warn_of(nexio)
    assert len(caplog.messages) == 1
    assert "paused" in caplog.messages[0]
    PhaseCalls(task.context, {}, REF, log=LOG).warn_of(nexio)
    assert len(caplog.messages) == 1


# --- over processes -------------------------------------------------------------------------------------------------

NOTHING = PhasesSeen()


@pytest.mark.parametrize(
    ("change", "everlasting", "seen"),
    [
        ({}, None, WAITING), ({}, False, WAITING), ({"generation": 1}, False, NOTHING),
        ({"generation": 1}, None, NOTHING), ({"generation": 1}, True, WAITING), ({"run_id": "r2"}, True, NOTHING),
        ({"version": 2}, True, NOTHING),
    ],
)  # fmt: skip
def test_what_is_kept_counts_for_its_run_and_its_part_of_the_task_s_life(
    task: Task, change: dict[str, Any], everlasting: bool | None, seen: PhasesSeen
) -> None:
    task.kept = {**RECORD, **change}
    assert task.calls(everlasting=everlasting).watch.seen == seen


@pytest.mark.parametrize(
    ("change", "phase"),
    [
        ({}, Phase.RUNNING), ({"try_number": 3}, Phase.WAITING), ({"run_id": "r2"}, Phase.WAITING),
        ({"entries": 1}, Phase.WAITING), ({"entries": 3}, Phase.RUNNING), ({"phase": None}, Phase.WAITING),
    ],
)  # fmt: skip
def test_what_a_trigger_of_this_try_has_noted_counts_where_it_is_later(
    task: Task, change: dict[str, Any], phase: Phase
) -> None:
    task.kept, task.left = RECORD, {**NOTE, **change}
    assert task.calls().watch.seen.phase is phase


@pytest.mark.parametrize("value", [None, "text", [1], {}])
def test_what_is_no_record_says_nothing(task: Task, value: Any) -> None:
    task.kept = task.left = value
    assert task.calls().watch.seen == NOTHING


def test_without_a_store_or_an_answer_nothing_is_remembered_and_the_wait_goes_on(
    task: Task, mocker: MockerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    task.kept, task.left = RECORD, ConnectionError("gone")
    assert task.calls().watch.seen == NOTHING
    assert caplog.messages == ["What was seen of the run's phases could not be read (ConnectionError)."]
    task.left = None
    calls = task.calls()
    mocker.patch.object(task.store, "set", side_effect=OSError("full"))
    calls.observe(at(Phase.RUNNING), NOW)
    assert caplog.messages[1:] == [
        "What was seen of the run's phases could not be kept (OSError): a later try may call again."
    ]
    del task.context["task_state_store"]
    without = task.calls()
    without.observe(at(Phase.WAITING), NOW)
    assert (task.called, len(caplog.messages)) == (["waiting"], 2)


def test_a_task_that_calls_nobody_asks_for_nothing(task: Task) -> None:
    task.left = AssertionError("asked")
    task.kept = RECORD
    assert PhaseCalls(task.context, {}, REF, log=LOG).watch.seen == NOTHING


def test_a_trigger_is_given_the_phases_and_what_was_seen() -> None:
    wanted: Any = {Phase.WAITING: (print,), Phase.PAUSED: (print,)}
    assert for_trigger({}) == for_trigger({}, WAITING) == {}
    assert for_trigger(wanted) == {"phases": {"wanted": ["paused", "waiting"], "seen": NOTHING.to_dict()}}
    assert for_trigger(wanted, WAITING)["phases"]["seen"] == WAITING.to_dict()


def test_of_two_records_the_one_with_more_entries_or_a_phase_that_was_left_is_the_later() -> None:
    left = PhasesSeen(Phase.RUNNING, NOW, 2)
    assert later(WAITING, left) is left
    assert later(WAITING, PhasesSeen(Phase.RUNNING, NOW, 1)) is WAITING
    assert later(WAITING, PhasesSeen(None, NOW, 9)) is WAITING


# --- in the triggerer -----------------------------------------------------------------------------------------------


class Channel:
    """What a trigger notes and asks for."""

    def __init__(self, mocker: MockerFixture) -> None:
        mocker.patch.object(phases, "time", SimpleNamespace(time=lambda: NOW))
        mocker.patch.object(phases, "get_xcom", self._get)
        mocker.patch.object(phases, "set_xcom", self._set)
        self.value: Any = None
        self.asked: list[Any] = []
        self.noted: list[Any] = []

    async def _get(self, ti: Any, key: str) -> Any:
        self.asked.append((ti.try_number, key))
        if isinstance(self.value, Exception):
            raise self.value
        return self.value

    async def _set(self, ti: Any, key: str, value: Any) -> None:
        if isinstance(self.value, Exception):
            raise self.value
        self.noted.append((ti.try_number, key, value))

    def run(self, ti: Any, kept: Any, *shown: Phase) -> tuple[PhasesSeen, list[Any]]:
        """What was seen at the begin, and the entries that interrupted the wait."""

        async def story() -> Any:
            entered: list[Any] = []
            trigger = PhasesInTrigger(ti, kept, "r1", log=LOG)
            on_update = await trigger.begin(lambda snapshot: None)
            began = trigger.watch.seen
            for phase in shown:
                try:
                    on_update(at(phase))
                except PhaseEntered as error:
                    entered.append(error.seen.entries)
            await trigger.end()
            return began, entered

        return asyncio.run(story())


TI = SimpleNamespace(try_number=4)
KEPT = for_trigger({Phase.WAITING: (print,)}, WAITING)["phases"]


@pytest.fixture
def channel(mocker: MockerFixture) -> Channel:
    return Channel(mocker)


def test_a_trigger_notes_that_a_phase_was_left_and_interrupts_the_wait_for_the_next_entry(channel: Channel) -> None:
    began, entered = channel.run(TI, KEPT, Phase.WAITING, Phase.RUNNING, Phase.QUEUED, Phase.WAITING)
    assert (began, entered) == (WAITING, [3])
    assert channel.noted == [(4, "run_phase_left", NOTE)]
    assert channel.asked == [(4, "run_phase_left")]


def test_a_trigger_learns_what_one_before_it_has_noted_of_the_same_run(channel: Channel) -> None:
    channel.value = NOTE
    began, entered = channel.run(TI, KEPT, Phase.WAITING)
    assert (began.phase, entered) == (Phase.RUNNING, [3])
    for other in ({"run_id": "r2"}, {"try_number": 3}, {"version": 9}):
        channel.value = {**NOTE, **other}
        assert channel.run(TI, KEPT, Phase.WAITING) == (WAITING, [])
    channel.value = "no note"
    assert channel.run(TI, KEPT)[0] == WAITING


@pytest.mark.parametrize("ti", [TI, None])
@pytest.mark.parametrize("phase", [None, Phase.RUNNING])
def test_a_trigger_asks_only_where_it_runs_in_a_triggerer_and_a_phase_may_have_been_left(
    channel: Channel, ti: Any, phase: Phase | None
) -> None:
    seen = PhasesSeen(phase, NOW, 1)
    kept = for_trigger({Phase.WAITING: (print,)}, seen)["phases"]
    assert channel.run(ti, kept, Phase.WAITING, Phase.RUNNING) == (seen, [2])
    assert channel.asked == []
    assert len(channel.noted) == (0 if ti is None else 1)
    assert channel.run(None, KEPT)[0] == WAITING
    assert channel.asked == []


def test_what_cannot_be_asked_or_noted_is_said_and_changes_nothing(
    channel: Channel, caplog: pytest.LogCaptureFixture
) -> None:
    channel.value = ConnectionError("gone")
    assert channel.run(TI, KEPT, Phase.RUNNING) == (WAITING, [])
    assert caplog.messages == [
        "Whether the run has left its phase before could not be read (ConnectionError).",
        "That the run has left its phase could not be noted (ConnectionError).",
    ]


@pytest.mark.parametrize("kept", [None, "text", {}, {"wanted": None}])
def test_what_a_trigger_of_another_version_is_given_calls_nobody(channel: Channel, kept: Any) -> None:
    assert channel.run(TI, kept, Phase.WAITING, Phase.RUNNING) == (NOTHING, [])
    assert (channel.asked, channel.noted) == ([], [])
