"""on_phase in every way to wait: one table of what a run does, and whom each way calls for it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.serialization import serialized_objects

from runops.airflow import B3osRunOperator, B3osRunSensor, B3osWorkflowSensor, RunsOperator, RunsSensor
from runops.airflow._compat import (
    AirflowSkipException,
    AirflowTaskTimeout,
    TaskDeferred,
    has_task_state_store,
    renders_in_triggerer,
)
from runops.airflow.exceptions import RunCancelled, RunTimedOut, SensorTimedOut
from runops.airflow.records import PHASES_KEY, PHASES_LEFT
from runops.airflow.trigger import RunTrigger
from runops.core import ConfigurationError
from tests.airflow_side.conftest import KEY, stored
from tests.airflow_side.triggerer import Triggerer
from tests.services import CALLS, WORKFLOW

pytestmark = pytest.mark.promise("on_phase calls once each time that a run enters a phase")

RUNNING, WAITING, PAUSED, OVER = "running", "waiting", "paused", "over"
FIELDS: dict[str, dict[str, dict[str, Any]]] = {
    "b3os": {RUNNING: {"status": "running"}, WAITING: {"status": "waiting"}, OVER: {"status": "success"}},
    "onepin": {
        RUNNING: {"status": "running", "paused_at": None},
        PAUSED: {"status": "paused"},
        OVER: {"status": "completed"},
    },
    "nekt": {RUNNING: {"status": "running"}, WAITING: {"status": "pending_events"}, OVER: {"status": "success"}},
}


@pytest.fixture(autouse=True)
def where_reschedule_mode_is_allowed(request: pytest.FixtureRequest) -> None:
    if "[reschedule" in request.node.name and not has_task_state_store():
        pytest.skip("on_phase with mode='reschedule' needs Airflow 3.3 or newer")


@dataclass
class Story:
    """What a run does, by the seconds after its begin at which it does it."""

    host: Any
    provider: str
    run_id: str
    steps: list[tuple[float, str]]
    began: float = 0.0

    def begin(self) -> None:
        self.began = self.host.clock.now
        self.host.clock.on_sleep = self.tell
        self.tell(0)

    def tell(self, seconds: float) -> None:
        while self.steps and self.steps[0][0] <= self.host.clock.now + seconds - self.began:
            at, does = self.steps.pop(0)
            fields = dict(FIELDS[self.provider][does])
            if does == PAUSED:
                fields["paused_at"] = datetime.fromtimestamp(self.began + at, UTC).isoformat()
            self.host.emulator.set_fields(self.provider, self.run_id, fields)


@dataclass
class Calls:
    """A callback that remembers what it was called with."""

    clock: Any
    runs: list[dict[str, Any]] = field(default_factory=list)
    takes: float = 0.0
    raises: BaseException | None = None

    def __call__(self, context: Any, run: Any) -> None:
        assert context["ti"].task_id == "a_task"
        self.runs.append(run)
        self.clock.now += self.takes
        if self.raises is not None:
            raise self.raises

    @property
    def phases(self) -> list[str]:
        return [run["phase"] for run in self.runs]


@pytest.fixture
def calls(clock: Any) -> Calls:
    return Calls(clock)


def told(host: Any, provider: str, *steps: tuple[float, str]) -> dict[str, Any]:
    run = host.made(provider, script="running")
    Story(host, provider, run["run_id"], list(steps)).begin()
    return run


# Times are far enough apart for the rarest look, a minute apart.
STORIES: dict[str, tuple[str, list[tuple[float, str]], list[str]]] = {
    "never": ("b3os", [(0, RUNNING), (900, OVER)], []),
    "once": ("b3os", [(0, RUNNING), (300, WAITING), (900, RUNNING), (1500, OVER)], ["waiting"]),
    "from its begin on": ("b3os", [(0, WAITING), (300, RUNNING), (900, OVER)], ["waiting"]),
    "flapping": (
        "b3os",
        [(0, WAITING), (300, RUNNING), (600, WAITING), (900, RUNNING), (1200, WAITING), (1500, OVER)],
        ["waiting"] * 3,
    ),
    "paused": ("onepin", [(0, RUNNING), (300, PAUSED), (600, RUNNING), (900, PAUSED), (1200, OVER)], ["paused"] * 2),
    "pending events": ("nekt", [(0, WAITING), (300, RUNNING), (900, OVER)], ["waiting"]),
    "over before anybody looked": ("b3os", [(0, OVER)], []),
    "over while it waits": ("b3os", [(0, RUNNING), (300, WAITING), (900, OVER)], ["waiting"]),
}


@pytest.mark.parametrize("story", STORIES)
def test_every_way_to_wait_calls_once_for_each_entry(
    host: Any, sensors: Any, mode: Any, calls: Calls, story: str
) -> None:
    provider, steps, phases = STORIES[story]
    run = told(host, provider, *steps)
    task = sensors[provider](task_id="w", **run, on_phase={"waiting": calls, "paused": [calls]}, **mode)
    ended = host.run(task)
    assert ended.error is None
    assert ended.result["verdict"] == "succeed"
    assert calls.phases == phases
    for call in calls.runs:
        assert (call["run_id"], call["outcome"], call["run_ended"]) == (run["run_id"], None, False)
    assert ended.xcoms["run"]["outcome"] == "succeeded"


def submits(host: Any) -> int:
    return len(host.emulator.requests(action="submit"))


def cancels(host: Any) -> int:
    return len(host.emulator.requests(action="cancel"))


def own_story(host: Any, provider: str, *steps: tuple[float, str]) -> None:
    """What a run does that a task has yet to submit."""
    host.emulator.set_defaults(provider=provider, script="running")
    story = Story(host, provider, "", list(steps), began=host.clock.now)

    def tell(seconds: float) -> None:
        runs = host.emulator.runs(provider=provider)
        if runs:
            story.run_id = runs[0]["run_id"]
            story.tell(seconds)

    host.clock.on_sleep = tell


@pytest.mark.parametrize("deferrable", [False, True])
def test_an_operator_s_own_run_is_submitted_once_however_often_it_calls(
    host: Any, operators: Any, calls: Calls, deferrable: bool
) -> None:
    own_story(host, "b3os", (100, WAITING), (400, RUNNING), (600, WAITING), (900, RUNNING), (1200, OVER))
    task = operators["b3os"](task_id="w", **CALLS["b3os"], on_phase={"waiting": calls}, deferrable=deferrable)
    ended = host.run(task)
    assert ended.error is None
    assert calls.phases == ["waiting", "waiting"]
    assert (submits(host), cancels(host)) == (1, 0)
    # The worker's first look, and once again after each call.
    assert len(ended.deferrals) == (3 if deferrable else 0)


def test_a_run_that_was_active_already_is_called_for_and_never_cancelled(
    host: Any, operators: Any, calls: Calls
) -> None:
    stranger = host.emulator.create_run("onepin", script="running", parents={"workflow_id": WORKFLOW})
    Story(host, "onepin", stranger, [(0, PAUSED), (300, RUNNING), (600, OVER)]).begin()
    task = operators["onepin"](
        task_id="w", **CALLS["onepin"], on_conflict="attach", on_phase={"paused": calls}, deferrable=True
    )
    ended = host.run(task)
    assert ended.error is None
    assert (calls.phases, calls.runs[0]["run_id"]) == (["paused"], stranger)
    assert all(not deferral.trigger.cancel_on_kill for deferral in ended.deferrals)
    assert (ended.xcoms["attached"], cancels(host)) == (True, 0)


def test_a_sensor_that_finds_its_run_calls_for_that(host: Any, mode: Any, calls: Calls) -> None:
    run_id = host.emulator.create_run("b3os", script="running", parents={"workflow_id": "wf_1"})
    Story(host, "b3os", run_id, [(0, RUNNING), (300, WAITING), (600, RUNNING), (900, OVER)]).begin()
    task = B3osWorkflowSensor(
        task_id="w", workflow_id="wf_1", since=timedelta(hours=1), on_phase={"waiting": calls}, **mode
    )
    ended = host.run(task)
    assert ended.error is None
    assert (calls.phases, ended.result["run_id"]) == (["waiting"], run_id)


@pytest.mark.parametrize("both", [False, True])
def test_without_a_worker_one_is_started_for_the_callback_only(
    host: Any, sensors: Any, calls: Calls, monkeypatch: Any, both: bool
) -> None:
    if not renders_in_triggerer():
        pytest.skip("needs Airflow 3.3 or newer")
    run = told(host, "b3os", (0, RUNNING), (300, WAITING), (600, RUNNING), (900, OVER))
    triggerer = Triggerer(monkeypatch, host.context(store=both))
    task = sensors["b3os"](
        task_id="w",
        **run,
        on_phase={"waiting": calls},
        deferrable=True,
        start_from_trigger=True,
        end_from_trigger=both,
        timeout=2000,
    )
    began = host.clock.now
    ended = triggerer.run(task)
    assert ended.error is None
    assert calls.phases == ["waiting"]
    assert (ended.result["outcome"], ended.result["verdict"]) == ("succeeded", "succeed")
    assert triggerer.ended_here == both
    # One worker for the call, and another one for the end, where the triggerer does not end the task.
    assert ended.pokes == (1 if both else 2)
    (deferral,) = ended.deferrals
    assert deferral.trigger.patience["deadline"] == pytest.approx(began + 2000, abs=1)
    assert ended.xcoms["run_id"] == run["run_id"]


# --- the clocks ---


def deferral(task: Any, context: Any) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context)
    return deferred.value


def resumed(task: Any, context: Any, deferred: TaskDeferred, event: Any) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as again:
        task.resume_execution(deferred.method_name, {"event": event}, context)
    return again.value


def waiting_at(host: Any, sensors: Any, calls: Calls, seconds: float = 300, **settings: Any) -> Any:
    run = told(host, "b3os", (0, RUNNING), (seconds, WAITING))
    return sensors["b3os"](task_id="w", **run, on_phase={"waiting": calls}, deferrable=True, **settings)


def test_a_second_deferral_goes_on_with_every_clock_of_the_first(host: Any, sensors: Any, calls: Calls) -> None:
    settings = {"timeout": 5000, "error_budget": 77, "max_paused": 900, "max_stalled": 800}
    task = waiting_at(host, sensors, calls, **settings, execution_timeout=timedelta(seconds=4000))
    context = host.context()
    first = deferral(task, context)
    event = host.fired(first)
    assert event["kind"] == "phase"
    # A pool without a free slot for five minutes.
    host.clock.now += 300
    second = resumed(task, context, first, event)
    now = host.clock.now
    one, other = first.trigger, second.trigger
    same = ("provider", "conn_id", "ref", "submitted_at", "execution_ends", "cancel_on_kill", "on_clear", "end")
    assert [getattr(one, name) for name in same] == [getattr(other, name) for name in same]
    moves = {"phases": None, "shown": None}
    assert {**one.patience, **moves} == {**other.patience, **moves}
    assert other.not_before >= now + 10
    assert other.past["began"] == one.past["began"]
    assert other.past["parked_since"] == event["past"]["parked_since"]
    assert other.past["seen"] is True
    assert second.timeout is not None
    assert second.timeout.total_seconds() == pytest.approx(one.execution_ends - now + 60, abs=1)
    seen = {"phase": "waiting", "since": event["seen"]["since"], "entries": 1}
    assert other.patience["phases"] == {"wanted": ["waiting"], "seen": seen}
    assert calls.phases == ["waiting"]


@pytest.mark.parametrize("takes", [0, 250, 5000])
def test_max_paused_ends_the_wait_at_its_time_however_long_a_callback_takes(
    host: Any, sensors: Any, calls: Calls, takes: float
) -> None:
    task = waiting_at(host, sensors, calls, max_paused=600, timeout=10_000)
    calls.takes = takes
    began = host.clock.now
    ended = host.run(task)
    assert isinstance(ended.error, SensorTimedOut)
    assert ended.xcoms["run"]["ended_by"] == "max_paused"
    assert calls.phases == ["waiting"]
    # Seen at 300 s or up to a minute later; a worker that is still in the callback ends it right after.
    assert host.clock.now - began == pytest.approx(max(930, 330 + takes), abs=60)


@pytest.mark.parametrize("clock_name", ["max_paused", "timeout", "max_stalled"])
def test_no_clock_ends_a_wait_over_a_callback_in_which_the_run_has_gone_on(
    host: Any, sensors: Any, mode: Any, calls: Calls, clock_name: str
) -> None:
    run = told(host, "b3os", (0, RUNNING), (300, WAITING), (400, RUNNING), (500, OVER))
    task = sensors["b3os"](task_id="w", **run, on_phase={"waiting": calls}, **mode, **{clock_name: 700})
    real = calls.takes

    def long(context: Any, run: Any) -> None:
        calls(context, run)
        host.clock.sleep(2000 - real)

    task.on_phase = {"waiting": long}
    ended = host.run(task)
    assert ended.error is None
    assert ended.result["outcome"] == "succeeded"
    assert calls.phases == ["waiting"]


def test_an_error_budget_is_whole_again_after_each_good_read_and_counts_on_over_a_deferral(
    host: Any, sensors: Any, calls: Calls
) -> None:
    task = waiting_at(host, sensors, calls, error_budget=120, timeout=10_000)
    context = host.context()
    first = deferral(task, context)
    event = host.fired(first)
    host.emulator.add_fault(provider="b3os", kind="status", status=503, count=1000)
    failing = host.clock.now
    second = resumed(task, context, first, event)
    assert second.trigger.past["failing_since"] == pytest.approx(failing, abs=2)
    assert host.fired(second)["error"] == "PollingError"
    assert host.clock.now - failing == pytest.approx(120, abs=40)


@pytest.mark.parametrize("deferrable", [False, True])
def test_airflow_s_own_clock_ends_the_task_in_a_callback_too(
    host: Any, sensors: Any, calls: Calls, deferrable: bool
) -> None:
    run = told(host, "b3os", (0, WAITING), (300, OVER))
    calls.raises = AirflowTaskTimeout()
    task = sensors["b3os"](task_id="w", **run, on_phase={"waiting": calls}, deferrable=deferrable)
    task.execution_timeout = timedelta(seconds=100)
    ended = host.run(task)
    assert isinstance(ended.error, RunTimedOut)
    assert ended.xcoms["run"]["ended_by"] == "execution_timeout"


# --- errors of a callback ---


@pytest.mark.parametrize(
    "error", [ValueError("with a key: sk_live_0123456789abcdef"), AirflowSkipException("not so"), KeyError("x")]
)
def test_what_a_callback_raises_is_logged_and_changes_nothing(
    host: Any, sensors: Any, mode: Any, calls: Calls, capsys: Any, error: Exception
) -> None:
    run = told(host, "b3os", (0, RUNNING), (300, WAITING), (600, OVER))
    calls.raises = type(error)(*error.args)
    other = Calls(host.clock)
    ended = host.run(sensors["b3os"](task_id="w", **run, on_phase={"waiting": [calls, other]}, **mode))
    assert ended.error is None
    assert (calls.phases, other.phases) == (["waiting"], ["waiting"])
    said = capsys.readouterr().out
    assert said.count("Calls failed; the wait goes on. [function-failed]\n") == 1
    where = said.partition("Calls failed")[2]
    assert f'File "{__file__}"' in where
    assert "in __call__" in where
    assert f"{type(error).__name__}" in where
    assert "which led to" not in where
    assert "sk_live" not in said


def test_a_callback_cannot_defer_the_task(host: Any, sensors: Any, calls: Calls) -> None:
    run = told(host, "b3os", (0, WAITING), (300, OVER))
    calls.raises = TaskDeferred(trigger=RunTrigger(provider="b3os", patience={}), method_name="execute_complete")
    ended = host.run(sensors["b3os"](task_id="w", **run, on_phase={"waiting": calls}, deferrable=True))
    assert ended.error is None
    assert ended.result["outcome"] == "succeeded"


# --- killed at every step ---


def test_a_triggerer_that_restarts_before_its_event_calls_once(host: Any, sensors: Any, calls: Calls) -> None:
    task, context = waiting_at(host, sensors, calls), host.context()
    first = deferral(task, context)
    # It has seen the phase, and dies with it; another one reads the same row.
    lost, event = host.fired(first), host.fired(first)
    assert lost["seen"]["entries"] == event["seen"]["entries"] == 1
    resumed(task, context, first, event)
    assert calls.phases == ["waiting"]


@pytest.mark.parametrize("store", [True, False], ids=["3.3", "below 3.3"])
def test_an_event_that_resumes_a_task_twice_calls_once_where_a_record_says_so(
    host: Any, sensors: Any, calls: Calls, store: bool
) -> None:
    task, context = waiting_at(host, sensors, calls), host.context(store=store)
    first = deferral(task, context)
    event = host.fired(first)
    resumed(task, context, first, event)
    # The worker died after the call, before its deferral was heard of.
    again = resumed(task, context, first, event)
    assert calls.phases == (["waiting"] if store else ["waiting", "waiting"])
    assert again.trigger.patience["phases"]["seen"]["entries"] == 1


@pytest.mark.parametrize("called", [False, True], ids=["before the call", "after the call"])
def test_a_worker_that_dies_around_the_call_is_followed_by_one_that_calls_once_and_submits_nothing(
    host: Any, operators: Any, calls: Calls, called: bool
) -> None:
    own_story(host, "b3os", (100, WAITING), (5000, OVER))
    task = operators["b3os"](task_id="w", **CALLS["b3os"], on_phase={"waiting": calls}, deferrable=True, retries=1)
    context = host.context()
    first = deferral(task, context)
    event = host.fired(first)
    if called:
        resumed(task, context, first, event)
    context["ti"].next_try()
    ended = host.run(task, context)
    assert ended.error is None
    assert calls.phases == ["waiting"]
    assert (submits(host), cancels(host)) == (1, 0)


@pytest.mark.parametrize("mode_name", ["poke", "reschedule"])
def test_a_retry_of_a_sensor_remembers_what_was_called(host: Any, sensors: Any, calls: Calls, mode_name: Any) -> None:
    run = told(host, "b3os", (0, RUNNING), (300, WAITING), (3000, OVER))
    context = host.context()

    def dies(context: Any, run: Any) -> None:
        calls(context, run)

    task = sensors["b3os"](task_id="w", **run, on_phase={"waiting": dies}, mode=mode_name, timeout=600)
    assert isinstance(host.run(task, context).error, SensorTimedOut)
    context["ti"].next_try()
    task = sensors["b3os"](task_id="w", **run, on_phase={"waiting": dies}, mode=mode_name, timeout=9000)
    assert host.run(task, context).error is None
    assert calls.phases == ["waiting"]


def test_a_person_s_clear_begins_anew(host: Any, sensors: Any, calls: Calls) -> None:
    task, context = waiting_at(host, sensors, calls, seconds=0, timeout=100), host.context()
    host.run(task, context)
    context["ti"].clear()
    host.run(task, context)
    assert calls.phases == ["waiting", "waiting"]


def test_that_a_phase_was_left_is_known_to_another_triggerer(
    host: Any, sensors: Any, calls: Calls, monkeypatch: Any
) -> None:
    run = told(host, "b3os", (0, WAITING), (600, RUNNING), (900, WAITING), (5000, OVER))
    task, context = sensors["b3os"](task_id="w", **run, on_phase={"waiting": calls}, deferrable=True), host.context()
    first = deferral(task, context)
    assert calls.phases == ["waiting"]
    triggerer = Triggerer(monkeypatch, context)
    # The first triggerer sees the run go on and wait again, and dies before its event is taken.
    assert triggerer.event(stored(first.trigger)).payload["seen"]["entries"] == 2
    assert context["ti"].xcoms[PHASES_LEFT]["phase"] == "running"
    event = triggerer.event(stored(first.trigger)).payload
    assert event["seen"]["entries"] == 2
    resumed(task, context, first, event)
    assert calls.phases == ["waiting", "waiting"]


def test_where_no_xcom_can_be_read_or_set_the_wait_goes_on(
    host: Any, sensors: Any, calls: Calls, monkeypatch: Any
) -> None:
    run = told(host, "b3os", (0, WAITING), (600, RUNNING), (900, OVER))
    triggerer = Triggerer(monkeypatch, host.context())
    triggerer.channel.fails = RuntimeError("no database")
    ended = triggerer.run(sensors["b3os"](task_id="w", **run, on_phase={"waiting": calls}, deferrable=True))
    assert ended.error is None
    assert calls.phases == ["waiting"]
    assert triggerer.channel.asked == [f"GetXCom {PHASES_LEFT}", f"SetXCom {PHASES_LEFT}"]


def test_a_store_that_fails_costs_no_wait(host: Any, sensors: Any, calls: Calls, capsys: Any) -> None:
    context = host.context()
    real = context["task_state_store"].set

    def fails(key: str, value: Any) -> None:
        if key == PHASES_KEY:
            raise RuntimeError("no database")
        real(key, value)

    context["task_state_store"].set = fails
    run = told(host, "b3os", (0, WAITING), (300, OVER))
    assert host.run(sensors["b3os"](task_id="w", **run, on_phase={"waiting": calls}), context).error is None
    assert calls.phases == ["waiting"]
    assert "could not be kept (RuntimeError)" in capsys.readouterr().out


def test_a_run_that_ends_before_the_worker_hears_of_its_phase_ends_at_once_and_is_called_for(
    host: Any, sensors: Any, calls: Calls
) -> None:
    run = told(host, "b3os", (0, RUNNING), (300, WAITING), (400, OVER))
    task, context = sensors["b3os"](task_id="w", **run, on_phase={"waiting": calls}, deferrable=True), host.context()
    first = deferral(task, context)
    event = host.fired(first)
    host.clock.sleep(500)
    result = task.resume_execution(first.method_name, {"event": event}, context)
    assert (result["outcome"], result["verdict"]) == ("succeeded", "succeed")
    assert calls.phases == ["waiting"]


def test_a_person_s_kill_in_a_callback_cancels_the_own_run(host: Any, operators: Any, calls: Calls) -> None:
    own_story(host, "b3os", (100, WAITING))
    task = operators["b3os"](task_id="w", **CALLS["b3os"], on_phase={"waiting": calls}, deferrable=True)
    context = host.context()
    first = deferral(task, context)
    event = host.fired(first)
    # Another process, which knows nothing but the event.
    task = operators["b3os"](task_id="w", **CALLS["b3os"], deferrable=True)

    def killed(context: Any, run: Any) -> None:
        context["ti"].state = "failed"
        task.on_kill()

    task.on_phase = {"waiting": killed}
    with pytest.raises(RunCancelled):
        task.resume_execution(first.method_name, {"event": event}, context)
    assert cancels(host) == 1


# --- what travels ---


def test_what_travels_is_plain_and_holds_no_key_and_old_rows_load(host: Any, sensors: Any, calls: Calls) -> None:
    task = waiting_at(host, sensors, calls)
    first = deferral(task, host.context())
    event = host.fired(first)
    _, row = first.trigger.serialize()
    assert KEY not in json.dumps(row) + json.dumps(event)
    assert "Calls" not in json.dumps(row)
    del row["patience"]["phases"]
    host.clock.on_sleep = lambda seconds: host.emulator.set_fields("b3os", row["ref"]["run_id"], FIELDS["b3os"][OVER])
    # A row of before, and one of later with what this version does not know.
    assert asyncio.run(payload(RunTrigger(**row)))["kind"] == "ended"
    row["patience"]["phases"] = {"wanted": ["dancing"], "seen": {"phase": "dancing"}, "more": 1}
    assert asyncio.run(payload(RunTrigger(**row)))["kind"] == "ended"


async def payload(trigger: Any) -> Any:
    (event,) = [event async for event in trigger.run()]
    return event.payload


def test_a_task_without_it_asks_for_nothing_more(host: Any, sensors: Any) -> None:
    run = told(host, "b3os", (0, WAITING), (300, OVER))
    context = host.context()
    ended = host.run(sensors["b3os"](task_id="w", **run, deferrable=True), context)
    assert "phases" not in ended.deferrals[0].trigger.patience
    assert PHASES_KEY not in context["task_state_store"].values


# --- what is refused ---


def nothing(context: Any, run: Any) -> None:
    """A callback."""


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: B3osRunSensor(task_id="w", run_id="r", on_phase={"wait": nothing}), "'wait' is no phase.*waiting"),
        (
            lambda: B3osRunOperator(task_id="w", workflow_id="f", wait=False, on_phase={"waiting": nothing}),
            "on_phase needs wait=True",
        ),
        (
            lambda: RunsSensor(task_id="w", provider="b3os", run_ids=["r"], on_phase={"waiting": nothing}),  # pyright: ignore[reportCallIssue]
            "RunsSensor takes no argument 'on_phase'.*belong to one run.*expand",
        ),
        (
            lambda: RunsOperator(task_id="w", provider="b3os", calls=[{}], on_phase={"waiting": nothing}),  # pyright: ignore[reportCallIssue]
            "RunsOperator takes no argument 'on_phase'.*belong to one run",
        ),
        (
            lambda: B3osRunSensor.partial(task_id="w", on_phase={"waiting": 3}).expand(run_id=["r"]),
            r"on_phase\[waiting\] must be a function",
        ),
    ],
)
def test_what_could_call_nobody_is_refused_when_the_dag_is_built(make: Any, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        make()


def test_reschedule_mode_without_a_memory_is_refused_below_airflow_3_3(monkeypatch: Any) -> None:
    monkeypatch.setattr("runops.airflow.phases.has_task_state_store", lambda: False)
    with pytest.raises(ConfigurationError, match=r"on_phase with mode=.reschedule. needs.*3\.3.*deferrable=True"):
        B3osRunSensor(task_id="w", run_id="r", mode="reschedule", deferrable=False, on_phase={"waiting": nothing})
    B3osRunSensor(task_id="w", run_id="r", mode="reschedule", deferrable=True, on_phase={"waiting": nothing})
    B3osRunSensor(task_id="w", run_id="r", mode="poke", deferrable=False, on_phase={"waiting": nothing})


def test_a_dag_with_callbacks_can_be_stored_by_airflow() -> None:
    with DAG("d", schedule=None, default_args={"retries": 1}) as dag:
        B3osRunSensor(task_id="w", run_id="r", on_phase={"waiting": [nothing, lambda context, run: None]})
        B3osRunSensor.partial(task_id="m", on_phase={"waiting": nothing}).expand(run_id=["r"])
    # Airflow 3.1 has it under another name.
    names = ("DagSerialization", "SerializedDAG")
    serialization: Any = next(vars(serialized_objects)[name] for name in names if name in vars(serialized_objects))
    again: Any = serialization.from_dict(json.loads(json.dumps(serialization.to_dict(dag))))
    assert again.get_task("w").task_type == "B3osRunSensor"


def test_a_mapped_task_calls_as_any_other(host: Any, calls: Calls) -> None:
    run = told(host, "b3os", (0, WAITING), (300, OVER))
    mapped = B3osRunSensor.partial(task_id="w", on_phase={"waiting": calls}, deferrable=True).expand(run_id=["r"])
    assert host.run(mapped.unmap({"run_id": run["run_id"]})).error is None
    assert calls.phases == ["waiting"]
