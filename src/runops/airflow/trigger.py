"""The one trigger: it waits for a run of any provider in the triggerer. It decides nothing about how the run ended."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import TaskSuccessEvent, TriggerEvent

from runops.airflow import events
from runops.airflow._compat import may_have_begun_before, pushed
from runops.airflow.bounds import in_own_thread, within
from runops.airflow.end_in_trigger import EndInTrigger
from runops.airflow.events import VERSION
from runops.airflow.external_run import iso
from runops.airflow.line import Line
from runops.airflow.lost_submit import LostSubmit
from runops.airflow.observer import Observer
from runops.airflow.phases import PHASES, PhasesInTrigger
from runops.airflow.records import SUBMITTED_RUN
from runops.airflow.trigger_base import STATE_SECONDS, TriggerBase
from runops.core import AsyncRunClient, ConflictError, RunRef, SubmitUncertainError, find
from runops.core.waiting.discovery import Search, nothing_found, seek
from runops.core.waiting.phases import PhaseEntered
from runops.core.waiting.state import WaitProgress, timed_out
from runops.core.waiting.turns import Turn

if TYPE_CHECKING:
    from runops.core.polling.poller import HeldBy

TOGETHER_SECONDS = 5.0
"""At whole multiples of it, tasks that succeed here end together: for each that ends alone, Airflow has its DAG
processor read the DAG's file once more, to call nothing."""


