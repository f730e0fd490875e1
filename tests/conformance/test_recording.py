"""What a recording keeps of each answer, file by file, and the script that plays the same run again."""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runops.conformance.record import RawAnswer, Recording, follow, saved
from runops.core import ConfigurationError, Provider
from runops.core.model.cadence import Cadence
from runops.core.model.errors import MalformedAnswer
from runops.core.transport.base import Answer
from runops.core.waiting.steps import Send, Sleep
from tests.conformance.acme_runs import ACME, variant
from tests.conformance.variants import JOB, asked, listing, other

BARE = {"job_id": "J-7", "state": "QUEUED", "made": "2026-03-01T10:00:00Z"}
ENDED = {"ended": "2026-03-01T10:09:00Z", "error": "the press of jane@example.test broke"}
REQUEST = {"method": "GET", "path": "/v3/jobs/run-1", "headers": {"X-Acme-Key": "acme_stand-in"}}
JSON = {"content-type": "application/json"}


def raw(run: dict[str, Any] | None = None, route: str = "status", **settings: Any) -> RawAnswer:
    return RawAnswer(route, json.dumps({"answer": {"job": {**BARE, **(run or {})}}}).encode(), **settings)


def recording(provider: Provider = ACME, words: frozenset[str] = frozenset()) -> Recording:
    return Recording(provider, provider.ref("J-7"), words)


# --- files -------------------------------------------------------------------------------------------------------


def test_an_answer_is_kept_with_its_request_and_with_what_it_is_read_as() -> None:
    made = recording()
    made.add(raw({"state": "BROKEN", "plant": "north", "began": None, **ENDED}, headers={"Retry-After": "7", "x": "y"}))
    assert made.notices == []
    assert made.files == {
        "01_status_failed.json": {
            "schema": 1,
            "route": "status",
            "request": REQUEST,
            "status": 200,
            "headers": {"retry-after": "7"},
            "body": {
                "answer": {
                    "job": {
                        "job_id": "run-1",
                        "state": "BROKEN",
                        "made": "2026-01-01T00:00:00Z",
                        "plant": "plant-2",
                        "began": None,
                        "ended": "2026-01-01T00:09:00Z",
                        "error": "stand-in",
                    }
                }
            },
            "read_as": {
                "outcome": "failed",
                "run_id": "run-1",
                "created_at": "2026-01-01T00:00:00Z",
                "started_at": None,
                "finished_at": "2026-01-01T00:09:00Z",
                "details": {"plant": "plant-2"},
                "reason": "stand-in",
                "url": "https://acme.test/plant-2/run-1",
            },
        }
    }


def test_files_are_numbered_and_named_by_how_the_run_stands() -> None:
    made = recording(other(result=asked("GET", f"{JOB}/result", view="all")))
    made.add(raw())
    made.add(raw({"state": "ACTIVE"}), made.provider.ref("J-7"))
    made.add(raw({"state": "DONE"}, "result", status=203))
    assert list(made.files) == ["01_status_queued.json", "02_status_running.json", "03_result_succeeded.json"]
    result = made.files["03_result_succeeded.json"]
    assert result["request"]["path"] == "/v3/jobs/run-1/result"
    assert result["request"]["query"] == {"view": "all"}
    assert (result["status"], result["headers"]) == (203, JSON)
    assert "query" not in made.files["01_status_queued.json"]["request"]


def test_an_answer_about_another_run_bears_an_id_of_its_own() -> None:
    made = recording()
    made.add(raw({"job_id": "J-8"}), ACME.ref("J-8"))
    (kept,) = made.files.values()
    assert kept["request"]["path"] == "/v3/jobs/run-2"
    assert kept["read_as"]["run_id"] == "run-2"


@pytest.mark.parametrize(("words", "word"), [(frozenset[str](), "unknown-word"), (frozenset({"ODD"}), "ODD")])
def test_a_word_that_stands_in_no_table_is_noticed(words: frozenset[str], word: str) -> None:
    made = recording(words=words)
    made.add(raw({"state": "ODD"}))
    assert made.notices == ["A word stands in no table, and is not kept; --keep-word WORD keeps it."]
    (kept,) = made.files.values()
    assert kept["body"]["answer"]["job"]["state"] == word


