"""Certificates, a proxy and an address from a variable: resources, steps, sensors, the component; real sockets."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cryptography")

import dagster as dg
from dagster._core.remote_representation.external_data import RepositorySnap

from runops.core import ConfigurationError, Outcome
from runops.dagster import B3osResource, NexioResource, RunResource, build_run_asset, build_run_sensor
from runops.dagster.component import RunopsComponent
from tests.authorities import Authority, server_context
from tests.canaries.search import find_leaks
from tests.services import CALLS
from tests.tls_services import Proxy, forwarding, serving

LOGIN = "someone:canary-proxy-pw-3e"


@dataclass
class Secured:
    """The service behind TLS that asks for a certificate, behind a proxy that asks for a password."""

    proxy: Proxy
    address: str
    fields: dict[str, Any]


@pytest.fixture
def secured(service: Callable[[str], Any], tmp_path: Path) -> Iterator[Secured]:
    runs, authority = service("b3os"), Authority(tmp_path)
    port = int(runs.base_url.split(":")[2].split("/")[0])
    with serving() as servers:
        tls = server_context(authority.sign("good", "127.0.0.1"), authority.path)
        proxy = Proxy(servers.serve(forwarding(port), tls), LOGIN)
        shown = authority.sign("me")
        yield Secured(
            proxy,
            f"http://{LOGIN}@127.0.0.1:{servers.serve(proxy)}",
            {
                "api_key": "k",
                "base_url": "https://127.0.0.1:44443/b3os",
                "verify": os.fspath(authority.path),
                "client_cert": os.fspath(shown.with_suffix(".crt")),
                "client_key": os.fspath(shown.with_suffix(".key")),
                "request_timeout": 5.0,
            },
        )


@pytest.mark.parametrize("given", ["variable", "literal"])
def test_a_step_and_a_sensor_go_through_the_proxy_with_their_certificate(
    service: Callable[[str], Any], secured: Secured, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("ACME_PROXY", secured.address)
    runs = service("b3os")
    proxy: Any = dg.EnvVar("ACME_PROXY") if given == "variable" else secured.address
    runs.resource = B3osResource(**secured.fields, proxy=proxy)
    runs.emulator.set_defaults(provider="b3os", script="succeeded", seconds=1)
    asset = build_run_asset(key="external", resource_key="b3os", call=CALLS["b3os"], poll_interval=0.1)
    sensor = build_run_sensor(name="watch", resource_key="b3os", targets={"other": {"workflow_id": "wf_1"}})
    definitions = dg.Definitions(assets=[asset], sensors=[sensor], resources={"b3os": runs.resource})
    snapshot = dg.serialize_value(RepositorySnap.from_def(definitions.get_repository_def()))
    ended = runs.materialize(asset)
    assert ended.materialized == ["external"]
    before = len(secured.proxy.heads)
    assert before
    context = dg.build_sensor_context(instance=runs.instance, resources={"b3os": runs.resource})
    sensor.evaluate_tick(context)
    assert len(secured.proxy.heads) > before
    texts = {"repr": repr(runs.resource), "snapshot": snapshot, "log": ended.log}
    assert find_leaks({"the password": LOGIN.partition(":")[2]}, texts) == []


def test_a_resource_refuses_what_no_connection_can_be_made_with(secured: Secured) -> None:
    for wrong, message in [
        ({"proxy": "ftp://someone:canary-pw@h:1"}, "in proxy of B3osResource cannot be used"),
        ({"proxy": "http://someone:canary/pw@h:1"}, "with %XX"),
        ({"client_cert": None}, "client_key of B3osResource is set without client_cert"),
        ({"verify": "false"}, "verify of B3osResource is false"),
    ]:
        with pytest.raises(ConfigurationError, match=message) as caught:
            B3osResource(**{**secured.fields, **wrong})
        assert "canary" not in str(caught.value)


def test_files_are_looked_at_where_a_step_runs(secured: Secured) -> None:
    resource = B3osResource(**{**secured.fields, "verify": "/nowhere/a.pem"})
    with pytest.raises(
        ConfigurationError, match=r"verify='/nowhere/a.pem' of B3osResource cannot be used: No such file"
    ):
        resource.get("r1")


@pytest.mark.parametrize("field", ["verify", "client_cert", "client_key", "proxy"])
def test_a_variable_that_is_not_set_is_named(secured: Secured, field: str) -> None:
    wrong: dict[str, Any] = {**secured.fields, field: dg.EnvVar("ACME_NOT_SET")}
    with pytest.raises(ConfigurationError, match=rf"ACME_NOT_SET \({field} of B3osResource\) is not set"):
        B3osResource(**wrong).client()


def test_an_address_stands_in_the_variable_where_the_resource_has_none(
    service: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = service("nexio")
    run_id = runs.emulator.create_run("nexio", script="succeeded", seconds=0)
    monkeypatch.setenv("NEXIO_BASE_URL", runs.base_url)
    assert NexioResource(api_key="k").get(run_id).outcome is Outcome.SUCCEEDED
    assert RunResource(provider="nexio", api_key="k").get(run_id).outcome is Outcome.SUCCEEDED
    monkeypatch.setenv("NEXIO_BASE_URL", "http://127.0.0.1:1")
    assert NexioResource(api_key="k", base_url=runs.base_url).get(run_id).outcome is Outcome.SUCCEEDED
    with pytest.raises(Exception, match="environment variable NEXIO_BASE_URL"):
        NexioResource(api_key="k").get(run_id)


def component(**fields: Any) -> RunopsComponent:
    return RunopsComponent(provider="b3os", assets=[], checks=[], sensors=[], **fields)


def test_the_component_hands_them_to_its_resource(secured: Secured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_PROXY", secured.address)
    monkeypatch.setenv("B3OS_API_KEY", "k")
    fields = {name: value for name, value in secured.fields.items() if name != "api_key"}
    resource = component(**fields, proxy_env_var="ACME_PROXY").build_resource()
    with resource.client() as client:
        client.probe()
    assert secured.proxy.heads


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"proxy": "http://someone:canary-pw@h:1"}, "proxy: holds a user or password, which stand in no file"),
        ({"proxy": "ftp://h:1"}, "proxy: The proxy ftp://h:1"),
        ({"proxy": "h:1", "proxy_env_var": "A"}, "proxy: give proxy or proxy_env_var, not both"),
        ({"proxy_env_var": "not a name"}, "must be the NAME of an environment variable"),
        ({"client_key": "/k.pem"}, "client_key: client_key is set without client_cert"),
        ({"verify": "false"}, "verify: verify is false"),
    ],
)
def test_the_component_names_the_field_that_cannot_be_used(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        component(**fields)
    assert "canary" not in str(caught.value)


def test_an_expired_certificate_fails_a_step_with_its_reason(
    service: Callable[[str], Any], tmp_path: Path, without_pauses: None
) -> None:
    runs, authority = service("b3os"), Authority(tmp_path)
    port = int(runs.base_url.split(":")[2].split("/")[0])
    with serving() as servers:
        tls = server_context(authority.sign("old", "127.0.0.1", ends=timedelta(hours=-1)))
        address = f"https://127.0.0.1:{servers.serve(forwarding(port), tls)}/b3os"
        runs.resource = B3osResource(api_key="k", base_url=address, verify=os.fspath(authority.path))
        asset = build_run_asset(key="external", resource_key="b3os", call=CALLS["b3os"])
        ended = runs.materialize(asset)
    assert not ended.materialized
    assert "certificate has expired" in str(ended.failure)
    assert runs.submits == 0
