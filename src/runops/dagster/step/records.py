"""The records of what a step submitted, so that a later try takes the run up again. It sends nothing.

Each record is an engine event in the log of the Dagster run, written before and after every act: ``submitting``, then
``submitted`` or ``refused`` (``failed before`` where a retry goes on from a run of an earlier try), ``turn awaited``,
``attached``, ``taken up``, ``stopped``, ``ended``. It bears the
marks of its submission: provider, partition, a hash of what is submitted, and its number among equal ones of one step.
Read oldest first, the records of one submission give its :class:`Attempt`: the run, or that its answer is lost, or that
its turn is waited for, and how the wait for it ended. They are looked for in this Dagster run, then in its
re-executions and in those that it re-executes itself.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import dagster as dg

from runops.core import Call, Outcome, RunRef, RunSnapshot, Verdict
from runops.core.model.policy import retry_may_submit
from runops.core.waiting.intent import Intent, fingerprint
from runops.core.waiting.turns import Turn
from runops.dagster import _compat

RECORD = "runops/record"
"""The metadata key under which a record stands in an engine event."""

TAKEN_UP_FROM = "runops/taken_up_from"
"""The metadata key of the Dagster run that waited for a run before, in the engine event of whoever took it up."""

SUBMITS = "runops/submits"
"""A tag of each Dagster run in which something was about to be submitted: tags are indexed, events are not."""

VERSION = 1
"""Of every record."""
DEEPEST = 64
"""How many re-executions are followed back."""
_PROCESS = uuid.uuid4().hex[:12]
_GAVE_UP = "gave_up"
_SUCCESS = dg.DagsterEventType.STEP_SUCCESS


@dataclass(frozen=True, slots=True)
class Attempt:
    """What the records show of an earlier submission of the same thing.

    Args:
        run: The Dagster run that the newest record stands in.
        ref: The external run, or None when the answer to the submit was never recorded.
        intent: What was known before the submit.
        deadline: When the wait was to end, in unix seconds.
        submitted_at: When the run was submitted, or was about to be, in unix seconds, where that is known.
        stopped: Whether this side asked the service to cancel the run.
        ended: How the wait ended, if it did.
        verdict: What was decided then.
        step_end: How the step of an earlier Dagster run ended; None where that run did not live to see it.
        turn: The wait for a turn: nothing of it is under way.
        attached: Whether the run was active already, so that it is not this step's to cancel.
        goes_on_from: The run that failed and that the retry of another try went on from, where this is a retry.
    """

    run: dg.DagsterRun
    ref: RunRef | None = None
    intent: Intent = field(default_factory=Intent)
    deadline: float | None = None
    submitted_at: float | None = None
    stopped: bool = False
    ended: str | None = None
    verdict: str | None = None
    step_end: dg.DagsterEventType | None = None
    turn: Turn | None = None
    attached: bool = False
    goes_on_from: RunRef | None = None

    @property
    def step_succeeded(self) -> bool:
        """Whether the step had its success already, so that a re-execution wants more than the run's end."""
        return self.step_end is _SUCCESS

    @property
    def may_be_alive(self) -> bool:
        """Whether nobody has seen the run's end."""
        return self.turn is None and self.ended in (None, Outcome.TIMED_OUT, _GAVE_UP)

    @property
    def rejected(self) -> bool:
        """Whether the run ended in a way that failed the step for good, as a finding fails a gate."""
        if self.verdict != Verdict.FAIL or self.ended is None or self.ended == Outcome.TIMED_OUT:
            return False
        return not retry_may_submit(Outcome(self.ended))


