"""A sensor, step by step: its clocks, when it began, when it comes back, and what it hands to a triggerer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_mock import MockerFixture

from runops.airflow import NyxRunSensor, OnepinRunSensor, RunSensor, sensor, sensor_base
from runops.airflow._compat import AirflowRescheduleException, AirflowSkipException, renders_in_triggerer
from runops.airflow.exceptions import RunFailed
from runops.core import Outcome, Phase, RunRef, RunSnapshot, find
from tests.airflow_side.conftest import Store
from tests.services import WORKFLOW

NOW = 1_700_000_000.0
REF = RunRef(provider="nyx", run_id="r1")
NYX = find("nyx").cadence


def made(**settings: Any) -> Any:
    arguments: dict[str, Any] = {"task_id": "a_task", "provider": "nyx", "run_id": "r1", **settings}
    return RunSensor(**arguments)


def context() -> dict[str, Any]:
    began = datetime.fromtimestamp(NOW, UTC)
    ti = SimpleNamespace(max_tries=1, start_date=began, get_first_reschedule_date=lambda context: None)
    return {"ti": ti, "task_state_store": Store()}


# --- its clocks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "first", "factor", "ceiling"),
    [
        ({}, NYX.first, NYX.factor, NYX.ceiling), ({"poke_interval": 7}, 7.0, NYX.factor, NYX.ceiling),
        ({"poke_interval": timedelta(seconds=500)}, 500.0, NYX.factor, 500.0),
        ({"mode": "reschedule", "deferrable": False}, 60.0, NYX.factor, 60.0),
        ({"mode": "reschedule", "deferrable": True}, NYX.first, NYX.factor, NYX.ceiling),
        ({"mode": "reschedule", "poke_interval": 7}, 7.0, NYX.factor, NYX.ceiling),
        ({"exponential_backoff": True}, NYX.first, 2.0, 3600.0),
        ({"exponential_backoff": True, "max_wait": 90}, NYX.first, 2.0, 90.0),
        ({"max_wait": timedelta(seconds=45)}, NYX.first, NYX.factor, 45.0),
    ],
    ids=str,
)  # fmt: skip
def test_the_settings_of_a_sensor_shape_its_cadence(
    settings: dict[str, Any], first: float, factor: float, ceiling: float
) -> None:
    cadence = made(**settings)._clocks(deadline=5.0).cadence
    wanted = max(ceiling, first) if "max_wait" not in settings else ceiling
    assert (cadence.first, cadence.factor, cadence.ceiling) == (first, factor, wanted)


@pytest.mark.parametrize(
    ("settings", "budget"),
    [
        ({}, 900.0), ({"error_budget": 80}, 80.0), ({"silent_fail": True, "timeout": 5000}, 5000.0),
        ({"silent_fail": True, "timeout": 100, "error_budget": timedelta(seconds=200)}, 200.0),
    ],
)  # fmt: skip
def test_reads_may_fail_for_the_error_budget_or_under_silent_fail_until_the_timeout(
    settings: dict[str, Any], budget: float
) -> None:
    assert made(**settings)._clocks(deadline=5.0).error_budget == budget


def test_the_limits_of_a_sensor_are_those_of_its_wait() -> None:
    options = made(max_paused=50, max_stalled=600, max_spend=3.5, auth_grace=90)._clocks(deadline=NOW)
    assert (options.deadline, options.max_paused, options.max_stalled) == (NOW, 50.0, 600.0)
    assert (options.max_spend, options.auth_grace) == (3.5, 90.0)
    plain = made()._clocks(deadline=NOW)
    assert (plain.max_paused, plain.max_stalled, plain.max_spend, plain.auth_grace) == (None, None, None, 300.0)


def test_what_a_sensor_says_of_its_ends_is_its_policy() -> None:
    policy = made(on_outcome={"exhausted": "warn"}, expect={"result": "x"}, on_unmet="skip", soft_fail=True)._policy()
    assert str(policy.decide(Outcome.EXHAUSTED)) == "warn"
    assert str(policy.decide(Outcome.FAILED)) == "skip"
    unmet = RunSnapshot(ref=REF, state="completed", outcome=Outcome.SUCCEEDED, details={"result": "y"})
    assert str(policy.judge(unmet).verdict) == "skip"
    plain = made(expect={"result": "x"})._policy()
    assert (str(plain.judge(unmet).verdict), str(plain.decide(Outcome.FAILED))) == ("fail", "fail")


# --- when it began and when it comes back ---------------------------------------------------------------------------


def test_a_sensor_began_with_its_first_try_where_that_is_remembered() -> None:
    task, first = made(timeout=70), context()
    assert (task._began(first), task._deadline(first), task._wait_began(first)) == (NOW, NOW + 70, NOW)
    assert first["task_state_store"].get("runops") == {"version": 1, "generation": 1, "began": NOW}
    first["ti"].start_date = datetime.fromtimestamp(NOW + 500, UTC)
    assert task._began(first) == NOW
    first["ti"].max_tries = 2
    assert task._began(first) == NOW + 500
    other = context()
    other["task_state_store"].set("runops", {"generation": 1, "timeline": {}})
    assert task._began(other) == NOW


@pytest.mark.parametrize(
    ("settings", "began"),
    [
        ({"mode": "reschedule", "deferrable": False}, NOW - 300), ({"mode": "reschedule", "deferrable": True}, NOW),
        ({"mode": "poke"}, NOW),
    ],
)  # fmt: skip
def test_a_rescheduled_sensor_began_at_its_first_poke(settings: dict[str, Any], began: float) -> None:
    asked = context()
    asked["ti"].get_first_reschedule_date = lambda given: datetime.fromtimestamp(NOW - 300, UTC)
    assert made(**settings)._began(asked) == began


@pytest.mark.parametrize(
    ("passed", "spread", "more", "pause"),
    [
        (0, 0.0, {}, 60.0), (0, 1.0, {}, 63.0), (0, -1.0, {}, 60.0), (970, 0.0, {}, 30.0), (1000, 0.0, {}, 0.0),
        (1200, 0.0, {}, 0.0), (100, 0.0, {"exponential_backoff": True}, 160.0),
    ],
)  # fmt: skip
def test_a_poke_is_followed_by_the_next_one_within_the_timeout(
    mocker: MockerFixture, passed: float, spread: float, more: dict[str, Any], pause: float
) -> None:
    mocker.patch.object(sensor_base, "time", SimpleNamespace(time=lambda: NOW + passed))
    mocker.patch.object(sensor_base, "spread", return_value=spread)
    task = made(mode="reschedule", deferrable=False, timeout=1000, poke_interval=60, **more)
    with pytest.raises(AirflowRescheduleException) as again:
        task._come_back(context())
    assert again.value.reschedule_date == datetime.fromtimestamp(NOW + passed + pause, UTC)


@pytest.mark.parametrize("never", [True, False])
def test_only_never_fail_makes_a_skip_of_an_error(never: bool, capsys: pytest.CaptureFixture[str]) -> None:
    task = made(never_fail=never, **({} if never else {"soft_fail": True}))
    for passes in (AirflowSkipException("skip"), AirflowRescheduleException(datetime.now(UTC))):
        with pytest.raises(type(passes)), task._never_failing():
            raise passes
    with pytest.raises(AirflowSkipException if never else RunFailed) as caught, task._never_failing():
        raise RunFailed("it broke")
    said = "Skipped, because never_fail is set: it broke [never-fail]"
    assert (str(caught.value) == said) is never
    assert (said in capsys.readouterr().out) is never
    with pytest.raises(AirflowSkipException if never else ValueError, match="of ours"), task._never_failing():
        raise ValueError("of ours")


# --- its run --------------------------------------------------------------------------------------------------------


def test_the_parents_of_a_run_are_those_of_its_class_over_those_of_the_generic_field() -> None:
    named = OnepinRunSensor(task_id="a", run_id="r", workflow_id=WORKFLOW)
    assert named._named_parents({"workflow_id": "other", "more": "m"}) == {"workflow_id": WORKFLOW, "more": "m"}
    assert named._named_parents(None) == {"workflow_id": WORKFLOW}
    generic = made(provider="onepin", parents={"workflow_id": WORKFLOW})
    assert generic._waited_for({}) == RunRef(provider="onepin", run_id="r1", parents={"workflow_id": WORKFLOW})
    assert generic._named_parents('{"workflow_id": "w"}') == {"workflow_id": "w"}
    assert made()._named_parents(None) == {}


@pytest.mark.parametrize("over", [True, False])
def test_a_poke_reads_its_run_once_and_leaves_its_record_where_it_goes_on(mocker: MockerFixture, over: bool) -> None:
    record = mocker.Mock()
    begin = mocker.patch.object(sensor, "begin", return_value=record)
    snapshot = RunSnapshot(ref=REF, state="completed", outcome=Outcome.SUCCEEDED)
    poke = mocker.patch.object(sensor, "Poke")
    poke.return_value.read.return_value = snapshot if over else None
    task, asked = made(timeout=70, conn_id="mine"), context()
    assert task._poked(asked) is (snapshot if over else None)
    begin.assert_called_once_with(task, asked, REF, began=NOW)
    (call,) = poke.call_args_list
    assert call.args == (asked,)
    given = call.kwargs
    assert (given["began"], given["options"].deadline, given["hook"].conn_id) == (NOW, NOW + 70, "mine")
    assert (given["log"], given["phases"] is None) == (task.log, False)
    poke.return_value.read.assert_called_once_with(REF, record)
    assert record.leave.call_count == (0 if over else 1)
    begin.return_value = None
    assert task._poked(asked) is (snapshot if over else None)
    assert task._poke(asked) is poke.return_value
    assert poke.call_args.kwargs["phases"] is None


@pytest.mark.parametrize("done", [True, False])
def test_a_poke_of_ones_own_says_whether_the_run_is_over(mocker: MockerFixture, done: bool) -> None:
    task = made(mode="reschedule", deferrable=False)
    mocker.patch.object(sensor, "whole", side_effect=lambda task, context: {**context, "whole": True})
    snapshot = RunSnapshot(ref=REF, state="completed", outcome=Outcome.SUCCEEDED)
    mocker.patch.object(task, "_poked", return_value=snapshot if done else None)
    applied = mocker.patch.object(task, "_apply_verdict", return_value={"run_id": "r1"})
    poked = task.poke({})
    assert (bool(poked.is_done), poked.xcom_value) == (done, {"run_id": "r1"} if done else None)
    assert applied.call_args_list == ([mocker.call({"whole": True}, snapshot)] if done else [])
    back = mocker.patch.object(task, "_come_back", side_effect=AirflowRescheduleException(datetime.now(UTC)))
    if done:
        assert task._poke_or_reschedule({}) == {"run_id": "r1"}
    else:
        with pytest.raises(AirflowRescheduleException):
            task._poke_or_reschedule({})
    assert back.call_count == (0 if done else 1)


def test_a_wait_is_published_and_lasts_until_the_deadline(mocker: MockerFixture) -> None:
    task = made(timeout=70, deferrable=False)
    mocker.patch.object(sensor, "whole", side_effect=lambda task, context: context)
    published = mocker.patch.object(sensor, "publish")
    seen = RunSnapshot(ref=REF, state="running", phase=Phase.RUNNING)
    waited = mocker.patch.object(task, "_await_run", return_value=seen)
    applied = mocker.patch.object(task, "_apply_verdict", return_value={"run_id": "r1"})
    asked = context()
    assert task.execute(asked) == {"run_id": "r1"}
    published.assert_called_once_with(asked, REF, task.service.url(REF))
    applied.assert_called_once_with(asked, seen)
    (call,) = waited.call_args_list
    assert (call.args[1], call.args[2].deadline) == (REF, NOW + 70)
    mocker.patch.object(task, "_wanted", return_value=seen)
    task.execute(asked)
    assert (applied.call_count, waited.call_count) == (2, 1)


# --- begun in the triggerer -----------------------------------------------------------------------------------------

needs_a_triggerer_that_renders = pytest.mark.skipif(not renders_in_triggerer(), reason="needs Airflow 3.3")


@needs_a_triggerer_that_renders
@pytest.mark.parametrize("ends", [True, False])
def test_a_sensor_that_begins_in_the_triggerer_hands_over_all_that_it_says(ends: bool) -> None:
    task = NyxRunSensor(
        task_id="a", run_id="{{ ds }}", nyx_conn_id="mine", timeout=70, max_paused=9, start_from_trigger=True,
        deferrable=True, end_from_trigger=ends, on_outcome={"exhausted": "warn"}, on_unmet="skip", soft_fail=True,
        expect={"result": "x"},
    )  # fmt: skip
    start: Any = task.start_trigger_args
    assert (start.trigger_cls, start.next_method) == ("runops.airflow.trigger.RunTrigger", "execute_complete")
    assert start.timeout == timedelta(seconds=130)
    given = start.trigger_kwargs
    assert (given["provider"], given["run_id"], given["nyx_conn_id"]) == ("nyx", "{{ ds }}", "mine")
    assert (given["patience"]["max_paused"], given["patience"]["deadline"]) == (9.0, 0.0)
    assert given["start"] == {
        "timeout": 70.0, "conn_id": "nyx_conn_id", "parents": None, **({"fields": ["expect"]} if ends else {}),
    }  # fmt: skip
    assert ("end" in given, "expect" in given) == (ends, ends)
    if ends:
        policy = task.service.policy({"exhausted": "warn"}, soft_fail=True, on_unmet="skip")
        assert given["end"]["policy"] == policy.to_dict()
    assert task.start_from_trigger is True


@pytest.mark.parametrize(
    "settings", [{}, {"deferrable": True}, {"start_from_trigger": True, "deferrable": False}], ids=str
)
def test_a_sensor_begins_in_the_triggerer_only_where_it_is_to_and_waits_there(settings: dict[str, Any]) -> None:
    task = made(**settings)
    assert (task.start_trigger_args, task.start_from_trigger) == (None, False)
