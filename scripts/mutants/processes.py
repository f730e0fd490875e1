"""The processes that run tests: each in a group of its own, which ends with it; those of a folder fork from one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PYTEST = (
    "-q", "-p", "no:cacheprovider", "-p", "scripts.mutants.plugin", "--tb=no", "--no-header",
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
    process = _started(command, tree, settings, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    try:
        output, _ = process.communicate(timeout=limit)
        return process.returncode, output
    except subprocess.TimeoutExpired:
        return None, ""
    finally:
        _end(process.pid)
        process.wait()
        _running.discard(process.pid)


class Warm:
    """Runs of the tests of one folder in one tree, each in a fork of a process that has imported what they need.

    Args:
        folder: The folder or the file of tests.
        tree: The copy of the tree.
        settings: More environment variables.
    """

    def __init__(self, folder: str, tree: Path, settings: Mapping[str, str]) -> None:
        command = [sys.executable, "-m", "scripts.mutants.warm", folder]
        self._process = _started(command, tree, settings, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.imported: frozenset[str] = frozenset(self._answer())
        """The modules of the project that it has imported: a change to one of them would not be seen."""

    def run(self, arguments: Sequence[str], limit: float) -> tuple[int | None, str]:
        """As :func:`run`, for the arguments of pytest."""
        assert self._process.stdin is not None
        print(json.dumps([list(arguments), limit]), file=self._process.stdin, flush=True)
        code, output = self._answer()
        return code, output

    def end(self) -> None:
        """End the process, and what it has forked."""
        _end(self._process.pid)
        _running.discard(self._process.pid)
        with self._process:
            pass

    def _answer(self) -> list[Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.end()
            raise RuntimeError("A process that runs tests has ended; does their collection work?")
        return json.loads(line)


def _started(
    command: Sequence[str], tree: Path, settings: Mapping[str, str] | None, *, stdin: int, stderr: int
) -> subprocess.Popen[str]:
    environment = {**os.environ, **(settings or {}), "PYTHONPATH": f"{tree / 'src'}{os.pathsep}{tree}"}
    process = subprocess.Popen(
        ["nice", *command], cwd=tree, env=environment, text=True, start_new_session=True,
        stdin=stdin, stdout=subprocess.PIPE, stderr=stderr,
    )  # fmt: skip
    _running.add(process.pid)
    return process


def end_all() -> None:
    """End every process that is under way, with its children."""
    for group in list(_running):
        _end(group)


def _end(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
