"""What a watch takes for new: told by order and ids over wrong times, deletions, lagging lists and earlier releases."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from runops.core import find
from runops.core.model.errors import PollingError, RunNotFound
from runops.core.waiting.discovery import Search, look_for, seek
from runops.core.waiting.listing import MOST_PAGES, PAGE, Listed, listed
from runops.core.waiting.options import WaitOptions
from runops.core.waiting.steps import Effect, Send, Sleep
from runops.core.waiting.watch import WatchState
from runops.core.waiting.window import (
    DEEP_EVERY,
    FEWEST,
    GONE_SECONDS,
    LATE_SECONDS,
    MOST,
    MOST_GONE,
    Entry,
    Window,
    digest,
)
from tests.flows import drive

B3OS, NYX, NEKT = find("b3os"), find("nyx"), find("nekt")
WORKFLOW = {"workflow_id": "wf_1"}
NOW = datetime(2026, 3, 1, tzinfo=UTC).timestamp()
HOUR = 3600.0


def item(run_id: str, born: float | None = None, *, over: bool = True) -> dict[str, Any]:
    """A run of B3OS that was created so many seconds after NOW."""
    moment = "" if born is None else datetime.fromtimestamp(NOW + born, UTC).isoformat()
    return {"id": run_id, "status": "success" if over else "running", "startedAt": moment, "workflowId": "wf_1"}


class WaitState:
    """A watch whose memory is written down and read after each look, and the list that it looks at."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []
        self.now = NOW
        self.trail = WatchState()
        self.met: list[str] = []
        self.pages = 0

    def look(self, *, seconds: float = 30.0, has_time: Callable[[], bool] = lambda: True) -> list[str]:
        """The runs that a look finds new or open; they are dealt with at once."""
        self.now += seconds
        found = driven(self.trail.look(B3OS, WORKFLOW, now=self.now, has_time=has_time), self._answer)
        followed = self.trail.take(found)
        for run_id in followed:
            self.trail.close(run_id)
        self.met += followed
        self.trail = WatchState.parse(json.loads(json.dumps(self.trail.to_dict(), allow_nan=False)))
        return followed

    def looks(self, count: int = DEEP_EVERY) -> list[str]:
        """What so many looks find; as many as it takes until one goes deep, if not given."""
        return [run_id for _ in range(count) for run_id in self.look()]

    def _answer(self, request: Any) -> bytes:
        self.pages += 1
        offset = int(request.query.get("offset", "0"))
        return json.dumps({"data": {"items": self.items[offset : offset + 100]}}).encode()

    @property
    def size(self) -> int:
        return len(json.dumps(self.trail.to_dict()))


@pytest.fixture
def clock(clock: Any) -> Any:
    """The test's clock, at the beginning of the runs' time."""
    clock.now = NOW
    return clock


def driven(flow: Any, answer: Callable[[Any], bytes], clock: Any = None) -> Any:
    def reply_to(effect: Effect) -> Any:
        if isinstance(effect, Send):
            return answer(effect.request)
        assert isinstance(effect, Sleep)
        clock.sleep(effect.seconds)
        return None

    return drive(flow, reply_to)


@pytest.fixture
def watch() -> WaitState:
    return WaitState()


# --- how far back ---


@pytest.mark.parametrize(("older", "pages"), [(9, 2), (10, 1)])
def test_a_list_is_read_until_a_page_ends_in_so_many_older_runs(watch: WaitState, older: int, pages: int) -> None:
    newer = PAGE - older
    watch.items = [item(f"r{n}", HOUR if n < newer else -HOUR) for n in range(PAGE)] + [item("last", -2 * HOUR)]
    found = driven(listed(B3OS, WORKFLOW, since=NOW), watch._answer)
    assert watch.pages == pages
    assert found.ended_by == ("since" if pages == 1 else "end")


def test_a_run_that_tells_no_time_is_followed_as_one_of_no_time(watch: WaitState) -> None:
    watch.items = [item("timeless", over=False), item("new", 60, over=False)]
    watch.trail.take(driven(watch.trail.look(B3OS, WORKFLOW, now=NOW), watch._answer))
    assert watch.trail.open == {"timeless": 0.0, "new": NOW + 60}


# --- what is new ---


@pytest.mark.parametrize("ahead", [60.0, 3 * HOUR, 9_999_999.0])
def test_a_run_from_the_future_hides_no_run_below_it(watch: WaitState, ahead: float) -> None:
    watch.items = [item("ahead", ahead, over=False)]
    watch.look()
    for number in range(50):
        watch.items.insert(1, item(f"r{number}", watch.now - NOW))
        assert watch.look() == [f"r{number}"]
    assert not watch.trail.gap


