"""What each value of an answer becomes in a recorded folder: which are kept, which are made up, and up to what size."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel

from runops.conformance.stand_ins import StandIns, headers, key_header
from runops.core import Outcome, StateTable
from runops.core.declaration import AuthScheme, Listing, Route, Text
from tests.conformance.acme_runs import ACME, AcmeJob, variant

JOB = {"job_id": "J-1", "state": "DONE"}
MADE_UP = {"job_id": "run-1", "state": "DONE"}


class Site(BaseModel):
    """A part of a job."""

    place: str | None = None


class Detailed(AcmeJob):
    """A job with an object, with a parent, and with two texts that decide."""

    site: Site | None = None
    plant_id: Any = None
    stopped: Text = None
    result: Text = None

    def qualifier(self) -> str | None:
        return self.result


def detailed(**changes: Any) -> StandIns:
    states = StateTable({"DONE": {None: Outcome.SUCCEEDED, "Poor": Outcome.DEGRADED}, "BROKEN": Outcome.FAILED})
    return StandIns(variant("acme_detailed", body=Detailed, states=states, envelope=None, **changes))


# --- values ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "made"),
    [
        (True, False),
        (False, False),
        (77, 1),
        (7.5, 1.0),
        ("a text", "stand-in"),
        ("", "stand-in"),
        ("kept", "kept"),
        (None, None),
        ([1, 2, 3], [1, 1]),
        (["kept", "other"], ["kept", "stand-in"]),
        ({"a": 1, "code": 2, "b": {"a": "kept"}}, {"field_1": 1, "code": 1, "field_2": {"field_1": "kept"}}),
        ([{"code": "kept"}], [{"code": "kept"}]),
        ([[[[[1]]]]], [[[[[]]]]]),
        ({"code": {"code": {"code": {"code": {"code": 1}}}}}, {"code": {"code": {"code": {"code": {}}}}}),
    ],
)
def test_a_value_that_nothing_reads_keeps_its_type_and_its_shape(value: Any, made: Any) -> None:
    shown = StandIns(ACME).anything(value, frozenset({"code"}), keep=frozenset({"kept"}))
    assert shown == made
    assert type(shown) is type(made)


def test_how_deep_a_value_stands_counts_too() -> None:
    assert StandIns(ACME).anything([[1]], deep=3) == [[]]
    assert StandIns(ACME).anything({"a": {"b": 1}}, deep=3) == {"field_1": {}}


@pytest.mark.parametrize(("keys", "left"), [(20, 20), (21, 20)])
def test_an_object_that_nothing_reads_keeps_twenty_keys(keys: int, left: int) -> None:
    assert len(StandIns(ACME).anything(dict.fromkeys(map(str, range(keys))))) == left


@pytest.mark.parametrize(("more", "left"), [(20, 22), (40, 32)])
def test_a_run_keeps_its_own_keys_and_twenty_more_than_are_declared(more: int, left: int) -> None:
    made = StandIns(ACME).run({**{str(key): {"a": [[[1]]]} for key in range(more)}, **JOB})
    assert len(AcmeJob.model_fields) == 10
    assert len(made) == left
    assert {"job_id", "state"} <= set(made)
    assert made["field_2"] == {"field_1": [[[]]]}


def test_beside_the_envelope_twenty_keys_are_kept_and_two_hundred_looked_at() -> None:
    beside = dict.fromkeys(map(str, range(30)), 1)
    made = StandIns(ACME).run_answer({**beside, "answer": {"job": JOB}})
    assert len(made) == 21
    assert made["answer"] == {"job": MADE_UP}
    assert made["field_1"] == 1
    last = dict.fromkeys(map(str, range(199)), 1)
    assert "answer" in StandIns(ACME).run_answer({**last, "answer": {"job": JOB}})
    assert "answer" not in StandIns(ACME).run_answer({**last, "one more": 1, "answer": {"job": JOB}})


@pytest.mark.parametrize(("beside", "left"), [(18, 20), (19, 20), (20, 20)])
def test_a_run_that_is_not_last_counts_among_the_keys(beside: int, left: int) -> None:
    answer = {"answer": {"job": JOB}, **{str(key): {"a": [[[1]]]} for key in range(beside)}}
    made = StandIns(ACME).run_answer(answer)
    assert len(made) == min(beside + 1, left)
    assert made["field_2"] == {"field_1": [[[]]]}


# --- a run -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("run", "made"),
    [
        (JOB, MADE_UP),
        ({**JOB, "state": " done "}, {**MADE_UP, "state": " done "}),
        ({**JOB, "state": "GONE"}, {**MADE_UP, "state": "unknown-word"}),
        ({**JOB, "state": 7}, {**MADE_UP, "state": 1}),
        ({**JOB, "job_id": 71}, {**MADE_UP, "job_id": 1001}),
        ({**JOB, "job_id": "71"}, {**MADE_UP, "job_id": "1001"}),
        ({**JOB, "job_id": True}, {**MADE_UP, "job_id": False}),
        ({**JOB, "job_id": ""}, {**MADE_UP, "job_id": "stand-in"}),
        ({**JOB, "job_id": 7.5}, {**MADE_UP, "job_id": 1.0}),
        ({**JOB, "job_id": None}, {**MADE_UP, "job_id": None}),
        ({**JOB, "plant": "north"}, {**MADE_UP, "plant": "plant-2"}),
        ({**JOB, "plant": None}, {**MADE_UP, "plant": None}),
        (
            {**JOB, "plant": {"id": 7, "slug": "north", "name": "North", "more": [[[1]]]}},
            {**MADE_UP, "plant": {"id": 1002, "slug": "plant-3", "field_1": "stand-in", "field_2": [[[]]]}},
        ),
        ({**JOB, "label": "J-1"}, {**MADE_UP, "label": "run-1"}),
        ({**JOB, "label": "weekly"}, {**MADE_UP, "label": "stand-in"}),
        ({**JOB, "label": "2026-03-01T10:00:00Z"}, {**MADE_UP, "label": "2026-01-01T00:00:00Z"}),
        ({**JOB, "parts": 12}, {**MADE_UP, "parts": 1}),
        ({**JOB, "note": {"a": [[[1]]]}}, {**MADE_UP, "field_2": {"field_1": [[[]]]}}),
        ({**JOB, "error": [[[[1]]]]}, {**MADE_UP, "error": [[[[]]]]}),
        ("no run", "stand-in"),
        ([JOB], [{"field_1": "stand-in", "field_2": "stand-in"}]),
    ],
)
def test_of_a_run_what_decides_is_kept_and_the_rest_is_made_up(run: Any, made: Any) -> None:
    assert StandIns(ACME).run(run) == made


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ({"site": {"place": "x", "more": [[[1]]]}}, {"site": {"place": "stand-in", "field_1": [[[]]]}}),
        ({"site": {"place": [[[1]]]}}, {"site": {"place": [[[]]]}}),
        ({"site": "x"}, {"site": "stand-in"}),
        ({"result": "poor"}, {"result": "poor"}),
        ({"result": " POOR "}, {"result": " POOR "}),
        ({"result": "rich"}, {"result": "stand-in"}),
        ({"stopped": "2026-03-01T10:00:00Z"}, {"stopped": "2026-01-01T00:00:00Z"}),
        ({"stopped": "no time"}, {"stopped": "stand-in"}),
        ({"stopped": ""}, {"stopped": "stand-in"}),
    ],
)
def test_a_part_and_a_text_that_decides_are_known_by_the_body(given: Any, made: Any) -> None:
    assert detailed().run({**JOB, **given}) == {**MADE_UP, **made}


def test_a_parent_is_one_of_the_address_or_of_the_list() -> None:
    body = type("Addressed", (Detailed,), {"__annotations__": {}})
    run = {**JOB, "plant_id": "p", "plant": "north"}
    both = StandIns(
        variant(
            "acme_detailed",
            body=body,
            envelope=None,
            status=Route("GET", "/v3/plants/{plant_id}/jobs/{run_id}"),
            cancel=None,
            listing=Listing(Route("GET", "/v3/plants/{plant_id}/jobs"), ("jobs",), ("plant_id",)),
            submit=None,
            spend=None,
            link="https://acme.test/{run_id}",
        )
    )
    assert both.run(run) == {**MADE_UP, "plant_id": "plant-2", "plant": "stand-in"}
    assert detailed(listing=None, submit=None).run(run)["plant"] == "stand-in"


@pytest.mark.parametrize(
    ("run", "made"),
    [
        ({"made": None, "began": "", "ended": 0}, {"made": None, "began": "", "ended": 0}),
        ({"made": "0001-01-01T00:00:00Z", "began": "null"}, {"made": None, "began": None}),
        ({"made": "no time", "began": True}, {"made": "stand-in", "began": "stand-in"}),
        (
            {"made": "2026-03-01T10:00:00Z", "began": "2026-03-01T10:00:01.250+00:00"},
            {"made": "2026-01-01T00:00:00Z", "began": "2026-01-01T00:00:01.250Z"},
        ),
        ({"made": "2026-03-01T12:00:00+02:00"}, {"made": "2026-01-01T00:00:00Z"}),
        ({"made": 1_770_000_000, "began": 1_770_000_060}, {"made": 1_767_225_600, "began": 1_767_225_660}),
        ({"made": 1_770_000_000.5, "began": 1_770_000_060.0}, {"made": 1_767_225_600.0, "began": 1_767_225_659.5}),
        (
            {"made": 1_770_000_000_000, "began": 1_770_000_060_000},
            {"made": 1_767_225_600_000, "began": 1_767_225_660_000},
        ),
        ({"made": 1_770_000_000_000_000}, {"made": 1_767_225_600_000_000}),
        ({"made": 1_770_000_000_000_000_000}, {"made": 1_767_225_600_000_000_000}),
    ],
)
def test_a_time_keeps_its_form_and_its_distance_to_the_first_one(run: Any, made: Any) -> None:
    shown = StandIns(ACME).run({**JOB, **run})
    assert {name: shown[name] for name in made} == made
    assert [type(shown[name]) for name in made] == [type(each) for each in made.values()]


def test_a_time_that_cannot_be_moved_is_a_stand_in() -> None:
    made = StandIns(ACME).run({**JOB, "made": "8998-01-01T00:00:00Z", "began": "1999-01-01T00:00:00Z"})
    assert made["began"] == "stand-in"


# --- ids and keys ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "kind", "made"),
    [
        ("J-1", "run", "run-1"),
        ("north", "plant_id", "plant-1"),
        ("a", "config_name", "config-name-1"),
        ("71", "run", "1001"),
        ("3fa85f64-5717-4562-b3fc-2c963f66afa6", "run", "00000000-0000-4000-8000-000000000001"),
        ("3fa85f64-5717-4562-b3fc-2c963f66afa", "run", "run-1"),
    ],
)
def test_an_id_keeps_its_form(value: str, kind: str, made: str) -> None:
    assert StandIns(ACME).id_of(value, kind) == made


def test_ids_and_keys_are_numbered_in_the_order_in_which_they_come() -> None:
    made = StandIns(ACME)
    assert [made.id_of(each, "run") for each in ("a", "b", "a", "7", "c")] == [
        "run-1",
        "run-2",
        "run-1",
        "1003",
        "run-4",
    ]
    assert made.anything({"x": 1, "y": 1}) == {"field_1": 1, "field_2": 1}
    assert made.anything({"z": 1, "x": 1}) == {"field_3": 1, "field_1": 1}


# --- pages, submits and refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "made"),
    [
        ({"jobs": [JOB], "next_cursor": "c"}, {"jobs": [MADE_UP], "field_1": "stand-in", "next_cursor": "stand-in"}),
        ({"jobs": [JOB], "next_cursor": None}, {"jobs": [MADE_UP], "field_1": None, "next_cursor": None}),
        ({"jobs": [JOB], "next_cursor": ""}, {"jobs": [MADE_UP], "field_1": "stand-in", "next_cursor": None}),
        ({"jobs": [JOB]}, {"jobs": [MADE_UP], "next_cursor": None}),
        (
            {"jobs": [], "total": 7, "next_cursor": "c"},
            {"jobs": [], "field_1": 1, "field_2": "stand-in", "next_cursor": "stand-in"},
        ),
        ({"jobs": "none"}, {"jobs": "stand-in", "next_cursor": None}),
        ("no page", "stand-in"),
    ],
)
def test_of_a_page_the_runs_and_whether_one_follows_are_left(page: Any, made: Any) -> None:
    assert StandIns(ACME).page(page) == made


def test_a_place_of_the_next_page_that_lies_deeper_is_kept_too() -> None:
    assert ACME.listing is not None
    listing = replace(ACME.listing, items=("data", "jobs"), next=("page", "info", "next"))
    made = StandIns(variant("acme_detailed", listing=listing))
    page = {"data": {"jobs": [JOB]}, "page": {"info": {"next": "c"}}}
    assert made.page(page)["page"] == {"info": {"next": "stand-in"}}
    assert made.page({"data": {"jobs": []}, "page": {"info": "x"}})["page"] == {"info": {"next": None}}
    assert made.page({"data": {"jobs": []}})["page"] == {"info": {"next": None}}


@pytest.mark.parametrize(("runs", "left"), [(20, 20), (21, 20)])
def test_of_a_page_twenty_runs_are_kept(runs: int, left: int) -> None:
    assert len(StandIns(ACME).page({"jobs": [JOB] * runs})["jobs"]) == left


def test_a_list_of_one_page_gets_no_place_of_a_next_one() -> None:
    listing = Listing(Route("GET", "/v3/plants/{plant}/jobs"), items=(), parent_kinds=("plant",))
    assert StandIns(variant("acme_detailed", listing=listing)).page([JOB]) == [MADE_UP]


def test_of_an_answer_to_a_submit_the_new_id_is_left() -> None:
    given = {"job": {"job_id": "J-1", "owner": "jane"}, "queue": "north"}
    made = {"job": {"job_id": "run-1", "field_1": "stand-in"}, "field_2": "stand-in"}
    assert StandIns(ACME).started(given, ("job", "job_id")) == made


def test_of_a_refusal_its_shape_and_the_codes_that_are_declared_are_left() -> None:
    given = {"error": {"code": "busy", "message": "jane", "type": "t", "detail": "d", "who": "jane"}, "at": "north"}
    texts = {"message": "stand-in", "type": "stand-in", "detail": "stand-in"}
    made = {"error": {"code": "busy", **texts, "field_1": "stand-in"}, "field_2": "stand-in"}
    assert StandIns(ACME).refusal(given, frozenset({"busy"})) == made
    assert StandIns(ACME).refusal({"code": "busy"}) == {"code": "stand-in"}


# --- headers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("auth", "header"),
    [
        (AuthScheme("X-Acme-Key", key_prefixes=("acme_", "old_")), {"X-Acme-Key": "acme_stand-in"}),
        (AuthScheme("Authorization", "Bearer "), {"Authorization": "Bearer stand-in"}),
    ],
)
def test_the_header_of_the_key_holds_a_stand_in_of_its_form(auth: AuthScheme, header: dict[str, str]) -> None:
    assert key_header(variant("acme_detailed", auth=auth)) == header


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({"Content-Type": "application/json; charset=utf-8"}, {"content-type": "application/json"}),
        ({"content-type": "text/html"}, {"content-type": "text/html"}),
        ({"CONTENT-TYPE": "text/plain;x"}, {"content-type": "text/plain"}),
        ({"content-type": "application/jsonx"}, {}),
        ({"content-type": "x application/json"}, {}),
        ({"Retry-After": "999999"}, {"retry-after": "999999"}),
        ({"retry-after": "1000000"}, {}),
        ({"retry-after": "7 s"}, {}),
        ({"retry-after": ""}, {}),
        ({}, {}),
    ],
)
def test_of_the_headers_the_type_and_a_pause_of_up_to_six_digits_are_left(given: dict[str, str], left: Any) -> None:
    assert headers(given) == left
