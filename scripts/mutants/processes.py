"""The processes that run tests: each in a group of its own, which ends with it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

PYTEST = (
    "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "scripts.mutants.plugin", "--tb=no", "--no-header",
    "--durations=0", "--durations-min=9999", "-m", "not packaging and not slow",
)  # fmt: skip
_running: set[int] = set()
"""The groups under way."""


def run(
    command: Sequence[str], tree: Path, *, limit: float, settings: Mapping[str, str] | None = None
) -> tuple[int | None, str]:
    """Run a command at the lowest cost to what else the machine does.

    Args:
        command: The program and its arguments.
        tree: The copy of the tree to run it in, with its own package and tests.
        limit: For how many seconds at most.
        settings: More environment variables.

    Returns:
        The exit code, None when the time is over, and what was printed.
    """
    environment = {**os.environ, **(settings or {}), "PYTHONPATH": f"{tree / 'src'}{os.pathsep}{tree}"}
    process = subprocess.Popen(
        ["nice", *command], cwd=tree, env=environment, text=True, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    _running.add(process.pid)
    try:
        output, _ = process.communicate(timeout=limit)
        return process.returncode, output
    except subprocess.TimeoutExpired:
        return None, ""
    finally:
        _end(process.pid)
        process.wait()
        _running.discard(process.pid)


def end_all() -> None:
    """End every process that is under way, with its children."""
    for group in list(_running):
        _end(group)


def _end(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
