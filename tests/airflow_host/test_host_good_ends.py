"""What a good end is, in a real Airflow: the table of cases, ``runops explain`` beside it, and a killed triggerer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from runops.core import PROVIDERS
from tests.airflow_host.host import TASK_OVER, Host, HostError, Outside, Task, until
from tests.airflow_host.matrix import PARENTS
from tests.explained import agrees, explained
from tests.good_ends import CASES, Case

RUN = "good"
END_SECONDS = 420.0
STATES = {"succeed": "success", "warn": "success", "skip": "skipped", "fail": "failed"}
TRIGGERER = "airflow-triggerer-1"


def id_of(case: Case) -> str:
    return str(case).replace("-", "_")


@pytest.fixture(scope="module")
def conf(sqlite_host: Host, outside: Outside) -> dict[str, str]:
    """The runs that the tasks wait for, after all have ended."""
    host = sqlite_host
    host.wait_for_dags(["good_ends", "overspent"])
    made = {
        id_of(case): outside.tell(
            "runs", provider=case.provider, parents=PARENTS.get(case.provider), **case.run()
        )["run_id"]
        for case in CASES
    }  # fmt: skip
    host.trigger("good_ends", RUN, made)
    limit = time.monotonic() + END_SECONDS
    while True:
        states = host.states("good_ends", RUN)
        left = sorted(task.task_id for task, state in states.items() if state not in TASK_OVER)
        if states and not left:
            return made
        for name, component in host.components.items():
            if component.process.poll() is not None:
                host.restart(name)
        if time.monotonic() > limit:
            raise HostError(f"not over after {END_SECONDS:.0f} s: {left}")
        time.sleep(1.0)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_sensor_ends_as_the_case_says_and_explain_says_the_same(
    conf: dict[str, str],
    sqlite_host: Host,
    outside: Outside,
    case: Case,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = Task("good_ends", RUN, id_of(case))
    assert sqlite_host.state(task) == STATES[case.verdict], sqlite_host.log(task)
    result = sqlite_host.value(task)
    assert (result["outcome"], result["verdict"], result["ended_by"]) == (case.outcome, case.verdict, case.ended_by)
    assert {name: each["found"] for name, each in (result["unmet"] or {}).items()} == (case.unmet or {})
    for name, provider in PROVIDERS.items():
        monkeypatch.setenv(provider.key_variable, "a-key")
        monkeypatch.setenv(f"{name.upper()}_BASE_URL", outside.base_url(name))
    said: dict[str, Any] = case.said()
    if "expect" in said:
        said["expect"] = {name: wanted for name, wanted in said["expect"].items() if not isinstance(wanted, list)}
    if case.name == "missing":
        return
    told = explained(capsys, case.provider, conf[id_of(case)], PARENTS.get(case.provider, {}), said)
    agrees(told, result)


def test_no_sensor_has_cancelled_anything(conf: dict[str, str], outside: Outside) -> None:
    assert [run["cancels"] for run in outside.runs() if run["run_id"] in conf.values() and run["cancels"]] == []


@pytest.fixture(scope="module")
def overspent(sqlite_host: Host, outside: Outside) -> Iterator[Host]:
    """The host, whose tasks wait in the triggerer for runs that have not spent too much yet."""
    sqlite_host.wait_for_dags(["overspent"])
    outside.tell("defaults", provider="nyx", script=[{"at": 0, "set": {"status": "running", "spent_usd": 1.0}}])
    sqlite_host.trigger("overspent", RUN, {})
    yield sqlite_host
    outside.tell("defaults", provider="nyx", script=None)


@pytest.mark.parametrize("moment", ["killed_before", "killed_as_it_is_reached"])
def test_a_limit_that_is_reached_while_deferred_ends_and_cancels_once_though_the_triggerer_is_killed(
    overspent: Host, outside: Outside, moment: str
) -> None:
    host, task = overspent, Task("overspent", RUN, moment)
    host.wait_for(task, {"deferred"}, 120)
    (run,) = outside.submitted("nyx", config_name=moment)
    reads = run["reads"]
    until("the triggerer reads the run", 90, lambda: outside.submitted("nyx", config_name=moment)[0]["reads"] > reads)
    if moment == "killed_before":
        host.kill(TRIGGERER)
    outside.tell("set", provider="nyx", run_id=run["run_id"], set={"spent_usd": 4.5})
    if moment == "killed_as_it_is_reached":
        host.kill(TRIGGERER)
    time.sleep(3)
    host.restart(TRIGGERER)
    assert host.wait_for(task, TASK_OVER, 240) == "failed", host.log(task)
    result = host.value(task)
    assert (result["outcome"], result["ended_by"]) == ("timed_out", "max_spend")
    assert "4.5 of at most 4 USD are spent" in result["reason"]
    (after,) = outside.submitted("nyx", config_name=moment)
    assert after["cancels"] == 1
