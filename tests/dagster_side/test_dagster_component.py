"""RunopsComponent: the same from a defs.yaml, with errors that say what to change and no key anywhere."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster.components.core.package_entry import discover_package_objects
from dagster.components.testing import create_defs_folder_sandbox

from runops.dagster.component import RunopsComponent, model
from runops.emulator.server import Server

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


def test_many_calls_of_a_file_are_one_step(
    load: Any, service: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, served: Server
) -> None:
    runs = service("nyx")
    # An event loop sleeps by no other clock than the real one.
    served.emulator.now = time.time
    runs.emulator.set_defaults("nyx", script="succeeded", seconds=0)
    monkeypatch.setenv("NYX_TOKEN", KEY)
    monkeypatch.setenv("NYX_URL", runs.base_url)
    monkeypatch.setenv("AGENT_TOKEN", "canary-agent-token")
    calls = [{**AUDIT, "config_name": f"region-{number}"} for number in range(3)]
    many = {"specs": [{"key": "security/sweep"}], "calls": calls, "max_active": 2, "require": 0.5, "poll_interval": 0.1}
    found = load(audits={"provider": "nyx", "base_url_env_var": "NYX_URL", "assets": [many]})
    result = found.resolve_implicit_global_asset_job_def().execute_in_process(instance=runs.instance)
    (event,) = result.get_asset_materialization_events()
    assert event.step_materialization_data.materialization.metadata["runops/total"].value == 3
    assert runs.submits == 3
    written = "".join(dg.serialize_value(entry) for entry in runs.instance.all_logs(result.run_id))
    assert KEY not in written
    assert "canary-agent-token" not in written


def test_a_file_names_who_is_called_in_which_phase(
    load: Any, service: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    phases: list[str] = []
    module = ModuleType("alerts_of_a_file")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(module, "tell", lambda context, snapshot: phases.append(snapshot.phase), raising=False)
    runs = service("nyx")
    monkeypatch.setenv("NYX_TOKEN", KEY)
    monkeypatch.setenv("NYX_URL", runs.base_url)
    run_id = runs.made().run_id
    asset = {"specs": [{"key": "audit"}], "run_id": run_id, "on_phase": {"running": ["alerts_of_a_file:tell"]}}
    found = load(audits={"provider": "nyx", "base_url_env_var": "NYX_URL", "assets": [asset]})
    assert found.resolve_implicit_global_asset_job_def().execute_in_process(instance=runs.instance).success
    assert phases == ["running"]


@pytest.mark.parametrize(
    ("on_phase", "told"),
    [
        ({"running": "alerts:tell"}, r"on_phase.*the module 'alerts' cannot be imported"),
        ({"runing": "json:dumps"}, r"on_phase='runing' is no phase.*'running'"),
    ],
)
def test_a_callback_that_a_file_names_wrongly_is_told_with_its_field(
    load: Any, on_phase: dict[str, Any], told: str
) -> None:
    asset = {"specs": [{"key": "audit"}], "run_id": "r", "on_phase": on_phase}
    with pytest.raises(Exception, match="audits") as raised:
        load(audits={"provider": "nyx", "assets": [asset]})
    assert re.search(told, str(raised.value.__cause__))


MANY_WRONG: list[tuple[dict[str, Any], str]] = [
    ({"calls": []}, r"assets\[0\].calls: calls is empty"),
    ({"calls": [AUDIT, AUDIT]}, r"assets\[0\].calls: calls\[1\] is the same submission as calls\[0\]"),
    ({"calls": [AUDIT, {**AUDIT, "budget_usd": 0}]}, r"assets\[0\].calls\[1\].budget_usd"),
    ({"calls": [AUDIT, {**AUDIT, "config_nam": "x"}]}, r"assets\[0\].calls\[1\]: .*config_nam"),
    ({"calls": [AUDIT, "nightly"]}, r"assets\[0\].calls\[1\]: must be a mapping"),
    ({"run_ids": ["r_1", "r_1"]}, r"assets\[0\].run_ids: run_ids\[1\] is the same run as run_ids\[0\]"),
    ({"calls": [AUDIT], "max_active": 0}, r"assets\[0\].max_active: must be more than 0"),
    ({"calls": [AUDIT], "require": "most"}, r"assets\[0\].require: require='most'"),
    ({"calls": [AUDIT], "require": 1.2}, r"assets\[0\].require: require=1.2"),
    ({"calls": [AUDIT], "run_id": "r"}, r"assets\[0\]: give either call"),
    ({"call": AUDIT, "stop_early": True}, r"assets\[0\].stop_early: belongs to calls and run_ids"),
]


@pytest.mark.parametrize(("given", "told"), MANY_WRONG, ids=[told[:50] for _, told in MANY_WRONG])
def test_what_is_wrong_about_many_runs_is_told_with_its_field_and_its_index(
    load: Any, given: dict[str, Any], told: str
) -> None:
    with pytest.raises(Exception, match="audits") as raised:
        load(audits={"provider": "nyx", "assets": [{"specs": [{"key": "security/sweep"}], **given}]})
    assert re.search(rf"/audits/defs.yaml:\d+ - attributes\.{told}", str(raised.value.__cause__))


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


FILE = """\
type: runops.dagster.RunopsComponent
attributes:
  provider: nyx
  assets:
    - specs:
        - key: security/audit
      on_outcome:
        degraded: warn
      call:
        config_name: nightly
        name: Nightly audit
        target: {url: https://agent.example.com, credentials: {$env: AGENT_TOKEN}}
        objective: make it tell its instructions
        budget_usd: 5
        severity_target: high
  checks:
    - asset: release
      parent: nightly
  sensors:
    - name: nyx_runs
      targets:
        - spec: {key: security/adhoc}
          parent: {config_name: adhoc}
"""
WRONG = [
    ("provider: nyx", "provider: nixo", 3, "provider: There is no provider 'nixo'; use one of nexio,"),
    ("provider: nyx", "provider: nyx\n  api_key_env_var: sk-live-123", 4, "api_key_env_var: must be the NAME"),
    ("provider: nyx", "provider: nyx\n  api_key_env_var: nyx_live123", 4, "api_key_env_var: must be the NAME"),
    ("provider: nyx", "provider: nyx\n  base_url_env_var: 1A", 4, "base_url_env_var: must be the NAME"),
    ("provider: nyx", "provider: nyx\n  resource_key: a b", 4, "resource_key: 'a b' cannot be a resource key"),
    ("provider: nyx", "provider: nyx\n  base_url: ftp://x", 4, "base_url: base_url 'ftp://x' is not a web address"),
    ("provider: nyx", "provider: nyx\n  base_url: http://x.example.com", 4, "base_url: "),
    ("provider: nyx", "provider: nyx\n  base_url: https://x\n  base_url_env_var: X", 4, "base_url or base_url_env_var"),
    ("provider: nyx", "provider: nyx\n  options:\n    workspace: w", 5, "options.workspace: options of Nyx has no"),
    ("severity_target: high", "severity_target: huge", 15, "assets[0].call.severity_target: severity_target='huge'"),
    ("severity_target: high", "severity: high", 9, "assets[0].call: A submit to Nyx has unknown arguments: severity"),
    ("budget_usd: 5", "budget_usd: 0", 14, "assets[0].call.budget_usd: "),
    ("$env: AGENT_TOKEN", "$env: a-key-itself", 12, "credentials.$env: must be the NAME"),
    ("nightly\n        name", "'{{ partition_key }}'\n        name", 9, "assets[0].call: uses partition_key, which is"),
    ("degraded: warn", "degredad: warn", 7, "assets[0].on_outcome: on_outcome names the outcome 'degredad'"),
    ("on_outcome:\n        degraded: warn", "timeout: -5", 7, "assets[0].timeout: must be more than 0, not -5"),
    ("on_outcome:\n        degraded: warn", "run_id: r", 5, "assets[0]: give either call"),
    ("on_outcome:\n        degraded: warn", "parents: {a: b}", 7, "assets[0].parents: belongs to run_id"),
    ("parent: nightly", "run_id: ..", 18, "checks[0].run_id: run_id='..' cannot be an id"),
    ("      parent: nightly\n", "", 17, "checks[0]: give either parent"),
    (
        "{config_name: adhoc}",
        "{config: adhoc}",
        23,
        "sensors[0].targets[0].parent: A parent of Nyx runs is one of config_name",
    ),
    ("name: nyx_runs", "name: nyx_runs\n      lookback: 0", 21, "sensors[0].lookback: must be more than 0"),
]


@pytest.mark.parametrize(("right", "wrong", "line", "told"), WRONG, ids=[told[:40] for *_, told in WRONG])
def test_what_is_wrong_in_a_file_is_told_with_its_line_its_field_and_what_to_write(
    sandbox: Any, right: str, wrong: str, line: int, told: str
) -> None:
    assert right in FILE
    path = sandbox.scaffold_component(RunopsComponent, defs_path="audits")
    (Path(path) / "defs.yaml").write_text(FILE.replace(right, wrong, 1))
    with pytest.raises(Exception, match="audits") as raised, sandbox.build_all_defs():
        pass
    cause = raised.value.__cause__
    assert re.search(rf"/audits/defs.yaml:{line} - attributes\.", str(cause)), str(cause)
    assert told in str(cause)
    assert not any(key in str(cause) for key in ("sk-live-123", "nyx_live123", "a-key-itself"))


def test_all_that_is_wrong_in_one_part_is_told_at_once(sandbox: Any) -> None:
    path = sandbox.scaffold_component(RunopsComponent, defs_path="audits")
    text = FILE.replace("provider: nyx", "provider: nixo\n  resource_key: a b\n  request_timeout: 0")
    (Path(path) / "defs.yaml").write_text(text)
    with pytest.raises(Exception, match="audits") as raised, sandbox.build_all_defs():
        pass
    lines = str(raised.value.__cause__).splitlines()
    assert [re.findall(r"attributes\.(\w+)", line) for line in lines] == [
        ["provider"], ["resource_key"], ["request_timeout"]
    ]  # fmt: skip


WRONG_IN_PYTHON = [
    ({"assets": [{"specs": [], "call": AUDIT}]}, "specs is empty"),
    ({"assets": [{**ASSETS[0], "time_out": 5}]}, "time_out"),
    ({"assets": [{**ASSETS[0], "max_retries": -1}]}, "max_retries: must not be negative, but is -1"),
    ({"assets": [{**ASSETS[0], "retry_delay": -0.5}]}, "retry_delay: must not be negative, but is -0.5"),
    ({"sensors": [{"name": "s", "targets": []}]}, "targets"),
    ({"provider": "nexio", "checks": [{"asset": "a", "parent": "p"}]}, "Nexio documents no list"),
    ({"provider": "nekt", "assets": [{"specs": [{"key": "a"}], "call": {}}]}, "Nekt documents no way to start"),
]


@pytest.mark.parametrize(("attributes", "told"), WRONG_IN_PYTHON, ids=lambda value: str(value)[:30])
def test_a_component_made_without_a_file_names_what_is_wrong(attributes: dict[str, Any], told: str) -> None:
    with pytest.raises(Exception, match=told):
        RunopsComponent.from_attributes_dict(attributes={"provider": "nyx", **attributes})


# --- templates that a step fills in ---


def partitioned(partitions: dict[str, Any], config_name: str, **more: Any) -> dict[str, Any]:
    spec = {"key": "security/audit", "partitions_def": partitions}
    return {
        "provider": "nyx",
        "base_url": "{{ env.NYX_URL }}",
        "assets": [{"specs": [spec], "call": {**AUDIT, "config_name": config_name}, **more}],
    }


STATIC = {"type": "static", "partition_keys": ["north", "42"]}
DAILY = {"type": "daily", "start_date": "2026-11-01"}


@pytest.mark.parametrize(
    ("partitions", "written", "partition", "submitted"),
    [
        (STATIC, "agent-{{ partition_key }}", "north", "agent-north"),
        (STATIC, "{{ partition_key | upper }}", "north", "NORTH"),
        # A template gives a plain text that looks like a number as a number; a key stays what it is.
        (STATIC, "{{ partition_key }}", "42", "42"),
        (DAILY, "{{ partition_key[:7] }}", "2026-11-03", "2026-11"),
        (DAILY, "{{ partition_time_window.end.date() }}", "2026-11-03", "2026-11-04"),
    ],
)
def test_each_partition_fills_in_what_it_submits(
    load: Any,
    service: Callable[[str], Any],
    monkeypatch: pytest.MonkeyPatch,
    partitions: dict[str, Any],
    written: str,
    partition: str,
    submitted: str,
) -> None:
    runs = service("nyx")
    monkeypatch.setenv("NYX_TOKEN", KEY)
    monkeypatch.setenv("NYX_URL", runs.base_url)
    monkeypatch.setenv("AGENT_TOKEN", "canary-agent-token")
    job = load(audits=partitioned(partitions, written)).resolve_implicit_global_asset_job_def()
    assert job.execute_in_process(instance=runs.instance, partition_key=partition).success
    (run,) = runs.emulator.runs(provider="nyx")
    assert run["body"]["config_name"] == submitted
    assert run["body"]["target"]["credentials"] == "canary-agent-token"


def test_what_a_step_fills_in_may_use_variables_of_the_file_s_own_module(
    sandbox: Any, service: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = service("nyx")
    monkeypatch.setenv("NYX_TOKEN", KEY)
    monkeypatch.setenv("NYX_URL", runs.base_url)
    monkeypatch.setenv("AGENT_TOKEN", "canary-agent-token")
    attributes = partitioned(STATIC, "{{ stage }}-{{ partition_key }}")
    contents = {"type": TYPE, "template_vars_module": ".variables", "attributes": attributes}
    place = sandbox.scaffold_component(
        RunopsComponent, defs_path="audits", scaffold_params={"provider": "nyx"}, defs_yaml_contents=contents
    )
    (Path(place) / "variables.py").write_text(
        "import dagster as dg\n\n\n@dg.template_var\ndef stage() -> str:\n    return 'canary'\n"
    )
    with sandbox.build_all_defs() as found:
        job = found.resolve_implicit_global_asset_job_def()
        assert job.execute_in_process(instance=runs.instance, partition_key="north").success
    (run,) = runs.emulator.runs(provider="nyx")
    assert run["body"]["config_name"] == "canary-north"


def test_assets_that_are_made_in_python_fill_in_their_templates_too() -> None:
    spec = dg.AssetSpec("audit", partitions_def=dg.StaticPartitionsDefinition(["north"]))
    assets = model.RunAssets.model_validate(
        {"specs": [spec], "call": {**AUDIT, "config_name": "agent-{{ partition_key }}"}}
    )
    filled = assets.sources["call"].filled(assets.sample)
    assert filled["config_name"] == "agent-north"
    assert filled["target"]["credentials"] == dg.EnvVar("AGENT_TOKEN")


def test_a_step_for_many_partitions_has_their_range_and_no_key(
    load: Any, service: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = service("nyx")
    monkeypatch.setenv("NYX_TOKEN", KEY)
    monkeypatch.setenv("NYX_URL", runs.base_url)
    monkeypatch.setenv("AGENT_TOKEN", "canary-agent-token")
    at_once = {"backfill_policy": {"type": "single_run"}}
    written = "from {{ partition_key_range.start }} to {{ partition_key_range.end }}"
    job = load(audits=partitioned(DAILY, written, **at_once)).resolve_implicit_global_asset_job_def()
    tags = {"dagster/asset_partition_range_start": "2026-11-02", "dagster/asset_partition_range_end": "2026-11-04"}
    assert job.execute_in_process(instance=runs.instance, tags=tags).success
    (run,) = runs.emulator.runs(provider="nyx")
    assert run["body"]["config_name"] == "from 2026-11-02 to 2026-11-04"
    with pytest.raises(Exception, match="audits") as raised:
        load(audits=partitioned(DAILY, "{{ partition_key }}", **at_once))
    assert "see backfill_policy" in str(raised.value.__cause__)


def test_a_run_to_wait_for_is_filled_in_too(
    load: Any, service: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = service("nekt")
    monkeypatch.setenv("NEKT_API_KEY", KEY)
    made = runs.made(script="succeeded")
    spec = {"key": "orders", "partitions_def": {"type": "static", "partition_keys": [made.run_id]}}
    assets = [{"specs": [spec], "run_id": "{{ partition_key }}"}]
    found = load(loads={"provider": "nekt", "base_url": runs.base_url, "assets": assets})
    job = found.resolve_implicit_global_asset_job_def()
    assert job.execute_in_process(instance=runs.instance, partition_key=made.run_id).success


def test_what_a_variable_holds_is_in_nothing_that_is_loaded(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_TOKEN", "canary-agent-token")
    call = {**AUDIT, "hints": ["{{ env.AGENT_TOKEN }}"]}
    assets = [{"specs": [{"key": "security/audit"}], "call": call}]
    component = RunopsComponent.from_attributes_dict(attributes={"provider": "nyx", "assets": assets})
    assert "{{ env.AGENT_TOKEN }}" in repr(component)
    assert "canary-agent-token" not in repr(component)
    found = load(audits={"provider": "nyx", "assets": assets})
    assert "canary-agent-token" not in dg.serialize_value(RepositorySnap.from_def(found.get_repository_def()))


# --- several, and what dg writes ---


def test_one_file_may_hold_several_components(sandbox: Any) -> None:
    path = sandbox.scaffold_component(RunopsComponent, defs_path="audits")
    other = FILE.replace("security/", "legal/").replace("nyx_runs", "other_runs").replace("asset: release", "asset: r2")
    (Path(path) / "defs.yaml").write_text(FILE + "---\n" + other)
    with sandbox.build_all_defs() as found:
        assert set(found.resources or {}) == {"runops_audits", "runops_audits_1"}
        assert found.resolve_asset_graph().has(dg.AssetKey(["legal", "audit"]))


def test_a_scaffolded_file_takes_what_it_is_told(sandbox: Any) -> None:
    told = {"provider": "nyx", "asset_key": "security/audit", "api_key_env_var": "AUDIT_TOKEN"}
    path = sandbox.scaffold_component(RunopsComponent, scaffold_params=told)
    with sandbox.load_component_and_build_defs(path) as (component, found):
        assert component.api_key_env_var == "AUDIT_TOKEN"
        assert found.resolve_asset_graph().has(dg.AssetKey(["security", "audit"]))


@pytest.mark.parametrize("told", [{"provider": "nixo"}, {"api_key_env_var": "nyx_live123"}])
def test_what_cannot_be_scaffolded_is_refused_before_anything_is_written(sandbox: Any, told: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=next(iter(told))) as raised:
        sandbox.scaffold_component(RunopsComponent, defs_path="audits", scaffold_params=told)
    assert "nyx_live123" not in str(raised.value)
    assert not list(sandbox.defs_folder_path.rglob("defs.yaml"))


@pytest.mark.parametrize("provider", ["nexio", "nyx", "onepin", "b3os", "nekt"])
def test_a_scaffolded_file_loads_as_it_stands(sandbox: Any, provider: str) -> None:
    path = sandbox.scaffold_component(RunopsComponent, scaffold_params={"provider": provider})
    text = (Path(path) / "defs.yaml").read_text()
    assert "_env_var" in text
    with sandbox.load_component_and_build_defs(path) as (component, found):
        assert isinstance(component, RunopsComponent)
        assert found.resolve_asset_graph().has(dg.AssetKey([provider, "run"]))


@pytest.mark.parametrize(
    ("provider", "kind"),
    [("nexio", None), ("nyx", "config_name"), ("onepin", "workflow_id"), ("b3os", "workflow_id"), ("nekt", "pipeline")],
)
def test_a_scaffolded_file_watches_the_runs_of_a_parent_where_the_service_lists_them(
    sandbox: Any, provider: str, kind: str | None
) -> None:
    path = sandbox.scaffold_component(RunopsComponent, scaffold_params={"provider": provider})
    with sandbox.load_component_and_build_defs(path) as (component, found):
        targets = [(sensor.name, target.parent) for sensor in component.sensors for target in sensor.targets]
        assert targets == ([(f"{provider}_run_runs", {kind: "its-id"})] if kind else [])
        assert found.resolve_asset_graph().has(dg.AssetKey([provider, "run_outside"])) is (kind is not None)


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


def test_a_template_that_fails_in_a_step_names_its_asset_and_field(
    load: Any, service: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = service("nyx")
    monkeypatch.setenv("NYX_TOKEN", KEY)
    monkeypatch.setenv("NYX_URL", runs.base_url)
    regions = {"type": "static", "partition_keys": ["north", "south"]}
    call = {**AUDIT, "config_name": "{{ {'north': 'nightly'}[partition_key|string].upper() }}"}
    call["target"] = {"url": "https://agent.example.com"}
    assets = [{"specs": [{"key": "security/audit", "partitions_def": regions}], "call": call}]
    found = load(audits={"provider": "nyx", "base_url_env_var": "NYX_URL", "assets": assets})
    job = found.resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(instance=runs.instance, partition_key="south", raise_on_error=False)
    (failed,) = [event for event in result.all_events if event.event_type is dg.DagsterEventType.STEP_FAILURE]
    said = failed.step_failure_data.user_failure_data.description
    assert said.startswith("build_run_multi_asset('security__audit'): ")
    assert "assets[0].call" in said
    assert "south" in said
    assert runs.submits == 0


PARTS = [RunopsComponent] + [
    each for each in vars(model).values() if isinstance(each, type) and each.__module__ == model.__name__
]


@pytest.mark.parametrize(
    "part", [part for part in PARTS if hasattr(part, "model_fields")], ids=lambda part: part.__name__
)
def test_every_field_of_a_defs_file_says_what_it_is(part: Any) -> None:
    for name, field in part.model_fields.items():
        resolvers = [each for each in field.metadata if isinstance(each, dg.Resolver)]
        assert name == "type" or field.description or any(each.description for each in resolvers), name
