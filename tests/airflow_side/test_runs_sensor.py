"""The sensor of many runs: the same end in every mode, what a poke keeps, what is refused, and no cancel ever."""

from __future__ import annotations

import asyncio
import json
import signal
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.definitions.param import ParamsDict

import runops.airflow
from runops.airflow import RunsSensor, exceptions
from runops.airflow._compat import (
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    TaskDeferred,
    renders_in_triggerer,
)
from runops.airflow.many import trigger_size
from runops.airflow.runs_trigger import RunsTrigger
from runops.core import ConfigurationError
from tests.services import PARENTS, PROVIDERS, WORKFLOW

MODES: dict[str, dict[str, Any]] = {
    "poke": {"deferrable": False, "mode": "poke"},
    "reschedule": {"deferrable": False, "mode": "reschedule"},
    "deferrable": {"deferrable": True},
}


def made(host: Any, provider: str, count: int = 1, **options: Any) -> list[str]:
    return [host.made(provider, **options)["run_id"] for _ in range(count)]


def sensor(provider: str, run_ids: Any, **options: Any) -> Any:
    kind = getattr(runops.airflow, f"{provider.capitalize()}RunsSensor")
    return kind(task_id="a_task", run_ids=run_ids, **PARENTS.get(provider, {}), **options)


def without_times(result: Any) -> Any:
    """What must be the same in every mode."""
    return json.loads(json.dumps(result))


# --- the same in every mode ---


@pytest.mark.parametrize("provider", PROVIDERS)
def test_all_modes_return_the_same_and_push_the_same(host: Any, provider: str) -> None:
    ids = [
        *made(host, provider, 2, script="succeeded"),
        *made(host, provider, 1, script="failed", seconds=5),
        *made(host, provider, 1, script="failed", seconds=200),
        *made(host, provider, 1, script="succeeded", seconds=400),
    ]
    ends = {}
    for name, mode in MODES.items():
        host.emulator.now = lambda now=host.clock.began + 1: max(now, host.clock.now)
        ends[name] = host.run(sensor(provider, ids, require=0.6, **mode))
        assert ends[name].error is None, name
    poke = ends["poke"]
    assert poke.result["outcomes"] == {"succeeded": 3, "failed": 2}
    assert [each["run_id"] for each in poke.result["failed"]] == ids[2:4]
    assert poke.result["met"] is True
    for name, ended in ends.items():
        assert without_times(ended.result) == without_times(poke.result), name
        assert ended.xcoms["runs"] == poke.xcoms["runs"], name
        assert ended.xcoms["run"] == ended.result, name
    assert [row["run_id"] for row in poke.xcoms["runs"]] == ids
    assert not host.emulator.requests(action="cancel")


def test_a_failed_run_fails_the_task_for_good_in_every_mode(host: Any, mode: Any) -> None:
    ids = [*made(host, "nexio", 2), *made(host, "nexio", 1, script="failed")]
    ended = host.run(sensor("nexio", ids, **mode))
    assert type(ended.error) is exceptions.SensorRunFailed
    assert isinstance(ended.error, AirflowFailException)
    assert ended.xcoms["run"]["outcomes"] == {"succeeded": 2, "failed": 1}
    assert ended.error.result == ended.xcoms["run"]


def test_skips_alone_skip_the_task_in_every_mode(host: Any, mode: Any) -> None:
    ended = host.run(sensor("nexio", made(host, "nexio", 2, script="degraded"), **mode))
    assert type(ended.error) is AirflowSkipException
    assert ended.xcoms["run"]["verdicts"] == {"skip": 2}


def test_soft_fail_turns_failed_runs_into_skips_in_every_mode(host: Any, mode: Any) -> None:
    ids = made(host, "nexio", 2, script="failed")
    assert type(host.run(sensor("nexio", ids, soft_fail=True, **mode)).error) is AirflowSkipException
    # A run that is not there is no soft matter.
    ended = host.run(sensor("nexio", [*ids, "no-such-run"], soft_fail=True, **mode))
    assert type(ended.error) is exceptions.RunNotFound


