"""A served emulator for the tests of this directory, and the requests they share."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from runops.emulator.server import Server, running
from runops.emulator.store import Emulator
from tests.services import CALLS

KEY_HEADERS: dict[str, Callable[[str], dict[str, str]]] = {
    "nexio": lambda key: {"authorization": f"Bearer {key}"},
    "nyx": lambda key: {"x-verification-token": key},
    "onepin": lambda key: {"authorization": f"Bearer {key}"},
    "b3os": lambda key: {"authorization": f"Bearer {key}"},
    "nekt": lambda key: {"x-api-key": key},
}


NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Nothing here speaks TLS, and to read all trusted authorities takes longer than most of these tests."""


class Caller:
    """Calls the emulated APIs with the right header for each."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.http = httpx.Client(timeout=10, verify=NO_TLS)

    def __call__(
        self, provider: str, method: str, path: str, *, key: str | None = "any-key", **options: Any
    ) -> httpx.Response:
        headers = {**(KEY_HEADERS[provider](key) if key is not None else {}), **options.pop("headers", {})}
        return self.http.request(method, self.server.base_url(provider) + path, headers=headers, **options)

    def control(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self.http.request(method, f"{self.server.url}/_control{path}", **options)

    def read(self, provider: str, run_id: str, **options: Any) -> httpx.Response:
        workflow_id = self.server.emulator.apis["onepin"].default_parent
        paths = {
            "nexio": f"/api/v1/runs/{run_id}",
            "nyx": f"/v1/nyx/runs/{run_id}",
            "onepin": f"/api/v1/workflows/{workflow_id}/runs/{run_id}/status",
            "b3os": f"/v1/runs/{run_id}",
            "nekt": f"/api/v1/runs/{run_id}/",
        }
        return self(provider, "GET", paths[provider], **options)

    def submit(self, provider: str, **emulator: Any) -> httpx.Response:
        """Submit a run with the provider's own way to choose a script."""
        words = [f"{name}={value}" for name, value in emulator.items()]
        requests: dict[str, tuple[str, dict[str, Any]]] = {
            "nexio": ("/api/v1/engines/placement/runs", {"input": {"emulator": emulator}}),
            "nyx": ("/v1/nyx/runs", {**CALLS["nyx"], "hints": [f"emulator:{word}" for word in words]}),
            "onepin": (
                f"/api/v1/workflows/{self.server.emulator.apis['onepin'].default_parent}/runs",
                {"script_text": "emulator:" + " ".join(words)},
            ),
            "b3os": ("/v1/workflows/wf_emulated/run", {"payload": {"emulator": emulator}}),
        }
        path, body = requests[provider]
        return self(provider, "POST", path, json=body)


@pytest.fixture(scope="session")
def served() -> Iterator[Server]:
    with running(seed=7, seconds=0.4) as server:
        yield server


@pytest.fixture
def emulator(served: Server) -> Emulator:
    served.emulator.reset()
    return served.emulator


@pytest.fixture
def call(served: Server, emulator: Emulator) -> Iterator[Caller]:
    caller = Caller(served)
    with caller.http:
        yield caller
