"""An operator, step by step: what it says of its submit, what it goes on with, and what it leaves for others."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pytest_mock import MockerFixture

from runops.airflow import RunOperator, operator
from runops.airflow._compat import AirflowException, TaskDeferralError, TaskDeferred
from runops.airflow.exceptions import TriggerCrashed
from runops.airflow.forgotten import EarlierTries
from runops.airflow.lost_submit import LostSubmit
from runops.airflow.submission import Submitted
from runops.core import Outcome, Phase, RunRef, RunSnapshot, find
from runops.core.waiting.intent import Intent
from runops.core.waiting.turns import Turn
from tests.services import CALLS

REF = RunRef(provider="nyx", run_id="r1")
OVER = RunSnapshot(ref=REF, state="completed", outcome=Outcome.SUCCEEDED)
SETTINGS: dict[str, Any] = {
    "adopt_uncertain": True, "submit_grace": timedelta(seconds=40), "deferrable": True, "on_clear": "reattach",
    "on_conflict": "attach", "timeout": 700, "poll_interval": 9, "error_budget": 80, "auth_grace": 90, "retries": 2,
    "conn_id": "nyx_default",
}  # fmt: skip


def made(provider: str = "nyx", **settings: Any) -> Any:
    arguments = {"provider": provider, "arguments": CALLS[provider], **settings}
    return RunOperator(task_id="a_task", **arguments)


class Submission:
    """Stands for a task's submit: notes what it is asked for, and gives what a test says."""

    def __init__(self, started: Any) -> None:
        self.started, self.asked, self.intent = started, [], None
        self.waits_for_turn = False
        self.given: dict[str, Any] = {}

    def __call__(self, call: Any, **given: Any) -> Submission:
        self.given = {"call": call, **given}
        return self

    def start(self, client: Any) -> Any:
        self.asked.append(("start",))
        return self.started

    def take_turn(self, client: Any, event: Any, execution_ends: float | None) -> Any:
        self.asked.append(("take_turn", event, execution_ends))
        return self.started

    def take_up(self, client: Any, found: RunRef | None, event: Any) -> Any:
        self.asked.append(("take_up", found, event))
        return self.started


@pytest.fixture
def submission(mocker: MockerFixture) -> Submission:
    stand_in = Submission(Submitted(REF, 77.0))
    mocker.patch.object(operator, "Submission", stand_in)
    return stand_in


# --- what it says of its submit -------------------------------------------------------------------------------------


def test_a_submit_is_given_all_that_its_task_says(host: Any, submission: Submission) -> None:
    task, context = made(**SETTINGS), host.context()
    context["ti"].try_number, context["ti"].max_tries = 2, 5
    task._submission(context, 3)
    given, rules = submission.given, submission.given["rules"]
    assert given["call"] == find("nyx").call(**CALLS["nyx"])
    assert (given["identity"], given["crashes"], given["log"]) == ("a_dag/a_run/a_task/-1", 3, task.log)
    given["task_state"].save(mine=1)
    assert context["task_state_store"].get("runops")["mine"] == 1
    assert (rules.adopt_uncertain, rules.grace, rules.deferrable, rules.reattach) == (True, 40.0, True, True)
    turns, began = rules.turns, context["ti"].start_date.timestamp()
    assert (turns.on_conflict, turns.until) == ("attach", began + 700)
    assert (turns.interval, turns.error_budget, turns.auth_grace) == (9.0, 80.0, 90.0)
    assert rules.about == {"provider": "nyx", "conn_id": "nyx_default", "waits": True}
    assert rules.tries == EarlierTries.of(context, 2) != EarlierTries()


def test_a_task_that_says_nothing_has_what_the_documentation_says(host: Any, submission: Submission) -> None:
    made()._submission(host.context())
    rules = submission.given["rules"]
    assert (rules.adopt_uncertain, rules.grace, rules.deferrable, rules.reattach) == (False, 300.0, False, False)
    assert (rules.turns.on_conflict, rules.turns.interval) == ("wait", None)
    assert (rules.tries, submission.given["crashes"]) == (EarlierTries(), 0)


@pytest.mark.parametrize(
    ("settings", "name", "value"),
    [
        ({"durable": False}, "tries", None), ({"wait": False}, "may_follow", None),
        ({"wait": False, "conn_id": "mine"}, "about", {"provider": "nyx", "conn_id": "mine", "waits": False}),
        ({"cancel_on_kill": False}, "cancels", False), ({}, "cancels", True),
        ({"provider": "nexio"}, "cancels", find("nexio").cancel is not None),
    ],
)  # fmt: skip
def test_a_setting_of_a_task_is_a_rule_of_its_submit(
    host: Any, submission: Submission, settings: dict[str, Any], name: str, value: Any
) -> None:
    made(**settings)._submission(host.context())
    assert getattr(submission.given["rules"], name) == value


