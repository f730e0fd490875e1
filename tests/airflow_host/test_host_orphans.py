"""What tasks leave behind when they die is listed exactly, cancelled on request, and nothing else is touched."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

import pytest

from demo.vendors import KEYS
from tests.airflow_host.cases import CASES, Case
from tests.airflow_host.host import TASK_OVER, Host, Outside, Task, until
from tests.airflow_host.moments import BEFORE, BETWEEN, DEFERRING, DURING, MARKED, PARENTS, RESUMING, WAITING, parent_of

RUN, LIVE = "orphans", "orphans-beside"
TRIGGERERS = ("airflow-triggerer-1", "airflow-triggerer-2")
BESIDE = ["nyx_deferred", "nyx_worker", "onepin_deferred", "onepin_worker", "b3os_deferred", "b3os_worker"]
SPARED = [*BESIDE, "onepin_retrying", "b3os_given_away"]
CLEARED = "b3os_cleared"

LEFT = {case for case in CASES if case.moment in (DEFERRING, WAITING) or (case.moment == BETWEEN and case.proven)}
LEFT |= {case for case in CASES if case.moment == DURING and case.proven}
UNTOLD = {case for case in CASES if case.lost and not case.proven}
"""Whose submit may have started a run that nothing proves to be ours."""


@dataclass(frozen=True)
class Told:
    """What a command said: one mapping for each line, and its exit code."""

    lines: list[dict[str, Any]]
    code: int

    def runs(self, standing: str) -> set[tuple[str, str]]:
        """The tasks and runs of one standing."""
        found = [line for line in self.lines if line["standing"] == standing]
        return {(line["holder"]["task_id"], line["run_id"]) for line in found}


class Command:
    """``runops orphans airflow`` from outside, with nothing but a token and the keys of the environment."""

    def __init__(self, host: Host, outside: Outside) -> None:
        self._url = host.url
        token = host.ask("GET", "/auth/token", expect=(200, 201))["access_token"]
        self.token = token
        self._environment = {"AIRFLOW_TOKEN": token, "PATH": "/usr/bin:/bin", **outside.variables()}

    def __call__(self, *options: str) -> Told:
        command = [sys.executable, "-m", "runops.cli", "orphans", "airflow", "--url", self._url, "--json", *options]
        done = subprocess.run(
            command, env=self._environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300,
            check=False,
        )  # fmt: skip
        for secret in (self.token, *KEYS.values()):
            assert secret not in done.stdout + done.stderr
        assert done.returncode in (0, 4), done.stderr
        return Told([json.loads(line) for line in done.stdout.splitlines()], done.returncode)


def runs_of(outside: Outside, provider: str, dag_run: str, task_id: str) -> list[dict[str, Any]]:
    return outside.submitted(provider, **{PARENTS[provider]: parent_of(dag_run, task_id)})


def arrived(host: Host, outside: Outside, case: Case, state: str | None) -> bool:
    task = Task("orphans", RUN, case.name)
    if case.moment == DURING:
        return len(runs_of(outside, case.provider, RUN, case.name)) == 1
    if case.moment == WAITING and case.deferrable:
        return state == "deferred"
    if case.moment == WAITING:
        runs = runs_of(outside, case.provider, RUN, case.name)
        return state == "running" and len(runs) == 1 and runs[0]["reads"] >= 2
    return host.reached(task, case.moment)


def bring_to_their_moments(host: Host, outside: Outside) -> None:
    for case in CASES:
        if case.moment == DURING:
            outside.tell(
                "faults", kind="delay", seconds=300, when="after", action="submit", provider=case.provider,
                path_contains=parent_of(RUN, case.name),
            )  # fmt: skip
    host.trigger("orphans", RUN, {})
    waiting, ended = set(CASES), set[Case]()
    limit = time.monotonic() + 240
    while waiting:
        states = host.states("orphans", RUN)
        for case in list(waiting):
            state = states.get(Task("orphans", RUN, case.name))
            assert state not in TASK_OVER, host.log(Task("orphans", RUN, case.name))
            if case.moment == RESUMING and case not in ended and state == "deferred":
                outside.finish(runs_of(outside, case.provider, RUN, case.name)[0]["run_id"])
                ended.add(case)
            if arrived(host, outside, case, state):
                waiting.remove(case)
        assert time.monotonic() < limit, f"not at their moments: {sorted(case.name for case in waiting)}"
        time.sleep(0.5)


def begin_beside(host: Host, outside: Outside, given: str) -> None:
    host.trigger("orphans_beside", LIVE, {"given": given})

    def all_wait() -> bool:
        states = host.states("orphans_beside", LIVE)
        named = [
            (name, "deferred" if name.endswith(("deferred", "cleared")) else "running") for name in [*BESIDE, CLEARED]
        ]
        named += [("onepin_retrying", "running"), ("b3os_given_away", "success"), ("sensor", "deferred")]
        there = all(states.get(Task("orphans_beside", LIVE, name)) == state for name, state in named)
        return there and all(
            runs_of(outside, name.partition("_")[0], LIVE, name) for name, _ in named if name != "sensor"
        )

    until("all tasks beside wait", 240, all_wait, pause=1.0)
    cleared = Task("orphans_beside", LIVE, CLEARED)
    host.clear(cleared)
    until("the cleared task waits again", 120, lambda: len(runs_of(outside, "b3os", LIVE, CLEARED)) == 2)
    host.kill_task(Task("orphans_beside", LIVE, "onepin_retrying"), supervisor=False)
    host.wait_for(Task("orphans_beside", LIVE, "onepin_retrying"), ["up_for_retry"])


@pytest.fixture(scope="module")
def given(outside: Outside) -> str:
    """A run that nobody of ours has submitted, and that goes on."""
    return outside.make_run("nyx", "succeeded", ("config_name", "given"), seconds=600)


@pytest.fixture(scope="module")
def aftermath(host: Host, outside: Outside, given: str) -> Command:
    """Every task of the one DAG run is dead, and those of the other wait."""
    host.wait_for_dags(["orphans", "orphans_beside", "example_orphans"])
    bring_to_their_moments(host, outside)
    begin_beside(host, outside, given)
    for case in CASES:
        if not (case.moment == WAITING and case.deferrable):
            host.kill_task(Task("orphans", RUN, case.name), supervisor=True)
        else:
            host.mark(Task("orphans", RUN, case.name), "failed")
    tasks = [Task("orphans", RUN, case.name) for case in CASES]

    def all_over() -> bool:
        states = host.states("orphans", RUN)
        return all(states[task] in TASK_OVER for task in tasks)

    until("all tasks are over", 180, all_over, pause=1.0)
    outside.tell("reset", only=["faults"])
    return Command(host, outside)


@pytest.fixture(scope="module")
def listed(aftermath: Command) -> Told:
    return aftermath()


def left_behind(outside: Outside) -> set[tuple[str, str]]:
    """What is left, by what the outside knows: the runs of dead tasks, and the first one of the cleared task."""
    found = {
        (case.name, run["run_id"])
        for case in LEFT
        for run in runs_of(outside, case.provider, RUN, case.name)
        if not run["over"]
    }
    return found | {(CLEARED, runs_of(outside, "b3os", LIVE, CLEARED)[0]["run_id"])}


@pytest.fixture(scope="module")
def expected(aftermath: Command, outside: Outside) -> set[tuple[str, str]]:
    return left_behind(outside)


def test_what_is_left_is_listed_exactly(expected: set[tuple[str, str]], listed: Told) -> None:
    assert len(expected) == len(LEFT) + 1
    assert listed.runs("left") == expected


def test_a_lost_submit_without_proof_is_said_to_be_unknown_with_what_it_may_be(outside: Outside, listed: Told) -> None:
    untold = {line["holder"]["task_id"]: line for line in listed.lines if line["standing"] == "uncertain"}
    assert untold.keys() == {case.name for case in UNTOLD if case.moment != MARKED or case.provider == "nexio"}
    for case in UNTOLD:
        if case.moment != MARKED and case.provider != "nexio":
            runs = runs_of(outside, case.provider, RUN, case.name)
            assert untold[case.name]["candidates"] == [run["run_id"] for run in runs]
    assert listed.code == 4
    assert listed.runs("unreadable") == set()


def test_each_line_names_the_task_the_run_and_why(listed: Told) -> None:
    for line in listed.lines:
        assert line["holder"]["host"] == "airflow"
        assert {"dag_id", "dag_run_id", "task_id", "map_index", "try_number"} <= line["holder"].keys()
        assert line["why"]
        assert line["credential"]
        if line["standing"] == "left":
            assert line["state"]


@pytest.fixture(scope="module")
def cancelled(aftermath: Command, expected: set[tuple[str, str]], listed: Told) -> Told:
    return aftermath("--cancel")


def test_cancel_leaves_nothing_that_can_be_cancelled(
    aftermath: Command, outside: Outside, expected: set[tuple[str, str]], cancelled: Told
) -> None:
    acts = {(line["holder"]["task_id"], line["run_id"]): line["act"] for line in cancelled.lines if line["act"]}
    providers = {line["run_id"]: line["provider"] for line in cancelled.lines}
    assert acts.keys() == expected
    for (_, run_id), act in acts.items():
        # Nexio documents no cancel.
        assert act == ("failed" if providers[run_id] == "nexio" else "cancelled")
    again = aftermath()
    assert {run for run in again.runs("left") if providers[run[1]] != "nexio"} == set()


def test_neither_the_list_nor_the_cancel_touches_what_is_waited_for(
    host: Host, outside: Outside, given: str, cancelled: Told
) -> None:
    states = host.states("orphans_beside", LIVE)
    for name in SPARED:
        runs = runs_of(outside, name.partition("_")[0], LIVE, name)
        assert [(run["cancels"], run["over"]) for run in runs] == [(0, False)], name
    for name in BESIDE:
        assert states[Task("orphans_beside", LIVE, name)] == ("deferred" if name.endswith("deferred") else "running")
    second = runs_of(outside, "b3os", LIVE, CLEARED)[1]
    assert (second["cancels"], second["over"]) == (0, False)
    sensed = next(run for run in outside.runs() if run["run_id"] == given)
    assert (sensed["cancels"], sensed["over"]) == (0, False)
    unknown = [run for case in UNTOLD for run in runs_of(outside, case.provider, RUN, case.name)]
    assert [run["cancels"] for run in unknown] == [0] * len(unknown)


def test_the_maintenance_dag_of_the_examples_cancels_what_is_left_by_then(
    host: Host, outside: Outside, aftermath: Command, cancelled: Told
) -> None:
    host.save_connection("airflow_api", {"conn_type": "http", "host": host.url, "password": aftermath.token})
    task = Task("orphans_beside", LIVE, "nyx_worker")
    run_id = runs_of(outside, "nyx", LIVE, task.task_id)[0]["run_id"]
    host.kill_task(task, supervisor=True)
    host.wait_for(task, ["failed"], 120)
    host.ask("PATCH", "/api/v2/dags/example_orphans", body={"is_paused": False})
    host.trigger("example_orphans", "maintenance", {})
    done = Task("example_orphans", "maintenance", "cancel_what_is_left")
    assert host.wait_for(done, TASK_OVER, 180) == "success", host.log(done)
    found = {line["run_id"]: line["act"] for line in host.value(done, "return_value")}
    assert found[run_id] == "cancelled", host.log(done)
    assert [run["cancels"] for run in runs_of(outside, "nyx", LIVE, task.task_id)] == [1]
    assert aftermath.token not in host.log(done)
    others = [
        run for name in SPARED if name != task.task_id for run in runs_of(outside, name.partition("_")[0], LIVE, name)
    ]
    assert [run["cancels"] for run in others] == [0] * len(others)


def test_a_clear_after_the_cancel_submits_a_new_run(host: Host, outside: Outside, cancelled: Told) -> None:
    case = next(case for case in LEFT if case.provider == "onepin" and case.moment == WAITING)
    task = Task("orphans", RUN, case.name)
    host.release(RUN)
    host.clear(task)
    until("a new run is there", 120, lambda: len(runs_of(outside, case.provider, RUN, case.name)) == 2)


def test_there_is_something_left_and_something_that_nobody_can_tell() -> None:
    assert {case.provider for case in LEFT} == {"nexio", "nyx", "onepin", "b3os"}
    assert {case.moment for case in UNTOLD} == {MARKED, DURING, BETWEEN}
    assert BEFORE not in {case.moment for case in LEFT | UNTOLD}