class Records:
    """The records of one submission of one step.

    Args:
        context: The step's context.
        call: The submission.
        root: The address of the API, which is part of what makes two submissions the same.
        credential: The key of the resource that submits, where the step has it by one.
    """

    def __init__(self, context: _compat.StepContext, *, call: Call, root: str, credential: str | None = None) -> None:
        self._context = context
        # Where a function is called directly there is no run, and nothing is recorded.
        self._run = run = _compat.run_of(context)
        self._about: dict[str, Any] = {"parent": dict(call.parent), "credential": credential}
        self._marks: dict[str, Any] = {}
        if run is not None:
            self._marks = {
                "version": VERSION,
                "provider": call.provider,
                "partition": _compat.partition_of(context),
                "submission": fingerprint(call, root),
            }
            # The same thing may be submitted several times in one step: the first of a retry is the first again.
            self._marks["nth"] = _begun_in_this_attempt(context, run, self._marks)

    def earlier(self) -> Attempt | None:
        """The newest earlier submission that may still matter: of this run, or of those that it re-executes.

        A re-execution is known by its parent run, whoever started it. A run that may be alive is not to get a second
        one beside it, whatever is executed again. One that is over matters to a re-execution that goes on where its
        parent failed, and where the parent did not live to see the end of the step: otherwise a new run is wanted.
        """
        if self._run is None:
            return None
        here = self._attempt_in(self._run, self._marks)
        if here is not None:
            return here
        alive = self._newest_of_group(self._run)
        return alive if alive is not None and alive.may_be_alive else self._of_parents(self._run)

    def _of_parents(self, run: dg.DagsterRun) -> Attempt | None:
        """The newest submission of the runs that a run re-executes, if it is to be taken up."""
        instance, all_again = self._context.instance, False
        for _ in range(DEEPEST):
            all_again = all_again or not _compat.continues_its_parent(instance, run)
            parent = _compat.parent_of(instance, run)
            if parent is None:
                return None
            found = self._attempt_in(parent, self._marks)
            if found is not None:
                found = _with_end_of_step(self._context, found)
                wanted_anew = found.step_succeeded or (all_again and found.step_end is not None)
                return found if found.may_be_alive or not wanted_anew else None
            run = parent
        return None

    def _newest_of_group(self, run: dg.DagsterRun) -> Attempt | None:
        """The newest submission among all re-executions of the same root: the only one that can be alive."""
        for each in _compat.others_of_group(self._context.instance, run, DEEPEST):
            found = self._attempt_in(each, self._marks)
            if found is not None:
                return _with_end_of_step(self._context, found)
        return None

    def unlike(self) -> Attempt | None:
        """What an earlier try of this step in the same Dagster run submitted with other arguments, if it may live."""
        if self._run is None or self._context.retry_number == 0:
            return None
        marks = {name: value for name, value in self._marks.items() if name not in ("submission", "nth")}
        found = self._attempt_in(self._run, {**marks, "attempt": self._context.retry_number - 1})
        return found if found is not None and found.may_be_alive else None

    @property
    def identity(self) -> str | None:
        """What names this step for good, over its tries and re-executions: a part of its runs' mark is a hash of it."""
        if self._run is None:
            return None
        step = _compat.step_key_of(self._context)
        root = self._run.root_run_id or self._run.run_id
        return "/".join((root, step or "", self._marks["partition"] or ""))

    def submitting(self, provider: str, intent: Intent, *, at: float, repeated: bool = False) -> None:
        """Before the submit, or one more of the same submission. If this cannot be written nothing may be sent."""
        self._tag()
        message = f"Submitting a run to {provider}."
        about = {"at": at, **({"repeated": True} if repeated else {}), **self._about}
        self._write("submitting", message, intent=intent.to_dict(), **about)

    def submitted(
        self, ref: RunRef, url: str | None, *, deadline: float, at: float | None, attached: bool = False
    ) -> None:
        """After the submit; or after its refusal, where a run that was active already is taken as if it were given."""
        kind, message = "submitted", f"Submitted {ref}."
        if attached:
            kind, message = "attached", f"Attached to {ref}, which was active already."
        about = {"deadline": deadline, "at": at, **self._about}
        self._write_if_possible(kind, message, ref=ref, url=url, **about)

    def taken_up(
        self,
        ref: RunRef,
        url: str | None,
        *,
        deadline: float,
        at: float | None,
        attached: bool = False,
        before: str | None = None,
    ) -> None:
        """An earlier run is waited for again."""
        self._tag()
        about = {"deadline": deadline, "at": at, **({"attached": True} if attached else {}), **self._about}
        links = {TAKEN_UP_FROM: dg.MetadataValue.dagster_run(before)} if before else None
        self._write_if_possible("taken up", f"Took up {ref} again.", ref=ref, url=url, links=links, **about)

    def refused(self, provider: str, turn: Turn | None = None, *, failed: RunRef | None = None) -> None:
        """The submit surely started nothing; with a turn, what is active there is waited for, and it is sent again.

        Args:
            provider: The provider's title.
            turn: The wait for a turn.
            failed: The run of an earlier try, which a retry goes on from; the next try goes on from it too.
        """
        if turn is not None:
            about = {"turn": turn.to_dict(), **({"failed": failed.model_dump(mode="json")} if failed else {})}
            self._write_if_possible("turn awaited", f"Waiting for a turn at {provider}.", **about)
        elif failed is not None:
            self._write_if_possible("failed before", f"{provider} started nothing; {failed} had failed.", ref=failed)
        else:
            self._write_if_possible("refused", f"{provider} started nothing.")

    def stopped(self, ref: RunRef) -> None:
        """The service took our request to cancel."""
        self._write_if_possible("stopped", f"Asked for {ref} to be cancelled.", ref=ref)

    def ended(self, snapshot: RunSnapshot, verdict: Verdict) -> None:
        """The wait ended."""
        message = f"The wait for {snapshot.ref} ended: {snapshot.status}, {verdict}."
        self._write_if_possible("ended", message, ended=str(snapshot.status), verdict=str(verdict))

    def gave_up(self, ref: RunRef) -> None:
        """The run could not be read for too long."""
        self._write_if_possible("ended", f"Gave up reading {ref}.", ended=_GAVE_UP)

    def here(self, attempt: Attempt) -> bool:
        """Whether an attempt was made by this very Dagster run."""
        return self._run is not None and attempt.run.run_id == self._run.run_id

    def started_by_person_after(self, attempt: Attempt) -> bool:
        """Whether a person, and no retry, started this Dagster run after the attempt."""
        return not self.here(attempt) and self._run is not None and not _compat.started_by_run_retries(self._run)

    def deadline_of(self, attempt: Attempt) -> float | None:
        """The deadline that still counts: a retry after the wait was given up gets a fresh one."""
        over = attempt.stopped or attempt.ended is not None
        return None if over or not self.here(attempt) else attempt.deadline

    def _attempt_in(self, run: dg.DagsterRun, marks: Mapping[str, Any]) -> Attempt | None:
        found: Attempt | None = None
        for record in read(self._context, run):
            if any(record.get(name) != value for name, value in marks.items()):
                continue
            found = _after(found, record, run)
        return found

    def _tag(self) -> None:
        tag_as_submitting(self._context, self._run)

    def _write_if_possible(self, kind: str, message: str, **fields: Any) -> None:
        try:
            self._write(kind, message, **fields)
        except Exception as error:  # noqa: BLE001 - a storage raises what it likes
            # The run exists whether or not the log can be written: waiting for it matters more.
            self._context.log.warning(
                "runops could not record that a run was %s (%s); a retry after a crash may not find it.",
                kind,
                type(error).__name__,
            )

    def _write(
        self,
        kind: str,
        message: str,
        *,
        ref: RunRef | None = None,
        url: str | None = None,
        links: Mapping[str, dg.MetadataValue[Any]] | None = None,
        **fields: Any,
    ) -> None:
        if self._run is None:
            return
        record = {
            **self._marks,
            "kind": kind,
            "process": process(),
            "attempt": self._context.retry_number,
            "ref": ref.model_dump(mode="json") if ref else None,
            **fields,
        }
        metadata: dict[str, dg.MetadataValue[Any]] = {RECORD: dg.MetadataValue.json(record), **(links or {})}
        if url:
            metadata["runops/url"] = dg.MetadataValue.url(url)
        _compat.write_engine_event(self._context, self._run, message, metadata)


