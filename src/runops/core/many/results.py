"""What a set of runs gives to people and to later tasks, in every host: the whole, the failed in full, a row a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict, cast

from runops.core.declaration import Provider
from runops.core.many.ledger import Ledger
from runops.core.many.rows import Row
from runops.core.many.rules import ManyRules, Require
from runops.core.model.run import EndedBy, Outcome, RunRef, RunResult, RunSnapshot

MOST_FAILED = 100
"""Runs that did not end well, and that a result shows in full."""


class ManyResult(TypedDict):
    """A set of runs as plain data. Keys are only ever added."""

    schema: int
    provider: str
    total: int
    outcomes: dict[str, int]
    """How many runs ended so; only what there was."""
    verdicts: dict[str, int]
    spend: float | None
    """What all runs have spent, in ``spend_unit``; None where none of them says it."""
    spend_unit: str | None
    failed: list[RunResult]
    """The first 100 that did not end well: a fail verdict, or an error that ended their wait."""
    failed_count: int
    requirement: Require
    met: bool
    stopped_early: bool
    kept: int
    """Results of earlier tries that stand."""
    submitted: int
    """Runs that this try has submitted."""
    unsent: int
    """Runs that were never submitted."""


def summary(
    ledger: Ledger,
    provider: Provider,
    rules: ManyRules,
    *,
    results: Mapping[int, RunResult] | None = None,
    stopped_early: bool = False,
    kept: int = 0,
    submitted: int = 0,
) -> ManyResult:
    """A set as plain data.

    Args:
        ledger: Where it stands.
        provider: Whose runs they are.
        rules: What was required of it.
        results: What is known in full, by row; for others stands what their row knows.
        stopped_early: Whether the rest was cancelled since the whole was decided.
        kept: Results of earlier tries that stand.
        submitted: Runs that this try has submitted.
    """
    tally, known = ledger.tally, results or {}
    bad = [row for row in ledger if row.is_over and not row.good]
    counts = tally.to_dict()
    return ManyResult(
        schema=1,
        provider=provider.name,
        total=tally.total,
        outcomes=counts["outcomes"],
        verdicts=counts["verdicts"],
        spend=tally.spend,
        spend_unit=provider.spend.unit if provider.spend else None,
        failed=[known.get(row.index) or full(row, provider) for row in bad[:MOST_FAILED]],
        failed_count=len(bad),
        requirement=rules.require.wanted,
        met=tally.good >= rules.require.needed(tally.total),
        stopped_early=stopped_early,
        kept=kept,
        submitted=submitted,
        unsent=tally.unsent,
    )


def compact(row: Row, provider: Provider | None = None) -> dict[str, Any]:
    """A run as later tasks get it: without what is not known.

    Args:
        row: The run.
        provider: Tells the run's page; None to leave it out.
    """
    ref = row.ref(provider.name) if provider else None
    form: dict[str, Any] = {
        "index": row.index,
        "run_id": row.run_id,
        "outcome": row.outcome and str(row.outcome),
        "verdict": row.verdict and str(row.verdict),
        "spend": row.spend,
        "url": row.url or (provider.url(ref) if provider and ref else None),
        "error": row.error,
        "ended_by": row.ended_by,
    }
    return {name: value for name, value in form.items() if value is not None}


def full(row: Row, provider: Provider) -> RunResult:
    """A run in the form that a single run's task gives, as far as its row knows it.

    Args:
        row: The run.
        provider: Whose run it is.
    """
    ref = row.ref(provider.name) or RunRef(provider=provider.name, run_id="", parents=dict(row.parents))
    ended_by = row.ended_by if row.outcome is Outcome.TIMED_OUT else None
    last = RunSnapshot(
        ref=ref,
        state=None,
        outcome=row.outcome,
        reason=row.reason,
        url=row.url or (provider.url(ref) if row.run_id else None),
        ended_by=cast("EndedBy | None", ended_by),
    )
    return last.to_result(row.verdict)
