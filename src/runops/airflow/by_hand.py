"""What stands in for Airflow where somebody calls a task by hand, as unit tests do: ``sensor.poke({})``.

A task of ours pushes XComs, remembers its run and asks when it began. Where the context that it is called with has no
task instance of Airflow's, one is put there that keeps all of it in memory. It renders no template and retries nothing:
that is what ``dag.test()`` is for.
"""

from __future__ import annotations

import json
from collections.abc import MutableMapping
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast


class TaskInstanceByHand:
    """The part of a task instance that a task of ours asks, in its first try.

    :param task: The task that is called.
    :param given: What the context held in its place, such as a mock; it hears of each XCom too.
    """

    def __init__(self, task: Any, given: Any = None) -> None:
        self._given = given
        self.task = task
        self.task_id: str = task.task_id
        self.dag_id: str = task.dag_id
        self.run_id = "by_hand"
        self.map_index = -1
        self.try_number = 1
        self.max_tries = 0
        self.state = "running"
        self.start_date = datetime.now(UTC)
        self.xcoms: dict[str, Any] = {}
        """What was pushed, by key."""

    def xcom_push(self, key: str, value: Any) -> None:
        """Keep an XCom, in the form in which Airflow would.

        :param key: The key.
        :param value: The value.
        """
        self.xcoms[key] = json.loads(json.dumps(value))
        if self._given is not None:
            self._given.xcom_push(key=key, value=value)

    def xcom_pull(self, *, key: str = "return_value", **_: Any) -> Any:
        """What this task has pushed itself.

        :param key: The key.
        """
        return self.xcoms.get(key)

    def get_first_reschedule_date(self, context: Any) -> datetime | None:
        """None: a poke by hand is the first one, unless its context says otherwise.

        :param context: The context.
        """
        return None

    def get_task_states(self, **_: Any) -> dict[str, Any]:
        """As Airflow answers, for this task alone."""
        return {self.run_id: {self.task_id: self.state}}


class StateByHand:
    """A task state store in memory."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    def get(self, key: str, default: Any = None) -> Any:
        """What is stored.

        :param key: The key.
        :param default: For what is not there.
        """
        return json.loads(self._values[key]) if key in self._values else default

    def set(self, key: str, value: Any) -> None:
        """Store JSON primitives.

        :param key: The key.
        :param value: The value.
        """
        self._values[key] = json.dumps(value)

    def delete(self, key: str) -> None:
        """Forget what is stored.

        :param key: The key.
        """
        self._values.pop(key, None)


def whole(task: Any, context: Any) -> Any:
    """The context as it is or, where it is not Airflow's, filled in, so that the caller can read there what happened.

    :param task: The task that is called.
    :param context: What it is called with: Airflow's context, a dict that lacks a part of it, a mock or None.
    """
    filled = cast("MutableMapping[str, Any]", context) if isinstance(context, MutableMapping) else {}
    given = filled.get("ti")
    # A mock has every attribute, and none of them is a moment.
    if isinstance(getattr(given, "start_date", None), datetime):
        return filled
    filled["ti"] = filled["task_instance"] = TaskInstanceByHand(task, given)
    filled.setdefault("task", task)
    filled.setdefault("task_state_store", StateByHand())
    filled.setdefault("dag_run", SimpleNamespace(run_after=datetime.now(UTC), run_id="by_hand", conf={}))
    return filled
