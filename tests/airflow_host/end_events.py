"""A trigger that ends its task by an event of Airflow's own, as it stands in Airflow's documentation."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from airflow.triggers.base import BaseTrigger, TaskSuccessEvent, TriggerEvent

from tests.airflow_host.host import KILL_FOLDER


class EventTrigger(BaseTrigger):
    """Ends its task some seconds after, with a dict as its result."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return "tests.airflow_host.end_events.EventTrigger", {}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        await asyncio.sleep(10)
        yield TaskSuccessEvent(xcoms={"return_value": {"outcome": "succeeded"}})


def mark_of(name: str) -> Path:
    """A file that a callback leaves."""
    return Path(os.environ[KILL_FOLDER]) / f"{name}.called"
