"""Several runs that are watched together: how they stand as a whole, and the table of how each ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runops.core import OutcomePolicy, Provider, RunopsError, RunRef, RunSnapshot
from runops.core.many.rows import Row, RowState
from runops.core.many.tally import Tally, amount
from runops.core.model.policy import Verdict

FEW = 50
"""So many runs are told one by one; of more, only what did not end as a plain success."""
MOST_ROWS = 100
"""Rows of a table that a person still reads."""


@dataclass(frozen=True, slots=True)
class End:
    """A row of the table.

    Args:
        run_id: The run's id.
        outcome: How it ended.
        verdict: What that is worth.
        spend: What it spent, for people, or an empty text.
        why: Why it ended so, or an empty text.
    """

    run_id: str
    outcome: str
    verdict: str
    spend: str
    why: str


class Whole:
    """The counts of all runs of one command, kept up to date with each look.

    Args:
        provider: Whose runs they are.
        refs: The runs.
        policy: What an outcome is worth.
    """

    def __init__(self, provider: Provider, refs: Sequence[RunRef], policy: OutcomePolicy) -> None:
        self._provider = provider
        self._policy = policy
        self._rows = {
            ref: Row(
                index=index, key=ref.run_id, state=RowState.ATTACHED, run_id=ref.run_id, parents=ref.parents,
                attached=True,
            )
            for index, ref in enumerate(refs)
        }  # fmt: skip
        self._tally = Tally(self._rows.values())

    @property
    def several(self) -> bool:
        """Whether there is a whole to speak of."""
        return self._tally.total > 1

    @property
    def many(self) -> bool:
        """Whether a line for each run would be more than a person reads."""
        return self._tally.total > FEW

    @property
    def over(self) -> bool:
        """Whether no run is waited for any more."""
        return self._tally.over == self._tally.total

    @property
    def share(self) -> float:
        """How much of it is over, from 0 to 1."""
        return self._tally.over / max(self._tally.total, 1)

    def line(self) -> str:
        """The counts, such as ``312/1,000: 290 succeeded, 20 degraded, 2 failed, 688 running, 12.40 USD``."""
        return self._tally.line(self._provider)

    def saw(self, snapshot: RunSnapshot) -> None:
        """Take in what a run has spent by now."""
        spend = self._provider.spend.of(snapshot.details) if self._provider.spend else None
        row = self._rows.get(snapshot.ref)
        if row is not None and spend is not None and spend != row.spend and not row.is_over:
            self._change(snapshot.ref, row.spending(spend))

    def ended(self, snapshot: RunSnapshot) -> None:
        """Take in a run's end."""
        row = self._rows.get(snapshot.ref)
        if snapshot.outcome is None or row is None:
            return
        self._change(snapshot.ref, row.ended(snapshot, self._policy.judge(snapshot), self._provider))

    def failed(self, ref: RunRef, why: str) -> None:
        """Take in that it cannot be told how a run stands."""
        row = self._rows.get(ref)
        if row is not None:
            self._change(ref, row.failed(RunopsError(why)))

    def _change(self, ref: RunRef, after: Row) -> None:
        self._tally.change(self._rows[ref], after)
        self._rows[ref] = after

    # --- the table ---

    def ends(self) -> tuple[list[End], int]:
        """The rows of the table, and how many it leaves out: of many runs it has those that are no plain success."""
        found = [(ref, row) for ref, row in self._rows.items() if not self.many or row.verdict is not Verdict.SUCCEED]
        return [self._end(ref, row) for ref, row in found[:MOST_ROWS]], max(len(found) - MOST_ROWS, 0)

    def _end(self, ref: RunRef, row: Row) -> End:
        unit = self._provider.spend.unit if self._provider.spend else ""
        spend = "" if row.spend is None else amount(row.spend, unit)
        verdict = "-" if row.verdict is None else str(row.verdict)
        outcome = "could not tell" if row.outcome is None else str(row.outcome)
        return End(ref.run_id, outcome, verdict, spend, row.reason or "")
