"""A set of which Airflow remembers nothing: its runs are found by their marks, or none is sent while one may live."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from runops.airflow import forgotten
from runops.airflow._compat import TaskDeferred
from runops.airflow.exceptions import SubmitUncertainError, SubmitUnconfirmed
from tests.airflow_side.sets import SetHost, calls_of, sets

_ = sets


@pytest.fixture(autouse=True)
def discarding(monkeypatch: pytest.MonkeyPatch) -> None:
    """An Airflow that forgets on clear, as 3.4 does."""
    monkeypatch.setattr(forgotten, "discards_on_clear", lambda: True)


def left_and_cleared(sets: SetHost, provider: str, *, script: str = "succeeded", **more: Any) -> dict[str, Any]:
    """The context of a task that has left six runs to the triggerer, and that a person has cleared since."""
    context = sets.context()
    task = sets.made(provider, 6, script=script, seconds=600, deferrable=True, **more)
    with pytest.raises(TaskDeferred):
        task.execute(context)
    forget(context)
    context["ti"].clear()
    return context


def forget(context: dict[str, Any]) -> None:
    """Discard what the task remembers."""
    folder = context["task_state_store"]._folder
    shutil.rmtree(folder)
    folder.mkdir()


def again(sets: SetHost, provider: str, context: dict[str, Any], on_clear: str, **more: Any) -> Any:
    task = sets.made(provider, 6, seconds=0.2, deferrable=False, on_clear=on_clear, timeout=5, **more)
    return sets.run(task, context)


def test_a_clear_that_re_attaches_goes_on_with_the_runs_that_bear_our_marks(
    sets: SetHost, capsys: pytest.CaptureFixture[str]
) -> None:
    context = left_and_cleared(sets, "nyx", on_clear="reattach")
    sets.finish_all("nyx")
    ended = again(sets, "nyx", context, "reattach")
    assert len(sets.submits("nyx")) == 6
    assert {row["run_id"] for row in ended.xcoms["runs"]} == {
        run["run_id"] for run in sets.emulator.runs(provider="nyx")
    }
    assert sets.cancelled("nyx") <= {row["run_id"] for row in ended.xcoms["runs"]}
    assert "Found by their marks: 6 runs" in capsys.readouterr().out


def test_those_of_them_that_have_failed_are_submitted_anew_and_no_others(sets: SetHost) -> None:
    context = left_and_cleared(sets, "nyx", on_clear="reattach")
    runs = sets.emulator.runs(provider="nyx")
    for number, run in enumerate(runs):
        fields = {"status": "failed", "result": "error"} if number < 2 else {"status": "completed", "result": "success"}
        sets.emulator.set_fields("nyx", run["run_id"], fields)
    ended = again(sets, "nyx", context, "reattach")
    assert ended.error is None
    assert sorted(sets.twice("nyx")) == sorted(str(next(iter(run["parents"].values()))) for run in runs[:2])


def test_a_clear_that_submits_cancels_the_runs_that_bear_our_marks_and_no_others(sets: SetHost) -> None:
    context = left_and_cleared(sets, "nyx")
    ours = {run["run_id"] for run in sets.emulator.runs(provider="nyx")}
    other = sets.emulator.create_run("nyx", script="forever", parents={"config_name": "somebody-elses"})
    ended = again(sets, "nyx", context, "submit")
    assert ended.error is None
    assert sets.cancelled("nyx") == ours
    assert other not in ours
    assert len(sets.emulator.runs(provider="nyx")) == 13


def test_where_nothing_proves_them_nothing_is_sent_while_one_is_active(sets: SetHost) -> None:
    context = left_and_cleared(sets, "b3os", on_clear="reattach")
    ended = again(sets, "b3os", context, "reattach")
    assert type(ended.error) is SubmitUncertainError
    assert "keep_task_state" in str(ended.error)
    assert len(sets.submits("b3os")) == 6


def test_a_list_that_cannot_be_read_sends_nothing_and_a_retry_looks_again(sets: SetHost) -> None:
    context = left_and_cleared(sets, "nyx", on_clear="reattach")
    sets.emulator.add_fault(kind="status", status=503, provider="nyx", method="GET", count=None)
    assert type(again(sets, "nyx", context, "reattach").error) is SubmitUnconfirmed
    sets.emulator.reset(["faults"])
    sets.finish_all("nyx")
    context["ti"].next_try()
    again(sets, "nyx", context, "reattach")
    assert len(sets.submits("nyx")) == 6


def test_a_task_on_its_first_try_looks_for_nothing(sets: SetHost) -> None:
    ended = sets.run(sets.made("nyx", 3, calls=calls_of("nyx", 3), deferrable=False, seconds=0.2), sets.context())
    assert ended.result["submitted"] == 3


def test_without_a_store_a_retry_after_a_clear_goes_on_with_the_runs_since_and_cancels_none(sets: SetHost) -> None:
    context = left_and_cleared(sets, "nyx")
    del context["task_state_store"]
    with pytest.raises(TaskDeferred):
        sets.made("nyx", 6, seconds=600, deferrable=True).execute(context)
    before = sets.cancelled("nyx")
    since = {run["run_id"] for run in sets.emulator.runs(provider="nyx")} - before
    assert (len(before), len(since)) == (6, 6)
    sets.finish_all("nyx")
    context["ti"].next_try()
    ended = again(sets, "nyx", context, "submit")
    assert {row["run_id"] for row in ended.xcoms["runs"]} == since
    assert sets.cancelled("nyx") == before
