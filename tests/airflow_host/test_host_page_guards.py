"""The page "External runs" for everybody, and against strangers: axe, keyboard, widths, policies, and no secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.airflow_host.host import Task, until
from tests.airflow_host.page_browser import Visit
from tests.airflow_host.page_cases import HOSTILE, PRIVATE
from tests.airflow_host.page_world import FAILING_RUN, World, ids_of
from tests.airflow_host.secrets_search import KEY_STEM, leaks_of
from tests.airflow_host.test_host_page import cancels, framed, open_run
from tests.leaks.private_fields import STEM
from tests.leaks.written import places_of

WIDTHS = {"wide": 1280, "narrow": 480}
FAILED = Task("page_failing", FAILING_RUN, "onepin_failed")


def hash_of(task: Task) -> str:
    ids = ids_of(task)
    return "#/run?" + "&".join(f"{name}={value}" for name, value in ids.items())


def surfaces(page: World) -> dict[str, str]:
    """Each view of the page, by its address, and what it shows when it is there."""
    return {
        "/runops/": "page_sensed",
        "/runops/#/?q=no-such-run": "No run is like this.",
        f"/runops/{hash_of(FAILED)}": "Timeline",
        f"/runops/{hash_of(page.waiting('set_sensor'))}": "Runs of the set",
        f"/runops/{hash_of(page.waiting('hostile_long'))}": "Reason",
        "/runops/#/charts": "Outcomes, runs a day",
    }


def shown(visit: Visit, path: str, text: str) -> None:
    visit.open("/runops/assets/icon.svg")  # So that a change of the hash alone loads the page anew.
    visit.open(path)
    visit.page.get_by_text(text).filter(visible=True).first.wait_for()


# --- for everybody ---


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_axe_finds_nothing_of_a_or_aa_and_nothing_overflows(page: World, width: int, dark: bool) -> None:
    found: list[str] = []
    with page.visit(width=width, dark=dark) as visit:
        for path, text in surfaces(page).items():
            shown(visit, path, text)
            found += [f"{path}: {each}" for each in visit.axe()]
            over = visit.page.evaluate("() => document.documentElement.scrollWidth - window.innerWidth")
            found += [f"{path}: {over} pixels wider than the window"] if over > 0 else []
        open_run(visit, page.operated("forbidden_b3os"))
        visit.page.get_by_role("button", name="Cancel").first.click()
        visit.page.get_by_role("dialog").wait_for()
        found += [f"dialog: {each}" for each in visit.axe()]
    assert found == []


def test_axe_finds_nothing_where_airflow_frames_the_page(page: World) -> None:
    with page.visit() as visit:
        document = framed(visit, "/plugin/external-runs")
        document.get_by_role("table", name="External runs").wait_for()
        # Alone it runs in the frame's own document; what Airflow draws around it is Airflow's.
        inside = [each for each in visit.axe(document) if "iframe" not in each]
    assert inside == []


FOCUSED = """() => {
  const on = document.activeElement;
  if (on === null || on === document.body) return "";
  const label = on.labels?.[0]?.textContent;
  return [on.getAttribute("aria-label"), on.getAttribute("placeholder"), label, on.textContent].join(" ");
}"""
"""What is said of whatever has the focus."""


def press_until(visit: Visit, key: str, name: str, most: int = 80) -> None:
    """Go on with a key until the focus is on something of this name."""
    for _ in range(most):
        focused = visit.page.evaluate(FOCUSED)
        if name in focused:
            return
        visit.page.keyboard.press(key)
    raise AssertionError(f"{key} does not lead to {name!r}")


def test_everything_works_by_keyboard(page: World) -> None:
    task = page.operated("cancel_by_keyboard_b3os")
    run_id = page.row("op", task)["run_id"]
    with page.visit("op") as visit:
        keys = visit.page.keyboard
        visit.open("/runops/")
        visit.page.get_by_role("table", name="External runs").wait_for()
        press_until(visit, "Tab", "Search runs")
        keys.type(task.task_id)
        keys.press("Enter")
        visit.page.get_by_label("Pages of runs").get_by_text("1 run").wait_for()
        press_until(visit, "Tab", "Provider")
        keys.press("Enter")
        press_until(visit, "Tab", "B3OS")
        keys.press("Space")
        keys.press("Escape")
        visit.until("the filter is in the address", lambda: "provider=b3os" in visit.page.url)
        press_until(visit, "Tab", "Age")
        keys.press("Enter")
        visit.until("the order is in the address", lambda: "sort=" in visit.page.url)
        press_until(visit, "Tab", run_id)
        keys.press("Enter")
        visit.page.get_by_role("heading", name="Timeline").wait_for()
        press_until(visit, "Tab", "Look now")
        keys.press("Enter")
        visit.page.get_by_text("Looked at run").wait_for()
        press_until(visit, "Tab", "Cancel run")
        keys.press("Enter")
        visit.page.get_by_role("dialog").wait_for()
        # The focus begins on the button that does nothing, and Escape leads back.
        assert "Keep it running" in visit.page.evaluate("() => document.activeElement.textContent")
        keys.press("Escape")
        assert "Cancel" in visit.page.evaluate("() => document.activeElement.textContent")
        assert cancels(page, run_id) == 0
        keys.press("Enter")
        visit.page.get_by_role("dialog").wait_for()
        press_until(visit, "Tab", "Cancel the run")
        keys.press("Enter")
        visit.page.get_by_role("status").get_by_text("to cancel").wait_for()
    until("the task has ended", 60, lambda: page.host.state(task) == "failed")
    until("the run is cancelled", 60, lambda: cancels(page, run_id) == 1)


# --- against strangers ---


@pytest.mark.parametrize("name", HOSTILE)
def test_a_stranger_s_text_is_shown_as_text(page: World, name: str) -> None:
    task = page.waiting(name)
    until("it has failed", 60, lambda: page.row("admin", task).get("reason"))
    with page.visit() as visit:
        for path in (f"/runops/{hash_of(task)}", f"/runops/#/?q={name}"):
            shown(visit, path, name)
            assert "owned" not in visit.page.title()
            assert visit.page.locator("main img, main script, main iframe").count() == 0
            said = visit.page.inner_text("main")
            assert not [f"{letter!r}" for letter in "\x1b\x07\u202e\u2066\u200b" if letter in said]
            widest = visit.page.evaluate("() => document.documentElement.scrollWidth - window.innerWidth")
            assert widest <= 0
        assert visit.failures == []


def test_the_policy_allows_no_inline_script_and_nobody_breaks_it(page: World) -> None:
    with page.visit() as visit:
        for path, text in surfaces(page).items():
            shown(visit, path, text)
        framed(visit, "/plugin/external-runs").get_by_role("table", name="External runs").wait_for()
        ours = {name: headers for name, headers in visit.headers.items() if "/runops/" in name}
        assert len(ours) > 8
        for name, headers in ours.items():
            policy = headers.get("content-security-policy", "")
            assert "unsafe" not in policy, name
            for rule in ("default-src 'none'", "script-src 'self'", "frame-ancestors 'self'", "base-uri 'none'"):
                assert rule in policy, f"{name}: {policy}"
            assert headers.get("x-content-type-options") == "nosniff", name
            assert headers.get("referrer-policy") == "no-referrer", name
            if "/api/" in name:
                assert "no-store" in headers.get("cache-control", ""), name
        assert visit.broken_policies() == []
        assert visit.failures == []
        # Nothing of the page is fetched from anywhere else.
        assert [each["url"] for each in visit.outside] == []


def test_the_page_leaves_nothing_in_the_browser(page: World) -> None:
    with page.visit() as visit:
        for path, text in surfaces(page).items():
            shown(visit, path, text)
        stored = visit.stored()
    assert "runops" not in stored
    assert page.given[FAILED] not in stored


def test_no_key_payload_or_canary_is_anywhere(page: World, folder: Path) -> None:
    """Last: over all that the tests before were told, and all that Airflow has written."""
    tasks = [page.waiting(f"private_{provider}") for provider in PRIVATE]
    until("all private runs have failed", 90, lambda: all(page.row("op", task).get("outcome") for task in tasks))
    with page.visit("op") as visit:
        for task in [*tasks, page.operated("private_submit_nexio"), page.waiting("refused_b3os")]:
            shown(visit, f"/runops/{hash_of(task)}", task.task_id)
            if page.row("op", task)["may"]["look"]:
                visit.page.get_by_role("button", name="Look now").click()
                visit.page.locator(".message").first.wait_for()
            visit.open(f"/dags/{task.dag_id}/runs/{task.run_id}/tasks/{task.task_id}/xcom")
            visit.page.get_by_text("external_run").first.wait_for()
    heard: list[Any] = page.heard
    assert len(heard) > 100
    assert places_of(STEM, heard) == []
    assert places_of(KEY_STEM, heard) == []
    assert not [line for line in page.console if STEM in line or KEY_STEM in line]
    assert leaks_of(page.host, folder / "logs") == []
