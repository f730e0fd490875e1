"""What every task of ours shares, be it for one run or for many: names, templates, connection, and how it resumes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from datetime import timedelta
from inspect import signature
from typing import Any, ClassVar, TypedDict

from airflow.sdk import BaseOperator

from runops.airflow._compat import (
    AirflowException,
    RenderedTask,
    TaskDeferralError,
    TaskDeferralTimeout,
    heartbeat_seconds,
    supervisor,
)
from runops.airflow.arguments import NamesChecked, check_names
from runops.airflow.exceptions import TriggerCrashed
from runops.airflow.good_end import EndRules
from runops.airflow.hook import RunHook
from runops.airflow.link import LINKS, RunLink
from runops.airflow.task_record import TaskRecord, recording_errors
from runops.airflow.trigger_record import SHOWN
from runops.core import find
from runops.core.model.codes import text_of
from runops.core.model.run import WaitClock
from runops.core.waiting.options import WaitOptions

EARLIEST_SECONDS = 10.0
"""A trigger that fires sooner after the deferral can fail its task: the scheduler may not have seen it end yet."""
LATE_SECONDS = 60.0
"""For so long after its end a wait may still be the trigger's; then Airflow's own deferral timeout ends it."""


class Whose(TypedDict):
    """Whose the runs of a task are."""

    own: bool
    """Whether the task has submitted them."""
    cancels: bool
    """Whether the end of the task by a person cancels them by itself."""


class _NeverBegan(TriggerCrashed):
    """The triggerer could not make the trigger at all."""


class TaskBase(RenderedTask, EndRules, NamesChecked):
    """A task that waits for runs. Subclasses say for which, and what becomes of an end that nobody tells."""

    conn_id_field: ClassVar[str] = "conn_id"
    """The attribute that holds the connection id, which templates fill."""
    named_fields: ClassVar[tuple[str, ...]] = ()
    """Arguments of a named class's own: the parents of its runs, or what its submit takes."""
    shared_fields: ClassVar[tuple[str, ...]] = ()
    """Further template fields of a named class, which its generic parent handles."""
    payload_fields: ClassVar[tuple[str, ...]] = ()
    """Template fields that may hold credentials or personal data. What they are rendered to is stored nowhere."""
    run_record: TaskRecord | None = None
    """What this process stores for the page "External runs"; None where it does not, or not yet."""

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

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Any) -> Any:
        """Airflow's entry after a deferral, also when it ended by a timeout or a crash of the trigger."""
        self.run_record = None
        with recording_errors(self, context):
            try:
                return BaseOperator.resume_execution(self, next_method, next_kwargs, context)
            except TaskDeferralTimeout:
                return self._after_deferral_timeout(context)
            except TaskDeferralError as error:
                kind = _never_began(next_kwargs)
                return self._after_crash(context, error if kind is None else _NeverBegan(f"{text_of(error)}: {kind}"))

    def after_rendering(self) -> None:
        """Hide what may be secret: Airflow stores what the template fields hold now, and logs it at DEBUG.

        Not in a process that has no supervisor, since nothing can be stored from there: it is that of ``airflow tasks
        render``, which prints a task's arguments for the person who asks, or a unit test.
        """
        if self.payload_fields and supervisor() is not None:
            self.template_fields = tuple(field for field in self.template_fields if field not in self.payload_fields)

    # --- what subclasses say ---

    @abstractmethod
    def _deadline(self, context: Any) -> float:
        """Unix seconds at which the whole wait ends; the same on each call in one try."""

    @abstractmethod
    def _after_deferral_timeout(self, context: Any) -> Any:
        """What to do when no event came in time: the triggerer is down or overloaded."""

    @abstractmethod
    def _after_crash(self, context: Any, error: AirflowException) -> Any:
        """What to do when the trigger broke: nothing is known of what it waited for."""

    def whose_runs(self, context: Any) -> Whose:
        """Whose the runs are, for the page "External runs".

        :param context: The task's context.
        """
        return {"own": False, "cancels": False}

    # --- what they are made of ---

    def _hook(self) -> RunHook:
        return RunHook(getattr(self, self.conn_id_field) or None, provider=self.provider, states=self.states)

    @property
    def conn_id_in_use(self) -> str:
        """The connection, as it is called."""
        return self._hook().conn_id

    def _patience(self, options: WaitOptions) -> dict[str, Any]:
        """What the triggerer needs to wait as the worker does: the clocks, the words that the task teaches, and what is
        stored for the page "External runs"."""
        taught = {"states": dict(self.states)} if self.states else {}
        stored = {SHOWN: self.run_record.shown} if self.run_record else {}
        return {**options.to_dict(), **taught, **stored}

    def _execution_ends(self, context: Any) -> float | None:
        """Unix seconds at which Airflow's clock for this try is over, deferred or not."""
        limit = self.execution_timeout
        return None if limit is None else context["ti"].start_date.timestamp() + limit.total_seconds()

    def _first_end(self, context: Any) -> tuple[float, WaitClock]:
        """When the wait ends, in unix seconds, and by which clock."""
        deadline, execution_ends = self._deadline(context), self._execution_ends(context)
        if execution_ends is None or execution_ends >= deadline:
            return deadline, "timeout"
        return execution_ends, "execution_timeout"

    def _deferral(self, context: Any, deadline: float, now: float) -> tuple[float, timedelta]:
        """Unix seconds before which the trigger of a deferral must not fire, and when Airflow ends the deferral itself.

        :param context: The task's context.
        :param deadline: When what the triggerer waits for ends, in unix seconds.
        :param now: The present, in unix seconds.
        """
        execution_ends = self._execution_ends(context)
        ends = deadline if execution_ends is None else min(deadline, execution_ends)
        earliest = now + max(EARLIEST_SECONDS, 2 * heartbeat_seconds())
        return earliest, timedelta(seconds=max(ends, earliest) + LATE_SECONDS - now)

    def _crashed(self, context: Any, ref: object | None, error: AirflowException) -> TriggerCrashed:
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
        why = text_of(error).removesuffix(".")
        return TriggerCrashed(
            f"The trigger broke before it could tell how {run} ended ({why}). The triggerer's log of this "
            f"task says why. This says nothing about the run itself, which may go on; {then}"
        )


def _never_began(next_kwargs: Mapping[str, Any] | None) -> str | None:
    """The name of the error for which a triggerer could not even make a trigger; None where it broke later.

    :param next_kwargs: What Airflow resumes a task with after a trigger has failed.
    """
    trace = (next_kwargs or {}).get("traceback")
    last = "".join(trace).strip().rpartition("\n")[2] if isinstance(trace, (list, tuple, str)) else ""
    kind = last.partition(":")[0]
    return kind if kind in ("ImportError", "ModuleNotFoundError", "AttributeError", "TypeError") else None
