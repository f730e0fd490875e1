"""The page is for everybody: axe finds nothing in any theme, width or size, and the keyboard reaches everything."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any
from urllib.parse import quote

import pytest

from tests.page_browser.made_runs import made_runs, nasty_runs, set_row
from tests.page_browser.stand_in import IDS, World

Visits = Callable[..., AbstractContextManager[Any]]
THEMES = pytest.mark.parametrize("theme", ["light", "dark"])
WIDE_AND_NARROW = pytest.mark.parametrize("width", ["wide", "narrow"])


def view_of(row: dict[str, Any]) -> str:
    return "#/run?" + "&".join(f"{name}={quote(str(row[name]), safe='')}" for name in IDS)


@THEMES
@WIDE_AND_NARROW
@pytest.mark.parametrize("count", [0, 30, 10_000])
def test_axe_finds_nothing_in_the_list(
    visit: Visits, axe: str, now: datetime, theme: str, width: str, count: int
) -> None:
    with visit(World(rows=made_runs(count, now)), theme=theme, width=width) as seen:
        seen.open()
        assert seen.violations(axe) == []
        assert not seen.overflows()
        assert seen.page.locator("tbody tr").count() == min(count, 50)


@THEMES
@WIDE_AND_NARROW
def test_axe_finds_nothing_in_any_other_view(visit: Visits, axe: str, now: datetime, theme: str, width: str) -> None:
    rows = [*made_runs(30, now), set_row(now, 120)]
    paused = next(row for row in rows if row.get("phase") == "paused" and row["may"]["cancel"])
    over = next(row for row in rows if row.get("outcome") == "timed_out")
    with visit(World(rows=rows), theme=theme, width=width) as seen:
        for view in (view_of(paused), view_of(over), view_of(rows[-1]), "#/charts", "#/?q=nothing-is-like-this"):
            seen.open(view)
            assert seen.violations(axe) == [], view
            assert not seen.overflows(), view
        page = seen.open("#/charts")
        for summary in page.locator("figure summary").all():
            summary.click()
        assert seen.violations(axe) == []
        assert not seen.overflows()
        page = seen.open(view_of(paused))
        page.get_by_role("button", name="Cancel").click()
        page.get_by_role("dialog").wait_for()
        assert seen.violations(axe) == []
        page = seen.open()
        if width == "narrow":
            page.get_by_role("button", name="Filters").click()
        page.get_by_role("button", name="Filter by DAG").click()
        assert seen.violations(axe) == []
        assert not seen.overflows()


@THEMES
@WIDE_AND_NARROW
def test_axe_finds_nothing_in_a_message_or_beside_strange_texts(
    visit: Visits, axe: str, now: datetime, theme: str, width: str
) -> None:
    world = World(rows=nasty_runs(now), faults={"charts": (503, None)})
    with visit(world, theme=theme, width=width) as seen:
        for view in ("#/charts", "#/"):
            seen.open(view)
            assert seen.violations(axe) == [], view
            assert not seen.overflows(), view


def test_the_keyboard_filters_sorts_opens_and_comes_back(visit: Visits, now: datetime) -> None:
    with visit(World(rows=made_runs(120, now))) as seen:
        page = seen.open()
        focus = Focus(page)
        focus.to("Skip to the content")
        focus.to("Search runs, DAGs, tasks and reasons")
        page.keyboard.type("nightly")
        focus.to("Filter by Provider")
        page.keyboard.press("Enter")
        focus.to("Nyx")
        page.keyboard.press("Space")
        page.keyboard.press("Escape")
        assert focus.name().startswith("Filter by Provider (1)")
        page.keyboard.press("Tab")
        assert not page.get_by_role("checkbox", name="Nyx").is_visible()
        focus.to("Spend")
        page.keyboard.press("Enter")
        seen.until("location.hash.includes('sort=-spend')")
        seen.settle()
        assert page.evaluate("location.hash") == "#/?q=nightly&provider=nyx&sort=-spend"
        first = page.locator("tbody a.run").first.inner_text()
        focus.to(first)
        page.keyboard.press("Enter")
        page.get_by_role("heading", name=first).wait_for()
        seen.until("document.activeElement.tagName === 'H2'")
        page.go_back()
        seen.until("document.activeElement.matches('a.run')")
        assert focus.name() == first


def test_the_keyboard_cancels_with_a_question_and_escape_is_a_no(visit: Visits, now: datetime) -> None:
    world = World(rows=[row for row in made_runs(30, now) if row["may"]["cancel"]][:3])
    with visit(world) as seen:
        page = seen.open()
        focus = Focus(page)
        focus.to("Cancel run")
        page.keyboard.press("Enter")
        assert focus.name() == "Keep it running"
        page.keyboard.press("Escape")
        assert not page.get_by_role("dialog").is_visible()
        assert focus.name().startswith("Cancel run")
        assert world.asked("cancel") == 0
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        assert focus.name() == "Cancel the run"
        page.keyboard.press("Enter")
        page.get_by_text("Asked", exact=False).first.wait_for()
        assert world.asked("cancel") == 1


def test_what_has_the_focus_shows_it(visit: Visits, now: datetime) -> None:
    with visit(World(rows=made_runs(3, now))) as seen:
        page = seen.open()
        for _ in range(60):
            page.keyboard.press("Tab")
            shown = page.evaluate(
                """() => {
                  const one = document.activeElement, style = getComputedStyle(one), box = one.getBoundingClientRect();
                  const seen = box.width > 0 && box.height > 0;
                  return [one.tagName, style.outlineStyle, parseFloat(style.outlineWidth), seen];
                }"""
            )
            if shown[0] == "BODY":
                break
            assert shown[1] != "none", shown
            assert shown[2] >= 2, shown
            assert shown[3], shown
        else:
            pytest.fail("the end of the page is not reached")


def test_what_a_reader_causes_is_read_out_and_what_time_brings_is_not(visit: Visits, now: datetime) -> None:
    with visit(World(rows=made_runs(50, now))) as seen:
        page = seen.open()
        said = page.locator("[aria-live=polite]")
        assert said.inner_text() == ""
        page.get_by_role("button", name="Refresh").click()
        seen.settle()
        assert said.inner_text() == ""
        page.get_by_label("Search").fill("nyx-0000")
        seen.until("document.querySelector('[aria-live=polite]').textContent.includes('found')")
        assert said.inner_text() == f"{page.locator('tbody tr').count()} runs found."


def test_nothing_moves_for_those_who_want_no_motion(visit: Visits, now: datetime) -> None:
    with visit(World(rows=made_runs(30, now))) as seen:
        page = seen.open()
        moving = """[...document.querySelectorAll('*')].map(one => getComputedStyle(one)).filter(style =>
          parseFloat(style.transitionDuration) > 0 || style.animationName !== 'none').length"""
        assert page.evaluate(moving) == 0


class Focus:
    """The element that has the focus.

    Args:
        page: Playwright's page.
    """

    def __init__(self, page: Any) -> None:
        self._page = page

    def name(self) -> str:
        """What it is called, on one line."""
        text = self._page.evaluate(
            """(one => one.getAttribute('aria-label') || one.labels?.[0]?.innerText || one.innerText || '')(
              document.activeElement)"""
        )
        return " ".join(text.split())

    def to(self, name: str) -> None:
        """Press Tab until an element whose name begins so has it."""
        for _ in range(80):
            self._page.keyboard.press("Tab")
            if self.name().startswith(name):
                return
        pytest.fail(f"Tab does not lead to {name!r}")
