"""The wait of a worker for a set of runs, its last look, and what is read again in full of those that ended badly."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from pytest_mock import MockerFixture

from runops.airflow._compat import AirflowTaskTimeout
from runops.airflow.hook import RunHook
from runops.airflow.many import watch as module
from runops.airflow.many.watch import RunsWatch
from runops.core import Outcome, RunRef, Verdict, find
from runops.core.client.many_plan import End, ManyPlan
from runops.core.many.ledger import Ledger
from runops.core.many.results import MOST_FAILED
from runops.core.many.rows import Row, RowState
from runops.core.many.rules import ManyRules
from runops.core.waiting.options import WaitOptions
from runops.core.waiting.state import WaitProgress
from tests.airflow_side.test_many_verdicts import Log

NEXIO = find("nexio")


def plan_for(host: Any, *, timeout: float = 600.0, expect: Any = None, **more: Any) -> ManyPlan:
    wait = WaitOptions.build(NEXIO, now=host.clock.now, timeout=timeout)
    return ManyPlan(rules=ManyRules.build(max_active=9), policy=NEXIO.policy(expect=expect), wait=wait, **more)


def watch(host: Any, rows: list[Row], **more: Any) -> tuple[RunsWatch, Log]:
    log, plan = Log(), more.pop("plan", None) or plan_for(host)
    return RunsWatch(RunHook(provider="nexio"), Ledger(rows), plan, log=log, **more), log


def waiting(*run_ids: str) -> list[Row]:
    """Rows of runs that are waited for."""
    return [
        Row(index=index, key=run_id).submitted(RunRef(provider="nexio", run_id=run_id), None, attached=True)
        for index, run_id in enumerate(run_ids)
    ]


def made(host: Any, **options: Any) -> str:
    return host.made("nexio", **options)["run_id"]


def ended(row: Row, outcome: Outcome, verdict: Verdict = Verdict.FAIL, **more: Any) -> Row:
    return replace(row, state=RowState.ENDED, outcome=outcome, verdict=verdict, **more)


def reads(host: Any) -> int:
    return len(host.emulator.requests(action="get"))


def ends(watched: RunsWatch) -> list[tuple[str, str | None]]:
    return [(str(row.outcome or row.state), row.ended_by) for row in watched._ledger]


class Record:
    """Takes the counts that a task stores for the page "External runs"."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def counted_beside(self, tally: Any) -> None:
        self.counts.append(tally.over)


# --- the wait ---


def test_a_wait_says_and_stores_its_counts_and_keeps_what_is_to_be_told_in_full(host: Any) -> None:
    record: Any = Record()
    rows = waiting(made(host, script="failed", seconds=5), made(host, seconds=5))
    watched, log = watch(host, rows, record=record)
    assert watched.wait() is End.ALL
    assert ends(watched) == [("failed", None), ("succeeded", None)]
    assert {index: result["outcome"] for index, result in watched.results.items()} == {0: "failed"}
    assert record.counts[-1] == 2
    assert log.lines[-1] == ("info", watched._ledger.tally.line(NEXIO))
    assert watched.provider is NEXIO


def test_a_wait_that_another_process_goes_on_with_ends_at_its_moment_and_tells_what_it_has_learnt(host: Any) -> None:
    past: dict[int, WaitProgress] = {}
    watched, _ = watch(host, waiting(made(host, script="forever")), past=past)
    began = host.clock.now
    assert watched.wait(began + 50.0) is End.SUSPENDED
    assert 50.0 <= host.clock.now - began < 150.0
    assert (ends(watched), watched.past[0].seen, watched.past is past) == ([("attached", None)], True, True)


def test_a_wait_that_is_interrupted_looks_a_last_time_and_ends_by_the_clock_of_the_try(host: Any) -> None:
    over, goes_on = made(host, age_seconds=900), made(host, script="forever")
    watched, log = watch(host, waiting(over, goes_on))
    watched._interrupt()
    began = host.clock.now
    assert watched.wait() is End.TIMEOUT
    assert ends(watched) == [("succeeded", None), ("timed_out", "execution_timeout")]
    assert host.clock.now - began < module.LAST_SECONDS
    assert [kind for kind, _ in log.lines] == ["info"] * len(log.lines)


