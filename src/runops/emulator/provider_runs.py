"""The runs of one API: what its handlers read, start and cancel, and what the control API makes and changes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from runops.emulator import checks
from runops.emulator.api import Api, Submission
from runops.emulator.plans import RUN_OPTIONS, RunPlan, act_of, retry_of, script_of
from runops.emulator.runs import Run, ScriptError, Step


class ProviderRuns:
    """A :class:`~runops.emulator.api.Store`. It has no lock: :class:`~runops.emulator.store.Emulator` locks around it.

    Args:
        api_class: The API.
        seed: Where its ids start from.
        seconds: How long a named script lasts when nothing else is said.
        now: The clock, in seconds since the epoch.
        order: Numbers the runs of all providers.
        kept: How many runs are remembered; the oldest of those that are over go first.
    """

    def __init__(
        self,
        api_class: type[Api],
        seed: int,
        *,
        seconds: float,
        now: Callable[[], float],
        order: Iterator[int],
        kept: int,
    ) -> None:
        self.seconds = seconds
        self.now = now
        self.holds_new_runs = False
        self.dropped = 0
        self._order = order
        self._kept = kept
        self._runs: dict[str, Run] = {}
        self._children: dict[str, list[Run]] = defaultdict(list)
        self._forgotten: Counter[str] = Counter()
        self._defaults: dict[str, Any] = {}
        self.api = api_class(self, seed)

    # What the handlers of the API use

    def submit(self, submission: Submission) -> Run:
        """Make a run that a client submitted.

        Raises:
            ScriptError: If the submission asks for a script that does not exist.
        """
        given = checks.mapping("the emulator's options", submission.options)
        usual = {} if submission.usual_script is None else {"script": submission.usual_script}
        options = {**usual, **self._defaults, **{name: value for name, value in given.items() if value is not None}}
        checks.names("emulator option", options, RUN_OPTIONS)
        fields = {**submission.fields, **checks.mapping("fields", options.pop("fields", {}))}
        return self.create(RunPlan(parents=submission.parents, fields=fields, submitted=submission.body, **options))

    def lookup(self, run_id: str) -> Run | None:
        """Return a run that can be seen by now, brought up to date."""
        run = self._runs.get(run_id)
        now = self.now()
        if run is None or not run.visible(now):
            return None
        run.catch_up(now)
        return run

    def children(self, parent: str | None = None) -> list[Run]:
        """Return the visible runs, those of one parent or all, newest first and up to date."""
        now = self.now()
        runs: Iterable[Run] = self._runs.values() if parent is None else self._children.get(parent, ())
        visible = [run for run in runs if run.visible(now)]
        for run in visible:
            run.catch_up(now)
        return sorted(visible, key=lambda run: (run.created, run.order), reverse=True)

    def active(self, parent: str) -> Run | None:
        """Return a run of a parent that is not over, hidden ones included."""
        now = self.now()
        for run in self._children.get(parent, ()):
            run.catch_up(now)
            if not self.api.is_over(run):
                return run
        return None

    def number_of(self, parent: str) -> int:
        """Return how many runs a parent has had."""
        return len(self._children.get(parent, ())) + self._forgotten[parent]

    def cancel(self, run: Run) -> None:
        """Do to a run what a cancel does."""
        run.cancels += 1
        steps = self.api.cancel_steps(run) if run.on_cancel is None else run.on_cancel
        if run.on_cancel is None or steps:
            run.follow(steps, self.now())

    def resume(self, run: Run, steps: Iterable[Step]) -> None:
        """Do to a run what a resume does: the given steps, where nothing else was said."""
        run.resumes += 1
        steps = list(steps) if run.on_resume is None else run.on_resume
        if steps:
            run.follow(steps, self.now())

    # What the control API uses

    def chosen(self, run_id: str | None) -> list[Run]:
        """Return the run of an id, or all for None; hidden ones included."""
        return [run for run in self._runs.values() if run_id is None or run.run_id == run_id]

    def check_defaults(self, options: Mapping[str, Any]) -> None:
        """Check what :meth:`set_defaults` would take: a submit must not be what finds out.

        Raises:
            ScriptError: If an option makes no sense.
        """
        script_of(self.api, options.get("script"), options.get("seconds"), self.seconds)
        for name, check in (("fields", checks.mapping), ("hidden_seconds", checks.seconds)):
            if options.get(name) is not None:
                check(name, options[name])
        for name in ("on_cancel", "on_resume"):
            act_of(name, options.get(name))
        retry_of(self.api, options.get("on_retry"))

    def set_defaults(self, options: Mapping[str, Any]) -> None:
        """Say what submitted runs become when the submission does not; None forgets."""
        merged = {**self._defaults, **options}
        self._defaults = {key: value for key, value in merged.items() if value is not None}

    def clear(self) -> None:
        """Forget the runs, what was said about new ones, and where ids have got to."""
        self._runs.clear()
        self._children.clear()
        self._forgotten.clear()
        self._defaults.clear()
        self.holds_new_runs = False
        self.dropped = 0
        self.api.reset()

    def create(self, plan: RunPlan) -> Run:
        """Make a run.

        Raises:
            ScriptError: If its plan makes no sense.
        """
        api = self.api
        steps, script_name = script_of(api, plan.script, plan.seconds, self.seconds)
        cancel_steps, refuses_cancel = act_of("on_cancel", plan.on_cancel)
        resume_steps, refuses_resume = act_of("on_resume", plan.on_resume)
        hidden = checks.seconds("hidden_seconds", plan.hidden_seconds)
        age = checks.seconds("age_seconds", plan.age_seconds, least=-checks.LONGEST_SECONDS)
        stands_still = self.holds_new_runs if plan.held is None else checks.flag("held", plan.held)
        shape = api.shape_for(plan.parents, plan.shape)
        parents = self._parents(plan.parents, shape)
        run_id = api.new_id() if plan.run_id is None else checks.text("run_id", plan.run_id)
        if run_id in self._runs:
            raise ScriptError(f"run_id: {api.name} has a run {checks.shown(run_id)} already")
        run = Run(
            provider=api.name,
            run_id=run_id,
            parents=parents,
            fields={**api.first_fields(run_id, parents, shape), **plan.fields},
            pending=steps,
            created=self.now() - age,
            order=next(self._order),
            state_field=api.state_field,
            digits=api.digits,
            updated_field=api.updated_field,
            shape=shape,
            script=script_name,
            submitted=plan.submitted,
            hidden_seconds=hidden,
            on_cancel=cancel_steps,
            refuses_cancel=refuses_cancel,
            on_resume=resume_steps,
            refuses_resume=refuses_resume,
            on_retry=retry_of(api, plan.on_retry),
        )
        self._runs[run_id] = run
        for parent in parents.values():
            self._children[parent].append(run)
        run.catch_up(run.created)
        if stands_still:
            run.hold(True, self.now())
        if len(self._runs) > self._kept:
            self._make_room(run)
        return run

    def _parents(self, given: dict[str, str], shape: str | None) -> dict[str, str]:
        name = self.api.parent_name
        if name is not None and not given:
            return {name: self.api.default_parent}
        if name is not None and shape is None and name not in given:
            raise ScriptError(f"parents of {self.api.name} name a {name}; got {', '.join(sorted(given))}")
        return given

    def _make_room(self, newest: Run) -> None:
        """Make room for a tenth of what is kept, so that a look at all runs is rare."""
        now = self.now()
        for run in self._runs.values():
            run.catch_up(now)
        oldest_first = sorted(self._runs.values(), key=lambda run: (not self.api.is_over(run), run.order))
        # The one that was just made is wanted, whatever it is.
        for run in oldest_first[: len(self._runs) - self._kept + self._kept // 10]:
            if run is not newest:
                del self._runs[run.run_id]
                self.dropped += 1
        for parent, runs in tuple(self._children.items()):
            left = [run for run in runs if run.run_id in self._runs]
            self._forgotten[parent] += len(runs) - len(left)
            self._children[parent] = left
            if not left:
                del self._children[parent], self._forgotten[parent]

    def described(self, run: Run) -> dict[str, Any]:
        """Return a run as the control API shows it, brought up to date."""
        run.catch_up(self.now())
        return {
            "provider": run.provider,
            "run_id": run.run_id,
            "parents": dict(run.parents),
            "script": run.script,
            "shape": run.shape,
            "status": run.fields.get(run.state_field),
            "over": self.api.is_over(run),
            "held": run.held,
            "created": run.created,
            "changed": run.changed,
            "submitted": run.submitted is not None,
            "body": run.submitted,
            "reads": run.reads,
            "cancels": run.cancels,
            "resumes": run.resumes,
            "fields": dict(run.fields),
        }
