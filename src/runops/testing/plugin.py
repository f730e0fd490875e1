"""The fixtures, as pytest loads them. It imports nothing but pytest: whoever uses no fixture pays for none.

Switch it off with ``pytest -p no:runops``. With pytest-xdist each process serves an emulator of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from runops.emulator.api import Api
    from runops.emulator.server import Server
    from runops.testing.clock import FakeTime
    from runops.testing.emulated import EmulatedServices
    from runops.testing.runs import Runs

REAL_TIME = "runops_real_time"
"""The mark of a test that waits for real."""
DAGS = "runops_airflow_dags"
"""The setting of pytest that names the folder of the DAGs."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Make the setting known."""
    text = "folder of DAGs, for which runops makes an Airflow home and database of the session's own"
    parser.addini(DAGS, text, default="")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Give Airflow a home before anything imports it, where the project asks for that."""
    folder = early_config.getini(DAGS)
    if folder:
        from runops.testing.airflow_home import make_home

        make_home(early_config, str(folder))


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line("markers", f"{REAL_TIME}: runops_runs leaves the time alone, and waits take their time")


@pytest.fixture(scope="session")
def runops_apis() -> Sequence[type[Api]]:
    """The emulated services: the five that come with runops. Override it to serve one of your own.

    ::

        @pytest.fixture(scope="session")
        def runops_apis():
            return [AcmeApi]
    """
    from runops.testing.errors import require_extra

    require_extra()
    from runops.emulator.services import default_apis

    return list(default_apis())


@pytest.fixture(scope="session")
def _runops_server(runops_apis: Sequence[type[Api]]) -> Iterator[Server]:
    from runops.testing.errors import require_extra

    require_extra()
    from runops.emulator.server import running

    with running(apis=runops_apis) as server:
        yield server


@pytest.fixture(scope="session")
def _runops_airflow(pytestconfig: pytest.Config) -> None:
    """Airflow's database, where the project asks for one."""
    if pytestconfig.getini(DAGS):
        from runops.testing.airflow_home import make_database

        make_database(pytestconfig)


@pytest.fixture
def runops_emulator(
    request: pytest.FixtureRequest,
    _runops_server: Server,
    _runops_airflow: None,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[EmulatedServices]:
    """The emulated services on 127.0.0.1, empty: every test begins without runs, requests and faults.

    For each service the Airflow connection ``<provider>_default`` and the variables that Dagster's resources and the
    command line read (such as ``NYX_TOKEN`` and ``NYX_BASE_URL``) lead here; other settings of a service in the
    environment are taken away. A client that would talk to any other machine is refused, so that no real key is used.
    Time passes as ever; ``runops_runs`` moves it.
    """
    from runops.testing.emulated import served

    with served(_runops_server, monkeypatch, seed=request.node.nodeid) as services:
        yield services


@pytest.fixture
def runops_time(request: pytest.FixtureRequest, runops_emulator: EmulatedServices) -> Iterator[FakeTime]:
    """A clock that does not make anybody wait: what runops and the hosts sleep for has passed at once.

    In this process only. A test that is marked ``runops_real_time`` waits for real.
    """
    from runops.testing.fake_time import fake_time, real_time

    real = request.node.get_closest_marker(REAL_TIME) is not None
    with real_time() if real else fake_time({runops_emulator.port}) as clock:
        yield clock


@pytest.fixture
def runops_runs(runops_emulator: EmulatedServices, runops_time: FakeTime) -> Runs:
    """Scripts runs in a line and reads what was submitted, cancelled and asked; see :class:`runops.testing.Runs`.

    It comes with fake time: a wait of hours ends in milliseconds.
    """
    from runops.testing.runs import Runs

    return Runs(runops_emulator, runops_time)
