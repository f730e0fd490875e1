"""A pytest plugin with two uses: to tell which test runs which line, and to run chosen tests in a given order."""

from __future__ import annotations

import base64
import faulthandler
import json
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

TIMES = "RUNOPS_MUTANTS_TIMES"
"""A file for how long each test took; where it is set, coverage.py is told which test is under way."""
CHOSEN = "RUNOPS_MUTANTS_CHOSEN"
"""A file with the ids of the tests to run, one in a line, the first to run first."""
HANGS_AFTER = 60.0
"""For how many seconds a chosen test may run before it counts as one that hangs."""
CONFIG = "COVERAGE_PROCESS_CONFIG"
"""What coverage.py tells the processes that are started: JSON in base64."""


def pytest_configure(config: pytest.Config) -> None:
    if TIMES in os.environ:
        config.pluginmanager.register(_Measuring(Path(os.environ[TIMES])))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave what was chosen, in its order."""
    if CHOSEN not in os.environ:
        return
    order = {name: number for number, name in enumerate(Path(os.environ[CHOSEN]).read_text().splitlines())}
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in order])
    items[:] = sorted((item for item in items if item.nodeid in order), key=lambda item: order[item.nodeid])


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """End the process where a chosen test hangs: also where nothing but C code runs, or all threads wait."""
    if CHOSEN in os.environ:
        faulthandler.dump_traceback_later(HANGS_AFTER, exit=True)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


class _Measuring:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._seconds: dict[str, float] = {}
        self._failed: set[str] = set()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        before = _cpu_seconds()
        _called(item.nodeid)
        try:
            return (yield)
        finally:
            _called("")
            self._seconds[item.nodeid] = round(_cpu_seconds() - before, 3)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        self._path.write_text(json.dumps({"seconds": self._seconds, "failed": sorted(self._failed)}))


def _cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _called(test: str) -> None:
    """Give what runs from now on the name of a test, here and in processes that are started."""
    from coverage import Coverage

    measuring = Coverage.current()
    assert measuring is not None, "run pytest under coverage.py"
    measuring.switch_context(test)
    if CONFIG in os.environ:
        settings = {**json.loads(base64.b64decode(os.environ[CONFIG])), "context": test or None}
        os.environ[CONFIG] = base64.b64encode(json.dumps(settings).encode()).decode()
