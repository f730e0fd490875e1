"""The callbacks of a step for the phases of its run: whom it calls, what is shown of it, and what a later try knows.

Each entry is an engine event of the step, written when all its callbacks have returned, and so is that a phase was left
for which somebody was called: a later try of the step, and a re-execution, that waits for the same run goes on from the
newest of them. The tag ``runops/phase`` of the Dagster run shows the same to sensors and filters. Nothing of it decides
anything: see :mod:`runops.core.waiting.phases`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, cast

import dagster as dg

from runops.core import Provider, RunRef, RunSnapshot
from runops.core.waiting.phases import (
    Callbacks,
    PhaseEntered,
    PhasesSeen,
    PhaseWatch,
    call_each,
    interrupted,
    never_shown,
)
from runops.dagster import _compat
from runops.dagster.step.records import DEEPEST

PHASE = "runops/phase"
"""A tag of the Dagster run, and a text in the metadata of an engine event: the phase that its external run is in."""
ENTRY = "runops/phase_entry"
"""The metadata key of what a later try goes on from."""
OVER = "over"
"""The tag's value once the wait has ended: a tag cannot be removed."""
VERSION = 1


class StepPhases:
    """The callbacks of one wait.

    Args:
        context: The step's context.
        callbacks: Whom, by phase.
        ref: The run.
        clock: Unix seconds.
    """

    def __init__(
        self, context: _compat.StepContext, callbacks: Callbacks, ref: RunRef, *, clock: Callable[[], float]
    ) -> None:
        self._context = context
        self._callbacks = callbacks
        self._ref = ref
        self._clock = clock
        # Where a function is called directly there is no run, and nothing is recorded.
        self._run = _compat.run_of(context) if callbacks else None
        self._tagged = False
        self.watch = PhaseWatch(callbacks, self._remembered())

    def interrupting(self, observer: Callable[[RunSnapshot], None]) -> Callable[[RunSnapshot], None]:
        """What a wait tells its reads to; it ends the wait by ``PhaseEntered`` where somebody is to be called.

        Args:
            observer: Hears of every read first.
        """
        return interrupted(self.watch, observer, self._clock, self._left) if self._callbacks else observer

    def warn_of(self, provider: Provider) -> None:
        """Say which phases nobody will ever be called for."""
        for warning in never_shown(provider, self.watch.wanted):
            self._context.log.warning("%s", warning)

    def call(self, entered: PhaseEntered) -> None:
        """Call whoever is to be called, show it, and remember it."""
        snapshot, seen = entered.snapshot, entered.seen
        self._tag(str(snapshot.status))
        callbacks = () if snapshot.phase is None else self._callbacks.get(snapshot.phase, ())
        call_each(callbacks, self._context, lambda: snapshot, partial(self._context.log.log, logging.ERROR))
        self._write(f"{self._ref} has entered {snapshot.status}.", seen, snapshot.url)

    def over(self) -> None:
        """The wait has ended, whatever ended it."""
        if self._tagged:
            self._tag(OVER)

    def _left(self, seen: PhasesSeen) -> None:
        self._tag(str(seen.phase))
        self._write(f"{self._ref} goes on: {seen.phase}.", seen, None)

    # --- what is shown and remembered; the wait depends on none of it ---

    def _tag(self, value: str) -> None:
        if self._run is None:
            return
        self._tagged = True
        try:
            _compat.tag_run(self._context.instance, self._run.run_id, {PHASE: value})
        except Exception as error:  # noqa: BLE001 - a storage raises what it likes
            self._warn("The Dagster run could not be tagged with the phase", error)

    def _write(self, message: str, seen: PhasesSeen, url: str | None) -> None:
        if self._run is None:
            return
        record = {"version": VERSION, "ref": self._ref.model_dump(mode="json"), **seen.to_dict()}
        metadata: dict[str, dg.MetadataValue[Any]] = {
            PHASE: dg.MetadataValue.text(str(seen.phase)),
            ENTRY: dg.MetadataValue.json(record),
            **({} if url is None else {"runops/url": dg.MetadataValue.url(url)}),
        }
        try:
            _compat.write_engine_event(self._context, self._run, message, metadata)
        except Exception as error:  # noqa: BLE001 - as above
            self._warn("The phase could not be recorded, and a retry may call again", error)

    def _remembered(self) -> PhasesSeen | None:
        """What an earlier try has seen of this run, in this Dagster run or in one that it re-executes."""
        run = self._run
        try:
            for _ in range(DEEPEST):
                if run is None:
                    return None
                found = [record for record in self._records(run) if record.get("ref") == self._ref.model_dump()]
                if found:
                    return PhasesSeen.from_dict(found[-1])
                run = _compat.parent_of(self._context.instance, run)
        except Exception as error:  # noqa: BLE001 - as above
            self._warn("Which phases were seen before could not be read, and this try may call again", error)
        return None

    def _records(self, run: dg.DagsterRun) -> Iterator[Mapping[str, Any]]:
        for metadata in _compat.engine_events(
            self._context.instance, run.run_id, _compat.step_key_of(self._context) or ""
        ):
            value = metadata.get(ENTRY)
            if isinstance(value, dg.JsonMetadataValue) and isinstance(value.data, dict):
                yield cast("dict[str, Any]", value.data)

    def _warn(self, what: str, error: Exception) -> None:
        self._context.log.warning("%s (%s).", what, type(error).__name__)
