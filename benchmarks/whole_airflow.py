"""``python -m benchmarks.whole_airflow``: what a waited run costs a whole Airflow, in CPU seconds of every component.

A real Airflow (scheduler with LocalExecutor, triggerer, API server, dag-processor, and PostgreSQL or SQLite) runs the
same load in each mode, one mode after the other in one run, against a stand-in of the services. What Airflow uses while
nothing happens is taken off.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from ssl import create_default_context
from typing import Any

from benchmarks import OVER_LONG_AGO
from benchmarks.__main__ import environment as peers
from benchmarks.components import Peaks, Watch, cpu, took
from benchmarks.figures import quantile
from benchmarks.waits import ROOT, certificate, machine
from demo.airflow_host import RUN_OVER, Airflow
from demo.processes import StopSignal, Supervisor
from tests.airflow_host.postgres import Postgres, programs

DAGS = Path(__file__).resolve().parent / "dags"
RESULTS = ROOT / "build" / "whole_airflow.json"
COMPONENTS = ("scheduler", "workers", "triggerer", "api-server", "dag-processor", "database")
PARALLELISM = 16
RUN_SECONDS = (15.0, 30.0)
IDLE_SECONDS = 30.0
SETTLE_SECONDS = 4.0
PATIENCE = 900.0


@dataclass(frozen=True)
class Mode:
    """One way to wait.

    Args:
        name: What people select it by; also the DAG and its file.
        shows: What it is, for people.
        many: Whether one task has many runs; else there is a task for each.
        waits: Whether there are runs at all.
    """

    name: str
    shows: str
    many: bool = False
    waits: bool = True


MODES = (
    Mode("empty", "an empty task, mapped", waits=False),
    Mode("dbt_cloud", "dbt Cloud's deferrable operator, mapped"),
    Mode("databricks", "Databricks' deferrable operator, mapped"),
    Mode("deferrable", "our deferrable operator, mapped"),
    Mode("sensor", "our deferrable sensor"),
    Mode("poke", "our sensor in poke mode"),
    Mode("reschedule", "our sensor in reschedule mode"),
    Mode("end_from_trigger", "our sensor, ended in the triggerer"),
    Mode("start_from_trigger", "our sensor, begun in the triggerer"),
    Mode("both_ends", "our sensor, begun and ended in the triggerer"),
    Mode("runs_operator", "one operator of many runs, each of which bears a mark", many=True),
    Mode("runs_operator_unmarked", "one operator of many runs without marks", many=True),
    Mode("runs_sensor", "one sensor of many runs", many=True),
)
RATIOS = (
    ("runs_operator", ("dbt_cloud", "databricks"), 1 / 50),
    ("runs_operator_unmarked", ("dbt_cloud", "databricks"), 1 / 50),
    ("runs_sensor", ("dbt_cloud", "databricks"), None),
    ("runs_sensor", ("sensor",), None),
    ("end_from_trigger", ("sensor",), None),
    ("start_from_trigger", ("sensor",), None),
    ("both_ends", ("sensor",), 1 / 5),
    ("deferrable", ("dbt_cloud", "databricks"), None),
)
"""What is set beside the best of what, and what it must not exceed."""


class Whole(Airflow):
    """Airflow in the environment of the peers, whose processes are looked at."""

    def __init__(self, python: Path, supervisor: Supervisor, home: Path, dags: Path, **rest: Any) -> None:
        self._python = python
        self.sessions: dict[str, int] = {}
        super().__init__(supervisor, home, {"bench": dags}, **rest)

    def start(self) -> None:
        for name in ("api-server", "scheduler", "triggerer", "dag-processor"):
            quiet = ("--skip-serve-logs",) if name in ("scheduler", "triggerer") else ()
            started = self._supervisor.start(
                f"airflow-{name}", self._command(name, *quiet), environment=self._environment, folder=self._home
            )
            self.sessions[name] = started.process.pid

    def used(self) -> dict[str, float]:
        """Seconds of CPU by component."""
        return cpu(self.sessions, parted={"scheduler": "workers"})

    def _command(self, *arguments: str) -> list[str]:
        return [str(self._python), "-m", "airflow", *arguments]


@dataclass
class Bench:
    """A host that is up, the service, and what was measured there."""

    host: Whole
    service: str
    certificate: Path
    database: Postgres | None
    tasks: int
    runs: int
    idle: dict[str, float] = field(default_factory=dict[str, float])
    begun: int = 0

    def ask(self, path: str) -> Any:
        """Ask the service."""
        context = create_default_context(cafile=self.certificate)
        with urllib.request.urlopen(self.service + path, context=context, timeout=60) as answer:
            return json.load(answer)

    def states(self, table: str, run_id: str) -> list[str]:
        """The states of a DAG run or of its tasks, straight from the database: the API would be a cost of its own."""
        statement = f"SELECT state FROM {table} WHERE run_id = "
        if self.database is not None:
            return [row[0] for row in self.database.query(statement + "%s", run_id)]
        path = f"file:{self.host._home}/airflow.db?mode=ro"
        with closing(sqlite3.connect(path, uri=True, timeout=60)) as connection:
            return [row[0] for row in connection.execute(statement + "?", (run_id,))]

    def rest(self, seconds: float = IDLE_SECONDS) -> None:
        """Measure what is used while nothing happens, in seconds of CPU a second."""
        before, began = self.host.used(), time.monotonic()
        while time.monotonic() < began + seconds:
            self.states("dag_run", "empty")
            time.sleep(1.0)
        used = took(before, self.host.used())
        now = {name: value / (time.monotonic() - began) for name, value in used.items()}
        self.idle = now if not self.idle else {name: (value + self.idle[name]) / 2 for name, value in now.items()}

    def carry_out(self, mode: Mode) -> dict[str, Any]:
        """Run a mode's DAG once; raw figures."""
        first = 1 + self.begun
        self.begun += 10_000
        self.ask("/_begin?count=0")
        submitted = self.ask("/_figures")["submitted"]
        before, began = self.host.used(), time.monotonic()
        with Watch(self.host.sessions) as peaks:
            self.host.trigger(mode.name, mode.name, {"first": first})
            while not RUN_OVER.issuperset(self.states("dag_run", mode.name) or [""]):
                if time.monotonic() > began + PATIENCE:
                    raise SystemExit(f"{mode.name} is not over after {PATIENCE:.0f} s.")
                time.sleep(1.0)
            ended = time.monotonic()
            time.sleep(SETTLE_SECONDS)
        used, seconds = took(before, self.host.used()), time.monotonic() - began
        told = self.ask("/_figures")
        tasks = self.states("task_instance", mode.name)
        return {
            "mode": mode.name,
            "runs": self.runs if mode.many else self.tasks,
            "tasks": len(tasks),
            "succeeded": tasks.count("success"),
            "seconds": ended - began,
            "measured_for": seconds,
            "used": used,
            "requests": told["requests"],
            "submitted": told["submitted"] - submitted,
            **memory(peaks),
            **detection(told, first, submitted),
        }

    def finish(self, raw: dict[str, Any]) -> dict[str, Any]:
        """With the idle load taken off, and for each run."""
        used = {
            name: raw["used"].get(name, 0.0) - self.idle.get(name, 0.0) * raw["measured_for"] for name in COMPONENTS
        }
        total = sum(used.values())
        each = {f"{name}_per_run": used[name] / raw["runs"] for name in COMPONENTS}
        return {**raw, "net": used, "cpu": total, "cpu_per_run": total / raw["runs"], **each}


