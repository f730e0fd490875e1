"""The known traps of Airflow as a host, by number: each is sprung here once. Other tests go into the details."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import BaseSensorOperator
from airflow.sdk.execution_time import task_runner
from airflow.triggers.base import BaseEventTrigger, BaseTrigger

import runops.airflow
from runops.airflow import (
    NexioRunSensor,
    RunFinishedTrigger,
    RunTrigger,
    _compat,
    exceptions,
    link,
    own_run,
    trigger_base,
)
from runops.airflow._compat import AirflowFailException, AirflowSensorTimeout, AirflowSkipException, TaskDeferred

ROOT = Path(__file__).parents[2]
SOURCES = Path(inspect.getfile(runops.airflow)).parent


def deferral(host: Any, task: Any, context: Any) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context)
    return deferred.value


@pytest.mark.parametrize(("state", "cancels"), [("deferred", 0), ("running", 0), ("failed", 1)])
def test_airflow_trap_01_on_kill_on_a_reassignment_cancels_nothing(
    host: Any, operators: Any, calls: Any, monkeypatch: pytest.MonkeyPatch, state: str, cancels: int
) -> None:
    host.emulator.set_defaults(script="forever", seconds=900)
    deferred = deferral(host, operators["b3os"](task_id="w", **calls["b3os"], deferrable=True), host.context())

    class Triggerer:
        async def asend(self, asked: Any) -> Any:
            return SimpleNamespace(task_states={"a_run": {"w": state}})

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Triggerer(), raising=False)
    deferred.trigger.task_instance = SimpleNamespace(dag_id="a_dag", task_id="w", run_id="a_run", map_index=-1)
    asyncio.run(deferred.trigger.on_kill())
    assert len(host.emulator.requests(action="cancel")) == cancels


def test_airflow_trap_02_no_trigger_fires_in_the_first_seconds_after_its_deferral(host: Any, sensors: Any) -> None:
    task = sensors["nexio"](task_id="w", **host.made("nexio", seconds=11), deferrable=True)
    deferred = deferral(host, task, host.context())
    earliest = max(10.0, 2 * _compat.heartbeat_seconds())
    assert deferred.trigger.serialize()[1]["not_before"] == host.clock.now + earliest
    deferred_at = host.clock.now
    host.fired(deferred)
    assert host.clock.now >= deferred_at + earliest


def test_airflow_trap_03_nothing_secret_is_in_rows_events_or_what_a_task_resumes_with(
    host: Any, operators: Any, calls: Any, key: str
) -> None:
    host.emulator.set_defaults(script="succeeded", seconds=30)
    for provider, arguments in calls.items():
        deferred = deferral(host, operators[provider](task_id="w", **arguments, deferrable=True), host.context())
        event = host.fired(deferred)
        written = json.dumps([deferred.trigger.serialize(), event, deferred.kwargs])
        assert key not in written
        assert "127.0.0.1" not in written


def test_airflow_trap_04_execution_timeout_holds_while_deferred_and_from_the_start_of_the_try(
    host: Any, operators: Any, calls: Any
) -> None:
    host.emulator.set_defaults(script="forever", seconds=900)
    limit = timedelta(seconds=60)
    task = operators["b3os"](task_id="a_task", **calls["b3os"], deferrable=True, execution_timeout=limit)
    context = host.context()
    deferral(host, task, context)
    host.clock.sleep(20)
    # The process that resumes gets Airflow's whole limit again; ours goes on.
    with pytest.raises(TaskDeferred) as again:
        task.resume_execution("__fail__", {"error": "Trigger failure"}, context)
    event = host.fired(again.value)
    assert host.clock.passed == pytest.approx(60, abs=1)
    with pytest.raises(exceptions.RunTimedOut):
        task.resume_execution("execute_complete", {"event": event}, context)
    assert context["ti"].xcoms["run"]["ended_by"] == "execution_timeout"


def test_airflow_trap_05_a_deferral_timeout_is_met_in_resume_execution(host: Any, operators: Any, calls: Any) -> None:
    """Airflow calls neither the next method nor ``on_kill`` then."""
    host.emulator.set_defaults(script="forever", seconds=9000)
    task, context = operators["b3os"](task_id="a_task", **calls["b3os"], timeout=600, deferrable=True), host.context()
    deferred = deferral(host, task, context)
    host.clock.sleep(deferred.timeout.total_seconds())  # pyright: ignore[reportOptionalMemberAccess]
    with pytest.raises(exceptions.RunTimedOut):
        task.resume_execution("__fail__", {"error": "Trigger timeout"}, context)
    assert len(host.emulator.requests(action="cancel")) == 1


def test_airflow_trap_06_soft_fail_means_the_same_in_every_mode_and_hides_no_missing_connection(
    host: Any, sensors: Any, mode: Any
) -> None:
    run = host.made("nexio", script="failed")
    ended = host.run(sensors["nexio"](task_id="w", **run, soft_fail=True, **mode))
    assert type(ended.error) is AirflowSkipException
    ended = host.run(sensors["nexio"](task_id="w", **run, soft_fail=True, nexio_conn_id="nobody_made_me", **mode))
    assert type(ended.error) is exceptions.AuthError
    task = sensors["nexio"](task_id="w", **run, soft_fail=True, **mode)
    with pytest.raises(exceptions.TriggerCrashed):
        task.resume_execution("__fail__", {"error": "Trigger failure"}, host.context())


def test_airflow_trap_07_a_memory_that_survives_a_clear_belongs_to_a_generation(
    host: Any, operators: Any, calls: Any
) -> None:
    host.emulator.set_defaults(script="succeeded", seconds=5)
    task, context = operators["b3os"](task_id="a_task", **calls["b3os"]), host.context()

    def run_of_the_next_try() -> str:
        return host.run(task, context).result["run_id"]

    first = run_of_the_next_try()
    context["ti"].next_try()
    assert run_of_the_next_try() == first
    context["ti"].clear()
    assert context["task_state_store"].values
    assert run_of_the_next_try() != first
    assert len(host.emulator.requests(action="submit")) == 2


def test_airflow_trap_08_a_re_attached_try_returns_the_whole_result(host: Any, operators: Any, calls: Any) -> None:
    host.emulator.set_defaults(script="succeeded", seconds=40)
    for deferrable in (False, True):
        task, context = operators["nexio"](task_id="w", **calls["nexio"], deferrable=deferrable), host.context()
        with task._hook().client() as client:
            task._submission(context).start(client)
        context["ti"].next_try()
        ended = host.run(task, context)
        assert ended.result == ended.xcoms["run"]
        assert ended.result["outcome"] == "succeeded"


@pytest.mark.anyio
async def test_airflow_trap_09_a_trigger_never_blocks_its_loop(served: Any) -> None:
    served.emulator.reset()
    run_id = served.emulator.create_run("nexio", script="succeeded", seconds=0.5)
    from runops.core import find
    from runops.core.waiting.options import WaitOptions

    patience = WaitOptions.build(find("nexio"), now=datetime.now(UTC).timestamp(), timeout=30, interval=0.05)
    waits = RunTrigger(
        provider="nexio",
        conn_id="nexio_default",
        ref={"provider": "nexio", "run_id": run_id},
        patience=patience.to_dict(),
    )
    longest, before = 0.0, asyncio.get_running_loop().time()

    async def watch_the_loop() -> None:
        nonlocal longest, before
        while True:
            await asyncio.sleep(0.005)
            now = asyncio.get_running_loop().time()
            longest, before = max(longest, now - before), now

    watching = asyncio.create_task(watch_the_loop())
    events = [event async for event in waits.run()]
    watching.cancel()
    assert events[0].payload["kind"] == "ended"
    # Airflow warns from 0.2 s; a machine under load gets some more.
    assert longest < 1.0


def test_airflow_trap_10_no_shared_stream_can_fail_all_its_subscribers() -> None:
    """Waits share a poller in the process instead, in which a failure of one run stays with that run."""
    watch: Any = RunFinishedTrigger(provider="nyx", parent="nightly")
    assert not hasattr(watch, "shared_stream_key") or watch.shared_stream_key() is None


def test_airflow_trap_11_a_task_of_our_own_in_the_triggerer_carries_no_log_context_of_another() -> None:
    """The poller's workers start in an empty context; what a trigger spawns for the process does too."""
    from runops.core.polling import dispatch, poller

    for module in (dispatch, poller, trigger_base):
        spawned = re.findall(r"create_task\((?:[^()]|\([^()]*\))*\)", inspect.getsource(module))
        assert spawned
        assert all("contextvars.Context()" in call for call in spawned), spawned


