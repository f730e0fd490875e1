"""Who is called when a run enters a phase, and when that is. Pure: hosts call, write down and go on.

A phase is entered when a good read shows another phase than the good read before it, or is the first one of the wait.
What a wait has seen (:class:`PhasesSeen`) counts these entries, and travels: a process that goes on from it takes a run
that is still in that phase for the same entry, and calls nobody again. So what is written down decides between "once"
and "again": hosts write an entry down when all its callbacks have returned, and write down too that its phase was left.
What comes and goes between two reads was never seen, and is no entry.
"""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Self, cast

from runops.core.declaration import Provider
from runops.core.model.codes import Code, text_of, with_code
from runops.core.model.errors import ConfigurationError
from runops.core.model.redaction import clean
from runops.core.model.refusal import nearest
from runops.core.model.run import Outcome, Phase, RunInPhase, RunSnapshot

Callback = Callable[[Any, Any], object]
"""A function of the host's context and of the run."""
Callbacks = Mapping[Phase, tuple[Callback, ...]]
"""Who is called, by phase. A phase without a callback is followed all the same: some hosts show it by themselves."""
PHASES = tuple(phase.value for phase in Phase)
LONGEST_CHAIN = 5
"""Errors of a chain that are told."""
MOST_FRAMES = 50
"""Of each of them."""


@dataclass(frozen=True, slots=True)
class PhasesSeen:
    """What a wait has seen of its run's phases, so that it can go on from there in another process.

    Args:
        phase: The phase that the last good read showed; None before there was one.
        since: When a read first showed it, in unix seconds.
        entries: How many entries of phases that somebody is called for there were, this one included.
    """

    phase: Phase | None = None
    since: float | None = None
    entries: int = 0

    def to_dict(self) -> dict[str, Any]:
        """JSON primitives that :meth:`from_dict` reads."""
        return {**asdict(self), "phase": None if self.phase is None else str(self.phase)}

    @classmethod
    def from_dict(cls, value: object) -> Self:
        """What :meth:`to_dict` wrote, in this version or another one; nothing seen where it cannot be read."""
        if not isinstance(value, Mapping):
            return cls()
        given = cast("Mapping[str, Any]", value)
        since, entries = given.get("since"), given.get("entries")
        return cls(
            phase=_phase(given.get("phase")),
            since=float(since) if isinstance(since, (int, float)) else None,
            entries=entries if isinstance(entries, int) else 0,
        )


class PhaseWatch:
    """Tells when a run enters a phase that somebody is called for.

    Args:
        wanted: These phases.
        seen: What an earlier part of the wait has seen.
    """

    __slots__ = ("seen", "wanted")

    def __init__(self, wanted: Collection[Phase], seen: PhasesSeen | None = None) -> None:
        self.wanted = frozenset(wanted)
        self.seen = seen or PhasesSeen()

    def take_in(self, snapshot: RunSnapshot, now: float) -> bool:
        """Take in a good read; whether it shows the entry of a phase that somebody is to be called for.

        Args:
            snapshot: What was read. One with an outcome is no entry, and neither is what a clock has made of it.
            now: When, in unix seconds.
        """
        before, phase = self.seen, snapshot.phase
        if phase is None or phase is before.phase:
            return False
        entered = phase in self.wanted
        self.seen = PhasesSeen(phase, now, before.entries + entered)
        return entered

    def left(self, before: PhasesSeen) -> bool:
        """Whether a phase was left for which somebody was called, which must be written down.

        Args:
            before: What was seen until then.
        """
        return before.phase in self.wanted and self.seen.phase not in self.wanted


class PhaseEntered(Exception):
    """Interrupts a wait for the callbacks of a phase; it goes on with what it has learnt, by a new look.

    Not within the wait: a callback may take as long as it likes, and only a look after it shows whether a clock of
    the wait has ended it.
    """

    def __init__(self, snapshot: RunSnapshot, seen: PhasesSeen) -> None:
        super().__init__()
        self.snapshot = snapshot
        self.seen = seen


def interrupted(
    watch: PhaseWatch,
    observer: Callable[[RunSnapshot], None],
    clock: Callable[[], float],
    on_left: Callable[[PhasesSeen], object] | None = None,
) -> Callable[[RunSnapshot], None]:
    """An ``on_update`` of a wait that ends it by :class:`PhaseEntered` whenever somebody is to be called.

    Args:
        watch: The watch over the phases.
        observer: Hears of every read first.
        clock: Unix seconds.
        on_left: Hears that a phase was left for which somebody was called.
    """

    def on_update(snapshot: RunSnapshot) -> None:
        observer(snapshot)
        before = watch.seen
        if watch.take_in(snapshot, clock()):
            raise PhaseEntered(snapshot, watch.seen)
        if on_left is not None and watch.left(before):
            on_left(watch.seen)

    return on_update


