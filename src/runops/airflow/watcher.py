"""The trigger that lets a DAG start when an external run ends. What to read and what is new stands in the core."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from datetime import timedelta
from typing import Any, Unpack

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from runops.airflow._compat import AirflowException, asset_state_stores
from runops.airflow.arguments import NoSettings, check_names
from runops.airflow.asset_events import KEY, run_in_event
from runops.airflow.bounds import AIRFLOW_SECONDS, within
from runops.airflow.hook import RunHook
from runops.core import (
    AsyncRunClient,
    AuthError,
    ConfigurationError,
    FinalError,
    PollingError,
    RunNotFound,
    RunopsError,
    RunRef,
    RunSnapshot,
    TransientError,
    UnknownStateError,
    find,
)
from runops.core.declaration.arguments import optional_seconds
from runops.core.model.cadence import backoff, spread
from runops.core.waiting.discovery import SEEK_SECONDS, named
from runops.core.waiting.options import DEFAULT_ERROR_BUDGET, WaitOptions
from runops.core.waiting.state import LogThrottle, progress_line
from runops.core.waiting.steps import renewed
from runops.core.waiting.watch import WatchState

VERSION = 1
REST_SECONDS = 60.0
"""Before a watch that cannot go on tries again: the key may be right by then, or the service answer."""
HANDED_OVER_SECONDS = 2.0
"""After which an event has left the triggerer's memory; only then is its run noted as reported."""
LONGEST_BACKOFF = 300.0
FOR_EVER = 253_402_300_799.0
"""The last second of the year 9999, in unix seconds."""


