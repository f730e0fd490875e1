"""What the end of a set of runs becomes in Airflow, over all that its rows may be; for sensors and operators alike."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from runops.airflow import exceptions
from runops.airflow._compat import AirflowException, AirflowFailException, AirflowSensorTimeout, AirflowSkipException
from runops.airflow.many.verdicts import SetEnd, apply_set_verdict, publish_set, sensor_may_change
from runops.core import Outcome, Verdict, find
from runops.core.many.ledger import Ledger
from runops.core.many.rows import Row, RowState
from runops.core.many.rules import ManyRules

SUCCEEDED, WARNED, SKIPPED = ("succeeded", "succeed"), ("degraded", "warn"), ("degraded", "skip")
FAILED, CANCELLED, REJECTED = ("failed", "fail"), ("cancelled", "fail"), ("exhausted", "fail")


class Log:
    """Takes what a task logs."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def info(self, text: str, *values: Any) -> None:
        self.lines.append(("info", text % values))

    def warning(self, text: str, *values: Any) -> None:
        self.lines.append(("warning", text % values))


def row(index: int, said: Any) -> Row:
    made = Row(index=index, key=f"k{index}", run_id=f"run_{index}", state=RowState.ENDED)
    match said:
        case (outcome, verdict):
            return replace(made, outcome=Outcome(outcome), verdict=Verdict(verdict))
        case "timeout" | "execution_timeout":
            return replace(made, outcome=Outcome.TIMED_OUT, verdict=Verdict.FAIL, ended_by=said)
        case "given up":
            return replace(made, ended_by="stop_early")
        case "SubmitUncertainError":
            return replace(made, run_id=None, state=RowState.UNCLEAR, error=said, reason="who knows")
        case "ConflictError":
            return replace(made, run_id=None, state=RowState.REFUSED, error=said, reason="no turn")
        case _:
            return replace(made, state=RowState.UNREAD, error=said, reason="gone")


def end_of(*said: Any, require: Any = "all", **more: Any) -> SetEnd:
    return SetEnd(
        provider=find("nyx"),
        ledger=Ledger(row(index, each) for index, each in enumerate(said)),
        rules=ManyRules.build(require=require),
        **more,
    )


def applied(end: SetEnd, *, sensor: bool = False) -> tuple[Any, dict[str, Any], Log]:
    """How the task ends (its result, or what it raises), its XComs, and its log."""
    xcoms: dict[str, Any] = {}

    def push(key: str, value: Any) -> None:
        xcoms[key] = json.loads(json.dumps(value))

    ti = SimpleNamespace(xcom_push=push, start_date=datetime.now(UTC))
    log = Log()
    kinds: dict[str, Any] = {
        "failed": exceptions.SensorRunFailed,
        "timed_out": exceptions.SensorTimedOut,
        "retry_may_change": sensor_may_change,
    }
    try:
        result: Any = apply_set_verdict({"ti": ti}, end, log=log, **(kinds if sensor else {}))
    except AirflowException as error:
        return error, xcoms, log
    return result, xcoms, log


def final(error: BaseException) -> bool:
    return isinstance(error, (AirflowFailException, AirflowSensorTimeout))


@pytest.mark.parametrize(
    ("said", "require", "level"),
    [
        ([SUCCEEDED] * 3, "all", "info"),
        ([SUCCEEDED, WARNED], "all", "warning"),
        ([SUCCEEDED, SKIPPED], "all", "info"),
        ([SUCCEEDED, FAILED, CANCELLED], "any", "warning"),
        ([SUCCEEDED] * 19 + [FAILED], 0.95, "warning"),
        ([SUCCEEDED, "timeout"], 0.5, "warning"),
        ([SUCCEEDED, "given up", "given up"], "any", "info"),
        ([SUCCEEDED, "RunNotFound"], 0.5, "warning"),
    ],
)
def test_enough_good_ends_are_a_success(said: list[Any], require: Any, level: str) -> None:
    result, xcoms, log = applied(end_of(*said, require=require))
    assert result["met"] is True
    assert xcoms["run"] == result
    assert [each["index"] for each in xcoms["runs"]] == list(range(len(said)))
    assert [kind for kind, _ in log.lines] == [level]


def test_a_success_with_skips_says_how_many() -> None:
    _, _, log = applied(end_of(SUCCEEDED, SKIPPED, SKIPPED))
    assert "The verdict on 2 of them is skip" in log.lines[0][1]


@pytest.mark.parametrize(("said", "require"), [([SKIPPED] * 3, "all"), ([SKIPPED, FAILED], "any")])
def test_good_ends_that_are_all_skips_skip_the_task_and_are_told(said: list[Any], require: Any) -> None:
    error, xcoms, _ = applied(end_of(*said, require=require))
    assert type(error) is AirflowSkipException
    assert xcoms["run"]["met"] is True
    assert len(xcoms["runs"]) == len(said)