def test_an_answer_that_cannot_be_read_is_kept_as_its_error() -> None:
    made = recording()
    made.add(RawAnswer("status", b'{"answer": {"job": {"job_id": "J-7", "owner": "jane"}}}'))
    (name,) = made.files
    assert name == "status.json"
    assert made.files[name]["read_as"] == {"error": "MalformedAnswer"}
    assert made.files[name]["body"] == {"answer": {"job": {"job_id": "run-1", "field_1": "stand-in"}}}


# --- pages -------------------------------------------------------------------------------------------------------

PAGE = {
    "jobs": [
        {**BARE, "state": "ACTIVE", "plant": "north"},
        {**BARE, "job_id": "J-8", "state": "DONE", "plant": "north"},
    ]
}


@pytest.mark.parametrize(("cursor", "more"), [("c-2", True), (None, False)])
def test_a_page_is_kept_with_its_runs_and_whether_one_follows(cursor: str | None, more: bool) -> None:
    made = recording()
    made.add_page(RawAnswer("list", json.dumps({**PAGE, "next_cursor": cursor}).encode()), {"plant": "north"})
    (name,) = made.files
    assert name == "list.json"
    kept = made.files[name]
    assert kept["request"] == {**REQUEST, "path": "/v3/plants/plant-2/jobs"}
    assert (kept["route"], kept["status"], kept["headers"]) == ("list", 200, JSON)
    assert kept["body"]["next_cursor"] == ("stand-in" if more else None)
    assert kept["read_as"] == {
        "parent": {"plant": "plant-2"},
        "runs": [{"run_id": "run-1", "phase": "running"}, {"run_id": "run-3", "outcome": "succeeded"}],
        "more": more,
    }


def test_of_a_list_of_one_page_nothing_is_said_of_a_further_one() -> None:
    route = asked("GET", "/v3/plants/{plant}/jobs", sort="new")
    made = recording(listing(route=route, paging=None, next=(), parameter=None))
    made.add_page(RawAnswer("list", json.dumps(PAGE).encode(), status=206), {"plant": "north"})
    kept = made.files["list.json"]
    assert list(kept["read_as"]) == ["parent", "runs"]
    assert (kept["status"], kept["request"]["query"]) == (206, {"sort": "new"})


# --- the script --------------------------------------------------------------------------------------------------


def test_the_script_plays_each_change_at_its_moment() -> None:
    made = recording()
    made.add(raw({"plant": "north", "note": "n"}))
    made.add(raw({"state": "ACTIVE", "plant": "north", "note": "n", "began": "2026-03-01T10:01:00Z"}, at=60.0004))
    made.add(raw({"state": "BROKEN", "note": "n", "began": "2026-03-01T10:01:00Z", **ENDED}, at=540.0))
    assert made.script() == {
        "provider": "acme_jobs",
        "run_id": "run-1",
        "fields": {"made": "$now", "plant": "plant-2", "field_1": "stand-in"},
        "script": [
            {"at": 0.0, "set": {"state": "QUEUED"}},
            {"at": 60.0, "set": {"state": "ACTIVE", "began": "$now"}},
            {"at": 540.0, "set": {"state": "BROKEN", "ended": "$now", "error": "stand-in"}, "unset": ["plant"]},
        ],
    }


def test_the_script_names_the_parents_of_the_address_and_leaves_times_that_are_none() -> None:
    placed = variant(
        "acme_other",
        status=asked("GET", "/v3/plants/{plant_id}/jobs/{run_id}"),
        cancel=None,
        listing=None,
        submit=None,
        link="https://acme.test/{run_id}",
    )
    made = Recording(placed, placed.ref("J-7", {"plant_id": "north"}))
    made.add(raw({"began": None, "ended": ""}))
    told = made.script()
    assert told["parents"] == {"plant_id": "plant-1"}
    assert told["run_id"] == "run-2"
    assert told["fields"] == {"made": "$now", "began": None, "ended": ""}
    (kept,) = made.files.values()
    assert kept["request"]["path"] == "/v3/plants/plant-1/jobs/run-2"


# --- writing -----------------------------------------------------------------------------------------------------


def test_the_files_and_the_script_are_written_into_a_new_folder(tmp_path: Path) -> None:
    made = recording()
    made.add(raw())
    folder = tmp_path / "a" / "b"
    assert made.write(folder) == ["01_status_queued.json", "script.json"]
    assert json.loads((folder / "script.json").read_text()) == made.script()
    text = (folder / "01_status_queued.json").read_text()
    assert text.startswith('{\n  "schema": 1,\n')
    assert text.endswith("}\n")


