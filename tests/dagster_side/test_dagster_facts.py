"""What Dagster does that nobody expects, one test for each: where another file proves it, the test's name says how."""

from __future__ import annotations

import ast
import inspect
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pytest_mock import MockerFixture

import runops.core.model.errors
import runops.dagster
from runops.core import RunopsError
from runops.dagster import (
    build_completion_sensor,
    build_run_asset,
    build_run_check,
    build_run_multi_asset,
    build_run_op,
    build_run_sensor,
    build_submit_job,
    wait_for_run,
)
from runops.dagster.step.interrupts import HeldInterrupts
from runops.dagster.tick.cursor import Cursor
from runops.dagster.tick.reader import default_tick_seconds

SOURCES = Path(runops.dagster.__file__).parent
CALL = {"workflow_id": "wf_1"}


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def test_an_async_step_cannot_cancel_so_that_no_step_is_async() -> None:
    asset = build_run_asset(key="a", resource_key="b3os", call=CALL)
    tables = build_run_multi_asset(name="t", specs=[dg.AssetSpec("t")], resource_key="b3os", call=CALL)
    check = build_run_check(asset="a", resource_key="b3os", parent="wf_1")
    op = build_run_op(name="o", resource_key="b3os", call=CALL)
    computes: list[Any] = [asset.op.compute_fn, tables.op.compute_fn, check.op.compute_fn, op.compute_fn]
    for function in [wait_for_run, *(compute.decorated_fn for compute in computes)]:
        assert not inspect.iscoroutinefunction(function)
        assert not inspect.isasyncgenfunction(function)


@pytest.mark.parametrize(("method", "nth"), [("POST", 1), ("GET", 2), ("GET", 3)])
def test_a_retry_policy_runs_a_terminated_step_again_and_it_submits_nothing(
    service: Callable[[str], Any], terminated: Callable[..., None], method: str, nth: int
) -> None:
    runs = service("b3os")
    runs.emulator.set_defaults("b3os", script="forever")
    terminated(method, nth)
    asset = build_run_asset(key="a", resource_key="b3os", call=CALL, retry_policy=dg.RetryPolicy(max_retries=3))
    ended = runs.materialize(asset)
    run = runs.instance.get_run_by_id(ended.result.run_id)
    assert run.status is dg.DagsterRunStatus.CANCELED
    assert (runs.submits, runs.cancels) == (1, 1)


def test_an_error_of_dagster_s_own_tree_bypasses_a_retry_policy_so_that_none_of_ours_is_one() -> None:
    ours = [value for value in vars(runops.core.model.errors).values() if isinstance(value, type)]
    errors = [kind for kind in ours if issubclass(kind, RunopsError)]
    assert len(errors) > 10
    assert [kind for kind in errors if issubclass(kind, dg.DagsterError)] == []


def test_an_interrupt_at_a_yield_passes_by_a_cancel_so_that_the_run_is_over_before_the_first(
    service: Callable[[str], Any],
) -> None:
    runs = service("b3os")
    ref = runs.made(script="succeeded", seconds=600)
    assert not inspect.isgeneratorfunction(wait_for_run)
    context = dg.build_asset_context(resources={"b3os": runs.resource}, instance=runs.instance)
    generator: Any = build_run_asset(key="a", resource_key="b3os", run_id=ref.run_id)(context)
    first = next(iter(generator))
    assert isinstance(first, dg.MaterializeResult)
    assert runs.emulator.runs(provider="b3os", run_id=ref.run_id)[0]["over"]


def private_calls(module: Path) -> list[str]:
    """What a module uses of an instance that Dagster does not publish."""
    found: list[str] = []
    for node in ast.walk(ast.parse(module.read_text())):
        match node:
            case ast.Attribute(value=ast.Attribute(attr="instance" | "_instance") | ast.Name(id="instance"), attr=name):
                method = getattr(dg.DagsterInstance, name)
                if not getattr(getattr(method, "fget", method), "_is_public", False):
                    found.append(name)
            case _:
                pass
    return found


