"""A task of which Airflow remembers nothing: its run is found by its mark, or nothing is sent while it may live."""

from __future__ import annotations

from typing import Any

import pytest

from runops.airflow import forgotten
from runops.airflow._compat import TaskDeferred, has_task_state_store
from runops.airflow.exceptions import ConflictError, SubmitUncertainError, SubmitUnconfirmed

pytestmark = pytest.mark.promise(
    "a task of which Airflow remembers nothing finds its run, or sends nothing while it may live"
)

needs_a_store = pytest.mark.skipif(not has_task_state_store(), reason="nothing is remembered that could be discarded")


@pytest.fixture(autouse=True)
def discarding(monkeypatch: pytest.MonkeyPatch) -> None:
    """An Airflow that forgets on clear, as 3.4 does."""
    monkeypatch.setattr(forgotten, "discards_on_clear", lambda: True)


@pytest.fixture(params=[False, True], ids=["worker", "deferrable"])
def deferrable(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture
def made(host: Any, operators: Any, calls: Any) -> Any:
    def make(provider: str, *, script: str = "forever", **arguments: Any) -> Any:
        host.emulator.set_defaults(provider=provider, script=script, seconds=600)
        settings = {"timeout": 100, "cancel_on_timeout": False, "on_clear": "reattach", **arguments}
        return operators[provider](task_id="a_task", **{**calls[provider], **settings})

    return make


def leaves_a_run(host: Any, task: Any, context: Any) -> str:
    """A try that submits and dies."""

    def die(seconds: float) -> None:
        raise SystemExit

    host.clock.on_sleep = die
    with pytest.raises((SystemExit, TaskDeferred)):
        task.execute(context)
    host.clock.on_sleep = lambda seconds: None
    return context["ti"].xcoms["run_id"]


def cleared(context: Any) -> None:
    """A person's clear that discards what the task remembers."""
    context["ti"].clear()
    context["task_state_store"].values.clear()


def submits(host: Any) -> int:
    return len(host.emulator.requests(action="submit"))


def cancels(host: Any) -> list[str]:
    return [request["path"] for request in host.emulator.requests(action="cancel")]


# --- on_clear="reattach" --------------------------------------------------------------------------------------------


def test_the_run_of_before_is_found_by_its_mark(host: Any, made: Any, deferrable: bool) -> None:
    task, context = made("nyx", deferrable=deferrable), host.context()
    first = leaves_a_run(host, task, context)
    cleared(context)
    assert host.run(task, context).xcoms["run_id"] == first
    assert (submits(host), cancels(host)) == (1, [])


@pytest.mark.parametrize(("script", "anew"), [("succeeded", False), ("exhausted", False), ("failed", True)])
def test_a_run_of_before_that_is_over_counts_as_it_does_with_a_record(
    host: Any, made: Any, script: str, anew: bool
) -> None:
    task, context = made("nyx", script=script), host.context()
    first = leaves_a_run(host, task, context)
    host.clock.sleep(1000)
    cleared(context)
    ended = host.run(task, context)
    assert (ended.xcoms["run_id"] != first) == anew
    assert submits(host) == 1 + anew


def test_what_another_has_started_is_not_attached_to(host: Any, made: Any) -> None:
    host.emulator.create_run("nyx", script="succeeded", seconds=50, parents={"config_name": "nightly"})
    task, context = made("nyx", on_conflict="fail"), host.context()
    cleared(context)
    assert type(host.run(task, context).error) is ConflictError
    assert cancels(host) == []


def test_a_list_that_cannot_be_read_sends_nothing_and_a_retry_looks_again(
    host: Any, made: Any, deferrable: bool
) -> None:
    task, context = made("nyx", deferrable=deferrable), host.context()
    first = leaves_a_run(host, task, context)
    cleared(context)
    host.emulator.add_fault(kind="status", status=503, provider="nyx", method="GET", count=None)
    assert type(host.run(task, context).error) is SubmitUnconfirmed
    host.emulator.reset(["faults"])
    context["ti"].next_try()
    assert host.run(task, context).xcoms["run_id"] == first
    assert submits(host) == 1


@needs_a_store
def test_where_nothing_proves_it_nothing_is_sent_while_a_run_is_active(host: Any, made: Any, deferrable: bool) -> None:
    task, context = made("b3os", deferrable=deferrable), host.context()
    first = leaves_a_run(host, task, context)
    cleared(context)
    error = host.run(task, context).error
    assert type(error) is SubmitUncertainError
    assert first in str(error)
    assert "keep_task_state" in str(error)
    assert submits(host) == 1


def test_where_nothing_is_active_a_new_run_is_submitted(host: Any, made: Any) -> None:
    task, context = made("b3os", script="succeeded", timeout=3600), host.context()
    leaves_a_run(host, task, context)
    host.clock.sleep(1000)
    cleared(context)
    assert host.run(task, context).result["outcome"] == "succeeded"
    assert submits(host) == 2


@needs_a_store
def test_where_no_list_shows_it_nothing_is_sent_at_all(host: Any, made: Any, deferrable: bool) -> None:
    task, context = made("nexio", deferrable=deferrable), host.context()
    leaves_a_run(host, task, context)
    cleared(context)
    before = len(host.emulator.requests())
    error = host.run(task, context).error
    assert type(error) is SubmitUncertainError
    assert "on_clear='submit'" in str(error)
    assert len(host.emulator.requests()) == before


@needs_a_store
def test_where_the_provider_refuses_a_second_run_it_is_said_that_it_does(
    host: Any, made: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    task, context = made("onepin", on_conflict="fail"), host.context()
    first = leaves_a_run(host, task, context)
    cleared(context)
    assert type(host.run(task, context).error) is ConflictError
    assert "refuses a second active run" in capsys.readouterr().out
    assert [run["run_id"] for run in host.emulator.runs(provider="onepin")] == [first]


# --- on_clear="submit" ----------------------------------------------------------------------------------------------


def test_the_run_of_before_is_cancelled_by_its_mark_and_a_new_one_submitted(
    host: Any, made: Any, deferrable: bool
) -> None:
    task, context = made("nyx", deferrable=deferrable, on_clear="submit"), host.context()
    first = leaves_a_run(host, task, context)
    cleared(context)
    ended = host.run(task, context)
    assert ended.xcoms["run_id"] != first
    assert first in cancels(host)[0]
    assert submits(host) == 2


@needs_a_store
def test_where_nothing_proves_it_none_is_cancelled_and_that_is_said_before_the_submit(
    host: Any, made: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    task, context = made("b3os", on_clear="submit"), host.context()
    leaves_a_run(host, task, context)
    cleared(context)
    capsys.readouterr()
    host.run(task, context)
    written = capsys.readouterr().out
    assert written.index("whether a run of before goes on is not known") < written.index("Submitted ")
    assert "keep_task_state" in written
    assert (submits(host), cancels(host)) == (2, [])


# --- where nothing was forgotten ------------------------------------------------------------------------------------


def test_a_first_try_and_a_retry_without_a_clear_look_for_nothing(host: Any, made: Any) -> None:
    host.emulator.add_fault(kind="status", status=422, action="submit", provider="b3os")
    task, context = made("b3os", script="succeeded", timeout=3600), host.context()
    host.run(task, context)
    context["ti"].max_tries = 0
    context["ti"].next_try()
    before = len(host.emulator.requests(action="list"))
    host.run(task, context)
    # The one list before the submit.
    assert len(host.emulator.requests(action="list")) == before + 1


@pytest.mark.parametrize("which", ["kept", "not durable", "an Airflow that forgets nothing"])
def test_without_a_clear_that_discards_nothing_changes(
    host: Any, made: Any, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, context = made("nexio", durable=which != "not durable"), host.context()
    first = leaves_a_run(host, task, context)
    if which == "kept":
        context["ti"].clear()
    else:
        cleared(context)
    if which.startswith("an Airflow"):
        monkeypatch.setattr(forgotten, "discards_on_clear", lambda: False)
    ended = host.run(task, context)
    assert (ended.xcoms["run_id"] == first) == (which == "kept")


# --- where nothing is ever remembered (Airflow 3.1 and 3.2) ---------------------------------------------------------


@pytest.mark.parametrize("on_clear", ["submit", "reattach"])
def test_without_a_store_a_retry_finds_its_run_by_its_mark(
    host: Any, made: Any, deferrable: bool, on_clear: str, capsys: pytest.CaptureFixture[str]
) -> None:
    task, context = made("nyx", deferrable=deferrable, on_clear=on_clear, retries=1), host.context(store=False)
    context["ti"].max_tries = 1
    first = leaves_a_run(host, task, context)
    context["ti"].next_try()
    capsys.readouterr()
    assert host.run(task, context).xcoms["run_id"] == first
    assert submits(host) == 1
    warned = capsys.readouterr().out
    assert "here a retry after a crash knows its run by its mark alone" in warned
    assert "submits anew" not in warned


@pytest.mark.parametrize(("on_clear", "attached"), [("submit", False), ("reattach", True)])
def test_without_a_store_a_clear_means_what_it_says(host: Any, made: Any, on_clear: str, attached: bool) -> None:
    task, context = made("nyx", on_clear=on_clear), host.context(store=False)
    first = leaves_a_run(host, task, context)
    context["ti"].clear()
    assert (host.run(task, context).xcoms["run_id"] == first) == attached
    assert len(cancels(host)) == (0 if attached else 1)
