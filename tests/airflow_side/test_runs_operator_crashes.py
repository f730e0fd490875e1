"""A task of many runs that dies at any moment: its next try submits the rest, and no run twice."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import Any

import pytest

from runops.airflow import RunsOperator, runs_operator
from runops.airflow._compat import TaskDeferred
from runops.airflow.exceptions import SubmitUncertainError
from runops.airflow.many.ledger_store import LedgerStore
from runops.core import AsyncRunClient
from runops.core.many.ledger import Ledger
from runops.core.many.rows import RowState
from tests.airflow_side.conftest import only_event, stored
from tests.airflow_side.sets import SetHost, die, dies, sets

_ = sets
COUNT, FATAL = 14, 7
MARKED = "nyx"
"""Its runs show the mark of their submit, which proves whose they are."""


def in_state(page: Any, state: RowState) -> int:
    return sum(row.state is state for row in Ledger.rows_from_pages({0: page}))


def announced(page: Any) -> int:
    """How many submits a page knows of: those that are announced, and those that were answered."""
    return sum(row.state is not RowState.PLANNED for row in Ledger.rows_from_pages({0: page}))


def before_the_record() -> None:
    save = LedgerStore.save

    def saves(self: LedgerStore, pages: Any) -> None:
        return die() if announced(pages[0]) >= FATAL else save(self, pages)

    LedgerStore.save = saves


def after_the_record() -> None:
    save = LedgerStore.save

    def saves(self: LedgerStore, pages: Any) -> None:
        save(self, pages)
        if announced(pages[0]) >= FATAL:
            die()

    LedgerStore.save = saves


def during_the_post() -> None:
    send = AsyncRunClient._send
    posts: list[Any] = []

    async def sends(self: AsyncRunClient, effect: Any) -> Any:
        answer = await send(self, effect)
        if effect.request.method == "POST":
            posts.append(effect)
            if len(posts) == FATAL:
                die()
        return answer

    AsyncRunClient._send = sends


def between_the_answer_and_the_record() -> None:
    save = LedgerStore.save

    def saves(self: LedgerStore, pages: Any) -> None:
        known = sum(row.run_id is not None for row in Ledger.rows_from_pages({0: pages[0]}))
        return die() if known >= FATAL else save(self, pages)

    LedgerStore.save = saves


def at_the_verdict() -> None:
    runs_operator.apply_set_verdict = die


LOST: dict[str, Callable[[], None]] = {
    "after the record": after_the_record,
    "during the POST": during_the_post,
    "between the answer and the record": between_the_answer_and_the_record,
}
"""Moments after which a submit is announced of which nobody knows how it went."""
MOMENTS: dict[str, Callable[[], None]] = {
    "before the record": before_the_record,
    **LOST,
    "at the verdict": at_the_verdict,
}


def killed(sets: SetHost, moment: str, task: Any, context: Any) -> None:
    """A first try that dies at a moment; Airflow then begins the next one."""

    def work() -> None:
        MOMENTS[moment]()
        task.execute(context)

    dies(work)
    context["ti"].next_try()


@pytest.mark.parametrize("moment", MOMENTS)
def test_where_runs_bear_a_mark_all_are_submitted_once_and_all_results_are_right(sets: SetHost, moment: str) -> None:
    task, context = sets.made(MARKED, COUNT, max_active=5, deferrable=False), sets.context()
    killed(sets, moment, task, context)
    ended = sets.run(task, context)
    assert ended.error is None
    assert sets.twice(MARKED) == []
    assert len(sets.submits(MARKED)) == COUNT
    assert ended.result["outcomes"] == {"succeeded": COUNT}
    assert sets.cancelled(MARKED) == set()
    ids = {run["run_id"] for run in sets.emulator.runs(provider=MARKED)}
    assert {row["run_id"] for row in ended.xcoms["runs"]} == ids


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("provider", ["nexio", "onepin"])
def test_where_they_bear_none_one_run_at_the_most_is_unknown_and_none_is_submitted_twice(
    sets: SetHost, provider: str, moment: str
) -> None:
    task, context = sets.made(provider, COUNT, max_active=5, deferrable=False), sets.context()
    killed(sets, moment, task, context)
    ended = sets.run(task, context)
    assert sets.twice(provider) == []
    # The record that is missing may hold the answer to the submit before too: both go in one commit.
    if moment in LOST or (moment == "before the record" and ended.error is not None):
        assert type(ended.error) is SubmitUncertainError
        assert len(sets.submits(provider)) == (COUNT - 1 if moment == "after the record" else COUNT)
        assert ended.xcoms["run"]["outcomes"] == {"succeeded": COUNT - 1}
    else:
        assert ended.error is None
        assert ended.result["outcomes"] == {"succeeded": COUNT}
        assert len(sets.submits(provider)) == COUNT
    assert sets.cancelled(provider) == set()


# --- where it waits in the triggerer ---


def at_the_deferral() -> None:
    RunsOperator._defer = die


def at_the_resume() -> None:
    runs_operator.read_event = die


def after_the_resume() -> None:
    """At the first POST of the process that goes on."""
    send = AsyncRunClient._send

    async def sends(self: AsyncRunClient, effect: Any) -> Any:
        answer = await send(self, effect)
        return die() if effect.request.method == "POST" else answer

    AsyncRunClient._send = sends


def deferred_in(task: Any, context: Any) -> Any:
    with pytest.raises(TaskDeferred) as raised:
        task.execute(context)
    return raised.value


@pytest.mark.parametrize("provider", [MARKED, "onepin"])
def test_killed_at_its_deferral_a_task_takes_up_all_and_submits_the_rest(sets: SetHost, provider: str) -> None:
    task, context = sets.made(provider, COUNT, max_active=5, seconds=600, deferrable=True), sets.context()
    dies(lambda: (at_the_deferral(), task.execute(context)))
    assert len(sets.submits(provider)) == 5
    context["ti"].next_try()
    sets.finish_all(provider)
    ended = sets.run(sets.made(provider, COUNT, max_active=5, seconds=0.5, deferrable=True), context)
    assert ended.result["outcomes"] == {"succeeded": COUNT}
    assert (len(sets.submits(provider)), sets.twice(provider), sets.cancelled(provider)) == (COUNT, [], set())


@pytest.mark.parametrize("provider", [MARKED, "onepin", "nexio"])
def test_a_triggerer_that_dies_changes_nothing(sets: SetHost, provider: str) -> None:
    task, context = sets.made(provider, COUNT, max_active=5, seconds=600, deferrable=True), sets.context()
    trip = deferred_in(task, context)
    sets.emulator.set_defaults(provider=provider, script="succeeded", seconds=0.5)

    def work() -> None:
        signal.signal(signal.SIGALRM, die)
        signal.setitimer(signal.ITIMER_REAL, 0.4)
        asyncio.run(only_event(stored(trip.trigger)))

    dies(work)
    sets.finish_all(provider)
    # Another triggerer makes it anew from what Airflow's database holds.
    event = asyncio.run(only_event(stored(trip.trigger)))
    ended = sets.run(Resumed(task, trip, event), context)
    assert ended.error is None
    assert ended.result["outcomes"] == {"succeeded": COUNT}
    assert (len(sets.submits(provider)), sets.twice(provider), sets.cancelled(provider)) == (COUNT, [], set())


@pytest.mark.parametrize("provider", [MARKED, "b3os"])
@pytest.mark.parametrize("moment", [at_the_resume, after_the_resume])
def test_a_worker_that_dies_as_it_resumes_leaves_each_run_once(
    sets: SetHost, provider: str, moment: Callable[[], None]
) -> None:
    task, context = sets.made(provider, COUNT, max_active=5, seconds=600, deferrable=True), sets.context()
    trip = deferred_in(task, context)
    sets.finish_all(provider)
    sets.emulator.set_defaults(provider=provider, script="succeeded", seconds=0.5)
    event = asyncio.run(only_event(stored(trip.trigger)))
    dies(lambda: (moment(), task.resume_execution(trip.method_name, {"event": event}, context)))
    context["ti"].next_try()
    ended = sets.run(task, context)
    assert sets.twice(provider) == []
    assert sets.cancelled(provider) == set()
    assert len(sets.submits(provider)) == COUNT
    if moment is after_the_resume and provider != MARKED:
        assert type(ended.error) is SubmitUncertainError
    else:
        assert ended.result["outcomes"] == {"succeeded": COUNT}


class Resumed:
    """A task whose first step is its return from the triggerer."""

    def __init__(self, task: Any, trip: Any, event: Any) -> None:
        self._task, self._trip, self._event = task, trip, event

    def execute(self, context: Any) -> Any:
        return self._task.resume_execution(self._trip.method_name, {"event": self._event}, context)

    def resume_execution(self, *arguments: Any) -> Any:
        return self._task.resume_execution(*arguments)
