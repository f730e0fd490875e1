"""What sensors and operators share: wait here or in the triggerer, resume, apply the verdict. It submits nothing."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from inspect import signature
from typing import Any, ClassVar, Literal, NoReturn

from airflow.sdk import BaseOperator

from runops.airflow._compat import (
    AirflowException,
    AirflowTaskTimeout,
    RenderedTask,
    TaskDeferralError,
    TaskDeferralTimeout,
    heartbeat_seconds,
)
from runops.airflow.arguments import NamesChecked, check_names
from runops.airflow.events import read_end
from runops.airflow.exceptions import RunFailed, RunTimedOut, TriggerCrashed, as_airflow, in_airflow_terms
from runops.airflow.good_end import EndRules
from runops.airflow.hook import RunHook
from runops.airflow.lineage import facets
from runops.airflow.link import LINKS, RunLink
from runops.airflow.metrics import erred
from runops.airflow.observer import Observer
from runops.airflow.submission import WORKER_SECONDS, LostSubmit
from runops.airflow.trigger import RunTrigger
from runops.airflow.verdicts import apply_verdict, publish
from runops.core import (
    AnswerError,
    AuthError,
    FinalError,
    PollingError,
    RunopsError,
    RunRef,
    RunResult,
    RunSnapshot,
    find,
)
from runops.core.model.run import EndedBy
from runops.core.transport.retry import may_pass
from runops.core.waiting import flows
from runops.core.waiting.discovery import Search
from runops.core.waiting.options import WaitOptions
from runops.core.waiting.state import WaitProgress, timed_out
from runops.core.waiting.turns import Turn

EARLIEST_SECONDS = 10.0
"""A trigger that fires sooner after the deferral can fail its task: the scheduler may not have seen it end yet."""
LATE_SECONDS = 60.0
"""For so long after its end a wait may still be the trigger's; then Airflow's own deferral timeout ends it."""


class _NeverBegan(TriggerCrashed):
    """The triggerer could not make the trigger at all."""


class Follower(Observer):
    """Observes a run, and pushes the run's page as soon as it is known.

    :param context: The task's context.
    :param log: The task's log.
    :param url: The run's page as far as it is published already.
    """

    def __init__(self, context: Mapping[str, Any], log: Any, *, url: str | None = None) -> None:
        super().__init__(log)
        self._context = context
        self._url = url

    def __call__(self, snapshot: RunSnapshot) -> None:
        """Take in a read."""
        super().__call__(snapshot)
        if not snapshot.ended_by and snapshot.url and snapshot.url != self._url:
            self._url = snapshot.url
            publish(self._context, snapshot.ref, snapshot.url)


class RunWaiting(RenderedTask, EndRules, NamesChecked):
    """A task that waits for one run. Subclasses say which run, and for how long."""

    conn_id_field: ClassVar[str] = "conn_id"
    """The attribute that holds the connection id, which templates fill."""
    timed_out_error: ClassVar[type[RunTimedOut]] = RunTimedOut
    failed_error: type[RunFailed] = RunFailed
    """What a failed run raises: whether another try could end otherwise."""

    named_fields: ClassVar[tuple[str, ...]] = ()
    """Arguments of a named class's own: the parents of its runs, or what its submit takes."""
    shared_fields: ClassVar[tuple[str, ...]] = ()
    """Further template fields of a named class, which its generic parent handles."""

    _result: RunResult | None = None

    deferrable: bool
    error_budget: float | timedelta

    def __init_subclass__(cls, *, provider: str | None = None, **kwargs: Any) -> None:
        """Derive from the signature of a named class what Airflow wants as attributes of the class.

        :param provider: The provider of all its runs, for a class with an ``__init__`` of its own: all that it takes
            by keyword is templated, and the last of it is the connection.
        """
        super().__init_subclass__(**kwargs)
        if provider is None:
            return
        parameters = signature(cls.__init__).parameters.values()
        *own, cls.conn_id_field = (each.name for each in parameters if each.kind is each.KEYWORD_ONLY)
        cls.named_fields = tuple(name for name in own if name not in cls.shared_fields)
        cls.template_fields = tuple(dict.fromkeys((*own, *cls.shared_fields, cls.conn_id_field, *cls.end_fields)))
        cls.operator_extra_links = (LINKS.get(find(provider).name, RunLink)(),)

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """As any operator's.

        :param kwargs: As the class takes them.
        :raises ConfigurationError: It takes no such argument.
        """
        check_names(cls, kwargs)
        return super().partial(**kwargs)

    def execute_complete(self, context: Any, event: dict[str, Any] | None = None) -> RunResult:
        """Go on after the trigger's event.

        :param context: The task's context.
        :param event: What the trigger fired.
        """
        try:
            snapshot = read_end(event)
        except TriggerCrashed as error:
            return self._after_crash(context, error)
        return self._apply_verdict(context, snapshot)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Any) -> Any:
        """Airflow's entry after a deferral, also when it ended by a timeout or a crash of the trigger."""
        try:
            return BaseOperator.resume_execution(self, next_method, next_kwargs, context)
        except TaskDeferralTimeout:
            return self._after_deferral_timeout(context)
        except TaskDeferralError as error:
            kind = _never_began(next_kwargs)
            return self._after_crash(context, error if kind is None else _NeverBegan(f"{error}: {kind}"))

    # --- what subclasses say ---

    @abstractmethod
    def _deadline(self, context: Any) -> float:
        """Unix seconds at which the whole wait ends; the same on each call in one try."""

    @abstractmethod
    def _waited_for(self, context: Any) -> RunRef:
        """The run, as a resumed process finds it."""

    def _trigger_settings(self) -> dict[str, Any]:
        """Further arguments of the trigger."""
        return {}

    def _after_crash(self, context: Any, error: AirflowException) -> RunResult:
        """What to do when the trigger broke: nothing is known of the run."""
        raise self._crashed(context, None, error)

    def _crashed(self, context: Any, ref: RunRef | None, error: AirflowException) -> TriggerCrashed:
        run = "the run" if ref is None else ref
        ti = context["ti"]
        # The numbers are Airflow's own: the first try is 1, and max_tries is the number of retries.
        last = getattr(ti, "try_number", 0) > (ti.max_tries or 0)
        if isinstance(error, _NeverBegan):
            then = "another try ends the same way until the triggerer has the same runops as the workers."
        elif last:
            then = "no try is left to look at it again: clear the task."
        else:
            then = "another try of the task looks at it again."
        return TriggerCrashed(
            f"The trigger broke before it could tell how {run} ended ({error}). The triggerer's log of this task says "
            f"why. This says nothing about the run itself, which may go on; {then}"
        )

    def _apply_verdict(self, context: Any, snapshot: RunSnapshot) -> RunResult:
        with in_airflow_terms():
            judgement = self._policy().judge(snapshot)
        self._result = judgement.result(snapshot)
        return apply_verdict(
            context,
            snapshot,
            judgement,
            log=self.log,
            failed=self.failed_error,
            timed_out=self.timed_out_error,
        )

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """What OpenLineage's listener asks for after a task, be it a success or a failure.

        :param task_instance: The task instance.
        """
        return None if self._result is None else facets(self._result)

    # --- the wait ---

    def _hook(self) -> RunHook:
        return RunHook(getattr(self, self.conn_id_field) or None, provider=self.provider, states=self.states)

    def _await_run(
        self,
        context: Any,
        ref: RunRef,
        options: WaitOptions,
        *,
        submitted_at: float | None = None,
        taken_up: bool = False,
    ) -> RunSnapshot:
        """Wait here, or read for a while here and then defer; the last snapshot."""
        follower = Follower(context, self.log, url=self.service.url(ref))
        # A resumed process goes on with the wait of its try.
        past = WaitProgress(began=context["ti"].start_date.timestamp(), accepted=taken_up)
        here = options
        if self.deferrable:
            here = replace(options, deadline=min(options.deadline, time.time() + WORKER_SECONDS))
        whole = here.deadline == options.deadline
        try:
            with self._hook().client() as client:
                snapshot = client.wait(ref, patience=here, submitted_at=submitted_at, past=past, on_update=follower)
        except AirflowTaskTimeout:
            return self._last_read(ref, follower.last, "execution_timeout")
        except RunopsError as error:
            refused = isinstance(error, AuthError) and past.may_be_accepted(options.auth_grace, time.time())
            if whole or not (refused or may_go_on(error)):
                erred(self.provider, error)
                raise as_airflow(error) from None
        else:
            if whole or snapshot.ended_by != "timeout":
                return snapshot
        return self._defer(context, ref, options, submitted_at=submitted_at, past=past)

    def _defer(
        self,
        context: Any,
        ref: RunRef | None,
        options: WaitOptions,
        *,
        submitted_at: float | None = None,
        past: WaitProgress | None = None,
        search: Search | None = None,
        lost: LostSubmit | None = None,
        turn: Turn | None = None,
    ) -> NoReturn:
        """Let the triggerer wait: for a run, for one to be there, for that of a lost submit, or for a turn."""
        now = time.time()
        execution_ends = self._execution_ends(context)
        before_run = lost or turn
        deadline = options.deadline if before_run is None else before_run.until
        ends = deadline if execution_ends is None else min(deadline, execution_ends)
        earliest = now + max(EARLIEST_SECONDS, 2 * heartbeat_seconds())
        trigger = RunTrigger(
            provider=self.provider,
            conn_id=self._hook().conn_id,
            ref=None if ref is None else ref.model_dump(mode="json"),
            search=None if search is None else search.to_dict(),
            lost=None if lost is None else lost.to_dict(),
            turn=None if turn is None else turn.to_dict(),
            patience=self._patience(options),
            not_before=earliest,
            submitted_at=submitted_at,
            past=None if past is None else past.to_dict(now),
            execution_ends=execution_ends,
            **self._trigger_settings(),
        )
        if turn is not None:
            self.log.info("The triggerer waits for this task's turn from here.")
        elif lost is not None:
            self.log.info("The triggerer looks for the run of the lost submit from here.")
        elif ref is None:
            self.log.info("The %s is not there yet; the triggerer looks for it from here.", search)
        else:
            self.log.info("%s goes on; the triggerer watches it from here.", ref)
        self.defer(
            trigger=trigger,
            method_name="execute_complete",
            timeout=timedelta(seconds=max(ends, earliest) + LATE_SECONDS - now),
        )

    def _patience(self, options: WaitOptions) -> dict[str, Any]:
        """What the triggerer needs to wait as the worker does: the clocks, and the words that the task teaches."""
        return {**options.to_dict(), **({"states": dict(self.states)} if self.states else {})}

    def _after_deferral_timeout(self, context: Any) -> RunResult:
        """No event came in time: the triggerer is down or overloaded. Read the run a last time."""
        return self._apply_verdict(context, self._last_read(self._waited_for(context), None, self._ended_by(context)))

    def _ended_by(self, context: Any) -> Literal["timeout", "execution_timeout"]:
        """Which clock ends the wait first."""
        execution_ends = self._execution_ends(context)
        by_airflow = execution_ends is not None and execution_ends < self._deadline(context)
        return "execution_timeout" if by_airflow else "timeout"

    def _last_read(self, ref: RunRef, last: RunSnapshot | None, ended_by: EndedBy) -> RunSnapshot:
        """A run that a last read finds over has ended; for any other the clock counts."""
        hook = self._hook()
        with in_airflow_terms():
            try:
                with hook.client() as client:
                    last = client.drive(flows.get(client.provider, ref, self._limits()["wanted"]))
            except AnswerError as error:
                self.log.warning("The last read of %s failed: %s", ref, error)
            if last is not None and last.run_ended:
                return last
            return timed_out(hook.provider, ref, last, ended_by)

    def _execution_ends(self, context: Any) -> float | None:
        """Unix seconds at which Airflow's clock for this try is over, deferred or not."""
        limit = self.execution_timeout
        return None if limit is None else context["ti"].start_date.timestamp() + limit.total_seconds()


def _never_began(next_kwargs: Mapping[str, Any] | None) -> str | None:
    """The name of the error for which a triggerer could not even make a trigger; None where it broke later.

    :param next_kwargs: What Airflow resumes a task with after a trigger has failed.
    """
    trace = (next_kwargs or {}).get("traceback")
    last = "".join(trace).strip().rpartition("\n")[2] if isinstance(trace, (list, tuple, str)) else ""
    kind = last.partition(":")[0]
    return kind if kind in ("ImportError", "ModuleNotFoundError", "AttributeError", "TypeError") else None


def may_go_on(error: RunopsError) -> bool:
    """Whether a wait that goes on could get over an error."""
    return isinstance(error, PollingError) or (isinstance(error, FinalError) and may_pass(error))
