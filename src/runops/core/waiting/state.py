"""One wait, as a state machine over snapshots and clocks. It is pure: clients, triggers and hosts only feed it."""

from __future__ import annotations

import logging
from dataclasses import replace

from runops.core.declaration import Observation, Provider
from runops.core.model.cadence import backoff, spread
from runops.core.model.codes import Code, with_code
from runops.core.model.errors import AnswerError, AuthError, FinalError, PollingError
from runops.core.model.redaction import cut
from runops.core.model.run import PAUSED_OR_WAITING, EndedBy, Outcome, RunRef, RunSnapshot
from runops.core.transport.retry import may_pass
from runops.core.waiting.limits import FRESH as FRESH
from runops.core.waiting.limits import WaitProgress as WaitProgress
from runops.core.waiting.limits import paused_until, reached, stalled_until
from runops.core.waiting.options import WaitOptions
from runops.core.waiting.refused_key import RefusedKey

logger = logging.getLogger("runops")

NOT_FOUND_GRACE = 30.0
"""Seconds for which a run may be missing before it was ever seen."""
LONGEST_BACKOFF = 60.0
_NO_WORDS: frozenset[str] = frozenset()


class WaitState:
    """The memory of one wait: what was seen, what failed since when, and when to look again.

    Args:
        provider: The run's provider.
        ref: The run.
        options: The clocks.
        began: When the wait began, in unix seconds.
        submitted_at: When the run was submitted, where that is known; its age counts from there.
        seen: Whether an earlier part of this wait, in another process, has seen the run.
        past: All that an earlier part has learnt; it is kept up to date. Takes the place of ``seen``.
    """

    # There are thousands of them in a process.
    __slots__ = (
        "_born",
        "_error",
        "_failures",
        "_is_limited",
        "_past",
        "_submitted_at",
        "_taken_in",
        "_unread_since",
        "_warned",
        "key",
        "last",
        "options",
        "provider",
        "ref",
    )

    def __init__(
        self,
        provider: Provider,
        ref: RunRef,
        options: WaitOptions,
        *,
        began: float,
        submitted_at: float | None = None,
        seen: bool = False,
        past: WaitProgress | None = None,
    ) -> None:
        self.ref = ref
        self.last: RunSnapshot | None = None
        self.key: RefusedKey | None = None
        """What is to be done about the key, from its refusal to the next good read."""
        self._past = WaitProgress(seen=seen) if past is None else past
        self._past.began = began if self._past.began is None else self._past.began
        self.provider = provider
        self.options = options
        self._submitted_at = submitted_at
        self._born = self._past.began if submitted_at is None else submitted_at
        self._failures = 0
        self._error: AnswerError | None = None
        self._unread_since = began
        self._warned = _NO_WORDS
        self._taken_in: Observation | None = None
        """The last observation: what says the same as before is the same object, and moves no clock."""
        limits = (options.max_paused, options.max_stalled, options.max_spend)
        self._is_limited = any(limit is not None for limit in limits)

    @property
    def was_read(self) -> bool:
        """Whether this part of the wait has looked at the run, with or without success."""
        return self.last is not None or self._error is not None

    def observed(self, observation: Observation, now: float) -> RunSnapshot | None:
        """Take in a good read; the last snapshot of the wait if this one ends it."""
        past = self._past
        past.failing_since, self._failures, self._error = None, 0, None
        if self.key is not None:
            self.key.works()
            self.key = past.refused_since = None
        snapshot = self._after_grace(observation, now)
        self.last, past.seen = snapshot, True
        if not observation.reading.known and observation.reading.full_state not in self._warned:
            self._warned |= {observation.reading.full_state}
            logger.warning(
                "%s reports %r, which is not documented (known: %s); it counts as running until the deadline. "
                "An entry in states= says what it means. [%s]",
                self.ref,
                observation.reading.full_state,
                ", ".join(self.provider.states.known),
                Code.UNKNOWN_WORD,
            )
        if snapshot.outcome is not None:
            return snapshot
        if observation is not self._taken_in:
            past.take_in(observation, snapshot, now, stalls=self.options.max_stalled is not None)
            self._taken_in = observation
        return None

    def failed(self, error: AnswerError, now: float, *, began: float | None = None) -> None:
        """Take in a failed read.

        Args:
            error: How it failed.
            now: When, in unix seconds.
            began: When that read began, where it is known: it may have taken long.

        Raises:
            FinalError: Another read would end the same way. A refused key is none before :attr:`key` says so.
            PollingError: Reads have failed for longer than the error budget.
        """
        if isinstance(error, AuthError):
            self._refused(error, now)
            return
        failing_since = self._past.failing_since = now if self._past.failing_since is None else self._past.failing_since
        if self._error is None:
            self._unread_since = failing_since if began is None else min(began, failing_since)
        self._failures += 1
        # Kept for long, and by many waits at once: not with the frames and bodies that its traceback holds.
        self._error = error.with_traceback(None)
        left = failing_since + self.options.error_budget - now
        if isinstance(error, FinalError):
            if not may_pass(error):
                raise error
            # A run that was never seen may not be visible yet; one that was seen does not vanish.
            since = failing_since if self._submitted_at is None else self._submitted_at
            if not self._past.seen:
                if now - since >= NOT_FOUND_GRACE:
                    raise error
                left = min(left, since + NOT_FOUND_GRACE - now)
        if left <= 0:
            raise PollingError(self.ref, now - self._unread_since, error) from None
        # For whoever looks on: in a host it would be a line for each of thousands of waits.
        logger.debug("%s could not be read: %s It is tried for %.0f s more.", self.ref, error.text, left)

    def _refused(self, error: AuthError, now: float) -> None:
        past, grace = self._past, self.options.auth_grace
        if not grace:
            raise error
        if self.key is None:
            since = now if past.refused_since is None else past.refused_since
            subject = str(self.ref) if self.ref.run_id else f"The search at {self.provider.title}"
            self.key = RefusedKey(subject, since=since, grace=grace if past.seen or past.accepted else None)
            past.refused_since = since
        self._error = error.with_traceback(None)
        self.key.refused(error, now)

    @property
    def holds(self) -> bool:
        """Whether nothing is sent until the key was read again."""
        return self.key is not None and self.key.holds

    def expired(self, now: float) -> RunSnapshot | None:
        """The last snapshot, as ``timed_out``, if a clock has ended the wait.

        Raises:
            PollingError: The deadline is over and the run was never seen: nothing is known of it.
        """
        if now >= self.options.deadline:
            if not self._past.seen and self._error is not None:
                if isinstance(self._error, FinalError):
                    raise self._error
                raise PollingError(self.ref, now - self._unread_since, self._error) from None
            return self.timed_out("timeout")
        limit = reached(self.provider, self.options, self._past, self.last, now) if self._is_limited else None
        return None if limit is None else self.timed_out(limit.ended_by, limit.figure)

    def timed_out(self, ended_by: EndedBy, figure: str = "") -> RunSnapshot:
        """What was last seen of the run, as the end of a wait that a clock or a limit has ended."""
        return timed_out(
            self.provider, self.ref, self.last, ended_by, read_failed=self._error is not None, figure=figure
        )

    def pause(self, now: float) -> float:
        """Seconds until the next look, never past a clock of the wait."""
        if self.key is not None and self.key.holds:
            pause = self.key.pause(now)
        elif self._error is not None:
            # Down to half of it: waits that failed together must not come back together.
            waited = backoff(self._failures, ceiling=LONGEST_BACKOFF) * (1 - 0.5 * spread())
            if isinstance(self._error, FinalError) and not self._past.seen:
                waited = min(waited, NOT_FOUND_GRACE / 6)
            pause = max(waited, self._error.retry_after or 0.0)
            pause = min(pause, max((self._past.failing_since or now) + self.options.error_budget - now, 0.5))
        else:
            pause = self.options.cadence.delay(now - self._born, jitter=spread())
            if self._past.provisional_since is not None:
                pause = min(pause, self.provider.cadence.first)
        stalled = stalled_until(self.options, self._past) if self._is_limited else None
        ends = self._end if stalled is None else min(self._end, stalled)
        return max(min(pause, ends - now), 0.0)

    @property
    def latest_read(self) -> float:
        """The moment after which no look may begin, in unix seconds: nothing may hold it back for longer."""
        failing_since = self._past.failing_since
        return self._end if failing_since is None else min(self._end, failing_since + self.options.error_budget)

    @property
    def _end(self) -> float:
        """The first moment at which a clock ends the wait, whatever is read until then."""
        paused = paused_until(self.options, self._past) if self._is_limited else None
        return self.options.deadline if paused is None else min(self.options.deadline, paused)

    def _after_grace(self, observation: Observation, now: float) -> RunSnapshot:
        """A word that needs time to settle is believed once it has stood for that long in this wait."""
        if observation.reading.grace_seconds is None:
            self._past.provisional_since = None
            return observation.snapshot
        if self._past.provisional_since is None:
            self._past.provisional_since = now
        return settled(observation, now - self._past.provisional_since)


