"""What is wanted of a set of runs, and why it has ended: what hosts hand to the driver, and get back from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from runops.core.declaration import Call
from runops.core.many.rules import ManyRules
from runops.core.model.policy import OutcomePolicy
from runops.core.model.run import WaitClock
from runops.core.waiting.options import SUBMIT_GRACE, WaitOptions
from runops.core.waiting.submit_in_turn import TurnRules

STOP_SECONDS = 30.0
"""Seconds for which a set that ends waits for POSTs under way and for its cancels."""


class End(StrEnum):
    """Why a set has ended here."""

    ALL = "all"
    """Every wait is over."""
    DECIDED = "decided"
    """``stop_early``: enough runs have ended well, or cannot any more."""
    TIMEOUT = "timeout"
    """The deadline is over. What was not submitted by then is not."""
    MAX_SPEND = "max_spend"
    """All runs together have spent what they may."""
    SUSPENDED = "suspended"
    """``until``: the host goes on with the rest elsewhere."""
    STOPPED = "stopped"
    """By :meth:`ManyRuns.stop`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SubmitPlan:
    """What a set submits, and how.

    Args:
        calls: The submissions, each at the index of its row.
        turns: What is done where something is active already; its ``until`` is the end of the whole wait.
        identity: What names the task for good, over its tries; each run's mark is made of it and of its key.
        adopt_uncertain: Where no mark proves whose a run is, take the single new one for ours.
        grace: Seconds for which the run of a lost answer is looked for.
    """

    calls: Sequence[Call]
    turns: TurnRules
    identity: str | None = None
    adopt_uncertain: bool = False
    grace: float = SUBMIT_GRACE


@dataclass(frozen=True, kw_only=True, slots=True)
class ManyPlan:
    """What is wanted of a set.

    Args:
        rules: Of the whole.
        policy: What each outcome means.
        wait: The clocks of each wait. Its deadline is that of the whole set; what all may spend, the rules say.
        submits: What is submitted; None where the runs were given.
        again: Rows that an earlier try has left, see :class:`TakenUp`: one that is found over at the first look, in a
            way that a retry repeats, gives way to a new run.
        clock: Which clock the deadline of the waits is: the host's own for a try always fails it.
        once: Whether each wait ends at its first good look, and its row goes on: for hosts that come back. A state
            that needs time to settle is looked at until it has.
        last: With ``once``: whether what goes on after its look, or could not be looked at, has ended by ``clock``.
        cancel_on_timeout: Whether a run of ours is cancelled when a clock or a limit has ended its wait.
        cancel_on_kill: Whether our runs are cancelled when the asyncio task of the set is cancelled.
        stop_seconds: For how long a set that ends waits for POSTs under way and for its cancels.
        line_every: Seconds between two lines about the whole at the least.
    """

    rules: ManyRules
    policy: OutcomePolicy
    wait: WaitOptions
    submits: SubmitPlan | None = None
    again: frozenset[int] = frozenset()
    clock: WaitClock = "timeout"
    once: bool = False
    last: bool = False
    cancel_on_timeout: bool = True
    cancel_on_kill: bool = True
    stop_seconds: float = STOP_SECONDS
    line_every: float = 10.0
