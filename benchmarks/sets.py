"""Waits of runops as one set: what a task that waits for many runs adds to the shared poller."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.waits import Runops
from runops.core import OutcomePolicy
from runops.core.client.many_plan import ManyPlan
from runops.core.client.many_runs import ManyRuns
from runops.core.many.ledger import Changes, Ledger
from runops.core.many.rules import ManyRules
from runops.core.model.policy import Judgement
from runops.core.model.run import RunSnapshot


@dataclass(frozen=True)
class Noting(OutcomePolicy):
    """The usual verdicts; notes which run has ended."""

    ended: Callable[[RunSnapshot], None] = field(default=lambda snapshot: None)

    def judge(self, snapshot: RunSnapshot) -> Judgement:
        self.ended(snapshot)
        return super().judge(snapshot)


class RunsOfASet(Runops):
    """All runs of a scenario as one set, with a record that is written as a host would."""

    async def carry(self, count: int, ended: Callable[[int], None]) -> None:
        """Wait for so many runs; ``ended`` is told the number of each.

        Raises:
            AssertionError: One of them did not end well.
        """

        async def store(changes: Changes) -> None:
            # What is written is made, and left to no database.
            changes.pages()

        usual = self.provider.policy()
        policy: Any = Noting(
            usual.verdicts, usual.rules, ended=lambda snapshot: ended(int(snapshot.ref.run_id.replace("-", ""), 16))
        )
        ledger = Ledger.of_refs(self.ref(number) for number in range(count))
        plan = ManyPlan(rules=ManyRules.build(), policy=policy, wait=self.patience())
        many = ManyRuns(self.clients[0], ledger, plan, store=store, progress=lambda tally: None)
        await many.run()
        if ledger.tally.good != count:
            raise AssertionError(ledger.tally.line(self.provider))
