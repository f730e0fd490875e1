"""The API of a host: read again after a passing error, changed once, and never quoted in an error."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from runops.core.model.errors import (
    AuthError,
    ConfigurationError,
    ConnectionFailed,
    FinalError,
    MalformedAnswer,
    ServerTrouble,
)
from runops.core.model.secret import Secret
from runops.core.transport.json_api import READ_TRIES, JsonApi

PASSWORD = "canary-pw-81c"


class Api:
    """Answers in order; the last one stays."""

    def __init__(self, *answers: httpx.Response) -> None:
        self.answers = list(answers)
        self.asked: list[httpx.Request] = []
        self.slept: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    def client(self, token: str | None = "key") -> JsonApi:
        return JsonApi(
            "https://airflow.example.com",
            title="Airflow",
            path="/api/v2",
            token=None if token is None else Secret(token),
            origin="AIRFLOW_TOKEN",
            absent="No such DAG run",
            secrets=(Secret(PASSWORD),),
            transport=httpx.MockTransport(self),
            sleep=self.slept.append,
        )


def good(value: Any) -> httpx.Response:
    return httpx.Response(200, json=value)


def test_a_read_is_signed_and_stands_below_the_path_of_the_api() -> None:
    api = Api(good({"dags": []}))
    with api.client() as client:
        assert client.get("/dags", {"tags": ["a", "b"]}) == {"dags": []}
    (request,) = api.asked
    assert str(request.url) == "https://airflow.example.com/api/v2/dags?tags=a&tags=b"
    assert request.headers["authorization"] == "Bearer key"
    assert "key" not in repr(client)


def test_without_a_token_no_credential_is_sent() -> None:
    api = Api(good([]))
    api.client(None).get("/version")
    assert "authorization" not in api.asked[0].headers


def test_a_read_is_repeated_after_passing_errors_and_as_late_as_the_service_wishes() -> None:
    api = Api(httpx.Response(503), httpx.Response(429, headers={"Retry-After": "7"}), good(1))
    assert api.client().get("/dags") == 1
    assert len(api.slept) == 2
    assert api.slept[1] == 7.0


def test_a_read_is_given_up_after_some_tries() -> None:
    api = Api(httpx.Response(503))
    with pytest.raises(ServerTrouble):
        api.client().get("/dags")
    assert (len(api.asked), len(api.slept)) == (READ_TRIES, READ_TRIES - 1)


@pytest.mark.parametrize("below", [True, False])
def test_what_changes_something_is_sent_once(below: bool) -> None:
    api = Api(httpx.Response(503))
    with pytest.raises(ServerTrouble):
        api.client().send("POST", "/token", lambda: {"password": PASSWORD}, below=below)
    (request,) = api.asked
    assert request.url.path == ("/api/v2/token" if below else "/token")
    assert json.loads(request.content) == {"password": PASSWORD}
    assert api.slept == []


def test_an_empty_answer_is_nothing() -> None:
    assert Api(httpx.Response(204)).client().send("DELETE", "/dags/d", dict) is None


@pytest.mark.parametrize(
    ("status", "kind", "says"),
    [(401, AuthError, "AIRFLOW_TOKEN"), (404, FinalError, "No such DAG run"), (302, FinalError, "302")],
)
def test_a_refusal_says_what_it_means_and_holds_no_secret(status: int, kind: type[Exception], says: str) -> None:
    headers = {"Location": "https://elsewhere.example.com"} if status == 302 else {}
    api = Api(httpx.Response(status, headers=headers, json={"detail": f"bad password {PASSWORD}"}))
    with pytest.raises(kind, match=says) as caught:
        api.client().get("/dags")
    assert PASSWORD not in str(caught.value)
    assert len(api.asked) == 1


@pytest.mark.parametrize("content", [f"<html>{PASSWORD}</html>".encode(), b"[" * 100_000], ids=["a page", "too deep"])
def test_what_is_no_json_is_malformed_and_stands_behind_no_error(content: bytes) -> None:
    ask: Callable[[], Any] = lambda: Api(httpx.Response(200, content=content)).client().send("GET", "/dags", dict)  # noqa: E731
    with pytest.raises(MalformedAnswer, match="no JSON") as caught:
        ask()
    assert PASSWORD not in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None


def test_its_own_connections_are_closed_at_the_end_and_made_anew_when_it_goes_on() -> None:
    client = JsonApi("http://127.0.0.1:9", title="Airflow", path="/api/v2", token=None, origin="", sleep=lambda _: None)
    for _ in range(2):
        with client, pytest.raises(ConnectionFailed):
            client.get("/dags")


def test_an_address_of_another_machine_is_not_reached_in_plain_text() -> None:
    with pytest.raises(ConfigurationError, match="http"):
        JsonApi("http://airflow.example.com", title="Airflow", path="/api/v2", token=None, origin="")
