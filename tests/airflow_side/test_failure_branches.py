"""What holds where something fails beside the run: reads, cancels and records. Each is a promise to a user."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from runops.airflow import B3osWorkflowSensor, NexioHook, OnepinWorkflowSensor, RunFinishedTrigger
from runops.airflow._compat import AirflowTaskTimeout, TaskDeferred
from runops.airflow.exceptions import ConfigurationError, PollingError, RunFailed, RunTimedOut
from runops.airflow.task_state import TaskState
from tests.services import SUBMITTING

WORKFLOW = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
FAILED_READS: dict[str, dict[str, Any]] = {
    "503": {"kind": "status", "status": 503},
    "429": {"kind": "status", "status": 429, "retry_after": 5},
    "cut off": {"kind": "half_body"},
    "reset": {"kind": "reset"},
}


@pytest.fixture
def made(host: Any, operators: Any, calls: Any) -> Any:
    def make(provider: str, *, script: str = "succeeded", seconds: float = 20, **arguments: Any) -> Any:
        host.emulator.set_defaults(provider=provider, script=script, seconds=seconds)
        return operators[provider](task_id="run", **{**calls[provider], **arguments})

    return make


def submits(host: Any) -> int:
    return len(host.emulator.requests(action="submit"))


def dies_while_it_waits(task: Any, context: Any, host: Any) -> str:
    """A try that submits and dies in its wait; the next one begins. The run's id."""

    def die(seconds: float) -> None:
        raise SystemExit

    host.clock.on_sleep = die
    with pytest.raises((SystemExit, TaskDeferred)):
        task.execute(context)
    host.clock.on_sleep = lambda seconds: None
    run_id = context["ti"].xcoms["run_id"]
    context["ti"].next_try()
    return run_id


# --- no second submit -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", SUBMITTING)
@pytest.mark.parametrize("fault", FAILED_READS)
@pytest.mark.parametrize("script", ["succeeded", "failed"])
def test_no_second_submit_follows_from_a_failed_read_of_the_earlier_run(
    host: Any, made: Any, provider: str, fault: str, script: str
) -> None:
    task, context = made(provider, script=script, seconds=60), host.context()
    first = dies_while_it_waits(task, context, host)
    # The run may be over by now, and even failed, which would leave room for another: nobody knows as yet.
    host.clock.sleep(120)
    host.emulator.add_fault(provider=provider, action="get", count=1, **FAILED_READS[fault])

    ended = host.run(task, context)

    assert submits(host) == 1
    assert ended.xcoms["run"]["run_id"] == first
    assert ended.xcoms["run"]["outcome"] == script


@pytest.mark.parametrize("provider", SUBMITTING)
def test_without_wait_a_try_after_a_crash_submits_nothing_though_the_run_has_failed(
    host: Any, made: Any, monkeypatch: pytest.MonkeyPatch, provider: str
) -> None:
    from runops.airflow import operator

    task, context = made(provider, script="failed", wait=False), host.context()
    with monkeypatch.context() as patch:
        patch.setattr(operator, "publish", lambda *_, **__: sys.exit())
        with pytest.raises(SystemExit):
            task.execute(context)
    context["ti"].next_try()
    host.clock.sleep(120)

    ended = host.run(task, context)

    assert submits(host) == 1
    (run,) = [run for run in host.emulator.runs() if run["provider"] == provider]
    assert ended.result["run_id"] == run["run_id"]
    assert (ended.result["outcome"], ended.result["verdict"]) == (None, None)


