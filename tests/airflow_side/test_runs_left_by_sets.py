"""What a task of many runs cancels at its end, and what it then says of those that may go on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from pytest_mock import MockerFixture

from runops.airflow import RunsOperator
from runops.airflow._compat import AirflowException
from runops.airflow.many import own_set
from runops.airflow.own_run import KILL_SECONDS, LEAVE_SECONDS, STATE_SECONDS
from runops.core import NotSupported, Outcome, RunRef, find
from runops.core.many.ledger import Ledger
from runops.core.many.rows import Row, RowState
from runops.core.waiting.intent import Intent
from tests.airflow_side.sets import calls_of
from tests.airflow_side.test_many_verdicts import Log

LISTED = "`runops orphans` lists them."


class Heard(Log):
    """Takes errors too."""

    def error(self, text: str, *values: Any) -> None:
        self.lines.append(("error", text % values))


class Drive:
    """Stands for the loop that submits and waits beside a task."""

    def __init__(self, rows: Iterable[Row], *, ends: bool = True) -> None:
        self.ledger = Ledger(rows)
        self.stops: list[tuple[str, bool]] = []
        self.waits: list[float] = []
        self._ends = ends

    def stop(self, by: str, *, cancel: bool) -> None:
        self.stops.append((by, cancel))

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        return self._ends


@pytest.fixture
def log(mocker: MockerFixture) -> Heard:
    made = Heard()
    mocker.patch.object(RunsOperator, "log", made)
    return made


@pytest.fixture
def cancels(mocker: MockerFixture) -> Any:
    """Stands for the loop that cancels runs: everything is cancelled."""
    return mocker.patch.object(own_set, "cancel_left", return_value={})


def operator(**more: Any) -> Any:
    arguments: dict[str, Any] = {"task_id": "a_task", "provider": "b3os", "calls": calls_of("b3os", 9)}
    arguments |= {"deferrable": False, **more}
    return RunsOperator(**arguments)


def running(count: int) -> list[Row]:
    """Runs that the task has submitted, and waits for."""
    return [
        Row(index=index, key=f"k{index}").submitted(RunRef(provider="b3os", run_id=f"r{index}"), 1.0)
        for index in range(count)
    ]


def begun(host: Any, rows: list[Row], **more: Any) -> tuple[Any, dict[str, Any]]:
    """A task that has recorded these rows, and the context of its next process."""
    task, context = operator(**more), host.context()
    store = task._ledger_store(context)
    store.begin(1, left=False, provider="b3os", conn_id="b3os_default")
    store.save(Ledger(rows).to_pages())
    return operator(**more), context


# --- a kill ---


def killed(host: Any, drive: Drive, state: str, **more: Any) -> dict[str, Any]:
    """The header that a task leaves to which Airflow has sent its signal in this state."""
    _, context = begun(host, [], **more)
    task = operator(**more)
    task._drive = context, drive
    context["ti"].state = state
    task.on_kill()
    return context["task_state_store"].get("runops")


@pytest.mark.parametrize(
    ("state", "on_clear", "kills"),
    [("failed", "submit", True), ("restarting", "submit", True), ("restarting", "reattach", False),
     ("running", "submit", False)],
)  # fmt: skip
def test_only_a_kill_by_a_person_ends_the_drive_of_a_set_and_is_recorded(
    host: Any, log: Heard, state: str, on_clear: str, kills: bool
) -> None:
    drive = Drive(running(2))
    header = killed(host, drive, state, on_clear=on_clear)
    assert drive.stops == ([("killed", True)] if kills else [])
    assert header.get("given_up") is (True if kills else None)
    left = ("info", "Left alone: the runs of this task, since nobody is known to have killed it.")
    assert log.lines == ([] if kills else [left])


@pytest.mark.parametrize("wanted", [True, False])
def test_the_page_is_told_that_a_set_is_its_task_s_own_and_whether_a_kill_cancels_it(wanted: bool) -> None:
    assert operator(cancel_on_kill=wanted).whose_runs({}) == {"own": True, "cancels": wanted}


@pytest.mark.parametrize("wanted", [True, False])
def test_a_killed_set_is_cancelled_where_that_is_wanted(host: Any, log: Heard, wanted: bool) -> None:
    drive = Drive(running(2))
    killed(host, drive, "success", cancel_on_kill=wanted)
    assert drive.stops == [("killed", wanted)]


def test_a_kill_before_a_set_was_begun_does_nothing(log: Heard) -> None:
    operator().on_kill()
    assert log.lines == []


@pytest.mark.parametrize(("seconds", "waits"), [(0.0, KILL_SECONDS), (1.0, KILL_SECONDS - 1.0), (60.0, 0.0)])
def test_a_kill_waits_for_its_cancels_as_long_as_airflow_lets_it(
    host: Any, log: Heard, mocker: MockerFixture, seconds: float, waits: float
) -> None:
    limits: list[float] = []

    def at_once(limit: float, work: Any) -> Any:
        limits.append(limit)
        return work()

    mocker.patch.object(own_set, "within", at_once)
    drive = Drive(running(2))
    mocker.patch.object(drive, "stop", side_effect=lambda *_, **__: host.clock.sleep(seconds))
    killed(host, drive, "failed")
    assert drive.waits == [pytest.approx(waits)]
    assert limits == [STATE_SECONDS, STATE_SECONDS]


def test_a_kill_whose_cancels_are_not_answered_names_the_first_runs_that_may_go_on(host: Any, log: Heard) -> None:
    rows = running(6)
    rows[0] = replace(rows[0], state=RowState.ENDED, outcome=Outcome.SUCCEEDED)
    killed(host, Drive(rows, ends=False), "failed")
    assert log.lines == [
        ("warning", "Whether 5 runs are cancelled is not known: there was no answer in time."),
        *[("warning", f"It may go on: {rows[number].ref('b3os')}") for number in (1, 2, 3)],
    ]


# --- a last failure ---


def test_where_the_worker_is_gone_a_failed_set_is_left_to_the_list_of_orphans(
    host: Any, log: Heard, cancels: Any
) -> None:
    task, context = begun(host, running(2))
    task.leave_nothing(context)
    assert log.lines == [("error", "What this task has submitted may go on: `runops orphans` lists it. [left-behind]")]
    assert cancels.call_count == 0


@pytest.mark.parametrize("where", ["in this process", "in an earlier one"])
def test_a_failed_set_is_cancelled_as_far_as_it_is_ours_and_may_be_alive(
    host: Any, log: Heard, cancels: Any, where: str
) -> None:
    rows = running(5)
    rows[1] = replace(rows[1], state=RowState.ATTACHED, attached=True)
    rows[2] = replace(rows[2], state=RowState.ENDED, outcome=Outcome.FAILED)
    rows[3] = Row(index=3, key="k3")
    task, context = begun(host, rows)
    if where == "in this process":
        task._drive = context, Drive(rows)
        context["task_state_store"].values.clear()
    else:
        task.before_rendering()
    task.leave_nothing(context)
    (hook, wanted, seconds), _ = cancels.call_args
    assert ([row.index for row in wanted], seconds, hook.conn_id) == ([0, 4], LEAVE_SECONDS, "b3os_default")
    assert log.lines == [("info", "Cancelling 2 runs: their task has failed, and no other try waits for them.")]


def test_a_failed_task_that_has_begun_no_set_cancels_nothing(host: Any, log: Heard, cancels: Any) -> None:
    task = operator()
    task.before_rendering()
    task.leave_nothing(host.context())
    assert (log.lines, cancels.call_count) == ([], 0)


@pytest.mark.parametrize("error", [NotSupported("no such thing."), AirflowException("no connection.")], ids=repr)
def test_a_cancel_of_a_set_that_cannot_be_tried_says_so_and_where_its_runs_are_listed(
    log: Heard, cancels: Any, error: Exception
) -> None:
    cancels.side_effect = error
    rows = running(2)
    assert operator()._cancel_rows(rows, "why not") == rows
    assert log.lines == [
        ("info", "Cancelling 2 runs: why not."),
        (
            "warning",
            f"Whether they are cancelled is not known: {error.args[0]} `runops orphans` lists them. [left-behind]",
        ),
    ]


def test_of_runs_that_are_not_cancelled_the_first_are_named_and_all_counted(log: Heard, cancels: Any) -> None:
    rows = running(7)
    rows[2] = Row(index=2, key="k2").submitting(Intent(), 1.0)
    cancels.return_value = {index: f"reason {index}" for index in (1, 2, 4, 5)}
    assert operator()._cancel_rows(rows, "they are old") == [rows[1], rows[2], rows[4], rows[5]]
    named = {1: rows[1].ref("b3os"), 2: "whose submit was not answered", 4: rows[4].ref("b3os")}
    assert log.lines[1:] == [
        *[
            ("warning", f"Run {index} of the set ({ref}) may go on: reason {index} [left-behind]")
            for index, ref in named.items()
        ],
        ("warning", "4 of 7 are not cancelled; `runops orphans` lists them. [left-behind]"),
    ]


def test_runs_of_a_service_that_documents_no_cancel_go_on_and_are_named(
    log: Heard, cancels: Any, mocker: MockerFixture
) -> None:
    task, rows = operator(), running(3)
    mocker.patch.object(RunsOperator, "service", replace(find("b3os"), cancel=None))
    assert task._cancel_rows(rows, "why not") == rows
    text = f"3 runs go on: {find('b3os').title} documents no way to cancel a run. `runops orphans` lists them."
    assert log.lines == [("warning", f"{text} [left-behind]")]
    assert cancels.call_count == 0


def test_nothing_is_said_where_no_run_is_left_to_cancel(log: Heard, cancels: Any) -> None:
    assert operator()._cancel_rows([Row(index=0, key="k0")], "why not") == []
    assert (log.lines, cancels.call_count) == ([], 0)
