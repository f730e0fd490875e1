"""A trigger of one run, step by step: what it asks its client for, what it fires, and what it says and keeps."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.triggers.base import TaskSkippedEvent, TaskSuccessEvent, TriggerEvent
from pytest_mock import MockerFixture

from runops.airflow import events, trigger, trigger_base
from runops.airflow._compat import AirflowException
from runops.airflow.end_in_trigger import EndInTrigger
from runops.airflow.exceptions import AuthError as AirflowAuthError
from runops.airflow.exceptions import TriggerCrashed
from runops.airflow.external_run import iso
from runops.airflow.lost_submit import LostSubmit
from runops.airflow.trigger import RunTrigger
from runops.core import (
    AuthError,
    ConflictError,
    Outcome,
    OutcomePolicy,
    Phase,
    RunRef,
    RunSnapshot,
    SubmitUncertainError,
    find,
)
from runops.core.waiting.intent import Intent
from runops.core.waiting.phases import PhaseEntered, PhasesSeen
from runops.core.waiting.state import WaitProgress
from runops.core.waiting.turns import Turn
from tests.services import WORKFLOW, Clock

NOW = 1_700_000_000.0
REF = RunRef(provider="nyx", run_id="r1")
PATIENCE = {
    "deadline": NOW + 500, "error_budget": 80.0, "max_paused": None,
    "cadence": {"first": 2.0, "factor": 1.5, "ceiling": 30.0},
}  # fmt: skip
OVER = RunSnapshot(ref=REF, state="completed", outcome=Outcome.SUCCEEDED)
INTENT = Intent("[bcdfghjklmnpq]", frozenset({"older"}), 5.0)


class Client:
    """Stands for a client: notes what it is asked for, and answers as a test says."""

    def __init__(self, clock: Clock, provider: str) -> None:
        self.provider, self.clock = find(provider), clock
        self.asked: list[Any] = []
        self.answer: Any = OVER
        self.sees: list[RunSnapshot] = []
        self.poller: Any = None

    def _answer(self) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def wait(self, ref: RunRef, *, on_update: Any, **settings: Any) -> RunSnapshot:
        self.asked.append(("wait", ref, settings))
        for each in self.sees:
            on_update(each)
        return self._answer()

    async def drive(self, flow: Any) -> Any:
        self.asked.append(("drive", flow))
        return self._answer()

    async def find_submitted(self, parent: Any, intent: Intent, **settings: Any) -> RunRef:
        self.asked.append(("find_submitted", dict(parent), intent, settings))
        return self._answer()

    async def cancel(self, ref: RunRef) -> None:
        self.asked.append(("cancel", ref))


class World:
    """Makes triggers on one clock, whose client and record a test sees."""

    def __init__(self, mocker: MockerFixture) -> None:
        self.mocker = mocker
        self.clock = Clock()
        self.clock.now = NOW
        for module in (trigger, trigger_base):
            mocker.patch.object(module, "time", SimpleNamespace(time=self.clock))
            sleeping = SimpleNamespace(
                sleep=self.clock.sleep_async, gather=asyncio.gather, timeout=asyncio.timeout,
                create_task=asyncio.create_task,
            )  # fmt: skip
            mocker.patch.object(module, "asyncio", sleeping)
        self.client = Client(self.clock, "nyx")
        self.record: Any = SimpleNamespace(
            what_holds=None, observed=lambda snapshot: self.seen.append(snapshot),
            close=lambda: self.seen.append("closed"), held=lambda *held: self.seen.append(held),
        )  # fmt: skip
        self.seen: list[Any] = []
        self.kept: list[Any] = []

    def trigger(self, **given: Any) -> Any:
        arguments: dict[str, Any] = {"provider": "nyx", "patience": dict(PATIENCE), "ref": REF.model_dump(), **given}
        made: Any = RunTrigger(**arguments)
        made._log = logging.getLogger("a trigger")

        @asynccontextmanager
        async def opened() -> AsyncIterator[Client]:
            yield self.client

        async def opens() -> Any:
            return opened()

        hook = SimpleNamespace(provider=find(made.provider), conn_id="mine", async_client=opens)
        self.mocker.patch.object(made, "_hook", return_value=hook)

        def keep(hook: Any, *hold: Any, **run: Any) -> Any:
            self.kept.append((*hold, run))
            made.record = self.record
            return self.record

        self.mocker.patch.object(made, "_keep_record", keep)
        return made

    def end(self, **given: Any) -> Any:
        return asyncio.run(self.trigger(**given)._end())


@pytest.fixture
def world(mocker: MockerFixture) -> World:
    return World(mocker)


# --- a wait for a run -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cancels", [True, False])
@pytest.mark.parametrize("past", [None, {"began": NOW - 60, "seen": True}])
def test_a_wait_begins_with_all_that_its_worker_knows(world: World, cancels: bool, past: Any) -> None:
    made = world.trigger(past=past, submitted_at=NOW - 70, cancel_on_kill=cancels)
    assert asyncio.run(made._end()) == events.ended(OVER)
    ((_, ref, settings),) = world.client.asked
    clocks = settings["patience"]
    assert (ref, settings["submitted_at"], clocks.deadline, clocks.error_budget) == (REF, NOW - 70, NOW + 500, 80.0)
    assert (settings["past"].seen, settings["past"].began) == (past is not None, past and NOW - 60)
    url = find("nyx").url(REF)
    about = {"run_id": "r1", "parents": {}, "url": url, "own": cancels, "began_at": past and iso(NOW - 60)}
    assert world.kept == [(about,)]
    assert made.began == (NOW - 60 if past else NOW)


def test_what_is_seen_is_recorded_and_what_holds_the_wait_up_can_be_asked(world: World) -> None:
    seen = RunSnapshot(ref=REF, state="running", phase=Phase.RUNNING)
    world.client.sees = [seen]
    world.end()
    assert world.seen == [seen]
    assert world.record.what_holds(20.0) is None
    world.client.poller = SimpleNamespace(hold=lambda ref, seconds: (ref, seconds))
    assert world.record.what_holds(20.0) == (REF, 20.0)


@pytest.mark.parametrize(
    ("ends", "ended_by", "clock"),
    [
        (None, "timeout", "timeout"), (NOW + 500, "timeout", "timeout"), (NOW + 501, "timeout", "timeout"),
        (NOW + 499, "timeout", "execution_timeout"), (NOW + 499, "max_paused", "max_paused"), (None, None, None),
    ],
)  # fmt: skip
def test_the_clock_that_came_first_is_the_one_that_has_ended_the_wait(
    world: World, ends: float | None, ended_by: Any, clock: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    seen = RunSnapshot(ref=REF, state="probing", phase=Phase.RUNNING)
    world.client.sees = [seen]
    outcome = Outcome.TIMED_OUT if ended_by else Outcome.SUCCEEDED
    world.client.answer = RunSnapshot(ref=REF, state="probing", outcome=outcome, ended_by=ended_by)
    with caplog.at_level(logging.INFO):
        event = world.end(execution_ends=ends)
    found = event["snapshot"]
    assert (found["ended_by"], found["state"]) == (clock, "probing")
    assert world.client.asked[0][2]["patience"].deadline == min(NOW + 500, ends or NOW + 500)
    assert len(caplog.messages) == (2 if ended_by else 1)
    said = caplog.messages[-1].removeprefix("nyx run r1: probing (").partition(")")[0]
    assert said == ("timed_out" if ended_by else "running")
    assert bool(found["reason"] and "execution_timeout" in found["reason"]) is (clock == "execution_timeout")


def test_a_phase_that_somebody_is_called_for_goes_to_a_worker_with_all_that_was_learnt(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    paused = RunSnapshot(ref=REF, state="paused", phase=Phase.PAUSED)
    seen = PhasesSeen(Phase.PAUSED, NOW, 2)
    world.client.answer = PhaseEntered(paused, seen)
    patience = {**PATIENCE, "phases": {"wanted": ["paused"], "seen": None}}
    with caplog.at_level(logging.INFO):
        event = world.end(patience=patience, submitted_at=5.0, past={"began": NOW - 9, "seen": True})
    past = WaitProgress(began=NOW - 9, seen=True).to_dict(NOW)
    assert event == events.entered(paused, seen, deadline=NOW + 500, submitted_at=5.0, past=past)
    assert caplog.messages == ["nyx run r1: a worker calls whom on_phase names, and the wait goes on."]


# --- before there is a run ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("until", "ends", "grace"),
    [(300, None, 300.0), (300, 100, 100.0), (300, 400, 300.0), (-5, None, 0.0), (300, -5, 0.0)],
)
@pytest.mark.parametrize("adopt", [True, False])
def test_the_run_of_a_lost_submit_is_looked_for_as_long_as_there_is_time(
    world: World, until: float, ends: float | None, grace: float, adopt: bool, caplog: pytest.LogCaptureFixture
) -> None:
    world.client.answer = REF
    lost = LostSubmit({"config_name": "nightly"}, INTENT, NOW + until, adopt)
    execution_ends = None if ends is None else NOW + ends
    with caplog.at_level(logging.INFO):
        assert world.end(ref=None, lost=lost.to_dict(), execution_ends=execution_ends) == events.found(REF)
    settings = {"adopt_uncertain": adopt, "submit_grace": grace}
    assert world.client.asked == [("find_submitted", {"config_name": "nightly"}, INTENT, settings)]
    assert caplog.messages == ["Found: nyx run r1"]
    world.client.answer = SubmitUncertainError("nothing")
    assert world.end(ref=None, lost=lost.to_dict()) == events.lost(INTENT)
    assert caplog.messages[-1] == str(SubmitUncertainError("nothing"))


@pytest.mark.parametrize("ends", [None, NOW + 20])
def test_a_run_that_is_looked_for_is_fired_once_it_is_there(
    world: World, mocker: MockerFixture, ends: float | None, caplog: pytest.LogCaptureFixture
) -> None:
    seek = mocker.patch.object(trigger, "seek", return_value="a flow")
    world.client.answer = RunSnapshot(ref=REF, state="running", phase=Phase.RUNNING)
    search = {"parent": {"config_name": "nightly"}, "since": 7.0, "which": "next", "interval": 9.0}
    with caplog.at_level(logging.INFO):
        event = world.end(ref=None, search=search, execution_ends=ends, past={"began": 5.0})
    assert event == events.found(REF)
    (call,) = seek.call_args_list
    provider, wanted, clocks = call.args
    assert (provider.name, wanted.to_dict(), clocks.deadline) == ("nyx", search, ends or NOW + 500)
    assert (call.kwargs["clock"], call.kwargs["past"].began) == (world.clock, 5.0)
    assert world.client.asked == [("drive", "a flow")]
    assert [message.partition(" ")[0] for message in caplog.messages] == ["Looking", "Found:"]
    world.client.answer = RunSnapshot(ref=REF, state=None, outcome=Outcome.TIMED_OUT, ended_by="timeout")
    with caplog.at_level(logging.INFO):
        found = world.end(ref=None, search=search, execution_ends=ends)["snapshot"]
    clock = "execution_timeout" if ends else "timeout"
    assert (found["ref"]["run_id"], found["ended_by"]) == ("", clock)
    assert caplog.messages[-1] == found["reason"]


@pytest.mark.parametrize(("until", "ends", "waits_until"), [(300, None, 300), (300, 100, 100), (300, 400, 300)])
@pytest.mark.parametrize("record", [True, False])
def test_a_turn_is_waited_for_in_the_line_of_its_parent(
    world: World, mocker: MockerFixture, until: float, ends: float | None, waits_until: float, record: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    asked: list[Any] = []
    if not record:
        world.record = None
    turn = Turn(parent={"config_name": "nightly"}, since=1.0, until=NOW + until)

    class Line:
        async def wait(self, client: Any, turn: Turn, *, ends: float, tell: Any, see: Any) -> Turn:
            asked.append((client, turn, ends, world.clock.passed))
            tell("a notice")
            see(Turn(parent={}, since=1.0, until=2.0, in_the_way="theirs"))
            return Turn(parent={}, since=1.0, until=3.0)

    before = mocker.patch.object(trigger.Line, "before", return_value=Line())
    execution_ends = None if ends is None else NOW + ends
    world.clock.began = NOW
    with caplog.at_level(logging.INFO):
        event = world.end(ref=None, turn=turn.to_dict(), not_before=NOW + 8, execution_ends=execution_ends)
    assert event == events.turn(Turn(parent={}, since=1.0, until=3.0))
    assert asked == [(world.client, turn, NOW + waits_until, 8.0)]
    before.assert_called_once_with("nyx", "mine", turn)
    assert world.kept == [("turn", {})]
    assert world.seen == ([("turn", "theirs")] if record else [])
    assert caplog.messages == ["a notice", "Nothing is active any more: the task submits."]


def test_a_turn_that_did_not_come_in_time_is_the_worker_s_to_tell(
    world: World, mocker: MockerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    async def wait(*_: Any, **__: Any) -> Turn:
        raise ConflictError("no turn came")

    mocker.patch.object(trigger.Line, "before", return_value=SimpleNamespace(wait=wait))
    turn = Turn(parent={}, since=1.0, until=NOW + 5)
    with caplog.at_level(logging.INFO):
        assert world.end(ref=None, turn=turn.to_dict()) == events.turn(turn)
    assert caplog.messages == [str(ConflictError("no turn came"))]


# --- a task that begins or ends here --------------------------------------------------------------------------------


@pytest.mark.parametrize(("age", "accepted"), [(3600, True), (0, False), (None, False)])
def test_a_task_that_begins_here_has_its_own_fields_and_its_whole_timeout(
    world: World, age: float | None, accepted: bool
) -> None:
    start = {"timeout": 70.0, "conn_id": "onepin_conn_id", "parents": ["workflow_id"], "fields": ["expect"]}
    fields = {"run_id": "r9", "onepin_conn_id": "theirs", "workflow_id": WORKFLOW, "expect": {"total_nodes": 3}}
    end = EndInTrigger(OutcomePolicy.build()).to_dict()
    made = world.trigger(provider="onepin", ref=None, start=start, end=end, **fields)
    if age is not None:
        millis = int((NOW - age) * 1000)
        made_at = uuid.UUID(int=(millis << 80) | (7 << 76) | (2 << 62))
        made.task_instance = SimpleNamespace(task_id="a_task", id=made_at)
    asyncio.run(made._end())
    ref = RunRef(provider="onepin", run_id="r9", parents={"workflow_id": WORKFLOW})
    assert (made.conn_id, made.ref, made.patience["deadline"]) == ("theirs", ref.model_dump(mode="json"), NOW + 70)
    assert made.past == (WaitProgress(accepted=True).to_dict(NOW) if accepted else None)
    assert made.end["policy"] != end["policy"]
    assert world.client.asked[0][1] == ref


@pytest.mark.parametrize("at", [0.0, 0.5, 4.9, 5.0, 12.5])
def test_tasks_that_succeed_here_end_at_whole_multiples_of_five_seconds(
    world: World, mocker: MockerFixture, at: float
) -> None:
    ended = mocker.patch.object(trigger.EndInTrigger, "event", return_value=TaskSuccessEvent())
    made = world.trigger(end={"policy": OutcomePolicy.build().to_dict()})
    world.clock.now = NOW + at
    assert isinstance(asyncio.run(made._task_end(events.ended(OVER))), TaskSuccessEvent)
    assert world.clock.now % 5 == 0
    assert 0 <= world.clock.now - NOW - at < 5
    (call,) = ended.call_args_list
    assert (call.args[0], call.args[1].outcome, call.kwargs["began_here"]) == (made, Outcome.SUCCEEDED, False)
    assert call.kwargs["began"]() == made.began
    ended.return_value = TaskSkippedEvent()
    world.clock.now = NOW + 1
    made.start = {}
    assert asyncio.run(made._task_end(events.ended(OVER))) is ended.return_value
    assert world.clock.now == NOW + 1
    assert ended.call_args.kwargs["began_here"] is True


def test_what_is_no_end_or_cannot_be_ended_here_goes_to_a_worker(
    world: World, mocker: MockerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    event = mocker.patch.object(trigger.EndInTrigger, "event", side_effect=ValueError("no"))
    made = world.trigger(end={"policy": OutcomePolicy.build().to_dict()})
    assert asyncio.run(made._task_end(events.found(REF))) is None
    assert (event.call_count, caplog.messages) == (0, [])
    assert asyncio.run(made._task_end(events.ended(OVER))) is None
    assert caplog.messages == ["The triggerer could not end the task; a worker does it."]
    assert "ValueError: no" in caplog.text
    assert asyncio.run(world.trigger()._task_end(events.ended(OVER))) is None
    assert event.call_count == 1


# --- its one event --------------------------------------------------------------------------------------------------


async def fired(made: Any) -> Any:
    (event,) = [each async for each in made.run()]
    return event


@pytest.mark.parametrize(("not_before", "pause"), [(0.0, 0.0), (NOW - 5, 0.0), (NOW + 9, 9.0)])
def test_an_event_is_never_fired_before_its_moment_and_the_record_is_closed_then(
    world: World, not_before: float, pause: float
) -> None:
    made = world.trigger(not_before=not_before)
    event = asyncio.run(fired(made))
    assert type(event) is TriggerEvent
    assert event.payload == events.ended(OVER)
    assert world.clock.sleeps == ([pause] if pause else [])
    assert world.seen == ["closed"]


def test_what_ends_the_task_here_is_fired_in_place_of_the_event(world: World, mocker: MockerFixture) -> None:
    made = world.trigger()
    mocker.patch.object(made, "_task_end", return_value=TaskSkippedEvent())
    assert isinstance(asyncio.run(fired(made)), TaskSkippedEvent)
    mocker.patch.object(made, "_task_end", side_effect=KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(fired(made))
    assert world.seen == ["closed", "closed"]


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (AuthError("no key"), "AuthError", "no key"), (TriggerCrashed("it broke"), "TriggerCrashed", "it broke"),
        (AirflowException("of Airflow"), "AirflowException", "of Airflow"),
        (ValueError("secret"), "TriggerCrashed", "The trigger met an error that is not the run's: ValueError."),
    ],
)  # fmt: skip
def test_each_error_is_one_event_is_counted_and_is_in_the_log(
    world: World, mocker: MockerFixture, error: Exception, kind: str, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    counted = mocker.patch.object(trigger_base.METER, "erred")
    world.client.answer = error
    payload = asyncio.run(fired(world.trigger())).payload
    assert (payload["kind"], payload["message"]) == ("error", text)
    assert payload["error"] == (kind if kind != "AirflowException" else payload["error"])
    ((provider, counts),) = [call.args for call in counted.call_args_list]
    assert (provider, str(counts)) == ("nyx", caplog.messages[-1])
    own = "The trigger met an error that is not the run's."
    assert (own in caplog.messages) is isinstance(error, ValueError)
    assert isinstance(counts, AirflowAuthError) is isinstance(error, AuthError)


# --- a kill ---------------------------------------------------------------------------------------------------------

MAY_GO_ON = "The run of the lost submit could not be cancelled and may yet show up: "


@pytest.mark.parametrize("what", ["run", "lost", "lost and not found"])
def test_a_kill_cancels_the_run_or_what_bears_the_mark_of_the_lost_submit(
    world: World, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    lost = LostSubmit({"config_name": "nightly"}, INTENT, NOW + 300, adopt_uncertain=True)
    made = world.trigger(**({} if what == "run" else {"ref": None, "lost": lost.to_dict()}))
    world.client.answer = SubmitUncertainError("nothing") if what.endswith("not found") else REF
    with caplog.at_level(logging.INFO):
        asyncio.run(made._cancel(world.client))
    looked = ("find_submitted", {"config_name": "nightly"}, INTENT, {"submit_grace": 0.0})
    assert world.client.asked == ([] if what == "run" else [looked]) + (
        [] if what.endswith("not found") else [("cancel", REF)]
    )
    (said,) = caplog.messages
    assert said.startswith(MAY_GO_ON if what.endswith("not found") else "Cancelled nyx run r1.")


@pytest.mark.parametrize(
    ("left", "anew"),
    [
        ({"ref": {"run_id": "r1"}}, False), ({"ref": {"run_id": "other"}}, True), ({"ref": "r1"}, True), ({}, True),
        (None, True), ("r1", True), (ConnectionError("gone"), True),
    ],
)  # fmt: skip
def test_another_try_has_begun_once_what_this_one_has_left_is_gone(
    world: World, mocker: MockerFixture, left: Any, anew: bool
) -> None:
    given: Any = {"side_effect": left} if isinstance(left, Exception) else {"return_value": left}
    pulled = mocker.patch.object(trigger, "pushed", **given)
    made = world.trigger()
    assert asyncio.run(made._has_begun_anew()) is anew
    pulled.assert_called_once_with(made.task_instance, "run_submitted")
    assert asyncio.run(world.trigger(ref=None)._has_begun_anew()) is False


@pytest.mark.parametrize(
    ("state", "on_clear", "anew", "cancels"),
    [
        ("failed", "submit", True, True), ("failed", "reattach", False, True), ("failed", "reattach", True, False),
        ("deferred", "submit", False, False), (None, "reattach", False, False), (None, "submit", False, True),
    ],
)  # fmt: skip
def test_a_kill_says_what_it_does_and_why(
    world: World, mocker: MockerFixture, state: str | None, on_clear: str, anew: bool, cancels: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    mocker.patch.object(trigger_base, "task_state_of", return_value=state)
    made = world.trigger(cancel_on_kill=True, on_clear=on_clear)
    mocker.patch.object(made, "_has_begun_anew", return_value=anew)
    with caplog.at_level(logging.INFO):
        asyncio.run(made.on_kill())
    left = f"Left alone: nyx run r1, since the state of its task is {state}. [left-behind]"
    assert caplog.messages[0] == (f"Cancelling nyx run r1: the state of its task is {state}." if cancels else left)
    assert world.client.asked == ([("cancel", REF)] if cancels else [])


def test_a_kill_without_a_state_or_an_answer_says_that_the_run_may_go_on(
    world: World, mocker: MockerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    state = mocker.patch.object(trigger_base, "task_state_of", side_effect=ConnectionError("gone"))
    made = world.trigger(cancel_on_kill=True)
    asyncio.run(made.on_kill())
    assert caplog.messages == ["Left alone: nyx run r1, since the state of its task could not be read. [left-behind]"]
    state.side_effect, state.return_value = None, "failed"
    mocker.patch.object(made, "_cancel", side_effect=TimeoutError)
    with pytest.raises(TimeoutError):
        asyncio.run(made.on_kill())
    assert caplog.messages[-1] == (
        "Whether nyx run r1 is cancelled is not known: there was no answer within 15 s. [left-behind]"
    )


@pytest.mark.parametrize(
    "given", [{"cancel_on_kill": False}, {"cancel_on_kill": True, "ref": None, "turn": {}}], ids=str
)
def test_a_kill_asks_nothing_where_there_is_nothing_to_cancel(
    world: World, mocker: MockerFixture, given: dict[str, Any]
) -> None:
    asked = mocker.patch.object(trigger_base, "task_state_of")
    asyncio.run(world.trigger(**given).on_kill())
    asked.assert_not_called()
