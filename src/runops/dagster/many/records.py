"""The records of many runs in one step, so that a later try takes all of them up again. It sends nothing.

They are engine events in the log of the Dagster run, as those of a single run (records.py), and only ever added: each
holds the rows that have changed since the one before, as few or as many as were changed together. Read oldest first,
the newest row of each run counts. They are found by provider, partition and the number of the set among those of one
try; a run in them by the fingerprint of its call, or by its id where it was given, so that a list may come in another
order.

``rows`` holds rows, ``set`` says that a try begins with what stands there by then, ``set ended`` that its wait is over.
A re-execution first copies the rows that it takes over, in a few large events; then all that counts stands in one log.
Without its ``set`` a copy is not whole, and nothing was submitted yet: then the run before it counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from runops.core import ConfigurationError, Outcome, Verdict
from runops.core.many.row_json import from_json, to_json
from runops.core.many.rows import NO_PARENTS, Row, RowState
from runops.core.model.codes import Code
from runops.dagster import _compat
from runops.dagster.step.records import DEEPEST, RECORD, VERSION, process, read, tag_as_submitting

ROWS, BEGUN, ENDED = "rows", "set", "set ended"
"""The kinds of record."""
MOST_ROWS = 200
"""Rows of one event: about 30 kB."""
_INDEX, _PARENTS, _LISTED_UNDER = "#", "p", "l"
"""In a row beside what it says itself: its place, what its address needs, and under which parent a list shows it."""
_SUCCESS = dg.DagsterEventType.STEP_SUCCESS


@dataclass(kw_only=True)
class RecordedSet:
    """What the log of one Dagster run shows of a set.

    Args:
        run: The Dagster run.
        rows: The newest row of each run, by its key.
        begun: Whether a try has begun with them.
        over: Whether the wait of the newest try has ended.
        deadline: When that wait was to end, in unix seconds.
        step_end: How the step ended; None where the Dagster run did not live to see it.
    """

    run: dg.DagsterRun
    rows: dict[str, Row] = field(default_factory=dict[str, Row])
    begun: bool = False
    over: bool = False
    deadline: float | None = None
    step_end: dg.DagsterEventType | None = None

    def take_in(self, record: Mapping[str, Any]) -> None:
        """Take in one more record, in their order."""
        match record.get("kind"):
            case "rows":
                self.rows |= {row.key: row for row, _ in rows_of(record)}
            case "set":
                self.begun, self.over, self.deadline = True, False, record.get("deadline")
            case "set ended":
                self.over = True
            case _:
                # Written by a newer runops.
                pass

    @property
    def alive(self) -> dict[str, Row]:
        """The rows whose runs may go on."""
        return {key: row for key, row in self.rows.items() if row.may_be_alive}


@dataclass(frozen=True, kw_only=True)
class EarlierRows:
    """What earlier tries have left for this one.

    Args:
        rows: The rows that it takes over, by key.
        here: Whether they stand in the log of this very Dagster run.
        deadline: When the wait is to end, where an earlier try of this run has begun one that goes on.
    """

    rows: Mapping[str, Row] = field(default_factory=dict[str, Row])
    here: bool = False
    deadline: float | None = None


class SetRecords:
    """The records of one set of runs of one step.

    Args:
        context: The step's context.
        provider: The provider's name.
        credential: The key of the resource, where the step has it by one.
        listed_under: The parent under which a list shows the run of a row, by its key; for whoever looks for one later.
    """

    def __init__(
        self,
        context: _compat.StepContext,
        *,
        provider: str,
        credential: str | None,
        listed_under: Mapping[str, Mapping[str, str]],
    ) -> None:
        self._context = context
        # Where a function is called directly there is no run, and nothing is recorded.
        self._run = run = _compat.run_of(context)
        self._provider = provider
        self._credential = credential
        self._listed_under = listed_under
        self._marks: dict[str, Any] = {}
        if run is not None:
            marks = {"version": VERSION, "provider": provider, "partition": _compat.partition_of(context)}
            self._marks = {**marks, "set": _begun_in_this_try(context, run, marks)}

    @property
    def identity(self) -> str | None:
        """What names this set for good, over its tries and re-executions: a part of its runs' marks is a hash of it."""
        if self._run is None:
            return None
        root = self._run.root_run_id or self._run.run_id
        step, partition = _compat.step_key_of(self._context), self._marks["partition"] or ""
        return "/".join((root, step, partition, f"set {self._marks['set']}"))

    def earlier(self) -> EarlierRows:
        """What earlier tries have left for this one: of this run, or of those that it re-executes.

        A re-execution is known by its parent run, whoever started it. What may be alive is taken up, whatever is
        executed again. What is over counts for one that goes on where its parent failed, or whose parent did not live
        to see the end of the step: otherwise new runs are wanted.
        """
        if self._run is None:
            return EarlierRows()
        here = self._recorded_in(self._run)
        if here is not None:
            deadline = None if here.over else here.deadline
            return EarlierRows(rows=_of_interest(here.rows), here=True, deadline=deadline)
        rows = dict(self._of_parents(self._run))
        newest = self._newest_of_group(self._run)
        if newest is not None:
            rows |= newest.alive
        if not _compat.started_by_run_retries(self._run):
            # A person who starts a gate again that has found something wants it to look again.
            rows = {key: row for key, row in rows.items() if not _was_rejected(row)}
        return EarlierRows(rows=_of_interest(rows))

    def begin(self, rows: Sequence[Row], *, here: bool, deadline: float, message: str) -> None:
        """A try begins. If this cannot be written nothing may be sent.

        Args:
            rows: What it takes over, or was given.
            here: Whether the log has them already.
            deadline: When its wait ends, in unix seconds.
            message: For people.
        """
        if not here:
            self._write_rows(rows, "Taking over what is known of the runs.")
        self._write(BEGUN, message, deadline=deadline)

    def changed(self, rows: Sequence[Row], message: str) -> None:
        """Rows have changed.

        Raises:
            Exception: They could not be written. Where one of them is about to be submitted nothing may be sent.
        """
        self._write_rows(rows, message)

    def ended(self, message: str) -> None:
        """The wait of this try is over."""
        self._write(ENDED, message)

    def tag(self, relation: str) -> None:
        """Let those who look for it find the Dagster run; no wait depends on it.

        Args:
            relation: What it has to do with the runs: ``submitted`` or ``awaited``.
        """
        tag_as_submitting(self._context, self._run, {tag_of_many(self._provider, relation): "true"})

    # --- what is written ---

    def _write_rows(self, rows: Sequence[Row], message: str) -> None:
        for first in range(0, len(rows), MOST_ROWS):
            record = record_of(rows[first : first + MOST_ROWS], self._listed_under)
            self._write(record.pop("kind"), message, **record)

    def _write(self, kind: str, message: str, **fields: Any) -> None:
        if self._run is None:
            return
        record = {
            **self._marks,
            "kind": kind,
            "process": process(),
            "attempt": self._context.retry_number,
            "credential": self._credential,
            **fields,
        }
        bare = {name: value for name, value in record.items() if value not in (None, {})}
        _compat.write_engine_event(self._context, self._run, message, {RECORD: dg.MetadataValue.json(bare)})

    # --- what is read ---

    def _of_parents(self, run: dg.DagsterRun) -> Mapping[str, Row]:
        """The rows of the runs that a run re-executes, as far as they are to be taken over."""
        instance, all_again = self._context.instance, False
        for _ in range(DEEPEST):
            all_again = all_again or not _compat.continues_its_parent(instance, run)
            parent = _compat.parent_of(instance, run)
            if parent is None:
                return {}
            found = self._recorded_in(parent)
            if found is not None:
                wanted_anew = found.step_end is _SUCCESS or (all_again and found.step_end is not None)
                return found.alive if wanted_anew else found.rows
            run = parent
        return {}

    def _newest_of_group(self, run: dg.DagsterRun) -> RecordedSet | None:
        """What the newest of all re-executions of the same root shows: only of it runs can be alive."""
        others = _compat.others_of_group(self._context.instance, run, DEEPEST)
        return next((found for each in others if (found := self._recorded_in(each)) is not None), None)

    def _recorded_in(self, run: dg.DagsterRun) -> RecordedSet | None:
        """What the log of a Dagster run shows of this set; None where no try of it has begun there."""
        found = RecordedSet(run=run)
        for record in read(self._context, run):
            if is_of(record, self._marks):
                found.take_in(record)
        if not found.begun:
            return None
        step_key = _compat.step_key_of(self._context)
        found.step_end = _compat.end_of_step(self._context.instance, run.run_id, step_key)
        return found


