"""What every task that submits runs takes and remembers, be it one run or many. It submits nothing itself."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal, Unpack

from runops.airflow._compat import conf, has_task_state_store, kills_in_triggerer
from runops.airflow.arguments import TaskArguments
from runops.airflow.task_base import TaskBase
from runops.airflow.task_state import TaskState
from runops.core import NotSupported
from runops.core.declaration.arguments import grace, one_of, optional_seconds, seconds
from runops.core.waiting.options import (
    DEFAULT_AUTH_GRACE,
    DEFAULT_ERROR_BUDGET,
    DEFAULT_TIMEOUT,
    ON_CONFLICT,
    SUBMIT_GRACE,
    OnConflict,
    WaitOptions,
)
from runops.core.waiting.own_runs import shows_marks
from runops.core.waiting.submit_in_turn import TurnRules


def cancel_left_run(context: Any) -> None:
    """Cancel the run that a failed task leaves behind. Airflow calls it where no try is left.

    :param context: The task's context.
    """
    context["task"].leave_nothing(context)


class Submitting(TaskBase):
    """A task that submits runs, and may cancel them."""

    _on_worker = False

    def __init__(
        self,
        *,
        provider: str,
        conn_id: str | None = None,
        timeout: float | timedelta = DEFAULT_TIMEOUT,
        error_budget: float | timedelta = DEFAULT_ERROR_BUDGET,
        auth_grace: float | timedelta = DEFAULT_AUTH_GRACE,
        poll_interval: float | timedelta | None = None,
        on_outcome: Mapping[str, str] | None = None,
        states: Mapping[str, str] | None = None,
        expect: Mapping[str, Any] | None = None,
        on_unmet: str = "fail",
        max_paused: float | timedelta | None = None,
        max_stalled: float | timedelta | None = None,
        max_spend: float | None = None,
        adopt_uncertain: bool = False,
        mark_runs: bool | None = None,
        submit_grace: float | timedelta = SUBMIT_GRACE,
        on_conflict: OnConflict = "wait",
        cancel_on_kill: bool = True,
        cancel_on_timeout: bool = True,
        cancel_on_failure: bool = False,
        durable: bool = True,
        on_clear: Literal["submit", "reattach"] = "submit",
        soft_fail: bool = False,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Unpack[TaskArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.provider = provider
        setattr(self, self.conn_id_field, conn_id)
        self.timeout = timeout
        self.error_budget = error_budget
        self.poll_interval = poll_interval
        self.adopt_uncertain = adopt_uncertain
        self.mark_runs = mark_runs
        self.submit_grace = submit_grace
        self.on_conflict: OnConflict = on_conflict
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout
        self.cancel_on_failure = cancel_on_failure
        self.durable = durable
        self.on_clear = on_clear
        self.soft_fail = soft_fail
        self.deferrable = deferrable
        if cancel_on_failure:
            self.hear_of_the_end()
        self.set_end_rules(
            on_outcome=on_outcome,
            states=states,
            expect=expect,
            on_unmet=on_unmet,
            auth_grace=auth_grace,
            max_paused=max_paused,
            max_stalled=max_stalled,
            max_spend=max_spend,
        )
        if self.service.submit is None:
            raise NotSupported(
                f"{self.service.title} documents no way to start a run: wait for its runs with a sensor."
            )
        one_of("on_conflict", on_conflict, ON_CONFLICT)
        one_of("on_clear", on_clear, ("submit", "reattach"))
        seconds("submit_grace", submit_grace)
        self._clocks(deadline=0.0)

    def before_rendering(self) -> None:
        """Note that this is the process of a task. The DAG processor renders nothing, and has no task state store."""
        super().before_rendering()
        self._on_worker = True

    def hear_of_the_end(self) -> None:
        """Have Airflow tell when no try is left, after what a user wants to be told.

        Where a try cannot know what an earlier one submitted, each try is the last that can cancel its run.
        """
        self.on_failure_callback = [*self.on_failure_callback, cancel_left_run]
        if not (self.durable and has_task_state_store()):
            self.on_retry_callback = [*self.on_retry_callback, cancel_left_run]

    # --- what subclasses say ---

    @abstractmethod
    def leave_nothing(self, context: Any) -> None:
        """Cancel what this task has submitted, in whichever try: nobody is left who would wait for it.

        :param context: The task's context.
        """

    # --- what they are made of ---

    def _warn_without_store(self, context: Any) -> None:
        if self.durable and not self._task_state(context).exists:
            does = "knows its run by its mark alone" if shows_marks(self.service) else "submits anew"
            self.log.warning(
                "durable needs the task state store of Airflow 3.3 or newer: here a retry after a crash %s.", does
            )

    def _task_state(self, context: Any) -> TaskState:
        return TaskState(context if self.durable else {"ti": context["ti"]}, everlasting=self.on_clear == "reattach")

    @property
    def cancels_by_itself(self) -> bool:
        """Whether the end of the task by a person cancels what it has submitted, wherever it waits then."""
        return self._can_cancel(self.cancel_on_kill) and (not self.deferrable or kills_in_triggerer())

    def _can_cancel(self, wanted: bool) -> bool:
        return wanted and self.service.cancel is not None

    def _deadline(self, context: Any) -> float:
        """Unix seconds at which the whole wait ends; the same on each call in one try."""
        return context["ti"].start_date.timestamp() + seconds("timeout", self.timeout)

    def _turn_rules(self, context: Any) -> TurnRules:
        return TurnRules(
            on_conflict=self.on_conflict,
            until=self._deadline(context),
            interval=optional_seconds("poll_interval", self.poll_interval),
            error_budget=seconds("error_budget", self.error_budget),
            auth_grace=grace("auth_grace", self.auth_grace),
        )

    def _clocks(self, *, deadline: float) -> WaitOptions:
        return WaitOptions.build(
            self.service,
            now=0.0,
            timeout=self.timeout,
            deadline=deadline,
            error_budget=self.error_budget,
            **self._limits(),
            interval=self.poll_interval,
        )
