"""Keys, slashes, pages, conflicts and cancels: the rules of the five APIs."""

from __future__ import annotations

import pytest

from runops.emulator.services import default_apis

PROVIDERS = [cls.name for cls in default_apis()]
SUBMITTING = [name for name in PROVIDERS if name != "nekt"]
WRONG_HEADERS = {
    "nexio": {"x-api-key": "k"},
    "nyx": {"authorization": "Bearer k", "x-api-key": "k"},
    "onepin": {"authorization": "Basic k"},
    "b3os": {"x-api-key": "k"},
    "nekt": {"authorization": "Bearer k"},
}
WORKFLOW = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
UNKNOWN = dict.fromkeys(PROVIDERS, "00000000-0000-4000-8000-000000000000") | {"nyx": "r_0", "b3os": "run_0"}


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    ("key", "status"), [("any-key", 200), ("invalid-key", 401), ("forbidden-key", 403), (None, 401)]
)
def test_keys_are_judged(call, emulator, provider, key, status) -> None:
    run_id = emulator.create_run(provider)
    assert call.read(provider, run_id, key=key).status_code == status


@pytest.mark.parametrize("provider", PROVIDERS)
def test_only_the_documented_header_counts(call, emulator, provider) -> None:
    run_id = emulator.create_run(provider)
    answer = call.read(provider, run_id, key=None, headers=WRONG_HEADERS[provider])
    assert answer.status_code == 401
    assert emulator.requests(provider=provider)[-1]["key"] == "missing"


@pytest.mark.parametrize("provider", PROVIDERS)
def test_an_unknown_run_is_404(call, emulator, provider) -> None:
    assert call.read(provider, UNKNOWN[provider]).status_code == 404


def test_onepin_refuses_a_run_id_that_is_no_uuid(call, emulator) -> None:
    assert call.read("onepin", "nonsense").status_code == 422


def test_a_onepin_run_is_found_below_its_own_workflow_only(call, emulator) -> None:
    run_id = emulator.create_run("onepin", parents={"workflow_id": "other"})
    assert call.read("onepin", run_id).status_code == 404
    assert call("onepin", "GET", f"/api/v1/workflows/other/runs/{run_id}/status").status_code == 200


@pytest.mark.parametrize(
    ("key", "workspace", "status"),
    [
        ("k", None, 200),
        ("k", "5b1f0a52-7c1d-4a0e-9c39-0d1f6a7b8c9d", 200),
        ("k", "other", 403),
        ("k-ws-other", "other", 200),
        ("k-ws-other", "5b1f0a52-7c1d-4a0e-9c39-0d1f6a7b8c9d", 403),
    ],
)
def test_a_workspace_other_than_the_keys_is_403(call, emulator, key, workspace, status) -> None:
    headers = {} if workspace is None else {"x-workspace-id": workspace}
    answer = call.read("onepin", emulator.create_run("onepin"), key=key, headers=headers)
    assert answer.status_code == status


def test_b3os_accepts_an_organisation(call, emulator) -> None:
    answer = call.read("b3os", emulator.create_run("b3os"), headers={"x-org-id": "org_1"})
    assert answer.status_code == 200


@pytest.mark.parametrize("provider", PROVIDERS)
def test_slashes_matter(call, emulator, provider) -> None:
    run_id = emulator.create_run(provider)
    path = call.read(provider, run_id).request.url.path.removeprefix(f"/{provider}")
    other = call(provider, "GET", path.rstrip("/") if provider == "nekt" else f"{path}/")
    if provider == "nekt":
        assert other.status_code == 301
        assert other.headers["location"] == f"/nekt{path}"
    else:
        assert other.status_code == 404


def test_nekt_keeps_the_query_when_it_adds_the_slash(call, emulator) -> None:
    answer = call("nekt", "GET", "/api/v1/runs", params={"page": 2})
    assert answer.headers["location"] == "/nekt/api/v1/runs/?page=2"


