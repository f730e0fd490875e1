"""The end of a set of runs in words, in the log and on the button of its task, and who else hears of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_mock import MockerFixture

from runops.airflow import exceptions
from runops.airflow.many import verdicts
from runops.airflow.many.verdicts import SetEnd, apply_set_verdict, push_link, sensor_may_change
from runops.core import Verdict, find
from runops.core.many.ledger import Ledger
from runops.core.many.rows import Row, RowState
from runops.core.many.rules import ManyRules
from runops.core.waiting.intent import Intent
from tests.airflow_side.test_many_verdicts import (
    CANCELLED,
    FAILED,
    SKIPPED,
    SUCCEEDED,
    WARNED,
    Log,
    applied,
    end_of,
    row,
)

# --- what is told, in words ---


def words(*said: Any, require: Any = "all", sensor: bool = False) -> str:
    """The text of the exception that a set ends with, without the line about the whole."""
    error, _, _ = applied(end_of(*said, require=require), sensor=sensor)
    return str(error).partition("Required: ")[2]


def page(index: int) -> str:
    return f"(https://app.fabraix.com/nyx/runs/run_{index})"


@pytest.mark.parametrize(
    ("said", "require", "text"),
    [
        (
            [SUCCEEDED, FAILED], "all",
            f"all (2 of 2). 1 ended well, which is too few. [1] nyx run run_1: failed {page(1)}. [too-few-runs]",
        ),
        (
            ["timeout", "execution_timeout"], 0.5,
            ("0.5 (1 of 2). 0 ended well, which is too few. "
            f"[0] nyx run run_0: timeout {page(0)}; [1] nyx run run_1: execution_timeout {page(1)}. [too-few-runs]"),
        ),
        (
            ["SubmitUncertainError", "ConflictError", "PollingError"], "any",
            ("any (1 of 3). 0 ended well, which is too few. [1] not submitted: ConflictError, no turn; "
            f"[2] nyx run run_2: PollingError, gone {page(2)}. [too-few-runs]"),
        ),
        (
            [CANCELLED, FAILED, FAILED], "all",
            (f"all (3 of 3). 0 ended well, which is too few. [0] nyx run run_0: cancelled {page(0)}. "
            "No retry could make up for 1 of them. [too-few-runs]"),
        ),
        (
            [CANCELLED, CANCELLED], "all",
            ("all (2 of 2). 0 ended well, which is too few. "
            f"[0] nyx run run_0: cancelled {page(0)}; [1] nyx run run_1: cancelled {page(1)}. [too-few-runs]"),
        ),
        (
            [FAILED, CANCELLED], "any",
            f"any (1 of 2). 0 ended well, which is too few. [0] nyx run run_0: failed {page(0)}. [too-few-runs]",
        ),
    ],
)  # fmt: skip
def test_the_text_of_a_failed_set_says_what_was_required_and_names_what_decides_it(
    said: list[Any], require: Any, text: str
) -> None:
    assert words(*said, require=require) == text


@pytest.mark.parametrize(("count", "more"), [(3, ""), (4, "; and 1 more"), (1_004, "; and 1,001 more")])
def test_the_first_three_runs_are_named_and_the_others_counted(count: int, more: str) -> None:
    text = words(*[FAILED] * count)
    named = "; ".join(f"[{index}] nyx run run_{index}: failed {page(index)}" for index in range(3))
    assert text.endswith(f" {named}{more}{', in the XCom runs' if more else ''}. [too-few-runs]")
    assert text.startswith(f"all ({count:,} of {count:,}).")


def test_a_reason_is_told_without_its_full_stop_and_a_page_of_its_own_before_that_of_the_address() -> None:
    rows = [replace(row(0, FAILED), reason="it broke.", url="https://example.com/x"), row(1, SUCCEEDED)]
    end = SetEnd(provider=find("nyx"), ledger=Ledger(rows), rules=ManyRules())
    error, _, _ = applied(end)
    assert "[0] nyx run run_0: failed, it broke (https://example.com/x). [too-few-runs]" in str(error)


@pytest.mark.parametrize("unsent", [[1], [1, 2]])
def test_a_set_that_a_clock_has_ended_before_all_was_sent_has_timed_out(unsent: list[int]) -> None:
    rows = [row(0, SUCCEEDED), *(Row(index=index, key=str(index)) for index in unsent)]
    end = SetEnd(provider=find("nyx"), ledger=Ledger(rows), rules=ManyRules())
    error, _, _ = applied(end)
    assert type(error) is exceptions.RunTimedOut
    assert str(error).endswith(" 1 ended well, which is too few. [too-few-runs]")
    assert type(applied(end, sensor=True)[0]) is exceptions.SensorTimedOut


def test_runs_that_are_over_without_any_decision_are_final() -> None:
    error, _, _ = applied(end_of("given up", "given up"))
    assert type(error) is exceptions.RunRejected


@pytest.mark.parametrize(
    ("mark", "kind"), [("m", exceptions.SubmitUnconfirmed), (None, exceptions.SubmitUncertainError)]
)
def test_a_lost_submit_may_be_found_by_a_retry_where_it_bears_a_mark(mark: str | None, kind: type) -> None:
    lost = replace(row(0, "SubmitUncertainError"), intent=Intent(mark=mark))
    end = SetEnd(provider=find("nyx"), ledger=Ledger([lost]), rules=ManyRules())
    assert type(applied(end)[0]) is kind


@pytest.mark.parametrize(
    ("said", "changes"),
    [
        ("PollingError", True), ("ConflictError", True), ("RunNotFound", False), ("execution_timeout", True),
        ("timeout", False), (FAILED, False), (CANCELLED, False),
    ],
)  # fmt: skip
def test_another_try_of_a_sensor_may_see_another_end_only_of_what_it_has_not_seen_end(said: Any, changes: bool) -> None:
    assert sensor_may_change(row(0, said)) is changes


def test_a_run_that_goes_on_may_end_otherwise_for_another_try_of_a_sensor() -> None:
    assert sensor_may_change(Row(index=0, key="k", state=RowState.ATTACHED, run_id="r")) is True


LEVELS: dict[str, tuple[list[Any], Any, list[tuple[str, str]]]] = {
    "plain": ([SUCCEEDED] * 2, "all", [("info", "all (2 of 2).")]),
    "with skips": (
        [SUCCEEDED, SKIPPED, SKIPPED], "all", [("info", "all (3 of 3). The verdict on 2 of them is skip.")],
    ),
    "with a failure": (
        [SUCCEEDED, FAILED], 0.5,
        [("warning", f"0.5 (1 of 2). The task succeeds. [1] nyx run run_1: failed {page(1)}. [run-warned]")],
    ),
    "with a warning": ([SUCCEEDED, WARNED], "all", [("warning", "all (2 of 2). The task succeeds. [run-warned]")]),
    "skipped": (
        [SKIPPED] * 2, "all",
        [
            (
                "info",
                ("all (2 of 2). The task is skipped, because the verdict on every run that ended well is skip. "
                "[run-skipped]"),
            )
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", LEVELS)
def test_the_log_of_a_set_says_what_its_end_means_for_the_task(what: str) -> None:
    said, require, lines = LEVELS[what]
    end = end_of(*said, require=require)
    result, _, log = applied(end)
    assert [(level, text.partition(" Required: ")[2]) for level, text in log.lines] == lines
    assert log.lines[0][1].startswith(f"{end.line}. Required: ")
    assert what != "skipped" or str(result) == log.lines[0][1]


# --- who else hears of it ---


@pytest.mark.parametrize(
    ("said", "require", "verdict"),
    [
        ([SUCCEEDED], "all", "succeed"),
        ([SUCCEEDED, FAILED], 0.5, "warn"),
        ([SKIPPED], "all", None),
        ([FAILED], "all", None),
    ],
)
def test_asset_events_name_the_set_of_a_task_that_succeeds(
    said: list[Any], require: Any, verdict: str | None, mocker: MockerFixture
) -> None:
    named = mocker.patch.object(verdicts, "name_in_events")
    result, _, log = applied(end_of(*said, require=require))
    if verdict is None:
        assert named.call_count == 0
        return
    (context, run, given), _ = named.call_args
    assert (set(context), given) == ({"ti"}, log)
    url = f"https://app.fabraix.com/nyx/runs/run_{len(said) - 1}"
    assert (run["verdict"], run["url"], run["total"], run["outcomes"]) == (
        verdict, url, len(said), result["outcomes"],
    )  # fmt: skip


def test_the_page_is_told_how_the_set_stands_and_what_that_means(mocker: MockerFixture) -> None:
    record, end = mocker.Mock(), end_of(SUCCEEDED, FAILED, require=0.5)
    ti = SimpleNamespace(xcom_push=lambda **_: None, start_date=datetime.now(UTC))
    apply_set_verdict({"ti": ti}, end, log=Log(), record=record)
    record.ended_as_set.assert_called_once_with(end.ledger.tally, "warn")


GOING_ON = replace(row(3, SUCCEEDED), state=RowState.ATTACHED, outcome=None, verdict=None)


@pytest.mark.parametrize(
    ("follows", "sensor", "indices"),
    [(False, False, [1, 2, 3]), (False, True, [1, 2, 3]), (True, False, [1]), (True, True, [])],
)
def test_each_end_is_counted_and_traced_once_by_the_try_that_sees_it(
    follows: bool, sensor: bool, indices: list[int], mocker: MockerFixture
) -> None:
    meter, traces = mocker.patch.object(verdicts, "METER"), mocker.patch.object(verdicts, "TaskTrace")
    asked = mocker.patch.object(verdicts, "another_try_follows", return_value=follows)
    rows = [row(0, SUCCEEDED), row(1, FAILED), row(2, "timeout"), GOING_ON]
    end = SetEnd(provider=find("nyx"), ledger=Ledger(rows), rules=ManyRules(), reported=frozenset({0}))
    error, _, log = applied(end, sensor=sensor)
    told = [rows[index] for index in indices]
    meter.set_ended.assert_called_once_with(end.provider, told)
    (ti, given), _ = traces.call_args
    assert given is log
    traces.return_value.set_ended.assert_called_once_with(end.provider, told, Verdict.FAIL, ti.start_date.timestamp)
    assert asked.call_args.args == ({"ti": ti}, error)


# --- the button of the task ---


@pytest.mark.parametrize(
    ("rows", "url"),
    [
        ([], None),
        ([Row(index=0, key="k")], None),
        ([row(0, SUCCEEDED), row(1, SUCCEEDED)], "https://app.fabraix.com/nyx/runs/run_0"),
        ([row(0, SUCCEEDED), row(1, FAILED), row(2, FAILED)], "https://app.fabraix.com/nyx/runs/run_1"),
        ([row(0, SUCCEEDED), replace(GOING_ON, index=1)], "https://app.fabraix.com/nyx/runs/run_0"),
        ([Row(index=0, key="k"), row(1, SUCCEEDED)], "https://app.fabraix.com/nyx/runs/run_1"),
        ([row(0, SUCCEEDED), replace(row(1, FAILED), url="https://example.com/x")], "https://example.com/x"),
    ],
    ids=str,
)
def test_the_button_opens_the_first_run_that_did_not_end_well_or_the_first_one(
    rows: list[Row], url: str | None
) -> None:
    xcoms: dict[str, Any] = {}
    context = {"ti": SimpleNamespace(xcom_push=lambda key, value: xcoms.update({key: value}))}
    push_link(context, Ledger(rows), find("nyx"))
    assert xcoms == ({} if url is None else {"run_url": url})