def test_airflow_trap_12_no_event_that_ends_a_task_carries_an_xcom_which_airflow_would_store_as_a_text() -> None:
    """One module ends tasks without a worker, and stores their XComs before, as a worker does."""
    ending = {
        source.name: re.findall(r"Task(?:Success|Failed|Skipped)Event(?:\([^)]*\))?", text)
        for source in SOURCES.glob("*.py")
        if "TaskSuccessEvent" in (text := source.read_text(encoding="utf-8")) or "TaskFailedEvent" in text
    }
    called = {each for found in ending.values() for each in found if each.endswith(")")}
    assert called == {"TaskSkippedEvent()", "TaskSuccessEvent()"}


def test_airflow_trap_13_mapped_tasks_run_execute(host: Any) -> None:
    """Airflow lets none of them begin in the triggerer, whatever the task says."""
    run = host.made("nexio", script="succeeded")
    mapped = NexioRunSensor.partial(task_id="w", deferrable=True, start_from_trigger=True).expand(
        run_id=[run["run_id"]]
    )
    assert mapped.start_trigger_args is None
    ended = host.run(mapped.unmap({"run_id": run["run_id"]}))
    assert ended.result["outcome"] == "succeeded"
    assert ended.result == ended.xcoms["run"]


def test_airflow_trap_14_the_link_is_read_from_an_xcom_and_never_from_the_operator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def value(ti_key: Any, key: str) -> str:
        asked.append(key)
        return "https://app.example.com/run"

    monkeypatch.setattr(link, "pushed", value)
    for kind in (link.RunLink, *link.LINKS.values()):
        assert kind().get_link(None, ti_key=None) == "https://app.example.com/run"
    assert set(asked) == {"run_url"}


