"""A service whose lists of runs are as bad as lists can be: wrong times, strangers, deletions, stale answers."""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import httpx
import pytest

Order = Literal["created", "entered"]

WORKFLOW = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
KINDS: dict[str, tuple[str, dict[str, str]]] = {
    "nyx": ("nyx", {"config_name": "mine"}),
    "onepin": ("onepin", {"workflow_id": WORKFLOW}),
    "b3os": ("b3os", {"workflow_id": "mine"}),
    "nekt": ("nekt", {"pipeline": "mine"}),
    "nekt-source": ("nekt", {"source": "mine"}),
}
"""Every provider with a list: its name, and the parent that is watched."""
QUICK = ("nyx", "b3os")


def campaigns(first: Order) -> list[Any]:
    """Every kind of list with one of both orders, in turns; only two are quick.

    What a list shows is read by the core, and what a host adds does not depend on it: so one host plays ``"created"``
    first and the other ``"entered"``, and every list in either order is played once, each host having both orders.
    """
    second: Order = "entered" if first == "created" else "created"
    return [
        pytest.param(kind, order, marks=() if kind in QUICK else pytest.mark.slow)
        for kind, order in zip(sorted(KINDS), itertools.cycle((first, second)), strict=False)
    ]


THEIRS = "theirs"
SKEW = 10_800.0
"""Seconds by which creation times are wrong at the most."""
NEKT_PAGE = 20

WORDS = {"nyx": ("running", "completed", "failed"), "onepin": ("running", "completed", "failed")}
OTHER_WORDS = {"b3os": ("running", "success", "failure"), "nekt": ("running", "success", "failed")}


@dataclass
class Listed:
    """A run of the service."""

    run_id: str
    ours: bool
    entered: int
    born: float | None
    """When it was created, by the clock of whoever created it."""
    ends: float
    """When it ends, by the true clock."""
    fails: bool = False


class ListService:
    """The list of one provider, and the runs on it.

    Args:
        kind: One of :data:`KINDS`.
        order: Whether the list is sorted by creation time or by when runs were entered; newest first.
        clock: Gives the true time, in unix seconds.
        seed: Of everything that is left to chance.
    """

    def __init__(self, kind: str, order: Order, clock: Callable[[], float], seed: int) -> None:
        self.kind = kind
        self.provider, self.parent = KINDS[kind]
        self.order: Order = order
        self.clock = clock
        self.chance = random.Random(f"{seed}:{kind}:{order}")
        self.runs: dict[str, Listed] = {}
        self.stale: list[Listed] | None = None
        """What lists show instead, while a replica lags."""
        self.refused: dict[str, int] = {}
        """Statuses with which reads of single runs are answered, by id."""
        self.pages = 0
        self._made = 0
        self._equal = clock()

    # --- what happens there ---

    def make(
        self, *, ours: bool = True, born: float | Literal["chance"] | None = "chance", seconds: float = 0.0
    ) -> str:
        """Create a run that ends after so many seconds; its id."""
        self._made += 1
        run_id = f"run-{self._made:05}" if ours else f"stranger-{self._made:05}"
        moment = self._wrong() if born == "chance" else born
        fails = self._made % 7 == 0
        self.runs[run_id] = Listed(run_id, ours, self._made, moment, self.clock() + seconds, fails)
        return run_id

    def delete(self, run_ids: Iterable[str]) -> None:
        """Take runs off the list; nothing finds them any more."""
        for run_id in run_ids:
            del self.runs[run_id]

    def lag(self, dropped: int | None) -> None:
        """Show a list from a replica that lags: without its newest entries, or, with None, without any."""
        runs = sorted(self.runs.values(), key=lambda run: run.entered)
        self.stale = [] if dropped is None else runs[: max(len(runs) - dropped, 0)]

    def _wrong(self) -> float | None:
        now, chance = self.clock(), self.chance.random()
        if chance < 0.1:
            return None
        if chance < 0.2:
            return self._equal
        if chance < 0.6:
            return now
        return now + self.chance.uniform(-SKEW, SKEW)

    # --- what it answers ---

    def answer(self, request: httpx.Request) -> httpx.Response:
        """Answer a request, for ``httpx.MockTransport``."""
        path = request.url.path
        single = re.search(r"/((?:run|stranger)-\d+)(?:/status)?/?$", path)
        if single:
            run = self.runs.get(single[1])
            status = 404 if run is None else self.refused.get(run.run_id)
            if run is None or status is not None:
                return httpx.Response(status or 404, json={"detail": "Not found."})
            body: Any = self._body(run)
            return httpx.Response(200, json={"data": body} if self.provider in ("onepin", "b3os") else body)
        self.pages += 1
        query = request.url.params
        runs = self._sorted()
        if self.provider == "nekt":
            start, size = (int(query.get("page", "1")) - 1) * NEKT_PAGE, NEKT_PAGE
            if start and start >= len(runs):
                return httpx.Response(404, json={"detail": "Invalid page."})
        else:
            start, size = int(query.get("offset", "0")), int(query["limit"])
        items = [self._body(run) for run in runs[start : start + size]]
        shapes: dict[str, Any] = {
            "nyx": {"runs": items},
            "onepin": {"data": items},
            "b3os": {"data": {"items": items}},
            "nekt": {"results": items},
        }
        return httpx.Response(200, content=json.dumps(shapes[self.provider]))

    def _sorted(self) -> list[Listed]:
        """The list, newest first. Where times are wanted, runs without one come last, as databases have it."""
        runs = list(self.runs.values()) if self.stale is None else self.stale
        if self.provider in ("onepin", "b3os"):
            runs = [run for run in runs if run.ours]
        runs = sorted(runs, key=lambda run: run.entered, reverse=True)
        if self.order == "created":
            runs.sort(key=lambda run: float("-inf") if run.born is None else run.born, reverse=True)
        return runs

    def _body(self, run: Listed) -> dict[str, Any]:
        running, good, bad = (WORDS | OTHER_WORDS)[self.provider]
        over = self.clock() >= run.ends
        status = running if not over else bad if run.fails else good
        born = None if run.born is None else datetime.fromtimestamp(run.born, UTC).isoformat()
        ended = datetime.fromtimestamp(run.ends, UTC).isoformat() if over else None
        parent = {kind: name if run.ours else THEIRS for kind, name in self.parent.items()}
        match self.provider:
            case "nyx":
                result = ("error" if run.fails else "success") if over else None
                times = {"created_at": born, "completed_at": ended, "result": result}
                return {"run_id": run.run_id, "status": status, **parent, **times}
            case "onepin":
                return {"id": run.run_id, "status": status, "created_at": born, "completed_at": ended}
            case "b3os":
                return {"id": run.run_id, "status": status, "startedAt": born or "", "finishedAt": ended or ""}
            case _:
                others = {} if "pipeline" in parent else {"destination": None, "transformation": None}
                times = {"created_at": born, "ended_at": ended}
                return {"id": run.run_id, "status": status, **parent, **others, **times}