def test_a_wrong_method_is_405_with_the_allowed_ones(call, emulator) -> None:
    answer = call("nyx", "DELETE", "/v1/nyx/runs")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")


def test_there_is_no_cancel_on_nexio_and_no_submit_on_nekt(call, emulator) -> None:
    run_id = emulator.create_run("nexio")
    assert call("nexio", "POST", f"/api/v1/runs/{run_id}/cancel").status_code == 404
    assert call("nekt", "POST", "/api/v1/runs/", json={}).status_code == 405


def test_health_and_probes_answer(call, emulator) -> None:
    assert call("nexio", "GET", "/health", key=None).json() == {"status": "ok"}
    assert call("nyx", "GET", "/v1/verify/token-validation").status_code == 200
    assert call("nyx", "GET", "/v1/verify/token-validation", key="invalid-x").status_code == 401
    whoami = call("onepin", "GET", "/api/v1/auth/whoami", key="k-ws-7").json()["data"]
    assert (whoami["workspace_id"], whoami["auth_kind"]) == ("7", "api_key")


def ids(runs: list[dict[str, str]], name: str = "id") -> list[str]:
    return [run[name] for run in runs]


def test_nyx_lists_newest_first_in_pages(call, emulator) -> None:
    made = [emulator.create_run("nyx", script="running") for _ in range(23)][::-1]
    first = call("nyx", "GET", "/v1/nyx/runs").json()
    assert (len(first["runs"]), first["total"], first["limit"], first["offset"]) == (10, 23, 10, 0)
    seen = ids(first["runs"], "run_id")
    for offset in (10, 20):
        seen += ids(call("nyx", "GET", "/v1/nyx/runs", params={"offset": offset}).json()["runs"], "run_id")
    assert seen == made
    assert call("nyx", "GET", "/v1/nyx/runs", params={"limit": 101}).status_code == 422
    emulator.create_run("nyx", script="queued")
    assert call("nyx", "GET", "/v1/nyx/runs", params={"status": "queued"}).json()["total"] == 1


def test_nyx_finds_the_latest_run_of_a_config_with_an_odd_name(call, emulator) -> None:
    emulator.create_run("nyx", parents={"config_name": "a/b c"})
    newest = emulator.create_run("nyx", parents={"config_name": "a/b c"})
    emulator.create_run("nyx", parents={"config_name": "other"})
    assert call("nyx", "GET", "/v1/nyx/runs/by-config/a%2Fb%20c").json()["run_id"] == newest
    assert call("nyx", "GET", "/v1/nyx/runs/by-config/none").status_code == 404


def test_nyx_has_the_report_after_the_end_only(call, emulator) -> None:
    run_id = emulator.create_run("nyx", script="succeeded", held=True)
    assert call("nyx", "GET", f"/v1/nyx/runs/{run_id}/report").status_code == 425
    emulator.advance(run_id=run_id)
    report = call("nyx", "GET", f"/v1/nyx/runs/{run_id}/report")
    assert report.headers["content-type"].startswith("text/markdown")


def test_onepin_pages_link_to_each_other(call, emulator) -> None:
    made = [emulator.create_run("onepin", script="running") for _ in range(5)][::-1]
    path = f"/api/v1/workflows/{WORKFLOW}/runs"
    page = call("onepin", "GET", path, params={"limit": 2}).json()
    assert (page["pagination"]["total"], page["pagination"]["prev"]) == (5, None)
    seen = ids(page["data"])
    while page["pagination"]["next"] is not None:
        page = call.http.get(page["pagination"]["next"], headers={"authorization": "Bearer k"}).json()
        seen += ids(page["data"])
    assert seen == made
    oldest = call("onepin", "GET", path, params={"order": "asc", "limit": 1}).json()
    assert ids(oldest["data"]) == made[-1:]