def tag_of_many(provider: str, relation: str) -> str:
    """The tag of Dagster runs that have to do with many external runs of a service in one step.

    Args:
        provider: The service's name.
        relation: What they have to do with them: ``submitted`` or ``awaited``.
    """
    return f"runops.many.{relation}/{provider}"


def record_of(rows: Sequence[Row], listed_under: Mapping[str, Mapping[str, str]] | None = None) -> dict[str, Any]:
    """What a record says of rows.

    Args:
        rows: One at least.
        listed_under: As :class:`SetRecords` takes it.
    """
    shared = dict(rows[0].parents)
    form: list[dict[str, Any]] = []
    for row in rows:
        each = {_INDEX: row.index, **to_json(row)}
        if dict(row.parents) != shared:
            each[_PARENTS] = dict(row.parents)
        parent = (listed_under or {}).get(row.key)
        if row.intent is not None and parent:
            each[_LISTED_UNDER] = dict(parent)
        form.append(each)
    return {"kind": ROWS, "parents": shared, "rows": form}


def rows_of(record: Mapping[str, Any]) -> Iterator[tuple[Row, Mapping[str, str]]]:
    """The rows of a record, each with the parent under which a list shows its run, where that is known.

    Args:
        record: Of the kind ``rows``.

    Raises:
        ConfigurationError: It is none that any version has written.
    """
    shared = record.get("parents") or NO_PARENTS
    try:
        for form in record["rows"]:
            row = from_json(form[_INDEX], form, form.get(_PARENTS, shared) or NO_PARENTS)
            yield row, form.get(_LISTED_UNDER) or NO_PARENTS
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigurationError(
            f"A record of many runs in the log of this Dagster run cannot be read ({type(error).__name__}), so nobody "
            "knows what was submitted, and nothing is. Look for its runs at the service, and launch the asset anew.",
            error_code=Code.RECORD_UNREADABLE,
        ) from None


