"""The page's questions to a database: in the words of each, bounded, in order, and for nobody else's runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any

import pytest
from pytest_mock import MockerFixture

from tests.airflow_side.page.database import Database, ended, record

OBJECT = "CASE WHEN (json_valid(value) = 1) THEN value ELSE NULL END"
SQLITE = f"json_extract({OBJECT}, '$.progress.done')"
MYSQL = "json_extract(value, '$.progress.done')"
WORDS: dict[str, dict[str, str]] = {
    "sqlite": {
        "raw": "value",
        "is_object": "substr(value, 1, 1) = '{'",
        "text": f"CAST({SQLITE} AS TEXT)",
        "number": (
            f"CASE WHEN (json_type({OBJECT}, '$.progress.done') IN ('integer', 'real')) THEN {SQLITE} ELSE NULL END"
        ),
        "may hold": "value LIKE '%' || 'a/_b' || '%' ESCAPE '/'",
    },
    "postgresql": {
        "raw": "value",
        "is_object": "jsonb_typeof(value) = 'object'",
        "text": "jsonb_extract_path_text(value, 'progress', 'done')",
        "number": (
            "CASE WHEN (jsonb_typeof(jsonb_extract_path(value, 'progress', 'done')) = 'number') "
            "THEN CAST(jsonb_extract_path_text(value, 'progress', 'done') AS FLOAT) ELSE NULL END"
        ),
        "may hold": "true",
    },
    "mysql": {
        "raw": "value",
        "is_object": "json_type(value) = 'OBJECT'",
        "text": f"CASE WHEN (json_type({MYSQL}) != 'NULL') THEN json_unquote({MYSQL}) ELSE NULL END",
        "number": (
            f"CASE WHEN ({MYSQL} IS NOT NULL AND json_type({MYSQL}) IN ('INTEGER', 'DOUBLE', 'DECIMAL', "
            f"'UNSIGNED INTEGER')) THEN CAST({MYSQL} AS DECIMAL(38, 9)) ELSE NULL END"
        ),
        "may hold": "true",
    },
}


def written(expression: Any, dialect: str) -> str:
    words = import_module(f"sqlalchemy.dialects.{dialect}").dialect()
    return " ".join(str(expression.compile(dialect=words, compile_kwargs={"literal_binds": True})).split())


def stored(dialect: str) -> Any:
    from sqlalchemy import JSON, column

    from runops.airflow.plugin.stored_json import StoredJson

    return StoredJson(column("value", JSON), dialect)


@pytest.mark.parametrize("dialect", WORDS)
def test_a_field_of_a_record_is_asked_for_in_the_words_of_each_database(dialect: str) -> None:
    json, path = stored(dialect), ("progress", "done")
    asked = {
        "raw": json.raw,
        "is_object": json.is_object(),
        "text": json.text(*path),
        "number": json.number(*path),
        "may hold": json.may_hold("a_b"),
    }
    assert {name: written(each, dialect) for name, each in asked.items()} == WORDS[dialect]
    assert json.sorts_null_first is (dialect == "mysql")


@pytest.mark.parametrize("word", ['say"yes', "back\\slash", "one/two", "straße", "a\tb"])
def test_a_word_that_json_writes_in_another_way_may_be_anywhere(word: str) -> None:
    assert written(stored("sqlite").may_hold(word), "sqlite") == "1"


# --- what is asked ---


@pytest.fixture
def asked(database: Database) -> Any:
    """Asks a question for the runs of the three DAGs, and gives the rows."""
    from airflow.utils.session import create_session

    from runops.airflow.plugin.queries import RunQueries

    def ask(make: Any) -> list[Any]:
        with create_session() as session:
            return list(session.execute(make(RunQueries("sqlite", {"alpha", "beta", "gamma"}))))

    return ask


def test_the_same_run_is_that_of_its_service_and_connection_whoever_waits_for_it(
    database: Database, asked: Any
) -> None:
    from runops.airflow.plugin.questions import Address

    tasks: list[dict[str, Any]] = [
        {"dag_id": "gamma", "run": "a"}, {"task_id": "wait", "run": "b"}, {"task_id": "submit", "run": "b"},
        {"run": "a", "map_index": 2}, {"run": "a", "map_index": 1},
    ]  # fmt: skip
    same = [database.add(record(run_id="r"), **ids) for ids in tasks]
    for other in ({"run_id": "s"}, {"provider": "nexio"}, {"conn_id": "other"}, {"conn_id": None}):
        database.add(record(**{"run_id": "r", **other}))
    database.raw('"nyx"')
    order = [same[4], same[3], same[2], same[1], same[0]]
    found = asked(lambda queries: queries.same_run("nyx", "nyx_default", "r", Address(**same[0])))
    assert [Address.of_xcom(row) for row in found] == [Address(**task) for task in order]
    assert [row.dag_run_id for row in found] == [database.number_of(task) for task in order]
    for conn_id, run_id in ((None, "r"), ("nyx_default", None)):
        (alone,) = asked(lambda queries, a=conn_id, b=run_id: queries.same_run("nyx", a, b, Address(**same[1])))
        assert Address.of_xcom(alone) == Address(**same[1])


@pytest.mark.parametrize("name", ["dag_id", "task_id", "provider"])
def test_the_choices_are_in_order_each_once_and_bounded(
    name: str, database: Database, asked: Any, mocker: MockerFixture
) -> None:
    from runops.airflow.plugin import queries

    assert (queries.MOST_NAMES, queries.MOST_CHARTED) == (1_000, 20_000)
    mocker.patch.object(queries, "MOST_NAMES", 2)
    for dag_id, task_id, provider in (
        ("gamma", "wait", "nyx"), ("alpha", "many", "b3os"), ("beta", "submit", "nexio"), ("alpha", "many", "b3os"),
    ):  # fmt: skip
        database.add(record(provider=provider), dag_id=dag_id, task_id=task_id)
    first = {"dag_id": ["alpha", "beta"], "task_id": ["many", "submit"], "provider": ["b3os", "nexio"]}
    assert [row.choice for row in asked(lambda each: each.choices(name))] == first[name]


def test_the_newest_ended_runs_are_charted_where_there_are_too_many(
    database: Database, asked: Any, mocker: MockerFixture
) -> None:
    from runops.airflow.plugin import queries
    from runops.airflow.plugin.questions import ChartsQuestion

    mocker.patch.object(queries, "MOST_CHARTED", 2)
    for number, ago in enumerate((30.0, 10.0, 20.0)):
        database.add(ended(spend=number, spend_unit="USD"), ago=ago, state="success")
    database.add(record(), ago=1.0)
    since = datetime.now(UTC) - timedelta(days=1)
    rows = asked(lambda each: each.ended_since(since, ChartsQuestion()))
    assert [row.spend for row in rows] == [1, 2]
    now = datetime.now(UTC) - timedelta(seconds=15)
    assert [row.spend for row in asked(lambda each: each.ended_since(now, ChartsQuestion()))] == [1]


def test_a_row_of_a_chart_has_all_that_charts_are_made_of(database: Database, asked: Any) -> None:
    from runops.airflow.plugin.questions import ChartsQuestion

    fields: dict[str, Any] = {
        "provider": "nexio", "outcome": "failed", "spend_unit": "USD", "began_at": "2026-05-01T10:00:00.000Z",
        "created_at": "2026-05-01T10:00:01.000Z", "started_at": "2026-05-01T10:00:02.000Z",
        "finished_at": "2026-05-01T10:00:03.000Z", "ended_at": "2026-05-01T10:00:04.000Z", "spend": 2.5,
    }  # fmt: skip
    task = database.add(ended(**fields), dag_id="beta", task_id="many", state="success")
    since = datetime.now(UTC) - timedelta(days=1)
    (row,) = asked(lambda each: each.ended_since(since, ChartsQuestion()))
    assert {name: getattr(row, name) for name in fields} == fields
    assert (row.dag_id, row.task_id) == ("beta", "many")
    assert row.timestamp == database.written(task, "external_run")


def test_the_last_ten_ends_of_each_task_are_those_of_its_newest_runs(database: Database, asked: Any) -> None:
    for number in range(11):
        database.add(ended(run_id=f"a-{number:02}"), state="success")
        database.add(ended(run_id=f"b-{number:02}"), dag_id="beta", task_id="many", state="failed")
    database.add(record(run_id="alive"))
    database.add(ended(run_id="of another task"), task_id="many", state="success")
    rows = asked(lambda each: each.recent_ends([("alpha", "wait"), ("beta", "many")]))
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        text = row.record if isinstance(row.record, str) else str(row.record)
        found.setdefault((row.dag_id, row.task_id), []).append(text.partition('"run_id": "')[2][:4])
    assert {task: sorted(each) for task, each in found.items()} == {
        ("alpha", "wait"): [f"a-{number:02}" for number in range(1, 11)],
        ("beta", "many"): [f"b-{number:02}" for number in range(1, 11)],
    }


def test_a_row_of_a_page_has_the_ids_the_record_and_how_the_task_stands(database: Database, asked: Any) -> None:
    from runops.airflow.plugin.questions import Address, RunsQuestion

    task = database.add(record(run_id="r", try_number=2), try_number=2, map_index=3, state="running")
    for row in (
        *asked(lambda each: each.page(RunsQuestion())),
        *asked(lambda each: each.one(Address(**task))),
    ):
        assert (row.dag_id, row.dag_run_id, row.task_id, row.map_index) == tuple(task.values())
        assert (row.task_state, row.now_in_try, row.timestamp) == (
            "running", 2, database.written(task, "external_run"),
        )  # fmt: skip
        assert '"run_id": "r"' in row.record
    assert asked(lambda each: each.page(RunsQuestion()))[0].total == 1
    assert asked(lambda each: each.total(RunsQuestion()))[0][0] == 1


def test_runs_that_stand_alike_are_in_the_order_of_their_dag_runs_tasks_and_places(
    database: Database, asked: Any
) -> None:
    from runops.airflow.plugin.questions import RunsQuestion

    for index in (2, 0, 1):
        database.add(run="b", task_id="wait", map_index=index)
    database.add(run="b", task_id="many")
    database.add(run="a", task_id="wait")
    rows = asked(lambda each: each.page(RunsQuestion(sort="dag_id")))
    assert [(row.dag_run_id, row.task_id, row.map_index) for row in rows] == [
        ("b", "many", -1), ("b", "wait", 0), ("b", "wait", 1), ("b", "wait", 2), ("a", "wait", -1),
    ]  # fmt: skip


def test_who_may_read_no_dag_finds_nothing(database: Database) -> None:
    from airflow.utils.session import create_session

    from runops.airflow.plugin.queries import RunQueries
    from runops.airflow.plugin.questions import RunsQuestion

    database.add()
    with create_session() as session:
        assert session.execute(RunQueries("sqlite", set()).page(RunsQuestion())).all() == []
        assert len(session.execute(RunQueries("sqlite", {"alpha"}).page(RunsQuestion())).all()) == 1