def test_an_interrupted_wait_that_was_over_already_ends_as_it_did(host: Any) -> None:
    watched, _ = watch(host, waiting(made(host, age_seconds=900)), plan=plan_for(host, timeout=60.0))
    watched._ledger.set(ended(watched._ledger[0], Outcome.SUCCEEDED, Verdict.SUCCEED))
    watched._interrupt()
    assert watched.wait() is End.ALL


def test_a_last_look_that_fails_is_said_and_the_clock_counts(host: Any, mocker: MockerFixture) -> None:
    watched, log = watch(host, waiting(made(host, script="forever")))
    watched._interrupt()
    last = mocker.patch.object(watched, "_last", side_effect=TimeoutError("too slow"))
    assert watched.wait() is End.TIMEOUT
    # What was read by then is still to be told.
    assert last.call_args.args[1:] == ("execution_timeout", module.LAST_SECONDS - 2)
    assert log.lines[-1] == ("warning", "The last look at the runs failed: too slow")


def test_what_a_last_look_has_not_reached_when_airflow_ends_the_try_has_timed_out(
    host: Any, mocker: MockerFixture
) -> None:
    rows = waiting("r0", "r1", "r2")
    rows[1] = ended(rows[1], Outcome.SUCCEEDED, Verdict.SUCCEED)
    watched, _ = watch(host, rows)
    side = mocker.patch.object(module, "SideLoop")
    side.return_value.run.side_effect = AirflowTaskTimeout("over")
    assert watched.wait() is End.TIMEOUT
    assert ends(watched) == [
        ("timed_out", "execution_timeout"), ("succeeded", None), ("timed_out", "execution_timeout"),
    ]  # fmt: skip
    assert watched._ledger[0].verdict is Verdict.FAIL
    assert side.call_args.kwargs == {"patience": module.LAST_SECONDS + 2}
    side.call_args.args[1]()
    assert watched._interrupted


@pytest.mark.parametrize("by", ["timeout", "execution_timeout"])
def test_a_last_look_finds_what_is_over_and_ends_the_rest_by_its_clock(host: Any, by: Any) -> None:
    rows = waiting(made(host, age_seconds=900), made(host, script="forever"), made(host, script="failed", seconds=0))
    watched, _ = watch(host, rows)
    host.clock.sleep(5)
    began = host.clock.now
    watched.last_look(by)
    assert ends(watched) == [("succeeded", None), ("timed_out", by), ("failed", None)]
    assert (reads(host), sorted(watched.results)) == (3, [1, 2])
    assert host.clock.now - began < module.LOOK_SECONDS


def test_a_last_look_fits_into_what_airflow_leaves_a_task_and_a_person_waits_for() -> None:
    # Airflow ends the process of a try 20 s after its clock.
    assert (module.LAST_SECONDS, module.LOOK_SECONDS, module.IN_FULL_SECONDS) == (12.0, 60.0, 20.0)


def test_a_last_look_gives_up_after_its_time(host: Any) -> None:
    watched, _ = watch(host, waiting(made(host)))
    host.emulator.add_fault(kind="status", status=503, provider="nexio", method="GET", count=None)
    began = host.clock.now
    watched.last_look("timeout")
    assert ends(watched) == [("timed_out", "timeout")]
    assert module.LOOK_SECONDS * 0.5 <= host.clock.now - began <= module.LOOK_SECONDS * 1.5


@pytest.mark.parametrize("what", ["wait", "last look", "in full"])
def test_what_the_loop_wants_of_airflow_is_asked_in_the_task_s_own_thread(
    host: Any, mocker: MockerFixture, what: str
) -> None:
    clients, drivers = mocker.spy(RunHook, "async_client"), mocker.spy(module, "ManyRuns")
    past = {0: WaitProgress(seen=True)}
    (row,) = waiting(made(host, script="failed", age_seconds=900))
    watched, _ = watch(host, [ended(row, Outcome.FAILED) if what == "in full" else row], past=past)
    {"wait": watched.wait, "last look": lambda: watched.last_look("timeout"), "in full": watched.in_full}[what]()
    assert clients.call_args.kwargs["ask"].__name__ == "in_caller"
    if what != "in full":
        assert (drivers.call_args.kwargs["past"], drivers.call_args.args[1]) == (past, watched._ledger)


# --- what is told in full ---


