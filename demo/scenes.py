"""The course of the demo: bring everything up, let both hosts go through the story, read back what became of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo import dagster_project
from demo.airflow_host import RUN_OVER, Airflow
from demo.dagster_host import Dagster, DagsterRecords
from demo.dagster_project import PROJECT_PROMISES
from demo.processes import Component, DemoError, Standstill, Supervisor
from demo.screen import Screen
from demo.story import (
    DAG_RUNS,
    DAGSTER_RUNS,
    DAGSTER_STEPS,
    GIVEN_RUNS,
    NOTHING,
    PROMISES,
    Host,
    Promise,
    Row,
    conf,
    differences,
    release_config,
)
from demo.vendors import AGENT_TOKEN, KEYS, Vendors, word

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "example_dags"
STORY = EXAMPLES / "dagster_definitions.py"
PROJECT = ROOT / "examples" / "dagster" / "src"

FINAL = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})


@dataclass(frozen=True)
class Findings:
    """What was read back.

    Args:
        rows: The table.
        differences: What is not as promised, one line each; empty when all is well.
    """

    rows: list[Row]
    differences: list[str]


class Demo:
    """One run of the demo.

    Args:
        screen: Where progress shows.
        supervisor: Where processes are started.
        folder: A folder for all that is written.
    """

    def __init__(self, screen: Screen, supervisor: Supervisor, folder: Path) -> None:
        self._screen = screen
        self._supervisor = supervisor
        self._folder = folder
        self.vendors = Vendors(supervisor, folder)
        self.airflow: Airflow
        self.dagster: Dagster

    def play(self) -> Findings:
        """Everything from the start to the findings.

        Raises:
            DemoError: Something did not start, or did not end in time.
            Interrupted: Somebody wants us to stop.
        """
        self._screen.say("starting the emulator of the five services")
        self.vendors.start()
        self._screen.say(f"the emulator listens on {self.vendors.url}")
        self._start_airflow()
        self._play_in_airflow()
        self._play_in_dagster()
        self._screen.say("reading back what became of it")
        return self._read_back()

    def _start_airflow(self) -> None:
        dags = {"examples": EXAMPLES, "demo": Path(__file__).resolve().parent / "dags"}
        self.airflow = Airflow(self._supervisor, self._folder / "airflow", dags, self.vendors.connections())
        self._screen.say("creating Airflow's database")
        self.airflow.migrate()
        self._screen.say("starting Airflow: api-server, scheduler, triggerer, dag-processor")
        self.airflow.start()
        self.airflow.wait_until_healthy()
        self.airflow.wait_for_dags(dag_run.dag_id for dag_run in DAG_RUNS.values())
        self._screen.say(f"Airflow is up at {self.airflow.url}, and its DAGs are read")

    def _play_in_airflow(self) -> None:
        given = self._give_runs("airflow")
        for name, dag_run in DAG_RUNS.items():
            self.airflow.trigger(dag_run.dag_id, name, conf(name, given))
        self._screen.say(f"{len(DAG_RUNS)} DAG runs are triggered")
        standstill = Standstill()
        seen: dict[tuple[str, str], str] = {}
        while True:
            runs = self.airflow.dag_run_states()
            tasks = self.airflow.task_states()
            self._tell_tasks(seen, tasks)
            seen = tasks
            open_runs = [name for name in DAG_RUNS if runs.get(name) not in RUN_OVER]
            if not open_runs:
                return
            if standstill.reached((runs, tasks)):
                raise DemoError(f"Airflow is stuck; these DAG runs have not ended: {', '.join(open_runs)}.")
            self._supervisor.sleep(1.0)

    def _tell_tasks(self, before: Mapping[tuple[str, str], str], now: Mapping[tuple[str, str], str]) -> None:
        for promise in PROMISES:
            state = now.get(promise.task)
            if state != before.get(promise.task) and state in FINAL | {"deferred"}:
                name, task = promise.task
                where = f"{DAG_RUNS[name].dag_id}.{task}"
                self._screen.say(f"Airflow  {where:<36} {state:<16} {promise.run}")
        states = [now.get(promise.task, "none") for promise in PROMISES]
        over = sum(state in FINAL for state in states)
        self._screen.show(
            f"Airflow: {over} of {len(states)} tasks over, {states.count('running')} running, "
            f"{states.count('deferred')} deferred"
        )

    def _play_in_dagster(self) -> None:
        given = self._give_runs("dagster")
        self._make_runs(late=False)
        variables = {**self.vendors.variables(), "AGENT_TOKEN": AGENT_TOKEN, "PYTHONPATH": f"{PROJECT}:{ROOT}"}
        self.dagster = Dagster(self._supervisor, self._folder / "dagster", variables)
        self.dagster.read().close()
        self.dagster.start_daemon(dagster_project.MODULE, dagster_project.LOCATION)
        started = {
            name: self.dagster.start_job(name, STORY, "release", release_config(name, given))
            for name in DAGSTER_RUNS
            if name != "matrix"
        }
        matrix = Path(__file__).resolve().parent / "dagster_matrix.py"
        started["matrix"] = self.dagster.start_job("matrix", matrix, "matrix", {}, **{GIVEN_RUNS: json.dumps(given)})
        for name, job in dagster_project.JOBS.items():
            started[name] = self.dagster.start_job(
                name, dagster_project.MODULE, name, job.config, partition=job.partition
            )
        self._screen.say(f"Dagster's daemon and {len(started)} Dagster runs are started")
        records = self.dagster.read()
        try:
            self._follow_dagster(started, records)
        finally:
            records.close()

    def _follow_dagster(self, started: dict[str, Component], records: DagsterRecords) -> None:
        """Until all jobs are over and the sensors have reported the runs that Dagster did not start."""
        standstill = Standstill()
        looks_out = False
        sensed = list(dagster_project.SENSED)
        while started or sensed:
            self._supervisor.sleep(0.5)
            for name in [name for name, component in started.items() if component.process.poll() is not None]:
                del started[name]
                self._screen.say(f"Dagster  {name} is over")
            if not looks_out and records.looks_out(dagster_project.AUTOMATION):
                looks_out = True
                self._make_runs(late=True)
            for asset in [asset for asset in sensed if records.reported(asset)]:
                sensed.remove(asset)
                self._screen.say(f"Dagster  {asset} is reported")
            left = [*started, *(f"the report of {asset}" for asset in sensed)]
            self._screen.show(f"Dagster: waiting for {', '.join(left)}")
            if standstill.reached(left):
                raise DemoError(f"Dagster is stuck; there is no end of {', '.join(left)}.")

    def _make_runs(self, *, late: bool) -> None:
        """Make the runs of the project that neither a job nor a sensor starts."""
        for promise in PROJECT_PROMISES:
            if promise.script is not None and promise.late is late:
                self.vendors.make_run(promise.provider, promise.script, promise.parent)

    def _give_runs(self, host: Host) -> dict[str, str]:
        return {promise.key: self.vendors.give_run(promise, host) for promise in PROMISES if promise.given}

    # --- what became of it ---

    def _read_back(self) -> Findings:
        states = self.airflow.task_states()
        runs = self.vendors.runs()
        records = self.dagster.read()
        try:
            rows = [self._row(promise, runs, states, records) for promise in PROMISES]
            wrong = [differences(promise.row, row) for promise, row in zip(PROMISES, rows, strict=True)]
            rows += dagster_project.rows(records, runs)
            wrong += [
                differences(promise.row, row)
                for promise, row in zip(PROJECT_PROMISES, rows[len(PROMISES) :], strict=True)
            ]
            others = self._other_tasks(states) + self._other_steps(records)
            others += dagster_project.other_differences(records)
        finally:
            records.close()
        return Findings(rows, sum(wrong, others + leaked_keys(self._folder)))

    def _row(
        self,
        promise: Promise,
        runs: Sequence[Mapping[str, Any]],
        states: Mapping[tuple[str, str], str],
        records: DagsterRecords,
    ) -> Row:
        name, task = promise.task
        told = self.airflow.xcom(DAG_RUNS[name].dag_id, name, task, "run") or {}
        step = records.result(*promise.asset)
        by_dagster = {key: step.fact(key) for key in ("run_id", "state", "outcome", "verdict")}
        airflows = seen_by(promise, "airflow", told, runs)
        dagsters = seen_by(promise, "dagster", by_dagster, runs)
        return Row(
            provider=one_cell(airflows.provider, dagsters.provider),
            run=one_cell(airflows.run, dagsters.run),
            word=one_cell(airflows.word, dagsters.word),
            outcome=one_cell(told.get("outcome"), by_dagster["outcome"]),
            verdict=one_cell(told.get("verdict"), by_dagster["verdict"]),
            airflow=states.get(promise.task, "no such task"),
            dagster=step.shown,
        )

    def _other_tasks(self, states: Mapping[tuple[str, str], str]) -> list[str]:
        wrong: list[str] = []
        for name, dag_run in DAG_RUNS.items():
            for task, promised in dag_run.tasks.items():
                found = states.get((name, task), "no such task")
                if found != promised:
                    wrong.append(f"{name}, task {task}: promised {promised!r}, found {found!r}")
            for task, promised in dag_run.xcoms.items():
                found = self.airflow.xcom(dag_run.dag_id, name, task, "return_value")
                if found != promised:
                    wrong.append(f"{name}, what {task} returned: promised {promised!r}, found {found!r}")
        return wrong

    def _other_steps(self, records: DagsterRecords) -> list[str]:
        return [
            f"{name}, asset {asset}: promised {promised!r}, found {found!r}"
            for (name, asset), promised in DAGSTER_STEPS.items()
            if (found := records.result(name, asset).shown) != promised
        ]


@dataclass(frozen=True)
class Seen:
    """A run as the emulator has it: whose, which, and its word."""

    provider: str
    run: str
    word: str


def seen_by(promise: Promise, host: Host, told: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> Seen:
    """The run that a host names, looked up by its id; or that none came to be, where the host names none."""
    run_id = told.get("run_id", NOTHING)
    named = [run for run in runs if run["run_id"] == run_id]
    under_parent = [run for run in runs if promise.parent(host) in run["parents"].values()]
    if run_id == NOTHING and not under_parent:
        return Seen(promise.provider, promise.run, NOTHING)
    if len(named) != 1 or len(under_parent) != 1:
        return Seen(promise.provider, promise.run, f"{len(under_parent)} run(s), {host} names {run_id}")
    (run,) = named
    parents = list(run["parents"].values())
    titles = [other.run for other in PROMISES if other.parent(host) in parents]
    found = word(run)
    expected = promise.seen or found.partition(",")[0]
    said = told.get("state")
    return Seen(
        provider=run["provider"],
        run=", ".join(titles) or f"a run of {parents}",
        word=found if said == expected else f"{found}, but {host} has seen {said}",
    )


def one_cell(airflow: str | None, dagster: str | None) -> str:
    """One cell for two hosts, which should agree."""
    first, second = airflow or NOTHING, dagster or NOTHING
    return first if first == second else f"{first} (Dagster: {second})"


def leaked_keys(folder: Path) -> list[str]:
    """The files below a folder that hold a key: databases and logs must not."""
    return [
        f"{file.relative_to(folder)}: the key of {provider} stands in it"
        for file in sorted(folder.rglob("*"))
        if file.is_file()
        for content in [file.read_bytes()]
        for provider, key in {**KEYS, "the audited agent": AGENT_TOKEN}.items()
        if key.encode() in content
    ]
