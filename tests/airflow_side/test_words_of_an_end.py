"""What the log and the exception say about how a task ends: the reason of a skip, the right clock, no empty promise."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from runops.airflow import NyxConfigSensor, NyxRunOperator, RunDiscoverySensor, RunHook
from runops.airflow._compat import AirflowFailException, AirflowSkipException, TaskDeferred
from runops.airflow.exceptions import RunFailed, SensorRunFailed, TriggerCrashed

SKIPPED = "The task is skipped, because the verdict on {} is skip."
PARENT = {"config_name": "nightly"}


def operator(calls: Any, **arguments: Any) -> Any:
    return NyxRunOperator(task_id="run", **calls["nyx"], **arguments)


# --- a skip says why ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("script", "outcome"), [("exhausted", "exhausted"), ("failed", "failed")])
def test_the_log_of_a_skipped_sensor_says_why_last(
    host: Any, sensors: Any, mode: Any, capsys: pytest.CaptureFixture[str], script: str, outcome: str
) -> None:
    task = sensors["nyx"](task_id="w", **host.made("nyx", script=script, seconds=60), soft_fail=True, **mode)
    ended = host.run(task)
    assert type(ended.error) is AirflowSkipException
    last = capsys.readouterr().out.splitlines()[-1]
    assert SKIPPED.format(outcome) in last
    assert str(ended.error) in last


@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferrable"])
def test_the_log_of_a_skipped_operator_says_why_last(
    host: Any, calls: Any, capsys: pytest.CaptureFixture[str], deferrable: bool
) -> None:
    host.emulator.set_defaults(provider="nyx", script="exhausted", seconds=60)
    ended = host.run(operator(calls, deferrable=deferrable))
    assert type(ended.error) is AirflowSkipException
    assert SKIPPED.format("exhausted") in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize(("script", "outcome"), [("exhausted", "exhausted"), (None, "timed_out")])
def test_the_log_of_a_skipped_discovery_sensor_says_why_last(
    host: Any, mode: Any, capsys: pytest.CaptureFixture[str], script: str | None, outcome: str
) -> None:
    if script is not None:
        host.emulator.create_run("nyx", script=script, seconds=60, parents=PARENT)
    task = NyxConfigSensor(task_id="f", **PARENT, since=timedelta(hours=1), soft_fail=True, timeout=300, **mode)
    ended = host.run(task)
    assert type(ended.error) is AirflowSkipException
    assert SKIPPED.format(outcome) in capsys.readouterr().out.splitlines()[-1]


def test_the_log_of_a_task_that_never_fails_says_what_was_skipped(
    host: Any, sensors: Any, mode: Any, connect: Any, served: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    connect("nyx_other", "nyx", host=served.base_url("nyx"), password="invalid-key-1234")
    task = sensors["nyx"](task_id="w", run_id="r", nyx_conn_id="nyx_other", never_fail=True, **mode)
    ended = host.run(task)
    assert type(ended.error) is AirflowSkipException
    assert f"Skipped, because never_fail is set: {ended.error.__cause__ or ''}" in capsys.readouterr().out


# --- the right clock ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("found", [True, False], ids=["a run", "a search"])
def test_a_trigger_that_execution_timeout_ends_says_that_clock_and_no_other(
    host: Any, sensors: Any, capsys: pytest.CaptureFixture[str], found: bool
) -> None:
    limits: dict[str, Any] = {"execution_timeout": timedelta(seconds=60), "timeout": 600, "deferrable": True}
    if found:
        task = sensors["nexio"](task_id="w", **host.made("nexio", script="forever"), **limits)
    else:
        task = NyxConfigSensor(task_id="f", **PARENT, since=timedelta(0), **limits)
    ended = host.run(task)
    assert ended.xcoms["run"]["ended_by"] == "execution_timeout"
    out = capsys.readouterr().out
    by_trigger = [line for line in out.splitlines() if "RunTrigger" in line and "The wait ended" in line]
    assert len(by_trigger) == 1
    assert "(execution_timeout)" in by_trigger[0]
    assert "(timeout)" not in out


def test_a_trigger_that_timeout_ends_says_so(host: Any, sensors: Any, capsys: pytest.CaptureFixture[str]) -> None:
    host.run(sensors["nexio"](task_id="w", **host.made("nexio", script="forever"), timeout=60, deferrable=True))
    by_trigger = [line for line in capsys.readouterr().out.splitlines() if "RunTrigger" in line]
    assert "(timeout)" in by_trigger[-1]


# --- no empty promise -----------------------------------------------------------------------------------------------


def crashed(host: Any, sensors: Any, *, try_number: int, max_tries: int, **failure: Any) -> TriggerCrashed:
    task, context = (
        sensors["nexio"](task_id="w", **host.made("nexio", script="forever"), deferrable=True),
        host.context(),
    )
    context["ti"].try_number, context["ti"].max_tries = try_number, max_tries
    with pytest.raises(TaskDeferred):
        task.execute(context)
    with pytest.raises(TriggerCrashed) as error:
        task.resume_execution("__fail__", {"error": "Trigger failure", **failure}, context)
    assert not isinstance(error.value, AirflowFailException)
    return error.value


def test_a_crash_promises_another_try_where_one_is_left(host: Any, sensors: Any) -> None:
    assert "another try of the task looks at it again" in str(crashed(host, sensors, try_number=1, max_tries=1))


@pytest.mark.parametrize(("try_number", "max_tries"), [(1, 0), (3, 2)])
def test_a_crash_promises_no_other_try_where_none_is_left(
    host: Any, sensors: Any, try_number: int, max_tries: int
) -> None:
    told = str(crashed(host, sensors, try_number=try_number, max_tries=max_tries))
    assert "no try is left to look at it again: clear the task" in told
    assert "another try" not in told


@pytest.mark.parametrize(
    "last",
    ["ModuleNotFoundError: No module named 'runops'\n", "ImportError: x\n", "TypeError: y\n", "AttributeError: z\n"],
)
def test_a_triggerer_that_cannot_make_the_trigger_is_not_said_to_be_helped_by_another_try(
    host: Any, sensors: Any, last: str
) -> None:
    trace = ["Traceback (most recent call last):\n", '  File "a.py", line 1, in <module>\n', last]
    told = str(crashed(host, sensors, try_number=1, max_tries=3, traceback=trace))
    assert "another try ends the same way until the triggerer has the same runops as the workers" in told
    assert last.partition(":")[0] in told


# --- a failure that another try cannot change -----------------------------------------------------------------------


def test_a_sensor_whose_run_failed_is_not_retried_because_the_run_stays_failed(
    host: Any, sensors: Any, mode: Any
) -> None:
    ended = host.run(sensors["nexio"](task_id="w", **host.made("nexio", script="failed", seconds=60), **mode))
    assert type(ended.error) is SensorRunFailed
    assert isinstance(ended.error, RunFailed)
    assert isinstance(ended.error, AirflowFailException)


@pytest.mark.parametrize(("which", "retried"), [("latest", True), ("next", False)])
def test_a_discovery_sensor_is_retried_only_where_another_run_may_be_found(
    host: Any, mode: Any, which: Any, retried: bool
) -> None:
    host.emulator.create_run("nyx", script="failed", seconds=5, parents=PARENT)
    sensor = RunDiscoverySensor(
        task_id="f", provider="nyx", parent=PARENT, since=timedelta(hours=1), which=which, **mode
    )
    ended = host.run(sensor)
    assert isinstance(ended.error, RunFailed)
    assert isinstance(ended.error, AirflowFailException) is not retried


@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferrable"])
def test_an_operator_whose_run_failed_is_retried_because_it_submits_anew(
    host: Any, calls: Any, deferrable: bool
) -> None:
    host.emulator.set_defaults(provider="nyx", script="failed", seconds=60)
    ended = host.run(operator(calls, deferrable=deferrable))
    assert type(ended.error) is RunFailed
    assert not isinstance(ended.error, AirflowFailException)


# --- a 404 says what is not there -----------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", ["nyx", "onepin", "b3os", "nekt"])
def test_a_404_of_a_connection_test_is_about_the_address(emulator: Any, provider: str) -> None:
    emulator.add_fault(kind="status", status=404, provider=provider)
    good, told = RunHook(provider=provider).test_connection()
    assert not good
    assert "There is no such API at this address" in told
    assert "no such run" not in told


def test_a_404_of_a_list_is_about_its_parent(host: Any, mode: Any) -> None:
    task = RunDiscoverySensor(task_id="f", provider="b3os", parent="missing-workflow", **mode)
    told = str(host.run(task).error)
    assert "There is no such workflow_id, or the key belongs to another environment or account." in told
    assert "no such run" not in told


def test_a_404_of_a_submit_is_about_what_was_to_be_started(host: Any, calls: Any) -> None:
    host.emulator.add_fault(kind="status", status=404, provider="nyx", action="submit")
    told = str(host.run(operator(calls)).error)
    assert "There is no such config_name" in told
    assert "no such run" not in told


@pytest.mark.parametrize(("tries", "left"), [({}, True), ({"try_number": 1, "max_tries": None}, False)])
def test_a_crash_is_told_of_where_airflow_gives_only_some_of_the_numbers(
    host: Any, sensors: Any, tries: dict[str, Any], left: bool
) -> None:
    task, context = sensors["nexio"](task_id="w", run_id="r"), host.context()
    del context["ti"].try_number
    for name, value in tries.items():
        setattr(context["ti"], name, value)
    told = str(task._crashed(context, None, RuntimeError("broken.")))
    assert "how the run ended (broken). The triggerer's log" in told
    assert ("another try of the task looks at it again." in told) is left
    assert ("no try is left" in told) is not left
