"""The one place where an outcome and its verdict become events of Dagster. It waits for nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import dagster as dg

from runops.core import (
    ConflictError,
    Outcome,
    PollingError,
    Progress,
    RunopsError,
    RunSnapshot,
    SubmitUncertainError,
    TransientError,
    Verdict,
    find,
)
from runops.core.model.codes import with_code
from runops.core.model.expectation import in_words
from runops.core.model.policy import code_of, retry_may_submit
from runops.core.model.run import Unmet
from runops.dagster.functions import FunctionFailed

CHECK_NAME = "runops_outcome"
"""The check of every asset that stands for an external run."""

Metadata = dict[str, dg.MetadataValue[Any]]


@dataclass(frozen=True, kw_only=True)
class Shown:
    """How a wait of a step ended, be it for one run or for many, as Dagster shows it.

    Args:
        verdict: What was decided.
        metadata: What people want to see of it.
        summary: One line.
        judged: One line with the verdict.
        version: Of the data that it has made.
        value: What an op gives out, as plain values.
        failure: Makes the end of the step, where the verdict is fail.
    """

    verdict: Verdict
    metadata: Metadata
    summary: str
    judged: str
    version: str
    value: Mapping[str, Any]
    failure: Callable[[], dg.Failure]

    def check(self, asset_key: dg.AssetKey | None = None, check_name: str = CHECK_NAME) -> dg.AssetCheckResult:
        """Passed for succeed; a warning for warn and skip; an error for fail."""
        return dg.AssetCheckResult(
            asset_key=asset_key,
            check_name=check_name,
            passed=self.verdict is Verdict.SUCCEED,
            severity=severity(self.verdict),
            metadata=self.metadata,
            description=self.judged,
        )

    def not_made(self, asset_key: dg.AssetKey) -> dg.AssetCheckResult:
        """The check of an asset that was not made, where others were."""
        return dg.AssetCheckResult(
            asset_key=asset_key,
            check_name=CHECK_NAME,
            passed=False,
            severity=dg.AssetCheckSeverity.WARN,
            metadata=self.metadata,
            description=f"Not made. {self.summary}",
        )

    def materialisation(
        self, asset_key: dg.AssetKey, checks: Sequence[dg.AssetCheckResult]
    ) -> dg.MaterializeResult[Any]:
        """An asset that was made, with its checks."""
        return dg.MaterializeResult(
            asset_key=asset_key,
            metadata=self.metadata,
            check_results=checks,
            data_version=dg.DataVersion(self.version),
        )


def shown(
    snapshot: RunSnapshot,
    verdict: Verdict,
    unmet: Mapping[str, Unmet] | None = None,
    *,
    given: bool = False,
    dagster_runs: Mapping[str, str] | None = None,
) -> Shown:
    """How the wait for one run ended.

    Args:
        snapshot: The last snapshot of the run.
        verdict: What was decided about it.
        unmet: Which expectations it did not meet.
        given: Whether the step was given the run, and has not submitted it.
        dagster_runs: Other Dagster runs that have to do with it: what each did, and its id.
    """
    return Shown(
        verdict=verdict,
        metadata=metadata(snapshot, verdict, unmet, dagster_runs=dagster_runs),
        summary=snapshot.summary(),
        judged=judged(snapshot, verdict, unmet),
        version=data_version(snapshot).value,
        value=dict(snapshot.to_result(verdict, unmet)),
        failure=partial(failure, snapshot, given=given, unmet=unmet),
    )


def metadata(
    snapshot: RunSnapshot,
    verdict: Verdict | None = None,
    unmet: Mapping[str, Unmet] | None = None,
    *,
    dagster_runs: Mapping[str, str] | None = None,
) -> Metadata:
    """What a person wants to see of a run, under keys that begin with ``runops/``. Never the payload.

    Args:
        snapshot: The run.
        verdict: What was decided about it.
        unmet: Which expectations it did not meet.
        dagster_runs: Other Dagster runs that have to do with it: what each did, and its id.
    """
    ref = snapshot.ref
    # Dagster shows most of its pages in this order: what a person looks for comes first.
    found: Metadata = {"overview": dg.MetadataValue.md(overview(snapshot, verdict, unmet))}
    if snapshot.url:
        found["url"] = dg.MetadataValue.url(snapshot.url)
    found |= {name: dg.MetadataValue.dagster_run(run_id) for name, run_id in (dagster_runs or {}).items()}
    texts: dict[str, str | None] = {
        "outcome": snapshot.outcome.value if snapshot.outcome else None,
        "verdict": verdict.value if verdict else None,
        "reason": snapshot.reason,
        "ended_by": snapshot.ended_by,
        "progress": str(snapshot.progress) if snapshot.progress else None,
        "state": snapshot.state,
        "provider": ref.provider,
        "run_id": ref.run_id,
        **ref.parents,
    }
    found |= {name: dg.MetadataValue.text(value) for name, value in texts.items() if value}
    if unmet:
        found["unmet"] = dg.MetadataValue.json(dict(unmet))
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
    numbers = {**durations, **_progress(snapshot.progress)}
    found |= {name: dg.MetadataValue.float(value) for name, value in numbers.items() if value is not None}
    found |= _spend(snapshot)
    found |= {f"details/{name}": _value(value) for name, value in snapshot.details.items()}
    return {f"runops/{name}": value for name, value in found.items()}


def overview(snapshot: RunSnapshot, verdict: Verdict | None = None, unmet: Mapping[str, Unmet] | None = None) -> str:
    """What a person wants to know first, as a table in Markdown."""
    ref, progress = snapshot.ref, snapshot.progress
    state, status = snapshot.state or "never seen", str(snapshot.status)
    name = cell(ref.run_id)
    rows: dict[str, str | None] = {
        "Run": f"[{name}]({snapshot.url})" if snapshot.url else name,
        "State": cell(state if state == status else f"{state} ({status})"),
        "Verdict": cell(verdict) if verdict else None,
        "Why": cell(snapshot.reason) if snapshot.reason else None,
        "Not met": cell(in_words(unmet)) if unmet else None,
        "Progress": _bar(progress) if progress else None,
        "In the queue": _duration(snapshot.created_at, snapshot.started_at),
        "Took": _duration(snapshot.started_at or snapshot.created_at, snapshot.finished_at),
        **{cell(name.replace("_", " ")): str(value) for name, value in snapshot.details.items() if _is_number(value)},
    }
    lines = [f"| {title} | {text} |" for title, text in rows.items() if text]
    return "\n".join([f"| {cell(ref.provider)} | |", "|---|---|", *lines])


def check_spec(asset_key: dg.AssetKey) -> dg.AssetCheckSpec:
    """The check of an asset that stands for an external run."""
    return dg.AssetCheckSpec(CHECK_NAME, asset=asset_key, description="How the external run ended.")


def judged(snapshot: RunSnapshot, verdict: Verdict, unmet: Mapping[str, Unmet] | None = None) -> str:
    """One line that says why a check has passed or failed: a run that succeeded may be what a check must not find."""
    lacks = f"; {in_words(unmet)}" if unmet else ""
    text = f"{snapshot.summary().rstrip('.')}{lacks}; verdict: {verdict}."
    return with_code(text, code_of(snapshot.outcome or Outcome.TIMED_OUT, verdict, unmet=bool(unmet)))


def severity(verdict: Verdict) -> dg.AssetCheckSeverity:
    """How bad a failed check is: an error, which can block what is downstream, only for fail."""
    return dg.AssetCheckSeverity.ERROR if verdict is Verdict.FAIL else dg.AssetCheckSeverity.WARN


def data_version(snapshot: RunSnapshot) -> dg.DataVersion:
    """Another run, another version."""
    return dg.DataVersion(f"{snapshot.ref.provider}:{snapshot.ref.run_id}")


def failure(snapshot: RunSnapshot, *, given: bool = False, unmet: Mapping[str, Unmet] | None = None) -> dg.Failure:
    """The end of a step whose verdict is fail, and whether a retry policy may try again.

    After ``failed`` a retry submits anew. After ``timed_out`` it takes the same run up again. Any other outcome
    would not go away by being repeated, and of a run that was given no retry can make another.

    Args:
        snapshot: The last snapshot of the run.
        given: Whether the step was given the run, and has not submitted it.
        unmet: Which expectations it did not meet.
    """
    outcome = snapshot.outcome or Outcome.TIMED_OUT
    advice = (_ADVICE_ON_GIVEN if given else {}).get(outcome) or _ADVICE[outcome]
    if unmet:
        advice = f"It does not meet what is expected of it: {in_words(unmet)}. A retry would not change that."
    return dg.Failure(
        description=with_code(
            f"{snapshot.summary().rstrip('.')}. {advice}", code_of(outcome, Verdict.FAIL, unmet=bool(unmet))
        ),
        metadata=metadata(snapshot, Verdict.FAIL, unmet),
        allow_retries=outcome is Outcome.TIMED_OUT or (retry_may_submit(outcome) and not given),
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
_ADVICE_ON_GIVEN = {
    Outcome.FAILED: "This step only waits for the run it is given, so that a retry would read the same end: start a "
    "new run where this one was started, and wait for that.",
    Outcome.TIMED_OUT: "Only the wait has ended; a retry waits for the same run again.",
}


def failure_of(error: RunopsError, where: str) -> dg.Failure:
    """The end of a step that could not tell how its run ends, or could not start one.

    Args:
        error: Why.
        where: The resource, or who has failed, as the text is to begin.
    """
    found: Metadata = {"runops/error": dg.MetadataValue.text(type(error).__name__)}
    description = f"{where}: {error.text}"
    if isinstance(error, SubmitUncertainError):
        candidates = [ref.model_dump(mode="json") for ref in error.candidates]
        found["runops/candidates"] = dg.MetadataValue.json(candidates)
        description += (
            " If one of them is yours, wait for it by run_id; if there is none, launch the asset or job anew "
            "(a re-execution looks for the lost run again)."
        )
    if isinstance(error, PollingError):
        found["runops/run_id"] = dg.MetadataValue.text(error.ref.run_id)
    return dg.Failure(
        description=with_code(description, error.error_code),
        metadata=found,
        # A retry takes the same run up again, finds the one that bears its mark, or the parent free.
        allow_retries=isinstance(error, (PollingError, ConflictError, TransientError, FunctionFailed))
        or (isinstance(error, SubmitUncertainError) and error.may_be_found),
    )


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    return None if start is None or end is None else max((end - start).total_seconds(), 0.0)


def _duration(start: datetime | None, end: datetime | None) -> str | None:
    seconds = _seconds(start, end)
    return None if seconds is None else str(timedelta(seconds=round(seconds)))


def _progress(progress: Progress | None) -> dict[str, float | None]:
    """How far a run came, as numbers: Dagster plots numbers over time, and no texts."""
    if progress is None:
        return {}
    share = _share(progress)
    return {"progress_done": progress.done, "progress_percent": None if share is None else round(share * 100, 1)}


def _share(progress: Progress) -> float | None:
    """Of its total; None where that is unknown. A service may be beyond it."""
    return progress.done / progress.total if progress.total and progress.total > 0 else None


def _spend(snapshot: RunSnapshot) -> Metadata:
    """What a run has spent under one name, whatever its service calls it, with the unit beside it."""
    declared = find(snapshot.ref.provider).spend
    spent = declared.of(snapshot.details) if declared else None
    if declared is None or spent is None:
        return {}
    return {"spend": dg.MetadataValue.float(spent), "spend_unit": dg.MetadataValue.text(declared.unit)}


def _is_number(value: Any) -> bool:
    """What was spent, counted or found; no flag."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _bar(progress: Progress) -> str:
    found = _share(progress)
    if found is None:
        return cell(str(progress))
    share = min(max(found, 0.0), 1.0)
    filled = round(share * 10)
    return f"{'█' * filled}{'░' * (10 - filled)} {share:.0%} ({cell(str(progress))})"


def cell(text: str) -> str:
    """A text as it stands in a cell: nothing that the service writes may be read as Markdown or HTML."""
    line = " ".join(text.split())
    return re.sub(r"([\\`*_{}\[\]()<>#+!|~&])", r"\\\1", line)


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
