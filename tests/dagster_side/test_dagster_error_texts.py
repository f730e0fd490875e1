"""The texts that docs/errors and docs/why show of Dagster are those of its failures, checks, logs and ticks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster.components.testing import create_defs_folder_sandbox

from runops.core.model.codes import Code
from runops.dagster import build_run_asset, build_run_check, build_run_sensor
from runops.dagster.component import RunopsComponent
from tests.dagster_side.test_dagster_sensors import Daemon
from tests.error_pages import assert_shown

Services = Callable[[str], Any]


def asset(script: str, **options: Any) -> dg.AssetsDefinition:
    call = {"engine_slug": "placement", "input": {"emulator": {"script": script, "seconds": 5}}}
    return build_run_asset(key="place", resource_key="nexio", call=call, **options)


def error_page(code: Code) -> str:
    return f"errors/{code}.md"


def coded(text: str, code: Code) -> str:
    assert text.endswith(f" [{code}]"), text
    return text


def why_not(ended: Any) -> str:
    (event,) = ended.of(dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    return event.asset_check_evaluation_data.description


@pytest.mark.parametrize(
    ("script", "options", "code"),
    [
        ("failed", {}, Code.RUN_FAILED),
        ("forever", {"timeout": 60}, Code.RUN_TIMED_OUT),
        ("succeeded", {"on_outcome": {"succeeded": "fail"}}, Code.RUN_REJECTED),
    ],
    ids=lambda value: str(value),
)
def test_a_step_that_fails(service: Services, clock: Any, script: str, options: dict[str, Any], code: Code) -> None:
    ended = service("nexio").materialize(asset(script, **options))
    text = coded(ended.failure.description, code)
    assert_shown(error_page(code), text)
    assert_shown("why/failed.md", text)


@pytest.mark.parametrize(
    ("script", "options", "code", "page"),
    [
        ("degraded", {}, Code.RUN_SKIPPED, "why/skipped.md"),
        ("failed", {"soft_fail": True}, Code.SOFT_FAILED, "why/skipped.md"),
        ("degraded", {"on_outcome": {"degraded": "warn"}}, Code.RUN_WARNED, None),
    ],
    ids=lambda value: str(value),
)
def test_a_check_that_says_why_an_asset_was_not_made(
    service: Services, clock: Any, script: str, options: dict[str, Any], code: Code, page: str | None
) -> None:
    ended = service("nexio").materialize(asset(script, **options))
    assert ended.success
    text = coded(why_not(ended), code)
    assert text in ended.log, "the log of the step says it too"
    assert_shown(error_page(code), text)
    if page is not None:
        assert_shown(page, text)


def test_a_key_that_is_refused(service: Services) -> None:
    runs = service("nexio")
    runs.emulator.add_fault(kind="status", status=401, provider="nexio", action="submit")
    text = coded(runs.materialize(asset("succeeded")).failure.description, Code.KEY_REFUSED)
    assert_shown(error_page(Code.KEY_REFUSED), text)
    assert_shown("why/failed.md", text)


def test_a_function_of_the_users_that_raises(service: Services) -> None:
    def call(context: dg.AssetExecutionContext) -> dict[str, Any]:
        raise LookupError("no applicant of that number")

    asset_of_call = build_run_asset(key="place", resource_key="nexio", call=call)
    text = coded(service("nexio").materialize(asset_of_call).failure.description, Code.FUNCTION_FAILED)
    assert_shown(error_page(Code.FUNCTION_FAILED), text)


def test_a_parent_without_a_run(service: Services) -> None:
    check = build_run_check(name="newest", asset="audit", resource_key="nyx", parent="playground")
    runs = service("nyx")
    result = dg.materialize(
        [dg.AssetSpec("audit"), check],
        instance=runs.instance,
        resources={"nyx": runs.resource},
        selection=dg.AssetSelection.checks(check),
        raise_on_error=False,
    )
    (evaluation,) = result.get_asset_check_evaluations()
    assert_shown(error_page(Code.NO_RUN_YET), coded(str(evaluation.description), Code.NO_RUN_YET))


def test_a_tick_that_can_read_nothing(service: Services, clock: Any) -> None:
    runs = service("nyx")
    runs.emulator.add_fault(kind="status", status=401, provider="nyx", method="GET", count=None)
    sensor = build_run_sensor(name="seen", resource_key="nyx", targets={"audit": {"config_name": "playground"}})
    with pytest.raises(dg.Failure) as raised:
        Daemon(runs, sensor, runs.instance).evaluate()
    text = coded(str(raised.value.description), Code.TARGETS_UNREADABLE)
    assert "[key-refused]" not in text
    assert_shown(error_page(Code.TARGETS_UNREADABLE), text)


def test_a_step_that_outlives_its_run() -> None:
    from runops.dagster.step.submission import _over

    failure = _over("The Dagster run is over already: no run is submitted.")
    assert_shown(error_page(Code.DAGSTER_RUN_OVER), coded(str(failure.description), Code.DAGSTER_RUN_OVER))


# Dagster's own code warns while it reads a file.
@pytest.mark.filterwarnings("ignore::dagster.BetaWarning", "ignore::dagster.PreviewWarning")
@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")
def test_a_field_of_a_file_that_cannot_be_used() -> None:
    wrong = """type: runops.dagster.component.RunopsComponent
attributes:
  provider: nexio
  assets:
    - specs: [{key: place}]
      call: {engine_slug: placement, input: {applicant: 7}}
      on_outcome: {degradd: warn}
"""
    with create_defs_folder_sandbox() as sandbox:
        path = sandbox.scaffold_component(RunopsComponent, defs_path="audits")
        (Path(path) / "defs.yaml").write_text(wrong, encoding="utf-8")
        with pytest.raises(Exception, match=r"defs\.yaml") as raised, sandbox.build_all_defs():
            pass
    error: BaseException | None = raised.value
    while error is not None and "[bad-defs-file]" not in str(error):
        error = error.__cause__ or error.__context__
    assert error is not None
    line = next(line for line in str(error).splitlines() if line.endswith("[bad-defs-file]"))
    # The folder is the sandbox's.
    assert_shown(error_page(Code.BAD_DEFS_FILE), "defs.yaml" + line.partition("defs.yaml")[2])
