"""RunopsComponent: the same from a defs.yaml, with errors that say what to change and no key anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster.components.core.package_entry import discover_package_objects
from dagster.components.testing import create_defs_folder_sandbox

from runops.dagster.component import RunopsComponent

KEY = "canary-key-5f2b9c7e1d"
TYPE = "runops.dagster.component.RunopsComponent"
AUDIT = {
    "config_name": "nightly",
    "name": "Nightly audit",
    "target": {"url": "https://agent.example.com", "credentials": {"$env": "AGENT_TOKEN"}},
    "objective": "make it tell its instructions",
    "budget_usd": 5,
    "severity_target": "high",
}
ASSETS = [{"specs": [{"key": "security/audit", "kinds": ["nyx"], "owners": ["team:security"]}], "call": AUDIT}]

# Dagster's own code warns while it reads a file.
pytestmark = pytest.mark.filterwarnings(
    "ignore::dagster.BetaWarning",
    "ignore::dagster.PreviewWarning",
    "ignore::pydantic.warnings.PydanticDeprecatedSince20",
)


@pytest.fixture
def sandbox() -> Iterator[Any]:
    with create_defs_folder_sandbox() as made:
        yield made


@pytest.fixture
def load(sandbox: Any) -> Callable[..., dg.Definitions]:
    """``load(place={...attributes})``: the definitions of one or several components."""

    def make(**components: dict[str, Any]) -> dg.Definitions:
        for place, attributes in components.items():
            sandbox.scaffold_component(
                RunopsComponent,
                defs_path=place,
                scaffold_params={"provider": "nyx"},
                defs_yaml_contents={"type": TYPE, "attributes": attributes},
            )
        with sandbox.build_all_defs() as found:
            return found

    return make


def test_an_asset_of_a_file_submits_and_waits(
    load: Any, service: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = service("nyx")
    monkeypatch.setenv("NYX_TOKEN", KEY)
    monkeypatch.setenv("NYX_URL", runs.base_url)
    monkeypatch.setenv("AGENT_TOKEN", "canary-agent-token")
    found = load(audits={"provider": "nyx", "base_url_env_var": "NYX_URL", "assets": ASSETS})
    result = found.resolve_implicit_global_asset_job_def().execute_in_process(instance=runs.instance)
    assert result.success
    (event,) = result.get_asset_materialization_events()
    assert event.asset_key == dg.AssetKey(["security", "audit"])
    assert runs.submits == 1
    written = "".join(dg.serialize_value(entry) for entry in runs.instance.all_logs(result.run_id))
    assert KEY not in written
    assert "canary-agent-token" not in written


def test_what_an_asset_spec_takes_is_taken(load: Any) -> None:
    spec = {
        "key": "security/audit",
        "deps": ["agent"],
        "group_name": "security",
        "partitions_def": {"type": "daily", "start_date": "2026-11-01"},
        "automation_condition": "{{ dg.AutomationCondition.eager() }}",
        "freshness_policy": "{{ dg.FreshnessPolicy.cron(deadline_cron='0 9 * * *', lower_bound_delta=datetime.timedelta(hours=2)) }}",  # noqa: E501
    }
    found = load(audits={"provider": "nyx", "assets": [{"specs": [spec], "call": AUDIT, "max_retries": 2}]})
    asset = found.get_assets_def(dg.AssetKey(["security", "audit"]))
    taken = asset.get_asset_spec(dg.AssetKey(["security", "audit"]))
    assert taken.automation_condition == dg.AutomationCondition.eager()
    assert taken.freshness_policy is not None
    assert isinstance(taken.partitions_def, dg.DailyPartitionsDefinition)
    assert [dep.asset_key for dep in taken.deps] == [dg.AssetKey("agent")]
    assert asset.op.retry_policy == dg.RetryPolicy(max_retries=2, delay=60)


def test_a_sensor_brings_its_assets_and_the_check_that_shows_how_they_are(load: Any) -> None:
    sensor = {
        "name": "nyx_runs",
        "targets": [{"spec": {"key": "security/adhoc"}, "parent": "adhoc"}],
        "running": True,
        "lookback": 3600,
    }
    found = load(audits={"provider": "nyx", "sensors": [sensor]})
    sensor_def = found.get_repository_def().get_sensor_def("nyx_runs")
    assert sensor_def.default_status is dg.DefaultSensorStatus.RUNNING
    graph = found.resolve_asset_graph()
    assert dg.AssetKey(["security", "adhoc"]) in graph.external_asset_keys
    assert {key.name for key in graph.asset_check_keys} == {"runops_outcome"}


def test_components_of_one_service_stand_side_by_side(load: Any) -> None:
    def one(variable: str, key: str) -> dict[str, Any]:
        return {
            "provider": "nyx",
            "api_key_env_var": variable,
            "assets": [{"specs": [{"key": key}], "call": AUDIT}],
        }

    found = load(first=one("FIRST_TOKEN", "first/audit"), second=one("SECOND_TOKEN", "second/audit"))
    assert set(found.resources or {}) == {"runops_first", "runops_second"}
    found.resolve_implicit_global_asset_job_def()


def test_no_key_is_in_the_repository_snapshot_even_if_the_variable_is_set(
    load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NYX_TOKEN", KEY)
    monkeypatch.setenv("AGENT_TOKEN", "canary-agent-token")
    found = load(audits={"provider": "nyx", "assets": ASSETS})
    snapshot = dg.serialize_value(RepositorySnap.from_def(found.get_repository_def()))
    assert "NYX_TOKEN" in snapshot
    assert KEY not in snapshot
    assert "canary-agent-token" not in snapshot


WRONG = [
    ({"provider": "nixo"}, ["provider", "nixo"]),
    ({"api_key_env_var": "sk-live-1234567890"}, ["api_key_env_var", "must be the NAME"]),
    ({"resource_key": "a b"}, ["resource_key", "a b"]),
    ({"base_url": "ftp://x"}, ["base_url", "ftp://x"]),
    ({"base_url": "https://x", "base_url_env_var": "X"}, ["base_url or base_url_env_var"]),
    ({"options": {"workspace": "w"}}, ["options", "workspace"]),
    ({"request_timeout": 0}, ["request_timeout", "greater than 0"]),
    ({"assets": [{"specs": [], "call": AUDIT}]}, ["assets", "specs is empty"]),
    ({"assets": [{**ASSETS[0], "run_id": "r"}]}, ["either call"]),
    ({"assets": [{**ASSETS[0], "call": {**AUDIT, "severity_target": "huge"}}]}, ["assets[0].call", "huge"]),
    ({"assets": [{**ASSETS[0], "call": {"config": "x"}}]}, ["assets[0].call", "config"]),
    ({"assets": [{**ASSETS[0], "on_outcome": {"degredad": "warn"}}]}, ["on_outcome", "degredad", "use succeeded"]),
    ({"assets": [{**ASSETS[0], "timeout": -5}]}, ["timeout", "-5"]),
    ({"assets": [{**ASSETS[0], "time_out": 5}]}, ["time_out"]),
    ({"checks": [{"asset": "a"}]}, ["either parent"]),
    ({"sensors": [{"name": "s", "targets": []}]}, ["targets"]),
    ({"provider": "nexio", "checks": [{"asset": "a", "parent": "p"}]}, ["Nexio documents no list"]),
]


@pytest.mark.parametrize(("attributes", "told"), WRONG, ids=lambda value: ",".join(value))
def test_what_is_wrong_in_a_file_is_named_with_its_field(
    load: Any, attributes: dict[str, Any], told: list[str]
) -> None:
    with pytest.raises(Exception, match=r"audits") as raised:
        load(audits={"provider": "nyx", **attributes})
    chain: list[str] = []
    error: BaseException | None = raised.value
    while error is not None:
        chain.append(str(error))
        error = error.__cause__ or error.__context__
    text = "\n".join(chain)
    assert [words for words in told if words not in text] == []


@pytest.mark.parametrize("provider", ["nexio", "nyx", "onepin", "b3os", "nekt"])
def test_a_scaffolded_file_loads_as_it_stands(sandbox: Any, provider: str) -> None:
    path = sandbox.scaffold_component(RunopsComponent, scaffold_params={"provider": provider})
    text = (Path(path) / "defs.yaml").read_text()
    assert "_env_var" in text
    with sandbox.load_component_and_build_defs(path) as (component, found):
        assert isinstance(component, RunopsComponent)
        assert found.resolve_asset_graph().has(dg.AssetKey([provider, "run"]))


def test_a_check_of_a_file_judges_the_newest_run(
    load: Any, service: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = service("nyx")
    monkeypatch.setenv("NYX_TOKEN", KEY)
    monkeypatch.setenv("NYX_URL", runs.base_url)
    runs.made(script="exhausted", parents={"config_name": "nightly"})
    check = {
        "asset": "release",
        "parent": {"config_name": "nightly"},
        "on_outcome": {"succeeded": "fail", "exhausted": "succeed"},
        "blocking": True,
    }
    found = load(gate={"provider": "nyx", "base_url_env_var": "NYX_URL", "checks": [check]})
    both = dg.Definitions.merge(found, dg.Definitions(assets=[dg.asset(name="release")(lambda: None)]))
    result = both.resolve_implicit_global_asset_job_def().execute_in_process(instance=runs.instance)
    (evaluation,) = result.get_asset_check_evaluations()
    assert evaluation.passed


def test_the_component_loads_without_any_key(monkeypatch: pytest.MonkeyPatch, load: Any) -> None:
    monkeypatch.delenv("NYX_TOKEN", raising=False)
    found = load(audits={"provider": "nyx", "assets": ASSETS})
    assert "runops_audits" in (found.resources or {})


def test_dagster_finds_the_component_and_nothing_else_in_its_module() -> None:
    found = discover_package_objects(["runops.dagster.component"])
    assert [key.to_typename() for key in found] == [TYPE]
