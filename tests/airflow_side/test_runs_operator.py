"""``RunsOperator``: many runs as one task, each submitted once and judged as a single one is."""

from __future__ import annotations

import signal
from datetime import timedelta
from typing import Any

import pytest

from runops.airflow._compat import AirflowException, AirflowTaskTimeout
from runops.airflow.exceptions import RunFailed, RunTimedOut
from runops.core.polling import pace
from tests.airflow_side.sets import SetHost, calls_of, die, dies, sets
from tests.services import SUBMITTING

_ = sets


@pytest.mark.parametrize("provider", SUBMITTING)
def test_each_call_is_submitted_once_and_all_are_waited_for(sets: SetHost, provider: str) -> None:
    ended = sets.run(sets.made(provider, 12, max_active=5, deferrable=False))
    assert ended.error is None
    assert (ended.result["total"], ended.result["outcomes"]) == (12, {"succeeded": 12})
    assert sorted(sets.submits(provider)) == [f"parent-{number:03d}" for number in range(12)]
    assert [row["index"] for row in ended.xcoms["runs"]] == list(range(12))


@pytest.mark.parametrize("provider", SUBMITTING)
def test_a_deferrable_task_leaves_its_worker_and_submits_the_rest_when_it_is_back(sets: SetHost, provider: str) -> None:
    task = sets.made(provider, 9, max_active=4, seconds=1.5, deferrable=True)
    ended = sets.run(task)
    assert ended.error is None
    assert ended.result["outcomes"] == {"succeeded": 9}
    assert sorted(sets.submits(provider)) == [f"parent-{number:03d}" for number in range(9)]
    assert ended.result["submitted"] == 9
    assert ended.deferrals
    first = ended.deferrals[0].trigger.serialize()[1]
    assert len(first["rows"]["open"][0]["ids"]) <= 4
    assert "objective" not in str(first)


# --- what ends a set ---


def signals_after(seconds: float, act: Any) -> None:
    """Have something done in this thread, as Airflow's signals do it, after some seconds."""
    signal.signal(signal.SIGALRM, act)
    signal.setitimer(signal.ITIMER_REAL, seconds)


@pytest.mark.parametrize("cancels", [True, False])
def test_a_kill_by_a_person_cancels_all_that_is_active_and_submits_no_more(sets: SetHost, cancels: bool) -> None:
    task, context = sets.made("b3os", 20, max_active=6, seconds=600, deferrable=False, cancel_on_kill=cancels), None
    context = sets.context()

    def kill(*_: Any) -> None:
        context["ti"].state = "failed"
        task.on_kill()

    signals_after(1.5, kill)
    ended = sets.run(task, context)
    assert isinstance(ended.error, AirflowException)
    runs = {run["run_id"] for run in sets.emulator.runs(provider="b3os")}
    assert len(runs) == 6
    assert sets.cancelled("b3os") == (runs if cancels else set())
    # A person's clear begins a set of its own; what goes on is cancelled then, if it is to be.
    context["ti"].clear()
    again = sets.made("b3os", 20, max_active=6, seconds=0.2, deferrable=False, cancel_on_kill=cancels)
    assert sets.run(again, context).result["submitted"] == 20
    assert sets.cancelled("b3os") == (runs if cancels else set())


@pytest.mark.parametrize("state", ["running", "up_for_retry", "deferred"])
def test_a_worker_that_is_only_shut_down_leaves_all_runs_alone(sets: SetHost, state: str) -> None:
    task, context = sets.made("b3os", 4, seconds=1.5, deferrable=False), sets.context()
    context["ti"].state = state
    signals_after(0.7, lambda *_: task.on_kill())
    ended = sets.run(task, context)
    assert ended.result["outcomes"] == {"succeeded": 4}
    assert sets.cancelled("b3os") == set()


def test_a_clear_of_a_running_task_begins_anew_and_one_that_re_attaches_goes_on(sets: SetHost) -> None:
    for on_clear, submits in (("submit", 8), ("reattach", 4)):
        sets.emulator.reset()
        task, context = sets.made("b3os", 4, seconds=600, deferrable=False, on_clear=on_clear), sets.context()
        if on_clear == "reattach":
            context["task_state_store"] = type(context["task_state_store"])(sets.folder("again"))

        def kill(*_: Any, task: Any = task, context: Any = context) -> None:
            context["ti"].state = "restarting"
            task.on_kill()

        def let_end(*_: Any) -> None:
            sets.finish_all("b3os")

        dies_after(1.2, kill, task, context)
        context["ti"].next_try()
        context["ti"].state = "running"
        again = sets.made("b3os", 4, seconds=1.0 if on_clear == "submit" else 600, deferrable=False, on_clear=on_clear)
        signals_after(1.0, let_end)
        ended = sets.run(again, context)
        assert ended.error is None, on_clear
        assert len(sets.emulator.runs(provider="b3os")) == submits
        assert len(sets.cancelled("b3os")) == (4 if on_clear == "submit" else 0)


def dies_after(seconds: float, kill: Any, task: Any, context: Any) -> None:
    """A try that a person kills, and that Airflow ends some seconds later at the latest."""

    def work() -> None:
        signals_after(seconds, lambda *_: (kill(), die()))
        task.execute(context)

    dies(work)


