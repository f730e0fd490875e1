"""What a task instance remembers over its tries: one record in Airflow's task state store. It decides nothing."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from runops.airflow._compat import task_state_store
from runops.airflow.records import KEY, REFUSED, STOPPED_KEY, left_of

logger = logging.getLogger(__name__)


class TaskState:
    """The record of one task instance. Without a store (Airflow below 3.3) it holds nothing.

    A record belongs to one generation: the tries between two clears by a person. ``max_tries`` stays the same over
    automatic retries and is raised by a clear.

    :param context: The task's context.
    :param everlasting: Read the record of earlier generations too.
    """

    def __init__(self, context: Mapping[str, Any], *, everlasting: bool = False) -> None:
        self._store = task_state_store(context)
        self._generation = context["ti"].max_tries
        self._everlasting = everlasting

    @property
    def exists(self) -> bool:
        """Whether there is a store."""
        return self._store is not None

    def load(self) -> dict[str, Any] | None:
        """The record of this generation, or None."""
        record = self.load_any()
        if record is not None and (self._everlasting or record.get("generation") == self._generation):
            return record
        return None

    def load_any(self) -> dict[str, Any] | None:
        """The record of whatever generation, or None."""
        record = None if self._store is None else self._store.get(KEY)
        return dict(record) if isinstance(record, Mapping) else None

    def save(self, **record: Any) -> None:
        """Keep a record of JSON primitives in place of the earlier one."""
        if self._store is not None:
            self._store.set(KEY, {"version": 1, "generation": self._generation, **record})

    def update(self, **changes: Any) -> None:
        """Add to the record, if there is one."""
        record = self.load_any()
        if self._store is not None and record is not None:
            self._store.set(KEY, {**record, **changes})

    def forget(self) -> None:
        """Keep nothing but the runs of before that may go on."""
        if self._store is None:
            return
        left = left_of(self.load_any())
        if left:
            self.save(state=REFUSED, left=left)
        else:
            self._store.delete(KEY)

    def was_stopped(self, run_id: str) -> bool:
        """Whether ``runops orphans`` has cancelled a run since nobody waited for it."""
        return self._store is not None and self._store.get(STOPPED_KEY) == run_id
