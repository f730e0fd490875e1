"""Canaries for every secret or personal field of the five services, and runs whose payloads hold them.

A canary is named after the field that it stands in, so that a finding names its source. All of them contain one stem,
so that a text without the stem, in any spelling, holds no canary.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from typing import Any
from urllib.parse import quote

STEM = "quokka"
ALLOWED = "The vault stayed closed"
"""What people may see of a failure; around it stand things that they may not."""
HOSTS = ("airflow", "dagster", "plain")
WORKFLOW = "7c9e6679-7425-40de-944b-e07fc1f90ae7"

CANARIES: dict[str, str] = {}
"""Every canary by its name."""


def plain(name: str) -> str:
    """A text that looks like nothing in particular."""
    return _kept(name, f"{STEM}-{name}-{_digits(name)[:6]}")


def mail(name: str) -> str:
    return _kept(name, f"{STEM}.{name}@example.org")


def address(name: str) -> str:
    return _kept(name, f"https://{STEM}-{name}.example.org/{STEM}/{_digits(name)[:8]}?sig={STEM}%2F{_digits(name)[8:]}")


def token(name: str) -> str:
    return _kept(name, f"{STEM}{_digits(name)[:22]}")


def key(host: str, provider: str) -> str:
    """An API key, with what url-encoding and base64 spell in another way."""
    name = f"key-{host}-{provider}"
    return _kept(name, f"{STEM}_{name}+{_digits(name)[:8]}/~=")


def telling(name: str) -> str:
    """What a service may write into a text for people: words that may be seen, and things that may not."""
    return f"{ALLOWED} for {mail(f'{name}-mail')}, see {address(f'{name}-url')} with {token(f'{name}-token')}"


def _kept(name: str, text: str) -> str:
    assert CANARIES.setdefault(name, text) == text
    return text


def _digits(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


_NEKT_PERSON = {
    "id": 7,
    "first_name": plain("nekt-first-name"),
    "last_name": plain("nekt-last-name"),
    "email": mail("nekt-email"),
    "picture": address("nekt-picture"),
    "role": "admin",
    "last_login": plain("nekt-last-login"),
}

PAYLOADS: dict[str, dict[str, Any]] = {
    "nexio": {
        "input": {"insured": plain("nexio-input-in-payload")},
        "output": {"premium": plain("nexio-output"), "degradation_reason": telling("nexio-degradation")},
        "solutions": [{"driver": plain("nexio-solutions")}],
        "error_details": {"seen": plain("nexio-error-details")},
    },
    "nyx": {
        "target": {"credentials": plain("nyx-credentials-in-payload")},
        "objective": plain("nyx-objective-in-payload"),
        "hints": [plain("nyx-hints-in-payload")],
        "report": plain("nyx-report"),
        "pending_questions": [{"text": plain("nyx-unknown-field")}],
    },
    "onepin": {
        "triggered_by": {"user_id": plain("onepin-user-id"), "user_name": mail("onepin-user-name")},
        "usage_summary": {"note": plain("onepin-usage-summary")},
        "definition_snapshot": {"text": plain("onepin-definition-snapshot")},
        "held_nodes": [{"node_id": plain("onepin-held-nodes")}],
        "playback_url": address("onepin-playback-url"),
        "public_share_id": plain("onepin-public-share-id"),
    },
    "b3os": {
        "propValues": {"wallet": plain("b3os-prop-values")},
        "simulationForks": [
            {"chainId": 1, "forkId": plain("b3os-fork-id"), "rpcUrl": address("b3os-rpc-url")},
        ],
        "organizationId": plain("b3os-organization-id"),
        "triggeredBy": mail("b3os-triggered-by"),
        "workflowDefinition": {"nodes": {"root": {"secret": plain("b3os-workflow-definition")}}},
        "executionState": {
            "quote": {
                "type": "http-request",
                "status": "success",
                "input": {"wallet": plain("b3os-other-input")},
                "result": {"error": plain("b3os-other-error"), "message": plain("b3os-other-message")},
            },
            "send": {
                "type": "send-token",
                "status": "failure",
                "input": {"memo": plain("b3os-failed-input")},
                "result": {
                    "error": telling("b3os-failed"),
                    "stack": plain("b3os-failed-stack"),
                    "data": {"balance": plain("b3os-failed-data")},
                },
            },
            "third": {
                "type": "http-request",
                "status": "failure",
                "result": {"error": {"message": plain("b3os-nested-error")}, "body": plain("b3os-third-body")},
            },
        },
    },
    "nekt": {
        "triggered_by": _NEKT_PERSON,
        "triggered_by_token": {"id": "1", "token": token("nekt-token-object"), "description": plain("nekt-token-name")},
        "log": {"id": "1", "parsed_log": f"{plain('nekt-parsed-log')}: {mail('nekt-parsed-log-mail')}"},
        "extra_config": {"password": plain("nekt-extra-config")},
    },
    "nekt-flat": {
        "triggered_by": 7,
        "triggered_by_token": token("nekt-token-bare"),
        "extra_config": plain("nekt-extra-config-bare"),
        "el_cost_metadata": {"bucket": plain("nekt-cost-metadata")},
    },
}

_DONE = {"completed_at": "$now"}
ENDS: dict[str, dict[str, dict[str, Any]]] = {
    "nexio": {
        "succeeded": {"status": "completed", **_DONE},
        "soft": {"status": "degraded", **_DONE},
        "failed": {"status": "failed", "error": telling("nexio-error"), **_DONE},
    },
    "nyx": {
        "succeeded": {"status": "completed", "result": "success", **_DONE},
        "soft": {"status": "failed", "result": "exhausted", **_DONE},
        "failed": {"status": "completed", "result": "error", "error": plain("nyx-error"), **_DONE},
        "cancelled": {"status": "cancelled", **_DONE},
    },
    "onepin": {
        "succeeded": {"status": "completed", **_DONE},
        "soft": {"status": "cancelled", **_DONE},
        "failed": {"status": "failed", "error": telling("onepin-error"), **_DONE},
        "cancelled": {"status": "cancelled", "pause_error": telling("onepin-pause-error"), **_DONE},
    },
    "b3os": {
        "succeeded": {"status": "success", "finishedAt": "$now"},
        "soft": {"status": "cancelled", "finishedAt": "$now"},
        "failed": {"status": "failure", "finishedAt": "$now"},
        "cancelled": {"status": "cancelled", "finishedAt": "$now"},
    },
    "nekt": {
        "succeeded": {"status": "success", "ended_at": "$now"},
        "soft": {"status": "canceled", "ended_at": "$now"},
        "failed": {"status": "failed", "ended_at": "$now"},
        "cancelled": {"status": "canceled", "ended_at": "$now"},
    },
}
ENDS["nekt-flat"] = ENDS["nekt"]
RUNNING = {"nexio": "processing"}
SOFT = {"nexio": "degraded", "nyx": "exhausted"}
"""The outcome that the scenario ``soft`` ends in; it is skipped everywhere. Elsewhere: cancelled."""

SUBMITS: dict[str, dict[str, Any]] = {
    "nexio": {
        "engine_slug": "placement",
        "input": {"insured": plain("nexio-input"), "contact": mail("nexio-input-mail")},
        "offerings": [{"carrier": plain("nexio-offerings")}],
    },
    "nyx": {
        "config_name": "nightly",
        "name": "Nightly audit",
        "target": {"url": "https://agent.example.com", "credentials": plain("nyx-credentials")},
        "objective": plain("nyx-objective"),
        "budget_usd": 5,
        "severity_target": "high",
        "hints": [plain("nyx-hints")],
        "extra": {"target_id": plain("nyx-extra")},
    },
    "onepin": {"workflow_id": WORKFLOW, "script_text": plain("onepin-script-text")},
    "b3os": {"workflow_id": "wf_1", "payload": {"wallet": plain("b3os-payload"), "hook": address("b3os-payload-url")}},
}


def script(shape: str, scenario: str, *, seconds: float) -> list[dict[str, Any]]:
    """A run's life: its private fields from the start, and its end, if it has one."""
    running = {"status": RUNNING.get(shape, "running"), **PAYLOADS[shape]}
    end = ENDS[shape].get(scenario if scenario in ENDS[shape] else "succeeded", {})
    steps: list[dict[str, Any]] = [{"at": 0, "set": running}]
    return steps if scenario == "timed_out" else [*steps, {"at": seconds, "set": end}]


