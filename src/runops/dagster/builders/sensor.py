"""Sensors that report external runs which Dagster did not start. What they remember is in cursor.py."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import dagster as dg

from runops.core import (
    ConfigurationError,
    Outcome,
    OutcomePolicy,
    Phase,
    Provider,
    RunNotFound,
    RunopsError,
    RunRef,
    RunSnapshot,
    UnknownStateError,
    Verdict,
)
from runops.core.declaration import arguments
from runops.core.declaration.provider import check_id
from runops.core.waiting.options import WaitOptions
from runops.core.waiting.state import WaitState
from runops.core.waiting.window import digest
from runops.dagster import _compat
from runops.dagster.builders.plan import Seconds, check_parent, checked_resource_key, resource_of
from runops.dagster.functions import called, described
from runops.dagster.resource import ProviderResource
from runops.dagster.tick.cursor import Cursor, TargetMemory
from runops.dagster.tick.events import AssetEvent, ReportedRuns, events_of, submitted_by_dagster
from runops.dagster.tick.reader import Budget, OutOfTimeError, Reader, default_tick_seconds, request_seconds

if TYPE_CHECKING:
    from runops.core import RunClient

R = TypeVar("R")

Watched = str | Mapping[str, str] | RunRef | Sequence[RunRef]
"""What a target watches: a parent (an id or name, or ``{kind: id}``), or runs that are given."""

DEFAULT_LOOKBACK = 86_400.0
"""Seconds that the first tick looks back."""
MOST_RUNS = 200
"""Runs reported by one tick: the daemon writes their events one by one. The rest follows in the next."""
MOST_FAILURES = 5
"""Runs of one target that may fail to be read before it is left alone for this tick."""
MISSING_GRACE = 900.0
"""Seconds for which an open run may be answered with 404 before it counts as deleted."""


def build_run_sensor(
    *,
    name: str,
    resource_key: str,
    targets: Mapping[Any, Watched],
    minimum_interval_seconds: int = 30,
    lookback: Seconds = DEFAULT_LOOKBACK,
    request_job: Any = None,
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.STOPPED,
    on_outcome: Mapping[str, str] | None = None,
    partition_key: Callable[[RunSnapshot], str] | None = None,
    dynamic_partitions: dg.DynamicPartitionsDefinition | None = None,
    run_config: Callable[[RunSnapshot], Mapping[str, Any]] | None = None,
    tick_seconds: Seconds | None = None,
    required_resource_keys: set[str] | None = None,
    **sensor_kwargs: Any,
) -> dg.SensorDefinition:
    """A sensor that reports each run of its targets once it is over, except those that Dagster itself submitted.

    succeed materialises the target's asset; warn does too, with a failed check; skip and fail leave an observation
    and a failed check, of severity WARN or ERROR. The check is named ``runops_outcome``; Dagster shows it once
    something defines it for the asset, as ``build_run_check`` does. With ``request_job``, succeed and warn request a
    run of it instead, and nothing else is reported.

    No run is lost and none is reported twice, over failed and repeated ticks, restarts of the daemon and clocks that
    disagree. If more runs came than the service lists, that is said as an observation and in the tick's log.

    Args:
        name: The sensor's name.
        resource_key: The key of the runops resource.
        targets: Asset key to what is watched for it: a parent, whose runs are all reported, or a reference to a run
            (or several) from ``resource.ref(...)``. Keys in text are split at their slashes.
        minimum_interval_seconds: The shortest time between two ticks.
        lookback: Seconds (or a timedelta): the first tick reports what ended since then.
        request_job: A job, or the name of one, to run for each run instead of reporting it to an asset.
        default_status: Whether the sensor runs unless somebody switches it.
        on_outcome: Outcome to verdict, such as ``{"degraded": "warn"}``.
        partition_key: A function of the snapshot that gives the partition it belongs to.
        dynamic_partitions: Where the partitions are dynamic: new ones are added. Without ``partition_key`` each
            run is a partition, named by its id.
        run_config: With ``request_job``, a function of the snapshot that gives the run's configuration.
        tick_seconds: Seconds for a tick; by default 60 % of the time after which Dagster gives a tick up. Targets
            that it does not get round to come first in the next.
        required_resource_keys: Further resources that the functions use.
        sensor_kwargs: Anything of ``dagster.sensor``: description, tags, metadata, owners, ...

    Raises:
        ConfigurationError: An argument is wrong.
    """
    told = f"build_run_sensor({name!r})"
    try:
        OutcomePolicy.build(on_outcome)
        plan = SensorPlan(
            resource_key=checked_resource_key(told, resource_key),
            targets=_checked_targets(told, targets),
            lookback=arguments.seconds("lookback", lookback),
            seconds=arguments.optional_seconds("tick_seconds", tick_seconds) or default_tick_seconds(),
            on_outcome=on_outcome,
            requests=request_job is not None,
            job=request_job if request_job is None or isinstance(request_job, str) else request_job.name,
            partition_key=partition_key or ((lambda run: run.ref.run_id) if dynamic_partitions else None),
            partitions=dynamic_partitions,
            run_config=run_config,
        )
        if run_config is not None and request_job is None:
            raise ConfigurationError("run_config belongs to request_job=.")
        if dynamic_partitions is not None and dynamic_partitions.name is None:
            raise ConfigurationError("dynamic_partitions needs a name.")
    except ConfigurationError as error:
        text = str(error)
        raise ConfigurationError(text if text.startswith(told) else f"{told}: {text}") from None

    @dg.sensor(
        name=name,
        minimum_interval_seconds=minimum_interval_seconds,
        default_status=default_status,
        required_resource_keys={resource_key, *(required_resource_keys or ())},
        **({"job_name": request_job} if isinstance(request_job, str) else {"job": request_job}),
        **sensor_kwargs,
    )
    def run_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        return SensorTick.of(context, plan).result()

    return run_sensor


@dataclass(frozen=True, kw_only=True)
class SensorPlan:
    """What a sensor does, as its builder was told."""

    resource_key: str
    targets: Mapping[dg.AssetKey, Watched]
    lookback: float
    seconds: float
    on_outcome: Mapping[str, str] | None
    requests: bool
    partition_key: Callable[[RunSnapshot], str | None] | None
    partitions: dg.DynamicPartitionsDefinition | None
    run_config: Callable[[RunSnapshot], Mapping[str, Any]] | None
    job: str | None = None
    """The job whose runs are requested."""
    own: bool = False
    """Whether runs that Dagster submitted are reported too."""
    deadlines: Mapping[RunRef, float] = field(default_factory=dict[RunRef, float])
    """When the wait for a run ends, in unix seconds, where it has an end."""
    cancel_on_timeout: bool = False


@dataclass(kw_only=True)
class SensorTick:
    """One evaluation of the sensor."""

    context: dg.SensorEvaluationContext
    plan: SensorPlan
    resource: ProviderResource
    policy: OutcomePolicy
    cursor: Cursor
    now: float
    budget: Budget

    events: list[tuple[float, AssetEvent]] = field(default_factory=list[Any])
    requests: list[tuple[float, dg.RunRequest]] = field(default_factory=list[Any])
    """Both with the moment when the run ended, in unix seconds: the newest is to be the last."""
    partitions: dict[str, None] = field(default_factory=dict[str, None])
    broken: dict[str, str] = field(default_factory=dict[str, str])
    misplaced: list[str] = field(default_factory=list[str])
    """Runs that were reported for a partition that does not exist."""
    reported: int = 0
    done_with: int = 0
    failed: int = 0

    @classmethod
    def of(cls, context: dg.SensorEvaluationContext, plan: SensorPlan) -> SensorTick:
        """The tick of a context.

        Raises:
            ConfigurationError: The cursor cannot be read, or the resource is of another kind.
        """
        resource = resource_of(context.resources, plan.resource_key)
        return cls(
            context=context,
            plan=plan,
            resource=resource,
            policy=resource.declaration.policy(plan.on_outcome),
            cursor=Cursor.parse(context.cursor),
            now=time.time(),
            budget=Budget(plan.seconds),
        )

    def result(self) -> dg.SensorResult:
        """Look at as many targets as there is time for.

        Raises:
            dagster.Failure: Every target failed. The cursor stays as it was.
            ConfigurationError: The resource cannot be used.
        """
        order = self._order()
        longest = request_seconds(self.plan.seconds, self.resource.request_timeout)
        with self._client(longest) as client:
            reader = Reader(client, self.budget)
            for asset_key in order:
                if not self._visit(reader, asset_key):
                    break
                self.done_with += 1
        if self.failed == len(order):
            raise dg.Failure(description=f"No target could be read. {self._told_broken()}")
        # Whoever was cut off comes first; but the first of this tick was given its time.
        begin_with = order[max(self.done_with, 1) % len(order)]
        return self._told(replace_targets(self.cursor, self.plan.targets, begin_with))

    def _client(self, request_timeout: float) -> RunClient:
        try:
            return self.resource.client(request_timeout=request_timeout, sleep=self.budget.sleep)
        except ConfigurationError as error:
            raise ConfigurationError(f"Resource {self.plan.resource_key!r}: {error}") from None

    def _order(self) -> list[dg.AssetKey]:
        keys = list(self.plan.targets)
        names = [key.to_user_string() for key in keys]
        start = names.index(self.cursor.first) if self.cursor.first in names else 0
        return keys[start:] + keys[:start]

    def _visit(self, reader: Reader, asset_key: dg.AssetKey) -> bool:
        """Look at one target; False if the tick is over before that was done."""
        name = asset_key.to_user_string()
        watched = self.plan.targets[asset_key]
        memory = self.cursor.memory(name, _fingerprint(reader.provider, watched))
        try:
            self.budget.check()
            found = self._survey(reader, memory, watched, asset_key)
            self.cursor.targets[name] = memory
            return self._follow_all(reader, memory, asset_key, found)
        except OutOfTimeError:
            return False
        except Exception as error:  # noqa: BLE001 - one broken target must not stop the others
            self.failed += 1
            self._say_broken(name, error)
        return True

    def _survey(
        self, reader: Reader, memory: TargetMemory, watched: Watched, asset_key: dg.AssetKey
    ) -> dict[str, RunSnapshot]:
        """Learn of new runs; what the list shows, by id."""
        refs = _given(watched)
        if refs is not None:
            memory.follow([self.resource.ref(ref).run_id for ref in refs])
            return {}
        parent = reader.provider.family(watched)  # pyright: ignore[reportArgumentType]
        first, since = not memory.trail.begun, self.now - self.plan.lookback
        has_time = partial(reader.has_time, request_seconds(self.plan.seconds, self.resource.request_timeout))
        found = reader.drive(
            memory.trail.look(reader.provider, parent, since=since if first else None, has_time=has_time)
        )
        if first:
            memory.begin(found, since)
            gap = not found.reaches(since)
        else:
            gap = memory.go_on(found)
        if gap:
            self._say_gap(asset_key, parent)
        return {run.ref.run_id: run for run in found.runs}

    # --- one run ---

    def _follow_all(
        self, reader: Reader, memory: TargetMemory, asset_key: dg.AssetKey, found: Mapping[str, RunSnapshot]
    ) -> bool:
        """Look at the open runs of a target; False if there are more than a tick may report."""
        log = ReportedRuns(self.context.instance, asset_key, memory.newest_event)
        failures = 0
        for run_id in list(memory.trail.open):
            if self.reported >= MOST_RUNS:
                self._take_in_log(memory, log)
                return False
            try:
                self._follow(reader, memory, asset_key, run_id, found.get(run_id), log)
            except RunopsError as error:
                failures += 1
                self._say_broken(f"{asset_key.to_user_string()}, run {run_id}", error)
            if run_id in memory.trail.open:
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
        if memory.newest_event and memory.trail.begun:
            for ref in log.read_so_far(MOST_RUNS):
                if ref.provider != self.resource.declaration.name or ref.run_id in memory.trail:
                    continue
                if log.judged(ref):
                    memory.trail.window.remember([digest(ref.run_id)])
                else:
                    memory.trail.open[ref.run_id] = 0.0
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
        name = asset_key.to_user_string()
        ref = self._ref(memory, self.plan.targets[asset_key], run_id)
        try:
            snapshot = self._ended(reader, memory, ref, shown)
        except RunNotFound as error:
            if memory.doubted_for(run_id, self.now) >= MISSING_GRACE:
                memory.close(run_id)
                if ref not in log:
                    self._say_lost(asset_key, ref, error)
            return
        except UnknownStateError as error:
            snapshot = RunSnapshot(ref=ref, state=error.word, reason=str(error), url=reader.provider.url(ref))
        if snapshot is None:
            snapshot = self._timed_out(reader, ref)
        if snapshot is None:
            return
        try:
            self._report(asset_key, snapshot, log)
        except Exception as error:  # noqa: BLE001 - a function of the user's; the run stays open until it works
            self._say_broken(f"{name}, {ref}", error)
            return
        memory.close(run_id)

    def _ref(self, memory: TargetMemory, watched: Watched, run_id: str) -> RunRef:
        for ref in _given(watched) or ():
            if ref.run_id == run_id:
                return ref
        provider = self.resource.declaration
        kinds = provider.family(watched) if _given(watched) is None else {}  # pyright: ignore[reportArgumentType]
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
        snapshot = shown if complete else self._settled(reader, memory, ref)
        if snapshot is None:
            return None
        if snapshot.outcome is Outcome.FAILED and not snapshot.reason and reader.provider.explain is not None:
            return reader.get(ref)
        return snapshot

    def _settled(self, reader: Reader, memory: TargetMemory, ref: RunRef) -> RunSnapshot | None:
        """A look of its own; a word that needs time to settle is believed once it has stood for that long."""
        look = reader.look(ref)
        after = look.reading.grace_seconds
        if after is None:
            memory.doubtful.pop(ref.run_id, None)
            return look.snapshot if look.snapshot.outcome is not None else None
        if memory.doubted_for(ref.run_id, self.now) < after:
            return None
        meaning = look.reading.meaning
        if meaning is None or isinstance(meaning, Phase):
            return None
        return look.snapshot.model_copy(update={"phase": None, "outcome": meaning, "reason": look.reading.reason})

    def _timed_out(self, reader: Reader, ref: RunRef) -> RunSnapshot | None:
        """The end of a wait that has a deadline, once that is over: with one last look, which wins."""
        deadline = self.plan.deadlines.get(ref)
        if deadline is None or self.now < deadline:
            return None
        last = reader.get(ref)
        if last.outcome is not None:
            return last
        if self.plan.cancel_on_timeout:
            self._cancel(reader, ref)
        watch = WaitState(reader.provider, ref, WaitOptions.build(reader.provider, now=self.now), began=self.now)
        watch.last = last
        return watch.timed_out("timeout")

    def _cancel(self, reader: Reader, ref: RunRef) -> None:
        try:
            reader.cancel(ref)
        except RunopsError as error:
            # That it fails must not keep the end of the wait from being told.
            self.context.log.warning("%s could not be cancelled and may go on: %s", ref, error)

    # --- what is reported ---

    def _report(self, asset_key: dg.AssetKey, snapshot: RunSnapshot, log: ReportedRuns) -> None:
        if not self.plan.own and submitted_by_dagster(self.context.instance, snapshot.ref):
            return
        verdict = self.policy.decide(snapshot.outcome) if snapshot.outcome else Verdict.FAIL
        partition = self._partition(asset_key, snapshot)
        if self.plan.requests:
            reported = self._request(snapshot, verdict, partition)
        else:
            moment = self._moment(snapshot)
            self.events += [(moment, event) for event in events_of(log, asset_key, snapshot, verdict, partition)]
            reported = True
        if reported:
            self.reported += 1
            if partition is not None and self.plan.partitions is not None:
                self.partitions[partition] = None

    def _partition(self, asset_key: dg.AssetKey, snapshot: RunSnapshot) -> str | None:
        """The partition that a run belongs to, and a word about one that does not exist.

        Raises:
            FunctionFailed: The function that gives it raised.
            ConfigurationError: It does not exist and a run of it was to be requested, which Dagster refuses.
        """
        if self.plan.partition_key is None:
            return None
        key = called("partition_key", self.plan.partition_key, snapshot)
        missing = self._missing(asset_key, key) if key is not None else None
        if missing is None:
            return key
        text = f"partition_key gives {key!r} for {snapshot.ref}, but {missing}"
        if self.plan.job:
            raise ConfigurationError(text)
        self.context.log.warning("%s It is reported all the same, and shows once there is one.", text)
        self.misplaced.append(f"{snapshot.ref}: {missing}")
        return key

    def _missing(self, asset_key: dg.AssetKey, key: str) -> str | None:
        """What is wrong with a partition; nothing where it exists, is about to be added, or cannot be looked up."""
        try:
            partitions = _compat.partitions_of(self.context, asset_key, self.plan.job)
        except LookupError:
            return None
        target = f"job {self.plan.job}" if self.plan.job else f"asset {asset_key.to_user_string()}"
        if partitions is None:
            return f"{target} has no partitions."
        if partitions == self.plan.partitions or _compat.has_partition(partitions, key, self.context.instance):
            return None
        nearest = _compat.nearest_partition(partitions, key, self.context.instance)
        return f"{target} has no partition {key!r}{f'; there is {nearest!r}' if nearest else ''}."

    def _request(self, snapshot: RunSnapshot, verdict: Verdict, partition: str | None) -> bool:
        if verdict not in (Verdict.SUCCEED, Verdict.WARN):
            self.context.log.info("%s; verdict %s: no run is requested.", snapshot.summary(), verdict)
            return False
        ref = snapshot.ref
        request = dg.RunRequest(
            run_key=f"{ref.provider}:{ref.run_id}",
            run_config=dict(called("run_config", self.plan.run_config, snapshot)) if self.plan.run_config else None,
            partition_key=partition,
            tags={"runops/provider": ref.provider, "runops/run_id": ref.run_id, "runops/verdict": verdict.value},
        )
        self.requests.append((self._moment(snapshot), request))
        return True

    def _moment(self, snapshot: RunSnapshot) -> float:
        return snapshot.finished_at.timestamp() if snapshot.finished_at else self.now

    # --- what people see ---

    def _told(self, cursor: Cursor) -> dg.SensorResult:
        text = f"Reported {self.reported} runs; looked at {self.done_with} of {len(self.plan.targets)} targets."
        if self.broken:
            text += f" {self._told_broken()}"
        if self.misplaced:
            text += f" {len(self.misplaced)} without a partition that exists: {self.misplaced[0]}"
        new = [key for key in self.partitions if not self._has_partition(key)]
        return dg.SensorResult(
            run_requests=_in_order(self.requests) or None,
            # A tick with events alone would be shown as one that returned nothing.
            skip_reason=None if self.requests else text,
            cursor=cursor.dump(),
            asset_events=_in_order(self.events),
            dynamic_partitions_requests=[self.plan.partitions.build_add_request(new)]
            if new and self.plan.partitions
            else None,
        )

    def _has_partition(self, key: str) -> bool:
        partitions = self.plan.partitions
        name = partitions.name if partitions else None
        return name is not None and self.context.instance.has_dynamic_partition(name, key)

    def _say_broken(self, name: str, error: Exception) -> None:
        self.broken[name] = str(error) if isinstance(error, RunopsError) else described(error)
        self.context.log.warning("%s: %s", name, self.broken[name])

    def _told_broken(self) -> str:
        told = [f"{name}: {text}" for name, text in list(self.broken.items())[:3]]
        more = len(self.broken) - len(told)
        listed = f"{'; '.join(told)}{f' and {more} more' if more > 0 else ''}"
        return f"Resource {self.plan.resource_key!r}: {len(self.broken)} failed: {listed}"

    def _say_gap(self, asset_key: dg.AssetKey, parent: Mapping[str, str]) -> None:
        named = ", ".join(f"{kind} {value}" for kind, value in parent.items())
        text = f"More runs of {named} came than the service lists: some may be missing here (a gap)."
        self.context.log.warning("%s: %s", asset_key.to_user_string(), text)
        if not self.plan.requests:
            metadata = {"runops/gap": True, "runops/parent": dict(parent)}
            self.events.append((self.now, dg.AssetObservation(asset_key, description=text, metadata=metadata)))

    def _say_lost(self, asset_key: dg.AssetKey, ref: RunRef, error: RunopsError) -> None:
        text = f"{ref} is gone: it was open, and cannot be found any more. How it ended is not known. {error}"
        self.context.log.warning("%s: %s", asset_key.to_user_string(), text)
        if not self.plan.requests:
            metadata = {"runops/run_id": ref.run_id, "runops/gap": True}
            self.events.append((self.now, dg.AssetObservation(asset_key, description=text, metadata=metadata)))


def _in_order(timed: Sequence[tuple[float, R]]) -> list[R]:
    return [value for _, value in sorted(timed, key=lambda pair: pair[0])]


def replace_targets(cursor: Cursor, targets: Mapping[dg.AssetKey, Any], first: dg.AssetKey) -> Cursor:
    """The cursor for the next tick: without targets that are watched no more, and where to begin."""
    names = {key.to_user_string() for key in targets}
    kept = {name: memory for name, memory in cursor.targets.items() if name in names}
    return Cursor(kept, first.to_user_string())


def _given(watched: Watched) -> Sequence[RunRef] | None:
    """The runs of a target that names runs; None where it names a parent."""
    if isinstance(watched, RunRef):
        return [watched]
    return None if isinstance(watched, (str, Mapping)) else watched


def _fingerprint(provider: Provider, watched: Watched) -> str:
    """Short and equal for equal parents; all lists of given runs share one, so that adding a run forgets none."""
    if _given(watched) is not None:
        return "runs"
    family = provider.family(watched)  # pyright: ignore[reportArgumentType]
    return hashlib.sha256(json.dumps([provider.name, family], sort_keys=True).encode()).hexdigest()[:16]


def _checked_targets(told: str, targets: object) -> dict[dg.AssetKey, Watched]:
    if not isinstance(targets, Mapping) or not targets:
        raise ConfigurationError("targets must map asset keys to what is watched for them, one at least.")
    checked: dict[dg.AssetKey, Watched] = {}
    for key, watched in targets.items():
        asset_key = dg.AssetKey.from_user_string(key) if isinstance(key, str) else dg.AssetKey.from_coercible(key)
        name = asset_key.to_user_string()
        if isinstance(watched, (str, Mapping)):
            check_parent(f"{told}: targets[{name!r}]", watched)
        else:
            runs = [watched] if isinstance(watched, RunRef) else list(watched) if isinstance(watched, Sequence) else []
            if not runs or not all(isinstance(ref, RunRef) for ref in runs):
                raise ConfigurationError(
                    f"targets[{name!r}] must be a parent or a reference to a run, not {type(watched).__name__}."
                )
            for ref in runs:
                check_id("run_id", ref.run_id)
        checked[asset_key] = watched
    return checked
