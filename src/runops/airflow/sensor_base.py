"""What all sensors share, of one run or of many: their arguments, their clocks, and how none of them fails unseen."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn, Unpack

from airflow.sdk import BaseSensorOperator

from runops.airflow._compat import AirflowRescheduleException, AirflowSkipException, conf
from runops.airflow.arguments import SensorArguments
from runops.airflow.task_base import TaskBase
from runops.airflow.task_state import TaskState
from runops.core.declaration.arguments import mapping
from runops.core.model.cadence import spread
from runops.core.model.codes import Code, text_of, with_code
from runops.core.waiting.options import DEFAULT_AUTH_GRACE, DEFAULT_ERROR_BUDGET, WaitOptions

RESCHEDULE_SECONDS = 60.0
"""The shortest time between two pokes in reschedule mode, unless the user gives a ``poke_interval``."""
LONGEST_BACKOFF = 3600.0
"""The longest time between two reads under ``exponential_backoff`` without a ``max_wait``."""


class SensorBase(TaskBase, BaseSensorOperator):
    """A sensor of whatever waits. Subclasses say for what."""

    deferrable: bool

    def __init__(
        self,
        *,
        provider: str,
        conn_id: str | None = None,
        on_outcome: Mapping[str, str] | None = None,
        states: Mapping[str, str] | None = None,
        expect: Mapping[str, Any] | None = None,
        on_unmet: str = "fail",
        error_budget: float | timedelta = DEFAULT_ERROR_BUDGET,
        auth_grace: float | timedelta = DEFAULT_AUTH_GRACE,
        max_paused: float | timedelta | None = None,
        max_stalled: float | timedelta | None = None,
        max_spend: float | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poke_interval: float | timedelta | None = None,
        **kwargs: Unpack[SensorArguments],
    ) -> None:
        # The base class cannot tell its default of 60 s from a user's wish.
        given = {} if poke_interval is None else {"poke_interval": poke_interval}
        super().__init__(**given, **kwargs)
        self.provider = provider
        setattr(self, self.conn_id_field, conn_id)
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
        self.error_budget = error_budget
        self.deferrable = deferrable
        self.interval = self.poke_interval if given and self.poke_interval else None
        self._clocks(deadline=0.0)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Any) -> Any:
        """As the base class's, but a skip comes only from a verdict or from ``never_fail``."""
        with self._never_failing():
            return super().resume_execution(next_method, next_kwargs, context)

    # --- what the wait asks ---

    def _deadline(self, context: Any) -> float:
        return self._began(context) + self.timeout

    def _began(self, context: Any) -> float:
        """When the first try of this generation began."""
        task_state = TaskState(context)
        record = task_state.load()
        if record is not None and "began" in record:
            return record["began"]
        ti = context["ti"]
        first = ti.get_first_reschedule_date(context) if self.reschedule and not self.deferrable else None
        began = (first or ti.start_date).timestamp()
        task_state.save(began=began)
        return began

    def _clocks(self, *, deadline: float) -> WaitOptions:
        interval = self.interval
        if interval is None and self.reschedule and not self.deferrable:
            interval = RESCHEDULE_SECONDS
        ceiling = None if self.max_wait is None else self.max_wait.total_seconds()
        if self.exponential_backoff and ceiling is None:
            ceiling = LONGEST_BACKOFF
        options = WaitOptions.build(
            self.service,
            now=0.0,
            deadline=deadline,
            error_budget=self.error_budget,
            **self._limits(),
            interval=interval,
            factor=2.0 if self.exponential_backoff else None,
            ceiling=ceiling,
        )
        if self.silent_fail:
            return replace(options, error_budget=max(options.error_budget, float(self.timeout)))
        return options

    def _come_back(self, context: Any) -> NoReturn:
        """End this poke; the next one comes by the cadence.

        :raises AirflowRescheduleException: Always.
        """
        now, began = time.time(), self._began(context)
        options = self._clocks(deadline=began + self.timeout)
        pause = options.cadence.delay(now - began, jitter=max(spread(), 0.0))
        again = min(now + pause, max(options.deadline, now))
        raise AirflowRescheduleException(datetime.fromtimestamp(again, UTC))

    def _named_parents(self, more: Mapping[str, str] | str | None) -> dict[str, str]:
        named = {name: getattr(self, name) for name in self.named_fields}
        return {**mapping("parents", more or {}), **{name: value for name, value in named.items() if value is not None}}

    @contextmanager
    def _never_failing(self) -> Generator[None]:
        try:
            yield
        except (AirflowSkipException, AirflowRescheduleException):
            raise
        except Exception as error:
            if self.never_fail:
                skipped = with_code(f"Skipped, because never_fail is set: {text_of(error)}", Code.NEVER_FAIL)
                self.log.warning("%s", skipped)
                raise AirflowSkipException(skipped) from None
            raise
