"""Tests of Dagster jobs and assets with the kit, as a user writes them: hours of waiting, counted instead of timed."""

from __future__ import annotations

import time
from typing import Any

import dagster as dg
import pytest

from runops.dagster import NexioResource, NyxResource, build_run_asset, build_run_op, wait_for_runs
from runops.testing import Runs, TestingError, ends, states

HOUR = 3600.0
AUDIT = {
    "config_name": "playground",
    "name": "nightly audit",
    "target": {"url": "https://agent.example.com"},
    "objective": "make the agent reveal its instructions",
    "budget_usd": 5.0,
    "severity_target": "high",
}
audit = build_run_asset(key="security/audit", resource_key="nyx", call=AUDIT, timeout=24 * HOUR, poll_interval=60)


@dg.asset(deps=[audit])
def audit_report() -> None: ...


def materialized() -> dg.ExecuteInProcessResult:
    resources = {"nyx": NyxResource(api_key=dg.EnvVar("NYX_TOKEN"))}
    return dg.materialize([audit, audit_report], resources=resources, raise_on_error=False)


def test_an_asset_waits_for_hours_through_failures_and_ends_as_its_run_does(runops_runs: Runs) -> None:
    runops_runs.nyx.on_submit("queued", HOUR, "running", 2 * HOUR, "completed", result="success", spent_usd=2.5)
    runops_runs.nyx.fail(503, on="get", times=3, after=2, retry_after=200)
    result = materialized()
    assert states(result) == {"security__audit": "success", "audit_report": "success"}
    (submitted,) = runops_runs.nyx.submitted
    ended = ends(result)["security__audit"]
    assert (ended["outcome"], ended["verdict"], ended["run_id"]) == ("succeeded", "succeed", submitted.run_id)
    assert submitted.body["objective"] == AUDIT["objective"]
    assert runops_runs.nyx.cancelled == []


def test_a_soft_fail_skips_what_is_downstream(runops_runs: Runs) -> None:
    runops_runs.nyx.on_submit("running", HOUR, "completed", result="exhausted")
    result = materialized()
    assert result.success
    assert states(result) == {"security__audit": "success", "audit_report": "skipped"}
    assert ends(result)["security__audit"]["verdict"] == "skip"


def test_a_job_counts_its_reads_and_waits_for_nothing_real(runops_runs: Runs) -> None:
    place = build_run_op(
        name="place", resource_key="nexio", call={"engine_slug": "placement", "input": {}}, poll_interval=600,
        retry_policy=dg.RetryPolicy(max_retries=1, delay=int(HOUR)),
    )  # fmt: skip

    @dg.job(resource_defs={"nexio": NexioResource(api_key=dg.EnvVar("NEXIO_API_KEY"))})
    def placements() -> None:
        place()

    runops_runs.nexio.on_submit("processing", 3 * HOUR, "failed")
    began = time.process_time()
    result = placements.execute_in_process(raise_on_error=False)
    assert states(result) == {"place": "failed"}
    assert ends(result)["place"]["outcome"] == "failed"
    assert len(runops_runs.nexio.submitted) == 2
    # Two tries of three hours each, read every ten minutes, and the hour of the retry policy between them.
    assert 7 * HOUR - 60 < runops_runs.time.passed < 7.5 * HOUR
    assert 36 <= sum(runops_runs.nexio.asked.values()) <= 50
    assert 36 <= runops_runs.time.waits <= 60
    assert time.process_time() - began < 10


def test_many_runs_of_one_step_wait_beside_it(runops_runs: Runs) -> None:
    @dg.op(required_resource_keys={"nexio"})
    def place_all(context) -> int:  # Dagster reads the annotation as it stands, and here it would be text
        calls = [context.resources.nexio.call(engine_slug="placement", input={"n": n}) for n in range(6)]
        return wait_for_runs(context, context.resources.nexio, calls=calls, max_active=2, poll_interval=300).to_dict()[
            "total"
        ]

    @dg.job(resource_defs={"nexio": NexioResource(api_key=dg.EnvVar("NEXIO_API_KEY"))})
    def placements() -> None:
        place_all()

    runops_runs.nexio.on_submit("processing", HOUR, "completed")
    result = placements.execute_in_process()
    assert result.output_for_node("place_all") == 6
    assert len(runops_runs.nexio.submitted) == 6
    assert 3 * HOUR - 60 < runops_runs.time.passed < 4 * HOUR


def test_what_is_no_run_of_a_host_is_named(runops_runs: Runs) -> None:
    anything: Any = {"a": 1}
    with pytest.raises(TestingError, match="A dict is no run of a host"):
        states(anything)
