"""Certificates and a proxy of a connection, on real sockets, in every mode of a task, and in nothing that is stored."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_mock import MockerFixture

from runops.airflow import B3osHook, B3osRunOperator, B3osRunSensor, RunFinishedTrigger, RunTrigger
from runops.airflow._compat import kills_in_triggerer, renders_in_triggerer
from runops.airflow.exceptions import PollingError
from tests.authorities import PASSWORD, Authority, server_context
from tests.services import CALLS
from tests.tls_services import Proxy, Serving, alerting, forwarding, serving

LOGIN = "someone:canary-proxy-pw-3e"
HOST = "https://127.0.0.1:44443/b3os"
"""Nobody listens there: the proxy leads to the service."""


@dataclass
class Secured:
    """The service behind TLS that asks for a certificate, behind a proxy that asks for a password."""

    served: Any
    servers: Serving
    authority: Authority
    connect: Callable[..., None]

    def set(self, *, certificate: Path | None = None, login: str = LOGIN, host: str = HOST, **extra: Any) -> Proxy:
        """Set the connection; the proxy that it goes through."""
        certificate = certificate or self.authority.sign("good", "127.0.0.1")
        tls = server_context(certificate, self.authority.path)
        proxy = Proxy(self.servers.serve(forwarding(self.served.port), tls), LOGIN)
        told = {
            "verify": os.fspath(self.authority.path),
            "client_cert": os.fspath(self.authority.sign("me")),
            "proxy": f"http://{login}@127.0.0.1:{self.servers.serve(proxy)}",
            **extra,
        }
        self.connect("b3os_default", "b3os", host=host, extra=json.dumps(told))
        return proxy


@pytest.fixture
def secured(served: Any, connect: Callable[..., None], tmp_path: Path) -> Iterator[Secured]:
    with serving() as servers:
        yield Secured(served, servers, Authority(tmp_path), connect)


def stored(ended: Any) -> str:
    """What Airflow keeps of a task."""
    rows = [deferred.trigger.serialize() for deferred in ended.deferrals]
    return json.dumps([rows, ended.events, ended.xcoms, ended.result], default=str)


@pytest.mark.parametrize("kind", ["sensor", "operator"])
def test_a_task_goes_through_the_proxy_with_its_certificate_in_every_mode(
    host: Any, secured: Secured, mode: dict[str, Any], kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    proxy = secured.set()
    if kind == "sensor":
        task: Any = B3osRunSensor(task_id="a_task", **host.made("b3os", seconds=60), **mode)
    else:
        host.emulator.set_defaults(provider="b3os", script="succeeded", seconds=60)
        task = B3osRunOperator(task_id="a_task", **CALLS["b3os"], deferrable="mode" not in mode)
    ended = host.run(task)
    assert ended.error is None, ended.error
    assert ended.result["outcome"] == "succeeded"
    assert len(ended.deferrals) == ("mode" not in mode)
    assert proxy.heads
    for secret in ("canary-proxy-pw", "me.pem", str(secured.authority.path)):
        assert secret not in stored(ended)
    assert "canary-proxy-pw" not in "".join(capsys.readouterr())


@pytest.mark.skipif(not renders_in_triggerer(), reason="needs Airflow 3.3 or newer")
def test_a_task_that_begins_in_the_triggerer_does_too(host: Any, secured: Secured) -> None:
    proxy = secured.set()
    task = B3osRunSensor(task_id="a_task", **host.made("b3os", seconds=60), deferrable=True, start_from_trigger=True)
    given: Any = task.start_trigger_args
    kwargs = json.loads(json.dumps(given.trigger_kwargs))
    waits = RunTrigger(**kwargs)
    waits.task_instance = SimpleNamespace(task_id="a_task", task=task)  # pyright: ignore[reportAttributeAccessIssue]
    waits.render_template_fields({}, task.get_template_env())

    async def payload() -> Any:
        (event,) = [event async for event in waits.run()]
        return event.payload

    assert asyncio.run(payload())["kind"] == "ended"
    assert proxy.heads
    assert "canary" not in json.dumps(kwargs)


@pytest.mark.skipif(not kills_in_triggerer(), reason="needs Airflow 3.3 or newer")
def test_a_kill_of_a_deferred_task_cancels_through_it(host: Any, secured: Secured, mocker: MockerFixture) -> None:
    proxy = secured.set()
    host.emulator.set_defaults(provider="b3os", script="forever")
    from runops.airflow import trigger_base as module
    from runops.airflow._compat import TaskDeferred

    with pytest.raises(TaskDeferred) as deferred:
        B3osRunOperator(task_id="a_task", **CALLS["b3os"], deferrable=True).execute(host.context())
    waits = deferred.value.trigger
    waits.task_instance = SimpleNamespace(dag_id="a_dag", task_id="a_task", run_id="a_run", map_index=-1)

    async def failed(ti: Any) -> str:
        return "failed"

    mocker.patch.object(module, "task_state_of", failed)
    before = len(proxy.heads)
    asyncio.run(waits.on_kill())
    assert len(proxy.heads) > before
    assert len(host.emulator.requests(action="cancel")) == 1


def test_a_watch_goes_through_it(host: Any, secured: Secured) -> None:
    proxy = secured.set()
    host.emulator.create_run("b3os", parents={"workflow_id": "wf_1"}, script="succeeded", seconds=1)
    trigger = RunFinishedTrigger(provider="b3os", parent="wf_1", conn_id="b3os_default", poll_interval=0.05)

    async def first() -> Any:
        async with asyncio.timeout(20):
            async for event in trigger.run():
                return event.payload
        return None

    async def story() -> Any:
        task = asyncio.create_task(first())
        for _ in range(1_000):
            if host.emulator.requests(action="list", status=200):
                break
            await asyncio.sleep(0.02)
        host.emulator.create_run("b3os", parents={"workflow_id": "wf_1"}, script="succeeded", seconds=0)
        return await task

    assert asyncio.run(story()) is not None
    assert proxy.heads


def test_the_test_button_goes_through_it(secured: Secured) -> None:
    proxy = secured.set()
    assert B3osHook().test_connection() == (True, "B3OS accepts the key.")
    assert proxy.heads


# --- what is wrong ---------------------------------------------------------------------------------------------------


def trouble(host: Any, mode: dict[str, Any]) -> str:
    """How a sensor ends that cannot connect: after its error budget, with nothing sent."""
    task = B3osRunSensor(task_id="a_task", run_id="r1", error_budget=40, **mode)
    ended = host.run(task)
    assert isinstance(ended.error, PollingError), repr(ended.error)
    assert host.emulator.requests() == []
    assert "canary" not in stored(ended) + str(ended.error)
    return str(ended.error)


def test_an_expired_certificate_is_said_when_the_error_budget_is_over(
    host: Any, secured: Secured, mode: dict[str, Any]
) -> None:
    secured.set(certificate=secured.authority.sign("old", "127.0.0.1", ends=timedelta(hours=-1)))
    assert "certificate has expired" in trouble(host, mode)


def test_a_certificate_for_another_host_is_said(host: Any, secured: Secured, mode: dict[str, Any]) -> None:
    secured.set(certificate=secured.authority.sign("elsewhere", "elsewhere.example.com"))
    assert "mismatch" in trouble(host, mode)


def test_an_authority_that_is_not_named_is_said(host: Any, secured: Secured, mode: dict[str, Any]) -> None:
    secured.set(verify="")
    assert "its TLS certificate is not accepted" in trouble(host, mode)


def test_a_wrong_password_of_the_proxy_is_said_without_it(
    host: Any, secured: Secured, mode: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    secured.set(login="someone:canary-wrong-pw-77")
    message = trouble(host, mode)
    assert "the proxy answered 407" in message
    assert "Check proxy of connection 'b3os_default'" in message
    assert "canary-wrong" not in "".join(capsys.readouterr())


def test_a_service_that_gets_no_certificate_of_ours_says_what_it_wants(
    host: Any, secured: Secured, mode: dict[str, Any]
) -> None:
    tls = server_context(secured.authority.sign("good", "127.0.0.1"), secured.authority.path)
    with alerting(secured.served.port, tls) as port:
        secured.connect(
            "b3os_default",
            "b3os",
            host=f"https://127.0.0.1:{port}/b3os",
            extra=json.dumps({"verify": os.fspath(secured.authority.path)}),
        )
        assert "asks for a certificate of ours" in trouble(host, mode)


WRONG = {
    "no such file": ({"verify": "/nowhere/a.pem"}, "verify='/nowhere/a.pem' of connection 'b3os_default'"),
    "nobody is checked": ({"verify": False}, "verify of connection 'b3os_default' is false"),
    "a key alone": ({"client_cert": "", "client_key": "/k.pem"}, "client_key of connection 'b3os_default'"),
    "a scheme that is none": ({"proxy": "ftp://u:canary@h:1"}, "in proxy of connection 'b3os_default'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_used_ends_the_task_before_anything_is_sent(
    host: Any, secured: Secured, mode: dict[str, Any], name: str
) -> None:
    extra, message = WRONG[name]
    secured.set(**extra)
    ended = host.run(B3osRunSensor(task_id="a_task", run_id="r1", **mode))
    assert message in str(ended.error)
    assert "canary" not in str(ended.error)
    assert host.emulator.requests() == []
    good, told = B3osHook().test_connection()
    assert not good
    assert message.replace("connection 'b3os_default'", "").split(" of ")[0] in told


def test_a_key_with_a_password_is_refused_without_asking_for_it(secured: Secured) -> None:
    secured.set(client_cert=os.fspath(secured.authority.sign("locked", password=PASSWORD)))
    good, told = B3osHook().test_connection()
    assert not good
    assert "protected by a password" in told
