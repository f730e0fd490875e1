"""What both triggers share: one event whatever happens, templates filled within bounds, and a kill told from a move."""

from __future__ import annotations

import asyncio
import contextvars
import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

from airflow.triggers.base import BaseTrigger, TriggerEvent
from jinja2 import TemplateError

from runops.airflow import events
from runops.airflow._compat import AirflowException, kills_in_triggerer, supervisor, task_state_of
from runops.airflow._compat_traces import id_of_try
from runops.airflow.bounds import AIRFLOW_SECONDS, in_own_thread, within
from runops.airflow.exceptions import TriggerCrashed, as_airflow
from runops.airflow.external_run import Hold
from runops.airflow.hook import RunHook
from runops.airflow.kill import ALIVE, OVER
from runops.airflow.many.run_list import parents_of
from runops.airflow.metrics import METER
from runops.airflow.templates import environment
from runops.airflow.trigger_record import SHOWN, TriggerRecord, record_of
from runops.core import AsyncRunClient, RunopsError
from runops.core.model.codes import Code, with_code
from runops.core.model.run import WaitClock
from runops.core.waiting.options import WaitOptions

STATE_SECONDS = 2.0
CANCEL_SECONDS = 15.0
OPENING_SECONDS = 30.0
"""The first answer about a task's state may take this long: a triggerer builds then what answers."""


