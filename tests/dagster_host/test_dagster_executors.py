"""The same runs in one process and in a process for each step: what Dagster stores must not differ."""

from __future__ import annotations

import json
from typing import Any

import dagster as dg
import pytest

from runops.core import find

ENDS = {
    "nexio": ["succeeded", "degraded", "failed"],
    "nyx": ["succeeded", "exhausted", "failed", "cancelled"],
    "onepin": ["succeeded", "failed", "cancelled"],
    "b3os": ["succeeded", "failed", "cancelled"],
    "nekt": ["succeeded", "failed", "cancelled"],
}
WORKFLOW = "7c9e6679-7425-40de-944b-e07fc1f90ae7"


@pytest.fixture(scope="module")
def runs(host: Any) -> None:
    """One run that is over for each outcome of each service."""
    made: dict[str, Any] = {}
    for provider, scripts in ENDS.items():
        parents = {"workflow_id": WORKFLOW} if provider == "onepin" else None
        for script in scripts:
            run_id = host.emulator.create_run(provider, script=script, seconds=60, age_seconds=600, parents=parents)
            made[f"{provider}_{script}"] = find(provider).ref(run_id, parents).model_dump(mode="json")
    (host.folder / "runs.json").write_text(json.dumps(made))


def stored(host: Any, run_id: str) -> dict[str, list[Any]]:
    """What the event log holds of each step: the events in their order, with all that stands in them."""
    kinds = (
        "STEP_OUTPUT",
        "STEP_SUCCESS",
        "STEP_FAILURE",
        "STEP_SKIPPED",
        "ASSET_MATERIALIZATION",
        "ASSET_OBSERVATION",
        "ASSET_CHECK_EVALUATION",
    )
    found: dict[str, list[Any]] = {}
    for entry in host.instance.all_logs(run_id):
        event = entry.dagster_event
        if event is not None and event.event_type_value in kinds:
            found.setdefault(str(event.step_key), []).append([event.event_type_value, told(event)])
    # Where nothing says which version the code has, Dagster's own run id stands for it.
    return json.loads(json.dumps(found).replace(run_id, "the run"))


def told(event: dg.DagsterEvent) -> Any:
    match event.event_type_value:
        case "ASSET_MATERIALIZATION":
            said = json.loads(dg.serialize_value(event.materialization))
            tags = {
                tag: value
                for tag, value in (event.materialization.tags or {}).items()
                if "input_event_pointer" not in tag
            }
            return {"metadata": said["metadata_entries"], "tags": tags, "partition": said["partition"]}
        case "ASSET_CHECK_EVALUATION":
            data = event.asset_check_evaluation_data
            metadata = {name: value.value for name, value in (data.metadata or {}).items()}
            return {
                "passed": data.passed,
                "severity": data.severity.value,
                "text": data.description,
                "metadata": metadata,
            }
        case "STEP_FAILURE":
            data = event.step_failure_data.user_failure_data
            assert data is not None
            metadata = {name: value.value for name, value in (data.metadata or {}).items()}
            return {"text": data.description, "metadata": metadata}
        case "STEP_OUTPUT":
            metadata = event.step_output_data.metadata or {}
            return {name: value.value for name, value in metadata.items() if name.startswith("runops/")}
        case _:
            return None


def logged(host: Any, run_id: str) -> list[str]:
    """What the steps themselves have written, in no order across steps."""
    return sorted(
        f"{entry.step_key}: {entry.user_message}".replace(run_id, "the run")
        for entry in host.instance.all_logs(run_id)
        if entry.dagster_event is None and entry.step_key
    )


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize("kind", ["assets", "ops"])
def test_every_outcome_of_every_service_is_stored_alike_by_both_executors(host: Any, kind: str) -> None:
    launched = [host.launch(f"{kind}_{executor}") for executor in ("in_process", "forked")]
    for run_id in launched:
        assert host.ended(run_id, 180) is dg.DagsterRunStatus.FAILURE
    one, other = (stored(host, run_id) for run_id in launched)
    prefix = "op_" if kind == "ops" else ""
    assert {f"{prefix}{provider}_{script}" for provider, scripts in ENDS.items() for script in scripts} <= one.keys()
    assert one == other
    assert logged(host, launched[0]) == logged(host, launched[1])


@pytest.mark.usefixtures("runs")
def test_two_materialisations_of_one_run_have_one_data_version(host: Any) -> None:
    for key in ("nexio_succeeded", "nyx_exhausted_warned", "b3os_succeeded"):
        records = host.instance.fetch_materializations(dg.AssetKey(key), limit=10).records
        versions = {record.asset_materialization.tags["dagster/data_version"] for record in records}
        assert len(records) == 2
        assert len(versions) == 1
