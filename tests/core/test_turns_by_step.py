"""Waits for a turn by themselves: what a refusal makes of one, each look, each pause, and each end."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import Any

import pytest
from pytest_mock import MockerFixture

from runops.core import AuthError, ConflictError, RunSnapshot, find
from runops.core.model.errors import AnswerError, RequestRefused, ServerTrouble
from runops.core.transport.keys import KeyRead
from runops.core.waiting import turns
from runops.core.waiting.steps import Effect, ReadKey, Reply, Send, Sleep
from runops.core.waiting.turns import Standing, Turn
from tests.flows import drive
from tests.services import CALLS

NYX, ONEPIN, B3OS = find("nyx"), find("onepin"), find("b3os")
CALL = NYX.call(**CALLS["nyx"])
PARENT = {"config_name": "nightly"}
TURN = Turn(parent=PARENT, since=100.0, until=1000.0)
DOWN = ServerTrouble("The read was answered 503.", status=503)


def run(run_id: str, status: str = "running") -> dict[str, Any]:
    return {"run_id": run_id, "status": status, "config_name": "nightly"}


def snapshot(run_id: str, status: str = "running") -> RunSnapshot:
    return NYX.read(NYX.ref(run_id), json.dumps(run(run_id, status)).encode()).snapshot


def refusal(*active: RunSnapshot) -> ConflictError:
    error = ConflictError("The submit was answered 409.", status=409, code="busy", retry_after=7.0)
    error.active = active
    return error


# --- what a refusal makes of it ----------------------------------------------------------------------------------


def test_a_first_refusal_begins_a_wait_with_all_that_was_asked_for() -> None:
    given = {"mark": "[m]", "interval": 3.0, "error_budget": 4.0, "auth_grace": 5.0}
    turn = turns.refused(NYX, CALL, refusal(), None, now=100.0, until=200.0, **given)
    assert turn == Turn(parent=PARENT, since=100.0, until=200.0, refusals=1, **given)
    turn = turns.refused(NYX, CALL, refusal(snapshot("a"), snapshot("b")), None, now=100.0, until=200.0)
    assert turn == Turn(parent=PARENT, since=100.0, until=200.0, in_the_way="a", state="running")
    assert (turn.mark, turn.refusals, turn.interval, turn.error_budget, turn.auth_grace) == (None, 0, None, 900, 300)


def test_where_lists_do_not_show_what_is_in_the_way_no_parent_is_looked_at() -> None:
    call = B3OS.call(**CALLS["b3os"])
    assert turns.refused(B3OS, call, refusal(), None, now=100.0, until=200.0).parent == {}


def test_a_later_refusal_keeps_the_place_and_counts() -> None:
    earlier = replace(TURN, refusals=2, in_the_way="a", state="queued")
    again = turns.refused(NYX, CALL, refusal(), earlier, now=500.0, until=9000.0, mark="[m]")
    assert again == replace(earlier, refusals=3)
    behind = turns.refused(NYX, CALL, refusal(snapshot("b")), earlier, now=500.0, until=9000.0)
    assert behind == replace(earlier, refusals=0, in_the_way="b", state="running")


@pytest.mark.parametrize(("now", "over"), [(999.9, False), (1000.0, True), (1000.1, True)])
def test_a_refusal_at_the_end_of_the_wait_ends_it(now: float, over: bool) -> None:
    if not over:
        assert turns.refused(NYX, CALL, refusal(), TURN, now=now, until=0.0).refusals == 1
        return
    with pytest.raises(ConflictError) as caught:
        turns.refused(NYX, CALL, refusal(), TURN, now=now, until=0.0)
    assert caught.value.status == 409
    assert caught.value.text == (
        "No turn came at Nyx within 900 s (timeout): nothing active could be seen in the way. Nothing was submitted."
    )


def test_the_end_of_a_wait_says_who_was_in_the_way_and_which_clock_ended_it() -> None:
    behind = replace(TURN, in_the_way="a", state="queued")
    assert turns.expired(NYX, behind, 50.0, "execution_timeout").text == (
        "No turn came at Nyx within 0 s (execution_timeout): run a (queued) was in the way last. Nothing was submitted."
    )


def test_people_are_told_what_is_waited_for() -> None:
    assert turns.notice(NYX, TURN) == (
        "Nyx refuses the run (409), and nothing active can be seen that is in its way: "
        "it is submitted again after growing pauses. [waiting-for-turn]"
    )
    behind = replace(TURN, in_the_way="a", state="queued")
    assert turns.notice(NYX, behind) == (
        "Waiting for a turn at Nyx: run a (queued) is active there. [waiting-for-turn]"
    )
    news = [turns.is_news(behind, earlier) for earlier in (None, TURN, behind, replace(behind, state="running"))]
    assert news == [True, True, False, False]


@pytest.mark.parametrize(
    ("provider", "active", "why"),
    [
        (NYX, [], "no active run is shown"),
        (NYX, ["a", "b"], "several runs are active"),
        (B3OS, ["a"], "B3OS does not show what is in the way"),
    ],
)
def test_there_is_one_run_to_attach_to_or_the_refusal_says_why_not(provider: Any, active: list[str], why: str) -> None:
    conflict = refusal(*map(snapshot, active))
    with pytest.raises(ConflictError) as caught:
        turns.the_active(provider, conflict)
    assert f"There is no run to attach to: {why}." in caught.value.text
    unclear = caught.value
    assert (unclear.status, unclear.code, unclear.retry_after, unclear.active) == (409, "busy", 7.0, conflict.active)
    assert turns.the_active(NYX, refusal(snapshot("a"))) == NYX.ref("a")


def test_a_turn_travels_whole_and_one_of_another_version_is_read() -> None:
    whole = Turn(parent=PARENT, since=1.0, until=2.0, mark="[m]", refusals=3, in_the_way="a", state="running",
                 interval=4.0, error_budget=5.0, auth_grace=6.0)  # fmt: skip
    assert Turn.from_dict(json.loads(json.dumps(whole.to_dict()))) == whole
    assert Turn.from_dict({"since": 1.0, "until": 2.0, "newer": 1}) == Turn(parent={}, since=1.0, until=2.0)


# --- the wait ----------------------------------------------------------------------------------------------------


class Script:
    """Replies in order by a clock that pauses alone move on; no pause is spread."""

    def __init__(self, *replies: Any) -> None:
        self.replies = list(replies)
        self.now = 100.0
        self.asked: list[Any] = []
        self.told: list[str] = []
        self.updates: list[Turn] = []

    def wait(self, turn: Turn, **more: Any) -> Turn:
        found = drive(
            turns.await_turn(
                NYX, turn, clock=lambda: self.now, tell=self.told.append, update=self.updates.append, **more
            ),
            self._reply_to,
        )
        assert not self.replies, "all of them are asked for"
        return found

    def _reply_to(self, effect: Effect) -> Any:
        if isinstance(effect, Sleep):
            self.asked.append((effect.seconds, "key") if effect.for_key else effect.seconds)
            self.now += effect.seconds
            return None
        if isinstance(effect, ReadKey):
            self.asked.append("key")
            return KeyRead(changed=self.replies.pop(0))
        assert isinstance(effect, Send)
        self.asked.append("latest" if "by-config" in effect.request.path else "list")
        assert effect.by == 1000.0
        reply = self.replies.pop(0)
        if isinstance(reply, AnswerError):
            raise reply
        return Reply(json.dumps(reply).encode(), None)


@pytest.fixture(autouse=True)
def unspread(mocker: MockerFixture) -> None:
    """Pauses of their full length."""
    mocker.patch("runops.core.waiting.turns.spread", return_value=0.0)


def listed(*runs: dict[str, Any]) -> dict[str, Any]:
    return {"runs": list(runs)}


OVER = run("o", "completed") | {"result": "success"}


def test_who_is_in_the_way_is_told_once_and_looked_at_until_it_is_over() -> None:
    script = Script(run("a"), run("a"), run("b", "queued"), OVER, listed(OVER))
    turn = script.wait(TURN)
    assert turn == replace(TURN, in_the_way="b", state="queued")
    assert script.asked == ["latest", 0.0, 5.0, "latest", 5.0, "latest", 0.0, 5.0, "latest", "list"]
    assert script.told == [
        "Waiting for a turn at Nyx: run a (running) is active there. [waiting-for-turn]",
        "Waiting for a turn at Nyx: run b (queued) is active there. [waiting-for-turn]",
    ]
    assert [update.in_the_way for update in script.updates] == ["a", "b"]


def test_an_older_run_on_the_list_is_in_the_way_too() -> None:
    script = Script(OVER, listed(OVER, run("a")), OVER, listed(OVER))
    assert script.wait(replace(TURN, interval=9.0)).in_the_way == "a"
    assert script.asked == ["latest", "list", 0.0, 9.0, "latest", "list"]


@pytest.mark.parametrize(("refusals", "pause"), [(1, 2.0), (2, 4.0), (5, 32.0), (6, 60.0), (20, 60.0)])
def test_where_nothing_is_seen_posts_come_after_growing_pauses(refusals: int, pause: float) -> None:
    script = Script(OVER, listed(OVER))
    assert script.wait(replace(TURN, refusals=refusals)).refusals == refusals
    assert script.asked == [pause, "latest", "list"]
    unlisted = Script()
    unlisted.wait(replace(TURN, parent={}, refusals=refusals))
    assert unlisted.asked == [pause]


def test_a_turn_without_a_parent_and_a_refusal_pauses_as_after_the_first() -> None:
    script = Script()
    script.wait(replace(TURN, parent={}))
    assert script.asked == [2.0]


def test_no_pause_outlasts_the_wait() -> None:
    script = Script()
    with pytest.raises(ConflictError, match=r"within 30 s \(timeout\)"):
        script.wait(replace(TURN, until=130.0, refusals=9))
    assert script.asked == [30.0]


@pytest.mark.parametrize(("held", "pauses"), [([0.0], []), ([3.0, 0.0], [3.0]), ([9.0, -1.0], [5.0])])
def test_a_place_may_be_left_to_another(held: list[float], pauses: list[float]) -> None:
    script = Script(*[OVER, listed(OVER)] * len(held))
    seen: list[Standing] = []

    def left_to_others(standing: Standing) -> float:
        seen.append(standing)
        return held.pop(0)

    script.wait(TURN, left_to_others=left_to_others)
    assert [each for each in script.asked if isinstance(each, float)] == pauses
    assert {(each.active, each.ids) for each in seen} == {((), frozenset({"o"}))}


def test_looks_that_fail_are_tried_again_after_growing_pauses_within_the_error_budget() -> None:
    tries = [DOWN] * 4
    script = Script(*tries, *tries, OVER, listed(OVER))
    script.wait(TURN)
    between = ["latest", 0.5, "latest", 1.0, "latest", 2.0, "latest"]
    assert script.asked == [*between, 0.5, *between, 1.0, "latest", "list"]
    short = replace(TURN, error_budget=4.0)
    with pytest.raises(ServerTrouble):
        Script(*tries, *tries).wait(short)
    script = Script(*tries, *tries, OVER, listed(OVER))
    script.wait(replace(short, error_budget=4.1))


def test_lists_that_cannot_be_read_leave_it_to_the_next_post(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "runops"):
        for turn, pauses in ((TURN, [2.0]), (replace(TURN, refusals=3), [8.0])):
            script = Script(RequestRefused("No list.", status=400))
            assert script.wait(turn) == turn
            assert [each for each in script.asked if isinstance(each, float)] == pauses
    assert caplog.records[0].getMessage() == "The runs of Nyx could not be listed: No list. [request-refused]"


def refused_key(mark: str = "old") -> AuthError:
    error = AuthError("The key is refused.", status=401)
    error.key_mark = mark
    return error


def test_a_key_that_may_not_list_leaves_it_to_the_next_post() -> None:
    script = Script(refused_key(), False)
    assert script.wait(TURN) == TURN
    assert script.asked == ["latest", "key", 2.0]


def test_a_key_that_has_listed_before_is_read_again_until_it_is_good() -> None:
    script = Script(refused_key(), False, False, True, OVER, listed(OVER))
    assert script.wait(replace(TURN, in_the_way="a")).in_the_way == "a"
    asked = script.asked
    assert asked[:3] == ["latest", "key", "key"]
    assert asked[3][1] == "key"
    assert asked[4:] == ["key", "latest", "list"]


def test_without_a_grace_a_refused_key_ends_the_wait() -> None:
    script = Script(refused_key(), False)
    with pytest.raises(AuthError):
        script.wait(replace(TURN, in_the_way="a", auth_grace=0.0))