class RunFinishedTrigger(BaseEventTrigger):
    """Fire an event for each run of a parent (a workflow, a config, a pipeline) that ends; for an ``AssetWatcher``.

    ::

        watcher = AssetWatcher("orders", trigger=RunFinishedTrigger(provider="nekt", parent={"pipeline": "orders"}))
        with DAG("after_orders", schedule=Asset("orders", watchers=[watcher])):
            ...

    What had ended before the watch began is past. What is open then, or comes later, is followed by its id to its end,
    over restarts of the triggerer too, and reported once. Following over restarts needs the asset state store of
    Airflow 3.3 or newer; below, a restart begins the watch anew, and what ended meanwhile is not reported.

    Airflow takes an event and what a watch remembers in two steps, so one of them comes first. Here it is the event:
    none is ever lost, and one is sent again if its triggerer is killed within two seconds of it, or hands the watch to
    another one then. The second event says the same as the first: a DAG that may not run twice for one run compares
    ``provider`` and ``run_id``.

    The event's payload is the dict that sensors return, with ``verdict`` null, and ``parent`` and ``gap`` beside it.
    Which runs came later is told by their place in the list and their ids, so that a creation time that is wrong, be
    it another pipeline's or one up to six hours behind, hides no run. ``gap`` is true when since the event before more
    runs came than the list can show, or one that it shows without a readable id, or when a followed run was deleted, so
    that some may be missing; a warning in the triggerer's log says so at once. A run that is over in an undocumented
    word has ``outcome`` null.

    Nothing ends the watch: a wrong key or a service that does not answer is an error in the triggerer's log, and is
    tried again, with the key that the connection has then. All arguments are JSON primitives without any secret.

    :param provider: A shipped provider's name, or ``"package.module:NAME"`` for one of your own, with a list of runs.
    :param parent: The parent's id or name, or ``{kind: id}``: Nyx ``config_name``, OnePin and B3OS ``workflow_id``,
        Nekt ``pipeline``, ``source``, ``destination`` or ``transformation``.
    :param conn_id: The connection; ``<provider>_default`` if not given.
    :param poll_interval: The shortest time between two reads, in seconds (or as a timedelta).
    :param states: Words that no documentation has, and the phase or outcome that each means, such as
        ``{"partial": "degraded"}``; they win over those of the connection.
    :param version: Of these arguments, in a row of Airflow's database: others that it does not know are ignored then.
    :raises ConfigurationError: A name is wrong.
    """

    def __init__(
        self,
        *,
        provider: str,
        parent: str | Mapping[str, str],
        conn_id: str | None = None,
        poll_interval: float | timedelta | None = None,
        states: Mapping[str, str] | None = None,
        version: int | None = None,
        **unknown: Unpack[NoSettings],
    ) -> None:
        super().__init__()
        if version is None:
            # Said by a DAG author; a row of Airflow's has a version, and may be a later one's.
            check_names(type(self), unknown)
        try:
            service = find(provider).with_states(states)
            self.parent = service.pages.parent(parent)
            self.poll_interval = optional_seconds("poll_interval", poll_interval)
        except ConfigurationError as error:
            # A triggerer survives no other error than this one here; rows outlive the deploys that wrote them.
            raise TypeError(str(error)) from None
        self.provider = provider
        self.conn_id = conn_id
        self.states = states
        self.version = VERSION if version is None else version
        self._kept = True
        """Whether all that is to be remembered is written down."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The path of this class, which is frozen, and its arguments."""
        return "runops.airflow.watcher.RunFinishedTrigger", {
            "version": self.version,
            "provider": self.provider,
            "parent": self.parent,
            "conn_id": self.conn_id,
            "poll_interval": self.poll_interval,
            # Airflow knows a watch by its arguments: one that teaches nothing stays the one that it was.
            **({"states": dict(self.states)} if self.states else {}),
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Watch for ever; one event for each run that ends."""
        watch: WatchState | None = None
        while True:
            try:
                watch = watch or WatchState.parse(await self._recall())
                async with await self._hook().async_client() as client, aclosing(self._ends(client, watch)) as ends:
                    async for ended in ends:
                        run = {KEY: run_in_event(client.provider, ended, None)}
                        yield TriggerEvent({**ended.to_result(), **run, "parent": self.parent, "gap": watch.gap})
                        await asyncio.sleep(HANDED_OVER_SECONDS)
                        watch.gap = False
                        watch.close(ended.ref.run_id)
                        await self._keep(watch)
            except (RunopsError, AirflowException) as error:
                self.log.error("The watch over %s cannot go on, and tries again: %s", self._named, error)
            except Exception:  # nothing would start the watch again
                self.log.exception("The watch over %s met an error that is not the service's.", self._named)
            await asyncio.sleep(REST_SECONDS)

    async def _ends(self, client: AsyncRunClient, watch: WatchState) -> AsyncGenerator[RunSnapshot]:
        """The runs that end, as they do. Each open one has a wait of its own; lists only say which there are."""
        waits: dict[str, asyncio.Task[RunSnapshot]] = {}
        cadence = client.provider.cadence.at_least(self.poll_interval or SEEK_SECONDS)
        began, failures = time.time(), 0
        try:
            while True:
                try:
                    await self._read_list(client, watch)
                except TransientError as error:
                    failures += 1
                    self.log.warning("The list of runs of %s could not be read: %s", self._named, error)
                    pause = max(backoff(failures, ceiling=LONGEST_BACKOFF), error.retry_after or 0.0)
                else:
                    failures = 0
                    pause = cadence.delay(time.time() - began, jitter=spread())
                again = time.time() + pause
                for run_id in watch.open:
                    if run_id not in waits:
                        waits[run_id] = asyncio.create_task(self._wait(client, run_id))
                while (left := again - time.time()) > 0:
                    if not waits:
                        await asyncio.sleep(left)
                        break
                    done, _ = await asyncio.wait(waits.values(), timeout=left, return_when=asyncio.FIRST_COMPLETED)
                    for run_id in [run_id for run_id, wait in waits.items() if wait in done]:
                        ended = await self._ended(run_id, waits.pop(run_id), watch)
                        if ended is not None:
                            yield ended
        finally:
            for wait in waits.values():
                wait.cancel()
            await asyncio.gather(*waits.values(), return_exceptions=True)

    async def _read_list(self, client: AsyncRunClient, watch: WatchState) -> None:
        first, gap = not watch.begun, watch.gap
        followed = watch.take(await client.drive(renewed(watch.look(client.provider, self.parent, now=client.clock()))))
        if first:
            self.log.info("The watch over %s begins; %d of its runs are open.", self._named, len(watch.open))
        elif followed:
            self.log.info("New runs of %s: %s.", self._named, ", ".join(followed))
        if watch.gap and not gap:
            self.log.warning(
                "The list of %s does not show all runs that came: some may be missing. The next event says gap.",
                self._named,
            )
        if first or followed or watch.gap != gap or watch.window.deep or not self._kept:
            # Also now and then while nothing comes: how other parents' runs stand in the list moves on.
            await self._keep(watch)

    async def _wait(self, client: AsyncRunClient, run_id: str) -> RunSnapshot:
        throttle = LogThrottle()

        def on_update(snapshot: RunSnapshot) -> None:
            if throttle.worth_saying(snapshot, time.time()):
                self.log.info("%s", progress_line(snapshot))

        cadence = client.provider.cadence.at_least(self.poll_interval)
        options = WaitOptions(deadline=FOR_EVER, error_budget=DEFAULT_ERROR_BUDGET, max_paused=None, cadence=cadence)
        return await client.wait(self._ref(run_id), patience=options, seen=True, on_update=on_update)

    async def _ended(self, run_id: str, wait: asyncio.Task[RunSnapshot], watch: WatchState) -> RunSnapshot | None:
        """How a run ended; None where that is not known, yet or for ever."""
        try:
            return await wait
        except UnknownStateError as error:
            self.log.error("%s", error)
            return RunSnapshot(ref=self._ref(run_id), state=error.state, reason=error.text[:200])
        except PollingError as error:
            self.log.error("%s", error)
            if isinstance(error.last, RunNotFound):
                self.log.error(
                    "%s is gone and not followed any more; how it ended is not known. The next event says gap.",
                    self._ref(run_id),
                )
                watch.close(run_id)
                watch.gap = True
                await self._keep(watch)
            return None
        except AuthError:
            raise
        except FinalError as error:
            # Of this run alone: the others are followed on, and this one is read again after the next read of the list.
            self.log.error("%s could not be read, and is tried again: %s", self._ref(run_id), error)
            return None

    # --- over restarts ---

    async def _recall(self) -> object:
        for store in asset_state_stores(self):
            value = await within(AIRFLOW_SECONDS, "what the watch has kept", store.aget(self._key))
            if value is not None:
                return value
        return None

    async def _keep(self, watch: WatchState) -> None:
        self._kept = False
        for store in asset_state_stores(self):
            await within(AIRFLOW_SECONDS, "a place for what the watch keeps", store.aset(self._key, watch.to_dict()))
        self._kept = True

    @property
    def _key(self) -> str:
        return f"runops:{self.provider}:{named(self.parent)}"

    @property
    def _named(self) -> str:
        return f"{self.provider} {named(self.parent)}"

    def _ref(self, run_id: str) -> RunRef:
        provider = find(self.provider)
        return provider.ref(run_id, {kind: self.parent[kind] for kind in provider.parents})

    def _hook(self) -> RunHook:
        return RunHook(self.conn_id, provider=self.provider, states=self.states)
