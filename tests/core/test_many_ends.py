"""How the rows of a set end where the set, a look or a cancel ends otherwise than it should."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import httpx
import pytest
from pytest_mock import MockerFixture

from runops.core import AuthError, Outcome
from runops.core.client.many_plan import End
from runops.core.many.rows import Row, RowState
from tests import simulated_time
from tests.many import SECONDS, Attempt, World, arguments
from tests.simulated_time import wall_clock

T = TypeVar("T")


def run(scenario: Callable[[], Coroutine[Any, Any, T]]) -> T:
    return simulated_time.run(scenario())


def world(provider: str, scripts: list[str], **rules: Any) -> World:
    return World(provider, [arguments(provider, number, script) for number, script in enumerate(scripts)], **rules)


def rows_of(attempt: Attempt) -> list[Row]:
    assert attempt.ledger is not None
    return list(attempt.ledger)


def later(seconds: float, what: Callable[[], object]) -> None:
    asyncio.get_running_loop().call_later(seconds, what)


async def begun(of: World) -> World:
    """All its runs are submitted, and the process that has done so has left them alone."""
    await Attempt(of).run(retry=True, at_set=lambda made: later(5, lambda: made.stop(cancel=False)))
    return of


def said(caplog: pytest.LogCaptureFixture, words: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if words in record.getMessage()]


# --- cancels ---


def test_runs_that_no_request_can_cancel_are_given_up_and_said_to_go_on(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        of = world("nexio", ["succeeded", "forever", "forever"], require="any", stop_early=True)
        attempt = await of.attempt()
        assert attempt.end is End.DECIDED
        assert [(row.state, row.ended_by, row.stopped) for row in rows_of(attempt)[1:]] == [
            (RowState.ENDED, "stop_early", False)
        ] * 2
        left = said(caplog, "Nexio documents no way to cancel a run.")
        assert [str(row.run_id) in text for row, text in zip(rows_of(attempt)[1:], left, strict=True)] == [True] * 2
        assert all(text.endswith("[left-behind]") for text in left)
        assert of.requests("cancel") == []

    run(scenario)


@pytest.mark.parametrize("by", ["stop_early", "killed"])
def test_a_cancel_that_is_refused_leaves_its_run_behind_and_is_said(by: str, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        early = by == "stop_early"
        scripts = ["succeeded" if early else "forever", "forever", "forever"]
        of = world("nyx", scripts, **({"require": "any", "stop_early": True} if early else {}))
        attempt = Attempt(of)

        def refuse(number: int) -> None:
            if number == 3:
                of.emulator.add_fault(kind="status", status=403, provider="nyx", action="cancel", count=1)

        attempt.at_post = refuse
        await attempt.run(retry=True, at_set=None if early else lambda made: later(5, lambda: made.stop(cancel=True)))
        rows = rows_of(attempt)[1:] if early else rows_of(attempt)
        assert sorted(row.stopped for row in rows) == [False] + [True] * (len(rows) - 1)
        (refused,) = (row for row in rows if not row.stopped)
        # Who is given up by this side alone is over; who is left after a kill may be taken up again.
        assert (refused.state, refused.ended_by) == (
            (RowState.ENDED, "stop_early") if early else (RowState.SUBMITTED, None)
        )
        assert {(row.state, row.ended_by) for row in rows if row.stopped} == {(RowState.ENDED, by)}
        (text,) = said(caplog, "could not be cancelled and may go on: ")
        assert str(refused.run_id) in text
        assert text.endswith("[left-behind]")

    run(scenario)


@pytest.mark.parametrize("cancels", [True, False])
def test_a_wait_that_its_clock_ends_cancels_its_run_if_wanted(cancels: bool) -> None:
    async def scenario() -> None:
        of = world("nyx", ["forever", "succeeded"])
        of.wait["timeout"] = SECONDS + 15
        of.settings["cancel_on_timeout"] = cancels
        attempt = await of.attempt()
        assert [row.outcome for row in rows_of(attempt)] == [Outcome.TIMED_OUT, Outcome.SUCCEEDED]
        assert [row.stopped for row in rows_of(attempt)] == [cancels, False]
        assert len(of.requests("cancel")) == cancels

    run(scenario)


# --- the last look ---


def test_a_last_look_that_fails_leaves_the_wait_as_the_clock_has_ended_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "runops")

    async def scenario() -> None:
        of = world("nexio", ["succeeded"] * 2)
        of.wait["interval"] = 500
        attempt = Attempt(of)

        def at_set(made: Any) -> None:
            later(5, lambda: of.emulator.add_fault(kind="status", status=404, provider="nexio", action="get"))
            later(SECONDS + 10, lambda: made.stop("execution_timeout", cancel=False))

        await attempt.run(retry=True, at_set=at_set)
        ended = sorted(((str(row.outcome), row.ended_by) for row in rows_of(attempt)), key=str)
        assert ended == [("succeeded", None), ("timed_out", "execution_timeout")]
        (text,) = said(caplog, "could not be looked at once more: ")
        (lost,) = (row for row in rows_of(attempt) if row.outcome is Outcome.TIMED_OUT)
        assert str(lost.run_id) in text

    run(scenario)


@pytest.mark.parametrize(("most", "looked_at"), [(3, 3), (2, 2), (0, 0)])
def test_so_many_runs_and_no_more_are_looked_at_once_more(most: int, looked_at: int, mocker: MockerFixture) -> None:
    mocker.patch("runops.core.client.many_waits.MOST_LAST_LOOKS", most)

    async def scenario() -> None:
        of = world("nexio", ["succeeded"] * 3)
        of.wait["interval"] = 500
        attempt = Attempt(of)
        await attempt.run(
            retry=True, at_set=lambda made: later(SECONDS + 10, lambda: made.stop("execution_timeout", cancel=False))
        )
        outcomes = [row.outcome for row in rows_of(attempt)]
        assert outcomes.count(Outcome.SUCCEEDED) == looked_at
        assert outcomes.count(Outcome.TIMED_OUT) == 3 - looked_at

    run(scenario)


# --- one look each ---


def test_where_each_wait_ends_at_its_first_look_what_goes_on_is_left_to_the_next_time() -> None:
    async def scenario() -> None:
        of = await begun(world("nyx", ["succeeded", "forever", "succeeded"]))
        of.settings["once"] = True
        attempt = await of.attempt(retry=False)
        assert attempt.end is End.SUSPENDED
        assert wall_clock() - of.began < SECONDS
        assert [row.state for row in rows_of(attempt)] == [RowState.SUBMITTED] * 3
        await asyncio.sleep(SECONDS)
        again = await of.attempt(retry=False)
        assert [row.outcome for row in rows_of(again)] == [Outcome.SUCCEEDED, None, Outcome.SUCCEEDED]
        of.settings.update(last=True, clock="execution_timeout")
        last = await of.attempt(retry=False)
        assert last.end is End.TIMEOUT
        ended = rows_of(last)[1]
        assert (ended.outcome, ended.ended_by, ended.stopped) == (Outcome.TIMED_OUT, "execution_timeout", True)
        # What the last look has found is told with it.
        assert last.set is not None
        found = last.set.results[1]
        assert (found["state"], found["details"]["config_name"]) == ("running", "config-1")
        assert len(of.started) == 3

    run(scenario)


def test_a_state_that_needs_time_to_settle_is_looked_at_until_it_has() -> None:
    async def scenario() -> None:
        of = await begun(world("nyx", ["no_result"]))
        of.settings["once"] = True
        await asyncio.sleep(SECONDS)
        looks = len(of.requests("get"))
        again = await of.attempt(retry=False)
        (row,) = rows_of(again)
        assert row.is_over
        assert len(of.requests("get")) > looks + 1

    run(scenario)


# --- runs that were given, and those of an earlier try ---


@pytest.mark.parametrize("cancel", [True, False])
def test_a_set_that_submits_nothing_is_stopped_like_any_other(cancel: bool) -> None:
    async def scenario() -> None:
        of = await begun(world("nyx", ["forever"] * 2))
        of.settings["submits"] = None
        again = Attempt(of)
        await again.run(retry=False, at_set=lambda made: later(5, lambda: made.stop(cancel=cancel)))
        assert again.end is End.STOPPED
        assert [row.stopped for row in rows_of(again)] == [cancel] * 2
        assert again.posts == 0

    run(scenario)


@pytest.mark.parametrize("end", [Outcome.FAILED, Outcome.CANCELLED])
def test_a_run_of_an_earlier_try_that_fails_while_this_one_waits_is_left_to_the_next(end: Outcome) -> None:
    async def scenario() -> None:
        of = await begun(world("nyx", [end.value, "succeeded"]))
        again = await of.attempt()
        assert [row.outcome for row in rows_of(again)] == [end, Outcome.SUCCEEDED]
        assert again.posts == 0
        assert again.set is not None
        assert set(again.set.results) == {0}
        third = await of.attempt()
        # One that somebody has cancelled is not begun again.
        assert third.posts == (end is Outcome.FAILED)

    run(scenario)


# --- keys ---


@pytest.mark.parametrize("grace", [200, 0])
def test_a_key_that_was_good_for_a_submit_is_given_time_at_the_first_look_too(grace: float) -> None:
    async def scenario() -> None:
        of = world("nexio", ["succeeded"])
        of.client["token"] = f"key of {id(of)}"
        of.wait["auth_grace"] = grace
        attempt = Attempt(of)

        async def revoke(response: httpx.Response) -> None:
            of.emulator.set_key(of.client["token"], "revoked")
            later(70, lambda: of.emulator.set_key(of.client["token"], "accepted"))

        attempt.after_post = revoke
        if not grace:
            with pytest.raises(AuthError):
                await attempt.run(retry=True)
            return
        await attempt.run(retry=True)
        assert [row.outcome for row in rows_of(attempt)] == [Outcome.SUCCEEDED]

    run(scenario)


def test_what_cannot_be_wound_up_in_time_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        of = world("nyx", ["succeeded"] * 3)
        of.settings["stop_seconds"] = 2.0
        attempt = Attempt(of)

        async def hold(request: httpx.Request) -> None:
            await asyncio.sleep(100)

        attempt.before_post = hold
        began = wall_clock()
        await attempt.run(retry=True, at_set=lambda made: later(5, lambda: made.stop(cancel=True)))
        assert 7 <= wall_clock() - began < 10
        assert said(caplog, "wound up") == ["3 runs could not be wound up within 2 s."]

    run(scenario)
