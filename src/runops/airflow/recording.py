"""What the page "External runs" is to be told of a wait, and when that is worth a write. Pure: clocks are handed in.

A change of the state, the phase or the outcome, and of what holds the wait up, is worth one at once; progress and spend
at most every :data:`PROGRESS_SECONDS`; that a run was looked at again without any change every :data:`REFRESH_SECONDS`.
Who writes may have less time than that (``trigger_record.py``): what is written is always the newest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import IntEnum
from typing import Any

from runops.airflow.external_run import Counts, ExternalRun, Hold, Moment, in_iso, iso, shortened
from runops.core import Provider, RunRef, RunSnapshot
from runops.core.many.tally import Tally
from runops.core.model.codes import text_of
from runops.core.model.policy import Judgement
from runops.core.model.redaction import clean
from runops.core.model.run import PAUSED_OR_WAITING

PROGRESS_SECONDS = 30.0
REFRESH_SECONDS = 300.0


class Owed(IntEnum):
    """Why a write is due; the lower, the sooner."""

    CHANGE = 0
    PROGRESS = 1
    REFRESH = 2


class Recording:
    """The record of one wait while it goes on. All moments are unix seconds.

    :param provider: The provider.
    :param run: What is known when it begins: whose run it is, the task's connection, the try.
    :param now: When that is.
    """

    def __init__(self, provider: Provider, run: ExternalRun, now: float) -> None:
        self._provider = provider
        self._run = run if run.began_at else replace(run, began_at=iso(now))
        self._timeline = list(run.timeline)
        self._last: RunSnapshot | None = None
        self._seen: tuple[str | None, str | None] | None = None
        self._hold: tuple[Hold | None, str | None] = (None, None)
        self._began = now
        self._looked_at: float | None = None
        self._written_at: float | None = None
        self._changed = True
        self._moved = False

    @property
    def run_id(self) -> str | None:
        """The run; None while there is none yet."""
        return self._run.run_id

    @property
    def is_over(self) -> bool:
        """Whether its end was told."""
        return self._run.ended_at is not None

    @property
    def timeline(self) -> tuple[Moment, ...]:
        """The changes so far."""
        return shortened(self._timeline)

    def shown(self) -> dict[str, Any]:
        """What is stored last, as far as it tells another process of the same try whether anything has changed since:
        JSON primitives."""
        if not self._timeline:
            return {"holds_for": self._hold[1]} if self._hold[0] else {}
        return {"state": self._timeline[-1].state, "status": self._timeline[-1].status}

    def assume_stored(self, shown: Mapping[str, Any], hold: Hold | None, now: float) -> None:
        """Begin where another process has stored what is known.

        :param shown: What :meth:`shown` told there.
        :param hold: What held the wait up there.
        :param now: When that was, or later.
        """
        self._seen = (shown.get("state"), shown.get("status"))
        self._hold = (hold, shown.get("holds_for"))
        self._changed, self._written_at = False, now

    def unread_for(self, now: float) -> float:
        """For how many seconds no good answer has come.

        :param now: The present.
        """
        return now - (self._began if self._looked_at is None else self._looked_at)

    # --- what is seen ---

    def observed(self, snapshot: RunSnapshot, now: float) -> None:
        """Take in a good read.

        :param snapshot: What it showed.
        :param now: When.
        """
        self._looked_at = now
        if self._hold[0] is not None:
            self.held(None, None)
        last = self._last
        if snapshot is last:
            # As most are: what says the same as before is the same object.
            return
        self._last = snapshot
        if last is None and (snapshot.state, str(snapshot.status)) == self._seen:
            self._moved = True
        elif last is None or snapshot.changed_from(last) or snapshot.url != last.url:
            self._changed = True
            self._note(snapshot.state, str(snapshot.status), now)
        elif snapshot.progress != last.progress or snapshot.details != last.details:
            self._moved = True

    def counted(self, tally: Tally, now: float) -> None:
        """Take in how a set stands.

        :param tally: Its counts.
        :param now: When.
        """
        outcomes = {str(outcome): count for outcome, count in tally.outcomes.items() if count}
        verdicts = {str(verdict): count for verdict, count in tally.verdicts.items() if count}
        ended = tally.over
        errors = max(ended - sum(outcomes.values()) - tally.given_up, 0)
        counts = Counts(tally.total, ended, tally.active, outcomes, verdicts, errors)
        self._looked_at = now
        if counts != self._run.counts or tally.spend != self._run.spend:
            self._moved = True
        self._run = replace(
            self._run,
            phase="running",
            counts=counts,
            progress={"done": ended, "total": tally.total, "unit": "runs"},
            spend=tally.spend,
            spend_unit=None if tally.spend is None or self._provider.spend is None else self._provider.spend.unit,
        )

    def held(self, hold: Hold | None, by: str | None) -> None:
        """Take in what holds the wait up beside the run itself, or that nothing does any more.

        :param hold: What.
        :param by: Who or what, in a few words.
        """
        if (hold, by) != self._hold:
            self._hold = (hold, by)
            self._changed = True

    def found(self, ref: RunRef, url: str | None, *, own: bool, cancels: bool) -> None:
        """Take in which run it is.

        :param ref: The run.
        :param url: Its page.
        :param own: Whether the task has submitted it.
        :param cancels: Whether the end of the task by a person cancels it.
        """
        named = {"run_id": ref.run_id, "parents": dict(ref.parents), "url": url or self._run.url}
        run = replace(self._run, **named, own=own, cancels=cancels)
        if run != self._run or self._hold[0] is not None:
            self._run, self._hold, self._changed = run, (None, None), True

    def take_up(self, stored: ExternalRun | None) -> None:
        """Go on with what another process of the same try has stored of the same run.

        :param stored: It; None where there is nothing.
        """
        if stored is None or stored.try_number != self._run.try_number or stored.kind != self._run.kind:
            return
        if stored.run_id not in (None, self._run.run_id):
            return
        earlier = [*stored.timeline]
        later = [each for each in self._timeline if not earlier or each.at > earlier[-1].at]
        if earlier and later and (earlier[-1].state, earlier[-1].status) == (later[0].state, later[0].status):
            del later[0]
        self._timeline = [*earlier, *later]
        own = self._run if stored.run_id is None else stored
        self._run = replace(
            self._run,
            began_at=stored.began_at or self._run.began_at,
            conn_id=self._run.conn_id or stored.conn_id,
            own=own.own,
            looked_at=stored.looked_at,
            counts=self._run.counts or stored.counts,
        )

    def _note(self, state: str | None, status: str, now: float) -> None:
        last = self._timeline[-1] if self._timeline else None
        if last is None or (last.state, last.status) != (state, status):
            self._timeline = [*shortened([*self._timeline, Moment(iso(now), state, status)])]

    # --- how it ended ---

    def ended(self, snapshot: RunSnapshot, judgement: Judgement, now: float) -> ExternalRun:
        """What to store at the end of a wait.

        :param snapshot: The last snapshot; it has an outcome.
        :param judgement: What becomes of it.
        :param now: When.
        """
        if not snapshot.ended_by:
            self._looked_at = now
        self._last, self._hold = snapshot, (None, None)
        self._note(snapshot.state, str(snapshot.status), now)
        self._run = replace(self._run, verdict=str(judgement.verdict), ended_at=iso(now))
        return self.take(now)

    def ended_as_set(self, verdict: str | None, now: float) -> ExternalRun:
        """The same of a set, whose counts were told before.

        :param verdict: What it means for the task; None where an error ended it.
        :param now: When.
        """
        self._run = replace(self._run, verdict=verdict, ended_at=iso(now), phase=None)
        return self.take(now)

    def failed(self, error: Exception, now: float) -> ExternalRun:
        """What to store where an error ended the wait, so that nobody knows how the run stands.

        :param error: The error.
        :param now: When.
        """
        self._run = replace(self._run, error=type(error).__name__, reason=clean(text_of(error)), ended_at=iso(now))
        self._hold = (None, None)
        return self.take(now)

    def let_go(self, now: float) -> ExternalRun:
        """What to store where nobody waits for the run.

        :param now: When that was.
        """
        self._run = replace(self._run, ended_at=iso(now), phase="queued")
        return self.take(now)

    # --- what is stored ---

    def owes(self, now: float) -> Owed | None:
        """Why a write is due; None where it is not.

        :param now: The present.
        """
        if self._changed:
            return Owed.CHANGE
        since = now - (self._written_at or 0.0)
        if self._moved:
            return Owed.PROGRESS if since >= PROGRESS_SECONDS else None
        return Owed.REFRESH if since >= REFRESH_SECONDS else None

    def take(self, now: float) -> ExternalRun:
        """The record as it is to be stored now; what led to it is done with, even where that write fails.

        :param now: The present.
        """
        self._changed = self._moved = False
        self._written_at = now
        looked_at = self._run.looked_at if self._looked_at is None else iso(self._looked_at)
        run = replace(self._run, timeline=self.timeline, looked_at=looked_at, written_at=iso(now))
        if self._last is not None:
            run = replace(run, **self._shown(self._last, run))
        if self._hold[0] is not None:
            run = replace(run, holds=self._hold[0], holds_for=self._hold[1])
        self._run = replace(run, holds=None, holds_for=None)
        return run

    def _shown(self, snapshot: RunSnapshot, run: ExternalRun) -> dict[str, Any]:
        spend = self._provider.spend
        spent = None if spend is None else spend.of(snapshot.details)
        phase, moments = snapshot.phase, ("created_at", "started_at", "finished_at")
        times = {name: getattr(snapshot, name) for name in moments}
        return {
            "state": snapshot.state,
            "phase": None if phase is None else str(phase),
            "outcome": None if snapshot.outcome is None else str(snapshot.outcome),
            "reason": run.reason if run.error else snapshot.reason,
            "progress": None if snapshot.progress is None else snapshot.progress.model_dump(),
            "spend": spent,
            "spend_unit": None if spend is None or spent is None else spend.unit,
            "holds": str(phase) if phase in PAUSED_OR_WAITING else None,
            "url": snapshot.url or run.url,
            "details": snapshot.details,
            "run_ended": snapshot.run_ended,
            "ended_by": snapshot.ended_by,
            **{name: in_iso(each) for name, each in times.items() if each is not None},
        }