def test_the_end_of_time_is_airflows_and_runops_timeout_in_every_mode(host: Any, mode: Any) -> None:
    ids = [*made(host, "nexio", 1, seconds=5), *made(host, "nexio", 1, script="forever")]
    ended = host.run(sensor("nexio", ids, timeout=300, **mode))
    assert isinstance(ended.error, exceptions.RunTimedOut)
    assert isinstance(ended.error, AirflowSensorTimeout)
    assert ended.xcoms["run"]["outcomes"] == {"succeeded": 1, "timed_out": 1}
    assert ended.xcoms["run"]["failed"][0]["ended_by"] == "timeout"


def test_what_was_met_when_time_is_over_is_a_success(host: Any, mode: Any) -> None:
    ids = [*made(host, "nexio", 1, seconds=5), *made(host, "nexio", 1, script="forever")]
    ended = host.run(sensor("nexio", ids, timeout=300, require="any", **mode))
    assert ended.error is None
    assert ended.result["outcomes"] == {"succeeded": 1, "timed_out": 1}


def test_stop_early_ends_the_wait_and_cancels_nothing(host: Any, mode: Any) -> None:
    ids = [*made(host, "b3os", 1, seconds=30), *made(host, "b3os", 2, script="forever")]
    ended = host.run(sensor("b3os", ids, require="any", stop_early=True, **mode))
    assert ended.error is None
    assert (ended.result["stopped_early"], ended.result["outcomes"]) == (True, {"succeeded": 1})
    assert [row.get("ended_by") for row in ended.xcoms["runs"]] == [None, "stop_early", "stop_early"]
    assert not host.emulator.requests(action="cancel")


def test_the_sum_of_what_is_spent_ends_the_wait(host: Any, mode: Any) -> None:
    steps = [{"at": 0, "set": {"status": "running", "spent_usd": 1}}, {"at": 100, "set": {"spent_usd": 3}}]
    ended = host.run(sensor("nyx", made(host, "nyx", 2, script=steps), max_spend=5, **mode))
    assert isinstance(ended.error, exceptions.SensorTimedOut)
    assert {each["ended_by"] for each in ended.xcoms["run"]["failed"]} == {"max_spend"}
    assert ended.xcoms["run"]["spend"] == 6.0


@pytest.mark.parametrize("limit", ["max_paused", "max_stalled"])
def test_a_limit_of_one_run_ends_that_one_and_its_clock_outlives_pokes(host: Any, mode: Any, limit: str) -> None:
    word = {"state": "paused"} if limit == "max_paused" else {"state": "running"}
    provider = "onepin" if limit == "max_paused" else "nekt"
    script = "paused" if limit == "max_paused" else "forever"
    del word
    ids = [*made(host, provider, 1, seconds=900), *made(host, provider, 1, script=script, seconds=5000)]
    if limit == "max_stalled":
        ids = ids[1:]
    ended = host.run(sensor(provider, ids, require="any", timeout=4000, **{limit: 400}, **mode))
    rows = {row["run_id"]: row for row in ended.xcoms["runs"]}
    assert rows[ids[-1]]["ended_by"] == limit
    assert host.clock.passed < 4000


def test_a_refused_key_ends_the_wait_for_all_and_leaves_how_it_stood(host: Any, connect: Any, mode: Any) -> None:
    ids = made(host, "nexio", 2)
    from runops.airflow.hook import RunHook

    connect("nexio_bad", "nexio", password="invalid-key", host=RunHook(provider="nexio").client().root)
    ended = host.run(sensor("nexio", ids, nexio_conn_id="nexio_bad", **mode))
    assert type(ended.error) is exceptions.AuthError
    assert (ended.xcoms["run"]["total"], ended.xcoms["run"]["met"]) == (2, False)


def test_a_service_that_is_away_for_a_while_fails_nothing(host: Any, mode: Any) -> None:
    ids = made(host, "nexio", 3, seconds=60)
    host.emulator.add_fault(provider="nexio", action="get", kind="status", status=503, count=5)
    assert host.run(sensor("nexio", ids, **mode)).result["outcomes"] == {"succeeded": 3}


def test_never_fail_skips_whatever_happens(host: Any, mode: Any) -> None:
    ended = host.run(sensor("nexio", ["no-such-run"], never_fail=True, **mode))
    assert type(ended.error) is AirflowSkipException


