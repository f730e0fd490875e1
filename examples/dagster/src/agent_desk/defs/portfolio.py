"""A whole portfolio in one step: each applicant is a Nexio run of its own, at most ten at a time.

``portfolio`` is materialised if 95 of 100 applicants were decided well. Its metadata has a table of all runs. A retry
submits anew only what has failed, and Terminate cancels what the service lets it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import dagster as dg

from runops.dagster import build_run_asset

SIZE = {"applicants": dg.Field(int, default_value=100)}


def applicants(context: dg.AssetExecutionContext) -> list[dict[str, Any]]:
    """What to submit: one decision for each applicant."""
    count = context.op_execution_context.op_config["applicants"]
    return [
        {"engine_slug": "small-business-liability", "input": {"applicant": number}} for number in range(1, count + 1)
    ]


portfolio = build_run_asset(
    key="portfolio",
    resource_key="nexio",
    calls=applicants,
    config_schema=SIZE,
    max_active=10,
    require=0.95,
    timeout=timedelta(hours=6),
    retry_policy=dg.RetryPolicy(max_retries=2, delay=30),
    group_name="quotes",
    kinds={"nexio"},
)


@dg.asset(deps=["portfolio"], group_name="quotes")
def portfolio_report() -> None:
    """Made once enough applicants were decided."""
