"""The record of an external run as a worker stores it: when the run is known, when it changes, and at every end.

Nothing here may delay a task, or fail it: what cannot be stored is missing on the page "External runs", and a line of
the log says so once. Where the extra ``page`` is not installed in this process, nothing is stored.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from runops.airflow import page_extra
from runops.airflow._compat import AirflowRescheduleException, AirflowSkipException, answers_in_process
from runops.airflow.external_run import EXTERNAL_RUN, ExternalRun, Hold, Kind, Moment, iso
from runops.airflow.recording import Recording
from runops.airflow.task_state import TaskState
from runops.core import RunRef, RunSnapshot
from runops.core.many.tally import Tally
from runops.core.model.policy import Judgement
from runops.core.waiting.turns import Turn

STORE_SECONDS = 5.0
"""For what a thread stores at the end of a wait."""
TIMELINE = "timeline"
"""The key of the changes that earlier pokes have seen, in the record of the task state store."""


class TaskRecord:
    """The record that one process of a task keeps. See :func:`begin` and :func:`go_on`.

    :param context: The task's context.
    :param recording: What there is to store.
    :param log: The task's log.
    :param at_once: Whether changes are stored as they come; in reschedule mode once, at the end of the poke.
    """

    def __init__(self, context: Any, recording: Recording, log: Any, *, at_once: bool = True) -> None:
        self._context = context
        self._recording = recording
        self._log = log
        self._at_once = at_once
        self._may_ask_beside = not answers_in_process()
        self._beside: threading.Thread | None = None
        self._reported = False

    @property
    def is_over(self) -> bool:
        """Whether the end of the wait is stored."""
        return self._recording.is_over

    @property
    def shown(self) -> dict[str, Any]:
        """What a trigger needs to know of what is stored."""
        return self._recording.shown()

    def observed(self, snapshot: RunSnapshot) -> None:
        """Take in a good read."""
        self._recording.observed(snapshot, time.time())
        self._write_if_owed()

    def counted_beside(self, tally: Tally) -> None:
        """Take in how a set stands, in the loop beside the task.

        What is stored then is stored in a thread of its own: a kill that strikes the task's own while Airflow is asked
        could ask nothing itself. In ``dag.test()``, which no page shows, only the end is stored: no second thread may
        ask there.
        """
        now = time.time()
        self._recording.counted(tally, now)
        if not (self._at_once and self._may_ask_beside):
            return
        if not self._is_storing and self._recording.owes(now) is not None:
            store = partial(self._push, self._recording.take(now))
            self._beside = threading.Thread(target=store, name="runops-record", daemon=True)
            self._beside.start()

    def held(self, hold: Hold | None, by: str | None = None) -> None:
        """Take in what holds the wait up; None for nothing."""
        self._recording.held(hold, by)
        self._write_if_owed()

    def found(self, ref: RunRef, url: str | None, *, own: bool, cancels: bool) -> None:
        """Take in which run it is."""
        self._recording.found(ref, url, own=own, cancels=cancels)
        self._write_if_owed()

    def ended(self, snapshot: RunSnapshot, judgement: Judgement) -> None:
        """Store how the wait ended."""
        self._store(self._recording.ended(snapshot, judgement, time.time()))

    def ended_as_set(self, tally: Tally, verdict: str | None) -> None:
        """The same of a set."""
        now = time.time()
        self._recording.counted(tally, now)
        self._store(self._recording.ended_as_set(verdict, now))

    def failed(self, error: Exception) -> None:
        """Store that an error ended the wait."""
        self._store(self._recording.failed(error, time.time()))

    def let_go(self) -> None:
        """Store that nobody waits for the run."""
        self._store(self._recording.let_go(time.time()))

    def leave(self, tally: Tally | None = None) -> None:
        """Store how it stands at the end of a poke, and what the next one could not know: its XComs are gone.

        :param tally: Of a set.
        """
        if tally is not None:
            self._recording.counted(tally, time.time())
        run = self._recording.take(time.time())
        self._store(run)
        form = run.to_dict()
        kept = {name: form[name] for name in ("run_id", TIMELINE) if name in form}
        state = TaskState(self._context)
        if TIMELINE in kept and state.exists and (state.load() or {}).get(TIMELINE) != kept:
            state.update(**{TIMELINE: kept})

    def _write_if_owed(self) -> None:
        now = time.time()
        if self._at_once and self._recording.owes(now) is not None:
            self._store(self._recording.take(now))

    @property
    def _is_storing(self) -> bool:
        return self._beside is not None and self._beside.is_alive()

    def _store(self, run: ExternalRun) -> None:
        if self._beside is not None:
            # What it stores is older.
            self._beside.join(STORE_SECONDS)
        self._push(run)

    def _push(self, run: ExternalRun) -> None:
        try:
            self._context["ti"].xcom_push(key=EXTERNAL_RUN, value=run.to_dict())
        except Exception as error:  # noqa: BLE001 - whatever it is, the task goes on
            if not self._reported:
                self._log.warning("What the page External runs shows could not be stored: %s", type(error).__name__)
            self._reported = True


def begin(
    task: Any,
    context: Any,
    ref: RunRef | None = None,
    *,
    kind: Kind = "run",
    began: float | None = None,
    turn: Turn | None = None,
) -> TaskRecord | None:
    """The record of a wait that begins in this process, or whose run is known now; None where none is kept.

    :param task: The task, which keeps it.
    :param context: The task's context.
    :param ref: The run; None while there is none yet, and for a set.
    :param kind: Whether it is a run or a set.
    :param turn: The wait for a turn, where there is no run for that.
    :param began: In reschedule mode: when the wait began, in unix seconds. Then this is a poke of it.
    """
    record = go_on(task, context) if began is None else None
    if record is None and page_extra.installed():
        first = ExternalRun(
            provider=task.service.name,
            kind=kind,
            **(task.whose_runs(context) if kind == "set" else {}),
            began_at=None if began is None else iso(began),
            timeline=() if began is None else _seen_before(context, ref),
            **_about(task, context),
        )
        record = TaskRecord(context, Recording(task.service, first, time.time()), task.log, at_once=began is None)
        task.run_record = record
    if record is not None and ref is not None:
        record.found(ref, task.service.url(ref), **task.whose_runs(context))
    elif record is not None:
        record.held("turn" if turn else None, turn and turn.in_the_way)
    return record


def go_on(task: Any, context: Any) -> TaskRecord | None:
    """The record of this process, or else what the one before a deferral has stored; None where there is none.

    :param task: The task, which keeps it.
    :param context: The task's context.
    """
    if task.run_record is None and page_extra.installed():
        stored = _stored(context)
        if stored is not None:
            recording = Recording(task.service, replace(stored, **_about(task, context)), time.time())
            recording.assume_stored(recording.shown(), None, time.time())
            task.run_record = TaskRecord(context, recording, task.log)
    kept: TaskRecord | None = task.run_record
    return kept


@contextmanager
def recording_errors(task: Any, context: Any) -> Generator[None]:
    """Store that an error has ended the wait, whatever it is, unless the end is stored already.

    :param task: The task.
    :param context: The task's context.
    """
    try:
        yield
    except (AirflowSkipException, AirflowRescheduleException):
        raise
    except Exception as error:
        record = go_on(task, context)
        if record is not None and not record.is_over:
            record.failed(error)
        raise


def _about(task: Any, context: Any) -> dict[str, Any]:
    return {"conn_id": task.conn_id_in_use, "try_number": getattr(context["ti"], "try_number", 0)}


def _stored(context: Any) -> ExternalRun | None:
    """What this try has stored; None where it cannot be read either."""
    ti = context["ti"]
    try:
        value = ti.xcom_pull(task_ids=ti.task_id, key=EXTERNAL_RUN, map_indexes=ti.map_index)
    except Exception:  # noqa: BLE001 - whatever it is, the task goes on
        return None
    stored = ExternalRun.from_dict(value)
    return stored if stored is not None and stored.try_number == ti.try_number else None


def _seen_before(context: Any, ref: RunRef | None) -> tuple[Moment, ...]:
    """The changes of a run that earlier pokes have seen."""
    kept = (TaskState(context).load() or {}).get(TIMELINE)
    if ref is None or not isinstance(kept, dict) or kept.get("run_id") != ref.run_id:
        return ()
    earlier = ExternalRun.from_dict({"provider": ref.provider, TIMELINE: kept.get(TIMELINE)})
    return () if earlier is None else earlier.timeline
