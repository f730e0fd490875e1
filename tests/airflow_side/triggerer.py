"""A stand-in for a triggerer: it runs a trigger of a row, and does to the task what Airflow does on its event."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

from airflow.triggers.base import BaseTaskEndEvent, TriggerEvent

from runops.airflow import _compat
from runops.airflow.external_run import EXTERNAL_RUN
from tests.airflow_side.conftest import Ended, stored


class Channel:
    """What a trigger asks Airflow over: it keeps the XComs that it is given, as Airflow's database would."""

    def __init__(self, ti: Any) -> None:
        self._ti = ti
        self.asked: list[str] = []
        self.recorded: list[str] = []
        """The kinds of what was asked for the record of the page, which is part of no end."""
        self.fails: BaseException | None = None

    async def asend(self, message: Any) -> Any:
        kind = type(message).__name__
        if kind == "GetTaskStates":
            raise RuntimeError("no state is known here")
        if message.key == EXTERNAL_RUN:
            self.recorded.append(kind)
        else:
            self.asked.append(f"{kind} {message.key}")
        if self.fails is not None:
            raise self.fails
        about = (message.dag_id, message.run_id, message.task_id, message.map_index)
        assert about == (self._ti.dag_id, self._ti.run_id, self._ti.task_id, self._ti.map_index)
        if kind == "SetXCom":
            # The dict of a message is JSON.
            self._ti.xcoms[message.key] = json.loads(json.dumps(message.value, allow_nan=False))
        elif kind == "GetXCom":
            return SimpleNamespace(key=message.key, value=self._ti.xcoms.get(message.key))
        else:
            self._ti.xcoms.pop(message.key, None)
        return None


class Triggerer:
    """Runs triggers for the tasks of one context."""

    def __init__(self, monkeypatch: Any, context: dict[str, Any]) -> None:
        self.context = context
        self.channel = Channel(context["ti"])
        self.ended_here = 0
        monkeypatch.setattr(_compat, "supervisor", lambda: self.channel)

    def event(self, trigger: Any, task: Any = None) -> TriggerEvent:
        """The one event of a trigger that a triggerer runs."""
        trigger.trigger_id = 7
        ti = self.context["ti"]
        about = {name: getattr(ti, name) for name in ("dag_id", "run_id", "task_id", "map_index", "try_number")}
        about["context_carrier"] = getattr(ti, "context_carrier", None)
        trigger.task_instance = SimpleNamespace(**about, **({} if task is None else {"task": task}))
        (event,) = asyncio.run(_all(trigger))
        return event

    def run(self, task: Any) -> Ended:
        """A task as Airflow runs it, from its start on a worker or here until it ends here or there."""
        ti = self.context["ti"]
        ended = Ended(xcoms=ti.xcoms)
        step: Callable[[], Any] = partial(task.execute, self.context)
        start = getattr(task, "start_trigger_args", None)
        if start is not None:
            given = json.loads(json.dumps(start.trigger_kwargs, allow_nan=False))
            from runops.airflow.trigger import RunTrigger

            event = self.event(RunTrigger(**given), task)
            if self._ends(event, ended):
                return ended
            step = partial(task.resume_execution, start.next_method, {"event": event.payload}, self.context)
        while True:
            ended.pokes += 1
            try:
                ended.result = step()
                if task.do_xcom_push:
                    ti.xcom_push("return_value", ended.result)
            except _compat.TaskDeferred as deferred:
                ended.deferrals.append(deferred)
                event = self.event(stored(deferred.trigger))
                if self._ends(event, ended):
                    return ended
                step = partial(task.resume_execution, deferred.method_name, {"event": event.payload}, self.context)
            except Exception as error:
                ended.error = error
                return ended
            else:
                return ended

    def _ends(self, event: TriggerEvent, ended: Ended) -> bool:
        ended.events.append(event)
        if not isinstance(event, BaseTaskEndEvent):
            return False
        self.ended_here += 1
        assert not event.xcoms
        if event.task_instance_state == "skipped":
            ended.error = _compat.AirflowSkipException()
        else:
            assert event.task_instance_state == "success"
            ended.result = ended.xcoms.get("return_value")
        return True


async def _all(trigger: Any) -> list[TriggerEvent]:
    events = [event async for event in trigger.run()]
    await trigger.cleanup()
    return events
