"""The testing kit with a service that does not come with runops."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from runops.core import RunClient
from runops.emulator.api import Api
from runops.emulator.server import Server, running
from runops.testing import Runs


@pytest.fixture(scope="module")
def acme() -> Iterator[dict[str, Any]]:
    """The sixth service of the core's tests: its declaration and its emulated half."""
    folder = Path(__file__).parents[1] / "core" / "acme"
    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        for part in ("core", "emulator"):
            module = ModuleType(f"acme_of_the_kit_{part}")
            patch.setitem(sys.modules, module.__name__, module)
            exec(compile((folder / f"{part}.txt").read_text(), part, "exec"), vars(module))
            names |= vars(module)
        yield names


@pytest.fixture(scope="module")
def runops_apis(acme: dict[str, Any]) -> list[type[Api]]:
    """As a user's conftest has it, there for the session."""
    return [acme["AcmeApi"]]


@pytest.fixture(scope="module")
def _runops_server(runops_apis: list[type[Api]]) -> Iterator[Server]:
    with running(apis=runops_apis) as server:
        yield server


def test_it_is_scripted_as_the_five_are(runops_runs: Runs, acme: dict[str, Any]) -> None:
    runops_runs.acme("J-1", "QUEUED", 3600, "ACTIVE", "DONE", parent="north")
    services = runops_runs.services
    with RunClient(acme["ACME"], token="acme_1", base_url=services.base_url("acme")) as client:
        assert client.wait(client.ref("J-1"), poll_interval=300).outcome == "succeeded"
    connection = json.loads(os.environ["AIRFLOW_CONN_ACME_DEFAULT"])
    assert (connection["conn_type"], connection["extra"]) == ("runops", {"provider": "acme"})
