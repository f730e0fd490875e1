"""Nexio under another name, whose runs are looked at every 5 s throughout: official triggers know no other cadence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from runops.core.declaration import Call, Submission
from runops.core.model.cadence import Cadence
from runops.core.providers.nexio import NEXIO, submit

CADENCE = 5.0
"""Seconds between two looks."""


def run(*, engine_slug: str, input: Mapping[str, Any]) -> Call:
    """A run of an engine."""
    return replace(submit(engine_slug=engine_slug, input=input), provider="steady")


STEADY = replace(
    NEXIO,
    name="steady",
    title="Steady",
    key_variable="STEADY_API_KEY",
    submit=Submission(run, run_id=("run_id",)),
    cadence=Cadence(first=CADENCE, factor=1.0, ceiling=CADENCE),
)