def test_only_one_module_uses_what_dagster_does_not_publish() -> None:
    private = {
        path.relative_to(SOURCES).as_posix(): sorted(
            [name for name in imports_of(path) if name.startswith("dagster.")] + private_calls(path)
        )
        for path in SOURCES.rglob("*.py")
    }
    assert len(private) > 20
    assert [name for name, found in private.items() if found] == ["_compat.py"]
    assert {"dagster._core.events", "add_run_tags"} <= set(private["_compat.py"])
    assert "dagster._core.pipes.reattach" not in private["_compat.py"]


def test_everything_that_is_not_published_is_used_for_a_reason() -> None:
    tree = ast.parse((SOURCES / "_compat.py").read_text())
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name[0] != "_"]
    reasons = ast.get_docstring(tree) or ""
    assert [name for name in functions if f"``{name}``" not in reasons] == []


def test_a_run_status_that_is_not_known_yet_keeps_nothing_from_running(
    service: Callable[[str], Any], mocker: MockerFixture
) -> None:
    if not hasattr(dg.DagsterRunStatus, "SUSPENDED"):
        pytest.skip("this Dagster has no such status")
    runs = service("b3os")
    look = dg.DagsterInstance.get_run_by_id

    def suspended(self: dg.DagsterInstance, run_id: str) -> Any:
        run = look(self, run_id)
        ours = sys._getframe(1).f_globals["__name__"].startswith("runops.dagster.step.")
        return run.with_status(dg.DagsterRunStatus.SUSPENDED) if ours and run else run

    mocker.patch.object(dg.DagsterInstance, "get_run_by_id", suspended)
    assert runs.materialize(build_run_asset(key="a", resource_key="b3os", call=CALL)).success


@pytest.mark.parametrize(("limit", "seconds"), [(None, 36), ("5", 3), ("120", 72), ("never", 36)])
def test_a_tick_that_is_cut_off_goes_on_in_the_background_so_that_ours_end_before(
    monkeypatch: pytest.MonkeyPatch, limit: str | None, seconds: float
) -> None:
    monkeypatch.delenv("DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS", raising=False)
    if limit is not None:
        monkeypatch.setenv("DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS", limit)
    assert default_tick_seconds() == seconds


@pytest.mark.filterwarnings("ignore::dagster.BetaWarning")
@pytest.mark.parametrize(("script", "requested"), [("succeeded", {"downstream"}), ("failed", set())])
def test_only_a_materialization_moves_what_is_downstream(
    service: Callable[[str], Any], clock: Any, script: str, requested: set[str]
) -> None:
    runs = service("nyx")

    @dg.asset(deps=["audit"], automation_condition=dg.AutomationCondition.eager())
    def downstream() -> None: ...

    sensor = build_run_sensor(name="runs", resource_key="nyx", targets={"audit": "nightly"})
    definitions = dg.Definitions(assets=[dg.AssetSpec("audit"), downstream])
    with dg.DagsterInstance.ephemeral() as instance:
        first = dg.evaluate_automation_conditions(definitions, instance)
        runs.made(script=script, seconds=1, parents={"config_name": "nightly"})
        clock.now += 60
        data = sensor.evaluate_tick(dg.build_sensor_context(instance, resources={"nyx": runs.resource}))
        for event in data.asset_events:
            instance.report_runless_asset_event(event)
        then = dg.evaluate_automation_conditions(definitions, instance, cursor=first.cursor)
        keys = [result.key.to_user_string() for result in then.results if then.get_num_requested(result.key)]
    assert set(keys) == requested


def test_a_skipped_partition_of_a_backfill_counts_as_failed_which_the_log_says(service: Callable[[str], Any]) -> None:
    runs = service("nexio")
    call = {"engine_slug": "e", "input": {"emulator": {"script": "degraded"}}}
    partitions = dg.StaticPartitionsDefinition(["north"])
    skipped = build_run_asset(key="a", resource_key="nexio", call=call, partitions_def=partitions)
    warned = build_run_asset(
        key="b", resource_key="nexio", call=call, partitions_def=partitions, on_outcome={"degraded": "warn"}
    )
    tags = {"dagster/backfill": "abcdefgh"}
    assert "map the outcome to warn" in runs.materialize(skipped, partition_key="north", tags=tags).log
    ended = runs.materialize(warned, partition_key="north", tags=tags)
    assert ended.materialized == ["b"]
    assert "map the outcome to warn" not in ended.log