def memory(peaks: Peaks) -> dict[str, float]:
    """The most that one worker's task process and the triggerer's runner held, in MB."""

    def most(name: str, depth: int) -> float:
        return max((held for (whose, down), held in peaks.most.items() if whose == name and down >= depth), default=0)

    # The scheduler starts workers, and a worker a process for each task.
    return {"task_mb": most("scheduler", 2) / 2**20, "triggerer_mb": most("triggerer", 1) / 2**20}


def detection(told: Mapping[str, Any], first: int, submitted: int) -> dict[str, float | None]:
    """Seconds from a run's end to the answer that told it, of the runs of one mode."""
    from benchmarks.server import SUBMITTED

    ends = {int(number): end for number, end in told["ends"].items()}
    seen = {int(number): moment for number, moment in told["told"].items()}
    own = [
        seen[number] - ends[number]
        for number in ends
        if number in seen and (first <= number < SUBMITTED or number >= SUBMITTED + submitted)
    ]
    return {"detection_p50": quantile(own, 0.5), "detection_p99": quantile(own, 0.99), "detected": len(own)}


# --- the run ---------------------------------------------------------------------------------------------------


def connections(port: int) -> dict[str, dict[str, Any]]:
    """Airflow's connections to the stand-in."""
    host = f"127.0.0.1:{port}"
    return {
        "steady_bench": {"conn_type": "generic", "password": "key-0", "host": f"https://{host}/nexio"},
        "nyx_bench": {"conn_type": "nyx", "password": "key-0", "host": f"https://{host}/nyx"},
        "dbt_bench": {"conn_type": "dbt_cloud", "login": "1", "password": "key-0", "host": host},
        "databricks_bench": {"conn_type": "databricks", "password": "key-0", "host": "127.0.0.1", "port": port},
    }