def read(context: _compat.StepContext, run: dg.DagsterRun) -> Iterator[Mapping[str, Any]]:
    """The records of this step in a Dagster run, oldest first."""
    for metadata in _compat.engine_events(context.instance, run.run_id, _compat.step_key_of(context)):
        value = metadata.get(RECORD)
        if isinstance(value, dg.JsonMetadataValue) and isinstance(value.data, dict):
            yield cast("dict[str, Any]", value.data)


def tag_as_submitting(
    context: _compat.StepContext, run: dg.DagsterRun | None, more: Mapping[str, str] | None = None
) -> None:
    """Let those who look for what was left behind find a Dagster run; no wait depends on it.

    Args:
        context: The step's context.
        run: Its Dagster run, if it is in one.
        more: Further tags.
    """
    tags = {SUBMITS: "true", **(more or {})}
    if run is None or all(run.tags.get(name) == value for name, value in tags.items()):
        return
    try:
        _compat.tag_run(context.instance, run.run_id, tags)
    except Exception as error:  # noqa: BLE001 - a storage raises what it likes
        context.log.warning(
            "The Dagster run could not be tagged (%s): runops orphans will not look at it.", type(error).__name__
        )


def _begun_in_this_attempt(context: _compat.StepContext, run: dg.DagsterRun, marks: Mapping[str, Any]) -> int:
    """How often this try of the step has submitted the same thing already; a POST after a refused one is no other."""
    same = {**marks, "process": process(), "attempt": context.retry_number}
    return sum(
        record.get("kind") in ("submitting", "taken up")
        and not record.get("repeated")
        and all(record.get(name) == same[name] for name in same)
        for record in read(context, run)
    )