# --- a cancel that fails --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferrable"])
def test_a_failed_cancel_after_a_timeout_changes_no_outcome_and_leaves_the_run_to_the_next_try(
    host: Any, made: Any, capsys: pytest.CaptureFixture[str], deferrable: bool
) -> None:
    task = made("b3os", script="succeeded", seconds=150, timeout=100, deferrable=deferrable)
    context = host.context()
    host.emulator.add_fault(provider="b3os", action="cancel", kind="status", status=500, count=None)

    ended = host.run(task, context)

    assert type(ended.error) is RunTimedOut
    assert (ended.xcoms["run"]["outcome"], ended.xcoms["run"]["ended_by"]) == ("timed_out", "timeout")
    assert capsys.readouterr().out.count("could not be cancelled and may go on") == 1
    assert "given_up" not in (TaskState(context).load() or {})
    first = ended.xcoms["run_id"]
    context["ti"].next_try()
    ended = host.run(task, context)
    assert (ended.result["run_id"], ended.result["outcome"]) == (first, "succeeded")
    assert submits(host) == 1


def test_a_clear_that_cannot_cancel_the_run_of_before_warns_once_and_goes_on_with_its_own(
    host: Any, made: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    task, context = made("b3os", script="forever", deferrable=True), host.context()
    with pytest.raises(TaskDeferred):
        task.execute(context)
    before = context["ti"].xcoms["run_id"]
    context["ti"].clear()
    host.emulator.add_fault(provider="b3os", action="cancel", kind="status", status=500, count=None)
    host.emulator.set_defaults(provider="b3os", script="succeeded")

    ended = host.run(task, context)

    assert ended.result["outcome"] == "succeeded"
    assert ended.result["run_id"] != before
    assert capsys.readouterr().out.count(f"b3os run {before} of before could not be cancelled and may go on") == 1
    assert "given_up" not in (TaskState(context).load() or {})
    assert submits(host) == 2


# --- keys -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", ["false", "False", "0", "no", "off", "", "  ", False, 0, None, "maybe"])
def test_a_key_goes_over_plain_http_to_another_machine_only_where_allow_http_says_yes(connect: Any, said: Any) -> None:
    connect("other", "nexio", host="http://api.example.com", extra={"allow_http": said})
    for client in (NexioHook("other").client, lambda: asyncio.run(NexioHook("other").async_client())):
        with pytest.raises(ConfigurationError, match="allow_http"):
            client()


@pytest.mark.parametrize("said", ["true", "True", " TRUE ", "1", "yes", "on", True, 1])
def test_allow_http_may_be_said_in_the_words_that_a_form_gives(connect: Any, said: Any) -> None:
    connect("other", "nexio", host="http://api.example.com", extra={"allow_http": said})
    assert NexioHook("other").client().root.startswith("http://api.example.com")
    assert asyncio.run(NexioHook("other").async_client()).root.startswith("http://api.example.com")


# --- state and display ----------------------------------------------------------------------------------------------


class AssetStore:
    """Airflow's state store of one asset; it outlives its triggerers."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    async def aget(self, key: str, default: Any = None) -> Any:
        return json.loads(self.values[key]) if key in self.values else default

    async def aset(self, key: str, value: Any) -> None:
        self.values[key] = json.dumps(value, allow_nan=False)


def test_a_run_that_a_watch_follows_is_written_down_before_the_next_look(served: Any) -> None:
    emulator, store = served.emulator, AssetStore()
    emulator.reset()
    parent = {"workflow_id": "wf_1"}

    async def watched(until: Any) -> list[dict[str, Any]]:
        # The looks lie far apart, so that the kill comes between two of them.
        trigger = RunFinishedTrigger(provider="b3os", parent=parent, poll_interval=0.7)
        memory: Any = store
        trigger.asset_state_store = memory
        payloads: list[dict[str, Any]] = []

        async def collect() -> None:
            async for event in trigger.run():
                payloads.append(dict(event.payload))

        triggerer = asyncio.create_task(collect())
        async with asyncio.timeout(20):
            while not until(payloads):  # noqa: ASYNC110 - what is waited for happens elsewhere
                await asyncio.sleep(0.002)
        triggerer.cancel()
        await asyncio.gather(triggerer, return_exceptions=True)
        await asyncio.sleep(0.05)
        return payloads

    def is_followed(_: object) -> bool:
        if store.values and not emulator.runs():
            emulator.create_run("b3os", script="succeeded", seconds=0.3, parents=parent, run_id="the_run")
        return bool(emulator.requests(action="get", run_id="the_run"))

    asyncio.run(watched(is_followed))
    (written,) = store.values.values()
    assert list(json.loads(written)["open"]) == ["the_run"]
    emulator.add_fault(provider="b3os", action="list", kind="status", status=502, count=2)
    assert [payload["run_id"] for payload in asyncio.run(watched(bool))] == ["the_run"]
    emulator.reset()


@pytest.mark.parametrize("store", [True, False], ids=["3.3", "below 3.3"])
@pytest.mark.parametrize("made_sensor", [B3osWorkflowSensor, OnepinWorkflowSensor])
def test_a_run_that_a_search_finds_has_its_id_and_page_published_while_it_is_waited_for(
    host: Any, made_sensor: Any, store: bool
) -> None:
    provider, context = made_sensor(task_id="w", workflow_id=WORKFLOW).provider, host.context(store=store)
    parents = {"workflow_id": WORKFLOW}
    task = made_sensor(task_id="w", workflow_id=WORKFLOW, since=timedelta(0), timeout=6000, deferrable=True)
    run_id = host.emulator.create_run(provider, script="forever", parents=parents, age_seconds=100)
    with pytest.raises(TaskDeferred) as searching:
        task.execute(context)
    run_id = host.emulator.create_run(provider, script="succeeded", seconds=500, parents=parents)
    event = host.fired(searching.value)
    assert event["kind"] == "found"
    with pytest.raises(TaskDeferred):
        task.resume_execution("execute_complete", {"event": event}, context)
    xcoms = context["ti"].xcoms
    assert xcoms["run_id"] == run_id
    assert xcoms["run_url"].startswith("https://")

    # No event came: whoever resumes the task finds the run by what is published, not by another search.
    host.clock.sleep(600)
    host.emulator.create_run(provider, script="forever", parents=parents)
    result = task.resume_execution("__fail__", {"error": "Trigger timeout"}, context)
    assert (result["run_id"], result["outcome"]) == (run_id, "succeeded")


@pytest.mark.parametrize("provider", ["nexio", "nyx", "onepin", "b3os", "nekt"])
def test_execution_timeout_with_a_failed_last_read_keeps_what_was_seen_of_the_run(
    host: Any, sensors: Any, capsys: pytest.CaptureFixture[str], provider: str
) -> None:
    run = host.made(provider, script="forever", seconds=200)
    task = sensors[provider](task_id="w", **run, deferrable=False, mode="poke", soft_fail=True)

    def time_is_up(seconds: float) -> None:
        if host.clock.passed >= 60:
            host.emulator.add_fault(provider=provider, action="get", kind="status", status=503, count=None)
            raise AirflowTaskTimeout("Timeout")

    host.clock.on_sleep = time_is_up
    ended = host.run(task)
    host.clock.on_sleep = lambda seconds: None

    assert type(ended.error) is RunTimedOut
    left = ended.xcoms["run"]
    assert (left["outcome"], left["ended_by"], left["run_ended"]) == ("timed_out", "execution_timeout", False)
    assert left["state"] is not None
    assert (left["progress"] is not None) == (provider in ("nyx", "onepin"))
    assert f"The last read of {provider} run {run['run_id']} failed" in capsys.readouterr().out


def test_run_id_and_run_url_of_a_sensor_are_pushed_before_any_wait(host: Any, sensors: Any) -> None:
    run = host.made("nyx", script="forever")
    for mode in ({"deferrable": True}, {"deferrable": False, "mode": "poke"}):
        context = host.context()

        def die(seconds: float) -> None:
            raise SystemExit

        host.clock.on_sleep = die
        # Not even the first look has succeeded.
        host.emulator.add_fault(provider="nyx", action="get", kind="status", status=503, count=1)
        with pytest.raises(SystemExit):
            sensors["nyx"](task_id="w", **run, **mode).execute(context)
        assert context["ti"].xcoms["run_id"] == run["run_id"]
        assert context["ti"].xcoms["run_url"].endswith(run["run_id"])


def test_in_reschedule_mode_an_outage_longer_than_a_poke_is_got_over(
    host: Any, sensors: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run = host.made("nexio", script="succeeded", seconds=500)
    task, context = sensors["nexio"](task_id="w", **run, mode="reschedule", deferrable=False), host.context()
    outage(host, since=100, until=400)
    ended = host.run(task, context)
    assert ended.result["outcome"] == "succeeded"
    assert "could not be read in this poke" in capsys.readouterr().out


def test_in_reschedule_mode_failures_in_a_row_add_up_over_pokes_to_the_error_budget(host: Any, sensors: Any) -> None:
    run = host.made("nexio", script="forever")
    task = sensors["nexio"](task_id="w", **run, mode="reschedule", deferrable=False, error_budget=600)
    outage(host, since=100, until=10_000)
    ended = host.run(task)
    assert type(ended.error) is PollingError
    assert host.clock.passed == pytest.approx(700, abs=160)


def outage(host: Any, *, since: float, until: float) -> None:
    """Reads of Nexio's runs fail in this time of the test's clock."""
    began, state = host.clock.now, {"down": False}

    def look(seconds: float) -> None:
        passed = host.clock.now + seconds - began
        if since <= passed < until and not state["down"]:
            state["down"] = True
            host.emulator.add_fault(provider="nexio", action="get", kind="status", status=503, count=None)
        elif passed >= until and state["down"]:
            host.emulator.reset(only=("faults",))

    host.clock.on_sleep = look


@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferrable"])
def test_a_task_whose_record_somebody_deletes_still_ends_with_its_run(host: Any, made: Any, deferrable: bool) -> None:
    task, context = made("b3os", script="succeeded", seconds=60, deferrable=deferrable), host.context()
    host.clock.on_sleep = lambda seconds: context["task_state_store"].values.clear()
    assert host.run(task, context).result["outcome"] == "succeeded"
    assert submits(host) == 1


def test_a_change_of_a_record_that_is_gone_makes_no_new_one(host: Any) -> None:
    context = host.context()
    TaskState(context).update(seen=True)
    assert context["task_state_store"].values == {}


@pytest.mark.parametrize("default", [True, False])
def test_a_task_is_deferrable_where_airflows_default_says_so(default: bool) -> None:
    code = (
        "from runops.airflow import NexioRunSensor, NexioRunOperator, NyxConfigSensor\n"
        "made = [NexioRunSensor(task_id='a', run_id='r'), NyxConfigSensor(task_id='c', config_name='n'),\n"
        "        NexioRunOperator(task_id='b', engine_slug='e', input={})]\n"
        "print('deferrable:', [task.deferrable for task in made])"
    )
    environment = {**os.environ, "AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE": str(default)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False, env=environment
    )
    assert f"deferrable: {[default] * 3}" in done.stdout, done.stderr


# --- what a trigger asks of Airflow ---------------------------------------------------------------------------------


def hanging(*_: Any, **__: Any) -> Any:
    return asyncio.get_running_loop().create_future()


async def event_of(trigger: Any) -> Any:
    (event,) = [event async for event in trigger.run()]
    assert len(asyncio.all_tasks()) == 1
    return event.payload


@pytest.mark.parametrize("provider", ["nexio", "b3os"])
def test_a_connection_that_never_comes_is_an_event_that_names_it(
    host: Any, sensors: Any, monkeypatch: pytest.MonkeyPatch, provider: str
) -> None:
    from runops.airflow import hook

    task, context = sensors[provider](task_id="w", **host.made(provider, script="forever"), deferrable=True), None
    context = host.context()
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context)
    monkeypatch.setattr(hook, "AIRFLOW_SECONDS", 0.1)
    monkeypatch.setattr(hook, "connection_of", hanging)
    event = asyncio.run(event_of(deferred.value.trigger))
    assert (event["kind"], event["error"]) == ("error", "TriggerCrashed")
    assert event["message"] == (
        f"Airflow did not answer within 0.1 s when asked for the connection '{provider}_default'."
    )


def test_a_state_that_is_never_told_holds_back_no_event(host: Any, made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.execution_time import task_runner

    from runops.airflow import trigger_base

    with pytest.raises(TaskDeferred) as deferred:
        made("b3os", seconds=60, deferrable=True).execute(host.context())
    waits = deferred.value.trigger
    waits.task_instance = SimpleNamespace(dag_id="a_dag", task_id="a_task", run_id="a_run", map_index=-1)

    async def asend(asked: Any) -> Any:
        if type(asked).__name__ == "GetTaskStates":
            await hanging()
        raise ConnectionError("Nobody else is there.")

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", SimpleNamespace(asend=asend), raising=False)
    monkeypatch.setattr(trigger_base.TriggerBase, "_channel", None)
    monkeypatch.setattr(trigger_base, "OPENING_SECONDS", 0.1)
    assert asyncio.run(event_of(waits))["kind"] == "ended"


def test_a_cancel_that_is_not_answered_in_time_is_told(
    host: Any, made: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from runops.airflow import hook, trigger_base

    with pytest.raises(TaskDeferred) as deferred:
        made("b3os", script="forever", deferrable=True).execute(host.context())
    waits = deferred.value.trigger

    async def state(self: Any) -> str:
        return "failed"

    monkeypatch.setattr(trigger_base, "task_state_of", state)
    monkeypatch.setattr(trigger_base, "CANCEL_SECONDS", 0.1)
    monkeypatch.setattr(hook, "connection_of", hanging)
    with pytest.raises(TimeoutError):
        asyncio.run(waits.on_kill())
    assert "is cancelled is not known: there was no answer within 0.1 s" in capsys.readouterr().out


@pytest.mark.parametrize("broken", ["aget", "aset", "connection"])
def test_a_watch_whose_airflow_does_not_answer_says_so_and_tries_again(
    served: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], broken: str
) -> None:
    from runops.airflow import hook, watcher

    served.emulator.reset()
    monkeypatch.setattr(watcher, "REST_SECONDS", 0.02)
    monkeypatch.setattr(watcher, "AIRFLOW_SECONDS", 0.1)
    monkeypatch.setattr(hook, "AIRFLOW_SECONDS", 0.1)
    store: Any = AssetStore()
    kept, whole = getattr(store, broken, None), hook.connection_of
    if broken == "connection":
        monkeypatch.setattr(hook, "connection_of", hanging)
    else:
        setattr(store, broken, hanging)
    said = ""

    async def watched() -> None:
        nonlocal said
        trigger = RunFinishedTrigger(provider="b3os", parent="wf_1", poll_interval=0.03)
        trigger.asset_state_store = store

        async def collect() -> None:
            async for _ in trigger.run():
                pass

        triggerer = asyncio.create_task(collect())
        async with asyncio.timeout(20):
            while said.count("did not answer within 0.1 s") < 2:
                await asyncio.sleep(0.01)
                said += capsys.readouterr().out
            if broken == "connection":
                monkeypatch.setattr(hook, "connection_of", whole)
            else:
                setattr(store, broken, kept)
            while not store.values:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        triggerer.cancel()
        await asyncio.gather(triggerer, return_exceptions=True)
        await asyncio.sleep(0.05)

    asyncio.run(watched())
    assert "The watch over b3os workflow_id wf_1 cannot go on, and tries again: Airflow did not answer" in said
    served.emulator.reset()


def test_a_run_that_failed_is_retried_by_operators_only(host: Any, made: Any) -> None:
    from runops.airflow._compat import AirflowFailException

    ended = host.run(made("nexio", script="failed"))
    assert type(ended.error) is RunFailed
    assert not isinstance(ended.error, AirflowFailException)