def test_runs_that_are_over_do_not_defer(host: Any) -> None:
    ended = host.run(sensor("nexio", made(host, "nexio", 3, age_seconds=900), deferrable=True))
    assert ended.error is None
    assert not ended.deferrals


# --- execution_timeout ---


def test_an_execution_timeout_on_a_worker_takes_a_last_look_and_is_retried(
    host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test's clock must not run away before the alarm does."""
    over, goes_on = made(host, "nexio", 1, seconds=1), made(host, "nexio", 1, script="forever")
    task = sensor("nexio", [*over, *goes_on], deferrable=False, soft_fail=True)

    def strike(*_: Any) -> None:
        raise AirflowTaskTimeout("time is over")

    async def slow(seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.05))
        host.clock.sleep(min(seconds, 1.0))

    host.clock.sleep_async = slow
    before = signal.signal(signal.SIGALRM, strike)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        ended = host.run(task)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert type(ended.error) is exceptions.RunTimedOut
    assert not isinstance(ended.error, (AirflowSensorTimeout, AirflowFailException))
    rows = {row["run_id"]: row for row in ended.xcoms["runs"]}
    assert rows[over[0]]["outcome"] == "succeeded"
    assert rows[goes_on[0]]["ended_by"] == "execution_timeout"


def test_an_execution_timeout_while_deferred_is_retried(host: Any) -> None:
    ids = made(host, "nexio", 1, script="forever")
    ended = host.run(sensor("nexio", ids, deferrable=True, execution_timeout=timedelta(seconds=300)))
    assert type(ended.error) is exceptions.RunTimedOut
    assert host.clock.passed < 400


# --- reschedule mode ---


def test_a_poke_reads_no_run_again_that_has_ended_and_writes_only_what_has_changed(host: Any) -> None:
    ids = [
        *made(host, "nexio", 101, seconds=1),
        *made(host, "nexio", 9, seconds=700),
        *made(host, "nexio", 1, seconds=1),
    ]
    context = host.context()
    store = context["task_state_store"]
    writes: list[str] = []
    plain = store.set

    def noting(key: str, value: Any) -> None:
        writes.append(key)
        plain(key, value)

    store.set = noting
    host.clock.sleep(5)
    task = sensor("nexio", ids, **MODES["reschedule"])
    with pytest.raises(AirflowRescheduleException):
        task.execute(context)
    assert sorted(key for key in writes if key != "runops") == ["runops.0", "runops.1"]
    assert len(host.emulator.requests(action="get")) == 111
    writes.clear()
    host.clock.sleep(60)
    with pytest.raises(AirflowRescheduleException):
        task.execute(context)
    assert len(host.emulator.requests(action="get")) == 120
    assert not [key for key in writes if key != "runops"]
    host.clock.sleep(700)
    assert task.execute(context)["outcomes"] == {"succeeded": 111}


def test_a_retry_in_reschedule_mode_keeps_what_has_ended(host: Any) -> None:
    ids = [*made(host, "nexio", 2, seconds=1), *made(host, "nexio", 1, seconds=300)]
    context = host.context()
    host.clock.sleep(5)
    task = sensor("nexio", ids, **MODES["reschedule"])
    with pytest.raises(AirflowRescheduleException):
        task.execute(context)
    context["ti"].next_try()
    with pytest.raises(AirflowRescheduleException):
        task.execute(context)
    assert len(host.emulator.requests(action="get")) == 4
    context["ti"].clear()
    with pytest.raises(AirflowRescheduleException):
        task.execute(context)
    assert len(host.emulator.requests(action="get")) == 7


def test_below_airflow_3_3_each_poke_reads_all_runs(host: Any) -> None:
    ids = [*made(host, "nexio", 2, seconds=1), *made(host, "nexio", 1, seconds=100)]
    host.clock.sleep(5)
    ended = host.run(sensor("nexio", ids, **MODES["reschedule"]), host.context(store=False))
    assert ended.result["outcomes"] == {"succeeded": 3}
    assert len(host.emulator.requests(action="get")) == 3 * ended.pokes


# --- the triggerer ---