@pytest.mark.parametrize(
    "params",
    [
        {"status": "canceled"},
        {"status": "completed,,failed"},
        {"status": "Running"},
        {"limit": 0},
        {"limit": 101},
        {"sort": "age"},
        {"order": "up"},
    ],
)
def test_onepin_refuses_odd_list_parameters(call, emulator, params) -> None:
    assert call("onepin", "GET", f"/api/v1/workflows/{WORKFLOW}/runs", params=params).status_code == 422


def test_onepin_filters_by_several_statuses(call, emulator) -> None:
    emulator.create_run("onepin", script="running")
    emulator.advance(run_id=emulator.create_run("onepin", script="failed"))
    emulator.advance(run_id=emulator.create_run("onepin", script="cancelled"))
    params = {"status": "failed,cancelled"}
    answer = call("onepin", "GET", f"/api/v1/workflows/{WORKFLOW}/runs", params=params).json()
    assert sorted(run["status"] for run in answer["data"]) == ["cancelled", "failed"]


def test_b3os_lists_by_workflow_on_both_routes(call, emulator) -> None:
    made = [emulator.create_run("b3os", script="running") for _ in range(21)][::-1]
    emulator.create_run("b3os", parents={"workflow_id": "wf_other"})
    first = call("b3os", "GET", "/v1/workflows/wf_emulated/runs").json()["data"]
    assert (len(first["items"]), first["hasMore"], first["limit"]) == (20, True, 20)
    rest = call("b3os", "GET", "/v1/runs", params={"workflowId": "wf_emulated", "offset": 20}).json()["data"]
    assert (ids(first["items"]) + ids(rest["items"]), rest["hasMore"]) == (made, False)
    assert len(call("b3os", "GET", "/v1/runs", params={"limit": 100}).json()["data"]["items"]) == 22


@pytest.mark.parametrize("path", ["/v1/runs", "/v1/workflows/wf_emulated/runs", "/v1/workflows"])
def test_b3os_takes_a_limit_above_its_page_for_its_page(call, emulator, path) -> None:
    for number in range(101):
        emulator.create_run(
            "b3os", script="running", parents={"workflow_id": f"wf_{number}"} if path == "/v1/workflows" else None
        )
    # The official client asks for three times the page where it filters by a status itself.
    page = call("b3os", "GET", path, params={"limit": 300}).json()["data"]
    assert (len(page["items"]), page["limit"], page["hasMore"]) == (100, 100, True)
    assert call("b3os", "GET", path, params={"limit": 0}).status_code == 400


def test_b3os_filters_by_status_on_the_workflow_route_only(call, emulator) -> None:
    emulator.create_run("b3os", script="running")
    emulator.advance(run_id=emulator.create_run("b3os", script="waiting"))
    params = {"status": "waiting"}
    filtered = call("b3os", "GET", "/v1/workflows/wf_emulated/runs", params=params).json()["data"]["items"]
    assert [run["status"] for run in filtered] == ["waiting"]
    assert len(call("b3os", "GET", "/v1/runs", params=params).json()["data"]["items"]) == 2


def test_nekt_pages_by_number_with_whole_urls(call, emulator) -> None:
    made = [emulator.create_run("nekt", script="running") for _ in range(45)][::-1]
    page = call("nekt", "GET", "/api/v1/runs/").json()
    assert (page["count"], page["previous"], len(page["results"])) == (45, None, 20)
    seen = ids(page["results"])
    while page["next"] is not None:
        page = call.http.get(page["next"], headers={"x-api-key": "k"}).json()
        seen += ids(page["results"])
    assert seen == made
    assert call("nekt", "GET", "/api/v1/runs/", params={"page": 4}).status_code == 404


@pytest.mark.parametrize("provider", ["nyx", "onepin"])
def test_a_parent_with_an_active_run_takes_no_other(call, emulator, provider) -> None:
    emulator.set_defaults(provider, script="forever")
    assert call.submit(provider, script="forever").status_code in (201, 202)
    assert call.submit(provider, script="forever").status_code == 409
    emulator.set_fields(provider, emulator.runs(provider=provider)[0]["run_id"], {"status": "failed"})
    assert call.submit(provider, script="forever").status_code in (201, 202)
    assert len(emulator.runs(provider=provider)) == 2


