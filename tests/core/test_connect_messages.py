"""No connection: every client and pool says to whom, where that was set, why, and what to check."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from runops.core import AsyncRunClient, ConfigurationError, PollingError, RunClient, find
from runops.core.model.errors import AnswerError, ConnectionFailed
from runops.core.transport import connections
from runops.core.transport.failures import Peer, connection_failed

pytestmark = pytest.mark.http

NEXIO = find("nexio")
REF = NEXIO.ref("r1")
REACH = "Check the base URL (the host), and whether this machine can reach it. [no-connection]"


def settings(url: str, **more: Any) -> dict[str, Any]:
    return {"token": "k", "base_url": url, "request_timeout": 5, "address_origin": "connection 'c'", **more}


def sync_get(url: str, **more: Any) -> Any:
    with RunClient(NEXIO, **settings(url, **more)) as client:
        return client.get(REF)


async def _async(url: str, action: str, **more: Any) -> Any:
    async with AsyncRunClient(NEXIO, **settings(url, **more)) as client:
        return await (client.get(REF) if action == "get" else client.wait(REF, timeout=0.2))


def async_get(url: str, **more: Any) -> Any:
    return asyncio.run(_async(url, "get", **more))


def async_wait(url: str, **more: Any) -> Any:
    return asyncio.run(_async(url, "wait", **more))


def async_wait_without_httptools(url: str, **more: Any) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("http1_pool", "http1_connection"):
            patch.delitem(sys.modules, f"runops.core.transport.{name}", raising=False)
        patch.setitem(sys.modules, "httptools", None)
        return asyncio.run(_async(url, "wait", **more))


WAYS: dict[str, Callable[..., Any]] = {
    "RunClient": sync_get,
    "AsyncRunClient": async_get,
    "poller": async_wait,
    "poller without httptools": async_wait_without_httptools,
}
every_way = pytest.mark.parametrize("way", list(WAYS.values()), ids=list(WAYS))


def failure(way: Callable[..., Any], url: str, **more: Any) -> str:
    try:
        way(url, **more)
    except PollingError as error:
        found: AnswerError = error.last
    except AnswerError as error:
        found = error
    else:
        raise AssertionError("it was answered")
    assert isinstance(found, ConnectionFailed)
    return str(found)


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def accepting(act: Callable[[socket.socket], object]) -> Iterator[int]:
    """A server that does something with each connection and closes it."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                    with connection:
                        act(connection)
                except ssl.SSLError:
                    continue
                except OSError:
                    return

        threading.Thread(target=serve, daemon=True).start()
        yield int(server.getsockname()[1])
        server.shutdown(socket.SHUT_RDWR)


@every_way
def test_a_refused_connection_names_service_host_port_origin_and_cause(
    way: Callable[..., Any], closed_port: int
) -> None:
    told = failure(way, f"http://127.0.0.1:{closed_port}")
    assert told == f"No connection to Nexio at 127.0.0.1:{closed_port} (connection 'c'): connection refused. {REACH}"


def test_another_cause_is_named_in_the_system_s_words_with_what_to_check() -> None:
    told = str(connection_failed(OSError(errno.ENETUNREACH, "Network is unreachable"), Peer(name="Nexio at h:443")))
    assert told == f"No connection to Nexio at h:443: network is unreachable. {REACH}"


