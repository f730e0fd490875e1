"""The emulator itself: its runs, its journal of requests and its faults; no HTTP in here.

:class:`Emulator` is what the control API talks to, and what tests in the same process use
directly. Every method may be called from any thread.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from runops.emulator import checks
from runops.emulator.api import Api, Submission
from runops.emulator.b3os import B3osApi
from runops.emulator.faults import Fault, FaultList
from runops.emulator.nekt import NektApi
from runops.emulator.nexio import NexioApi
from runops.emulator.nyx import NyxApi
from runops.emulator.onepin import OnepinApi
from runops.emulator.runs import Run, ScriptError, Step, steps_of

API_CLASSES: tuple[type[Api], ...] = (NexioApi, NyxApi, OnepinApi, B3osApi, NektApi)
REQUESTS_KEPT = 20_000
"""About 1.4 kB each: of reads so many, and of all others so many, so that no poll pushes a submit out."""
RUNS_KEPT = 20_000
"""For each provider."""

#: What a submission or the control API's defaults may say about a run that is to be made.
RUN_OPTIONS = frozenset({"script", "seconds", "hidden_seconds", "fields", "on_cancel"})


class Emulator:
    """Everything the emulated services remember.

    Args:
        seed: Where ids and random faults start from.
        seconds: How long a named script lasts when nothing else is said.
        now: The clock, in seconds since the epoch.
        requests_kept: How many GET requests are remembered, and how many others; the oldest are forgotten first.
        runs_kept: How many runs of each provider are remembered; the oldest of those that are over go first.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        seconds: float = 2.0,
        now: Callable[[], float] = time.time,
        requests_kept: int = REQUESTS_KEPT,
        runs_kept: int = RUNS_KEPT,
    ) -> None:
        self.seed = seed
        self.seconds = seconds
        self.now = now
        self.lock = threading.RLock()
        self.apis: dict[str, Api] = {cls.name: cls(self, seed) for cls in API_CLASSES}
        self.fault_list = FaultList(seed)
        self._runs: dict[str, dict[str, Run]] = {name: {} for name in self.apis}
        self._children: dict[tuple[str, str], list[Run]] = defaultdict(list)
        self._forgotten: Counter[tuple[str, str]] = Counter()
        self._defaults: dict[str, dict[str, Any]] = {name: {} for name in self.apis}
        self._held_providers: set[str] = set()
        self._reads: deque[dict[str, Any]] = deque(maxlen=requests_kept)
        self._writes: deque[dict[str, Any]] = deque(maxlen=requests_kept)
        self._runs_kept = runs_kept
        self._order = 0
        self.dropped_requests = 0
        self.dropped_runs = 0

    # Runs

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
    ) -> str:
        """Make a run that nobody submitted and return its id.

        Args:
            provider: ``nexio``, ``nyx``, ``onepin``, ``b3os`` or ``nekt``.
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

        Raises:
            ScriptError: If any of this makes no sense.
        """
        with self.lock:
            run = self._make(
                self._api(provider),
                script=script,
                seconds=seconds,
                run_id=run_id,
                parents=_parents(parents),
                fields=checks.mapping("fields", {} if fields is None else fields),
                shape=shape,
                hidden_seconds=hidden_seconds,
                held=held,
                age_seconds=age_seconds,
                on_cancel=on_cancel,
                submitted=None,
            )
            return run.run_id

    def submit(self, provider: str, submission: Submission) -> Run:
        """Make a run that a client submitted.

        Raises:
            ScriptError: If the submission asks for a script that does not exist.
        """
        api = self._api(provider)
        given = checks.mapping("the emulator's options", submission.options)
        options = {**self._defaults[provider], **{name: value for name, value in given.items() if value is not None}}
        _check_names("emulator option", options, RUN_OPTIONS)
        return self._make(
            api,
            script=options.get("script"),
            seconds=options.get("seconds"),
            run_id=None,
            parents=submission.parents,
            fields={**submission.fields, **checks.mapping("fields", options.get("fields", {}))},
            shape=None,
            hidden_seconds=options.get("hidden_seconds", 0.0),
            held=None,
            age_seconds=0.0,
            on_cancel=options.get("on_cancel"),
            submitted=submission.body,
        )

    def lookup(self, provider: str, run_id: str) -> Run | None:
        """Return a run that can be seen by now, brought up to date."""
        run = self._runs[provider].get(run_id)
        now = self.now()
        if run is None or not run.visible(now):
            return None
        run.catch_up(now)
        return run

    def children(self, provider: str, parent: str | None = None) -> list[Run]:
        """Return the visible runs of a parent, or of a provider, newest first and up to date."""
        now = self.now()
        runs: Iterable[Run] = (
            self._runs[provider].values() if parent is None else self._children.get((provider, parent), ())
        )
        visible = [run for run in runs if run.visible(now)]
        for run in visible:
            run.catch_up(now)
        return sorted(visible, key=lambda run: (run.created, run.order), reverse=True)

    def active(self, provider: str, parent: str) -> Run | None:
        """Return a run of a parent that is not over, hidden ones included."""
        now = self.now()
        over = self._api(provider).over
        for run in self._children.get((provider, parent), ()):
            run.catch_up(now)
            if run.status not in over:
                return run
        return None

    def number_of(self, provider: str, parent: str) -> int:
        """Return how many runs a parent has had."""
        key = (provider, parent)
        return len(self._children.get(key, ())) + self._forgotten[key]

    def cancel(self, run: Run) -> None:
        """Do to a run what a cancel does."""
        run.cancels += 1
        steps = self._api(run.provider).cancel_steps(run) if run.on_cancel is None else run.on_cancel
        if run.on_cancel is None or steps:
            run.follow(steps, self.now())

    # Control

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
                names = set(self.apis) if provider is None else {self._api(provider).name}
                self._held_providers = self._held_providers | names if held else self._held_providers - names
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
            **options: ``script``, ``seconds``, ``hidden_seconds``, ``fields``, ``on_cancel``; None forgets.

        Raises:
            ScriptError: If an option is unknown.
        """
        _check_names("option", options, RUN_OPTIONS)
        with self.lock:
            apis = list(self.apis.values()) if provider is None else [self._api(provider)]
            for api in apis:
                # A submit must not be what finds out.
                self._steps(api, options.get("script"), options.get("seconds"))
            for name, check in (("fields", checks.mapping), ("hidden_seconds", checks.seconds)):
                if options.get(name) is not None:
                    check(name, options[name])
            _cancel_plan(options.get("on_cancel"))
            for api in apis:
                merged = {**self._defaults[api.name], **options}
                self._defaults[api.name] = {key: value for key, value in merged.items() if value is not None}

    def add_fault(self, /, **description: Any) -> str:
        """Plan a fault and return its id; see :mod:`runops.emulator.faults` for the keys.

        Raises:
            ScriptError: If the description makes no sense.
        """
        if description.get("provider") is not None:
            self._api(description["provider"])
        with self.lock:
            return self.fault_list.add(description)

    def take_fault(self, *, provider: str, action: str, method: str, path: str, run_id: str | None) -> Fault | None:
        """Return the fault that befalls a request, and count it."""
        with self.lock:
            return self.fault_list.take(provider, action, method, path, run_id)

    def reset(self, only: Iterable[str] = ("runs", "faults", "requests")) -> None:
        """Forget runs (with holds and defaults), faults or requests; ids start over with the runs."""
        with self.lock:
            parts = set(checks.texts("only", only))
            if parts - {"runs", "faults", "requests"}:
                raise ScriptError("only is a list of runs, faults and requests")
            if "runs" in parts:
                for name, api in self.apis.items():
                    self._runs[name].clear()
                    self._defaults[name].clear()
                    api.reset()
                self._children.clear()
                self._forgotten.clear()
                self._held_providers.clear()
                self.dropped_runs = 0
            if "faults" in parts:
                self.fault_list.clear()
            if "requests" in parts:
                self._reads.clear()
                self._writes.clear()
                self.dropped_requests = 0

    # Journal

    def record(self, entry: dict[str, Any]) -> None:
        """Write a request down; the entry may be filled in later."""
        with self.lock:
            self._order += 1
            entry["index"] = self._order
            journal = self._reads if entry["method"] == "GET" else self._writes
            self.dropped_requests += len(journal) == journal.maxlen
            journal.append(entry)

    def requests(self, /, **filters: Any) -> list[dict[str, Any]]:
        """Return the requests received, oldest first.

        Args:
            **filters: ``provider, action, method, run_id, status, fault, key`` (equal) and
                ``path_contains``, ``after`` (index).

        Raises:
            ScriptError: If a filter is unknown.
        """
        allowed = {"provider", "action", "method", "run_id", "status", "fault", "key"}
        _check_names("filter", filters, allowed | {"path_contains", "after"})
        equal = {name: value for name, value in filters.items() if name in allowed and value is not None}
        part = filters.get("path_contains") or ""
        after = int(filters.get("after") or 0)
        with self.lock:
            return [
                dict(entry)
                for entry in heapq.merge(self._reads, self._writes, key=lambda entry: entry["index"])
                if entry["index"] > after
                and part in entry["path"]
                and all(entry.get(name) == value for name, value in equal.items())
            ]

    def runs(self, *, provider: str | None = None, run_id: str | None = None) -> list[dict[str, Any]]:
        """Describe the runs, oldest first: ids, script, wire fields, submission, reads and cancels."""
        with self.lock:
            chosen = self._chosen(provider, run_id)
            for run in chosen:
                run.catch_up(self.now())
            return [_described(run, self.apis[run.provider]) for run in chosen]

    # Inside

    def _api(self, provider: Any) -> Api:
        api = self.apis.get(provider) if isinstance(provider, str) else None
        if api is None:
            raise ScriptError(f"unknown provider {checks.shown(provider)}; allowed: {sorted(self.apis)}")
        return api

    def _chosen(self, provider: str | None, run_id: str | None) -> list[Run]:
        names = list(self.apis) if provider is None else [self._api(provider).name]
        runs = [run for name in names for run in self._runs[name].values() if run_id is None or run.run_id == run_id]
        if run_id is not None and not runs:
            raise ScriptError(f"run_id: there is no run {checks.shown(run_id)}")
        return sorted(runs, key=lambda run: run.order)

    def _make(
        self,
        api: Api,
        *,
        script: Any,
        seconds: Any,
        run_id: str | None,
        parents: dict[str, str],
        fields: dict[str, Any],
        shape: str | None,
        hidden_seconds: float,
        held: bool | None,
        age_seconds: float,
        on_cancel: Any,
        submitted: Mapping[str, Any] | None,
    ) -> Run:
        steps, script_name = self._steps(api, script, seconds)
        cancel_steps, refuses_cancel = _cancel_plan(on_cancel)
        hidden = checks.seconds("hidden_seconds", hidden_seconds)
        age = checks.seconds("age_seconds", age_seconds, least=-checks.LONGEST_SECONDS)
        stands_still = api.name in self._held_providers if held is None else checks.flag("held", held)
        shape = api.shape_for(parents, shape)
        if api.parent_name is not None and not parents:
            parents = {api.parent_name: api.default_parent}
        if api.parent_name is not None and shape is None and api.parent_name not in parents:
            raise ScriptError(f"parents of {api.name} name a {api.parent_name}; got {', '.join(sorted(parents))}")
        chosen_id = api.new_id() if run_id is None else checks.text("run_id", run_id)
        if chosen_id in self._runs[api.name]:
            raise ScriptError(f"run_id: {api.name} has a run {checks.shown(chosen_id)} already")
        self._order += 1
        run = Run(
            provider=api.name,
            run_id=chosen_id,
            parents=parents,
            fields={**api.first_fields(chosen_id, parents, shape), **fields},
            pending=steps,
            created=self.now() - age,
            order=self._order,
            digits=api.digits,
            updated_field=api.updated_field,
            shape=shape,
            script=script_name,
            submitted=submitted,
            hidden_seconds=hidden,
            on_cancel=cancel_steps,
            refuses_cancel=refuses_cancel,
        )
        self._runs[api.name][chosen_id] = run
        for parent in parents.values():
            self._children[(api.name, parent)].append(run)
        run.catch_up(run.created)
        if stands_still:
            run.hold(True, self.now())
        if len(self._runs[api.name]) > self._runs_kept:
            self._forget_runs(api)
        return run

    def _forget_runs(self, api: Api) -> None:
        """Make room for a tenth of what is kept, so that a look at all runs is rare."""
        runs, now = self._runs[api.name], self.now()
        for run in runs.values():
            run.catch_up(now)
        oldest_first = sorted(runs.values(), key=lambda run: (run.status not in api.over, run.order))
        gone = oldest_first[: len(runs) - self._runs_kept + self._runs_kept // 10]
        # The one that was just made is wanted, whatever it is.
        for run in [run for run in gone if run.order != self._order]:
            del runs[run.run_id]
            self.dropped_runs += 1
        for key in [key for key in self._children if key[0] == api.name]:
            left = [run for run in self._children[key] if run.run_id in runs]
            self._forgotten[key] += len(self._children[key]) - len(left)
            self._children[key] = left
            if not left:
                del self._children[key], self._forgotten[key]

    def _steps(self, api: Api, script: Any, seconds: Any) -> tuple[list[Step], str]:
        if script is None:
            script = "succeeded"
        if isinstance(script, str):
            moments = api.scripts.get(script)
            if moments is None:
                raise ScriptError(f"{api.name} has no script {checks.shown(script)}; allowed: {', '.join(api.scripts)}")
            duration = self.seconds if seconds is None else checks.seconds("seconds", seconds)
            return steps_of(moments, duration), script
        if isinstance(script, Sequence):
            return checks.steps("script", script), "custom"
        raise ScriptError(f"script is the name of a script or a list of steps; got {checks.shown(script)}")


def _check_names(what: str, given: Iterable[str], allowed: Collection[str]) -> None:
    unknown = sorted(set(given) - set(allowed))
    if unknown:
        told = ", ".join(checks.shown(name) for name in unknown[:5])
        raise ScriptError(f"unknown {what} {told}; allowed: {sorted(allowed)}")


def _parents(value: Any) -> dict[str, str]:
    found = checks.mapping("parents", {} if value is None else value)
    return {
        checks.text("a name in parents", name): checks.text(f"parents.{name}", each) for name, each in found.items()
    }


def _cancel_plan(on_cancel: Any) -> tuple[list[Step] | None, bool]:
    if on_cancel is None:
        return None, False
    if on_cancel == "ignored":
        return [], False
    if on_cancel == "refused":
        return None, True
    if isinstance(on_cancel, Sequence) and not isinstance(on_cancel, str):
        return checks.steps("on_cancel", on_cancel), False
    raise ScriptError(f'on_cancel is "ignored", "refused" or a list of steps; got {checks.shown(on_cancel)}')


def _described(run: Run, api: Api) -> dict[str, Any]:
    return {
        "provider": run.provider,
        "run_id": run.run_id,
        "parents": dict(run.parents),
        "script": run.script,
        "shape": run.shape,
        "status": run.fields.get("status"),
        "over": run.status in api.over,
        "held": run.held,
        "created": run.created,
        "changed": run.changed,
        "submitted": run.submitted is not None,
        "body": run.submitted,
        "reads": run.reads,
        "cancels": run.cancels,
        "fields": dict(run.fields),
    }