@contextmanager
def service(folder: Path, python: Path, run_seconds: tuple[float, float]) -> Generator[int]:
    """The stand-in of the services; its port."""
    options = {"rolling": True, "run_seconds": run_seconds, "certificate": str(certificate(folder))}
    with subprocess.Popen(
        [python, "-m", "benchmarks.server", json.dumps(options)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
    ) as server:  # fmt: skip
        assert server.stdout is not None
        assert server.stdin is not None
        try:
            yield json.loads(server.stdout.readline())["ports"][0]
        finally:
            server.stdin.close()


@contextmanager
def whole(asked: argparse.Namespace, modes: Sequence[Mode], folder: Path, python: Path) -> Generator[Bench]:
    """Airflow with the DAGs of these modes, up and warm."""
    dags, logs = folder / "dags", folder / "logs"
    dags.mkdir()
    logs.mkdir()
    for name in ("warm_triggerer", *(mode.name for mode in modes)):
        shutil.copy(DAGS / f"{name}.py", dags)
    with service(folder, python, RUN_SECONDS) as port, Supervisor(logs, StopSignal()) as supervisor:
        database = None if asked.database == "sqlite" else Postgres(supervisor, programs())
        settings = {
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}",
            "BENCH_TASKS": str(asked.tasks),
            "BENCH_RUNS": str(asked.runs),
            "SSL_CERT_FILE": str(folder / "only.pem"),
            "REQUESTS_CA_BUNDLE": str(folder / "only.pem"),
            "AIRFLOW__CORE__PARALLELISM": str(PARALLELISM),
            "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": str(max(asked.tasks, 16)),
            "AIRFLOW__CORE__MAX_MAP_LENGTH": str(max(asked.tasks, 1024)),
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "1",
            "AIRFLOW__LOGGING__DAG_PROCESSOR_LOG_TARGET": "stdout",
        }
        if database is not None:
            database.start()
            settings["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = database.sqlalchemy_url
        host = Whole(python, supervisor, folder / "airflow", dags, connections={}, settings=settings)
        host.migrate()
        host.start()
        if database is not None:
            host.sessions["database"] = next(
                each.process.pid for each in supervisor._components if each.name == "postgres"
            )
        host.wait_until_healthy()
        # As people have them: each worker and each trigger asks Airflow for its own.
        for name, fields in connections(port).items():
            host.save_connection(name, fields)
        host.wait_for_dags(["warm_triggerer", *(mode.name for mode in modes)])
        try:
            yield Bench(host, f"https://127.0.0.1:{port}", folder / "only.pem", database, asked.tasks, asked.runs)
        finally:
            host.close()
            if asked.keep:
                print(f"kept: {folder}", file=sys.stderr)


def measure(asked: argparse.Namespace, modes: Sequence[Mode], folder: Path) -> dict[str, Any]:
    """All figures of one run."""
    python = peers()
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - began:5.0f} s  {line}", file=sys.stderr, flush=True)

    with whole(asked, modes, folder, python) as bench:
        say("Airflow is up")
        warm_up(bench)
        bench.rest()
        say("warm; " + ", ".join(f"{name} idle {value:.3f}" for name, value in bench.idle.items()))
        raw: list[dict[str, Any]] = []
        for mode in modes:
            raw.append(bench.carry_out(mode))
            last = bench.finish(raw[-1])
            parts = ", ".join(f"{name} {seconds:.2f}" for name, seconds in last["net"].items())
            good = f"{last['succeeded']} of {last['tasks']} succeeded"
            say(f"{mode.name}: {last['cpu_per_run']:.4f} CPU s a run ({parts}), {good}")
        bench.rest()
        return {
            "machine": machine(),
            "database": asked.database,
            "idle": bench.idle,
            "load": os.getloadavg()[0],
            "modes": [bench.finish(figures) for figures in raw],
        }


