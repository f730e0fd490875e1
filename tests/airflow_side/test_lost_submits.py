"""The answer to a submit is lost: the run is looked for, in the triggerer where the task is deferrable, and proven."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.execution_time import task_runner

from runops.airflow import RunOperator
from runops.airflow._compat import AirflowFailException, AirflowTaskTimeout, TaskDeferralError, TaskDeferred
from runops.airflow.exceptions import ConflictError, SubmitUncertainError, SubmitUnconfirmed
from runops.airflow.submission import identity_of
from runops.airflow.trigger import RunTrigger
from runops.core.waiting.intent import new_mark

pytestmark = pytest.mark.promise("the run of a lost submit is looked for, and nothing is submitted twice")


@pytest.fixture(params=[False, True], ids=["worker", "deferrable"])
def deferrable(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture
def made(host: Any, operators: Any, calls: Any) -> Any:
    def make(provider: str = "nyx", *, script: str = "succeeded", hidden: float = 0, **arguments: Any) -> Any:
        host.emulator.set_defaults(provider=provider, script=script, seconds=500, hidden_seconds=hidden)
        return operators[provider](task_id="a_task", **{**calls[provider], **arguments})

    return make


def lose(host: Any, provider: str = "nyx", when: str = "after", **more: Any) -> None:
    host.emulator.add_fault(kind="reset", provider=provider, action="submit", when=when, **more)


def submits(host: Any) -> int:
    return len(host.emulator.requests(action="submit"))


def runs(host: Any, provider: str = "nyx") -> list[str]:
    return [run["run_id"] for run in host.emulator.runs(provider=provider)]


@pytest.mark.parametrize("hidden", [0, 40, 120, 290])
def test_a_run_that_shows_up_late_is_found_and_waited_for(
    host: Any, made: Any, deferrable: bool, hidden: float
) -> None:
    lose(host)
    ended = host.run(made(deferrable=deferrable, hidden=hidden))
    assert [ended.result["run_id"]] == runs(host)
    assert ended.result["outcome"] == "succeeded"
    assert submits(host) == 1
    looked_for = [deferral.trigger.lost is not None for deferral in ended.deferrals]
    # A run that the first seconds show needs no triggerer; any other is looked for there, and then followed there.
    assert looked_for == ([] if not deferrable else [False] if hidden == 0 else [True, False])


def test_what_the_triggerer_gets_holds_the_mark_and_nothing_of_the_payload(host: Any, made: Any) -> None:
    lose(host)
    with pytest.raises(TaskDeferred) as deferred:
        made(deferrable=True, hidden=40).execute(host.context())
    trigger: Any = deferred.value.trigger
    kept = json.dumps(trigger.serialize())
    assert trigger.lost["intent"]["mark"] in kept
    for field in ("name", "objective", "severity_target"):
        assert str(host.emulator.runs(provider="nyx")[0]["body"][field]) not in kept


def test_the_mark_begins_with_who_submits(host: Any, made: Any) -> None:
    context = host.context()
    ended = host.run(made(), context)
    name = host.emulator.runs(provider="nyx")[0]["body"]["name"]
    assert name.rpartition(" ")[2][:8] == new_mark(identity_of(context))[:8]
    assert ended.result["details"]["name"] == name


@pytest.mark.parametrize("how", ["task", "connection"])
def test_no_mark_is_sent_where_the_user_wants_none(host: Any, made: Any, connect: Any, served: Any, how: str) -> None:
    if how == "connection":
        connect("nyx_default", "nyx", host=served.base_url("nyx"), extra=json.dumps({"mark_runs": "false"}))
        host.run(made())
    else:
        host.run(made(mark_runs=False))
    assert host.emulator.runs(provider="nyx")[0]["body"]["name"] == "Nightly audit"


def test_without_a_mark_a_lost_submit_is_uncertain_and_final(host: Any, made: Any, deferrable: bool) -> None:
    lose(host)
    ended = host.run(made(deferrable=deferrable, mark_runs=False))
    assert type(ended.error) is SubmitUncertainError
    assert isinstance(ended.error, AirflowFailException)
    assert submits(host) == 1


@pytest.mark.parametrize("provider", ["onepin", "b3os"])
def test_a_single_new_run_is_taken_up_where_the_user_says_so(
    host: Any, made: Any, deferrable: bool, provider: str
) -> None:
    lose(host, provider)
    ended = host.run(made(provider, deferrable=deferrable, adopt_uncertain=True))
    assert [ended.result["run_id"]] == runs(host, provider)
    assert ended.result["outcome"] == "succeeded"
    # Until the grace is over a second new run could have shown up.
    assert host.clock.passed > 300


def test_a_submit_that_was_never_carried_out_is_sent_once_more(host: Any, made: Any, deferrable: bool) -> None:
    lose(host, when="before")
    ended = host.run(made(deferrable=deferrable))
    assert [ended.result["run_id"]] == runs(host)
    assert submits(host) == 2
    assert host.clock.passed > 300


def test_a_list_that_stays_away_makes_a_retry_look_again_and_send_nothing(
    host: Any, made: Any, deferrable: bool
) -> None:
    task, context = made(deferrable=deferrable), host.context()
    lose(host)
    host.emulator.add_fault(kind="status", status=500, provider="nyx", method="GET", skip=1, count=None)
    ended = host.run(task, context)
    assert type(ended.error) is SubmitUnconfirmed
    assert not isinstance(ended.error, AirflowFailException)
    context["ti"].next_try()
    host.clock.sleep(600)
    host.emulator.reset(["faults"])
    ended = host.run(task, context)
    assert [ended.result["run_id"]] == runs(host)
    assert submits(host) == 1


def test_a_crash_of_the_trigger_leaves_the_look_to_the_worker(host: Any, made: Any) -> None:
    task, context = made(deferrable=True, hidden=40), host.context()
    lose(host)
    with pytest.raises(TaskDeferred):
        task.execute(context)
    host.clock.sleep(60)

    def crash(*_: Any, **__: Any) -> Any:
        raise TaskDeferralError("Trigger failure")

    task.execute_complete = crash
    with pytest.raises(TaskDeferred) as again:
        task.resume_execution("execute_complete", {}, context)
    assert again.value.trigger.ref["run_id"] in runs(host)
    assert submits(host) == 1


@pytest.mark.parametrize("store", [True, False], ids=["3.3", "below 3.3"])
def test_the_search_needs_no_memory(host: Any, made: Any, store: bool) -> None:
    lose(host, when="before")
    task, context = made(deferrable=True), host.context(store=store)
    ended = host.run(task, context)
    assert [ended.result["run_id"]] == runs(host)
    assert submits(host) == 2


def test_a_retry_that_meets_a_deferral_goes_on_looking_for_what_is_left_of_the_grace(host: Any, made: Any) -> None:
    task, context = made(deferrable=True, hidden=250), host.context()
    lose(host)
    with pytest.raises(TaskDeferred):
        task.execute(context)
    host.clock.sleep(100)
    context["ti"].next_try()
    ended = host.run(task, context)
    assert [ended.result["run_id"]] == runs(host)
    assert submits(host) == 1


def test_a_strangers_run_stands_in_the_way_and_is_never_taken_or_cancelled(
    host: Any, made: Any, deferrable: bool, calls: Any
) -> None:
    """B's run of the same config, name and budget appears while A looks for its own."""
    lose(host, when="before")
    same = {"name": calls["nyx"]["name"], "budget_usd": calls["nyx"]["budget_usd"]}
    theirs: list[str] = []
    host.clock.on_sleep = lambda _: (
        theirs
        or theirs.append(
            host.emulator.create_run(
                "nyx", script="forever", parents={"config_name": calls["nyx"]["config_name"]}, fields=same
            )
        )
    )
    ended = host.run(made(deferrable=deferrable, on_conflict="fail"))
    assert type(ended.error) is ConflictError
    assert theirs[0] in str(ended.error)
    assert runs(host) == theirs
    assert host.emulator.requests(action="cancel") == []


