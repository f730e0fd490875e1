"""What a sensor reports of external runs, and what the log of an asset shows of them already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import dagster as dg

from runops.core import ConfigurationError, RunopsError, RunRef, RunSnapshot, Verdict
from runops.core.model.run import Unmet
from runops.dagster import _compat, verdicts
from runops.dagster.functions import called, described
from runops.dagster.many.runs_of_sets import submitted_as_one_of_many
from runops.dagster.step.live_run import SUBMITTED, tag_of
from runops.dagster.tick.cursor import Cursor
from runops.dagster.tick.plan import SensorPlan

R = TypeVar("R")
Judged = tuple[Verdict, Mapping[str, Unmet]]
"""The verdict on a run, and which expectations it did not meet."""
AssetEvent = dg.AssetMaterialization | dg.AssetObservation | dg.AssetCheckEvaluation

OUTCOME, VERDICT = "runops/outcome", "runops/verdict"
"""Tags of Dagster runs: how the external run ended that they submitted, or for which they were requested."""
_PAGE = 500


class ReportedRuns:
    """The runs that the log of an asset shows, read as far as that is needed.

    A daemon that dies between the events of a tick and its cursor is given the same runs again: they are found here.

    Args:
        instance: Whose log is read.
        asset_key: The asset.
        after: The id of the newest event that needs no more reading.
    """

    def __init__(self, instance: dg.DagsterInstance, asset_key: dg.AssetKey, after: int) -> None:
        self._instance = instance
        self._asset_key = asset_key
        self._after = self.newest = after
        self._found: dict[RunRef, None] | None = None
        self._judged: set[RunRef | None] | None = None

    def __contains__(self, ref: RunRef) -> bool:
        if self._found is None:
            self._found = {ref: None for _, ref in sorted(self._read(), key=lambda pair: pair[0])}
        return RunRef(provider=ref.provider, run_id=ref.run_id) in self._found

    def read_so_far(self, most: int) -> Sequence[RunRef]:
        """The runs that the log was found to show, the newest of them last; none if it was not read."""
        return list(self._found or ())[-most:]

    def judged(self, ref: RunRef) -> bool:
        """Whether the check's history shows a run; only for one that the log shows."""
        if self._judged is None:
            evaluations = _compat.newest_check_evaluations(self._instance, self._asset_key, verdicts.CHECK_NAME, _PAGE)
            self._judged = {_run_of(metadata) for metadata in evaluations}
        return RunRef(provider=ref.provider, run_id=ref.run_id) in self._judged

    def _read(self) -> Iterator[tuple[int, RunRef]]:
        wanted = dg.AssetRecordsFilter(asset_key=self._asset_key, after_storage_id=self._after)
        for fetch in (self._instance.fetch_materializations, self._instance.fetch_observations):
            cursor: str | None = None
            while True:
                page = fetch(wanted, limit=_PAGE, cursor=cursor, ascending=True)
                for record in page.records:
                    self.newest = max(self.newest, record.storage_id)
                    event = record.asset_materialization or record.event_log_entry.asset_observation
                    ref = _run_of(event.metadata) if event else None
                    if ref is not None:
                        yield record.storage_id, ref
                if not page.has_more:
                    break
                cursor = page.cursor


def _run_of(metadata: Mapping[str, dg.MetadataValue[Any]]) -> RunRef | None:
    provider, run_id = (metadata.get(f"runops/{name}") for name in ("provider", "run_id"))
    if isinstance(provider, dg.TextMetadataValue) and isinstance(run_id, dg.TextMetadataValue):
        return RunRef(provider=provider.value or "", run_id=run_id.value or "")
    return None


