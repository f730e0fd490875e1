"""Certificates of our choice, on real sockets: who is accepted, who we are, and files that are renewed."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pytest_mock import MockerFixture

from runops.core import AsyncRunClient, ConfigurationError, Outcome, PollingError, RunClient, find
from runops.core.model.errors import AnswerError, AnswerLost, ConnectionFailed
from runops.core.transport.base import timeouts
from runops.core.transport.confirmation import LONGEST
from runops.core.transport.httpx_pool import HttpxPool
from runops.emulator.server import Server
from runops.emulator.store import Emulator
from tests.authorities import PASSWORD, Authority, server_context
from tests.services import CALLS
from tests.tls_services import Serving, alerting, forwarding, serving

pytestmark = pytest.mark.http

NEXIO = find("nexio")
HOST = "127.0.0.1"


@pytest.fixture(autouse=True)
def listening_long_enough(mocker: MockerFixture) -> None:
    """On a busy machine a refusal comes later than the moment that a connection listens for one."""
    mocker.patch("runops.core.transport.confirmation.SHORTEST", LONGEST)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def another(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("another"), "another")


@pytest.fixture
def servers() -> Iterator[Serving]:
    with serving() as started:
        yield started


def sync_get(client_settings: dict[str, Any], run_id: str) -> Any:
    with RunClient(NEXIO, **client_settings) as client:
        return client.get(NEXIO.ref(run_id))


def sync_submit(client_settings: dict[str, Any], run_id: str) -> Any:
    with RunClient(NEXIO, **client_settings) as client:
        return client.submit(_call(), submit_grace=0.1)


def async_get(client_settings: dict[str, Any], run_id: str) -> Any:
    async def story() -> Any:
        async with AsyncRunClient(NEXIO, **client_settings) as client:
            return await client.get(NEXIO.ref(run_id))

    return asyncio.run(story())


def async_submit(client_settings: dict[str, Any], run_id: str) -> Any:
    async def story() -> Any:
        async with AsyncRunClient(NEXIO, **client_settings) as client:
            return await client.submit(_call(), submit_grace=0.1)

    return asyncio.run(story())


def wait(client_settings: dict[str, Any], run_id: str) -> Any:
    async def story() -> Any:
        async with AsyncRunClient(NEXIO, **client_settings) as client:
            return await client.wait(NEXIO.ref(run_id), timeout=30, error_budget=0.2)

    return asyncio.run(story())


def wait_without_httptools(client_settings: dict[str, Any], run_id: str) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("http1_pool", "http1_connection"):
            patch.delitem(sys.modules, f"runops.core.transport.{name}", raising=False)
        patch.setitem(sys.modules, "httptools", None)
        return wait(client_settings, run_id)


def _call() -> Any:
    return NEXIO.call(**CALLS["nexio"])


READS: dict[str, Callable[[dict[str, Any], str], Any]] = {
    "RunClient": sync_get,
    "AsyncRunClient": async_get,
    "poller": wait,
    "poller without httptools": wait_without_httptools,
}
SUBMITS: dict[str, Callable[[dict[str, Any], str], Any]] = {
    "RunClient": sync_submit,
    "AsyncRunClient": async_submit,
}
every_read = pytest.mark.parametrize("way", list(READS.values()), ids=list(READS))
every_submit = pytest.mark.parametrize("way", list(SUBMITS.values()), ids=list(SUBMITS))
every_way = pytest.mark.parametrize(
    "way", [*READS.values(), *SUBMITS.values()], ids=[*READS, *(f"{n}, submit" for n in SUBMITS)]
)


class Service:
    """Nexio of the emulator behind TLS."""

    def __init__(self, served: Server, emulator: Emulator, servers: Serving) -> None:
        self._served = served
        self._servers = servers
        self.emulator = emulator
        self.run_id = emulator.create_run("nexio", seconds=1, age_seconds=10)

    def settings(self, certificate: Path, *, clients: Path | None = None, **more: Any) -> dict[str, Any]:
        port = self._servers.serve(forwarding(self.port), server_context(certificate, clients))
        return self.settings_of(port, **more)

    @property
    def port(self) -> int:
        return self._served.port

    def settings_of(self, port: int, **more: Any) -> dict[str, Any]:
        return {
            "token": "k",
            "base_url": f"https://{HOST}:{port}/nexio",
            "request_timeout": 5,
            "network_origin": "connection 'c'",
            **more,
        }

    def read(self, way: Callable[[dict[str, Any], str], Any], settings: dict[str, Any]) -> Any:
        return way(settings, self.run_id)

    def failure(self, way: Callable[[dict[str, Any], str], Any], settings: dict[str, Any]) -> str:
        """The words of a failed connect; nothing has come to the service."""
        before = len(self.emulator.requests())
        try:
            self.read(way, settings)
        except PollingError as error:
            found: AnswerError = error.last
        except AnswerError as error:
            found = error
        else:
            raise AssertionError("it was answered")
        assert isinstance(found, ConnectionFailed), repr(found)
        assert len(self.emulator.requests()) == before
        return str(found)


@pytest.fixture
def service(served: Server, emulator: Emulator, servers: Serving, without_pauses: None) -> Service:
    return Service(served, emulator, servers)


@every_way
def test_an_authority_of_our_own_is_accepted_where_verify_names_it(
    way: Callable[..., Any], service: Service, ours: Authority
) -> None:
    assert service.read(way, service.settings(ours.sign("good", HOST), verify=ours.path)) is not None


@every_way
def test_an_authority_that_nobody_named_is_refused_before_anything_is_sent(
    way: Callable[..., Any], service: Service, ours: Authority
) -> None:
    message = service.failure(way, service.settings(ours.sign("good", HOST)))
    assert "its TLS certificate is not accepted (unable to get local issuer certificate)" in message
    assert "verify" in message


@every_way
def test_no_other_authority_than_the_named_one_is_accepted(
    way: Callable[..., Any], service: Service, ours: Authority, another: Authority
) -> None:
    message = service.failure(way, service.settings(ours.sign("good", HOST), verify=another.path))
    assert f"verify={os.fspath(another.path)!r} of connection 'c'" in message


@every_way
def test_a_certificate_for_another_host_is_refused_and_said(
    way: Callable[..., Any], service: Service, ours: Authority
) -> None:
    message = service.failure(way, service.settings(ours.sign("elsewhere", "elsewhere.example.com"), verify=ours.path))
    assert "mismatch" in message
    assert "the certificate is for another one" in message


@every_way
def test_an_expired_certificate_is_refused_and_said(way: Callable[..., Any], service: Service, ours: Authority) -> None:
    expired = ours.sign("expired", HOST, ends=timedelta(hours=-1))
    message = service.failure(way, service.settings(expired, verify=ours.path))
    assert "certificate has expired" in message
    assert "has to renew it" in message


@every_way
def test_a_service_that_asks_for_a_certificate_is_shown_ours(
    way: Callable[..., Any], service: Service, ours: Authority
) -> None:
    shown = ours.sign("me")
    settings = service.settings(ours.sign("good", HOST), clients=ours.path, verify=ours.path, client_cert=shown)
    assert service.read(way, settings) is not None
    apart = {"client_cert": shown.with_suffix(".crt"), "client_key": os.fspath(shown.with_suffix(".key"))}
    assert service.read(way, {**settings, **apart}) is not None


@every_way
def test_a_service_that_asks_for_a_certificate_and_gets_none_was_sent_nothing(
    way: Callable[..., Any], service: Service, ours: Authority
) -> None:
    asks = server_context(ours.sign("good", HOST), ours.path)
    with alerting(service.port, asks) as port:
        message = service.failure(way, service.settings_of(port, verify=ours.path))
    assert "it asks for a certificate of ours (certificate required)" in message
    assert "client_cert" in message


@every_way
def test_a_service_that_does_not_accept_our_certificate_was_sent_nothing(
    way: Callable[..., Any], service: Service, ours: Authority, another: Authority
) -> None:
    wrong = another.sign("me")
    asks = server_context(ours.sign("good", HOST), ours.path)
    with alerting(service.port, asks) as port:
        message = service.failure(way, service.settings_of(port, verify=ours.path, client_cert=wrong))
    assert "it does not accept our TLS certificate" in message
    assert f"client_cert={os.fspath(wrong)!r} of connection 'c'" in message


@every_way
def test_before_tls_1_3_a_refusal_reads_the_same(way: Callable[..., Any], service: Service, ours: Authority) -> None:
    asks = server_context(ours.sign("good", HOST), ours.path)
    asks.maximum_version = ssl.TLSVersion.TLSv1_2
    with alerting(service.port, asks) as port:
        message = service.failure(way, service.settings_of(port, verify=ours.path))
    assert "it asks for a certificate of ours (handshake failure)" in message


@every_submit
def test_a_submit_that_is_refused_without_a_word_is_known_not_to_be_sent(
    way: Callable[..., Any], service: Service, ours: Authority
) -> None:
    """A server of asyncio closes, after our side of TLS 1.3 takes the handshake for done."""
    settings = service.settings(ours.sign("good", HOST), clients=ours.path, verify=ours.path)
    assert "the other side closed the connection" in service.failure(way, settings)


@every_submit
def test_a_service_without_session_tickets_costs_a_submit_a_moment(
    way: Callable[..., Any], service: Service, ours: Authority
) -> None:
    silent = server_context(ours.sign("good", HOST))
    silent.num_tickets = 0
    with alerting(service.port, silent) as port:
        began = time.monotonic()
        assert service.read(way, service.settings_of(port, verify=ours.path)) is not None
        assert time.monotonic() - began < 5


@every_way
def test_a_handshake_that_takes_too_long_is_known_to_have_sent_nothing(
    way: Callable[..., Any], service: Service, ours: Authority
) -> None:
    with socket.create_server((HOST, 0)) as silent:
        settings = service.settings_of(silent.getsockname()[1], verify=ours.path, request_timeout=0.2)
        assert "timed out" in service.failure(way, settings)


@pytest.mark.parametrize(("scheme", "error"), [("https", ConnectionFailed), ("http", AnswerLost)])
def test_an_answer_is_lost_only_where_something_was_sent(scheme: str, error: type[AnswerError]) -> None:
    async def story(root: str) -> None:
        pool = HttpxPool(root, max_connections=1)
        # Each step may take long: it is the whole that ends.
        request = httpx.Request("POST", f"{root}/runs", extensions=timeouts(30))
        try:
            await pool.exchange(pool.prepare(request), limit=1000, seconds=0.1)
        finally:
            await pool.close()

    with socket.create_server((HOST, 0)) as silent, pytest.raises(error) as caught:
        asyncio.run(story(f"{scheme}://{HOST}:{silent.getsockname()[1]}"))
    assert type(caught.value) is error


@pytest.mark.parametrize("speaks_tls", [True, False])
def test_a_connection_whose_making_is_cancelled_at_any_moment_is_closed(
    service: Service, ours: Authority, speaks_tls: bool
) -> None:
    gc.freeze()
    settings = service.settings(ours.sign("good", HOST), verify=ours.path)
    if not speaks_tls:
        settings = service.settings_of(service.port, verify=ours.path)

    async def story(rounds: int) -> None:
        async with AsyncRunClient(NEXIO, **settings) as client:
            task = asyncio.ensure_future(client.get(NEXIO.ref(service.run_id)))
            for _ in range(rounds):
                await asyncio.sleep(0)
            # Time for what other threads do: the loop's own rounds would be over before.
            await asyncio.sleep(rounds * 1e-4)
            task.cancel()
            with suppress(asyncio.CancelledError, AnswerError):
                await task

    for rounds in range(60):
        asyncio.run(story(rounds))
    # What is left open is noticed, and fails the test, when it is collected.
    gc.collect()


# --- files that cannot be used ---------------------------------------------------------------------------------------


WRONG: dict[str, tuple[Callable[[Authority], dict[str, Any]], str]] = {
    "no such authority": (
        lambda ours: {"verify": "/nowhere/a.pem"},
        r"verify='/nowhere/a.pem' of connection 'c'.*No such",
    ),
    "a folder": (lambda ours: {"verify": ours.folder}, r"verify=.* cannot be used: Is a directory"),
    "an authority that is no PEM": (
        lambda ours: {"verify": ours.write("rubbish.pem", b"rubbish")},
        r"verify='.*rubbish\.pem'.*no certificate in PEM form",
    ),
    "no such certificate": (lambda ours: {"client_cert": "/nowhere/c.pem"}, "client_cert='/nowhere/c.pem'.*No such"),
    "a certificate that is none": (
        lambda ours: {"client_cert": ours.write("none.pem", b"none")},
        r"client_cert='.*none\.pem'.*no certificate in PEM form",
    ),
    "a certificate without a key": (
        lambda ours: {"client_cert": ours.sign("me").with_suffix(".crt")},
        "client_cert=.*no private key in PEM form: add it, or name its file in client_key",
    ),
    "no such key": (
        lambda ours: {"client_cert": ours.sign("me"), "client_key": "/nowhere/k.pem"},
        "client_key='/nowhere/k.pem'.*No such",
    ),
    "a key that is none": (
        lambda ours: {"client_cert": ours.sign("me"), "client_key": ours.write("none.key", b"none")},
        r"client_key='.*none\.key'.*no private key in PEM form",
    ),
    "the key of another certificate": (
        lambda ours: {"client_cert": ours.sign("me"), "client_key": ours.sign("you").with_suffix(".key")},
        r"client_key='.*you\.key'.*does not belong to the certificate in client_cert='.*me\.pem'",
    ),
    "a key with a password": (
        lambda ours: {"client_cert": ours.sign("locked", password=PASSWORD)},
        r"client_cert='.*locked\.pem'.*protected by a password",
    ),
    "a key alone": (
        lambda ours: {"client_key": ours.sign("me")},
        "client_key of connection 'c' is set without client_cert",
    ),
    "a key pasted": (
        lambda ours: {"client_cert": ours.sign("pasted").read_text()},
        "client_cert of connection 'c' holds a certificate or key itself: name the path",
    ),
    "nobody is checked": (
        lambda ours: {"verify": False},
        "verify of connection 'c' is false: the key would go to whoever",
    ),
    "nobody is checked, as text": (lambda ours: {"verify": " False"}, "verify of connection 'c' is false"),
    "a number": (lambda ours: {"verify": 3}, "verify of connection 'c' must be the path of a PEM file, not int"),
    "a null byte": (lambda ours: {"verify": "a\0b"}, "verify=.* cannot be used: it is no path"),
}


@pytest.mark.parametrize("kind", [RunClient, AsyncRunClient])
@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_used_is_refused_when_the_client_is_made_and_named(
    kind: Callable[..., Any], name: str, ours: Authority
) -> None:
    settings, message = WRONG[name]
    with pytest.raises(ConfigurationError, match=message) as caught:
        kind(NEXIO, token="k", network_origin="connection 'c'", **settings(ours))
    assert "BEGIN" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_file_that_may_not_be_read_is_named(ours: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    path = ours.write("secret.pem", ours.pem)
    real = Path.open

    def forbidden(self: Path, *args: Any, **named: Any) -> Any:
        if self.name == "secret.pem":
            raise PermissionError(13, "Permission denied")
        return real(self, *args, **named)

    monkeypatch.setattr(Path, "open", forbidden)
    with pytest.raises(ConfigurationError, match=r"verify='.*secret\.pem' cannot be used: Permission denied"):
        RunClient(NEXIO, token="k", verify=path)


@pytest.mark.parametrize("nothing", [None, "", True, "true", " True "])
def test_verify_may_say_that_the_usual_authorities_are_meant(nothing: Any) -> None:
    with RunClient(NEXIO, token="k", verify=nothing) as client:
        assert client.root


# --- files that are renewed ------------------------------------------------------------------------------------------


def replaced(path: Path, content: Path) -> None:
    """Put another file in the place of one, as tools that renew certificates do."""
    new = path.with_name("new")
    shutil.copy(content, new)
    new.replace(path)


@pytest.mark.parametrize("kind", ["sync", "async", "poller"])
def test_a_renewed_file_counts_for_new_connections_of_a_client_that_stands(
    kind: str, service: Service, ours: Authority, another: Authority, tmp_path: Path
) -> None:
    """The service takes another authority for its clients, and gets another certificate; so do we."""
    accepted, shown = tmp_path / "accepted.pem", tmp_path / "shown.pem"
    replaced(accepted, ours.path)
    replaced(shown, ours.sign("me"))
    more = {"verify": accepted, "client_cert": shown}
    before = service.settings(ours.sign("good", HOST), clients=ours.path, **more)
    after = service.settings(another.sign("good", HOST), clients=another.path, **more)

    def renew() -> None:
        replaced(accepted, another.path)
        replaced(shown, another.sign("me"))

    if kind == "sync":
        with RunClient(NEXIO, **before) as client, RunClient(NEXIO, **after) as other:
            assert client.get(NEXIO.ref(service.run_id)).outcome is Outcome.SUCCEEDED
            renew()
            assert other.get(NEXIO.ref(service.run_id)).outcome is Outcome.SUCCEEDED
        return

    async def story() -> None:
        async def look(client: AsyncRunClient) -> None:
            ref = NEXIO.ref(service.run_id)
            found = await (client.get(ref) if kind == "async" else client.wait(ref, timeout=30, error_budget=0.2))
            assert found.outcome is Outcome.SUCCEEDED

        async with AsyncRunClient(NEXIO, **before) as client, AsyncRunClient(NEXIO, **after) as other:
            await look(client)
            await asyncio.to_thread(renew)
            await look(other)

    asyncio.run(story())


def test_a_file_that_is_being_written_leaves_what_was_read_before_in_its_place(
    service: Service, ours: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    accepted = tmp_path / "accepted.pem"
    replaced(accepted, ours.path)
    settings = service.settings(ours.sign("good", HOST), verify=accepted)
    with RunClient(NEXIO, **settings) as client:
        assert client.get(NEXIO.ref(service.run_id)).outcome is Outcome.SUCCEEDED
        accepted.write_bytes(ours.pem[:100])
        client.close()
        assert client.get(NEXIO.ref(service.run_id)).outcome is Outcome.SUCCEEDED
        client.close()
        assert client.get(NEXIO.ref(service.run_id)).outcome is Outcome.SUCCEEDED
    warnings = [record.getMessage() for record in caplog.records if "accepted.pem" in record.getMessage()]
    assert len(warnings) == 1
    assert "Connections go on with what was read before." in warnings[0]


# --- who shares connections ------------------------------------------------------------------------------------------


def test_waits_with_different_certificates_or_proxies_do_not_share_connections(
    ours: Authority, another: Authority
) -> None:
    different: list[dict[str, Any]] = [
        {},
        {"verify": ours.path},
        {"verify": another.path},
        {"client_cert": ours.sign("me")},
        {"client_cert": ours.sign("me2"), "client_key": ours.sign("me2").with_suffix(".key")},
        {"proxy": "http://someone:canary-pw-81c@127.0.0.1:3128"},
        {"proxy": "http://someone:canary-pw-other@127.0.0.1:3128"},
    ]
    keys = [RunClient(NEXIO, token="k", **settings)._session.key for settings in different]
    assert len(set(keys)) == len(keys)
    assert "canary-pw" not in repr(keys)
    again = [RunClient(NEXIO, token="k", **settings)._session.key for settings in different]
    assert again == keys
