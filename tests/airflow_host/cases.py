"""The tasks of the kill matrix, and how each must end. Data only."""

from __future__ import annotations

from dataclasses import dataclass

from tests.airflow_host.moments import BEFORE, BETWEEN, DEFERRING, DURING, MARKED, RESUMING, WAITING

UNCERTAIN = "SubmitUncertainError"


@dataclass(frozen=True)
class Case:
    """One task of the matrix.

    Args:
        provider: The provider's name.
        moment: Where its task is when something dies.
        deferrable: Whether it waits in the triggerer.
        adopt: ``adopt_uncertain``.
        marked: ``mark_runs``.
    """

    provider: str
    moment: str
    deferrable: bool = True
    adopt: bool = False
    marked: bool = True

    @property
    def name(self) -> str:
        """Its task id."""
        where = "deferrable" if self.deferrable else "worker"
        more = [*(["adopting"] if self.adopt else []), *([] if self.marked else ["unmarked"])]
        return "_".join([self.moment, self.provider, where, *more])

    @property
    def lost(self) -> bool:
        """Whether a death of the worker at this moment leaves a submit of which nobody knows how it went."""
        return self.moment in (MARKED, DURING, BETWEEN)

    @property
    def proven(self) -> bool:
        """Whether the service shows a mark of ours, so that a lost run is found and a missing one is known to be."""
        return self.provider == "nyx" and self.marked

    @property
    def runs_after_death(self) -> int:
        """How many runs there are in the end, if the worker dies at the moment."""
        return 0 if self.moment == MARKED and not self.proven else 1

    @property
    def error_after_death(self) -> str | None:
        """How the task ends, if the worker dies at the moment; None: well."""
        found_again = self.proven or (self.runs_after_death == 1 and self.adopt)
        return UNCERTAIN if self.lost and not found_again else None


CASES = (
    Case("nexio", BEFORE),
    Case("nyx", BEFORE, deferrable=False),
    Case("nexio", MARKED),
    Case("nyx", MARKED, deferrable=False),
    Case("nyx", MARKED),
    Case("nexio", DURING),
    Case("b3os", DURING, deferrable=False),
    Case("onepin", DURING),
    Case("nexio", BETWEEN, deferrable=False),
    Case("nyx", BETWEEN),
    Case("nyx", BETWEEN, deferrable=False, marked=False),
    Case("b3os", BETWEEN, adopt=True),
    Case("onepin", BETWEEN, deferrable=False),
    Case("b3os", DEFERRING),
    Case("nexio", WAITING),
    Case("nyx", WAITING),
    Case("onepin", WAITING, deferrable=False),
    Case("nexio", WAITING, deferrable=False),
    Case("onepin", RESUMING),
    Case("nexio", RESUMING),
)
