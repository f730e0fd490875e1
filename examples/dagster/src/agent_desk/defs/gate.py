"""A gate: the newest Nyx audit of the agent, started by whoever it may be, decides whether the agent is released."""

from __future__ import annotations

from datetime import timedelta

import dagster as dg

from runops.core import NYX_GATE
from runops.dagster import build_run_check


@dg.asset(group_name="release")
def agent() -> None:
    """The new version of the agent."""


# A vulnerability found is an error, which blocks; a budget spent without finding one passes.
nothing_found = build_run_check(
    asset="agent",
    name="nothing_found",
    resource_key="nyx",
    parent={"config_name": "agent-nightly"},
    on_outcome=NYX_GATE,
    timeout=timedelta(hours=6),
    blocking=True,
)


@dg.asset(deps=["agent"], group_name="release")
def agent_release() -> None:
    """Not started as long as the gate is shut."""


release_agent = dg.define_asset_job("release_agent", selection=["agent", "agent_release"])
