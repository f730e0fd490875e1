"""Every way to execute a Dagster run again: known by its parent run, it never submits beside a run that may live."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._core.definitions.selector import JobSubsetSelector
from dagster._core.execution.backfill import PartitionBackfill
from dagster._core.execution.plan.resume_retry import ReexecutionStrategy
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._daemon.backfill import execute_backfill_iteration
from pytest_mock import MockerFixture

from runops.core import RunClient
from runops.dagster import _compat
from runops.dagster.step.records import TAKEN_UP_FROM, Records

DEFINITIONS = Path(__file__).with_name("reexecuted_definitions.py")
AFTER_THE_WAIT, DOWNSTREAM = "REEXECUTED_FAILS_AFTER", "REEXECUTED_FAILS_DOWNSTREAM"
AT_ONCE = {
    "run_coordinator": {"module": "dagster._core.run_coordinator", "class": "DefaultRunCoordinator"},
    "run_launcher": {
        "module": "dagster._core.launcher.sync_in_memory_run_launcher",
        "class": "SyncInMemoryRunLauncher",
    },
}
"""Runs are executed here when they are asked for."""

# Dagster's own code warns while it plans; and runs that are executed where they are asked for are executed within an
# event loop, which Dagster's own processes do not do.
pytestmark = pytest.mark.filterwarnings(
    "ignore::dagster.BetaWarning",
    "ignore::dagster.PreviewWarning",
    "ignore:Function `AssetSelection.sources`",
    "ignore:coroutine 'BaseEventLoop.shutdown_asyncgens' was never awaited",
)


class Again:
    """One Dagster instance and code location, and the ways to execute a run of it again."""

    def __init__(self, instance: dg.DagsterInstance, workspace: Any, runs: Any) -> None:
        self.instance = instance
        self.runs = runs
        self._workspace = workspace
        self._job = ReconstructableJob.for_file(str(DEFINITIONS), "around")

    def launch(self) -> str:
        """A run that nobody has asked for before; its id."""
        return dg.execute_job(self._job, self.instance, raise_on_error=False).run_id

    def by(self, way: str, parent: str) -> dg.DagsterRun:
        """The re-execution of a run, by the name of the way."""
        run_id = getattr(self, f"_{way}")(parent)
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        assert run.parent_run_id == parent
        return run

    def log(self, run_id: str) -> str:
        return "\n".join(entry.user_message for entry in self.instance.all_logs(run_id))

    # --- Python ---

    def _execute_job(self, options: dg.ReexecutionOptions) -> str:
        return dg.execute_job(self._job, self.instance, reexecution_options=options, raise_on_error=False).run_id

    def _python_from_failure(self, parent: str) -> str:
        return self._execute_job(dg.ReexecutionOptions.from_failure(parent, self.instance))

    def _python_whole(self, parent: str) -> str:
        return self._execute_job(dg.ReexecutionOptions(parent))

    def _python_selection(self, parent: str) -> str:
        return self._execute_job(dg.ReexecutionOptions(parent, ["external"]))

    # --- what the web interface, GraphQL and the daemon call ---

    def _reexecuted(self, parent: str, strategy: ReexecutionStrategy, **tags: str) -> str:
        run = self.instance.get_run_by_id(parent)
        assert run is not None
        context = self._workspace.create_request_context()
        location = context.get_code_location("tests")
        job = location.get_job(JobSubsetSelector("tests", "__repository__", "around", op_selection=None))
        again = self.instance.create_reexecuted_run(
            request_context=context,
            parent_run=run,
            code_location=location,
            remote_job=job,
            strategy=strategy,
            extra_tags=tags,
            use_parent_run_tags=True,
        )
        self.instance.submit_run(again.run_id, context)
        return again.run_id

    def _web_from_failure(self, parent: str) -> str:
        return self._reexecuted(parent, ReexecutionStrategy.FROM_FAILURE)

    def _web_whole(self, parent: str) -> str:
        return self._reexecuted(parent, ReexecutionStrategy.ALL_STEPS)

    def _daemon_from_failure(self, parent: str) -> str:
        return self._reexecuted(parent, ReexecutionStrategy.FROM_FAILURE, **{"dagster/retry_number": "1"})

    def _daemon_whole(self, parent: str) -> str:
        return self._reexecuted(parent, ReexecutionStrategy.ALL_STEPS, **{"dagster/retry_number": "1"})

    # --- backfills ---

    def taken_up_from(self, run_id: str) -> list[dg.MetadataValue[Any]]:
        """The Dagster runs to which the records of another lead back."""
        found = _compat.engine_events(self.instance, run_id, "external")
        return [metadata[TAKEN_UP_FROM] for metadata in found if TAKEN_UP_FROM in metadata]

    def backfill(self, *, repeats: str | None = None) -> str:
        """Backfill one partition of the asset, as a repetition of another backfill where that is named; its id."""
        backfill_id = "again" if repeats else "first"
        tags = {"dagster/parent_backfill_id": repeats, "dagster/root_backfill_id": repeats} if repeats else {}
        self.instance.add_backfill(
            PartitionBackfill.from_asset_partitions(
                backfill_id=backfill_id,
                asset_graph=self._workspace.create_request_context().asset_graph,
                partition_names=["north"],
                asset_selection=[dg.AssetKey("regional")],
                backfill_timestamp=time.time(),
                tags=tags,
                dynamic_partitions_store=self.instance,
                all_partitions=False,
                title=None,
                description=None,
                run_config=None,
            )
        )
        for _ in range(4):
            errors = list(execute_backfill_iteration(self._workspace, logging.getLogger("backfill")))
            assert [error for error in errors if error] == []
        return backfill_id


FROM_FAILURE = ["python_from_failure", "python_selection", "web_from_failure", "daemon_from_failure"]
WHOLE = ["python_whole", "web_whole", "daemon_whole"]


@pytest.fixture
def again(
    service: Callable[[str], Any], on_disk: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Again]:
    runs = service("b3os")
    monkeypatch.setenv("REEXECUTED_URL", runs.base_url)
    origin = InProcessCodeLocationOrigin(LoadableTargetOrigin(python_file=str(DEFINITIONS)), location_name="tests")
    with (
        on_disk(AT_ONCE) as instance,
        create_test_daemon_workspace_context(InProcessWorkspaceLoadTarget(origin), instance) as workspace,
    ):
        yield Again(instance, workspace, runs)


@pytest.fixture
def dies(mocker: MockerFixture) -> Callable[[], None]:
    """``dies()``: the next wait ends as if its process had been killed after the submit."""

    def arrange() -> None:
        real, left = RunClient.wait, iter([True])

        def wait(self: RunClient, *args: Any, **options: Any) -> Any:
            if next(left, False):
                raise RuntimeError("killed")
            return real(self, *args, **options)

        mocker.patch.object(RunClient, "wait", wait)

    return arrange


@pytest.mark.parametrize("succeeded_outside", [False, True])
@pytest.mark.parametrize("way", FROM_FAILURE + WHOLE)
def test_a_run_whose_end_nobody_was_told_of_is_taken_up_by_every_re_execution(
    again: Again, dies: Callable[[], None], way: str, succeeded_outside: bool
) -> None:
    dies()
    first = again.launch()
    if succeeded_outside:
        again.runs.emulator.advance(None, provider="b3os")
    run = again.by(way, first)
    assert run.status is dg.DagsterRunStatus.SUCCESS
    assert "Took up" in again.log(run.run_id)
    assert again.taken_up_from(run.run_id) == [dg.MetadataValue.dagster_run(first)]
    assert (again.runs.submits, again.runs.cancels) == (1, 0)


@pytest.mark.parametrize("way", FROM_FAILURE + WHOLE)
def test_a_run_that_failed_is_followed_by_a_new_one_in_every_re_execution(again: Again, way: str) -> None:
    again.runs.emulator.set_defaults("b3os", script="failed")
    first = again.launch()
    again.runs.emulator.set_defaults("b3os", script="succeeded")
    assert again.by(way, first).status is dg.DagsterRunStatus.SUCCESS
    assert again.runs.submits == 2


@pytest.mark.parametrize(
    ("way", "submits"), [*((way, 1) for way in FROM_FAILURE), *((way, 2) for way in WHOLE)], ids=str
)
def test_a_step_that_failed_after_its_run_succeeded_goes_on_with_that_run_but_all_steps_begin_anew(
    again: Again, monkeypatch: pytest.MonkeyPatch, way: str, submits: int
) -> None:
    monkeypatch.setenv(AFTER_THE_WAIT, "yes")
    first = again.launch()
    monkeypatch.delenv(AFTER_THE_WAIT)
    assert again.by(way, first).status is dg.DagsterRunStatus.SUCCESS
    assert again.runs.submits == submits


@pytest.mark.parametrize(("way", "submits"), [("python_selection", 2), ("web_whole", 2), ("python_from_failure", 1)])
def test_a_step_that_had_succeeded_and_is_executed_again_submits_anew(
    again: Again, monkeypatch: pytest.MonkeyPatch, way: str, submits: int
) -> None:
    monkeypatch.setenv(DOWNSTREAM, "yes")
    first = again.launch()
    monkeypatch.delenv(DOWNSTREAM)
    assert again.by(way, first).status is dg.DagsterRunStatus.SUCCESS
    assert again.runs.submits == submits


@pytest.mark.parametrize("way", WHOLE)
def test_a_step_that_outlived_its_dagster_run_leaves_its_end_to_the_re_execution(
    again: Again, mocker: MockerFixture, way: str
) -> None:
    real, left = Records.submitted, iter([True])

    def submitted(self: Records, *args: Any, **options: Any) -> None:
        real(self, *args, **options)
        if next(left, False):
            # What run monitoring does once it misses the worker.
            assert self._run is not None
            self._context.instance.report_run_failed(self._run)

    mocker.patch.object(Records, "submitted", submitted)
    first = again.launch()
    assert again.by(way, first).status is dg.DagsterRunStatus.SUCCESS
    assert (again.runs.submits, again.runs.cancels) == (1, 0)


@pytest.mark.parametrize("way", ["python_from_failure", "web_from_failure", "web_whole"])
def test_a_person_who_asks_again_after_a_rejected_outcome_gets_a_new_run(again: Again, way: str) -> None:
    again.runs.emulator.set_defaults("b3os", script="cancelled")
    first = again.launch()
    again.runs.emulator.set_defaults("b3os", script="succeeded")
    assert again.by(way, first).status is dg.DagsterRunStatus.SUCCESS
    assert again.runs.submits == 2


@pytest.mark.parametrize("way", ["python_from_failure", "python_whole", "web_from_failure", "web_whole"])
def test_a_re_execution_of_a_re_execution_takes_up_the_run_of_the_first(
    again: Again, dies: Callable[[], None], way: str
) -> None:
    dies()
    first = again.launch()
    dies()
    second = again.by(way, first)
    assert second.status is dg.DagsterRunStatus.FAILURE
    assert again.by(way, second.run_id).status is dg.DagsterRunStatus.SUCCESS
    assert again.runs.submits == 1


@pytest.mark.parametrize("way", ["python_from_failure", "web_from_failure", "web_whole"])
def test_a_run_that_another_re_execution_submitted_is_taken_up_while_it_may_live(
    again: Again, dies: Callable[[], None], way: str
) -> None:
    again.runs.emulator.set_defaults("b3os", script="failed")
    first = again.launch()
    again.runs.emulator.set_defaults("b3os", script="succeeded")
    dies()
    assert again.by("daemon_from_failure", first).status is dg.DagsterRunStatus.FAILURE
    assert again.by(way, first).status is dg.DagsterRunStatus.SUCCESS
    assert again.runs.submits == 2


def test_a_run_that_is_launched_anew_submits_anew(again: Again, dies: Callable[[], None]) -> None:
    dies()
    again.launch()
    again.launch()
    assert again.runs.submits == 2


def test_a_backfill_that_repeats_another_takes_up_a_run_that_may_live(again: Again, dies: Callable[[], None]) -> None:
    dies()
    first = again.backfill()
    assert again.instance.get_materialized_partitions(dg.AssetKey("regional")) == set()
    again.backfill(repeats=first)
    assert again.instance.get_materialized_partitions(dg.AssetKey("regional")) == {"north"}
    assert (again.runs.submits, again.runs.cancels) == (1, 0)


def test_a_backfill_that_repeats_partitions_which_were_made_submits_anew(again: Again) -> None:
    again.backfill(repeats=again.backfill())
    assert again.runs.submits == 2


def test_a_backfill_that_repeats_no_other_submits_anew(again: Again, dies: Callable[[], None]) -> None:
    dies()
    again.backfill()
    again.backfill(repeats="one-that-was-never-there")
    assert again.runs.submits == 2