def test_airflow_trap_15_what_cannot_be_serialised_is_refused_before_the_submit(host: Any, operators: Any) -> None:
    task = operators["nexio"](task_id="w", engine_slug="e", input={"when": object()}, deferrable=True)
    ended = host.run(task)
    assert type(ended.error) is exceptions.ConfigurationError
    assert host.emulator.requests(action="submit") == []


def test_airflow_trap_16_rows_and_events_hold_only_what_survives_json(host: Any, sensors: Any) -> None:
    def primitive(value: Any) -> bool:
        if isinstance(value, dict):
            return all(type(name) is str and primitive(each) for name, each in value.items())
        if isinstance(value, list):
            return all(map(primitive, value))
        return value is None or type(value) in (str, int, float, bool)

    task = sensors["onepin"](task_id="w", **host.made("onepin", seconds=30), deferrable=True, max_paused=60)
    deferred = deferral(host, task, host.context())
    assert primitive(deferred.trigger.serialize()[1])
    assert primitive(asyncio.run(first_payload(deferred.trigger)))


async def first_payload(waits: Any) -> Any:
    (event,) = [event async for event in waits.run()]
    return event.payload


def test_airflow_trap_17_connection_types_are_lower_case_and_have_one_hook_each() -> None:
    from runops.airflow._provider_info import get_provider_info

    types = get_provider_info()["connection-types"]
    names = [each["connection-type"] for each in types]
    assert len(set(names)) == len(names) == len({each["hook-class-name"] for each in types})
    for each in types:
        assert re.fullmatch("[a-z0-9_]+", each["connection-type"])
        hook = getattr(runops.airflow, each["hook-class-name"].rpartition(".")[2])
        assert hook.conn_type == each["connection-type"]


def test_airflow_trap_18_the_provider_info_costs_nothing_and_names_the_distribution() -> None:
    from runops.airflow._provider_info import get_provider_info

    assert get_provider_info()["package-name"] == "runops"
    for loaded in ("_provider_info.py", "__init__.py", "providers/__init__.py"):
        source = (SOURCES / loaded).read_text(encoding="utf-8")
        names = set(re.findall(r"^(?:from|import) ([\w.]+)", source, re.MULTILINE))
        assert names <= {"__future__", "collections.abc", "importlib", "types", "typing", "runops.airflow.providers"}


def test_airflow_trap_19_forms_are_declared_as_data() -> None:
    from runops.airflow._provider_info import get_provider_info

    for name in ("NexioHook", "NyxHook", "OnepinHook", "B3osHook", "NektHook"):
        kind = getattr(runops.airflow, name)
        assert not {"get_connection_form_widgets", "get_ui_field_behaviour"} & set(vars(kind))
    for form in get_provider_info()["connection-types"]:
        assert form["ui-field-behaviour"]["relabeling"]["password"]


def test_airflow_trap_20_triggers_work_without_a_task_instance_as_in_dag_test(host: Any, sensors: Any) -> None:
    task = sensors["nexio"](task_id="w", **host.made("nexio", script="succeeded"), deferrable=True)
    deferred = deferral(host, task, host.context())
    assert deferred.trigger.task_instance is None
    assert host.fired(deferred)["kind"] == "ended"
    assert not deferred.kwargs