def troubles(secret: str) -> list[dict[str, Any]]:
    """Passing errors that say more than they should."""
    name = f"page-{_digits(secret)[:6]}"
    page = f"<html><body>Proxy denied: Authorization: Bearer {secret} from {mail(f'{name}-mail')}</body></html>"
    cookies = {"Set-Cookie": f"session={token(f'{name}-cookie')}; Path=/", "X-Trace": plain(f"{name}-header")}
    echo = {"error": {"code": secret, "message": f"key={secret}", "details": [{"field": plain(f"{name}-detail")}]}}
    return [
        {"kind": "status", "status": 500, "body": echo, "headers": cookies},
        {"kind": "status", "status": 502, "body": page, "headers": {"Content-Type": "text/html", **cookies}},
        {"kind": "status", "status": 200, "body": page, "headers": {"Content-Type": "text/html", **cookies}},
    ]


def refusal(secret: str, echoed: Any = None) -> dict[str, Any]:
    """A final error that quotes the key, and what was sent."""
    return {
        "detail": [{"loc": ["header", secret], "msg": f"{ALLOWED}: Bearer {secret}", "input": echoed}],
        "message": f"{ALLOWED}: Basic {b64encode(f'user:{secret}'.encode()).decode()} and {quote(secret)}",
        "code": f"refused.{secret}",
        "error": {"message": f"{ALLOWED}: the key {secret} is not known", "type": secret},
    }


def in_payloads(name: str) -> bool:
    """Whether a canary stands in what a service says of a run."""
    return CANARIES[name] in str((PAYLOADS, ENDS))


def in_submits(canary: str) -> bool:
    """Whether a canary stands in what a service is sent."""
    return canary in str(SUBMITS)
