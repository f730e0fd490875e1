"""What a watch makes of one look: which runs it follows, what may have been missed, and what it keeps of it."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

import pytest

from runops.core import RunRef, RunSnapshot, find
from runops.core.model.run import Outcome, Phase
from runops.core.waiting.listing import Listed, Stop
from runops.core.waiting.steps import Send
from runops.core.waiting.watch import WatchState
from runops.core.waiting.window import Entry, Window, digest

B3OS = find("b3os")
NOW = 1_800_000_000.0
LATE = 21_600.0
OVERLAP = 600.0


def names(count: int, what: str = "r") -> list[str]:
    return [f"{what}{number}" for number in range(count)]


def run(run_id: str, born: float | None = None, *, over: bool = True) -> RunSnapshot:
    return RunSnapshot(
        ref=RunRef(provider="b3os", run_id=run_id),
        state="success" if over else "running",
        phase=None if over else Phase.RUNNING,
        outcome=Outcome.SUCCEEDED if over else None,
        created_at=None if born is None else datetime.fromtimestamp(born, UTC),
    )


def look(*runs: RunSnapshot, others: list[str] | None = None, stop: Stop = "since", **told: Any) -> Listed:
    """A look that showed these runs of the parent, or runs of others alone."""
    shown = tuple(Entry(each, None) for each in others or ())
    usual: dict[str, Any] = {"whole": stop in ("end", "since", "known"), "newest": None, "oldest": None, "at": NOW}
    return Listed(runs, **{**usual, "entries": shown, "stop": stop, **told})


def watch(known: list[str], **window: Any) -> WatchState:
    return WatchState(window=Window(order=[digest(each) for each in known], **{"at": NOW - 30, "looks": 1, **window}))


KNOWN = names(3)
MISSES: list[tuple[str, WatchState, Listed, bool]] = [
    ("all was seen", watch(KNOWN), look(others=["new"], stop="end"), False),
    ("it went back far enough", watch(KNOWN), look(others=["new"], stop="since"), False),
    ("it came to what is known", watch(KNOWN), look(others=["new", *KNOWN], stop="known"), False),
    ("nothing known below the limit", watch(KNOWN), look(others=["new"], stop="limit"), True),
    ("nothing known when time was over", watch(KNOWN), look(others=["new"], stop="time"), True),
    ("time was over among the known", watch(KNOWN), look(others=["new", "r0"], stop="time"), False),
    ("the last one is the last known", watch(KNOWN, bottom=True), look(others=["new", *KNOWN], stop="limit"), False),
    ("one below the bottom", watch(KNOWN, bottom=True), look(others=[*KNOWN, "new"], stop="limit"), True),
    ("many below the floor", watch(KNOWN), look(others=[*KNOWN, *names(90, "old")], stop="limit"), False),
    ("thirty below, no floor", watch(KNOWN), look(others=["r0", *names(30, "x")], stop="limit"), False),
    ("more than thirty below, no floor", watch(KNOWN), look(others=["r0", *names(31, "x")], stop="limit"), True),
    (
        "a tenth below, no floor",
        watch(names(500)),
        look(others=[*names(360), *names(40, "x")], stop="limit"),
        False,
    ),
    (
        "more than a tenth below, no floor",
        watch(names(500)),
        look(others=[*names(359), *names(41, "x")], stop="limit"),
        True,
    ),
    ("all of the future", watch(KNOWN), look(others=KNOWN, stop="limit", oldest=NOW + 1), True),
    ("the present is no future", watch(KNOWN), look(others=KNOWN, stop="limit", oldest=NOW), False),
    ("late runs may follow", watch(KNOWN, late=NOW - 60), look(others=KNOWN, stop="limit"), True),
    ("late runs came long ago", watch(KNOWN, late=NOW - LATE), look(others=KNOWN, stop="limit"), False),
]


@pytest.mark.parametrize(("trail", "found", "gap"), [case[1:] for case in MISSES], ids=[case[0] for case in MISSES])
def test_a_look_is_a_gap_where_a_run_may_have_come_that_it_did_not_show(
    trail: WatchState, found: Listed, gap: bool
) -> None:
    trail.take(found)
    assert trail.gap is gap
    trail.take(look(others=KNOWN, stop="end"))
    assert trail.gap is gap, "a gap stays until it is reported"


def test_the_first_look_misses_nothing_and_follows_what_is_open() -> None:
    trail = WatchState()
    found = look(run("open", NOW - 9, over=False), run("over", NOW), stop="limit", unread=frozenset({"x"}))
    assert trail.take(found) == ["open"]
    assert (trail.gap, trail.open, trail.unread) == (False, {"open": NOW - 9}, ["x"])


UNSEEN = ["gone"]


@pytest.mark.parametrize(
    ("born", "at", "stop", "followed", "gap"),
    [
        (NOW - 30 - LATE, NOW - 30, "since", True, False),
        (NOW - 31 - LATE, NOW - 30, "since", False, False),
        (None, NOW - 30, "since", True, False),
        (None, NOW - 30, "end", False, True),
        (NOW, None, "since", True, False),
        (NOW, None, "end", False, True),
    ],
)
def test_where_nothing_known_is_in_sight_a_run_that_is_over_counts_by_its_time(
    born: float | None, at: float | None, stop: Stop, followed: bool, gap: bool
) -> None:
    trail = watch(UNSEEN, at=at)
    assert trail.take(look(run("r1", born), stop=stop)) == (["r1"] if followed else [])
    assert trail.gap is gap


@pytest.mark.parametrize(
    ("born", "horizon", "at", "followed"),
    [
        (NOW - OVERLAP, NOW, NOW, True),
        (NOW - OVERLAP - 1, NOW, NOW, False),
        (NOW - 2_000, NOW - 2_000, NOW, True),
        (NOW - 2_001, NOW - 2_000, NOW, False),
        (NOW, NOW, None, True),
        (NOW - 1, NOW, None, False),
        (None, NOW, NOW, True),
    ],
)
def test_a_watch_of_the_first_release_goes_on_from_its_moment(
    born: float | None, horizon: float, at: float | None, followed: bool
) -> None:
    trail = WatchState(horizon=horizon, done={"done": 1.0})
    assert trail.take(look(run("r1", born), at=at)) == (["r1"] if followed else [])
    assert trail.horizon is None
    assert digest("done") in "".join(trail.window.gone.values())


@pytest.mark.parametrize(("horizon", "gap"), [(NOW, False), (NOW + 1, True)])
def test_a_watch_of_the_first_release_that_waited_for_a_time_to_come_has_a_gap(horizon: float, gap: bool) -> None:
    trail = WatchState(horizon=horizon)
    trail.take(look(run("r1", NOW)))
    assert trail.gap is gap


def test_runs_are_followed_oldest_first_and_once() -> None:
    trail = watch(["old"])
    found = look(run("b", NOW + 2), run("a", NOW + 1, over=False), run("old", NOW))
    assert trail.take(found) == ["a", "b"]
    assert trail.open == {"a": NOW + 1, "b": NOW + 2}
    assert trail.take(found) == []
    trail.close("a")
    assert (trail.open, trail.done) == ({"b": NOW + 2}, {"a": NOW + 1})
    assert trail.take(found) == []


def test_a_run_that_is_dealt_with_is_known_however_many_follow_it() -> None:
    trail = watch(["old"])
    trail.open = dict.fromkeys(names(25), 1.0)
    for run_id in names(25):
        trail.close(run_id)
    assert list(trail.done) == names(25)[-20:]
    assert all(run_id in trail for run_id in names(25))
    trail.close("never followed")
    assert trail.done["never followed"] == 0.0


def test_runs_that_were_given_by_their_ids_are_all_kept_when_they_are_dealt_with() -> None:
    trail = WatchState(open=dict.fromkeys(names(25), 1.0))
    for run_id in names(25):
        trail.close(run_id)
    assert list(trail.done) == names(25)
    assert (trail.window.order, trail.window.gone) == (None, {})


def test_an_entry_that_names_no_run_is_a_gap_once() -> None:
    trail = watch(KNOWN)
    trail.take(look(others=KNOWN, unread=frozenset({"b", "a"})))
    assert (trail.gap, trail.unread) == (True, ["a", "b"])
    trail.gap = False
    trail.take(look(others=KNOWN, unread=frozenset({"b"})))
    assert (trail.gap, trail.unread) == (False, ["b"])


@pytest.mark.parametrize(
    ("stops", "short"),
    [
        (["limit"], True), (["limit", "known"], True), (["limit", "time"], True), (["limit", "since"], False),
        (["limit", "end"], False), (["known"], False), (["end", "limit"], True),
    ],
)  # fmt: skip
def test_a_watch_knows_that_its_list_does_not_go_back_far_enough(stops: list[Stop], short: bool) -> None:
    trail = watch(KNOWN)
    for stop in stops:
        trail.take(look(others=KNOWN, stop=stop))
    assert trail.window.short is short


def asked(trail: WatchState, pages: list[list[dict[str, Any]]], **told: Any) -> tuple[Listed, list[str]]:
    """A look at the list of a workflow, and the offsets that it asks for."""
    flow = trail.look(B3OS, {"workflow_id": "wf_1"}, now=NOW, **told)
    sent: list[str] = []
    content: bytes | None = None
    while True:
        try:
            effect = flow.send(content)
        except StopIteration as stop:
            return stop.value, sent
        assert isinstance(effect, Send)
        sent.append(effect.request.query.get("offset", "0"))
        content = json.dumps({"data": {"items": pages[len(sent) - 1]}}).encode()


def page(start: int, born: float) -> list[dict[str, Any]]:
    moment = datetime.fromtimestamp(born, UTC).isoformat()
    return [
        {"id": f"r{number}", "status": "success", "startedAt": moment, "workflowId": "wf_1"}
        for number in range(start, start + 100)
    ]


@pytest.mark.parametrize(
    ("horizon", "since", "pages"),
    [(None, None, 2), (None, NOW - 3 * LATE, 3), (NOW - 3 * LATE, None, 3), (NOW, NOW, 2)],
)
def test_a_look_goes_back_as_far_as_any_of_its_reasons(horizon: float | None, since: float | None, pages: int) -> None:
    trail = WatchState(horizon=horizon)
    list_ = [page(0, NOW), page(100, NOW - 2 * LATE), page(200, NOW - 4 * LATE)]
    found, sent = asked(trail, list_, since=since)
    assert sent == ["0", "100", "200"][:pages]
    assert (found.at, found.stop) == (NOW, "since")


def test_a_list_that_cannot_be_read_far_enough_is_said_until_it_can(caplog: pytest.LogCaptureFixture) -> None:
    trail = WatchState()
    same = [page(0, NOW), page(0, NOW)]
    with caplog.at_level(logging.WARNING, "runops"):
        for _ in range(2):
            found, _ = asked(trail, same)
            trail.take(found)
    (said,) = [record.getMessage() for record in caplog.records]
    assert said == (
        "The list of b3os runs of workflow_id wf_1 can be read back over 100 runs only: one that shows up below them, "
        "because its creation time is further back, is missed."
    )


def test_entries_that_name_no_run_are_said_when_they_show_up(caplog: pytest.LogCaptureFixture) -> None:
    trail = WatchState()
    with caplog.at_level(logging.WARNING, "runops"):
        for _ in range(2):
            found, _ = asked(trail, [[*page(0, NOW)[:1], {"status": "running"}, {"status": "failure"}]])
            trail.take(found)
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("The list of b3os runs of workflow_id wf_1 has 2 entries ")
    assert said.endswith(", which cannot be followed.")


def test_a_watch_travels_whole() -> None:
    trail = WatchState(
        open={"a": 1.0},
        done={"b": 2.0},
        gap=True,
        unread=["c"],
        window=Window(order=[digest("d")], at=NOW),
        horizon=3.0,
    )
    assert WatchState.parse(json.loads(json.dumps(trail.to_dict()))) == trail
    assert trail.to_dict()["version"] == 2
    assert [WatchState.parse(value) for value in ({}, None, 7)] == [WatchState()] * 3
    assert (WatchState().begun, WatchState(horizon=1.0).begun, watch([]).begun) == (False, True, True)
