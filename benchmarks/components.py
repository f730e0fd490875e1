"""What the processes of a host use, by component: CPU, ended children included, and memory. Linux only."""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
LOOK_SECONDS = 0.25


@dataclass(frozen=True)
class Seen:
    """A process at one moment.

    Args:
        pid: Its id.
        parent: Its parent's id.
        session: The id of the process that opened its session.
        own: Seconds of CPU that it has used itself.
        ended: Seconds of CPU of its children that have ended, and of theirs.
        resident: Bytes of memory that it holds.
    """

    pid: int
    parent: int
    session: int
    own: float
    ended: float
    resident: int


def processes() -> Iterator[Seen]:
    """All processes of the machine."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            user, system, ended_user, ended_system = (int(fields[place]) / TICK for place in range(11, 15))
            yield Seen(
                int(folder.name), int(fields[1]), int(fields[3]), user + system, ended_user + ended_system,
                int(fields[21]) * PAGE,
            )  # fmt: skip


def cpu(sessions: Mapping[str, int], *, parted: Mapping[str, str]) -> dict[str, float]:
    """Seconds of CPU by component, user and system, what has ended included.

    Args:
        sessions: By component: the process that opened its session.
        parted: By component: the name under which all that it has started counts, and no longer as its own.
    """
    names = {session: name for name, session in sessions.items()}
    used: defaultdict[str, float] = defaultdict(float)
    for seen in processes():
        name = names.get(seen.session)
        if name is None:
            continue
        others = parted.get(name, name)
        used[name if seen.pid == seen.session else others] += seen.own
        # What an ended child has used is counted with its parent as soon as that one has heard of its end.
        used[others] += seen.ended
    return dict(used)


def took(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """The difference of two looks."""
    return {name: seconds - before.get(name, 0.0) for name, seconds in after.items()}


@dataclass
class Peaks:
    """The most memory that a session's processes held, by how far down from its first process they are.

    Args:
        sessions: By component: the process that opened its session.
    """

    sessions: Mapping[str, int]
    most: dict[tuple[str, int], int] = field(default_factory=dict[tuple[str, int], int])

    def look(self) -> None:
        """Note what is held now."""
        names = {session: name for name, session in self.sessions.items()}
        found = {seen.pid: seen for seen in processes() if seen.session in names}
        for seen in found.values():
            depth, above = 0, seen
            while above.pid != above.session and above.parent in found and depth < 9:
                depth, above = depth + 1, found[above.parent]
            place = names[seen.session], depth
            self.most[place] = max(self.most.get(place, 0), seen.resident)


class Watch:
    """Looks at the memory all the time. A context manager."""

    def __init__(self, sessions: Mapping[str, int]) -> None:
        self.peaks = Peaks(sessions)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Peaks:
        self._thread.start()
        return self.peaks

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            self.peaks.look()
            time.sleep(LOOK_SECONDS)