def test_a_deferral_carries_what_goes_on_and_no_more(host: Any, key: str) -> None:
    ids = [*made(host, "nexio", 3, age_seconds=900), *made(host, "nexio", 2, seconds=900)]
    with pytest.raises(TaskDeferred) as deferred:
        sensor("nexio", ids, deferrable=True, on_outcome={"degraded": "warn"}).execute(host.context())
    path, row = deferred.value.trigger.serialize()
    assert path == "runops.airflow.runs_trigger.RunsTrigger"
    assert row["rows"]["open"] == [{"at": "3-4", "ids": ids[3:]}]
    assert [each["at"] for each in row["rows"]["done"]] == ["0-2"]
    assert row["rows"]["clocks"]["unseen"] == ""
    assert key not in json.dumps(row)
    assert row["cancel_on_kill"] is False


def test_a_trigger_that_breaks_says_nothing_of_the_runs_and_a_late_one_has_them_read_a_last_time(host: Any) -> None:
    ids = [*made(host, "nexio", 1, seconds=60), *made(host, "nexio", 1, script="forever")]
    task, context = sensor("nexio", ids, deferrable=True, timeout=600), host.context()
    with pytest.raises(TaskDeferred):
        task.execute(context)
    with pytest.raises(exceptions.TriggerCrashed):
        task.execute_complete(context, {"version": 1, "kind": "something"})
    with pytest.raises(exceptions.TriggerCrashed):
        task.execute_complete(context, {"version": 1, "kind": "runs", "rows": [{"at": "0-99", "s": "ended"}]})
    host.clock.sleep(700)
    with pytest.raises(exceptions.SensorTimedOut):
        task._after_deferral_timeout(context)
    assert context["ti"].xcoms["run"]["outcomes"] == {"succeeded": 1, "timed_out": 1}


def begun(task: Any, **rendered: Any) -> RunsTrigger:
    given = task.start_trigger_args
    assert given is not None
    trigger = RunsTrigger(**json.loads(json.dumps(given.trigger_kwargs)))
    trigger.template_fields = task.template_fields
    trigger.render_template_fields({"params": rendered}, task.get_template_env())
    return trigger


@pytest.mark.skipif(not renders_in_triggerer(), reason="needs Airflow 3.3 or newer")
@pytest.mark.parametrize("provider", ["nexio", "onepin"])
def test_a_sensor_that_begins_in_the_triggerer_ends_as_any_other(host: Any, provider: str) -> None:
    ids = [*made(host, provider, 2), *made(host, provider, 1, script="failed")]
    with DAG("a_dag", schedule=None, params=ParamsDict({"ids": "[]"})):
        task = sensor(
            provider, "{{ params.ids }}", deferrable=True, start_from_trigger=True, require="any", timeout=600
        )
    assert task.start_from_trigger is True
    trigger = begun(task, ids=json.dumps(ids))

    async def event() -> Any:
        (only,) = [each async for each in trigger.run()]
        return json.loads(json.dumps(only.payload))

    fired = asyncio.run(event())
    task.run_ids = ids
    result = task.execute_complete(host.context(), fired)
    assert result["outcomes"] == {"succeeded": 2, "failed": 1}
    assert result["failed"][0]["run_id"] == ids[2]


@pytest.mark.skipif(not renders_in_triggerer(), reason="needs Airflow 3.3 or newer")
def test_what_a_template_makes_of_the_ids_is_refused_in_the_triggerer_too(host: Any) -> None:
    with DAG("a_dag", schedule=None, params=ParamsDict({"ids": "[]"})):
        task = sensor("nexio", "{{ params.ids }}", deferrable=True, start_from_trigger=True)
    trigger = begun(task, ids='["a", "a"]')

    async def event() -> Any:
        (only,) = [each async for each in trigger.run()]
        return only.payload

    fired = asyncio.run(event())
    assert (fired["error"], "run_ids[1] is the same run as run_ids[0]" in fired["message"]) == (
        "ConfigurationError",
        True,
    )


def test_another_tasks_output_needs_a_worker_at_the_beginning(host: Any) -> None:
    with DAG("a_dag", schedule=None):
        from airflow.sdk import task as decorated

        @decorated
        def ids() -> list[str]:
            return ["a"]

        waits = sensor("nexio", ids(), deferrable=True, start_from_trigger=True)
    assert waits.start_from_trigger is False


