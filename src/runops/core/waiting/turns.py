"""Turns: what a submit does where the service refuses a second active run (409). It sends reads, and no submit itself.

A 409 proves that its POST has started nothing. Then one of three (``on_conflict``):

- ``wait``: until the lists of the parent show nothing active, and submit then. Where nothing active can be seen (no
  list, a list that lags, a limit of the whole workspace) the next POST itself tells, after growing pauses. A list that
  cannot be had for a while sends no POST: its answer would get lost likewise. A :class:`Turn` is all that such a wait
  knows; it may travel between processes, and keeps its deadline and its place in the line;
- ``attach``: the one active run is taken as if it were given, so that nobody here may cancel it;
- ``fail``: the refusal is the end.

The whole of a submit with its turns is in submit_in_turn.py.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from runops.core.declaration import Call, Provider
from runops.core.model.cadence import backoff, spread
from runops.core.model.codes import Code, with_code
from runops.core.model.errors import AuthError, ConflictError, RunopsError, TransientError
from runops.core.model.run import RunRef, RunSnapshot
from runops.core.transport.keys import KeyRead
from runops.core.waiting.flows import latest_page, list_page, pause_after
from runops.core.waiting.options import DEFAULT_AUTH_GRACE, DEFAULT_ERROR_BUDGET
from runops.core.waiting.refused_key import RefusedKey
from runops.core.waiting.steps import Clock, Flow, ReadKey, Sleep

logger = logging.getLogger("runops")

FIRST_PAUSE, LONGEST_PAUSE = 2.0, 60.0
"""Seconds between two POSTs where nothing active can be seen."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """A wait for a turn. JSON primitives without any payload, so it may travel between processes.

    Args:
        parent: Under which the service lists the runs that may be in the way; empty where it lists none.
        since: When the wait began, in unix seconds: its place in the line.
        until: When it ends at the latest, in unix seconds.
        mark: What the run's text will end with; None where runs are not marked.
        refusals: How often in a row a POST was refused although nothing active could be seen.
        in_the_way: The run that was seen active last, and that people have been told of; None before there is one.
        state: That run's state, in the service's own word.
        interval: The shortest time between two looks, in seconds; None for what the declaration says.
        error_budget: Seconds of failed looks in a row before the wait gives up.
        auth_grace: Seconds for which a key that was good may be refused before the wait gives up.
    """

    parent: Mapping[str, str]
    since: float
    until: float
    mark: str | None = None
    refusals: int = 0
    in_the_way: str | None = None
    state: str | None = None
    interval: float | None = None
    error_budget: float = DEFAULT_ERROR_BUDGET
    auth_grace: float = DEFAULT_AUTH_GRACE

    def to_dict(self) -> dict[str, Any]:
        """JSON primitives that :meth:`from_dict` reads."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """What :meth:`to_dict` wrote; fields that this version does not know are left out."""
        known: dict[str, Any] = {name: value[name] for name in cls.__dataclass_fields__ if name in value}
        known["parent"] = dict(value.get("parent") or {})
        return cls(**known)

    def behind(self, run: RunSnapshot) -> Turn:
        """The same wait, behind a run that is active."""
        return replace(self, in_the_way=run.ref.run_id, state=run.state, refusals=0)


@dataclass(frozen=True, slots=True)
class Standing:
    """What a look at a parent's newest runs showed.

    Args:
        active: Those that are not over.
        ids: All of them.
    """

    active: tuple[RunSnapshot, ...] = ()
    ids: frozenset[str] = field(default_factory=frozenset[str])


def refused(
    provider: Provider,
    call: Call,
    conflict: ConflictError,
    earlier: Turn | None,
    *,
    now: float,
    until: float,
    mark: str | None = None,
    interval: float | None = None,
    error_budget: float = DEFAULT_ERROR_BUDGET,
    auth_grace: float = DEFAULT_AUTH_GRACE,
) -> Turn:
    """The wait for a turn after a refusal: a new one, or an earlier one that goes on at its place.

    Args:
        provider: The provider.
        call: What was refused.
        conflict: The refusal.
        earlier: The wait before this POST, if there was one.
        now: Unix seconds.
        until: When a new wait ends.
        mark: What the refused POST bore.
        interval: As :class:`Turn` takes it.
        error_budget: As :class:`Turn` takes it.
        auth_grace: As :class:`Turn` takes it.

    Raises:
        ConflictError: The wait is over.
    """
    turn = earlier or Turn(
        parent=dict(call.parent) if _shows_active(provider) else {},
        since=now,
        until=until,
        mark=mark,
        interval=interval,
        error_budget=error_budget,
        auth_grace=auth_grace,
    )
    turn = turn.behind(conflict.active[0]) if conflict.active else replace(turn, refusals=turn.refusals + 1)
    if now >= turn.until:
        raise expired(provider, turn, now)
    return turn


def notice(provider: Provider, turn: Turn) -> str:
    """Why a turn is waited for, as one line for a person."""
    if turn.in_the_way is None:
        text = (
            f"{provider.title} refuses the run (409), and nothing active can be seen that is in its way: "
            "it is submitted again after growing pauses."
        )
    else:
        text = f"Waiting for a turn at {provider.title}: run {turn.in_the_way} ({turn.state}) is active there."
    return with_code(text, Code.WAITING_FOR_TURN)


def is_news(turn: Turn, earlier: Turn | None) -> bool:
    """Whether people have not been told yet of what is in the way."""
    return earlier is None or turn.in_the_way != earlier.in_the_way


def expired(provider: Provider, turn: Turn, now: float, ended_by: str = "timeout") -> ConflictError:
    """The end of a wait whose time is over.

    Args:
        provider: The provider.
        turn: The wait.
        now: Unix seconds.
        ended_by: Which clock ended it.
    """
    run = "nothing active could be seen in the way"
    if turn.in_the_way is not None:
        run = f"run {turn.in_the_way} ({turn.state}) was in the way last"
    return ConflictError(
        f"No turn came at {provider.title} within {max(now - turn.since, 0.0):.0f} s ({ended_by}): {run}. "
        "Nothing was submitted.",
        status=409,
    )


def the_active(provider: Provider, conflict: ConflictError) -> RunRef:
    """The run to attach to after a refusal.

    Raises:
        ConflictError: Which one is in the way cannot be told.
    """
    if _shows_active(provider) and len(conflict.active) == 1:
        return conflict.active[0].ref
    why = "several runs are active" if conflict.active else "no active run is shown"
    if not _shows_active(provider):
        why = f"{provider.title} does not show what is in the way"
    unclear = ConflictError(
        f"{conflict} There is no run to attach to: {why}.",
        status=conflict.status,
        code=conflict.code,
        retry_after=conflict.retry_after,
    )
    unclear.active = conflict.active
    raise unclear


def look(provider: Provider, parent: Mapping[str, str], *, by: float, clock: Clock) -> Flow[Standing]:
    """One look at a parent's newest runs: an active one on either route counts, and only both show that none is.

    Raises:
        RunopsError: They could not be had.
    """
    newest = yield from latest_page(provider, parent, by=by, clock=clock)
    runs = [each.snapshot for each in newest.observations] if newest else []
    if not any(run.phase is not None for run in runs):
        # The newest run by its own route may be one that another has outlived.
        page = yield from list_page(provider, parent, by=by, clock=clock)
        runs += [each.snapshot for each in page.observations]
    active = {run.ref.run_id: run for run in runs if run.phase is not None}
    return Standing(tuple(active.values()), frozenset(run.ref.run_id for run in runs))


def await_turn(
    provider: Provider,
    turn: Turn,
    *,
    clock: Clock,
    tell: Callable[[str], None] = logger.info,
    left_to_others: Callable[[Standing], float] = lambda standing: 0.0,
    update: Callable[[Turn], None] = lambda turn: None,
) -> Flow[Turn]:
    """Wait until a POST may be accepted; the wait as it stands then. What is in the way is told once.

    Args:
        provider: The provider.
        turn: What :func:`refused` gave.
        clock: Where the flow reads the time.
        tell: Given a line for people for each run in the way.
        left_to_others: Given a look that shows nothing active: for how many seconds that place is left to another.
        update: Given the wait whenever another run is in the way.

    Raises:
        ConflictError: Its time is over.
        TransientError: The lists could not be had for longer than the error budget.
    """
    wait = _WaitForTurn(turn, clock())
    if turn.refusals or not turn.parent:
        yield Sleep(wait.blind_pause(clock()))
    while True:
        now = clock()
        if now >= wait.turn.until:
            raise expired(provider, wait.turn, now)
        if not turn.parent:
            return wait.turn
        if wait.key is not None and wait.key.holds:
            read: KeyRead = yield ReadKey(wait.key.mark)
            if not wait.key.was_read(read, clock()):
                yield Sleep(wait.bounded(wait.key.pause(clock()), clock()), for_key=True)
                continue
        try:
            standing = yield from look(provider, turn.parent, by=wait.turn.until, clock=clock)
        except TransientError as error:
            pause = wait.failed(error, clock())
        except AuthError as error:
            if not wait.may_list:
                return (yield from wait.blindly(provider, error, clock))
            # The key was good a moment ago: it may have been rotated.
            wait.refused(provider, error, clock())
            continue
        except RunopsError as error:
            return (yield from wait.blindly(provider, error, clock))
        else:
            if wait.observed(standing, clock()):
                # A large list may have been read in a thread: what a host does here belongs to its own.
                yield Sleep(0.0)
                tell(notice(provider, wait.turn))
                update(wait.turn)
            pause = wait.pause(provider, clock())
            if not standing.active:
                held = left_to_others(standing)
                if held <= 0:
                    return wait.turn
                pause = min(held, provider.cadence.first)
        yield Sleep(wait.bounded(pause, clock()))


@dataclass
class _WaitForTurn:
    """What a wait for a turn has seen so far, and when it looks again."""

    turn: Turn
    since: float
    """When the run in the way was first seen there: young runs are looked at sooner."""
    failing_since: float | None = None
    failures: int = 0
    key: RefusedKey | None = None
    """What is to be done about the key, from its refusal to the next good look."""

    @property
    def may_list(self) -> bool:
        """Whether the lists were read with this key before: some keys may start runs and not list them."""
        return self.turn.in_the_way is not None

    def observed(self, standing: Standing, now: float) -> bool:
        """Take in a good look; whether another run is in the way."""
        self.failing_since, self.failures = None, 0
        if self.key is not None:
            self.key.works()
            self.key = None
        if not standing.active:
            return False
        before, self.turn = self.turn, self.turn.behind(standing.active[0])
        if not is_news(self.turn, before):
            return False
        self.since = now
        return True

    def failed(self, error: TransientError, now: float) -> float:
        """Take in a failed look; seconds until the next one."""
        self.failing_since = now if self.failing_since is None else self.failing_since
        self.failures += 1
        if now - self.failing_since >= self.turn.error_budget:
            raise error
        return pause_after(error, self.failures) * (1 - 0.5 * spread())

    def refused(self, provider: Provider, error: AuthError, now: float) -> None:
        """Take in that the key is refused, which it was not before.

        Raises:
            AuthError: It has been for ``auth_grace``.
        """
        if not self.turn.auth_grace:
            raise error
        if self.key is None:
            subject = f"The wait for a turn at {provider.title}"
            self.key = RefusedKey(subject, since=now, grace=self.turn.auth_grace)
        self.key.refused(error, now)

    def blindly(self, provider: Provider, error: RunopsError, clock: Clock) -> Flow[Turn]:
        """Let the next POST itself tell, since the lists cannot."""
        logger.info("The runs of %s could not be listed: %s", provider.title, error)
        if not self.turn.refusals:
            yield Sleep(self.blind_pause(clock()))
        return self.turn

    def pause(self, provider: Provider, now: float) -> float:
        """Seconds until the next look."""
        return provider.cadence.at_least(self.turn.interval).delay(now - self.since, jitter=spread())

    def blind_pause(self, now: float) -> float:
        """Seconds until the next POST where no look can tell."""
        pause = backoff(max(self.turn.refusals, 1), first=FIRST_PAUSE, ceiling=LONGEST_PAUSE)
        # Spread, since those who were refused together would come together again.
        return self.bounded(pause * (1 - 0.5 * spread()), now)

    def bounded(self, pause: float, now: float) -> float:
        """A pause that does not outlast the wait."""
        return max(min(pause, self.turn.until - now), 0.0)


def _shows_active(provider: Provider) -> bool:
    """Whether an active run that the provider lists is what it refuses another one for."""
    return provider.listing is not None and provider.submit is not None and provider.submit.one_at_a_time
