"""What a sensor remembers of its targets, what it does with its time, and how both travel as a cursor."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest

from runops.core import Outcome, Phase, RunRef, RunSnapshot, find
from runops.core.waiting.listing import Listed
from runops.dagster.tick.cursor import Cursor, TargetMemory
from runops.dagster.tick.plan import fingerprint, given_runs
from runops.dagster.tick.reader import Budget, OutOfTimeError, request_seconds

SINCE = datetime(2026, 11, 28, 12, 0, tzinfo=UTC).timestamp()


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(SINCE + seconds, tz=UTC)


def run(run_id: str, **fields: Any) -> RunSnapshot:
    given = {"outcome": None if "phase" in fields else Outcome.SUCCEEDED, **fields}
    return RunSnapshot(ref=RunRef(provider="b3os", run_id=run_id), state="s", **given)


def listed(*runs: RunSnapshot) -> Listed:
    return Listed(runs, whole=True, newest=None, oldest=None)


# --- one target ------------------------------------------------------------------------------------------------


def test_the_first_list_brings_what_is_open_or_has_ended_since_the_oldest_first() -> None:
    memory = TargetMemory("w")
    memory.begin(
        listed(
            run("open", phase=Phase.RUNNING, created_at=at(-900)),
            run("open-undated", phase=Phase.QUEUED),
            run("now", created_at=at(-800), finished_at=at(0)),
            run("late", created_at=at(-700), finished_at=at(1)),
            run("early", created_at=at(-700), finished_at=at(-1)),
            run("born-late", created_at=at(5)),
            run("born-early", created_at=at(-5)),
            run("undated"),
        ),
        SINCE,
    )
    assert memory.runs.open == {
        "born-late": SINCE + 5,
        "late": SINCE - 700,
        "now": SINCE - 800,
        "open-undated": 0.0,
        "open": SINCE - 900,
    }
    assert list(memory.runs.open) == ["born-late", "late", "now", "open-undated", "open"]


def test_a_gap_is_told_once() -> None:
    memory = TargetMemory("w")
    memory.begin(listed(), SINCE)
    memory.runs.gap = True
    assert memory.go_on(listed()) is True
    assert memory.go_on(listed()) is False


def test_given_runs_are_followed_once_each_and_what_is_not_given_any_more_is_forgotten() -> None:
    memory = TargetMemory("runs")
    memory.follow(["a", "b", "c"])
    assert memory.runs.open == {"a": 0.0, "b": 0.0, "c": 0.0}
    memory.put_last("a")
    memory.close("b")
    memory.follow(["a", "b", "c", "d"])
    assert list(memory.runs.open) == ["c", "a", "d"]
    assert list(memory.runs.done) == ["b"]
    memory.follow(["c"])
    assert (list(memory.runs.open), list(memory.runs.done)) == (["c"], [])


def test_a_doubt_lasts_from_its_first_moment_until_the_run_is_dealt_with() -> None:
    memory = TargetMemory("w", clocks={"a": {"began": 1.0}, "b": {"began": 2.0}})
    memory.follow(["a", "b"])
    assert [memory.doubted_for("a", now) for now in (100.0, 130.0, 190.0)] == [0.0, 30.0, 90.0]
    assert memory.doubted_for("b", 200.0) == 0.0
    memory.close("a")
    assert (memory.doubtful, memory.clocks) == ({"b": 200.0}, {"b": {"began": 2.0}})
    assert memory.doubted_for("a", 300.0) == 0.0


# --- the cursor ------------------------------------------------------------------------------------------------


def remembered() -> Cursor:
    memory = TargetMemory("w1", doubtful={"a": 5.0}, newest_event=7, clocks={"a": {"began": 1.0}})
    memory.follow(["a", "b"])
    memory.close("b")
    return Cursor({"out/a": memory, "out/b": TargetMemory("w2")}, "out/b")


def test_a_cursor_is_read_as_it_was_written() -> None:
    written = remembered().dump()
    found = Cursor.parse(written)
    assert found.dump() == written
    assert found.first == "out/b"
    memory = found.targets["out/a"]
    assert (memory.watches, memory.doubtful, memory.newest_event) == ("w1", {"a": 5.0}, 7)
    assert (memory.clocks, list(memory.runs.open), list(memory.runs.done)) == ({"a": {"began": 1.0}}, ["a"], ["b"])


def test_what_stands_in_a_cursor_is_short_and_has_a_version() -> None:
    value = json.loads(remembered().dump())
    assert value["version"] == 2
    assert set(value) == {"version", "first", "targets"}
    assert set(value["targets"]["out/a"]) == {"watches", "trail", "doubtful", "newest_event", "clocks"}
    assert set(value["targets"]["out/b"]) == {"watches", "trail", "doubtful", "newest_event"}
    assert " " not in remembered().dump()


def test_the_cursor_of_the_first_release_is_read_too() -> None:
    value = json.loads(remembered().dump())
    assert Cursor.parse(json.dumps({**value, "version": 1})).targets["out/a"].newest_event == 7


def test_the_next_tick_forgets_what_is_watched_no_more_and_knows_where_to_begin() -> None:
    keys = [dg.AssetKey(["out", "b"]), dg.AssetKey(["out", "c"])]
    found = remembered().for_next_tick(keys, dg.AssetKey(["out", "c"]))
    assert (list(found.targets), found.first) == (["out/b"], "out/c")


def test_a_memory_is_that_of_the_same_parent_or_a_fresh_one() -> None:
    cursor = remembered()
    assert cursor.memory("out/a", "w1") is cursor.targets["out/a"]
    for name, watches in (("out/a", "w2"), ("out/c", "w1")):
        assert cursor.memory(name, watches) == TargetMemory(watches)


# --- what is watched -------------------------------------------------------------------------------------------

REF = RunRef(provider="b3os", run_id="r")


@pytest.mark.parametrize(
    ("watched", "given"),
    [("wf", None), ({"workflow_id": "wf"}, None), (REF, [REF]), ([REF, REF], [REF, REF]), ([], [])],
)
def test_a_target_names_runs_or_a_parent(watched: Any, given: Any) -> None:
    assert given_runs(watched) == given


def test_equal_parents_have_one_fingerprint_however_they_are_written_and_all_runs_another() -> None:
    b3os, onepin = find("b3os"), find("onepin")
    parent: Mapping[str, str] = {"workflow_id": "wf"}
    known = fingerprint(b3os, "wf")
    assert fingerprint(b3os, parent) == known
    assert len(known) == 16
    assert len({known, fingerprint(b3os, "wf2"), fingerprint(onepin, parent)}) == 3
    assert fingerprint(b3os, REF) == fingerprint(b3os, [REF, REF]) == "runs"


# --- the time of a tick ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tick", "most", "seconds"), [(36.0, 30.0, 9.0), (100.0, 20.0, 20.0), (2.0, 30.0, 1.0), (2.0, 0.5, 0.5)]
)
def test_a_request_of_a_tick_may_take_a_quarter_of_it_and_a_second_at_least(
    tick: float, most: float, seconds: float
) -> None:
    assert request_seconds(tick, most) == seconds


def test_a_tick_goes_on_only_while_it_has_time(clock: Any) -> None:
    budget = Budget(30.0)
    assert [budget.has(seconds) for seconds in (0.0, 29.9, 30.0, 31.0)] == [True, True, False, False]
    budget.check()
    budget.check(29.9)
    with pytest.raises(OutOfTimeError):
        budget.check(30.0)
    began = clock.now
    budget.sleep(10.0)
    budget.sleep(0.0)
    assert clock.now == began + 10.0
    with pytest.raises(OutOfTimeError):
        budget.sleep(20.0)
    assert clock.now == began + 10.0
    clock.now += 20.0
    with pytest.raises(OutOfTimeError):
        budget.check()
    # A pause of no length asks for no time.
    budget.sleep(0.0)
