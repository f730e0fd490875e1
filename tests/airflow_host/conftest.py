"""One real Airflow on PostgreSQL with two triggerers for all tests of this folder, and one on sqlite on request."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.processes import StopSignal, Supervisor
from tests.airflow_host import page_browser, page_world
from tests.airflow_host.host import Host, Outside
from tests.airflow_host.postgres import REQUIRED, NoPostgres, Postgres, programs
from tests.promises import expect_what_is_missing

KEEP = "RUNOPS_KEEP"
"""With this variable set the folder with databases and logs stays, and its name is printed."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.airflow_host)
            expect_what_is_missing(item)


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """For all that the host writes."""
    made = Path(tempfile.mkdtemp(prefix="runops-airflow-host-"))
    yield made
    if os.environ.get(KEEP):
        print(f"kept: {made}")
    else:
        shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="session")
def supervisor(folder: Path) -> Iterator[Supervisor]:
    """Sees to it that no process outlives the tests."""
    logs = folder / "logs"
    logs.mkdir()
    with Supervisor(logs, StopSignal()) as supervisor:
        yield supervisor


@pytest.fixture(scope="session")
def outside(supervisor: Supervisor, folder: Path) -> Iterator[Outside]:
    """The emulator."""
    outside = Outside(supervisor, folder)
    outside.start()
    yield outside
    outside.close()


@pytest.fixture(scope="session")
def postgres(supervisor: Supervisor) -> Iterator[Postgres]:
    """A PostgreSQL of our own. Where there is none, what needs it is skipped, or fails if it is required."""
    try:
        server = Postgres(supervisor, programs())
        server.start()
    except NoPostgres as reason:
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(f"PostgreSQL is required: {reason}")
        pytest.skip(f"needs PostgreSQL: {reason}")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def host(supervisor: Supervisor, folder: Path, outside: Outside, postgres: Postgres) -> Iterator[Host]:
    """Airflow on PostgreSQL with two triggerers."""
    own = folder / "postgres"
    own.mkdir()
    # A held answer must not be given up before something is killed.
    patient = {
        f"{provider}_patient": fields | {"extra": json.dumps({"request_timeout": 300})}
        for provider, fields in ((name.removesuffix("_default"), it) for name, it in outside.connections().items())
    }
    connections = outside.connections() | patient
    yield from running(Host(supervisor, own, connections, database=postgres, triggerers=2))


@pytest.fixture(scope="session")
def sqlite_host(supervisor: Supervisor, folder: Path, outside: Outside) -> Iterator[Host]:
    """Airflow on sqlite with one triggerer."""
    own = folder / "sqlite"
    own.mkdir()
    # sqlite has one writer at a time: who waits for it must be patient, and few.
    settings = {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{own}/airflow/airflow.db?timeout=60",
        "AIRFLOW__CORE__PARALLELISM": "8",
        # Some of its tests kill its triggerer, and the next one must know before they give up.
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "30",
    }
    yield from running(Host(supervisor, own, outside.connections(), settings=settings))


@pytest.fixture(scope="session")
def page(supervisor: Supervisor, folder: Path, outside: Outside) -> Iterator[page_world.World]:
    """Airflow on sqlite with 300 external runs of all kinds, and users of every role; skipped without a browser."""
    page_browser.needed()
    own = folder / "page"
    own.mkdir()
    settings = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{own}/airflow/airflow.db?timeout=60"}
    host = page_world.PageHost(
        supervisor, own, page_world.connections(outside), settings=settings, dags=page_world.DAGS
    )
    outside.tell("reset")
    for each in running(host):
        world = page_world.World(host, outside)
        world.begin()
        yield world
        assert each is host
    outside.tell("reset")


def running(host: Host) -> Iterator[Host]:
    """A host from its database to its end."""
    host.migrate()
    host.start()
    host.wait_until_healthy()
    yield host
    # Two hosts at once are more than a small machine should have.
    host.kill(*[name for name, component in host.components.items() if component.process.poll() is None])
    host.close()
