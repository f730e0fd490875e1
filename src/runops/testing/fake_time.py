"""A clock for a test of waits: what runops and the hosts sleep for has passed at once, in this process.

Three clocks are read here and there, and all of them move together:

- the time of day (``time.time``, ``datetime.now``), everywhere: that is time-machine's part, so that a host's start of
  a task, our deadline and the emulator's times of a run agree;
- ``time.sleep`` and ``time.monotonic`` as this package and the hosts call them. Everybody else's are left alone: a test
  may well wait for something real;
- event loops of the test's thread, and those that runops runs beside a task; see :mod:`runops.testing.loops`.

Time passes by itself too, as ever: what is computed is not free.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from unittest.mock import patch

from runops.testing.clock import FakeTime


@contextmanager
def real_time() -> Iterator[FakeTime]:
    """No fake time at all."""
    yield FakeTime(None)


@contextmanager
def fake_time(ports: Collection[int] = ()) -> Iterator[FakeTime]:
    """Fake time in this process for as long as the context lasts.

    Args:
        ports: Where services are served for which time need not pass while nothing is asked of them.
    """
    import time_machine

    from runops.testing.loops import jumping_loops

    began = datetime.now(UTC)
    with ExitStack() as stack:
        traveller = stack.enter_context(time_machine.travel(began, tick=True))
        clock = FakeTime(traveller.shift)
        stack.enter_context(patch.object(time, "sleep", clock.sleep))
        stack.enter_context(patch.object(time, "monotonic", clock.monotonic))
        stack.enter_context(jumping_loops(clock, ports))
        _prepare_airflow(clock, stack)
        yield clock


def _prepare_airflow(clock: FakeTime, stack: ExitStack) -> None:
    # Only asked once Airflow sleeps, so that it need not be there.
    def next_due(now: float) -> float | None:
        if "airflow.models.taskinstance" not in sys.modules:
            return None
        from runops.testing.airflow_due import seconds_until_due

        return seconds_until_due(now)

    clock.next_due = next_due
