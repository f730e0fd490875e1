"""One tick of a sensor: visits as many targets as there is time for, and follows each run to its end.

A tick begins with the target at which the one before was cut off. Of each target it first learns the new runs, from
the list of the parent or from the runs that are given, and remembers them as open. Then it reads every open run:
one that is over is reported and closed, all others stay open for the next tick. What is remembered goes into the
cursor only at the end of the tick, so a tick that fails is repeated as a whole: runs that its log shows already are
not reported again (see events.py). One broken target or run never stops the others; the tick fails only if no target
could be read.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import dagster as dg

from runops.core import (
    ConfigurationError,
    Outcome,
    Provider,
    RunNotFound,
    RunopsError,
    RunRef,
    RunSnapshot,
    UnknownStateError,
    Verdict,
)
from runops.core.model.codes import Code, with_code
from runops.core.model.policy import EXPECTED_OF
from runops.core.waiting.limits import WaitProgress, reached
from runops.core.waiting.options import WaitOptions
from runops.core.waiting.state import settled, timed_out
from runops.core.waiting.window import digest
from runops.dagster import _compat
from runops.dagster.options import policy_of
from runops.dagster.resource import resource_of
from runops.dagster.run_ends import tell_end
from runops.dagster.tick.cursor import Cursor, TargetMemory
from runops.dagster.tick.events import OUTCOME, VERDICT, Judged, Report, ReportedRuns, submitted_by_dagster
from runops.dagster.tick.plan import SensorPlan, Watched, fingerprint, given_runs
from runops.dagster.tick.reader import Budget, OutOfTimeError, Reader, request_seconds

if TYPE_CHECKING:
    from runops.core import RunClient

MOST_RUNS = 200
"""Runs reported by one tick: the daemon writes their events one by one. The rest follows in the next."""
MOST_FAILURES = 5
"""Runs of one target that may fail to be read before it is left alone for this tick."""
MISSING_GRACE = 900.0
"""Seconds for which an open run may be answered with 404 before it counts as deleted."""


class SensorTick:
    """One evaluation of a sensor. What it finds goes into its report, what it remembers into its cursor.

    Args:
        context: The sensor's context.
        plan: What the sensor does.

    Raises:
        ConfigurationError: The cursor cannot be read, or the resource is of another kind.
    """

    def __init__(self, context: dg.SensorEvaluationContext, plan: SensorPlan) -> None:
        self.plan = plan
        self.resource = resource_of(context.resources, plan.resource_key)
        self.policy = policy_of(self._provider(), {"on_outcome": plan.on_outcome, **plan.end})
        self.instance = context.instance
        self.cursor = Cursor.parse(context.cursor)
        self.now = time.time()
        self.limits = self._limits()
        self.budget = Budget(plan.seconds)
        self.report = Report(context, plan, self.now)
        self.visited = self.failed = 0

    def result(self) -> dg.SensorResult:
        """Visit as many targets as there is time for.

        Raises:
            dagster.Failure: Every target failed. The cursor stays as it was.
            ConfigurationError: The resource cannot be used.
        """
        order = self._order()
        with self._client() as client:
            reader = Reader(client, self.budget)
            for asset_key in order:
                if not self._visit(reader, asset_key):
                    break
                self.visited += 1
        if self.failed == len(order):
            text = f"No target could be read. {self.report.broken_text()}"
            raise dg.Failure(description=with_code(text, Code.TARGETS_UNREADABLE))
        # Whoever was cut off comes first; but the first of this tick was given its time.
        first = order[max(self.visited, 1) % len(order)]
        return self.report.result(self.cursor.for_next_tick(self.plan.targets, first), self.visited)

    @property
    def _request_seconds(self) -> float:
        return request_seconds(self.plan.seconds, self.resource.request_timeout)

    def _client(self) -> RunClient:
        try:
            return self.resource.client(
                request_timeout=self._request_seconds, sleep=self.budget.sleep, states=self.plan.end.get("states")
            )
        except ConfigurationError as error:
            raise error.at(f"Resource {self.plan.resource_key!r}") from None

    def _provider(self) -> Provider:
        """The declaration, with the words that the sensor teaches."""
        return self.resource.declaration.with_states(self.plan.end.get("states"))

    def _limits(self) -> WaitOptions | None:
        """What bounds an open run; None where nothing does."""
        limits = {name: value for name, value in self.plan.limits.items() if value is not None}
        provider = self.resource.declaration
        return WaitOptions.build(provider, now=self.now, **limits) if limits else None

    def _order(self) -> list[dg.AssetKey]:
        keys = list(self.plan.targets)
        names = [key.to_user_string() for key in keys]
        start = names.index(self.cursor.first) if self.cursor.first in names else 0
        return keys[start:] + keys[:start]

    def _visit(self, reader: Reader, asset_key: dg.AssetKey) -> bool:
        """Look at one target; False if the tick is over before that was done."""
        name = asset_key.to_user_string()
        watched = self.plan.targets[asset_key]
        memory = self.cursor.memory(name, fingerprint(reader.provider, watched))
        try:
            self.budget.check()
            listed = self._learn_runs(reader, memory, watched, asset_key)
            self.cursor.targets[name] = memory
            return self._follow_all(reader, memory, asset_key, listed)
        except OutOfTimeError:
            return False
        except Exception as error:  # noqa: BLE001 - one broken target must not stop the others
            self.failed += 1
            self.report.add_broken(name, error)
        return True

    def _learn_runs(
        self, reader: Reader, memory: TargetMemory, watched: Watched, asset_key: dg.AssetKey
    ) -> dict[str, RunSnapshot]:
        """Take in new runs; what the list shows, by id."""
        refs = given_runs(watched)
        if refs is not None:
            memory.follow([self.resource.ref(ref).run_id for ref in refs])
            return {}
        parent = reader.provider.pages.parent(watched)  # pyright: ignore[reportArgumentType]
        first, since = not memory.runs.begun, self.now - self.plan.lookback
        has_time = partial(reader.has_time, self._request_seconds)
        since_first = since if first else None
        listed = reader.drive(
            memory.runs.look(reader.provider, parent, now=time.time(), since=since_first, has_time=has_time)
        )
        if first:
            memory.begin(listed, since)
            gap = not listed.reaches(since)
        else:
            gap = memory.go_on(listed)
        if gap:
            self.report.add_gap(asset_key, parent)
        return {run.ref.run_id: run for run in listed.runs}

    # --- one run ---

    def _follow_all(
        self, reader: Reader, memory: TargetMemory, asset_key: dg.AssetKey, listed: Mapping[str, RunSnapshot]
    ) -> bool:
        """Look at the open runs of a target; False if there are more than a tick may report."""
        log = ReportedRuns(self.instance, asset_key, memory.newest_event)
        failures = 0
        for run_id in list(memory.runs.open):
            if self.report.runs >= MOST_RUNS:
                self._take_in_log(memory, log)
                return False
            try:
                self._follow(reader, memory, asset_key, run_id, listed.get(run_id), log)
            except RunopsError as error:
                failures += 1
                self.report.add_broken(f"{asset_key.to_user_string()}, run {run_id}", error)
            if run_id in memory.runs.open:
                memory.put_last(run_id)
            if failures >= MOST_FAILURES:
                break
        self._take_in_log(memory, log)
        return True

    def _take_in_log(self, memory: TargetMemory, log: ReportedRuns) -> None:
        """Take in the runs that a tick reported whose cursor was lost; after that the log need not be read again.

        A list may show such a run only later again, from a replica that lags.
        """
        again = False
        if memory.newest_event and memory.runs.begun:
            for ref in log.read_so_far(MOST_RUNS):
                if ref.provider != self.resource.declaration.name or ref.run_id in memory.runs:
                    continue
                if log.judged(ref):
                    memory.runs.window.remember([digest(ref.run_id)])
                else:
                    memory.runs.open[ref.run_id] = 0.0
                    again = True
        if not again:
            memory.newest_event = log.newest

    def _follow(
        self,
        reader: Reader,
        memory: TargetMemory,
        asset_key: dg.AssetKey,
        run_id: str,
        shown: RunSnapshot | None,
        log: ReportedRuns,
    ) -> None:
        """Report a run and close it, if it is over."""
        ref = self._ref(self.plan.targets[asset_key], run_id)
        try:
            snapshot = self._ended(reader, memory, ref, shown)
        except RunNotFound as error:
            if memory.doubted_for(run_id, self.now) >= MISSING_GRACE:
                memory.close(run_id)
                if ref not in log:
                    self.report.add_lost(asset_key, ref, error)
            return
        except UnknownStateError as error:
            snapshot = RunSnapshot(ref=ref, state=error.state, reason=error.text, url=reader.provider.url(ref))
        if snapshot is None:
            snapshot = self._limited(reader, memory, ref) or self._timed_out(reader, ref)
        if snapshot is None:
            return
        try:
            self._report(asset_key, snapshot, log)
        except Exception as error:  # noqa: BLE001 - a function of the user's; the run stays open until it works
            self.report.add_broken(f"{asset_key.to_user_string()}, {ref}", error)
            return
        memory.close(run_id)

    def _report(self, asset_key: dg.AssetKey, snapshot: RunSnapshot, log: ReportedRuns) -> None:
        if not self.plan.own and submitted_by_dagster(self.instance, snapshot):
            return
        judged: Judged = Verdict.FAIL, {}
        if snapshot.outcome is not None:
            judgement = self.policy.judge(snapshot)
            judged = judgement.verdict, judgement.unmet
        known = snapshot.ref in log
        self.report.add_run(asset_key, snapshot, judged, log)
        self._tag_submitter(snapshot, judged[0])
        if not known and snapshot.outcome is not None:
            born = snapshot.created_at or snapshot.started_at
            began = self.now if born is None else born.timestamp()
            tell_end(self.resource.declaration, snapshot, judged[0], began=began, another=lambda: False)

    def _tag_submitter(self, snapshot: RunSnapshot, verdict: Verdict) -> None:
        """Let the list of Dagster runs show how a run ended whose submitting Dagster run is long over."""
        submitter = self.plan.submitted_in.get(snapshot.ref)
        if submitter is None:
            return
        tags = {OUTCOME: str(snapshot.outcome or snapshot.state), VERDICT: verdict.value}
        try:
            _compat.tag_run(self.instance, submitter, tags)
        except Exception as error:  # noqa: BLE001 - a storage raises what it likes, and nothing depends on the tags
            self.report.warn(f"Dagster run {submitter} could not be tagged ({type(error).__name__}).")

    def _ref(self, watched: Watched, run_id: str) -> RunRef:
        refs = given_runs(watched)
        for ref in refs or ():
            if ref.run_id == run_id:
                return ref
        provider = self.resource.declaration
        kinds = provider.pages.parent(watched) if refs is None else {}  # pyright: ignore[reportArgumentType]
        return provider.ref(run_id, {kind: kinds[kind] for kind in provider.parents})

    def _ended(
        self, reader: Reader, memory: TargetMemory, ref: RunRef, shown: RunSnapshot | None
    ) -> RunSnapshot | None:
        """The last snapshot of a run, or None while it is open."""
        listing = reader.provider.listing
        if shown is not None and shown.phase is not None and shown.finished_at is None:
            memory.doubtful.pop(ref.run_id, None)
            return None
        complete = shown is not None and listing is not None and listing.complete and shown.outcome is not None
        snapshot = shown if complete else self._read(reader, memory, ref)
        if snapshot is None:
            return None
        if snapshot.outcome is Outcome.FAILED and not snapshot.reason and reader.provider.explain is not None:
            return reader.get(ref)
        wanted = self.policy.expect.details
        if snapshot.outcome in EXPECTED_OF and any(snapshot.details.get(name) is None for name in wanted):
            return reader.get(ref, wanted)
        return snapshot

    def _read(self, reader: Reader, memory: TargetMemory, ref: RunRef) -> RunSnapshot | None:
        """A single read; a state that is provisional is believed once it has stood for its grace."""
        observed = reader.observe(ref)
        stood_for = 0.0
        if observed.reading.grace_seconds is None:
            memory.doubtful.pop(ref.run_id, None)
        else:
            stood_for = memory.doubted_for(ref.run_id, self.now)
        snapshot = settled(observed, stood_for)
        return None if snapshot.outcome is None else snapshot

    def _timed_out(self, reader: Reader, ref: RunRef) -> RunSnapshot | None:
        """The end of a wait that has a deadline, once that is over: with one last read, which wins."""
        deadline = self.plan.deadlines.get(ref)
        if deadline is None or self.now < deadline:
            return None
        last = reader.get(ref)
        if last.outcome is not None:
            return last
        self._cancel(reader, ref)
        return timed_out(reader.provider, ref, last, "timeout")

    def _limited(self, reader: Reader, memory: TargetMemory, ref: RunRef) -> RunSnapshot | None:
        """The end of a wait for an open run that has stalled or spent too much, by its own answer."""
        options = self.limits
        if options is None:
            return None
        observed = reader.observe(ref)
        snapshot = observed.snapshot
        if snapshot.outcome is not None:
            # It has ended since the list was read: the next tick reports that.
            return None
        past = WaitProgress.from_dict(memory.clocks.get(ref.run_id), self.now)
        past.began = past.began or self.now
        past.take_in(observed, snapshot, self.now)
        memory.clocks[ref.run_id] = past.to_dict(self.now)
        limit = reached(reader.provider, options, past, snapshot, self.now)
        if limit is None:
            return None
        self._cancel(reader, ref)
        return timed_out(reader.provider, ref, snapshot, limit.ended_by, figure=limit.figure)

    def _cancel(self, reader: Reader, ref: RunRef) -> None:
        """Cancel a run whose wait has ended, where that is wanted."""
        if not self.plan.cancel_on_timeout or ref in self.plan.attached:
            return
        try:
            reader.cancel(ref)
        except RunopsError as error:
            # That it fails must not keep the end of the wait from being reported.
            text = f"{ref} could not be cancelled and may go on: {error.text}"
            self.report.warn(with_code(text, Code.LEFT_BEHIND))