class LogThrottle:
    """Decides which snapshots are worth a log line: changes at once, the rest every few minutes.

    Args:
        every: Seconds between two lines about a run on which nothing changes.
    """

    def __init__(self, every: float = 300.0) -> None:
        self._every = every
        self._last: RunSnapshot | None = None
        self._logged_at = 0.0

    def worth_saying(self, snapshot: RunSnapshot, now: float) -> bool:
        """Whether a person who follows the run should read about this snapshot."""
        if snapshot.changed_from(self._last) or now - self._logged_at >= self._every:
            self._last, self._logged_at = snapshot, now
            return True
        return False


def progress_line(snapshot: RunSnapshot) -> str:
    """How a run stands that is waited for, as one line for a person.

    Args:
        snapshot: The run. Where only a person or an outside event moves it on, the line ends with the code of that.
    """
    return with_code(snapshot.summary(), Code.RUN_PAUSED if snapshot.phase in PAUSED_OR_WAITING else None)


def settled(observation: Observation, stood_for: float) -> RunSnapshot:
    """The snapshot of an observation; if its state is provisional and has stood for its grace, what that means.

    Args:
        observation: What was read.
        stood_for: Seconds since the state was first read.
    """
    reading = observation.reading
    if reading.grace_seconds is None or stood_for < reading.grace_seconds or not isinstance(reading.meaning, Outcome):
        return observation.snapshot
    return replace(observation.snapshot, phase=None, outcome=reading.meaning, reason=reading.reason)


def timed_out(
    provider: Provider,
    ref: RunRef,
    last: RunSnapshot | None,
    ended_by: EndedBy,
    *,
    read_failed: bool = False,
    figure: str = "",
) -> RunSnapshot:
    """What was last seen of a run, as the end of a wait that a clock has ended.

    Args:
        provider: The run's.
        ref: The run.
        last: What was last seen of it, or None.
        ended_by: Which clock ended the wait.
        read_failed: Whether the last read failed.
        figure: The limit that was reached and what was found, in words.
    """
    last = last or RunSnapshot(ref=ref, state=None, url=provider.url(ref))
    reason = (
        f"The wait ended ({ended_by}{figure and f': {figure}'}); the run was last seen {last.state!r} ({last.status})"
    )
    if read_failed:
        reason += "; the last read failed"
    reason = cut(f"{reason}: {last.reason}" if last.reason else f"{reason}.")
    return replace(last, phase=None, outcome=Outcome.TIMED_OUT, ended_by=ended_by, reason=reason)
