"""Tasks of 200 runs that can be held at a moment of their life, and how each must end. For test DAGs only."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runops.airflow import RunsOperator
from runops.airflow.many.ledger_store import LedgerStore
from runops.core.many.ledger import Ledger
from runops.core.many.rows import RowState
from tests.airflow_host.host import KILL_FOLDER
from tests.airflow_host.moments import BETWEEN, DEFERRING, DURING, MARKED, RESUMING, WAITING, arguments

RUNS = 200
FATAL = 37
"""The submit at which a task dies."""
ACTIVE = 100
SECONDS = 600.0
"""Far longer than the test, which ends the runs itself: nothing goes on while the tasks come to their moments."""


@dataclass(frozen=True)
class SetCase:
    """One task of the matrix.

    Args:
        provider: The provider's name.
        moment: Where its task is when something dies.
        deferrable: Whether it waits in the triggerer.
        adopt: ``adopt_uncertain``.
    """

    provider: str
    moment: str
    deferrable: bool = True
    adopt: bool = False

    @property
    def name(self) -> str:
        """Its task id."""
        where = "deferrable" if self.deferrable else "worker"
        return "_".join([self.moment, self.provider, where, *(["adopting"] if self.adopt else [])])

    @property
    def loses_one(self) -> bool:
        """Whether the death leaves a submit of which nobody can tell how it went."""
        return self.moment in (MARKED, DURING, BETWEEN) and self.provider != "nyx" and not self.adopt

    @property
    def submits(self) -> int:
        """How many runs there are in the end."""
        return RUNS - 1 if self.loses_one and self.moment == MARKED else RUNS


CASES = (
    SetCase("nyx", MARKED, deferrable=False),
    SetCase("nyx", DURING),
    SetCase("onepin", DURING, deferrable=False),
    SetCase("onepin", BETWEEN, adopt=True),
    SetCase("nyx", WAITING),
    SetCase("nyx", WAITING, deferrable=False),
    SetCase("onepin", RESUMING),
)
"""Their providers are no others' in this DAG run of tests: the test ends all runs of them, again and again."""


class _HeldStore(LedgerStore):
    """A record whose task can be held before and after a write of it."""

    task: HeldSet
    context: Any

    def save(self, pages: Any) -> None:
        rows = [row for number, page in pages.items() for row in Ledger.rows_from_pages({number: page})]
        known = sum(row.run_id is not None for row in rows)
        announced = known + sum(row.state is RowState.SUBMITTING for row in rows)
        if known >= FATAL:
            self.task.hold(self.context, BETWEEN)
        super().save(pages)
        if announced >= FATAL:
            self.task.hold(self.context, MARKED)


class HeldSet(RunsOperator):
    """Holds a task at one moment of its life, in the first try that comes there.

    :param moment: Which one; those of the outside hold nothing here.
    """

    def __init__(self, *, moment: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.moment = moment

    def hold(self, context: Any, moment: str) -> None:
        """Wait for the test's word, if this is the moment and nobody was held at it before."""
        if moment != self.moment:
            return
        ti = context["ti"]
        mark = Path(os.environ[KILL_FOLDER]) / f"{ti.run_id}.{ti.task_id}.{moment}.reached"
        if mark.exists():
            return
        mark.touch()
        self.log.info("Held: %s.", moment)
        go = Path(os.environ[KILL_FOLDER]) / f"{ti.run_id}.go"
        while not go.exists():
            time.sleep(0.1)

    def _ledger_store(self, context: Any) -> LedgerStore:
        if self._store is None:
            store = _HeldStore(context, durable=self.durable, everlasting=self.on_clear == "reattach")
            store.task, store.context = self, context
            self._store = store
        return self._store

    def _defer(self, context: Any, *arguments: Any, **named: Any) -> Any:
        self.hold(context, DEFERRING)
        return super()._defer(context, *arguments, **named)

    def execute_complete(self, context: Any, event: dict[str, Any] | None = None) -> Any:
        self.hold(context, RESUMING)
        return super().execute_complete(context, event)


def calls(provider: str, task_id: str, *, count: int = RUNS, seconds: float = SECONDS, bad: int = 0) -> list[Any]:
    """So many calls with a parent each.

    :param provider: The provider's name.
    :param task_id: The task.
    :param count: How many.
    :param seconds: How long each run takes.
    :param bad: So many of them fail.
    """
    return [
        arguments(
            provider,
            parent_of_one("{{ run_id }}", task_id, number),
            seconds=seconds,
            script="failed" if number < bad else "succeeded",
        )
        for number in range(count)
    ]


def parent_of_one(run_id: str, task_id: str, number: int) -> str:
    """The parent of one run."""
    return f"{run_id}-{task_id}-{number:03d}"
