"""``cancel_on_failure``: a task that ends for good cancels the run that it leaves, and no run that a retry takes up."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, get_args
from uuid import uuid4

import pytest
import structlog
from airflow.utils.state import TaskInstanceState

from runops.airflow import own_run
from runops.airflow._compat import AirflowFailException, AirflowTaskTimeout, TaskDeferred, has_task_state_store
from runops.airflow.exceptions import (
    AuthError,
    PollingError,
    RunTimedOut,
    SubmitUncertainError,
    SubmitUnconfirmed,
    TriggerCrashed,
    UnknownStateError,
)
from runops.airflow.records import SUBMITTED_RUN
from runops.airflow.submitting import cancel_left_run
from tests.services import SUBMITTING

pytestmark = pytest.mark.promise(
    "`cancel_on_failure`, after each kind of failure, in each mode, with and without a try left"
)

CANCELLING = [name for name in SUBMITTING if name != "nexio"]
needs_a_store = pytest.mark.skipif(not has_task_state_store(), reason="each try is the last that knows of its run")


@pytest.fixture(params=[False, True], ids=["worker", "deferrable"])
def deferrable(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture
def made(host: Any, operators: Any, calls: Any) -> Any:
    def make(provider: str = "b3os", *, script: str = "forever", **arguments: Any) -> Any:
        host.emulator.set_defaults(provider=provider, script=script, seconds=300)
        settings = {"cancel_on_failure": True, "cancel_on_timeout": False, "error_budget": 60, **arguments}
        return operators[provider](task_id="a_task", **{**calls[provider], **settings})

    return make


def ends(task: Any, context: Any, error: BaseException | None, *, tries_left: bool = False) -> None:
    """What Airflow does after a failed try: an ``AirflowFailException`` has no other one after it."""
    assert error is not None
    final = isinstance(error, AirflowFailException) or not tries_left
    for callback in task.on_failure_callback if final else task.on_retry_callback:
        callback({**context, "task": task})


def cancels(host: Any) -> int:
    return len(host.emulator.requests(action="cancel"))


def the_run(host: Any, provider: str = "b3os") -> Any:
    (run,) = host.emulator.runs(provider=provider)
    return run


# --- each way to fail, in each mode ---------------------------------------------------------------------------------


def reads_fail(host: Any, task: Any, context: Any) -> BaseException | None:
    host.emulator.add_fault(kind="status", status=503, action="get", provider="b3os", skip=1, count=None)
    return host.run(task, context).error


def key_may_not_read(host: Any, task: Any, context: Any) -> BaseException | None:
    host.emulator.add_fault(kind="status", status=403, action="get", provider="b3os")
    return host.run(task, context).error


def unknown_end(host: Any, task: Any, context: Any) -> BaseException | None:
    host.emulator.set_defaults(provider="b3os", script="unknown_word_ended", seconds=300)
    return host.run(task, context).error


def its_time_is_over(host: Any, task: Any, context: Any) -> BaseException | None:
    task.timeout = 100
    return host.run(task, context).error


def airflows_time_is_over(host: Any, task: Any, context: Any) -> BaseException | None:
    task.execution_timeout = timedelta(seconds=100)
    if not task.deferrable:

        def strike(seconds: float) -> None:
            if host.clock.passed > 100:
                host.clock.on_sleep = lambda seconds: None
                raise AirflowTaskTimeout

        host.clock.on_sleep = strike
    return host.run(task, context).error


def trigger_breaks(host: Any, task: Any, context: Any) -> BaseException | None:
    context.pop("task_state_store", None)
    _waits(host, task, context)
    with pytest.raises(TriggerCrashed) as crashed:
        task.resume_execution("__fail__", {"error": "Trigger failure"}, context)
    return crashed.value


def user_s_code_raises(host: Any, task: Any, context: Any) -> BaseException | None:
    """A template, a callback or a hook of the user's, after the submit."""
    _waits(host, task, context)
    return RuntimeError("a template of the resumed task")


def _waits(host: Any, task: Any, context: Any) -> None:
    def die(seconds: float) -> None:
        raise SystemExit

    host.clock.on_sleep = die
    with pytest.raises((SystemExit, TaskDeferred)):
        task.execute(context)
    host.clock.on_sleep = lambda seconds: None


