"""No local of a frame that a resource's error came through holds the key or a payload."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest
from pydantic import ValidationError
from pytest_mock import MockerFixture

from runops.core import ConfigurationError, RunClient
from runops.dagster import B3osResource, ProviderResource, RunResource, keys, wait_for_run
from tests.canaries import frames, search
from tests.canaries import troubled_service as service
from tests.services import trying_twice

pytestmark = pytest.mark.usefixtures("without_pauses")


KEY, PAYLOAD = service.KEY, service.PAYLOAD


def check(error: BaseException, only: str = "") -> None:
    canaries = {"key": KEY, "payload": PAYLOAD}
    assert search.find_leaks(canaries, frames.collected(error, without=__file__, only=only)) == []


def resource(troubled: str, way: str, key: Any = KEY, **settings: Any) -> B3osResource:
    return B3osResource(api_key=key, **{**service.settings(troubled, way), **settings})


ACTS: dict[str, Callable[[B3osResource, str], Any]] = {
    "get": lambda runs, way: runs.get(way),
    "wait": lambda runs, way: runs.wait(way, timeout=0.4, error_budget=0.2),
    "submit": lambda runs, way: runs.submit(
        workflow_id=way, payload={"text": "the own words of who submits"}, timeout=0.4
    ),
    "fetch_result": lambda runs, way: runs.fetch_result(way),
}


@pytest.fixture
def patient(mocker: MockerFixture) -> None:
    """The clients of a resource try twice, and their pauses take no time."""
    client = ProviderResource.client

    def on_a_clock(self: ProviderResource, **settings: Any) -> RunClient:
        return client(self, **{**settings, **trying_twice()})

    mocker.patch.object(ProviderResource, "client", on_a_clock)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("way", service.WAYS)
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("key", ["text", "variable"])
def test_a_resource_that_fails_leaves_nothing_in_any_frame(
    troubled: str, monkeypatch: pytest.MonkeyPatch, key: str, act: str, way: str
) -> None:
    monkeypatch.setenv("FRAMES_KEY", KEY)
    runs = resource(troubled, way, dg.EnvVar("FRAMES_KEY") if key == "variable" else KEY)
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
def test_a_wrong_setting_leaves_the_key_in_no_frame_of_ours_or_of_dagster(troubled: str, wrong: dict[str, Any]) -> None:
    with pytest.raises((ConfigurationError, ValidationError)) as caught:
        resource(troubled, "fine", **wrong).get("fine")
    check(caught.value)


def test_a_step_that_fails_leaves_nothing_in_a_frame_of_ours(troubled: str) -> None:
    caught: list[BaseException] = []

    @dg.op
    def waiting(context, runs: B3osResource) -> None:
        try:
            wait_for_run(context, runs, ref=runs.ref("s401"))
        except Exception as error:
            caught.append(error)

    @dg.job(resource_defs={"runs": resource(troubled, "s401")})
    def job() -> None:
        waiting()

    assert job.execute_in_process().success
    assert len(caught) == 1
    check(caught[0], only="runops/")


def test_a_key_is_held_only_in_its_own_type() -> None:
    runs = RunResource(provider="b3os", api_key=KEY)
    secret, field = keys.reveal(runs.api_key or "", field="api_key of RunResource")
    assert secret.reveal() == KEY
    assert field == "api_key of RunResource"
    shown = [*frames.shown(runs), *frames.shown(vars(runs)), *frames.shown(vars(keys)["_held"]), repr((secret, field))]
    assert search.find_leaks({"key": KEY}, shown) == []