@every_way
def test_a_name_that_does_not_exist_is_said_to_be_not_found(
    way: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.getaddrinfo

    def none(host: Any, *args: Any, **options: Any) -> Any:
        if host in (b"nowhere.example.com", "nowhere.example.com"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", none)
    told = failure(way, "https://nowhere.example.com")
    assert told.startswith("No connection to Nexio at nowhere.example.com:443 (connection 'c'): name not found")
    assert told.endswith(REACH)


@every_way
@pytest.mark.parametrize("host", ["a" * 64 + ".example.com", "a..b"])
def test_a_name_that_dns_cannot_carry_is_no_raw_exception(way: Callable[..., Any], host: str) -> None:
    assert "name not found" in failure(way, f"https://{host}")


@every_way
def test_a_certificate_that_is_not_trusted_is_named_with_the_reason(way: Callable[..., Any], certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with accepting(lambda connection: context.wrap_socket(connection, server_side=True).close()) as port:
        told = failure(way, f"https://127.0.0.1:{port}")
    assert f"Nexio at 127.0.0.1:{port}" in told
    assert "its TLS certificate is not accepted (self-signed certificate)" in told.replace("self signed", "self-signed")
    assert "SSL_CERT_FILE" in told


@every_way
def test_a_port_that_speaks_no_tls_is_named(way: Callable[..., Any]) -> None:
    with accepting(lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as port:
        told = failure(way, f"https://127.0.0.1:{port}")
    assert "TLS failed (WRONG_VERSION_NUMBER)" in told
    assert "Check whether the base URL's port speaks TLS (https://)." in told


@every_way
def test_a_connection_that_is_closed_in_its_handshake_is_named(way: Callable[..., Any]) -> None:
    with accepting(lambda connection: connection.recv(10)) as port:
        told = failure(way, f"https://127.0.0.1:{port}")
    assert f"No connection to Nexio at 127.0.0.1:{port} (connection 'c'): " in told
    assert "the other side closed the connection" in told or "TLS failed" in told


@every_way
def test_a_proxy_that_refuses_is_named_without_its_password(
    way: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")

    with accepting(refuse) as port:
        monkeypatch.setenv("https_proxy", f"http://someone:canary-pw-81c@127.0.0.1:{port}")
        told = failure(way, "https://api.example.com")
    assert f"No connection to Nexio at api.example.com:443 (through the proxy 127.0.0.1:{port}, connection 'c')" in told
    assert "the proxy answered 407 Proxy Authentication Required" in told
    assert "HTTPS_PROXY" in told
    assert "canary-pw-81c" not in told


# --- settings that no connection can be made with ----------------------------------------------------------------


@every_way
@pytest.mark.parametrize("proxy", ["ftp://proxy.example.com:21", "socks4://someone:canary-pw-81c@127.0.0.1:1"])
def test_a_proxy_of_an_unknown_scheme_is_a_configuration_error(
    way: Callable[..., Any], proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    with pytest.raises(ConfigurationError, match="http, https, socks5, socks5h") as caught:
        way("https://api.example.com")
    assert "canary-pw-81c" not in str(caught.value)


@every_way
def test_a_socks_proxy_without_its_package_is_a_configuration_error(
    way: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "find_spec", lambda name: None)
    monkeypatch.setenv("https_proxy", "socks5://127.0.0.1:1080")
    with pytest.raises(ConfigurationError, match=r"httpx\[socks\]"):
        way("https://api.example.com")


@every_way
@pytest.mark.parametrize("proxy", ["http://[::1", "http://proxy:port", "http://1.2.3.999:3128"])
def test_a_proxy_that_is_no_address_is_a_configuration_error(
    way: Callable[..., Any], proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    with pytest.raises(ConfigurationError, match="HTTPS_PROXY"):
        way("https://api.example.com")


@every_way
@pytest.mark.parametrize("content", [None, "no certificate"], ids=["missing", "rubbish"])
def test_a_certificate_file_that_cannot_be_read_is_a_configuration_error(
    way: Callable[..., Any], content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "authority.pem"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", os.fspath(path))
    with pytest.raises(ConfigurationError, match=r"SSL_CERT_FILE='.*authority\.pem'"):
        way("https://api.example.com")


@pytest.mark.parametrize("kind", [RunClient, AsyncRunClient])
def test_what_no_connection_can_be_made_with_is_refused_before_a_submit_can_be_recorded(
    kind: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "ftp://proxy.example.com")
    with pytest.raises(ConfigurationError, match="ftp"):
        kind(NEXIO, token="k")


@every_way
def test_a_service_without_tls_needs_no_certificates(
    way: Callable[..., Any], closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/authority.pem")
    assert "connection refused" in failure(way, f"http://127.0.0.1:{closed_port}")


@every_way
@pytest.mark.parametrize("url", ["https://1.2.3.999", "https://999.1.1.1", "https://[fe80::zz]"])
def test_an_address_that_is_none_is_a_configuration_error(way: Callable[..., Any], url: str) -> None:
    with pytest.raises(ConfigurationError, match="base_url"):
        way(url)
