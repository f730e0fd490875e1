"""When each word of a run's story comes, and which requests go wrong, as a line of a test has said it."""

from __future__ import annotations

from typing import Any

import pytest

from runops.core import RunClient, find
from runops.testing import Runs, TestingError


def words(runs: Runs, run_id: str, *moments: float) -> list[str]:
    """What a run of Nyx shows after each of some more seconds."""
    shown: list[str] = []
    for seconds in moments:
        runs.time.move(seconds)
        shown.append(runs.nyx.show(run_id)["status"])
    return shown


@pytest.mark.parametrize(
    ("story", "moments", "shown"),
    [
        (("queued", "running", "completed"), (0, 50, 20, 60), ["queued", "queued", "running", "completed"]),
        (("queued", 300, "running"), (0, 290, 20), ["queued", "queued", "running"]),
        (("queued", 100, 200, "running"), (0, 290, 20), ["queued", "queued", "running"]),
        ((100, "running"), (0, 90, 20), ["queued", "queued", "running"]),
        ((100, 200, "running"), (0, 290, 20), ["queued", "queued", "running"]),
        ((), (0, 1_000), ["queued", "queued"]),
    ],
)  # fmt: skip
def test_each_word_lasts_a_minute_or_as_long_as_is_said(
    runops_runs: Runs, story: Any, moments: tuple[float, ...], shown: list[str]
) -> None:
    runops_runs.nyx("run-1", *story)
    assert words(runops_runs, "run-1", *moments) == shown


def test_fields_come_with_the_last_word(runops_runs: Runs) -> None:
    runops_runs.nyx("run-1", "running", {"spent_usd": 1.5}, "completed", result="exhausted")
    shown = [runops_runs.nyx.show("run-1")]
    for _ in range(2):
        runops_runs.time.move(61)
        shown.append(runops_runs.nyx.show("run-1"))
    assert [(run["status"], run["spent_usd"], run["result"]) for run in shown] == [
        ("running", 0.0, None), ("running", 1.5, None), ("completed", 1.5, "exhausted"),
    ]  # fmt: skip
    assert [run["completed_at"] is None for run in shown] == [True, True, False]


def test_fields_alone_and_an_age_are_taken(runops_runs: Runs) -> None:
    runops_runs.nyx("run-1", 30, name="Audit")
    assert runops_runs.nyx.show("run-1")["name"] != "Audit"
    runops_runs.time.move(31)
    assert runops_runs.nyx.show("run-1")["name"] == "Audit"
    runops_runs.nyx("run-2", "queued", 300, "running", age=301)
    assert runops_runs.nyx.show("run-2")["status"] == "running"


def test_a_run_belongs_to_the_parent_that_is_named(runops_runs: Runs) -> None:
    runops_runs.nyx("run-1", "running", parent="nightly")
    runops_runs.nekt("run-2", "running", parents={"source": "orders"})
    assert runops_runs.nyx.show("run-1")["config_name"] == "nightly"
    assert runops_runs.nekt.show("run-2")["source"] == "orders"
    runops_runs.nyx.change("run-1", status="completed", result="success")
    assert runops_runs.nyx.show("run-1")["result"] == "success"
    with pytest.raises(TestingError, match="there is no run 'run-9'"):
        runops_runs.nyx.change("run-9", status="completed")


def test_so_many_requests_go_wrong_after_so_many_that_go_well(runops_runs: Runs) -> None:
    runops_runs.nexio("run-1", "processing")
    runops_runs.nexio("run-2", "processing")
    runops_runs.nexio.fail(418, on="get", run_id="run-1", after=1, times=2)
    services = runops_runs.services
    client = RunClient(find("nexio"), token=services.key("nexio"), base_url=services.base_url("nexio"))
    with client:
        for run_id in ("run-1", "run-2", "run-1", "run-2", "run-1", "run-1"):
            try:
                client.get(client.ref(run_id))
            except Exception as error:
                assert "418" in str(error)  # noqa: PT017
    told = [(request["run_id"], request["status"]) for request in runops_runs.nexio.requests("get")]
    assert told == [
        ("run-1", 200), ("run-2", 200), ("run-1", 418), ("run-2", 200), ("run-1", 418), ("run-1", 200),
    ]  # fmt: skip
    assert runops_runs.nexio.asked == {"run-1": 2, "run-2": 2}
    with pytest.raises(TestingError, match="unknown filter"):
        runops_runs.nexio.requests("get", colour="red")
