"""A limit that a resource shares over processes: where it is set, what is refused, and what nobody sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_representation.external_data import RepositorySnap

from runops.core import ConfigurationError
from runops.core.model.secret import Secret
from runops.dagster import NexioResource, build_run_asset
from runops.dagster.component import RunopsComponent

pytest.importorskip("redis", reason="needs redis-py: the extra redis")

STORE = "redis://someone:canary-store-pw-5d@127.0.0.1:1/0"
"""Nobody listens there."""


@pytest.mark.parametrize("given", ["variable", "text"])
def test_a_step_goes_on_without_the_store_and_nothing_shows_its_address(
    service: Callable[[str], Any], given: str, monkeypatch: pytest.MonkeyPatch, capfd: Any, caplog: Any
) -> None:
    runs = service("nexio")
    monkeypatch.setenv("ACME_STORE", STORE)
    monkeypatch.setenv("ACME_KEY", "k")
    store: Any = dg.EnvVar("ACME_STORE") if given == "variable" else STORE
    runs.resource = NexioResource(
        api_key=dg.EnvVar("ACME_KEY"), base_url=runs.base_url, requests_per_minute=60_000, processes=4, rate_store=store
    )
    run_id = runs.emulator.create_run("nexio", script="succeeded", seconds=0)
    asset = build_run_asset(key="external", resource_key="nexio", run_id=run_id)
    definitions = dg.Definitions(assets=[asset], resources={"nexio": runs.resource})
    snapshot = dg.serialize_value(RepositorySnap.from_def(definitions.get_repository_def()))
    ended = runs.materialize(asset)
    assert ended.success, ended.failures
    said = "".join(capfd.readouterr()) + caplog.text + ended.log
    assert "127.0.0.1:1 cannot be used (ConnectionError)" in said
    assert "canary-store" not in said + snapshot + repr(runs.resource) + str(ended.events)


def test_both_ways_name_the_same_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_STORE", STORE)
    for store in (dg.EnvVar("ACME_STORE"), STORE):
        with NexioResource(api_key="k", requests_per_minute=60, rate_store=store).client() as client:
            assert client._session.rate.store == Secret(STORE)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"processes": 3}, "processes of NexioResource is set without requests_per_minute"),
        ({"rate_store": STORE}, "rate_store of NexioResource is set without requests_per_minute"),
        ({"requests_per_minute": 60, "processes": 0}, "processes of NexioResource must be a number above 0"),
        ({"requests_per_minute": 60, "rate_store": "http://:canary@h"}, "rate_store of NexioResource has a scheme"),
    ],
)
def test_a_resource_that_cannot_be_used_is_refused_when_it_is_made(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as refused:
        NexioResource(api_key="k", **fields)
    assert "canary" not in str(refused.value)


def test_a_variable_that_is_not_set_is_named() -> None:
    resource = NexioResource(api_key="k", requests_per_minute=60, rate_store=dg.EnvVar("ACME_NOT_SET"))
    with pytest.raises(ConfigurationError, match=r"ACME_NOT_SET \(rate_store of NexioResource\) is not set"):
        resource.client()


def component(**fields: Any) -> RunopsComponent:
    return RunopsComponent(provider="nexio", assets=[], checks=[], sensors=[], **fields)


def test_the_component_hands_it_to_its_resource(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_STORE", STORE)
    monkeypatch.setenv("NEXIO_API_KEY", "k")
    resource = component(requests_per_minute=60, processes=3, rate_store_env_var="ACME_STORE").build_resource()
    with resource.client() as client:
        assert client._session.rate.store == Secret(STORE)
        assert client._session.rate.processes == 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"processes": 3}, "processes: is set without requests_per_minute"),
        ({"rate_store_env_var": "A"}, "rate_store_env_var: is set without requests_per_minute"),
        ({"requests_per_minute": 60, "processes": 0}, "must be more than 0"),
        ({"requests_per_minute": 60, "rate_store_env_var": STORE}, "must be the NAME of an environment variable"),
    ],
)
def test_the_component_names_the_field_that_cannot_be_used(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        component(**fields)
    assert "canary" not in str(caught.value)
