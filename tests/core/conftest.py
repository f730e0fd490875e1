"""An emulator and clients that share one clock: waits of hours take no time, over real connections."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import settings
from pytest_mock import MockerFixture

from runops.core import Provider, RunClient, RunRef, find
from runops.core.declaration import registry
from runops.emulator.server import Server
from runops.emulator.store import Emulator
from tests.canaries.search import find_leaks
from tests.clocked_client import ClockedClient
from tests.services import CALLS, PARENTS, Clock

settings.register_profile("core", deadline=None, derandomize=True, database=None, max_examples=60)
settings.load_profile("core")

TESTS = Path(__file__).resolve().parents[1]
KEY = "canary-key-5f2b9c7e1d"


ALL_HTTP = re.compile(r"^pytestmark = \[?pytest\.mark\.http\b", re.MULTILINE)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """What talks to a server in each of its tests is not even imported where none of those is to run."""
    wanted = str(config.option.markexpr).split(" and ")
    if "not http" not in wanted or not collection_path.name.startswith("test_"):
        return None
    return bool(ALL_HTTP.search(collection_path.read_text(encoding="utf-8"))) or None


class Runs:
    """A provider's runs through one of the two clients; a new client for each call unless in one ``session``."""

    def __init__(self, kind: str, provider: Provider, server: Server, clock: Clock, settings: dict[str, Any]) -> None:
        self.kind = kind
        self.provider = provider
        self.emulator = server.emulator
        self.clock = clock
        self._settings: dict[str, Any] = {
            "token": KEY,
            "base_url": server.base_url(provider.name),
            "origin": "connection 'test'",
            "clock": clock,
            "request_timeout": 5,
            **settings,
        }

    def new(self) -> RunClient:
        return RunClient(self.provider, sleep=self.clock.sleep, **self._settings)

    def new_async(self) -> ClockedClient:
        return ClockedClient(self.provider, sleep=self.clock.sleep_async, **self._settings)

    def ref(self, run_id: str) -> RunRef:
        return self.provider.ref(run_id, PARENTS.get(self.provider.name))

    def ref_of(self, body: Mapping[str, Any]) -> RunRef:
        """The run that an answer is about."""
        run = body.get("data") or body
        return self.ref(str(run.get("run_id", run.get("id"))))

    def made(self, **options: Any) -> RunRef:
        """A run that the emulator was told to have."""
        options.setdefault("seconds", 20)
        parents = options.pop("parents", PARENTS.get(self.provider.name))
        return self.ref(self.emulator.create_run(self.provider.name, parents=parents, **options))

    def requests(self, **filters: Any) -> list[dict[str, Any]]:
        return self.emulator.requests(provider=self.provider.name, **filters)

    def __call__(self, action: str, *args: Any, **options: Any) -> Any:
        """Call a method of the client; what it yields comes as a list."""
        if self.kind == "sync":
            with self.new() as client:
                answer = getattr(client, action)(*args, **options)
                return list(answer) if action == "watch" else answer
        return asyncio.run(self._async(action, *args, **options))

    async def _async(self, action: str, *args: Any, **options: Any) -> Any:
        async with self.new_async() as client:
            if action == "watch":
                return [snapshot async for snapshot in client.watch(*args, **options)]
            return await getattr(client, action)(*args, **options)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what talks to the emulator, so that the pure tests can be run alone."""
    for item in items:
        if isinstance(item, pytest.Function) and "served" in item.fixturenames:
            item.add_marker(pytest.mark.http)


@pytest.fixture(autouse=True)
def declarations_of_one_test(mocker: MockerFixture) -> None:
    """What a test declares is found by its name in that test only."""
    mocker.patch.dict(registry._made)


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def runs_of(kind: str, served: Server, emulator: Emulator, clock: Clock) -> Callable[..., Runs]:
    """``runs_of("nyx")``: the runs of a provider, once through each client."""

    def make(provider: str, **settings: Any) -> Runs:
        return Runs(kind, find(provider), served, clock, settings)

    return make


@pytest.fixture(scope="session")
def calls() -> Mapping[str, dict[str, Any]]:
    """Good submit arguments of each provider."""
    return CALLS


@pytest.fixture(scope="session")
def payload() -> Callable[[str, str], Any]:
    """``payload("nexio", "queued")``: a documented answer, or a variant of one."""

    def read(provider: str, name: str) -> Any:
        return json.loads((TESTS / "payloads" / provider / f"{name}.json").read_text())

    return read


@pytest.fixture(scope="session")
def leaks() -> Callable[[Mapping[str, str], Any], list[str]]:
    """``leaks(canaries, texts)``: which canaries stand in which text, in any spelling."""
    return find_leaks


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate and its key, for 127.0.0.1 and service.example.com."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("service.example.com")]
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(key.private_bytes(*plain) + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def trusting(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process trusts the test's certificate."""
    monkeypatch.setenv("SSL_CERT_FILE", os.fspath(certificate))
