"""``RunsOperator``: many runs as one task, each submitted once and judged as a single one is."""

from __future__ import annotations

import pytest

from tests.airflow_side.sets import SetHost, sets
from tests.services import SUBMITTING

_ = sets


@pytest.mark.parametrize("provider", SUBMITTING)
def test_each_call_is_submitted_once_and_all_are_waited_for(sets: SetHost, provider: str) -> None:
    ended = sets.run(sets.made(provider, 12, max_active=5, deferrable=False))
    assert ended.error is None
    assert (ended.result["total"], ended.result["outcomes"]) == (12, {"succeeded": 12})
    assert sorted(sets.submits(provider)) == [f"parent-{number:03d}" for number in range(12)]
    assert [row["index"] for row in ended.xcoms["runs"]] == list(range(12))


@pytest.mark.parametrize("provider", SUBMITTING)
def test_a_deferrable_task_leaves_its_worker_and_submits_the_rest_when_it_is_back(sets: SetHost, provider: str) -> None:
    task = sets.made(provider, 9, max_active=4, seconds=1.0, deferrable=True)
    ended = sets.run(task)
    assert ended.error is None
    assert ended.result["outcomes"] == {"succeeded": 9}
    assert sorted(sets.submits(provider)) == [f"parent-{number:03d}" for number in range(9)]
    assert ended.result["submitted"] == 9
    assert len(ended.deferrals) >= 2
    first = ended.deferrals[0].trigger.serialize()[1]
    assert len(first["rows"]["open"][0]["ids"]) <= 4
    assert "objective" not in str(first)
