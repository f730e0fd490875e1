"""A script in a process of its own that starts at once: forked from one that has imported Dagster and does no more."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
from collections.abc import Mapping
from pathlib import Path

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["alembic", "dagster", "runops.dagster", "sqlalchemy"])


class JobProcess:
    """What runs a script as ``python SCRIPT ARGUMENTS`` does, in a session of its own, with its output thrown away.

    Args:
        script: The path of the script.
        arguments: What it is given.
        environment: All its environment variables.
    """

    def __init__(self, script: Path, *arguments: str, environment: Mapping[str, str]) -> None:
        self._process = _FORKS.Process(target=_run, args=(str(script), arguments, dict(environment)))
        self._process.start()

    @property
    def pid(self) -> int:
        """The process, and the session that it leads."""
        assert self._process.pid is not None
        return self._process.pid

    def kill(self) -> None:
        """End it as a machine that dies does: with nothing after it."""
        self._process.kill()

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def wait(self, timeout: float) -> int:
        """Its exit code, which is negative for the signal that has ended it.

        Raises:
            TimeoutError: It has not ended within so many seconds.
        """
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise TimeoutError(f"process {self.pid} goes on after {timeout} s")
        return self._process.exitcode


def _run(script: str, arguments: tuple[str, ...], environment: dict[str, str]) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")
