"""What the page does: it keeps its address, pages, looks and cancels, says what went wrong, and asks quietly."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

import pytest

from tests.page_browser.made_runs import NASTY, made_runs, nasty_runs, set_row
from tests.page_browser.stand_in import World
from tests.page_browser.test_page_everybody import view_of

Visits = Callable[..., AbstractContextManager[Any]]
NO_RIGHT = {"look": False, "cancel": False}


def test_filters_sort_search_and_page_stay_in_the_address(visit: Visits, now: datetime) -> None:
    with visit(World(rows=made_runs(300, now))) as seen:
        page = seen.open()
        page.get_by_label("Open or ended").select_option("false")
        page.get_by_role("button", name="Filter by Provider").click()
        page.get_by_label("Nyx").check()
        page.get_by_label("B3OS").check()
        page.keyboard.press("Escape")
        page.get_by_label("Rows on a page").select_option("25")
        page.get_by_role("button", name="Next").click()
        seen.until("location.hash.includes('offset=25')")
        seen.settle()
        address = page.url
        assert address.endswith("#/?open=false&provider=nyx&provider=b3os&limit=25&offset=25")
        shown = page.locator("tbody a.run").all_inner_texts()
        assert 0 < len(shown) <= 25
        page.reload()
        seen.settle()
        assert page.locator("tbody a.run").all_inner_texts() == shown
        page.go_back()
        seen.until("!location.hash.includes('offset')")
        seen.settle()
        assert page.locator("tbody a.run").all_inner_texts() != shown
        page.get_by_role("button", name="Clear all filters").click()
        seen.until("location.hash === '#/?limit=25'")


def test_each_head_sorts_up_and_down_and_says_so(visit: Visits, now: datetime) -> None:
    world = World(rows=made_runs(30, now))
    with visit(world) as seen:
        page = seen.open()
        assert page.get_by_role("columnheader", name="Age").get_attribute("aria-sort") == "ascending"
        for name in ("Provider", "Run", "DAG", "Task", "State", "Progress", "Spend", "Waits for", "Last look"):
            head = page.get_by_role("columnheader", name=name, exact=True)
            directions: set[str | None] = set()
            for _ in range(2):
                head.get_by_role("button").click()
                seen.settle()
                directions.add(head.get_attribute("aria-sort"))
            assert directions == {"ascending", "descending"}, name
        assert page.locator("th[aria-sort]").count() == 1


def test_a_run_has_a_page_with_its_timeline_reason_and_ids(visit: Visits, now: datetime) -> None:
    row = next(row for row in made_runs(60, now) if row["provider"] == "onepin" and row.get("outcome") == "failed")
    with visit(World(rows=[row])) as seen:
        page = seen.open(view_of(row))
        said = page.inner_text("main")
        for text in (row["run_id"], row["reason"], row["dag_id"], row["task_id"], row["parents"]["workflow_id"]):
            assert text in said
        assert page.locator(".timeline li").count() == 3
        finished = page.locator(f"time[datetime='{row['finished_at']}']").first
        assert finished.get_attribute("title").endswith(" UTC")
        task = page.get_by_role("link", name=row["task_id"])
        assert f"/dags/{row['dag_id']}/runs/manual__" in task.get_attribute("href")
        assert "%2B00%3A00" in task.get_attribute("href")


def test_the_runs_of_a_set_are_paged_and_searched(visit: Visits, now: datetime) -> None:
    row = set_row(now, 120)
    with visit(World(rows=[row])) as seen:
        page = seen.open(view_of(row))
        assert page.locator(".set-rows tbody tr").count() == 50
        page.get_by_role("button", name="Next").click()
        page.get_by_text("51 to 100 of 120 runs").wait_for()
        page.get_by_label("Search the runs of the set").fill("run-0004")
        page.get_by_text("10 runs", exact=True).wait_for()
        page.get_by_role("button", name="Filter by Outcome").click()
        page.get_by_label("Failed").check()
        page.get_by_text("1 run", exact=True).wait_for()
        page.reload()
        seen.settle()
        assert page.locator(".set-rows tbody tr").count() == 1


def test_look_and_cancel_are_there_for_those_who_may_and_for_nobody_else(visit: Visits, now: datetime) -> None:
    rows = made_runs(12, now)
    for number, row in enumerate(rows):
        row["may"] = {"look": number in (0, 1), "cancel": number == 1}
    with visit(World(rows=rows)) as seen:
        page = seen.open()
        assert page.get_by_role("button", name="Look now").count() == 2
        assert page.get_by_role("button", name="Cancel").count() == 1
    with visit(World(rows=[row | {"may": NO_RIGHT} for row in rows])) as seen:
        page = seen.open()
        assert page.locator("main button").filter(has_text=re.compile("Look|Cancel")).count() == 0
        assert page.get_by_role("columnheader", name="Actions").count() == 0


def test_a_cancel_names_the_run_and_the_task_and_is_sent_once(visit: Visits, now: datetime) -> None:
    row = next(row for row in made_runs(30, now) if row["may"]["cancel"] and row["own"])
    world = World(rows=[row])
    with visit(world) as seen:
        page = seen.open()
        page.get_by_role("button", name="Cancel").click()
        dialog = page.get_by_role("dialog", name="Cancel this run?")
        for name in ("run_id", "task_id", "dag_id", "dag_run_id"):
            assert row[name] in dialog.inner_text()
        assert "did not start it" not in dialog.inner_text()
        dialog.get_by_role("button", name="Cancel the run").dblclick()
        page.get_by_text(f"to cancel run {row['run_id']}").first.wait_for()
        page.get_by_text("Cancelled", exact=True).wait_for()
        assert [body for method, path, body in world.requests if method == "POST"] == [
            {name: row[name] for name in ("dag_id", "dag_run_id", "task_id", "map_index")}
        ]


def test_a_cancel_warns_where_somebody_else_has_started_the_run(visit: Visits, now: datetime) -> None:
    row = next(row for row in made_runs(30, now) if row["may"]["cancel"]) | {"own": False}
    world = World(rows=[row])
    with visit(world) as seen:
        page = seen.open()
        page.get_by_role("button", name="Cancel").click()
        page.get_by_role("dialog").get_by_text("This task did not start it").wait_for()
        page.get_by_role("button", name="Keep it running").click()
        assert world.asked("cancel") == 0


def test_a_look_shows_what_came_and_a_refused_one_says_why(visit: Visits, now: datetime) -> None:
    row = made_runs(30, now)[29] | {"record_age_seconds": 5000.0}
    world = World(rows=[row])
    with visit(world) as seen:
        page = seen.open()
        assert page.get_by_text("1 h ago").is_visible()
        page.get_by_role("button", name="Look now").click()
        page.get_by_text("just now").wait_for()
        world.faults["look"] = (409, None)
        page.get_by_role("button", name="Look now").click()
        page.get_by_role("alert").get_by_text("No look: refused with 409").wait_for()
        world.faults["look"] = (429, 4)
        page.get_by_role("button", name="Look now").click()
        page.get_by_text("It can be asked again in 4 s.").wait_for()
        world.faults["look"] = (403, None)
        page.get_by_role("button", name="Look now").click()
        page.get_by_text("You may not see or do this.").wait_for()


FAILURES = {
    401: "You are signed out of Airflow",
    403: "You may not see or do this",
    404: "There is no such run",
    429: "Too many requests for now. It can be asked again in 7 s.",
    500: "Something went wrong in Airflow's API server",
}


@pytest.mark.parametrize("status", FAILURES)
def test_each_failure_says_what_it_is_and_what_was_shown_stays(visit: Visits, now: datetime, status: int) -> None:
    world = World(rows=made_runs(5, now))
    with visit(world) as seen:
        page = seen.open()
        world.faults["runs"] = (status, 7)
        page.get_by_role("button", name="Refresh").click()
        message = page.get_by_role("alert")
        message.wait_for()
        assert FAILURES[status] in message.inner_text()
        assert "What is shown below is older." in message.inner_text()
        assert page.locator("tbody tr").count() == 5
        world.faults.clear()
        page.get_by_role("button", name="Try again").click()
        message.wait_for(state="detached")


def test_without_a_network_it_says_so_and_goes_on_by_itself(visit: Visits, now: datetime) -> None:
    with visit(World(rows=made_runs(5, now))) as seen:
        page = seen.open()
        page.context.set_offline(True)
        page.get_by_role("button", name="Refresh").click()
        page.get_by_role("alert").get_by_text("Airflow does not answer.").wait_for()
        page.context.set_offline(False)
        page.get_by_role("alert").wait_for(state="detached")


def test_it_asks_again_only_while_it_is_seen_and_not_paused(visit: Visits, now: datetime) -> None:
    world = World(rows=made_runs(5, now))
    hide = """state => {
      Object.defineProperty(document, 'visibilityState', {value: state, configurable: true});
      document.dispatchEvent(new Event('visibilitychange'));
    }"""
    with visit(world) as seen:
        seen.page.clock.install()
        page = seen.open()

        def asks(act: Callable[[], object], most: int) -> int:
            before = world.asked("runs")
            act()
            # Questions travel beside each other: one that was sent may come after the answer to a later one.
            for _ in range(50):
                page.evaluate("fetch('/runops/api/facets').then(answer => answer.text())")
                if most and world.asked("runs") - before == most:
                    break
            return world.asked("runs") - before

        assert asks(lambda: page.clock.run_for(11_000), 1) == 1
        page.evaluate(hide, "hidden")
        assert asks(lambda: page.clock.run_for(300_000), 0) == 0
        assert asks(lambda: (page.evaluate(hide, "visible"), page.clock.run_for(1_000)), 1) == 1
        page.get_by_role("button", name="Pause updates").click()
        assert asks(lambda: page.clock.run_for(300_000), 0) == 0
        page.get_by_text("Live updates are paused. As of 5 min ago").wait_for()


def test_texts_of_strangers_are_shown_and_do_nothing(visit: Visits, now: datetime) -> None:
    rows = nasty_runs(now)
    with visit(World(rows=rows)) as seen:
        for view in ("", *(view_of(row) for row in rows if len(row["dag_id"]) < 1000)):
            page = seen.open(view)
            assert page.evaluate("[window.broken, document.title.includes('External runs')]") == [None, True]
            assert page.locator("main img, main script, main [style]").count() == 0
            assert page.locator("a[href^='javascript'], a[href^='data']").count() == 0
            assert re.search(r"[\u202a-\u202e\u2066-\u2069\x1b\x00]", page.inner_text("body")) is None
            assert not seen.overflows()
        page = seen.open()
        assert page.get_by_text('<img src=x onerror="').first.is_visible()


def test_a_text_of_ten_thousand_letters_is_there_when_asked_for(visit: Visits, now: datetime) -> None:
    row = made_runs(1, now)[0] | {"reason": NASTY["long"]}
    with visit(World(rows=[row]), width="narrow") as seen:
        page = seen.open(view_of(row))
        assert len(page.locator("pre").inner_text()) < 700
        page.get_by_role("button", name="Show all").click()
        assert page.locator("pre").inner_text() == NASTY["long"]
        assert not seen.overflows()


def test_charts_have_tables_with_the_same_figures(visit: Visits, now: datetime) -> None:
    with visit(World(rows=made_runs(300, now))) as seen:
        page = seen.open("#/charts?days=7&provider=nyx")
        assert page.locator("figure").count() == 3
        for figure in page.locator("figure").all():
            assert figure.get_by_role("img").get_attribute("aria-label")
            figure.locator("summary").click()
            assert figure.locator("tbody tr").count() == 7
        bars = page.locator("figure").first.locator("rect.fill").count()
        cells = page.locator("figure").first.locator("td").all_inner_texts()
        assert sum(bool(cell) for cell in cells) == bars - page.locator(".legend").first.locator("rect.fill").count()
        page.get_by_role("link", name="wait_for_audit").first.click()
        seen.until("location.hash.includes('task_id=wait_for_audit')")


def test_nothing_is_stored_and_the_policy_holds(visit: Visits, now: datetime) -> None:
    with visit(World(rows=made_runs(30, now))) as seen:
        page = seen.open()
        seen.open("#/charts")
        assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
        assert page.locator("[style], script:not([src]), style").count() == 0


# --- in a frame, as Airflow makes it ---


def framed(seen: Any) -> Any:
    """The page in its frame, which shows rows."""
    page = seen.open(path="/plugin/external-runs")
    frame = page.frame_locator("iframe")
    frame.locator("h1").wait_for()
    frame.locator("tbody tr, .grid, .empty").first.wait_for()
    return frame


def test_the_frame_follows_the_choice_of_light_and_dark_around_it(visit: Visits, now: datetime) -> None:
    with visit(World(rows=made_runs(5, now), theme="dark"), theme="light") as seen:
        frame = framed(seen)
        back = "one => getComputedStyle(one).backgroundColor"
        assert frame.locator("html").evaluate(back) == "rgb(17, 17, 19)"
        seen.page.evaluate("document.documentElement.className = 'light'")
        frame.locator("html[data-theme=light]").wait_for()
        assert frame.locator("html").evaluate(back) == "rgb(255, 255, 255)"


def test_links_lead_out_of_the_frame(visit: Visits, now: datetime) -> None:
    row = made_runs(1, now)[0]
    with visit(World(rows=[row])) as seen:
        row["url"] = f"{seen.address}/elsewhere"
        frame = framed(seen)
        with seen.page.expect_popup() as opened:
            frame.get_by_role("link", name="Open in Nexio").click()
        opened.value.wait_for_load_state()
        assert opened.value.url == row["url"]
        assert opened.value.evaluate("window.opener") is None
        frame.get_by_role("link", name=row["task_id"]).click()
        seen.page.wait_for_url("**/dags/**")
        assert f"/dags/{row['dag_id']}/runs/" in seen.page.url


def test_the_address_around_the_frame_keeps_the_view(visit: Visits, now: datetime) -> None:
    with visit(World(rows=made_runs(30, now))) as seen:
        frame = framed(seen)
        frame.get_by_role("button", name="Spend").click()
        seen.until("location.hash === '#/?sort=-spend'")
        seen.page.reload()
        frame.locator("th[aria-sort=descending]").get_by_text("Spend").wait_for()
        seen.page.evaluate("history.back()")
        seen.until("!location.hash.includes('spend')")
        frame.locator("th[aria-sort=ascending]").get_by_text("Age").wait_for()


@pytest.mark.parametrize("encoded", [True, False])
def test_a_tab_of_a_task_instance_shows_its_run_alone(visit: Visits, now: datetime, encoded: bool) -> None:
    rows = made_runs(30, now)
    row = next(row for row in rows if row["map_index"] == -1)
    plus = row["dag_run_id"].replace("+", "%2B") if encoded else row["dag_run_id"]
    # A task that is not mapped has no index in Airflow's address.
    hole = f"dag_id={row['dag_id']}&dag_run_id={plus}&task_id={row['task_id']}&map_index={{MAP_INDEX}}"
    for mark in "?#":
        with visit(World(rows=rows, tab=f"/runops/{mark}{hole}")) as seen:
            frame = framed(seen)
            frame.get_by_role("heading", name=row["run_id"]).wait_for()
            assert frame.get_by_role("link", name="All runs").count() == 0


def test_a_tab_of_a_dag_shows_that_dag_only(visit: Visits, now: datetime) -> None:
    world = World(rows=made_runs(30, now), tab="/runops/#dag_id=team_3_nightly_import")
    with visit(world) as seen:
        frame = framed(seen)
        assert set(frame.locator("td[data-label=DAG] a").all_inner_texts()) == {"team_3_nightly_import"}
        assert frame.get_by_role("button", name="Filter by DAG").count() == 0
        frame.get_by_role("button", name="Spend").click()
        frame.locator("th[aria-sort=descending]").wait_for()
        assert set(frame.locator("td[data-label=DAG] a").all_inner_texts()) == {"team_3_nightly_import"}
