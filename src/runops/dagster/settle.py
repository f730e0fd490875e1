"""The one place where an outcome and its verdict become Dagster's words. It waits for nothing."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import dagster as dg

from runops.core import (
    ConflictError,
    Outcome,
    PollingError,
    RunopsError,
    RunSnapshot,
    SubmitUncertainError,
    TransientError,
    Verdict,
)
from runops.core.policy import retry_may_submit

CHECK_NAME = "runops_outcome"
"""The check of every asset that stands for an external run."""

Metadata = dict[str, dg.MetadataValue[Any]]


def metadata(snapshot: RunSnapshot, verdict: Verdict | None = None) -> Metadata:
    """What a person wants to see of a run, under keys that begin with ``runops/``. Never the payload.

    Args:
        snapshot: The run.
        verdict: What was decided about it.
    """
    ref = snapshot.ref
    texts: dict[str, str | None] = {
        "provider": ref.provider,
        "run_id": ref.run_id,
        **ref.parents,
        "state": snapshot.state,
        "outcome": snapshot.outcome.value if snapshot.outcome else None,
        "verdict": verdict.value if verdict else None,
        "reason": snapshot.reason,
        "ended_by": snapshot.ended_by,
        "progress": str(snapshot.progress) if snapshot.progress else None,
    }
    found: Metadata = {name: dg.MetadataValue.text(value) for name, value in texts.items() if value}
    if snapshot.url:
        found["url"] = dg.MetadataValue.url(snapshot.url)
    found["run_ended"] = dg.MetadataValue.bool(snapshot.run_ended)
    times = {
        "created_at": snapshot.created_at,
        "started_at": snapshot.started_at,
        "finished_at": snapshot.finished_at,
    }
    found |= {name: dg.MetadataValue.timestamp(moment) for name, moment in times.items() if moment}
    durations = {
        "queued_seconds": _seconds(snapshot.created_at, snapshot.started_at),
        "duration_seconds": _seconds(snapshot.started_at or snapshot.created_at, snapshot.finished_at),
    }
    found |= {name: dg.MetadataValue.float(value) for name, value in durations.items() if value is not None}
    found |= {f"details/{name}": _value(value) for name, value in snapshot.details.items()}
    return {f"runops/{name}": value for name, value in found.items()}


def check_result(snapshot: RunSnapshot, verdict: Verdict, asset_key: dg.AssetKey | None = None) -> dg.AssetCheckResult:
    """Passed for succeed; a warning for warn and skip."""
    return dg.AssetCheckResult(
        asset_key=asset_key,
        check_name=CHECK_NAME,
        passed=verdict is Verdict.SUCCEED,
        severity=dg.AssetCheckSeverity.WARN,
        metadata=metadata(snapshot, verdict),
        description=snapshot.summary(),
    )


def data_version(snapshot: RunSnapshot) -> dg.DataVersion:
    """Another run, another version."""
    return dg.DataVersion(f"{snapshot.ref.provider}:{snapshot.ref.run_id}")


def failure(snapshot: RunSnapshot) -> dg.Failure:
    """The end of a step whose verdict is fail, and whether a retry policy may try again.

    After ``failed`` a retry submits anew. After ``timed_out`` it takes the same run up again. Any other outcome
    would not go away by being repeated.
    """
    outcome = snapshot.outcome or Outcome.TIMED_OUT
    return dg.Failure(
        description=f"{snapshot.summary().rstrip('.')}. {_ADVICE[outcome]}",
        metadata=metadata(snapshot, Verdict.FAIL),
        allow_retries=outcome is Outcome.TIMED_OUT or retry_may_submit(outcome),
    )


_AS_CHOSEN = "on_outcome turns this outcome into a failure, and a retry would not change it."
_ADVICE = {
    Outcome.SUCCEEDED: _AS_CHOSEN,
    Outcome.DEGRADED: _AS_CHOSEN,
    Outcome.EXHAUSTED: _AS_CHOSEN,
    Outcome.FAILED: "A retry submits a new run.",
    Outcome.CANCELLED: "It was cancelled, and a retry policy does not undo that.",
    Outcome.TIMED_OUT: "Only the wait has ended; a retry takes the same run up again.",
}


def failure_of(error: RunopsError) -> dg.Failure:
    """The end of a step that could not tell how its run ends, or could not start one."""
    found: Metadata = {"runops/error": dg.MetadataValue.text(type(error).__name__)}
    description = str(error)
    if isinstance(error, SubmitUncertainError):
        candidates = [ref.model_dump(mode="json") for ref in error.candidates]
        found["runops/candidates"] = dg.MetadataValue.json(candidates)
        description += (
            " If one of them is yours, wait for it by run_id; if there is none, launch the asset or job anew "
            "(a re-execution from failure looks for the lost run again)."
        )
    if isinstance(error, PollingError):
        found["runops/run_id"] = dg.MetadataValue.text(error.ref.run_id)
    return dg.Failure(
        description=description,
        metadata=found,
        # A retry takes the same run up again, or finds the parent free.
        allow_retries=isinstance(error, (PollingError, ConflictError, TransientError)),
    )


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    return None if start is None or end is None else max((end - start).total_seconds(), 0.0)


def _value(value: Any) -> dg.MetadataValue[Any]:
    match value:
        case bool():
            return dg.MetadataValue.bool(value)
        case int():
            return dg.MetadataValue.int(value)
        case float():
            return dg.MetadataValue.float(value)
        case str():
            return dg.MetadataValue.text(value)
        case _:
            return dg.MetadataValue.json(value)
