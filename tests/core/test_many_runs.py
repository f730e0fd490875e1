"""A set of runs in one process: turns, what is required, what may be spent, clocks, errors, ends from outside."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from contextlib import nullcontext
from typing import Any, TypeVar

import httpx
import pytest

from runops.core import AuthError, Outcome, Verdict
from runops.core.client.many_plan import End
from runops.core.client.many_runs import ManyRuns
from runops.core.many.ledger import PAGE_ROWS, Changes
from runops.core.many.rows import Row, RowState
from runops.core.many.rules import Requirement
from runops.core.many.tally import Standing
from tests import simulated_time
from tests.many import SECONDS, Attempt, World, arguments
from tests.simulated_time import wall_clock

T = TypeVar("T")


def run(scenario: Callable[[], Coroutine[Any, Any, T]]) -> T:
    return simulated_time.run(scenario())


def world(provider: str, scripts: list[str], *, parents: list[str] | None = None, **rules: Any) -> World:
    calls = [
        arguments(provider, number, script, parent=parents[number] if parents else None)
        for number, script in enumerate(scripts)
    ]
    return World(provider, calls, **rules)


def rows_of(attempt: Attempt) -> list[Row]:
    assert attempt.ledger is not None
    return list(attempt.ledger)


def states_of(attempt: Attempt) -> list[str]:
    return [str(row.state) for row in rows_of(attempt)]


def active(of: World) -> int:
    """How many runs of ours are active at the service now."""
    over = of.emulator.apis[of.provider.name].over
    field = of.emulator.apis[of.provider.name].state_field
    return sum(run["fields"][field] not in over for run in of.started)


# --- who may be active --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", ["nyx", "b3os", "nexio"])
def test_no_more_runs_are_active_than_may_be_and_no_place_stays_empty(provider: str) -> None:
    async def scenario() -> None:
        of = world(provider, ["succeeded"] * 17, max_active=5)
        most: list[int] = []
        attempt = Attempt(of)
        attempt.at_post = lambda number: most.append(active(of))
        await attempt.run(retry=True)
        assert attempt.end is End.ALL
        assert len(of.started) == 17
        # Before each POST there is room for one more at the least.
        assert max(most) == 4
        # Four rounds: the set lasts as long as that, with the time to notice each end.
        assert wall_clock() - of.began < 4 * (SECONDS + 16)

    run(scenario)


@pytest.mark.parametrize("provider", ["nyx", "onepin"])
def test_runs_of_one_parent_wait_for_each_other_without_a_refused_request(provider: str) -> None:
    async def scenario() -> None:
        parents = ["a", "b"] if provider == "nyx" else [arguments("onepin", n)["workflow_id"] for n in (1, 2)]
        of = world(provider, ["succeeded"] * 6, parents=[parents[n % 2] for n in range(6)])
        attempt = await of.attempt()
        assert attempt.end is End.ALL
        assert {row.outcome for row in rows_of(attempt)} == {Outcome.SUCCEEDED}
        assert [entry["status"] for entry in of.requests("submit")] == [of.requests("submit")[0]["status"]] * 6

    run(scenario)


def strangers(of: World, parent: dict[str, str], script: str = "succeeded") -> str:
    return str(of.emulator.create_run(of.provider.name, parents=parent, script=script, seconds=100))


def test_a_stranger_s_run_is_waited_for_while_all_others_go_on() -> None:
    async def scenario() -> None:
        of = world("nyx", ["succeeded"] * 4, parents=["mine", "theirs", "mine", "other"], max_active=1)
        strangers(of, {"config_name": "theirs"})
        attempt = await of.attempt()
        assert attempt.end is End.ALL
        assert {row.outcome for row in rows_of(attempt)} == {Outcome.SUCCEEDED}
        refused = [entry for entry in of.requests("submit") if entry["status"] == 409]
        assert len(refused) == 1
        # The one that waits for a stranger takes no place: the others are done before it is.
        assert [json.dumps(run["body"]).count("theirs") for run in of.started] == [0, 0, 0, 1]
        assert any("1 waiting for a turn" in line for line in attempt.lines)

    run(scenario)


@pytest.mark.parametrize("provider", ["nyx", "onepin"])
def test_an_active_run_can_be_attached_to_and_is_never_cancelled(provider: str) -> None:
    async def scenario() -> None:
        parent = "theirs" if provider == "nyx" else arguments("onepin", 9)["workflow_id"]
        of = world(provider, ["succeeded", "forever"], parents=[parent, "7c9e6679-7425-40de-944b-000000000001"])
        of.on_conflict = "attach"
        kind = "config_name" if provider == "nyx" else "workflow_id"
        theirs = strangers(of, {kind: parent}, "forever")
        of.wait["timeout"] = 300
        attempt = await of.attempt()
        attached, own = rows_of(attempt)
        assert attached.run_id == theirs
        assert attached.attached
        assert attached.outcome is own.outcome is Outcome.TIMED_OUT
        assert own.stopped
        assert not attached.stopped
        assert [entry["run_id"] for entry in of.requests("cancel")] == [own.run_id]

    run(scenario)


def test_where_a_conflict_is_to_fail_it_fails_its_run_alone() -> None:
    async def scenario() -> None:
        of = world("nyx", ["succeeded"] * 3, parents=["a", "theirs", "b"])
        of.on_conflict = "fail"
        strangers(of, {"config_name": "theirs"}, "forever")
        attempt = await of.attempt()
        assert states_of(attempt) == ["ended", "refused", "ended"]
        refused = rows_of(attempt)[1]
        assert refused.error == "ConflictError"
        assert refused.retry_may_change
        assert len(of.started) == 2

    run(scenario)


# --- what is required ---------------------------------------------------------------------------------------------


def test_once_one_run_is_enough_the_rest_is_cancelled_and_never_submitted() -> None:
    async def scenario() -> None:
        of = world(
            "nyx", ["forever"] * 3 + ["succeeded"] + ["forever"] * 8, require="any", stop_early=True, max_active=6
        )
        attempt = await of.attempt()
        assert attempt.end is End.DECIDED
        assert len(of.started) == 6
        rows = rows_of(attempt)
        assert rows[3].outcome is Outcome.SUCCEEDED
        stopped = [row for row in rows[:6] if row.index != 3]
        assert all(row.stopped and row.ended_by == "stop_early" for row in stopped)
        assert {entry["run_id"] for entry in of.requests("cancel")} == {row.run_id for row in stopped}
        assert states_of(attempt)[6:] == ["planned"] * 6
        tally = attempt.ledger.tally if attempt.ledger else None
        assert tally is not None
        assert tally.verdict(Requirement("any")) is Verdict.SUCCEED
        # All that is on record.
        assert of.rows()[:6] == rows[:6]

    run(scenario)


def test_a_share_that_cannot_be_met_any_more_stops_the_rest_too() -> None:
    async def scenario() -> None:
        scripts = ["cancelled", "cancelled", *["forever"] * 8]
        of = world("nyx", scripts, require=0.9, stop_early=True, max_active=5)
        attempt = await of.attempt()
        assert attempt.end is End.DECIDED
        assert attempt.ledger is not None
        assert attempt.ledger.tally.decided(of.rules.require) is Standing.MISSED
        assert len(of.started) <= 7
        assert active(of) == 0

    run(scenario)


def test_without_stop_early_all_runs_are_waited_for_whatever_is_decided() -> None:
    async def scenario() -> None:
        of = world("nyx", ["succeeded", "cancelled", "succeeded"], require="any", max_active=1)
        attempt = await of.attempt()
        assert attempt.end is End.ALL
        assert of.requests("cancel") == []
        assert len(of.started) == 3

    run(scenario)


# --- what may be spent, and how long it may take ------------------------------------------------------------------


@pytest.mark.parametrize("provider", ["nyx", "b3os", "onepin"])
def test_what_all_runs_spend_together_ends_the_set_while_they_are_running(provider: str) -> None:
    async def scenario() -> None:
        limit = {"nyx": 4.0, "b3os": 12.5, "onepin": 1000}[provider]
        # So many runs of one workflow are read by its list, which must show what they spend.
        count = {"nyx": 6, "b3os": 30, "onepin": 6}[provider]
        of = world(provider, ["forever"] * (count + 2), max_spend=limit, max_active=count)
        attempt = await of.attempt()
        assert attempt.end is End.MAX_SPEND
        assert attempt.ledger is not None
        assert (attempt.ledger.tally.spend or 0) >= limit
        rows = rows_of(attempt)[:count]
        assert {(row.outcome, row.ended_by) for row in rows} == {(Outcome.TIMED_OUT, "max_spend")}
        assert all(row.stopped for row in rows)
        assert "together" in (rows[0].reason or "")
        # Nothing more is submitted.
        assert len(of.started) == count

    run(scenario)


def test_the_deadline_ends_every_wait_cancels_what_is_ours_and_submits_no_more() -> None:
    async def scenario() -> None:
        of = world("b3os", ["forever"] * 5, max_active=3)
        of.wait["timeout"] = 60
        attempt = await of.attempt()
        assert attempt.end is End.TIMEOUT
        assert 60 <= wall_clock() - of.began < 65
        rows = rows_of(attempt)
        assert [(row.outcome, row.ended_by, row.stopped) for row in rows[:3]] == [
            (Outcome.TIMED_OUT, "timeout", True)
        ] * 3
        assert states_of(attempt)[3:] == ["planned", "planned"]
        assert len(of.requests("cancel")) == 3
        # A retry waits for a cancelled one no more: it is submitted anew, as what was never sent.
        of.wait["timeout"] = 600
        of.emulator.set_defaults("b3os", seconds=5)
        again = await of.attempt()
        assert again.taken is not None
        assert len(again.taken.again) == 3

    run(scenario)


# --- errors -------------------------------------------------------------------------------------------------------


def test_an_error_of_one_run_is_its_own_and_ends_no_other() -> None:
    async def scenario() -> None:
        of = world("nexio", ["succeeded"] * 6)
        of.wait["error_budget"] = 60
        attempt = Attempt(of)

        def break_one(number: int) -> None:
            if number == 4:
                bad = of.started[2]["run_id"]
                of.emulator.add_fault(kind="status", status=502, provider="nexio", run_id=bad, count=None)

        attempt.at_post = break_one
        await attempt.run(retry=True)
        assert attempt.end is End.ALL
        assert [row.outcome for row in rows_of(attempt) if row.index != 2] == [Outcome.SUCCEEDED] * 5
        unread = rows_of(attempt)[2]
        assert (unread.state, unread.error) == (RowState.UNREAD, "PollingError")
        # A retry waits for the same run again.
        of.emulator.reset(only=["faults"])
        again = await of.attempt()
        assert rows_of(again)[2].outcome is Outcome.SUCCEEDED
        assert rows_of(again)[2].run_id == unread.run_id
        assert len(of.started) == 6

    run(scenario)


def test_a_submit_that_is_refused_fails_its_run_alone_and_is_sent_again_by_a_retry() -> None:
    async def scenario() -> None:
        of = world("nexio", ["succeeded"] * 4)
        of.emulator.add_fault(kind="status", status=422, provider="nexio", action="submit", skip=1, count=1)
        attempt = await of.attempt()
        assert sorted(states_of(attempt)) == ["ended", "ended", "ended", "refused"]
        again = await of.attempt()
        assert again.posts == 1
        assert {row.outcome for row in rows_of(again)} == {Outcome.SUCCEEDED}
        assert again.taken is not None
        assert again.taken.line() == "Of 4 runs 3 of an earlier try are kept, 1 are submitted anew."

    run(scenario)


def test_a_refused_key_ends_the_set_and_forgetsnullcontext() -> None:
    async def scenario() -> None:
        of = world("nexio", ["succeeded"] * 6, max_active=3)
        of.wait["auth_grace"] = 0
        attempt = Attempt(of)
        attempt.at_post = lambda number: of.emulator.set_key("key", "revoked" if number == 5 else "accepted")
        with pytest.raises(AuthError):
            await attempt.run(retry=True)
        assert sorted(set(states_of(attempt))) in (["ended", "planned", "submitted"], ["ended", "planned"])
        of.emulator.set_key("key", "accepted")
        again = await of.attempt()
        assert {row.outcome for row in rows_of(again)} == {Outcome.SUCCEEDED}
        assert len(of.started) == 6

    run(scenario)


@pytest.mark.parametrize("changes", [True, False])
def test_a_key_that_is_rotated_in_the_middle_loses_no_run_and_starts_none_twice(changes: bool) -> None:
    async def scenario() -> None:
        of = world("nyx", ["succeeded"] * 12, max_active=3)
        keys = {"now": "key"}
        of.client["reread"] = lambda: keys["now"]
        of.wait["auth_grace"] = 200
        attempt = Attempt(of)

        def rotate(number: int) -> None:
            if number == 5:
                of.emulator.set_key("key", "revoked")
                if changes:
                    asyncio.get_running_loop().call_later(70, keys.update, {"now": "key-2"})

        attempt.at_post = rotate
        if not changes:
            with pytest.raises(AuthError, match=r"refused for 2\d\d s"):
                await attempt.run(retry=True)
            assert set(states_of(attempt)) <= {"ended", "submitted", "planned"}
            return
        await attempt.run(retry=True)
        assert attempt.end is End.ALL
        assert {row.outcome for row in rows_of(attempt)} == {Outcome.SUCCEEDED}
        assert len(of.started) == 12

    run(scenario)


def test_a_key_that_lacks_a_right_for_one_run_ends_that_one_alone() -> None:
    async def scenario() -> None:
        of = world("nexio", ["succeeded"] * 5, max_active=2)
        of.wait["auth_grace"] = 0
        of.emulator.add_fault(kind="status", status=403, provider="nexio", action="submit", skip=2, count=1)
        attempt = await of.attempt()
        assert attempt.end is End.ALL
        assert sorted(states_of(attempt)) == ["ended"] * 4 + ["refused"]
        assert [row.error for row in rows_of(attempt) if row.error] == ["AuthError"]

    run(scenario)


def test_no_other_run_of_the_set_is_taken_for_one_whose_answer_is_lost() -> None:
    async def scenario() -> None:
        of = world("b3os", ["succeeded"] * 2)
        of.submits["adopt_uncertain"] = True
        # The list lags: the second submit does not see the first run yet, its search does.
        of.emulator.set_defaults("b3os", hidden_seconds=5)
        of.emulator.add_fault(
            kind="status", status=502, when="before", provider="b3os", action="submit", skip=1, count=1
        )
        attempt = await of.attempt()
        assert len(of.started) == 1
        assert states_of(attempt) == ["ended", "unclear"]
        assert rows_of(attempt)[1].run_id is None

    run(scenario)


def test_a_record_that_could_not_be_written_in_between_is_written_later() -> None:
    async def scenario() -> None:
        of = world("nyx", ["succeeded"] * 3)
        attempt = Attempt(of)
        failed: list[Changes] = []

        async def fails_in_between(changes: Changes) -> None:
            if len(of.writes) == 2 and len(failed) < 2:
                failed.append(changes)
                raise OSError("the database is restarting")
            await attempt.store(changes)

        await attempt.run(retry=True, store=fails_in_between)
        assert attempt.end is End.ALL
        assert failed
        assert of.rows() == rows_of(attempt)

    run(scenario)


def test_what_cannot_be_recorded_is_not_sent() -> None:
    async def scenario() -> None:
        of = world("nyx", ["succeeded"] * 4)

        async def broken(changes: Changes) -> None:
            raise OSError("the disk is full")

        attempt = Attempt(of)
        with pytest.raises(OSError, match="disk is full"):
            await attempt.run(retry=True, store=broken)
        assert of.requests("submit") == []
        assert states_of(attempt) == ["planned"] * 4

    run(scenario)


# --- retry of the rest --------------------------------------------------------------------------------------------


def test_a_retry_submits_the_failed_anew_keeps_every_other_result_and_says_so() -> None:
    async def scenario() -> None:
        of = world("nyx", ["succeeded", "failed", "exhausted", "cancelled", "error", "succeeded"])
        first = rows_of(await of.attempt())
        assert [row.verdict for row in first] == ["succeed", "fail", "skip", "fail", "fail", "succeed"]
        of.emulator.set_defaults("nyx", script="succeeded")
        # The list is rendered in another order; each run is known by what it submits.
        of.calls.reverse()
        again = await of.attempt()
        assert again.posts == 2
        assert again.taken is not None
        assert again.taken.line() == "Of 6 runs 4 of an earlier try are kept, 2 are submitted anew."
        rows = rows_of(again)
        kept = {row.run_id for row in first if not row.fails_anew}
        assert kept <= {row.run_id for row in rows}
        assert [row.run_id for row in rows if row.index == 0] == [first[5].run_id]
        # What the failed ones have spent counts for the whole.
        assert again.ledger is not None
        assert (again.ledger.tally.spend or 0) > sum(row.spend or 0 for row in rows)

    run(scenario)


def test_a_failure_that_the_policy_lets_pass_is_not_repeated() -> None:
    async def scenario() -> None:
        of = world("nyx", ["succeeded", "failed"])
        of.policy["on_outcome"] = {"failed": "warn"}
        await of.attempt()
        assert (await of.attempt()).posts == 0

    run(scenario)


def test_a_run_that_failed_while_no_process_was_there_is_submitted_anew_by_the_next_try() -> None:
    async def scenario() -> None:
        of = world("nyx", ["failed", "succeeded"])
        first = Attempt(of)
        task = asyncio.get_running_loop().create_task(first.run(retry=True))
        await asyncio.sleep(SECONDS / 2)
        first.dead = True
        await asyncio.sleep(SECONDS * 2)
        await task
        assert len(of.started) == 2
        again = await of.attempt()
        assert again.posts == 1
        assert len(of.started) == 3

    run(scenario)


# --- ends from outside --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_task", [False, True])
def test_a_kill_cancels_all_that_is_active_at_once_and_the_run_of_a_post_under_way(by_task: bool) -> None:
    async def scenario() -> None:
        of = world("nyx", ["forever"] * 30, max_active=12)
        attempt = Attempt(of)
        slow = asyncio.Event()

        async def hold(request: httpx.Request) -> None:
            if attempt.posts == 12 and not slow.is_set():
                slow.set()
                await asyncio.sleep(5)

        attempt.before_post = hold
        sets: list[ManyRuns] = []
        task = asyncio.get_running_loop().create_task(attempt.run(retry=True, at_set=sets.append))
        await slow.wait()
        began = wall_clock()
        if by_task:
            task.cancel()
        else:
            sets[0].stop(cancel=True)
        await asyncio.sleep(1)
        # The eleven whose runs are known are cancelled by now.
        assert len(of.requests("cancel")) == 11
        with pytest.raises(asyncio.CancelledError) if by_task else nullcontext():
            await task
        assert wall_clock() - began < 7
        assert len(of.started) == 12
        assert active(of) == 0
        rows = rows_of(attempt)
        assert all(row.stopped and row.ended_by == "killed" for row in rows[:12])
        assert states_of(attempt)[12:] == ["planned"] * 18
        assert of.rows()[:12] == rows[:12]

    run(scenario)


def test_a_post_that_is_not_answered_before_the_end_may_have_started_a_run_and_is_looked_for() -> None:
    async def scenario() -> None:
        of = world("nyx", ["succeeded"] * 3)
        of.settings["stop_seconds"] = 2.0
        attempt = Attempt(of)
        reached = asyncio.Event()

        async def hold(response: httpx.Response) -> None:
            if attempt.posts == 3:
                reached.set()
                await asyncio.sleep(100)

        attempt.after_post = hold
        sets: list[ManyRuns] = []
        task = asyncio.get_running_loop().create_task(attempt.run(retry=True, at_set=sets.append))
        await reached.wait()
        sets[0].stop(cancel=True)
        await task
        assert sorted(states_of(attempt)).count("submitting") >= 1
        assert of.rows() == rows_of(attempt)
        lost = len(of.started)
        assert lost == 3
        again = await of.attempt()
        # It is found by its mark; those that were cancelled are submitted anew.
        assert {row.outcome for row in rows_of(again)} == {Outcome.SUCCEEDED}
        assert len(of.started) == lost + sum(row.ended_by == "killed" for row in rows_of(attempt))

    run(scenario)


def test_a_kill_that_is_to_leave_the_runs_alone_leaves_them_to_the_next_process() -> None:
    async def scenario() -> None:
        of = world("nyx", ["succeeded"] * 8, max_active=4)
        attempt = Attempt(of)
        task = asyncio.get_running_loop().create_task(
            attempt.run(retry=True, at_set=lambda made: asyncio.get_running_loop().call_later(3, stop, made))
        )

        def stop(made: ManyRuns) -> None:
            made.stop(cancel=False)

        await task
        assert attempt.end is End.STOPPED
        assert of.requests("cancel") == []
        assert states_of(attempt) == ["submitted"] * 4 + ["planned"] * 4
        again = await of.attempt(retry=False)
        assert {row.outcome for row in rows_of(again)} == {Outcome.SUCCEEDED}
        assert len(of.started) == 8

    run(scenario)


def test_the_host_may_go_on_elsewhere_and_come_back() -> None:
    async def scenario() -> None:
        of = world("nyx", ["succeeded"] * 7, max_active=3)
        rounds = 0
        while True:
            back = wall_clock() + 5
            attempt = await of.attempt(
                retry=False, until=lambda ledger, back=back: wall_clock() > back and ledger.tally.active > 0
            )
            rounds += 1
            if attempt.end is End.ALL:
                break
            assert attempt.end is End.SUSPENDED
            assert not any(row.state is RowState.SUBMITTING for row in rows_of(attempt))
            # Elsewhere: until half of them have ended.
            await asyncio.sleep(SECONDS)
        assert rounds >= 3
        assert len(of.started) == 7
        assert {row.outcome for row in rows_of(attempt)} == {Outcome.SUCCEEDED}

    run(scenario)


def test_the_host_s_clock_for_a_try_ends_every_wait_as_timed_out() -> None:
    async def scenario() -> None:
        of = world("nyx", ["forever"] * 3)
        attempt = Attempt(of)

        def at_set(made: ManyRuns) -> None:
            asyncio.get_running_loop().call_later(30, lambda: made.stop("execution_timeout", cancel=True))

        await attempt.run(retry=True, at_set=at_set)
        assert attempt.end is End.STOPPED
        assert {(row.ended_by, row.verdict, row.stopped) for row in rows_of(attempt)} == {
            ("execution_timeout", Verdict.FAIL, True)
        }

    run(scenario)


def test_a_set_that_is_stopped_ends_at_once_however_long_it_is_until_its_next_look() -> None:
    async def scenario() -> None:
        of = world("nyx", ["forever"] * 3)
        of.wait["interval"] = 3600
        attempt = Attempt(of)

        def at_set(made: ManyRuns) -> None:
            asyncio.get_running_loop().call_later(30, lambda: made.stop(cancel=True))

        await attempt.run(retry=True, at_set=at_set)
        assert attempt.end is End.STOPPED
        assert wall_clock() - of.began < 60
        assert all(row.stopped for row in rows_of(attempt))

    run(scenario)


@pytest.mark.parametrize("by_plan", [True, False])
def test_a_run_that_is_found_over_when_the_host_s_clock_ends_a_try_has_ended(by_plan: bool) -> None:
    async def scenario() -> None:
        of = world("nexio", ["succeeded", "queued"])
        # Looks are far between by now, and the last one was before the end.
        of.wait["interval"] = 500
        attempt = Attempt(of)
        if by_plan:
            of.settings["clock"] = "execution_timeout"
            of.wait["timeout"] = SECONDS + 10
            await attempt.run(retry=True)
        else:
            later = asyncio.get_running_loop().call_later

            def at_set(made: ManyRuns) -> None:
                later(SECONDS + 10, lambda: made.stop("execution_timeout", cancel=False))

            await attempt.run(retry=True, at_set=at_set)
        assert [(row.outcome, row.ended_by) for row in rows_of(attempt)] == [
            (Outcome.SUCCEEDED, None),
            (Outcome.TIMED_OUT, "execution_timeout"),
        ]
        assert set(attempt.set.results if attempt.set else ()) == {1}

    run(scenario)


# --- what is written and said -------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_change_writes_its_page_alone_and_changes_share_a_write() -> None:
    async def scenario() -> None:
        of = world("nyx", ["succeeded"] * 250, max_active=40)
        attempt = await of.attempt()
        assert attempt.end is End.ALL
        assert sorted(of.pages) == [0, 1, 2]
        # Two changes each at the least are more than 500; what happens together is written together.
        assert len(of.writes) < 200
        assert max(len(write.pages()) for write in of.writes) <= 2
        for write in of.writes:
            assert set(write.pages()) == {index // PAGE_ROWS for index in write.indices}

    run(scenario)


def test_the_counts_are_told_at_changes_and_not_more_often_than_asked_for() -> None:
    async def scenario() -> None:
        of = world("nyx", ["succeeded"] * 12, max_active=3)
        of.settings["line_every"] = 15.0
        attempt = await of.attempt()
        lasted = wall_clock() - of.began
        assert attempt.lines[-1] == "12/12: 12 succeeded, 34.44 USD"
        assert 4 <= len(attempt.lines) <= lasted / 15 + 2
        assert len(set(attempt.lines)) == len(attempt.lines)

    run(scenario)
