"""The table of runs: what is in it, in which order, and what never breaks it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from runops.airflow.external_run import iso
from tests.airflow_side.page.database import Database, ended, record
from tests.airflow_side.page.people import Person

Opens = Callable[[str | None], Person]


def ids(answer: dict[str, Any]) -> list[str]:
    return [row["run_id"] for row in answer["runs"]]


@contextmanager
def statements() -> Iterator[list[str]]:
    """What is sent to the database meanwhile."""
    from airflow import settings
    from sqlalchemy import event

    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    event.listen(settings.engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(settings.engine, "before_cursor_execute", note)


def test_a_row_has_the_record_the_task_and_what_one_may(database: Database, person: Opens) -> None:
    task = database.add(record(run_id="r-1"))
    answer = person("ada").runs()
    assert answer["total"] == 1
    row = answer["runs"][0]
    assert {name: row[name] for name in task} == task
    assert (row["provider"], row["run_id"], row["phase"], row["task_state"]) == ("nyx", "r-1", "running", "deferred")
    assert row["conn_id"] == "nyx_default"
    assert row["may"] == {"look": True, "cancel": True}
    assert row["usual_seconds"] is None
    assert 580 < row["age_seconds"] < 640
    assert 55 < row["record_age_seconds"] < 120


def test_the_usual_duration_is_the_middle_of_the_last_ended_runs_of_the_task(database: Database, person: Opens) -> None:
    for seconds in (10.0, 20.0, 600.0):
        database.add(ended(seconds=seconds), task_id="submit", state="success")
    database.add(ended(seconds=7.0), dag_id="beta", task_id="submit", state="success")
    database.add(record(run_id="now"), task_id="submit")
    database.add(record(run_id="first"), task_id="wait")
    usual = {row["run_id"]: row["usual_seconds"] for row in person("ada").runs(open=True)["runs"]}
    assert usual == {"now": 20.0, "first": None}


FIELDS = {
    "provider": ("nexio", {"provider": "nexio"}),
    "phase": ("waiting", {"phase": "waiting"}),
    "outcome": ("degraded", {"outcome": "degraded", "phase": None}),
    "verdict": ("skip", {"verdict": "skip"}),
    "holds": ("turn", {"holds": "turn"}),
}


@pytest.mark.parametrize("name", FIELDS)
def test_a_filter_leaves_what_has_one_of_its_values(name: str, database: Database, person: Opens) -> None:
    value, fields = FIELDS[name]
    database.add(record(run_id="other"))
    database.add(record(run_id="wanted", **fields))
    answer = person("ada").runs(**{name: [value]})
    assert (ids(answer), answer["total"]) == (["wanted"], 1)


@pytest.mark.parametrize(
    ("name", "value"), [("dag_id", "beta"), ("task_id", "many"), ("dag_run_id", "r 1+00:00"), ("map_index", 3)]
)
def test_a_filter_of_ids_leaves_what_has_one_of_them(name: str, value: Any, database: Database, person: Opens) -> None:
    database.add(record(run_id="other"))
    database.add(record(run_id="wanted"), dag_id="beta", task_id="many", run="r 1+00:00", map_index=3)
    assert ids(person("ada").runs(**{name: value})) == ["wanted"]
    assert person("ada").runs(**{name: [value, 0 if name == "map_index" else "none"]})["total"] == 1


def test_open_are_those_whose_wait_goes_on_and_whose_task_lives(database: Database, person: Opens) -> None:
    database.add(record(run_id="waits"))
    database.add(record(run_id="pokes"), state="up_for_reschedule")
    database.add(record(run_id="killed"), state="failed")
    database.add(ended(run_id="over"), state="success")
    assert sorted(ids(person("ada").runs(open="true"))) == ["pokes", "waits"]
    assert sorted(ids(person("ada").runs(open="false"))) == ["killed", "over"]


def test_the_search_finds_words_in_texts_and_ids_whatever_their_case(database: Database, person: Opens) -> None:
    database.add(record(run_id="r-1", reason="Not enough FUNDS_on the account"))
    database.add(record(run_id="r-2"), dag_id="beta")
    ada = person("ada")
    assert ids(ada.runs(q="funds account")) == ["r-1"]
    assert ids(ada.runs(q="BETA")) == ["r-2"]
    assert ids(ada.runs(q="r-2")) == ["r-2"]
    assert ids(ada.runs(q="funds beta")) == []
    # Signs that mean something to a database are only signs.
    assert ids(ada.runs(q="funds_on")) == ["r-1"]
    assert ids(ada.runs(q="f_nds")) == []
    assert ids(ada.runs(q="%")) == []
    assert ids(ada.runs(q="'; DROP TABLE xcom; --")) == []
    # The name of a connection is not everybody's, so nothing tells it by being found.
    assert ids(ada.runs(q="nyx_default")) == []


def test_pages_follow_the_order_and_the_total_is_that_of_all(database: Database, person: Opens) -> None:
    for number in range(7):
        database.add(record(run_id=f"r-{number}", began_at=iso(1_700_000_000 + number)))
    ada = person("ada")
    assert ids(ada.runs()) == [f"r-{number}" for number in reversed(range(7))]
    pages = [ada.runs(limit=3, offset=offset, sort="began_at") for offset in (0, 3, 6, 9)]
    assert [ids(page) for page in pages] == [["r-0", "r-1", "r-2"], ["r-3", "r-4", "r-5"], ["r-6"], []]
    assert [page["total"] for page in pages] == [7, 7, 7, 7]


def test_what_has_no_value_is_last_in_both_directions(database: Database, person: Opens) -> None:
    database.add(record(run_id="none"))
    database.add(record(run_id="half", progress={"done": 5, "total": 10, "unit": "nodes"}, spend=9, spend_unit="USD"))
    database.add(record(run_id="little", progress={"done": 8, "total": 80, "unit": ""}, spend=10.5, spend_unit="USD"))
    ada = person("ada")
    assert ids(ada.runs(sort="progress")) == ["little", "half", "none"]
    assert ids(ada.runs(sort="-progress")) == ["half", "little", "none"]
    assert ids(ada.runs(sort="-spend")) == ["little", "half", "none"]


@pytest.mark.parametrize("direction", ["", "-"])
def test_every_order_that_is_offered_works(direction: str, database: Database, person: Opens) -> None:
    from runops.airflow.plugin.questions import SORTS

    database.add(record(run_id="r-1"))
    database.add(ended(run_id="r-2"), state="success")
    ada = person("ada")
    for sort in sorted(SORTS):
        assert sorted(ids(ada.runs(sort=direction + sort))) == ["r-1", "r-2"], sort


def test_the_charts_count_each_run_once_under_its_day_and_its_task(database: Database, person: Opens) -> None:
    for seconds in (100.0, 200.0, 300.0):
        database.add(ended(seconds=seconds, spend=1.5, spend_unit="USD"), state="success")
    database.add(ended("failed", seconds=400.0), task_id="submit", state="failed")
    charts = person("ada").get("/api/charts").json()
    assert sum(day["runs"] for day in charts["days"]) == 4
    told = {
        task["task_id"]: (task["runs"], task["outcomes"], task["seconds_median"], task["spend"])
        for task in charts["tasks"]
    }
    assert told == {
        "wait": (3, {"succeeded": 3}, pytest.approx(200, abs=1), {"USD": 4.5}),
        "submit": (1, {"failed": 1}, pytest.approx(400, abs=1), {}),
    }


# --- what never breaks the page ---

STRANGE = {
    "of an XCom backend": '"s3://bucket/xcoms/external_run.json"',
    "encoded twice": json.dumps(json.dumps(record(run_id="twice"))),
    "null": "null",
    "a list": "[1, 2]",
    "a number": "17",
    "no JSON": "{'run_id': 1}",
    "cut off": '{"schema": 1, "provider": "nyx", "run_',
    "not a number": '{"schema": 1, "provider": NaN, "try_number": 1}',
    "no provider": '{"schema": 1, "try_number": 1}',
    "a provider that is none": '{"schema": 1, "try_number": 1, "provider": {"a": 1}}',
    "empty": '""',
}


@pytest.mark.parametrize("value", STRANGE.values(), ids=STRANGE)
@pytest.mark.parametrize("asked", [{}, {"sort": "-spend"}, {"sort": "progress"}, {"q": "r"}, {"provider": "nyx"}])
def test_a_value_that_is_no_record_hides_nothing_else(
    value: str, asked: dict[str, Any], database: Database, person: Opens
) -> None:
    database.raw(value, dag_id="alpha")
    database.add(record(run_id="r-1", spend=1.5, spend_unit="USD"))
    ada = person("ada")
    assert ids(ada.runs(**asked)) == ["r-1"]
    for path in ("/api/facets", "/api/charts"):
        assert ada.get(path).status_code == 200


def test_fields_of_another_kind_count_as_missing(database: Database, person: Opens) -> None:
    strange = {
        "spend": "much", "progress": [1], "began_at": 7, "created_at": "yesterday", "phase": "<b>", "timeline": {},
        "details": {"a": {"deep": 1}, "b": "x"}, "url": "javascript:alert(1)", "counts": "many", "parents": 3,
    }  # fmt: skip
    database.add(record(run_id="r-1") | strange)
    row = person("ada").runs(sort="-spend")["runs"][0]
    assert not {"spend", "progress", "began_at", "created_at", "phase", "timeline", "url", "counts"} & set(row)
    assert row["details"] == {"b": "x"}
    assert row["age_seconds"] is None
    for sort in ("progress", "spend", "began_at", "-phase"):
        assert ids(person("ada").runs(sort=sort)) == ["r-1"]


def test_a_record_of_another_try_is_not_shown(database: Database, person: Opens) -> None:
    database.add(record(run_id="old", try_number=1), try_number=2)
    task = database.add(record(run_id="new", try_number=2), try_number=2)
    old = database.add(record(run_id="old", try_number=3), try_number=2)
    answer = person("ada").runs()
    assert (ids(answer), answer["total"]) == (["new"], 1)
    assert person("ada").get("/api/run", **task).status_code == 200
    assert person("ada").get("/api/run", **old).status_code == 404


def test_a_record_of_years_ago_or_of_a_later_version_is_shown(database: Database, person: Opens) -> None:
    database.add({"schema": 9, "provider": "nyx", "run_id": "r-1", "try_number": 1, "later": {"a": [1]}})
    row = person("ada").runs()["runs"][0]
    assert row["run_id"] == "r-1"
    assert "later" not in row


def test_questions_to_the_database_do_not_grow_with_the_rows(database: Database, person: Opens) -> None:
    ada = person("ada")
    counts = []
    for _ in range(2):
        for number in range(15):
            database.add(record(), dag_id=("alpha", "beta", "gamma")[number % 3], task_id=("wait", "many")[number % 2])
        with statements() as sent:
            assert len(ada.runs(limit=200)["runs"]) >= 15
        counts.append(sum("xcom" in statement for statement in sent))
    # Which and how many, and how long their tasks usually take: that is kept for a minute.
    assert counts == [2, 1]


def test_one_run_is_found_by_its_four_ids_and_by_nothing_less(database: Database, person: Opens) -> None:
    task = database.add(record(run_id="r-1"), map_index=4)
    ada = person("ada")
    assert ada.get("/api/run", **task).json()["run_id"] == "r-1"
    assert ada.get("/api/run", **{**task, "map_index": 5}).status_code == 404
    assert ada.get("/api/run", **{**task, "dag_id": "beta"}).status_code == 404
    assert ada.get("/api/run", dag_id="alpha").status_code == 422


def test_facets_offer_what_there_is(database: Database, person: Opens) -> None:
    database.add(record(provider="nyx"), dag_id="beta", task_id="many")
    database.add(record(provider="nexio"), dag_id="alpha", task_id="wait")
    database.add(record(provider="acme_runs:GONE"), dag_id="alpha", task_id="wait")
    assert person("ada").get("/api/facets").json() == {
        "providers": [
            {"name": "acme_runs:GONE", "title": "acme_runs:GONE"},
            {"name": "nexio", "title": "Nexio"},
            {"name": "nyx", "title": "Nyx"},
        ],
        "dags": ["alpha", "beta"],
        "tasks": ["many", "wait"],
    }


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql", "mysql"])
def test_every_question_is_written_for_every_database_of_airflow(dialect: str, airflow_database: Database) -> None:
    from datetime import UTC, datetime
    from importlib import import_module

    from runops.airflow.plugin.queries import RunQueries
    from runops.airflow.plugin.questions import SORTS, Address, ChartsQuestion, RunsQuestion

    words = import_module(f"sqlalchemy.dialects.{dialect}").dialect()
    queries = RunQueries(dialect, {"alpha"})
    made = [
        queries.page(RunsQuestion(sort=direction + sort, q="a b", provider=["nyx"], open=True))
        for sort in SORTS
        for direction in ("", "-")
    ]
    address = Address("d", "r", "t", -1)
    made += [
        queries.total(RunsQuestion(open=False)), queries.one(address), queries.recent_ends([("d", "t"), ("d", "u")]),
        queries.ended_since(datetime.now(UTC), ChartsQuestion(provider=["nyx"], dag_id=["d"], task_id=["t"])),
        queries.same_run("nyx", "c", "r", address), *(queries.choices(name) for name in ("provider", "dag_id")),
    ]  # fmt: skip
    for each in made:
        assert "xcom" in str(each.compile(dialect=words))


def test_a_database_that_airflow_does_not_run_on_is_refused() -> None:
    from runops.airflow.plugin.queries import RunQueries

    with pytest.raises(NotImplementedError, match="oracle"):
        RunQueries("oracle", set())
