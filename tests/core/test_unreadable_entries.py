"""One entry of a list that cannot be read: the others are used, what is missing is said, and nothing is adopted."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from runops.core import RunRef, SubmitUncertainError, find
from runops.core.model.errors import AnswerLost, ConflictError, MalformedAnswer
from runops.core.waiting.discovery import Search, look_for, seek
from runops.core.waiting.flows import recent
from runops.core.waiting.intent import Intent, list_before_submit
from runops.core.waiting.listing import Listed, listed
from runops.core.waiting.options import WaitOptions
from runops.core.waiting.steps import Effect, Reply, Send, Sleep
from runops.core.waiting.submission import find_submitted, submit
from runops.core.waiting.watch import WatchState
from tests.flows import drive

B3OS, NYX, NEKT, ONEPIN = find("b3os"), find("nyx"), find("nekt"), find("onepin")
WORKFLOW = {"workflow_id": "7c9e6679-7425-40de-944b-e07fc1f90ae7"}
BASE = datetime(2026, 3, 1, tzinfo=UTC).timestamp()
NAMELESS: list[Any] = [None, 7, "text", [], {}, {"status": "running"}, {"id": None, "status": "running"}, {"id": ""}]
STATUSLESS: list[dict[str, Any]] = [{}, {"status": None}, {"status": ""}, {"status": {"word": "running"}}]


def item(run_id: str, born: float = 0.0, status: str = "running", **more: Any) -> dict[str, Any]:
    """A run as B3OS and OnePin both list it."""
    moment = datetime.fromtimestamp(BASE + born, UTC).isoformat()
    return {"id": run_id, "status": status, "startedAt": moment, "created_at": moment, **more}


def b3os_page(items: Sequence[Any]) -> bytes:
    return json.dumps({"data": {"items": list(items)}}).encode()


def onepin_page(items: Sequence[Any]) -> bytes:
    return json.dumps({"data": list(items)}).encode()


@pytest.fixture
def clock(clock: Any) -> Any:
    """The test's clock, at the beginning of the runs' time."""
    clock.now = BASE
    return clock


def driven(flow: Any, answer: Callable[[Any], bytes], clock: Any = None) -> Any:
    """What a flow gives when each request gets what ``answer`` gives or raises; sleeping moves the clock on."""

    def reply_to(effect: Effect) -> Any:
        if isinstance(effect, Send):
            content = answer(effect.request)
            return Reply(content, BASE if clock is None else clock()) if effect.dated else content
        assert isinstance(effect, Sleep)
        if clock is not None:
            clock.sleep(effect.seconds)
        return None

    return drive(flow, reply_to)


def ids(found: Listed) -> list[str]:
    return [run.ref.run_id for run in found.runs]


# --- lists ---


@pytest.mark.parametrize("nameless", NAMELESS, ids=repr)
def test_an_entry_without_an_id_is_left_out_and_counted(nameless: Any) -> None:
    content = b3os_page([item("new", 2), nameless, item("old", 1)])
    found = driven(listed(B3OS, {"workflow_id": "wf_1"}, since=BASE), lambda request: content)
    assert ids(found) == ["new", "old"]
    assert len(found.unread) == 1
    assert found.whole


@pytest.mark.parametrize("statusless", STATUSLESS, ids=repr)
def test_an_entry_without_a_status_is_a_run_that_goes_on_until_its_own_route_says_more(statusless: Any) -> None:
    broken = {**item("r1", 2), **dict.fromkeys(["status"]), **statusless}
    found = driven(listed(B3OS, {"workflow_id": "wf_1"}, since=BASE), lambda request: b3os_page([broken]))
    (run,) = found.runs
    assert (run.ref.run_id, run.phase, run.outcome) == ("r1", "running", None)
    assert not found.unread


def test_a_page_on_which_nothing_can_be_read_is_no_page() -> None:
    with pytest.raises(MalformedAnswer, match="as documented"):
        driven(listed(B3OS, {"workflow_id": "wf_1"}, since=BASE), lambda request: b3os_page([None, 7]))


def test_a_later_page_on_which_nothing_can_be_read_is_out_of_reach() -> None:
    def answer(request: Any) -> bytes:
        first = [item(str(number), 1000 - number) for number in range(100)]
        return b3os_page([None] if "offset" in request.query else first)

    found = driven(listed(B3OS, {"workflow_id": "wf_1"}, since=BASE), answer)
    assert (len(found.runs), found.whole) == (100, False)


def test_a_full_page_with_an_unreadable_entry_is_turned_all_the_same() -> None:
    items = [item(str(number), 1000 - number) for number in range(150)]
    items[40] = None  # pyright: ignore[reportArgumentType, reportCallIssue]

    def answer(request: Any) -> bytes:
        offset = int(request.query.get("offset", "0"))
        return b3os_page(items[offset : offset + 100])

    assert len(driven(listed(B3OS, {"workflow_id": "wf_1"}, since=BASE), answer).runs) == 149


def test_the_runs_of_a_parent_are_told_from_others_beside_an_unreadable_entry() -> None:
    runs = [{"run_id": "theirs", "config_name": "b", "status": "queued"}, None]
    runs.append({"run_id": "ours", "config_name": "a", "status": "queued"})
    content = json.dumps({"runs": runs}).encode()
    found = driven(listed(NYX, {"config_name": "a"}, since=0), lambda request: content)
    assert ids(found) == ["ours"]


def test_the_newest_runs_are_given_and_what_is_missing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    content = b3os_page([None, item("a"), {"id": ""}])
    with caplog.at_level(logging.WARNING, "runops"):
        runs = driven(recent(B3OS, "wf_1"), lambda request: content)
    assert [run.ref.run_id for run in runs] == ["a"]
    assert "2 entries without a readable run id" in caplog.text


# --- searches and watches ---


def test_a_search_goes_on_beside_an_unreadable_entry_and_says_so_once(
    caplog: pytest.LogCaptureFixture, clock: Any
) -> None:
    looks = 0

    def answer(request: Any) -> bytes:
        nonlocal looks
        looks += 1
        return b3os_page([None, item("old", -5), *([item("new", 5)] if looks > 10 else [])])

    search = Search.build(B3OS, "wf_1", since=BASE)
    with caplog.at_level(logging.WARNING, "runops"):
        found = driven(seek(B3OS, search, WaitOptions.build(B3OS, now=clock()), clock=clock), answer, clock)
    assert found.ref.run_id == "new"
    assert caplog.text.count("1 entry without a readable run id") == 1


def test_a_run_without_a_status_may_be_the_one_that_is_sought() -> None:
    search = Search.build(B3OS, "wf_1", since=BASE)
    found = driven(look_for(B3OS, search), lambda request: b3os_page([{**item("new", 5), "status": None}]))
    assert found.ref.run_id == "new"


def test_a_watch_calls_a_new_unreadable_entry_a_gap_and_an_old_one_not(caplog: pytest.LogCaptureFixture) -> None:
    trail, items = WatchState(), [None, item("a", 0)]

    def look() -> list[str]:
        nonlocal trail
        trail = WatchState.parse(json.loads(json.dumps(trail.to_dict())))
        return trail.take(driven(trail.look(B3OS, {"workflow_id": "wf_1"}, now=BASE), lambda request: b3os_page(items)))

    with caplog.at_level(logging.WARNING, "runops"):
        assert look() == ["a"]
        assert look() == []
        assert not trail.gap
        items.insert(0, {"status": "running"})
        items.insert(0, item("b", 1))
        assert look() == ["b"]
        assert trail.gap
        trail.gap = False
        look()
        assert not trail.gap
    assert caplog.text.count("cannot be followed") == 2


# --- submits ---


def onepin_call() -> Any:
    return ONEPIN.call(**WORKFLOW)


def ids_before(content: bytes) -> frozenset[str] | None:
    return driven(list_before_submit(ONEPIN, onepin_call()), lambda request: content).ids_before


def lost(request: Any) -> bytes:
    raise AnswerLost("The connection broke.")


def test_an_unreadable_entry_stops_no_submit_but_nothing_is_compared_with_such_a_list() -> None:
    assert ids_before(onepin_page([item("a")])) == {"a"}
    assert ids_before(onepin_page([item("a"), None])) is None


def test_a_run_without_a_status_counts_as_known_before_a_submit() -> None:
    assert ids_before(onepin_page([{"id": "a"}])) == {"a"}


@pytest.mark.parametrize(
    ("after", "adopted"),
    [
        ([item("ours", 5), item("a")], "ours"),
        ([item("ours", 5), None, item("a")], None),
        ([None, item("a")], None),
        ([{**item("ours", 5), "status": None}, item("a")], "ours"),
    ],
    ids=["readable", "one more that may be ours", "only one that may be ours", "without a status"],
)
def test_after_a_lost_answer_nothing_is_adopted_beside_an_entry_that_may_be_ours(
    after: list[Any], adopted: str | None, clock: Any
) -> None:
    posts = 0

    def answer(request: Any) -> bytes:
        nonlocal posts
        if request.method == "POST":
            posts += 1
            return lost(request)
        return onepin_page(after)

    flow = submit(ONEPIN, onepin_call(), Intent(None, frozenset({"a"}), BASE), clock=clock, adopt_uncertain=True)
    if adopted is None:
        with pytest.raises(SubmitUncertainError):
            driven(flow, answer, clock)
    else:
        assert driven(flow, answer, clock) == RunRef(provider="onepin", run_id=adopted, parents=WORKFLOW)
    assert posts == 1


def test_what_could_not_be_compared_before_a_crash_is_uncertain_after_it(clock: Any) -> None:
    content = onepin_page([item("new", 5), item("a")])
    flow = find_submitted(ONEPIN, WORKFLOW, Intent(), clock=clock, adopt_uncertain=True)
    with pytest.raises(SubmitUncertainError, match="no whole list from before"):
        driven(flow, lambda request: content, clock)


def test_a_conflict_names_what_is_active_beside_an_unreadable_entry(clock: Any) -> None:
    def answer(request: Any) -> bytes:
        if request.method == "POST":
            raise ConflictError("Busy.", status=409)
        return onepin_page([None, item("busy")])

    with pytest.raises(ConflictError, match=r"run busy \(running\)"):
        driven(submit(ONEPIN, onepin_call(), Intent(None, frozenset(), BASE), clock=clock), answer, clock)
