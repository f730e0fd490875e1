"""``python -m benchmarks.whole_dagster``: what a waited run costs Dagster, a step process for each beside one for all.

Each job runs as ``dagster job execute`` does it, with the multiprocess executor: one process for the run, and one for
each step. Their CPU is counted to the end of the last of them. There is no daemon and no web server in it: both do the
same for either job, once a run of Dagster.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from ssl import create_default_context
from typing import Any

from benchmarks.waits import ROOT, machine
from benchmarks.whole_airflow import RUN_SECONDS, detection, service

RESULTS = ROOT / "build" / "whole_dagster.json"


@dataclass(frozen=True)
class Mode:
    """A job, what it shows, and whether one step has many runs."""

    name: str
    shows: str
    many: bool = False


MODES = (
    Mode("empty", "steps that do nothing"),
    Mode("steps", "a step process for each run"),
    Mode("one_step", "one step process for all runs", many=True),
)


def cpu() -> float:
    """Seconds of CPU of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def carry_out(mode: Mode, asked: argparse.Namespace, folder: Path, url: str) -> dict[str, Any]:
    """Run a job once; its figures."""
    context = create_default_context(cafile=folder / "only.pem")

    def ask(path: str) -> Any:
        with urllib.request.urlopen(url + path, context=context, timeout=60) as answer:
            return json.load(answer)

    home = folder / mode.name
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    settings = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "DAGSTER_HOME": str(home),
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}",
        "BENCH_TASKS": str(asked.steps),
        "BENCH_RUNS": str(asked.runs),
        "BENCH_AT_ONCE": str(asked.at_once),
        "BENCH_URL": f"{url}/nexio",
        "BENCH_CERTIFICATE": str(folder / "only.pem"),
    }
    ask("/_begin?count=0")
    before = ask("/_figures")["submitted"]
    began, used = time.monotonic(), cpu()
    with (home / "log").open("w") as log:
        done = subprocess.run(
            [sys.executable, "-m", "dagster", "job", "execute", "-m", "benchmarks.dagster_jobs", "-j", mode.name],
            cwd=home, env=settings, stdout=log, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
    told = ask("/_figures")
    runs = asked.runs if mode.many else asked.steps
    total = cpu() - used
    if done.returncode:
        print((home / "log").read_text()[-3000:], file=sys.stderr)
    return {
        "mode": mode.name,
        "runs": runs,
        "good": done.returncode == 0,
        "cpu": total,
        "cpu_per_run": total / runs,
        "seconds": time.monotonic() - began,
        "requests": told["requests"],
        "submitted": told["submitted"] - before,
        "record_kb": sum(path.stat().st_size for path in home.rglob("*.db*")) / 1024,
        **detection(told, 1, before),
    }


def table(figures: list[dict[str, Any]]) -> str:
    """The figures as a Markdown table."""
    titles = ["job", "runs", "CPU s", "CPU s/run", "requests/run", "p99 s", "database KB/run", "s", "good"]
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for job in figures:
        late = job["detection_p99"]
        cells = [
            job["mode"], str(job["runs"]), f"{job['cpu']:.2f}", f"{job['cpu_per_run']:.4f}",
            f"{job['requests'] / job['runs']:.1f}", "-" if late is None else f"{late:.2f}",
            f"{job['record_kb'] / job['runs']:.1f}", f"{job['seconds']:.0f}", "yes" if job["good"] else "no",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def ratio(figures: list[dict[str, Any]]) -> Mapping[str, float]:
    """What a run costs in one step beside a step of its own."""
    each = {job["mode"]: job["cpu_per_run"] for job in figures if job["good"]}
    return {"one_step beside steps": each["one_step"] / each["steps"]} if {"one_step", "steps"} <= each.keys() else {}


def main() -> None:
    """Run what was asked for, print a table and the ratio, write JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.whole_dagster", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="JOB", help=f"of {', '.join(mode.name for mode in MODES)}")
    parser.add_argument("--steps", type=int, default=20, help="steps where each has one run (default: 20)")
    parser.add_argument("--at-once", type=int, default=8, help="step processes at the same time (default: 8)")
    parser.add_argument("--runs", type=int, default=1_000, help="runs where one step has them all (default: 1,000)")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the figures go")
    asked = parser.parse_args()
    unknown = set(asked.names) - {mode.name for mode in MODES}
    if unknown:
        parser.error(f"no job is called {', '.join(sorted(unknown))}")
    figures: list[dict[str, Any]] = []
    folder = Path(tempfile.mkdtemp(prefix="runops-whole-dagster-"))
    try:
        with service(folder, Path(sys.executable), RUN_SECONDS) as port:
            for mode in MODES:
                if not asked.names or mode.name in asked.names:
                    figures.append(carry_out(mode, asked, folder, f"https://127.0.0.1:{port}"))
                    print(f"{mode.name}: {figures[-1]['cpu_per_run']:.4f} CPU s a run", file=sys.stderr, flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    ratios = ratio(figures)
    asked.json.parent.mkdir(parents=True, exist_ok=True)
    asked.json.write_text(json.dumps({"machine": machine(), "jobs": figures, "ratios": ratios}, indent=1))
    print(table(figures))
    for what, value in ratios.items():
        print(f"\n{what}: {value:.4f}, 1/{1 / value:.0f}")
    print(f"\n{machine()['cores']} cores, Python {machine()['python']}, load {os.getloadavg()[0]:.1f}.")


if __name__ == "__main__":
    main()