WAYS: dict[str, tuple[Callable[..., BaseException | None], type[BaseException]]] = {
    "PollingError": (reads_fail, PollingError),
    "AuthError": (key_may_not_read, AuthError),
    "UnknownStateError": (unknown_end, UnknownStateError),
    "timeout": (its_time_is_over, RunTimedOut),
    "execution_timeout": (airflows_time_is_over, RunTimedOut),
    "TriggerCrashed": (trigger_breaks, TriggerCrashed),
    "code of the user": (user_s_code_raises, RuntimeError),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_task_that_fails_for_good_cancels_its_run(host: Any, made: Any, deferrable: bool, way: str) -> None:
    fail, kind = WAYS[way]
    task, context = made(deferrable=deferrable), host.context()
    error = fail(host, task, context)
    assert isinstance(error, kind)
    assert cancels(host) == 0
    ends(task, context, error)
    assert (cancels(host), len(host.emulator.runs(provider="b3os"))) == (1, 1)


@needs_a_store
@pytest.mark.parametrize("way", [way for way, (_, kind) in WAYS.items() if not issubclass(kind, AirflowFailException)])
def test_a_run_that_a_retry_takes_up_is_left_alone(host: Any, made: Any, deferrable: bool, way: str) -> None:
    task, context = made(deferrable=deferrable, retries=1), host.context()
    ends(task, context, WAYS[way][0](host, task, context), tries_left=True)
    assert cancels(host) == 0


@pytest.mark.parametrize("way", WAYS)
def test_without_the_setting_nothing_is_cancelled(host: Any, made: Any, deferrable: bool, way: str) -> None:
    task, context = made(deferrable=deferrable, cancel_on_failure=False), host.context()
    ends(task, context, WAYS[way][0](host, task, context))
    assert cancels(host) == 0


@pytest.mark.parametrize("provider", CANCELLING)
def test_every_provider_that_can_cancel_is_cancelled(host: Any, made: Any, deferrable: bool, provider: str) -> None:
    task, context = made(provider, deferrable=deferrable, timeout=50), host.context()
    ends(task, context, host.run(task, context).error)
    assert cancels(host) == 1


@pytest.mark.parametrize(
    "error", [AirflowFailException("a callback's"), ValueError("a template's")], ids=["fail", "any"]
)
@pytest.mark.parametrize("tries_left", [False, True])
def test_an_airflow_fail_exception_ends_the_task_whatever_tries_are_left(
    host: Any, made: Any, error: Exception, tries_left: bool
) -> None:
    task, context = made(), host.context()
    _waits(host, task, context)
    ends(task, context, error, tries_left=tries_left)
    last = isinstance(error, AirflowFailException) or not tries_left or not has_task_state_store()
    assert cancels(host) == int(last)


# --- what there is to cancel ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", ["failed", "cancelled"])
def test_a_run_that_is_over_is_asked_for_nothing_more(host: Any, made: Any, deferrable: bool, script: str) -> None:
    task, context = made(script=script, deferrable=deferrable), host.context()
    error = host.run(task, context).error
    before = len(host.emulator.requests())
    ends(task, context, error)
    assert len(host.emulator.requests()) == before


@pytest.mark.parametrize("provider", CANCELLING)
def test_a_process_that_knows_nothing_finds_the_run_in_what_the_task_has_pushed(
    host: Any, made: Any, provider: str
) -> None:
    # The DAG processor: no store, no rendered templates, another connection in the unrendered field.
    context = host.context()
    _waits(host, made(provider), context)
    context.pop("task_state_store")
    named = {"onepin": {"workflow_id": "{{ params.w }}"}}.get(provider, {})
    cancel_left_run({**context, "task": made(provider, **named, **{f"{provider}_conn_id": "{{ params.c }}"})})
    assert cancels(host) == 1


def test_a_process_that_does_not_run_the_task_asks_no_store_that_nobody_answers_for(host: Any, made: Any) -> None:
    class NoStore:
        def get(self, key: str) -> Any:
            raise AssertionError("the DAG processor would wait for ever")

        set = get

    context = host.context()
    _waits(host, made(), context)
    cancel_left_run({**context, "task_state_store": NoStore(), "task": made()})
    assert cancels(host) == 1


def test_the_dag_processor_cancels_by_what_it_can_ask_for(
    host: Any, made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.api_fastapi.execution_api.datamodels.taskinstance import TaskInstance
    from airflow.callbacks.callback_requests import TaskCallbackRequest
    from airflow.dag_processing import processor
    from airflow.sdk import DAG
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.comms import GetXCom, XComResult

    context = host.context()
    _waits(host, made(), context)
    asked: list[type] = []

    class Comms:
        def send(self, msg: Any) -> Any:
            asked.append(type(msg))
            if isinstance(msg, GetXCom):
                return XComResult(key=msg.key, value=context["ti"].xcoms.get(msg.key))
            return None

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Comms(), raising=False)
    with DAG("a_dag", schedule=None) as dag:
        made()
    names = {"task_id": "a_task", "dag_id": "a_dag", "run_id": "a_run", "try_number": 1, "map_index": -1}
    ti = TaskInstance(id=uuid4(), dag_version_id=uuid4(), **names)
    told = {"filepath": "a.py", "bundle_name": "b", "bundle_version": None, "msg": "the worker is gone"}
    request = TaskCallbackRequest(ti=ti, task_callback_type=TaskInstanceState.FAILED, **told)
    processor._execute_task_callbacks(SimpleNamespace(dags={"a_dag": dag}), request, structlog.get_logger())  # pyright: ignore[reportArgumentType]
    assert cancels(host) == 1
    # To any other question there would be no answer.
    answered = get_args(get_args(processor.ToManager)[0])
    assert asked
    assert set(asked) <= set(answered)


@needs_a_store
def test_the_run_of_an_earlier_try_is_cancelled_too(host: Any, made: Any) -> None:
    context = host.context()
    ends(task := made(retries=1), context, reads_fail(host, task, context), tries_left=True)
    assert cancels(host) == 0
    context["ti"].next_try()
    # The last try does not even get to its execute.
    task = made()
    task.before_rendering()
    ends(task, context, RuntimeError("a template"))
    assert cancels(host) == 1


def test_a_task_that_submitted_nothing_has_nothing_to_cancel(
    host: Any, made: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    host.emulator.add_fault(kind="status", status=422, action="submit", provider="b3os")
    task, context = made(), host.context()
    ends(task, context, host.run(task, context).error)
    assert host.emulator.requests(action="cancel") == host.emulator.requests(action="get") == []
    assert "There is no run of this task to cancel" in capsys.readouterr().out


def test_a_submit_that_nothing_can_prove_is_cancelled_by_nobody_and_that_is_said(
    host: Any, made: Any, deferrable: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    host.emulator.add_fault(kind="reset", provider="onepin", action="submit", when="after")
    task, context = made("onepin", deferrable=deferrable), host.context()
    error = host.run(task, context).error
    assert type(error) is SubmitUncertainError
    ends(task, context, error)
    assert cancels(host) == 0
    assert "could not be cancelled and may go on" in capsys.readouterr().out


def test_the_run_of_a_lost_submit_is_cancelled_where_a_last_look_shows_its_mark(
    host: Any, made: Any, deferrable: bool
) -> None:
    host.emulator.add_fault(kind="reset", provider="nyx", action="submit", when="after")
    host.emulator.add_fault(kind="status", status=500, provider="nyx", method="GET", skip=1, count=None)
    task, context = made("nyx", deferrable=deferrable), host.context()
    error = host.run(task, context).error
    assert type(error) is SubmitUnconfirmed
    host.emulator.reset(["faults"])
    ends(task, context, error)
    (request,) = host.emulator.requests(action="cancel")
    assert the_run(host, "nyx")["run_id"] in request["path"]


@needs_a_store
def test_the_run_of_a_lost_submit_is_looked_for_where_it_was_submitted(host: Any, made: Any) -> None:
    # The last try names another parent, and does not even get to its execute.
    host.emulator.add_fault(kind="reset", provider="nyx", action="submit", when="after")
    host.emulator.add_fault(kind="status", status=500, provider="nyx", method="GET", skip=1, count=None)
    context = host.context()
    assert type(host.run(made("nyx", retries=1), context).error) is SubmitUnconfirmed
    host.emulator.reset(["faults"])
    context["ti"].next_try()
    task = made("nyx", config_name="another")
    task.before_rendering()
    ends(task, context, RuntimeError("a template"))
    (request,) = host.emulator.requests(action="cancel")
    assert the_run(host, "nyx")["run_id"] in request["path"]


# --- where it cannot be done ----------------------------------------------------------------------------------------


def test_a_refused_key_cannot_cancel_and_that_is_said(
    host: Any, made: Any, deferrable: bool, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    host.emulator.add_fault(kind="status", status=401, provider="b3os", action="get")
    host.emulator.add_fault(kind="status", status=401, provider="b3os", action="cancel")
    task, context = made(deferrable=deferrable), host.context()
    error = host.run(task, context).error
    assert isinstance(error, AuthError)
    ends(task, context, error)
    written = capsys.readouterr().out
    assert f"{the_run(host)['run_id']} could not be cancelled and may go on" in written
    assert "401" in written
    assert "runops orphans" in written
    assert key not in written


def test_a_service_that_does_not_answer_holds_up_nobody(
    host: Any, made: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(own_run, "LEAVE_SECONDS", 0.3)
    task, context = made(), host.context()
    _waits(host, task, context)
    host.emulator.add_fault(kind="delay", seconds=1.5, provider="b3os", action="get")
    ends(task, context, RuntimeError())
    assert "Whether b3os run" in capsys.readouterr().out


def test_a_provider_without_a_cancel_says_so(host: Any, made: Any, capsys: pytest.CaptureFixture[str]) -> None:
    task, context = made("nexio"), host.context()
    _waits(host, task, context)
    ends(task, context, RuntimeError())
    assert "Nexio documents no way to cancel a run" in capsys.readouterr().out


# --- tries that know of no other ------------------------------------------------------------------------------------


@pytest.mark.parametrize("tries_left", [False, True])
def test_a_task_that_remembers_nothing_cancels_after_each_try(
    host: Any, made: Any, deferrable: bool, tries_left: bool
) -> None:
    task, context = made(durable=False, deferrable=deferrable, timeout=100, retries=1), host.context()
    ends(task, context, host.run(task, context).error, tries_left=tries_left)
    assert cancels(host) == 1


# --- beside what a user has -----------------------------------------------------------------------------------------


def test_a_user_s_own_callbacks_are_called_first(made: Any) -> None:
    def own(context: Any) -> None: ...

    assert list(made(on_failure_callback=own).on_failure_callback) == [own, cancel_left_run]
    assert list(made(on_failure_callback=[own]).on_failure_callback) == [own, cancel_left_run]
    assert list(made(cancel_on_failure=False, on_failure_callback=own).on_failure_callback) == [own]


def test_what_is_pushed_for_it_is_the_address_and_the_name_of_the_connection(host: Any, made: Any, key: str) -> None:
    context = host.context()
    _waits(host, made("onepin"), context)
    pushed = context["ti"].xcoms[SUBMITTED_RUN]
    assert set(pushed) == {"provider", "ref", "conn_id", "waits"}
    assert pushed["conn_id"] == "onepin_default"
    assert key not in json.dumps(pushed)


def test_the_callback_is_given_the_task_that_was_rendered() -> None:
    called: list[Any] = []
    context = {"task": SimpleNamespace(leave_nothing=called.append)}
    cancel_left_run(context)
    assert called == [context]


def test_a_run_that_was_attached_to_is_never_cancelled(host: Any, made: Any, deferrable: bool) -> None:
    theirs = host.emulator.create_run("nyx", script="forever", parents={"config_name": "nightly"})
    task, context = made("nyx", on_conflict="attach", timeout=100, deferrable=deferrable), host.context()
    ended = host.run(task, context)
    assert ended.xcoms["run_id"] == theirs
    ends(task, context, ended.error)
    cancel_left_run({**context, "task": made("nyx", on_conflict="attach")})
    assert cancels(host) == 0


def before(count: int) -> list[dict[str, Any]]:
    """What a record names of so many runs whose end nobody has seen."""
    refs = [{"provider": "b3os", "parents": {}, "run_id": f"r{n}"} for n in range(count)]
    return [{"state": "submitted", "provider": "b3os", "ref": ref} for ref in refs]


@needs_a_store
def test_a_record_names_the_newest_twenty_runs_of_before(host: Any, made: Any) -> None:
    context = host.context()
    context["task_state_store"].set("runops", {"version": 1, "state": "refused", "left": before(25)})
    host.run(made(timeout=100), context)
    assert context["task_state_store"].get("runops")["left"] == before(25)[5:]


@needs_a_store
def test_a_refused_submit_leaves_nothing_in_the_record_but_the_runs_of_before(host: Any, made: Any) -> None:
    context = host.context()
    context["task_state_store"].set("runops", {"version": 1, "state": "refused", "left": before(2)})
    host.emulator.add_fault(kind="status", status=422, action="submit", provider="b3os")
    assert host.run(made(), context).error is not None
    kept = context["task_state_store"].get("runops")
    assert kept == {"version": 1, "generation": kept["generation"], "state": "refused", "left": before(2)}
