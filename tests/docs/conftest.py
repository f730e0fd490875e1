"""An Airflow home of its own, and the world in which the blocks of a page run."""

from __future__ import annotations

from tests.airflow_home import HOME  # isort: skip - before Airflow is imported

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from runops.emulator.server import Server
from tests.docs import world as worlds


def pytest_sessionfinish() -> None:
    shutil.rmtree(HOME, ignore_errors=True)


@pytest.fixture
def world(served: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[worlds.World]:
    """What the blocks of one page share."""
    worlds.point_at(served, monkeypatch)
    worlds.hurry(monkeypatch)
    monkeypatch.chdir(tmp_path)
    served.emulator.reset()
    with worlds.public_addresses(served):
        yield worlds.World(served, tmp_path, monkeypatch)
    served.emulator.reset()
