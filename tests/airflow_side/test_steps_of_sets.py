"""A task of many runs, step by step: what its loop and its trigger are handed, and what an end leaves behind."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_mock import MockerFixture

from runops.airflow import NexioRunSensor, RunsOperator, RunsSensor, runs_operator
from runops.airflow._compat import TaskDeferred
from runops.airflow.exceptions import RunopsException
from runops.airflow.many.drive import Handover
from runops.core import Outcome, PollingError, RunNotFound, RunRef, Verdict
from runops.core.client.many_plan import End
from runops.core.many.ledger import Ledger
from runops.core.many.rows import RowState
from runops.core.model.codes import Code
from runops.core.waiting.limits import WaitProgress
from tests.airflow_side.sets import calls_of

COUNT = 4


class Steps:
    """An operator of four runs whose loop is a stand-in: two are over, one goes on, one is not sent."""

    def __init__(self, host: Any, mocker: MockerFixture) -> None:
        self.host, self.context = host, host.context()
        self.drives = mocker.patch.object(runs_operator, "SetDrive")
        self.drive = self.drives.return_value
        self.drive.out_of_time, self.drive.results = False, {}
        self.drive.past = {2: WaitProgress(began=1.0, seen=True)}
        mocker.patch.object(runs_operator, "begin", return_value=None)
        self.ended = mocker.patch.object(runs_operator, "apply_set_verdict", return_value={"total": COUNT})

    def task(self, **more: Any) -> Any:
        arguments: dict[str, Any] = {"task_id": "a_task", "provider": "nyx", "calls": calls_of("nyx", COUNT)}
        arguments |= {"conn_id": "nyx_default", **more}
        return RunsOperator(**arguments)

    def begin(self, task: Any, end: Any, state: RowState = RowState.SUBMITTED) -> list[Any]:
        """What the task takes up, with the stand-in's end."""
        calls = task._checked_calls()
        taken = task._taken_up(self.context, calls)
        rows = list(taken.ledger)
        for index in range(3):
            rows[index] = rows[index].submitted(RunRef(provider="nyx", run_id=f"r{index}"), 1.0)
        for index in range(2):
            good = Outcome.SUCCEEDED
            rows[index] = replace(rows[index], state=RowState.ENDED, outcome=good, verdict=Verdict.SUCCEED)
        rows[2] = replace(rows[2], state=state)
        self.drive.ledger = Ledger(rows)
        self.drive.run.side_effect = end if isinstance(end, Exception) else [end]
        return [calls, taken]

    def go_on(self, task: Any, end: Any, **more: Any) -> Any:
        return task._go_on(self.context, *self.begin(task, end), **more)

    @property
    def header(self) -> dict[str, Any]:
        return self.context["task_state_store"].get("runops")


@pytest.fixture
def steps(host: Any, mocker: MockerFixture) -> Steps:
    return Steps(host, mocker)


# --- the loop ---


@pytest.mark.parametrize("deferrable", [True, False])
@pytest.mark.parametrize("mark", [None, False])
def test_the_loop_is_handed_all_that_the_task_says(steps: Steps, deferrable: bool, mark: Any) -> None:
    task = steps.task(deferrable=deferrable, **({} if mark is None else {"mark_runs": mark}))
    past, full = {2: WaitProgress(began=3.0)}, {0: {"run_id": "r0"}}
    calls, taken = steps.begin(task, End.ALL)
    task._go_on(steps.context, calls, taken, past=past, full=full)
    (hook, ledger, _), given = steps.drives.call_args
    assert (hook.conn_id, ledger) == ("nyx_default", taken.ledger)
    assert (given["past"], given["full"], given["record"]) == (past, full, None)
    assert (given["store"], given["log"]) == (task._ledger_store(steps.context), task.log)
    assert given["client_settings"] == ({} if mark is None else {"mark_runs": mark})
    assert isinstance(given["until"], Handover) if deferrable else given["until"] is None
    assert task._drive == (steps.context, steps.drive)