def warm_up(bench: Bench) -> None:
    """Unmeasured rounds: the first tasks of each worker, and the first connection that a triggerer asks for, load what
    later ones find there."""
    bench.ask("/_begin?count=0")
    for dag, name in (("empty", "warm_1"), ("empty", "warm_2"), ("warm_triggerer", "warm_3")):
        bench.host.trigger(dag, name, {"first": OVER_LONG_AGO})
        while not RUN_OVER.issuperset(bench.states("dag_run", name) or [""]):
            time.sleep(1.0)
    time.sleep(SETTLE_SECONDS)


def table(figures: Mapping[str, Any]) -> str:
    """The figures as a Markdown table."""
    titles = ["mode", "runs", *COMPONENTS, "CPU s/run", "requests/run", "p99 s", "task MB", "triggerer MB", "s", "good"]
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for mode in figures["modes"]:
        late = mode["detection_p99"]
        cells = [
            mode["mode"], str(mode["runs"]), *(f"{mode['net'][name]:.2f}" for name in COMPONENTS),
            f"{mode['cpu_per_run']:.4f}", f"{mode['requests'] / mode['runs']:.1f}",
            "-" if late is None else f"{late:.2f}", f"{mode['task_mb']:.0f}", f"{mode['triggerer_mb']:.0f}",
            f"{mode['seconds']:.0f}", f"{mode['succeeded']}/{mode['tasks']}",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def ratios(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What each mode costs beside the best of those that it is compared with."""
    each = {mode["mode"]: mode["cpu_per_run"] for mode in figures["modes"]}
    found: list[dict[str, Any]] = []
    for name, others, limit in RATIOS:
        there = [other for other in others if other in each]
        if name in each and there:
            best = min(there, key=lambda other: each[other])
            ratio = each[name] / each[best]
            found.append({"mode": name, "beside": best, "ratio": ratio, "limit": limit})
    return found


def main() -> None:
    """Run what was asked for, print a table and the ratios, write JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.whole_airflow", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="MODE", help=f"of {', '.join(mode.name for mode in MODES)}")
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--tasks", type=int, default=40, help="tasks where each has one run (default: 40)")
    parser.add_argument("--runs", type=int, default=1_000, help="runs where one task has them all (default: 1,000)")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the figures go")
    parser.add_argument("--keep", action="store_true", help="leave the folder with database and logs")
    asked = parser.parse_args()
    unknown = set(asked.names) - {mode.name for mode in MODES}
    if unknown:
        parser.error(f"no mode is called {', '.join(sorted(unknown))}")
    # The empty one warms the workers up, and is what memory is set beside.
    modes = [mode for mode in MODES if not asked.names or mode.name in {*asked.names, "empty"}]
    folder = Path(tempfile.mkdtemp(prefix="runops-whole-airflow-"))
    try:
        figures = measure(asked, modes, folder)
    finally:
        if not asked.keep:
            shutil.rmtree(folder, ignore_errors=True)
    figures["ratios"] = ratios(figures)
    asked.json.parent.mkdir(parents=True, exist_ok=True)
    asked.json.write_text(json.dumps(figures, indent=1))
    print(table(figures))
    print()
    for each in figures["ratios"]:
        limit = "" if each["limit"] is None else f" (at most 1/{1 / each['limit']:.0f})"
        print(f"{each['mode']} beside {each['beside']}: {each['ratio']:.4f}, 1/{1 / each['ratio']:.1f}{limit}")
    print(f"\n{asked.database}, {machine()['cores']} cores, Python {machine()['python']}, load {figures['load']:.1f}.")
    print(f"Components in CPU s of the whole mode, idle load taken off. All figures: {os.path.relpath(asked.json)}")


if __name__ == "__main__":
    main()
