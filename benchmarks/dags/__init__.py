"""The DAGs whose cost is measured, each in a file of its own: a worker imports what its own task needs, and no more."""

from __future__ import annotations

import os
from typing import Any

TASKS = int(os.environ.get("BENCH_TASKS", "40"))
"""How many tasks a DAG with one task for each run has."""
RUNS = int(os.environ.get("BENCH_RUNS", "1000"))
"""How many runs one task has where it has many."""
CADENCE = 5
"""Seconds between two looks of the official operators; ours have it from the declaration in ``benchmarks.steady``."""
OURS: dict[str, Any] = {"provider": "benchmarks.steady:STEADY", "conn_id": "steady_bench", "deferrable": True}


def given(number: int | str) -> str:
    """A template of the id of a run that is there already; ``conf`` names the first of a DAG run."""
    return f"{{{{ '%032x' % (dag_run.conf['first'] + {number}) }}}}"
