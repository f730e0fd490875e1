"""``on_conflict``: a task waits for its turn, in the worker or the triggerer, attaches to what is active, or fails."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.execution_time import task_runner

from runops.airflow import RunOperator
from runops.airflow._compat import AirflowFailException, AirflowTaskTimeout, TaskDeferralError, TaskDeferred
from runops.airflow.exceptions import ConflictError, RunTimedOut, SubmitUncertainError, TriggerCrashed
from runops.airflow.line import HELD_SECONDS, Line
from runops.airflow.records import ATTACHED, AWAITING_TURN, SUBMITTED
from runops.airflow.task_state import TaskState
from runops.airflow.trigger import RunTrigger
from runops.core import ConfigurationError, RunClient, find
from runops.core.waiting.turns import Turn
from tests import simulated_time
from tests.services import WORKFLOW

pytestmark = pytest.mark.promise("tasks take turns on one parent: wait, attach or fail")

SINGLE = ["nyx", "onepin"]
PARENT = {"nyx": {"config_name": "nightly"}, "onepin": {"workflow_id": WORKFLOW}}


@pytest.fixture(params=[False, True], ids=["worker", "deferrable"])
def deferrable(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture
def made(host: Any, operators: Any, calls: Any) -> Any:
    def make(provider: str = "nyx", *, script: str = "succeeded", seconds: float = 60, **arguments: Any) -> Any:
        host.emulator.set_defaults(provider=provider, script=script, seconds=seconds)
        return operators[provider](task_id="a_task", **{**calls[provider], **arguments})

    return make


def busy(host: Any, provider: str = "nyx", *, script: str = "succeeded", seconds: float = 300) -> str:
    """A stranger's run that is active."""
    return host.emulator.create_run(provider, script=script, seconds=seconds, parents=PARENT[provider])


def submits(host: Any) -> list[int]:
    return [entry["status"] for entry in host.emulator.requests(action="submit")]


def cancels(host: Any) -> int:
    return len(host.emulator.requests(action="cancel"))


def own(host: Any, provider: str = "nyx") -> list[str]:
    return [run["run_id"] for run in host.emulator.runs(provider=provider) if run["submitted"]]


# --- wait ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", SINGLE)
@pytest.mark.parametrize("store", [True, False], ids=["3.3", "below 3.3"])
def test_a_task_waits_for_its_turn_and_then_for_its_own_run(
    host: Any, made: Any, deferrable: bool, provider: str, store: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "runops")
    stranger = busy(host, provider)
    ended = host.run(made(provider, deferrable=deferrable), host.context(store=store))
    assert [ended.result["run_id"]] == own(host, provider)
    assert ended.result["outcome"] == "succeeded"
    assert submits(host)[:-1] == [409]
    assert host.clock.passed < 300 + 60 + 60
    waits = [deferral.trigger.turn is not None for deferral in ended.deferrals]
    assert waits == ([True, False] if deferrable else [])
    assert caplog.text.count(f"Waiting for a turn at {find(provider).title}: run {stranger}") == 1
    assert cancels(host) == 0


def test_a_deferrable_task_frees_its_worker_at_once(host: Any, made: Any) -> None:
    busy(host)
    with pytest.raises(TaskDeferred) as deferred:
        made(deferrable=True).execute(host.context())
    assert host.clock.passed == 0
    kept = json.dumps(deferred.value.trigger.serialize())
    for field in ("agent.example.com", "objective", "severity_target"):
        assert field not in kept


@pytest.mark.parametrize("provider", SINGLE)
def test_a_wait_that_is_over_fails_retryably_and_names_the_run_and_how_long(
    host: Any, made: Any, deferrable: bool, provider: str
) -> None:
    stranger = busy(host, provider, script="forever")
    context = host.context()
    ended = host.run(made(provider, deferrable=deferrable, timeout=600), context)
    assert type(ended.error) is ConflictError
    assert not isinstance(ended.error, AirflowFailException)
    assert f"run {stranger}" in str(ended.error)
    assert "within 60" in str(ended.error)
    assert submits(host) == [409]
    assert cancels(host) == 0
    # A retry begins with a wait of its own.
    assert TaskState(context).load() is None