def test_hundreds_of_runs_from_the_future_hide_a_run_below_them_for_some_looks_at_the_most(watch: WaitState) -> None:
    watch.items = [item(f"ahead{number}", 3 * HOUR) for number in range(450)]
    watch.look()
    watch.items.append(item("now", 0))
    assert watch.looks() == ["now"]


@pytest.mark.long
@pytest.mark.parametrize("behind", [0.0, 600.0, 3 * HOUR, LATE_SECONDS - 60])
def test_a_run_that_is_entered_far_down_is_met(watch: WaitState, behind: float) -> None:
    watch.items = [item(f"old{number}", -number * 40.0) for number in range(900)]
    watch.look()
    assert not watch.met
    place = sum(each["startedAt"] > item("", -behind)["startedAt"] for each in watch.items)
    watch.items.insert(place, item("late", -behind))
    assert watch.looks() == ["late"]
    assert not watch.trail.gap


def test_runs_without_times_are_told_by_their_place(watch: WaitState) -> None:
    watch.items = [item(f"old{number}") for number in range(150)]
    watch.look()
    watch.items.insert(0, item("top"))
    watch.items.insert(70, item("middle"))
    assert sorted(watch.looks()) == ["middle", "top"]


def test_what_rises_from_below_the_memory_by_deletions_is_past(watch: WaitState) -> None:
    watch.items = [item(f"old{number}", -number * 600.0) for number in range(400)]
    watch.look()
    del watch.items[3:30]
    assert watch.looks() == []
    del watch.items[:200]
    assert watch.looks() == []
    watch.items.insert(0, item("new", watch.now - NOW))
    assert watch.look() == ["new"]
    assert not watch.trail.gap


def test_an_open_run_is_followed_wherever_it_stands(watch: WaitState) -> None:
    watch.items = [item(f"old{number}", -number * 600.0) for number in range(90)]
    watch.look()
    watch.items.append(item("open", -40 * HOUR, over=False))
    assert watch.look() == ["open"]


@pytest.mark.parametrize("looks", [1, 7])
def test_runs_that_went_out_of_sight_and_come_back_are_not_met_again(watch: WaitState, looks: int) -> None:
    watch.look()
    watch.items = [item(f"r{number}", -number * 10.0) for number in range(300)]
    watch.look()
    assert len(watch.met) == 300
    shown, watch.items = watch.items, []
    watch.looks(looks)
    watch.items = shown[5:]
    watch.looks(looks)
    watch.items = [item("new", watch.now - NOW), *shown]
    watch.looks()
    assert watch.met[300:] == ["new"]


def test_all_that_was_remembered_may_be_deleted_and_the_rest_is_past(watch: WaitState) -> None:
    watch.items = [item(f"old{number}", -number * 600.0) for number in range(400)]
    watch.look()
    watch.items = [item("new", 60), *watch.items[150:]]
    assert watch.looks() == ["new"]


def test_beside_nothing_that_is_remembered_a_run_is_new_that_may_have_been_entered_late(watch: WaitState) -> None:
    watch.items = [item(f"deleted since {number}", -LATE_SECONDS - number) for number in range(2 * FEWEST)]
    watch.look(seconds=30)
    watch.items = [item("late", 30 - LATE_SECONDS), item("past", 29 - LATE_SECONDS)]
    assert watch.look() == ["late"]


def test_a_run_that_is_dealt_with_after_it_left_the_list_is_not_met_when_it_comes_back(watch: WaitState) -> None:
    watch.items = [item("long", 0, over=False), item("old", -60)]
    trail = watch.trail
    watch.now += 30
    trail.take(driven(trail.look(B3OS, WORKFLOW, now=watch.now), watch._answer))
    watch.items = [item("old", -60)]
    trail.take(driven(trail.look(B3OS, WORKFLOW, now=watch.now), watch._answer))
    trail.close("long")
    watch.items = [item("long", 0), item("old", -60)]
    assert watch.looks() == []


# --- what is missed ---


def test_more_runs_than_a_look_reads_are_a_gap(watch: WaitState) -> None:
    watch.items = [item("old", -60)]
    watch.look()
    watch.items = [item(f"r{number}", 30) for number in range(MOST_PAGES * PAGE + 5)] + watch.items
    assert len(watch.look()) == MOST_PAGES * PAGE
    assert watch.trail.gap


def test_more_runs_than_a_look_reads_are_a_gap_below_runs_from_the_future_too(watch: WaitState) -> None:
    ahead = [item(f"ahead{number}", 3 * HOUR) for number in range(5)]
    watch.items = [*ahead, item("old", -60)]
    watch.look()
    watch.items = [*ahead, *(item(f"r{number}", 30) for number in range(MOST_PAGES * PAGE)), item("old", -60)]
    watch.look()
    assert watch.trail.gap


