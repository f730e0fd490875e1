"""A sensor that begins in the triggerer, without a worker before its end, where its templates allow it."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from airflow.triggers.base import StartTriggerArgs

from runops.airflow._compat import renders_in_triggerer
from runops.airflow.task_base import TaskBase
from runops.airflow.templates import needs_worker


class _StartTriggerArgs:
    """What Airflow needs to start a sensor in the triggerer; None for a class, a mapped task, or where it cannot be."""

    def __get__(self, task: BeginsInTrigger | None, owner: type) -> StartTriggerArgs | None:
        return None if task is None else task.started_in_triggerer()


class _StartFromTrigger:
    """Whether a sensor starts there. A triggerer builds a context for each task that says so, which can go wrong."""

    def __get__(self, task: BeginsInTrigger | None, owner: type) -> bool:
        return task is not None and task.start_trigger_args is not None

    def __set__(self, task: BeginsInTrigger, wanted: bool) -> None:
        task.start_wanted = wanted


class BeginsInTrigger(TaskBase):
    """A part of sensors that may begin there. It stands before the class that executes them."""

    start_trigger_args = _StartTriggerArgs()  # pyright: ignore[reportAssignmentType]
    start_from_trigger = _StartFromTrigger()  # pyright: ignore[reportAssignmentType]

    runs_field: ClassVar[str]
    """The attribute that says which runs, which templates fill."""
    start_wanted: bool = False
    """What the argument says, whatever can be."""
    _worker_reason: str | None = None

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """As any operator's. A mapped task never starts in a triggerer, which builds a context for it if it says so.

        :param kwargs: As the class takes them.
        """
        made = super().partial(**kwargs)
        made.kwargs.pop("start_from_trigger", None)
        return made

    @abstractmethod
    def started_in_triggerer(self) -> StartTriggerArgs | None:
        """The trigger that takes the place of the first worker, or None where that cannot be or is not wanted."""

    def before_rendering(self) -> None:
        """Note why the task begins on a worker: afterwards nothing shows any more what was a template."""
        super().before_rendering()
        if self.start_wanted:
            self._worker_reason = self._needs_worker()

    def _say_where_it_begins(self) -> None:
        """Say why a task begins on a worker that should not; to be called there."""
        if self.start_wanted:
            reason = self._worker_reason or "Airflow has sent it there"
            self.log.info("start_from_trigger is set, but the task begins on a worker: %s.", reason)

    def _needs_worker(self) -> str | None:
        if not renders_in_triggerer():
            return "that needs Airflow 3.3 or newer"
        return needs_worker(self, self._rendered_fields())

    @property
    def _judged_fields(self) -> tuple[str, ...]:
        """Further fields that the trigger needs, because it judges by them."""
        return ()

    def _rendered_fields(self) -> dict[str, Any]:
        """What the trigger needs of the task's own fields, as they stand."""
        names = (self.runs_field, self.conn_id_field, *(self.named_fields or ("parents",)), *self._judged_fields)
        return {name: getattr(self, name, None) for name in names}

    def _start(self, timeout: float) -> dict[str, Any]:
        """What the trigger must know of them."""
        return {
            "timeout": timeout,
            "conn_id": self.conn_id_field,
            "parents": list(self.named_fields) or None,
            **({"fields": list(self._judged_fields)} if self._judged_fields else {}),
        }
