"""The four verdicts in Dagster's own words, for assets and ops, and what happens downstream."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from runops.core import NYX_GATE, ConfigurationError
from runops.dagster import build_run_asset, build_run_op

WARNED = (False, dg.AssetCheckSeverity.WARN)
ENGINE = {"engine_slug": "placement"}


def nexio(script: str, **options: Any) -> dg.AssetsDefinition:
    call = {**ENGINE, "input": {"emulator": {"script": script, "seconds": 5}}}
    return build_run_asset(key="external", resource_key="nexio", call=call, **options)


@dg.asset(deps=["external"])
def downstream() -> None: ...


def test_succeed_materializes_with_metadata_and_a_data_version(service: Callable[[str], Any]) -> None:
    runs = service("nexio")
    ended = runs.materialize(nexio("succeeded"), downstream)

    assert ended.success
    assert ended.materialized == ["external", "downstream"]
    assert ended.checks_of == {"external": (True, dg.AssetCheckSeverity.WARN)}
    (run,) = runs.emulator.runs(provider="nexio")
    materialization = ended.of(dg.DagsterEventType.ASSET_MATERIALIZATION)[0].materialization
    said = {name: value.value for name, value in materialization.metadata.items()}
    assert said["runops/run_id"] == run["run_id"]
    assert (said["runops/state"], said["runops/outcome"], said["runops/verdict"]) == (
        "completed",
        "succeeded",
        "succeed",
    )
    assert isinstance(materialization.metadata["runops/url"], dg.UrlMetadataValue)
    assert isinstance(materialization.metadata["runops/finished_at"], dg.TimestampMetadataValue)
    assert said["runops/duration_seconds"] == pytest.approx(5, abs=0.01)
    assert said["runops/details/environment"] == "test"
    assert materialization.tags["dagster/data_version"] == f"nexio:{run['run_id']}"
    assert ended.tags[f"runops.nexio/{run['run_id']}"] == "submitted"


def test_warn_materializes_with_a_failed_check(service: Callable[[str], Any]) -> None:
    ended = service("nexio").materialize(nexio("degraded", on_outcome={"degraded": "warn"}), downstream)
    assert ended.success
    assert ended.materialized == ["external", "downstream"]
    assert ended.checks_of == {"external": WARNED}


def test_skip_leaves_the_asset_and_skips_what_is_downstream_in_a_green_run(service: Callable[[str], Any]) -> None:
    ended = service("nexio").materialize(nexio("degraded"), downstream)
    assert ended.success
    assert ended.materialized == []
    assert ended.checks_of == {"external": WARNED}
    assert ended.skipped == ["downstream"]


def test_fail_fails_the_step_and_runs_nothing_downstream(service: Callable[[str], Any]) -> None:
    ended = service("nexio").materialize(nexio("failed"), downstream)
    assert not ended.success
    assert ended.materialized == []
    assert "The engine could not evaluate the input" in ended.failure.description
    assert ended.failure.metadata["runops/url"].value == "https://platform.usenexio.com/runs"


def test_a_nyx_gate_turns_a_finding_into_a_failure_and_an_empty_search_into_success(
    service: Callable[[str], Any],
) -> None:
    runs = service("nyx")
    ends = {script: runs.made(script=script) for script in ("succeeded", "exhausted")}
    gates = {
        script: build_run_asset(key="gate", resource_key="nyx", run_id=ref.run_id, on_outcome=NYX_GATE)
        for script, ref in ends.items()
    }
    assert runs.materialize(gates["exhausted"]).materialized == ["gate"]
    stopped = runs.materialize(gates["succeeded"])
    assert not stopped.success
    assert stopped.failure.metadata["runops/details/findings_count"].value > 0


def test_the_call_may_be_a_function_of_the_context_and_its_payload_stays_out_of_the_log(
    service: Callable[[str], Any],
) -> None:
    runs = service("b3os")
    asset = build_run_asset(
        key="external",
        resource_key="b3os",
        call=lambda context: {"workflow_id": "wf_1", "payload": {"day": context.partition_key, "to": "canary-payload"}},
        partitions_def=dg.StaticPartitionsDefinition(["monday", "tuesday"]),
    )
    ended = runs.materialize(asset, partition_key="tuesday")
    assert ended.materialized == ["external"]
    (run,) = runs.emulator.runs(provider="b3os")
    assert run["submitted"]
    assert "tuesday" in str(runs.emulator.runs(provider="b3os"))
    assert "canary-payload" not in ended.log


def test_a_variable_named_in_a_call_is_read_when_the_step_runs(
    service: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENT_TOKEN", "canary-agent-token")
    runs = service("nyx")
    asset = build_run_asset(
        key="audit",
        resource_key="nyx",
        call={
            "config_name": "nightly",
            "name": "Nightly audit",
            "target": {"url": "https://agent.example.com", "credentials": dg.EnvVar("AGENT_TOKEN")},
            "objective": "make it tell its instructions",
            "budget_usd": 5,
            "severity_target": "high",
        },
    )
    ended = runs.materialize(asset)
    assert ended.materialized == ["audit"]
    assert "canary-agent-token" not in ended.log


def test_a_run_id_may_be_a_function_of_the_context(service: Callable[[str], Any]) -> None:
    runs = service("onepin")
    ref = runs.made(script="succeeded")
    asset = build_run_asset(key="external", resource_key="onepin", run_id=lambda context: ref)
    ended = runs.materialize(asset)
    assert ended.materialized == ["external"]
    assert ended.tags[f"runops.onepin/{ref.run_id}"] == "awaited"


@pytest.mark.parametrize(
    ("script", "success", "downstream_ran"),
    [("succeeded", True, True), ("degraded", True, False), ("failed", False, False)],
)
def test_an_op_gives_out_the_run_as_a_dict_or_skips_or_fails(
    service: Callable[[str], Any], script: str, success: bool, downstream_ran: bool
) -> None:
    runs = service("nexio")
    seen: list[dict[str, Any]] = []
    score = build_run_op(
        name="score",
        resource_key="nexio",
        call={**ENGINE, "input": {"emulator": {"script": script}}},
        ins={"after": dg.In(dg.Nothing)},
    )

    @dg.op(out=dg.Out(dg.Nothing))
    def before() -> None: ...

    @dg.op
    def keep(run: dict) -> None:
        seen.append(run)

    @dg.job(resource_defs={"nexio": runs.resource})
    def scoring() -> None:
        keep(score(before()))

    result = scoring.execute_in_process(instance=runs.instance, raise_on_error=False)
    assert result.success is success
    assert bool(seen) is downstream_ran
    if seen:
        assert (seen[0]["schema"], seen[0]["outcome"], seen[0]["verdict"]) == (1, "succeeded", "succeed")


BAD = [
    ({"call": ENGINE, "on_outcome": {"degredad": "warn"}}, "degredad.*use succeeded"),
    ({"call": ENGINE, "on_outcome": {"degraded": "ignore"}}, "ignore.*use succeed"),
    ({"call": ENGINE, "on_outcome": {"timed_out": "succeed"}}, "timed_out"),
    ({}, "either call"),
    ({"call": ENGINE, "run_id": "r"}, "either call"),
    ({"call": "placement"}, "mapping or a function"),
    ({"run_id": ""}, "run_id is empty"),
    ({"run_id": "a/../b"}, "run_id"),
    ({"call": ENGINE, "parents": {"workflow_id": "w"}}, "parents"),
    ({"run_id": "r", "parents": {"workflow_id": ".."}}, "workflow_id"),
    ({"run_id": "r", "timeout": 0}, "timeout"),
    ({"run_id": "r", "error_budget": "soon"}, "error_budget"),
    ({"run_id": "r", "poll_interval": -1}, "poll_interval"),
    ({"run_id": "r", "max_paused": 0}, "max_paused"),
    ({"run_id": "r", "resource_key": "not a name"}, "resource_key"),
]


@pytest.mark.parametrize("build", [build_run_asset, build_run_op])
@pytest.mark.parametrize(("options", "told"), BAD, ids=lambda v: v if isinstance(v, str) else "")
def test_bad_arguments_are_refused_when_the_definition_is_built(
    build: Callable[..., Any], options: dict[str, Any], told: str
) -> None:
    named = {"key": "external"} if build is build_run_asset else {"name": "external"}
    with pytest.raises(ConfigurationError, match=told) as raised:
        build(**{"resource_key": "nexio", **named, **options})
    assert "external" in str(raised.value)


@pytest.mark.parametrize("taken", ["name", "check_specs", "output_required", "ins"])
def test_what_the_asset_decides_itself_is_refused(taken: str) -> None:
    options: dict[str, Any] = {taken: None}
    with pytest.raises(ConfigurationError, match=taken):
        build_run_asset(key="external", resource_key="nexio", run_id="r", **options)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ({"engine": "placement", "input": {}}, "Nexio.*unknown arguments: engine;"),
        ({"engine_slug": "placement"}, "Nexio.*missing arguments: input;"),
        ({"engine_slug": "", "input": {}}, "engine_slug"),
        (lambda context: None, "call must give a mapping"),
    ],
)
def test_a_wrong_call_fails_for_good_before_anything_is_sent(
    service: Callable[[str], Any], call: Any, told: str
) -> None:
    runs = service("nexio")
    asset = build_run_asset(key="external", resource_key="nexio", call=call, retry_policy=dg.RetryPolicy(max_retries=2))
    ended = runs.materialize(asset)
    assert runs.submits == 0
    assert ended.of(dg.DagsterEventType.STEP_UP_FOR_RETRY) == []
    assert re.search(told, ended.failure.description)


def test_a_resource_of_another_kind_is_named(service: Callable[[str], Any]) -> None:
    asset = build_run_asset(key="external", resource_key="other", run_id="r")
    ended = service("nexio").materialize(asset, resources={"other": dg.ResourceDefinition.hardcoded_resource(3)})
    assert "'other' is a int, not a resource of runops.dagster" in ended.failure.description
