"""What people see of each shipped provider's answers: every field that is read, under its documented name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runops.core import PROVIDERS
from runops.core.model import times
from runops.core.providers.b3os import B3osRun, failed_nodes
from runops.core.providers.nekt import NEKT_PARENTS, NektRun
from runops.core.providers.onepin import OnepinRun

SPENT = "The budget is spent and nothing was found."

# A whole answer of each provider, and what people see of it: every field under its documented name.
TIMES = {"created_at": "2026-04-01T12:00:00Z", "started_at": "2026-04-01T12:00:01Z"}
ENDED = "2026-04-01T12:00:02Z"
ANSWERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nexio": (
        {
            "run_id": "r", "status": "degraded", **TIMES, "completed_at": ENDED, "environment": "live",
            "engine_version": "1.3", "stage": "rating", "duration_ms": 7, "error": None,
            "output": {"degradation_reason": "no rates"},
        },
        {
            "outcome": "degraded", "reason": "no rates", "progress": None,
            "details": {"environment": "live", "engine_version": "1.3", "stage": "rating", "duration_ms": 7},
        },
    ),
    "nyx": (
        {
            "run_id": "r", "status": "completed", **TIMES, "completed_at": ENDED, "config_name": "nightly",
            "name": "Audit", "result": "exhausted", "budget_usd": 5, "spent_usd": 2.5, "attempts_completed": 3,
            "findings_count": 4,
        },
        {
            "outcome": "exhausted", "reason": SPENT, "progress": {"done": 2.5, "total": 5.0, "unit": "USD"},
            "details": {
                "config_name": "nightly", "name": "Audit", "result": "exhausted", "budget_usd": 5.0, "spent_usd": 2.5,
                "attempts_completed": 3, "findings_count": 4,
            },
        },
    ),
    "onepin": (
        {
            "id": "r", "status": "failed", **TIMES, "completed_at": ENDED, "workflow_id": "w", "run_number": 9,
            "token_cost": 100, "total_nodes": 8, "finished_nodes": 6, "total_steps": 20, "finished_steps": 10,
            "has_export": True, "pause_reason": "lunch", "paused_ms": 11, "pause_error": "stuck", "error": "no voice",
        },
        {
            "outcome": "failed", "reason": "no voice", "progress": {"done": 6.0, "total": 8.0, "unit": "nodes"},
            "details": {
                "run_number": 9, "token_cost": 100, "total_nodes": 8, "finished_nodes": 6, "total_steps": 20,
                "finished_steps": 10, "has_export": True, "pause_reason": "lunch", "paused_ms": 11,
            },
        },
    ),
    "b3os": (
        {
            "id": "r", "status": "success", "createdAt": ENDED, "startedAt": TIMES["started_at"], "finishedAt": ENDED,
            "created_at": TIMES["created_at"], "workflowId": "w", "workflowVersion": 2, "totalCu": 1.5,
            "triggerSource": "api", "isSimulation": True, "isDustTest": False, "sourceRunId": "q",
        },
        {
            "outcome": "succeeded", "reason": None, "progress": None,
            "details": {
                "workflowId": "w", "workflowVersion": 2, "totalCu": 1.5, "triggerSource": "api", "isSimulation": True,
                "isDustTest": False, "sourceRunId": "q",
            },
        },
    ),
    "nekt": (
        {
            "id": "r", "status": "success", **TIMES, "ended_at": ENDED, "pipeline": {"id": 5, "slug": "daily"},
            "source": "s", "destination": {"id": "d"}, "transformation": 8, "trigger_type": "cron", "number": 3,
            "duration_seconds": 1.5, "full_sync": True, "credit_charge_status": "charged", "el_cost_usd": 0.5,
            "transformation_cost_usd": 0.25,
        },
        {
            "outcome": "succeeded", "reason": None, "progress": None,
            "details": {
                "pipeline": "daily", "source": "s", "destination": "d", "transformation": "8", "trigger_type": "cron",
                "number": 3, "duration_seconds": 1.5, "full_sync": True, "credit_charge_status": "charged",
                "el_cost_usd": 0.5, "transformation_cost_usd": 0.25,
            },
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_field_of_an_answer_is_read_under_its_documented_name(name: str) -> None:
    provider = PROVIDERS[name]
    sent, expected = ANSWERS[name]
    ref = provider.ref("r", dict.fromkeys(provider.parents, "w"))
    content = json.dumps({"data": sent} if provider.envelope else sent).encode()
    shown = provider.read(ref, content).snapshot.to_result()
    assert {field: shown[field] for field in (*expected, *TIMES, "finished_at")} == {
        **expected, **TIMES, "finished_at": ENDED,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "reason", "progress"),
    [
        ({"error": " ", "pause_error": "stuck", "pause_reason": "lunch"}, "stuck", None),
        ({"pause_error": "", "pause_reason": "lunch"}, "lunch", None),
        ({"finished_steps": 0, "total_steps": 4}, None, "0/4 steps"),
        ({"finished_nodes": 0, "total_nodes": 2, "finished_steps": 1, "total_steps": 4}, None, "0/2 nodes"),
        ({"finished_steps": 3}, None, "3/? steps"),
        ({"total_nodes": 3, "total_steps": 3}, None, None),
    ],
)
def test_onepin_says_why_and_how_far_by_what_it_shows_best(
    given: dict[str, Any], reason: str | None, progress: str | None
) -> None:
    body = OnepinRun.model_validate({"id": "r", "status": "running", **given})
    assert body.reason() == reason
    found = body.progress()
    assert (found and str(found)) == progress


def test_onepin_says_who_started_a_run_and_since_when_it_is_paused() -> None:
    onepin = PROVIDERS["onepin"]
    run = {
        "id": "r", "status": "running", "workflow_id": "w", "pause_requested_at": "soon",
        "paused_at": ENDED, "updated_at": TIMES["started_at"], "triggered_by": {"user_id": "u", "name": "n"},
    }  # fmt: skip
    seen = onepin.read(onepin.ref("r", {"workflow_id": "w"}), json.dumps({"data": run}).encode())
    assert (seen.started_by, seen.label, seen.snapshot.phase) == ("u", None, "paused")
    assert (seen.paused_since, seen.updated_at) == (times.moment(ENDED), times.moment(TIMES["started_at"]))
    del run["pause_requested_at"], run["triggered_by"], run["paused_at"]
    seen = onepin.read(onepin.ref("r", {"workflow_id": "w"}), json.dumps({"data": run}).encode())
    assert (seen.started_by, seen.snapshot.phase, seen.paused_since) == (None, "running", None)


@pytest.mark.parametrize(
    ("relation", "names"),
    [
        ({"id": 5, "slug": "daily"}, ("5", "daily")),
        ({"slug": "daily", "id": None}, ("daily",)),
        ({"id": [1], "name": "n"}, None),
        ({}, None),
        ("daily", ("daily",)),
        (0, ("0",)),
        ("", None),
        (None, None),
        (True, None),
        (["daily"], None),
    ],
)
def test_nekt_names_a_relation_by_its_id_and_its_slug(relation: object, names: tuple[str, ...] | None) -> None:
    for kind in NEKT_PARENTS:
        body = NektRun.model_validate({"id": "r", "status": "queued", kind: relation})
        assert body.belongs_to(kind) == names
        assert body.details() == ({kind: names[-1]} if names else {})


def test_b3os_names_the_workflow_of_a_run_and_no_other_parent() -> None:
    body = B3osRun.model_validate({"id": "r", "status": "running", "workflowId": "w"})
    assert body.belongs_to("workflow_id") == ("w",)
    assert body.belongs_to("workflowId") is None
    assert B3osRun.model_validate({"id": "r", "status": "running"}).belongs_to("workflow_id") is None


NODE = {"type": "http", "status": "failure"}


@pytest.mark.parametrize(
    ("nodes", "line"),
    [
        ({"a": {**NODE, "result": {"error": "gone", "message": "m"}}}, "a (http): gone"),
        ({"a": {**NODE, "result": {"error": " ", "message": "m"}}}, "a (http): m"),
        ({"a": {**NODE, "result": {}}}, "a (http)"),
        ({"a": NODE}, "a (http)"),
        ({"a": {"status": "failure"}}, "a (?)"),
        ({"a b": {**NODE, "type": "a b"}}, "? (?)"),
        ({"w.o-r:d_1" * 7: NODE}, f"{'w.o-r:d_1' * 7} (http)"),
        ({"x" * 65: NODE}, "? (http)"),
        ({"a": NODE, "b": {**NODE, "status": "success"}, "c": None, "d": 5, "e": NODE}, "a (http); e (http)"),
        ({"a": {**NODE, "status": "success"}}, None),
        ({}, None),
    ],
)
def test_b3os_explains_a_failure_by_the_nodes_that_failed(nodes: dict[str, Any], line: str | None) -> None:
    assert failed_nodes(json.dumps({"data": {"executionState": nodes}}).encode()) == line


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"data": {}}', b'{"data": {"executionState": []}}'])
def test_an_execution_of_b3os_that_cannot_be_read_explains_nothing(content: bytes) -> None:
    assert failed_nodes(content) is None
