"""Triggers that do what no trigger may: block the loop of their triggerer, or break. For test DAGs only."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.sdk import BaseOperator
from airflow.triggers.base import BaseTrigger, TriggerEvent


class BlockingTrigger(BaseTrigger):
    """Blocks the loop once, for so many seconds.

    :param seconds: For how long.
    :param until: Unix seconds after which it blocks no more, wherever it begins anew.
    """

    def __init__(self, seconds: float, until: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.until = until

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return "tests.airflow_host.bad_triggers.BlockingTrigger", {"seconds": self.seconds, "until": self.until}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        if time.time() < self.until:
            time.sleep(self.seconds)  # noqa: ASYNC251
        yield TriggerEvent("unblocked")


class BreakingTrigger(BaseTrigger):
    """Breaks, but not so soon after the deferral that Airflow takes the resumed task for a dead one."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return "tests.airflow_host.bad_triggers.BreakingTrigger", {}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        await asyncio.sleep(12)
        raise RuntimeError("this trigger breaks")
        yield TriggerEvent("never")


class BlockingOperator(BaseOperator):
    """Defers to a :class:`BlockingTrigger`.

    :param seconds: For how long the loop is blocked.
    """

    def __init__(self, *, seconds: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seconds = seconds

    def execute(self, context: Any) -> None:
        trigger = BlockingTrigger(self.seconds, until=time.time() + 5)
        self.defer(trigger=trigger, method_name="unblocked")

    def unblocked(self, context: Any, event: Any = None) -> None:
        """Go on after the event."""
