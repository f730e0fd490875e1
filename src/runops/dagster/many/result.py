"""How the wait for many runs in one step ended, for users and for what Dagster shows of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runops.core import Provider, Verdict
from runops.core.many.ledger import Ledger
from runops.core.many.results import compact, summary
from runops.core.many.rows import Row
from runops.core.many.rules import ManyRules
from runops.core.many.tally import Tally
from runops.core.model.run import RunResult as RunData


@dataclass(frozen=True, kw_only=True)
class RunsResult:
    """How a wait for many runs ended.

    Args:
        provider: The service.
        ledger: How each run stands, in the order of the list that was given.
        rules: What was asked of all of them: ``require``, ``max_active``, ``stop_early``, ``max_spend``.
        given: Whether somebody else has started the runs.
        submitted: How many runs this try has started.
        kept: Of how many runs the result of an earlier try stands.
        stopped_early: Whether the rest was cancelled, or not submitted, since all was decided.
        results: What this try knows in full of runs that did not end well, by their place.
    """

    provider: Provider
    ledger: Ledger
    rules: ManyRules
    given: bool = False
    submitted: int = 0
    kept: int = 0
    stopped_early: bool = False
    results: Mapping[int, RunData] = field(default_factory=dict[int, RunData])

    @property
    def rows(self) -> Sequence[Row]:
        """One for each run, in the order of the list that was given: ``index``, ``run_id``, ``outcome``, ``verdict``,
        ``spend``, ``reason``, ``error``, ..."""
        return self.ledger

    @property
    def tally(self) -> Tally:
        """All counts."""
        return self.ledger.tally

    @property
    def verdict(self) -> Verdict:
        """What to do about the whole; fail raises in :func:`runops.dagster.wait_for_runs`."""
        return self.tally.verdict(self.rules.require)

    @property
    def met(self) -> bool:
        """Whether as many runs as are required have ended well: by the verdicts succeed, warn and skip."""
        return self.verdict is not Verdict.FAIL

    @property
    def outcomes(self) -> Mapping[str, int]:
        """How many runs have ended how; without those that are 0."""
        return self.tally.to_dict()["outcomes"]

    @property
    def verdicts(self) -> Mapping[str, int]:
        """How many runs got which verdict; without those that are 0."""
        return self.tally.to_dict()["verdicts"]

    @property
    def spend(self) -> float | None:
        """What all runs together have spent, in the unit of :attr:`spend_unit`; None where none of them says it."""
        return self.tally.spend

    @property
    def spend_unit(self) -> str | None:
        """In what it is counted, such as ``"USD"``."""
        return self.provider.spend.unit if self.provider.spend else None

    @property
    def failed(self) -> list[Row]:
        """The runs that count against what is required, or could not be started or read."""
        return [row for row in self.ledger if row.is_over and not row.good]

    def summary(self) -> str:
        """The whole in one line."""
        return self.tally.line(self.provider)

    def to_dict(self) -> dict[str, Any]:
        """The counts and the failed runs in full (100 at most), as plain values; ``runs`` has one short entry each."""
        whole = summary(
            self.ledger,
            self.provider,
            self.rules,
            results=self.results,
            stopped_early=self.stopped_early,
            kept=self.kept,
            submitted=self.submitted,
        )
        return {**whole, "verdict": str(self.verdict), "runs": [compact(row, self.provider) for row in self.ledger]}
