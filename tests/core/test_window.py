"""What a watch remembers of a list, look by look: how much of it, for how long, and how deep the next look goes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from runops.core.waiting.window import Comparison, Entry, Place, Window, digest

NOW = 1_800_000_000.0
LATE = 21_600.0
"""Seconds by which a run may be entered late."""
HOUR = 3_600.0


def entries(count: int, born: float | None = None, *, start: int = 0, page: int = 0) -> list[Entry]:
    return [Entry(f"r{number}", born, page) for number in range(start, start + count)]


def taken(window: Window, shown: Sequence[Entry], new: Sequence[str] = (), **options: Any) -> Window:
    """The window after a look that showed runs of the watched parent alone."""
    told: dict[str, Any] = {"now": NOW, "end": False, "goes_on": False, **options}
    window.take(shown, window.compare(shown), [entry.run_id for entry in shown], new, **told)
    return window


def digests(shown: Sequence[Entry]) -> list[str]:
    return [digest(entry.run_id) for entry in shown]


@pytest.mark.parametrize(
    ("shown", "kept"),
    [
        (entries(49, 0.0), 49),
        (entries(60, 0.0), 50),
        ([*entries(54, 0.0), Entry("late", NOW - LATE), *entries(5, 0.0, start=54)], 55),
        ([*entries(54, 0.0), Entry("past", NOW - LATE - 1), *entries(5, 0.0, start=54)], 50),
        ([*entries(54, 0.0), Entry("timeless", None), *entries(5, 0.0, start=54)], 55),
        (entries(1_300, NOW), 1_200),
    ],
)
def test_the_newest_fifty_are_remembered_and_all_that_a_late_run_may_stand_among(shown: list[Entry], kept: int) -> None:
    assert taken(Window(), shown).order == digests(shown)[:kept]


def test_without_a_clock_all_of_a_look_is_remembered() -> None:
    window = taken(Window(at=NOW), entries(60, 0.0), now=None)
    assert (len(window.order or []), window.at) == (60, NOW)


@pytest.mark.parametrize(
    ("shown", "known", "options", "bottom"),
    [
        (3, False, {"end": True}, True),
        (3, False, {"goes_on": True}, False),
        (3, True, {"goes_on": True}, True),
        (3, True, {}, False),
        (1_200, False, {"end": True}, True),
        (1_201, False, {"end": True}, False),
    ],
)
def test_the_memory_ends_where_the_list_does_only_if_all_of_it_was_kept(
    shown: int, known: bool, options: dict[str, Any], bottom: bool
) -> None:
    window = taken(Window(order=[], bottom=known), entries(shown, NOW), **options)
    assert window.bottom is bottom


def test_what_is_not_remembered_as_it_is_too_old_is_no_bottom() -> None:
    assert not taken(Window(), entries(51, 0.0), end=True).bottom
    assert taken(Window(), entries(50, 0.0), end=True).bottom


@pytest.mark.parametrize(("pages", "depth"), [((0, 1), 2), ((0, 2), 3), ((0, 9), 3), ((0, 0), 1)])
def test_looks_go_as_deep_as_late_runs_were_found_and_three_pages_at_the_most(
    pages: tuple[int, int], depth: int
) -> None:
    known, late = Entry("known", NOW, pages[0]), Entry("late", NOW, pages[1])
    window = taken(Window(order=digests([known]), looks=1), [known, late], ["late"])
    assert window.depth == depth


def test_a_new_run_above_all_others_makes_no_look_deeper() -> None:
    window = taken(
        Window(order=digests([Entry("known", NOW)])), [Entry("new", NOW, 2), Entry("known", NOW, 2)], ["new"]
    )
    assert window.depth == 1


def test_the_depth_is_halved_by_each_deep_look_that_finds_nothing_late() -> None:
    known = [Entry("known", NOW)]
    window = Window(order=digests(known), depth=3, looks=4)
    depths: list[tuple[int, bool]] = []
    for _ in range(7):
        depths.append((taken(window, known).depth, window.deep))
    assert depths == [(3, True), (1, False), (1, False), (1, False), (1, False), (1, True), (1, False)]


def test_every_fifth_look_goes_deep_and_the_first_does() -> None:
    assert Window().deep
    assert [Window(order=[], looks=looks).deep for looks in range(7)] == [True, *[False] * 4, True, False]


@pytest.mark.parametrize(("above", "late"), [(19, None), (20, NOW)])
def test_a_run_below_twenty_known_ones_counts_as_entered_late(above: int, late: float | None) -> None:
    known = entries(above, NOW)
    window = taken(Window(order=digests(known)), [*known, Entry("late", NOW)], ["late"])
    assert window.late == late
    assert window.disordered is (late is not None)


@pytest.mark.parametrize(
    ("late", "at", "disordered"),
    [
        (None, NOW, False), (NOW, None, False), (NOW, NOW, True), (NOW - LATE + 1, NOW, True),
        (NOW - LATE, NOW, False),
    ],
)  # fmt: skip
def test_a_list_is_disordered_for_six_hours(late: float | None, at: float | None, disordered: bool) -> None:
    assert Window(late=late, at=at).disordered is disordered


@pytest.mark.parametrize(("at", "since"), [(None, NOW - LATE), (NOW - 60, NOW - 60 - LATE), (NOW + 60, NOW - LATE)])
def test_a_look_goes_back_six_hours_before_the_last_one(at: float | None, since: float) -> None:
    assert Window(at=at).since(NOW) == since


def test_a_place_is_told_by_what_is_remembered_around_it() -> None:
    window = Window(order=digests([Entry("a", NOW), Entry("b", NOW)]))
    shown = [Entry(name, NOW) for name in ("new", "a", "late", "b", "past")]
    comparison = window.compare(shown)
    assert (comparison.first, comparison.last, comparison.floor, comparison.bottom) == (1, 3, True, False)
    assert [comparison.place(index) for index in (0, 2, 4)] == [Place.NEW, Place.NEW, Place.PAST]
    cut_off = window.compare(shown[:3])
    assert (cut_off.last, cut_off.floor, cut_off.place(0), cut_off.place(2)) == (1, False, Place.NEW, Place.UNCLEAR)
    strange = window.compare([Entry("x", NOW)])
    assert (strange.first, strange.last, strange.floor, strange.place(0)) == (1, -1, False, Place.UNCLEAR)
    assert Comparison(["x"], 1, -1, floor=False, bottom=True).place(0) is Place.NEW


def test_a_look_that_met_nothing_it_knew_is_followed_by_a_deep_one() -> None:
    window = taken(Window(order=digests(entries(1)), looks=3), entries(2, NOW, start=5), goes_on=True)
    assert (window.looks, window.deep) == (0, True)
    window = taken(Window(order=digests(entries(1)), looks=3), entries(2, NOW, start=5))
    assert window.looks == 4
    window = taken(Window(order=digests(entries(1)), looks=2), entries(2, NOW), goes_on=True)
    assert window.looks == 3


@pytest.mark.parametrize(
    ("options", "order", "gone"),
    [
        ({"end": True}, ["r0", "r2"], ["r1", "r3"]),
        ({"goes_on": True}, ["r0", "r2", "r3"], ["r1"]),
        ({}, ["r0", "r2"], ["r1"]),
    ],
)
def test_what_was_not_shown_is_gone_as_far_as_the_look_went(
    options: dict[str, Any], order: list[str], gone: list[str]
) -> None:
    shown = [entry for entry in entries(3, NOW) if entry.run_id != "r1"]
    window = taken(Window(order=digests(entries(4))), shown, **options)
    assert window.order == [digest(run_id) for run_id in order]
    assert window.gone == {str(int(NOW // HOUR)): "".join(digest(run_id) for run_id in gone)}
    assert "r1" in window


def test_what_is_out_of_sight_is_forgotten_a_day_after_the_hour_it_went() -> None:
    window = Window(order=[], at=NOW)
    window.remember([digest("first")])
    hour = int(NOW // HOUR)
    window.at = (hour + 24) * HOUR - 1
    window.remember([digest("second")])
    assert window.gone == {str(hour): digest("first"), str(hour + 23): digest("second")}
    window.at = (hour + 24) * HOUR
    window.remember([])
    assert window.gone == {str(hour + 23): digest("second")}
    assert ("first" in window, "second" in window) == (False, True)


def test_of_what_is_out_of_sight_the_newest_two_thousand_are_kept() -> None:
    window = Window(order=[], at=NOW)
    window.remember(digests(entries(1_500)))
    window.at = NOW + HOUR
    window.remember(digests(entries(700, start=1_500)))
    kept = "".join(window.gone[hour] for hour in sorted(window.gone))
    assert kept == "".join(digests(entries(2_200)))[-2_000 * 8 :]
    window.at = NOW + 2 * HOUR
    window.remember(digests(entries(2_001, start=5_000)))
    assert window.gone == {str(int(NOW // HOUR) + 2): "".join(digests(entries(2_000, start=5_001)))}


def test_what_goes_out_of_sight_again_is_kept_once_and_by_its_last_hour() -> None:
    window = Window(order=digests(entries(1)), at=NOW)
    window.remember(digests(entries(3)))
    window.at = NOW + HOUR
    window.remember([digest("r1"), digest("r1")])
    assert window.gone == {str(int(NOW // HOUR)): digest("r2"), str(int(NOW // HOUR) + 1): digest("r1")}


def test_other_parents_runs_are_remembered_by_the_digest_alone() -> None:
    shown = entries(40, NOW)
    window = Window()
    window.take(shown, window.compare(shown), [], [], now=NOW, end=True, goes_on=False)
    assert window.order == [each for each in digests(shown) if ord(each[0]) % 4 == 0]
    assert window.bottom


def test_a_window_travels_whole() -> None:
    window = Window(
        order=[digest("a"), digest("b")], bottom=True, gone={"500000": digest("c")}, depth=2, looks=7, at=NOW,
        late=NOW - 5, short=True,
    )  # fmt: skip
    assert Window.parse(json.loads(json.dumps(window.to_dict()))) == window
    assert Window.parse(json.loads(json.dumps(Window().to_dict()))) == Window()
    assert Window.parse({}) == Window(order=None, depth=1)