def _with_end_of_step(context: _compat.StepContext, found: Attempt) -> Attempt:
    end = _compat.end_of_step(context.instance, found.run.run_id, _compat.step_key_of(context))
    return replace(found, step_end=end)


def _after(found: Attempt | None, record: Mapping[str, Any], run: dg.DagsterRun) -> Attempt | None:
    """What is known after one more record."""
    match record["kind"]:
        case "submitting":
            return Attempt(run, intent=Intent.from_dict(record.get("intent")), submitted_at=record.get("at"))
        case "submitted" | "taken up":
            ref = RunRef.parse(record["ref"])
            return Attempt(
                run,
                ref=ref,
                deadline=record.get("deadline"),
                submitted_at=record.get("at"),
                attached=bool(record.get("attached")),
            )
        case "attached":
            return Attempt(run, ref=RunRef.parse(record["ref"]), deadline=record.get("deadline"), attached=True)
        case "turn awaited":
            failed = RunRef.parse(record["failed"]) if record.get("failed") else None
            return Attempt(run, turn=Turn.from_dict(record["turn"]), goes_on_from=failed)
        case "failed before":
            return Attempt(run, ref=RunRef.parse(record["ref"]), ended=str(Outcome.FAILED))
        case "refused":
            return None
        case "stopped":
            return replace(found, stopped=True) if found else None
        case "ended":
            return replace(found, ended=_end_of(record), verdict=record.get("verdict")) if found else None
        case _:
            # Written by a newer runops.
            return found


def _end_of(record: Mapping[str, Any]) -> str | None:
    end = record.get("ended")
    return str(end) if end in (*Outcome, _GAVE_UP) else None


def process() -> str:
    """Names this process in records, also among those that have had its number."""
    return f"{_PROCESS}-{os.getpid()}"
