"""How the end of many runs becomes events of Dagster, as verdicts.py does it for one. It waits for nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Any

import dagster as dg

from runops.core import Outcome, Verdict
from runops.core.many.rows import Row
from runops.core.many.tally import amount
from runops.core.model.codes import Code, with_code
from runops.dagster.many.result import RunsResult
from runops.dagster.verdicts import Metadata, Shown, cell

MOST_IN_TABLE = 100
"""Rows of the table in the metadata: Dagster's page draws each of them, and the event that holds them is loaded with
every list of materialisations."""
MOST_NAMED = 5
"""Runs that the text of a failure names."""
_FIRST = {Verdict.FAIL: 0, None: 1, Verdict.WARN: 2, Verdict.SKIP: 3, Verdict.SUCCEED: 4}
"""What a person looks for comes first."""
_CODES = {Verdict.FAIL: Code.TOO_FEW_RUNS, Verdict.SKIP: Code.RUN_SKIPPED, Verdict.WARN: Code.RUN_WARNED}


def shown_of_many(ended: RunsResult) -> Shown:
    """How the wait for many runs ended, as Dagster shows it."""
    return Shown(
        verdict=ended.verdict,
        metadata=metadata(ended),
        summary=ended.summary(),
        judged=judged(ended),
        version=_version(ended),
        value=ended.to_dict(),
        failure=partial(failure, ended),
    )


def metadata(ended: RunsResult) -> Metadata:
    """What a person wants to see of many runs: a table of them, and counts that Dagster plots over time."""
    tally = ended.tally
    found: Metadata = {
        "overview": dg.MetadataValue.md(overview(ended)),
        "runs": table(ended),
        "provider": dg.MetadataValue.text(ended.provider.name),
        "verdict": dg.MetadataValue.text(str(ended.verdict)),
        "required": dg.MetadataValue.text(str(ended.rules.require)),
        "total": dg.MetadataValue.int(tally.total),
        "good": dg.MetadataValue.int(tally.good),
    }
    # Each outcome, also where there is none of it: a line that is plotted has no holes then.
    found |= {f"outcomes/{outcome}": dg.MetadataValue.int(tally.outcomes[outcome]) for outcome in Outcome}
    found |= {f"verdicts/{verdict}": dg.MetadataValue.int(tally.verdicts[verdict]) for verdict in Verdict}
    others = {"submitted": ended.submitted, "kept": ended.kept, "given_up": tally.given_up}
    found |= {name: dg.MetadataValue.int(count) for name, count in others.items()}
    if ended.spend is not None:
        found["spend"] = dg.MetadataValue.float(ended.spend)
        found["spend_unit"] = dg.MetadataValue.text(ended.spend_unit or "")
    return {f"runops/{name}": value for name, value in found.items()}


def table(ended: RunsResult) -> dg.TableMetadataValue:
    """One row for each run, those first that a person looks for; at most :data:`MOST_IN_TABLE` of them."""
    first = sorted(ended.rows, key=lambda row: (_FIRST[row.verdict], row.index))[:MOST_IN_TABLE]
    return dg.MetadataValue.table([_record(ended, row) for row in first], _schema(ended))


def overview(ended: RunsResult) -> str:
    """What a person wants to know first, as a table in Markdown."""
    tally = ended.tally
    spend = None if ended.spend is None else amount(ended.spend, ended.spend_unit or "")
    left_out = max(tally.total - MOST_IN_TABLE, 0)
    rows: dict[str, str | None] = {
        "Runs": f"{tally.total:,}",
        "Verdict": str(ended.verdict),
        "Required": f"{ended.rules.require} ({ended.rules.require.needed(tally.total):,}); good: {tally.good:,}",
        **{cell(str(outcome).replace("_", " ")): f"{tally.outcomes[outcome]:,}" for outcome in Outcome},
        "could not be started or read": _count(len(_troubled(ended))),
        "given up": _count(tally.given_up),
        "Spent": spend,
        "Kept of an earlier try": _count(ended.kept),
        "Not in the table of runs": _count(left_out),
    }
    lines = [f"| {title} | {text} |" for title, text in rows.items() if text not in (None, "0")]
    return "\n".join([f"| {cell(ended.provider.name)} | |", "|---|---|", *lines])


def judged(ended: RunsResult) -> str:
    """One line that says why a check has passed or failed."""
    return with_code(_judged(ended), _CODES.get(ended.verdict))


def _judged(ended: RunsResult) -> str:
    needed = ended.rules.require.needed(ended.tally.total)
    early = ", decided early" if ended.stopped_early else ""
    return f"{ended.summary()}; {ended.tally.good:,} are good of {needed:,} required{early}; verdict: {ended.verdict}."


def failure(ended: RunsResult) -> dg.Failure:
    """The end of a step in which too few runs have ended well, and whether a retry policy may try again."""
    may_help = ended.tally.retry_may_help(ended.rules.require) and not (ended.given and _only_failures(ended.failed))
    named = "; ".join(_named(ended, row) for row in ended.failed[:MOST_NAMED])
    more = f"; and {len(ended.failed) - MOST_NAMED:,} more" if len(ended.failed) > MOST_NAMED else ""
    return dg.Failure(
        description=with_code(f"{_judged(ended)} {named}{more}. {_advice(ended, may_help)}", Code.TOO_FEW_RUNS),
        metadata=metadata(ended),
        allow_retries=may_help,
    )


def _advice(ended: RunsResult, may_help: bool) -> str:
    if not may_help:
        return "A retry could not change that."
    if ended.given:
        return "A retry waits again for those that are not over, and keeps what is known of the others."
    return (
        "A retry submits anew what has failed, takes up again what may be alive, and keeps the results of all other "
        "runs."
    )


def _only_failures(rows: Sequence[Row]) -> bool:
    """Whether nothing of them is left to wait for: a step that was given its runs can start no others."""
    return all(row.outcome is not None and row.outcome is not Outcome.TIMED_OUT for row in rows)


def _named(ended: RunsResult, row: Row) -> str:
    name = f"{ended.provider.name} run {row.run_id}" if row.run_id else "not started"
    how = row.outcome or row.error or row.ended_by or row.state
    return f"[{row.index}] {name}: {how}{f', {row.reason}' if row.reason else ''}".rstrip(".")


def _troubled(ended: RunsResult) -> list[Row]:
    return [row for row in ended.failed if row.error is not None]


def _count(number: int) -> str | None:
    return f"{number:,}" if number else None


def _record(ended: RunsResult, row: Row) -> dg.TableRecord:
    ref = row.ref(ended.provider.name)
    cells: dict[str, Any] = {
        "index": row.index,
        "run": row.run_id or "",
        "outcome": str(row.outcome or row.error or row.ended_by or row.state),
        "verdict": str(row.verdict or ""),
        "reason": row.reason or "",
        "page": row.url or (ended.provider.url(ref) if ref else None) or "",
    }
    return dg.TableRecord(cells | ({"spend": row.spend} if ended.provider.spend else {}))


def _schema(ended: RunsResult) -> dg.TableSchema:
    names = ["run", "outcome", "verdict", "reason", "page"]
    spend = [dg.TableColumn("spend", "float", description=ended.spend_unit)] if ended.provider.spend else []
    return dg.TableSchema([dg.TableColumn("index", "int"), *(dg.TableColumn(name) for name in names), *spend])


def _version(ended: RunsResult) -> str:
    """Other runs, another version."""
    ids = "\n".join(f"{row.run_id or ''}" for row in ended.rows)
    return f"{ended.provider.name}:{len(ended.rows)} runs:{hashlib.sha256(ids.encode()).hexdigest()[:32]}"
