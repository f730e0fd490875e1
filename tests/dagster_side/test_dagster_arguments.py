"""What a user may write to builders and resources: the lists that are typed once, and the errors of a wrong name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

import runops.dagster
from runops.core import PROVIDERS, ConfigurationError, find
from runops.dagster import (
    NexioResource,
    RunResource,
    build_completion_sensor,
    build_run_asset,
    build_run_check,
    build_run_multi_asset,
    build_run_op,
    build_run_sensor,
    build_submit_job,
    wait_for_run,
    wait_for_runs,
)
from runops.dagster.builders import arguments
from runops.dagster.component.model import RunAssets, RunCheck
from runops.dagster.options import JudgedWaitSettings, RunsStepSettings, StepSettings, StepSubmitSettings, names_of
from runops.dagster.providers import RESOURCES

INSTALLED = tuple(int(part) for part in dg.__version__.split(".")[:2])
SINCE = {"is_virtual": (1, 13)}
"""Arguments that the lowest Dagster does not take: there they are refused as any that it does not know."""
GIVEN: dict[str, Any] = {"resource_key": "b3os", "run_id": "r"}
BUILDERS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "build_run_asset('a')": (build_run_asset, {"key": "a", **GIVEN}),
    "build_run_op('a')": (build_run_op, {"name": "a", **GIVEN}),
    "build_run_multi_asset('a')": (build_run_multi_asset, {"name": "a", "specs": [dg.AssetSpec("b")], **GIVEN}),
    "build_run_check('a')": (build_run_check, {"name": "a", "asset": "b", **GIVEN}),
    "build_submit_job('a')": (build_submit_job, {"name": "a", "resource_key": "b3os", "call": {}}),
    "build_completion_sensor('a')": (
        build_completion_sensor,
        {"name": "a", "job": "b", "asset": "c", "resource_key": "b3os"},
    ),
    "build_run_sensor('a')": (build_run_sensor, {"name": "a", "resource_key": "b3os", "targets": {"b": "c"}}),
}
DECORATORS: dict[type, tuple[Any, set[str]]] = {
    # What the builder names itself, or decides.
    arguments.AssetArguments: (dg.asset, {"name", "key", "ins", "check_specs", "output_required"}),
    arguments.MultiAssetArguments: (dg.multi_asset, {"name", "specs", "ins", "outs", "check_specs"}),
    arguments.OpArguments: (dg.op, {"name", "ins", "out"}),
    arguments.CheckArguments: (dg.asset_check, {"name", "asset"}),
    arguments.SensorArguments: (
        dg.sensor,
        {"name", "job", "job_name", "minimum_interval_seconds", "default_status"},
    ),
    arguments.JobArguments: (dg.job, {"name"}),
}


@pytest.mark.parametrize("typed", DECORATORS, ids=lambda typed: typed.__name__)
def test_the_typed_arguments_are_those_of_the_installed_dagster(typed: type) -> None:
    decorator, ours = DECORATORS[typed]
    parameters = inspect.signature(decorator).parameters.values()
    theirs = {each.name for each in parameters if each.kind is each.KEYWORD_ONLY} - ours
    newer = {name for name, version in SINCE.items() if version > INSTALLED}
    assert names_of(typed) - newer == theirs - {"required_resource_keys"}


@pytest.mark.parametrize(
    ("wrong", "right", "builders"),
    [
        ("descripton", "description", BUILDERS),
        ("resource_ky", "resource_key", BUILDERS),
        ("retry_polcy", "retry_policy", ["build_run_asset('a')", "build_run_op('a')", "build_submit_job('a')"]),
        ("grop_name", "group_name", ["build_run_asset('a')", "build_run_multi_asset('a')"]),
        ("error_budgt", "error_budget", ["build_run_asset('a')", "build_run_op('a')", "build_run_check('a')"]),
        ("submit_grce", "submit_grace", ["build_run_asset('a')", "build_submit_job('a')"]),
        ("look_back", "lookback", ["build_run_sensor('a')"]),
        ("time_out", "timeout", ["build_completion_sensor('a')", "build_run_check('a')"]),
    ],
)
def test_a_misspelled_argument_is_refused_first_with_the_builder_and_the_right_name(
    wrong: str, right: str, builders: Any
) -> None:
    for caller in builders:
        builder, given = BUILDERS[caller]
        with pytest.raises(ConfigurationError) as raised:
            # Everything else is wrong as well: the name comes first.
            builder(**{**given, "resource_key": "not a key"}, **{wrong: object()})
        assert str(raised.value).startswith(f"{caller} takes no argument {wrong!r}. Did you mean {right!r}? It takes ")


def test_a_misspelled_argument_of_a_check_is_named_before_the_one_that_is_missing() -> None:
    given: dict[str, Any] = {"asset": "b", "resource_key": "b3os", "parnt": "nightly"}
    with pytest.raises(ConfigurationError, match=r"no argument 'parnt'. Did you mean 'parent'"):
        build_run_check(**given)
    with pytest.raises(ConfigurationError, match=r"give either parent= .* or run_id="):
        build_run_check(asset="b", resource_key="b3os")
    with pytest.raises(ConfigurationError, match=r"give either parent= .* or run_id="):
        build_run_check(asset="b", resource_key="b3os", parent="nightly", run_id="r")


@pytest.mark.parametrize(
    ("caller", "name"),
    [
        ("build_run_asset('a')", "output_required"),
        ("build_run_op('a')", "out"),
        ("build_run_multi_asset('a')", "outs"),
        ("build_run_sensor('a')", "job_name"),
    ],
)
def test_what_a_builder_decides_itself_cannot_be_given(caller: str, name: str) -> None:
    builder, given = BUILDERS[caller]
    with pytest.raises(ConfigurationError, match=f"decides {name} itself"):
        builder(**given, **{name: None})


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_dagster_takes_without_showing_it_is_passed_on() -> None:
    given: Any = {"compute_kind": "b3os"}
    asset = build_run_asset(key="a", resource_key="b3os", run_id="r", **given)
    assert asset.op.tags["dagster/compute_kind"] == "b3os"


def test_wait_for_run_names_a_misspelled_setting() -> None:
    given: Any = {"on_outcom": {"degraded": "warn"}}
    with pytest.raises(ConfigurationError, match=r"wait_for_run takes .* 'on_outcom'. Did you mean 'on_outcome'"):
        wait_for_run(dg.build_op_context(), NexioResource(api_key="k"), **given)


def test_wait_for_runs_names_a_misspelled_setting() -> None:
    given: Any = {"max_activ": 3}
    with pytest.raises(ConfigurationError, match=r"wait_for_runs takes .* 'max_activ'. Did you mean 'max_active'"):
        wait_for_runs(dg.build_op_context(), NexioResource(api_key="k"), **given)


@pytest.mark.parametrize("name", [*RESOURCES, "RunResource"])
def test_a_misspelled_field_of_a_resource_is_named_with_the_right_one(name: str) -> None:
    kind: Any = getattr(runops.dagster, name)
    given = {"api_key": "canary", "base_ulr": "https://api.example.com"}
    with pytest.raises(ConfigurationError) as raised:
        kind(**given)
    assert str(raised.value).startswith(f"{name} takes no argument 'base_ulr'. Did you mean 'base_url'? It takes ")
    assert "canary" not in str(raised.value)


def test_a_misspelled_setting_of_a_resource_s_wait_is_refused_before_anything_is_sent() -> None:
    given: Any = {"error_budgt": 60}
    for resource, name in (
        (NexioResource(api_key="k"), "NexioResource"),
        (RunResource(provider="nexio", api_key="k"), "RunResource"),
    ):
        with pytest.raises(ConfigurationError) as raised:
            resource.wait("r", **given)
        expected = f"{name}.wait takes no argument 'error_budgt'. Did you mean 'error_budget'? It takes "
        assert str(raised.value).startswith(expected)


def test_a_file_may_say_every_setting_that_a_builder_takes() -> None:
    assert names_of(RunsStepSettings) <= set(RunAssets.model_fields)
    assert names_of(JudgedWaitSettings) <= set(RunCheck.model_fields)
    assert (
        names_of(StepSubmitSettings) | names_of(JudgedWaitSettings)
        < names_of(StepSettings)
        < names_of(RunsStepSettings)
    )


# --- one file per service ----------------------------------------------------------------------------------------


def test_each_service_has_a_file_and_is_public_by_it() -> None:
    files = {path.stem for path in Path(arguments.__file__).parents[1].joinpath("providers").glob("[!_]*.py")}
    assert files == set(RESOURCES.values()) == set(PROVIDERS)
    assert set(RESOURCES) <= set(runops.dagster.__all__)


@pytest.mark.parametrize(("name", "service"), RESOURCES.items())
def test_a_named_resource_submits_with_the_arguments_of_its_declaration(name: str, service: str) -> None:
    kind: Any = getattr(runops.dagster, name)
    submission = find(service).submit
    assert kind.service == service
    if submission is None:
        assert not hasattr(kind, "call")
        return
    resource = kind(api_key="k")
    assert dict(inspect.signature(resource.call).parameters) == dict(submission.arguments)
    assert dict(submission.arguments).items() <= dict(inspect.signature(resource.submit).parameters).items()
    assert "ConfigurationError" in kind.call.__doc__
    assert "SubmitUncertainError" in kind.submit.__doc__
    assert find(service).call(**kind.example)
