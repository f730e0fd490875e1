"""No local of a frame that an error came through holds the key or a payload, whatever fails and wherever."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import pytest
from pytest_mock import MockerFixture

from runops.cli import commands
from runops.cli import main as run_command
from runops.core import AsyncRunClient, ConfigurationError, Provider, RunClient, RunopsError, find
from runops.core.declaration import BEARER
from runops.core.declaration.routes import Request
from runops.core.model.secret import Opaque, Secret
from runops.core.polling import dispatch
from runops.core.transport.base import Answer
from runops.core.transport.http1_pool import Http1Pool
from runops.core.transport.httpx_pool import HttpxPool
from runops.core.transport.session import Session
from tests.canaries import frames
from tests.canaries import troubled_service as service
from tests.services import trying_twice

pytestmark = [pytest.mark.http, pytest.mark.usefixtures("without_pauses")]


KEY, PAYLOAD = service.KEY, service.PAYLOAD
CANARIES = {"key": KEY, "payload": PAYLOAD}


def settings(troubled: str, way: str) -> dict[str, Any]:
    return {"token": KEY, **service.settings(troubled, way)}


CALLS: dict[str, Callable[[Any, str], Any]] = {
    "get": lambda client, way: client.get(client.ref(way)),
    "wait": lambda client, way: client.wait(client.ref(way), timeout=0.4, error_budget=0.2),
    "cancel": lambda client, way: client.cancel(client.ref(way)),
    "fetch_result": lambda client, way: client.fetch_result(client.ref(way)),
    "recent": lambda client, way: client.recent(way),
    "probe": lambda client, way: client.probe(),
    "submit": lambda client, way: client.submit(call(client.provider, way), timeout=0.4),
    "watch": lambda client, way: watched(client, way),
}


def call(provider: Provider, way: str) -> Any:
    return provider.call(workflow_id=way, payload={"text": PAYLOAD})


def watched(client: Any, way: str) -> Any:
    changes = client.watch(client.ref(way), timeout=0.4, error_budget=0.2)
    if isinstance(client, RunClient):
        return list(changes)

    async def each() -> list[Any]:
        return [change async for change in changes]

    return each()


def failure(act: Callable[[], Any]) -> BaseException | None:
    try:
        act()
    except RunopsError as error:
        return error
    return None


def check(error: BaseException, leaks: Any, **which: Any) -> None:
    assert leaks(CANARIES, frames.collected(error, without=__file__, **which)) == []


@pytest.mark.parametrize("way", service.WAYS)
@pytest.mark.parametrize("name", CALLS)
def test_a_client_that_fails_leaves_nothing_in_any_frame(troubled: str, leaks: Any, name: str, way: str) -> None:
    with RunClient(find("b3os"), **settings(troubled, way), **trying_twice()) as client:
        error = failure(lambda: CALLS[name](client, way))
    if way in ("closed", "tls", "s401", "s500"):
        assert error is not None or (way, name) in {(way, "probe")}
    if error is not None:
        check(error, leaks)


@pytest.mark.parametrize("way", service.WAYS)
@pytest.mark.parametrize(("name", "pool"), [*((name, "lean") for name in CALLS), ("wait", "httpx")])
def test_an_asyncio_client_that_fails_leaves_nothing_in_any_frame(
    troubled: str, leaks: Any, mocker: MockerFixture, name: str, pool: str, way: str
) -> None:
    if pool == "httpx":
        mocker.patch.object(dispatch, "open_pool", HttpxPool)

    async def scenario() -> None:
        async with AsyncRunClient(find("b3os"), **settings(troubled, way)) as client:
            await CALLS[name](client, way)

    error = failure(lambda: asyncio.run(scenario()))
    if way in ("closed", "tls", "s401", "s500"):
        assert error is not None or name == "probe"
    if error is not None:
        check(error, leaks)


WRONG: Mapping[str, dict[str, Any]] = {
    "a key with a line break": {"token": f"{KEY}\nX: 1"},
    "a key with a letter that no header takes": {"token": f"{KEY}é"},
    "no key but spaces": {"token": "  "},
    "a password in the address": {"base_url": f"https://user:{KEY}@api.example.org"},
    "an address that is none": {"base_url": f"user:{KEY}@[::1"},
    "an unknown option": {"options": {"nope": "x"}},
    "a timeout that is none": {"request_timeout": "soon"},
    "plain http": {"base_url": "http://192.0.2.1"},
    "a wrong user agent": {"user_agent": "x\r\ny"},
    "an unknown setting": {"colour": "red"},
}


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        *((kind, wrong) for kind in (RunClient, AsyncRunClient) for wrong in WRONG),
        # Only the clients make a session, and let go of an address that it refuses.
        *((Session, wrong) for wrong in WRONG if "address" not in wrong),
    ],
)
def test_a_wrong_setting_leaves_the_key_in_no_frame(leaks: Any, kind: Any, wrong: str) -> None:
    given = {"token": KEY, **WRONG[wrong]}
    with pytest.raises((ConfigurationError, TypeError)) as caught:
        kind(find("b3os"), **given)
    check(caught.value, leaks)


def test_wrong_arguments_of_a_submit_stay_in_no_frame(leaks: Any) -> None:
    for given in (
        {"workflow_id": "w", "payload": {"text": PAYLOAD, "at": object()}},
        {"workflow_id": "w", "payload": PAYLOAD},
        {"workflow_id": "", "payload": {"text": PAYLOAD}},
        {"payload": {"text": PAYLOAD}},
        {"workflow_id": "w", "payload": {}, "more": PAYLOAD},
    ):
        with pytest.raises(ConfigurationError) as caught:
            find("b3os").call(**given)
        check(caught.value, leaks)


class Interrupted(BaseException):
    """What a signal's handler, a debugger or a fault of ours raises anywhere."""


