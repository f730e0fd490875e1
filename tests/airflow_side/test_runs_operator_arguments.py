"""What a task of many runs takes: wrong arguments are refused before the first POST, by the index of the wrong call."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from runops.airflow import RunsOperator, task_base
from runops.airflow._compat import TaskDeferralError, TaskDeferralTimeout, TaskDeferred
from runops.airflow.exceptions import AuthError, RunTimedOut, SubmitUncertainError, TriggerCrashed
from runops.airflow.exceptions import ConfigurationError as AirflowConfigurationError
from runops.airflow.many import drive as set_drive
from runops.airflow.runs_operator import MOST_CRASHES
from runops.core import ConfigurationError
from tests.airflow_side.sets import SetHost, calls_of, sets

_ = sets
CANARY = "payload-canary-5d1e8c"


def made(calls: Any, **more: Any) -> RunsOperator:
    arguments: dict[str, Any] = {"task_id": "a_task", "provider": "b3os", "calls": calls, **more}
    return RunsOperator(**arguments)


def with_one(number: int, wrong: Any, count: int = 1000) -> list[Any]:
    calls: list[Any] = calls_of("b3os", count)
    calls[number] = wrong
    return calls


WRONG: dict[str, tuple[Any, str]] = {
    "none at all": ([], "calls is empty"),
    "no list": ({"workflow_id": "w"}, "calls must be a list of submissions, not dict"),
    "a text": ("nightly", "calls"),
    "the same twice": ([*calls_of("b3os", 5), calls_of("b3os", 3)[2]], r"calls\[5\] is the same .* as calls\[2\]"),
    "an unknown key in the 700th": (
        with_one(699, {"workflow_id": "w", "payloud": {}}), r"calls\[699\]: .* payloud; .*Did you mean 'payload'",
    ),
    "a missing key": (with_one(3, {"payload": {}}), r"calls\[3\]: .*workflow_id"),
    "no mapping": (with_one(7, "w"), r"calls\[7\]: .*must be a mapping"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_calls_are_refused_when_the_dag_is_built(wrong: str) -> None:
    calls, text = WRONG[wrong]
    with pytest.raises(ConfigurationError, match=text):
        made(calls)


@pytest.mark.parametrize("wrong", [name for name in WRONG if name != "a text"])
def test_and_right_after_rendering_before_anything_is_sent(sets: SetHost, wrong: str) -> None:
    calls, text = WRONG[wrong]
    task = made("{{ given }}")
    task.calls = calls
    ended = sets.run(task)
    assert type(ended.error) is AirflowConfigurationError
    with pytest.raises(AirflowConfigurationError, match=text):
        raise ended.error
    assert sets.emulator.requests() == []


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"max_active": 0}, "max_active must be a whole number, 1 or more, not 0"),
        ({"max_active": -3}, "max_active"),
        ({"max_active": True}, "max_active"),
        ({"require": 0}, "require=0"),
        ({"require": 1.5}, "require=1.5"),
        ({"require": "most"}, "require='most'"),
        ({"stop_early": "yes"}, "stop_early"),
        ({"max_spend": 0}, "max_spend"),
        ({"timeout": 0}, "timeout"),
        ({"on_conflict": "queue"}, "on_conflict"),
    ],
)
def test_wrong_limits_are_refused_when_the_dag_is_built(given: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        made(calls_of("b3os", 2), **given)


@pytest.mark.parametrize("name", ["wait", "arguments", "max_activ"])
def test_what_it_does_not_take_is_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"RunsOperator takes no argument '{name}'"):
        made(calls_of("b3os", 2), **{name: 1})


def test_a_template_in_one_call_leaves_its_value_to_the_worker_and_its_names_to_the_dag() -> None:
    made([{"workflow_id": "{{ ds }}"}, {"workflow_id": "w", "payload": {"day": "{{ ds }}"}}])
    with pytest.raises(ConfigurationError, match=r"calls\[1\]: 'payloud'.*Did you mean 'payload'"):
        made([{"workflow_id": "w"}, {"workflow_id": "{{ ds }}", "payloud": {}}])
    with pytest.raises(ConfigurationError, match=r"calls\[1\]: .*workflow_id"):
        made([{"workflow_id": "{{ ds }}"}, {"payload": {}}])


@pytest.mark.parametrize("given", [json.dumps(calls_of("b3os", 3)), tuple(calls_of("b3os", 3))])
def test_a_text_with_a_list_and_a_sequence_will_do(sets: SetHost, given: Any) -> None:
    task = made("{{ given }}", deferrable=False)
    task.calls = given
    sets.emulator.set_defaults(provider="b3os", script="succeeded", seconds=0.1)
    assert sets.run(task).result["total"] == 3


def test_what_is_sent_shows_neither_in_rendered_fields_nor_in_what_is_kept(
    sets: SetHost, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_base, "supervisor", object)
    calls = [{**call, "payload": {"secret": CANARY}} for call in calls_of("b3os", 6)]
    task, context = sets.made("b3os", 0, calls=calls, max_active=3, seconds=1.5, deferrable=True), sets.context()
    task.render_template_fields({"ti": SimpleNamespace()})
    task.after_rendering()
    assert "calls" not in task.template_fields
    ended = sets.run(task, context)
    assert ended.error is None
    assert ended.deferrals
    kept = json.dumps([ended.xcoms, ended.events, [str(each.trigger.serialize()) for each in ended.deferrals]])
    kept += "".join(path.read_text() for path in (sets.folder("x").parent / "store").iterdir())
    assert CANARY not in kept + capsys.readouterr().out
    assert CANARY in str(sets.emulator.runs(provider="b3os"))


def test_a_key_that_is_refused_ends_the_whole_and_submits_nothing(sets: SetHost, connect: Any, served: Any) -> None:
    connect("b3os_default", "b3os", host=served.base_url("b3os"), password="invalid-key")
    ended = sets.run(sets.made("b3os", 5, deferrable=False))
    assert type(ended.error) is AuthError
    assert sets.emulator.runs(provider="b3os") == []
    assert ended.xcoms["run"]["total"] == 5


@pytest.mark.parametrize(("require", "good"), [("all", False), ("any", True), (0.8, True), (0.95, False)])
def test_one_lost_submit_fails_its_run_alone(sets: SetHost, require: Any, good: bool) -> None:
    sets.emulator.add_fault(kind="reset", when="after", action="submit", provider="b3os", path_contains="parent-003")
    ended = sets.run(sets.made("b3os", 10, deferrable=False, require=require))
    assert (ended.error is None) == good
    assert good or type(ended.error) is SubmitUncertainError
    told = ended.xcoms["run"]
    assert told["outcomes"] == {"succeeded": 9}
    assert [(row["index"], row["error"]) for row in ended.xcoms["runs"] if "error" in row] == [
        (3, "SubmitUncertainError")
    ]
    assert len(sets.emulator.runs(provider="b3os")) == 10


def test_without_a_store_a_set_survives_its_deferrals_and_no_retry(sets: SetHost) -> None:
    task = sets.made("b3os", 8, max_active=4, seconds=1.5, deferrable=True)
    context = sets.context()
    del context["task_state_store"]
    ended = sets.run(task, context)
    assert ended.error is None
    assert ended.deferrals
    assert len(sets.emulator.runs(provider="b3os")) == 8
    assert ended.xcoms["run_submitted"]["pages"] == 1


@pytest.mark.parametrize("cancels", [True, False])
def test_cancel_on_failure_cancels_what_a_failed_task_leaves(sets: SetHost, cancels: bool) -> None:
    settings = {"cancel_on_timeout": False, "cancel_on_failure": cancels}
    task, context = sets.made("b3os", 4, seconds=600, deferrable=False, **settings), sets.context()
    assert type(sets.timed_out(task, context, read=4).error) is RunTimedOut
    assert sets.cancelled("b3os") == set()
    for callback in task.on_failure_callback:
        callback({**context, "task": task})
    runs = {run["run_id"] for run in sets.emulator.runs(provider="b3os")}
    assert sets.cancelled("b3os") == (runs if cancels else set())


def deferred(sets: SetHost, count: int) -> tuple[Any, dict[str, Any], TaskDeferred]:
    """A task that has deferred, and whose runs have ended since."""
    task, context = sets.made("b3os", count, seconds=600, deferrable=True), sets.context()
    with pytest.raises(TaskDeferred) as raised:
        task.execute(context)
    sets.finish_all("b3os")
    return task, context, raised.value


@pytest.mark.parametrize("error", [TaskDeferralError("broken"), TaskDeferralTimeout("late")])
def test_no_event_in_time_is_a_last_look_and_a_broken_trigger_another_one(
    sets: SetHost, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    task, context, trip = deferred(sets, 4)

    def fails(context: Any, event: Any = None) -> Any:
        raise error

    monkeypatch.setattr(set_drive, "WORKER_SECONDS", 60.0)
    task.execute_complete = fails
    result = task.resume_execution(trip.method_name, {"event": None}, context)
    assert result["outcomes"] == {"succeeded": 4}
    assert len(sets.emulator.runs(provider="b3os")) == 4


def test_triggers_that_keep_breaking_end_a_try_that_can_be_repeated(sets: SetHost) -> None:
    task, context, _ = deferred(sets, 2)
    context["task_state_store"].set("runops", {**context["task_state_store"].get("runops"), "crashes": MOST_CRASHES})
    with pytest.raises(TriggerCrashed, match="how its runs ended"):
        task.execute_complete(context, None)
    context["ti"].next_try()
    assert sets.run(sets.made("b3os", 2), context).result["outcomes"] == {"succeeded": 2}
    assert len(sets.emulator.runs(provider="b3os")) == 2


@pytest.mark.parametrize("event", [None, {}, {"version": 1, "kind": "runs", "rows": [{"at": "99", "s": "ended"}]}])
def test_an_event_that_cannot_be_read_is_a_broken_trigger(
    sets: SetHost, monkeypatch: pytest.MonkeyPatch, event: Any
) -> None:
    task, context, _ = deferred(sets, 3)
    monkeypatch.setattr(set_drive, "WORKER_SECONDS", 60.0)
    assert task.execute_complete(context, event)["outcomes"] == {"succeeded": 3}
    assert context["task_state_store"].get("runops")["crashes"] == 1