def is_of(record: Mapping[str, Any], marks: Mapping[str, Any]) -> bool:
    """Whether a record is of the set that bears some marks."""
    return all(record.get(name) == value for name, value in marks.items())


def _of_interest(rows: Mapping[str, Row]) -> dict[str, Row]:
    return {key: row for key, row in rows.items() if row.state is not RowState.PLANNED or row.spent_before}


def _was_rejected(row: Row) -> bool:
    """Whether its run ended in a way that no retry repeats, and that fails the step."""
    over = row.outcome not in (None, Outcome.TIMED_OUT, Outcome.FAILED)
    return row.state is RowState.ENDED and over and row.verdict is Verdict.FAIL


def _begun_in_this_try(context: _compat.StepContext, run: dg.DagsterRun, marks: Mapping[str, Any]) -> int:
    """How many sets this try of the step has begun: the first of a retry is the first again."""
    same = {**marks, "process": process(), "attempt": context.retry_number, "kind": BEGUN}
    return sum(is_of(record, same) for record in read(context, run))


def changed_rows(before: Mapping[int, Row], rows: Iterable[Row]) -> list[Row]:
    """Those of the rows that differ from what was written last, without plans of which nothing was ever written.

    Args:
        before: What was written last, by its place.
        rows: As they stand now.
    """
    plain = RowState.PLANNED
    return [
        row
        for row in rows
        if row != before.get(row.index) and (row.index in before or row.state is not plain or row.spent_before)
    ]