@pytest.mark.parametrize(
    "place",
    [
        "declaration.decode.Reader.observe",
        "declaration.provider.Provider.payload",
        "declaration.decode.decoded",
        "transport.session.Session.judge",
        "transport.session.from_answer",
        "transport.retry._code_and_message",
        "transport.httpx_pool._headers",
        "model.states.StateTable.read",
        "waiting.steps.without_frames",
    ],
)
@pytest.mark.parametrize("name", ["get", "wait", "fetch_result", "recent"])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_an_interrupt_anywhere_shows_neither_key_nor_body_in_a_frame_of_ours(
    troubled: str, leaks: Any, mocker: MockerFixture, kind: str, name: str, place: str
) -> None:
    mocker.patch(f"runops.core.{place}", side_effect=Interrupted)
    way = "s500" if "_code_and_message" in place or "from_answer" in place or "without" in place else "fine"

    async def scenario() -> None:
        async with AsyncRunClient(find("b3os"), **settings(troubled, way)) as client:
            await CALLS[name](client, way)

    def plainly() -> None:
        with RunClient(find("b3os"), **settings(troubled, way)) as client:
            CALLS[name](client, way)

    try:
        plainly() if kind == "sync" else asyncio.run(scenario())
    except Interrupted as error:
        check(error, leaks, only="runops/core")
    except RunopsError as error:
        check(error, leaks)


@pytest.mark.parametrize("name", ["get", "wait"])
def test_a_cancelled_request_shows_no_key_in_a_frame_of_ours(troubled: str, leaks: Any, name: str) -> None:
    async def scenario() -> None:
        async with AsyncRunClient(find("b3os"), **settings(troubled, "slow")) as client:
            async with asyncio.timeout(service.SECONDS / 3):
                await CALLS[name](client, "slow")

    with pytest.raises(TimeoutError) as caught:
        asyncio.run(scenario())
    check(caught.value, leaks, only="runops/core")


