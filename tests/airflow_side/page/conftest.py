"""Airflow's own API server application with the plugin in it, its database on sqlite, and people of all four roles."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from tests.airflow_side.conftest import HOME
from tests.airflow_side.page.database import Database
from tests.airflow_side.page.people import ROLES, Person

SETTINGS = {
    "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{name}:{role}" for name, role in ROLES.items()),
    "AIRFLOW__CORE__PLUGINS_FOLDER": str(HOME / "plugins"),
    "AIRFLOW__API_AUTH__JWT_SECRET": "a-secret-of-these-tests-only-" + "0123456789" * 5,
    "AIRFLOW__API__SECRET_KEY": "another-secret-of-these-tests-only",
    "AIRFLOW__CORE__FERNET_KEY": "",
}


@pytest.fixture(scope="session")
def settings() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        for name, value in SETTINGS.items():
            patched.setenv(name, value)
        yield


@pytest.fixture(scope="session")
def airflow_database(settings: None) -> Database:
    """Airflow's tables, and the DAGs of the tests in them."""
    os.environ.setdefault("AIRFLOW_HOME", str(HOME))
    from airflow import settings as airflow_settings

    airflow_settings.PLUGINS_FOLDER = SETTINGS["AIRFLOW__CORE__PLUGINS_FOLDER"]
    if not entry_points(group="airflow.plugins", name="runops"):
        # In an environment into which the project is not installed Airflow finds the plugin in its folder.
        folder = Path(airflow_settings.PLUGINS_FOLDER)
        folder.mkdir(exist_ok=True)
        (folder / "page.py").write_text("from runops.airflow.plugin import RunopsPlugin\n")
    database = Database()
    database.create()
    return database


@pytest.fixture
def database(airflow_database: Database) -> Iterator[Database]:
    """The same, and no run in it; and nothing is kept of those that were."""
    from runops.airflow.plugin import rows

    rows._USUAL.clear()
    airflow_database.clear()
    yield airflow_database
    airflow_database.clear()


@pytest.fixture(scope="session")
def server(airflow_database: Database) -> Any:
    """The application of the API server, as ``airflow api-server`` makes it."""
    from airflow.api_fastapi.app import create_app

    return create_app(apps="core")


@pytest.fixture
def person(server: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Person]]:
    """Somebody's browser, by their name; nobody's without one. Each test begins with all requests still allowed."""
    from runops.airflow.plugin import guard

    guard._limiter.cache_clear()
    opened: list[Person] = []

    def opens(name: str | None) -> Person:
        opened.append(Person(server, name))
        return opened[-1]

    yield opens
    for each in opened:
        each.close()
