"""``python -m scripts.mutants.warm FOLDER``: a process that has imported what tests need, and forks for each run.

To import Airflow or Dagster takes longer than most runs against one change. So everything that is not the project's own
is imported once, in the order in which collecting the folder imports it. Each line of the input asks for one run: a
JSON list of pytest's arguments, and the seconds it may take. The answer is a line with its exit code, null where the
time was over, and what it printed. The first line tells which modules of the project were imported on the way, as by
Airflow's search for providers: a change to them needs a process of its own.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import IO

OURS = ("runops", "tests", "scripts", "conftest", "__main__")
AIRFLOW_HOME = "RUNOPS_AIRFLOW_HOME"
"""Where Airflow lives, for this process and those that it forks: its settings are read once, at the import."""
SECONDS_BETWEEN_LOOKS = 0.01


def main(folder: str) -> None:
    """Serve runs until the input ends.

    Args:
        folder: The folder or the file of tests that is collected first.
    """
    answers = os.fdopen(os.dup(1), "w")
    # What a fork prints belongs to its run, and what this process prints to nobody.
    os.dup2(2, 1)
    # In the copy of the tree, with which it ends.
    home = Path("airflow_home").resolve()
    home.mkdir(exist_ok=True)
    os.environ[AIRFLOW_HOME] = str(home)
    _import_all(_imported_by(folder))
    ours = [name for name in sys.modules if name.partition(".")[0] == "runops"]
    print(json.dumps(ours), file=answers, flush=True)
    for name in ours:
        del sys.modules[name]
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        arguments, seconds = json.loads(line)
        # What the run before has left there, such as a database, is not for this one.
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        print(json.dumps(_run(arguments, seconds)), file=answers, flush=True)


def _imported_by(folder: str) -> list[str]:
    """The modules of others that a collection imports, in their order."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        with _ended_here(), os.fdopen(write, "w") as found:
            _pytest(["--collect-only", "-q", "-p", "no:cacheprovider", folder])
            json.dump([name for name in sys.modules if name.partition(".")[0] not in OURS], found)
    os.close(write)
    with os.fdopen(read) as found:
        names = json.load(found)
    os.waitpid(pid, 0)
    return names


def _import_all(names: Sequence[str]) -> None:
    if any(name.partition(".")[0] == "airflow" for name in names):
        importlib.import_module("tests.airflow_home")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            # Some stand in sys.modules under a name that cannot be imported; a fork imports what is missing.
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    # Its settings of the environment must be made anew, after those of the machine are dropped.
    sys.modules.pop("tests.airflow_home", None)


def _run(arguments: list[str], seconds: float) -> tuple[int | None, str]:
    with tempfile.TemporaryFile() as output:
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            with _ended_here():
                os.setsid()
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
                _pytest(arguments)
        code = _ended(pid, time.monotonic() + seconds)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        if code is None:
            os.waitpid(pid, 0)
        return code, _read(output)


def _ended(pid: int, until: float) -> int | None:
    while time.monotonic() < until:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(SECONDS_BETWEEN_LOOKS)
    return None


def _read(output: IO[bytes]) -> str:
    output.seek(0)
    return output.read().decode(errors="replace")


@contextlib.contextmanager
def _ended_here():
    """A fork never returns to what its parent does next."""
    code = 3
    try:
        yield
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    finally:
        sys.stdout.flush()
        os._exit(code)


def _pytest(arguments: list[str]) -> None:
    import pytest

    # Its plugins have been imported already, before they could be rewritten.
    code = pytest.main(["-W", "ignore::pytest.PytestAssertRewriteWarning", *arguments])
    if "--collect-only" not in arguments:
        raise SystemExit(int(code))


if __name__ == "__main__":
    main(sys.argv[1])