@pytest.mark.parametrize("way", service.WAYS)
def test_the_command_line_that_fails_leaves_nothing_in_any_frame(
    troubled: str, leaks: Any, monkeypatch: pytest.MonkeyPatch, mocker: MockerFixture, way: str
) -> None:
    monkeypatch.setenv("B3OS_API_KEY", KEY)
    monkeypatch.setenv("B3OS_BASE_URL", service.address(troubled, way))
    errors: list[BaseException] = []
    mocker.patch.object(commands, "complain", errors.append)
    for arguments in (["get", "b3os", way], ["cancel", "b3os", way]):
        run_command(arguments)
    for bad in ("https://user:hunter2-canary-key@api.example.org", "http://192.0.2.1"):
        monkeypatch.setenv("B3OS_BASE_URL", bad)
        assert run_command(["get", "b3os", way]) == 2
    assert len(errors) >= 2
    for error in errors:
        check(error, leaks)


# --- what holds them -------------------------------------------------------------------------------------------


def test_a_secret_shows_a_mask_and_does_not_travel(leaks: Any) -> None:
    secret = Secret(f" {KEY}\n")
    assert secret.reveal() == KEY
    texts = [str(secret), repr(secret), f"{secret}", f"{secret!r}", repr([secret]), repr({"t": secret})]
    assert leaks(CANARIES, [*texts, repr(vars(secret)), *frames.shown(secret), repr(vars(Secret))]) == []
    assert copy.copy(secret) is secret
    assert copy.deepcopy({"a": secret})["a"] is secret
    for travel in (pickle.dumps, json.dumps):
        with pytest.raises(TypeError):
            travel(secret)
    assert secret == Secret(KEY)
    assert secret != KEY
    assert len({secret, Secret(KEY), Secret("other")}) == 2
    assert not Secret(None)
    assert not Secret("  ")
    assert not Secret(17)


def test_answers_bodies_and_prepared_requests_show_no_more_than_their_size(leaks: Any) -> None:
    content = Opaque(f"{PAYLOAD} {KEY}".encode() * 9)
    answer = Answer(200, {"set-cookie": PAYLOAD}, content)
    assert repr(answer) == f"Answer(200, {len(content)} bytes)"
    assert f"{content}" == repr(content) == f"<{len(content)} bytes>"
    assert content[0] == ord("c")
    session = Session(find("b3os"), token=KEY)
    request = session.prepare(Request("POST", "/v1/runs", "test", json={"text": PAYLOAD}))
    prepared = [Http1Pool(session.root, max_connections=1).prepare(request), request]
    things: list[Any] = [answer, content, content[:40], session, request, *prepared, BEARER, find("b3os").body]
    body = find("b3os").body.model_validate({"id": "r", "status": "s", "triggerSource": PAYLOAD})
    assert leaks(CANARIES, [text for thing in [*things, body] for text in frames.shown(thing)]) == []
    assert KEY.encode() in bytes(prepared[0].message)


def test_the_key_reaches_the_header_from_a_text_and_from_a_secret() -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["authorization"])
        return httpx.Response(200, json={"data": {"id": "r", "status": "running"}})

    for token in (KEY, Secret(KEY), f" {KEY}\n"):
        client = RunClient(find("b3os"), token=token, transport=httpx.MockTransport(answer))
        client.get(client.ref("r"))
    assert seen == [f"Bearer {KEY}"] * 3


def test_the_search_looks_into_frames(leaks: Any) -> None:
    def failing(token: str, settings: dict[str, Any]) -> None:
        deep = [{"a": ({"b": token},)}]
        raise ValueError(len(deep) + len(settings))

    def again() -> None:
        try:
            failing(KEY, {"x": 1})
        except ValueError:
            raise KeyError("x") from None

    with pytest.raises(KeyError) as caught:
        again()
    found = leaks(CANARIES, frames.collected(caught.value))
    assert any("failing token" in place for place in found)
    assert any("failing deep" in place for place in found)
    assert any("capture_locals" in place for place in found)
