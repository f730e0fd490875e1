"""The loop beside a task of many runs: when the triggerer goes on, how it is stopped, what is cancelled then."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pytest_mock import MockerFixture

from runops.airflow._compat import AirflowTaskTimeout
from runops.airflow.hook import RunHook
from runops.airflow.many import drive as module
from runops.airflow.many.drive import Handover, SetDrive, cancel_left
from runops.airflow.submission import WORKER_SECONDS
from runops.core import Outcome, RunRef, Verdict, find
from runops.core.client.many_plan import End, ManyPlan
from runops.core.many.ledger import Ledger
from runops.core.many.rows import Row, RowState
from runops.core.many.rules import ManyRules
from runops.core.model.policy import OutcomePolicy
from runops.core.waiting.intent import Intent
from runops.core.waiting.options import WaitOptions
from runops.core.waiting.state import WaitProgress
from tests.airflow_side.test_many_verdicts import Log
from tests.services import Clock

B3OS = find("b3os")
PLANNED = Row(index=0, key="k")
RUNNING = PLANNED.submitted(RunRef(provider="b3os", run_id="r"), 1.0)
OVER = replace(RUNNING, state=RowState.ENDED, outcome=Outcome.SUCCEEDED, verdict=Verdict.SUCCEED)
SENDING, QUEUED = replace(PLANNED, state=RowState.SUBMITTING), replace(PLANNED, state=RowState.AWAITING_TURN)


def ledger(*rows: Row) -> Ledger:
    return Ledger(replace(row, index=index, key=str(index)) for index, row in enumerate(rows))


# --- when the triggerer goes on ---


@pytest.mark.parametrize(
    ("rows", "hands_over"),
    [
        ((RUNNING,), True), ((RUNNING, PLANNED), True), ((OVER, RUNNING), True), ((OVER,), False), ((PLANNED,), False),
        ((RUNNING, SENDING), False), ((RUNNING, QUEUED), False), ((QUEUED,), False),
    ],
)  # fmt: skip
def test_the_triggerer_goes_on_with_what_is_only_waited_for(rows: tuple[Row, ...], hands_over: bool) -> None:
    clock = Clock()
    handover = Handover(clock)
    assert handover(ledger(*rows)) is False
    clock.now += WORKER_SECONDS - 0.01
    assert handover(ledger(*rows)) is False
    clock.now += 0.01
    assert handover(ledger(*rows)) is hands_over


@pytest.mark.parametrize(
    ("before", "after", "begins_anew"),
    [
        ((RUNNING, PLANNED, PLANNED), (RUNNING, RUNNING, PLANNED), True),
        ((RUNNING, RUNNING, PLANNED), (RUNNING, OVER, PLANNED), True),
        ((RUNNING, PLANNED), (RUNNING, RUNNING), True),
        # Where nothing is left to submit, an end makes no room for anything.
        ((RUNNING, RUNNING), (RUNNING, OVER), False),
    ],
)
def test_a_worker_stays_as_long_as_it_can_submit_again_every_few_seconds(
    before: tuple[Row, ...], after: tuple[Row, ...], begins_anew: bool
) -> None:
    clock = Clock()
    handover = Handover(clock)
    handover(ledger(*before))
    clock.now += WORKER_SECONDS - 1
    assert handover(ledger(*after)) is False
    clock.now += 1
    assert handover(ledger(*after)) is not begins_anew
    clock.now += WORKER_SECONDS - 1
    assert handover(ledger(*after)) is True


def test_a_handover_counts_from_its_beginning_where_nothing_was_seen_before() -> None:
    clock = Clock()
    handover = Handover(clock)
    clock.now += WORKER_SECONDS
    assert handover(ledger(RUNNING)) is False


# --- the loop ---


class Store:
    """Takes what is written."""

    def __init__(self) -> None:
        self.pages: list[Any] = []

    def save(self, pages: Any) -> None:
        self.pages.append(pages)


class Record:
    """Takes the counts that a task stores for the page "External runs"."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def counted_beside(self, tally: Any) -> None:
        self.counts.append(tally.over)


def drive(host: Any, *rows: Row, **more: Any) -> tuple[SetDrive, Log]:
    log = Log()
    plan = ManyPlan(
        rules=ManyRules.build(max_active=9),
        policy=OutcomePolicy.build(),
        wait=WaitOptions.build(B3OS, now=host.clock.now, timeout=300.0),
        cancel_on_timeout=more.pop("cancel_on_timeout", True),
    )
    return SetDrive(RunHook(provider="b3os"), ledger(*rows), plan, log=log, **{"store": Store(), **more}), log


def run_of(host: Any, **options: Any) -> Row:
    run_id = host.made("b3os", **options)["run_id"]
    return PLANNED.submitted(RunRef(provider="b3os", run_id=run_id), 1.0)


def cancelled(host: Any) -> int:
    return len(host.emulator.requests(action="cancel"))


