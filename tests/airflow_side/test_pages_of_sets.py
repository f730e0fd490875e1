"""Where a set of runs is kept in Airflow: its header, its pages, and those of the sets before it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runops.airflow.many.ledger_store import LedgerStore


def travelled(value: Any) -> Any:
    return json.loads(json.dumps(value, allow_nan=False))


class Ti:
    """A task instance, its XComs and its store."""

    task_id, map_index, max_tries = "t", -1, 2

    def __init__(self) -> None:
        self.xcoms: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = travelled(value)

    def xcom_pull(self, task_ids: str, key: str, map_indexes: int) -> Any:
        assert (task_ids, map_indexes) == ("t", -1)
        return self.xcoms.get(key)


class Store:
    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def get(self, key: str, default: Any = None) -> Any:
        return self.values.get(key, default)

    def set(self, key: str, value: Any) -> None:
        self.values[key] = travelled(value)

    def delete(self, key: str) -> None:
        self.values.pop(key, None)


def kept(ti: Ti, store: Store | None, **options: Any) -> LedgerStore:
    return LedgerStore({"ti": ti, "task_state_store": store}, **options)


def test_a_set_begins_with_its_header_and_has_its_pages_behind_those_of_before() -> None:
    ti, store = Ti(), Store()
    assert kept(ti, store).load() is None
    kept(ti, store).begin(2, left=False, provider="nyx")
    header = {"version": 1, "generation": 2, "state": "many", "first": 0, "pages": 2, "provider": "nyx"}
    assert store.values == {"runops": header}
    kept(ti, store).save({0: {"a": 1}, 1: {"b": 2}})
    assert (store.values["runops.0"], store.values["runops.1"]) == ({"a": 1}, {"b": 2})
    kept(ti, store).begin(1, left=True)
    assert store.values["runops"] == {
        "version": 1,
        "generation": 2,
        "state": "many",
        "first": 2,
        "pages": 1,
        "before": [[0, 2]],
    }
    assert [dict(pages) for pages in kept(ti, store).earlier()] == [{0: {"a": 1}, 1: {"b": 2}}]
    kept(ti, store).save({0: {"c": 3}})
    loaded = kept(ti, store).load()
    assert loaded is not None
    assert (dict(loaded.pages), loaded.current, loaded.given_up) == ({0: {"c": 3}}, True, False)
    kept(ti, store).begin(1, left=False)
    assert sorted(store.values) == ["runops"]
    assert (store.values["runops"]["first"], "before" in store.values["runops"]) == (3, False)


def test_of_many_sets_before_the_newest_twenty_are_known_and_the_pages_of_the_others_go() -> None:
    ti, store = Ti(), Store()
    for number in range(22):
        kept(ti, store).begin(1, left=True)
        kept(ti, store).save({0: {"n": number}})
    assert store.values["runops"]["before"] == [[number, 1] for number in range(1, 21)]
    assert ("runops.0" in store.values, "runops.1" in store.values) == (False, True)


def test_a_set_whose_list_has_another_order_moves_to_pages_of_its_own() -> None:
    ti, store = Ti(), Store()
    kept(ti, store).begin(2, left=False)
    kept(ti, store).save({0: {"a": 1}, 1: {"b": 2}})
    kept(ti, store).move({0: {"b": 2}, 2: {"a": 1}}, 3)
    assert sorted(store.values) == ["runops", "runops.2", "runops.4"]
    assert (store.values["runops"]["first"], store.values["runops"]["pages"]) == (2, 3)
    assert dict(getattr(kept(ti, store).load(), "pages", {})) == {0: {"b": 2}, 2: {"a": 1}}


@pytest.mark.parametrize(("everlasting", "current"), [(False, False), (True, True)])
def test_a_set_of_before_a_clear_is_another_generation_s(everlasting: bool, current: bool) -> None:
    ti, store = Ti(), Store()
    kept(ti, store).begin(1, left=False)
    kept(ti, store).update(given_up=True)
    ti.max_tries = 3
    loaded = kept(ti, store, everlasting=everlasting).load()
    assert loaded is not None
    assert (loaded.current, loaded.given_up) == (current, True)


@pytest.mark.parametrize("durable", [True, False])
def test_without_a_store_a_set_is_kept_in_the_xcoms_of_its_try(durable: bool) -> None:
    ti, store = Ti(), Store()
    mine = kept(ti, None if durable else store, durable=durable)
    mine.update(told="0")
    assert ti.xcoms == {}
    mine.begin(1, left=False)
    mine.save({0: {"a": 1}})
    assert (mine.outlives_the_try, kept(ti, store).outlives_the_try) == (False, True)
    assert sorted(ti.xcoms) == ["run_submitted", "run_submitted.0"]
    assert dict(getattr(kept(ti, None).load(), "pages", {})) == {0: {"a": 1}}
    assert (store.values, mine.stopped()) == ({}, frozenset())
    mine.begin(1, left=False)
    assert "run_submitted.0" in ti.xcoms


def test_what_is_no_header_of_a_set_is_none_and_stopped_runs_are_read_beside_it() -> None:
    ti, store = Ti(), Store()
    for value in ("text", {"state": "submitted"}, None):
        store.values["runops"] = value
        assert kept(ti, store).load() is None
        assert kept(ti, store).header() == {}
    store.values["runops_stopped_many"] = {"runs": ["r1", 2]}
    assert kept(ti, store).stopped() == {"r1", "2"}
    store.values["runops_stopped_many"] = ["r1"]
    assert kept(ti, store).stopped() == frozenset()