@pytest.mark.parametrize(
    ("settings", "outcome", "may"),
    [
        ({}, Outcome.FAILED, True), ({}, Outcome.SUCCEEDED, False), ({}, Outcome.CANCELLED, False),
        ({"on_outcome": {"failed": "warn"}}, Outcome.FAILED, False), ({"soft_fail": True}, Outcome.FAILED, False),
        ({"on_outcome": {"succeeded": "fail"}}, Outcome.SUCCEEDED, False),
    ],
)  # fmt: skip
def test_a_retry_submits_anew_only_after_a_failure_that_fails_the_task(
    host: Any, submission: Submission, settings: dict[str, Any], outcome: Outcome, may: bool
) -> None:
    made(**settings)._submission(host.context())
    assert submission.given["rules"].may_follow(outcome) is may


def test_others_are_told_of_each_turn_that_is_waited_for(
    host: Any, submission: Submission, mocker: MockerFixture
) -> None:
    begin = mocker.patch.object(operator, "begin")
    task, context, turn = made(), host.context(), Turn(parent={}, since=1.0, until=2.0)
    task._submission(context)
    submission.given["rules"].on_turn(turn)
    begin.assert_called_once_with(task, context, turn=turn)


# --- what it goes on with -------------------------------------------------------------------------------------------

TURN = {"version": 1, "kind": "turn", "turn": {"parent": {}, "since": 1.0, "until": 2.0}}
LOST = {"version": 1, "kind": "lost", "intent": {"mark": "m"}}
FOUND = {"version": 1, "kind": "found", "ref": REF.model_dump(mode="json")}