class RunTrigger(TriggerBase):
    """Wait until a run is over, or is there at all, or a clock ends the wait; then fire one event, whatever happens.

    All arguments are JSON primitives without any secret: Airflow keeps them in its database as they are. Rows outlive
    deploys, so arguments that this version does not know are ignored, and new ones have defaults.

    :param version: Of these arguments.
    :param provider: A shipped provider's name, or ``"package.module:NAME"``.
    :param conn_id: The connection.
    :param ref: The run's address, or None where ``search`` says which run is wanted.
    :param search: Which run is wanted; the event then names it as soon as it is there.
    :param lost: The submit whose run is looked for; the event then names it, or says that it did not show up.
    :param turn: The wait for a turn to submit; the event then says that it has come, or that the wait is over.
    :param patience: The clocks and limits of the wait; under ``states`` the words that the task teaches, under
        ``shown`` what the worker has stored for the page "External runs", and under ``phases`` those for which the task
        calls somebody, with what was seen of them.
    :param not_before: Unix seconds before which no event is fired.
    :param submitted_at: Unix seconds, where the submit is known.
    :param past: What the worker has learnt of the run, or None.
    :param execution_ends: Unix seconds at which the task's ``execution_timeout`` is over, or None.
    :param cancel_on_kill: Cancel the run when a person kills the task.
    :param on_clear: ``"reattach"`` lets the run live when a person clears the task.
    :param end: What it takes to end the task here, without a worker; None where a worker ends it.
    :param start: Where a task begins here: its ``timeout`` in seconds, and the names of its fields for the connection
        and the parents.
    :param fields: Those fields, which templates fill. Others are of a later version, and ignored.
    """

    def __init__(
        self,
        *,
        version: int = VERSION,
        provider: str,
        conn_id: str | None = None,
        ref: Mapping[str, Any] | None = None,
        patience: Mapping[str, Any],
        search: Mapping[str, Any] | None = None,
        lost: Mapping[str, Any] | None = None,
        turn: Mapping[str, Any] | None = None,
        not_before: float = 0.0,
        submitted_at: float | None = None,
        past: Mapping[str, Any] | None = None,
        execution_ends: float | None = None,
        cancel_on_kill: bool = False,
        on_clear: str = "submit",
        end: Mapping[str, Any] | None = None,
        start: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> None:
        super().__init__(cancel_on_kill=cancel_on_kill, on_clear=on_clear)
        self.version = version
        self.provider = provider
        self.conn_id = conn_id
        self.ref = None if ref is None else dict(ref)
        self.search = None if search is None else dict(search)
        self.lost = None if lost is None else dict(lost)
        self.turn = None if turn is None else dict(turn)
        self.patience = dict(patience)
        self.not_before = not_before
        self.submitted_at = submitted_at
        self.past = None if past is None else dict(past)
        self.execution_ends = execution_ends
        self.end = None if end is None else dict(end)
        self.start = None if start is None else dict(start)
        self._fields = self._own_fields(self.start, fields, "run_id")
        for name, value in self._fields.items():
            setattr(self, name, value)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The path of this class, which is frozen, and its arguments."""
        sought = {} if self.search is None else {"search": self.search}
        missed = {} if self.lost is None else {"lost": self.lost}
        awaited = {} if self.turn is None else {"turn": self.turn}
        learnt = {} if self.past is None else {"past": self.past}
        started = {} if self.start is None else {"start": self.start, **self._fields}
        ends_here = {} if self.end is None else {"end": self.end}
        return "runops.airflow.trigger.RunTrigger", {
            "version": self.version,
            "provider": self.provider,
            "conn_id": self.conn_id,
            "ref": self.ref,
            "patience": self.patience,
            "not_before": self.not_before,
            "submitted_at": self.submitted_at,
            "execution_ends": self.execution_ends,
            "cancel_on_kill": self.cancel_on_kill,
            "on_clear": self.on_clear,
            **learnt,
            **sought,
            **missed,
            **awaited,
            **ends_here,
            **started,
        }

    def _own(self) -> str | None:
        if self.turn is not None:
            # Who waits for a turn has submitted nothing.
            return None
        return "the run of the lost submit" if self.ref is None else str(RunRef.parse(self.ref))

    async def _has_begun_anew(self) -> bool:
        """Whether the XCom is gone in which the task has left its run: the next try deletes it as it begins."""
        if self.ref is None:
            return False
        left = partial(pushed, self.task_instance, SUBMITTED_RUN)
        try:
            value = await within(STATE_SECONDS, "the run of a task", in_own_thread(left))
        except Exception:  # noqa: BLE001 - whatever the reason, nobody knows then that a person wants the run gone
            return True
        ref = value.get("ref") if isinstance(value, Mapping) else None
        return not isinstance(ref, Mapping) or ref.get("run_id") != self.ref["run_id"]

    async def _cancel(self, client: AsyncRunClient) -> None:
        if self.lost is None:
            ref = RunRef.parse(self.ref)
        else:
            lost = LostSubmit.from_dict(self.lost)
            try:
                # Adoption takes the whole grace to be sure; a single search may cancel what bears our mark only.
                ref = await client.find_submitted(lost.parent, lost.intent, submit_grace=0.0)
            except SubmitUncertainError as error:
                self.log.warning("The run of the lost submit could not be cancelled and may yet show up: %s", error)
                return
        await client.cancel(ref)
        self.log.info("Cancelled %s.", ref)

    async def _end(self) -> dict[str, Any]:
        if self.start is not None:
            await self._fill_templates()
            self._begin(self.start)
        if self.search is not None:
            return await self._find_run(Search.from_dict(self.search))
        if self.lost is not None:
            return await self._find_submitted(LostSubmit.from_dict(self.lost))
        if self.turn is not None:
            return await self._await_turn(Turn.from_dict(self.turn))
        return await self._wait()

    async def _task_end(self, event: Mapping[str, Any]) -> TriggerEvent | None:
        if self.end is None or not events.says_ended(event):
            return None
        try:
            end = EndInTrigger.from_dict(self.end)
            last, began_here = events.read_end(event), self.start is not None
            ends = await end.event(self, last, began=lambda: self.began, began_here=began_here)
        except Exception:  # whatever the reason, a worker can end the task
            self.log.warning("The triggerer could not end the task; a worker does it.", exc_info=True)
            return None
        if isinstance(ends, TaskSuccessEvent):
            now = time.time()
            await asyncio.sleep(math.ceil(now / TOGETHER_SECONDS) * TOGETHER_SECONDS - now)
        return ends

    async def _wait(self) -> dict[str, Any]:
        ref = RunRef.parse(self.ref)
        hook = self._hook()
        clocks, ended_by = self._clocks()
        past = WaitProgress.from_dict(self.past, time.time())
        self.began_at(past.began)
        record = self._keep_record(
            hook,
            run_id=ref.run_id,
            parents=dict(ref.parents),
            url=hook.provider.url(ref),
            own=self.cancel_on_kill,
            began_at=None if past.began is None else iso(past.began),
        )
        observer = Observer(self.log, record)
        wanted = self.patience.get(PHASES)
        phases = PhasesInTrigger(self.task_instance, wanted, ref.run_id, log=self.log) if wanted else None
        on_update = observer if phases is None else await phases.begin(observer)
        try:
            async with await hook.async_client() as client:
                if record is not None:
                    record.what_holds = partial(_hold, client, ref)
                snapshot = await client.wait(
                    ref, patience=clocks, submitted_at=self.submitted_at, past=past, on_update=on_update
                )
        except PhaseEntered as entered:
            return self._entered(entered, past)
        finally:
            if phases is not None:
                await phases.end()
        if snapshot.ended_by == "timeout" and ended_by != "timeout":
            snapshot = timed_out(hook.provider, ref, observer.last, ended_by)
        if snapshot.ended_by:
            self.log.info("%s", snapshot.summary())
        return events.ended(snapshot)

    def _entered(self, entered: PhaseEntered, past: WaitProgress) -> dict[str, Any]:
        """The wait goes on, after a worker has called whoever is to be called: with all that it has learnt here."""
        self.log.info("%s: a worker calls whom on_phase names, and the wait goes on.", entered.snapshot.ref)
        return events.entered(
            entered.snapshot,
            entered.seen,
            deadline=self.patience["deadline"],
            submitted_at=self.submitted_at,
            past=past.to_dict(time.time()),
        )

    async def _find_run(self, search: Search) -> dict[str, Any]:
        self.log.info("Looking for the %s.", search)
        hook = self._hook()
        clocks, ended_by = self._clocks()
        async with await hook.async_client() as client:
            past = WaitProgress.from_dict(self.past, time.time())
            found = await client.drive(seek(client.provider, search, clocks, clock=client.clock, past=past))
        if found.ended_by:
            nothing = nothing_found(hook.provider, search, ended_by)
            self.log.info("%s", nothing.reason)
            return events.ended(nothing)
        self.log.info("Found: %s", found.summary())
        return events.found(found.ref)

    async def _find_submitted(self, lost: LostSubmit) -> dict[str, Any]:
        ends = lost.until if self.execution_ends is None else min(lost.until, self.execution_ends)
        async with await self._hook().async_client() as client:
            try:
                ref = await client.find_submitted(
                    lost.parent,
                    lost.intent,
                    adopt_uncertain=lost.adopt_uncertain,
                    submit_grace=max(ends - time.time(), 0.0),
                )
            except SubmitUncertainError as error:
                self.log.info("%s", error)
                return events.lost(lost.intent)
        self.log.info("Found: %s", ref)
        return events.found(ref)

    async def _await_turn(self, turn: Turn) -> dict[str, Any]:
        await asyncio.sleep(max(self.not_before - time.time(), 0.0))
        hook = self._hook()
        ends = turn.until if self.execution_ends is None else min(turn.until, self.execution_ends)
        async with await hook.async_client() as client:
            line = Line.before(hook.provider.name, hook.conn_id, turn)
            record = self._keep_record(hook, "turn")

            def see(turn: Turn) -> None:
                if record is not None:
                    record.held("turn", turn.in_the_way)

            try:
                turn = await line.wait(client, turn, ends=ends, tell=lambda text: self.log.info("%s", text), see=see)
            except ConflictError as error:
                self.log.info("%s", error)
            else:
                self.log.info("Nothing is active any more: the task submits.")
        return events.turn(turn)

    def _begin(self, start: Mapping[str, Any]) -> None:
        """Do what a worker does before a deferral, with the rendered fields."""
        service = find(self.provider)
        fields, parents = self._filled(start)
        self.ref = service.ref(fields["run_id"], parents).model_dump(mode="json")
        if self.end is not None:
            # Nothing is sent before it is known that the end can be judged.
            self.end = EndInTrigger.from_dict(self.end).expecting(fields["expect"], service).to_dict()
        # Should this trigger begin anew elsewhere, the clock that Airflow keeps for it ends it in time all the same.
        self.patience["deadline"] = time.time() + start["timeout"]
        if may_have_begun_before(self.task_instance, time.time()):
            self.past = WaitProgress(accepted=True).to_dict(time.time())


def _hold(client: AsyncRunClient, ref: RunRef, seconds: float) -> HeldBy | None:
    """What holds up a wait that has heard nothing for so many seconds."""
    return None if client.poller is None else client.poller.hold(ref, seconds)
