"""The page "External runs" in a real Airflow and a real browser: runs are found, opened, looked at and cancelled."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from typing import Any

import httpx
import pytest

from tests.airflow_host.host import Task, until
from tests.airflow_host.page_browser import Visit
from tests.airflow_host.page_cases import IMPATIENT, SENSED, SET_SIZE
from tests.airflow_host.page_world import FAILING_RUN, World, ids_of

RUNS = 300
PHASES = {"queued", "running", "paused", "waiting", "stopping"}
OUTCOMES = {"succeeded", "degraded", "exhausted", "failed", "cancelled"}
HOLDS = {"paused", "waiting", "turn", "rate_limit", "key"}
LOOK_SECONDS = 5.0
"""Between two looks at one run, whoever asks."""


def everything(page: World, **filters: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    while True:
        found = page.runs(limit=100, offset=len(rows), **filters)
        rows += found["runs"]
        if not found["runs"] or len(rows) >= found["total"]:
            return rows


def table_of(visit: Visit) -> Any:
    table = visit.page.get_by_role("table", name="External runs")
    table.wait_for()
    return table


def rows_shown(visit: Visit, total: int) -> None:
    visit.page.get_by_label("Pages of runs").get_by_text(f"{total} run").wait_for()


def choose(visit: Visit, filter_name: str, option: str) -> None:
    visit.page.get_by_role("search").get_by_role("button", name=filter_name).click()
    visit.page.get_by_role("checkbox", name=option, exact=True).check()
    visit.page.keyboard.press("Escape")


def open_run(visit: Visit, task: Task) -> None:
    """By way of the search, as a person does."""
    visit.open("/runops/")
    visit.page.get_by_role("searchbox").first.fill(task.task_id)
    rows = table_of(visit).get_by_role("row").filter(has_text=task.dag_id)
    row_of(rows, visit.page, task).get_by_role("link").first.click()
    visit.page.get_by_role("heading", level=2).first.wait_for()


def row_of(rows: Any, document: Any, task: Task) -> Any:
    """The row of a task, and not that of one whose name begins with it."""
    return rows.filter(has=document.get_by_text(task.task_id, exact=True)).first


def cancels(page: World, run_id: str) -> int:
    asked = page.outside.requests(action="cancel", run_id=run_id)
    return sum(request["status"] is not None for request in asked)


# --- what is shown ---


def test_there_are_300_runs_of_five_services_in_all_phases_and_outcomes(page: World) -> None:
    rows = everything(page)
    assert len(rows) >= RUNS
    assert {row["provider"] for row in rows} == set(SENSED)
    assert {row.get("phase") for row in rows} >= PHASES
    assert {row.get("outcome") for row in rows} >= OUTCOMES
    assert {row.get("holds") for row in rows} >= HOLDS
    assert Counter(row["kind"] for row in rows)["set"] == 2
    print(f"\n{len(rows)} runs: {Counter(row.get('outcome') or row.get('phase') for row in rows)}")


def test_each_row_says_what_the_service_says(page: World) -> None:
    def wrong() -> list[str]:
        outside = {run["run_id"]: run for run in page.outside.runs()}
        return [
            f"{row['task_id']}: {row.get('state')} is not {outside[row['run_id']]['fields']['status']}"
            for row in everything(page)
            if row["kind"] == "run" and row.get("run_id") in outside and not row.get("holds")
            and row.get("state") != outside[row["run_id"]]["fields"]["status"]
        ]  # fmt: skip

    until("all are as fresh as their cadence", 90, lambda: not wrong(), pause=2.0)


def test_filters_order_and_search_narrow_the_table_and_stay_in_the_address(page: World) -> None:
    nyx = page.runs(provider="nyx", limit=1)["total"]
    failed = page.runs(provider="nyx", outcome="failed", limit=1)["total"]
    assert 0 < failed < nyx < page.runs(limit=1)["total"]
    with page.visit() as visit:
        visit.open("/runops/")
        table_of(visit)
        choose(visit, "Provider", "Nyx")
        rows_shown(visit, nyx)
        choose(visit, "Outcome", "Failed")
        rows_shown(visit, failed)
        table_of(visit).get_by_role("button", name="Task").click()
        visit.page.get_by_role("searchbox").first.fill("nyx_error")
        found = page.runs(provider="nyx", outcome="failed", q="nyx_error", limit=1)["total"]
        visit.until("the search is in the address", lambda: "q=nyx_error" in visit.page.url)
        rows_shown(visit, found)
        address = visit.page.url
        for word in ("provider=nyx", "outcome=failed", "sort=", "q=nyx_error"):
            assert word in address
        visit.page.reload()
        rows_shown(visit, found)
        assert visit.page.url == address
        assert visit.page.get_by_role("columnheader", name="Task").get_attribute("aria-sort") in (
            "ascending",
            "descending",
        )
        visit.page.get_by_role("button", name="Clear all filters").click()
        rows_shown(visit, page.runs(limit=1)["total"])


def test_every_order_is_that_of_the_column(page: World) -> None:
    for name in ("dag_id", "task_id", "provider", "run_id", "looked_at"):
        for order in (name, f"-{name}"):
            values = [row[name] for row in page.runs(sort=order, limit=100)["runs"] if row.get(name)]
            assert values == sorted(values, reverse=order.startswith("-")), order
    # That of their beginnings is that of their tasks' tries: where a triggerer begins a wait, it comes to it later.
    newest, oldest = (page.runs(sort=order, limit=100)["runs"] for order in ("-began_at", "began_at"))
    began = page.host.began()
    for rows, backwards in ((newest, True), (oldest, False)):
        moments = [began[Task(row["dag_id"], row["dag_run_id"], row["task_id"], row["map_index"])] for row in rows]
        assert moments == sorted(moments, reverse=backwards)


def test_a_run_is_opened_and_shows_its_timeline(page: World) -> None:
    task = Task("page_failing", FAILING_RUN, "b3os_failed")
    with page.visit() as visit:
        open_run(visit, task)
        visit.page.get_by_role("heading", name="Timeline").wait_for()
        said = visit.page.inner_text("main")
        for word in (page.given[task], "Failed", "b3os_failed", "page_failing", "Verdict"):
            assert word in said
        visit.page.get_by_role("link", name="All runs").click()
        table_of(visit)


def test_a_set_shows_its_runs_while_it_waits(page: World) -> None:
    task = page.waiting("set_operator")
    assert page.row("admin", task)["kind"] == "set"
    with page.visit() as visit:
        open_run(visit, task)
        visit.page.get_by_role("heading", name="Runs of the set").wait_for()
        visit.page.get_by_label("Pages of runs").get_by_text(f"{SET_SIZE} runs").wait_for()
        submitted = page.outside.submitted("nexio", engine_slug="set")
        assert len(submitted) == SET_SIZE
        visit.page.get_by_text(submitted[0]["run_id"]).first.wait_for()


# --- the way out, and the frame ---


def framed(visit: Visit, path: str) -> Any:
    visit.open(path)
    return visit.inner()


@pytest.mark.parametrize("where", ["alone", "framed"])
def test_the_link_leads_to_the_service_in_a_new_tab_that_knows_nothing_of_airflow(page: World, where: str) -> None:
    task = page.operated("cancel_nyx")
    url = page.row("admin", task)["url"]
    with page.visit() as visit:
        if where == "framed":
            document = framed(visit, "/plugin/external-runs")
            document.get_by_role("searchbox").first.fill(task.task_id)
            row = row_of(document.get_by_role("row"), document, task)
        else:
            visit.open("/runops/")
            visit.page.get_by_role("searchbox").first.fill(task.task_id)
            row = row_of(visit.page.get_by_role("row"), visit.page, task)
        with visit.context.expect_page() as opened:
            row.get_by_role("link", name="Open in Nyx").click()
        tab = opened.value
        tab.wait_for_load_state()
        assert tab.url == url
        assert tab.title() == "the service"
        assert tab.evaluate("() => window.opener === null && document.referrer === ''")
        (asked,) = [each for each in visit.outside if each["url"] == url]
        assert not {"referer", "cookie", "authorization"} & set(asked["headers"])


def test_the_page_is_in_airflow_s_navigation_and_a_tab_of_a_task(page: World) -> None:
    task = page.operated("cancel_b3os")
    with page.visit() as visit:
        document = framed(visit, "/plugin/external-runs")
        document.get_by_role("table", name="External runs").wait_for()
        tab = f"/dags/{task.dag_id}/runs/{task.run_id}/tasks/{task.task_id}"
        visit.open(tab)
        visit.page.get_by_role("link", name="External runs").filter(visible=True).last.click()
        # The tab of one task instance is the page of its run.
        visit.inner().get_by_role("heading", name="Timeline").wait_for()
        assert page.row("admin", task)["run_id"] in visit.inner().inner_text("main")


# --- looking ---


def test_look_now_shows_what_the_service_says_now(page: World) -> None:
    task = page.waiting("slow_nexio")
    before = page.run_of(task)["reads"]
    page.outside.tell("set", provider="nexio", run_id=page.given[task], set={"status": "queued"})
    with page.visit() as visit:
        open_run(visit, task)
        visit.page.get_by_role("button", name="Look now").click()
        visit.page.get_by_text("Looked at run").wait_for()
        visit.page.get_by_text("Queued").first.wait_for()
    assert page.run_of(task)["reads"] == before + 1
    assert page.row("viewer", task)["state"] == "queued"


def test_many_who_press_at_once_cause_one_look_in_five_seconds(page: World) -> None:
    task = Task("page_failing", FAILING_RUN, "nexio_succeeded")
    run_id = page.given[task]
    already = len(page.outside.requests(action="get", run_id=run_id))
    headers = {"X-Runops": "1", "Sec-Fetch-Site": "same-origin"}
    tokens = {user: page.host.token(user) for user in IMPATIENT}

    async def press(user: str, number: int, ends: float) -> list[int]:
        told: list[int] = []
        cookies = {"_token": tokens[user]}
        # Each has a connection of its own, so both workers of the API server are asked.
        async with httpx.AsyncClient(base_url=page.host.url, timeout=60, trust_env=False, cookies=cookies) as client:
            while time.monotonic() < ends:
                answer = await client.post("/runops/api/look", json=ids_of(task), headers=headers)
                told.append(answer.status_code)
                await asyncio.sleep(2 + number / 10)
        return told

    async def all_press() -> list[list[int]]:
        ends = time.monotonic() + 12
        return list(await asyncio.gather(*(press(user, number, ends) for user in tokens for number in range(8))))

    told = Counter(status for each in asyncio.run(all_press()) for status in each)
    times = sorted(request["time"] for request in page.outside.requests(action="get", run_id=run_id)[already:])
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    print(f"\n{sum(told.values())} presses, answers {dict(told)}, {len(times)} reads, gaps {gaps}")
    assert 2 <= len(times) <= 4
    assert min(gaps) >= LOOK_SECONDS - 0.1
    assert told[200] >= sum(told.values()) / 2
    assert not [status for status in told if status >= 500]


# --- rights ---


@pytest.mark.parametrize("what", ["look", "cancel"])
def test_a_viewer_sees_no_button_and_is_refused(page: World, what: str) -> None:
    task = page.operated("forbidden_b3os")
    run_id = page.row("viewer", task)["run_id"]
    before = page.run_of(task)["reads"]
    assert page.row("viewer", task)["may"] == {"look": False, "cancel": False}
    assert "conn_id" not in page.row("viewer", task)
    with page.visit("viewer") as visit:
        open_run(visit, task)
        assert visit.page.get_by_role("button", name="Look now").count() == 0
        assert visit.page.get_by_role("button", name="Cancel").count() == 0
    assert page.act("viewer", what, task).status_code == 403
    time.sleep(1.0)
    assert cancels(page, run_id) == 0
    if what == "look":
        looks = page.outside.requests(action="get", run_id=run_id)
        print(f"\n{before} reads before, {len(looks)} in all")
    assert page.host.state(task) == "deferred"


def test_who_may_not_use_the_connection_may_not_look_through_it(page: World) -> None:
    task = page.operated("forbidden_b3os")
    assert page.row("user", task)["may"] == {"look": False, "cancel": True}
    assert page.act("user", "look", task).status_code == 403
    assert page.row("op", task)["may"] == {"look": True, "cancel": True}
    sensed = page.waiting("sensed_cancel_nyx")
    assert page.row("user", sensed)["may"] == {"look": False, "cancel": False}
    assert page.act("user", "cancel", sensed).status_code == 403


def test_nobody_without_a_session_is_told_anything(page: World) -> None:
    with httpx.Client(base_url=page.host.url, trust_env=False) as client:
        for path in ("/runops/api/runs", "/runops/api/facets", "/runops/api/charts"):
            assert client.get(path).status_code in (401, 403), path
        assert client.post("/runops/api/look", json=ids_of(page.operated("cancel_nyx"))).status_code in (401, 403)


@pytest.mark.parametrize(
    "strange",
    [{"X-Runops": ""}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "", "Origin": "https://example.org"}],
    ids=["no header", "cross-site", "another origin"],
)
def test_a_form_of_another_site_cancels_nothing(page: World, strange: dict[str, str]) -> None:
    task = page.operated("forbidden_b3os")
    headers = {
        name: value for name, value in {"X-Runops": "1", "Sec-Fetch-Site": "same-origin", **strange}.items() if value
    }
    cookies = {"_token": page.host.token("admin")}
    with httpx.Client(base_url=page.host.url, trust_env=False, cookies=cookies) as client:
        answer = client.post("/runops/api/cancel", json=ids_of(task), headers=headers)
    assert answer.status_code in (400, 403, 415)
    assert page.host.state(task) == "deferred"


# --- cancelling ---


@pytest.mark.parametrize(
    "name", ["cancel_nyx", "cancel_onepin", "cancel_b3os", "worker_onepin", "spared_nyx", "sensed_cancel_nyx"]
)
def test_cancel_ends_the_run_once_and_the_task_as_a_kill_by_a_person_does(page: World, name: str) -> None:
    task = page.waiting(name) if name.startswith("sensed") else page.operated(name)
    run_id = page.row("op", task)["run_id"]
    with page.visit("op") as visit:
        open_run(visit, task)
        visit.page.get_by_role("button", name="Cancel").first.click()
        dialog = visit.page.get_by_role("dialog")
        assert run_id in dialog.inner_text()
        dialog.get_by_role("button", name="Cancel the run").click()
        visit.page.get_by_role("status").get_by_text("to cancel").wait_for()
    until("the task has ended", 60, lambda: page.host.state(task) == "failed")
    until("the run is cancelled", 60, lambda: cancels(page, run_id) == 1)
    time.sleep(8.0)
    # Also where its retries are not used up: a person has ended it.
    assert page.host.state(task) == "failed"
    assert len(page.host.tries(task)) == 1
    assert cancels(page, run_id) == 1
