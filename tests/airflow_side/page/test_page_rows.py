"""What the page makes of stored rows: durations, ages, charts, the runs of a set, and who may do what."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_mock import MockerFixture

from runops.airflow.external_run import ExternalRun
from runops.core import find
from tests.airflow_side.page.database import ended, record

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def run_of(**fields: Any) -> ExternalRun:
    made = ExternalRun.from_dict(record(**fields))
    assert made is not None
    return made


def stored_of(*, task_id: str = "wait", task_state: str | None = "deferred", **fields: Any) -> Any:
    from runops.airflow.plugin.questions import Address
    from runops.airflow.plugin.rows import Stored

    return Stored(Address("alpha", "run", task_id, -1), run_of(**fields), NOON, task_state)


# --- moments and durations ---


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        (None, None), ("", None), ("soon", None),
        ("2026-05-01T12:00:00", NOON), ("2026-05-01T12:00:00Z", NOON), ("2026-05-01T14:00:00+02:00", NOON),
    ],
)  # fmt: skip
def test_a_time_of_a_record_is_one_in_utc_where_it_says_nothing_else(text: str | None, moment: Any) -> None:
    from runops.airflow.plugin.rows import moment_of

    found = moment_of(text)
    assert found == moment
    assert text != "2026-05-01T14:00:00+02:00" or found.tzinfo == timezone(timedelta(hours=2))  # pyright: ignore[reportOptionalMemberAccess]


@pytest.mark.parametrize(
    ("start", "end", "took"),
    [
        (NOON, NOON + timedelta(seconds=1.23456), 1.235), (NOON, NOON, 0.0), (NOON, NOON - timedelta(seconds=5), 0.0),
        (None, NOON, None), (NOON, None, None),
    ],
)  # fmt: skip
def test_a_duration_is_in_seconds_to_the_thousandth_and_never_below_none(start: Any, end: Any, took: Any) -> None:
    from runops.airflow.plugin.rows import seconds

    assert seconds(start, end) == took


@pytest.mark.parametrize(
    ("created", "began_at", "moment"),
    [("2026-05-01T12:00:00Z", "2026-05-02T12:00:00Z", NOON), (None, "2026-05-01T12:00:00Z", NOON), (None, None, None)],
)
def test_a_run_began_when_its_service_says_or_its_wait(created: Any, began_at: Any, moment: Any) -> None:
    from runops.airflow.plugin.rows import began

    assert began(created, began_at) == moment


# --- how long runs usually take ---


class Session:
    """Gives the last ends of tasks, and says for which it was asked."""

    def __init__(self, rows: list[Any]) -> None:
        self.asked: list[Any] = []
        self._rows = rows

    def recent_ends(self, tasks: Any) -> Any:
        self.asked.append(tasks)
        return None

    def execute(self, _: Any) -> list[Any]:
        return [row for row in self._rows if (row.dag_id, row.task_id) in self.asked[-1]]


def took(seconds: float | None, task_id: str = "wait") -> Any:
    began = "2026-05-01T12:00:00Z"
    end = None if seconds is None else (NOON + timedelta(seconds=seconds)).isoformat()
    value = ended(created_at=began, began_at=began, finished_at=end, ended_at=end)
    return SimpleNamespace(dag_id="alpha", task_id=task_id, record=value)


@pytest.fixture
def usual(mocker: MockerFixture) -> Any:
    from runops.airflow.plugin import rows

    mocker.patch.dict(rows._USUAL, clear=True)
    clock = SimpleNamespace(now=1_000.0)
    mocker.patch.object(rows, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_the_usual_duration_is_asked_for_once_a_minute_and_task(usual: Any) -> None:
    from runops.airflow.plugin.rows import USUAL_FOR, usual_seconds

    session: Any = Session([took(10.0), took(30.0), took(90.0), took(None), took(7.0, "many")])
    records = [stored_of(), stored_of(), stored_of(task_id="many"), stored_of(task_id="none")]
    found = {("alpha", "wait"): 30.0, ("alpha", "many"): 7.0}
    assert usual_seconds(session, records, session) == found
    assert session.asked == [[("alpha", "many"), ("alpha", "none"), ("alpha", "wait")]]
    usual.now += USUAL_FOR
    assert usual_seconds(session, records[:1], session) == {("alpha", "wait"): 30.0}
    assert len(session.asked) == 1
    usual.now += 0.1
    usual_seconds(session, records[:1], session)
    assert session.asked[1:] == [[("alpha", "wait")]]
    assert usual_seconds(session, [], session) == {}


def test_what_is_kept_of_usual_durations_is_bounded(usual: Any, mocker: MockerFixture) -> None:
    from runops.airflow.plugin import rows

    assert (rows.USUAL_FOR, rows.MOST_USUAL) == (60.0, 10_000)
    mocker.patch.object(rows, "MOST_USUAL", 2)
    session: Any = Session([])
    for number in range(4):
        rows.usual_seconds(session, [stored_of(task_id=f"t{number}")], session)
    # The one that has found three has thrown them away.
    assert sorted(task for _, task in rows._USUAL) == ["t3"]


def test_a_record_that_is_none_or_of_another_try_is_passed_over() -> None:
    from runops.airflow.plugin.rows import stored

    ids = {"dag_id": "d", "dag_run_id": "r", "task_id": "t", "map_index": 3, "timestamp": NOON}
    good = SimpleNamespace(**ids, record=record(try_number=2), now_in_try=2, task_state="running")
    other = SimpleNamespace(**ids, record=record(try_number=1), now_in_try=2, task_state="running")
    none = SimpleNamespace(**ids, record="text", now_in_try=2, task_state="running")
    gone = SimpleNamespace(**ids, record=record(try_number=2), now_in_try=2, task_state=None)
    found = stored([good, other, none, gone])
    assert [(each.address.to_dict(), each.written, each.task_state) for each in found] == [
        ({"dag_id": "d", "dag_run_id": "r", "task_id": "t", "map_index": 3}, NOON, state) for state in ("running", None)
    ]


# --- charts ---


def charted(number: int, **fields: Any) -> Any:
    given: dict[str, Any] = {
        "dag_id": "alpha", "task_id": f"t{number:03}", "provider": "nyx", "outcome": "succeeded", "spend": None,
        "spend_unit": None, "began_at": None, "created_at": "2026-05-01T12:00:00Z", "started_at": None,
        "finished_at": "2026-05-01T12:00:10Z", "ended_at": None, "timestamp": NOON,
    }  # fmt: skip
    return SimpleNamespace(**{**given, **fields})


def chart(rows: list[Any], days: int = 30) -> tuple[dict[str, Any], Any]:
    """The chart of rows, and since when they were asked for."""
    from runops.airflow.plugin.charts import charts_of
    from runops.airflow.plugin.questions import ChartsQuestion

    since: list[Any] = []
    queries: Any = SimpleNamespace(ended_since=lambda moment, question: since.append((moment, question.days)))
    session: Any = SimpleNamespace(execute=lambda _: SimpleNamespace(all=lambda: rows))
    return charts_of(queries, ChartsQuestion(days=days), session, NOON), since[0]


def test_a_chart_goes_back_as_many_days_as_were_asked_for() -> None:
    assert chart([], days=3)[1] == (NOON - timedelta(days=3), 3)


def test_of_many_tasks_the_fifty_with_the_most_runs_are_told_apart() -> None:
    rows = [charted(number) for number in range(60)] + [charted(59), charted(58), charted(58)]
    told = chart(rows)[0]["tasks"]
    names = [each["task_id"] for each in told]
    assert names == ["t058", "t059", *(f"t{number:03}" for number in range(48))]
    assert [each["runs"] for each in told[:3]] == [3, 2, 1]


@pytest.mark.parametrize(
    ("fields", "counts"),
    [
        ({}, True), ({"outcome": "running"}, False), ({"outcome": None}, False), ({"provider": None}, False),
        ({"provider": ""}, False),
    ],
    ids=str,
)  # fmt: skip
def test_a_row_without_a_provider_or_an_outcome_is_not_charted(fields: dict[str, Any], counts: bool) -> None:
    told = chart([charted(0, **fields)])[0]
    assert (len(told["days"]), len(told["tasks"])) == ((1, 1) if counts else (0, 0))


def test_spend_is_summed_by_its_unit_and_rounded() -> None:
    spends = [(0.1, "USD"), (0.2, "USD"), (5, "credits"), (1.23456749, "EUR"), (None, "USD"), (7, None), (7, "")]
    told = chart([charted(0, spend=spend, spend_unit=unit) for spend, unit in spends])[0]["tasks"][0]
    assert told["spend"] == {"USD": 0.3, "credits": 5.0, "EUR": 1.234567}


@pytest.mark.parametrize(
    ("count", "place"), [(0, None), (1, 1), (2, 2), (9, 9), (10, 9), (11, 10), (20, 18), (100, 90)]
)
def test_nine_of_ten_runs_took_no_longer_than_the_percentile(count: int, place: int | None) -> None:
    from runops.airflow.plugin.charts import _percentile

    assert _percentile([float(number) for number in range(1, count + 1)], 0.9) == place


# --- the runs of a set ---


def test_of_a_ledger_a_thousand_pages_are_read(mocker: MockerFixture) -> None:
    from runops.airflow.plugin import sets

    assert sets.MOST_PAGES == 1_000
    mocker.patch.object(sets, "MOST_PAGES", 2)
    mocker.patch.object(sets, "task_state_store_model", return_value=None)
    mocker.patch.object(sets, "rows_of_task", return_value=())
    keys: list[Any] = []
    mocker.patch.object(sets, "select", side_effect=lambda *_: SimpleNamespace(where=lambda *of: keys.append(of)))
    header = {"state": "many", "first": 5, "pages": 3}
    session: Any = SimpleNamespace(
        scalar=lambda _: header, execute=lambda _: [("run_submitted.6", {"b": 1}), ("run_submitted.5", '{"a": 1}')]
    )
    address: Any = SimpleNamespace(to_dict=dict)
    assert list(sets._pages(address, session)) == [(0, {"a": 1}), (1, {"b": 1})]
    assert len(keys[1]) == 1
    assert keys[1][0].right.value == ["run_submitted.5", "run_submitted.6"]


@pytest.mark.parametrize(
    ("stored", "value"),
    [
        ([1], [1]), ("[1]", [1]), ('"[1]"', [1]), ('"\\"[1]\\""', "[1]"), ("{", None), ("[" * 100_000, None),
        (None, None),
    ],
    ids=["a value", "its text", "the text of that", "thrice", "no JSON", "too deep", "nothing"],
)  # fmt: skip
def test_a_stored_value_is_unpacked_twice_at_the_most(stored: Any, value: Any) -> None:
    from runops.airflow.plugin.sets import _value

    assert _value(stored) == value


# --- who may do what ---


def rights_of(mocker: MockerFixture, **has: bool) -> tuple[Any, Any]:
    from runops.airflow.plugin import rights

    compat = mocker.patch.object(rights, "_compat", LIVE_STATES=frozenset({"deferred"}))
    compat.may_edit_task.return_value = has.get("edits", True)
    compat.may_see_connection.return_value = has.get("sees_connection", True)
    compat.may_see_tasks.return_value = has.get("sees_tasks", True)
    compat.readable_dags.return_value = {"alpha"}
    return rights.Rights("ada"), compat  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("fields", "has", "may"),
    [
        ({}, {}, True), ({"kind": "set"}, {}, False), ({"run_id": None}, {}, False), ({"conn_id": None}, {}, False),
        ({}, {"edits": False}, False), ({}, {"sees_connection": False}, False), ({"run_ended": True}, {}, True),
    ],
    ids=str,
)  # fmt: skip
def test_a_look_needs_a_run_the_right_to_edit_and_the_connection(
    fields: dict[str, Any], has: dict[str, bool], may: bool, mocker: MockerFixture
) -> None:
    rights, _ = rights_of(mocker, **has)
    assert rights.may_look(run_of(**fields), "alpha") is may


LEFT = {"cancels": False}


@pytest.mark.parametrize(
    ("fields", "state", "has", "may"),
    [
        ({}, "deferred", {}, True),
        ({}, "deferred", {"sees_connection": False}, True),
        ({}, "deferred", {"edits": False}, False),
        ({"run_ended": True}, "deferred", {}, False),
        ({"kind": "set", "run_id": None}, "deferred", {}, True),
        ({"kind": "set", "run_id": None}, "failed", {}, False),
        ({"kind": "set"}, "failed", {}, False),
        ({"ended_at": "2026-05-01T12:00:00Z"}, "deferred", {"sees_connection": False}, False),
        ({}, "failed", {}, True),
        ({}, None, {"sees_connection": False}, False),
        (LEFT, "deferred", {}, True),
        (LEFT, "deferred", {"sees_connection": False}, False),
        ({**LEFT, "run_id": None}, "deferred", {}, False),
        ({**LEFT, "provider": "nexio"}, "deferred", {}, False),
        ({**LEFT, "provider": "acme:GONE"}, "deferred", {}, False),
        ({**LEFT, "conn_id": None}, "deferred", {}, False),
    ],
    ids=str,
)
def test_a_cancel_needs_what_does_it_and_the_rights_for_that(
    fields: dict[str, Any], state: str | None, has: dict[str, bool], may: bool, mocker: MockerFixture
) -> None:
    rights, _ = rights_of(mocker, **has)
    assert rights.may_cancel(run_of(**fields), "alpha", state) is may


def test_each_right_is_asked_for_once_in_a_request(mocker: MockerFixture) -> None:
    rights, compat = rights_of(mocker)
    for _ in range(3):
        assert (rights.sees("alpha"), rights.sees("beta"), rights.edits("alpha")) == (True, False, True)
        assert (rights.sees_connection("c"), rights.sees_connection(None)) == (True, False)
    assert [call.args for call in compat.may_edit_task.call_args_list] == [("ada", "alpha")]
    assert [call.args for call in compat.may_see_connection.call_args_list] == [("ada", "c")]
    assert [call.args for call in compat.may_see_tasks.call_args_list] == [("ada",), ("ada", "alpha")]
    assert [call.args for call in compat.readable_dags.call_args_list] == [("ada",)]


def test_who_may_read_no_task_at_all_is_not_asked_about_dags(mocker: MockerFixture) -> None:
    rights, compat = rights_of(mocker, sees_tasks=False)
    assert (rights.dags, rights.sees("alpha"), compat.readable_dags.call_count) == (set(), False, 0)


def test_a_service_is_cancellable_as_it_is_declared() -> None:
    from runops.airflow.plugin.rights import declared, is_cancellable

    assert declared(run_of()) is find("nyx")
    assert declared(run_of(provider="acme:GONE")) is None
    assert [is_cancellable(run_of(provider=name)) for name in ("nyx", "nexio", "acme:GONE")] == [True, False, False]
