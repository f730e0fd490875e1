"""Every answer of the emulator against schemas written from the providers' API pages."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from runops.emulator.services import default_apis

SCHEMAS = Path(__file__).parents[1] / "payloads" / "emulator_schemas"
#: Scripts that leave the documented page on purpose.
OFF_PAGE = {
    "unknown_word",
    "unknown_word_forever",
    "unknown_word_ended",
    "unknown_result",
    "bare",
    "unreadable_times",
    "failed_without_state",
}
PENDING_EVENTS = {"pending_events", "pending_events_then_succeeded"}
SCRIPTS = [
    pytest.param(cls.name, script, id=f"{cls.name}-{script}")
    for cls in default_apis()
    for script in cls.scripts
    if script not in OFF_PAGE
]


def holds(payload: Any, schema: str) -> None:
    definition = json.loads((SCHEMAS / f"{schema}.json").read_text())
    jsonschema.Draft202012Validator(definition).validate(payload)


PAGE = {"nexio": "nexio_run", "nyx": "nyx_run", "onepin": "onepin_status", "b3os": "b3os_run"}


@pytest.mark.parametrize(("provider", "script"), SCRIPTS)
def test_a_run_shows_the_documented_page_at_every_moment(call, emulator, provider, script) -> None:
    for shape in ("pipeline", "flat") if provider == "nekt" else (None,):
        if shape == "pipeline" and script in PENDING_EVENTS:
            continue
        run_id = emulator.create_run(provider, script=script, seconds=10, held=True, shape=shape)
        for _ in range(11):
            answer = call.read(provider, run_id)
            assert answer.status_code == 200
            holds(answer.json(), PAGE.get(provider, f"nekt_run_{shape}"))
            emulator.advance(1, run_id=run_id)


@pytest.mark.parametrize("script", [name for cls in default_apis() if cls.name == "b3os" for name in cls.scripts])
def test_the_summary_of_b3os_leaves_the_heavy_parts_out(call, emulator, script) -> None:
    run_id = emulator.create_run("b3os", script=script, seconds=10, held=True)
    emulator.advance(run_id=run_id)
    summary = call.read("b3os", run_id, params={"summary": "true"}).json()
    assert not {"executionState", "workflowDefinition"} & set(summary["data"])
    if script not in OFF_PAGE:
        holds(summary, "b3os_summary")
    if script != "bare":
        assert "workflowDefinition" in call.read("b3os", run_id, params={"summary": "True"}).json()["data"]


def test_b3os_returns_only_the_nodes_asked_for(call, emulator) -> None:
    run_id = emulator.create_run("b3os", script="failed", held=True)
    emulator.advance(run_id=run_id)
    answer = call.read("b3os", run_id, params={"nodeIds": "swap,nowhere"}).json()
    assert list(answer["data"]["executionState"]) == ["swap"]
    assert answer["data"]["executionState"]["swap"]["status"] == "failure"


def test_lists_show_the_documented_pages(call, emulator) -> None:
    for cls in default_apis():
        for script in cls.scripts:
            if script not in OFF_PAGE | PENDING_EVENTS:
                emulator.advance(run_id=emulator.create_run(cls.name, script=script))
    emulator.create_run("nekt", script="forever", shape="flat")
    workflow_id = emulator.apis["onepin"].default_parent
    holds(call("nyx", "GET", "/v1/nyx/runs", params={"limit": 100}).json(), "nyx_list")
    holds(call("onepin", "GET", f"/api/v1/workflows/{workflow_id}/runs", params={"limit": 2}).json(), "onepin_list")
    holds(call("b3os", "GET", "/v1/runs").json(), "b3os_list")
    holds(call("b3os", "GET", "/v1/workflows/wf_emulated/runs", params={"limit": 2}).json(), "b3os_list")
    nekt = call("nekt", "GET", "/api/v1/runs/").json()
    holds(nekt, "nekt_list")
    assert {"source", "pipeline"} <= {name for run in nekt["results"] for name in run}


@pytest.mark.parametrize(
    ("provider", "status", "schema"),
    [
        ("nexio", 202, "nexio_submitted"),
        ("nyx", 201, "nyx_submitted"),
        ("onepin", 202, "onepin_run"),
        ("b3os", 200, "b3os_submitted"),
    ],
)
def test_a_submit_answers_as_documented(call, emulator, provider, status, schema) -> None:
    answer = call.submit(provider, script="succeeded")
    assert answer.status_code == status
    holds(answer.json(), schema)


def test_a_cancel_answers_as_documented(call, emulator) -> None:
    workflow_id = emulator.apis["onepin"].default_parent
    nyx = emulator.create_run("nyx", script="forever")
    answer = call("nyx", "POST", f"/v1/nyx/runs/{nyx}/cancel")
    holds(answer.json(), "nyx_cancelled")
    assert answer.json() == {"run_id": nyx, "status": "cancelled"}
    onepin = emulator.create_run("onepin", script="forever")
    answer = call("onepin", "POST", f"/api/v1/workflows/{workflow_id}/runs/{onepin}/cancel")
    holds(answer.json(), "onepin_run")
    assert answer.json()["data"]["status"] == "cancelled"
    b3os = emulator.create_run("b3os", script="waiting")
    answer = call("b3os", "POST", f"/v1/runs/{b3os}/cancel")
    assert (answer.status_code, answer.content) == (200, b"")
    nekt = emulator.create_run("nekt", script="forever")
    answer = call("nekt", "POST", f"/api/v1/runs/{nekt}/cancel/", json={})
    holds(answer.json(), "nekt_run_pipeline")
    assert answer.json()["status"] == "cancelling"
    pages = {"nyx": nyx, "onepin": onepin, "b3os": b3os, "nekt": nekt}
    for provider, run_id in pages.items():
        emulator.advance(run_id=run_id)
        holds(call.read(provider, run_id).json(), PAGE.get(provider, "nekt_run_pipeline"))


@pytest.mark.parametrize("provider", [cls.name for cls in default_apis()])
@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 409, 422, 425, 426, 429, 500, 502, 503])
def test_errors_have_the_providers_own_body(call, emulator, provider, status) -> None:
    run_id = emulator.create_run(provider)
    emulator.add_fault(kind="status", status=status)
    emulator.add_fault(kind="status", status=status, code="A_CODE")
    for _ in range(2):
        answer = call.read(provider, run_id)
        assert answer.status_code == status
        holds(answer.json(), f"{provider}_error")


def test_nexio_says_auth_unavailable_with_503(call, emulator) -> None:
    emulator.add_fault(kind="status", status=503)
    answer = call.read("nexio", emulator.create_run("nexio"))
    assert answer.json()["code"] == "auth_unavailable"


def test_optional_fields_of_nexio_are_absent_and_not_null(call, emulator) -> None:
    answer = call.read("nexio", emulator.create_run("nexio", script="queued"))
    assert set(answer.json()) == {"run_id", "status", "environment", "created_at"}


def test_nexio_runs_carry_the_environment_of_the_key_and_the_version_asked_for(call, emulator) -> None:
    body = {"input": {}, "engine_version": "1.x"}
    submitted = call("nexio", "POST", "/api/v1/engines/e/runs", json=body, key="nx_staging_0123")
    run = call.read("nexio", submitted.json()["run_id"]).json()
    assert (run["environment"], run["engine_version"]) == ("staging", "1.3")


@pytest.mark.parametrize(
    ("provider", "script", "left_out"),
    [("nexio", "bare", {"created_at", "environment"}), ("b3os", "bare", {"startedAt", "workflowId"})],
)
def test_a_bare_run_leaves_out_what_is_not_required_from_its_first_answer_on(
    call, emulator, provider, script, left_out
) -> None:
    run_id = emulator.create_run(provider, script=script, seconds=10, held=True)
    for _ in range(2):
        answer = call.read(provider, run_id).json()
        assert not left_out & set(answer.get("data", answer))
        emulator.advance(run_id=run_id)


def test_times_that_nobody_can_read_are_there_from_the_first_answer_on(call, emulator) -> None:
    run_id = emulator.create_run("b3os", script="unreadable_times", seconds=10, held=True)
    assert call.read("b3os", run_id).json()["data"]["startedAt"] == "yesterday"


@pytest.mark.parametrize(
    ("provider", "script"),
    [("nexio", "succeeded"), ("nyx", "succeeded"), ("nyx", "exhausted"), ("onepin", "failed_without_error")],
)
def test_a_run_is_over_after_its_seconds_and_says_when_it_ended(call, emulator, provider, script) -> None:
    run_id = emulator.create_run(provider, script=script, seconds=10, held=True)
    emulator.advance(9.9, run_id=run_id)
    before = call.read(provider, run_id).json()
    emulator.advance(0.1, run_id=run_id)
    after = call.read(provider, run_id).json()
    assert before.get("data", before).get("completed_at") is None
    assert after.get("data", after).get("completed_at") is not None


def test_the_workflow_of_onepin_has_the_graph_whose_nodes_its_runs_count(call, emulator) -> None:
    workflow_id = call.server.emulator.apis["onepin"].default_parent
    graph = call("onepin", "GET", f"/api/v1/workflows/{workflow_id}").json()["data"]["definition"]["graph"]
    ids = [node["id"] for node in graph["nodes"]]
    assert [(edge["source"], edge["target"]) for edge in graph["edges"]] == list(pairwise(ids))
    assert call.read("onepin", emulator.create_run("onepin")).json()["data"]["total_nodes"] == len(ids)
