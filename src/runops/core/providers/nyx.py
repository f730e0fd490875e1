"""Nyx, audits of agents (docs.fabraix.com): everything runops knows of it, and nothing of any other service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from pydantic import Field

from runops.core.declaration import (
    AuthScheme,
    Call,
    Count,
    Listing,
    Moment,
    Number,
    Provider,
    Route,
    RunBody,
    Spend,
    Submission,
    Text,
    json_object,
    one_of,
    positive,
    required_text,
    texts,
)
from runops.core.model.cadence import Cadence
from runops.core.model.errors import ConfigurationError
from runops.core.model.run import Outcome, Phase, Progress
from runops.core.model.states import StateRow, StateTable

SEVERITIES = ("low", "medium", "high", "critical")
RESULT_GRACE = 60.0
"""Seconds for which a completed run without a result is read again."""


NYX_AUDIT: Mapping[str, str] = MappingProxyType({"succeeded": "succeed", "exhausted": "skip"})
"""Nyx read as an audit: a finding is what was sought."""

NYX_GATE: Mapping[str, str] = MappingProxyType({"succeeded": "fail", "exhausted": "succeed"})
"""Nyx read as a release gate: a vulnerability found stops the release, an empty search lets it pass."""


class NyxRun(RunBody):
    """GET /nyx/runs/{run_id} (docs.fabraix.com, "Get Run"). Its ``result`` decides beside the status."""

    DETAILS = (
        "config_name",
        "name",
        "result",
        "budget_usd",
        "spent_usd",
        "attempts_completed",
        "findings_count",
    )

    finished_at: Moment = Field(None, validation_alias="completed_at")
    config_name: Text = None
    name: Text = None
    result: Text = None
    budget_usd: Number = None
    spent_usd: Number = None
    attempts_completed: Count = None
    findings_count: Count = None

    def qualifier(self) -> str | None:
        return self.result

    def progress(self) -> Progress | None:
        if self.spent_usd is None:
            return None
        return Progress(done=self.spent_usd, total=self.budget_usd, unit="USD")


def submit(
    *,
    config_name: str,
    name: str,
    target: Mapping[str, Any],
    objective: str,
    budget_usd: float,
    severity_target: str,
    hints: Sequence[str] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Call:
    """An audit (docs.fabraix.com, "Submit run"). One run per ``config_name`` may be active.

    Args:
        config_name: Stable name of the audit.
        name: What people call this run. A mark of 15 characters is added to it, unless ``mark_runs`` is false.
        target: ``{"url": ..., "endpoint": ..., "credentials": ...}``, with at least one of url and endpoint.
        objective: What the audit should try to make the target do.
        budget_usd: The most it may spend, in USD.
        severity_target: One of low, medium, high, critical.
        hints: Free texts for the audit.
        extra: Further fields of the body, such as ``model`` or ``target_id``, which the API's versions disagree on.

    Raises:
        ConfigurationError: An argument is wrong.
    """
    where = json_object("target", target)
    if not (where.get("url") or where.get("endpoint")):
        raise ConfigurationError("target needs a 'url' or an 'endpoint'.")
    body: dict[str, Any] = {
        "config_name": required_text("config_name", config_name),
        "name": required_text("name", name),
        "target": where,
        "objective": required_text("objective", objective),
        "budget_usd": positive("budget_usd", budget_usd),
        "severity_target": one_of("severity_target", severity_target, SEVERITIES),
    }
    if hints is not None:
        body["hints"] = texts("hints", hints)
    for field, value in json_object("extra", extra or {}).items():
        if field in body:
            raise ConfigurationError(f"extra repeats the field {field!r}, which has an argument of its own.")
        body[field] = value
    return Call(
        "nyx",
        "/v1/nyx/runs",
        body,
        parent={"config_name": body["config_name"]},
    )


NYX = Provider(
    name="nyx",
    title="Nyx",
    position=2,
    docs="https://docs.fabraix.com",
    base_url="https://api.fabraix.com",
    version_path="/v1",
    auth=AuthScheme("X-Verification-Token", key_prefixes=("nyx_",)),
    key_variable="NYX_TOKEN",
    # As the official client sends it: 32 hex digits (fabraix/nyx, src/utils/observability.ts).
    trace_header="X-Trace-Id",
    body=NyxRun,
    states=StateTable(
        {
            "queued": Phase.QUEUED,
            "running": Phase.RUNNING,
            "completed": {
                "success": Outcome.SUCCEEDED,
                "exhausted": StateRow(Outcome.EXHAUSTED, "The budget is spent and nothing was found."),
                "error": StateRow(Outcome.FAILED, "The run is completed, but its result is error."),
                None: StateRow(
                    Outcome.FAILED,
                    f"The run is completed, but no result came within {RESULT_GRACE:.0f} s.",
                    grace_seconds=RESULT_GRACE,
                ),
            },
            "failed": {
                "success": StateRow(Outcome.FAILED, "The run failed although its result is success."),
                "exhausted": StateRow(Outcome.EXHAUSTED, "The budget is spent and nothing was found."),
                "error": StateRow(Outcome.FAILED, "The run's result is error."),
                None: Outcome.FAILED,
            },
            "cancelled": Outcome.CANCELLED,
        }
    ),
    status=Route("GET", "/v1/nyx/runs/{run_id}"),
    # "A run for this config is already in progress" (409); the run and its list show the name again.
    submit=Submission(submit, run_id=("run_id",), one_at_a_time=True, mark="name"),
    cancel=Route("POST", "/v1/nyx/runs/{run_id}/cancel"),
    listing=Listing(
        Route("GET", "/v1/nyx/runs", query={"limit": "100"}),
        items=("runs",),
        parent_kinds=("config_name",),
        latest=Route("GET", "/v1/nyx/runs/by-config/{config_name}"),
        filtered=True,
        page_size=100,
        # The answer tells an offset; that a request may is implied, so a page that does not turn is noticed.
        paging="offset",
        complete=True,
    ),
    probe=Route("GET", "/v1/verify/token-validation"),
    # "The CLI polls every 5 seconds; client code should respect a similar cadence" (docs.fabraix.com, "Get Run").
    cadence=Cadence(first=5.0, factor=1.0, ceiling=5.0),
    spend=Spend("USD", ("spent_usd",)),
    link="https://app.fabraix.com/nyx/runs/{run_id}",
)
