"""One poke of a sensor in reschedule mode: it reads the run once, and says whether the wait ends there.

Each poke is a process of its own. What it learns (since when reads fail, since when the run is paused) outlives it in
the task's record, which needs Airflow 3.3 or newer; Airflow removes a task's XComs before each poke.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NoReturn

from runops.airflow.exceptions import as_airflow
from runops.airflow.hook import RunHook
from runops.airflow.metrics import METER
from runops.airflow.observer import Record
from runops.airflow.phases import PhaseCalls
from runops.airflow.task_state import TaskState
from runops.airflow.tasks import Follower
from runops.airflow.traces import TaskTrace, another_try_follows
from runops.airflow.verdicts import publish
from runops.core import AuthError, FinalError, PollingError, RunopsError, RunRef, RunSnapshot
from runops.core.model.codes import Code, text_of, with_code
from runops.core.model.states import StateTable
from runops.core.waiting.limits import WaitProgress, reached
from runops.core.waiting.options import WaitOptions
from runops.core.waiting.state import timed_out

POKE_SECONDS = 90.0
"""For so long one poke reads again: a result that is still to come, and over a short failure."""
HOLD_SECONDS = 10.0
"""After the grace of a refused key, for the last try with it."""


class _NotOver(Exception):
    """Ends a poke: the run was read, and it goes on."""

    def __init__(self, snapshot: RunSnapshot) -> None:
        super().__init__()
        self.snapshot = snapshot


class _FirstRead(Follower):
    """Ends a wait at its first good read, unless the state that it read is provisional."""

    def __init__(self, context: Mapping[str, Any], log: Any, *, url: str | None, record: Record | None) -> None:
        super().__init__(context, log, url=url, record=record)
        self.states: StateTable | None = None

    def __call__(self, snapshot: RunSnapshot) -> None:
        super().__call__(snapshot)
        if snapshot.phase is None or snapshot.state is None:
            return
        if self.states is None or self.states.read(snapshot.state).grace_seconds is None:
            raise _NotOver(snapshot)


class Poke:
    """One poke.

    :param context: The task's context.
    :param phases: The callbacks of the task for its run; None where there is no run yet.
    :param hook: The connection.
    :param options: The clocks of the whole wait.
    :param began: Unix seconds at which the wait began.
    :param log: The task's log.
    """

    def __init__(
        self,
        context: Mapping[str, Any],
        *,
        phases: PhaseCalls | None = None,
        hook: RunHook,
        options: WaitOptions,
        began: float,
        log: Any,
    ) -> None:
        self._context = context
        self._phases = phases
        self._hook = hook
        self._options = options
        self._wait_began = began
        self._log = log
        self._task_state = TaskState(context)
        self._began = time.time()
        self._ref: RunRef | None = None

    def read(self, ref: RunRef, record: Record | None = None) -> RunSnapshot | None:
        """The last snapshot if the wait ends at this poke.

        :param ref: The run.
        :param record: Who stores how it stands.
        """
        self._ref = ref
        options, service, learnt = self._options, self._hook.provider, self._learnt()
        url = service.url(ref)
        publish(self._context, ref, url)
        # Without a record the next poke would not know since when the key is refused: this one holds for all of it.
        longest = POKE_SECONDS if self._task_state.exists else max(POKE_SECONDS, options.auth_grace + HOLD_SECONDS)
        deadline = min(max(options.deadline, self._began), self._began + longest)
        # The limits are judged by this poke, and not by the wait in it, which only notes what they need.
        stalls = None if options.max_stalled is None else math.inf
        here = replace(options, deadline=deadline, max_paused=None, max_stalled=stalls, max_spend=None)
        follower = _FirstRead(self._context, self._log, url=url, record=record)
        try:
            with self._hook.client() as client:
                follower.states = client.provider.states
                snapshot = client.wait(ref, patience=here, submitted_at=learnt.began, past=learnt, on_update=follower)
        except _NotOver as open_run:
            return self._still_open(learnt, open_run.snapshot)
        except PollingError as error:
            over = self.failed(error, seen=learnt.seen)
            return timed_out(service, ref, None, "timeout") if over else None
        except RunopsError as error:
            self._raise(error)
        if snapshot.ended_by and time.time() < options.deadline:
            self._log.warning("%s could not be read in this poke.", ref)
            self._task_state.update(failing_since=learnt.failing_since, refused_since=learnt.refused_since)
            return None
        return snapshot

    def failed(self, error: PollingError | FinalError, *, seen: bool) -> bool:
        """Take in a poke that could not read; whether the wait's time is over.

        :param error: Why not.
        :param seen: Whether an earlier poke could.
        :raises AirflowException: The error budget is used up, or nothing was ever seen and nothing will be.
        """
        now = time.time()
        failing_since = (self._task_state.load() or {}).get("failing_since") or self._began
        never = not seen and (isinstance(error, FinalError) or now >= self._options.deadline)
        if never or now - failing_since >= self._options.error_budget:
            self._raise(error)
        self._log.warning("%s", error)
        self._task_state.update(failing_since=failing_since)
        return now >= self._options.deadline

    def refused(self, error: AuthError, *, seen: bool) -> None:
        """Take in a poke whose key was refused; the next one reads the connection anew.

        :param error: The refusal.
        :param seen: Whether an earlier poke could read.
        :raises AirflowException: The key is refused for too long, or nothing was ever read with it.
        """
        since = (self._task_state.load() or {}).get("refused_since") or self._began
        if not seen or time.time() - since >= self._options.auth_grace:
            self._raise(error)
        text = f"{text_of(error)} The connection is read again at the next poke."
        self._log.warning("%s", with_code(text, Code.KEY_REREAD))
        self._task_state.update(refused_since=since)

    def _raise(self, error: RunopsError) -> NoReturn:
        METER.erred(self._hook.provider.name, error)
        failure, ref = as_airflow(error), self._ref
        if ref is not None and not another_try_follows(self._context, failure):
            TaskTrace(self._context["ti"], self._log).erred(lambda: ref, failure, lambda: self._wait_began)
        raise failure from None

    def _learnt(self) -> WaitProgress:
        """What earlier pokes have learnt of the run."""
        past = self._task_state.load() or {}
        # Without a record: a first poke that had met no such run would have been the last.
        first = self._wait_began >= self._context["ti"].start_date.timestamp()
        return WaitProgress(
            began=self._wait_began,
            seen=bool(past.get("seen")) if self._task_state.exists else not first,
            failing_since=past.get("failing_since"),
            parked_since=past.get("parked_since"),
            changed_at=past.get("changed_at"),
            signature=past.get("signature"),
            resumed=past.get("signature") is not None,
            refused_since=past.get("refused_since"),
        )

    def _still_open(self, learnt: WaitProgress, snapshot: RunSnapshot) -> RunSnapshot | None:
        now, service, options = time.time(), self._hook.provider, self._options
        self._task_state.update(
            seen=True,
            failing_since=None,
            refused_since=None,
            parked_since=learnt.parked_since,
            changed_at=learnt.changed_at,
            signature=learnt.signature,
        )
        if self._phases is not None:
            # The clocks are those of the look, however long this takes.
            self._phases.observe(snapshot, now)
        if now >= options.deadline:
            return timed_out(service, snapshot.ref, snapshot, "timeout")
        limit = reached(service, options, learnt, snapshot, now)
        if limit is not None:
            return timed_out(service, snapshot.ref, snapshot, limit.ended_by, figure=limit.figure)
        self._warn_of_clocks_without_record(learnt)
        return None

    def _warn_of_clocks_without_record(self, learnt: WaitProgress) -> None:
        """Below Airflow 3.3 each poke begins these clocks anew, unless the provider tells since when they run."""
        if self._task_state.exists or self._wait_began >= self._began:
            return
        clocks = {
            "max_paused": (self._options.max_paused, learnt.parked_since),
            "max_stalled": (self._options.max_stalled, learnt.changed_at),
        }
        for name, (limit, since) in clocks.items():
            if limit is not None and since is not None and since >= self._began:
                self._log.warning("%s needs Airflow 3.3 or newer in reschedule mode: it is not applied.", name)
