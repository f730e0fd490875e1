"""The served emulator as a test sees it: its addresses and keys, and the environment that leads both hosts to it."""

from __future__ import annotations

import ipaddress
import json
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from runops.core import ConfigurationError, Provider, find
from runops.core.client.base import Client
from runops.core.declaration.address import address_variable
from runops.testing.errors import TestingError

if TYPE_CHECKING:
    import pytest

    from runops.emulator.server import Server
    from runops.emulator.store import Emulator

GENERIC = "runops"
"""The type of an Airflow connection to a service that has no type of its own."""


class EmulatedServices:
    """What the fixture ``runops_emulator`` gives.

    ``url`` is where the emulator is served, without a slash at its end; ``emulator`` is what the control API talks to,
    for all that :class:`runops.testing.Runs` does not say in a line.

    Args:
        server: The emulator, served.
        monkeypatch: Sets the addresses, keys and connections for one test.
    """

    def __init__(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        self._server = server
        self._monkeypatch = monkeypatch
        self.url: str = server.url
        self.port: int = server.port
        self.emulator: Emulator = server.emulator

    @property
    def providers(self) -> list[str]:
        """The names of the services."""
        return list(self.emulator.apis)

    def base_url(self, provider: str) -> str:
        """What stands for the host of a service, such as ``http://127.0.0.1:40123/nyx``.

        Raises:
            TestingError: It is not served.
        """
        self._check(provider)
        return self._server.base_url(provider)

    def key(self, provider: str) -> str:
        """The key that the environment of the test holds; the emulator takes any other one too.

        Raises:
            TestingError: It is not served.
        """
        self._check(provider)
        return f"test-key-of-{provider}"

    def connection(self, conn_id: str, provider: str, *, key: str | None = None, **extra: Any) -> None:
        """Have an Airflow connection lead here, for DAGs that do not use ``<provider>_default``.

        Args:
            conn_id: As the DAG calls it.
            provider: The service.
            key: Its password; ``invalid-...`` is refused with 401, ``forbidden-...`` with 403.
            extra: Fields of its extra, such as ``workspace_id``.

        Raises:
            TestingError: The service is not served.
        """
        declared = _declaration(provider)
        own_type = declared is not None and _has_own_type(declared)
        if declared is not None and not own_type:
            extra = {"provider": provider, **extra}
        fields = {
            "conn_type": provider if own_type else GENERIC,
            "host": self.base_url(provider),
            "password": self.key(provider) if key is None else key,
            "extra": extra,
        }
        self._monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))

    def _check(self, provider: str) -> None:
        if provider not in self.emulator.apis:
            raise TestingError(
                f"No service {provider!r} is emulated; there is {', '.join(self.providers)}. "
                "Override the fixture runops_apis to serve one of your own."
            )

    def set_environment(self) -> None:
        """Lead both hosts and the command line here, by every way in which they look for a key and an address."""
        for provider in self.providers:
            prefix = f"{provider.upper()}_"
            for name in [name for name in os.environ if name.startswith(prefix)]:
                self._monkeypatch.delenv(name)
            declared = _declaration(provider)
            variables = {f"{prefix}API_KEY", *((declared.key_variable,) if declared else ())}
            for name in variables:
                self._monkeypatch.setenv(name, self.key(provider))
            self._monkeypatch.setenv(address_variable(provider), self.base_url(provider))
            self.connection(f"{provider}_default", provider)
        # A proxy of the machine would be asked for 127.0.0.1 too.
        for name in ("NO_PROXY", "no_proxy"):
            self._monkeypatch.setenv(name, ",".join(filter(None, [os.environ.get(name), "127.0.0.1,localhost"])))


@contextmanager
def served(server: Server, monkeypatch: pytest.MonkeyPatch, *, seed: str) -> Iterator[EmulatedServices]:
    """The emulator, empty, for one test.

    Args:
        server: It serves the whole session.
        monkeypatch: Of the test.
        seed: A text that ids start from, so that no request of the test before meets a run of this one.
    """
    server.emulator.reset(seed=zlib.crc32(seed.encode()))
    services = EmulatedServices(server, monkeypatch)
    services.set_environment()
    monkeypatch.setattr(Client, "__init__", _only_this_machine(Client.__init__))
    yield services
    server.emulator.reset()


def _only_this_machine(make: Any) -> Any:
    def checked(self: Client, provider: Provider, token: Any, settings: Any, *, others: Any, real: bool) -> None:
        make(self, provider, token, settings, others=others, real=real)
        host = urlsplit(self.root).hostname or ""
        if real and not _is_here(host):
            raise TestingError(
                f"This test would have sent a request to {provider.title} at {host}. With the fixtures of runops only "
                "services on this machine are asked: lead the connection or the resource to the emulator, by "
                f"runops_emulator.connection('<conn_id>', {provider.name!r}) or by leaving base_url out."
            )

    return checked


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _declaration(provider: str) -> Provider | None:
    """What a service declares; None where nothing does by that name, as where only its emulated half is imported."""
    try:
        return find(provider)
    except ConfigurationError:
        return None


def _has_own_type(declared: Provider) -> bool:
    from runops.core import PROVIDERS

    return declared.name in PROVIDERS
