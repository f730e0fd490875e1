"""OnePin's workflows, results and files: what the client's documentation says of them beyond their models."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

WORKFLOW = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
OTHER = "11111111-2222-4333-8444-555555555555"
WORKFLOWS = "/api/v1/workflows"
RUNS = f"{WORKFLOWS}/{WORKFLOW}/runs"


def data(call, path: str, **params: Any) -> Any:
    answer = call("onepin", "GET", path, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def completed(emulator, **about: Any) -> str:
    return emulator.create_run("onepin", script="succeeded", seconds=0, **about)


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["id"] for row in rows]


def test_workflows_are_listed_once_each_and_filtered_by_how_their_newest_run_stands(call, emulator) -> None:
    assert ids(data(call, WORKFLOWS, status="draft")) == [WORKFLOW]
    emulator.create_run("onepin", script="failed", seconds=0, age_seconds=60)
    completed(emulator)
    emulator.create_run("onepin", script="paused", seconds=0, parents={"workflow_id": OTHER})
    rows = {row["id"]: row for row in data(call, WORKFLOWS)}
    assert set(rows) == {WORKFLOW, OTHER}
    counts = rows[WORKFLOW]["run_status_counts"]
    assert (
        (sum(counts.values()), counts["failed"], counts["completed"])
        == (rows[WORKFLOW]["runs_count"], 1, 1)
        == (2, 1, 1)
    )
    shown = {
        status: ids(data(call, WORKFLOWS, status=status)) for status in ("draft", "running", "completed", "failed")
    }
    assert shown == {"draft": [], "running": [OTHER], "completed": [WORKFLOW], "failed": []}
    assert data(call, WORKFLOWS, status="paused") == []
    assert ids(data(call, WORKFLOWS, has_failed_run="true")) == [WORKFLOW]
    assert ids(data(call, WORKFLOWS, has_failed_run="false")) == [OTHER]
    assert data(call, WORKFLOWS, search="nothing like it") == []


def test_workflows_carry_their_graph_only_where_it_is_asked_for(call, emulator) -> None:
    assert data(call, WORKFLOWS)[0]["definition"] is None
    assert data(call, WORKFLOWS, include_definition="true")[0]["definition"]["graph"]["nodes"]


def test_workflows_are_sorted_by_several_fields_and_a_next_page_keeps_them(call, emulator) -> None:
    completed(emulator, parents={"workflow_id": OTHER})
    sort = [("sort", "name"), ("sort", "runs_count"), ("order", "asc"), ("order", "desc"), ("limit", "1")]
    first = call("onepin", "GET", WORKFLOWS, params=sort).json()
    assert (ids(first["data"]), first["pagination"]["total"]) == ([OTHER], 2)
    second = call.http.get(first["pagination"]["next"], headers={"authorization": "Bearer k"}).json()
    assert (ids(second["data"]), second["pagination"]["next"]) == ([WORKFLOW], None)
    for params in ({"sort": "color"}, {"order": "up"}, {"status": "cancelled"}, {"limit": 101}):
        assert call("onepin", "GET", WORKFLOWS, params=params).status_code == 422


@pytest.mark.parametrize(
    ("path", "since", "until"),
    [(WORKFLOWS, "last_run_after", "last_run_before"), (f"{RUNS}/summary", "from", "to")],
)
def test_a_window_of_time_needs_offsets_and_the_right_order(call, emulator, path, since, until) -> None:
    completed(emulator)
    now = dt.datetime.now(dt.UTC)
    hour = dt.timedelta(hours=1)
    counted = {
        (lower, upper): data(call, path, **{since: (now + lower).isoformat(), until: (now + upper).isoformat()})
        for lower, upper in ((-hour, hour), (-2 * hour, -hour))
    }
    inside, outside = (len(each) if isinstance(each, list) else each["total_runs"] for each in counted.values())
    assert (inside, outside) == (1, 0)
    for params in ({since: "2026-01-01T00:00:00"}, {until: "yesterday"}):
        assert call("onepin", "GET", path, params=params).status_code == 422
    inverted = {since: now.isoformat(), until: (now - hour).isoformat()}
    assert call("onepin", "GET", path, params=inverted).status_code == 422


def test_a_summary_leaves_pauses_out_of_the_average(call, emulator) -> None:
    emulator.create_run("onepin", script="succeeded", seconds=10, age_seconds=60)
    emulator.create_run("onepin", script="paused_then_succeeded", seconds=10, age_seconds=60)
    summary = data(call, f"{RUNS}/summary")
    # Each begins after two seconds; one has been paused for 600 milliseconds, as it says.
    assert (summary["completed"], summary["delivered_audio_ms"]) == (2, 9600)
    assert summary["average_duration_seconds"] == pytest.approx((8 + 7.4) / 2)


def test_a_failed_run_has_a_failed_node_after_those_that_were_done(call, emulator) -> None:
    run_id = emulator.create_run("onepin", script="failed", seconds=0)
    *done, last = data(call, f"{RUNS}/{run_id}/steps")
    assert {step["status"] for step in done} == {"completed"}
    assert (last["node_id"], last["status"], last["error"]) == (
        "node-6",
        "failed",
        emulator.runs()[0]["fields"]["error"],
    )
    assert (last["has_result"], last["result"]) == (False, None)
    assert [data(call, f"{RUNS}/{run_id}/outputs")["outputs"][0][name] for name in ("status", "lines")] == [
        "pending",
        [],
    ]
    assert data(call, f"{RUNS}/{run_id}/analysis")["credits"]["reason"] == "run_not_settled"


def test_a_paused_step_says_why(call, emulator) -> None:
    run_id = emulator.create_run("onepin", script="paused", seconds=0)
    last = data(call, f"{RUNS}/{run_id}/steps")[-1]
    assert (last["status"], last["pause_reason"]) == ("paused", "provider_outage")
    assert data(call, f"{RUNS}/{run_id}/analysis")["credits"]["reason"] == "run_paused"


@pytest.mark.parametrize("page", ["steps", "overview", "outputs", "data", "analysis", "download"])
def test_what_a_run_brought_about_is_found_by_both_of_its_ids(call, emulator, page) -> None:
    run_id = completed(emulator)
    assert call("onepin", "GET", f"{RUNS}/{run_id}/{page}").status_code == 200
    assert call("onepin", "GET", f"{WORKFLOWS}/{OTHER}/runs/{run_id}/{page}").status_code == 404
    assert call("onepin", "GET", f"{RUNS}/no-uuid/{page}").status_code == 422
    assert call("onepin", "GET", f"{RUNS}/{run_id}/{page}", key=None).status_code == 401


def test_data_is_paged_and_never_kept(call, emulator) -> None:
    answer = call("onepin", "GET", f"{RUNS}/{completed(emulator)}/data", params={"limit": 2, "offset": 2})
    assert answer.headers["cache-control"] == "no-store"
    page = answer.json()
    assert ([row["script"] for row in page["data"]["rows"]], page["pagination"]["total"]) == (["We land at noon."], 3)
    assert page["pagination"]["prev"].endswith("offset=0")


def test_the_address_of_a_file_works_for_a_quarter_of_an_hour_and_for_that_file_only(
    call, emulator, monkeypatch
) -> None:
    found = data(call, f"{RUNS}/{completed(emulator)}/download")
    assert call.http.get(found["url"]).headers["content-type"] == "application/zip"
    # No key is needed, and none helps.
    for wrong in (found["url"].replace(".zip", ".wav"), found["url"] + "0", found["url"].partition("?")[0]):
        assert call.http.get(wrong, headers={"authorization": "Bearer k"}).status_code == 403
    began = emulator.now()
    monkeypatch.setattr(emulator, "now", lambda: began + 890)
    assert call.http.get(found["url"]).status_code == 200
    monkeypatch.setattr(emulator, "now", lambda: began + 901)
    assert call.http.get(found["url"]).status_code == 403


def test_the_same_seed_gives_the_same_files(call, emulator) -> None:
    first = call.http.get(data(call, f"{RUNS}/{completed(emulator)}/download")["url"]).content
    emulator.reset()
    assert call.http.get(data(call, f"{RUNS}/{completed(emulator)}/download")["url"]).content == first


def test_the_first_field_to_sort_by_counts_before_the_second(call, emulator) -> None:
    for age, workflow in ((30, "a"), (20, "b"), (10, "c"), (5, "c")):
        completed(emulator, parents={"workflow_id": workflow}, age_seconds=age)
    sort = [("sort", "runs_count"), ("sort", "updated_at"), ("order", "asc"), ("order", "desc")]
    answer = call("onepin", "GET", WORKFLOWS, params=sort)
    assert ids(answer.json()["data"]) == [WORKFLOW, "b", "a", "c"]