@pytest.mark.parametrize("provider", ["nexio", "b3os"])
def test_runs_side_by_side_are_allowed_elsewhere(call, emulator, provider) -> None:
    answers = [call.submit(provider, script="forever") for _ in range(2)]
    assert all(answer.is_success for answer in answers)
    assert len({run["run_id"] for run in emulator.runs(provider=provider)}) == 2


@pytest.mark.parametrize(
    ("provider", "path", "body", "status"),
    [
        ("nexio", "/api/v1/engines/e/runs", {}, 400),
        ("nexio", "/api/v1/engines/e/runs", {"input": {}, "engine_version": "1"}, 400),
        ("nexio", "/api/v1/engines/e/runs", {"input": {}, "engine_version": "1.0.0"}, 400),
        ("nexio", "/api/v1/engines/missing-engine/runs", {"input": {}}, 404),
        ("nexio", "/api/v1/engines/e/runs", {"input": {"emulator": {"script": "nonsense"}}}, 400),
        ("nyx", "/v1/nyx/runs", {}, 422),
        ("nyx", "/v1/nyx/runs", {"target": {}}, 422),
        ("nyx", "/v1/nyx/runs", {"budget_usd": 0}, 422),
        ("nyx", "/v1/nyx/runs", {"severity_target": "mild"}, 422),
        ("nyx", "/v1/nyx/runs", {"config_name": "missing-config"}, 404),
        ("nyx", "/v1/nyx/runs", {"hints": ["emulator:script=nonsense"]}, 422),
        ("onepin", "/api/v1/workflows/missing-one/runs", {}, 404),
        ("onepin", "/api/v1/workflows/w/runs", {"script_text": 3}, 422),
        ("onepin", "/api/v1/workflows/w/runs", {"script_text": "emulator:nonsense"}, 422),
        ("b3os", "/v1/workflows/missing-one/run", {}, 404),
        ("b3os", "/v1/workflows/w/run", {"payload": 3}, 400),
        ("b3os", "/v1/workflows/w/run", {"payload": {"emulator": {"speed": 3}}}, 400),
    ],
)
def test_submits_that_make_no_sense_are_refused(call, emulator, provider, path, body, status) -> None:
    if provider == "nyx" and body:
        usual = {"config_name": "c", "name": "n", "target": {"endpoint": "e"}, "objective": "o"}
        body = {**usual, "budget_usd": 1, "severity_target": "low", **body}
    assert call(provider, "POST", path, json=body).status_code == status
    assert emulator.runs(provider=provider) == []


@pytest.mark.parametrize("provider", SUBMITTING)
def test_a_body_that_is_no_json_is_refused(call, emulator, provider) -> None:
    url = call.submit(provider, script="forever").request.url.path.removeprefix(f"/{provider}")
    emulator.reset()
    assert call(provider, "POST", url, content=b"{").status_code in (400, 422)
    assert emulator.runs() == []


def test_onepin_and_b3os_take_a_submit_without_a_body(call, emulator) -> None:
    assert call("onepin", "POST", f"/api/v1/workflows/{WORKFLOW}/runs").status_code == 202
    assert call("b3os", "POST", "/v1/workflows/wf_emulated/run").status_code == 200


@pytest.mark.parametrize("provider", SUBMITTING)
def test_a_submitted_run_follows_the_script_it_names(call, emulator, provider) -> None:
    emulator.hold(provider=provider)
    call.submit(provider, script="unknown_word_forever", seconds=8)
    run = emulator.runs(provider=provider)[0]
    emulator.advance(1.9, run_id=run["run_id"])
    before = emulator.runs(provider=provider)[0]["status"]
    emulator.advance(0.2, run_id=run["run_id"])
    after = emulator.runs(provider=provider)[0]["status"]
    words = {"nexio": "reviewing", "nyx": "awaiting_operator", "onepin": "rendering", "b3os": "retrying"}
    assert (run["script"], run["submitted"], before == after, after) == (
        "unknown_word_forever",
        True,
        False,
        words[provider],
    )


