"""The callbacks of a task for the phases of its run, and what is remembered of them over processes.

Where Airflow has a task state store (3.3 and newer), what was seen stands there under a key of its own, so that a retry
and a poke in reschedule mode know it. A deferred wait carries it in the trigger's arguments; that its phase was left
meanwhile stands in an XCom of the trigger's, which the next try removes. None of it decides anything: see
:mod:`runops.core.waiting.phases`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from runops.airflow._compat import TaskDeferred, get_xcom, has_task_state_store, set_xcom, task_state_store
from runops.airflow.bounds import within
from runops.airflow.records import PHASES_KEY, PHASES_LEFT
from runops.core import ConfigurationError, Provider, RunRef, RunSnapshot
from runops.core.model.codes import Code
from runops.core.waiting.phases import (
    Callbacks,
    PhasesSeen,
    PhaseWatch,
    call_each,
    check_callbacks,
    in_phase,
    interrupted,
    known_phases,
    never_shown,
)

NOTE_SECONDS = 10.0
"""For one answer of Airflow about a phase that was left: the wait itself depends on none."""
VERSION = 1
PHASES = "phases"
"""What a trigger knows of them stands under this name beside the clocks of its wait."""


def checked_phases(task: Any) -> Callbacks:
    """Whom a task calls.

    :param task: The task.
    :raises ConfigurationError: It is wrong, or nothing would remember it.
    """
    callbacks = check_callbacks(task.on_phase)
    if callbacks and getattr(task, "reschedule", False) and not task.deferrable and not has_task_state_store():
        raise ConfigurationError(
            'on_phase with mode="reschedule" needs the task state store of Airflow 3.3 or newer: below, nothing '
            'remembers the poke before, and each would call again. Wait with deferrable=True or mode="poke".',
            error_code=Code.NOT_SUPPORTED,
        )
    return callbacks


def for_trigger(wanted: Callbacks, seen: PhasesSeen | None = None) -> dict[str, Any]:
    """What a trigger needs, as a part of what it knows of the clocks; nothing where nobody is called.

    :param wanted: Whom the task calls.
    :param seen: What was seen until now.
    """
    if not wanted:
        return {}
    seen = seen or PhasesSeen()
    return {PHASES: {"wanted": sorted(wanted), "seen": seen.to_dict()}}


class PhaseCalls:
    """The callbacks of a task in this process.

    :param context: The task's context.
    :param callbacks: Whom, by phase.
    :param ref: The run.
    :param log: The task's log.
    :param everlasting: Whether a person's clear goes on with the run of before.
    """

    def __init__(
        self, context: Mapping[str, Any], callbacks: Callbacks, ref: RunRef, *, log: Any, everlasting: bool = False
    ) -> None:
        self._context = context
        self.callbacks = callbacks
        self._log = log
        ti = context["ti"]
        self._warned = not callbacks
        self._store = task_state_store(context) if callbacks else None
        self._about = {"version": VERSION, "run_id": ref.run_id}
        self._generation = None if everlasting else ti.max_tries
        self.watch = PhaseWatch(callbacks, self._remembered(ti) if callbacks else None)

    def interrupting(self, observer: Callable[[RunSnapshot], None]) -> Callable[[RunSnapshot], None]:
        """What a wait tells its reads to; it ends the wait by ``PhaseEntered`` where somebody is to be called.

        :param observer: Hears of every read first.
        """
        return interrupted(self.watch, observer, time.time, self._save) if self.callbacks else observer

    def warn_of(self, provider: Provider) -> None:
        """Say once which phases nobody will ever be called for.

        :param provider: The run's, with all the words that were taught.
        """
        if not self._warned:
            self._warned = True
            for warning in never_shown(provider, self.watch.wanted):
                self._log.warning("%s", warning)

    def observe(self, snapshot: RunSnapshot, now: float) -> None:
        """Take in the one read of a poke, and call whoever is to be called.

        :param snapshot: What was read.
        :param now: When, in unix seconds.
        """
        before = self.watch.seen
        if self.watch.take_in(snapshot, now):
            self.call(snapshot, self.watch.seen)
        elif self.watch.left(before):
            self._save(self.watch.seen)

    def go_on(self, snapshot: RunSnapshot, seen: PhasesSeen) -> None:
        """Go on after a trigger has seen an entry: call, unless an earlier process has called for it.

        :param snapshot: What the trigger saw.
        :param seen: What it has seen with it.
        """
        called = self.watch.seen.entries >= seen.entries
        self.watch.seen = seen
        if called:
            self._log.info("The callbacks of this phase were called already, before this process began.")
        else:
            self.call(snapshot, seen)

    def call(self, snapshot: RunSnapshot, seen: PhasesSeen) -> None:
        """Call whoever is to be called, and remember it.

        :param snapshot: What showed the entry.
        :param seen: What was seen with it.
        """
        callbacks = () if snapshot.phase is None else self.callbacks.get(snapshot.phase, ())
        call_each(
            callbacks,
            self._context,
            partial(in_phase, snapshot, seen),
            partial(self._log.error, "%s"),
            # Only the task itself defers.
            steering=(TaskDeferred,),
        )
        self._save(seen)

    # --- over processes ---

    def _save(self, seen: PhasesSeen) -> None:
        if self._store is None:
            return
        try:
            self._store.set(PHASES_KEY, {**self._about, "generation": self._generation, **seen.to_dict()})
        except Exception as error:  # noqa: BLE001 - whatever the reason, the wait does not depend on it
            self._log.warning(
                "What was seen of the run's phases could not be kept (%s): a later try may call again.",
                type(error).__name__,
            )

    def _remembered(self, ti: Any) -> PhasesSeen:
        try:
            kept = None if self._store is None else self._store.get(PHASES_KEY)
            left = ti.xcom_pull(task_ids=ti.task_id, key=PHASES_LEFT, map_indexes=ti.map_index)
        except Exception as error:  # noqa: BLE001 - as above
            self._log.warning("What was seen of the run's phases could not be read (%s).", type(error).__name__)
            return PhasesSeen()
        seen = self._of_this_run(kept, generation=self._generation)
        return later(seen, self._of_this_run(left, try_number=ti.try_number))

    def _of_this_run(self, value: object, **about: Any) -> PhasesSeen:
        """What a record says, if it is about this run and this part of the task's life."""
        right = {**self._about, **{name: each for name, each in about.items() if each is not None}}
        if not isinstance(value, Mapping) or any(value.get(name) != each for name, each in right.items()):
            return PhasesSeen()
        return PhasesSeen.from_dict(value)


