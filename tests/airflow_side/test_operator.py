"""The operator: one run, whatever dies in between; a new one only where the earlier one leaves room."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

import pytest

from runops.airflow import NexioRunOperator, NyxRunOperator, RunOperator
from runops.airflow._compat import AirflowFailException, AirflowSkipException, AirflowTaskTimeout, TaskDeferred
from runops.airflow.exceptions import (
    AuthError,
    ConfigurationError,
    ConflictError,
    RequestRefused,
    RunCancelled,
    RunFailed,
    RunRejected,
    RunTimedOut,
    ServiceUnavailable,
    SubmitUncertainError,
    TriggerCrashed,
)
from runops.airflow.task_state import TaskState
from runops.core import NYX_GATE
from runops.core.model.errors import ConfigurationError as RefusedInDag
from runops.core.model.errors import NotSupported
from tests.services import SUBMITTING


@pytest.fixture(params=[False, True], ids=["worker", "deferrable"])
def deferrable(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture
def made(host: Any, operators: Any, calls: Any) -> Any:
    """``made("nyx", script="failed")``: an operator whose run goes so."""

    def make(provider: str, *, script: str = "succeeded", seconds: float = 20, **arguments: Any) -> Any:
        host.emulator.set_defaults(provider=provider, script=script, seconds=seconds)
        return operators[provider](task_id="run", **{**calls[provider], **arguments})

    return make


def submits(host: Any) -> int:
    return len(host.emulator.requests(action="submit"))


def cancels(host: Any) -> int:
    return len(host.emulator.requests(action="cancel", status=200)) + len(
        host.emulator.requests(action="cancel", status=202)
    )


@pytest.mark.parametrize("provider", SUBMITTING)
def test_an_operator_submits_once_and_waits(host: Any, made: Any, deferrable: bool, provider: str) -> None:
    ended = host.run(made(provider, deferrable=deferrable))
    assert ended.error is None
    assert (ended.result["outcome"], ended.result["verdict"]) == ("succeeded", "succeed")
    assert ended.result["run_id"] == ended.xcoms["run_id"]
    assert ended.xcoms["run"] == ended.result
    assert submits(host) == 1
    assert len(ended.deferrals) == (1 if deferrable else 0)


@pytest.mark.parametrize(
    ("provider", "script", "kind"),
    [
        ("nexio", "failed", RunFailed),
        ("nexio", "degraded", AirflowSkipException),
        ("nyx", "exhausted", AirflowSkipException),
        ("nyx", "failed", RunFailed),
        ("nyx", "cancelled", RunCancelled),
        ("onepin", "cancelled", RunCancelled),
        ("b3os", "failed", RunFailed),
    ],
)
def test_an_operator_ends_as_its_run_does(
    host: Any, made: Any, deferrable: bool, provider: str, script: str, kind: type[Exception]
) -> None:
    ended = host.run(made(provider, script=script, deferrable=deferrable))
    assert type(ended.error) is kind
    assert ended.xcoms["run"]["run_id"] == ended.xcoms["run_id"]
    assert isinstance(ended.error, AirflowFailException) == (kind is RunCancelled)


def test_run_id_and_run_url_are_pushed_before_any_wait(host: Any, made: Any) -> None:
    context = host.context()
    with pytest.raises(TaskDeferred):
        made("nyx", deferrable=True, script="forever").execute(context)
    assert context["ti"].xcoms["run_id"]
    assert context["ti"].xcoms["run_url"].startswith("https://app.fabraix.com/")
    assert "run" not in context["ti"].xcoms


@pytest.mark.parametrize("provider", SUBMITTING)
def test_without_wait_the_result_has_no_outcome_and_no_verdict(host: Any, made: Any, provider: str) -> None:
    ended = host.run(made(provider, script="forever", wait=False))
    assert (ended.result["outcome"], ended.result["verdict"], ended.result["run_ended"]) == (None, None, False)
    assert ended.result["run_id"] == ended.xcoms["run_id"]
    assert host.clock.passed == 0


@pytest.mark.parametrize("provider", SUBMITTING)
@pytest.mark.parametrize("script", ["forever", "succeeded"])
def test_a_try_after_a_crash_re_attaches(host: Any, made: Any, deferrable: bool, provider: str, script: str) -> None:
    task, context = made(provider, script=script, seconds=60, deferrable=deferrable, timeout=100), host.context()

    def die(seconds: float) -> None:
        raise SystemExit

    host.clock.on_sleep = die
    with pytest.raises(SystemExit):
        task.execute(context)
    host.clock.on_sleep = lambda seconds: None
    first = context["ti"].xcoms["run_id"]
    context["ti"].next_try()

    ended = host.run(task, context)

    assert ended.xcoms["run_id"] == first
    assert submits(host) == 1
    assert ended.xcoms["run"]["outcome"] == ("succeeded" if script == "succeeded" else "timed_out")


@pytest.mark.parametrize(("provider", "adopts"), [("nyx", True), ("onepin", False), ("b3os", False), ("nexio", False)])
def test_a_try_killed_between_the_post_and_the_record_looks_for_its_run(
    host: Any, made: Any, monkeypatch: pytest.MonkeyPatch, provider: str, adopts: bool
) -> None:
    task, context = made(provider), host.context()
    save = TaskState.save

    def die_after_the_post(self: TaskState, **record: Any) -> None:
        if record["state"] == "submitted":
            raise SystemExit
        save(self, **record)

    with monkeypatch.context() as patch:
        patch.setattr(TaskState, "save", die_after_the_post)
        with pytest.raises(SystemExit):
            task.execute(context)
    context["ti"].next_try()

    ended = host.run(task, context)

    assert submits(host) == 1
    if adopts:
        assert ended.result["outcome"] == "succeeded"
    else:
        assert type(ended.error) is SubmitUncertainError
        assert isinstance(ended.error, AirflowFailException)


def test_b3os_adopts_a_single_new_run_when_the_user_says_so(
    host: Any, made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.emulator.add_fault(kind="reset", provider="b3os", action="submit", when="after")
    ended = host.run(made("b3os", adopt_uncertain=True))
    assert ended.result["outcome"] == "succeeded"
    assert submits(host) == 1


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("provider", SUBMITTING)
def test_a_lost_answer_never_leads_to_a_second_run(host: Any, made: Any, provider: str, when: str) -> None:
    host.emulator.add_fault(kind="reset", provider=provider, action="submit", when=when)
    task, context = made(provider), host.context()
    ended = host.run(task, context)
    if provider == "nyx":
        assert ended.result["outcome"] == "succeeded"
        # Not created: Nyx shows no run with the mark and would refuse a second active one.
        assert submits(host) == (1 if when == "after" else 2)
    else:
        assert type(ended.error) is SubmitUncertainError
        assert submits(host) == 1
    assert len(host.emulator.runs(provider=provider)) == (0 if when == "before" and provider != "nyx" else 1)


def test_a_run_that_failed_is_submitted_anew_by_a_retry(host: Any, made: Any, deferrable: bool) -> None:
    task, context = made("nexio", script="failed", deferrable=deferrable), host.context()
    assert type(host.run(task, context).error) is RunFailed
    context["ti"].next_try()
    host.emulator.set_defaults(provider="nexio", script="succeeded")
    assert host.run(task, context).result["outcome"] == "succeeded"
    assert submits(host) == 2


def test_a_gate_that_finds_a_vulnerability_is_final_and_submits_once(host: Any, made: Any, deferrable: bool) -> None:
    task, context = made("nyx", script="succeeded", on_outcome=NYX_GATE, deferrable=deferrable), host.context()
    ended = host.run(task, context)
    assert type(ended.error) is RunRejected
    assert isinstance(ended.error, AirflowFailException)
    context["ti"].next_try()
    assert type(host.run(task, context).error) is RunRejected
    assert submits(host) == 1


def test_a_clear_by_a_person_submits_anew_and_cancels_what_still_runs(host: Any, made: Any) -> None:
    task, context = made("b3os", script="forever", deferrable=True), host.context()
    with pytest.raises(TaskDeferred):
        task.execute(context)
    context["ti"].clear()
    host.emulator.set_defaults(provider="b3os", script="succeeded")
    assert host.run(task, context).result["outcome"] == "succeeded"
    assert (submits(host), cancels(host)) == (2, 1)


def test_a_clear_re_attaches_where_the_user_says_so(host: Any, made: Any) -> None:
    task, context = made("b3os", script="succeeded", seconds=60, deferrable=True, on_clear="reattach"), host.context()
    with pytest.raises(TaskDeferred):
        task.execute(context)
    context["ti"].clear()
    assert host.run(task, context).result["outcome"] == "succeeded"
    assert (submits(host), cancels(host)) == (1, 0)


def test_a_wait_that_timed_out_cancels_and_a_retry_submits_anew(host: Any, made: Any, deferrable: bool) -> None:
    task, context = made("b3os", script="forever", timeout=100, deferrable=deferrable), host.context()
    ended = host.run(task, context)
    assert type(ended.error) is RunTimedOut
    assert not isinstance(ended.error, AirflowFailException)
    assert ended.xcoms["run"]["ended_by"] == "timeout"
    assert cancels(host) == 1
    context["ti"].next_try()
    host.emulator.set_defaults(provider="b3os", script="succeeded")
    assert host.run(task, context).result["outcome"] == "succeeded"
    assert submits(host) == 2


def test_a_retry_after_a_timeout_without_a_cancel_re_attaches_with_a_fresh_deadline(
    host: Any, made: Any, deferrable: bool
) -> None:
    task = made("b3os", seconds=150, timeout=100, cancel_on_timeout=False, deferrable=deferrable)
    context = host.context()
    assert type(host.run(task, context).error) is RunTimedOut
    context["ti"].next_try()
    assert host.run(task, context).result["outcome"] == "succeeded"
    assert (submits(host), cancels(host)) == (1, 0)


def test_a_run_that_somebody_cancelled_is_not_submitted_again(host: Any, made: Any) -> None:
    task, context = made("b3os", script="cancelled"), host.context()
    assert type(host.run(task, context).error) is RunCancelled
    context["ti"].next_try()
    assert type(host.run(task, context).error) is RunCancelled
    assert submits(host) == 1


def test_execution_timeout_while_deferred_ends_the_try_and_cancels_if_asked(host: Any, made: Any) -> None:
    task = made("b3os", script="forever", deferrable=True, execution_timeout=timedelta(seconds=30))
    ended = host.run(task)
    assert type(ended.error) is RunTimedOut
    assert ended.xcoms["run"]["ended_by"] == "execution_timeout"
    assert host.clock.passed == pytest.approx(30, abs=1)
    assert cancels(host) == 1


def test_execution_timeout_during_the_submit_leaves_the_record_for_the_next_try(host: Any, made: Any) -> None:
    task, context = made("nexio"), host.context()
    host.emulator.add_fault(kind="status", status=429, retry_after=20, provider="nexio", action="submit")

    def alarm(seconds: float) -> None:
        raise AirflowTaskTimeout

    host.clock.on_sleep = alarm
    with pytest.raises(AirflowTaskTimeout):
        task.execute(context)
    assert TaskState(context).load()["state"] == "submitting"  # pyright: ignore[reportOptionalSubscript]


def test_a_crashed_trigger_does_not_hide_that_the_run_is_over(host: Any, made: Any) -> None:
    task, context = made("nexio", seconds=30, deferrable=True), host.context()
    with pytest.raises(TaskDeferred):
        task.execute(context)
    host.clock.sleep(60)
    result = task.resume_execution("__fail__", {"error": "Trigger failure"}, context)
    assert result["outcome"] == "succeeded"


def test_a_crashed_trigger_is_followed_by_another_a_few_times_and_never_by_a_second_run(host: Any, made: Any) -> None:
    task, context = made("nexio", script="forever", deferrable=True, retries=1), host.context()
    context["ti"].max_tries = 1
    with pytest.raises(TaskDeferred):
        task.execute(context)
    for _ in range(3):
        with pytest.raises(TaskDeferred) as deferred:
            task.resume_execution("__fail__", {"error": "Trigger failure"}, context)
        assert deferred.value.trigger.serialize()[1]["ref"]["run_id"] == context["ti"].xcoms["run_id"]
    with pytest.raises(TriggerCrashed, match="another try of the task looks at it again") as crashed:
        task.resume_execution("__fail__", {"error": "Trigger failure"}, context)
    assert not isinstance(crashed.value, AirflowFailException)
    context["ti"].next_try()
    with pytest.raises(TaskDeferred):
        task.execute(context)
    with pytest.raises(TaskDeferred):
        task.resume_execution("__fail__", {"error": "Trigger failure"}, context)
    assert (submits(host), cancels(host)) == (1, 0)


def test_without_a_memory_a_crashed_trigger_fails_the_try(host: Any, made: Any) -> None:
    task, context = made("nexio", script="forever", deferrable=True), host.context(store=False)
    with pytest.raises(TaskDeferred):
        task.execute(context)
    with pytest.raises(TriggerCrashed):
        task.resume_execution("__fail__", {"error": "Trigger failure"}, context)
    assert submits(host) == 1


def test_a_conflict_is_retryable_and_names_what_is_active(host: Any, made: Any) -> None:
    active = host.emulator.create_run("nyx", script="forever", parents={"config_name": "nightly"})
    task, context = made("nyx", on_conflict="fail"), host.context()
    ended = host.run(task, context)
    assert type(ended.error) is ConflictError
    assert not isinstance(ended.error, AirflowFailException)
    assert active in str(ended.error)
    assert TaskState(context).load() is None


@pytest.mark.parametrize(
    ("fault", "kind", "final"),
    [
        ({"status": 401}, AuthError, True),
        ({"status": 402}, RequestRefused, True),
        ({"status": 422}, RequestRefused, True),
    ],
)
def test_a_refused_submit_ends_the_task_and_leaves_no_record(
    host: Any, made: Any, fault: dict[str, Any], kind: type[Exception], final: bool
) -> None:
    host.emulator.add_fault(kind="status", provider="nexio", action="submit", **fault)
    task, context = made("nexio"), host.context()
    ended = host.run(task, context)
    assert type(ended.error) is kind
    assert isinstance(ended.error, AirflowFailException) == final
    assert TaskState(context).load() is None


def test_a_service_that_cannot_be_reached_is_retryable_and_starts_nothing(host: Any, made: Any, connect: Any) -> None:
    connect("nexio_gone", "nexio", host="http://127.0.0.1:9")
    ended = host.run(made("nexio", nexio_conn_id="nexio_gone"))
    assert type(ended.error) is ServiceUnavailable
    assert not isinstance(ended.error, AirflowFailException)
    assert submits(host) == 0


@pytest.mark.parametrize(
    ("state", "on_clear", "cancelled"),
    [
        ("failed", "submit", 1),
        ("success", "submit", 1),
        ("restarting", "submit", 1),
        ("running", "submit", 0),
        ("deferred", "submit", 0),
        # A scheduler that gave the worker up sends its task through these to the next try.
        (None, "submit", 0),
        ("scheduled", "submit", 0),
        ("queued", "submit", 0),
        ("up_for_retry", "submit", 0),
        ("failed", "reattach", 1),
        ("restarting", "reattach", 0),
    ],
)
def test_a_kill_cancels_only_when_a_person_killed_the_task(
    host: Any, made: Any, state: str | None, on_clear: Any, cancelled: int
) -> None:
    task, context = (
        made("b3os", script="forever", timeout=60, cancel_on_timeout=False, on_clear=on_clear),
        host.context(),
    )

    def term(seconds: float) -> None:
        host.clock.on_sleep = lambda seconds: None
        context["ti"].state = state
        task.on_kill()

    host.clock.on_sleep = term
    host.run(task, context)
    assert cancels(host) == cancelled


def test_a_run_whose_task_was_cleared_while_running_is_cancelled_and_the_next_try_submits_anew(
    host: Any, made: Any
) -> None:
    task, context = made("b3os", script="forever", timeout=60), host.context()

    def term(seconds: float) -> None:
        context["ti"].state = "restarting"
        task.on_kill()
        raise SystemExit

    host.clock.on_sleep = term
    with pytest.raises(SystemExit):
        task.execute(context)
    host.clock.on_sleep = lambda seconds: None
    context["ti"].next_try()
    context["ti"].state = "running"
    host.emulator.set_defaults(provider="b3os", script="succeeded")
    assert host.run(task, context).result["outcome"] == "succeeded"
    assert (submits(host), cancels(host)) == (2, 1)


def test_a_state_that_cannot_be_read_leaves_the_run_alone(host: Any, made: Any) -> None:
    task, context = made("b3os", script="forever", timeout=60, cancel_on_timeout=False), host.context()

    def unreadable(**asked: Any) -> Any:
        raise ConnectionError("no supervisor")

    context["ti"].get_task_states = unreadable

    def term(seconds: float) -> None:
        host.clock.on_sleep = lambda seconds: None
        task.on_kill()

    host.clock.on_sleep = term
    host.run(task, context)
    assert cancels(host) == 0


def test_without_a_state_store_durable_warns_once_and_the_rest_works(
    host: Any, made: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = host.run(made("nexio"), host.context(store=False))
    assert ended.result["outcome"] == "succeeded"
    assert capsys.readouterr().out.count("durable needs the task state store") == 1


def test_without_durable_each_try_submits(host: Any, made: Any) -> None:
    task, context = made("nexio", durable=False), host.context()
    host.run(task, context)
    context["ti"].next_try()
    host.run(task, context)
    assert submits(host) == 2
    assert not context["task_state_store"].values


def test_a_wrong_argument_is_refused_before_anything_is_sent_and_its_value_is_not_shown(host: Any, made: Any) -> None:
    ended = host.run(made("nexio", input="canary-of-a-payload"))
    assert type(ended.error) is ConfigurationError
    assert "input" in str(ended.error)
    assert "canary-of-a-payload" not in str(ended.error)
    assert not host.emulator.requests()


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"on_outcome": {"finished": "warn"}}, "finished"),
        ({"on_clear": "again"}, "on_clear"),
        ({"timeout": 0}, "timeout"),
        ({"poll_interval": timedelta(0)}, "poll_interval"),
        ({"submit_grace": -1}, "submit_grace"),
    ],
)
def test_what_can_be_wrong_when_the_dag_is_built_is_refused_there(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(RefusedInDag, match=named):
        NexioRunOperator(**cast("dict[str, Any]", {"task_id": "r", "engine_slug": "e", "input": {}, **wrong}))


def test_there_is_no_operator_for_a_provider_without_a_documented_submit() -> None:
    with pytest.raises(NotSupported, match="Nekt"):
        RunOperator(task_id="r", provider="nekt", arguments={})


def test_the_generic_operator_runs_any_provider(host: Any, calls: Any, deferrable: bool) -> None:
    ended = host.run(RunOperator(task_id="r", provider="onepin", arguments=calls["onepin"], deferrable=deferrable))
    assert ended.result["outcome"] == "succeeded"


def test_templates_fill_every_argument(calls: Any) -> None:
    templates: dict[str, Any] = {"config_name": "{{ c }}", "budget_usd": "{{ b }}", "target": {"url": "{{ u }}"}}
    task = NyxRunOperator(task_id="r", **{**calls["nyx"], **templates})
    task.render_template_fields({"c": "weekly", "b": 7, "u": "https://a.example.com"})  # pyright: ignore[reportArgumentType]
    call = task._call()
    assert call.parent == {"config_name": "weekly"}
    assert (call.json or {})["budget_usd"] == 7.0
