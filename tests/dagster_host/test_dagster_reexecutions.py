"""Killed after its submit, the external run goes on to its end; then every way to execute the Dagster run again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dagster as dg
import pytest

WAYS: dict[str, Callable[[Any, str], str]] = {
    "web-from-failure": lambda host, run_id: host.reexecute(run_id),
    "web-all-steps": lambda host, run_id: host.reexecute(run_id, "ALL_STEPS"),
    "launchpad-steps": lambda host, run_id: host.reexecute_with(run_id, steps=["external_run"]),
    "launchpad-all-steps": lambda host, run_id: host.reexecute_with(run_id),
    "launchpad-resume": lambda host, run_id: host.reexecute_with(run_id, tags={"dagster/is_resume_retry": "true"}),
    "execute-job-from-failure": lambda host, run_id: host.reexecute_in_python(run_id),
    "execute-job-all-steps": lambda host, run_id: host.reexecute_in_python(run_id, "whole"),
}
"""What a person can press or write; what the daemon does by itself is in test_dagster_run_retries.py."""


@dataclass
class Told:
    """What came of one way: how the re-execution ended, its log, and the external runs and cancels."""

    again: dg.DagsterRunStatus
    log: str
    started: int
    cancelled: int


@pytest.fixture(scope="module")
def told(host: Any) -> dict[str, Told]:
    """All ways: launched and killed at the same time, executed again one after the other."""
    host.emulator.set_defaults("b3os", script="succeeded", seconds=3600)
    first = {way: host.launch("b3os_in_process", f"again-{way}") for way in WAYS}
    for way, run_id in first.items():
        host.until(lambda way=way: sum(run["reads"] for run in host.external("b3os", f"again-{way}")) > 2, way)
        host.kill(run_id, "worker")
    for run_id in first.values():
        assert host.ended(run_id) is dg.DagsterRunStatus.FAILURE
    host.emulator.advance(None, provider="b3os")
    again = {way: WAYS[way](host, run_id) for way, run_id in first.items()}
    return {
        way: Told(
            again=host.ended(run_id, 180),
            log=host.log(run_id),
            started=len(host.external("b3os", f"again-{way}")),
            cancelled=len(host.cancels("b3os", f"again-{way}")),
        )
        for way, run_id in again.items()
    }


@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_succeeded_after_the_kill_is_taken_up_and_never_submitted_again(
    told: dict[str, Told], way: str
) -> None:
    end = told[way]
    assert (end.started, end.cancelled) == (1, 0)
    assert end.again is dg.DagsterRunStatus.SUCCESS
    assert "Took up" in end.log


def test_a_run_that_is_launched_anew_beside_a_killed_one_submits_its_own(host: Any) -> None:
    host.emulator.set_defaults("b3os", script="succeeded", seconds=3600)
    first = host.launch("b3os_in_process", "launched-anew")
    host.until(lambda: sum(run["reads"] for run in host.external("b3os", "launched-anew")) > 2, "the wait")
    host.kill(first, "worker")
    assert host.ended(first) is dg.DagsterRunStatus.FAILURE
    again = host.launch("b3os_in_process", "launched-anew")
    host.until(lambda: len(host.external("b3os", "launched-anew")) == 2, "the second submit")
    host.emulator.advance(None, provider="b3os")
    assert host.ended(again) is dg.DagsterRunStatus.SUCCESS