@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferrable"])
def test_a_retry_submits_only_what_failed_and_says_so(
    sets: SetHost, deferrable: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = calls_of("b3os", 8)
    for call in calls[2:5]:
        call["payload"] = {"emulator": {"script": "failed", "seconds": 0.3}}
    task, context = sets.made("b3os", 8, calls=calls, deferrable=deferrable, retries=1), sets.context()
    ended = sets.run(task, context)
    assert type(ended.error) is RunFailed
    assert ended.xcoms["run"]["outcomes"] == {"succeeded": 5, "failed": 3}
    assert [row["index"] for row in ended.xcoms["runs"] if row["verdict"] == "fail"] == [2, 3, 4]
    first = {run["run_id"] for run in sets.emulator.runs(provider="b3os")}
    context["ti"].next_try()
    again = sets.run(sets.made("b3os", 8, calls=calls, deferrable=deferrable, retries=1), context)
    assert type(again.error) is RunFailed
    assert len(sets.emulator.runs(provider="b3os")) == 11
    assert (again.xcoms["run"]["kept"], again.xcoms["run"]["submitted"]) == (5, 3)
    kept = {row["run_id"] for row in again.xcoms["runs"] if row["verdict"] == "succeed"}
    assert len(kept) == 5
    assert kept < first
    assert "Of 8 runs 5 of an earlier try are kept, 3 are submitted anew." in capsys.readouterr().out


def test_a_retry_whose_list_has_another_order_knows_each_call(sets: SetHost, monkeypatch: pytest.MonkeyPatch) -> None:
    # How many requests leave in a second is not the point, and 250 reads at 20 a second take twelve.
    monkeypatch.setattr(pace, "ALWAYS_ALLOWED", 500.0)
    calls = calls_of("b3os", 250)
    calls[120]["payload"] = {"emulator": {"script": "failed", "seconds": 0.1}}
    context = sets.context()
    settings = {"deferrable": False, "retries": 1, "max_active": 250, "seconds": 0.1}
    assert type(sets.run(sets.made("b3os", 0, calls=calls, **settings), context).error) is RunFailed
    context["ti"].next_try()
    again = sets.run(sets.made("b3os", 0, calls=list(reversed(calls)), **settings), context)
    assert again.xcoms["run"]["kept"] == 249
    assert sets.twice("b3os") == ["parent-120"]
    assert [row["index"] for row in again.xcoms["runs"] if row["verdict"] == "fail"] == [129]


@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferrable"])
@pytest.mark.parametrize("clock", ["timeout", "execution_timeout"])
def test_a_clock_ends_all_and_cancels_what_goes_on(sets: SetHost, clock: str, deferrable: bool) -> None:
    limit = {"timeout": 3600} if clock == "timeout" else {"execution_timeout": timedelta(hours=1)}
    task = sets.made("b3os", 7, max_active=4, seconds=600, deferrable=deferrable, **limit)
    ended = sets.timed_out(task, read=4)
    assert type(ended.error) is RunTimedOut
    assert len(sets.cancelled("b3os")) == len(sets.emulator.runs(provider="b3os")) == 4
    assert {row.get("ended_by") for row in ended.xcoms["runs"]} == {clock, None}
    assert ended.xcoms["run"]["outcomes"] == {"timed_out": 4}


@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferrable"])
def test_what_all_runs_spend_together_is_bounded(sets: SetHost, deferrable: bool) -> None:
    sets.emulator.set_defaults(provider="onepin", fields={"token_cost": 40})
    task = sets.made("onepin", 9, max_active=3, seconds=0.6, deferrable=deferrable, max_spend=100)
    ended = sets.run(task)
    assert type(ended.error) is RunTimedOut
    assert len(sets.submits("onepin")) < 9
    assert ended.xcoms["run"]["spend"] >= 100


@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferrable"])
def test_stop_early_cancels_the_rest_once_enough_have_ended(sets: SetHost, deferrable: bool) -> None:
    calls = calls_of("b3os", 8)
    for call in calls[1:]:
        call["payload"] = {"emulator": {"script": "succeeded", "seconds": 600}}
    task = sets.made(
        "b3os", 0, calls=calls, max_active=5, seconds=0.8, deferrable=deferrable, require="any", stop_early=True
    )
    ended = sets.run(task)
    assert ended.error is None
    assert ended.result["stopped_early"]
    runs = sets.emulator.runs(provider="b3os")
    assert len(sets.cancelled("b3os")) == len(runs) - 1 <= 5


def test_a_timeout_of_airflow_that_comes_before_our_own_clock_ends_all_and_cancels(
    sets: SetHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runops.airflow.many.drive.PATIENCE", 10.0)
    task = sets.made("b3os", 3, seconds=600, deferrable=False, execution_timeout=timedelta(seconds=600))

    def strikes(*_: Any) -> None:
        if len(sets.submits("b3os")) < 3:
            signals_after(0.1, strikes)
            return
        raise AirflowTaskTimeout

    signals_after(0.5, strikes)
    ended = sets.run(task)
    assert type(ended.error) is RunTimedOut
    assert len(sets.cancelled("b3os")) == 3
    assert [row["ended_by"] for row in ended.xcoms["runs"]] == ["execution_timeout"] * 3
    assert ended.xcoms["run"]["outcomes"] == {"timed_out": 3}


def test_a_try_that_ends_before_its_turn_has_come_may_be_repeated(sets: SetHost) -> None:
    sets.emulator.create_run("nyx", script="forever", parents={"config_name": "parent-000"})
    task = sets.made("nyx", 1, deferrable=False, execution_timeout=timedelta(seconds=1.5))

    def strikes(*_: Any) -> None:
        raise AirflowTaskTimeout

    signals_after(1.5, strikes)
    ended = sets.run(task)
    assert type(ended.error) is RunTimedOut
    assert sets.submits("nyx") == ["parent-000"]
