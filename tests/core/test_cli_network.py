"""Certificates and a proxy of the command line: variables of each provider, which win over those of all programs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from runops.cli import main
from runops.emulator.server import Server
from runops.emulator.store import Emulator
from tests.authorities import Authority, server_context
from tests.tls_services import Proxy, forwarding, serving

pytestmark = pytest.mark.http

LOGIN = "someone:canary-proxy-pw-3e"


@pytest.mark.parametrize("command", ["get", "watch"])
def test_the_variables_of_a_provider_name_certificates_and_proxy(
    served: Server,
    emulator: Emulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    authority = Authority(tmp_path)
    run_id = emulator.create_run("nexio", script="succeeded", seconds=1, age_seconds=10)
    with serving() as servers:
        tls = server_context(authority.sign("good", "127.0.0.1"), authority.path)
        proxy = Proxy(servers.serve(forwarding(served.port), tls), LOGIN)
        for name, value in {
            "NEXIO_API_KEY": "k",
            "NEXIO_BASE_URL": "https://127.0.0.1:44443/nexio",
            "NEXIO_VERIFY": os.fspath(authority.path),
            "NEXIO_CLIENT_CERT": os.fspath(authority.sign("me")),
            "NEXIO_PROXY": f"http://{LOGIN}@127.0.0.1:{servers.serve(proxy)}",
            "HTTPS_PROXY": "http://127.0.0.1:1",
            "SSL_CERT_FILE": "/nowhere/a.pem",
        }.items():
            monkeypatch.setenv(name, value)
        assert main([command, "nexio", run_id, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["outcome"] == "succeeded"
    assert proxy.heads


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"NEXIO_VERIFY": "/nowhere/a.pem"}, "verify='/nowhere/a.pem' of the environment (NEXIO_VERIFY)"),
        ({"NEXIO_CLIENT_KEY": "/k.pem"}, "client_key of the environment (NEXIO_CLIENT_KEY) is set without client_cert"),
        ({"NEXIO_PROXY": "ftp://u:canary-pw@h:1"}, "in proxy of the environment (NEXIO_PROXY) cannot be used"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variables: dict[str, Any], message: str
) -> None:
    for name, value in {"NEXIO_API_KEY": "k", **variables}.items():
        monkeypatch.setenv(name, value)
    assert main(["get", "nexio", "r1"]) != 0
    shown = capsys.readouterr()
    assert message in shown.err
    assert "canary-pw" not in shown.err + shown.out


def test_the_variables_of_a_provider_name_a_limit_and_its_store(
    served: Server, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("redis", reason="needs redis-py: the extra redis")
    run_id = emulator.create_run("nexio", script="succeeded", seconds=1, age_seconds=10)
    for name, value in {
        "NEXIO_API_KEY": "k",
        "NEXIO_BASE_URL": served.base_url("nexio"),
        "NEXIO_REQUESTS_PER_MINUTE": "60000",
        "NEXIO_PROCESSES": "3",
        "NEXIO_RATE_STORE": "redis://u:canary-pw@127.0.0.1:1",
    }.items():
        monkeypatch.setenv(name, value)
    assert main(["watch", "nexio", run_id, "--json"]) == 0
    written = capfd.readouterr()
    assert "the store of its limit at 127.0.0.1:1 cannot be used" in written.err
    monkeypatch.delenv("NEXIO_REQUESTS_PER_MINUTE")
    assert main(["get", "nexio", run_id]) == 2
    assert "of the environment (NEXIO_PROCESSES, NEXIO_RATE_STORE) is set without" in capfd.readouterr().err
    assert "canary" not in "".join(written)