@pytest.mark.parametrize(
    ("said", "require", "kind", "is_final"),
    [
        ([SUCCEEDED, FAILED], "all", exceptions.RunFailed, False),
        ([FAILED, FAILED, "timeout"], "all", exceptions.RunFailed, False),
        (["timeout", SUCCEEDED], "all", exceptions.RunTimedOut, False),
        (["execution_timeout", SUCCEEDED], "all", exceptions.RunTimedOut, False),
        (["PollingError"], "all", exceptions.PollingError, False),
        (["ConflictError", SUCCEEDED], "all", exceptions.ConflictError, False),
        ([CANCELLED, SUCCEEDED], "all", exceptions.RunCancelled, True),
        ([REJECTED, FAILED], "all", exceptions.RunRejected, True),
        ([("succeeded", "fail")], "all", exceptions.RunRejected, True),
        (["RunNotFound", SUCCEEDED], "all", exceptions.RunNotFound, True),
        (["UnknownStateError", FAILED], "all", exceptions.UnknownStateError, True),
        (["SubmitUncertainError"], "all", exceptions.SubmitUncertainError, True),
        # What cannot change leaves room enough: another try may make up for it.
        ([CANCELLED, FAILED, FAILED], 0.6, exceptions.RunFailed, False),
        ([CANCELLED, CANCELLED, FAILED], 0.6, exceptions.RunCancelled, True),
        ([FAILED, CANCELLED], "any", exceptions.RunFailed, False),
    ],
)
def test_too_few_good_ends_of_an_operator_fail_it_and_a_retry_follows_where_it_may_help(
    said: list[Any], require: Any, kind: type, is_final: bool
) -> None:
    error, xcoms, _ = applied(end_of(*said, require=require))
    assert type(error) is kind
    assert final(error) is is_final
    assert (xcoms["run"]["met"], len(xcoms["runs"])) == (False, len(said))


@pytest.mark.parametrize(
    ("said", "require", "kind", "is_final"),
    [
        ([SUCCEEDED, FAILED], "all", exceptions.SensorRunFailed, True),
        (["timeout", SUCCEEDED], "all", exceptions.SensorTimedOut, True),
        (["execution_timeout", SUCCEEDED], "all", exceptions.RunTimedOut, False),
        (["PollingError", SUCCEEDED], "all", exceptions.PollingError, False),
        (["PollingError", FAILED], "all", exceptions.SensorRunFailed, True),
        (["PollingError", FAILED], "any", exceptions.PollingError, False),
        ([CANCELLED], "all", exceptions.RunCancelled, True),
        ([REJECTED], "all", exceptions.RunRejected, True),
    ],
)
def test_a_sensor_reads_the_same_runs_again_so_only_what_it_did_not_see_end_is_worth_a_retry(
    said: list[Any], require: Any, kind: type, is_final: bool
) -> None:
    error, _, _ = applied(end_of(*said, require=require), sensor=True)
    assert type(error) is kind
    assert final(error) is is_final


def test_a_sensors_timeout_is_both_runops_and_airflows() -> None:
    error, _, _ = applied(end_of("timeout"), sensor=True)
    assert isinstance(error, exceptions.RunTimedOut)
    assert isinstance(error, AirflowSensorTimeout)


def test_the_text_names_the_whole_what_was_required_and_the_first_runs_that_decide_it() -> None:
    error, _, _ = applied(end_of(SUCCEEDED, *[FAILED] * 7))
    assert "8/8: 1 succeeded, 7 failed" in str(error)
    assert "Required: all (8 of 8)" in str(error)
    assert "[1] nyx run run_1: failed" in str(error)
    assert "and 4 more, in the XCom runs" in str(error)


def test_the_exception_has_the_result_for_callbacks() -> None:
    error, xcoms, _ = applied(end_of(FAILED, FAILED))
    assert error.result == xcoms["run"]
    assert [each["run_id"] for each in error.result["failed"]] == ["run_0", "run_1"]


def test_what_is_known_in_full_is_told_in_full_and_at_most_a_hundred_runs() -> None:
    full = {5: {"run_id": "run_5", "state": "failed", "verdict": "fail"}}
    result = end_of(*[FAILED] * 130, full=full).result()
    assert len(result["failed"]) == 100
    assert result["failed"][5] == full[5]
    assert (result["failed"][6]["run_id"], result["failed"][6]["outcome"]) == ("run_6", "failed")


def test_an_end_by_an_error_of_the_whole_leaves_how_the_set_stood() -> None:
    xcoms: dict[str, Any] = {}
    rows = [row(0, SUCCEEDED), Row(index=1, key="k1", run_id="run_1", state=RowState.ATTACHED, attached=True)]
    end = SetEnd(provider=find("nyx"), ledger=Ledger(rows), rules=ManyRules())
    push: Callable[..., None] = xcoms.__setitem__
    publish_set({"ti": SimpleNamespace(xcom_push=lambda key, value: push(key, value), start_date=None)}, end)
    assert (xcoms["run"]["met"], xcoms["run"]["outcomes"]) == (False, {"succeeded": 1})
    assert xcoms["runs"][1] == {"index": 1, "run_id": "run_1"} | (
        {"url": xcoms["runs"][1]["url"]} if "url" in xcoms["runs"][1] else {}
    )


def test_the_result_says_how_many_runs_earlier_tries_have_left_and_this_one_has_submitted() -> None:
    result, _, _ = applied(end_of(SUCCEEDED, SUCCEEDED, SUCCEEDED, kept=1, submitted=2))
    assert (result["kept"], result["submitted"], result["stopped_early"]) == (1, 2, False)
    given_up = end_of(SUCCEEDED, "given up").result()
    assert (given_up["kept"], given_up["submitted"], given_up["stopped_early"]) == (0, 0, True)