def test_a_refusal_after_the_turn_keeps_the_place_and_the_deadline(host: Any, made: Any) -> None:
    """Somebody else was quicker: the task waits again, for no longer than before."""
    task, context = made(deferrable=True, timeout=1000), host.context()
    busy(host, seconds=100)
    with pytest.raises(TaskDeferred) as first:
        task.execute(context)
    event = host.fired(first.value)
    busy(host, script="forever")
    with pytest.raises(TaskDeferred) as second:
        task.resume_execution(first.value.method_name, {"event": event}, context)
    before, after = first.value.trigger.turn, second.value.trigger.turn
    assert (after["since"], after["until"], after["mark"]) == (before["since"], before["until"], before["mark"])
    assert after["in_the_way"] != before["in_the_way"]
    assert first.value.timeout is not None
    assert second.value.timeout is not None
    assert second.value.timeout < first.value.timeout


def test_a_crash_while_a_turn_is_waited_for_goes_on_at_its_place_with_nothing_looked_for(
    host: Any, made: Any, deferrable: bool
) -> None:
    task, context = made(deferrable=deferrable, timeout=1000), host.context()
    busy(host, seconds=400)

    def die(seconds: float) -> None:
        if host.clock.passed > 100:
            raise KeyboardInterrupt

    if deferrable:
        with pytest.raises(TaskDeferred):
            task.execute(context)
        host.clock.now += 150
    else:
        host.clock.on_sleep = die
        with pytest.raises(KeyboardInterrupt):
            task.execute(context)
        host.clock.on_sleep = lambda seconds: None
    record = TaskState(context).load()
    assert record is not None
    assert record["state"] == AWAITING_TURN
    context["ti"].next_try()
    ended = host.run(task, context)
    assert [ended.result["run_id"]] == own(host)
    # With the first refusal, that of the next try, and its own.
    assert submits(host)[:-1] == [409, 409]
    assert host.clock.passed < 400 + 120


def test_the_deadline_of_a_turn_outlives_a_crash(host: Any, made: Any) -> None:
    task, context = made(deferrable=True, timeout=1000), host.context()
    busy(host, script="forever")
    with pytest.raises(TaskDeferred) as first:
        task.execute(context)
    host.clock.now += 600
    context["ti"].next_try()
    with pytest.raises(TaskDeferred) as second:
        task.execute(context)
    assert second.value.trigger.turn["until"] == first.value.trigger.turn["until"]


def test_an_answer_that_is_lost_after_a_turn_is_looked_for_as_ever(host: Any, made: Any, deferrable: bool) -> None:
    busy(host, seconds=100)
    host.emulator.add_fault(kind="reset", provider="nyx", action="submit", when="after", skip=1)
    ended = host.run(made(deferrable=deferrable))
    assert [ended.result["run_id"]] == own(host)
    assert len(submits(host)) == 2


def test_a_lost_submit_that_meets_a_strangers_run_waits_for_its_turn(host: Any, made: Any, deferrable: bool) -> None:
    host.emulator.add_fault(kind="reset", provider="nyx", action="submit", when="before")
    theirs: list[str] = []
    host.clock.on_sleep = lambda _: theirs or theirs.append(busy(host, seconds=600))
    ended = host.run(made(deferrable=deferrable))
    assert [ended.result["run_id"]] == own(host)
    assert ended.result["run_id"] not in theirs
    assert cancels(host) == 0


def test_execution_timeout_ends_a_wait_for_a_turn_retryably_and_the_retry_goes_on(host: Any, made: Any) -> None:
    from datetime import timedelta

    task = made(deferrable=True, timeout=5000, execution_timeout=timedelta(seconds=300))
    context = host.context()
    busy(host, seconds=450)
    ended = host.run(task, context)
    assert type(ended.error) is ConflictError
    assert "(execution_timeout)" in str(ended.error)
    context["ti"].next_try()
    ended = host.run(task, context)
    assert ended.result["outcome"] == "succeeded"