def test_without_an_answer_of_the_status_route_there_is_no_script(tmp_path: Path) -> None:
    made = recording()
    made.add_page(RawAnswer("list", json.dumps(PAGE).encode()), {"plant": "north"})
    (tmp_path / "a").mkdir()
    assert made.write(tmp_path / "a") == ["list.json"]


def test_a_place_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(ConfigurationError) as raised:
        recording().write(tmp_path / "a" / "b")
    assert raised.value.text == f"--to {str(tmp_path / 'a' / 'b')!r} cannot be written: Not a directory."


# --- what is recorded --------------------------------------------------------------------------------------------


def answers_of(
    flow: Generator[Any, Any, Any], clock: list[float], runs: list[Any]
) -> tuple[list[RawAnswer], list[float]]:
    """Drive a flow: answer each read with the next run, pass the time of each sleep."""
    slept: list[float] = []
    left = list(runs)
    reply: Any = None
    while True:
        try:
            effect = flow.send(reply)
        except StopIteration as end:
            return end.value, slept
        if isinstance(effect, Sleep):
            slept.append(effect.seconds)
            clock[0] += effect.seconds
            reply = None
        else:
            assert isinstance(effect, Send)
            reply = Answer(200, JSON, raw(left.pop(0)).content)


def followed(runs: list[Any], *, until_over: bool = True, timeout: float = 1_000.0) -> tuple[list[Any], list[float]]:
    provider = replace(ACME, cadence=Cadence(first=10.0, factor=2.0, ceiling=30.0))
    clock = [500.0]
    flow = follow(provider, provider.ref("J-7"), clock=lambda: clock[0], until_over=until_over, timeout=timeout)
    found, slept = answers_of(flow, clock, runs)
    assert {(each.route, each.status, each.headers["content-type"]) for each in found} == {
        ("status", 200, JSON["content-type"])
    }
    return [(each.at, json.loads(each.content)["answer"]["job"]["state"]) for each in found], slept


QUEUED: dict[str, Any] = {}
ACTIVE = {"state": "ACTIVE"}
DONE = {"state": "DONE"}


@pytest.mark.parametrize(
    ("runs", "settings", "states", "sleeps"),
    [
        ([QUEUED], {"until_over": False}, ["QUEUED"], 0),
        ([DONE], {}, ["DONE"], 0),
        ([QUEUED, QUEUED, ACTIVE, DONE], {}, ["QUEUED", "ACTIVE", "DONE"], 3),
        ([QUEUED, {"state": "ODD"}, DONE], {}, ["QUEUED", "ODD", "DONE"], 2),
        ([QUEUED], {"timeout": 0.0}, ["QUEUED"], 0),
        ([QUEUED, ACTIVE], {"timeout": 10.0}, ["QUEUED", "ACTIVE"], 1),
        ([QUEUED, ACTIVE, ACTIVE], {"timeout": 10.5}, ["QUEUED", "ACTIVE"], 2),
    ],
)
def test_a_run_is_followed_from_change_to_change_until_it_is_over(
    runs: list[Any], settings: Any, states: list[str], sleeps: int
) -> None:
    found, slept = followed(runs, **settings)
    assert [state for _, state in found] == states
    assert len(slept) == sleeps
    assert found[0][0] == 0.0
    assert slept[:1] == [10.0][:sleeps]
    if states[-1] == "DONE":
        assert found[-1][0] == sum(slept)


def test_saved_answers_are_ten_seconds_apart_and_the_first_names_the_run() -> None:
    ref, answers = saved(ACME, [raw().content, b"{}", b"[]"], {})
    assert ref == ACME.ref("J-7")
    assert answers == [
        RawAnswer("status", raw().content, 0.0),
        RawAnswer("status", b"{}", 10.0),
        RawAnswer("status", b"[]", 20.0),
    ]
    assert saved(ACME, [raw({"job_id": 71}).content], {})[0].run_id == "71"


@pytest.mark.parametrize("run", [{"job_id": None}, {"job_id": True}, {"job_id": ["J-7"]}])
def test_a_first_answer_that_names_no_run_is_refused(run: dict[str, Any]) -> None:
    with pytest.raises(
        MalformedAnswer, match=r"^The first answer names no run where the declaration looks for its id\."
    ):
        saved(ACME, [raw(run).content], {})


def test_what_came_is_not_shown() -> None:
    text = repr(RawAnswer("status", b"jane", 1.5, 201, {"x": "jane"})) + repr(recording())
    assert "jane" not in text
    assert "J-7" not in text
    assert "at=1.5, status=201" in text