def test_airflow_trap_21_a_sensor_with_its_own_execute_polls_in_every_mode(host: Any, sensors: Any, mode: Any) -> None:
    for name in runops.airflow.__all__:
        kind = getattr(runops.airflow, name)
        if isinstance(kind, type) and issubclass(kind, BaseSensorOperator):
            assert kind.poke is not BaseSensorOperator.poke
    ended = host.run(sensors["nexio"](task_id="w", **host.made("nexio", script="succeeded"), **mode))
    assert ended.result["outcome"] == "succeeded"
    assert len(host.emulator.requests(action="get")) >= 2


def test_airflow_trap_22_clocks_that_must_survive_a_restart_are_wall_clocks(host: Any, sensors: Any) -> None:
    task = sensors["nexio"](task_id="w", **host.made("nexio", seconds=900), deferrable=True, timeout=500)
    row = deferral(host, task, host.context()).trigger.serialize()[1]
    assert row["patience"]["deadline"] == pytest.approx(host.clock.began + 500)
    for source in SOURCES.glob("*.py"):
        assert "monotonic" not in source.read_text(encoding="utf-8")


def test_airflow_trap_23_rows_outlive_deploys(host: Any, sensors: Any) -> None:
    deferred = deferral(host, sensors["nexio"](task_id="w", **host.made("nexio"), deferrable=True), host.context())
    path, row = deferred.trigger.serialize()
    assert path == "runops.airflow.trigger.RunTrigger"
    assert RunTrigger(**row, of_a_later_release=1).serialize() == (path, row)
    watch = RunFinishedTrigger(provider="nyx", parent="nightly")
    path, row = watch.serialize()
    assert path == "runops.airflow.watcher.RunFinishedTrigger"
    later: dict[str, Any] = {**row, "of_a_later_release": 1}
    assert RunFinishedTrigger(**later).serialize() == (path, row)


def test_airflow_trap_24_a_kill_takes_less_than_the_time_that_airflow_gives() -> None:
    assert own_run.STATE_SECONDS + own_run.KILL_SECONDS < 5
    assert own_run.LEAVE_SECONDS < 20
    assert trigger_base.STATE_SECONDS + trigger_base.CANCEL_SECONDS < 30


def test_airflow_trap_25_only_what_must_not_be_retried_is_of_a_kind_that_airflow_never_retries() -> None:
    retried = (exceptions.RunFailed, exceptions.PollingError, exceptions.RunTimedOut, exceptions.TriggerCrashed)
    final = (exceptions.RunRejected, exceptions.RunCancelled, exceptions.SubmitUncertainError, exceptions.AuthError)
    for kind in retried:
        assert not issubclass(kind, (AirflowFailException, AirflowSensorTimeout))
    for kind in final:
        assert issubclass(kind, AirflowFailException)


def test_airflow_trap_26_whoever_starts_airflow_here_lets_no_log_server_listen() -> None:
    commands = re.findall(r"\(\s*\"(?:scheduler|triggerer)\"[^)]*\)", (ROOT / "demo" / "airflow_host.py").read_text())
    starts = [command for command in commands if "--" in command]
    assert len(starts) == 2
    assert all("--skip-serve-logs" in command for command in starts)


def test_airflow_trap_27_triggers_touch_no_task_state_store_and_await_the_one_of_assets() -> None:
    for module in ("trigger", "watcher"):
        source = (SOURCES / f"{module}.py").read_text(encoding="utf-8")
        assert "task_state_store" not in source
        assert not re.search(r"store\.(get|set)\(", source)


def test_airflow_trap_28_the_trigger_of_tasks_is_no_event_trigger_so_that_queues_serve_it() -> None:
    assert issubclass(RunTrigger, BaseTrigger)
    assert not issubclass(RunTrigger, BaseEventTrigger)
    assert issubclass(RunFinishedTrigger, BaseEventTrigger)


def test_airflow_trap_29_no_synchronous_masking_on_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 3.3.2 Airflow's own async reader masks by a call that can end in a BaseException on the loop's thread."""
    threads: list[Any] = []

    async def in_a_thread(work: Any, *arguments: Any) -> Any:
        threads.append(work)
        return work(*arguments)

    monkeypatch.delattr(_compat.Connection, "aextra_dejson", raising=False)
    monkeypatch.setattr(_compat.asyncio, "to_thread", in_a_thread)
    connection = asyncio.run(_compat.connection_of("nexio_default"))
    assert connection.conn_type == "nexio"
    assert [work.__name__ for work in threads] == ["get_connection"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
