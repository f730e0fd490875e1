"""What a sensor remembers between two ticks, as the JSON text that Dagster keeps for it. It sends nothing."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, Self, cast

import dagster as dg

from runops.core import ConfigurationError, RunSnapshot
from runops.core.model.codes import Code
from runops.core.waiting.listing import Listed, born
from runops.core.waiting.watch import WatchState

VERSION = 2
READ = (1, VERSION)
"""The versions that can be read. One that an older release reads as new would begin anew there."""


@dataclass
class TargetMemory:
    """What is known of one target.

    Args:
        watches: What the target watched when this was written: another parent is another memory.
        runs: The runs that are open, and those that are done with.
        newest_event: The id of the asset's newest event when something was reported last, before that.
        doubtful: Since when a run that is over by one sign is not so by another, by id, in unix seconds.
        clocks: What is known of the runs whose limits are watched, by id; see :class:`WaitProgress`.
    """

    watches: str
    runs: WatchState = field(default_factory=WatchState)
    doubtful: dict[str, float] = field(default_factory=dict[str, float])
    newest_event: int = 0
    clocks: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])

    def begin(self, found: Listed, since: float) -> None:
        """Take in the first list: runs that are open, or that ended since a moment, are to be reported."""
        for run in reversed(found.runs):
            if not _ended_before(run, since):
                self.runs.open[run.ref.run_id] = born(run) or 0.0
        self.runs.take(found)

    def go_on(self, found: Listed) -> bool:
        """Take in a later list; whether runs may have come that none has shown."""
        self.runs.take(found)
        gap, self.runs.gap = self.runs.gap, False
        return gap

    def follow(self, run_ids: Collection[str]) -> None:
        """Follow runs that are given by their ids, each once and for all."""
        wanted = set(run_ids)
        self.runs.done = {run_id: born for run_id, born in self.runs.done.items() if run_id in wanted}
        kept = [run_id for run_id in self.runs.open if run_id in wanted]
        self.runs.open = {run_id: 0.0 for run_id in [*kept, *run_ids] if run_id not in self.runs.done}

    def put_last(self, run_id: str) -> None:
        """A run was looked at and is open still: others come before it from now on."""
        self.runs.open[run_id] = self.runs.open.pop(run_id)

    def doubted_for(self, run_id: str, now: float) -> float:
        """Seconds for which a run has been in doubt, from now on if it was not."""
        return now - self.doubtful.setdefault(run_id, now)

    def close(self, run_id: str) -> None:
        """A run has been dealt with."""
        self.runs.close(run_id)
        self.doubtful.pop(run_id, None)
        self.clocks.pop(run_id, None)


@dataclass
class Cursor:
    """The memory of a sensor.

    Args:
        targets: What is known of each target, by its name.
        first: The target that the next tick begins with; None to begin at the beginning.
    """

    targets: dict[str, TargetMemory] = field(default_factory=dict[str, TargetMemory])
    first: str | None = None

    @classmethod
    def parse(cls, text: str | None) -> Self:
        """Read a cursor.

        Raises:
            ConfigurationError: It cannot be read. To begin anew would report old runs again, so that is left
                to a person.
        """
        if not text:
            return cls()
        try:
            value = json.loads(text)
            if value["version"] not in READ:
                raise ConfigurationError(
                    f"The sensor's cursor has version {value['version']!r}, and this runops writes {VERSION}: "
                    "it was written by another release. Use that one, or reset the cursor to begin anew.",
                    error_code=Code.RECORD_UNREADABLE,
                )
            targets = {str(name): _memory(target) for name, target in value["targets"].items()}
            first = value["first"]
        except ConfigurationError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigurationError(
                f"The sensor's cursor cannot be read ({type(error).__name__}); reset it to begin anew.",
                error_code=Code.RECORD_UNREADABLE,
            ) from None
        return cls(targets, first if isinstance(first, str) else None)

    def dump(self) -> str:
        """The text that :meth:`parse` reads."""
        targets = {
            name: {
                "watches": memory.watches,
                "trail": memory.runs.to_dict(),
                "doubtful": memory.doubtful,
                "newest_event": memory.newest_event,
                **({"clocks": memory.clocks} if memory.clocks else {}),
            }
            for name, memory in self.targets.items()
        }
        return json.dumps({"version": VERSION, "first": self.first, "targets": targets}, separators=(",", ":"))

    def for_next_tick(self, targets: Iterable[dg.AssetKey], first: dg.AssetKey) -> Cursor:
        """The same for the next tick: without targets that are watched no more, and where to begin."""
        names = {key.to_user_string() for key in targets}
        kept = {name: memory for name, memory in self.targets.items() if name in names}
        return Cursor(kept, first.to_user_string())

    def memory(self, name: str, watches: str) -> TargetMemory:
        """What is known of a target; a fresh memory if that is nothing, or is about something else."""
        found = self.targets.get(name)
        return found if found is not None and found.watches == watches else TargetMemory(watches)


def _memory(value: Any) -> TargetMemory:
    trail = cast("dict[str, Any]", value["trail"])
    if not isinstance(trail["open"], dict) or not isinstance(trail["done"], dict):
        raise TypeError
    return TargetMemory(
        str(value["watches"]),
        WatchState.parse(trail),
        dict(value["doubtful"]),
        int(value["newest_event"]),
        dict(value.get("clocks") or {}),
    )


def _ended_before(run: RunSnapshot, since: float) -> bool:
    if run.phase is not None:
        return False
    ended = run.finished_at.timestamp() if run.finished_at else born(run)
    # An end that nobody dates may be any time ago, and is not reported as news.
    return ended is None or ended < since
