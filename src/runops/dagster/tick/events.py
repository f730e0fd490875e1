"""The events by which a sensor reports an external run to an asset, and what the log knows of it already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from runops.core import RunRef, RunSnapshot, Verdict
from runops.dagster import _compat, verdicts

AssetEvent = dg.AssetMaterialization | dg.AssetObservation | dg.AssetCheckEvaluation

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
        """Whether the check's history shows a run; asked only of one that the log shows."""
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
    verdict: Verdict,
    partition: str | None = None,
) -> Iterator[AssetEvent]:
    """The events that report a run to an asset, as far as the log does not show them yet.

    What tells that a run was reported is its materialisation or observation. The evaluation of the check comes after
    it, so that a daemon which died between the two is given the evaluation alone.

    Args:
        reported: What the asset's log shows.
        asset_key: The asset.
        snapshot: The run.
        verdict: What was decided about it.
        partition: The partition that it belongs to.
    """
    metadata = verdicts.metadata(snapshot, verdict)
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
        description=verdicts.judged(snapshot, verdict),
    )


def submitted_by_dagster(instance: dg.DagsterInstance, ref: RunRef) -> bool:
    """Whether a Dagster run has submitted an external one: then the run reports it itself."""
    tags = {f"runops.{ref.provider}/{ref.run_id}": "submitted"}
    return instance.get_runs_count(dg.RunsFilter(tags=tags)) > 0
