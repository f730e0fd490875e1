"""The emulator itself: its runs, its journal of requests and its faults; no HTTP in here.

:class:`Emulator` is what the control API talks to, and what tests in the same process use
directly. Every method may be called from any thread. Which APIs there are is handed in.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from runops.emulator import checks
from runops.emulator.api import Api
from runops.emulator.faults import Fault, FaultList
from runops.emulator.journal import REQUESTS_KEPT, Journal
from runops.emulator.keys import Keys
from runops.emulator.plans import RUN_OPTIONS, RunPlan, parents_of
from runops.emulator.provider_runs import ProviderRuns
from runops.emulator.runs import Run, ScriptError

PARTS = ("runs", "faults", "requests", "keys")
"""What can be forgotten."""
RUNS_KEPT = 20_000
"""For each provider."""


class Emulator:
    """Everything the emulated services remember.

    Args:
        apis: The services.
        seed: Where ids and random faults start from.
        seconds: How long a named script lasts when nothing else is said.
        now: The clock, in seconds since the epoch.
        requests_kept: How many GET requests are remembered, and how many others; the oldest are forgotten first.
        runs_kept: How many runs of each provider are remembered; the oldest of those that are over go first.

    Raises:
        ValueError: Two APIs have one name.
    """

    def __init__(
        self,
        apis: Iterable[type[Api]],
        seed: int = 0,
        *,
        seconds: float = 2.0,
        now: Callable[[], float] = time.time,
        requests_kept: int = REQUESTS_KEPT,
        runs_kept: int = RUNS_KEPT,
    ) -> None:
        self.now = now
        self.lock = threading.RLock()
        self.fault_list = FaultList(seed)
        self.journal = Journal(requests_kept)
        self.keys = Keys()
        self._stores: dict[str, ProviderRuns] = {}
        order = itertools.count(1)

        def clock() -> float:
            # Read anew each time: a test may put another clock in the place of the first.
            return self.now()

        for each in apis:
            if each.name in self._stores:
                raise ValueError(f"two APIs are called {each.name!r}")
            self._stores[each.name] = ProviderRuns(each, seed, seconds=seconds, now=clock, order=order, kept=runs_kept)

    @property
    def apis(self) -> dict[str, Api]:
        """The services by name."""
        return {name: store.api for name, store in self._stores.items()}

    @property
    def dropped_runs(self) -> int:
        """How many runs were forgotten to make room."""
        return sum(store.dropped for store in self._stores.values())

    def create_run(
        self,
        provider: str,
        *,
        script: str | Sequence[Any] | None = None,
        seconds: float | None = None,
        run_id: str | None = None,
        parents: Mapping[str, str] | None = None,
        fields: Mapping[str, Any] | None = None,
        shape: str | None = None,
        hidden_seconds: float = 0.0,
        held: bool | None = None,
        age_seconds: float = 0.0,
        on_cancel: str | Sequence[Any] | None = None,
        on_resume: str | Sequence[Any] | None = None,
        on_retry: str | Sequence[Any] | None = None,
    ) -> str:
        """Make a run that nobody submitted and return its id.

        Args:
            provider: The name of a service, such as ``nexio``.
            script: A named script or a list of steps (see :mod:`runops.emulator.control`).
            seconds: How long a named script lasts.
            run_id: The id to give it; made up from the seed if absent.
            parents: ``{"engine_slug": ...}`` (Nexio), ``{"config_name": ...}`` (Nyx),
                ``{"workflow_id": ...}`` (OnePin, B3OS), ``{"pipeline" | "source" | "destination" |
                "transformation": ...}`` (Nekt).
            fields: Wire fields to start with, in place of the usual ones.
            shape: Nekt only: ``pipeline`` or ``flat``, the two shapes of its run page.
            hidden_seconds: How long reads answer 404, on the run's own clock.
            held: Whether its clock stands still; the default is what ``hold`` said last.
            age_seconds: How long ago it was created; its script has run that far.
            on_cancel: What a cancel does: steps, ``"ignored"`` or ``"refused"``.
            on_resume: What a resume does (OnePin), likewise.
            on_retry: The script of the run that a retry makes (B3OS).

        Raises:
            ScriptError: If any of this makes no sense.
        """
        plan = RunPlan(
            script=script,
            seconds=seconds,
            run_id=run_id,
            parents=parents_of(parents),
            fields=checks.mapping("fields", {} if fields is None else fields),
            shape=shape,
            hidden_seconds=hidden_seconds,
            held=held,
            age_seconds=age_seconds,
            on_cancel=on_cancel,
            on_resume=on_resume,
            on_retry=on_retry,
        )
        with self.lock:
            return self._store(provider).create(plan).run_id

    def children(self, provider: str, parent: str | None = None) -> list[Run]:
        """Return the visible runs of a parent, or of a provider, newest first and up to date."""
        with self.lock:
            return self._store(provider).children(parent)

    def hold(self, held: bool = True, *, provider: str | None = None, run_id: str | None = None) -> int:
        """Stop the clocks of runs or let them go on; return how many there were.

        Without ``run_id`` it also applies to the runs that will be made later.
        """
        checks.flag("held", held)
        with self.lock:
            runs = self._chosen(provider, run_id)
            for run in runs:
                run.hold(held, self.now())
            if run_id is None:
                for store in self._stores_of(provider):
                    store.holds_new_runs = held
            return len(runs)

    def advance(self, seconds: float | None = None, *, provider: str | None = None, run_id: str | None = None) -> int:
        """Move runs' clocks on by seconds, or to the end of their scripts; return how many."""
        with self.lock:
            runs = self._chosen(provider, run_id)
            for run in runs:
                run.advance(seconds, self.now())
            return len(runs)

    def set_fields(self, provider: str, run_id: str, changes: Mapping[str, Any], removed: Iterable[str] = ()) -> None:
        """Change wire fields of one run now.

        Raises:
            ScriptError: If there is no such run, or the changes make no sense.
        """
        changes, removed = checks.mapping("set", changes), checks.texts("unset", removed)
        with self.lock:
            for run in self._chosen(provider, run_id):
                run.catch_up(self.now())
                run.change(changes, removed, self.now())

    def set_defaults(self, /, provider: str | None = None, **options: Any) -> None:
        """Say what submitted runs become when the submission does not.

        Args:
            provider: One provider, or all of them.
            **options: ``script``, ``seconds``, ``hidden_seconds``, ``fields``, ``on_cancel``,
                ``on_resume``, ``on_retry``; None forgets.

        Raises:
            ScriptError: If an option is unknown.
        """
        checks.names("option", options, RUN_OPTIONS)
        with self.lock:
            stores = self._stores_of(provider)
            for store in stores:
                store.check_defaults(options)
            for store in stores:
                store.set_defaults(options)

    def add_fault(self, /, **description: Any) -> str:
        """Plan a fault and return its id; see :mod:`runops.emulator.faults` for the keys.

        Raises:
            ScriptError: If the description makes no sense.
        """
        if description.get("provider") is not None:
            self._store(description["provider"])
        with self.lock:
            return self.fault_list.add(description)

    def take_fault(self, *, provider: str, action: str, method: str, path: str, run_id: str | None) -> Fault | None:
        """Return the fault that befalls a request, and count it."""
        with self.lock:
            return self.fault_list.take(provider, action, method, path, run_id)

    def set_key(self, /, key: str, state: str, *, provider: str | None = None, label: str | None = None) -> str:
        """Say what a key is from now on: ``accepted``, ``revoked`` (401) or ``forbidden`` (403); return its name.

        Args:
            key: The key itself; only a hash of it is kept.
            state: What it is.
            provider: At one service, or at all of them.
            label: What the journal calls it, beside its hash.

        Raises:
            ScriptError: If any of this makes no sense.
        """
        self._stores_of(provider)
        return self.keys.put(key, state, provider=provider, label=label)

    def reset(self, only: Iterable[str] = PARTS, *, seed: int | None = None) -> None:
        """Forget runs (with holds and defaults), faults, requests or keys; ids start over with the runs.

        Args:
            only: What to forget.
            seed: Where ids start from now on, so that no request of before meets a run of the same id.
        """
        with self.lock:
            parts = set(checks.texts("only", only))
            if parts - set(PARTS):
                raise ScriptError("only is a list of runs, faults, requests and keys")
            if "runs" in parts:
                for store in self._stores.values():
                    store.api.seed = store.api.seed if seed is None else seed
                    store.clear()
            if "faults" in parts:
                self.fault_list.clear()
            if "requests" in parts:
                self.journal.clear()
            if "keys" in parts:
                self.keys.clear()

    def requests(self, /, **filters: Any) -> list[dict[str, Any]]:
        """Return the requests received, oldest first.

        Args:
            **filters: ``provider, action, method, run_id, status, fault, key, key_id, key_label`` (equal) and
                ``path_contains``, ``after`` (index).

        Raises:
            ScriptError: If a filter is unknown.
        """
        return self.journal.find(**filters)

    def runs(self, *, provider: str | None = None, run_id: str | None = None) -> list[dict[str, Any]]:
        """Describe the runs, oldest first: ids, script, wire fields, submission, reads and cancels."""
        with self.lock:
            return [self._stores[run.provider].described(run) for run in self._chosen(provider, run_id)]

    def _store(self, provider: Any) -> ProviderRuns:
        store = self._stores.get(provider) if isinstance(provider, str) else None
        if store is None:
            raise ScriptError(f"unknown provider {checks.shown(provider)}; allowed: {sorted(self._stores)}")
        return store

    def _stores_of(self, provider: str | None) -> list[ProviderRuns]:
        return list(self._stores.values()) if provider is None else [self._store(provider)]

    def _chosen(self, provider: str | None, run_id: str | None) -> list[Run]:
        runs = [run for store in self._stores_of(provider) for run in store.chosen(run_id)]
        if run_id is not None and not runs:
            raise ScriptError(f"run_id: there is no run {checks.shown(run_id)}")
        return sorted(runs, key=lambda run: run.order)
