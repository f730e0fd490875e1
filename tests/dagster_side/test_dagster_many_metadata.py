"""Every key and text that Dagster shows of the end of many runs, whole: counts, the table, the check, the failure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import dagster as dg
import pytest

from runops.core import Outcome, Verdict, find
from runops.core.many.ledger import Ledger
from runops.core.many.rows import Row, RowState
from runops.core.many.rules import ManyRules
from runops.dagster import RunsResult
from runops.dagster.many.verdicts import MOST_IN_TABLE, overview, shown_of_many, table

OF = dg.MetadataValue


def row(index: int, said: str, **more: Any) -> Row:
    """A row by one word: an outcome and its verdict, an error, or what ended the wait."""
    made = Row(index=index, key=f"k{index}", run_id=f"r{index}", state=RowState.ENDED)
    match said.split():
        case [outcome, verdict]:
            made = replace(made, outcome=Outcome(outcome), verdict=Verdict(verdict))
        case ["stop_early"]:
            made = replace(made, ended_by="stop_early")
        case ["ConflictError"]:
            made = replace(made, run_id=None, state=RowState.REFUSED, error=said, reason="It is busy.")
        case _:
            made = replace(made, state=RowState.UNREAD, error=said, reason="It is gone.")
    return replace(made, **more)


def end(*rows: str | Row, provider: str = "nyx", require: Any = "all", **more: Any) -> RunsResult:
    made = [row(index, each) if isinstance(each, str) else each for index, each in enumerate(rows)]
    return RunsResult(provider=find(provider), ledger=Ledger(made), rules=ManyRules.build(require=require), **more)


GOOD, SKIPPED, WARNED, FAILED = "succeeded succeed", "degraded skip", "exhausted warn", "failed fail"


def test_the_metadata_of_many_runs_count_all_of_them() -> None:
    ended = end(
        row(0, GOOD, spend=1.5),
        SKIPPED,
        WARNED,
        FAILED,
        "stop_early",
        "RunNotFound",
        require=0.5,
        submitted=4,
        kept=2,
    )
    found = shown_of_many(ended).metadata
    assert found == {
        "runops/overview": OF.md(overview(ended)),
        "runops/runs": table(ended),
        "runops/provider": OF.text("nyx"),
        "runops/verdict": OF.text("warn"),
        "runops/required": OF.text(str(ended.rules.require)),
        "runops/total": OF.int(6),
        "runops/good": OF.int(3),
        **{f"runops/outcomes/{name}": OF.int(0) for name in ("cancelled", "timed_out")},
        **{f"runops/outcomes/{name}": OF.int(1) for name in ("succeeded", "degraded", "exhausted", "failed")},
        **{f"runops/verdicts/{name}": OF.int(1) for name in ("succeed", "skip", "warn", "fail")},
        "runops/submitted": OF.int(4),
        "runops/kept": OF.int(2),
        "runops/given_up": OF.int(1),
        "runops/spend": OF.float(1.5),
        "runops/spend_unit": OF.text("USD"),
    }


def test_the_metadata_of_runs_that_say_no_spend_have_none() -> None:
    assert {"runops/spend", "runops/spend_unit"}.isdisjoint(shown_of_many(end(GOOD)).metadata)


def test_the_overview_of_many_runs_has_a_row_for_each_count_that_is_not_zero() -> None:
    rows = [
        row(0, GOOD, spend=1.5),
        row(1, FAILED),
        row(2, "timed_out fail"),
        row(3, "stop_early"),
        row(4, "RunNotFound"),
    ]
    assert overview(end(*rows, require="any", kept=2)).splitlines() == [
        "| nyx | |",
        "|---|---|",
        "| Runs | 5 |",
        "| Verdict | warn |",
        "| Required | any (1); good: 1 |",
        "| succeeded | 1 |",
        "| failed | 1 |",
        "| timed out | 1 |",
        "| could not be started or read | 1 |",
        "| given up | 1 |",
        "| Spent | 1.50 USD |",
        "| Kept of an earlier try | 2 |",
    ]


@pytest.mark.parametrize(("more", "told"), [(0, None), (1, "1"), (1200, "1,200")])
def test_the_overview_says_how_many_runs_are_not_in_the_table(more: int, told: str | None) -> None:
    lines = overview(end(*[GOOD] * (MOST_IN_TABLE + more))).splitlines()
    assert [line for line in lines if "Not in the table" in line] == (
        [f"| Not in the table of runs | {told} |"] if told else []
    )


# --- the table of runs -----------------------------------------------------------------------------------------


def test_the_table_begins_with_what_a_person_looks_for() -> None:
    found = table(end(GOOD, SKIPPED, WARNED, "RunNotFound", FAILED, FAILED))
    assert [record.data["index"] for record in found.records] == [4, 5, 3, 2, 1, 0]


def test_a_row_of_the_table_says_how_its_run_ended_and_where_that_is_seen() -> None:
    failed = row(0, FAILED, reason="no rows", url="https://x.test/r0", spend=2.5)
    found = table(end(failed, "ConflictError", "stop_early", row(3, GOOD, spend=1.0)))
    page = find("nyx").url(find("nyx").ref("r3"))
    assert page
    by_index = {record.data["index"]: {**record.data} for record in found.records}
    assert by_index[0] == {
        "index": 0,
        "run": "r0",
        "outcome": "failed",
        "verdict": "fail",
        "reason": "no rows",
        "page": "https://x.test/r0",
        "spend": 2.5,
    }
    assert by_index[1] == {
        "index": 1,
        "run": "",
        "outcome": "ConflictError",
        "verdict": "",
        "reason": "It is busy.",
        "page": "",
        "spend": None,
    }
    assert (by_index[2]["outcome"], by_index[2]["verdict"]) == ("stop_early", "")
    assert (by_index[3]["page"], by_index[3]["reason"], by_index[3]["spend"]) == (page, "", 1.0)


@pytest.mark.parametrize(("provider", "spend"), [("nyx", [("spend", "float", "USD")]), ("nexio", [])])
def test_the_columns_of_the_table_are_those_of_its_service(provider: str, spend: list[Any]) -> None:
    found = table(end(GOOD, provider=provider))
    assert [(column.name, column.type, column.description) for column in found.schema.columns] == [
        ("index", "int", None),
        *((name, "string", None) for name in ("run", "outcome", "verdict", "reason", "page")),
        *spend,
    ]
    assert set(found.records[0].data) == {column.name for column in found.schema.columns}


# --- the check and the failure ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "require", "verdict", "needed", "code"),
    [
        ([GOOD, GOOD], "all", "succeed", 2, ""),
        ([GOOD, FAILED], "any", "warn", 1, " [run-warned]"),
        ([SKIPPED, SKIPPED], "all", "skip", 2, " [run-skipped]"),
        ([GOOD, FAILED], "all", "fail", 2, " [too-few-runs]"),
    ],
)
@pytest.mark.parametrize(("stopped", "early"), [(False, ""), (True, ", decided early")])
def test_the_check_of_many_runs_says_what_was_required_and_whether_it_was_decided_early(
    rows: list[str], require: str, verdict: str, needed: int, code: str, stopped: bool, early: str
) -> None:
    ended = end(*rows, require=require, stopped_early=stopped)
    found = shown_of_many(ended)
    good = ended.tally.good
    assert found.judged == f"{ended.summary()}; {good} are good of {needed} required{early}; verdict: {verdict}.{code}"
    assert found.check().description == found.judged
    assert (found.summary, found.verdict, found.value["verdict"]) == (ended.summary(), verdict, verdict)


ANEW = (
    "A retry submits anew what has failed, takes up again what may be alive, and keeps the results of all other runs."
)
AGAIN = "A retry waits again for those that are not over, and keeps what is known of the others."
NOTHING = "A retry could not change that."


@pytest.mark.parametrize(
    ("rows", "given", "advice", "again"),
    [
        ([GOOD, FAILED], False, ANEW, True),
        ([GOOD, FAILED], True, NOTHING, False),
        ([GOOD, "timed_out fail"], True, AGAIN, True),
        ([FAILED, "timed_out fail"], True, AGAIN, True),
        ([GOOD, "cancelled fail"], False, NOTHING, False),
        ([GOOD, "PollingError"], True, AGAIN, True),
        ([GOOD, "RunNotFound"], True, NOTHING, False),
        ([GOOD, "ConflictError"], False, ANEW, True),
    ],
)
def test_a_failure_of_many_runs_says_what_a_retry_would_do(
    rows: list[str], given: bool, advice: str, again: bool
) -> None:
    ended = end(*rows, given=given)
    found = shown_of_many(ended).failure()
    assert str(found.description).endswith(f". {advice} [too-few-runs]")
    assert found.allow_retries is again
    assert found.metadata == shown_of_many(ended).metadata


@pytest.mark.parametrize(("failed", "more"), [(1, ""), (5, ""), (6, "; and 1 more"), (8, "; and 3 more")])
def test_a_failure_names_the_first_five_runs_and_counts_the_others(failed: int, more: str) -> None:
    rows = [row(index, FAILED, reason="no rows." if index == 1 else None) for index in range(failed)]
    ended = end(*rows)
    named = [f"[{index}] nyx run r{index}: failed{', no rows' if index == 1 else ''}" for index in range(failed)][:5]
    whole = f"{ended.summary()}; 0 are good of {failed} required; verdict: fail. {'; '.join(named)}{more}. {ANEW}"
    assert shown_of_many(ended).failure().description == f"{whole} [too-few-runs]"


def test_a_failure_names_what_was_never_started_by_its_error() -> None:
    assert "[0] not started: ConflictError, It is busy. A retry" in str(
        shown_of_many(end("ConflictError")).failure().description
    )


def test_other_runs_are_another_version_and_the_same_are_the_same() -> None:
    first, again, other = (shown_of_many(end(*rows)) for rows in ([GOOD, GOOD], [GOOD, FAILED], [GOOD]))
    assert first.version == again.version != other.version
    assert first.version.startswith("nyx:2 runs:")
    assert len(first.version) == len("nyx:2 runs:") + 32
    assert shown_of_many(end("ConflictError", GOOD)).version != shown_of_many(end(GOOD, "ConflictError")).version
    made = first.materialisation(dg.AssetKey("a"), [])
    assert made.data_version == dg.DataVersion(first.version)


# --- what users get --------------------------------------------------------------------------------------------


def test_a_result_has_the_counts_of_its_runs() -> None:
    ended = end(row(0, GOOD, spend=1.5), FAILED, "RunNotFound", "stop_early", require="any")
    assert ended.outcomes == {"succeeded": 1, "failed": 1}
    assert ended.verdicts == {"succeed": 1, "fail": 1}
    assert (ended.spend, ended.spend_unit, ended.met) == (1.5, "USD", True)
    assert [each.index for each in ended.failed] == [1, 2, 3]
    assert (end(FAILED).met, end(SKIPPED).met) == (False, True)
    assert end(GOOD, provider="nexio").spend_unit is None


def test_a_result_as_plain_values_has_the_whole_and_one_entry_for_each_run() -> None:
    ended = end(GOOD, FAILED, require="any", stopped_early=True, kept=3, submitted=4)
    found = ended.to_dict()
    assert [each["index"] for each in found["runs"]] == [0, 1]
    told = {name: found[name] for name in ("verdict", "stopped_early", "kept", "submitted")}
    assert told == {"verdict": "warn", "stopped_early": True, "kept": 3, "submitted": 4}
