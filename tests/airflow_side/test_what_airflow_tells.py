"""What is read of Airflow itself, whatever its version: states, ids, channels, settings, and what a task remembers."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from runops.airflow import _compat
from runops.airflow._compat_traces import id_of_try
from runops.airflow.kill import killed_by_person, within
from runops.airflow.task_state import TaskState
from runops.airflow.traces import another_try_follows


def ti(**fields: Any) -> Any:
    return SimpleNamespace(**{"dag_id": "d", "run_id": "r", "task_id": "t", "map_index": -1, "id": None, **fields})


@pytest.mark.parametrize(
    ("version", "discards"), [("3.1.0", False), ("3.3.9", False), ("3.4.0", True), ("3.10.0", True), ("4.0.0", True)]
)
def test_from_3_4_on_a_clear_discards_what_a_task_remembers(
    version: str, discards: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_compat, "airflow_version", version)
    assert _compat.discards_on_clear() is discards


@pytest.mark.parametrize(("index", "name"), [(-1, "t"), (None, "t"), (0, "t_0"), (3, "t_3")])
def test_the_state_of_a_mapped_task_stands_under_its_index(index: int | None, name: str) -> None:
    states = {
        "r": {"t": "of the whole", "t_0": "of the first", "t_3": SimpleNamespace(value="of the fourth"), "u": None}
    }
    told = {"t": "of the whole", "t_0": "of the first", "t_3": "of the fourth"}
    assert _compat.state_in(states, ti(map_index=index)) == told[name]
    assert _compat.state_in(states, ti(task_id="u")) is None


@pytest.mark.parametrize(
    ("state", "kills", "kills_if_clear_does"),
    [
        *((state, True, True) for state in ("success", "failed", "skipped", "upstream_failed", "removed")),
        ("restarting", False, True),
        *((state, False, False) for state in ("running", "deferred", "queued", "scheduled", "up_for_retry", None)),
    ],
)
def test_a_person_has_killed_a_task_whose_state_only_a_person_makes(
    state: str | None, kills: bool, kills_if_clear_does: bool
) -> None:
    asked: list[dict[str, Any]] = []

    def states(**question: Any) -> Any:
        asked.append(question)
        return {"r": {"t": state, "t_0": state}}

    for index in (-1, None, 0):
        context = {"ti": ti(map_index=index, get_task_states=states)}
        assert killed_by_person(context, clear_kills=False) is kills
        assert killed_by_person(context, clear_kills=True) is kills_if_clear_does
    same = {"dag_id": "d", "task_ids": ["t"], "run_ids": ["r"]}
    assert asked[::2] == [{**same, "map_index": index} for index in (None, None, 0)]


def test_what_takes_too_long_or_fails_while_a_task_ends_gives_nothing(caplog: pytest.LogCaptureFixture) -> None:
    forever, before = threading.Event(), threading.enumerate()
    assert within(0.01, forever.wait) is None
    # A thread that hangs keeps no process from its end.
    began = [each for each in threading.enumerate() if each not in before and each.name == "runops-attempt"]
    assert [each.daemon for each in began] == [True]
    forever.set()
    assert within(5.0, lambda: "given") == "given"
    assert within(5.0, lambda: 1 // 0) is None
    assert "An attempt while the task is being ended failed." in caplog.text
    assert "ZeroDivisionError" in caplog.text


def made_at(seconds: float, version: int = 7) -> str:
    return str(uuid.UUID(int=(int(seconds * 1000) << 80) | (version << 76) | (0b10 << 62) | 5))


NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("number", "before"),
    [
        (made_at(NOW - 61), True), (made_at(NOW - 59), False), (made_at(NOW + 5), False),
        (made_at(NOW - 600, 4), False),
        ("no id", False), (None, False),
    ],
)  # fmt: skip
def test_a_try_that_was_made_a_minute_ago_may_have_begun_in_another_triggerer(number: Any, before: bool) -> None:
    assert _compat.may_have_begun_before(ti(id=number), NOW) is before
    assert _compat.may_have_begun_before(SimpleNamespace(), NOW) is False


@pytest.mark.parametrize(
    ("has", "in_turn"), [((), False), (("_async_reader",), True), (("_async_reader", "start_reader"), False)]
)
def test_only_the_channel_of_3_1_takes_each_answer_for_that_to_the_last_request(
    has: tuple[str, ...], in_turn: bool
) -> None:
    assert _compat.answers_in_turn(SimpleNamespace(**dict.fromkeys(has))) is in_turn


def test_dag_test_answers_in_the_task_s_own_process(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.execution_time import task_runner

    for name, own in (("InProcessSupervisorComms", True), ("CommsDecoder", False)):
        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", type(name, (), {})(), raising=False)
        assert _compat.answers_in_process() is own
    monkeypatch.delattr(task_runner, "SUPERVISOR_COMMS", raising=False)
    assert (_compat.supervisor(), _compat.answers_in_process()) == (None, False)


def test_a_trigger_has_the_memory_of_each_of_its_assets_or_the_only_one() -> None:
    by_name, by_uri = SimpleNamespace(), SimpleNamespace()
    accessors = SimpleNamespace(_by_name={"a": by_name}, _by_uri={"b": by_uri})
    assert _compat.asset_state_stores(SimpleNamespace(asset_state_store=accessors)) == [by_name, by_uri]
    alone = SimpleNamespace()
    assert _compat.asset_state_stores(SimpleNamespace(asset_state_store=alone)) == [alone]
    assert _compat.asset_state_stores(SimpleNamespace(asset_state_store=None)) == []
    assert _compat.asset_state_stores(SimpleNamespace()) == []


@pytest.mark.parametrize(
    ("address", "most"),
    [
        ("mysql+mysqldb://h/d", 65_535), ("mysql://h/d", 65_535), ("mariadb+pymysql://h/d", 65_535),
        ("postgresql+psycopg2://h/mysql", None), ("sqlite:////mysql:x", None), ("", None),
    ],
)  # fmt: skip
def test_only_mysql_ends_the_arguments_of_a_trigger_at_64_kib(
    address: str, most: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", address)
    assert _compat.trigger_bytes() == most


def test_where_airflow_names_no_database_no_limit_of_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_compat, "conf", SimpleNamespace(get=lambda section, key, *, fallback: fallback))
    assert _compat.trigger_bytes() is None


def test_an_xcom_is_read_by_its_key_and_that_of_its_task_instance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_compat.XCom, "get_value", lambda *, ti_key, key: (ti_key, key))
    assert _compat.pushed("of a task instance", "k") == ("of a task instance", "k")


def test_the_heartbeat_of_a_worker_is_what_airflow_is_configured_with(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _compat.heartbeat_seconds() == 5.0
    monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", "12.5")
    assert _compat.heartbeat_seconds() == 12.5


class Channel:
    """What a trigger asks; it answers with what the test says."""

    def __init__(self, answer: Any = None) -> None:
        self.asked: list[dict[str, Any]] = []
        self.answer = answer

    async def asend(self, message: Any) -> Any:
        self.asked.append(message.model_dump(exclude_unset=True))
        return self.answer


@pytest.fixture
def channel(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Channel]:
    def opened(answer: Any = None) -> Channel:
        made = Channel(answer)
        monkeypatch.setattr(_compat, "supervisor", lambda: made)
        return made

    return opened


@pytest.mark.parametrize(("index", "asked"), [(-1, None), (None, None), (2, 2)])
def test_the_state_of_a_trigger_s_task_is_asked_by_all_of_its_ids(
    index: int | None, asked: int | None, channel: Callable[[Any], Channel]
) -> None:
    name = "t" if asked is None else f"t_{asked}"
    opened = channel(SimpleNamespace(task_states={"r": {name: "deferred"}}))
    assert asyncio.run(_compat.task_state_of(ti(map_index=index))) == "deferred"
    (question,) = opened.asked
    wanted = {"dag_id": "d", "task_ids": ["t"], "run_ids": ["r"], "map_index": asked}
    assert {key: question[key] for key in wanted} == wanted


@pytest.mark.parametrize(("index", "asked"), [(-1, -1), (None, -1), (2, 2)])
def test_an_xcom_of_a_trigger_s_task_is_set_read_and_removed_by_all_of_its_ids(
    index: int | None, asked: int, channel: Callable[[Any], Channel]
) -> None:
    opened, task = channel(SimpleNamespace(value={"a": 1})), ti(map_index=index)
    asyncio.run(_compat.set_xcom(task, "k", {"b": 2}))
    assert asyncio.run(_compat.get_xcom(task, "k")) == {"a": 1}
    asyncio.run(_compat.delete_xcom(task, "k"))
    wanted = {"dag_id": "d", "run_id": "r", "task_id": "t", "map_index": asked, "key": "k"}
    assert [{key: question[key] for key in wanted} for question in opened.asked] == [wanted] * 3
    assert opened.asked[0]["value"] == {"b": 2}
    channel(None)
    assert asyncio.run(_compat.get_xcom(task, "k")) is None


def test_xcoms_are_set_only_by_a_trigger_with_a_task_and_a_channel(
    channel: Callable[[Any], Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    channel(None)
    assert _compat.may_set_xcom(ti()) is True
    assert _compat.may_set_xcom(None) is False
    monkeypatch.setattr(_compat, "stores_xcoms_elsewhere", lambda: True)
    assert _compat.may_set_xcom(ti()) is False
    monkeypatch.undo()
    monkeypatch.setattr(_compat, "supervisor", lambda: None)
    assert _compat.may_set_xcom(ti()) is False


def test_a_try_has_the_hex_digits_of_its_id_and_none_where_it_has_no_id() -> None:
    number = "01890000-0000-7000-8000-000000000001"
    assert id_of_try(ti(id=number)) == number.replace("-", "")
    assert id_of_try(ti(id="none")) is None
    assert id_of_try(SimpleNamespace()) is None
    # Outside of a task there is no context either.
    assert id_of_try() is None


@pytest.mark.parametrize(
    ("fields", "follows"),
    [
        ({"try_number": 1, "max_tries": 1}, True), ({"try_number": 2, "max_tries": 1}, False),
        ({"try_number": 1, "max_tries": 0}, False), ({"try_number": 1, "max_tries": None}, False),
        ({"try_number": 0, "max_tries": 0}, True), ({"max_tries": 1}, True), ({"try_number": 1}, False),
    ],
    ids=str,
)  # fmt: skip
def test_another_try_follows_an_error_while_there_are_retries(fields: dict[str, Any], follows: bool) -> None:
    context = {"ti": SimpleNamespace(**fields)}
    assert another_try_follows(context, ValueError()) is follows
    for final in (None, _compat.AirflowFailException(), _compat.AirflowSensorTimeout()):
        assert another_try_follows(context, final) is False


def test_what_a_task_is_mapped_over_or_gives_to_its_dag_is_asked_of_the_task() -> None:
    def task(dag: Any, *later: Any, **fields: Any) -> Any:
        return SimpleNamespace(get_dag=lambda: dag, iter_mapped_dependants=lambda: iter(later), **fields)

    told = [_compat.maps_over(each) for each in (task(None, "later"), task("a dag"), task("a dag", "later"))]
    assert told == [False, False, True]
    given = [_compat.makes_dag_result(task(None, **each)) for each in ({}, {"returns_dag_result": True})]
    assert given == [False, True]
    assert [_compat.render_of_map_index(each) for each in (ti(), ti(rendered_map_index="x"))] == [None, "x"]


# --- what a task remembers ---


class Store:
    def __init__(self, value: Any = None) -> None:
        self.values: dict[str, Any] = {} if value is None else {"runops": value}

    def get(self, key: str, default: Any = None) -> Any:
        return self.values.get(key, default)

    def set(self, key: str, value: Any) -> None:
        self.values[key] = value

    def delete(self, key: str) -> None:
        self.values.pop(key, None)


def remembered(store: Store | None, **options: Any) -> TaskState:
    return TaskState({"ti": SimpleNamespace(max_tries=2), "task_state_store": store}, **options)


def test_a_record_belongs_to_the_tries_between_two_clears() -> None:
    store = Store()
    remembered(store).save(state="submitted", a=1)
    assert store.values == {"runops": {"version": 1, "generation": 2, "state": "submitted", "a": 1}}
    assert remembered(store).load() == store.values["runops"]
    store.values["runops"]["generation"] = 1
    assert remembered(store).load() is None
    assert remembered(store, everlasting=True).load() == remembered(store).load_any() == store.values["runops"]


def test_an_update_adds_to_a_record_and_makes_none() -> None:
    store = Store()
    remembered(store).update(a=1)
    assert store.values == {}
    remembered(store).save(a=1, b=1)
    remembered(store).update(b=2, c=3)
    assert store.values["runops"] == {"version": 1, "generation": 2, "a": 1, "b": 2, "c": 3}


def test_to_forget_leaves_the_runs_of_before_that_may_go_on() -> None:
    store = Store({"generation": 2, "state": "submitted", "left": [{"state": "submitted"}]})
    remembered(store).forget()
    assert store.values["runops"] == {
        "version": 1, "generation": 2, "state": "refused", "left": [{"state": "submitted"}],
    }  # fmt: skip
    store.values["runops"]["left"] = []
    remembered(store).forget()
    assert store.values == {}


def test_what_is_no_record_is_none_and_without_a_store_nothing_is_kept() -> None:
    assert remembered(Store("text")).load_any() is None
    nothing = remembered(None)
    nothing.save(a=1)
    nothing.update(a=1)
    nothing.forget()
    assert (nothing.exists, nothing.load(), nothing.load_any(), nothing.was_stopped("r")) == (False, None, None, False)
    assert remembered(Store()).exists is True


def test_a_run_that_was_stopped_from_outside_is_known_by_its_id() -> None:
    store = Store()
    store.values["runops_stopped"] = "r1"
    assert remembered(store).was_stopped("r1") is True
    assert remembered(store).was_stopped("r2") is False
