"""A try that dies at any moment: the next one finds its run, or says that it cannot tell; none starts a second one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.execution_time import task_runner

from runops.airflow import tasks, verdicts
from runops.airflow._compat import TaskDeferred
from runops.airflow.exceptions import SubmitUncertainError
from runops.airflow.task_state import TaskState
from runops.core import RunClient

PROVIDERS = ("nexio", "nyx", "onepin", "b3os")
MARKED = "nyx"
"""Its runs show the mark of the submit, which proves whose they are."""


class Killed(BaseException):
    """As SIGKILL: nothing of ours sees it coming."""


def die(*_: Any, **__: Any) -> Any:
    raise Killed


def before_the_post(monkeypatch: pytest.MonkeyPatch) -> None:
    send = RunClient._send

    def sends(self: RunClient, effect: Any) -> Any:
        return die() if effect.request.method == "POST" else send(self, effect)

    monkeypatch.setattr(RunClient, "_send", sends)


def during_the_post(monkeypatch: pytest.MonkeyPatch) -> None:
    send = RunClient._send

    def sends(self: RunClient, effect: Any) -> Any:
        answer = send(self, effect)
        return die() if effect.request.method == "POST" else answer

    monkeypatch.setattr(RunClient, "_send", sends)


def between_the_answer_and_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    save = TaskState.save

    def saves(self: TaskState, **record: Any) -> None:
        return die() if record.get("state") == "submitted" else save(self, **record)

    monkeypatch.setattr(TaskState, "save", saves)


def before_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.RunWaiting, "_await_run", die)


def before_the_deferral(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.RunWaiting, "_defer", die)


def during_the_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdicts, "xcoms_of", die)


BEFORE_THE_RECORD: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "before the POST": before_the_post,
    "during the POST": during_the_post,
    "between the answer and the record": between_the_answer_and_the_record,
}
AFTER_THE_RECORD: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "before the wait": before_the_wait,
    "before the deferral": before_the_deferral,
    "while deferred": lambda monkeypatch: None,
    "during the resume": during_the_resume,
}


@pytest.fixture
def made(host: Any, operators: Any, calls: Any) -> Callable[..., Any]:
    def make(provider: str, **arguments: Any) -> Any:
        host.emulator.set_defaults(provider=provider, script="succeeded", seconds=60)
        return operators[provider](task_id="a_task", **calls[provider], **arguments)

    return make


def killed_at(moment: Callable[[pytest.MonkeyPatch], None], task: Any, context: Any, host: Any) -> None:
    """A first try that dies at a moment; Airflow then begins the next one."""
    with pytest.MonkeyPatch.context() as patch:
        if moment is not during_the_resume:
            moment(patch)
        try:
            task.execute(context)
        except TaskDeferred as deferred:
            if moment is during_the_resume:
                event = host.fired(deferred)
                moment(patch)
                with pytest.raises(Killed):
                    task.resume_execution(deferred.method_name, {"event": event}, context)
        except Killed:
            pass
    context["ti"].next_try()


@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferrable"])
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("moment", BEFORE_THE_RECORD)
def test_killed_before_its_record_a_try_is_found_by_the_list_or_uncertain(
    host: Any, made: Any, provider: str, moment: str, deferrable: bool
) -> None:
    task, context = made(provider, deferrable=deferrable), host.context()
    killed_at(BEFORE_THE_RECORD[moment], task, context, host)
    alive = [run["run_id"] for run in host.emulator.runs(provider=provider)]
    assert len(alive) == (0 if moment == "before the POST" else 1)
    ended = host.run(task, context)
    now = [run["run_id"] for run in host.emulator.runs(provider=provider)]
    if provider == MARKED:
        # Where nothing was started, the provider shows it, and the one submit is sent by the second try.
        assert ended.result["run_id"] == now[0]
        assert ended.result["outcome"] == "succeeded"
        assert len(now) == 1
        assert len(host.emulator.requests(action="submit")) == 1
    else:
        assert type(ended.error) is SubmitUncertainError
        assert now == alive


@pytest.mark.parametrize("moment", BEFORE_THE_RECORD)
def test_killed_before_its_record_a_try_without_a_mark_sends_nothing_more_and_takes_nobody_elses_run(
    host: Any, made: Any, moment: str
) -> None:
    task, context = made(MARKED, deferrable=True, mark_runs=False), host.context()
    killed_at(BEFORE_THE_RECORD[moment], task, context, host)
    alive = [run["run_id"] for run in host.emulator.runs(provider=MARKED)]
    assert type(host.run(task, context).error) is SubmitUncertainError
    assert [run["run_id"] for run in host.emulator.runs(provider=MARKED)] == alive
    assert host.emulator.requests(action="cancel") == []


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("moment", AFTER_THE_RECORD)
def test_killed_after_its_record_a_try_is_taken_up(host: Any, made: Any, provider: str, moment: str) -> None:
    task, context = made(provider, deferrable=True), host.context()
    killed_at(AFTER_THE_RECORD[moment], task, context, host)
    (first,) = [run["run_id"] for run in host.emulator.runs(provider=provider)]
    ended = host.run(task, context)
    assert ended.result["run_id"] == first
    assert ended.result["outcome"] == "succeeded"
    assert len(host.emulator.requests(action="submit")) == 1
    assert host.emulator.requests(action="cancel") == []


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_series_of_deaths_leads_to_one_run(host: Any, made: Any, provider: str) -> None:
    task, context = made(provider, deferrable=True), host.context()
    for moment in AFTER_THE_RECORD.values():
        killed_at(moment, task, context, host)
    assert host.run(task, context).result["outcome"] == "succeeded"
    assert len(host.emulator.requests(action="submit")) == 1


def test_a_clear_whose_next_try_has_deferred_already_cancels_the_run_of_before_and_no_other(
    host: Any, made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, context = made("b3os", deferrable=True), host.context()
    with pytest.raises(TaskDeferred) as before:
        task.execute(context)
    first = context["ti"].xcoms["run_id"]
    context["ti"].clear()
    with pytest.raises(TaskDeferred):
        task.execute(context)
    (cancelled,) = host.emulator.requests(action="cancel")
    assert cancelled["run_id"] == first

    class Triggerer:
        async def asend(self, asked: Any) -> Any:
            return SimpleNamespace(task_states={"a_run": {"a_task": "deferred"}})

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Triggerer(), raising=False)
    trigger: Any = before.value.trigger
    trigger.task_instance = SimpleNamespace(dag_id="a_dag", task_id="a_task", run_id="a_run", map_index=-1)
    asyncio.run(trigger.on_kill())
    assert len(host.emulator.requests(action="cancel")) == 1


@pytest.mark.parametrize("state", ["deferred", "up for retry", "finished", "failed"])
def test_a_clear_submits_anew_from_every_state_and_leaves_nothing_running(host: Any, made: Any, state: str) -> None:
    task, context = made("b3os", deferrable=True), host.context()
    if state == "finished":
        host.run(task, context)
    elif state == "failed":
        host.emulator.set_defaults(provider="b3os", script="failed", seconds=5)
        host.run(task, context)
        host.emulator.set_defaults(provider="b3os", script="succeeded", seconds=60)
    else:
        killed_at(
            AFTER_THE_RECORD["before the wait" if state == "up for retry" else "while deferred"], task, context, host
        )
    (first,) = [run["run_id"] for run in host.emulator.runs(provider="b3os")]
    context["ti"].clear()
    ended = host.run(task, context)
    assert ended.result["run_id"] != first
    assert len(host.emulator.requests(action="submit")) == 2
    left_running = [run for run in host.emulator.runs(provider="b3os") if not run["over"]]
    assert left_running == []
