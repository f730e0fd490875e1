"""The runs of a set on the page: those that its task has left, or as far as its worker has got."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from runops.core import Outcome, RunRef
from runops.core.many.ledger import Ledger
from runops.core.many.rows import Row, RowState
from tests.airflow_side.page.database import Database, record
from tests.airflow_side.page.people import Person

Opens = Callable[[str | None], Person]
SET = {"kind": "set", "run_id": None, "counts": {"total": 3, "ended": 2, "active": 1}}
FULL = {
    "index": 2, "run_id": "r-3", "outcome": "succeeded", "verdict": "succeed", "error": "PollingError",
    "ended_by": "timeout", "state": "submitted", "reason": "a reason", "spend": 1.5, "url": "https://nyx.example/r-3",
}  # fmt: skip
ROWS = [
    {"index": 0, "run_id": "r-1", "outcome": "failed", "error": "RunFailed"},
    {"index": 1, "run_id": "r-2", "outcome": "degraded", "reason": "Out of FUNDS"},
    FULL,
]


@pytest.fixture
def rows(database: Database, person: Opens) -> Callable[..., dict[str, Any]]:
    """What the page answers for a set with such XComs, asked in such a way."""

    def asked(xcoms: dict[str, Any], **question: Any) -> dict[str, Any]:
        task = database.add(record(**SET), xcoms=xcoms)
        answer = person("ada").get("/api/rows", **task, **question)
        assert answer.status_code == 200, answer.text
        return answer.json()

    return asked


@pytest.mark.parametrize("value", [ROWS, json.dumps(ROWS), json.dumps(json.dumps(ROWS))], ids=["list", "text", "twice"])
def test_the_rows_that_a_task_has_left_are_shown_whole(value: Any, rows: Callable[..., dict[str, Any]]) -> None:
    assert rows({"runs": value}) == {"rows": ROWS, "total": 3}


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ({"q": "r-2"}, ["r-2"]),
        ({"q": "FAILED"}, ["r-1"]),
        ({"q": "funds of"}, ["r-2"]),
        ({"q": "funds failed"}, []),
        ({"q": "pollingerror"}, ["r-3"]),
        ({"q": "timeout"}, ["r-3"]),
        ({"q": "succeed"}, ["r-3"]),
        ({"q": "submitted"}, ["r-3"]),
        ({"q": "nyx.example"}, []),
        ({"outcome": "failed"}, ["r-1"]),
        ({"outcome": ["failed", "degraded"]}, ["r-1", "r-2"]),
        ({"outcome": "failed", "q": "r-2"}, []),
    ],
    ids=str,
)
def test_a_search_and_a_choice_of_outcomes_leave_what_has_both(
    question: dict[str, Any], found: list[str], rows: Callable[..., dict[str, Any]]
) -> None:
    answer = rows({"runs": ROWS}, **question)
    assert ([row["run_id"] for row in answer["rows"]], answer["total"]) == (found, len(found))


def test_a_page_of_rows_has_as_many_as_were_asked_for_and_the_total_is_that_of_all(
    rows: Callable[..., dict[str, Any]],
) -> None:
    many = {"runs": [{"index": number, "run_id": f"r-{number}"} for number in range(60)]}
    first = rows(many)
    assert ([row["index"] for row in first["rows"]], first["total"]) == (list(range(50)), 60)
    second = rows(many, limit=3, offset=4)
    assert ([row["index"] for row in second["rows"]], second["total"]) == ([4, 5, 6], 60)


@pytest.mark.parametrize(
    "asked", [{"limit": 0}, {"limit": 201}, {"offset": -1}, {"offset": 1_000_001}, {"outcome": "none"}, {"sort": "q"}]
)
def test_a_question_for_rows_out_of_bounds_is_refused(asked: dict[str, Any], database: Database, person: Opens) -> None:
    task = database.add(record(**SET))
    assert person("ada").get("/api/rows", **task, **asked).status_code == 422
    assert person("ada").get("/api/rows", **task, limit=200, offset=1_000_000).status_code == 200


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        ({"run_id": "x" * 1_001}, {"run_id": "x" * 1_000}),
        ({"run_id": "a\x1bb"}, {"run_id": "a b"}),
        ({"run_id": 7, "index": 0}, {"index": 0}),
        ({"index": True, "spend": "much", "url": "javascript:x"}, {}),
        ({"index": "1", "spend": 0.5, "payload": "secret"}, {"spend": 0.5}),
    ],
    ids=["long", "control signs", "number for text", "of other kinds", "unknown"],
)
def test_a_row_has_only_fields_that_are_what_they_are_said_to_be(
    row: dict[str, Any], shown: dict[str, Any], rows: Callable[..., dict[str, Any]]
) -> None:
    assert rows({"runs": [row, "no row", 3]}) == {"rows": [shown], "total": 1}


@pytest.mark.parametrize(
    "value", ["none", "[" * 5_000, {"rows": []}, 3, "s3://bucket/runs.json"], ids=lambda each: str(each)[:9]
)
def test_what_is_no_list_of_rows_shows_none(value: Any, rows: Callable[..., dict[str, Any]]) -> None:
    assert rows({"runs": value}) == {"rows": [], "total": 0}


# --- of a set that is under way ---


def ref(run_id: str) -> RunRef:
    return RunRef(provider="nyx", run_id=run_id)


def ledger() -> Ledger:
    """One run that is waited for, one that has ended, one whose turn has not come."""
    waited = Row(index=0, key="a").submitted(ref("r-1"), None)
    over = Row(index=1, key="b", state=RowState.ENDED, run_id="r-2", outcome=Outcome.FAILED, spend=2.0, reason="broke")
    return Ledger([waited, over, Row(index=2, key="c", state=RowState.AWAITING_TURN)])


UNDER_WAY = [
    {"index": 0, "run_id": "r-1", "state": "submitted"},
    {"index": 1, "run_id": "r-2", "outcome": "failed", "spend": 2.0, "state": "ended", "reason": "broke"},
    {"index": 2, "state": "awaiting turn"},
]


def without_url(answer: dict[str, Any]) -> list[dict[str, Any]]:
    return [{name: each for name, each in row.items() if name != "url"} for row in answer["rows"]]


@pytest.mark.parametrize("first", [0, 7])
def test_a_set_that_is_under_way_is_shown_from_the_pages_of_its_newest_ledger(
    first: int, rows: Callable[..., dict[str, Any]]
) -> None:
    header = {"state": "many", "first": first, "pages": 1}
    pages = {f"run_submitted.{first}": ledger().page(0), f"run_submitted.{first + 1}": ledger().page(0)}
    answer = rows({"run_submitted": header, **pages})
    assert (without_url(answer), answer["total"]) == (UNDER_WAY, 3)
    assert answer["rows"][0]["url"].endswith("/r-1")
    assert "url" not in answer["rows"][2]


def test_rows_of_a_later_page_have_the_index_of_their_place_in_the_set(rows: Callable[..., dict[str, Any]]) -> None:
    xcoms = {"run_submitted": {"state": "many", "first": 0, "pages": 2}, "run_submitted.1": ledger().page(0)}
    assert [row["index"] for row in rows(xcoms)["rows"]] == [100, 101, 102]


def test_a_page_that_nobody_can_read_hides_no_other(rows: Callable[..., dict[str, Any]]) -> None:
    pages = {"run_submitted.0": {"rows": [3]}, "run_submitted.1": ledger().page(0), "run_submitted.2": "none"}
    answer = rows({"run_submitted": {"state": "many", "first": 0, "pages": 3}, **pages})
    assert [row["index"] for row in answer["rows"]] == [100, 101, 102]


@pytest.mark.parametrize("header", [None, "text", {"state": "submitted", "first": 0, "pages": 1}, {"state": "many"}])
def test_without_the_header_of_a_set_no_page_is_shown(header: Any, rows: Callable[..., dict[str, Any]]) -> None:
    assert rows({"run_submitted": header, "run_submitted.0": ledger().page(0)})["rows"] == []


def test_the_pages_of_the_task_state_store_come_before_those_of_the_xcoms(database: Database, person: Opens) -> None:
    from airflow.utils.session import create_session

    from runops.airflow.plugin._compat import task_state_store_model

    model = task_state_store_model()
    if model is None:
        pytest.skip("this Airflow keeps no state of tasks")
    header = {"state": "many", "first": 4, "pages": 1}
    task = database.add(record(**SET), xcoms={"run_submitted": {**header, "pages": 0}})
    index = "map_index" if hasattr(model, "map_index") else "region_index"
    place = {"dag_id": task["dag_id"], "run_id": task["dag_run_id"], "task_id": task["task_id"], index: -1}
    with create_session() as session:
        for key, value in {"runops": header, "runops.4": ledger().page(0), "runops.5": {"rows": []}}.items():
            stored = {"key": key, "value": json.dumps(value), "updated_at": datetime.now(UTC)}
            session.add(model(**place, dag_run_id=database.number_of(task), **stored))
    try:
        assert without_url(person("ada").get("/api/rows", **task).json()) == UNDER_WAY
    finally:
        with create_session() as session:
            session.query(model).delete()


def test_of_a_single_run_there_are_no_rows(database: Database, person: Opens) -> None:
    task = database.add(record())
    assert person("ada").get("/api/rows", **task).json() == {"rows": [], "total": 0}
