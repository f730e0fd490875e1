"""A stage on which a submit, a wait or a cancel does what a test says: nothing is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from runops.conformance.canaries import CANARY
from runops.conformance.clients import BEGAN, MadeUpClock
from runops.conformance.facts import Facts
from runops.conformance.report import Finding
from runops.conformance.service import Service
from runops.core import ConflictError, RunNotFound, SubmitUncertainError
from runops.core.declaration import Provider
from tests.conformance.acme_runs import ACME, submit
from tests.conformance.folders import Changes, folder

CALL = submit(plant="north", amount=2, label="mine")
KEY = f"acme_{CANARY}key1x7"
GOOD_HEADERS = {"x-acme-key": KEY}


@dataclass
class Played:
    """A stage on which a submit, a wait or a cancel does what a test says."""

    service: Service
    does: Callable[[Played], Any]
    key: str = KEY
    clock: MadeUpClock = field(default_factory=MadeUpClock)
    request_seconds: float = 20.0
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    parents: dict[str, str] | None = None

    def submit(self, call: Any, **settings: Any) -> Any:
        assert call is self.service.call
        self.settings = settings
        return self.does(self)

    def wait(self, run_id: str, parents: Any = None, **settings: Any) -> Any:
        self.settings, self.parents = settings, parents
        return self.does(self)

    def drive(self, make: Any) -> Any:
        return self.does(self)

    def sends(self, times: int = 1, headers: dict[str, str] | None = None) -> None:
        for _ in range(times):
            self.service.answer(CALL.method, CALL.path, {}, headers or GOOD_HEADERS, CALL.json)

    def reads(self, times: int, run_id: str = "J-1") -> None:
        for _ in range(times):
            self.service.answer("GET", f"/v3/jobs/{run_id}", {}, GOOD_HEADERS, None)


def facts_of(provider: Provider = ACME, changes: Changes | None = None) -> Facts:
    return Facts(provider, folder(changes))


def stage(facts: Facts, does: Callable[[Played], Any]) -> Any:
    return Played(Service(facts, lambda: BEGAN, call=CALL), does)


def lines(found: Iterator[Finding]) -> list[str]:
    return [str(each).removeprefix("wrong  ") for each in found]


UNCERTAIN = SubmitUncertainError("Nobody knows.")
CONFLICT = ConflictError("Another run is active.", status=409)
NOT_FOUND = RunNotFound("No such run.", status=404)
