"""What each shipped provider declares: every route, limit and word, as its vendor's pages have them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import pytest

from runops.core import PROVIDERS
from runops.core.declaration import Route

EACH = pytest.mark.parametrize("name", PROVIDERS)


def declared(value: Any) -> Any:
    """What a declaration says beyond the defaults, as plain data; routes in a line, functions and classes by name."""
    if isinstance(value, Route):
        query = "&".join(f"{name}={text}" for name, text in value.query.items())
        body = "" if value.json is None else f" {json.dumps(value.json)}"
        return f"{value.method} {value.path}{query and '?'}{query}{body}"
    if is_dataclass(value):
        given = {each.name: getattr(value, each.name) for each in fields(value) if each.init}
        defaults = {each.name: each.default_factory() if callable(each.default_factory) else each.default
                    for each in fields(value)}  # fmt: skip
        return {name: declared(found) for name, found in given.items() if found != defaults[name]}
    if callable(value):
        return value.__name__
    return dict(value) if isinstance(value, Mapping) else value


PROMISES: dict[str, dict[str, Any]] = {
    "nexio": {
        "name": "nexio",
        "title": "Nexio",
        "position": 1,
        "docs": "https://docs.usenexio.com",
        "base_url": "https://api.usenexio.com",
        "version_path": "/api/v1",
        "auth": {"header": "Authorization", "prefix": "Bearer ", "key_prefixes": ("nx_",)},
        "key_variable": "NEXIO_API_KEY",
        "body": "NexioRun",
        "status": "GET /api/v1/runs/{run_id}",
        "submit": {"build": "submit", "run_id": ("run_id",), "turned_away": ((503, "auth_unavailable"),)},
        "probe": "GET /api/v1/runs/00000000-0000-0000-0000-000000000000",
        "probe_absent": True,
        "cadence": {"first": 2.0, "factor": 1.5, "ceiling": 30.0},
        "id_key": "uuid",
        "link": "https://platform.usenexio.com/runs",
    },
    "nyx": {
        "name": "nyx",
        "title": "Nyx",
        "position": 2,
        "docs": "https://docs.fabraix.com",
        "base_url": "https://api.fabraix.com",
        "version_path": "/v1",
        "auth": {"header": "X-Verification-Token", "key_prefixes": ("nyx_",)},
        "key_variable": "NYX_TOKEN",
        "trace_header": "X-Trace-Id",
        "body": "NyxRun",
        "status": "GET /v1/nyx/runs/{run_id}",
        "submit": {"build": "submit", "run_id": ("run_id",), "one_at_a_time": True, "mark": "name"},
        "cancel": "POST /v1/nyx/runs/{run_id}/cancel",
        "listing": {
            "route": "GET /v1/nyx/runs?limit=100",
            "items": ("runs",),
            "parent_kinds": ("config_name",),
            "latest": "GET /v1/nyx/runs/by-config/{config_name}",
            "filtered": True,
            "page_size": 100,
            "paging": "offset",
            "complete": True,
        },
        "probe": "GET /v1/verify/token-validation",
        "cadence": {"first": 5.0, "factor": 1.0, "ceiling": 5.0},
        "spend": {"unit": "USD", "details": ("spent_usd",)},
        "link": "https://app.fabraix.com/nyx/runs/{run_id}",
    },
    "onepin": {
        "name": "onepin",
        "title": "OnePin",
        "position": 3,
        "docs": "https://docs.onepin.ai",
        "base_url": "https://api.onepin.ai",
        "version_path": "/api/v1",
        "auth": {"header": "Authorization", "prefix": "Bearer ", "key_prefixes": ("op_",)},
        "key_variable": "ONEPIN_API_KEY",
        "options": {"workspace_id": "X-Workspace-Id"},
        "body": "OnepinRun",
        "envelope": "data",
        "status": "GET /api/v1/workflows/{workflow_id}/runs/{run_id}/status",
        "result": "GET /api/v1/workflows/{workflow_id}/runs/{run_id}",
        "submit": {
            "build": "submit",
            "run_id": ("data", "id"),
            "one_at_a_time": True,
            "account": ("data", "user_id"),
        },
        "cancel": "POST /api/v1/workflows/{workflow_id}/runs/{run_id}/cancel",
        "resume": "POST /api/v1/workflows/{workflow_id}/runs/{run_id}/resume",
        "listing": {
            "route": "GET /api/v1/workflows/{workflow_id}/runs?limit=100&sort=created_at&order=desc",
            "items": ("data",),
            "parent_kinds": ("workflow_id",),
            "page_size": 100,
            "paging": "offset",
        },
        "probe": "GET /api/v1/auth/whoami",
        "cadence": {"first": 2.0, "factor": 1.25, "ceiling": 15.0},
        "spend": {"unit": "characters", "details": ("token_cost",)},
        "id_key": "uuid",
        "link": "https://app.onepin.ai",
    },
    "b3os": {
        "name": "b3os",
        "title": "B3OS",
        "position": 4,
        "docs": "https://docs.b3os.org",
        "base_url": "https://api.b3os.org",
        "version_path": "/v1",
        "auth": {"header": "Authorization", "prefix": "Bearer ", "key_prefixes": ("b3sk_",)},
        "key_variable": "B3OS_API_KEY",
        "options": {"org_id": "X-Org-ID"},
        "body": "B3osRun",
        "envelope": "data",
        "status": "GET /v1/runs/{run_id}?summary=true",
        "result": "GET /v1/runs/{run_id}",
        "submit": {"build": "submit", "run_id": ("data", "runId")},
        "cancel": "POST /v1/runs/{run_id}/cancel",
        "retry": {"route": "POST /v1/runs/{run_id}/retry", "run_id": ("data", "runId")},
        "explain": {"route": "GET /v1/runs/{run_id}", "read": "failed_nodes"},
        "listing": {
            "route": "GET /v1/workflows/{workflow_id}/runs?limit=100",
            "items": ("data", "items"),
            "parent_kinds": ("workflow_id",),
            "page_size": 100,
            "paging": "offset",
            "complete": True,
            "parent_detail": "workflowId",
        },
        "probe": "GET /v1/runs?limit=1",
        "cadence": {"first": 2.0, "factor": 1.25, "ceiling": 20.0},
        "spend": {"unit": "CU", "details": ("totalCu",)},
        "link": "https://b3os.org/workflows/edit?id={workflowId}",
    },
    "nekt": {
        "name": "nekt",
        "title": "Nekt",
        "position": 5,
        "docs": "https://docs.nekt.com",
        "base_url": "https://api.nekt.ai",
        "version_path": "/api/v1",
        "auth": {"header": "x-api-key"},
        "key_variable": "NEKT_API_KEY",
        "body": "NektRun",
        "status": "GET /api/v1/runs/{run_id}/",
        "cancel": "POST /api/v1/runs/{run_id}/cancel/ {}",
        "listing": {
            "route": "GET /api/v1/runs/",
            "items": ("results",),
            "parent_kinds": ("pipeline", "source", "destination", "transformation"),
            "filtered": True,
            "page_size": 1,
            "paging": "page",
            "complete": True,
        },
        "probe": "GET /api/v1/runs/",
        "cadence": {"first": 5.0, "factor": 1.25, "ceiling": 30.0},
        "spend": {"unit": "USD", "details": ("el_cost_usd", "transformation_cost_usd")},
        "id_key": "uuid",
        "link": "https://app.nekt.ai",
    },
}


@EACH
def test_a_provider_declares_what_its_documentation_says_and_nothing_else(name: str) -> None:
    found = declared(PROVIDERS[name])
    del found["states"]
    assert found == PROMISES[name]


COMPLETED = "The run is completed, but"
FAILED_AUDIT = "The run failed although its result is success."
SPENT = "The budget is spent and nothing was found."
WORDS: dict[str, list[tuple[str, str | None, str, str | None, float | None]]] = {
    "nexio": [
        ("queued", None, "queued", None, None),
        ("processing", None, "running", None, None),
        ("completed", None, "succeeded", None, None),
        ("degraded", None, "degraded", None, None),
        ("failed", None, "failed", None, None),
    ],
    "nyx": [
        ("queued", None, "queued", None, None),
        ("running", None, "running", None, None),
        ("completed", "success", "succeeded", None, None),
        ("completed", "exhausted", "exhausted", SPENT, None),
        ("completed", "error", "failed", f"{COMPLETED} its result is error.", None),
        ("completed", None, "failed", f"{COMPLETED} no result came within 60 s.", 60),
        ("failed", "success", "failed", FAILED_AUDIT, None),
        ("failed", "exhausted", "exhausted", SPENT, None),
        ("failed", "error", "failed", "The run's result is error.", None),
        ("failed", None, "failed", None, None),
        ("cancelled", None, "cancelled", None, None),
    ],
    "onepin": [
        ("pending", None, "queued", None, None),
        ("running", None, "running", None, None),
        ("running", "pause requested", "paused", None, None),
        ("paused", None, "paused", None, None),
        ("completed", None, "succeeded", None, None),
        ("failed", None, "failed", None, None),
        ("cancelled", None, "cancelled", None, None),
    ],
    "b3os": [
        ("running", None, "running", None, None),
        ("waiting", None, "waiting", None, None),
        ("success", None, "succeeded", None, None),
        ("failure", None, "failed", None, None),
        ("cancelled", None, "cancelled", None, None),
    ],
    "nekt": [
        ("pending_events", None, "waiting", None, None),
        ("queued", None, "queued", None, None),
        ("running", None, "running", None, None),
        ("cancelling", None, "stopping", None, None),
        ("success", None, "succeeded", None, None),
        ("failed", None, "failed", None, None),
        ("canceled", None, "cancelled", None, None),
    ],
}


@EACH
def test_every_word_of_a_provider_means_what_its_documentation_says(name: str) -> None:
    rows = [(word, second, row.meaning.value, row.reason, row.grace_seconds)
            for word, second, row in PROVIDERS[name].states]  # fmt: skip
    assert rows == WORDS[name]
