"""A key that is rotated while steps wait: what the variable or the file holds by then is used, and no step is lost."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from runops.core import ConfigurationError
from runops.dagster import NyxResource, _compat, build_run_asset, keys
from runops.emulator.keys import id_of
from tests.services import CALLS, PROVIDERS, SUBMITTING, Clock

OLD, NEW = "canary-old-key-41d7e0aa9c", "canary-new-key-c20f5b7713"
VARIABLE = "ACME_ROTATED_KEY"
KINDS = ("variable", "resolved", "file", "dotenv")


class Rotation:
    """Rotates the key of a resource: revoked at one moment, changed where it is set at another."""

    def __init__(self, service: Any, clock: Clock, monkeypatch: Any, kind: str, path: Path) -> None:
        self.service, self.clock, self.kind = service, clock, kind
        self._set = lambda key: monkeypatch.setenv(VARIABLE, key)
        self._path = path / (".env" if kind == "dotenv" else "key")
        self.revoked_at = float("inf")
        self._write(OLD)
        if kind == "dotenv":
            self._set(OLD)
        given: dict[str, Any] = {
            "variable": {"api_key": dg.EnvVar(VARIABLE)},
            "resolved": {"api_key": OLD},
            "dotenv": {"api_key": dg.EnvVar(VARIABLE)},
            "file": {"api_key_file": str(self._path)},
        }[kind]
        keys.hide(dg.EnvVar(VARIABLE))
        service.resource = type(service.resource)(base_url=service.base_url, **given)

    def _write(self, key: str) -> None:
        match self.kind:
            case "file":
                self._path.write_text(f"{key}\n")
            case "dotenv":
                self._path.write_text(f"{VARIABLE}={key}\n")
            case _:
                self._set(key)

    def at(self, revoked: float, changed: float | None) -> None:
        left: list[tuple[float, Callable[[], None]]] = [(revoked, self._revoke)]
        if changed is not None:
            left.append((changed, lambda: self._write(NEW)))

        def on_sleep(seconds: float) -> None:
            for each in [each for each in left if each[0] <= self.clock.passed + seconds]:
                left.remove(each)
                each[1]()

        self.clock.on_sleep = on_sleep

    def _revoke(self) -> None:
        self.revoked_at = self.clock()
        self.service.emulator.set_key(OLD, "revoked")

    def late_uses_of_the_old_key(self) -> list[float]:
        sent = self.service.emulator.requests(key_id=id_of(OLD))
        return [each["time"] - self.revoked_at for each in sent if each["time"] > self.revoked_at + 60]


@pytest.fixture
def rotation(service: Any, clock: Clock, monkeypatch: Any, tmp_path: Path) -> Callable[..., Rotation]:
    monkeypatch.chdir(tmp_path)
    keys._named.clear()
    return lambda name, kind: Rotation(service(name), clock, monkeypatch, kind, tmp_path)


@pytest.fixture
def loads_dotenv(monkeypatch: Any, tmp_path: Path) -> None:
    """Reads ``.env`` as an instance with a secrets loader of Dagster's does."""

    def inject(self: dg.DagsterInstance, location: str | None) -> None:
        for line in (tmp_path / ".env").read_text().splitlines() if (tmp_path / ".env").exists() else []:
            monkeypatch.setenv(*line.split("="))

    monkeypatch.setattr(dg.DagsterInstance, "inject_env_vars", inject)


@pytest.mark.usefixtures("loads_dotenv")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_step_goes_on_with_the_key_that_stands_there(rotation: Any, provider: str, kind: str) -> None:
    made = rotation(provider, kind)
    made.at(100, 100 if kind == "resolved" else 140)
    ref = made.service.made(seconds=600)
    asset = build_run_asset(key="a", resource_key=provider, run_id=ref.run_id, parents=ref.parents or None)
    ended = made.service.materialize(asset)
    assert ended.success, ended.failures
    assert made.late_uses_of_the_old_key() == []
    assert OLD not in ended.log
    assert NEW not in ended.log


