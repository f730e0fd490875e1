"""``python -m benchmarks.plugin_cost``: what the plugin of the page "External runs" costs those who do not look at it.

Two figures, each with the plugin and without it (its entry point hidden), on a database with stored external runs:

- the CPU time of a loop of Airflow's own scheduler, whose processes take turns, so that a busy machine slows all alike;
  exits 1 when the ratio is over the budget;
- the SQL statements of each of Airflow's own pages, which must be the same ones.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.waits import ROOT

BUDGET = 1.02
"""Times the CPU time of a loop without the plugin."""
PAIRS = 3
"""Schedulers of each kind: where a process lies in memory makes a difference of its own."""
LOOPS = 25
"""Loops of one turn."""
STORED, LIVE = 2_000, 400

PAGES = (
    "/api/v2/dags",
    "/api/v2/dags/agent_security/details",
    "/api/v2/dags/agent_security/dagRuns",
    "/api/v2/dags/agent_security/dagRuns/{run}",
    "/api/v2/dags/agent_security/dagRuns/{run}/taskInstances",
    "/api/v2/dags/agent_security/dagRuns/{run}/taskInstances/red_team",
    "/api/v2/dags/agent_security/dagRuns/{run}/taskInstances/red_team/links",
    "/api/v2/dags/agent_security/dagRuns/{run}/taskInstances/red_team/xcomEntries",
    "/api/v2/dags/~/dagRuns/~/taskInstances?limit=100",
    "/api/v2/dags/~/dagRuns?limit=100",
    "/api/v2/plugins",
    "/api/v2/jobs",
    "/api/v2/eventLogs",
    "/api/v2/assets",
    "/api/v2/variables",
    "/api/v2/monitor/health",
    "/ui/config",
    "/ui/auth/menus",
    "/ui/dags",
    "/ui/dashboard/dag_stats",
    "/ui/grid/runs/agent_security",
    "/ui/grid/structure/agent_security",
    "/ui/structure/structure_data?dag_id=agent_security",
)


# --- in a process of its own ---------------------------------------------------------------------------------------


def hide() -> None:
    """Leave our entry point out of what Airflow finds; which of the two packages it asks depends on the Python."""
    for name in ("importlib.metadata", "importlib_metadata"):
        with contextlib.suppress(ModuleNotFoundError):
            _hide_from(import_module(name).Distribution)


def _hide_from(distributions: Any) -> None:
    plain: Any = distributions.entry_points

    def without(distribution: Any) -> Any:
        found = plain.fget(distribution)
        return type(found)(each for each in found if not (each.group == "airflow.plugins" and each.name == "runops"))

    distributions.entry_points = property(without)


def loaded() -> list[str]:
    """The modules of the plugin that this process has."""
    return sorted(name for name in sys.modules if name.startswith("runops.airflow.plugin"))


def scheduler() -> None:
    """For each line of input some loops of the scheduler, and a line with the CPU seconds of each."""
    from airflow.executors.base_executor import BaseExecutor
    from airflow.jobs.job import Job
    from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
    from airflow.plugins_manager import ensure_plugins_loaded

    class Nothing(BaseExecutor):
        def sync(self) -> None:
            """No task is run."""

    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    ensure_plugins_loaded()
    executor = Nothing(parallelism=32)
    job: Any = Job()
    job.executors = [executor]
    runner = SchedulerJobRunner(job, num_runs=LOOPS, scheduler_idle_sleep_time=0, executors=[executor])
    job.prepare_for_execution()
    print(json.dumps(loaded()), file=out, flush=True)
    for _ in sys.stdin:
        began = time.process_time()
        runner._run_scheduler_loop()
        print(json.dumps((time.process_time() - began) / LOOPS), file=out, flush=True)


def pages() -> None:
    """The number of SQL statements of each page, at its second visit, as JSON."""
    from airflow import settings
    from airflow.api_fastapi.app import create_app, get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from fastapi.testclient import TestClient
    from sqlalchemy import event, select
    from sqlalchemy.engine import Engine

    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    said: list[str] = []
    event.listen(Engine, "before_cursor_execute", lambda *arguments: said.append(arguments[2]))
    app = create_app()
    # What an API server has once its first person has come.
    with TestClient(app, base_url="http://127.0.0.1") as client:
        manager: Any = get_auth_manager()
        token = manager.generate_jwt(SimpleAuthManagerUser(username="admin", role="admin"))
        client.headers["Authorization"] = f"Bearer {token}"
        from airflow.models.dagrun import DagRun

        assert settings.Session is not None
        with settings.Session() as session:
            asked = select(DagRun.run_id).where(DagRun.dag_id == "agent_security").order_by(DagRun.id).limit(1)
            run = session.scalar(asked)
        counted: dict[str, Any] = {}
        for page in PAGES:
            path = page.format(run=run)
            client.get(path)
            said.clear()
            answer = client.get(path)
            counted[page] = [answer.status_code, len(said), sorted(said)]
    print(json.dumps({"pages": counted, "loaded": loaded()}), file=out, flush=True)


# --- the run -------------------------------------------------------------------------------------------------------


def child(kind: str, plugin: bool, environment: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.plugin_cost", "--child", kind, *([] if plugin else ["--without"])]
    with Path(environment["AIRFLOW_HOME"], f"{kind}.log").open("a") as log:
        return subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, cwd=ROOT
        )


def answer(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"A process has ended with {process.wait()}: {process.args}")
    return json.loads(line)


@contextlib.contextmanager
def schedulers(environment: dict[str, str]) -> Iterator[list[tuple[bool, subprocess.Popen[str]]]]:
    started: list[tuple[bool, subprocess.Popen[str]]] = []
    try:
        for number in range(2 * PAIRS):
            started.append((number % 2 == 0, child("scheduler", number % 2 == 0, environment)))
            print(f"plugin {number % 2 == 0}: {answer(started[-1][1]) or 'no module of it'}", file=sys.stderr)
        yield started
    finally:
        for _, process in started:
            process.kill()
            process.wait()


def loops(environment: dict[str, str], turns: int) -> dict[str, Any]:
    """The CPU time of a loop, with the plugin and without it, by turn."""
    measured: dict[bool, list[float]] = {True: [], False: []}
    ratios: list[float] = []
    order = random.Random(13)
    with schedulers(environment) as started:
        for turn in range(turns + 1):
            order.shuffle(started)
            seen: dict[bool, list[float]] = {True: [], False: []}
            for plugin, process in started:
                assert process.stdin is not None
                print(turn, file=process.stdin, flush=True)
                seen[plugin].append(answer(process))
            if turn:  # The first turn warms up.
                for plugin, values in seen.items():
                    measured[plugin] += values
                ratios.append(statistics.mean(seen[True]) / statistics.mean(seen[False]))
    quarters = statistics.quantiles(ratios, n=4)
    return {
        "with_ms": statistics.median(measured[True]) * 1000,
        "without_ms": statistics.median(measured[False]) * 1000,
        "ratio": statistics.median(ratios),
        "quartiles": [quarters[0], quarters[2]],
        "error": statistics.stdev(ratios) / len(ratios) ** 0.5,
        "turns": turns,
    }


def statements(environment: dict[str, str]) -> list[str]:
    """The pages that are answered by other statements with the plugin, and how; empty when all are the same."""
    found: dict[bool, Any] = {}
    for plugin in (True, False):
        process = child("pages", plugin, environment)
        found[plugin] = answer(process)
        process.communicate()
    print(f"with it an API server has loaded: {', '.join(found[True]['loaded']) or 'nothing'}", file=sys.stderr)
    ours, theirs = found[True]["pages"], found[False]["pages"]
    return [
        f"{page}: {ours[page][:2]} with it, {theirs[page][:2]} without" for page in PAGES if ours[page] != theirs[page]
    ]


@contextlib.contextmanager
def database(sql_alchemy_conn: str | None = None) -> Iterator[dict[str, str]]:
    """The environment of an Airflow whose database is full of external runs."""
    with tempfile.TemporaryDirectory(prefix="runops-plugin-cost-") as home:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
            "PYTHONHASHSEED": "0",
            "AIRFLOW_HOME": home,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "benchmarks" / "stored_dags"),
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__MAX_ACTIVE_RUNS_PER_DAG": "1000",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        }
        if sql_alchemy_conn is not None:
            environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = sql_alchemy_conn
        seed = ["benchmarks.stored_runs", "--count", str(STORED), "--live", str(LIVE)]
        for command in (["airflow", "db", "migrate"], ["airflow", "dags", "reserialize"], seed):
            done = subprocess.run(
                [sys.executable, "-m", *command], env=environment, capture_output=True, text=True, cwd=ROOT, check=False
            )
            if done.returncode:
                raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        yield environment


def report(figures: dict[str, Any]) -> str:
    low, high = figures["quartiles"]
    return (
        f"a loop of the scheduler: {figures['with_ms']:.2f} ms CPU with the plugin, {figures['without_ms']:.2f} ms "
        f"without: ratio {figures['ratio']:.4f} (half of {figures['turns']} turns between {low:.4f} and {high:.4f}, "
        f"standard error {figures['error']:.4f}; at most {BUDGET})"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.plugin_cost", description=__doc__)
    parser.add_argument("--turns", type=int, default=12, help="turns that are measured (default: 12)")
    parser.add_argument("--child", choices=("scheduler", "pages"), help=argparse.SUPPRESS)
    parser.add_argument("--without", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.child:
        if asked.without:
            hide()
        {"scheduler": scheduler, "pages": pages}[asked.child]()
        return 0
    with database() as environment:
        differing = statements(environment)
        figures = loops(environment, asked.turns)
    print(
        f"{len(PAGES) - len(differing)} of {len(PAGES)} pages of Airflow ask their database the same with the plugin."
    )
    print("\n".join(differing))
    print(report(figures))
    print(f"load {os.getloadavg()[0]:.1f} of the last minute, our own included.")
    return 0 if not differing and figures["ratio"] <= BUDGET else 1


if __name__ == "__main__":
    sys.exit(main())
