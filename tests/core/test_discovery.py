"""Finding runs: which one a search chooses, how far back a list is read, and that each end is met exactly once."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runops.core import NotSupported, RunRef, RunSnapshot, find
from runops.core.model.errors import ConfigurationError, PollingError, RunNotFound, TransientError
from runops.core.model.run import Outcome, Phase
from runops.core.waiting.discovery import Search, look_for, nothing_found, seek
from runops.core.waiting.listing import MOST_PAGES, Listed, listed
from runops.core.waiting.options import WaitOptions
from runops.core.waiting.steps import Effect, Send, Sleep
from runops.core.waiting.watch import DONE_KEPT, OVERLAP, WatchState
from tests.flows import drive

B3OS, NYX, NEKT = find("b3os"), find("nyx"), find("nekt")
WORKFLOW = {"workflow_id": "wf_1"}
BASE = datetime(2026, 3, 1, tzinfo=UTC).timestamp()


def run(run_id: str, born: float | None, *, over: bool = False) -> RunSnapshot:
    return RunSnapshot(
        ref=RunRef(provider="b3os", run_id=run_id),
        state="success" if over else "running",
        phase=None if over else Phase.RUNNING,
        outcome=Outcome.SUCCEEDED if over else None,
        started_at=None if born is None else datetime.fromtimestamp(BASE + born, UTC),
    )


def b3os_item(run_id: str, born: float | None = None, *, status: str = "running") -> dict[str, Any]:
    moment = "" if born is None else datetime.fromtimestamp(BASE + born, UTC).isoformat()
    return {"id": run_id, "status": status, "startedAt": moment, "workflowId": "wf_1"}


def b3os_page(items: Sequence[dict[str, Any]]) -> bytes:
    return json.dumps({"data": {"items": list(items)}}).encode()


@pytest.fixture
def clock(clock: Any) -> Any:
    """The test's clock, which begins at 0."""
    clock.now = clock.began = 0.0
    return clock


def driven(flow: Any, answers: Any, clock: Any = None) -> tuple[Any, list[Send]]:
    """What a flow gives, and what it sent. ``answers`` takes (request, time) and gives or raises."""
    sent: list[Send] = []

    def reply_to(effect: Effect) -> Any:
        if isinstance(effect, Send):
            sent.append(effect)
            return answers(effect.request, 0.0 if clock is None else clock())
        assert isinstance(effect, Sleep)
        assert clock is not None
        clock.sleep(effect.seconds)
        return None

    return drive(flow, reply_to), sent


def b3os_list(items: Sequence[dict[str, Any]]) -> Any:
    def answer(request: Any, now: float) -> bytes:
        offset = int(request.query.get("offset", "0"))
        return b3os_page(items[offset : offset + 100])

    return answer


# --- lists ---


def test_a_list_is_read_back_to_the_moment_and_no_further() -> None:
    items = [b3os_item(str(number), -float(number)) for number in range(500)]
    found, sent = driven(listed(B3OS, WORKFLOW, since=BASE - 150), b3os_list(items))
    assert (found.whole, len(found.runs), len(sent)) == (True, 200, 2)
    assert found.newest == BASE


def test_a_list_that_ends_is_whole() -> None:
    items = [b3os_item(str(number), -float(number)) for number in range(200)]
    found, sent = driven(listed(B3OS, WORKFLOW, since=0), b3os_list(items))
    assert (found.whole, len(found.runs), len(sent)) == (True, 200, 3)


def test_a_list_longer_than_what_is_read_is_a_gap() -> None:
    items = [b3os_item(str(number), -float(number)) for number in range(3000)]
    found, sent = driven(listed(B3OS, WORKFLOW, since=0), b3os_list(items))
    assert (found.whole, len(sent)) == (False, MOST_PAGES)


def test_a_list_that_does_not_turn_its_pages_is_a_gap() -> None:
    items = [b3os_item(str(number), -float(number)) for number in range(100)]
    found, sent = driven(listed(B3OS, WORKFLOW, since=0), lambda request, now: b3os_page(items))
    assert (found.whole, len(sent)) == (False, 2)