def test_dagsters_own_loader_reads_the_env_file_of_a_project_again(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("DAGSTER_PROJECT_ENV_FILE_PATHS", json.dumps({"host": str(tmp_path)}))
    monkeypatch.setenv(VARIABLE, OLD)
    (tmp_path / ".env").write_text(f"{VARIABLE}={NEW}\n")
    with dg.DagsterInstance.local_temp() as instance:
        run = SimpleNamespace(remote_job_origin=SimpleNamespace(location_name="host"))
        context: Any = SimpleNamespace(instance=instance, run=run)
        _compat.reload_environment(context)
        assert os.environ[VARIABLE] == NEW
        os.environ[VARIABLE] = OLD
        run.remote_job_origin.location_name = "another"
        _compat.reload_environment(context)
        assert os.environ[VARIABLE] == OLD


@pytest.mark.parametrize("kind", ["variable", "file"])
def test_an_unchanged_key_fails_the_step_after_its_grace_and_says_so(rotation: Any, clock: Clock, kind: str) -> None:
    made = rotation("nexio", kind)
    made.at(100, None)
    asset = build_run_asset(key="a", resource_key="nexio", run_id=made.service.made(seconds=3000).run_id)
    ended = made.service.materialize(asset)
    assert not ended.success
    assert "refused for 300 s" in ended.log
    assert 400 <= clock.passed <= 500
    held = [line for line in ended.log.splitlines() if "it is read again every 30 s for up to 300 s" in line]
    assert held != []


def test_a_step_cancels_with_the_new_key(rotation: Any) -> None:
    made = rotation("nyx", "file")
    made.at(50, 50)
    made.service.emulator.set_defaults(script="succeeded", seconds=3000)
    asset = build_run_asset(key="a", resource_key="nyx", call=CALLS["nyx"], timeout=200, auth_grace=60)
    assert not made.service.materialize(asset).success
    assert [each["status"] for each in made.service.emulator.requests(action="cancel")] == [200]


@pytest.mark.parametrize("provider", SUBMITTING)
@pytest.mark.parametrize("kind", ["variable", "file"])
def test_a_try_that_takes_its_run_up_while_the_key_is_refused_waits_for_the_new_one(
    rotation: Any, clock: Clock, provider: str, kind: str
) -> None:
    made = rotation(provider, kind)
    made.service.emulator.set_defaults(script="succeeded", seconds=600)
    asset = build_run_asset(
        key="a", resource_key=provider, call=CALLS[provider], retry_policy=dg.RetryPolicy(max_retries=1)
    )
    rotated: list[None] = []

    def dies_once(seconds: float) -> None:
        if not rotated:
            rotated.append(None)
            made._revoke()
            made.at(0, clock.passed + 90)
            raise RuntimeError("the process is gone")

    clock.on_sleep = dies_once
    ended = made.service.materialize(asset)
    assert ended.success, ended.failures
    assert rotated
    assert len(made.service.emulator.requests(action="submit")) == 1
    assert made.late_uses_of_the_old_key() == []


@pytest.mark.parametrize("given", [{}, {"api_key": "k", "api_key_file": "f"}, {"api_key_file": ""}], ids=str)
def test_a_resource_without_a_place_for_its_key_or_with_two_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"api_key and api_key_file|api_key nor api_key_file"):
        NyxResource(**given)


def test_an_empty_key_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(ConfigurationError, match="api_key of NyxResource"):
        NyxResource(api_key="").get("r")


def test_a_file_that_is_missing_or_empty_is_named_and_nothing_is_sent(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"api_key_file of NyxResource: .*cannot be read"):
        NyxResource(api_key_file=str(tmp_path / "none")).get("r")
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(ConfigurationError, match="is empty"):
        NyxResource(api_key_file=str(tmp_path / "empty")).get("r")


def test_a_key_in_a_file_shows_itself_to_nobody(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(OLD)
    resource = NyxResource(api_key_file=str(path))
    with resource.client() as client:
        assert OLD not in repr(resource) + repr(client) + repr(vars(client)) + repr(keys.FileKey(str(path))())


def test_two_variables_with_one_key_are_not_taken_for_each_other(monkeypatch: Any) -> None:
    for name in ("ACME_A", "ACME_B"):
        keys.hide(dg.EnvVar(name))
        monkeypatch.setenv(name, "canary-shared-key-77")
    resource = NyxResource(api_key="canary-shared-key-77")
    monkeypatch.setenv("ACME_A", NEW)
    with resource.client() as client:
        assert client._session.token.reveal() == "canary-shared-key-77"


@pytest.mark.parametrize("wrong", [-1, "soon", float("inf")])
def test_a_wrong_grace_is_refused_when_definitions_are_loaded(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="auth_grace"):
        build_run_asset(key="a", resource_key="nyx", run_id="r", auth_grace=wrong)
