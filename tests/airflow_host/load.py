"""A deferrable operator that does nothing: what the host itself costs, to set beside ours."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from airflow.sdk import BaseOperator
from airflow.triggers.base import BaseTrigger, StartTriggerArgs, TriggerEvent

FOLDER = "RUNOPS_TEST_MARKS"
"""The environment variable that names the folder of the marks."""
LOOK_SECONDS = 1.0


def mark_of(run_id: str, task_id: str) -> str:
    """The name of the file whose appearance ends an empty wait."""
    return f"{run_id}.{task_id}"


class MarkTrigger(BaseTrigger):
    """Waits for a file with the name of its task."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return "tests.airflow_host.load.MarkTrigger", {}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        ti: Any = self.task_instance
        mark = Path(os.environ[FOLDER], mark_of(ti.run_id, ti.task_id))
        while not mark.exists():  # noqa: ASYNC110, ASYNC240 - another process makes it
            await asyncio.sleep(LOOK_SECONDS)
        yield TriggerEvent({})


class EmptyOperator(BaseOperator):
    """Begins in the triggerer, and ends at once when it is resumed."""

    start_from_trigger = True
    start_trigger_args = StartTriggerArgs(
        trigger_cls="tests.airflow_host.load.MarkTrigger", trigger_kwargs={}, next_method="over"
    )

    def execute(self, context: Any) -> None:
        raise NotImplementedError("it begins in the triggerer")

    def over(self, context: Any, event: Any = None) -> dict[str, Any]:
        return {}