def events_of(
    reported: ReportedRuns,
    asset_key: dg.AssetKey,
    snapshot: RunSnapshot,
    judged: Judged,
    partition: str | None = None,
    submitted_in: str | None = None,
) -> Iterator[AssetEvent]:
    """The events that report a run to an asset, as far as the log does not show them yet.

    A run was reported if its materialisation or observation is there. The evaluation of the check comes after
    it, so that a daemon which died between the two is given the evaluation alone.

    Args:
        reported: What the asset's log shows.
        asset_key: The asset.
        snapshot: The run.
        judged: What was decided about it.
        partition: The partition that it belongs to.
        submitted_in: The id of the Dagster run that has submitted it.
    """
    verdict, unmet = judged
    submitter = {"submitted_in": submitted_in} if submitted_in else {}
    metadata = verdicts.metadata(snapshot, verdict, unmet, dagster_runs=submitter)
    if snapshot.finished_at is not None:
        metadata["dagster/last_updated_timestamp"] = dg.MetadataValue.timestamp(snapshot.finished_at)
    description = snapshot.summary()
    if snapshot.ref in reported:
        if reported.judged(snapshot.ref):
            return
    else:
        if verdict in (Verdict.SUCCEED, Verdict.WARN):
            yield dg.AssetMaterialization(
                asset_key,
                description=description,
                metadata=metadata,
                partition=partition,
                tags={"dagster/data_version": verdicts.data_version(snapshot).value},
            )
        else:
            yield dg.AssetObservation(asset_key, description=description, metadata=metadata, partition=partition)
    yield dg.AssetCheckEvaluation(
        asset_key=asset_key,
        check_name=verdicts.CHECK_NAME,
        passed=verdict is Verdict.SUCCEED,
        severity=verdicts.severity(verdict),
        metadata=metadata,
        description=verdicts.judged(snapshot, verdict, unmet),
    )


def submitted_by_dagster(instance: dg.DagsterInstance, snapshot: RunSnapshot) -> bool:
    """Whether a Dagster run has submitted an external one, alone or as one of many: then it reports it itself."""
    tags = {tag_of(snapshot.ref): SUBMITTED}
    if instance.get_run_records(dg.RunsFilter(tags=tags), limit=1):
        return True
    return submitted_as_one_of_many(instance, snapshot)