def test_runs_that_did_not_end_well_are_read_again_in_full_where_this_process_has_not_seen_them_end(host: Any) -> None:
    failed = [made(host, script="failed", age_seconds=900) for _ in range(3)]
    rows = waiting(*failed, made(host, age_seconds=900), made(host, script="forever"), "unread", "given-up")
    rows[0] = ended(rows[0], Outcome.FAILED)
    rows[1] = ended(rows[1], Outcome.FAILED)
    rows[2] = ended(rows[2], Outcome.FAILED, Verdict.WARN)
    rows[3] = ended(rows[3], Outcome.SUCCEEDED, Verdict.SUCCEED)
    rows[5] = replace(rows[5], state=RowState.UNREAD, error="RunNotFound")
    rows[6] = replace(rows[6], state=RowState.ENDED, ended_by="stop_early")
    watched, log = watch(host, rows)
    known: Any = {"run_id": failed[1]}
    watched.results[1] = known
    watched.in_full()
    assert sorted(watched.results) == [0, 1]
    assert watched.results[1] is known
    told = watched.results[0]
    assert (told["run_id"], told["outcome"], told["verdict"], told["state"]) == (failed[0], "failed", "fail", "failed")
    assert (reads(host), log.lines) == (1, [])


def test_a_run_that_did_not_meet_what_was_expected_is_told_with_what_was_not(host: Any) -> None:
    run_id = made(host, age_seconds=900)
    plan = plan_for(host, expect={"stage": "never"})
    watched, _ = watch(host, [ended(waiting(run_id)[0], Outcome.SUCCEEDED)], plan=plan)
    watched.in_full()
    assert watched.results[0]["outcome"] == "succeeded"
    assert watched.results[0]["unmet"]


@pytest.mark.parametrize("by", ["timeout", "max_paused", "execution_timeout"])
def test_a_wait_that_a_clock_has_ended_is_told_as_it_ended_whatever_the_run_is_now(host: Any, by: Any) -> None:
    row = ended(waiting(made(host, script="forever"))[0], Outcome.TIMED_OUT, ended_by=by, reason="it took too long")
    watched, _ = watch(host, [row])
    watched.in_full()
    told = watched.results[0]
    assert (told["outcome"], told["ended_by"], told["reason"]) == ("timed_out", by, "it took too long")
    assert (told["verdict"], told["run_ended"]) == ("fail", False)


def test_no_more_runs_are_read_in_full_than_are_told(host: Any) -> None:
    rows = [ended(row, Outcome.FAILED) for row in waiting(*(f"r{number}" for number in range(MOST_FAILED + 5)))]
    watched, log = watch(host, rows)
    for index in range(MOST_FAILED - 1):
        watched.results[index] = {"run_id": f"r{index}"}  # pyright: ignore[reportArgumentType]
    watched.in_full()
    assert reads(host) == 1
    assert len(watched.results) == MOST_FAILED - 1
    text = "Not all runs that did not end well could be read again: less is told of some."
    assert log.lines == [("warning", text)]


def test_nothing_is_read_where_all_is_known(host: Any, mocker: MockerFixture) -> None:
    side = mocker.patch.object(module, "SideLoop")
    watched, _ = watch(host, [ended(waiting("r0")[0], Outcome.SUCCEEDED, Verdict.SUCCEED)])
    watched.in_full()
    assert side.call_count == 0


def test_a_service_that_is_too_slow_for_the_full_account_leaves_what_is_known(host: Any, mocker: MockerFixture) -> None:
    mocker.patch.object(module, "IN_FULL_SECONDS", 0.0)
    watched, log = watch(host, [ended(waiting(made(host))[0], Outcome.FAILED)])
    watched.in_full()
    assert watched.results == {}
    assert [kind for kind, _ in log.lines] == ["warning"]


def test_runs_are_read_in_full_at_most_sixteen_at_once(host: Any, mocker: MockerFixture) -> None:
    under_way, most = [0], [0]

    async def reading(*_: Any) -> Any:
        under_way[0] += 1
        most[0] = max(most[0], under_way[0])
        await asyncio.sleep(0)
        under_way[0] -= 1
        return {}

    watched, _ = watch(host, [ended(row, Outcome.FAILED) for row in waiting(*(f"r{n}" for n in range(40)))])
    mocker.patch.object(watched, "_one_in_full", reading)
    watched.in_full()
    assert (most[0], len(watched.results)) == (16, 40)
