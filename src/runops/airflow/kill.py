"""Whether a person has killed a task, which alone cancels its run; and work that a killed task may not wait for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from runops.airflow._compat import state_in

logger = logging.getLogger(__name__)

ALIVE = frozenset({"running", "deferred", "up_for_retry", "up_for_reschedule"})
"""States in which a person has not killed the task: it is only being moved, or goes on by itself."""
OVER = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
CLEARED = "restarting"
"""What Airflow makes of a running task that a person clears, and of no other."""


def killed_by_person(context: Mapping[str, Any], *, clear_kills: bool) -> bool:
    """Whether a person wants the task of this process to end, by its state now; read on a worker.

    :param context: The task's context.
    :param clear_kills: Whether a clear counts.
    """
    ti = context["ti"]
    mapped = ti.map_index is not None and ti.map_index >= 0
    states = ti.get_task_states(
        dag_id=ti.dag_id,
        task_ids=[ti.task_id],
        run_ids=[ti.run_id],
        map_index=ti.map_index if mapped else None,
    )
    state = state_in(states, ti)
    # Any other state is Airflow's own doing: a scheduler that gave the worker up sends the task through none,
    # scheduled, queued or up_for_retry, and the next try wants its run back.
    return state in OVER or (state == CLEARED and clear_kills)


def within(limit: float, work: Callable[[], Any]) -> Any:
    """What ``work`` gives within ``limit`` seconds, or None: Airflow ends the process soon, so nothing may block."""
    given: list[Any] = []

    def attempt() -> None:
        try:
            given.append(work())
        except Exception:  # the caller sees that nothing came; the log says why
            logger.warning("An attempt while the task is being ended failed.", exc_info=True)

    thread = threading.Thread(target=attempt, name="runops-attempt", daemon=True)
    thread.start()
    thread.join(limit)
    return given[0] if given else None