def test_a_404_behind_the_last_page_ends_a_list() -> None:
    results = [{"id": "a", "status": "running", "pipeline": "orders", "created_at": "2026-03-01T00:00:00Z"}]

    def answer(request: Any, now: float) -> bytes:
        if request.query:
            raise RunNotFound("Invalid page.", status=404)
        return json.dumps({"results": results}).encode()

    found, _ = driven(listed(NEKT, {"pipeline": "orders"}, since=0), answer)
    assert found.whole
    assert [each.ref.run_id for each in found.runs] == ["a"]


def test_a_list_without_times_is_read_back_to_a_known_run() -> None:
    items = [b3os_item(str(number)) for number in range(500)]
    known = {str(number) for number in range(100, 500)}
    found, sent = driven(listed(B3OS, WORKFLOW, since=BASE, known=known), b3os_list(items))
    assert (found.whole, found.stop, len(sent)) == (True, "known", 2)


def test_a_list_of_all_parents_counts_the_runs_of_others_for_its_reach() -> None:
    def answer(request: Any, now: float) -> bytes:
        runs = [
            {"run_id": f"r{number}", "config_name": "other", "status": "queued", "created_at": "2026-03-01T00:00:00Z"}
            for number in range(100)
        ]
        return json.dumps({"runs": runs}).encode()

    found, sent = driven(listed(NYX, {"config_name": "mine"}, since=BASE + 1), answer)
    assert (found.whole, found.runs, found.newest, len(sent)) == (True, (), BASE, 1)


# --- one run ---


def search(which: str = "latest", since: float = BASE) -> Search:
    return Search.build(B3OS, "wf_1", since=since, which=which)


@pytest.mark.parametrize(
    ("runs", "latest", "following"),
    [
        ([], None, None),
        ([run("old", -1)], None, None),
        ([run("b", 2), run("a", 1), run("old", -1)], "b", "a"),
        ([run("at", 0)], "at", "at"),
        ([run("over", 3, over=True), run("open", 1)], "over", "open"),
        ([run("timeless", None), run("a", 1)], "timeless", "a"),
        ([run("over and timeless", None, over=True)], None, None),
        ([run("first shown", 1), run("second shown", 1)], "first shown", "second shown"),
    ],
)
def test_a_search_chooses_the_newest_or_the_first_since_a_moment(
    runs: list[RunSnapshot], latest: str | None, following: str | None
) -> None:
    for which, expected in (("latest", latest), ("next", following)):
        chosen = search(which).choose(runs)
        assert (chosen and chosen.ref.run_id) == expected


def test_the_latest_run_costs_one_page_and_the_next_as_many_as_it_takes() -> None:
    items = [b3os_item(str(number), -float(number)) for number in range(500)]
    found, sent = driven(look_for(B3OS, search("latest", BASE - 300)), b3os_list(items))
    assert (found.ref.run_id, len(sent)) == ("0", 1)
    found, sent = driven(look_for(B3OS, search("next", BASE - 300)), b3os_list(items))
    assert (found.ref.run_id, len(sent)) == ("300", 4)


@pytest.mark.parametrize(("born", "expected"), [(0, "a"), (60, "a"), (-1, None)])
def test_the_latest_run_is_read_where_a_route_shows_it_alone(born: int, expected: str | None) -> None:
    """It counts from the wanted moment on, like one of a list."""
    created = datetime.fromtimestamp(BASE + born, UTC).isoformat()

    def answer(request: Any, now: float) -> bytes:
        run = {"run_id": "a", "config_name": "mine", "status": "queued", "created_at": created}
        return json.dumps(run).encode()

    wanted = Search.build(NYX, "mine", since=BASE)
    found, sent = driven(look_for(NYX, wanted), answer)
    assert (found and found.ref.run_id) == expected
    assert [send.request.path for send in sent] == ["/v1/nyx/runs/by-config/mine"]
    assert sent[0].request.description == "newest Nyx run of config_name mine"


def test_where_that_route_answers_404_there_is_no_run_yet() -> None:
    def answer(request: Any, now: float) -> bytes:
        raise RunNotFound("No such run.", status=404)

    found, sent = driven(look_for(NYX, Search.build(NYX, "mine", since=BASE)), answer)
    assert (found, len(sent)) == (None, 1)