def test_a_list_of_which_only_the_future_can_be_read_is_a_gap(watch: WaitState) -> None:
    watch.items = [item(f"ahead{number}", 3 * HOUR) for number in range(MOST_PAGES * PAGE + 50)]
    watch.look()
    assert not watch.trail.gap, "before the first look nothing can be missed"
    watch.looks()
    assert watch.trail.gap


@pytest.mark.long
def test_a_long_list_that_moves_on_in_order_is_no_gap(watch: WaitState) -> None:
    watch.items = [item(f"old{number}", -number * 1.0) for number in range(3000)]
    watch.look()
    for number in range(60):
        watch.items = [item(f"r{number}.{each}", watch.now - NOW) for each in range(7)] + watch.items
        assert len(watch.look()) == 7
    assert not watch.trail.gap


def test_a_watch_that_was_away_for_days_meets_what_came_meanwhile(watch: WaitState) -> None:
    watch.items = [item(f"old{number}", -number * 600.0) for number in range(200)]
    watch.look()
    watch.items = [item(f"r{number}", 48 * HOUR - number * 300) for number in range(500)] + watch.items
    assert len(watch.look(seconds=48 * HOUR)) == 500
    assert not watch.trail.gap


def test_a_look_that_ran_out_of_time_says_so_and_the_next_goes_on(watch: WaitState) -> None:
    watch.items = [item(f"old{number}", -number * 600.0) for number in range(60)]
    watch.look()
    watch.items = [item(f"r{number}", 30) for number in range(400)] + watch.items
    assert len(watch.look(has_time=lambda: False)) == 100
    assert watch.trail.gap
    assert len(watch.look()) == 300


@pytest.mark.parametrize("shown", [["new"], ["new", "top"], ["new", "top", "middle"], ["new", "top", "middle", "last"]])
def test_what_a_look_did_not_come_down_to_keeps_its_place_below_it(shown: list[str]) -> None:
    window = Window(order=[digest(run_id) for run_id in ("top", "middle", "last")], at=NOW)
    entries = [Entry(run_id, NOW) for run_id in shown]
    window.take(entries, window.compare(entries), shown, ["new"], now=NOW + 30, end=False, goes_on=True)
    assert window.order == [digest(run_id) for run_id in ("new", "top", "middle", "last")]
    assert window.gone == {}


# --- what it costs ---


def test_a_quiet_list_costs_a_page_a_look_and_little_memory(watch: WaitState) -> None:
    watch.items = [item(f"old{number}", -number * HOUR) for number in range(3000)]
    watch.look()
    watch.pages = 0
    watch.looks(50)
    assert watch.pages == 50
    assert watch.size < 1_000


@pytest.mark.long
def test_a_busy_list_costs_three_pages_a_look_on_average(watch: WaitState) -> None:
    watch.items = [item(f"old{number}", -number * 15.0) for number in range(3000)]
    watch.look()
    watch.pages = 0
    for number in range(50):
        watch.items.insert(0, item(f"r{number}", watch.now - NOW))
        watch.look()
    assert watch.pages <= 50 * 4
    assert watch.met == [f"r{number}" for number in range(50)]


@pytest.mark.long
def test_the_memory_has_an_end_however_long_the_list_and_however_much_is_deleted(watch: WaitState) -> None:
    watch.look()
    for number in range(100):
        watch.items = [item(f"r{number}.{each}", watch.now - NOW) for each in range(90)]
        watch.look()
    assert len(watch.met) == 9000
    assert watch.size < (MOST + MOST_GONE) * 8 + 3_000
    watch.items = []
    watch.look(seconds=GONE_SECONDS + 2 * HOUR)
    assert watch.size < 2_000


def test_other_parents_runs_are_remembered_in_part() -> None:
    theirs = [{"run_id": f"t{number}", "config_name": "theirs", "status": "completed"} for number in range(400)]
    ours = {"run_id": "ours", "config_name": "mine", "status": "running"}
    trail = WatchState()
    content = json.dumps({"runs": [*theirs[:50], ours, *theirs[50:99]]}).encode()
    trail.take(driven(trail.look(NYX, {"config_name": "mine"}, now=NOW), lambda request: content))
    assert digest("ours") in (trail.window.order or [])
    assert 10 <= len(trail.window.order or []) <= 45