# --- killed while it is looked for -----------------------------------------------------------------------------------


def killed(monkeypatch: pytest.MonkeyPatch, trigger: Any, state: str) -> None:
    class Triggerer:
        async def asend(self, asked: Any) -> Any:
            return SimpleNamespace(task_states={"a_run": {"a_task": state}})

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Triggerer(), raising=False)
    trigger.task_instance = SimpleNamespace(dag_id="a_dag", task_id="a_task", run_id="a_run", map_index=-1)
    asyncio.run(trigger.on_kill())


@pytest.mark.parametrize(("state", "cancels"), [("failed", 1), ("success", 1), ("deferred", 0), ("running", 0)])
def test_a_person_who_kills_the_search_has_the_run_cancelled_that_bears_the_mark(
    host: Any, made: Any, monkeypatch: pytest.MonkeyPatch, state: str, cancels: int
) -> None:
    lose(host)
    with pytest.raises(TaskDeferred) as deferred:
        made(deferrable=True, hidden=20, script="forever").execute(host.context())
    host.clock.sleep(30)
    killed(monkeypatch, deferred.value.trigger, state)
    assert [entry["run_id"] for entry in host.emulator.requests(action="cancel")] == runs(host)[:cancels]


@pytest.mark.parametrize("provider", ["onepin", "b3os"])
def test_a_person_who_kills_the_search_has_nobody_elses_run_cancelled(
    host: Any, made: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], provider: str
) -> None:
    lose(host, provider)
    with pytest.raises(TaskDeferred) as deferred:
        made(provider, deferrable=True, script="forever", adopt_uncertain=True).execute(host.context())
    killed(monkeypatch, deferred.value.trigger, "failed")
    assert host.emulator.requests(action="cancel") == []
    assert "may yet show up" in capsys.readouterr().out