# --- kill, clear, crash of the trigger --------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["failed", "success", "restarting", "running"])
def test_a_kill_of_a_worker_that_waits_for_its_turn_cancels_and_submits_nothing(
    host: Any, made: Any, state: str
) -> None:
    task, context = made(), host.context()
    busy(host, script="forever")

    def kill(seconds: float) -> None:
        if host.clock.passed > 100:
            host.clock.on_sleep = lambda seconds: None
            context["ti"].state = state
            task.on_kill()
            raise AirflowTaskTimeout("the signal that ends the process")

    host.clock.on_sleep = kill
    with pytest.raises(AirflowTaskTimeout):
        task.execute(context)
    assert cancels(host) == 0
    assert submits(host) == [409]


def test_a_clear_of_a_running_wait_begins_a_new_one(host: Any, made: Any) -> None:
    task, context = made(timeout=1000), host.context()
    busy(host, script="forever")

    def clear(seconds: float) -> None:
        if host.clock.passed > 100:
            host.clock.on_sleep = lambda seconds: None
            context["ti"].state = "restarting"
            task.on_kill()
            raise AirflowTaskTimeout("the signal that ends the process")

    host.clock.on_sleep = clear
    with pytest.raises(AirflowTaskTimeout):
        task.execute(context)
    context["ti"].next_try()
    began = host.clock.now
    ended = host.run(task, context)
    assert type(ended.error) is ConflictError
    assert host.clock.now - began == pytest.approx(1000, abs=2)


def test_a_kill_of_a_deferred_wait_asks_nothing_and_cancels_nothing(
    host: Any, made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy(host, script="forever")
    with pytest.raises(TaskDeferred) as deferred:
        made(deferrable=True).execute(host.context())
    before = len(host.emulator.requests())

    class Triggerer:
        async def asend(self, asked: Any) -> Any:
            raise AssertionError("nothing needs to be known")

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Triggerer(), raising=False)
    trigger: Any = deferred.value.trigger
    trigger.task_instance = SimpleNamespace(dag_id="a_dag", task_id="a_task", run_id="a_run", map_index=-1)
    asyncio.run(trigger.on_kill())
    assert len(host.emulator.requests()) == before


def test_a_clear_of_a_deferred_wait_begins_a_new_one_and_cancels_nothing(host: Any, made: Any) -> None:
    task, context = made(deferrable=True), host.context()
    busy(host, seconds=300)
    with pytest.raises(TaskDeferred) as first:
        task.execute(context)
    host.clock.now += 100
    context["ti"].clear()
    with pytest.raises(TaskDeferred) as second:
        task.execute(context)
    assert second.value.trigger.turn["since"] > first.value.trigger.turn["since"]
    assert cancels(host) == 0


def test_a_trigger_that_breaks_is_followed_by_another_a_few_times(host: Any, made: Any) -> None:
    task, context = made(deferrable=True), host.context()
    busy(host, script="forever")
    with pytest.raises(TaskDeferred) as first:
        task.execute(context)

    def crash(*_: Any, **__: Any) -> Any:
        raise TaskDeferralError("Trigger failure")

    task.execute_complete = crash
    for _ in range(3):
        with pytest.raises(TaskDeferred) as again:
            task.resume_execution("execute_complete", {}, context)
        assert again.value.trigger.turn["since"] == first.value.trigger.turn["since"]
    with pytest.raises(TriggerCrashed):
        task.resume_execution("execute_complete", {}, context)
    assert set(submits(host)) == {409}


def test_below_3_3_a_trigger_that_breaks_fails_the_try_retryably_and_nothing_is_looked_for(
    host: Any, made: Any
) -> None:
    task, context = made(deferrable=True), host.context(store=False)
    busy(host, script="forever")
    with pytest.raises(TaskDeferred):
        task.execute(context)

    def crash(*_: Any, **__: Any) -> Any:
        raise TaskDeferralError("Trigger failure")

    task.execute_complete = crash
    with pytest.raises(TriggerCrashed) as crashed:
        task.resume_execution("execute_complete", {}, context)
    assert not isinstance(crashed.value, AirflowFailException)
    assert submits(host) == [409]


