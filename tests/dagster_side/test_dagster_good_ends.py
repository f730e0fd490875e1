"""What a good end is, in Dagster: every case of the table in a step and in a sensor, and what is refused early."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg
import pytest
from dagster.components.testing import create_defs_folder_sandbox

from runops.core import ConfigurationError
from runops.dagster import (
    NexioResource,
    RunopsComponent,
    build_completion_sensor,
    build_run_asset,
    build_run_check,
    build_run_multi_asset,
    build_run_op,
    build_run_sensor,
    build_submit_job,
)
from tests.good_ends import CASES, SECONDS, SERVICES, WRONG, Case
from tests.services import CALLS

ONE_PROVIDER = [case for case in CASES if case.provider == "nyx"]


def found(case: Case, metadata: Any) -> None:
    """The metadata of an end tell what the case says."""
    told = {name.removeprefix("runops/"): each.value for name, each in metadata.items()}
    assert (told["outcome"], told["verdict"], told.get("ended_by")) == (case.outcome, case.verdict, case.ended_by)
    unmet: Any = told.get("unmet") or {}
    assert {name: each["found"] for name, each in unmet.items()} == (case.unmet or {})
    for name in case.unmet or {}:
        assert "Not met" in told["overview"]
        assert name.replace("_", "\\_") in told["overview"]


def check(case: Case, wait: Callable[[], Any]) -> None:
    """A wait in a step ends as the case says."""
    if case.verdict == "fail":
        with pytest.raises(dg.Failure) as failed:
            wait()
        found(case, failed.value.metadata)
        assert failed.value.allow_retries is (case.outcome == "timed_out")
        for name in case.unmet or {}:
            assert name in str(failed.value.description)
        return
    ended = wait()
    assert (str(ended.snapshot.outcome), str(ended.verdict)) == (case.outcome, case.verdict)
    assert {name: each["found"] for name, each in ended.unmet.items()} == (case.unmet or {})


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_step_that_is_given_a_run_ends_as_the_case_says_and_never_cancels(
    case: Case, service: Any, clock: Any
) -> None:
    runs = service(case.provider)
    ref = runs.made(**case.run())
    check(case, lambda: runs.wait(ref=ref, **case.said()))
    assert runs.cancels == 0


@pytest.mark.parametrize("case", [case for case in CASES if case.provider != "nekt"], ids=str)
def test_a_step_that_submits_ends_as_the_case_says_and_cancels_what_ran_into_a_limit(
    case: Case, service: Any, clock: Any
) -> None:
    runs = service(case.provider)
    runs.emulator.set_defaults(provider=case.provider, script=case.run()["script"])
    call = runs.resource.call(**CALLS[case.provider])
    check(case, lambda: runs.wait(call=call, **case.said()))
    assert runs.cancels == (case.ended_by is not None and case.provider != "nexio")
    assert runs.submits == 1


@pytest.mark.parametrize("case", ONE_PROVIDER, ids=str)
def test_each_builder_ends_as_the_case_says(case: Case, service: Any, clock: Any) -> None:
    runs = service(case.provider)
    ref, said = runs.made(**case.run()), case.said()
    given: Any = {"resource_key": "nyx", "run_id": ref.run_id, **said}
    ended = runs.materialize(build_run_asset(key="one", **given))
    assert ended.checks_of.get("one", (False, None))[0] is (case.verdict == "succeed")
    assert ended.materialized == (["one"] if case.verdict in ("succeed", "warn") else [])
    assert ended.success is (case.verdict != "fail")
    several = runs.materialize(build_run_multi_asset(name="m", specs=[dg.AssetSpec("two")], **given))
    assert several.materialized == (["two"] if case.verdict in ("succeed", "warn") else [])
    op = build_run_op(name="wait", **given)

    @dg.job(resource_defs={"nyx": runs.resource})
    def waits() -> None:
        op()

    result = waits.execute_in_process(instance=runs.instance, raise_on_error=False)
    assert result.success is (case.verdict != "fail")
    if case.verdict in ("succeed", "warn"):
        output = result.output_for_node("wait")
        assert {name: each["found"] for name, each in (output["unmet"] or {}).items()} == (case.unmet or {})
    judged = build_run_check(asset="three", **given)
    checked = dg.materialize(
        [_three, judged],
        instance=runs.instance,
        resources={"nyx": runs.resource},
        raise_on_error=False,
    )
    (evaluation,) = checked.get_asset_check_evaluations()
    assert evaluation.passed is (case.verdict == "succeed")
    found(case, evaluation.metadata)


@dg.asset(name="three")
def _three() -> None: ...


# --- sensors ---------------------------------------------------------------------------------------------------


@pytest.fixture
def own_instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def ticks(sensor: dg.SensorDefinition, runs: Any, instance: dg.DagsterInstance, clock: Any) -> list[Any]:
    """What a sensor reports in the time that any case takes."""
    cursor, reported = None, []
    for _ in range(7):
        context = dg.build_sensor_context(
            instance=instance, cursor=cursor, resources={runs.provider.name: runs.resource}
        )
        data = sensor.evaluate_tick(context)
        for event in data.asset_events:
            instance.report_runless_asset_event(event)
        reported += data.asset_events
        cursor = data.cursor or cursor
        clock.now += SECONDS / 4
    return reported


def tick_said(case: Case) -> dict[str, Any]:
    return {name: value for name, value in case.said().items() if name != "max_paused"}


@pytest.mark.parametrize("case", [case for case in CASES if case.name != "taught_phase"], ids=str)
def test_a_sensor_reports_once_what_the_case_says_and_never_cancels(
    case: Case, service: Any, clock: Any, own_instance: Any
) -> None:
    runs = service(case.provider)
    ref = runs.made(**case.run())
    sensor = build_run_sensor(name="s", resource_key=case.provider, targets={"a": ref}, **tick_said(case))
    event, judged = ticks(sensor, runs, own_instance, clock)
    assert isinstance(event, dg.AssetMaterialization) is (case.verdict in ("succeed", "warn"))
    found(case, event.metadata)
    assert judged.passed is (case.verdict == "succeed")
    assert runs.cancels == 0


@pytest.mark.parametrize("case", [case for case in CASES if case.provider == "b3os"], ids=str)
def test_a_completion_sensor_reports_what_the_case_says_and_cancels_what_ran_into_a_limit(
    case: Case, service: Any, clock: Any, own_instance: Any
) -> None:
    if case.name == "taught_phase":
        case = next(each for each in CASES if str(each) == "b3os-stalled")
    runs = service(case.provider)
    runs.emulator.set_defaults(provider=case.provider, script=case.run()["script"])
    job = build_submit_job(name="start", resource_key="b3os", call=CALLS["b3os"])
    job.execute_in_process(instance=own_instance, resources={"b3os": runs.resource})
    sensor = build_completion_sensor(name="ends", job=job, asset="a", resource_key="b3os", **tick_said(case))
    event, judged = ticks(sensor, runs, own_instance, clock)
    found(case, event.metadata)
    assert judged.passed is (case.verdict == "succeed")
    assert runs.cancels == (case.ended_by is not None)


def test_runs_on_a_list_are_judged_by_their_own_answer_where_a_limit_or_detail_asks_for_it(
    service: Any, clock: Any, own_instance: Any
) -> None:
    runs = service("onepin")
    parents = {"workflow_id": "7c9e6679-7425-40de-944b-e07fc1f90ae7"}
    sensor = build_run_sensor(
        name="s", resource_key="onepin", targets={"a": parents}, max_spend=300, expect={"token_cost": "> 0"}
    )
    runs.made(script="forever", seconds=20, parents=parents)
    event, _ = ticks(sensor, runs, own_instance, clock)
    assert event.metadata["runops/ended_by"].value == "max_spend"


# --- refused ---------------------------------------------------------------------------------------------------

NEEDS_PROVIDER = ("states['completed']", "states['completed+success']", "states['Running']", "max_spend=5")
"""What cannot be seen before a step has its resource, unless the call names the provider."""


@pytest.mark.usefixtures("shipped_alone")
@pytest.mark.parametrize(("provider", "said", "texts"), WRONG)
def test_definitions_with_what_is_wrong_are_refused(
    provider: str, said: dict[str, Any], texts: tuple[str, ...], service: Any
) -> None:
    runs = service(provider)
    builds: list[Callable[[], Any]] = []
    if provider != "nekt":
        call = runs.resource.call(**CALLS[provider])
        builds.append(lambda: build_run_asset(key="a", resource_key=provider, call=call, **said))
    if texts[0] not in NEEDS_PROVIDER and "pause_reason" not in texts[0] and "'none'" not in texts[0]:
        builds.append(lambda: build_run_check(asset="a", resource_key=provider, run_id="r", **said))
        builds.append(lambda: build_run_sensor(name="s", resource_key=provider, targets={"a": "p"}, **said))
    builds.append(lambda: runs.wait(ref=runs.made(), **said))
    for build in builds:
        with pytest.raises(ConfigurationError) as refused:
            build()
        for text in texts:
            assert text in str(refused.value)
    assert runs.emulator.requests(provider=provider) == []


# Dagster's own code warns while it reads a file.
@pytest.mark.filterwarnings(
    "ignore::dagster.BetaWarning",
    "ignore::dagster.PreviewWarning",
    "ignore::pydantic.warnings.PydanticDeprecatedSince20",
)
@pytest.mark.parametrize(("provider", "said", "texts"), WRONG)
def test_a_file_with_what_is_wrong_is_refused_by_its_field(
    provider: str, said: dict[str, Any], texts: tuple[str, ...]
) -> None:
    source = {"run_id": "r", **({"parents": {"workflow_id": "w"}} if provider == "onepin" else {})}
    attributes = {"provider": provider, "assets": [{"specs": [{"key": "a"}], **source, **said}]}
    with create_defs_folder_sandbox() as sandbox:
        sandbox.scaffold_component(
            RunopsComponent,
            defs_path="a",
            scaffold_params={"provider": "nyx"},
            defs_yaml_contents={"type": "runops.dagster.component.RunopsComponent", "attributes": attributes},
        )
        (field,) = said
        with pytest.raises(Exception, match="component a") as refused, sandbox.build_all_defs():
            pass
    shown = str(refused.value.__cause__)
    assert f"assets[0].{field}" in shown
    if said not in ({"max_stalled": 0}, {"max_spend": "much"}):
        for text in texts:
            assert text in shown


def test_a_resource_teaches_words_and_a_step_s_own_win(service: Any, clock: Any) -> None:
    runs = service("nexio")
    word, fields = SERVICES["nexio"].word
    script = [{"at": 0, "set": {"status": "queued"}}, {"at": 30, "set": dict(fields)}]
    runs.resource = NexioResource(api_key="k", base_url=runs.base_url, states={word: "succeeded"})
    assert str(runs.wait(ref=runs.made(script=script)).snapshot.outcome) == "succeeded"
    own = {"states": {word: "degraded"}}
    assert str(runs.wait(ref=runs.made(script=script), **own).snapshot.outcome) == "degraded"
    assert str(runs.resource.get(runs.made(script=[{"at": 0, "set": dict(fields)}])).outcome) == "succeeded"


@pytest.mark.parametrize("states", [{"completed": "degraded"}, {"partial": "degradet"}])
def test_a_resource_that_teaches_wrongly_is_refused_as_it_is_made(states: dict[str, str]) -> None:
    with pytest.raises(Exception, match=r"states\["):
        NexioResource(api_key="k", states=states)