def test_an_empty_cursor_is_ignored_so_that_ours_never_is() -> None:
    assert Cursor().dump() != ""
    assert Cursor.parse(Cursor().dump()) == Cursor()


def test_a_library_that_sets_a_signal_handler_keeps_it() -> None:
    seen: list[int] = []

    def theirs(number: int, frame: Any) -> None:
        seen.append(number)

    before = signal.signal(signal.SIGINT, theirs)
    try:
        held = HeldInterrupts()
        held.may_break = False
        with held:
            signal.raise_signal(signal.SIGINT)
        assert seen == [signal.SIGINT]
        assert signal.getsignal(signal.SIGINT) is theirs
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_sensor_s_resource_needs_no_async_and_no_context(service: Callable[[str], Any]) -> None:
    resource = type(service("nyx").resource)
    assert not inspect.iscoroutinefunction(resource.yield_for_execution)
    assert not inspect.isasyncgenfunction(resource.yield_for_execution)


def test_a_broken_entry_point_breaks_every_command_so_that_the_component_s_module_needs_nothing_else() -> None:
    program = (
        "import sys\n"
        "for name in ('airflow', 'starlette', 'uvicorn', 'dagster_webserver', 'dagster_dg_cli'):\n"
        "    sys.modules[name] = None\n"
        "import runops.dagster.component\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.endswith(("_API_KEY", "_TOKEN"))}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, timeout=60)


def test_a_job_and_an_asset_of_one_name_collide_so_that_the_names_of_ours_differ() -> None:
    job = build_submit_job(name="start_report", resource_key="b3os", call=CALL)
    sensor = build_completion_sensor(name="report_ends", job=job, asset="report", resource_key="b3os")
    resource = dg.ResourceDefinition.none_resource()
    definitions = dg.Definitions(
        assets=[dg.AssetSpec("report")], jobs=[job], sensors=[sensor], resources={"b3os": resource}
    )
    dg.Definitions.validate_loadable(definitions)


def test_no_module_of_ours_takes_the_name_of_one_that_dagster_s_web_server_imports() -> None:
    root = Path(__file__).resolve().parents[2]
    folders = ("src", "tests", "demo", "example_dags", "examples")
    named = {path.stem for folder in folders for path in (root / folder).glob("**/*.py")}
    assert "test_dagster_facts" in named
    assert "gql" not in named


def test_the_web_server_lags_behind_so_that_no_extra_brings_it() -> None:
    text = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text()
    extras = tomllib.loads(text)["project"]["optional-dependencies"]
    assert [
        name for name, needs in extras.items() if any("webserver" in need or "dg-cli" in need for need in needs)
    ] == []


def test_importing_every_name_loads_no_heavy_module_beside_dagster_s_own() -> None:
    program = (
        "import sys, dagster\n"
        "before = set(sys.modules)\n"
        "from runops.dagster import *\n"
        "print('\\n'.join(sorted({name.split('.')[0] for name in set(sys.modules) - before})))\n"
    )
    answer = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=120)
    # A code location is loaded often, by processes that talk to nobody: not even the HTTP library is needed there.
    heavy = {
        "httpx",
        "rich",
        "airflow",
        "asyncio",
        "anyio",
        "grpc",
        "httpcore",
        "httptools",
        "starlette",
        "uvicorn",
        "jinja2",
        "sqlalchemy",
    }
    loaded = set(answer.stdout.split())
    assert "runops" in loaded
    assert loaded & heavy == set()


# --- where each fact and trap is proved ----------------------------------------------------------------------------

