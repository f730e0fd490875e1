"""The runs of one submitter, found by their marks in a parent's list."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runops.core import Provider, find
from runops.core.model.errors import RunNotFound
from runops.core.waiting.intent import new_mark, submitter, submitter_of_mark
from runops.core.waiting.own_runs import MarkedRuns, marked_runs, runs_of, shows_marks
from runops.core.waiting.steps import Effect, Flow, Reply, Send
from tests.flows import drive

NYX, NEXIO, NEKT = find("nyx"), find("nexio"), find("nekt")
PARENT = {"config_name": "nightly"}
OURS, THEIRS = "dag/run/task", "dag/run/other"


def run(run_id: str, name: str, status: str = "running", minute: int = 0) -> dict[str, Any]:
    moment = f"2026-03-01T00:{minute:02}:00Z"
    result = "success" if status == "completed" else None
    told = {"run_id": run_id, "config_name": "nightly", "name": name, "status": status, "result": result}
    return {**told, "created_at": moment}


def driven(flow: Flow[Any], rows: list[dict[str, Any]], latest: dict[str, Any] | None) -> tuple[Any, list[str]]:
    """What a flow gives, and the paths that it asks for."""
    paths: list[str] = []

    def reply_to(effect: Effect) -> Reply:
        assert isinstance(effect, Send)
        paths.append(effect.request.path)
        if "/by-config/" not in effect.request.path:
            return Reply(json.dumps({"runs": rows}).encode(), None)
        if latest is None:
            raise RunNotFound("No run.", status=404, is_json=True)
        return Reply(json.dumps(latest).encode(), None)

    return drive(flow, reply_to), paths


def ids(runs: tuple[Any, ...]) -> list[str]:
    return [each.ref.run_id for each in runs]


def clock() -> float:
    return 0.0


def test_runs_are_told_by_their_marks_and_those_that_go_on_come_first() -> None:
    ours, other, theirs = new_mark(OURS), new_mark(OURS), new_mark(THEIRS)
    rows = [
        run("newest", f"Audit {ours}", "completed", 5),
        run("theirs", f"Audit {theirs}", "running", 4),
        run("unmarked", "Audit", "running", 3),
        run("open", f"Audit {other}", "running", 2),
        run("over", f"Audit {ours}", "cancelled", 1),
    ]
    found, paths = driven(runs_of(NYX, PARENT, OURS, clock=clock), rows, rows[0])
    assert paths == ["/v1/nyx/runs", "/v1/nyx/runs/by-config/nightly"]
    assert found.whole
    assert ids(found.ours) == ["open", "newest", "over"]
    assert ids(found.active) == ["theirs", "unmarked", "open"]


def test_all_submitters_are_told_in_one_look() -> None:
    rows = [run("a", f"x {new_mark(OURS)}"), run("b", f"x {new_mark(THEIRS)}"), run("c", f"x {new_mark()}")]
    found, _ = driven(marked_runs(NYX, PARENT, clock=clock), rows, None)
    assert {who: ids(runs) for who, runs in found.by_submitter.items()}.keys() >= {submitter(OURS), submitter(THEIRS)}
    assert ids(found.of(OURS).ours) == ["a"]
    assert ids(found.of(THEIRS).ours) == ["b"]
    assert found.of("nobody").ours == ()
    assert found.of(OURS).active == found.active
    assert len(found.by_submitter) == 3


def test_the_newest_run_counts_too_where_the_list_lags_behind_its_own_route() -> None:
    newest = run("newest", f"x {new_mark(OURS)}")
    found, _ = driven(runs_of(NYX, PARENT, OURS, clock=clock), [run("old", "x", "completed")], newest)
    assert ids(found.ours) == ids(found.active) == ["newest"]


def test_an_entry_that_cannot_be_read_may_be_ours() -> None:
    found, _ = driven(runs_of(NYX, PARENT, OURS, clock=clock), [run("a", "x"), {"status": "running"}], None)
    assert not found.whole
    assert ids(found.active) == ["a"]


@pytest.mark.parametrize(("provider", "parent"), [(NEXIO, {"engine_slug": "placement"}), (NYX, {})])
def test_without_a_list_nothing_is_sent_and_nothing_told(provider: Provider, parent: dict[str, str]) -> None:
    found, paths = driven(marked_runs(provider, parent, clock=clock), [], None)
    assert (found, paths) == (MarkedRuns(), [])
    assert (found.whole, found.of(OURS).whole) == (False, False)


def test_marks_are_shown_where_there_is_a_list_and_a_text_to_write_them_in() -> None:
    assert {name: shows_marks(find(name)) for name in ("nexio", "nyx", "onepin", "b3os", "nekt")} == {
        "nexio": False, "nyx": True, "onepin": False, "b3os": False, "nekt": False,
    }  # fmt: skip


def test_a_mark_names_its_submitter_and_no_two_are_alike() -> None:
    marks = {new_mark(OURS) for _ in range(50)}
    assert len(marks) == 50
    assert {submitter_of_mark(f"Audit {mark} \n") for mark in marks} == {submitter(OURS)}
    assert {len(mark) for mark in marks} == {15}
    assert len({new_mark() for _ in range(50)}) == 50
    for text in ("Audit", "[bcdfghjklmnp]", "[bcdfghjklmnpqr]", "[aeioubcdfghjk]", f"{new_mark(OURS)} audit"):
        assert submitter_of_mark(text) is None
