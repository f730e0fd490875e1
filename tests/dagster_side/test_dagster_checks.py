"""build_run_check: what a run says about an asset, and what that does downstream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from runops.core import NYX_GATE, ConfigurationError
from runops.dagster import build_run_check

ERROR = (False, dg.AssetCheckSeverity.ERROR)
WARNED = (False, dg.AssetCheckSeverity.WARN)
PASSED = (True, dg.AssetCheckSeverity.WARN)


@dg.asset
def agent() -> None: ...


@dg.asset(deps=[agent])
def release() -> None: ...


def judged(runs: Any, check: dg.AssetChecksDefinition) -> Any:
    definitions = dg.Definitions(
        assets=[agent, release], asset_checks=[check], resources={runs.provider.name: runs.resource}
    )
    job = definitions.resolve_implicit_global_asset_job_def()
    return job.execute_in_process(instance=runs.instance, raise_on_error=False)


def evaluation(result: Any) -> Any:
    (event,) = result.get_asset_check_evaluations()
    return event


@pytest.mark.parametrize(
    ("script", "on_outcome", "expected"),
    [
        ("succeeded", None, PASSED),
        ("exhausted", None, WARNED),
        ("exhausted", {"exhausted": "warn"}, WARNED),
        ("failed", None, ERROR),
        ("cancelled", {"cancelled": "warn"}, WARNED),
        ("succeeded", NYX_GATE, ERROR),
        ("exhausted", NYX_GATE, PASSED),
    ],
)
def test_a_check_judges_a_given_run(service: Callable[[str], Any], script: str, on_outcome: Any, expected: Any) -> None:
    runs = service("nyx")
    ref = runs.made(script=script)
    check = build_run_check(asset=agent, resource_key="nyx", run_id=ref.run_id, on_outcome=on_outcome)
    result = judged(runs, check)
    found = evaluation(result)
    assert result.success
    assert (found.passed, found.severity) == expected
    assert found.check_name == "runops_outcome"
    assert found.metadata["runops/run_id"].value == ref.run_id


@pytest.mark.parametrize(
    ("name", "kind"),
    [("nyx", "config_name"), ("onepin", "workflow_id"), ("b3os", "workflow_id"), ("nekt", "pipeline")],
)
def test_a_check_judges_the_newest_run_of_a_parent(service: Callable[[str], Any], name: str, kind: str) -> None:
    runs = service(name)
    parent = {kind: "7c9e6679-7425-40de-944b-e07fc1f90ae7"}
    runs.made(script="failed", age_seconds=7200, parents=parent)
    newest = runs.made(script="succeeded", age_seconds=3600, parents=parent)
    runs.made(script="failed", age_seconds=60, parents={kind: "1a9e6679-7425-40de-944b-e07fc1f90ae7"})
    check = build_run_check(asset="agent", resource_key=name, parent=parent, name="latest_run")
    found = evaluation(judged(runs, check))
    assert found.passed
    assert found.metadata["runops/run_id"].value == newest.run_id


def test_a_check_waits_for_a_newest_run_that_is_open_and_cancels_nothing(
    service: Callable[[str], Any], clock: Any
) -> None:
    runs = service("b3os")
    runs.made(script="succeeded", parents={"workflow_id": "wf_1"}, seconds=600)
    found = evaluation(judged(runs, build_run_check(asset=agent, resource_key="b3os", parent="wf_1")))
    assert found.passed
    runs.made(script="forever", parents={"workflow_id": "wf_2"})
    found = evaluation(judged(runs, build_run_check(asset=agent, resource_key="b3os", parent="wf_2", timeout=60)))
    assert (found.passed, found.severity) == ERROR
    assert found.metadata["runops/ended_by"].value == "timeout"
    assert runs.cancels == 0


def test_a_blocking_check_keeps_back_what_is_downstream_only_on_fail(service: Callable[[str], Any]) -> None:
    runs = service("nyx")
    bad, good = runs.made(script="succeeded"), runs.made(script="exhausted")

    def gate(ref: Any) -> dg.AssetChecksDefinition:
        return build_run_check(asset=agent, resource_key="nyx", run_id=ref.run_id, on_outcome=NYX_GATE, blocking=True)

    stopped, passed = judged(runs, gate(bad)), judged(runs, gate(good))
    assert not stopped.success
    assert [event.step_key for event in stopped.get_asset_materialization_events()] == ["agent"]
    assert passed.success
    assert len(passed.get_asset_materialization_events()) == 2


def test_no_run_at_all_is_an_error_and_not_a_pass(service: Callable[[str], Any]) -> None:
    runs = service("nyx")
    found = evaluation(judged(runs, build_run_check(asset=agent, resource_key="nyx", parent="never-run")))
    assert (found.passed, found.severity) == ERROR
    assert "Nyx shows no run of never-run" in found.description


def test_a_run_that_cannot_be_read_fails_the_step_and_says_nothing_of_the_asset(service: Callable[[str], Any]) -> None:
    runs = service("nyx")
    runs.emulator.add_fault(kind="status", status=403, provider="nyx", count=None)
    options: dict[str, Any]
    for options in ({"parent": "nightly"}, {"run_id": "run-1"}):
        result = judged(runs, build_run_check(asset=agent, resource_key="nyx", **options))
        assert not result.success
        assert result.get_asset_check_evaluations() == []


def test_a_service_without_a_list_says_so(service: Callable[[str], Any]) -> None:
    runs = service("nexio")
    result = judged(runs, build_run_check(asset=agent, resource_key="nexio", parent="placement"))
    (failed,) = [event for event in result.all_events if event.event_type is dg.DagsterEventType.STEP_FAILURE]
    assert "Nexio documents no list of runs" in failed.step_failure_data.user_failure_data.description


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "either parent"),
        ({"parent": "a", "run_id": "b"}, "either parent"),
        ({"parent": ""}, "parent is empty"),
        ({"parent": {"config_name": "../x"}}, "config_name"),
        ({"parent": "a", "parents": {"workflow_id": ".."}}, "workflow_id"),
        ({"run_id": "r", "on_outcome": {"failed": "ignore"}}, "ignore"),
        ({"run_id": "r", "timeout": -1}, "timeout"),
    ],
)
def test_bad_arguments_of_a_check_are_refused_when_it_is_built(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told) as raised:
        build_run_check(asset="agent", resource_key="nyx", **options)
    assert "build_run_check" in str(raised.value)