class Report:
    """What one tick reports: events or run requests, new partitions, and what went wrong.

    Args:
        context: The sensor's context.
        plan: What the sensor does.
        now: When the tick began, in unix seconds.
    """

    def __init__(self, context: dg.SensorEvaluationContext, plan: SensorPlan, now: float) -> None:
        self.runs = 0
        """How many runs are reported."""
        self._context = context
        self._plan = plan
        self._now = now
        # Both with the moment when the run ended, in unix seconds: the newest is to be the last.
        self._events: list[tuple[float, AssetEvent]] = []
        self._requests: list[tuple[float, dg.RunRequest]] = []
        self._partitions: dict[str, None] = {}
        self._broken: dict[str, str] = {}
        self._misplaced: list[str] = []

    def add_run(self, asset_key: dg.AssetKey, snapshot: RunSnapshot, judged: Judged, log: ReportedRuns) -> None:
        """Report a run that is over.

        Args:
            asset_key: The asset that it feeds.
            snapshot: Its last snapshot.
            judged: What was decided about it.
            log: What the asset's log shows already.

        Raises:
            FunctionFailed: A function of the user's raised.
            ConfigurationError: A run of a partition that does not exist was to be requested.
        """
        verdict, _ = judged
        partition = self._partition(asset_key, snapshot)
        moment = snapshot.finished_at.timestamp() if snapshot.finished_at else self._now
        if not self._plan.requests:
            events = events_of(log, asset_key, snapshot, judged, partition, self._plan.submitted_in.get(snapshot.ref))
            self._events += [(moment, event) for event in events]
        elif verdict in (Verdict.SUCCEED, Verdict.WARN):
            self._requests.append((moment, self._request(snapshot, verdict, partition)))
        else:
            self._context.log.info("%s; verdict %s: no run is requested.", snapshot.summary(), verdict)
            return
        self.runs += 1
        if partition is not None and self._plan.partitions is not None:
            self._partitions[partition] = None

    def add_gap(self, asset_key: dg.AssetKey, parent: Mapping[str, str]) -> None:
        """Report that runs of a parent may be missing."""
        named = ", ".join(f"{kind} {value}" for kind, value in parent.items())
        text = f"More runs of {named} came than the service lists: some may be missing here (a gap)."
        self._observe(asset_key, text, {"runops/gap": True, "runops/parent": dict(parent)})

    def add_lost(self, asset_key: dg.AssetKey, ref: RunRef, error: RunopsError) -> None:
        """Report that a run is gone that was open."""
        text = f"{ref} is gone: it was open, and cannot be found any more. How it ended is not known. {error.text}"
        self._observe(asset_key, text, {"runops/run_id": ref.run_id, "runops/gap": True})

    def add_broken(self, name: str, error: Exception) -> None:
        """Report a target or a run that failed."""
        self._broken[name] = described(error) if not isinstance(error, RunopsError) else error.text
        self.warn(f"{name}: {self._broken[name]}")

    def warn(self, text: str) -> None:
        """Write a warning into the tick's log."""
        self._context.log.warning("%s", text)

    def broken_text(self) -> str:
        """What failed, in one line."""
        shown = [f"{name}: {text}" for name, text in list(self._broken.items())[:3]]
        more = len(self._broken) - len(shown)
        listed = f"{'; '.join(shown)}{f' and {more} more' if more > 0 else ''}"
        return f"Resource {self._plan.resource_key!r}: {len(self._broken)} failed: {listed}"

    def result(self, cursor: Cursor, visited: int) -> dg.SensorResult:
        """The result of the tick.

        Args:
            cursor: What the next tick begins with.
            visited: How many targets were looked at.
        """
        text = f"Reported {self.runs} runs; looked at {visited} of {len(self._plan.targets)} targets."
        if self._broken:
            text += f" {self.broken_text()}"
        if self._misplaced:
            text += f" {len(self._misplaced)} without a partition that exists: {self._misplaced[0]}"
        partitions = self._plan.partitions
        new = [key for key in self._partitions if not self._has_partition(key)]
        return dg.SensorResult(
            run_requests=_in_order(self._requests) or None,
            # A tick with events alone would be shown as one that returned nothing.
            skip_reason=None if self._requests else text,
            cursor=cursor.dump(),
            asset_events=_in_order(self._events),
            dynamic_partitions_requests=[partitions.build_add_request(new)] if new and partitions else None,
        )

    def _observe(self, asset_key: dg.AssetKey, text: str, metadata: Mapping[str, Any]) -> None:
        self.warn(f"{asset_key.to_user_string()}: {text}")
        if not self._plan.requests:
            self._events.append((self._now, dg.AssetObservation(asset_key, description=text, metadata=metadata)))

    def _partition(self, asset_key: dg.AssetKey, snapshot: RunSnapshot) -> str | None:
        """The partition that a run belongs to, and a warning about one that does not exist.

        Raises:
            FunctionFailed: The function that gives it raised.
            ConfigurationError: It does not exist and a run of it was to be requested, which Dagster refuses.
        """
        if self._plan.partition_key is None:
            return None
        key = called("partition_key", self._plan.partition_key, snapshot)
        missing = self._missing(asset_key, key) if key is not None else None
        if missing is None:
            return key
        text = f"partition_key gives {key!r} for {snapshot.ref}, but {missing}"
        if self._plan.job:
            raise ConfigurationError(text)
        self.warn(f"{text} It is reported all the same, and shows once there is one.")
        self._misplaced.append(f"{snapshot.ref}: {missing}")
        return key

    def _missing(self, asset_key: dg.AssetKey, key: str) -> str | None:
        """What is wrong with a partition; nothing where it exists, is about to be added, or cannot be looked up."""
        try:
            partitions = _compat.partitions_of(self._context, asset_key, self._plan.job)
        except LookupError:
            return None
        target = f"job {self._plan.job}" if self._plan.job else f"asset {asset_key.to_user_string()}"
        if partitions is None:
            return f"{target} has no partitions."
        instance = self._context.instance
        if partitions == self._plan.partitions or _compat.has_partition(partitions, key, instance):
            return None
        nearest = _compat.nearest_partition(partitions, key, instance)
        return f"{target} has no partition {key!r}{f'; there is {nearest!r}' if nearest else ''}."

    def _request(self, snapshot: RunSnapshot, verdict: Verdict, partition: str | None) -> dg.RunRequest:
        ref, run_config = snapshot.ref, self._plan.run_config
        return dg.RunRequest(
            run_key=f"{ref.provider}:{ref.run_id}",
            run_config=dict(called("run_config", run_config, snapshot)) if run_config else None,
            partition_key=partition,
            tags={
                "runops/provider": ref.provider,
                "runops/run_id": ref.run_id,
                OUTCOME: str(snapshot.outcome),
                VERDICT: verdict.value,
                **({"runops/url": snapshot.url} if snapshot.url else {}),
            },
        )

    def _has_partition(self, key: str) -> bool:
        partitions = self._plan.partitions
        name = partitions.name if partitions else None
        return name is not None and self._context.instance.has_dynamic_partition(name, key)


def _in_order(timed: Sequence[tuple[float, R]]) -> list[R]:
    return [value for _, value in sorted(timed, key=lambda pair: pair[0])]