@pytest.mark.parametrize(("state", "cancels"), [("failed", 1), ("restarting", 1), ("up_for_retry", 0)])
def test_a_worker_that_is_killed_while_it_looks_cancels_the_run_that_bears_the_mark(
    host: Any, made: Any, state: str, cancels: int
) -> None:
    lose(host)
    task, context = made(hidden=40, script="forever"), host.context()

    def kill(seconds: float) -> None:
        if seconds == 8:
            host.clock.on_sleep = lambda seconds: None
            host.clock.now += 60
            context["ti"].state = state
            task.on_kill()
            raise AirflowTaskTimeout("the signal that ends the process")

    host.clock.on_sleep = kill
    with pytest.raises(AirflowTaskTimeout):
        task.execute(context)
    assert len(host.emulator.requests(action="cancel")) == cancels


def test_a_task_that_was_cleared_while_it_looked_submits_anew_and_leaves_nothing_running(host: Any, made: Any) -> None:
    """A clear of a running task leaves max_tries alone: what tells it from a retry is the record of the kill."""
    lose(host)
    task, context = made(hidden=40, script="forever"), host.context()

    def kill(seconds: float) -> None:
        if seconds == 8:
            host.clock.on_sleep = lambda seconds: None
            host.clock.now += 60
            context["ti"].state = "restarting"
            task.on_kill()
            raise AirflowTaskTimeout("the signal that ends the process")

    host.clock.on_sleep = kill
    with pytest.raises(AirflowTaskTimeout):
        task.execute(context)
    context["ti"].next_try()
    host.emulator.set_defaults(provider="nyx", script="succeeded", seconds=50, hidden_seconds=0)
    ended = host.run(task, context)
    first, second = runs(host)
    assert ended.result["run_id"] == second
    assert [entry["run_id"] for entry in host.emulator.requests(action="cancel")] == [first]


def test_rows_of_a_trigger_without_a_lost_submit_are_as_they_were(host: Any) -> None:
    trigger = RunTrigger(provider="nyx", patience={"deadline": 1.0})
    assert "lost" not in trigger.serialize()[1]


def test_a_provider_from_elsewhere_takes_the_same_arguments(host: Any, calls: Any) -> None:
    lose(host)
    task = RunOperator(task_id="a_task", provider="nyx", arguments=calls["nyx"], submit_grace=60, mark_runs=True)
    host.emulator.set_defaults(provider="nyx", script="succeeded", seconds=50, hidden_seconds=50)
    assert host.run(task).result["outcome"] == "succeeded"
    assert submits(host) == 1
