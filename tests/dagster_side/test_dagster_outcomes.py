"""Every status of every provider ends in an asset, and in a plain wait, as the documentation says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from runops.core import Outcome, Verdict
from runops.dagster import build_run_asset, build_run_check, build_run_op, build_run_sensor

# provider, script of the emulator, outcome
ENDS = [
    *[("nexio", script, Outcome.SUCCEEDED) for script in ("succeeded", "placement")],
    *[("nexio", script, Outcome.DEGRADED) for script in ("degraded", "degraded_without_output")],
    *[("nexio", script, Outcome.FAILED) for script in ("failed", "failed_without_error")],
    *[("nyx", script, Outcome.SUCCEEDED) for script in ("succeeded", "late_result")],
    *[("nyx", script, Outcome.EXHAUSTED) for script in ("exhausted", "exhausted_failed", "early_result")],
    *[
        ("nyx", script, Outcome.FAILED)
        for script in ("failed", "failed_without_result", "failed_success", "error", "no_result")
    ],
    *[("nyx", script, Outcome.CANCELLED) for script in ("cancelled", "cancelled_success")],
    *[("onepin", script, Outcome.SUCCEEDED) for script in ("succeeded", "paused_then_succeeded")],
    *[("onepin", script, Outcome.FAILED) for script in ("failed", "failed_without_error")],
    ("onepin", "cancelled", Outcome.CANCELLED),
    *[("b3os", script, Outcome.SUCCEEDED) for script in ("succeeded", "waiting_then_succeeded", "empty_times")],
    *[("b3os", script, Outcome.FAILED) for script in ("failed", "failed_odd_result", "failed_without_state")],
    ("b3os", "cancelled", Outcome.CANCELLED),
    *[("nekt", script, Outcome.SUCCEEDED) for script in ("succeeded", "pending_events_then_succeeded")],
    ("nekt", "failed", Outcome.FAILED),
    ("nekt", "cancelled", Outcome.CANCELLED),
    *[
        (provider, script, Outcome.SUCCEEDED)
        for provider in ("nexio", "nyx", "onepin", "b3os", "nekt")
        for script in ("unknown_word", "bare", "unreadable_times")
    ],
]
PARENTS = {"nexio": None, "nyx": "config_name", "onepin": "workflow_id", "b3os": "workflow_id", "nekt": "pipeline"}
STAYING = [
    *[(provider, "forever") for provider in ("nexio", "nyx", "onepin", "b3os", "nekt")],
    ("onepin", "paused"),
    ("onepin", "pausing"),
    ("b3os", "waiting"),
    ("nekt", "cancelling"),
    ("nekt", "pending_events"),
    *[(provider, "unknown_word_forever") for provider in ("nexio", "nyx", "onepin", "b3os", "nekt")],
]
DEFAULT = {
    Outcome.SUCCEEDED: Verdict.SUCCEED,
    Outcome.DEGRADED: Verdict.SKIP,
    Outcome.EXHAUSTED: Verdict.SKIP,
    Outcome.FAILED: Verdict.FAIL,
    Outcome.CANCELLED: Verdict.FAIL,
    Outcome.TIMED_OUT: Verdict.FAIL,
}


def asset_of(ref: Any, key: str = "external") -> dg.AssetsDefinition:
    return build_run_asset(key=key, resource_key=ref.provider, run_id=ref.run_id, parents=ref.parents or None)


@pytest.mark.parametrize("provider", ["nexio", "nyx", "onepin", "b3os", "nekt"])
def test_assets_end_as_their_runs_do(service: Callable[[str], Any], provider: str) -> None:
    runs = service(provider)
    outcomes = {script: outcome for name, script, outcome in ENDS if name == provider}
    refs = {script: runs.made(script=script) for script in outcomes}
    ended = runs.materialize(*(asset_of(ref, script) for script, ref in refs.items()))

    verdicts = {script: DEFAULT[outcome] for script, outcome in outcomes.items()}
    assert set(ended.materialized) == {s for s, verdict in verdicts.items() if verdict is Verdict.SUCCEED}
    assert ended.checks_of == {
        script: (verdict is Verdict.SUCCEED, dg.AssetCheckSeverity.WARN)
        for script, verdict in verdicts.items()
        if verdict is not Verdict.FAIL
    }
    failed = {script: failure.metadata for script, failure in ended.failures.items()}
    assert {s: (m["runops/outcome"].value, m["runops/verdict"].value) for s, m in failed.items()} == {
        script: (outcome, "fail") for script, outcome in outcomes.items() if verdicts[script] is Verdict.FAIL
    }


@pytest.mark.parametrize("provider", PARENTS)
def test_ops_end_as_their_runs_do(service: Callable[[str], Any], provider: str) -> None:
    runs = service(provider)
    outcomes = {script: outcome for name, script, outcome in ENDS if name == provider}
    refs = {script: runs.made(script=script) for script in outcomes}
    ops = [
        build_run_op(name=script, resource_key=provider, run_id=ref.run_id, parents=ref.parents or None)
        for script, ref in refs.items()
    ]

    @dg.job(resource_defs={provider: runs.resource})
    def all_of_them() -> None:
        for op in ops:
            op()

    result = all_of_them.execute_in_process(instance=runs.instance, raise_on_error=False)
    given = {event.step_key: event for event in result.all_events if event.event_type_value == "STEP_OUTPUT"}
    failed = {event.step_key for event in result.all_events if event.event_type_value == "STEP_FAILURE"}
    verdicts = {script: DEFAULT[outcome] for script, outcome in outcomes.items()}
    assert given.keys() == {script for script, verdict in verdicts.items() if verdict is Verdict.SUCCEED}
    assert failed == {script for script, verdict in verdicts.items() if verdict is Verdict.FAIL}


@pytest.mark.parametrize("provider", PARENTS)
def test_checks_judge_as_their_runs_end(service: Callable[[str], Any], provider: str) -> None:
    runs = service(provider)
    outcomes = {script: outcome for name, script, outcome in ENDS if name == provider}
    checks: list[dg.AssetChecksDefinition] = []
    for script in outcomes:
        ref = runs.made(script=script)
        parents = ref.parents or None
        checks.append(
            build_run_check(asset="a", resource_key=provider, name=script, run_id=ref.run_id, parents=parents)
        )
    definitions = dg.Definitions(assets=[dg.AssetSpec("a")], asset_checks=checks, resources={provider: runs.resource})
    result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(instance=runs.instance)
    found = {each.check_name: (each.passed, each.severity) for each in result.get_asset_check_evaluations()}
    severities = {Verdict.FAIL: dg.AssetCheckSeverity.ERROR}
    assert found == {
        script: (DEFAULT[outcome] is Verdict.SUCCEED, severities.get(DEFAULT[outcome], dg.AssetCheckSeverity.WARN))
        for script, outcome in outcomes.items()
    }


@pytest.mark.parametrize(("provider", "kind"), PARENTS.items())
def test_sensors_report_how_runs_end(
    service: Callable[[str], Any], clock: Any, provider: str, kind: str | None
) -> None:
    runs = service(provider)
    # A list of all runs shows whose a run is by a field that a bare one lacks.
    listing = runs.provider.listing
    lost = {"bare"} if listing is not None and listing.filtered else set[str]()
    outcomes = {script: outcome for name, script, outcome in ENDS if name == provider and script not in lost}
    parent = {kind: "7c9e6679-7425-40de-944b-e07fc1f90ae7"} if kind else {}

    def made() -> dict[str, str]:
        return {runs.made(script=script, **({"parents": parent} if kind else {})).run_id: script for script in outcomes}

    scripts = {} if kind else made()
    targets: dict[str, Any] = {"a": parent or [runs.provider.ref(run_id) for run_id in scripts]}
    sensor = build_run_sensor(name="ends", resource_key=provider, targets=targets)
    found: dict[str, str] = {}
    materialized: set[str] = set()
    cursor = None
    with dg.DagsterInstance.ephemeral() as instance:
        for _ in range(12):
            context = dg.build_sensor_context(instance, cursor=cursor, resources={provider: runs.resource})
            data = sensor.evaluate_tick(context)
            cursor = data.cursor
            for event in data.asset_events:
                if isinstance(event, dg.AssetCheckEvaluation):
                    continue
                script = scripts[str(event.metadata["runops/run_id"].value)]
                assert script not in found
                found[script] = str(event.metadata["runops/outcome"].value)
                if isinstance(event, dg.AssetMaterialization):
                    materialized.add(script)
            scripts = scripts or made()
            clock.now += 20
    assert found == outcomes
    assert materialized == {script for script, outcome in outcomes.items() if DEFAULT[outcome] is Verdict.SUCCEED}


@pytest.mark.parametrize(("provider", "script", "outcome"), ENDS)
def test_a_plain_wait_ends_as_its_run_does(
    service: Callable[[str], Any], provider: str, script: str, outcome: Outcome
) -> None:
    runs = service(provider)
    ref = runs.made(script=script)
    if DEFAULT[outcome] is Verdict.FAIL:
        with pytest.raises(dg.Failure) as raised:
            runs.wait(ref=ref)
        assert raised.value.metadata["runops/outcome"].value == outcome
        # It was given, so that no retry can change how it ended.
        assert raised.value.allow_retries is False
        assert runs.wait(ref=ref, on_outcome={outcome: "warn"}).verdict is Verdict.WARN
    else:
        result = runs.wait(ref=ref)
        assert (result.snapshot.outcome, result.verdict) == (outcome, DEFAULT[outcome])


@pytest.mark.parametrize("shape", ["pipeline", "flat"])
def test_both_shapes_of_nekt_end_in_an_asset(service: Callable[[str], Any], shape: str) -> None:
    runs = service("nekt")
    ended = runs.materialize(asset_of(runs.made(script="succeeded", shape=shape)))
    assert ended.materialized == ["external"]


@pytest.mark.parametrize(("provider", "script"), STAYING)
def test_a_run_that_does_not_end_is_timed_out_and_left_alone(
    service: Callable[[str], Any], provider: str, script: str
) -> None:
    runs = service(provider)
    ref = runs.made(script=script)
    with pytest.raises(dg.Failure, match="timed_out") as raised:
        runs.wait(ref=ref, timeout=300)
    assert raised.value.allow_retries is True
    assert raised.value.metadata["runops/run_ended"].value is False
    assert raised.value.metadata["runops/ended_by"].value == "timeout"
    assert runs.cancels == 0


@pytest.mark.parametrize(("provider", "script"), [("onepin", "paused"), ("onepin", "pausing"), ("b3os", "waiting")])
def test_a_parked_run_ends_the_wait_after_max_paused(service: Callable[[str], Any], provider: str, script: str) -> None:
    runs = service(provider)
    result = runs.wait(ref=runs.made(script=script), max_paused=60, on_outcome={"timed_out": "skip"})
    assert (result.snapshot.ended_by, result.verdict) == ("max_paused", Verdict.SKIP)


@pytest.mark.parametrize("provider", ["nexio", "nyx", "onepin", "b3os", "nekt"])
def test_an_unknown_word_with_an_end_time_fails_for_good(service: Callable[[str], Any], provider: str) -> None:
    runs = service(provider)
    with pytest.raises(dg.Failure, match="not documented") as raised:
        runs.wait(ref=runs.made(script="unknown_word_ended"))
    assert raised.value.allow_retries is False


def test_an_unknown_word_is_warned_of_once_in_the_log_of_the_step(service: Callable[[str], Any]) -> None:
    runs = service("nexio")
    ended = runs.materialize(asset_of(runs.made(script="unknown_word")))
    warnings = [line for line in ended.log.splitlines() if "which is not documented" in line and "{" not in line]
    assert len(warnings) == 1


@pytest.mark.parametrize(
    ("fault", "count"),
    [
        ({"kind": "status", "status": 500}, 4),
        ({"kind": "status", "status": 502}, 4),
        ({"kind": "status", "status": 429, "retry_after": 7}, 2),
        ({"kind": "status", "status": 429, "retry_after_date": 7}, 2),
        ({"kind": "reset"}, 3),
        ({"kind": "half_body"}, 3),
        ({"kind": "html"}, 3),
        ({"kind": "json", "body": None}, 3),
        ({"kind": "json", "body": []}, 3),
        ({"kind": "redirect", "location": "http://127.0.0.1:9/"}, 3),
        ({"kind": "gzip_bomb", "bytes": 11_000_000}, 1),
    ],
    ids=lambda value: str(value.get("status") or value["kind"]) if isinstance(value, dict) else "",
)
def test_a_bad_spell_neither_ends_a_wait_nor_cancels(
    service: Callable[[str], Any], fault: dict[str, Any], count: int
) -> None:
    runs = service("nyx")
    ref = runs.made(script="succeeded")
    runs.emulator.add_fault(provider="nyx", action="get", count=count, **fault)
    assert runs.wait(ref=ref).verdict is Verdict.SUCCEED
    assert runs.cancels == 0


def test_the_log_holds_transitions_and_not_every_look(service: Callable[[str], Any]) -> None:
    runs = service("nyx")
    ended = runs.materialize(asset_of(runs.made(script="succeeded", seconds=200)))
    looks = len(runs.emulator.requests(provider="nyx", action="get"))
    lines = [line for line in ended.log.splitlines() if line.startswith("nyx run ")]
    assert looks > 20
    assert len(lines) == len(set(lines)) == 3