@pytest.mark.parametrize("cancels", [True, False])
def test_the_plan_is_what_the_task_says(steps: Steps, cancels: bool) -> None:
    task = steps.task(
        timeout=500, max_active=3, require=0.5, adopt_uncertain=not cancels, submit_grace=77, on_outcome={
            "exhausted": "warn"}, cancel_on_timeout=cancels, cancel_on_kill=not cancels,
    )  # fmt: skip
    steps.go_on(task, End.ALL)
    plan = steps.drives.call_args.args[2]
    assert (plan.cancel_on_timeout, plan.cancel_on_kill, plan.clock) == (cancels, not cancels, "timeout")
    assert (plan.rules, plan.policy.to_dict()) == (task._rules(), task._policy().to_dict())
    assert plan.wait.deadline == pytest.approx(steps.host.clock.began + 500, abs=0.01)
    assert (plan.submits.grace, plan.submits.adopt_uncertain, len(plan.submits.calls)) == (77, not cancels, COUNT)
    assert plan.submits.identity == runs_operator.identity_of(steps.context)
    assert plan.submits.turns == task._turn_rules(steps.context)


def test_an_error_of_the_loop_is_counted_and_what_is_known_is_pushed(steps: Steps, mocker: MockerFixture) -> None:
    counted = mocker.patch.object(runs_operator.METER, "erred")
    error = PollingError(RunRef(provider="nyx", run_id="r2"), 60.0, RunNotFound("There is none."))
    with pytest.raises(PollingError):
        steps.go_on(steps.task(), error)
    counted.assert_called_once_with("nyx", error)
    assert [row.get("run_id") for row in steps.context["ti"].xcoms["runs"]][:3] == ["r0", "r1", "r2"]


def test_a_stop_that_is_not_airflows_clock_fails_the_task_for_good_and_says_who_ended_it(steps: Steps) -> None:
    with pytest.raises(RunopsException, match="A person has ended this task while its runs went on") as raised:
        steps.go_on(steps.task(), End.STOPPED)
    assert raised.value.error_code == Code.TASK_ENDED
    steps.ended.assert_not_called()
    steps.drive.out_of_time = True
    assert steps.go_on(steps.task(), End.STOPPED) == {"total": COUNT}


@pytest.mark.parametrize(("state", "told", "over"), [
    (RowState.SUBMITTED, "0-1", False), (RowState.ENDED, "0-2", True),
])  # fmt: skip
def test_an_end_keeps_what_was_told_and_whether_a_run_may_go_on(
    steps: Steps, state: RowState, told: str, over: bool
) -> None:
    task = steps.task()
    calls, taken = steps.begin(task, End.ALL, state)
    if over:
        rows = list(steps.drive.ledger)
        rows[2] = replace(rows[2], outcome=Outcome.FAILED, verdict=Verdict.FAIL)
        steps.drive.ledger = Ledger(rows)
    assert task._go_on(steps.context, calls, taken) == {"total": COUNT}
    assert (steps.header["told"], steps.header["ended"]) == (told, over)
    assert steps.header["counts"] == steps.drive.ledger.tally.to_dict()
    (context, end), given = steps.ended.call_args
    assert (context, end.ledger, given["log"], given["record"]) == (steps.context, steps.drive.ledger, task.log, None)
    assert (end.rules, end.provider.name, end.kept, end.submitted) == (task._rules(), "nyx", 0, 3)


# --- the triggerer ---


def test_a_trigger_is_handed_what_goes_on_and_all_that_the_task_says(steps: Steps) -> None:
    task = steps.task(
        deferrable=True, timeout=5000, execution_timeout=timedelta(seconds=900), on_clear="reattach",
        cancel_on_timeout=False, cancel_on_kill=True, stop_early=True,
    )  # fmt: skip
    with pytest.raises(TaskDeferred) as deferred:
        steps.go_on(task, End.SUSPENDED)
    given = deferred.value.trigger.serialize()[1]
    assert (given["provider"], given["conn_id"], given["on_clear"]) == ("nyx", "nyx_default", "reattach")
    assert (given["cancel_on_kill"], given["plan"]["cancel_on_timeout"]) == (True, False)
    assert given["execution_ends"] == pytest.approx(steps.host.clock.began + 900, abs=0.01)
    assert given["not_before"] >= steps.host.clock.now + 10
    assert given["rows"]["total"] == COUNT
    assert given["rows"]["open"][0]["ids"] == ["r2"]
    assert given["rows"]["clocks"]
    assert given["plan"]["rules"] == task._rules().to_dict()
    assert given["plan"]["policy"] == task._policy().to_dict()
    assert given["plan"]["fire_after"] == 1
    assert given["patience"]["deadline"] == pytest.approx(steps.host.clock.began + 5000, abs=0.01)
    counts = steps.drive.ledger.tally.to_dict()
    assert steps.context["ti"].xcoms["progress"] == steps.header["counts"] == counts
    assert (deferred.value.method_name, deferred.value.timeout is not None) == ("execute_complete", True)


