"""What holds for every test: no setting of the machine leaks in, and no connection leaves the machine."""

from __future__ import annotations

import gc
import ipaddress
import os
import re
import signal
import socket
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pytest_mock import MockerFixture

from tests.canaries import troubled_service

if TYPE_CHECKING:
    from runops.emulator.server import Server
    from runops.emulator.store import Emulator
    from tests.services import Clock

FOREIGN_PREFIXES = ("AIRFLOW_", "DAGSTER_", "NEXIO_", "NYX_", "ONEPIN_", "B3OS_", "NEKT_")
FOREIGN_NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "NETRC", "FORCE_COLOR", "NO_COLOR")
ROOT = f"{Path(__file__).resolve().parents[1]}{os.sep}"
MANY_MODULES = 50
"""So many are imported by a host, and by nothing else."""


def _forget_the_machine() -> None:
    """Runs at import: before a host is imported and reads its settings."""
    for name in list(os.environ):
        if name.upper().startswith(FOREIGN_PREFIXES) or name.upper() in FOREIGN_NAMES:
            del os.environ[name]


_forget_the_machine()

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what runs in its background so, and our children would inherit it: then none can be interrupted.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _is_here(address: Any) -> bool:
    if not isinstance(address, tuple):
        return True
    host = str(address[0])
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


SHARED_WORK = tuple(
    re.compile(pattern)
    for pattern in (
        # The package is built once, and installed once with each extra.
        r"tests/core/test_packaging\.py::Test(?:TheWheel|TheSdist|InstalledAlone)",
        # The package is copied and compiled once.
        r"tests/core/test_a_sixth_provider\.py::",
        # Airflow's API server application is made once.
        r"tests/airflow_side/page/",
        # Each folder of examples is loaded once.
        r"tests/demo/test_demo_examples\.py::test_(?:dags_load|every_example|the_story)",
        # Each host runs once.
        r"tests/leaks/test_full_run_leaks\.py::.*(?P<which>airflow|dagster|plain)\]",
    )
)
"""Tests that go to one process, because they share something that takes long to make: those of a pattern, and of the
words in it. The mark that pytest-xdist 3.8 has for this, ``xdist_group``, has no effect under pytest 9.2."""


def together(nodeid: str) -> str | None:
    """What stands for all tests that run in the same process as this one, if there are such."""
    for number, pattern in enumerate(SHARED_WORK):
        found = pattern.search(nodeid)
        if found:
            return f"shared work {number} {found.groupdict()}"
    return None


MOST_AT_ONCE = 16
"""Tests that a process gets at once: each message of them costs as much as a small test."""