PROVED = {
    "an async step cannot cancel": "test_an_async_step_cannot_cancel_so_that_no_step_is_async",
    "a sync step can, at once": "test_the_cancel_follows_terminate_within_a_second_or_the_pending_answer",
    "a retry policy retries on Terminate": "test_a_retry_policy_runs_a_terminated_step_again_and_it_submits_nothing",
    "a DagsterError bypasses retry policies": (
        "test_an_error_of_dagster_s_own_tree_bypasses_a_retry_policy_so_that_none_of_ours_is_one"
    ),
    "an interrupt at a yield skips except blocks": (
        "test_an_interrupt_at_a_yield_passes_by_a_cancel_so_that_the_run_is_over_before_the_first"
    ),
    "a handle in an engine event survives a crash": "test_a_run_whose_submit_was_recorded_is_taken_up_again",
    "no tag tells every re-execution, but its parent run does": (
        "test_a_run_whose_end_nobody_was_told_of_is_taken_up_by_every_re_execution"
    ),
    "SUSPENDED is on its way": "test_a_run_status_that_is_not_known_yet_keeps_nothing_from_running",
    "events of a sensor come at least once": "test_a_daemon_that_dies_between_events_and_cursor_reports_nothing_twice",
    "a tick that timed out goes on": ("test_a_tick_that_is_cut_off_goes_on_in_the_background_so_that_ours_end_before"),
    "only materializations move what is downstream": "test_only_a_materialization_moves_what_is_downstream",
    "return None materializes": "test_skip_leaves_the_asset_and_skips_what_is_downstream_in_a_green_run",
    "what a multi-asset does not yield is materialized": (
        "test_what_was_not_made_is_not_taken_for_made_and_what_is_downstream_of_it_is_skipped"
    ),
    "a backfill counts skipped partitions as failed": (
        "test_a_skipped_partition_of_a_backfill_counts_as_failed_which_the_log_says"
    ),
    "a literal key is in the snapshot": "test_a_key_is_neither_in_repr_nor_in_the_snapshot_nor_in_the_log",
    "a declared check must be emitted": "test_assets_end_as_their_runs_do",
    "a mask of signals does not hold them": "test_an_interrupt_is_held_through_what_it_could_lose",
    "a cancel in a finally kills healthy runs": "test_a_storm_of_a_quarter_of_an_hour_neither_cancels_nor_resubmits",
    "libraries set signal handlers": "test_a_library_that_sets_a_signal_handler_keeps_it",
    "an async resource breaks sensors": "test_a_sensor_s_resource_needs_no_async_and_no_context",
    "a tick of events alone looks empty": "test_a_tick_with_only_events_does_not_look_empty",
    "an empty cursor is ignored": "test_an_empty_cursor_is_ignored_so_that_ours_never_is",
    "names of jobs and assets collide": "test_a_job_and_an_asset_of_one_name_collide_so_that_the_names_of_ours_differ",
    "equal resource keys do not merge": "test_components_of_one_service_stand_side_by_side",
    "a check of YAML takes wrong words": (
        "test_what_is_wrong_in_a_file_is_told_with_its_line_its_field_and_what_to_write"
    ),
    "a broken entry point breaks every command": (
        "test_a_broken_entry_point_breaks_every_command_so_that_the_component_s_module_needs_nothing_else"
    ),
    "the state of a component grows old": "test_a_component_keeps_no_state_that_could_grow_old_or_hold_a_key",
    "a run that is out of run time is marked as failed before its step hears of it": (
        "test_a_run_that_dagster_ends_for_its_run_time_is_cancelled_outside_and_submits_nothing_more"
    ),
    "a step outlives a worker that was killed": (
        "test_a_step_that_has_outlived_its_worker_submits_nothing_when_it_goes_on"
    ),
    "a module named gql kills the web server": (
        "test_no_module_of_ours_takes_the_name_of_one_that_dagster_s_web_server_imports"
    ),
    "the web server lags behind": "test_the_web_server_lags_behind_so_that_no_extra_brings_it",
}


def test_a_component_keeps_no_state_that_could_grow_old_or_hold_a_key() -> None:
    from runops.dagster import RunopsComponent

    assert not issubclass(RunopsComponent, dg.StateBackedComponent)


def test_each_fact_and_trap_has_a_test() -> None:
    tests = Path(__file__).resolve().parents[1]
    files = [*tests.glob("dagster_side/test_*.py"), *tests.glob("dagster_host/test_*.py")]
    written = {
        node.name
        for path in files
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    assert {fact: test for fact, test in PROVED.items() if test not in written} == {}