# --- attach -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", SINGLE)
@pytest.mark.parametrize("store", [True, False], ids=["3.3", "below 3.3"])
def test_attach_waits_for_the_active_run_and_cancels_it_never(
    host: Any, made: Any, deferrable: bool, provider: str, store: bool
) -> None:
    stranger = busy(host, provider, script="forever")
    task = made(provider, deferrable=deferrable, on_conflict="attach", timeout=200, cancel_on_failure=True)
    context = host.context(store=store)
    ended = host.run(task, context)
    assert isinstance(ended.error, RunTimedOut)
    assert ended.xcoms["run"]["run_id"] == stranger
    assert ended.xcoms["attached"] is True
    assert all(not deferral.trigger.cancel_on_kill for deferral in ended.deferrals)
    for state in ("failed", "restarting"):
        context["ti"].state = state
        task.on_kill()
    task.leave_nothing({**context, "task": task})
    assert own(host, provider) == []
    assert cancels(host) == 0


def test_a_retry_and_a_clear_after_attach_re_attach_and_cancel_nothing(host: Any, made: Any, deferrable: bool) -> None:
    stranger = busy(host, script="forever")
    task, context = made(deferrable=deferrable, on_conflict="attach", timeout=200), host.context()
    assert isinstance(host.run(task, context).error, RunTimedOut)
    record = TaskState(context).load()
    assert record is not None
    assert record["state"] == ATTACHED
    for again in (context["ti"].next_try, context["ti"].clear):
        again()
        ended = host.run(task, context)
        assert ended.xcoms["run"]["run_id"] == stranger
    assert own(host) == []
    assert cancels(host) == 0


def test_a_retry_after_an_attached_run_that_failed_submits_its_own(host: Any, made: Any) -> None:
    stranger = busy(host, script="failed", seconds=50)
    task, context = made(on_conflict="attach"), host.context()
    assert host.run(task, context).xcoms["run"]["run_id"] == stranger
    context["ti"].next_try()
    ended = host.run(task, context)
    assert [ended.result["run_id"]] == own(host)
    record = TaskState(context).load()
    assert record is not None
    assert record["state"] == SUBMITTED


def test_attach_with_nothing_active_is_a_submit_like_any_other(host: Any, made: Any, deferrable: bool) -> None:
    ended = host.run(made(deferrable=deferrable, on_conflict="attach", script="forever", timeout=100))
    assert isinstance(ended.error, RunTimedOut)
    assert len(own(host)) == 1
    assert cancels(host) == 1
    assert "attached" not in ended.xcoms


def test_attach_never_guesses(host: Any, made: Any, deferrable: bool) -> None:
    host.emulator.add_fault(kind="status", status=409, provider="nyx", action="submit")
    ended = host.run(made(deferrable=deferrable, on_conflict="attach"))
    assert type(ended.error) is ConflictError
    assert "There is no run to attach to" in str(ended.error)


@pytest.mark.parametrize("provider", ["nexio", "nyx", "onepin", "b3os"])
def test_another_word_is_refused_when_the_dag_is_built(made: Any, provider: str) -> None:
    with pytest.raises(ConfigurationError, match="on_conflict='queue' is not one of wait, attach, fail"):
        made(provider, on_conflict="queue")


def test_the_generic_operator_takes_it_too(host: Any, calls: Any) -> None:
    task = RunOperator(task_id="a", provider="nyx", arguments=calls["nyx"], on_conflict="fail")
    busy(host)
    assert type(host.run(task).error) is ConflictError


# --- the line of one triggerer ------------------------------------------------------------------------------------