@pytest.mark.parametrize("provider", SUBMITTING)
def test_a_submitted_run_succeeds_when_nothing_is_said(call, emulator, provider) -> None:
    call.submit(provider)
    run = emulator.runs(provider=provider)[0]
    emulator.advance(run_id=run["run_id"])
    answer = call.read(provider, run["run_id"]).json()
    page = answer.get("data", answer)
    assert page["status"] == ("success" if provider == "b3os" else "completed")


def cancel_path(provider: str, run_id: str) -> str:
    return {
        "nyx": f"/v1/nyx/runs/{run_id}/cancel",
        "onepin": f"/api/v1/workflows/{WORKFLOW}/runs/{run_id}/cancel",
        "b3os": f"/v1/runs/{run_id}/cancel",
        "nekt": f"/api/v1/runs/{run_id}/cancel/",
    }[provider]


@pytest.mark.parametrize(("provider", "status"), [("nyx", 409), ("onepin", 200), ("b3os", 409), ("nekt", 200)])
def test_a_cancel_of_a_run_that_is_over_changes_nothing(call, emulator, provider, status) -> None:
    run_id = emulator.create_run(provider, script="succeeded")
    emulator.advance(run_id=run_id)
    before = emulator.runs(run_id=run_id)[0]["fields"]
    assert call(provider, "POST", cancel_path(provider, run_id)).status_code == status
    assert emulator.runs(run_id=run_id)[0]["fields"] == before


@pytest.mark.parametrize("provider", ["nyx", "onepin", "b3os", "nekt"])
def test_a_cancel_ends_what_the_script_still_had_in_store(call, emulator, provider) -> None:
    run_id = emulator.create_run(provider, script="succeeded", held=True)
    assert call(provider, "POST", cancel_path(provider, run_id)).status_code == 200
    emulator.advance(100, run_id=run_id)
    run = emulator.runs(run_id=run_id)[0]
    assert (run["status"], run["cancels"]) == ("canceled" if provider == "nekt" else "cancelled", 1)


@pytest.mark.parametrize("provider", ["nyx", "onepin", "b3os", "nekt"])
def test_a_cancel_may_be_ignored_refused_or_scripted(call, emulator, provider) -> None:
    ignored = emulator.create_run(provider, script="succeeded", held=True, on_cancel="ignored")
    assert call(provider, "POST", cancel_path(provider, ignored)).status_code == 200
    emulator.advance(run_id=ignored)
    assert emulator.runs(run_id=ignored)[0]["status"] in ("completed", "success")
    refused = emulator.create_run(provider, script="forever", on_cancel="refused")
    assert call(provider, "POST", cancel_path(provider, refused)).status_code in (400, 409)
    scripted = emulator.create_run(provider, script="forever", on_cancel=[{"set": {"status": "failed"}}])
    assert call(provider, "POST", cancel_path(provider, scripted)).status_code == 200
    assert emulator.runs(run_id=scripted)[0]["status"] == "failed"


def test_nekt_cancels_in_two_moves(call, emulator) -> None:
    run_id = emulator.create_run("nekt", script="forever", held=True)
    assert call("nekt", "POST", cancel_path("nekt", run_id), json={}).json()["status"] == "cancelling"
    assert call.read("nekt", run_id).json()["ended_at"] is None
    emulator.advance(run_id=run_id)
    assert call.read("nekt", run_id).json()["ended_at"] is not None