@pytest.mark.parametrize(
    ("event", "waits_for_turn", "asked"),
    [
        (None, False, ("start",)), (None, True, ("start",)), (TURN, False, ("take_turn", TURN)),
        ({}, True, ("take_turn", {})), ({}, False, ("take_up", None, {})), (LOST, False, ("take_up", None, LOST)),
        (FOUND, False, ("take_up", REF, FOUND)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("limit", [None, 60])
def test_an_event_leads_to_the_submit_to_the_turn_or_to_the_run_that_was_found(
    host: Any, submission: Submission, mocker: MockerFixture, event: Any, waits_for_turn: bool, asked: Any, limit: Any
) -> None:
    task, context = made(execution_timeout=limit and timedelta(seconds=limit)), host.context()
    mocker.patch.object(task, "_await_run", return_value=OVER)
    submission.waits_for_turn = waits_for_turn
    task._submit_and_wait(context, event)
    ends = (context["ti"].start_date.timestamp() + limit,) if limit else (None,)
    assert submission.asked == [asked + (ends if asked[0] == "take_turn" else ())]
    assert submission.given["crashes"] == 0
    task._submit_and_wait(context, event, 2)
    assert submission.given["crashes"] == 2


@pytest.mark.parametrize("event", [TURN, LOST, FOUND])
def test_an_event_before_the_run_is_known_goes_on_with_the_submit(
    host: Any, submission: Submission, mocker: MockerFixture, event: Any
) -> None:
    task = made()
    went_on = mocker.patch.object(task, "_submit_and_wait")
    context = host.context()
    task.execute_complete(context, event)
    went_on.assert_called_once_with(context, event)


@pytest.mark.parametrize(("mark", "settings"), [(None, {}), (True, {"mark_runs": True}), (False, {"mark_runs": False})])
def test_a_client_is_told_of_marks_only_where_the_task_says_so(
    host: Any, submission: Submission, mocker: MockerFixture, mark: bool | None, settings: dict[str, Any]
) -> None:
    task = made(mark_runs=mark)
    opened = mocker.spy(type(task._hook()), "client")
    mocker.patch.object(task, "_await_run", return_value=OVER)
    task.execute(host.context())
    assert [call.kwargs for call in opened.call_args_list] == [settings]


# --- what it does with its run --------------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("taken_up", [True, False])
def test_a_run_is_published_with_whose_it_is_and_waited_for(
    host: Any, submission: Submission, mocker: MockerFixture, own: bool, taken_up: bool
) -> None:
    task, context = made(timeout=700), host.context()
    context["task_state_store"].set("runops", {"crashes": 2})
    submission.started = Submitted(REF, 77.0, own, taken_up)
    waited = mocker.patch.object(task, "_await_run", return_value=OVER)
    task.execute(context)
    (asked,) = waited.call_args_list
    assert (asked.args[1], asked.kwargs) == (REF, {"submitted_at": 77.0, "taken_up": taken_up})
    assert asked.args[2].deadline == context["ti"].start_date.timestamp() + 700
    xcoms, about = context["ti"].xcoms, {"provider": "nyx", "conn_id": "nyx_default", "waits": True}
    assert (xcoms["run_id"], xcoms["run_url"]) == ("r1", task.service.url(REF))
    assert xcoms.get("run_submitted") == ({**about, "ref": REF.model_dump(mode="json")} if own else None)
    assert task.whose_runs(context) == {"own": own, "cancels": own}
    assert task._trigger_settings() == {"cancel_on_kill": own, "on_clear": "submit"}
    assert task._submitting is None
    assert context["task_state_store"].get("runops") == {"crashes": 0, "ended": "succeeded"}


@pytest.mark.parametrize("settings", [{"cancel_on_kill": False}, {"on_clear": "reattach"}], ids=str)
def test_a_trigger_is_told_what_a_kill_or_a_clear_does(host: Any, settings: dict[str, Any]) -> None:
    task = made(**settings)
    assert task._trigger_settings()["cancel_on_kill"] is False, "it has submitted nothing yet"
    task._submission(host.context())
    assert task._trigger_settings() == {"cancel_on_kill": True, "on_clear": "submit", **settings}


def test_a_run_that_nobody_waits_for_is_queued_and_let_go(
    host: Any, submission: Submission, mocker: MockerFixture
) -> None:
    record = mocker.patch.object(operator, "begin").return_value
    task, context = made(wait=False), host.context()
    result = task.execute(context)
    assert (result["run_id"], result["outcome"], result["state"]) == ("r1", None, None)
    assert result["url"] == task.service.url(REF)
    record.let_go.assert_called_once_with()
    assert context["ti"].xcoms["run_submitted"]["waits"] is False
    mocker.patch.object(operator, "begin", return_value=None)
    assert task.execute(context) == result


@pytest.mark.parametrize("store", [True, False])
@pytest.mark.parametrize("what", ["lost", "turn"])
def test_a_submit_that_goes_on_in_the_triggerer_is_handed_over_whole(
    host: Any, submission: Submission, mocker: MockerFixture, what: str, store: bool
) -> None:
    begin = mocker.patch.object(operator, "begin")
    lost = LostSubmit({"config_name": "nightly"}, Intent("m"), host.clock.now + 300, True)
    turn = Turn(parent={"config_name": "nightly"}, since=1.0, until=host.clock.now + 300)
    submission.started = lost if what == "lost" else turn
    task, context = made(deferrable=True, timeout=700), host.context(store=store)
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context)
    trigger: Any = deferred.value.trigger
    assert trigger.patience["deadline"] == context["ti"].start_date.timestamp() + 700
    assert (trigger.ref, trigger.lost, trigger.turn) == (
        None, lost.to_dict() if what == "lost" else None, turn.to_dict() if what == "turn" else None,
    )  # fmt: skip
    begin.assert_called_once_with(task, context, **({"turn": turn} if what == "turn" else {}))
    kept = context["ti"].xcoms.get("run_turn", context["ti"].xcoms.get("turn"))
    assert (kept is not None) is (what == "turn" and not store)


# --- how it ends ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "outcome", "own", "cancels"),
    [
        ({}, Outcome.TIMED_OUT, True, True), ({}, Outcome.TIMED_OUT, False, False), ({}, Outcome.FAILED, True, False),
        ({"cancel_on_timeout": False}, Outcome.TIMED_OUT, True, False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("fails", [True, False])
def test_a_wait_that_timed_out_cancels_its_own_run(
    host: Any, mocker: MockerFixture, settings: dict[str, Any], outcome: Outcome, own: bool, cancels: bool, fails: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    task, context = made(**settings), host.context()
    context["task_state_store"].set("runops", {"state": "submitted"})
    context["ti"].xcoms["run_attached"] = not own
    mocker.patch.object(operator, "is_own", return_value=own)
    cancel = mocker.patch.object(task, "_cancel", side_effect=AirflowException("away") if fails else None)
    ended_by: Any = "timeout" if outcome is Outcome.TIMED_OUT else None
    with pytest.raises(AirflowException):
        task._apply_verdict(context, RunSnapshot(ref=REF, state="x", outcome=outcome, ended_by=ended_by))
    assert [call.args for call in cancel.call_args_list] == ([(REF,)] if cancels else [])
    record = context["task_state_store"].get("runops")
    assert record.get("given_up") == (True if cancels and not fails else None)
    assert record.get("ended") == (None if ended_by else "failed")
    said = "nyx run r1 could not be cancelled and may go on: away [left-behind]" in capsys.readouterr().out
    assert said is (cancels and fails)


@pytest.mark.parametrize(("recorded", "began"), [(123.0, 123.0), (None, None)])
def test_a_wait_began_with_the_submit_of_its_run(host: Any, recorded: float | None, began: float | None) -> None:
    context = host.context()
    if recorded is not None:
        context["task_state_store"].set("runops", {"generation": 0, "submitted_at": recorded})
    assert made()._wait_began(context) == (began or context["ti"].start_date.timestamp())


# --- after a crash of its trigger -----------------------------------------------------------------------------------

CRASH = TaskDeferralError("Trigger failure")


@pytest.mark.parametrize(
    ("record", "goes_on", "crashes"),
    [
        ({}, True, 1), ({"crashes": 1}, True, 2), ({"crashes": 2}, True, 3), ({"crashes": 3}, False, None),
        (None, False, None),
    ],
)  # fmt: skip
def test_a_run_is_waited_for_by_another_trigger_three_times(
    host: Any,
    mocker: MockerFixture,
    record: Any,
    goes_on: bool,
    crashes: int | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    task, context = made(timeout=700), host.context()
    context["ti"].xcoms["run_id"] = "r1"
    if record is not None:
        context["task_state_store"].set("runops", {"generation": 0, "submitted_at": 5.0, **record})
    waited = mocker.patch.object(task, "_await_run", return_value=OVER)
    alive = RunSnapshot(ref=REF, state="running", phase=Phase.RUNNING)
    looked = mocker.patch.object(task, "_last_read", return_value=alive)
    if not goes_on:
        with pytest.raises(TriggerCrashed, match="r1"):
            task._after_crash(context, CRASH)
        looked.assert_called_once_with(REF, None, "timeout")
        looked.return_value = OVER
        assert task._after_crash(context, CRASH)["outcome"] == "succeeded"
        waited.assert_not_called()
    else:
        assert task._after_crash(context, CRASH)["outcome"] == "succeeded"
        (asked,) = waited.call_args_list
        assert (asked.args[1], asked.kwargs) == (REF, {"submitted_at": 5.0})
        assert asked.args[2].deadline == context["ti"].start_date.timestamp() + 700
        assert task._running == (context, REF)
        assert context["task_state_store"].get("runops")["crashes"] == crashes
    assert "The trigger broke (Trigger failure); looking at nyx run r1 once more." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("record", "kept", "asked"),
    [
        (None, False, ({},)), ({"state": "submitting"}, False, ({},)), ({"state": "awaiting turn"}, False, ({}, 1)),
        ({"state": "awaiting turn", "crashes": 1}, False, ({}, 2)),
        ({"state": "submitting", "crashes": 2}, True, ({}, 3)),
        ({"state": "awaiting turn", "crashes": 3}, False, None), (None, True, None),
    ],
)  # fmt: skip
def test_before_there_is_a_run_it_is_looked_for_or_the_turn_waited_for_three_times(
    host: Any, mocker: MockerFixture, record: Any, kept: bool, asked: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    task, context = made(), host.context()
    if record is not None:
        context["task_state_store"].set("runops", {"generation": 0, **record})
    mocker.patch.object(operator, "kept_turn", return_value=Turn(parent={}, since=1.0, until=2.0) if kept else None)
    went_on = mocker.patch.object(task, "_submit_and_wait")
    if asked is None:
        with pytest.raises(TriggerCrashed):
            task._after_crash(context, CRASH)
        went_on.assert_not_called()
        assert "The trigger broke" not in capsys.readouterr().out
        return
    task._after_crash(context, CRASH)
    went_on.assert_called_once_with(context, *asked)
    then = " while it waited for the task's turn; trying again."
    if len(asked) == 1:
        then = "; looking for the run of the lost submit once more."
    assert f"The trigger broke (Trigger failure){then}" in capsys.readouterr().out


@pytest.mark.parametrize("turn", [None, Turn(parent={}, since=1.0, until=2.0)])
def test_a_deferral_that_ended_without_an_event_before_there_is_a_run_goes_on_with_the_submit(
    host: Any, mocker: MockerFixture, turn: Turn | None
) -> None:
    task, context = made(), host.context()
    mocker.patch.object(operator, "kept_turn", return_value=turn)
    went_on = mocker.patch.object(task, "_submit_and_wait")
    task._after_deferral_timeout(context)
    event = {} if turn is None else {"version": 1, "kind": "turn", "turn": turn.to_dict()}
    went_on.assert_called_once_with(context, event)
