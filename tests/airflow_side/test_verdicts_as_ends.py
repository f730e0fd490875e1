"""How a task ends by the verdict on its run: what is pushed, counted, said, returned and raised, here and elsewhere."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.triggers.base import TaskSkippedEvent, TaskSuccessEvent
from pytest_mock import MockerFixture

from runops.airflow import end_in_trigger, verdicts
from runops.airflow._compat import AirflowSkipException
from runops.airflow.end_in_trigger import EndInTrigger
from runops.airflow.exceptions import (
    RunCancelled,
    RunFailed,
    RunRejected,
    RunTimedOut,
    SensorRunFailed,
    SensorTimedOut,
)
from runops.airflow.verdicts import apply_verdict, is_own, keep_turn, kept_turn, publish, published
from runops.core import Outcome, OutcomePolicy, RunRef, RunSnapshot, find
from runops.core.waiting.turns import Turn

LOG = logging.getLogger("a task")
REF = RunRef(provider="nyx", run_id="r1")
URL = "https://nyx.example/r1"
NOW = 1_700_000_000.0


class Task:
    """A task instance that keeps its XComs, and what was counted and traced of its end."""

    task_id, map_index = "a_task", 3

    def __init__(self, mocker: MockerFixture, module: Any) -> None:
        self.xcoms: dict[str, Any] = {}
        self.start_date = SimpleNamespace(timestamp=lambda: NOW)
        self.counted = mocker.patch.object(module.METER, "ended")
        self.trace = mocker.patch.object(module, "TaskTrace")
        self.try_number = 1

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value

    def xcom_pull(self, *, task_ids: str, key: str, map_indexes: int) -> Any:
        assert (task_ids, map_indexes) == ("a_task", 3)
        return self.xcoms.get(key)


def over(outcome: Outcome, **fields: Any) -> RunSnapshot:
    return RunSnapshot(ref=REF, state="x", outcome=outcome, url=URL, **fields)


def judged(snapshot: RunSnapshot, **settings: Any) -> Any:
    return find("nyx").policy(**{"on_outcome": None, **settings}).judge(snapshot)


# --- on a worker ----------------------------------------------------------------------------------------------------


@pytest.fixture
def task(mocker: MockerFixture) -> Task:
    mocker.patch.object(verdicts, "another_try_follows", return_value=False)
    return Task(mocker, verdicts)


CLASSES = {"failed": SensorRunFailed, "timed_out": SensorTimedOut}


@pytest.mark.parametrize(
    ("outcome", "more", "plain", "with_classes"),
    [
        (Outcome.FAILED, {}, RunFailed, SensorRunFailed), (Outcome.CANCELLED, {}, RunCancelled, RunCancelled),
        (Outcome.TIMED_OUT, {"ended_by": "timeout"}, RunTimedOut, SensorTimedOut),
        (Outcome.TIMED_OUT, {"ended_by": "max_paused"}, RunTimedOut, SensorTimedOut),
        (Outcome.TIMED_OUT, {"ended_by": "execution_timeout"}, RunTimedOut, RunTimedOut),
    ],
)  # fmt: skip
def test_each_outcome_that_fails_a_task_has_its_own_exception(
    task: Task, outcome: Outcome, more: dict[str, Any], plain: Any, with_classes: Any
) -> None:
    snapshot = over(outcome, **more)
    for kinds, wanted in (({}, plain), (CLASSES, with_classes)):
        kinds_given: Any = kinds
        with pytest.raises(RunFailed if issubclass(wanted, RunFailed) else wanted) as caught:
            apply_verdict({"ti": task}, snapshot, judged(snapshot), log=LOG, **kinds_given)
        assert type(caught.value) is wanted
        assert caught.value.result == task.xcoms["run"] == judged(snapshot).result(snapshot)
        assert caught.value.text.endswith(f"See {URL}")
        assert "The task fails" not in caught.value.text


def test_a_good_outcome_that_is_to_fail_is_rejected_and_says_why(task: Task) -> None:
    snapshot = over(Outcome.SUCCEEDED)
    judgement = judged(snapshot, on_outcome={"succeeded": "fail"})
    with pytest.raises(RunRejected) as caught:
        apply_verdict({"ti": task}, snapshot, judgement, log=LOG)
    assert f"The task fails, because {judgement.because}. See {URL}" in caught.value.text


@pytest.mark.parametrize(
    ("verdict", "level", "says"),
    [
        ("succeed", "INFO", "nyx run r1: x (exhausted). See "), ("warn", "WARNING", "The task succeeds, because "),
        ("skip", "INFO", "The task is skipped, because "),
    ],
)  # fmt: skip
def test_an_end_that_fails_no_task_is_said_with_what_becomes_of_it(
    task: Task, mocker: MockerFixture, verdict: str, level: str, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    named = mocker.patch.object(verdicts, "name_in_events")
    snapshot, context = over(Outcome.EXHAUSTED), {"ti": task}
    judgement = judged(snapshot, on_outcome={"exhausted": verdict})
    with caplog.at_level(logging.INFO):
        if verdict == "skip":
            with pytest.raises(AirflowSkipException, match="The task is skipped"):
                apply_verdict(context, snapshot, judgement, log=LOG)
        else:
            assert apply_verdict(context, snapshot, judgement, log=LOG) == task.xcoms["run"]
    (record,) = caplog.records
    assert (record.levelname, says in record.getMessage()) == (level, True)
    assert task.xcoms == {"run_id": "r1", "run_url": URL, "run": judgement.result(snapshot)}
    task.counted.assert_called_once_with(find("nyx"), snapshot, judgement.verdict)
    assert [call.args[0] for call in named.call_args_list] == ([] if verdict == "skip" else [context])
    if verdict != "skip":
        assert named.call_args.args[1]["verdict"] == verdict


def test_without_a_run_no_page_is_pushed_and_without_an_outcome_there_is_no_end(task: Task) -> None:
    nobody = RunSnapshot(
        ref=RunRef(provider="nyx", run_id=""), state=None, outcome=Outcome.TIMED_OUT, ended_by="timeout"
    )
    with pytest.raises(RunTimedOut):
        apply_verdict({"ti": task}, nobody, judged(nobody), log=LOG)
    assert list(task.xcoms) == ["run"]
    goes_on = RunSnapshot(ref=REF, state="running")
    with pytest.raises(ValueError, match="nyx run r1 has not ended"):
        apply_verdict({"ti": task}, goes_on, judged(nobody), log=LOG)


@pytest.mark.parametrize(
    ("outcome", "another", "traced"),
    [
        (Outcome.FAILED, False, 1), (Outcome.FAILED, True, 1), (Outcome.TIMED_OUT, False, 1),
        (Outcome.TIMED_OUT, True, 0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("began", [None, lambda: NOW - 60])
def test_a_run_that_goes_on_is_traced_by_the_try_that_sees_its_end(
    task: Task, mocker: MockerFixture, outcome: Outcome, another: bool, traced: int, began: Any
) -> None:
    follows = mocker.patch.object(verdicts, "another_try_follows", return_value=another)
    snapshot = over(outcome, **({"ended_by": "timeout"} if outcome is Outcome.TIMED_OUT else {}))
    with pytest.raises(Exception, match="nyx run r1") as caught:
        apply_verdict({"ti": task}, snapshot, judged(snapshot), log=LOG, began=began)
    calls = task.trace.return_value.ended.call_args_list
    assert len(calls) == traced
    for call in calls:
        assert call.args[:3] == (find("nyx"), snapshot, judged(snapshot).verdict)
        assert call.args[3]() == (NOW - 60 if began else NOW)
        task.trace.assert_called_once_with(task, LOG)
    if outcome is Outcome.TIMED_OUT:
        follows.assert_called_once_with({"ti": task}, caught.value)


@pytest.mark.parametrize("own", [None, True, False])
def test_a_published_run_is_read_back_with_whose_it_is(task: Task, own: bool | None) -> None:
    context = {"ti": task}
    assert published(context) is None
    publish(context, REF, URL if own else None, **({} if own is None else {"own": own}))
    assert (published(context), task.xcoms.get("run_url")) == ("r1", URL if own else None)
    assert is_own(context) is (own is not False)
    assert ("attached" in task.xcoms) is (own is False)


def test_a_turn_is_kept_until_it_is_over(task: Task) -> None:
    context, turn = {"ti": task}, Turn(parent={"config_name": "n"}, since=1.0, until=2.0)
    keep_turn(context, None)
    assert (task.xcoms, kept_turn(context)) == ({}, None)
    keep_turn(context, turn)
    assert kept_turn(context) == turn
    keep_turn(context, None)
    assert (task.xcoms, kept_turn(context)) == ({"turn": None}, None)


# --- in the triggerer -----------------------------------------------------------------------------------------------

POLICY = OutcomePolicy.build({"exhausted": "skip"})


@pytest.mark.parametrize(
    "end",
    [
        EndInTrigger(POLICY), EndInTrigger(POLICY, returns=False), EndInTrigger(POLICY, links=("a", "b")),
        EndInTrigger(POLICY, ended_only=True), EndInTrigger(POLICY, worker="it has outlets"),
    ],
)  # fmt: skip
def test_what_ends_a_task_there_travels_whole(end: EndInTrigger) -> None:
    assert EndInTrigger.from_dict(end.to_dict()) == end


def test_of_an_earlier_version_everything_else_is_as_it_was_then() -> None:
    assert EndInTrigger.from_dict({"policy": POLICY.to_dict()}) == EndInTrigger(POLICY, True, (), False, None)
    wants = EndInTrigger(POLICY).expecting({"attempts_completed": ">= 3"}, find("nyx"))
    assert wants.policy.expect != POLICY.expect
    with pytest.raises(ValueError, match=r"no_such.*Nyx runs"):
        EndInTrigger(POLICY).expecting({"no_such": 1}, find("nyx"))


class Triggerer:
    """A trigger that ends its task, and what Airflow is given and asked for."""

    def __init__(self, mocker: MockerFixture) -> None:
        self.ti = Task(mocker, end_in_trigger)
        self.record: Any = None
        self.trigger: Any = SimpleNamespace(trigger_id=7, task_instance=self.ti, log=LOG, record=None)
        self.deleted: list[Any] = []
        mocker.patch.object(end_in_trigger, "set_xcom", self._set)
        mocker.patch.object(end_in_trigger, "delete_xcom", self._delete)
        self.elsewhere = mocker.patch.object(end_in_trigger, "stores_xcoms_elsewhere", return_value=False)
        self.listeners = mocker.patch.object(end_in_trigger, "shared", return_value=[])

    async def _set(self, ti: Any, key: str, value: Any) -> None:
        assert ti is self.ti
        self.ti.xcoms[key] = value

    async def _delete(self, ti: Any, key: str) -> None:
        assert ti is self.ti
        self.deleted.append(key)

    def end(self, snapshot: RunSnapshot, *, began_here: bool = False, **settings: Any) -> Any:
        end = EndInTrigger(OutcomePolicy.build({"exhausted": "skip", "degraded": "warn"}), **settings)
        return asyncio.run(end.event(self.trigger, snapshot, began=lambda: NOW, began_here=began_here))


@pytest.fixture
def triggerer(mocker: MockerFixture) -> Triggerer:
    return Triggerer(mocker)


@pytest.mark.parametrize(
    ("outcome", "settings", "kind", "keys"),
    [
        (Outcome.SUCCEEDED, {}, TaskSuccessEvent, {"run_id", "run_url", "run", "return_value"}),
        (Outcome.DEGRADED, {"returns": False}, TaskSuccessEvent, {"run_id", "run_url", "run"}),
        (Outcome.EXHAUSTED, {}, TaskSkippedEvent, {"run_id", "run_url", "run"}),
        (Outcome.SUCCEEDED, {"links": ("a", "b")}, TaskSuccessEvent,
         {"run_id", "run_url", "run", "return_value", "a", "b"}),
    ],
)  # fmt: skip
def test_a_good_end_stores_what_a_worker_would_and_is_told(
    triggerer: Triggerer, outcome: Outcome, settings: dict[str, Any], kind: Any, keys: set[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    snapshot = over(outcome)
    with caplog.at_level(logging.INFO):
        assert type(triggerer.end(snapshot, **settings)) is kind
    xcoms = triggerer.ti.xcoms
    assert set(xcoms) == keys
    assert xcoms.get("return_value", xcoms["run"]) == xcoms["run"]
    assert {xcoms[name] for name in keys & {"run_url", "a", "b"}} == {URL}
    (counted,) = triggerer.ti.counted.call_args_list
    assert counted.args[:2] == (find("nyx"), snapshot)
    triggerer.ti.trace.assert_called_once_with(triggerer.ti, LOG, on_loop=True)
    (traced,) = triggerer.ti.trace.return_value.ended.call_args_list
    assert (traced.args[:3], traced.args[3]()) == ((find("nyx"), snapshot, counted.args[2]), NOW)
    assert caplog.records[-1].levelname == ("WARNING" if outcome is Outcome.DEGRADED else "INFO")


def test_the_record_of_the_page_is_stored_with_the_end(triggerer: Triggerer, mocker: MockerFixture) -> None:
    triggerer.trigger.record = SimpleNamespace(last=mocker.AsyncMock(return_value={"provider": "nyx"}))
    snapshot = over(Outcome.SUCCEEDED)
    triggerer.end(snapshot)
    assert triggerer.ti.xcoms["external_run"] == {"provider": "nyx"}
    ((seen, judgement),) = [call.args for call in triggerer.trigger.record.last.call_args_list]
    assert (seen, str(judgement.verdict)) == (snapshot, "succeed")


@pytest.mark.parametrize(
    ("outcome", "more", "ended_only", "ends"),
    [
        (Outcome.FAILED, {}, False, False), (Outcome.TIMED_OUT, {"ended_by": "timeout"}, False, False),
        (Outcome.SUCCEEDED, {}, True, True),
    ],
)  # fmt: skip
def test_a_failure_is_left_to_a_worker(
    triggerer: Triggerer, outcome: Outcome, more: dict[str, Any], ended_only: bool, ends: bool
) -> None:
    assert bool(triggerer.end(over(outcome, **more), ended_only=ended_only)) is ends
    assert bool(triggerer.ti.xcoms) is ends


def test_the_soft_end_of_a_wait_whose_run_may_go_on_is_left_to_a_worker_that_may_cancel_it(
    triggerer: Triggerer,
) -> None:
    late = over(Outcome.TIMED_OUT, ended_by="timeout")
    end = EndInTrigger(OutcomePolicy.build({"timed_out": "skip"}), ended_only=True)
    assert asyncio.run(end.event(triggerer.trigger, late, began=lambda: NOW, began_here=False)) is None
    assert triggerer.ti.xcoms == {}


REASONS = {
    "an argument": "it has outlets", "no triggerer": "this trigger does not run in a triggerer",
    "no task": "this trigger does not run in a triggerer",
    "a later try": "here Airflow would keep the end time of the try before",
    "a backend": "this Airflow has an XCom backend of its own",
    "listeners": "listeners are told of ends there: one, two",
}  # fmt: skip


@pytest.mark.parametrize("what", REASONS)
def test_what_needs_a_worker_goes_to_one_and_is_said(
    triggerer: Triggerer, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    triggerer.elsewhere.return_value = what == "a backend"
    triggerer.listeners.return_value = ["one", "two"] if what == "listeners" else []
    triggerer.ti.try_number = 2
    if what == "no triggerer":
        triggerer.trigger.trigger_id = None
    if what == "no task":
        triggerer.trigger.task_instance = None
    worker = REASONS[what] if what == "an argument" else None
    with caplog.at_level(logging.INFO):
        assert triggerer.end(over(Outcome.SUCCEEDED), began_here=what == "a later try", worker=worker) is None
    assert caplog.messages == [f"end_from_trigger is set, but the task ends on a worker: {REASONS[what]}."]
    assert triggerer.deleted == (["return_value"] if what == "a later try" else [])
    assert triggerer.ti.xcoms == {}


def test_a_first_try_that_has_begun_there_ends_there(triggerer: Triggerer) -> None:
    assert isinstance(triggerer.end(over(Outcome.SUCCEEDED), began_here=True), TaskSuccessEvent)
    assert triggerer.deleted == []