def test_onepin_pauses_and_resumes(call, emulator) -> None:
    run_id = emulator.create_run("onepin", script="running", held=True)
    path = f"/api/v1/workflows/{WORKFLOW}/runs/{run_id}"
    assert call("onepin", "POST", f"{path}/resume").status_code == 409
    asked = call("onepin", "POST", f"{path}/pause").json()["data"]
    assert (asked["status"], asked["pause_requested_at"] is None, asked["pause_reason"]) == ("running", False, "user")
    assert call("onepin", "POST", f"{path}/pause").json()["data"]["pause_requested_at"] == asked["pause_requested_at"]
    assert call("onepin", "POST", f"{path}/resume").status_code == 409
    emulator.advance(run_id=run_id)
    paused = call.read("onepin", run_id).json()["data"]
    assert (paused["status"], paused["pause_requested_at"]) == ("paused", None)
    again = call("onepin", "POST", f"{path}/pause")
    assert (again.status_code, again.json()["data"]["paused_at"]) == (200, paused["paused_at"])
    assert call("onepin", "POST", f"{path}/resume").json()["data"]["status"] == "running"
    emulator.advance(run_id=run_id)
    assert call.read("onepin", run_id).json()["data"]["status"] == "completed"
    assert call("onepin", "POST", f"{path}/pause").status_code == 409


def test_onepin_pauses_a_queued_run_at_once(call, emulator) -> None:
    run_id = emulator.create_run("onepin", script="queued", held=True)
    paused = call("onepin", "POST", f"/api/v1/workflows/{WORKFLOW}/runs/{run_id}/pause").json()["data"]
    assert (paused["status"], paused["pause_reason"]) == ("paused", "user")


def test_onepin_leaves_a_run_paused_while_another_one_of_its_workflow_is_active(call, emulator) -> None:
    run_id = emulator.create_run("onepin", script="paused")
    emulator.advance(run_id=run_id)
    other = emulator.create_run("onepin", script="running", held=True)
    path = f"/api/v1/workflows/{WORKFLOW}/runs/{run_id}/resume"
    refusal = call("onepin", "POST", path)
    assert (refusal.status_code, refusal.json()["error"]["code"]) == (409, "CONFLICT")
    assert call.read("onepin", run_id).json()["data"]["status"] == "paused"
    emulator.set_fields("onepin", other, {"status": "completed"})
    assert call("onepin", "POST", path).status_code == 200
    assert emulator.runs(run_id=run_id)[0]["resumes"] == 1


def test_what_a_resume_does_can_be_scripted(call, emulator) -> None:
    for on_resume, status, state in (
        ("ignored", 200, "paused"),
        ("refused", 409, "paused"),
        ([{"set": {"status": "failed"}}], 200, "failed"),
    ):
        run_id = emulator.create_run("onepin", script="paused", on_resume=on_resume)
        emulator.advance(run_id=run_id)
        path = f"/api/v1/workflows/{WORKFLOW}/runs/{run_id}/resume"
        assert call("onepin", "POST", path).status_code == status
        assert call.read("onepin", run_id).json()["data"]["status"] == state


def test_how_the_run_goes_that_a_retry_makes_can_be_scripted(call, emulator) -> None:
    run_id = emulator.create_run("b3os", script="failed", on_retry="cancelled")
    emulator.advance(run_id=run_id)
    again = call("b3os", "POST", f"/v1/runs/{run_id}/retry").json()["data"]["runId"]
    emulator.advance(run_id=again)
    assert call.read("b3os", again).json()["data"]["status"] == "cancelled"


def test_b3os_retries_a_failure_as_a_new_run(call, emulator) -> None:
    run_id = emulator.create_run("b3os", script="failed")
    assert call("b3os", "POST", f"/v1/runs/{run_id}/retry").status_code == 409
    emulator.advance(run_id=run_id)
    again = call("b3os", "POST", f"/v1/runs/{run_id}/retry").json()["data"]["runId"]
    retried = call.read("b3os", again).json()["data"]
    assert retried["sourceRunId"] == run_id
    # It goes on from the node that failed.
    assert [node["status"] for node in retried["executionState"].values()] == ["success", "success", "running"]
    emulator.set_defaults("b3os", script="cancelled", seconds=0)
    third = call("b3os", "POST", f"/v1/runs/{run_id}/retry").json()["data"]["runId"]
    assert call.read("b3os", third).json()["data"]["status"] == "cancelled"
