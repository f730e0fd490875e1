"""What a record names as left behind, field by field, and what Airflow is asked for that."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from runops.airflow.many.orphans import suspects_of_set
from runops.airflow.orphans import WAITING, AirflowTasks, suspects_of
from runops.airflow.records import identity, page_key, spans_of
from runops.airflow.rest import TaskInstance
from runops.core import Outcome, RunRef
from runops.core.many.ledger import Ledger
from runops.core.many.rows import Row, RowState
from runops.core.model.errors import AnswerError
from runops.core.waiting.intent import Intent, submitter
from runops.core.waiting.orphans import Suspect

SINCE = datetime(2026, 5, 20, tzinfo=UTC)
HOLDER = {
    "host": "airflow", "dag_id": "d", "dag_run_id": "r", "task_id": "t", "map_index": 2, "try_number": 3,
    "task_state": "failed",
}  # fmt: skip
REF = {"provider": "nyx", "run_id": "r1", "parents": {}}
INTENT = {"mark": "[bcd]", "ids_before": ["r0"], "clock": 5.0}
SUBMITTED = {
    "state": "submitted", "provider": "nyx", "conn_id": "c", "parent": {"config_name": "p"}, "ref": REF, "waits": True,
}  # fmt: skip


def instance(**fields: Any) -> TaskInstance:
    given = {
        "dag_id": "d", "dag_run_id": "r", "task_id": "t", "map_index": 2, "state": "failed", "try_number": 3,
        "operator": "NyxRunOperator", **fields,
    }  # fmt: skip
    return TaskInstance.parse(given)


def named(found: list[Suspect]) -> list[tuple[str, str, Any]]:
    return [(each.why, each.provider, None if each.ref is None else each.ref.run_id) for each in found]


# --- one run ---


def test_a_run_is_named_with_its_task_its_connection_and_why() -> None:
    first, marked = suspects_of(instance(), SUBMITTED, waits=False)
    assert (first.provider, first.holder, first.credential) == ("nyx", HOLDER, "c")
    assert (first.why, first.ref, first.intent) == ("its task is over (failed)", RunRef.parse(REF), None)
    assert (first.parent, first.submitter) == ({"config_name": "p"}, None)
    assert (marked.ref, marked.parent, marked.credential) == (None, {"config_name": "p"}, "c")
    assert (marked.why, marked.holder) == ("its task is over (failed)", HOLDER)
    assert (marked.submitter, marked.spared) == (submitter(identity("d", "r", "t", 2)), frozenset())


def test_a_task_that_waits_has_left_nothing_but_what_bears_its_mark_beside_its_run() -> None:
    (marked,) = suspects_of(instance(state="deferred"), SUBMITTED, waits=True)
    assert (marked.why, marked.ref) == ("its task waits for another run", None)
    assert marked.spared == {"r1"}


def test_a_task_whose_state_is_none_was_never_run_again() -> None:
    first, _ = suspects_of(instance(state=None), SUBMITTED, waits=False)
    assert first.why == "its task is over (never run again)"


def test_what_was_given_away_is_spared() -> None:
    (marked,) = suspects_of(instance(), {**SUBMITTED, "waits": False}, waits=False)
    assert (marked.ref, marked.spared) == (None, {"r1"})


def test_a_lost_submit_is_named_by_what_was_known_before_it() -> None:
    record = {**SUBMITTED, "state": "submitting", "intent": INTENT}
    first, marked = suspects_of(instance(), record, waits=False)
    assert (first.ref, first.intent, first.parent) == (None, Intent.from_dict(INTENT), {"config_name": "p"})
    assert marked.spared == frozenset()


def test_runs_of_before_are_named_whether_the_task_waits_or_not() -> None:
    left = [{**SUBMITTED, "ref": {**REF, "run_id": "r0"}}, {"state": "submitted"}, "none"]
    why = "its task has submitted another run since"
    for waits in (False, True):
        found = suspects_of(instance(), {**SUBMITTED, "left": left}, waits=waits)
        assert named(found)[0] == (why, "nyx", "r0")
        assert [each.ref is not None and each.ref.run_id == "r1" for each in found].count(True) == int(not waits)


@pytest.mark.parametrize(
    "change", [{"ended": "failed"}, {"state": "refused"}, {"state": "attached"}, {"state": "awaiting turn"}]
)
def test_what_has_ended_or_is_not_its_own_is_not_named(change: dict[str, Any]) -> None:
    found = suspects_of(instance(), {**SUBMITTED, **change}, waits=False)
    assert [each.ref for each in found] == [None]
    assert found[0].submitter is not None


@pytest.mark.parametrize(
    ("rendered", "operator", "known"),
    [
        ({"config_name": "p", "nyx_conn_id": "mine"}, "NyxRunOperator", ("nyx", {"config_name": "p"}, "mine")),
        ({"config_name": 7}, "NyxRunOperator", ("nyx", {"config_name": "7"}, None)),
        ({}, "NyxRunOperator", None), ({"config_name": "p"}, "OwnOperator", None),
        ({"engine_slug": "e"}, "NexioRunOperator", None),
    ],
    ids=["named", "a number", "not rendered", "another class", "without marks"],
)  # fmt: skip
def test_without_a_record_the_rendered_fields_say_where_to_look_for_a_mark(
    rendered: dict[str, Any], operator: str, known: Any
) -> None:
    found = suspects_of(instance(operator=operator, rendered_fields=rendered), None, waits=False)
    assert [(each.provider, each.parent, each.credential) for each in found] == ([] if known is None else [known])
    assert suspects_of(instance(operator=operator, rendered_fields=rendered, state="success"), None, waits=False) == []
    assert suspects_of(instance(operator=operator, rendered_fields=rendered), None, waits=True) == []


@pytest.mark.parametrize("provider", ["acme_runs:ACME", "none", "nexio", "nekt"])
def test_no_mark_is_looked_for_where_none_can_be_shown(provider: str) -> None:
    found = suspects_of(instance(), {**SUBMITTED, "provider": provider, "parent": {"a": "b"}}, waits=False)
    assert [each.submitter for each in found] == [None]


# --- sets ---


def row(index: int, **fields: Any) -> Row:
    return Row(**{"index": index, "key": str(index), "state": RowState.SUBMITTED, "run_id": f"r{index}", **fields})


HEADER = {"state": "many", "provider": "acme_runs:ACME", "runs_of": "nyx", "conn_id": "c", "first": 4, "pages": 2}
OVER = {"state": RowState.ENDED, "outcome": Outcome.FAILED}
LOST = {
    "run_id": None,
    "state": RowState.SUBMITTING,
    "intent": Intent.from_dict(INTENT),
    "parents": {"config_name": "p"},
}
MIXED = [row(0), row(1, attached=True), row(2, **OVER), row(3, run_id=None, state=RowState.PLANNED)]
PAGES = {1: Ledger([row(0)]).page(0), 4: Ledger(MIXED).page(0), 5: Ledger([row(0, **LOST)]).page(0)}


def left(header: dict[str, Any], over: str | None = "over") -> list[Suspect]:
    return suspects_of_set(HOLDER, header, PAGES.get, over=over)


def test_of_a_set_its_own_runs_that_may_be_alive_are_named_by_their_place() -> None:
    first, lost = left(HEADER)
    assert (first.provider, first.credential, first.why) == ("acme_runs:ACME", "c", "over")
    assert first.holder == {**HOLDER, "index": 0}
    assert first.ref == RunRef(provider="nyx", run_id="r0")
    assert (first.parent, first.intent) == ({}, None)
    assert (lost.holder["index"], lost.ref, lost.intent) == (100, None, Intent.from_dict(INTENT))
    assert lost.parent == {"config_name": "p"}


def test_sets_of_before_are_named_even_while_the_task_waits_for_its_last_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = {**HEADER, "before": [[0, 2]]}
    why = "its task has begun another set since"
    assert spans_of(before)[0].pages == 2
    assert [(each.why, each.holder["index"]) for each in left(before, None)] == [(why, 100)]
    assert [each.why for each in left(before)] == [why, "over", "over"]
    assert [each.why for each in left({**before, "ended": True})] == [why]
    # A page that was never written is no trouble.
    assert (PAGES.get(0), caplog.text) == (None, "")


def test_a_header_of_an_earlier_version_names_the_provider_of_its_runs_too(caplog: pytest.LogCaptureFixture) -> None:
    first, *_ = left({"provider": "nyx", "first": 4, "pages": 1})
    assert (first.ref, first.credential) == (RunRef(provider="nyx", run_id="r0"), None)
    pages: dict[int, Any] = {0: {"rows": [3]}, 1: PAGES[1]}
    (second,) = suspects_of_set(HOLDER, {"provider": "nyx", "pages": 2}, pages.get, over="over")
    assert second.holder["index"] == 100
    assert "What airflow/d/r/t/2/3/failed has left cannot be told: " in caplog.text


# --- Airflow's API ---


class Api:
    """One task instance in Airflow, and what is asked of it."""

    def __init__(self, ti: TaskInstance | None, **stored: Any) -> None:
        self.ti = ti
        self.kept: dict[str, Any] = stored
        self.xcoms: dict[str, Any] = {}
        self.asked: list[Any] = []
        self.holders: list[tuple[str, str, str, int]] = []
        self.run_state = "running"
        self.waiting: list[TaskInstance] = []
        self.refuses = False

    def instances(self, since: datetime, operators: Any) -> Iterator[TaskInstance]:
        self.asked.append((since, frozenset(operators)))
        yield from [self.ti, self.ti] if self.ti is not None and self.ti.operator in operators else []

    def instances_in(self, states: Any) -> list[TaskInstance]:
        self.asked.append(states)
        return self.waiting

    def instance(self, *ids: Any) -> TaskInstance | None:
        self.asked.append(ids)
        return self.ti

    def holders_of(self, key: str, since: datetime) -> list[tuple[str, str, str, int]]:
        self.asked.append((key, since))
        return self.holders

    def stored(self, ti: TaskInstance, key: str) -> Any:
        return self.kept.get(key)

    def store(self, ti: TaskInstance, key: str, value: Any) -> None:
        if self.refuses:
            raise AnswerError("not now")
        self.kept[key] = value

    def xcom(self, ti: TaskInstance, key: str) -> Any:
        return self.xcoms.get(key)

    def dag_run_state(self, dag_id: str, run_id: str) -> str:
        return self.run_state


def tasks(api: Any, clock: Any = lambda: 0.0, **options: Any) -> AirflowTasks:
    return AirflowTasks(api, since=SINCE, clock=clock, **options)


def test_a_task_instance_that_is_listed_twice_is_named_once() -> None:
    api = Api(instance(), runops=SUBMITTED)
    assert [each.ref is None for each in tasks(api).suspects()] == [False, True]
    since, operators = api.asked[0]
    assert since == SINCE
    assert {"RunOperator", "NyxRunOperator", "RunsOperator", "NexioRunsOperator"} <= operators


def test_a_class_of_one_s_own_is_known_by_what_a_task_of_it_has_left() -> None:
    api = Api(instance(operator="OwnOperator"), runops=SUBMITTED)
    assert list(tasks(api).suspects()) == []
    assert len(list(tasks(api, operators=frozenset({"OwnOperator"})).suspects())) == 2
    api.holders = [("d", "r", "t", 2), ("d", "r", "t", 3)]
    api.asked.clear()
    assert len(list(tasks(api).suspects())) == 2
    assert api.asked[1:3] == [("run_submitted", SINCE - timedelta(days=8)), ("d", "r", "t", 2)]
    assert api.asked[3] == (SINCE, frozenset({"OwnOperator"}))
    assert len(api.asked) == 4


@pytest.mark.parametrize("ti", [None, instance(operator=None)])
def test_what_is_left_of_a_task_instance_that_is_gone_names_no_class(ti: TaskInstance | None) -> None:
    api = Api(ti)
    api.holders = [("d", "r", "t", 2)]
    assert list(tasks(api).suspects()) == []
    assert len(api.asked) == 3


@pytest.mark.parametrize(
    ("state", "run_state", "waits"),
    [
        ("running", "failed", True), ("deferred", "failed", True), ("restarting", "failed", True),
        ("queued", "running", True), ("up_for_retry", "running", True), (None, "running", True),
        ("queued", "failed", False), ("up_for_reschedule", "success", False), ("failed", "running", False),
        ("success", "running", False),
    ],
)  # fmt: skip
def test_a_task_waits_while_it_runs_or_airflow_will_run_it_again(
    state: str | None, run_state: str, waits: bool
) -> None:
    api = Api(instance(state=state), runops=SUBMITTED)
    api.run_state = run_state
    assert any(each.ref is not None for each in tasks(api).suspects()) is not waits


def test_without_a_store_the_last_try_is_read_of_its_xcoms() -> None:
    api = Api(instance())
    api.xcoms = {"run_submitted": {key: SUBMITTED[key] for key in ("provider", "ref", "parent", "conn_id")}}
    assert [each.ref is None for each in tasks(api).suspects()] == [False, True]
    api.xcoms["run"] = {"run_ended": False, "outcome": "timed_out"}
    assert [each.ref is None for each in tasks(api).suspects()] == [False, True]
    api.xcoms["run"] = {"run_ended": True, "outcome": "failed"}
    assert [each.ref is None for each in tasks(api).suspects()] == [True]


@pytest.mark.parametrize("store", [True, False])
def test_the_pages_of_a_set_are_read_where_its_header_was_found(store: bool) -> None:
    api, key = Api(instance(operator="RunsOperator")), "runops" if store else "run_submitted"
    pages = {page_key(key, number): page for number, page in PAGES.items()}
    (api.kept if store else api.xcoms).update({key: HEADER, **pages})
    found = list(tasks(api).suspects())
    assert [(each.why, each.holder["index"]) for each in found] == [
        ("its task is over (failed)", 0), ("its task is over (failed)", 100),
    ]  # fmt: skip
    api.ti = instance(operator="RunsOperator", state="running")
    assert list(tasks(api).suspects()) == []


def test_a_suspect_is_one_no_more_once_its_task_has_ended_it_or_is_gone() -> None:
    api = Api(instance(), runops=SUBMITTED)
    first, marked = tasks(api).suspects()
    for each in (first, marked):
        assert tasks(api).still_left(each) is True
    assert api.asked[-1] == ("d", "r", "t", 2)
    api.kept["runops"] = {**SUBMITTED, "ref": {**REF, "run_id": "r2"}}
    assert tasks(api).still_left(first) is False
    api.ti = None
    assert [tasks(api).still_left(each) for each in (first, marked)] == [False, False]


def test_a_run_that_was_found_by_its_mark_is_left_alone_once_a_task_waits_for_it() -> None:
    from dataclasses import replace

    api = Api(instance(), runops=SUBMITTED)
    _, marked = tasks(api).suspects()
    found = replace(marked, ref=RunRef.parse({**REF, "run_id": "r5"}))
    assert tasks(api).still_left(found) is True
    api.ti, api.kept["runops"] = instance(state="running"), {**SUBMITTED, "ref": {**REF, "run_id": "r5"}}
    assert tasks(api).still_left(found) is False


RENDERED: list[tuple[dict[str, Any], bool]] = [
    ({"run_id": "r1"}, True), ({"run_id": "r2"}, False), ({"run_ids": ["r0", "r1"]}, True),
    ({"run_ids": "['r0', 'r1']"}, True),
    ({"run_ids": "['r0', 'r11']"}, False), ({"run_ids": "Truncated. You can change this"}, True),
    ({"run_ids": 7}, False),
    ({"run_id": "r2", "run_ids": ["r1"]}, True), ({}, False),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "given"), RENDERED, ids=str)
def test_a_run_that_was_given_to_a_task_that_waits_is_awaited(fields: dict[str, Any], given: bool) -> None:
    api = Api(None)
    api.waiting = [instance(rendered_fields=fields)]
    assert tasks(api).awaits(RunRef.parse(REF)) is given
    assert api.asked == [WAITING]


def test_which_runs_are_awaited_is_known_for_ten_seconds() -> None:
    api, moments = Api(None), iter((100.0, 110.0, 110.1))
    known = tasks(api, clock=lambda: next(moments))
    for times in (1, 1, 2):
        assert known.awaits(RunRef.parse(REF)) is False
        assert len(api.asked) == times


def test_a_cancelled_run_is_noted_where_its_task_looks_for_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "runops")
    api, ref = Api(instance(), runops=SUBMITTED), RunRef.parse(REF)
    alone = Suspect(provider="nyx", holder=HOLDER, why="")
    member = Suspect(provider="nyx", holder={**HOLDER, "index": 3}, why="")
    tasks(api).cancelled(alone, ref)
    tasks(api).cancelled(member, ref)
    tasks(api).cancelled(member, RunRef.parse({**REF, "run_id": "r9"}))
    assert api.kept["runops_stopped"] == "r1"
    assert api.kept["runops_stopped_many"] == {"runs": ["r1", "r9"]}
    api.refuses = True
    tasks(api).cancelled(alone, ref)
    assert "was cancelled could not be noted in Airflow: not now" in caplog.text
    tasks(Api(None)).cancelled(alone, ref)