def test_a_list_of_short_pages_is_read_as_far_as_one_of_long_pages() -> None:
    runs = [{"id": f"r{number}", "pipeline": "orders", "status": "success"} for number in range(5000)]

    def answer(request: Any) -> bytes:
        page = int(request.query.get("page", "1"))
        return json.dumps({"results": runs[(page - 1) * 20 : page * 20]}).encode()

    found: Listed = driven(listed(NEKT, {"pipeline": "orders"}, since=0.0), answer)
    assert (found.stop, len(found.runs)) == ("limit", MOST_PAGES * PAGE)


# --- what was written before ---


def first_release(horizon: float, done: Sequence[str], opened: Sequence[str] = ()) -> dict[str, Any]:
    """The memory of a watch as the first release wrote it."""
    moments = {"open": dict.fromkeys(opened, NOW), "done": dict.fromkeys(done, NOW)}
    return {"version": 1, "horizon": horizon, "newest": horizon + 600.0, **moments, "gap": False, "unread": []}


def test_a_memory_of_the_first_release_goes_on(watch: WaitState) -> None:
    watch.items = [item("new", 10), item("known", 0), item("late", -300), *(item(f"o{n}", -9e3) for n in range(80))]
    watch.trail = WatchState.parse(first_release(NOW - 600, ["known"], ["followed"]))
    assert watch.trail.begun
    assert watch.looks() == ["late", "new"]
    assert "followed" in watch.trail.open
    assert not watch.trail.gap
    assert watch.trail.to_dict()["version"] == 2


def test_a_memory_of_the_first_release_that_waited_for_the_future_says_that_runs_may_be_missing(
    watch: WaitState,
) -> None:
    watch.items = [item("ahead", 3 * HOUR, over=False), item("new", 10), item("missed", -2 * HOUR)]
    watch.trail = WatchState.parse(first_release(NOW + 3 * HOUR - 600, [], ["ahead"]))
    assert watch.look() == ["new"]
    assert watch.trail.gap


@pytest.mark.parametrize("value", [{}, {"version": 3, "window": 7}, {"window": {"order": 7}}])
def test_a_memory_of_another_kind_begins_anew(value: Any) -> None:
    assert not WatchState.parse(value).begun
    assert Window.parse(value.get("window")) == Window()


# --- searches ---


def test_one_run_with_an_old_time_does_not_end_a_search_for_the_next() -> None:
    items = [item(f"r{number}", 3000.0 - number) for number in range(250)]
    items[97] = item("behind", -3 * HOUR)
    items[99] = item("behind too", -3 * HOUR)

    def answer(request: Any) -> bytes:
        offset = int(request.query.get("offset", "0"))
        return json.dumps({"data": {"items": items[offset : offset + 100]}}).encode()

    found = driven(look_for(B3OS, Search.build(B3OS, "wf_1", since=NOW, which="next")), answer)
    assert found.ref.run_id == "r249"


def test_a_list_that_does_not_reach_back_is_said_once_and_not_at_each_look(
    caplog: pytest.LogCaptureFixture, clock: Any
) -> None:
    looks = 0

    def answer(request: Any) -> bytes:
        nonlocal looks
        offset = int(request.query.get("offset", "0"))
        looks += offset == 0
        if looks > 7:
            raise RunNotFound("No such account.", status=404)
        runs = [{"run_id": f"t{offset + number}", "config_name": "theirs", "status": "queued"} for number in range(100)]
        return json.dumps({"runs": runs}).encode()

    search = Search.build(NYX, {"config_name": "mine"}, since=NOW, which="next")
    with caplog.at_level(logging.WARNING, "runops"), pytest.raises(PollingError):
        driven(seek(NYX, search, WaitOptions.build(NYX, now=NOW, error_budget=60.0), clock=clock), answer, clock)
    assert looks > 7
    assert caplog.text.count("does not go back as far as") == 1


def test_what_a_search_has_said_before_a_restart_is_not_said_again(
    caplog: pytest.LogCaptureFixture, clock: Any
) -> None:
    runs = [{"run_id": f"t{number}", "config_name": "theirs", "status": "queued"} for number in range(100)]
    content = json.dumps({"runs": runs}).encode()
    search = Search.build(NYX, {"config_name": "mine"}, since=NOW, which="next")
    told: set[str] = set()
    with caplog.at_level(logging.WARNING, "runops"):
        for _ in range(3):
            clock.now = NOW
            options = WaitOptions.build(NYX, now=NOW, timeout=0.001)
            driven(seek(NYX, search, options, clock=clock, warned=told), lambda request: content, clock)
    assert caplog.text.count("does not go back as far as") == 1


def test_the_fewest_remembered_entries_are_fewer_than_a_page() -> None:
    assert FEWEST <= PAGE
