"""A limit that processes share, as one of them asks for it: a store in memory and a clock that is handed in."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from typing import Any
from weakref import ref

import pytest
from pytest_mock import MockerFixture

from runops.core.model.shared_rate import (
    ANSWER_SECONDS,
    FIRST_ANSWER_SECONDS,
    RETRY_SECONDS,
    Question,
    Reply,
    SharedRate,
)
from runops.core.transport import shared_budget
from runops.core.transport.rate_store import Answered, RateStore, TakePlaces
from runops.core.transport.shared_budget import SharedBudget, in_loop
from tests.services import Clock

ALONE = "cannot be used (%s). Until it is back this process keeps to its share, 12.34 requests a minute; waits go on."


class Store(RateStore):
    """Keeps what it is asked, and answers at once where it is given something to say."""

    def __init__(self, *says: Reply | Exception) -> None:
        super().__init__("redis at store.example:6379", self._never)
        self.says = list(says)
        self.asked: list[tuple[str, Question, Answered]] = []

    def _never(self) -> Any:
        raise AssertionError("a store in memory has no thread")

    def ask(self, key: str, question: Question, answered: Answered) -> None:
        self.asked.append((key, question, answered))
        if self.says:
            self.answer(self.says.pop(0))

    def answer(self, says: Reply | Exception) -> None:
        """Answer the last question."""
        _, question, answered = self.asked[-1]
        answered(question, says)

    @property
    def wanted(self) -> list[int]:
        return [question.places for _, question, _ in self.asked]


@pytest.fixture(autouse=True)
def kept_in_this_test(mocker: MockerFixture) -> None:
    mocker.patch.object(shared_budget, "_KEPT", shared_budget._KEPT.copy())


def reply(places: int = 1, **more: float) -> Reply:
    given: dict[str, float] = {"wait": 0.0, "ahead": 0.0, "settle": 0.0, "pause": 0.0, **more}
    return Reply(places, born=7, **given)


def budget_on(store: RateStore, clock: Callable[[], float], limit: float = 600, processes: int = 1) -> SharedBudget:
    return SharedBudget(
        SharedRate(limit, processes, chance=lambda: 0.0),
        store,
        key="the line",
        title="Nexio",
        share=12.34,
        clock=clock,
    )


def find_place(budget: SharedBudget, kind: str) -> None:
    if kind == "sync":
        budget.find_place()
    else:
        asyncio.run(budget.find_place_async())


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    assert {record.levelno for record in caplog.records} <= {logging.WARNING}
    return [record.getMessage() for record in caplog.records]


def lost(why: str) -> str:
    return f"Nexio: the store of its limit at redis at store.example:6379 {ALONE % why}"


BACK = (
    "Nexio: the store of its limit at redis at store.example:6379 is back: all processes share the whole limit again."
)


def test_a_question_goes_to_the_line_of_the_credential_for_as_many_places_as_are_wanted(clock: Clock) -> None:
    store = Store()
    budget = budget_on(store, clock)
    assert budget.refill(2, lambda: None) is False
    ((key, question, _),) = store.asked
    assert (key, question.at, question.places) == ("the line", clock.began, 2)


def test_who_asks_hears_of_the_answer_once_and_only_of_that_one(clock: Clock) -> None:
    store, woken = Store(), list[str]()
    budget = budget_on(store, clock)
    first, second = lambda: woken.append("first"), lambda: woken.append("second")
    for answered in (first, first, second):
        assert budget.refill(1, answered) is False
    assert len(store.asked) == 1
    store.answer(reply(0))
    assert woken == ["first", "second"]
    assert budget.refill(1, second) is False
    store.answer(reply(1))
    assert woken == ["first", "second", "second"]
    assert budget.refill(1, first) is True
    assert len(store.asked) == 2
    assert woken == ["first", "second", "second"]


def test_where_nothing_is_asked_nobody_waits_for_an_answer(clock: Clock) -> None:
    store, woken = Store(), list[str]()
    budget = budget_on(store, clock)
    assert budget.refill(0, lambda: woken.append("nobody")) is False
    assert not store.asked
    budget.refill(1, lambda: woken.append("somebody"))
    store.answer(reply(1))
    assert woken == ["somebody"]


def test_a_place_is_taken_as_from_a_limit_of_ones_own(clock: Clock) -> None:
    budget = budget_on(Store(reply(2, wait=3.0)), clock, processes=1)
    budget.refill(2, lambda: None)
    assert budget.refill(2, lambda: None) is True
    assert budget.ask_in() == 0
    assert not budget.is_alone
    assert budget.delay(clock.began) == pytest.approx(3.0)
    assert budget.reserve(clock.began, 5.0, lateness=0.5) == pytest.approx(3.0)
    # The next one would come 0.1 s later; the caller asks for more, less what it may be late.
    assert budget.delay(clock.began) == pytest.approx(4.5)
    budget.hold(clock.began + 40)
    assert budget.delay(clock.began) == pytest.approx(40)


def test_who_takes_a_place_without_more_words_moves_the_next_by_the_limit_alone(clock: Clock) -> None:
    together = budget_on(Store(reply(2)), clock)
    together.refill(2, lambda: None)
    together.reserve(clock())
    # Of 600 a minute a little less is used.
    assert together.delay(clock()) == pytest.approx(0.1 / 0.98)
    alone = budget_on(Store(ConnectionError()), clock, limit=60, processes=10)
    alone.refill(1, lambda: None)
    alone.reserve(clock())
    assert alone.delay(clock()) == pytest.approx(10 / 0.98)


def test_a_pause_goes_to_the_store_with_the_next_question(clock: Clock) -> None:
    store = Store(reply(1), reply(0, pause=40.0))
    budget = budget_on(store, clock)
    budget.refill(1, lambda: None)
    budget.hold(clock.began + 40)
    budget.refill(0, lambda: None)
    assert [question.pause for _, question, _ in store.asked] == [0.0, pytest.approx(40.0)]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_request_asks_until_it_has_a_place_and_leaves_on_credit_after_a_few_tries(clock: Clock, kind: str) -> None:
    for empty, questions in ((0, 1), (1, 2), (2, 3), (3, 3), (9, 3)):
        store = Store(*[reply(0)] * empty, reply(1))
        find_place(budget_on(store, clock), kind)
        assert store.wanted == [1] * questions


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_request_that_finds_a_place_asks_for_none_and_does_not_wait(
    clock: Clock, kind: str, mocker: MockerFixture
) -> None:
    store = Store(reply(2))
    budget = budget_on(store, clock)
    budget.refill(2, lambda: None)
    looks = mocker.spy(budget, "refill")
    find_place(budget, kind)
    assert store.wanted == [2]
    assert looks.call_count == 1


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_store_that_does_not_answer_is_given_up_once(
    clock: Clock, kind: str, mocker: MockerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("FIRST_ANSWER_SECONDS", "ANSWER_SECONDS"):
        mocker.patch(f"runops.core.model.shared_rate.{name}", 0.01)
    store = Store()
    budget = budget_on(store, clock)
    find_place(budget, kind)
    assert len(store.asked) == 1
    assert budget.is_alone
    find_place(budget, kind)
    assert said(caplog) == [lost("no answer in time")]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_an_answer_from_the_thread_of_the_store_is_waited_for(clock: Clock, kind: str) -> None:
    asked, threads = threading.Event(), list[threading.Thread]()

    class Slow(Store):
        def ask(self, key: str, question: Question, answered: Answered) -> None:
            super().ask(key, question, answered)
            threads.append(threading.Thread(target=self.answer, args=(reply(1),)))
            threads[-1].start()
            asked.set()

    store = Slow()
    find_place(budget_on(store, clock), kind)
    assert asked.is_set()
    assert store.wanted == [1]
    for thread in threads:
        thread.join()


def test_a_question_without_an_answer_in_time_is_said_to_be_lost_by_whoever_comes_next(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store()
    budget = budget_on(store, clock)
    budget.refill(1, lambda: None)
    clock.sleep(FIRST_ANSWER_SECONDS - 0.1)
    assert budget.refill(1, lambda: None) is False
    assert not said(caplog)
    clock.sleep(0.2)
    assert budget.refill(1, lambda: None) is True
    assert budget.refill(1, lambda: None) is True
    assert said(caplog) == [lost("no answer in time")]
    assert len(store.asked) == 1
    assert budget.ask_in() == pytest.approx(0.0)


def test_a_process_alone_asks_again_before_a_place_that_may_not_hold(clock: Clock) -> None:
    budget = budget_on(Store(ConnectionError()), clock, limit=60, processes=60)
    budget.refill(1, lambda: None)
    assert budget.is_alone
    assert budget.ask_in() == 0
    budget.reserve(clock.began)
    # The next place comes a minute later: until then the store may be back.
    assert budget.ask_in() == pytest.approx(RETRY_SECONDS)
    clock.sleep(RETRY_SECONDS - ANSWER_SECONDS)
    assert budget.ask_in() == pytest.approx(ANSWER_SECONDS)


def refusal(name: str) -> Exception:
    return type(name, (Exception,), {})("a text that holds canary-pass-8c1f")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("TimeoutError", "TimeoutError"),
        ("ResponseError", "ResponseError"),
        *(
            (name, f"{name}: it refuses the user or the password")
            for name in ("AuthenticationError", "AuthenticationWrongNumberOfArgsError", "NoPermissionError")
        ),
    ],
)
def test_a_store_that_is_lost_is_named_once_with_the_kind_of_its_error_and_again_when_it_is_back(
    clock: Clock, name: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(refusal(name), refusal(name), reply(1), reply(1), refusal(name))
    budget = budget_on(store, clock)
    for known in (False, True):
        assert budget.refill(1, lambda: None) is known
        clock.sleep(RETRY_SECONDS)
    assert said(caplog) == [lost(why)]
    budget.refill(1, lambda: None)
    assert said(caplog) == [lost(why), BACK]
    budget.reserve(clock())
    budget.refill(1, lambda: None)
    budget.reserve(clock())
    assert said(caplog) == [lost(why), BACK]
    budget.refill(1, lambda: None)
    assert said(caplog) == [lost(why), BACK, lost(why)]
    assert len(store.asked) == 5


def test_a_store_that_was_never_said_to_be_lost_is_not_said_to_be_back(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    # Another process has lost it: all of them keep to their shares for a while.
    elsewhere = (reply(0, settle=3.0), reply(1))
    for before, expected in (((), []), ((ConnectionError(), reply(1)), [lost("ConnectionError"), BACK])):
        caplog.clear()
        budget = budget_on(Store(*before, *elsewhere), clock)
        for _ in before:
            budget.refill(1, lambda: None)
            clock.sleep(RETRY_SECONDS)
        budget.refill(1, lambda: None)
        assert budget.is_alone
        clock.sleep(3.0)
        budget.refill(1, lambda: None)
        assert not budget.is_alone
        assert said(caplog) == expected


def test_an_answer_that_was_given_up_is_used_by_nobody(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    store = Store()
    budget = budget_on(store, clock)
    budget.refill(1, lambda: None)
    clock.sleep(FIRST_ANSWER_SECONDS)
    budget.refill(1, lambda: None)
    for late in (reply(1), ConnectionError()):
        store.answer(late)
    assert budget.is_alone
    assert said(caplog) == [lost("no answer in time")]


def test_in_a_forked_process_nobody_waits_for_answers_to_the_other_and_its_lock_is_free(clock: Clock) -> None:
    store, woken = Store(), list[str]()
    budget = budget_on(store, clock)
    budget.refill(1, lambda: woken.append("of the other"))
    budget._lock.acquire()
    shared_budget._after_fork()
    assert budget.refill(1, lambda: woken.append("ours")) is False
    assert len(store.asked) == 2
    store.answer(reply(1))
    assert woken == ["ours"]
    assert budget.refill(1, lambda: None) is True


@pytest.mark.long
def test_the_places_of_a_closed_client_are_kept_for_the_next_one_and_not_for_ever(clock: Clock) -> None:
    first = ref(budget_on(Store(), clock))
    for _ in range(63):
        budget_on(Store(), clock)
    gc.collect()
    assert first() is not None
    budget_on(Store(), clock)
    gc.collect()
    assert first() is None


# --- to a loop from another thread ---


def test_what_a_thread_wants_of_a_loop_is_done_there_and_in_the_context_that_is_given() -> None:
    name, seen = ContextVar[str]("name"), list[tuple[str, str]]()
    context = copy_context()
    context.run(name.set, "given")

    async def story() -> None:
        done = asyncio.Event()

        def note() -> None:
            seen.append((name.get("none"), threading.current_thread().name))
            done.set()

        loop = asyncio.get_running_loop()
        for given in (context, None):
            done.clear()
            thread = threading.Thread(target=in_loop(loop, note, given), name="another")
            thread.start()
            await done.wait()
            thread.join()

    asyncio.run(story())
    here = threading.current_thread().name
    assert seen == [("given", here), ("none", here)]


def test_a_loop_that_is_closed_is_left_alone() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    woken: list[str] = []
    in_loop(loop, lambda: woken.append("nobody"))()
    assert not woken


# --- the thread of a store ---


def test_a_store_answers_one_question_after_the_other_in_one_thread_of_its_own() -> None:
    opened: list[str] = []
    answers: list[tuple[int, Reply | Exception, str]] = []
    done = threading.Event()

    def take(key: str, question: Question) -> Reply:
        if question.places == 2:
            raise ConnectionError(key)
        return reply(question.places)

    def open_store() -> TakePlaces:
        opened.append(threading.current_thread().name)
        return take

    def answered(question: Question, says: Reply | Exception) -> None:
        answers.append((question.places, says, threading.current_thread().name))
        if question.places == 3:
            done.set()

    store = RateStore("a store", open_store)
    assert store.name == "a store"
    assert not opened
    for places in (1, 2, 3):
        store.ask("the line", Question(0.0, places, 1.0), answered)
    assert done.wait(60)
    assert opened == ["runops-rate-store"]
    assert [(places, name) for places, _, name in answers] == [(number, "runops-rate-store") for number in (1, 2, 3)]
    first, failed, last = (says for _, says, _ in answers)
    assert (first, last) == (reply(1), reply(3))
    assert isinstance(failed, ConnectionError)
    assert failed.args == ("the line",)
    assert store._thread is not None
    assert store._thread.daemon