def in_phase(snapshot: RunSnapshot, seen: PhasesSeen) -> RunInPhase:
    """A run that has entered a phase, as plain data.

    Args:
        snapshot: What the entry showed.
        seen: What was seen with it.
    """
    since = datetime.fromtimestamp(seen.since or 0.0, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return RunInPhase(**snapshot.to_result(), phase=str(snapshot.status), phase_since=since)


def call_each(
    callbacks: Sequence[Callback],
    context: Any,
    run: Callable[[], Any],
    failed: Callable[[str], object],
    *,
    steering: tuple[type[BaseException], ...] = (),
) -> None:
    """Call everybody once. What one raises keeps no other one from being called, and changes nothing else.

    Args:
        callbacks: Whom.
        context: What the host calls with.
        run: Gives the run, to each its own.
        failed: Is given a text for the log: which one raised what, and where.
        steering: What else than an error is no more than one here: by what a task steers its host.
    """
    # What the host is about to handle led to the call, and not to what a callback raises.
    handled = sys.exception()
    for callback in callbacks:
        try:
            callback(context, run())
        except (Exception, *steering) as error:  # noqa: BLE001 - a callback raises what it likes
            text = with_code(f"on_phase: {name_of(callback)} failed; the wait goes on.", Code.FUNCTION_FAILED)
            failed(f"{text}\n{trace_of(error, handled)}")


def trace_of(error: BaseException, before: BaseException | None = None) -> str:
    """Where an error of others was raised, and what each of its chain says, without addresses, long tokens and keys.

    No value of a frame and no line of code is in it: either may hold a key.

    Args:
        error: The error.
        before: Where its chain ends.
    """
    parts: list[str] = []
    each: BaseException | None = error
    while each is not None and each is not before and len(parts) < LONGEST_CHAIN:
        frames = traceback.extract_tb(each.__traceback__, limit=MOST_FRAMES)
        places = [f'  File "{frame.filename}", line {frame.lineno}, in {frame.name}\n' for frame in frames]
        parts.append("".join(places) + _described(each))
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
    return "\nwhich led to\n".join(reversed(parts))


def _described(error: BaseException) -> str:
    try:
        text = clean(text_of(error))
    except Exception:  # noqa: BLE001 - so may its text
        text = None
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def never_shown(provider: Provider, wanted: Collection[Phase]) -> list[str]:
    """What to warn of: phases that no state of a provider means, so that nobody is ever called for them.

    Args:
        provider: The run's, with all the words that were taught.
        wanted: The phases.
    """
    meant = {row.meaning for _, _, row in provider.states} | {Phase.RUNNING}
    shown = ", ".join(phase for phase in Phase if phase in meant)
    return [
        f"on_phase names {phase}, which no state of {provider.title} means: nobody is called for it. A run there may "
        f"be {shown}; states= teaches other words."
        for phase in Phase
        if phase in wanted and phase not in meant
    ]


def known_phases(names: object) -> frozenset[Phase]:
    """The phases that another process has written down, without those that this version does not know."""
    if not isinstance(names, (list, tuple)):
        return frozenset()
    found = [_phase(name) for name in cast("Sequence[object]", names)]
    return frozenset(phase for phase in found if phase is not None)


def check_callbacks(on_phase: object) -> Callbacks:
    """Who is called, as a user says it.

    Args:
        on_phase: Phase to a function, or to a list of them; or None.

    Raises:
        ConfigurationError: Names the phase, the place in a list, and what to do.
    """
    if on_phase is None:
        return {}
    if not isinstance(on_phase, Mapping):
        raise ConfigurationError(
            "on_phase must map phases to functions, such as {'waiting': tell_somebody}, not a "
            f"{type(on_phase).__name__}."
        )
    given = cast("Mapping[object, object]", on_phase)
    return {_checked_phase(name): _checked_callbacks(name, value) for name, value in given.items()}


def name_of(callback: object) -> str:
    """A callback as messages name it; nothing that it holds is shown."""
    if isinstance(callback, partial):
        return name_of(cast("partial[Any]", callback).func)
    return str(getattr(callback, "__qualname__", None) or type(callback).__qualname__)


def _phase(value: object) -> Phase | None:
    return Phase(value) if isinstance(value, str) and value in PHASES else None


def _checked_phase(name: object) -> Phase:
    phase = _phase(name)
    if phase is not None:
        return phase
    if isinstance(name, str) and name in tuple(Outcome):
        raise ConfigurationError(
            f"on_phase={name!r} is an outcome: a run that is over is in no phase. on_outcome says what its end means, "
            "and the host's own callbacks are told of the end."
        )
    raise ConfigurationError(
        f"on_phase={str(name)[:80]!r} is no phase; the phases are {', '.join(PHASES)}.{nearest(name, PHASES)}",
        error_code=Code.UNKNOWN_NAME,
    )


def _checked_callbacks(phase: object, value: object) -> tuple[Callback, ...]:
    if isinstance(value, (list, tuple)):
        several = cast("Sequence[object]", value)
        return tuple(_checked_callback(f"on_phase[{phase!s}][{nth}]", each) for nth, each in enumerate(several))
    return (_checked_callback(f"on_phase[{phase!s}]", value),)


def _checked_callback(place: str, value: object) -> Callback:
    if not callable(value):
        raise ConfigurationError(f"{place} must be a function of the context and the run, not a {_kind(value)}.")
    if _is_async(value):
        raise ConfigurationError(
            f"{place}: {name_of(value)} is asynchronous, and nothing would await it: give a plain function, which may "
            "call asyncio.run."
        )
    if not _takes_two(value):
        raise ConfigurationError(f"{place}: {name_of(value)} cannot be called with two arguments, context and run.")
    return cast("Callback", value)


def _is_async(value: object) -> bool:
    if isinstance(value, partial):
        return _is_async(cast("partial[Any]", value).func)
    kinds = (inspect.iscoroutinefunction, inspect.isasyncgenfunction)
    # Of an object that can be called, the method that is.
    method = cast("Any", value).__call__ if callable(value) else None
    return any(is_kind(each) for each in (value, method) for is_kind in kinds)


def _takes_two(value: Callable[..., Any]) -> bool:
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        # Some of those that are written in C do not tell.
        return True
    try:
        signature.bind(None, None)
    except TypeError:
        return False
    return True


def _kind(value: object) -> str:
    return type(value).__name__
