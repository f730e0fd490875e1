"""A set of runs between processes: its lists, its rows to a trigger and back, and its clocks."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from runops.airflow.exceptions import TriggerCrashed
from runops.airflow.many.rows import (
    addresses,
    clocks,
    ends,
    indices_of,
    learnt_of,
    merged,
    read_event,
    runs_at,
    spans,
    summary,
    waits,
)
from runops.airflow.many.run_list import list_of, parents_of, written
from runops.core import ConfigurationError, Outcome, RunRef, Verdict
from runops.core.many.ledger import Ledger
from runops.core.many.rows import Row, RowState
from runops.core.waiting.state import WaitProgress


def row(index: int, **fields: Any) -> Row:
    return Row(**{"index": index, "key": f"r{index}", "run_id": f"r{index}", "state": RowState.SUBMITTED, **fields})


def over(index: int, **fields: Any) -> Row:
    good = {"state": RowState.ENDED, "outcome": Outcome.SUCCEEDED, "verdict": Verdict.SUCCEED}
    return row(index, **{**good, **fields})


def travelled(value: Any) -> Any:
    return json.loads(json.dumps(value, allow_nan=False))


@pytest.mark.parametrize(
    ("indices", "text"),
    [([], ""), ([3], "3"), ([3, 4], "3-4"), ([5, 3, 4, 0], "0,3-5"), ([0, 2, 4], "0,2,4"), (range(42), "0-41")],
)
def test_indices_are_told_as_spans_and_read_again(indices: Any, text: str) -> None:
    assert spans(indices) == text
    assert list(indices_of(text)) == sorted(indices)


# --- to the trigger ---


def test_runs_with_the_same_parents_travel_as_one_entry_in_their_order() -> None:
    rows = [row(2, parents={"w": "a"}), row(0, parents={"w": "b"}), row(1, parents={"w": "a"})]
    assert travelled(addresses(rows)) == [
        {"at": "1-2", "ids": ["r1", "r2"], "parents": {"w": "a"}, "attached": "", "submitted": [None, None]},
        {"at": "0", "ids": ["r0"], "parents": {"w": "b"}, "attached": "", "submitted": [None]},
    ]


def test_runs_that_were_given_say_nothing_of_a_submit() -> None:
    given = [row(index, state=RowState.ATTACHED, attached=True) for index in range(3)]
    assert addresses(given) == [{"at": "0-2", "ids": ["r0", "r1", "r2"]}]
    read = runs_at(addresses(given), "nyx")
    assert [(each.attached, each.state) for each in read] == [(True, RowState.ATTACHED)] * 3
    assert [(each.submitted_at, each.spent_before) for each in read] == [(None, 0.0)] * 3


def test_what_a_trigger_reads_is_what_the_worker_knew() -> None:
    rows = [
        row(0, submitted_at=5.0, parents={"w": "a"}),
        row(1, submitted_at=6.0, parents={"w": "a"}, state=RowState.ATTACHED, attached=True),
        row(4, submitted_at=7.0, parents={"w": "a"}, spent_before=1.5),
    ]
    made = travelled(addresses(rows))
    assert made == [
        {
            "at": "0-1,4",
            "ids": ["r0", "r1", "r4"],
            "parents": {"w": "a"},
            "attached": "1",
            "submitted": [5.0, 6.0, 7.0],
            "spent": [0.0, 0.0, 1.5],
        }
    ]
    read = runs_at(made, "onepin")
    assert [
        (each.index, each.key, each.run_id, each.submitted_at, each.attached, each.spent_before) for each in read
    ] == [
        (0, "r0", "r0", 5.0, False, 0.0),
        (1, "r1", "r1", 6.0, True, 0.0),
        (4, "r4", "r4", 7.0, False, 1.5),
    ]
    assert [each.ref("onepin") for each in read] == [
        RunRef(provider="onepin", run_id=each.run_id or "", parents={"w": "a"}) for each in rows
    ]
    with pytest.raises(ValueError, match="zip"):
        runs_at([{"at": "0-1", "ids": ["r0"]}], "nyx")


def test_rows_that_a_trigger_has_nothing_to_do_with_are_only_counted() -> None:
    rows = [
        over(0, spend=2.0),
        over(1, spend=0.5, spent_before=1.0),
        over(2, outcome=Outcome.FAILED, verdict=Verdict.FAIL),
        row(3, run_id=None, state=RowState.PLANNED),
    ]
    made = travelled(summary(rows))
    assert [(each["at"], each.get("spent")) for each in made] == [("0-1", 3.5), ("2", None), ("3", None)]
    known = [Row(index=index, key=str(index)) for index in range(4)]
    counted = Ledger(merged(made, known)).tally
    whole = Ledger(rows).tally
    assert (counted.outcomes, counted.verdicts, counted.states) == (whole.outcomes, whole.verdicts, whole.states)
    assert counted.spend == whole.spend == 3.5


# --- back to the worker ---


def test_runs_that_ended_alike_come_back_as_one_entry_with_what_each_has_spent() -> None:
    ended = [
        over(3, spend=1.0),
        over(0),
        over(1),
        over(2, outcome=Outcome.FAILED, verdict=Verdict.FAIL, reason="broke"),
    ]
    made = travelled(ends(ended))
    assert [(each["at"], each.get("spends")) for each in made] == [("0-1,3", [None, None, 1.0]), ("2", None)]
    known = [row(index, submitted_at=9.0, parents={"w": "a"}) for index in range(4)]
    read = sorted(merged(made, known), key=lambda each: each.index)
    assert [(each.outcome, each.spend, each.reason) for each in read] == [
        (Outcome.SUCCEEDED, None, None),
        (Outcome.SUCCEEDED, None, None),
        (Outcome.FAILED, None, "broke"),
        (Outcome.SUCCEEDED, 1.0, None),
    ]
    # The address is the worker's own.
    assert {(each.submitted_at, each.parents["w"], each.key == f"r{each.index}") for each in read} == {(9.0, "a", True)}
    assert [each.spent_before for each in read] == [0.0] * 4


def test_the_worker_s_rows_stand_as_the_event_says() -> None:
    ledger = Ledger([row(0), row(1)])
    event = {"version": 1, "kind": "runs", "end": "all", "rows": ends([over(1)])}
    assert read_event(event, ledger).end == "all"
    assert [each.outcome for each in ledger] == [None, Outcome.SUCCEEDED]


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        ([{"s": "ended"}], "KeyError"),
        ([{"at": "7", "s": "ended"}], "IndexError"),
        ([{"at": "x", "s": "ended"}], "ValueError"),
        ([{"at": "0-1", "s": "ended", "spends": [1]}], "ValueError"),
    ],
)
def test_an_event_whose_rows_are_none_is_a_crash_and_changes_none(rows: list[Any], kind: str) -> None:
    ledger = Ledger([row(0), row(1)])
    with pytest.raises(TriggerCrashed, match=rf"The trigger's event cannot be read: {kind}\."):
        read_event({"version": 1, "kind": "runs", "rows": rows}, ledger)
    assert list(ledger) == [row(0), row(1)]


# --- what the waits have learnt ---


def test_what_waits_have_learnt_travels_without_what_is_not_known() -> None:
    past = {0: WaitProgress(seen=True), 1: WaitProgress(seen=False), 2: WaitProgress(seen=True, failing_since=5.0)}
    made = travelled(clocks(past, [row(index) for index in range(4)], 9.0))
    assert made == {"as_of": 9.0, "unseen": "1,3", "rows": {"2": {"failing_since": 5.0}}}
    assert clocks({0: WaitProgress(seen=True)}, [row(0)], 9.0) == {"as_of": 9.0, "unseen": ""}


CLOCKS = {
    "failing_since": 1.0,
    "parked_since": 2.0,
    "provisional_since": 3.0,
    "refused_since": 4.0,
    "changed_at": 5.0,
    "signature": "abc",
}


@pytest.mark.parametrize("name", CLOCKS)
def test_each_clock_of_a_wait_travels_to_the_process_that_goes_on(name: str) -> None:
    learnt = WaitProgress(**{"seen": True, name: CLOCKS[name]})
    assert learnt_of(learnt) == {name: CLOCKS[name]}
    read = waits(travelled(clocks({0: learnt}, [row(0)], 9.0)), [row(0)], began=7.0, now=9.0)
    assert (getattr(read[0], name), read[0].seen, read[0].began) == (CLOCKS[name], True, 7.0)


def test_where_nothing_is_told_no_run_was_seen() -> None:
    read = waits({}, [row(0), row(3)], began=None, now=9.0)
    assert sorted(read) == [0, 3]
    assert {(each.seen, each.accepted) for each in read.values()} == {(False, False)}
    told = waits({"unseen": "3", "accepted": True}, [row(0), row(3)], began=None, now=9.0)
    assert [(told[index].seen, told[index].accepted) for index in (0, 3)] == [(True, True), (False, True)]


# --- lists as templates give them ---


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (["a"], ["a"]),
        (("a", "b"), ["a", "b"]),
        ('["a", "b"]', ["a", "b"]),
        ("[]", []),
        (None, None),
        (7, 7),
        ({"a": 1}, {"a": 1}),
        (b"ab", b"ab"),
        (range(2), [0, 1]),
    ],
    ids=str,
)
def test_a_list_may_come_as_one_or_as_the_text_of_one(value: Any, found: Any) -> None:
    assert list_of(value) == found
    assert type(list_of(value)) is type(found)


@pytest.mark.parametrize("text", ["a", "", '{"a": 1}', "'a'", "[1"])
def test_a_text_that_is_no_list_is_refused_by_the_name_of_its_field(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^run_ids is a text and no list"):
        list_of(text)
    with pytest.raises(ConfigurationError, match=r"^calls is a text and no list"):
        list_of(text, field="calls")


@pytest.mark.parametrize(
    ("value", "known"),
    [
        ("a", True),
        ("{{ ds }}", False),
        ("{% if x %}", False),
        (["a", {"b": ("c",)}], True),
        (["a", "{{ b }}"], False),
        ({"a": ["{% b %}"]}, False),
        (("a", "{{ b }}"), False),
        (7, True),
        (None, True),
        (SimpleNamespace(resolve=None), False),
        ([SimpleNamespace(resolve=None)], False),
        ({}, True),
    ],
    ids=str,
)
def test_what_a_template_or_another_task_gives_is_not_known_in_the_dag(value: Any, known: bool) -> None:
    assert written(value) is known


@pytest.mark.parametrize(
    ("named", "parents", "found"),
    [
        ({}, None, None),
        ({}, {"w": "a"}, {"w": "a"}),
        ({}, ' {"w": "a"}', {"w": "a"}),
        ({}, '[{"w": "a"}]', [{"w": "a"}]),
        ({}, ({"w": "a"},), [{"w": "a"}]),
        ({"w": "a", "v": None}, None, {"w": "a"}),
        ({"w": None}, {"w": "b"}, {"w": "b"}),
        ({"w": ["a", "b"], "v": "c"}, None, [{"w": "a", "v": "c"}, {"w": "b", "v": "c"}]),
        ({"w": ' ["a"]', "v": ("c",)}, None, [{"w": "a", "v": "c"}]),
        ({"w": b"a"}, None, {"w": b"a"}),
    ],
    ids=str,
)
def test_parents_are_one_for_all_runs_or_one_for_each(named: dict[str, Any], parents: Any, found: Any) -> None:
    assert parents_of(named, parents) == found


def test_parents_in_lists_of_different_lengths_are_refused_by_their_names() -> None:
    with pytest.raises(
        ConfigurationError, match=r"w, v must be lists of the same length, with one entry for each run\."
    ):
        parents_of({"w": ["a", "b"], "x": "c", "v": ["d"]}, None)
    with pytest.raises(ConfigurationError, match=r"^parents is a text and no list"):
        parents_of({}, "a")
