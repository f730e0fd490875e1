"""Every key and text that Dagster shows of the end of a run, whole: what is left out or worded otherwise is seen."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest

from runops.core import (
    ConfigurationError,
    ConflictError,
    Outcome,
    Phase,
    PollingError,
    Progress,
    RunNotFound,
    RunRef,
    RunSnapshot,
    SubmitUncertainError,
    TransientError,
    Verdict,
)
from runops.core.model.run import Unmet
from runops.dagster.functions import FunctionFailed
from runops.dagster.verdicts import check_spec, failure, failure_of, metadata, overview, shown

REF = RunRef(provider="onepin", run_id="r_1", parents={"workflow_id": "wf-9"})
URL = "https://app.example.com/r_1"
UNMET: dict[str, Unmet] = {"rows": {"expected": ">= 1", "found": 0}}


def moment(second: int) -> datetime:
    return datetime(2026, 11, 28, 12, 0, second, tzinfo=UTC)


def whole(**fields: Any) -> RunSnapshot:
    """A run of which everything is known."""
    given = {
        "state": "done",
        "outcome": Outcome.FAILED,
        "reason": "no rows",
        "progress": Progress(done=3, total=4, unit="steps"),
        "created_at": moment(0),
        "started_at": moment(10),
        "finished_at": moment(40),
        "url": URL,
        "details": {"token_cost": 12, "ratio": 0.5, "final": True, "stage": "load", "tags": ["a"]},
    }
    return RunSnapshot(ref=REF, **{**given, **fields})


def test_the_metadata_of_a_run_hold_all_that_is_known_of_it() -> None:
    found = metadata(whole(), Verdict.FAIL, UNMET, dagster_runs={"submitted_in": "d1", "taken_up_from": "d2"})
    of = dg.MetadataValue
    assert found.pop("runops/overview") == of.md(overview(whole(), Verdict.FAIL, UNMET))
    assert found == {
        "runops/url": of.url(URL),
        "runops/submitted_in": of.dagster_run("d1"),
        "runops/taken_up_from": of.dagster_run("d2"),
        "runops/outcome": of.text("failed"),
        "runops/verdict": of.text("fail"),
        "runops/reason": of.text("no rows"),
        "runops/progress": of.text("3/4 steps"),
        "runops/state": of.text("done"),
        "runops/provider": of.text("onepin"),
        "runops/run_id": of.text("r_1"),
        "runops/workflow_id": of.text("wf-9"),
        "runops/unmet": of.json(dict(UNMET)),
        "runops/run_ended": of.bool(True),
        "runops/created_at": of.timestamp(moment(0)),
        "runops/started_at": of.timestamp(moment(10)),
        "runops/finished_at": of.timestamp(moment(40)),
        "runops/queued_seconds": of.float(10.0),
        "runops/duration_seconds": of.float(30.0),
        "runops/progress_done": of.float(3.0),
        "runops/progress_percent": of.float(75.0),
        "runops/spend": of.float(12.0),
        "runops/spend_unit": of.text("characters"),
        "runops/details/token_cost": of.int(12),
        "runops/details/ratio": of.float(0.5),
        "runops/details/final": of.bool(True),
        "runops/details/stage": of.text("load"),
        "runops/details/tags": of.json(["a"]),
    }


def test_the_metadata_of_a_run_of_which_nothing_is_known_hold_no_empty_values() -> None:
    found = metadata(RunSnapshot(ref=RunRef(provider="nyx", run_id="r_2"), state=None, phase=Phase.QUEUED))
    assert {name: value.value for name, value in found.items()} == {
        "runops/overview": "| nyx | |\n|---|---|\n| Run | r\\_2 |\n| State | never seen \\(queued\\) |",
        "runops/provider": "nyx",
        "runops/run_id": "r_2",
        "runops/run_ended": False,
    }


def test_the_overview_has_one_row_for_each_thing_that_is_known() -> None:
    assert overview(whole(), Verdict.FAIL, UNMET).splitlines() == [
        "| onepin | |",
        "|---|---|",
        f"| Run | [r\\_1]({URL}) |",
        "| State | done \\(failed\\) |",
        "| Verdict | fail |",
        "| Why | no rows |",
        "| Not met | rows is 0, expected \\>= 1 |",
        "| Progress | ████████░░ 75% (3/4 steps) |",
        "| In the queue | 0:00:10 |",
        "| Took | 0:00:30 |",
        "| token cost | 12 |",
        "| ratio | 0.5 |",
    ]


@pytest.mark.parametrize(
    ("fields", "row"),
    [
        ({"state": "failed"}, "| State | failed |"),
        ({"started_at": None}, "| Took | 0:00:40 |"),
        ({"finished_at": moment(5)}, "| Took | 0:00:00 |"),
        ({"progress": Progress(done=9, total=4, unit="x")}, "| Progress | ██████████ 100% (9/4 x) |"),
        ({"progress": Progress(done=-1, total=4, unit="x")}, "| Progress | ░░░░░░░░░░ 0% (-1/4 x) |"),
        ({"progress": Progress(done=1, total=1, unit="x")}, "| Progress | ██████████ 100% (1/1 x) |"),
    ],
)
def test_the_overview_shows_what_is_odd_as_it_can_be_read(fields: dict[str, Any], row: str) -> None:
    assert row in overview(whole(**fields)).splitlines()


# --- how a step shows its end ----------------------------------------------------------------------------------

OPEN = RunSnapshot(ref=REF, state="going", outcome=Outcome.TIMED_OUT, ended_by="timeout")


def test_an_asset_that_was_not_made_has_a_failed_check_that_says_so() -> None:
    end = shown(whole(), Verdict.SKIP)
    found = end.not_made(dg.AssetKey("a"))
    assert (found.asset_key, found.check_name, found.passed) == (dg.AssetKey("a"), "runops_outcome", False)
    assert found.severity is dg.AssetCheckSeverity.WARN
    assert found.description == "Not made. onepin run r_1: done (failed), 3/4 steps, no rows"
    assert found.metadata == end.metadata


@pytest.mark.parametrize(
    ("verdict", "passed", "severity"),
    [
        (Verdict.SUCCEED, True, "WARN"),
        (Verdict.WARN, False, "WARN"),
        (Verdict.SKIP, False, "WARN"),
        (Verdict.FAIL, False, "ERROR"),
    ],
)
def test_the_check_of_an_end_says_its_verdict_and_why(verdict: Verdict, passed: bool, severity: str) -> None:
    end = shown(whole(outcome=Outcome.SUCCEEDED, reason=None), verdict, UNMET)
    found = end.check(dg.AssetKey("a"), "mine")
    assert (found.asset_key, found.check_name) == (dg.AssetKey("a"), "mine")
    assert (found.passed, found.severity.value) == (passed, severity)
    code = "" if passed else " [expect-unmet]"
    assert found.description == (
        f"onepin run r_1: done (succeeded), 3/4 steps; rows is 0, expected >= 1; verdict: {verdict}.{code}"
    )
    assert found.metadata == end.metadata
    assert end.check().check_name == "runops_outcome"


def test_an_asset_that_was_made_holds_the_metadata_the_checks_and_a_version_of_its_run() -> None:
    end = shown(whole(), Verdict.SUCCEED)
    check = end.check(dg.AssetKey("a"))
    made = end.materialisation(dg.AssetKey("a"), [check])
    assert (made.asset_key, made.check_results, made.metadata) == (dg.AssetKey("a"), [check], end.metadata)
    assert made.data_version == dg.DataVersion("onepin:r_1")


def test_an_op_gives_out_the_verdict_and_what_was_not_met() -> None:
    value = shown(whole(), Verdict.WARN, UNMET).value
    assert (value["verdict"], value["unmet"], value["run_id"]) == ("warn", UNMET, "r_1")


def test_the_check_of_an_asset_is_described_and_named() -> None:
    spec = check_spec(dg.AssetKey("a"))
    assert (spec.name, spec.asset_key, spec.description) == (
        "runops_outcome",
        dg.AssetKey("a"),
        "How the external run ended.",
    )


# --- what a failure says, and whether it may be tried again ----------------------------------------------------

CHOSEN = "on_outcome turns this outcome into a failure, and a retry would not change it. [run-rejected]"
GIVEN = (
    "This step only waits for the run it is given, so that a retry would read the same end: start a new run where "
    "this one was started, and wait for that. [run-failed]"
)


@pytest.mark.parametrize(
    ("outcome", "given", "advice", "again"),
    [
        (Outcome.SUCCEEDED, False, CHOSEN, False),
        (Outcome.DEGRADED, True, CHOSEN, False),
        (Outcome.EXHAUSTED, False, CHOSEN, False),
        (Outcome.FAILED, False, "A retry submits a new run. [run-failed]", True),
        (
            Outcome.FAILED,
            True,
            GIVEN,
            False,
        ),
        (
            Outcome.CANCELLED,
            False,
            "It was cancelled, and a retry policy does not undo that. [run-cancelled]",
            False,
        ),
        (
            Outcome.TIMED_OUT,
            False,
            "Only the wait has ended; a retry takes the same run up again. [run-timed-out]",
            True,
        ),
        (
            Outcome.TIMED_OUT,
            True,
            "Only the wait has ended; a retry waits for the same run again. [run-timed-out]",
            True,
        ),
        (None, False, "Only the wait has ended; a retry takes the same run up again. [run-timed-out]", True),
    ],
)
def test_a_failure_says_how_the_run_ended_and_what_a_retry_would_do(
    outcome: Outcome | None, given: bool, advice: str, again: bool
) -> None:
    run = whole(outcome=outcome, reason=None)
    found = failure(run, given=given)
    assert found.description == f"{run.summary().rstrip('.')}. {advice}"
    assert found.allow_retries is again
    assert found.metadata == metadata(run, Verdict.FAIL)
    of_shown = shown(run, Verdict.FAIL, given=given).failure()
    assert (of_shown.description, of_shown.allow_retries) == (found.description, found.allow_retries)


def test_a_failure_for_what_was_not_met_names_it_and_no_retry() -> None:
    run = whole(outcome=Outcome.SUCCEEDED, reason=None)
    for found in (failure(run, unmet=UNMET), shown(run, Verdict.FAIL, UNMET).failure()):
        assert found.description == (
            "onepin run r_1: done (succeeded), 3/4 steps. It does not meet what is expected of it: rows is 0, "
            "expected >= 1. A retry would not change that. [expect-unmet]"
        )
        assert found.metadata == metadata(run, Verdict.FAIL, UNMET)
        assert found.allow_retries is False


CANDIDATE = RunRef(provider="nyx", run_id="c1")


@pytest.mark.parametrize(
    ("error", "again", "more"),
    [
        (ConfigurationError("It is wrong."), False, {}),
        (RunNotFound("It is gone."), False, {}),
        (ConflictError("It is busy."), True, {}),
        (TransientError("It is down."), True, {}),
        (FunctionFailed("It raised."), True, {}),
        (PollingError(REF, 60, TransientError("It is down.")), True, {"runops/run_id": "r_1"}),
        (SubmitUncertainError("It is lost.", may_be_found=True), True, {"runops/candidates": []}),
        (
            SubmitUncertainError("It is lost.", candidates=[CANDIDATE]),
            False,
            {"runops/candidates": [{"provider": "nyx", "run_id": "c1", "parents": {}}]},
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_ends_a_step_with_its_kind_its_text_and_whether_a_retry_may_help(
    error: Any, again: bool, more: dict[str, Any]
) -> None:
    found = failure_of(error, "Resource 'nyx'")
    advice = (
        " If one of them is yours, wait for it by run_id; if there is none, launch the asset or job anew "
        "(a re-execution looks for the lost run again)."
        if isinstance(error, SubmitUncertainError)
        else ""
    )
    assert found.description == f"Resource 'nyx': {error.text}{advice} [{error.error_code}]"
    assert {name: value.value for name, value in found.metadata.items()} == {
        "runops/error": type(error).__name__,
        **more,
    }
    assert found.allow_retries is again