class TriggerBase(BaseTrigger):
    """A trigger that fires one event, never earlier than ``not_before``, and never raises.

    Subclasses say what they wait for, and what of it is the task's own, so that a kill cancels it.

    :param cancel_on_kill: Whether a kill by a person cancels that.
    :param on_clear: ``"reattach"``: not when the kill is a clear.
    """

    _channel: ClassVar[Any] = None
    """The connection to Airflow over which a state was read already."""

    provider: str
    conn_id: str | None
    patience: dict[str, Any]
    not_before: float
    execution_ends: float | None
    record: TriggerRecord | None = None
    """What is stored of the wait for the page "External runs"; None where nothing is, or nothing yet."""
    _fields: dict[str, Any]
    _rendering: tuple[Any, Any] | None = None

    def __init__(self, *, cancel_on_kill: bool, on_clear: str) -> None:
        super().__init__()
        self.cancel_on_kill = cancel_on_kill
        self.on_clear = on_clear
        self.began = time.time()
        """When the wait began, in unix seconds, as far as it is known here."""

    def began_at(self, began: float | None) -> None:
        """Note when the wait began, where a worker knows it.

        :param began: Unix seconds; None where it does not.
        """
        self.began = began or self.began

    # --- what subclasses say ---

    @abstractmethod
    async def _end(self) -> dict[str, Any]:
        """Wait; the event. What it raises becomes one."""

    @abstractmethod
    def _own(self) -> str | None:
        """What a kill cancels, in words; None where nothing is the task's own."""

    @abstractmethod
    async def _cancel(self, client: AsyncRunClient) -> None:
        """Cancel that."""

    async def _has_begun_anew(self) -> bool:
        """Whether another try of the task has begun since, so that its state says nothing of this one."""
        return False

    async def _task_end(self, event: Mapping[str, Any]) -> TriggerEvent | None:
        """What ends the task without a worker; None where one resumes it with the event.

        :param event: The event.
        """
        return None

    # --- the event ---

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and fire one event: never earlier than ``not_before``, never an exception."""
        opening = self._open_channel()
        try:
            event = await self._event()
            await asyncio.gather(*opening, return_exceptions=True)
            await asyncio.sleep(max(self.not_before - time.time(), 0.0))
            fired = await self._task_end(event) or TriggerEvent(event)
        finally:
            if self.record is not None:
                self.record.close()
        yield fired

    async def _event(self) -> dict[str, Any]:
        try:
            return await self._end()
        except RunopsError as error:
            return self._error(as_airflow(error))
        except AirflowException as error:
            return self._error(error)
        except Exception as error:
            self.log.exception("The trigger met an error that is not the run's.")
            message = f"The trigger met an error that is not the run's: {type(error).__name__}."
            return self._error(TriggerCrashed(message))

    def _error(self, error: Exception) -> dict[str, Any]:
        self.log.error("%s", error)
        METER.erred(self.provider, error)
        return events.failed(error)

    def _hook(self) -> RunHook:
        states, trace_id = self.patience.get("states"), id_of_try(self.task_instance) if self.task_instance else None
        return RunHook(self.conn_id, provider=self.provider, states=states, trace_id=trace_id)

    def _keep_record(self, hook: RunHook, hold: Hold | None = None, **run: Any) -> TriggerRecord | None:
        """Have others see how the wait stands, where that can be.

        :param hook: The connection.
        :param hold: What held the wait up when the worker left it.
        :param run: What is known, as :class:`ExternalRun` takes it.
        """
        run = {"conn_id": hook.conn_id, "cancels": self.cancel_on_kill and kills_in_triggerer(), **run}
        # Whoever begins later may follow a triggerer that has stored more since the worker did.
        shown = self.patience.get(SHOWN) if time.time() < self.not_before else None
        self.record = record_of(self.task_instance, hook.provider, shown, hold, **run)
        return self.record

    # --- a task that begins here ---

    def render_template_fields(self, context: Any, jinja_env: Any = None) -> None:
        """What a triggerer calls before :meth:`run`, which does it: there it is bounded, and a failure is an event.

        :param context: The task's context, as a triggerer has it.
        :param jinja_env: The Jinja environment; by default that of a triggerer.
        """
        self._rendering = context, jinja_env

    async def _fill_templates(self) -> None:
        """Fill the task's templates. It may send requests to Airflow, and block, so it does not on the event loop.

        :raises TriggerCrashed: It failed, or took too long.
        """
        if self._rendering is None:
            return
        context, given = self._rendering
        render = partial(super().render_template_fields, context, given or environment())
        try:
            await within(AIRFLOW_SECONDS, "what the task's templates name", in_own_thread(render))
        except TriggerCrashed:
            raise
        except Exception as error:  # as many kinds as there are templates
            self.log.exception("The templates of the task could not be rendered.")
            why = str(error) if isinstance(error, TemplateError) else "the log of the trigger says more"
            raise TriggerCrashed(
                f"The templates of the task could not be rendered in the triggerer: {type(error).__name__}: {why}."
            ) from None

    def _own_fields(self, start: Mapping[str, Any] | None, fields: Mapping[str, Any], own: str) -> dict[str, Any]:
        """The task's fields that Airflow renders here, under the names that they have in the task.

        :param start: What the task says of its begin here; None where it has begun on a worker.
        :param fields: The fields, by name.
        :param own: The name of the one that says which runs.
        """
        if start is None:
            return {}
        names = (own, start["conn_id"], *(start["parents"] or ("parents",)), *(start.get("fields") or ()))
        return {name: self.conn_id if name == "conn_id" else fields.get(name) for name in names}

    def _filled(self, start: Mapping[str, Any]) -> tuple[dict[str, Any], Mapping[str, str] | None]:
        """The task's fields as they are rendered, and the parents among them; the connection is known then.

        :param start: As :meth:`_own_fields` takes it.
        """
        fields = {name: getattr(self, name) for name in self._fields}
        self.conn_id = fields[start["conn_id"]]
        named = start["parents"]
        return fields, {name: fields[name] for name in named} if named else parents_of({}, fields.get("parents"))

    def _clocks(self) -> tuple[WaitOptions, WaitClock]:
        """The clocks of the wait, and which of the two that may end it comes first."""
        options = WaitOptions.from_dict(self.patience)
        if self.execution_ends is None or self.execution_ends >= options.deadline:
            return options, "timeout"
        return replace(options, deadline=self.execution_ends), "execution_timeout"

    # --- a person kills the task ---

    async def on_kill(self) -> None:
        """Cancel what is the task's own if a person killed it; leave it if the task is only being moved.

        Airflow 3.3 calls this on a reassignment to another triggerer too, so the task's state is read first. After a
        clear whose next try has deferred already, that state is deferred again, and nothing is cancelled here: the
        next try has seen to it. One whose next try has ended already shows the end of that, as a person's mark would.
        """
        own = self._own() if self.cancel_on_kill else None
        if own is None:
            return
        try:
            state = await within(STATE_SECONDS, "the state of a task", task_state_of(self.task_instance))
        except Exception:  # whatever the reason, without the state nobody knows that a person wants it gone
            text = f"Left alone: {own}, since the state of its task could not be read."
            self.log.warning("%s", with_code(text, Code.LEFT_BEHIND), exc_info=True)
            return
        if state in ALIVE or (self.on_clear == "reattach" and (state not in OVER or await self._has_begun_anew())):
            text = f"Left alone: {own}, since the state of its task is {state}."
            self.log.info("%s", with_code(text, Code.LEFT_BEHIND))
            return
        self.log.info("Cancelling %s: the state of its task is %s.", own, state)
        try:
            async with asyncio.timeout(CANCEL_SECONDS):
                async with await self._hook().async_client() as client:
                    await self._cancel(client)
        except TimeoutError:
            text = f"Whether {own} is cancelled is not known: there was no answer within {CANCEL_SECONDS:g} s."
            self.log.warning("%s", with_code(text, Code.LEFT_BEHIND))
            raise

    def _open_channel(self) -> list[asyncio.Task[Any]]:
        """Ask a first time for a task's state where nobody in this process has: building the answer takes seconds.

        A kill has no such seconds, and where connections come from the environment it would be the first to ask. Where
        no kill is told to a trigger, nobody needs the answer.
        """
        channel = supervisor() if kills_in_triggerer() else None
        if not self.cancel_on_kill or self._own() is None or self.task_instance is None:
            return []
        if channel is None or channel is TriggerBase._channel:
            return []
        TriggerBase._channel = channel
        state = within(OPENING_SECONDS, "the state of a task", task_state_of(self.task_instance))
        return [asyncio.create_task(state, context=contextvars.Context())]
