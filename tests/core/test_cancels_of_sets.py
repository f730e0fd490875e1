"""The cancel of many runs at once: what is asked, how many at a time, and what is left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast

from runops.core import AsyncRunClient, ConflictError, RunRef, SubmitUncertainError, find
from runops.core.client.many_cancels import CANCELS_AT_ONCE, cancel_rows
from runops.core.many.rows import Row
from runops.core.waiting.intent import Intent
from tests import simulated_time

T = TypeVar("T")
MARKED = Intent("[bcdfghjklmnpq]")


def run(scenario: Callable[[], Coroutine[Any, Any, T]]) -> T:
    return simulated_time.run(scenario())


class Client:
    """Notes what it is asked; each cancel takes ten seconds."""

    def __init__(self, *, trouble: dict[str, Exception] | None = None) -> None:
        self.provider = find("nyx")
        self.asked: list[str] = []
        self.searched: list[tuple[dict[str, str], Intent, float]] = []
        self.trouble = trouble or {}
        self.at_once = self.most = 0

    async def find_submitted(self, parents: Any, intent: Intent, *, submit_grace: float) -> RunRef:
        self.searched.append((dict(parents), intent, submit_grace))
        if intent == Intent():
            raise SubmitUncertainError("Nobody knows.")
        return RunRef(provider="nyx", run_id="found")

    async def cancel(self, ref: RunRef) -> None:
        self.asked.append(ref.run_id)
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            await asyncio.sleep(10)
        finally:
            self.at_once -= 1
        if ref.run_id in self.trouble:
            raise self.trouble[ref.run_id]


def known(index: int) -> Row:
    return Row(index=index, key=str(index)).submitted(RunRef(provider="nyx", run_id=f"r{index}"), None)


def cancelled(client: Client, rows: list[Row], seconds: float | None = None) -> dict[int, str]:
    return run(lambda: cancel_rows(cast("AsyncRunClient", client), rows, seconds))


def test_all_are_asked_for_a_few_at_once() -> None:
    client = Client()
    assert cancelled(client, [known(index) for index in range(40)]) == {}
    assert client.asked == [f"r{index}" for index in range(40)]
    assert client.most == CANCELS_AT_ONCE == 16


def test_nothing_is_asked_where_there_is_nothing() -> None:
    client = Client()
    assert cancelled(client, []) == {}
    assert client.asked == []


def test_what_could_not_be_cancelled_is_named_and_keeps_no_other_from_it() -> None:
    client = Client(trouble={"r1": ConflictError("It is over."), "r2": ZeroDivisionError("a secret")})
    left = cancelled(client, [known(index) for index in range(4)])
    assert left == {1: "It is over.", 2: "ZeroDivisionError"}
    assert len(client.asked) == 4


def test_a_run_whose_submit_was_not_answered_is_looked_for_once() -> None:
    client = Client()
    sent = Row(index=3, key="k").submitting(MARKED, 1.0, {"config_name": "nightly"})
    left = cancelled(client, [sent, Row(index=5, key="j")])
    assert list(left) == [5]
    assert left[5].startswith("Nobody knows.")
    assert client.searched == [({"config_name": "nightly"}, MARKED, 0.0), ({}, Intent(), 0.0)]
    assert client.asked == ["found"]


def test_what_has_no_answer_in_time_is_left_and_no_more_waited_for() -> None:
    client = Client()
    left = cancelled(client, [known(index) for index in range(17)], seconds=15)
    assert left == {16: "there was no answer in time"}
    assert client.at_once == 0