def test_a_search_that_cannot_reach_back_says_so(caplog: pytest.LogCaptureFixture) -> None:
    items = [b3os_item(str(number), -float(number)) for number in range(3000)]
    driven(look_for(B3OS, search("next", BASE - 5000)), b3os_list(items))
    assert "does not go back as far as the next run of workflow_id wf_1 since" in caplog.text


def test_a_search_says_once_that_it_cannot_reach_back_however_often_it_looks(
    clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    over_and_timeless = [b3os_item(str(number), status="success") for number in range(3000)]
    found, sent = driven(
        seek(B3OS, search("next"), patience(timeout=45), clock=clock), b3os_list(over_and_timeless), clock
    )
    assert (found.outcome, len(sent) > MOST_PAGES) == (Outcome.TIMED_OUT, True)
    assert caplog.text.count("does not go back as far as") == 1


def patience(**settings: Any) -> WaitOptions:
    return WaitOptions.build(B3OS, now=0.0, **settings)


def test_seeking_goes_on_until_the_run_is_there(clock: Any) -> None:
    def answer(request: Any, now: float) -> bytes:
        return b3os_page([b3os_item("a", 1)] if now >= 100 else [])

    found, sent = driven(seek(B3OS, search(), patience(), clock=clock), answer, clock)
    assert found.ref.run_id == "a"
    assert 100 <= clock.passed <= 125
    assert len(sent) <= 11


def test_seeking_says_every_five_minutes_that_the_run_is_not_there_yet(
    clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "runops"):
        driven(seek(B3OS, search(), patience(timeout=1000), clock=clock), b3os_list([]), clock)
    assert [record.getMessage() for record in caplog.records] == [f"The {search()} is not there yet."] * 3


def test_seeking_ends_at_the_deadline_with_no_run(clock: Any) -> None:
    found, _ = driven(seek(B3OS, search(), patience(timeout=300), clock=clock), b3os_list([]), clock)
    assert (found.outcome, found.ended_by, found.ref.run_id) == (Outcome.TIMED_OUT, "timeout", "")
    assert (
        found.reason
        == "The wait ended (timeout); the latest run of workflow_id wf_1 since 2026-03-01T00:00:00Z never came."
    )
    assert clock.passed == pytest.approx(300)


def test_seeking_bears_failures_within_the_error_budget(clock: Any) -> None:
    def broken(request: Any, now: float) -> bytes:
        raise TransientError("down")

    with pytest.raises(PollingError, match="yet to be found could not be read"):
        driven(seek(B3OS, search(), patience(error_budget=120), clock=clock), broken, clock)


def test_a_search_travels_as_json() -> None:
    chosen = Search.build(NEKT, {"source": "shop"}, since=BASE, which="next", interval=3)
    assert Search.from_dict(json.loads(json.dumps(chosen.to_dict()))) == chosen


def test_a_search_is_checked_when_it_is_built() -> None:
    with pytest.raises(ConfigurationError, match="latest, next"):
        Search.build(B3OS, "wf_1", since=0, which="oldest")
    with pytest.raises(ConfigurationError, match="one of pipeline"):
        Search.build(NEKT, {"pipeline": "a", "source": "b"}, since=0)
    with pytest.raises(NotSupported):
        Search.build(find("nexio"), "placement", since=0)


def test_a_run_that_never_came_has_no_id_and_no_page() -> None:
    ended = nothing_found(B3OS, search(), "execution_timeout")
    assert (ended.url, ended.to_result("fail")["run_id"], ended.ended_by) == (None, "", "execution_timeout")


# --- each run that ends ---


def look(*runs: RunSnapshot, whole: bool = True) -> Listed:
    births = [each.started_at.timestamp() for each in runs if each.started_at]
    return Listed(tuple(runs), whole, max(births, default=None), min(births, default=None))


def test_what_was_over_before_the_first_look_is_past_and_what_is_open_is_followed() -> None:
    trail = WatchState()
    assert trail.take(look(run("c", 3), run("b", 2, over=True), run("a", 1))) == ["a", "c"]
    assert trail.take(look(run("d", 4, over=True), run("c", 3), run("b", 2, over=True), run("a", 1))) == ["d"]


def test_a_run_is_followed_once_however_often_it_is_shown() -> None:
    trail = WatchState()
    trail.take(look())
    page = look(run("a", 1, over=True))
    assert trail.take(page) == ["a"]
    trail.close("a")
    assert trail.take(page) == []
    assert trail.take(look(run("b", OVERLAP * 3), run("a", 1, over=True))) == ["b"]
    assert trail.take(look(run("a", 1, over=True))) == []


def test_a_run_that_shows_up_late_in_the_list_is_not_missed() -> None:
    trail = WatchState()
    trail.take(look(run("a", 0)))
    trail.take(look(run("z", OVERLAP * 2), run("a", 0)))
    assert trail.take(look(run("z", OVERLAP * 2), run("late", OVERLAP + 1), run("a", 0))) == ["late"]


def test_the_first_run_ever_of_a_parent_is_met() -> None:
    trail = WatchState()
    assert trail.take(look()) == []
    assert trail.take(look(run("first", -1000, over=True))) == ["first"]


def test_a_gap_is_remembered_until_it_is_told() -> None:
    trail = WatchState()
    trail.take(look(whole=False))
    assert not trail.gap, "before the first look nothing can be missed"
    trail.take(look(run("a", 1), whole=False))
    assert trail.gap
    trail.take(look(run("a", 1)))
    assert WatchState.parse(json.loads(json.dumps(trail.to_dict()))).gap


def test_a_look_that_joins_the_one_before_is_no_gap() -> None:
    trail = WatchState()
    trail.take(look(run("a", 1)))
    trail.take(look(run("c", 3), run("b", 2), run("a", 1), whole=False))
    assert not trail.gap
    trail.take(look(run("e", 5), run("d", 4), whole=False))
    assert trail.gap


@pytest.mark.parametrize("is_over", [True, False])
def test_a_run_that_drops_off_the_list_and_comes_back_is_not_met_again(is_over: bool) -> None:
    """One that was past at the first look as little as one that was followed to its end since."""
    trail = WatchState()
    first = trail.take(look(run("b", 2), run("a", 1, over=is_over)))
    for run_id in first:
        trail.close(run_id)
    assert first == (["b"] if is_over else ["a", "b"])
    for number in range(3):
        trail = WatchState.parse(json.loads(json.dumps(trail.to_dict())))
        moment = 10.0 + number
        assert trail.take(look(run(f"new {number}", moment), run("b", 2, over=True))) == [f"new {number}"]
        shown_again = look(run(f"new {number}", moment), run("b", 2, over=True), run("a", 1, over=True))
        assert trail.take(shown_again) == []


@pytest.mark.parametrize("value", [None, "text", 7, []])
def test_a_memory_that_cannot_be_read_begins_anew(value: object) -> None:
    assert WatchState.parse(value) == WatchState()


def test_the_memory_stays_small() -> None:
    trail = WatchState()
    trail.take(look())
    for number in range(300):
        for run_id in trail.take(look(run(str(number), number * 100.0, over=True))):
            trail.close(run_id)
    assert len(trail.done) <= DONE_KEPT
    assert len(json.dumps(trail.to_dict())) < 5_000


@given(
    looks=st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.booleans()), max_size=40),
    page=st.integers(3, 6),
)
def test_every_run_is_met_exactly_once_over_any_series_of_looks_and_restarts(
    looks: list[tuple[int, bool, bool]], page: int
) -> None:
    trail = WatchState()
    everything: list[RunSnapshot] = []
    met: list[str] = []
    trail.take(look())
    for new, over, restart in looks:
        for _ in range(new):
            everything.insert(0, run(str(len(everything)), len(everything) * 150.0, over=over))
        met += trail.take(look(*everything[: max(page, new)]))
        for run_id in list(trail.open):
            if over:
                trail.close(run_id)
        if restart:
            trail = WatchState.parse(json.loads(json.dumps(trail.to_dict())))
    assert sorted(met) == sorted(each.ref.run_id for each in everything)
