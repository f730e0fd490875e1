"""What importing runops costs in CPU time, beyond what its users import anyway.

Each figure is the median of nine fresh processes, with compiled bytecode; the kinds take turns, so that a busy machine
slows all alike. Exits 1 when a difference is over its budget.
"""

from __future__ import annotations

import compileall
import importlib.util
import os
import resource
import statistics
import subprocess
import sys
from dataclasses import dataclass

TRIES = 9


@dataclass(frozen=True)
class Import:
    """One claim.

    Args:
        name: What is imported, in words.
        base: What its users import anyway.
        whole: The same with runops.
        budget: Seconds that runops may add.
    """

    name: str
    base: str
    whole: str
    budget: float


CORE = Import("runops.core", "import httpx, pydantic", "import httpx, pydantic; from runops.core import *", 0.15)
DAGSTER = Import("every name of runops.dagster", "import dagster", "import dagster; from runops.dagster import *", 0.2)


def cpu_seconds(statement: str) -> float:
    """User and system time of one process that runs a statement."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", statement], check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def is_within(claim: Import) -> bool:
    """Measure, print, judge."""
    cpu_seconds(claim.whole)
    times = {claim.base: list[float](), claim.whole: list[float]()}
    for _ in range(TRIES):
        for statement, taken in times.items():
            taken.append(cpu_seconds(statement))
    base, whole = (statistics.median(taken) for taken in times.values())
    difference = whole - base
    print(f"{claim.base}: {base:.3f} s CPU (median of {TRIES})")
    print(f"{claim.whole}: {whole:.3f} s CPU, {whole / base:.2f} times as much")
    print(f"importing {claim.name} adds {difference:.3f} s; the budget is {claim.budget:.2f} s")
    return difference <= claim.budget


def main() -> int:
    """All claims whose host is installed."""
    spec = importlib.util.find_spec("runops")
    assert spec is not None
    for folder in spec.submodule_search_locations or []:
        compileall.compile_dir(folder, quiet=1)
    claims = [CORE, *([DAGSTER] if importlib.util.find_spec("dagster") else [])]
    missed = [claim.name for claim in claims if not is_within(claim)]
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