def event_of(**more: Any) -> Any:
    failure = more.pop("failure", None)
    return SimpleNamespace(**{"failure": failure, "full": {0: {"run_id": "r0"}}, "clocks": {"as_of": 0.0}, **more})


def test_after_an_event_the_set_goes_on_with_what_the_triggerer_has_learnt(steps: Steps, mocker: MockerFixture) -> None:
    task = steps.task()
    calls, taken = steps.begin(task, End.ALL)
    taken = replace(taken, ledger=steps.drive.ledger)
    task._ledger_store(steps.context).update(crashes=2)
    on = mocker.patch.object(task, "_go_on", return_value={"total": COUNT})
    clocks = {"as_of": steps.host.clock.now, "unseen": "", "rows": {"2": {"parked_since": steps.host.clock.now - 9}}}
    assert task._after_event(steps.context, calls, taken, event_of(clocks=clocks)) == {"total": COUNT}
    assert on.call_args.args == (steps.context, calls, taken)
    assert on.call_args.kwargs["full"] == {0: {"run_id": "r0"}}
    past = on.call_args.kwargs["past"]
    assert (list(past), past[2].seen, past[2].began) == ([2], True, None)
    assert past[2].parked_since == pytest.approx(steps.host.clock.now - 9)
    assert steps.header["crashes"] == 0


def test_an_error_that_an_event_tells_ends_the_task_and_what_is_known_is_pushed(steps: Steps) -> None:
    task = steps.task()
    calls, taken = steps.begin(task, End.ALL)
    taken = replace(taken, ledger=steps.drive.ledger)
    with pytest.raises(RunopsException, match="refused"):
        task._after_event(steps.context, calls, taken, event_of(failure=RunopsException("refused")))
    assert [row.get("run_id") for row in steps.context["ti"].xcoms["runs"]][:3] == ["r0", "r1", "r2"]


def test_waits_of_a_sensor_begin_with_its_try(host: Any, mocker: MockerFixture) -> None:
    task, context = RunsSensor(task_id="a_task", provider="nexio", run_ids=["a", "b"], deferrable=False), host.context()
    began = context["ti"].start_date.timestamp()
    host.clock.sleep(30)
    here = mocker.patch.object(task, "_wait_here", return_value={"total": 2})
    assert task.execute(context) == {"total": 2}
    (_, ledger, past), _ = here.call_args
    assert [row.run_id for row in ledger] == ["a", "b"]
    assert past == {index: WaitProgress(began=began) for index in range(2)}


@pytest.mark.parametrize("given", [None, 5.0])
def test_a_deferral_hands_on_when_its_run_was_submitted_and_what_the_wait_has_learnt(host: Any, given: Any) -> None:
    run = host.made("nexio", script="forever")
    task, context = NexioRunSensor(task_id="a_task", **run, deferrable=True), host.context()
    ref = RunRef(provider="nexio", run_id=run["run_id"])
    with pytest.raises(TaskDeferred) as deferred:
        task._await_run(context, ref, task._clocks(deadline=host.clock.now + 900), submitted_at=given)
    handed = deferred.value.trigger.serialize()[1]
    assert (handed["submitted_at"], handed["past"]["seen"]) == (given, True)
    assert handed["past"]["began"] == pytest.approx(host.clock.began, abs=0.01)
    assert handed["ref"] == ref.model_dump(mode="json")
