"""What the step of many runs writes into its log, and what it cancels where it breaks down."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg
import pytest
from pytest_mock import MockerFixture

from runops.dagster import build_run_asset
from runops.emulator.server import Server
from runops.emulator.store import Emulator

OFTEN = 0.05
"""Seconds between two looks."""


@pytest.fixture
def emulator(request: pytest.FixtureRequest, served: Server) -> Iterator[Emulator]:
    """The emulator, empty, on the real clock: an event loop sleeps by no other."""
    served.emulator.reset(seed=zlib.crc32(request.node.nodeid.encode()))
    yield served.emulator
    served.emulator.reset()


@pytest.fixture
def b3os(service: Callable[[str], Any]) -> Any:
    return service("b3os")


def asset_of(*scripts: str, **options: Any) -> dg.AssetsDefinition:
    calls = [
        {"workflow_id": "wf", "payload": {"number": number, "emulator": {"script": script, "seconds": 0}}}
        for number, script in enumerate(scripts)
    ]
    return build_run_asset(key="many", resource_key="b3os", calls=calls, poll_interval=OFTEN, **options)


def told(runs: Any, ended: Any) -> list[tuple[int, str]]:
    """The lines of the step's log, with their levels."""
    entries = runs.instance.all_logs(ended.result.run_id)
    return [(entry.level, entry.user_message) for entry in entries if entry.dagster_event is None]


@pytest.mark.parametrize(
    ("scripts", "require", "level", "told_of"),
    [
        (["succeeded", "succeeded"], "all", logging.INFO, "2 are good of 2 required; verdict: succeed."),
        (["succeeded", "failed"], "any", logging.WARNING, "1 are good of 1 required; verdict: warn. [run-warned]"),
        (["succeeded", "failed"], "all", logging.WARNING, "1 are good of 2 required; verdict: fail. [too-few-runs]"),
    ],
)
def test_the_end_of_all_runs_is_one_line_of_the_log_and_a_warning_unless_all_is_well(
    b3os: Any, scripts: list[str], require: str, level: int, told_of: str
) -> None:
    lines = told(b3os, b3os.materialize(asset_of(*scripts, require=require)))
    assert [line_level for line_level, line in lines if line.endswith(told_of)] == [level]


def test_a_retry_says_in_its_log_what_it_keeps(b3os: Any) -> None:
    ended = b3os.materialize(asset_of("succeeded", "failed", retry_policy=dg.RetryPolicy(max_retries=1)))
    lines = [line for _, line in told(b3os, ended)]
    assert len([line for line in lines if line.startswith("Of 2 runs 1 of an earlier try are kept")]) == 1
    assert not any(line.startswith("Submitting 2 runs") for line in lines), "the first try has nothing to tell"


@pytest.mark.parametrize(("cancels", "times"), [(True, 1), (False, 0)])
def test_a_step_that_breaks_down_cancels_what_goes_on_only_where_it_was_told_to(
    b3os: Any, mocker: MockerFixture, cancels: bool, times: int
) -> None:
    mocker.patch("runops.dagster.many.step.judged", side_effect=RuntimeError("out of memory"))
    ended = b3os.materialize(asset_of("forever", timeout=0.3, cancel_on_timeout=False, cancel_on_failure=cancels))
    assert not ended.success
    assert b3os.cancels == times
    said = "Asked B3OS to cancel 1 of 1 runs that were left."
    assert (said in [line for _, line in told(b3os, ended)]) is cancels