class Service:
    """A parent at a service, in simulated time: who is woken submits ``late`` seconds later, if nothing is active."""

    def __init__(self, seconds: float, late: float) -> None:
        self.seconds = seconds
        self.late = late
        self.runs: list[tuple[float, float]] = []
        self.refusals = 0
        self.looks = 0

    def start(self) -> bool:
        now = simulated_time.loop().time()
        if self.runs and now < self.runs[-1][1]:
            self.refusals += 1
            return False
        self.runs.append((now, now + self.seconds))
        return True

    def page(self) -> str:
        self.looks += 1
        now = simulated_time.loop().time()
        shown = [
            {"run_id": f"r{n}", "config_name": "nightly", "status": "running" if now < ends else "completed"}
            for n, (_, ends) in enumerate(self.runs)
        ]
        return json.dumps({"runs": [{**each, "result": "exhausted"} for each in reversed(shown)]})


class Client:
    """The client of one trigger."""

    provider = find("nyx")

    def __init__(self, service: Service) -> None:
        self._service = service

    def clock(self) -> float:
        return simulated_time.wall_clock()

    async def drive(self, flow: Any) -> Any:
        from runops.core.model.errors import RunNotFound
        from runops.core.waiting.steps import Ended, Reply, Send, Sleep, step

        reply, error = None, None
        while True:
            effect = step(flow, reply, error)
            reply, error = None, None
            if isinstance(effect, Ended):
                return effect.result
            if isinstance(effect, Sleep):
                await asyncio.sleep(effect.seconds)
            elif isinstance(effect, Send) and "by-config" in effect.request.path:
                error = RunNotFound("none", status=404, is_json=True)
            elif isinstance(effect, Send):
                reply = Reply(self._service.page().encode(), self.clock())
            elif isinstance(effect, Exception):
                raise effect


def in_line(service: Service, tasks: int) -> list[tuple[int, float]]:
    """Deferred tasks that came one second after the other; who got a run, in that order, and after how long."""
    ends: list[tuple[int, float]] = []

    async def task(number: int) -> None:
        began = simulated_time.wall_clock()
        turn = Turn(parent=PARENT["nyx"], since=began, until=began + 1e6)
        client: Any = Client(service)
        while True:
            turn = await Line.before("nyx", "nyx_default", turn).wait(
                client, turn, ends=turn.until, tell=lambda text: None
            )
            await asyncio.sleep(service.late)
            if service.start():
                break
        ends.append((number, simulated_time.wall_clock() - began))

    async def main() -> None:
        service.start()
        going = []
        for number in range(tasks):
            going.append(asyncio.create_task(task(number)))
            await asyncio.sleep(1)
        await asyncio.gather(*going)

    simulated_time.run(main())
    return ends


@pytest.mark.parametrize("late", [0.5, 8.0])
def test_twenty_deferred_tasks_are_woken_one_by_one_in_the_order_in_which_they_came(late: float) -> None:
    service = Service(seconds=60, late=late)
    ends = in_line(service, 20)
    assert [number for number, _ in ends] == list(range(20))
    assert service.refusals == 0
    assert len(service.runs) == 21
    assert max(waited for _, waited in ends) <= 1.5 * 20 * 60
    # One of them looks for all: about one look in 5 s.
    assert service.looks < service.runs[-1][1] / 4 * 1.5


def test_a_run_that_is_over_before_anybody_saw_it_active_holds_nobody_up() -> None:
    service = Service(seconds=0.5, late=3.0)
    ends = in_line(service, 5)
    assert max(waited for _, waited in ends) < HELD_SECONDS


def test_a_task_that_was_woken_and_died_holds_its_place_for_a_while_only() -> None:
    service = Service(seconds=30, late=1.0)

    async def main() -> float:
        service.start()
        began = simulated_time.wall_clock()
        client: Any = Client(service)
        first = Turn(parent=PARENT["nyx"], since=began, until=began + 1e6)
        second = Turn(parent=PARENT["nyx"], since=began + 1, until=began + 1e6)
        line = Line.before("nyx", "nyx_default", first)
        dies = asyncio.create_task(line.wait(client, first, ends=first.until, tell=lambda text: None))
        goes_on = asyncio.create_task(line.wait(client, second, ends=second.until, tell=lambda text: None))
        await dies
        died = simulated_time.wall_clock()
        await goes_on
        return simulated_time.wall_clock() - died

    assert simulated_time.run(main()) == pytest.approx(HELD_SECONDS, abs=6)