class CallsOnPhase:
    """A part of every task that waits for one run."""

    on_phase: Mapping[str, Any] | None = None
    """Whom the task calls when its run enters a phase."""

    def set_on_phase(self, wanted: Mapping[str, Any] | None) -> None:
        """Keep what the argument says, and refuse what could not be called."""
        self.on_phase = wanted
        checked_phases(self)

    def _phase_calls(self: Any, context: Any, ref: RunRef) -> PhaseCalls:
        everlasting = getattr(self, "on_clear", None) == "reattach"
        return PhaseCalls(context, checked_phases(self), ref, log=self.log, everlasting=everlasting)


class PhasesInTrigger:
    """What a trigger does about the phases of its run: it notes which ones were left, and calls nobody.

    :param ti: The trigger's task; None where it runs outside of a triggerer.
    :param kept: What :func:`for_trigger` gave, in this version or another one.
    :param run_id: The run.
    :param log: The trigger's log.
    """

    def __init__(self, ti: Any, kept: object, run_id: str, *, log: Any) -> None:
        given = kept if isinstance(kept, Mapping) else {}
        self.watch = PhaseWatch(known_phases(given.get("wanted")), PhasesSeen.from_dict(given.get("seen")))
        self._ti = ti
        self._about = {"version": VERSION, "run_id": run_id, "try_number": getattr(ti, "try_number", None)}
        self._log = log
        self._notes: list[asyncio.Task[None]] = []

    async def begin(self, observer: Callable[[RunSnapshot], None]) -> Callable[[RunSnapshot], None]:
        """What the wait tells its reads to, as :meth:`PhaseCalls.interrupting` gives it.

        :param observer: Hears of every read first.
        """
        if self._ti is not None and self.watch.seen.phase in self.watch.wanted:
            await self._learn()
        return interrupted(self.watch, observer, time.time, self._note)

    async def _learn(self) -> None:
        """Learn whether the phase of the last call was left, in a triggerer that is gone."""
        try:
            note = await within(NOTE_SECONDS, "which phase a run has left", get_xcom(self._ti, PHASES_LEFT))
        except Exception as error:  # noqa: BLE001 - whatever the reason, the wait does not depend on it
            self._log.warning("Whether the run has left its phase before could not be read (%s).", type(error).__name__)
            return
        if isinstance(note, Mapping) and all(note.get(name) == each for name, each in self._about.items()):
            self.watch.seen = later(self.watch.seen, PhasesSeen.from_dict(note))

    async def end(self) -> None:
        """Have all that was noted written down."""
        await asyncio.gather(*self._notes)

    def _note(self, seen: PhasesSeen) -> None:
        if self._ti is not None:
            self._notes.append(asyncio.create_task(self._written(seen)))

    async def _written(self, seen: PhasesSeen) -> None:
        note = {**self._about, **seen.to_dict()}
        try:
            await within(NOTE_SECONDS, "a phase that was left to be noted", set_xcom(self._ti, PHASES_LEFT, note))
        except Exception as error:  # noqa: BLE001 - as above
            self._log.warning("That the run has left its phase could not be noted (%s).", type(error).__name__)


def later(one: PhasesSeen, other: PhasesSeen) -> PhasesSeen:
    """The later of two records of one wait.

    :param one: The one that holds where nothing tells them apart.
    :param other: One that says that a phase was left.
    """
    return other if other.phase is not None and other.entries >= one.entries else one
