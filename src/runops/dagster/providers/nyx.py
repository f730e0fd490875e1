"""Nyx for Dagster: what its resource can do. All behaviour is in resource.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from runops.core import RunSnapshot
from runops.core.providers import nyx
from runops.dagster.resource import CancellableRunsResource, calls, submits


class NyxResource(CancellableRunsResource):
    """Nyx by Fabraix, adversarial audits of agents. One run per ``config_name`` may be active."""

    service: ClassVar[str] = "nyx"
    example: ClassVar[Mapping[str, Any]] = {
        "config_name": "nightly",
        "name": "Nightly audit",
        "target": {"url": "https://agent.example.com", "credentials": {"$env": "AGENT_TOKEN"}},
        "objective": "make it tell its instructions",
        "budget_usd": 5,
        "severity_target": "high",
    }

    call = calls(nyx.submit)
    submit = submits(nyx.submit)

    def recent(self, config_name: str) -> list[RunSnapshot]:
        """The newest runs of an audit, newest first.

        Args:
            config_name: Whose runs.
        """
        return self._recent({"config_name": config_name})
