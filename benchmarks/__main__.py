"""``python -m benchmarks``: run scenarios one after the other, print a table, write JSON."""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.scenarios import USUAL, all_scenarios
from benchmarks.waits import ROOT, Scenario, machine, measure

ENVIRONMENT = ROOT / ".venv-bench"
LOCK = ROOT / "requirements" / "bench.lock"
RESULTS = ROOT / "build" / "benchmarks.json"
COLUMNS = (
    ("live_cpu_ms_per_poll", "CPU ms/poll", "{:.3f}"),
    ("cpu_ms_per_run", "CPU ms/run", "{:.2f}"),
    ("requests_per_run", "requests/run", "{:.2f}"),
    ("live_polls_per_second", "polls/s", "{:.0f}"),
    ("live_connections", "open", "{:d}"),
    ("connections_most", "most open", "{:d}"),
    ("connections_needed", "rate x latency", "{:.1f}"),
    ("connections_opened", "opened", "{:d}"),
    ("kb_per_wait", "KB/wait", "{:.1f}"),
    ("detection_p50", "detected p50 s", "{:.2f}"),
    ("detection_p99", "p99 s", "{:.2f}"),
    ("live_lag_p50", "lag p50 ms", "{:.1f}"),
    ("live_lag_p99", "p99 ms", "{:.1f}"),
    ("live_busy", "core busy", "{:.1%}"),
    ("finished", "finished", "{:d}"),
    ("errors", "errors", "{:d}"),
)


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="scenarios, * and ? allowed; without: the usual ones")
    parser.add_argument("--list", action="store_true", help="show all names and stop")
    parser.add_argument("--rounds", type=int, default=1, help="how often each runs; the table shows the median by CPU")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the figures go")
    parser.add_argument(
        "--python", type=Path, help="an interpreter with the peers; without: .venv-bench, made if absent"
    )
    parser.add_argument("--busy", action="store_true", help="the scenarios on a core that another process uses too")
    asked = parser.parse_args()
    known = all_scenarios()
    if asked.list:
        print("\n".join(f"{'*' if name in USUAL else ' '} {name}" for name in known))
        return
    wanted = asked.names or (["busy-*"] if asked.busy else USUAL)
    chosen = [known[name] for name in known if any(fnmatch.fnmatch(name, pattern) for pattern in wanted)]
    if not chosen:
        sys.exit(f"No scenario is called {', '.join(wanted)}; --list shows them all.")
    python = asked.python or environment()
    began = time.monotonic()
    results: list[dict[str, Any]] = []
    for scenario in chosen:
        results.append(middle(scenario, python, asked.rounds))
        print(f"{time.monotonic() - began:5.0f} s  {brief(results[-1])}", file=sys.stderr, flush=True)
        asked.json.parent.mkdir(parents=True, exist_ok=True)
        asked.json.write_text(json.dumps({"machine": machine(), "results": results}, indent=1))
    print(table(results))
    print(f"\nLoad {os.getloadavg()[0]:.1f} of the last minute, our own included.")
    print(f"{machine()['cores']} cores, Python {machine()['python']}. All figures: {os.path.relpath(asked.json)}")


def environment() -> Path:
    """The interpreter of the environment that holds the peers, made from the lock when that is newer."""
    python, ready = ENVIRONMENT / "bin" / "python", ENVIRONMENT / ".ready"
    if not ready.exists() or ready.stat().st_mtime < LOCK.stat().st_mtime:
        make = [sys.executable, ROOT / "scripts" / "setup_environment.py", ENVIRONMENT]
        subprocess.run([*make, "--lock", LOCK], check=True)
        ready.touch()
    return python


def middle(scenario: Scenario, python: Path, rounds: int) -> dict[str, Any]:
    """The round with the median CPU per poll."""
    done = sorted((measure(scenario, python) for _ in range(rounds)), key=lambda figures: figures["cpu_ms_per_poll"])
    return done[len(done) // 2]


def shown(figures: dict[str, Any], name: str, form: str) -> str:
    value = figures.get(name, figures.get(name.removeprefix("live_")))
    return "-" if value is None else form.format(value)


def brief(figures: dict[str, Any]) -> str:
    """One line while it runs."""
    said = ", ".join(f"{title} {shown(figures, name, form)}" for name, title, form in COLUMNS[:3] + COLUMNS[8:10])
    return f"{figures['scenario']['name']}: {said}, errors {figures['errors']}"


def table(results: list[dict[str, Any]], columns: tuple[tuple[str, str, str], ...] = COLUMNS) -> str:
    """All figures as a Markdown table."""
    lines = ["| scenario | " + " | ".join(title for _, title, _ in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for figures in results:
        cells = [shown(figures, name, form) for name, _, form in columns]
        lines.append(f"| {figures['scenario']['name']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
