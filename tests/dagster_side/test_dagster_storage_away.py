"""What a wait does where Dagster's storage raises: it goes on, says what it could not do, and cancels nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest
from pytest_mock import MockerFixture

from runops.dagster import _compat, build_run_asset, wait_for_run
from tests.services import CALLS

AWAY = OSError("the storage is away")


@pytest.fixture
def b3os(service: Callable[[str], Any]) -> Any:
    return service("b3os")


def asset_of(**options: Any) -> dg.AssetsDefinition:
    return build_run_asset(key="external", resource_key="b3os", **options)


def told(runs: Any, ended: Any) -> list[str]:
    """The lines of the step's log."""
    entries = runs.instance.all_logs(ended.result.run_id)
    return [entry.user_message for entry in entries if entry.dagster_event is None]


def test_tags_that_cannot_be_written_are_each_said_and_the_run_is_waited_for(b3os: Any, mocker: MockerFixture) -> None:
    mocker.patch.object(_compat, "tag_run", side_effect=AWAY)
    ended = b3os.materialize(asset_of(call=CALLS["b3os"], on_phase={"running": []}))
    assert ended.materialized == ["external"]
    (run,) = b3os.emulator.runs(provider="b3os")
    lines = told(b3os, ended)
    for line in (
        "The Dagster run could not be tagged (OSError): runops orphans will not look at it.",
        f"The Dagster run could not be tagged with b3os run {run['run_id']} (OSError).",
        "The Dagster run could not be tagged with the phase (OSError).",
    ):
        assert line in lines
    assert "the storage is away" not in ended.log


def test_phases_that_cannot_be_recorded_or_read_are_said_and_the_callback_is_called(
    b3os: Any, mocker: MockerFixture
) -> None:
    called: list[str] = []
    ref = b3os.made(script="succeeded")
    mocker.patch.object(_compat, "write_engine_event", side_effect=AWAY)
    mocker.patch.object(_compat, "engine_events", side_effect=AWAY)
    callback = {"running": lambda context, snapshot: called.append(snapshot.phase)}
    ended = b3os.materialize(asset_of(run_id=ref.run_id, on_phase=callback))
    assert ended.materialized == ["external"]
    assert called == ["running"]
    lines = told(b3os, ended)
    for line in (
        "The phase could not be recorded, and a retry may call again (OSError).",
        "Which phases were seen before could not be read, and this try may call again (OSError).",
    ):
        assert line in lines


def test_a_function_that_is_called_directly_has_no_run_to_tag_and_says_nothing_of_it(
    b3os: Any, caplog: pytest.LogCaptureFixture
) -> None:
    called: list[str] = []
    context = dg.build_op_context(instance=b3os.instance)
    context.log.addHandler(caplog.handler)
    callback = {"running": lambda context, snapshot: called.append(snapshot.phase)}
    wait_for_run(context, b3os.resource, ref=b3os.made(script="succeeded"), on_phase=callback)
    assert called == ["running"]
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == []


def test_a_step_that_cannot_find_out_whether_it_is_tried_again_cancels_nothing_and_says_so(
    b3os: Any, mocker: MockerFixture
) -> None:
    b3os.emulator.set_defaults("b3os", script="forever")
    mocker.patch.object(_compat, "tried_again", side_effect=AWAY)
    ended = b3os.materialize(asset_of(call=CALLS["b3os"], timeout=60, cancel_on_failure=True, cancel_on_timeout=False))
    assert not ended.success
    assert b3os.cancels == 0
    assert "Whether the step is tried again could not be found out (OSError): nothing is cancelled." in told(
        b3os, ended
    )


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (AWAY, "The Dagster run could not be looked up (OSError)."),
        ([dg.DagsterRunStatus.FAILURE], "The Dagster run is over already: b3os run {} is not cancelled."),
    ],
    ids=["away", "over"],
)
def test_whether_a_step_has_outlived_its_run_decides_about_the_cancel_after_a_timeout(
    b3os: Any, mocker: MockerFixture, status: Any, line: str
) -> None:
    b3os.emulator.set_defaults("b3os", script="forever")
    mocker.patch("runops.dagster.step.wait.status_of_run", side_effect=status)
    ended = b3os.materialize(asset_of(call=CALLS["b3os"], timeout=60))
    (run,) = b3os.emulator.runs(provider="b3os")
    assert line.format(run["run_id"]) in told(b3os, ended)
    # A run that nobody can look up may go on: its external run is cancelled as it was asked for.
    assert b3os.cancels == (1 if status is AWAY else 0)


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (AWAY, "The Dagster run could not be looked up (OSError): nothing is cancelled."),
        (
            [dg.DagsterRunStatus.SUCCESS],
            "The Dagster run is over already: its external runs are not cancelled.",
        ),
    ],
    ids=["away", "over"],
)
def test_a_step_of_many_that_breaks_down_cancels_nothing_where_its_run_may_be_over(
    b3os: Any, mocker: MockerFixture, status: Any, line: str
) -> None:
    b3os.emulator.set_defaults("b3os", script="forever")
    mocker.patch("runops.dagster.many.step.judged", side_effect=RuntimeError("out of memory"))
    mocker.patch("runops.dagster.many.step.status_of_run", side_effect=status)
    options: Any = {"timeout": 1.0, "poll_interval": 0.05, "cancel_on_timeout": False, "cancel_on_failure": True}
    ended = b3os.materialize(asset_of(calls=[CALLS["b3os"]], **options))
    (failed,) = ended.of(dg.DagsterEventType.STEP_FAILURE)
    assert failed.step_failure_data.error.cause.message == "RuntimeError: out of memory\n"
    assert line in told(b3os, ended)
    assert b3os.cancels == 0
