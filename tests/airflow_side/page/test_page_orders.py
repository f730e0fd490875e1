"""Which runs stand where: each order, each field that the search looks into, and what the charts count."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from runops.airflow.external_run import iso
from tests.airflow_side.page.database import Database, ended, record
from tests.airflow_side.page.people import Person

Opens = Callable[[str | None], Person]
MOMENTS = ("2026-05-01T10:00:00.000Z", "2026-05-02T09:00:00.000Z", "2026-05-03T08:00:00.000Z")


def ids(answer: dict[str, Any]) -> list[str]:
    return [row["run_id"] for row in answer["runs"]]


FIELDS = {
    **dict.fromkeys(("created_at", "started_at", "finished_at", "ended_at", "looked_at", "written_at"), MOMENTS),
    "provider": ("b3os", "nexio", "nyx"),
    "state": ("a", "b", "c"),
    "phase": ("paused", "queued", "running"),
    "outcome": ("cancelled", "failed", "succeeded"),
    "verdict": ("fail", "skip", "warn"),
    "holds": ("key", "paused", "turn"),
    "reason": ("a", "b", "c"),
    "spend": (9, 10.5, 100),
}


@pytest.mark.parametrize("name", FIELDS)
def test_an_order_by_a_field_is_that_of_its_values(name: str, database: Database, person: Opens) -> None:
    for place in (1, 2, 0):
        database.add(record(run_id=f"r-{place}", **{"spend_unit": "USD", name: FIELDS[name][place]}))
    ada = person("ada")
    assert ids(ada.runs(sort=name)) == ["r-0", "r-1", "r-2"]
    assert ids(ada.runs(sort=f"-{name}")) == ["r-2", "r-1", "r-0"]


TASKS: dict[str, tuple[Any, Any, Any]] = {
    "dag_id": ("alpha", "beta", "gamma"),
    "task_id": ("many", "submit", "wait"),
    "run": ("a", "b", "c"),
    "map_index": (0, 1, 2),
    "state": ("deferred", "failed", "running"),
}
SHOWN = {"run": "dag_run_id", "state": "task_state"}


@pytest.mark.parametrize("name", TASKS)
def test_an_order_by_what_the_task_is_goes_through_its_ids(name: str, database: Database, person: Opens) -> None:
    for place in (1, 2, 0):
        database.add(record(run_id=f"r-{place}"), **{"run": f"run-{9 - place}", name: TASKS[name][place]})
    ada = person("ada")
    sort = SHOWN.get(name, name)
    assert ids(ada.runs(sort=sort)) == ["r-0", "r-1", "r-2"]
    assert ids(ada.runs(sort=f"-{sort}")) == ["r-2", "r-1", "r-0"]


def test_an_order_by_status_is_that_of_what_stands_there_outcome_or_phase(database: Database, person: Opens) -> None:
    database.add(record(run_id="r-1", phase="paused"))
    database.add(ended("succeeded", run_id="r-2"), state="success")
    database.add(ended("cancelled", run_id="r-0"), state="failed")
    assert ids(person("ada").runs(sort="status")) == ["r-0", "r-1", "r-2"]


def test_the_first_page_has_fifty_runs_that_began_last(database: Database, person: Opens) -> None:
    for number in range(52):
        database.add(record(run_id=f"r-{number}"), run=f"run-{number:02}")
    answer = person("ada").runs()
    assert (len(answer["runs"]), answer["total"]) == (50, 52)
    assert datetime.now(UTC) - datetime.fromisoformat(answer["now"]) < timedelta(minutes=1)


LIVE = ("deferred", "queued", "restarting", "running", "scheduled", "up_for_reschedule", None)


@pytest.mark.parametrize("state", [*LIVE, "failed", "removed", "skipped", "success", "upstream_failed", "up_for_retry"])
def test_a_run_is_open_while_its_task_works_or_is_about_to(
    state: str | None, database: Database, person: Opens
) -> None:
    database.add(record(run_id="r-1"), state=state)
    assert ids(person("ada").runs(open=True)) == (["r-1"] if state in LIVE else [])
    assert ids(person("ada").runs(open=False)) == ([] if state in LIVE else ["r-1"])


# --- search ---

SEARCHED = {
    "run_id": "needle-1",
    "provider": "acme.needle:ACME",
    "state": "needle",
    "reason": "the needle in a haystack",
    "holds_for": "needle-7",
    "error": "NeedleError",
}


@pytest.mark.parametrize("name", SEARCHED)
def test_the_search_looks_into_each_text_of_a_record(name: str, database: Database, person: Opens) -> None:
    database.add(record(run_id="other", details={"stage": "needle"}))
    database.add(record(**{"reason": "mine", name: SEARCHED[name]}))
    assert [row[name] for row in person("ada").runs(q="needle")["runs"]] == [SEARCHED[name]]


@pytest.mark.parametrize(("name", "word"), [("phase", "paused"), ("outcome", "degraded")])
def test_the_search_knows_the_words_for_how_a_run_stands(
    name: str, word: str, database: Database, person: Opens
) -> None:
    database.add(record(run_id="other"))
    database.add(record(run_id="wanted", **{name: word}))
    assert ids(person("ada").runs(q=word)) == ["wanted"]


@pytest.mark.parametrize("word", ["straße", 'say"yes', "back\\slash", "one/two"])
def test_the_search_finds_signs_that_json_writes_in_another_way(word: str, database: Database, person: Opens) -> None:
    database.add(record(run_id="other", reason="nothing of it"))
    database.add(record(run_id="wanted", reason=f"it has {word} in it"))
    assert ids(person("ada").runs(q=word)) == ["wanted"]


@pytest.mark.parametrize("task", [{"dag_id": "beta"}, {"task_id": "many"}, {"run": "needle_run"}], ids=str)
def test_the_search_looks_into_the_ids_of_the_task(task: dict[str, Any], database: Database, person: Opens) -> None:
    database.add(record(run_id="other"))
    database.add(record(run_id="wanted"), **task)
    (word,) = task.values()
    assert ids(person("ada").runs(q=word)) == ["wanted"]


# --- how long runs usually take ---


def test_the_usual_duration_is_that_of_the_last_ten_runs_of_the_same_task(database: Database, person: Opens) -> None:
    for seconds in (*[900.0] * 10, *[40.0] * 10):
        database.add(ended(seconds=seconds), state="success")
    task: dict[str, Any]
    for task in ({"task_id": "submit"}, {"dag_id": "beta"}):
        for _ in range(11):
            database.add(ended(seconds=7.0), **task, state="success")
    task = database.add(record())
    assert person("ada").get("/api/run", **task).json()["usual_seconds"] == pytest.approx(40.0, abs=0.1)


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({"created_at": MOMENTS[0], "finished_at": "2026-05-01T10:01:00Z"}, 60.0),
        ({"created_at": None, "began_at": MOMENTS[0], "finished_at": "2026-05-01T10:01:30Z"}, 90.0),
        ({"created_at": MOMENTS[0], "finished_at": None, "ended_at": "2026-05-01T10:00:20Z"}, 20.0),
        ({"created_at": MOMENTS[1], "finished_at": MOMENTS[0]}, 0.0),
    ],
    ids=["as the service says", "without its creation", "without its end", "with clocks that differ"],
)
def test_the_age_of_a_run_that_is_over_is_how_long_it_took(
    fields: dict[str, Any], seconds: float, database: Database, person: Opens
) -> None:
    task = database.add(ended(**fields), state="success")
    assert person("ada").get("/api/run", **task).json()["age_seconds"] == seconds


# --- charts ---


def test_a_chart_has_a_row_for_each_day_and_provider_with_all_that_ended_then(
    database: Database, person: Opens
) -> None:
    for number, seconds in enumerate((10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110)):
        at = datetime(2026, 5, 1 + number // 10, 12, tzinfo=UTC)
        times = {"created_at": iso(at.timestamp() - seconds), "finished_at": iso(at.timestamp())}
        spend = {"spend": seconds / 10, "spend_unit": "USD" if number % 2 else "credits"}
        database.add(ended("failed" if number < 3 else "succeeded", **times, **spend), state="success")
    late = {"finished_at": None, "ended_at": "2026-05-01T23:59:59Z"}
    database.add(ended(provider="nexio", created_at="2026-05-01T23:59:29Z", **late, spend=7), state="success")
    nyx = {"seconds_median": 55.0, "seconds_p90": 90.0, "spend": {"USD": 30.0, "credits": 25.0}}
    told = person("ada").get("/api/charts").json()
    assert told["days"] == [
        {
            "day": "2026-05-01", "provider": "nexio", "outcomes": {"succeeded": 1}, "runs": 1, "seconds_median": 30.0,
            "seconds_p90": 30.0, "spend": {},
        },
        {"day": "2026-05-01", "provider": "nyx", "outcomes": {"failed": 3, "succeeded": 7}, "runs": 10, **nyx},
        {
            "day": "2026-05-02", "provider": "nyx", "outcomes": {"succeeded": 1}, "runs": 1, "seconds_median": 110.0,
            "seconds_p90": 110.0, "spend": {"credits": 11.0},
        },
    ]  # fmt: skip
    assert [(each["provider"], each["runs"]) for each in told["tasks"]] == [("nyx", 11), ("nexio", 1)]
    assert told["truncated"] is False


def test_a_chart_of_a_part_says_that_it_is_one(
    database: Database, person: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    from runops.airflow.plugin import charts, queries

    for module in (charts, queries):
        monkeypatch.setattr(module, "MOST_CHARTED", 2)
    for number in range(2):
        database.add(ended(run_id=f"r-{number}"), state="success")
    assert person("ada").get("/api/charts").json()["truncated"] is True


def test_a_chart_counts_no_run_that_goes_on_or_ended_in_a_word_that_is_none(database: Database, person: Opens) -> None:
    database.add(record())
    database.add(ended("exploded"), state="success")
    assert person("ada").get("/api/charts").json() == {"days": [], "tasks": [], "truncated": False}


def test_a_run_whose_times_say_nothing_is_charted_without_a_duration_on_the_day_it_was_stored(
    database: Database, person: Opens
) -> None:
    none = dict.fromkeys(("created_at", "began_at", "finished_at", "ended_at"))
    database.add(ended(**none), state="success", ago=60.0)
    (day,) = person("ada").get("/api/charts").json()["days"]
    assert day["day"] == (datetime.now(UTC) - timedelta(seconds=60)).date().isoformat()
    assert (day["seconds_median"], day["seconds_p90"], day["runs"]) == (None, None, 1)


@pytest.mark.parametrize(
    ("asked", "runs"),
    [
        ({}, 3), ({"days": 1}, 2), ({"days": 40}, 4), ({"dag_id": "beta"}, 1), ({"task_id": "many"}, 1),
        ({"provider": "nexio"}, 1), ({"provider": ["nexio", "nyx"]}, 3), ({"dag_id": "gamma"}, 0),
    ],
    ids=str,
)  # fmt: skip
def test_a_chart_has_the_runs_of_the_days_and_names_that_were_asked_for(
    asked: dict[str, Any], runs: int, database: Database, person: Opens
) -> None:
    day = 24 * 3600.0
    database.add(ended(), state="success")
    database.add(ended(provider="nexio"), dag_id="beta", task_id="many", state="success")
    database.add(ended(), ago=29.9 * day, state="success")
    database.add(ended(), ago=39.9 * day, state="success")
    charts = person("ada").get("/api/charts", **asked).json()
    assert sum(each["runs"] for each in charts["days"]) == runs
    assert sum(each["runs"] for each in charts["tasks"]) == runs


@pytest.mark.parametrize("asked", [{"days": 0}, {"days": 366}, {"sort": "day"}, {"provider": ""}], ids=str)
def test_a_chart_of_no_days_or_by_an_unknown_name_is_refused(
    asked: dict[str, Any], database: Database, person: Opens
) -> None:
    assert person("ada").get("/api/charts", **asked).status_code == 422
    assert person("ada").get("/api/charts", days=365).status_code == 200


# --- in the words of each database ---

WORDS = {
    ("sqlite", "-spend"): "ORDER BY anon_1.sorted DESC NULLS LAST",
    ("sqlite", "spend"): "ORDER BY anon_1.sorted ASC NULLS LAST",
    ("postgresql", "-spend"): "ORDER BY anon_1.sorted DESC NULLS LAST",
    ("mysql", "-spend"): "ORDER BY anon_1.sorted IS NULL, anon_1.sorted DESC",
    ("mysql", "spend"): "ORDER BY anon_1.sorted IS NULL, anon_1.sorted ASC",
}


@pytest.mark.parametrize(("dialect", "sort"), WORDS)
def test_what_has_no_value_is_last_in_the_words_of_each_database(
    dialect: str, sort: str, airflow_database: Database
) -> None:
    from importlib import import_module

    from runops.airflow.plugin.queries import RunQueries
    from runops.airflow.plugin.questions import RunsQuestion

    query = RunQueries(dialect, {"alpha"}).page(RunsQuestion(sort=sort))
    text = " ".join(str(query.compile(dialect=import_module(f"sqlalchemy.dialects.{dialect}").dialect())).split())
    assert WORDS[dialect, sort] in text
