"""Mapped tasks that do nothing: what a task costs Airflow."""

from __future__ import annotations

from typing import Any

from airflow.sdk import BaseOperator, dag

from benchmarks.dags import TASKS


class Nothing(BaseOperator):
    """Returns what it was given."""

    def __init__(self, *, number: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.number = number

    def execute(self, context: Any) -> int:
        return self.number


@dag(schedule=None, catchup=False)
def empty() -> None:
    Nothing.partial(task_id="nothing").expand(number=list(range(TASKS)))


empty()
