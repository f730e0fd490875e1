"""What the matrix of ends is made of: which runs, which ways to wait, and how each must end. Data only."""

from __future__ import annotations

import uuid
from typing import Any

from tests.leaks.private_fields import WORKFLOW

MODES: dict[str, dict[str, Any]] = {
    "poke": {"deferrable": False, "mode": "poke", "poke_interval": 3},
    "reschedule": {"deferrable": False, "mode": "reschedule", "poke_interval": 15},
    "deferrable": {"deferrable": True},
}
"""The three ways of a sensor to wait, by the arguments that choose them."""

PARENTS: dict[str, dict[str, str]] = {"onepin": {"workflow_id": WORKFLOW}}
"""Further arguments of a sensor."""

TIMEOUT = 30.0
"""Seconds after which a wait for a run that never ends is over."""

SUCCESS: dict[str, Any] = {"outcome": "succeeded", "verdict": "succeed", "run_ended": True, "ended_by": None}
FAILED: dict[str, Any] = {"outcome": "failed", "verdict": "fail", "run_ended": True, "ended_by": None}
CANCELLED: dict[str, Any] = {"outcome": "cancelled", "verdict": "fail", "run_ended": True, "ended_by": None}
TIMED_OUT: dict[str, Any] = {"outcome": "timed_out", "verdict": "fail", "run_ended": False, "ended_by": "timeout"}
SKIPPED: dict[str, Any] = {"verdict": "skip"}

ENDS: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {
    ("nexio", "succeeded"): ("success", {**SUCCESS, "state": "completed"}),
    ("nexio", "degraded"): ("skipped", {**SUCCESS, **SKIPPED, "outcome": "degraded", "state": "degraded"}),
    ("nexio", "failed"): ("failed", {**FAILED, "state": "failed"}),
    ("nexio", "timed_out"): ("failed", {**TIMED_OUT, "state": "processing"}),
    ("nyx", "succeeded"): ("success", {**SUCCESS, "state": "completed"}),
    ("nyx", "exhausted"): ("skipped", {**SUCCESS, **SKIPPED, "outcome": "exhausted", "state": "failed"}),
    ("nyx", "failed"): ("failed", {**FAILED, "state": "completed"}),
    ("nyx", "cancelled"): ("failed", {**CANCELLED, "state": "cancelled"}),
    ("nyx", "timed_out"): ("failed", {**TIMED_OUT, "state": "running"}),
    ("onepin", "succeeded"): ("success", {**SUCCESS, "state": "completed"}),
    ("onepin", "failed"): ("failed", {**FAILED, "state": "failed"}),
    ("onepin", "cancelled"): ("failed", {**CANCELLED, "state": "cancelled"}),
    ("onepin", "timed_out"): ("failed", {**TIMED_OUT, "state": "running"}),
    ("b3os", "succeeded"): ("success", {**SUCCESS, "state": "success"}),
    ("b3os", "failed"): ("failed", {**FAILED, "state": "failure"}),
    ("b3os", "cancelled"): ("failed", {**CANCELLED, "state": "cancelled"}),
    ("b3os", "timed_out"): ("failed", {**TIMED_OUT, "state": "running"}),
    ("nekt", "succeeded"): ("success", {**SUCCESS, "state": "success"}),
    ("nekt", "failed"): ("failed", {**FAILED, "state": "failed"}),
    ("nekt", "cancelled"): ("failed", {**CANCELLED, "state": "canceled"}),
    ("nekt", "timed_out"): ("failed", {**TIMED_OUT, "state": "running"}),
}
"""How a task ends, and what its result says, by provider and scenario, with the default verdicts."""

SOFT_ENDS: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {
    ("nexio", "failed"): ("skipped", {**FAILED, **SKIPPED, "state": "failed"}),
    ("nyx", "cancelled"): ("skipped", {**CANCELLED, **SKIPPED, "state": "cancelled"}),
    ("onepin", "timed_out"): ("skipped", {**TIMED_OUT, **SKIPPED, "state": "running"}),
    ("b3os", "failed"): ("skipped", {**FAILED, **SKIPPED, "state": "failure"}),
    ("nekt", "cancelled"): ("skipped", {**CANCELLED, **SKIPPED, "state": "canceled"}),
}
"""The same under ``soft_fail=True``."""

BROKEN: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "wrong_key": (
        "nyx",
        {"run_id": "a-run", "nyx_conn_id": "matrix_wrong_key"},
        ("Check the key in connection 'matrix_wrong_key'",),
    ),
    "deleted_connection": (
        "b3os",
        {"run_id": "a-run", "b3os_conn_id": "matrix_deleted"},
        (
            "There is no connection 'matrix_deleted' that Airflow can read",
            "create one of type b3os with the API key of B3OS as its password",
        ),
    ),
    "unreachable_host": (
        "nekt",
        {"run_id": "a-run", "nekt_conn_id": "matrix_unreachable", "error_budget": 12},
        (
            "nekt run a-run could not be read for",
            "Check the base URL (the host), and whether this machine can reach it",
        ),
    ),
    "unknown_run": (
        "nexio",
        {"run_id": "no-such-run"},
        ("no-such-run", "There is no such run, or the key belongs to another"),
    ),
}
"""What no ``soft_fail`` may hide: the provider, a sensor's arguments, and what its log must tell a person."""

SUBMITS: dict[str, dict[str, Any]] = {
    "nexio": {
        "engine_slug": "{{ ti.task_id }}",
        "input": {"insured": "{{ private['nexio-input'] }}", "contact": "{{ private['nexio-input-mail'] }}"},
        "offerings": [{"carrier": "{{ private['nexio-offerings'] }}"}],
    },
    "nyx": {
        "config_name": "{{ ti.task_id }}",
        "name": "Nightly audit",
        "target": {"url": "https://agent.example.com", "credentials": "{{ private['nyx-credentials'] }}"},
        "objective": "{{ private['nyx-objective'] }}",
        "budget_usd": 5,
        "severity_target": "high",
        "hints": ["{{ private['nyx-hints'] }}"],
    },
    "onepin": {
        "workflow_id": "{{ workflow_of(ti.task_id) }}",
        "script_text": "{{ private['onepin-script-text'] }}",
    },
    "b3os": {"workflow_id": "{{ ti.task_id }}", "payload": {"wallet": "{{ private['b3os-payload'] }}"}},
}
"""Arguments of an operator, private texts as templates. Each run succeeds."""

SUBMIT_SECONDS = 14.0
"""How long the submitted runs take: longer than a deferrable task looks itself."""


def submit_parents(provider: str, task_id: str) -> dict[str, str]:
    """What an operator submits a run of: each task something of its own."""
    kinds = {"nexio": "engine_slug", "nyx": "config_name", "onepin": "workflow_id", "b3os": "workflow_id"}
    return {kinds[provider]: workflow_of(task_id) if provider == "onepin" else task_id}


def workflow_of(task_id: str) -> str:
    """A workflow of OnePin for one task alone: it runs one at a time."""
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, task_id))


def sensor_id(provider: str, scenario: str, mode: str, *, soft: bool = False) -> str:
    """The id of a task, and of its run in the DAG run's conf."""
    return "_".join([provider, scenario, mode, *(["soft"] if soft else [])])
