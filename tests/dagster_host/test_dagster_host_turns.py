"""Twenty steps at once on one Nyx config and on one OnePin workflow: each gets a run of its own, in turn."""

from __future__ import annotations

import itertools
import time
from typing import Any

import dagster as dg
import pytest

STEPS = 20
SECONDS = 5.0
"""How long each run takes."""


@pytest.mark.parametrize("provider", ["nyx", "onepin"])
def test_all_end_well_one_run_at_a_time_and_nobody_waits_for_long(host: Any, provider: str) -> None:
    host.emulator.reset()
    host.emulator.set_defaults(provider, script="succeeded", seconds=SECONDS)
    run_id = host.launch(f"turns_{provider}")
    assert host.ended(run_id, 3 * STEPS * SECONDS + 120) is dg.DagsterRunStatus.SUCCESS
    runs = sorted((run["created"], run["changed"]) for run in host.emulator.runs(provider=provider))
    assert len(runs) == STEPS
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(runs))
    requests = host.emulator.requests(provider=provider)
    submits = [entry for entry in requests if entry["action"] == "submit"]
    longest, whole = runs[-1][0] - submits[0]["time"], sum(end - start for start, end in runs)
    refused = sum(entry["status"] == 409 for entry in submits)
    print(
        f"\n{provider}: {STEPS} runs of {SECONDS:.0f} s; the longest wait for a turn took {longest:.0f} s, "
        f"{longest / whole:.2f} times the sum; {refused} refusals, {len(requests)} requests"
    )
    assert longest <= 1.5 * whole
    assert time.time() > runs[-1][1]
