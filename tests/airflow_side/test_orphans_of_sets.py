"""What tasks of many runs have left behind is listed run by run, and cancelled on request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runops.airflow.hook import RunHook
from runops.airflow.records import KEY
from runops.core.client.orphans import OrphanReview
from runops.core.waiting.orphans import Act, Orphan
from tests.airflow_side.airflow_api import FakeAirflow, Instance
from tests.airflow_side.sets import SetHost, sets
from tests.airflow_side.test_orphans import tasks_of
from tests.airflow_side.test_runs_operator_crashes import COUNT, FATAL, killed

_ = sets


def left_in(folder: Path, state: str | None) -> Instance:
    """The task instance as Airflow's API shows it."""
    store = {path.name: json.loads(path.read_text()) for path in (folder / "store").iterdir()}
    return Instance("a_task", state, "RunsOperator", store=store)


def found_in(airflow: FakeAirflow, *, cancel: bool = False) -> list[Orphan]:
    review = OrphanReview(tasks_of(airflow), lambda name, credential: RunHook(credential, provider=name).client())
    with review:
        found = list(review.find())
        return [review.cancel(each) for each in found] if cancel else found


@pytest.mark.parametrize("provider", ["nyx", "onepin"])
@pytest.mark.parametrize("moment", ["during the POST", "between the answer and the record", "after the record"])
def test_each_run_of_a_task_that_has_died_is_listed_and_cancelled(
    sets: SetHost, tmp_path: Path, provider: str, moment: str
) -> None:
    task = sets.made(provider, COUNT, max_active=FATAL + 2, deferrable=False, seconds=600)
    killed(sets, moment, task, sets.context())
    airflow = FakeAirflow(left_in(tmp_path, "failed"))
    found = found_in(airflow, cancel=True)
    runs = {run["run_id"] for run in sets.emulator.runs(provider=provider)}
    told = {each.ref.run_id for each in found if each.ref is not None}
    untold = [each for each in found if each.ref is None]
    if provider == "nyx" or moment == "after the record":
        # The list shows the mark of what was started, and that nothing was.
        assert told == runs
        assert untold == []
    else:
        assert len(untold) == 1
        assert len(told) == FATAL - 1
        assert {ref.run_id for ref in untold[0].candidates} | told == runs
    assert all(each.act is Act.CANCELLED for each in found if each.ref is not None)
    assert sets.cancelled(provider) == told
    indices = {each.suspect.holder["index"] for each in found}
    assert len(indices) == len(found)
    noted = airflow.instances[0].store.get("runops_stopped_many", {"runs": []})
    assert set(noted["runs"]) == told


@pytest.mark.parametrize("state", ["running", "deferred", "up_for_retry"])
def test_what_a_task_waits_for_or_will_take_up_is_not_listed(sets: SetHost, tmp_path: Path, state: str) -> None:
    task = sets.made("onepin", COUNT, max_active=FATAL + 2, deferrable=False, seconds=600)
    killed(sets, "during the POST", task, sets.context())
    assert found_in(FakeAirflow(left_in(tmp_path, state))) == []


def test_a_set_whose_end_was_seen_costs_no_page(sets: SetHost, tmp_path: Path) -> None:
    assert sets.run(sets.made("onepin", 3, deferrable=False)).error is None
    airflow = FakeAirflow(left_in(tmp_path, "success"))
    before = len(sets.emulator.requests())
    assert found_in(airflow) == []
    assert len(sets.emulator.requests()) == before
    assert not any(f"{KEY}.0" in str(request.url) for request in airflow.requests)


@pytest.mark.parametrize("shown", [["{id}"], "['other', '{id}']", "Truncated. You can change this ['other', "])
def test_a_run_that_a_sensor_of_many_waits_for_is_not_listed(sets: SetHost, tmp_path: Path, shown: Any) -> None:
    task = sets.made("onepin", 1, deferrable=False, seconds=600, cancel_on_timeout=False)
    assert sets.timed_out(task, read=1).error is not None
    (run,) = sets.emulator.runs(provider="onepin")
    assert len(found_in(FakeAirflow(left_in(tmp_path, "failed")))) == 1
    ids = [run["run_id"]] if isinstance(shown, list) else shown.format(id=run["run_id"])
    sensor = Instance("a_sensor", "deferred", "RunsSensor", rendered={"run_ids": ids})
    assert found_in(FakeAirflow(left_in(tmp_path, "failed"), sensor)) == []


def test_runs_that_a_clear_could_not_cancel_are_listed_while_the_task_waits_for_others(
    sets: SetHost, tmp_path: Path
) -> None:
    context = sets.context()
    settings = {"deferrable": False, "cancel_on_timeout": False, "cancel_on_kill": False}
    task = sets.made("b3os", 3, seconds=600, **settings)
    sets.timed_out(task, context, read=3)
    first = {run["run_id"] for run in sets.emulator.runs(provider="b3os")}
    context["ti"].clear()
    again = sets.made("b3os", 3, seconds=600, **settings)
    sets.timed_out(again, context, read=6)
    assert len(sets.emulator.runs(provider="b3os")) == 6
    found = found_in(FakeAirflow(left_in(tmp_path, "running")))
    assert {each.ref and each.ref.run_id for each in found} == first
    assert {each.suspect.why for each in found} == {"its task has begun another set since"}
    assert len(found_in(FakeAirflow(left_in(tmp_path, "failed")))) == 6


def test_what_was_cancelled_since_nobody_waited_is_submitted_anew_by_the_next_try(
    sets: SetHost, tmp_path: Path
) -> None:
    context = sets.context()
    settings = {"deferrable": False, "cancel_on_timeout": False}
    sets.timed_out(sets.made("nyx", 3, seconds=600, **settings), context, read=3)
    airflow = FakeAirflow(left_in(tmp_path, "failed"))
    found = found_in(airflow, cancel=True)
    assert len(found) == 3
    context["task_state_store"].set("runops_stopped_many", airflow.instances[0].store["runops_stopped_many"])
    context["ti"].next_try()
    ended = sets.run(sets.made("nyx", 3, **settings), context)
    assert ended.error is None
    assert len(sets.submits("nyx")) == 6
    assert ended.result["outcomes"] == {"succeeded": 3}
