"""What the page takes: each bound of each question on both sides, and whose request is its own."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError
from pytest_mock import MockerFixture

TASK = {"dag_id": "d", "dag_run_id": "r", "task_id": "t"}
LARGEST = 2**31 - 1
TEXTS = (["x"], ["x" * 250], ["x"] * 50), ([""], ["x" * 251], ["x"] * 51, ["a\x00"])
PAGE = {
    "limit": ((1, 200), (0, 201)),
    "offset": ((0, 1_000_000), (-1, 1_000_001)),
    "q": (("", "x" * 200), ("x" * 201, "a\x00")),
}
OUTCOMES = (
    ["succeeded"], ["degraded"], ["exhausted"], ["failed"], ["cancelled"], ["timed_out"], ["failed"] * 50,
), (["running"], ["failed"] * 51)  # fmt: skip
BOUNDS: dict[str, dict[str, tuple[tuple[Any, ...], tuple[Any, ...]]]] = {
    "RunsQuestion": {
        **PAGE,
        "sort": (("began_at", "-spend"), ("", "-", "--spend", "value", "spend-")),
        "provider": TEXTS,
        "dag_id": TEXTS,
        "task_id": TEXTS,
        "dag_run_id": TEXTS,
        "outcome": OUTCOMES,
        "phase": ((["queued"], ["running"], ["paused"], ["waiting"], ["paused"] * 50), (["no"], ["paused"] * 51)),
        "verdict": ((["succeed"], ["warn"], ["skip"], ["fail"], ["fail"] * 50), (["failed"], ["fail"] * 51)),
        "holds": (
            (["paused"], ["waiting"], ["turn"], ["rate_limit"], ["key"], ["key"] * 50), (["keys"], ["key"] * 51),
        ),
        "map_index": (([-1], [LARGEST], [0] * 50), ([-2], [LARGEST + 1], [0] * 51)),
        "open": ((True, False, None, "true"), ("perhaps",)),
    },
    "TaskQuestion": {
        "dag_id": (("x", "x" * 250), ("", "x" * 251, "a\x00", None)),
        "dag_run_id": (("x", "x" * 250), ("", "x" * 251, "a\x00", None)),
        "task_id": (("x", "x" * 250), ("", "x" * 251, "a\x00", None)),
        "map_index": ((-1, 0, LARGEST), (-2, LARGEST + 1)),
    },
    "RowsQuestion": {**PAGE, "outcome": OUTCOMES, "map_index": ((-1, LARGEST), (-2, LARGEST + 1))},
    "ChartsQuestion": {"days": ((1, 365), (0, 366)), "provider": TEXTS, "dag_id": TEXTS, "task_id": TEXTS},
}  # fmt: skip


@pytest.mark.parametrize(("model", "name"), [(model, name) for model, fields in BOUNDS.items() for name in fields])
def test_a_question_is_taken_up_to_its_bounds_and_refused_beyond(model: str, name: str) -> None:
    from runops.airflow.plugin import questions

    kind, others = getattr(questions, model), TASK if model in ("TaskQuestion", "RowsQuestion") else {}
    good, bad = BOUNDS[model][name]
    for value in good:
        made = getattr(kind(**{**others, name: value}), name)
        assert made == (True if value == "true" else value)
    for value in bad:
        with pytest.raises(ValidationError):
            kind(**{**others, name: value})


def test_a_question_of_which_nothing_else_is_said_has_the_first_page_of_all() -> None:
    from runops.airflow.plugin.questions import ChartsQuestion, RowsQuestion, RunsQuestion, TaskQuestion

    filters = ("provider", "phase", "outcome", "verdict", "holds", "dag_id", "task_id", "dag_run_id", "map_index")
    first = {"limit": 50, "offset": 0, "q": ""}
    none: dict[str, Any] = {name: [] for name in filters}
    assert RunsQuestion().model_dump() == {**first, **none, "open": None, "sort": "-began_at"}
    task = {**TASK, "map_index": -1}
    assert TaskQuestion(**TASK).model_dump() == task  # pyright: ignore[reportArgumentType]
    assert RowsQuestion(**TASK).model_dump() == {**task, **first, "outcome": []}  # pyright: ignore[reportArgumentType]
    assert ChartsQuestion().model_dump() == {"days": 30, "provider": [], "dag_id": [], "task_id": []}


@pytest.mark.parametrize("model", BOUNDS)
def test_a_name_that_a_question_does_not_have_is_refused(model: str) -> None:
    from runops.airflow.plugin import questions

    others = TASK if model in ("TaskQuestion", "RowsQuestion") else {}
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        getattr(questions, model)(**others, unknown=1)


ORDERS = {
    "began_at", "created_at", "started_at", "finished_at", "ended_at", "looked_at", "written_at", "provider", "run_id",
    "state", "status", "phase", "outcome", "verdict", "holds", "reason", "progress", "spend", "dag_id", "dag_run_id",
    "task_id", "map_index", "task_state",
}  # fmt: skip


def test_every_column_of_the_page_is_an_order_in_both_directions() -> None:
    from runops.airflow.plugin.questions import SORTS, RunsQuestion

    assert SORTS == ORDERS
    for name in ORDERS:
        assert (RunsQuestion(sort=name).sort, RunsQuestion(sort=f"-{name}").sort) == (name, f"-{name}")


def test_an_address_is_the_four_ids_of_a_task_instance() -> None:
    from runops.airflow.plugin.questions import Address, TaskQuestion

    ids = {**TASK, "map_index": 4}
    assert Address.of(TaskQuestion(**ids)).to_dict() == ids
    row = SimpleNamespace(dag_id="d", run_id="r", dag_run_id=77, task_id="t", map_index=4)
    assert Address.of_xcom(row) == Address("d", "r", "t", 4)


# --- whose request it is ---

OWN = {"content-type": "application/json", "x-runops": "1"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "same-origin"}, None),
        ({"sec-fetch-site": "same-origin", "origin": "https://here:8080", "host": "HERE:8080"}, None),
        ({"origin": "https://Here:8080", "host": "here:8080"}, None),
        ({"origin": "https://own.example", "host": "here"}, None),
        ({"origin": "OWN.example", "host": "here"}, 403),
        ({"origin": "https://here:8081", "host": "here:8080"}, 403),
        ({"origin": "https://", "host": ""}, 403),
        ({"origin": "null", "host": "null"}, 403),
        ({"sec-fetch-site": "same-origin", "origin": "https://other", "host": "here"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": ""}, 403),
        ({"sec-fetch-site": "cross-site", "authorization": "Bearer x"}, 403),
        ({"authorization": "Bearer x"}, None),
        ({"authorization": "bearer x"}, None),
        ({"authorization": "Bearer"}, 403),
        ({"authorization": "Basic x"}, 403),
        ({}, 403),
        ({"sec-fetch-site": "same-origin", "x-runops": "2"}, 403),
        ({"sec-fetch-site": "same-origin", "content-type": "application/jsonp"}, 415),
        ({"sec-fetch-site": "same-origin", "content-type": "application/json;charset=utf-8"}, None),
    ],
    ids=str,
)
def test_an_action_is_taken_of_our_own_page_or_of_a_program_with_a_token(
    headers: dict[str, str], status: int | None, mocker: MockerFixture
) -> None:
    from fastapi import HTTPException

    from runops.airflow.plugin import guard

    mocker.patch.object(guard, "own_hosts", return_value=frozenset({"Own.example"}))
    request: Any = SimpleNamespace(headers={**OWN, **headers})
    if status is None:
        guard.from_own_page(request)
        return
    with pytest.raises(HTTPException) as raised:
        guard.from_own_page(request)
    assert raised.value.status_code == status


def test_reads_and_actions_are_counted_apart_and_each_person_by_themselves(mocker: MockerFixture) -> None:
    from fastapi import HTTPException

    from runops.airflow.plugin import guard

    guard._limiter.cache_clear()
    mocker.patch.object(guard, "READS_PER_MINUTE", 2)
    mocker.patch.object(guard, "ACTIONS_PER_MINUTE", 1)
    ada, otto, own = _person("ada"), _person(7), _request()
    assert [guard.reader(ada), guard.reader(ada), guard.actor(own, ada)] == [ada] * 3
    assert [guard.reader(otto), guard.reader(otto), guard.actor(own, otto)] == [otto] * 3
    for ask in (lambda: guard.reader(ada), lambda: guard.actor(own, ada), lambda: guard.actor(own, otto)):
        with pytest.raises(HTTPException) as raised:
            ask()
        assert raised.value.status_code == 429
    guard._limiter.cache_clear()


def _person(name: object) -> Any:
    return SimpleNamespace(get_id=lambda: name)


def _request() -> Any:
    return SimpleNamespace(headers={**OWN, "sec-fetch-site": "same-origin"})


@pytest.mark.parametrize(("left", "says"), [(0.2, "1"), (-3.0, "1"), (1.0, "1"), (1.5, "2"), (59.1, "60")])
def test_who_asks_too_often_is_told_when_to_ask_again(left: float, says: str, mocker: MockerFixture) -> None:
    from fastapi import HTTPException

    from runops.airflow.plugin import guard

    mocker.patch.object(guard, "time", SimpleNamespace(time=lambda: 1_000.0))
    limiter = mocker.patch.object(guard, "_limiter").return_value
    limiter.hit.return_value = False
    limiter.get_window_stats.return_value = SimpleNamespace(reset_time=1_000.0 + left)
    with pytest.raises(HTTPException) as raised:
        guard.reader(_person("ada"))
    assert (raised.value.detail, raised.value.headers) == (
        f"Too many requests: again in {says} s.", {"retry-after": says},
    )  # fmt: skip
    assert limiter.hit.call_args == limiter.get_window_stats.call_args
    assert "ada" not in str(limiter.hit.call_args)


def test_a_header_that_a_route_has_set_stays_and_all_others_are_added() -> None:
    from runops.airflow.plugin.guard import HEADERS, Headers

    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (scope, receive) == ({"type": "http"}, "receives")
        there = [(b"Cache-Control", b"no-cache"), (b"x-own", b"1")]
        await send({"type": "http.response.start", "status": 200, "headers": there})
        await send({"type": "http.response.body", "body": b"x"})

    async def send(message: Any) -> None:
        sent.append(message)

    receive: Any = "receives"
    asyncio.run(Headers(app)({"type": "http"}, receive, send))
    start, body = sent
    assert start["headers"] == [
        (b"Cache-Control", b"no-cache"), (b"x-own", b"1"),
        *((name.encode(), value.encode()) for name, value in HEADERS.items()),
    ]  # fmt: skip
    assert (start["status"], body) == (200, {"type": "http.response.body", "body": b"x"})
