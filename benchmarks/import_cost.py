"""What ``import runops.core`` costs in CPU time, beyond what ``import httpx, pydantic`` costs already.

Each figure is the median of nine fresh processes, with compiled bytecode; both kinds take turns, so that a busy
machine slows both alike. Exits 1 when the difference is over the budget.
"""

from __future__ import annotations

import compileall
import importlib.util
import os
import resource
import statistics
import subprocess
import sys

TRIES = 9
BUDGET = 0.15
"""Seconds."""
BASE = "import httpx, pydantic"
WHOLE = "import httpx, pydantic, runops.core"


def cpu_seconds(statement: str) -> float:
    """User and system time of one process that runs a statement."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", statement], check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> int:
    """Measure, print, judge."""
    spec = importlib.util.find_spec("runops")
    assert spec is not None
    for folder in spec.submodule_search_locations or []:
        compileall.compile_dir(folder, quiet=1)
    cpu_seconds(WHOLE)
    times = {BASE: list[float](), WHOLE: list[float]()}
    for _ in range(TRIES):
        for statement, taken in times.items():
            taken.append(cpu_seconds(statement))
    base, whole = (statistics.median(taken) for taken in times.values())
    difference = whole - base
    print(f"{BASE}: {base:.3f} s CPU (median of {TRIES})")
    print(f"{WHOLE}: {whole:.3f} s CPU, {whole / base:.2f} times as much")
    print(f"import runops.core adds {difference:.3f} s; the budget is {BUDGET:.2f} s")
    return 0 if difference <= BUDGET else 1


if __name__ == "__main__":
    sys.exit(main())
