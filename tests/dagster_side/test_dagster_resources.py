"""What resources show and keep to themselves, what each can do, and what they say when a setting is wrong."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_representation.external_data import RepositorySnap
from pydantic import ValidationError

import runops.dagster
from runops.core import AuthError, Call, ConfigurationError, NotSupported, Outcome, find
from runops.core.model.errors import ConnectionFailed
from runops.dagster import (
    B3osResource,
    NexioResource,
    NyxResource,
    OnepinResource,
    ProviderResource,
    RunResource,
    build_run_asset,
)
from runops.dagster.providers import RESOURCES
from tests.canaries.search import find_leaks

KEY = "canary-key-5f2b9c7e1d"
NAMED: list[type[ProviderResource]] = [getattr(runops.dagster, name) for name in RESOURCES]
CALLS: dict[type[ProviderResource], dict[str, Any]] = {
    NexioResource: {"engine_slug": "placement", "input": {}},
    NyxResource: {
        "config_name": "nightly",
        "name": "Nightly audit",
        "target": {"url": "https://agent.example.com"},
        "objective": "make it tell its instructions",
        "budget_usd": 5,
        "severity_target": "high",
    },
    OnepinResource: {"workflow_id": "7c9e6679-7425-40de-944b-e07fc1f90ae7"},
    B3osResource: {"workflow_id": "wf_1"},
}


@pytest.mark.parametrize("given", ["variable", "literal"])
def test_a_key_is_neither_in_repr_nor_in_the_snapshot_nor_in_the_log(
    service: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("ACME_NEXIO_KEY", KEY)
    runs = service("nexio")
    api_key: Any = dg.EnvVar("ACME_NEXIO_KEY") if given == "variable" else KEY
    runs.resource = NexioResource(api_key=api_key, base_url=runs.base_url)
    asset = build_run_asset(key="external", resource_key="nexio", call={"engine_slug": "e", "input": {}})
    definitions = dg.Definitions(assets=[asset], resources={"nexio": runs.resource})
    snapshot = RepositorySnap.from_def(definitions.get_repository_def())
    shown: list[str] = []

    @dg.asset(required_resource_keys={"nexio"})
    def look(context) -> None:
        shown.append(f"{context.resources.nexio!r} {context.resources.nexio} {context.resources.nexio.model_dump()}")

    ended = runs.materialize(asset, look)
    assert ended.materialized == ["external", "look"]
    texts = {
        "repr": repr(runs.resource),
        "snapshot": dg.serialize_value(snapshot),
        "log": ended.log,
        "in the step": shown[0],
    }
    assert find_leaks({"the key": KEY}, texts) == []
    (accepted,) = {request["key"] for request in runs.emulator.requests(provider="nexio")}
    assert accepted == "accepted"
    if given == "variable":
        assert "ACME_NEXIO_KEY" in texts["snapshot"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_resource_that_was_used_works_in_a_process_forked_from_its_own(service: Callable[[str], Any]) -> None:
    runs = service("nexio")
    run_id = runs.emulator.create_run("nexio", script="succeeded", seconds=0)
    assert runs.resource.wait(run_id).outcome is Outcome.SUCCEEDED
    reads, writes = os.pipe()
    with warnings.catch_warnings():
        # Python warns that threads do not come along.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            said = str(runs.resource.wait(run_id).outcome)
        except BaseException as error:
            said = repr(error)
        os.write(writes, said.encode())
        os._exit(0)
    os.close(writes)
    with os.fdopen(reads, "rb") as pipe:
        assert pipe.read() == b"succeeded"
    os.waitpid(child, 0)
    assert runs.resource.get(run_id).outcome is Outcome.SUCCEEDED


def test_a_bad_key_fails_for_good_and_names_the_variable(
    service: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACME_NYX_TOKEN", "invalid-canary-key")
    runs = service("nyx")
    runs.resource = NyxResource(api_key=dg.EnvVar("ACME_NYX_TOKEN"), base_url=runs.base_url)
    asset = build_run_asset(key="external", resource_key="nyx", run_id="r", retry_policy=dg.RetryPolicy(max_retries=2))
    ended = runs.materialize(asset)
    assert "environment variable ACME_NYX_TOKEN" in ended.failure.description
    assert "invalid-canary-key" not in ended.log
    assert len(runs.emulator.requests(provider="nyx")) == 1


def test_a_literal_key_is_named_by_its_field(service: Callable[[str], Any]) -> None:
    resource = NexioResource(api_key="forbidden-canary-key", base_url=service("nexio").base_url)
    with pytest.raises(AuthError, match="api_key of NexioResource") as raised:
        resource.get("r")
    assert "forbidden-canary-key" not in str(raised.value)


def test_a_variable_works_outside_a_run_and_is_named_when_it_is_not_set(
    service: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = service("b3os")
    resource = B3osResource(api_key=dg.EnvVar("ACME_B3OS_KEY"), base_url=runs.base_url)
    with pytest.raises(ConfigurationError, match="environment variable ACME_B3OS_KEY"):
        resource.get("r")
    monkeypatch.setenv("ACME_B3OS_KEY", KEY)
    assert resource.get(runs.made(script="succeeded", age_seconds=60).run_id).outcome is Outcome.SUCCEEDED


def test_a_stand_in_for_a_key_of_another_process_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"use dg\.EnvVar"):
        NexioResource(api_key="hidden-0123456789abcdef").get("r")


def test_a_wrong_setting_never_quotes_the_key() -> None:
    with pytest.raises(ValueError, match="provider") as raised:
        RunResource(api_key=KEY)  # pyright: ignore[reportCallIssue]
    assert KEY not in str(raised.value)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"base_url": "http://api.example.com"}, "in the clear"),
        ({"base_url": "https://user:pass@api.example.com"}, "user, password"),
        ({"request_timeout": -1.0}, "request_timeout"),
        ({"requests_per_minute": 0.0}, "requests_per_minute"),
        ({"max_response_bytes": 0}, "max_response_bytes"),
    ],
)
def test_a_bad_setting_is_refused_before_anything_is_sent(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        NexioResource(api_key=KEY, **settings).get("r")


@pytest.mark.parametrize("kind", NAMED)
def test_a_missing_ability_is_a_missing_method(kind: type[ProviderResource]) -> None:
    declaration = kind(api_key=KEY).declaration
    assert hasattr(kind, "submit") is hasattr(kind, "call") is (declaration.submit is not None)
    assert hasattr(kind, "cancel") is (declaration.cancel is not None)
    assert hasattr(kind, "recent") is (declaration.listing is not None)
    for method in ("get", "wait", "fetch_result", "client", "ref"):
        assert hasattr(kind, method)


@pytest.mark.parametrize(("kind", "arguments"), CALLS.items(), ids=lambda v: v.__name__ if isinstance(v, type) else "")
def test_a_resource_submits_waits_and_reads(
    service: Callable[[str], Any], kind: Any, arguments: dict[str, Any]
) -> None:
    runs = service(kind(api_key=KEY).declaration.name)
    resource = runs.resource
    call = resource.call(**arguments)
    assert isinstance(call, Call)
    ref = resource.submit(**arguments)
    assert resource.get(ref).phase is not None
    assert resource.wait(ref, timeout=600).outcome is Outcome.SUCCEEDED
    assert resource.fetch_result(ref)
    if runs.parents:
        assert resource.get(ref.run_id, runs.parents["workflow_id"]).run_ended
    else:
        assert resource.get(ref.run_id).run_ended
    if hasattr(resource, "recent"):
        (parent,) = call.parent.values()
        assert [run.ref.run_id for run in resource.recent(parent)] == [ref.run_id]
    if hasattr(resource, "cancel"):
        again = resource.submit(**arguments)
        resource.cancel(again)
        assert resource.wait(again, timeout=600).outcome is Outcome.CANCELLED


def test_nekt_lists_by_one_kind_of_parent(service: Callable[[str], Any]) -> None:
    runs = service("nekt")
    runs.made(script="succeeded", parents={"pipeline": "orders"})
    assert len(runs.resource.recent("orders")) == 1
    with pytest.raises(ConfigurationError, match="exactly one"):
        runs.resource.recent("orders", source="crm")


def test_onepin_needs_the_workflow_of_a_run(service: Callable[[str], Any]) -> None:
    with pytest.raises(ConfigurationError, match="workflow_id is missing"):
        service("onepin").resource.get("3fa85f64-5717-4562-b3fc-2c963f66afa6")


def test_the_generic_resource_serves_any_declaration(service: Callable[[str], Any]) -> None:
    runs = service("onepin")
    resource = RunResource(provider="onepin", api_key=KEY, base_url=runs.base_url)
    ref = resource.submit(resource.call(**CALLS[OnepinResource]))
    assert resource.wait(ref.run_id, ref.parents, timeout=600).outcome is Outcome.SUCCEEDED
    assert RunResource(provider="runops.core.providers.nyx:NYX", api_key=KEY).declaration is find("nyx")
    with pytest.raises(NotSupported):
        RunResource(provider="nekt", api_key=KEY).call(pipeline="orders")
    with pytest.raises(ConfigurationError, match="no provider 'acme'"):
        RunResource(provider="acme", api_key=KEY).get("r")


def test_a_workspace_goes_out_only_where_it_is_set(service: Callable[[str], Any]) -> None:
    runs = service("onepin")
    ref = runs.made(script="succeeded")
    resource = OnepinResource(api_key=KEY, base_url=runs.base_url, workspace_id="11111111-2222-4333-8444-555555555555")
    with pytest.raises(AuthError):
        resource.get(ref)
    assert runs.resource.get(ref).state is not None


def test_every_public_name_can_be_had() -> None:
    assert sorted(runops.dagster.__all__) == runops.dagster.__all__
    for name in runops.dagster.__all__:
        assert getattr(runops.dagster, name).__name__ == name
    assert set(runops.dagster.__all__) <= set(dir(runops.dagster))
    with pytest.raises(AttributeError, match="no attribute 'NoSuch'"):
        _ = runops.dagster.NoSuch


def test_the_package_imports_no_host_and_says_what_to_install() -> None:
    script = textwrap.dedent("""
        import sys
        sys.modules["dagster"] = None
        import runops.dagster
        assert "runops.dagster.step.wait" not in sys.modules
        try:
            runops.dagster.wait_for_run
        except ImportError as error:
            assert "pip install 'runops[dagster]'" in str(error), error
        else:
            raise SystemExit("no error")
    """)
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)


def test_no_secret_or_personal_field_of_a_run_is_written_anywhere(
    service: Callable[[str], Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    canaries = {
        "the key": KEY,
        "triggered_by_token": "canary-trigger-7a1e5c",
        "e-mail": "canary.person@example.com",
        "input": "canary-input-9d3b1f",
        "output": "canary-output-4c8e2a",
        "target credentials": "canary-target-2f6d0b",
    }
    token, mail, given, output, credentials = list(canaries.values())[1:]
    written: dict[str, str] = {}

    nekt = service("nekt")
    secret = {"triggered_by_token": token, "triggered_by": {"email": mail}}
    watched = build_run_asset(key="a", resource_key="nekt", run_id=nekt.made(script="failed", fields=secret).run_id)
    written["nekt"] = nekt.materialize(watched).log
    calls: dict[str, dict[str, Any]] = {
        "nexio": {
            "engine_slug": "placement",
            "input": {
                "who": mail,
                "note": given,
                "emulator": {"script": "failed", "fields": {"output": {"x": output}}},
            },
        },
        "nyx": {**CALLS[NyxResource], "target": {"url": "https://agent.example.com", "credentials": credentials}},
        "b3os": {"workflow_id": "wf_1", "payload": {"note": given, "emulator": {"script": "failed_secret"}}},
    }
    for name, arguments in calls.items():
        runs = service(name)
        ended = runs.materialize(build_run_asset(key="a", resource_key=name, call=arguments))
        written[name] = ended.log
        assert runs.submits == 1
    written["logs"] = caplog.text
    assert all(written.values())
    assert find_leaks(canaries, written) == []


def test_a_service_that_cannot_be_reached_is_named_with_its_resource_and_the_cause() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{probe.getsockname()[1]}"
        # Bound, and nobody listens.
        resource = NexioResource(api_key=KEY, base_url=f"http://{place}")
        with pytest.raises(ConnectionFailed) as caught:
            resource.get("r1")
    assert str(caught.value) == (
        f"No connection to Nexio at {place} (NexioResource): connection refused. "
        "Check the base URL (the host), and whether this machine can reach it. [no-connection]"
    )


@pytest.mark.parametrize("field", ["api_key", "base_url", "proxy"])
def test_a_setting_of_the_wrong_type_is_refused_without_being_shown(field: str) -> None:
    given = {"api_key": "key", field: {"of": "canary-pw-81c"}}
    with pytest.raises(ValidationError) as raised:
        NexioResource(**given)
    assert field in str(raised.value)
    assert "canary-pw-81c" not in str(raised.value)


@pytest.mark.parametrize("kind", [*NAMED, RunResource])
def test_every_field_of_a_resource_says_what_it_is(kind: type[ProviderResource]) -> None:
    assert [name for name, field in kind.model_fields.items() if not field.description] == []
