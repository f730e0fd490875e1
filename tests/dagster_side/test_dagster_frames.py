"""No local of a frame that a resource's error came through holds the key or a payload."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pydantic import ValidationError

from runops.core import AsyncRunClient, ConfigurationError, RunClient
from runops.dagster import B3osResource, RunResource, keys, wait_for_run


def _canaries(name: str) -> Any:
    path = Path(__file__).resolve().parents[1] / "canaries" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"canaries_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


frames = _canaries("frames")
search = _canaries("search")
service = _canaries("troubled_service")
KEY, PAYLOAD = service.KEY, service.PAYLOAD
WAYS = (*service.STATUSES, *service.BROKEN, "slow", "closed", "tls")


@pytest.fixture(scope="module")
def root() -> Iterator[str]:
    with service.serving() as address:
        yield address


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("flows", "submission"):
        monkeypatch.setattr(f"runops.core.waiting.{place}.pause_after", lambda error, attempt: 0.02)
    monkeypatch.setattr("runops.core.waiting.submission.SUBMIT_PATIENCE", 0.1)
    for kind in (RunClient, AsyncRunClient):
        defaults: Any = kind.submit.__kwdefaults__
        monkeypatch.setitem(defaults, "submit_grace", 0.05)


def check(error: BaseException, only: str = "") -> None:
    canaries = {"key": KEY, "payload": PAYLOAD}
    assert search.find_leaks(canaries, frames.collected(error, without=__file__, only=only)) == []


def resource(root: str, way: str, key: Any = KEY, **settings: Any) -> B3osResource:
    at = {"closed": service.closed_address, "tls": lambda: root.replace("http:", "https:")}.get(way, lambda: root)()
    given = {"base_url": at, "request_timeout": service.SECONDS, "max_response_bytes": service.LIMIT, **settings}
    return B3osResource(api_key=key, **given)


ACTS: dict[str, Callable[[B3osResource, str], Any]] = {
    "get": lambda runs, way: runs.get(way),
    "wait": lambda runs, way: runs.wait(way, timeout=0.4, error_budget=0.2),
    "submit": lambda runs, way: runs.submit(workflow_id=way, payload={"text": "the own words of who submits"}),
    "fetch_result": lambda runs, way: runs.fetch_result(way),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("key", ["text", "variable"])
def test_a_resource_that_fails_leaves_nothing_in_any_frame(
    root: str, monkeypatch: pytest.MonkeyPatch, key: str, act: str, way: str
) -> None:
    monkeypatch.setenv("FRAMES_KEY", KEY)
    runs = resource(root, way, dg.EnvVar("FRAMES_KEY") if key == "variable" else KEY)
    try:
        ACTS[act](runs, way)
    except Exception as error:
        check(error)
    else:
        assert (act, way) not in {("get", "closed"), ("get", "s401"), ("get", "tls"), ("get", "html")}


@pytest.mark.parametrize(
    "wrong",
    [
        {"base_url": "http://192.0.2.1"},
        {"request_timeout": -1.0},
        {"max_response_bytes": "many"},
        {"key": f"{KEY}é"},
    ],
)
def test_a_wrong_setting_leaves_the_key_in_no_frame_of_ours_or_of_dagster(root: str, wrong: dict[str, Any]) -> None:
    with pytest.raises((ConfigurationError, ValidationError)) as caught:
        resource(root, "fine", **wrong).get("fine")
    check(caught.value)


def test_a_step_that_fails_leaves_nothing_in_a_frame_of_ours(root: str) -> None:
    caught: list[BaseException] = []

    @dg.op
    def waiting(context, runs: B3osResource) -> None:
        try:
            wait_for_run(context, runs, ref=runs.ref("s401"))
        except Exception as error:
            caught.append(error)

    @dg.job(resource_defs={"runs": resource(root, "s401")})
    def job() -> None:
        waiting()

    assert job.execute_in_process().success
    assert len(caught) == 1
    check(caught[0], only="runops/")


def test_a_key_is_held_only_in_its_own_type() -> None:
    runs = RunResource(provider="b3os", api_key=KEY)
    secret, field = keys.reveal(runs.api_key, field="api_key of RunResource")
    assert secret.reveal() == KEY
    assert field == "api_key of RunResource"
    shown = [*frames.shown(runs), *frames.shown(vars(runs)), *frames.shown(vars(keys)["_held"]), repr((secret, field))]
    assert search.find_leaks({"key": KEY}, shown) == []