def units(nodeids: Sequence[str], workers: int) -> dict[str, str]:
    """In which unit each test is handed out: neighbours together, but one by one at the beginning and at the end.

    What takes long begins, and at the end no process is to have many left while another has none.
    """
    unit_of: dict[str, str] = {}
    name, room = "", 0
    for position, nodeid in enumerate(nodeids):
        shared = together(nodeid)
        if shared is None and room == 0:
            left = len(nodeids) - position
            name, room = nodeid, max(min(MOST_AT_ONCE, position // 64, left // (workers * 16)), 1)
        if shared is None:
            room -= 1
        unit_of[nodeid] = shared or name
    return unit_of


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hand out tests a few at a time in their order, but for those that belong together."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def schedule(self) -> None:
            if self.collection is None:
                self._units = units(next(iter(self.registered_collections.values())), len(self.nodes))
            super().schedule()

        def _split_scope(self, nodeid: str) -> str:
            return self._units[nodeid]

        def _pending_of(self, workload: dict[str, dict[str, bool]]) -> int:
            # Asked after each test: with what is over still in it, thousands of tests would take seconds of this.
            for unit in [unit for unit, tests in workload.items() if all(tests.values())]:
                del workload[unit]
            return super()._pending_of(workload)

    return Scheduling(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let what takes long begin first where several processes share the tests, so that none of them ends alone."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: not any(item.get_closest_marker(name) for name in ("slow", "packaging")))


def pytest_configure(config: pytest.Config) -> None:
    """Load the testing kit where the environment runs the sources and has no runops installed, which would bring it."""
    if not config.pluginmanager.has_plugin("runops"):
        from runops.testing import plugin

        config.pluginmanager.register(plugin, "runops of the sources")


def pytest_collection_finish() -> None:
    """Let the collector of garbage pass over what stays to the end: thousands of tests, and what they have imported."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def pass_over_what_was_imported() -> Iterator[None]:
    """Let the collector of garbage pass over a host that the test has imported: it takes 1.5 s to go through both."""
    before = len(sys.modules)
    yield
    if len(sys.modules) > before + MANY_MODULES:
        gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def only_this_machine() -> Iterator[None]:
    """A test that would reach a real service fails at once, naming the address."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, _guarded(getattr(socket.socket, name)))
        yield


def _guarded(connect: Any) -> Any:
    def guarded(self: socket.socket, address: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_here(address):
            raise AssertionError(f"a test tried to reach {address!r}: tests stay on this machine")
        return connect(self, address)

    return guarded


# What is of the project is imported inside: a host that it brings along reads its settings when it is imported.


@pytest.fixture(scope="session")
def served() -> Iterator[Server]:
    """The emulator, for all tests that no folder serves one of its own."""
    from runops.emulator.server import running

    with running(seed=7) as server:
        yield server


@pytest.fixture
def clock() -> Clock:
    from tests.services import Clock

    return Clock()


@pytest.fixture
def emulator(request: pytest.FixtureRequest, served: Server, clock: Clock) -> Iterator[Emulator]:
    """The emulator, empty, on the test's clock, and with ids of the test's own.

    A task that was killed in the test before may still send its cancel, which must not meet a run of this one.
    """
    from tests.services import on_clock

    with on_clock(served, clock, zlib.crc32(request.node.nodeid.encode())) as emulator:
        yield emulator


@pytest.fixture(scope="session")
def troubled() -> Iterator[str]:
    """The address of a service that fails in every way."""
    with troubled_service.serving() as address:
        yield address


@pytest.fixture
def without_pauses(mocker: MockerFixture) -> None:
    """No pause between two tries takes long, and no look for a lost submit."""
    for place in ("flows", "submission"):
        mocker.patch(f"runops.core.waiting.{place}.pause_after", return_value=0.02)
    mocker.patch("runops.core.waiting.submission.SUBMIT_SECONDS", 0.1)
    mocker.patch("runops.core.client.base.SUBMIT_GRACE", 0.05)


@pytest.fixture(autouse=True)
def forget_written_modules() -> Iterator[None]:
    """Modules that a test has written and imported are gone after it, with what they declare and where they were found.

    Another test may write one of the same name, or none.
    """
    before, path = set(sys.modules), list(sys.path)
    yield
    sys.path[:] = path
    written = {name for name in sys.modules.keys() - before if _is_temporary(sys.modules[name])}
    for name in written:
        del sys.modules[name]
    registry = sys.modules.get("runops.core.declaration.registry")
    if written and registry is not None:
        for name, made in list(registry._made.items()):
            registry._made[name] = [entry for entry in made if entry[1] not in written]
            if not registry._made[name]:
                del registry._made[name]


def _is_temporary(module: Any) -> bool:
    file = getattr(module, "__file__", None)
    # The whole tree may stand in a temporary folder, as for `make mutants`.
    return isinstance(file, str) and Path(file).is_relative_to(tempfile.gettempdir()) and not file.startswith(ROOT)


@pytest.fixture
def shipped_alone(mocker: MockerFixture) -> None:
    """Only the providers that runops ships are known, whatever the modules of other tests have declared."""
    from runops.core.declaration import registry
    from runops.core.providers import PROVIDERS

    mocker.patch.dict(registry._made, {name: registry._made[name] for name in PROVIDERS}, clear=True)