def test_a_trigger_that_is_cancelled_gives_its_place_to_the_next_one() -> None:
    service = Service(seconds=30, late=1.0)

    async def main() -> None:
        service.start()
        began = simulated_time.wall_clock()
        client: Any = Client(service)
        turns = [Turn(parent=PARENT["nyx"], since=began + n, until=began + 1e6) for n in range(2)]
        line = Line.before("nyx", "nyx_default", turns[0])
        waits = [
            asyncio.create_task(line.wait(client, turn, ends=turn.until, tell=lambda text: None)) for turn in turns
        ]
        await asyncio.sleep(10)
        waits[0].cancel()
        await waits[1]
        assert simulated_time.wall_clock() - began < 40

    simulated_time.run(main())


def test_who_stands_behind_ends_with_its_own_time_and_names_what_is_in_the_way() -> None:
    service = Service(seconds=1000, late=1.0)
    told: list[str] = []

    async def main() -> None:
        service.start()
        began = simulated_time.wall_clock()
        client: Any = Client(service)
        first = Turn(parent=PARENT["nyx"], since=began, until=began + 1e6)
        second = Turn(parent=PARENT["nyx"], since=began + 1, until=began + 100)
        line = Line.before("nyx", "nyx_default", first)
        waits = asyncio.create_task(line.wait(client, first, ends=first.until, tell=lambda text: None))
        from runops.core import ConflictError as Refused

        with pytest.raises(Refused, match=r"within 99 s \(timeout\): run r0"):
            await line.wait(client, second, ends=second.until, tell=told.append)
        waits.cancel()

    simulated_time.run(main())
    assert len(told) == 1


def test_old_rows_have_no_turn_and_new_ones_keep_it() -> None:
    old = RunTrigger(provider="nyx", ref=None, patience={})
    assert "turn" not in old.serialize()[1]
    turn = Turn(parent=PARENT["nyx"], since=1.0, until=2.0).to_dict()
    assert RunTrigger(provider="nyx", turn=turn, patience={}).serialize()[1]["turn"] == turn


# --- killed at any moment -----------------------------------------------------------------------------------------


class Death(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("provider", SINGLE)
def test_a_task_that_dies_at_any_moment_of_its_turn_starts_one_run_and_cancels_none(
    host: Any, made: Any, monkeypatch: pytest.MonkeyPatch, deferrable: bool, provider: str
) -> None:
    """Before and after each request of the worker and each record of the task, one moment in each story."""
    left = 0

    def dying(real: Any) -> Any:
        def moment() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise Death

        def act(*arguments: Any, **named: Any) -> Any:
            moment()
            answer = real(*arguments, **named)
            moment()
            return answer

        return act

    monkeypatch.setattr(TaskState, "save", dying(TaskState.save))
    monkeypatch.setattr(TaskState, "forget", dying(TaskState.forget))
    monkeypatch.setattr(RunClient, "_send", dying(RunClient._send))
    number = 0
    while left <= 0:
        # Until a story has fewer moments than that.
        number += 1
        host.emulator.reset()
        task, context = made(provider, deferrable=deferrable, submit_grace=40), host.context()
        busy(host, provider, seconds=15)
        left = number
        try:
            ended = host.run(task, context)
        except Death:
            context["ti"].next_try()
            host.clock.now += 5
            ended = host.run(task, context)
        if isinstance(ended.error, SubmitUncertainError):
            # OnePin shows no mark: only a death between the POST and the record of its answer leaves this.
            assert provider == "onepin", number
            assert len(own(host, provider)) <= 1, number
        else:
            assert ended.error is None, number
            assert [ended.result["run_id"]] == own(host, provider), number
        assert cancels(host) == 0, number
    assert number > 15
