"""What the records of steps say of their submissions, for whoever looks for what was left behind."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest

from runops.core import Outcome, RunRef, Verdict
from runops.core.many.rows import Row, RowState
from runops.dagster import _compat
from runops.dagster.many.records import record_of
from runops.dagster.orphans import DagsterRuns, Submission, submissions_of
from runops.dagster.step.records import RECORD, SUBMITS

MARKS = {"version": 1, "provider": "b3os", "partition": None, "submission": "x", "nth": 0}
REF = {"provider": "b3os", "run_id": "one", "parents": {}}
RUN = dg.DagsterRun(job_name="job")


def record(kind: str, **more: Any) -> tuple[str, dict[str, Any]]:
    return "step", {**MARKS, "kind": kind, **more}


def found(*records: tuple[str, dict[str, Any]]) -> list[Submission]:
    return submissions_of([(RUN, records)])


def test_what_was_known_before_a_submit_stays_known_after_it() -> None:
    (one,) = found(
        record("submitting", parent={"workflow_id": "wf"}, credential="c"),
        record("submitted", ref=REF, deadline=7.0),
    )
    assert (one.ref, one.ended, one.given) == (RunRef.parse(REF), False, False)
    told = {name: one.about.get(name) for name in ("parent", "credential", "deadline", "kind")}
    assert told == {"parent": {"workflow_id": "wf"}, "credential": "c", "deadline": 7.0, "kind": "submitted"}
    assert (one.run, one.step_key, dict(one.marks)) == (RUN, "step", MARKS)


def test_a_run_that_is_taken_up_without_an_earlier_record_is_known_by_that_one() -> None:
    (one,) = found(record("taken up", ref=REF, credential="c"))
    assert (one.ref, one.about["credential"]) == (RunRef.parse(REF), "c")


@pytest.mark.parametrize("kind", ["ended", "refused", "turn awaited", "failed before", "of a later version"])
def test_a_record_that_nothing_came_before_is_no_submission(kind: str) -> None:
    assert found(record(kind, ended="succeeded")) == []


@pytest.mark.parametrize(
    ("ended", "over"),
    [("succeeded", True), ("failed", True), ("cancelled", True), ("timed_out", False), ("other", False), (None, False)],
)
def test_a_run_is_over_by_its_own_end_and_not_by_that_of_its_wait(ended: str | None, over: bool) -> None:
    (one,) = found(record("submitting"), record("submitted", ref=REF), record("ended", ended=ended))
    assert one.ended is over


@pytest.mark.parametrize("other", [{"partition": "north"}, {"submission": "y"}, {"nth": 1}, {"provider": "nyx"}])
def test_submissions_of_another_partition_call_or_place_are_others(other: dict[str, Any]) -> None:
    (one,) = found(record("submitting"), record("submitting", **other), record("refused"))
    assert {name: one.marks[name] for name in other} == other


def test_a_refusal_takes_back_only_what_was_never_answered() -> None:
    (one,) = found(record("submitting"), record("submitted", ref=REF), record("refused"))
    assert one.ref == RunRef.parse(REF)


def test_an_end_is_that_of_the_newest_try_in_the_run_that_has_seen_it() -> None:
    later = dg.DagsterRun(job_name="job")
    two = {**REF, "run_id": "two"}
    first = [record("submitting"), record("submitted", ref=REF), record("submitting"), record("submitted", ref=two)]
    found = submissions_of([(RUN, first), (later, [record("ended", ended="succeeded")])])
    assert [(each.ref and each.ref.run_id, each.ended, each.run) for each in found] == [
        ("one", False, RUN),
        ("two", True, later),
    ]


def test_the_newest_row_of_each_run_of_a_set_counts_while_it_may_be_alive() -> None:
    marks = {"version": 1, "provider": "b3os", "partition": None, "set": "s"}
    going = [Row(index=n, key=f"k{n}", run_id=f"r{n}", state=RowState.SUBMITTED) for n in range(3)]
    over = replace(going[1], state=RowState.ENDED, outcome=Outcome.SUCCEEDED, verdict=Verdict.SUCCEED)
    entries = [("step", {**marks, **record_of(rows)}) for rows in (going, [over])]
    found = submissions_of([(RUN, entries)])
    assert [(each.ref and each.ref.run_id, each.row and each.row.index, each.given) for each in found] == [
        ("r0", 0, False),
        ("r2", 2, False),
    ]


# --- what is suspected -----------------------------------------------------------------------------------------


def suspected(tags: dict[str, str], *, status: Any = dg.DagsterRunStatus.FAILURE) -> list[Any]:
    """The suspects of an instance in which one step has submitted a run."""
    with dg.DagsterInstance.ephemeral() as instance:
        run = dg.DagsterRun(job_name="job", status=status, tags={SUBMITS: "true", **tags})
        instance.add_run(run)
        for kind, more in (("submitting", {"parent": {"workflow_id": "wf"}, "credential": "c"}), ("submitted", {})):
            data = {**MARKS, "kind": kind, "ref": REF, **more}
            _compat.note_in_run(instance, run, "step", "noted", {RECORD: dg.MetadataValue.json(data)})
        return list(DagsterRuns(instance, since=datetime(2000, 1, 1, tzinfo=UTC)).suspects())


def test_a_suspect_says_which_step_of_which_run_has_left_what() -> None:
    (one,) = suspected({})
    run_id = one.holder["dagster_run_id"]
    assert one.holder == {
        "host": "dagster",
        "job": "job",
        "dagster_run_id": run_id,
        "step": "step",
        "partition": None,
        "status": "FAILURE",
    }
    assert (one.provider, one.ref, one.intent) == ("b3os", RunRef.parse(REF), None)
    assert (one.why, one.credential, one.parent) == (
        "its Dagster run is over (failure)",
        "c",
        {"workflow_id": "wf"},
    )


PENDING = {"runops/pending": "true", "runops/pending_run": RunRef.parse(REF).model_dump_json()}


@pytest.mark.parametrize(
    ("tags", "left"),
    [
        (PENDING, 0),
        ({**PENDING, "runops/pending": "false"}, 1),
        ({**PENDING, "runops/pending_in": "another-run"}, 1),
        ({**PENDING, "runops/pending_run": "{}"}, 1),
        ({"runops/pending": "true"}, 1),
        ({**PENDING, "runops/pending_run": '{"provider":"b3os","run_id":"two"}'}, 1),
    ],
)
def test_a_run_whose_end_a_sensor_has_yet_to_report_is_not_left_behind(tags: dict[str, str], left: int) -> None:
    assert len(suspected(tags)) == left


@pytest.mark.parametrize(
    ("status", "left"),
    [
        (dg.DagsterRunStatus.SUCCESS, 1),
        (dg.DagsterRunStatus.CANCELED, 1),
        (dg.DagsterRunStatus.STARTED, 0),
        (dg.DagsterRunStatus.CANCELING, 0),
    ],
)
def test_only_what_a_dagster_run_that_is_over_has_submitted_is_left_behind(status: Any, left: int) -> None:
    assert len(suspected({}, status=status)) == left