# --- what is refused ---


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"run_ids": []}, ["run_ids is empty"]),
        ({"run_ids": ["a", "b", "a"]}, ["run_ids[2] is the same run as run_ids[0]"]),
        ({"run_ids": ["a", ""]}, ["run_ids[1]"]),
        ({"run_ids": ["a", None]}, ["run_ids[1]"]),
        ({"run_ids": "abc"}, ["run_ids is a text and no list"]),
        ({"run_ids": ["a"], "require": "some"}, ["require='some'", "all, any"]),
        ({"run_ids": ["a"], "require": 0}, ["require=0"]),
        ({"run_ids": ["a"], "require": -1}, ["require=-1"]),
        ({"run_ids": ["a"], "require": 1.5}, ["require=1.5"]),
        ({"run_ids": ["a"], "stop_early": "yes"}, ["stop_early must be True or False"]),
        ({"run_ids": ["a"], "max_active": 5}, ["takes no argument 'max_active'"]),
        ({"run_ids": ["a"], "stopp_early": True}, ["stopp_early", "stop_early"]),
        ({"run_ids": ["a"], "end_from_trigger": True}, ["takes no argument 'end_from_trigger'"]),
    ],
)
def test_wrong_arguments_are_refused_when_the_dag_is_built(options: dict[str, Any], words: list[str]) -> None:
    with pytest.raises((ConfigurationError, exceptions.ConfigurationError)) as refused:
        RunsSensor(task_id="w", provider="b3os", **options)
    for word in words:
        assert word in str(refused.value)


def test_the_wrong_entry_among_ten_thousand_is_named_by_its_index(host: Any) -> None:
    ids: list[Any] = [f"run_{index}" for index in range(10_000)]
    ids[7000] = {"no": "id"}
    with pytest.raises(exceptions.ConfigurationError, match=r"run_ids\[7000\]"):
        host_run(host, sensor("nekt", "{{ x }}"), ids)
    assert not host.emulator.requests(action="get")


def host_run(host: Any, task: Any, ids: Any) -> Any:
    task.run_ids = ids
    return task.execute(host.context())


def test_a_list_of_workflows_has_one_for_each_run(host: Any) -> None:
    other = "11111111-2222-4333-8444-555555555555"
    ids = [*made(host, "onepin", 1), *made(host, "onepin", 1, parents={"workflow_id": other})]
    task = runops.airflow.OnepinRunsSensor(task_id="a_task", workflow_id=[WORKFLOW, other], run_ids=ids)
    assert host.run(task).result["outcomes"] == {"succeeded": 2}
    task = runops.airflow.OnepinRunsSensor(task_id="a_task", workflow_id=[WORKFLOW], run_ids=ids)
    error = host.run(task).error
    assert type(error) is exceptions.ConfigurationError
    assert "names 2 runs and there are parents for 1" in str(error)


def test_what_mysql_has_no_room_for_is_refused_with_the_number_that_fits(
    host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = made(host, "nexio", 1, seconds=900)
    big = [f"{index:08d}-1111-4222-8333-444444444444" for index in range(3000)]
    monkeypatch.setattr(trigger_size, "trigger_bytes", lambda: 65_535)
    task = sensor("nexio", ids, deferrable=True)
    with pytest.raises(TaskDeferred):
        task.execute(host.context())
    from runops.core import find
    from runops.core.many.ledger import Ledger
    from runops.core.many.rules import check_run_ids

    ledger = Ledger.of_refs(check_run_ids(find("nexio"), big))
    with pytest.raises(exceptions.ConfigurationError, match=r"About 1,2\d\d fit"):
        task._defer(host.context(), ledger, {}, task._clocks(deadline=host.clock.now + 60))


def test_the_arguments_of_ten_thousand_runs_take_what_their_ids_take(host: Any) -> None:
    from runops.airflow.many.rows import addresses
    from runops.core import find
    from runops.core.many.ledger import Ledger
    from runops.core.many.rules import check_run_ids

    ids = [f"{index:08d}-1111-4222-8333-444444444444" for index in range(10_000)]
    written = json.dumps(addresses(Ledger.of_refs(check_run_ids(find("nexio"), ids))))
    assert len(written) < 10_000 * 40 + 100
