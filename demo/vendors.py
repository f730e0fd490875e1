"""The five services, emulated in a process of their own. What is asked here goes through its control API only."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx

from demo.processes import Component, DemoError, Supervisor, clean_environment
from demo.story import Host, Promise

START_SECONDS = 300.0

KEYS: Mapping[str, str] = {
    "nexio": "nx_test_NOT-A-REAL-KEY-one",
    "nyx": "nyx_NOT-A-REAL-KEY-two",
    "onepin": "op_test_NOT-A-REAL-KEY-three",
    "b3os": "b3sk_NOT-A-REAL-KEY-four",
    "nekt": "NOT-A-REAL-KEY-five",
}
"""The emulator takes any key; these look like what they are, and are looked for where no key belongs."""

AGENT_TOKEN = "agent_NOT-A-REAL-KEY-six"
"""What Nyx is given to get into the agent that it attacks."""

KEY_VARIABLES: Mapping[str, str] = {
    "nexio": "NEXIO_API_KEY",
    "nyx": "NYX_TOKEN",
    "onepin": "ONEPIN_API_KEY",
    "b3os": "B3OS_API_KEY",
    "nekt": "NEKT_API_KEY",
}


class Vendors:
    """The emulator.

    Args:
        supervisor: Where its process is started.
        folder: Its working directory.
    """

    environment: Mapping[str, str] = MappingProxyType({})
    """Further variables of its process."""

    def __init__(self, supervisor: Supervisor, folder: Path) -> None:
        self.url = ""
        self._supervisor = supervisor
        self._folder = folder
        self._client = httpx.Client(timeout=120.0, trust_env=False)

    def close(self) -> None:
        """Close the connections to it."""
        self._client.close()

    def start(self) -> None:
        """Start it and wait until it listens.

        Raises:
            DemoError: It does not.
        """
        command = [sys.executable, "-m", "runops.emulator", "--port", "0", "--seed", "1"]
        environment = clean_environment(**self.environment)
        component = self._supervisor.start("emulator", command, environment=environment, folder=self._folder)
        limit = time.monotonic() + START_SECONDS
        while time.monotonic() < limit:
            self._supervisor.sleep(0.1)
            self.url = _address(component)
            if self.url:
                return
        raise DemoError(f"The emulator did not come up within {START_SECONDS:.0f} s:\n{component.last_lines()}")

    def base_url(self, provider: str) -> str:
        """What stands for the provider's host."""
        return f"{self.url}/{provider}"

    def connections(self) -> dict[str, dict[str, str]]:
        """Airflow's connections to the five services, by connection id."""
        return {
            f"{name}_default": {"conn_type": name, "host": self.base_url(name), "password": key}
            for name, key in KEYS.items()
        }

    def variables(self) -> dict[str, str]:
        """Keys and addresses as environment variables, as the Dagster example reads them."""
        keys = {KEY_VARIABLES[name]: key for name, key in KEYS.items()}
        return keys | {f"{name.upper()}_BASE_URL": self.base_url(name) for name in KEYS}

    def give_run(self, promise: Promise, host: Host) -> str:
        """Make the run that a host is to find; its id."""
        parent = (promise.parent_kind, promise.parent(host))
        return self.make_run(promise.provider, promise.script, parent, seconds=promise.seconds)

    def make_run(self, provider: str, script: str | None, parent: tuple[str, str], *, seconds: float = 1.5) -> str:
        """Make a run that no host starts; its id.

        Args:
            provider: The provider's name.
            script: How it goes, in the emulator's words.
            parent: What the emulator calls its parent, and that one's id.
            seconds: How long it takes.
        """
        body = {"provider": provider, "script": script, "seconds": seconds, "parents": dict([parent])}
        answer = self._client.post(f"{self.url}/_control/runs", json=body)
        return str(answer.raise_for_status().json()["run_id"])

    def runs(self) -> list[dict[str, Any]]:
        """All runs that there are, oldest first, as the control API describes them."""
        return list(self._client.get(f"{self.url}/_control/runs").raise_for_status().json()["runs"])


def word(run: Mapping[str, Any]) -> str:
    """The provider's own word for a run: its status, and for Nyx its result."""
    fields = run["fields"]
    result = fields.get("result") if run["provider"] == "nyx" else None
    return fields["status"] if result is None else f"{fields['status']}, {result}"


def _address(component: Component) -> str:
    for line in component.last_lines().splitlines():
        if line.startswith("{"):
            return str(json.loads(line)["url"])
    return ""
