"""The spans of external runs in Airflow: children of their task's span, in workers and in the triggerer.

Airflow carries the trace of a task with its task instance, also over a deferral; nothing of it is kept here. From 3.2
on the tracer is the process's; 3.1 has one of its own. Where Airflow traces nothing, nothing is done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

from runops.airflow._compat import (
    AirflowFailException,
    AirflowSensorTimeout,
)
from runops.airflow._compat_traces import task_trace, tracer_of_its_own
from runops.core import Provider, RunRef, RunSnapshot
from runops.core.many.rows import Row
from runops.core.telemetry import RunEnd, is_on, record, record_set

Began = Callable[[], float]
"""Gives the begin of a wait, in unix seconds. It may have to ask Airflow, so it is called only where that is wanted."""


@cache
def _own_tracer(on_loop: bool) -> Any:
    return tracer_of_its_own(on_loop=on_loop)


class TaskTrace:
    """Where the spans of one task instance belong.

    :param ti: The task instance, of a worker or of a trigger.
    :param log: Where it says that a span could not be made.
    :param on_loop: Whether this is an event loop.
    """

    def __init__(self, ti: Any, log: Any, *, on_loop: bool = False) -> None:
        self._ti = ti
        self._log = log
        self._on_loop = on_loop

    def ended(self, provider: Provider, last: RunSnapshot, verdict: str, began: Began) -> None:
        """The wait for a run is over.

        :param provider: The run's.
        :param last: Its last snapshot.
        :param verdict: What was decided about it.
        :param began: When the wait began.
        """
        if not last.ref.run_id:
            # Nothing was found to wait for.
            return
        self._make(lambda where: record(RunEnd.of(provider, last, verdict, began=began(), ended=time.time()), **where))

    def erred(self, ref: Callable[[], RunRef], error: Exception, began: Began) -> None:
        """A wait has ended in an error, and no other try goes on with it.

        :param ref: The run.
        :param error: The error.
        :param began: When the wait began.
        """
        self._make(lambda where: record(RunEnd.unknown(ref(), error, began=began(), ended=time.time()), **where))

    def set_ended(self, provider: Provider, rows: Iterable[Row], verdict: str, began: Began) -> None:
        """The wait for a set of runs is over.

        :param provider: The service.
        :param rows: Those of which nothing was told yet.
        :param verdict: What was decided about the whole.
        :param began: When the wait began.
        """
        self._make(lambda where: record_set(provider, rows, verdict, began=began(), ended=time.time(), **where))

    def _make(self, make: Callable[[dict[str, Any]], None]) -> None:
        try:
            tracer = _own_tracer(self._on_loop)
            if tracer is not None or is_on():
                make({"parent": task_trace(self._ti), "tracer": tracer})
        except Exception:  # noqa: BLE001 - a task ends as it ends, whatever its trace shows
            self._log.debug("The span of the external run could not be made.", exc_info=True)


def another_try_follows(context: Mapping[str, Any], error: BaseException | None) -> bool:
    """Whether Airflow tries a task again that ends in an error, as far as its ``retries`` say.

    :param context: The task's context.
    :param error: What the task is about to raise; None where it does not fail.
    """
    if error is None or isinstance(error, (AirflowFailException, AirflowSensorTimeout)):
        return False
    ti = context["ti"]
    # The numbers are Airflow's own: the first try is 1, and max_tries is the number of retries.
    return getattr(ti, "try_number", 0) <= (getattr(ti, "max_tries", 0) or 0)
