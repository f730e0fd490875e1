"""Each argument of a builder arrives, at the wait of its step or at Dagster's decorator; what is left out does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import dagster as dg
import pytest
from pytest_mock import MockerFixture

from runops.core import ConfigurationError, Outcome, RunRef, RunSnapshot, Verdict, find
from runops.dagster import (
    OnepinResource,
    RunResult,
    build_run_asset,
    build_run_check,
    build_run_multi_asset,
    build_run_op,
    build_submit_job,
)
from runops.dagster.builders.plan import call_of
from runops.dagster.options import JudgedWaitSettings, RunsStepSettings, StepSettings, StepSubmitSettings, names_of
from tests.services import CALLS, WORKFLOW

CALL = find("onepin").call(**CALLS["onepin"])
RUN = "5d1b9a3e-7c42-4f0e-9b16-2a8e4c7d3f05"
PARENTS = {"workflow_id": WORKFLOW}
REF = RunRef(provider="onepin", run_id=RUN, parents=PARENTS)
POLICY = dg.RetryPolicy(max_retries=4)
RESOURCES = {"onepin": OnepinResource(api_key="k"), "further": dg.ResourceDefinition.none_resource()}
JUDGED: dict[str, Any] = {
    "timeout": timedelta(seconds=101),
    "error_budget": 102,
    "auth_grace": 103,
    "max_paused": 104,
    "max_stalled": 105,
    "max_spend": None,
    "poll_interval": 107,
    "on_outcome": {"failed": "warn"},
    "states": {"half": "degraded"},
    "expect": {},
    "on_unmet": "skip",
    "soft_fail": True,
    "on_phase": {},
}
SUBMITTED: dict[str, Any] = {
    "adopt_uncertain": True,
    "submit_grace": 108,
    "on_conflict": "attach",
    "cancel_on_failure": True,
    "mark_runs": False,
    "reattach": False,
}
ONE: dict[str, Any] = {**JUDGED, **SUBMITTED, "cancel_on_interrupt": False, "cancel_on_timeout": False}
MANY: dict[str, Any] = {**ONE, "max_active": 7, "require": 0.5, "stop_early": True}
STEP: dict[str, Any] = {
    "required_resource_keys": {"further"},
    "retry_policy": POLICY,
    "pool": "narrow",
    "description": "What it is.",
}


def test_the_tables_have_every_setting() -> None:
    assert set(JUDGED) == names_of(JudgedWaitSettings)
    assert set(SUBMITTED) == names_of(StepSubmitSettings)
    assert set(ONE) == names_of(StepSettings)
    assert set(MANY) == names_of(RunsStepSettings)


def asset(**given: Any) -> dg.AssetsDefinition:
    return build_run_asset(key="out/audit", resource_key="onepin", **given)


def multi_asset(**given: Any) -> dg.AssetsDefinition:
    return build_run_multi_asset(name="audit", specs=[dg.AssetSpec("a")], resource_key="onepin", **given)


def op(**given: Any) -> dg.JobDefinition:
    built = build_run_op(name="audit", resource_key="onepin", **given)

    @dg.job
    def around() -> None:
        built()

    return around


def executed(built: Any, instance: dg.DagsterInstance) -> None:
    if isinstance(built, dg.JobDefinition):
        assert built.execute_in_process(instance=instance, resources=RESOURCES).success
    else:
        assert dg.materialize([built], instance=instance, resources=RESOURCES).success


def ending(mocker: MockerFixture, name: str) -> Any:
    """The wait of a built step, which notes what it is given and ends well."""
    snapshot = RunSnapshot(ref=REF, state="completed", outcome=Outcome.SUCCEEDED)
    return mocker.patch(f"runops.dagster.builders.plan.{name}", return_value=RunResult(snapshot, Verdict.SUCCEED))


BUILDERS: list[Callable[..., Any]] = [asset, multi_asset, op]


@pytest.mark.parametrize(
    ("build", "given", "wanted"),
    [
        *((build, {"call": CALL}, {"call": CALL}) for build in BUILDERS),
        *((build, {"run_id": RUN, "parents": PARENTS}, {"ref": REF}) for build in BUILDERS),
        (asset, {"call": CALLS["onepin"]}, {"call": CALL}),
        (asset, {"call": lambda context: CALLS["onepin"]}, {"call": CALL}),
        (asset, {"run_id": lambda context: RUN, "parents": PARENTS}, {"ref": REF}),
        (asset, {"run_id": lambda context: REF}, {"ref": REF}),
    ],
)
def test_a_step_waits_for_what_it_is_given_with_every_setting(
    mocker: MockerFixture,
    instance: dg.DagsterInstance,
    build: Callable[..., Any],
    given: Mapping[str, Any],
    wanted: Mapping[str, Any],
) -> None:
    wait = ending(mocker, "end_of_run")
    executed(build(**given, **ONE), instance)
    ((_, resource), passed_on) = wait.call_args
    assert resource.declaration is find("onepin")
    assert passed_on == {**wanted, **ONE}


@pytest.mark.parametrize(("before", "shown"), [("d1", {"runops/taken_up_from": "d1"}), (None, {})])
def test_an_asset_shows_the_dagster_run_from_which_its_run_was_taken_up(
    mocker: MockerFixture, instance: dg.DagsterInstance, before: str | None, shown: dict[str, str]
) -> None:
    wait = ending(mocker, "end_of_run")
    wait.return_value = RunResult(wait.return_value.snapshot, Verdict.SUCCEED, taken_up_from=before)
    ended = dg.materialize([asset(call=CALL)], instance=instance, resources=RESOURCES)
    (event,) = ended.get_asset_materialization_events()
    metadata = event.materialization.metadata
    assert {name: each.value for name, each in metadata.items() if name == "runops/taken_up_from"} == shown


@pytest.mark.parametrize("build", BUILDERS)
def test_a_step_of_which_little_is_said_has_the_settings_of_the_wait(
    mocker: MockerFixture, instance: dg.DagsterInstance, build: Callable[..., Any]
) -> None:
    wait = ending(mocker, "end_of_run")
    executed(build(call=CALL), instance)
    assert wait.call_args.kwargs == {"call": CALL}


@pytest.mark.parametrize(
    ("build", "given", "wanted"),
    [
        *((build, {"calls": [CALL, CALLS["onepin"]]}, {"calls": [CALL, CALLS["onepin"]]}) for build in BUILDERS),
        *((build, {"run_ids": [RUN], "parents": PARENTS}, {"refs": [REF]}) for build in BUILDERS),
        (asset, {"calls": lambda context: [CALL]}, {"calls": [CALL]}),
        (asset, {"run_ids": lambda context: [RUN], "parents": PARENTS}, {"refs": [REF]}),
        (asset, {"run_ids": lambda context: [REF]}, {"refs": [REF]}),
    ],
)
def test_a_step_waits_for_all_that_it_is_given_with_every_setting(
    mocker: MockerFixture,
    instance: dg.DagsterInstance,
    build: Callable[..., Any],
    given: Mapping[str, Any],
    wanted: Mapping[str, Any],
) -> None:
    wait = mocker.patch("runops.dagster.builders.plan.end_of_runs")
    shown = mocker.patch("runops.dagster.builders.plan.shown_of_many")
    shown.return_value.verdict = Verdict.SKIP
    shown.return_value.check.side_effect = lambda key: dg.AssetCheckResult(
        passed=False, asset_key=key, check_name="runops_outcome"
    )
    shown.return_value.not_made.side_effect = shown.return_value.check.side_effect
    settings = {name: value for name, value in MANY.items() if name != "on_phase"}
    executed(build(**given, **settings), instance)
    ((_, resource), passed_on) = wait.call_args
    assert resource.declaration is find("onepin")
    assert {name: list(each) if name in wanted else each for name, each in passed_on.items()} == {**wanted, **settings}
    shown.assert_called_once_with(wait.return_value)


def test_a_check_judges_the_run_that_it_is_given_with_every_setting(
    mocker: MockerFixture, instance: dg.DagsterInstance
) -> None:
    wait = ending(mocker, "end_of_run")
    check = build_run_check(asset="out/audit", resource_key="onepin", run_id=RUN, parents=PARENTS, **JUDGED)

    @dg.asset(key=["out", "audit"])
    def audit() -> None: ...

    assert dg.materialize([audit, check], instance=instance, resources=RESOURCES).success
    assert wait.call_args.kwargs == {"ref": REF, **JUDGED}


@pytest.mark.parametrize("given", [CALL, CALLS["onepin"], lambda context: CALL])
def test_a_job_submits_what_it_is_given_with_every_setting(
    mocker: MockerFixture, instance: dg.DagsterInstance, given: Any
) -> None:
    submit = mocker.patch("runops.dagster.builders.deferred.submit_run", return_value=REF)
    job = build_submit_job(name="start", resource_key="onepin", call=given, **SUBMITTED)
    ended = job.execute_in_process(instance=instance, resources=RESOURCES)
    ((_, resource, call), passed_on) = submit.call_args
    assert (resource.declaration, call) == (find("onepin"), CALL)
    assert callable(passed_on.pop("keep"))
    assert passed_on == SUBMITTED
    assert ended.output_for_node("start_submit") == REF.model_dump(mode="json")


# --- what goes to Dagster ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", BUILDERS)
@pytest.mark.parametrize("given", [True, False])
def test_what_a_step_is_for_dagster_is_handed_on(build: Callable[..., Any], given: bool) -> None:
    built = build(run_id=RUN, parents=PARENTS, **(STEP if given else {}))
    node: Any = built.op if isinstance(built, dg.AssetsDefinition) else built.graph.node_defs[0]
    text = "Waits through the resource `onepin` for an external run that something else starts."
    keys = {"onepin", "further"} if given else {"onepin"}
    assert set(node.required_resource_keys) == keys
    assert (node.retry_policy, node.pool) == ((POLICY, "narrow") if given else (None, None))
    shown = built.get_asset_spec(dg.AssetKey(["out", "audit"])).description if build is asset else node.description
    assert shown == ("What it is." if given else text)
    assert node.name == ("out__audit" if build is asset else "audit")


def test_what_a_check_is_for_dagster_is_handed_on() -> None:
    audit = dg.AssetKey(["out", "audit"])
    given: dict[str, Any] = {"asset": "out/audit", "resource_key": "onepin", "run_id": RUN, "parents": PARENTS}
    plain: Any = build_run_check(**given)
    (spec,) = plain.check_specs
    assert (spec.name, spec.asset_key, spec.blocking) == ("runops_outcome", audit, False)
    assert spec.description == f"How the external run {RUN} ended."
    assert (set(plain.node_def.required_resource_keys), plain.node_def.pool) == ({"onepin"}, None)
    whole: Any = build_run_check(**given, name="gate", blocking=True, metadata={"a": "b"}, **STEP)
    (spec,) = whole.check_specs
    assert (spec.name, spec.blocking, spec.description, spec.metadata) == ("gate", True, "What it is.", {"a": "b"})
    assert set(whole.node_def.required_resource_keys) == {"onepin", "further"}
    assert (whole.node_def.pool, whole.node_def.retry_policy) == ("narrow", POLICY)


@pytest.mark.parametrize(
    ("parent", "text"),
    [("nightly", "nightly"), ({"workflow_id": WORKFLOW}, f"workflow_id {WORKFLOW}")],
)
def test_a_check_says_whose_newest_run_it_judges(parent: Any, text: str) -> None:
    (spec,) = build_run_check(asset="a", resource_key="onepin", parent=parent).check_specs
    assert spec.description == f"How the newest external run of {text} ended."
    (spec,) = build_run_check(asset="a", resource_key="onepin", run_id=lambda context: RUN).check_specs
    assert spec.description == "How the external run ended."


def test_what_a_job_is_for_dagster_is_handed_on() -> None:
    plain = build_submit_job(name="start", resource_key="onepin", call=CALL)
    node: Any = plain.graph.node_defs[0]
    assert (plain.name, node.name, set(node.required_resource_keys)) == ("start", "start_submit", {"onepin"})
    assert (node.retry_policy, node.pool, plain.tags) == (None, None, {})
    assert (plain.description or "").startswith("Submits an external run through the resource `onepin` and ends.")
    whole = build_submit_job(
        name="start", resource_key="onepin", call=CALL, tags={"a": "b"}, metadata={"c": "d"}, **STEP
    )
    node = whole.graph.node_defs[0]
    assert set(node.required_resource_keys) == {"onepin", "further"}
    assert (node.retry_policy, node.pool) == (POLICY, "narrow")
    assert (whole.description, whole.tags, whole.metadata["c"].value) == ("What it is.", {"a": "b"}, "d")


# --- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", BUILDERS)
@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, "give either call= (to submit a run), calls= (to submit many), run_id= (to wait for one) or run_ids= "),
        ({"call": CALL, "run_id": RUN}, "give either call= "),
        ({"call": CALL, "parents": PARENTS}, "parents belongs to run_id= and run_ids=; a call names its own."),
        ({"run_id": RUN, "parents": {"workflow_id": ""}}, "workflow_id "),
        ({"call": CALL, "max_active": 3}, "max_active belongs to calls= and run_ids=, which are about many runs."),
        ({"run_ids": [RUN], "on_phase": {"paused": print}}, "on_phase belongs to one run"),
        ({"call": 7}, "call must be a mapping or a function of the context, not int."),
        ({"calls": [CALL, 7]}, "calls[1] must be a mapping, not int."),
        ({"calls": CALL}, "calls must be "),
        ({"run_ids": [RUN, ""]}, "run_ids[1] "),
        ({"run_ids": RUN}, "run_ids must be "),
        ({"run_id": ""}, "run_id "),
        ({"call": CALL, "resource_key": "not a key"}, "resource_key must name a resource of the definitions"),
        ({"call": CALL, "timeout": -1}, "timeout "),
    ],
)
def test_a_wrong_source_is_refused_with_the_builder_and_the_argument(
    build: Callable[..., Any], given: Mapping[str, Any], text: str
) -> None:
    names = {asset: "build_run_asset('out/audit')", multi_asset: "build_run_multi_asset('audit')"}
    with pytest.raises(ConfigurationError) as raised:
        build(**given) if "resource_key" not in given else build_run_op(name="audit", **given)
    builder = "build_run_op('audit')" if "resource_key" in given else names.get(build, "build_run_op('audit')")
    assert str(raised.value).startswith(f"{builder}: {text}")


def test_what_a_function_gives_for_a_call_is_made_a_submission_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = RESOURCES["onepin"]
    assert isinstance(resource, OnepinResource)
    assert call_of(resource, CALL) is CALL
    monkeypatch.setenv("ACME_SCRIPT", "Good morning")
    given = {"workflow_id": WORKFLOW, "script_text": dg.EnvVar("ACME_SCRIPT")}
    assert call_of(resource, given).json == {"script_text": "Good morning"}
    with pytest.raises(ConfigurationError, match=r"^call must give a mapping of arguments, not int\. "):
        call_of(resource, 7)
    with pytest.raises(ConfigurationError, match=r"^calls\[3\] must give a mapping of arguments, not str\. "):
        call_of(resource, "x", "calls[3]")
    monkeypatch.delenv("ACME_SCRIPT")
    with pytest.raises(ConfigurationError, match="The environment variable ACME_SCRIPT, named in call, is not set"):
        call_of(resource, given)
