"""How a sensor waits: over faults, within its clocks, never softening what nobody may soften."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

import pytest

from runops.airflow import NexioRunSensor, OnepinRunSensor, RunSensor
from runops.airflow._compat import (
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    TaskDeferred,
)
from runops.airflow.exceptions import AuthError, ConfigurationError, PollingError, RunNotFound, RunTimedOut
from runops.core.model.errors import ConfigurationError as RefusedInDag

PASSING = [
    {"kind": "status", "status": 500},
    {"kind": "status", "status": 502},
    {"kind": "status", "status": 503, "code": "auth_unavailable"},
    {"kind": "status", "status": 429, "retry_after": 7},
    {"kind": "status", "status": 429, "retry_after_date": 7},
    {"kind": "reset"},
    {"kind": "half_body"},
    {"kind": "html"},
    {"kind": "json", "body": None},
    {"kind": "json", "body": []},
    {"kind": "empty"},
    {"kind": "redirect", "location": "https://elsewhere.example.com/"},
    {"kind": "gzip_bomb", "bytes": 30_000_000},
    {"kind": "status", "status": 404},
]


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: "-".join(str(part) for part in fault.values())[:30])
def test_a_wait_goes_on_over_what_passes(host: Any, sensors: Any, mode: Any, fault: dict[str, Any]) -> None:
    run = host.made("nexio", script="succeeded")
    host.emulator.add_fault(provider="nexio", count=2, **fault)
    ended = host.run(sensors["nexio"](task_id="wait", **run, **mode))
    assert ended.error is None
    assert ended.result["outcome"] == "succeeded"


@pytest.mark.parametrize("word", ["invalid-key-1234", "forbidden-key-1234"])
def test_a_wrong_key_fails_at_once_under_soft_fail_and_names_the_connection(
    host: Any, sensors: Any, connect: Any, served: Any, mode: Any, word: str
) -> None:
    connect("nexio_other", "nexio", host=served.base_url("nexio"), password=word)
    run = host.made("nexio", script="succeeded")
    for soft in ({"soft_fail": True}, {"silent_fail": True}, {}):
        ended = host.run(sensors["nexio"](task_id="w", **run, nexio_conn_id="nexio_other", **soft, **mode))
        assert type(ended.error) is AuthError
        assert isinstance(ended.error, AirflowFailException)
        assert "connection 'nexio_other'" in str(ended.error)
        assert word not in str(ended.error)
    assert host.clock.passed == 0


def test_never_fail_is_the_one_way_to_skip_on_a_wrong_key(
    host: Any, sensors: Any, connect: Any, served: Any, mode: Any
) -> None:
    connect("nexio_other", "nexio", host=served.base_url("nexio"), password="invalid-key-1234")
    run = host.made("nexio", script="succeeded")
    ended = host.run(sensors["nexio"](task_id="w", **run, nexio_conn_id="nexio_other", never_fail=True, **mode))
    assert type(ended.error) is AirflowSkipException


def test_a_missing_connection_fails_under_soft_fail_and_is_named(host: Any, sensors: Any, mode: Any) -> None:
    task = sensors["nyx"](task_id="w", run_id="a-run", nyx_conn_id="nobody_made_me", soft_fail=True, **mode)
    ended = host.run(task)
    assert type(ended.error) is AuthError
    assert "'nobody_made_me'" in str(ended.error)


def test_a_connection_without_a_password_says_what_to_put_where(
    host: Any, sensors: Any, connect: Any, mode: Any
) -> None:
    connect("nyx_bare", "nyx", password="")
    ended = host.run(sensors["nyx"](task_id="w", run_id="a-run", nyx_conn_id="nyx_bare", soft_fail=True, **mode))
    assert type(ended.error) is AuthError
    assert "connection 'nyx_bare' has no password" in str(ended.error)


def test_a_lost_run_fails_under_soft_fail_after_a_grace(host: Any, sensors: Any, mode: Any) -> None:
    task = sensors["nexio"](task_id="w", run_id="no-such-run", soft_fail=True, **mode)
    ended = host.run(task)
    assert type(ended.error) is RunNotFound
    assert 30 <= host.clock.passed <= 60


def test_an_unreachable_service_ends_the_wait_when_the_error_budget_is_used_up(
    host: Any, sensors: Any, connect: Any, mode: Any
) -> None:
    connect("nexio_gone", "nexio", host="http://127.0.0.1:9")
    task = sensors["nexio"](
        task_id="w", run_id="a-run", nexio_conn_id="nexio_gone", soft_fail=True, error_budget=300, **mode
    )
    ended = host.run(task)
    assert type(ended.error) is PollingError
    assert not isinstance(ended.error, AirflowFailException)
    assert 300 <= host.clock.passed <= 600


def test_silent_fail_lets_reads_fail_until_the_timeout(host: Any, sensors: Any, connect: Any, mode: Any) -> None:
    connect("nexio_gone", "nexio", host="http://127.0.0.1:9")
    task = sensors["nexio"](
        task_id="w", run_id="a-run", nexio_conn_id="nexio_gone", silent_fail=True, error_budget=60, timeout=600, **mode
    )
    ended = host.run(task)
    assert type(ended.error) is PollingError
    assert host.clock.passed >= 590


def test_a_run_that_already_ended_never_defers(host: Any, sensors: Any) -> None:
    run = host.made("nexio", script="failed", age_seconds=100)
    ended = host.run(sensors["nexio"](task_id="w", **run, deferrable=True))
    assert not ended.deferrals
    assert host.clock.passed == 0


def test_a_short_run_never_defers(host: Any, sensors: Any) -> None:
    ended = host.run(
        sensors["nexio"](task_id="w", **host.made("nexio", script="succeeded", seconds=8), deferrable=True)
    )
    assert ended.result["outcome"] == "succeeded"
    assert not ended.deferrals


def test_a_trigger_fires_no_earlier_than_the_scheduler_can_have_seen_the_deferral(host: Any, sensors: Any) -> None:
    task = sensors["nexio"](task_id="w", **host.made("nexio", script="succeeded", seconds=11), deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(host.context())
    began = host.clock.now
    host.fired(deferred.value)
    assert host.clock.now - began >= 10


def test_the_deferral_timeout_leaves_the_trigger_time_to_report_its_own(host: Any, sensors: Any) -> None:
    task = sensors["nexio"](task_id="w", **host.made("nexio", script="forever"), deferrable=True, timeout=600)
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(host.context())
    ends = host.clock.began + 600
    assert deferred.value.timeout is not None
    assert ends < host.clock.now + deferred.value.timeout.total_seconds() <= ends + 61


def test_the_deadline_of_a_sensor_counts_from_its_first_try(host: Any, sensors: Any, mode: Any) -> None:
    task = sensors["nexio"](task_id="w", **host.made("nexio", script="forever"), timeout=600, **mode)
    context = host.context()
    first = host.clock.now
    task._began(context)
    host.clock.sleep(400)
    context["ti"].next_try()
    ended = host.run(task, context)
    assert isinstance(ended.error, AirflowSensorTimeout)
    assert host.clock.now - first == pytest.approx(600, abs=2)


def test_no_event_in_time_leads_to_a_last_look_and_a_run_found_over_wins(host: Any, sensors: Any) -> None:
    task = sensors["nexio"](task_id="w", **host.made("nexio", script="succeeded", seconds=400), deferrable=True)
    context = host.context()
    with pytest.raises(TaskDeferred):
        task.execute(context)
    host.clock.sleep(500)
    result = task.resume_execution("__fail__", {"error": "Trigger timeout"}, context)
    assert result["outcome"] == "succeeded"


@pytest.mark.parametrize(("soft", "kind"), [(False, AirflowSensorTimeout), (True, AirflowSkipException)])
def test_no_event_in_time_and_a_run_that_goes_on_is_a_timeout(
    host: Any, sensors: Any, soft: bool, kind: type[Exception]
) -> None:
    task = sensors["nexio"](task_id="w", **host.made("nexio", script="forever"), deferrable=True, soft_fail=soft)
    context = host.context()
    with pytest.raises(kind):
        task.resume_execution("__fail__", {"error": "Trigger timeout"}, context)
    assert context["ti"].xcoms["run"]["ended_by"] == "timeout"


def test_a_crashed_trigger_fails_under_soft_fail_and_says_what_happened(host: Any, sensors: Any) -> None:
    from runops.airflow.exceptions import TriggerCrashed

    task = sensors["nexio"](task_id="w", **host.made("nexio", script="succeeded"), deferrable=True, soft_fail=True)
    with pytest.raises(TriggerCrashed, match=r"broke before it could tell .* \(Trigger failure\).*triggerer's log"):
        task.resume_execution("__fail__", {"error": "Trigger failure"}, host.context())


@pytest.mark.parametrize("event", [None, {}, {"version": 1, "kind": "ended"}, {"version": 1, "kind": "?"}, "text"])
def test_an_event_that_cannot_be_read_is_a_failure_and_never_success(host: Any, sensors: Any, event: Any) -> None:
    from runops.airflow.exceptions import TriggerCrashed

    task = sensors["nexio"](task_id="w", **host.made("nexio", script="succeeded"), deferrable=True, soft_fail=True)
    with pytest.raises(TriggerCrashed):
        task.resume_execution("execute_complete", {"event": event}, host.context())


def test_execution_timeout_ends_a_deferred_try_as_a_retryable_failure_also_under_soft_fail(
    host: Any, sensors: Any
) -> None:
    run = host.made("nexio", script="forever")
    task = sensors["nexio"](
        task_id="w", **run, deferrable=True, soft_fail=True, execution_timeout=timedelta(seconds=30)
    )
    ended = host.run(task)
    assert type(ended.error) is RunTimedOut
    assert not isinstance(ended.error, (AirflowFailException, AirflowSensorTimeout))
    assert ended.xcoms["run"]["ended_by"] == "execution_timeout"
    assert host.clock.passed == pytest.approx(30, abs=1)


@pytest.mark.parametrize(("script", "outcome"), [("forever", "timed_out"), ("succeeded", "succeeded")])
def test_execution_timeout_on_the_worker_looks_once_more(host: Any, sensors: Any, script: str, outcome: str) -> None:
    run = host.made("nexio", script=script, seconds=20)
    task = sensors["nexio"](task_id="w", **run, soft_fail=True, execution_timeout=timedelta(seconds=12))

    def alarm(seconds: float) -> None:
        if host.clock.passed > 12:
            host.clock.on_sleep = lambda seconds: None
            host.emulator.advance(None, run_id=run["run_id"])
            raise AirflowTaskTimeout("Timeout")

    host.clock.on_sleep = alarm
    ended = host.run(task)
    assert ended.xcoms["run"]["outcome"] == outcome
    if outcome == "timed_out":
        assert type(ended.error) is RunTimedOut
        assert ended.xcoms["run"]["ended_by"] == "execution_timeout"
    else:
        assert ended.error is None


def test_a_result_that_comes_late_is_looked_for_within_the_poke(host: Any, sensors: Any) -> None:
    run = host.made("nyx", script="late_result", seconds=100, age_seconds=75)
    ended = host.run(sensors["nyx"](task_id="w", **run, mode="reschedule"))
    assert ended.result["outcome"] == "succeeded"
    assert ended.pokes == 1
    assert host.clock.passed < 60


@pytest.mark.parametrize(("given", "shortest"), [({}, 60), ({"poke_interval": 15}, 15)])
def test_reschedule_pokes_a_minute_apart_unless_the_user_says_otherwise(
    host: Any, sensors: Any, given: dict[str, Any], shortest: int
) -> None:
    task = sensors["nexio"](task_id="w", **host.made("nexio", script="forever"), mode="reschedule", **given)
    with pytest.raises(AirflowRescheduleException) as again:
        task.execute(host.context())
    pause = again.value.reschedule_date.timestamp() - host.clock.now
    assert shortest - 1 <= pause <= shortest * 1.2


def test_a_poke_interval_of_the_default_arguments_counts_as_given() -> None:
    from airflow.sdk import DAG

    with DAG("defaults", default_args={"poke_interval": 15, "on_outcome": {"degraded": "warn"}}):
        task = NexioRunSensor(task_id="w", run_id="a-run")
    assert task.interval == 15
    assert task.on_outcome == {"degraded": "warn"}
    assert NexioRunSensor(task_id="w", run_id="a-run").interval is None


def test_exponential_backoff_and_max_wait_shape_the_cadence(host: Any, sensors: Any) -> None:
    looks: list[float] = []
    host.clock.on_sleep = looks.append
    run = host.made("nexio", script="forever")
    task = sensors["nexio"](task_id="w", **run, poke_interval=10, exponential_backoff=True, max_wait=100, timeout=1000)
    host.run(task)
    assert looks[0] == pytest.approx(10, rel=0.2)
    assert 80 <= max(looks) <= 111


def test_without_a_state_store_a_reschedule_sensor_still_outlasts_faults_and_times_out(host: Any, sensors: Any) -> None:
    run = host.made("nexio", script="forever")
    host.emulator.add_fault(provider="nexio", kind="status", status=500, count=5)
    task = sensors["nexio"](task_id="w", **run, mode="reschedule", timeout=500)
    context = host.context(store=False)
    began = context["ti"].start_date
    context["ti"].get_first_reschedule_date = lambda context: began
    ended = host.run(task, context)
    assert isinstance(ended.error, AirflowSensorTimeout)
    assert host.clock.passed == pytest.approx(500, abs=2)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"on_outcome": {"finished": "warn"}}, "succeeded, degraded, exhausted, failed, cancelled, timed_out"),
        ({"on_outcome": {"degraded": "ignore"}}, "succeed, warn, skip, fail"),
        ({"on_outcome": {"timed_out": "succeed"}}, "timed_out"),
        ({"error_budget": 0}, "error_budget"),
        ({"max_paused": -1}, "max_paused"),
        ({"provider": "nexus"}, "nexio"),
    ],
)
def test_what_can_be_wrong_when_the_dag_is_built_is_refused_there(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(RefusedInDag, match=named):
        RunSensor(**cast("dict[str, Any]", {"task_id": "w", "provider": "nexio", "run_id": "a-run", **wrong}))


@pytest.mark.parametrize("run_id", ["", "  ", "..", "a/../b", "a\\b"])
def test_an_unusable_run_id_is_refused_before_anything_is_sent(host: Any, sensors: Any, mode: Any, run_id: str) -> None:
    ended = host.run(sensors["nexio"](task_id="w", run_id=run_id, soft_fail=True, **mode))
    assert type(ended.error) is ConfigurationError
    assert "run_id" in str(ended.error)
    assert not host.emulator.requests()


def test_templates_fill_everything_that_init_leaves_unread() -> None:
    task = OnepinRunSensor(
        task_id="w", workflow_id="{{ w }}", run_id="{{ r }}", onepin_conn_id="{{ c }}", max_paused=timedelta(hours=1)
    )
    task.render_template_fields({"w": "flow-1", "r": "run-1", "c": "onepin_eu"})  # pyright: ignore[reportArgumentType]
    assert str(task._waited_for(None)) == "onepin run run-1"
    assert dict(task._waited_for(None).parents) == {"workflow_id": "flow-1"}
    assert task._hook().conn_id == "onepin_eu"


def test_the_generic_sensor_waits_for_any_provider(host: Any, mode: Any) -> None:
    run = host.made("onepin", script="succeeded")
    parents = {"workflow_id": run["workflow_id"]}
    ended = host.run(RunSensor(task_id="w", provider="onepin", run_id=run["run_id"], parents=parents, **mode))
    assert ended.result["outcome"] == "succeeded"
    assert ended.result["parents"] == parents


def test_a_sensor_maps_over_run_ids() -> None:
    mapped = NexioRunSensor.partial(task_id="w", poke_interval=30).expand(run_id=["a", "b"])
    assert mapped.task_id == "w"
