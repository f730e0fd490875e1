"""What is counted and traced of the end of an external run in Dagster: by OpenTelemetry, where a process has set it up.

Dagster has no spans of its own: a run's belongs to whatever span is current in the step, and begins a trace otherwise.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable

from runops.core import Provider, RunRef, RunSnapshot, Verdict
from runops.core.many.rows import Row
from runops.core.telemetry import METER, RunEnd, is_on, record, record_set
from runops.dagster import _compat

logger = logging.getLogger(__name__)


def tell_end(
    provider: Provider, last: RunSnapshot, verdict: Verdict, *, began: float, another: Callable[[], bool]
) -> None:
    """The wait for a run is over.

    Args:
        provider: The service.
        last: The last snapshot.
        verdict: What was decided about it.
        began: When the wait began, in unix seconds.
        another: Whether another try goes on with a run that is not over; asked only where somebody traces.
    """
    METER.ended(provider, last, verdict)
    if is_on() and (last.run_ended or not another()):
        record(RunEnd.of(provider, last, verdict, began=began, ended=time.time()))


def tell_error(
    provider: Provider, ref: RunRef | None, error: Exception, *, began: float, another: Callable[[], bool]
) -> None:
    """A wait or a submit has ended in an error.

    Args:
        provider: The service.
        ref: The run; None where there is none.
        error: The error.
        began: When the wait began, in unix seconds.
        another: Whether another try goes on with it.
    """
    METER.erred(provider.name, error)
    if ref is not None and is_on() and not another():
        record(RunEnd.unknown(ref, error, began=began, ended=time.time()))


def tell_set(
    provider: Provider, rows: Iterable[Row], verdict: Verdict, *, began: float, another: Callable[[], bool]
) -> None:
    """The wait for a set of runs is over.

    Args:
        provider: The service.
        rows: Those of which nothing was told yet.
        verdict: What was decided about the whole.
        began: When the wait began, in unix seconds.
        another: Whether another try goes on with what is not over.
    """
    reported = list(rows)
    if any(row.is_over and row.may_be_alive for row in reported) and another():
        reported = [row for row in reported if not row.may_be_alive]
    METER.set_ended(provider, reported)
    record_set(provider, reported, verdict, began=began, ended=time.time())


def tried_again(context: _compat.StepContext, error: BaseException) -> bool:
    """Whether Dagster tries a step again, as far as that can be found out.

    Args:
        context: The step's context.
        error: What the step ends with.
    """
    try:
        return _compat.tried_again(context, error)
    except Exception:  # a storage raises what it likes
        logger.debug("Whether the step is tried again could not be found out.", exc_info=True)
        return False
