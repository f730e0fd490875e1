"""Runs that the daemon retries by itself, and runs that a person asks for again: what is taken up, what is new."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

ONCE = {"dagster/max_retries": "1"}
ALL_AGAIN = {**ONCE, "dagster/retry_strategy": "ALL_STEPS"}


def retry_of(host: Any, run_id: str) -> str:
    """The run that the daemon starts for one that failed."""
    (retried,) = host.until(lambda: host.children(run_id), "the retry of the daemon")
    return retried


@pytest.mark.parametrize("tags", [ONCE, ALL_AGAIN], ids=["from-failure", "all-steps"])
@pytest.mark.parametrize(("provider", "executor"), [("nyx", "multiprocess"), ("nexio", "in_process")])
def test_the_daemon_s_retry_of_a_run_that_was_killed_takes_the_external_run_up(
    host: Any, tags: dict[str, str], provider: str, executor: str
) -> None:
    host.emulator.set_defaults(provider, script="succeeded", seconds=3600)
    parent = f"killed-{provider}-{len(tags)}"
    first = host.launch(f"{provider}_{executor}", parent, tags)
    host.until(lambda: sum(run["reads"] for run in host.external(provider, parent)) > 2, "the wait")
    host.kill(first, "both" if executor == "multiprocess" else "worker")
    again = retry_of(host, first)
    host.until(lambda: "Took up" in host.log(again), "the taking up")
    host.emulator.advance(None, provider=provider)
    assert host.ended(again) is dg.DagsterRunStatus.SUCCESS
    assert len(host.external(provider, parent)) == 1
    assert host.cancels(provider, parent) == []


@pytest.mark.parametrize("tags", [ONCE, ALL_AGAIN], ids=["from-failure", "all-steps"])
def test_the_daemon_s_retry_after_the_external_run_failed_submits_anew(host: Any, tags: dict[str, str]) -> None:
    host.emulator.set_defaults("b3os", script="failed", seconds=0.1)
    parent = f"failed-{len(tags)}"
    first = host.launch("b3os_in_process", parent, tags)
    assert host.ended(first) is dg.DagsterRunStatus.FAILURE
    assert host.ended(retry_of(host, first)) is dg.DagsterRunStatus.FAILURE
    assert len(host.external("b3os", parent)) == 2


def test_the_daemon_s_retry_after_a_fail_verdict_on_another_outcome_submits_nothing(host: Any) -> None:
    host.emulator.set_defaults("b3os", script="cancelled", seconds=0.1)
    first = host.launch("b3os_in_process", "rejected", ONCE)
    assert host.ended(first) is dg.DagsterRunStatus.FAILURE
    assert host.ended(retry_of(host, first)) is dg.DagsterRunStatus.FAILURE
    assert len(host.external("b3os", "rejected")) == 1


def test_a_person_who_runs_all_steps_again_gets_a_new_run_and_one_who_goes_on_from_failure_too_where_it_was_rejected(
    host: Any,
) -> None:
    host.emulator.set_defaults("b3os", script="succeeded", seconds=0.1)
    first = host.launch("b3os_in_process", "wanted")
    assert host.ended(first) is dg.DagsterRunStatus.SUCCESS
    again = host.reexecute(first, "ALL_STEPS")
    assert host.ended(again) is dg.DagsterRunStatus.SUCCESS
    assert len(host.external("b3os", "wanted")) == 2

    host.emulator.set_defaults("b3os", script="cancelled", seconds=0.1)
    rejected = host.launch("b3os_in_process", "unwanted")
    assert host.ended(rejected) is dg.DagsterRunStatus.FAILURE
    host.emulator.set_defaults("b3os", script="succeeded", seconds=0.1)
    assert host.ended(host.reexecute(rejected)) is dg.DagsterRunStatus.SUCCESS
    assert len(host.external("b3os", "unwanted")) == 2


def test_a_retry_policy_submits_anew_in_a_process_of_its_own_after_a_failed_run(host: Any) -> None:
    host.emulator.set_defaults("nyx", script="failed", seconds=0.1)
    first = host.launch("nyx_multiprocess_retrying", "failing")
    assert host.ended(first, 180) is dg.DagsterRunStatus.FAILURE
    assert len(host.external("nyx", "failing")) == 3