def test_a_drive_keeps_what_was_known_in_full_and_what_waits_have_learnt(host: Any) -> None:
    known: Any = {"run_id": "r"}
    learnt = WaitProgress(began=1.0, seen=True)
    rows = [OVER, run_of(host, script="failed", seconds=5)]
    store, record = Store(), Record()
    made, log = drive(host, *rows, full={0: known}, past={1: learnt}, store=store, record=record)
    assert (made.results, made.past) == ({0: known}, {1: learnt})
    assert made.run() is End.ALL
    assert (sorted(made.results), made.results[1]["outcome"], made.results[0]) == ([0, 1], "failed", known)
    assert made.ledger[1].outcome is Outcome.FAILED
    assert [sorted(pages) for pages in store.pages][-1:] == [[0]]
    assert record.counts[-1] == 2
    assert log.lines[-1] == ("info", made.ledger.tally.line(B3OS))
    assert (made.out_of_time, made.wait(0.0)) == (False, True)


def test_a_drive_ends_where_the_triggerer_goes_on_and_has_learnt_what_that_needs(host: Any) -> None:
    made, _ = drive(host, run_of(host, script="forever"), until=lambda _: host.clock.passed > 30.0)
    assert made.run() is End.SUSPENDED
    assert (made.ledger[0].is_running, cancelled(host)) == (True, 0)
    assert {index: past.seen for index, past in made.past.items()} == {0: True}


@pytest.mark.parametrize("cancels", [True, False])
@pytest.mark.parametrize("by", ["killed", "execution_timeout"])
def test_a_drive_that_is_stopped_before_it_begins_ends_at_once_in_that_way(host: Any, by: Any, cancels: bool) -> None:
    made, _ = drive(host, run_of(host, script="forever"))
    assert made.wait(0.0) is False
    made.stop(by, cancel=cancels)
    # The first word counts: a signal may come twice.
    made.stop("killed", cancel=not cancels)
    assert made.run() is End.STOPPED
    # What a kill has not cancelled is left to be taken up again.
    ended_by = None if by == "killed" and not cancels else by
    assert (cancelled(host), made.ledger[0].ended_by) == (int(cancels), ended_by)


def test_a_drive_under_way_is_stopped_from_any_thread(host: Any, mocker: MockerFixture) -> None:
    made, _ = drive(host, run_of(host, script="forever"))
    many = mocker.Mock()
    made._many = many
    made.stop("killed", cancel=True)
    many.stop.assert_called_once_with("killed", cancel=True)


@pytest.mark.parametrize("cancels", [True, False])
def test_a_drive_that_airflow_ends_says_so_and_cancels_where_that_is_wanted(
    host: Any, mocker: MockerFixture, cancels: bool
) -> None:
    made, _ = drive(host, RUNNING, cancel_on_timeout=cancels)
    side = mocker.patch.object(module, "SideLoop")
    side.return_value.run.side_effect = AirflowTaskTimeout("over")
    assert made.run() is End.STOPPED
    assert (made.out_of_time, made.wait(0.0)) == (True, True)
    assert side.call_args.kwargs == {"patience": 40.0}
    side.call_args.args[1]()
    assert made._stop == ("execution_timeout", cancels)


def test_a_drive_s_client_has_the_settings_of_its_task(host: Any, mocker: MockerFixture) -> None:
    given = mocker.spy(RunHook, "async_client")
    made, _ = drive(host, OVER, client_settings={"mark_runs": False})
    made.run()
    assert given.call_args.kwargs["mark_runs"] is False


# --- what is left ---


def test_only_runs_that_are_ours_and_may_be_alive_are_cancelled(host: Any) -> None:
    rows = [
        run_of(host, script="forever"),
        replace(run_of(host, script="forever"), index=1, attached=True, state=RowState.ATTACHED),
        replace(OVER, index=2),
        replace(run_of(host, script="forever"), index=3, stopped=True),
        replace(PLANNED, index=4),
        replace(PLANNED, index=5).submitting(Intent(), 1.0),
        replace(PLANNED, index=6, intent=Intent()),
    ]
    left = cancel_left(RunHook(provider="b3os"), rows, 5.0)
    assert (sorted(left), cancelled(host)) == ([5], 1)


@pytest.mark.parametrize(("seconds", "given"), [(3.0, 3.0), (0.0, 0.1), (-1.0, 0.1)])
def test_the_cancel_of_what_is_left_takes_as_long_as_it_may_and_the_settings_of_the_client(
    host: Any, mocker: MockerFixture, seconds: float, given: float
) -> None:
    asked: list[Any] = []

    async def cancel_rows(client: Any, rows: Any, limit: float) -> dict[int, str]:
        asked.append((client.provider.name, rows, limit))
        return {0: "no"}

    mocker.patch.object(module, "cancel_rows", cancel_rows)
    clients, side = mocker.spy(RunHook, "async_client"), mocker.spy(module, "SideLoop")
    assert cancel_left(RunHook(provider="b3os"), [RUNNING], seconds, request_timeout=1.0) == {0: "no"}
    assert asked == [("b3os", [RUNNING], given)]
    assert clients.call_args.kwargs["request_timeout"] == 1.0
    assert side.call_args.kwargs == {"patience": 0.0}


def test_where_nothing_is_left_nobody_is_asked(host: Any, mocker: MockerFixture) -> None:
    side = mocker.patch.object(module, "SideLoop")
    assert cancel_left(RunHook(provider="b3os"), [OVER, PLANNED], 5.0) == {}
    assert side.call_count == 0
