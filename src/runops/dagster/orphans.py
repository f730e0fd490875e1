"""The runs that steps of a Dagster instance have submitted and that nothing waits for.

Dagster runs that have submitted something bear a tag, which is an indexed query; what they have submitted stands in
the records of their steps (step/records.py). A Dagster run is looked at together with all its re-executions: as long as
one of them goes on, or Dagster itself will start another (a run retry, a backfill that goes on), everything of them is
waited for. So is a run that a completion sensor has yet to report. What is left then is read at its provider.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import dagster as dg

from runops.core import ConfigurationError, Outcome, RunRef
from runops.core.many.rows import Row
from runops.core.telemetry import METER
from runops.core.waiting.intent import Intent
from runops.core.waiting.orphans import Orphan, Suspect
from runops.dagster import _compat
from runops.dagster.builders.deferred import PENDING, PENDING_IN, PENDING_RUN
from runops.dagster.many.records import ROWS, record_of, rows_of
from runops.dagster.many.runs_of_sets import awaited_as_one_of_many
from runops.dagster.resource import ProviderResource
from runops.dagster.step.live_run import AWAITED, SUBMITTED, tag_of
from runops.dagster.step.records import RECORD, SUBMITS

if TYPE_CHECKING:
    from runops.core import RunClient

PAGE = 100
MOST_LIKE = 64
"""Re-executions of one run that are looked at: the newest."""
OVER = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
WEEK = timedelta(days=7)

_SUBMISSION = ("version", "provider", "partition", "submission", "nth")
"""What tells the submissions of a step apart, in each of its records."""
_SET = ("version", "provider", "partition", "set")
"""What tells its sets of many runs apart."""


@dataclass(frozen=True, slots=True)
class Submission:
    """One submission, as the records of a step show it.

    Args:
        run: The Dagster run of its newest record.
        step_key: Its step.
        marks: What tells it apart from others of the step.
        about: Its parent, its credential and what was known before it, as recorded.
        ref: The external run; None where the answer was never recorded.
        ended: Whether its end was seen.
        given: Whether somebody else has started it.
        row: How it stands, where it is one of many.
    """

    run: dg.DagsterRun
    step_key: str
    marks: Mapping[str, Any]
    about: Mapping[str, Any]
    ref: RunRef | None = None
    ended: bool = False
    given: bool = False
    row: Row | None = None


class DagsterRuns:
    """The runs of one instance: what they have submitted, and whether anything waits.

    Args:
        instance: The instance.
        since: Dagster runs that have not changed since then are not looked at.
    """

    def __init__(self, instance: dg.DagsterInstance, *, since: datetime) -> None:
        self._instance = instance
        self._since = since

    def suspects(self) -> Iterator[Suspect]:
        """All that was submitted and that nothing waits for."""
        seen: set[str] = set()
        for run in self._runs():
            if run.run_id not in seen:
                group = _compat.runs_like(self._instance, run, MOST_LIKE)
                seen |= {each.run_id for each in group}
                yield from (suspect for suspect, _ in self._suspects_of(group))

    def still_left(self, suspect: Suspect) -> bool:
        """Look again whether nothing waits for a suspect."""
        return self._find(suspect) is not None

    def awaits(self, ref: RunRef) -> bool:
        """Whether a Dagster run that goes on waits for a run, be it given or submitted, alone or as one of many."""
        tags = {tag_of(ref): [SUBMITTED, AWAITED]}
        going = [status for status in dg.DagsterRunStatus if status not in OVER]
        if self._instance.get_run_records(dg.RunsFilter(tags=tags, statuses=going), limit=1):
            return True
        return awaited_as_one_of_many(self._instance, ref, going)

    def cancelled(self, suspect: Suspect, ref: RunRef) -> None:
        """Write into the log of its Dagster run that it was cancelled: a re-execution then submits a new one."""
        submitted = self._find(suspect)
        if submitted is None:
            return
        record = {**submitted.marks, "process": "orphans", **_stopped(submitted, ref)}
        message = f"Nothing waited for {ref} any more: asked for it to be cancelled."
        metadata = {RECORD: dg.MetadataValue.json(record)}
        _compat.note_in_run(self._instance, submitted.run, submitted.step_key, message, metadata)

    def _runs(self) -> Iterator[dg.DagsterRun]:
        """The Dagster runs that are over and have submitted something, newest first."""
        wanted = dg.RunsFilter(tags={SUBMITS: "true"}, statuses=list(OVER), updated_after=self._since)
        cursor: str | None = None
        while True:
            page = self._instance.get_run_records(wanted, limit=PAGE, cursor=cursor)
            for record in page:
                yield record.dagster_run
            if len(page) < PAGE:
                return
            cursor = page[-1].dagster_run.run_id

    def _find(self, suspect: Suspect) -> Submission | None:
        """What a suspect was made of, if nothing waits for it still."""
        run = self._instance.get_run_by_id(suspect.holder["dagster_run_id"])
        if run is None:
            return None
        group = _compat.runs_like(self._instance, run, MOST_LIKE)
        same = (suspect.ref, suspect.intent)
        found = self._suspects_of(group)
        return next((submitted for each, submitted in found if (each.ref, each.intent) == same), None)

    def _suspects_of(self, group: list[dg.DagsterRun]) -> Iterator[tuple[Suspect, Submission]]:
        if any(run.status not in OVER for run in group) or _compat.retry_is_due(self._instance, group):
            return
        pending = {ref for run in group if (ref := _pending(run)) is not None}
        for each in submissions_of((run, self._records(run)) for run in group):
            if not (each.ended or each.given) and each.ref not in pending:
                yield _suspect(each), each

    def _records(self, run: dg.DagsterRun) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for step_key, metadata in _compat.events_of_run(self._instance, run.run_id):
            value = metadata.get(RECORD)
            if isinstance(value, dg.JsonMetadataValue) and isinstance(value.data, dict):
                yield step_key, cast("dict[str, Any]", value.data)


def submissions_of(
    logs: Iterable[tuple[dg.DagsterRun, Iterable[tuple[str, Mapping[str, Any]]]]],
) -> list[Submission]:
    """Every submission of a group of Dagster runs, each once.

    Args:
        logs: The runs, oldest first, each with the records of its steps, oldest first.
    """
    found: dict[tuple[Any, ...], list[Submission]] = {}
    for run, entries in logs:
        for step_key, record in entries:
            if record.get("kind") == ROWS:
                _rows_after(found, run, step_key, record)
                continue
            marks = {name: record.get(name) for name in _SUBMISSION}
            of_step = found.setdefault((step_key, *marks.values()), [])
            _after(of_step, record, Submission(run, step_key, marks, record))
    return [each for of_step in found.values() for each in of_step]


def _after(found: list[Submission], record: Mapping[str, Any], new: Submission) -> None:
    """Take in one more record of a submission: the newest attempt stands last."""
    last = found[-1] if found else None
    match record.get("kind"):
        case "submitting":
            found.append(new)
        case "submitted" | "taken up" | "attached":
            ref = RunRef.parse(record["ref"])
            about = record if last is None else {**last.about, **record}
            if last is not None and (last.ref is None or last.ref == ref):
                found.pop()
            # Active already when the step came: somebody else has started it, and the submit was refused.
            given = record.get("kind") == "attached" or bool(record.get("attached"))
            found.append(replace(new, ref=ref, about=about, given=given))
        case "refused" | "turn awaited" | "failed before" if last is not None and last.ref is None:
            found.pop()
        case "ended" if last is not None:
            # Our wait may have ended, by a clock or for want of answers, and the run goes on.
            over = record.get("ended") in {*Outcome} - {Outcome.TIMED_OUT}
            found[-1] = replace(last, run=new.run, ended=over)
        case _:
            pass


def _rows_after(
    found: dict[tuple[Any, ...], list[Submission]], run: dg.DagsterRun, step_key: str, record: Mapping[str, Any]
) -> None:
    """Take in the rows of a set that have changed: the newest run of each row stands last."""
    marks = {name: record.get(name) for name in _SET}
    for row, listed_under in rows_of(record):
        of_row = found.setdefault((step_key, *marks.values(), row.key), [])
        last = of_row[-1] if of_row else None
        if last is not None and (last.ref is None or last.ended or last.ref.run_id == row.run_id):
            of_row.pop()
        intent = row.intent.to_dict() if row.intent else None
        about = {**record, "parent": listed_under or (last.about.get("parent") if last else None), "intent": intent}
        if row.may_be_alive:
            ref = row.ref(str(record.get("provider")))
            of_row.append(Submission(run, step_key, marks, about, ref=ref, given=row.attached, row=row))


def _stopped(submitted: Submission, ref: RunRef) -> dict[str, Any]:
    """What a record says of a run that was cancelled since nothing waited for it."""
    if submitted.row is None:
        return {"kind": "stopped", "ref": ref.model_dump(mode="json")}
    row = submitted.row if submitted.row.run_id else submitted.row.submitted(ref, None)
    return record_of([row.cancelled()])


def _pending(run: dg.DagsterRun) -> RunRef | None:
    """The run whose end a completion sensor has yet to report."""
    if run.tags.get(PENDING) != "true" or run.tags.get(PENDING_IN, run.run_id) != run.run_id:
        return None
    try:
        return RunRef.model_validate_json(run.tags.get(PENDING_RUN, ""))
    except ValueError:
        return None


def _suspect(submitted: Submission) -> Suspect:
    run, about = submitted.run, submitted.about
    credential = about.get("credential")
    return Suspect(
        provider=str(about.get("provider")),
        holder={
            "host": "dagster",
            "job": run.job_name,
            "dagster_run_id": run.run_id,
            "step": submitted.step_key,
            "partition": submitted.marks["partition"],
            "status": run.status.value,
            **({} if submitted.row is None else {"index": submitted.row.index}),
        },
        why=f"its Dagster run is over ({run.status.value.lower()})",
        credential=None if credential is None else str(credential),
        ref=submitted.ref,
        parent={str(key): str(value) for key, value in (about.get("parent") or {}).items()},
        intent=None if submitted.ref is not None else Intent.from_dict(about.get("intent")),
    )


@contextmanager
def instance_at(home: str | None) -> Generator[dg.DagsterInstance]:
    """The instance of a folder.

    Args:
        home: Where ``dagster.yaml`` is; by default the variable ``DAGSTER_HOME`` says it.

    Raises:
        ConfigurationError: There is no such folder, or none is named.
    """
    folder = home or os.environ.get("DAGSTER_HOME")
    if not folder:
        raise ConfigurationError("Which instance to look at, says --dagster-home, or the variable DAGSTER_HOME.")
    if not os.path.isdir(folder):  # noqa: PTH112 - a name that is too long is no folder; pathlib raises
        raise ConfigurationError(
            f"There is no folder {folder[:200]!r}: it should hold the dagster.yaml of the instance."
        )
    with dg.DagsterInstance.from_config(folder) as instance:
        yield instance


def cancel_orphans(
    context: _compat.StepContext,
    resources: Mapping[str, ProviderResource],
    *,
    since: timedelta = WEEK,
    cancel: bool = True,
) -> list[dict[str, Any]]:
    """Cancel the runs that steps of this instance have submitted and that nothing waits for; for a maintenance job.

    What ``runops orphans dagster --cancel`` does, with resources in place of the environment's keys. Each run is
    looked at again right before its cancel. It may be run as often as one likes.

    Args:
        context: The context of the op or asset; what is found is written into its log.
        resources: Resources by their keys. A run is read with the one that has submitted it, else with the first of
            its service.
        since: Dagster runs that have not changed for longer are not looked at.
        cancel: False only lists.

    Returns:
        What was found, as ``runops orphans --json`` prints it.
    """
    from runops.core.client.orphans import OrphanReview

    def open_client(name: str, credential: str | None) -> RunClient:
        named = resources.get(credential or "")
        fitting = [each for each in (named, *resources.values()) if each is not None and each.declaration.name == name]
        if not fitting:
            raise ConfigurationError(f"No resource for {name} was given.")
        return fitting[0].client()

    host = DagsterRuns(context.instance, since=datetime.now(UTC) - since)
    with OrphanReview(host, open_client) as review:
        found = [review.cancel(each) if cancel else each for each in review.find()]
    looked_at = {each.declaration.name for each in resources.values()}
    METER.orphans(looked_at, (each.suspect.provider for each in found if each.goes_on))
    for orphan in found:
        (context.log.info if orphan.settled else context.log.warning)(_line(orphan))
    return [orphan.to_result() for orphan in found]


def _line(orphan: Orphan) -> str:
    what = orphan.ref or f"A submit to {orphan.suspect.provider}"
    acted = f", {orphan.act}" if orphan.act else ""
    return f"{what} ({orphan.standing}{acted}): {orphan.suspect.why}. {orphan.message}".rstrip()
