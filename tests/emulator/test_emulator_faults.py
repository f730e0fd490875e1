"""Each fault as a real HTTP client sees it."""

from __future__ import annotations

import email.utils
import socket
import time

import httpx
import pytest

from runops.emulator.server import running
from tests.services import SUBMITTING


@pytest.fixture(params=["httptools_impl.HttpToolsProtocol", "h11_impl.H11Protocol"])
def protocol(request, monkeypatch) -> None:
    module, name = request.param.split(".")
    implementation = pytest.importorskip(f"uvicorn.protocols.http.{module}")
    monkeypatch.setattr("uvicorn.protocols.http.auto.AutoHTTPProtocol", getattr(implementation, name))


@pytest.mark.usefixtures("protocol")
def test_resets_and_half_bodies_break_the_connection_under_both_http_parsers() -> None:
    with running() as server, httpx.Client(base_url=server.base_url("nexio")) as client:
        client.headers["authorization"] = "Bearer k"
        run_id = server.emulator.create_run("nexio")
        server.emulator.add_fault(kind="reset")
        server.emulator.add_fault(kind="half_body")
        server.emulator.add_fault(kind="half_body", when="before")
        with pytest.raises(httpx.ReadError, match="reset"):
            client.get(f"/api/v1/runs/{run_id}")
        for _ in range(2):
            with pytest.raises(httpx.RemoteProtocolError, match=r"incomplete|without sending complete"):
                client.get(f"/api/v1/runs/{run_id}")
        assert client.get(f"/api/v1/runs/{run_id}").status_code == 200
        statuses = [entry["status"] for entry in server.emulator.requests()]
    assert statuses == [None, 200, 200, 200]


def test_half_a_body_is_the_first_half_of_what_its_head_announces(call, served, emulator) -> None:
    whole = call("nexio", "GET", "/health").content
    emulator.add_fault(kind="half_body")
    received = b""
    with socket.create_connection((served.host, served.port), timeout=10) as connection:
        connection.sendall(b"GET /nexio/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while part := connection.recv(65_536):
            received += part
    head, _, body = received.partition(b"\r\n\r\n")
    assert f"content-length: {len(whole)}".encode() in head.lower().splitlines()
    assert body == whole[: len(whole) // 2]


@pytest.mark.parametrize("provider", SUBMITTING)
@pytest.mark.parametrize(("when", "made"), [("before", 0), ("after", 1)])
def test_a_submit_can_be_lost_before_or_after_the_run_was_made(call, emulator, provider, when, made) -> None:
    emulator.add_fault(kind="reset", provider=provider, action="submit", when=when)
    with pytest.raises(httpx.ReadError):
        call.submit(provider, script="forever")
    assert len(emulator.runs(provider=provider)) == made
    entry = emulator.requests(provider=provider, action="submit")[0]
    assert (entry["status"], entry["fault"], entry["created_run_id"] is not None) == (None, "reset", made == 1)


def test_half_the_answer_of_a_submit_comes_after_the_run_was_made(call, emulator) -> None:
    emulator.add_fault(kind="half_body", action="submit")
    with pytest.raises(httpx.RemoteProtocolError):
        call.submit("b3os", script="forever")
    assert len(emulator.runs(provider="b3os")) == 1


def test_a_status_may_replace_the_answer_of_a_submit_that_was_carried_out(call, emulator) -> None:
    emulator.add_fault(kind="status", status=502, action="submit", when="after")
    assert call.submit("nexio", script="forever").status_code == 502
    assert len(emulator.runs(provider="nexio")) == 1


def test_a_status_can_say_when_to_come_back(call, emulator) -> None:
    run_id = emulator.create_run("nexio")
    emulator.add_fault(kind="status", status=429, retry_after=7, headers={"X-RateLimit-Reset": "1800000000"})
    began = time.time()
    emulator.add_fault(kind="status", status=503, retry_after_date=30, code="queue_unreachable", message="later")
    first = call.read("nexio", run_id)
    assert (first.status_code, first.headers["retry-after"]) == (429, "7")
    assert first.headers["x-ratelimit-reset"] == "1800000000"
    second = call.read("nexio", run_id)
    assert second.json() == {"code": "queue_unreachable", "message": "later"}
    moment = email.utils.parsedate_to_datetime(second.headers["retry-after"]).timestamp()
    assert began + 29 <= moment <= time.time() + 30


@pytest.mark.parametrize("body", ["plain words", {"detail": [{"msg": "odd"}]}, None, []])
def test_a_status_may_have_any_body(call, emulator, body) -> None:
    emulator.add_fault(kind="status", status=500, body=body)
    answer = call.read("nyx", emulator.create_run("nyx"))
    assert answer.status_code == 500
    assert (answer.text if isinstance(body, str) else answer.json()) == body


@pytest.mark.parametrize("body", [None, [], 3, "text", {"unexpected": True}])
def test_an_answer_may_be_any_json(call, emulator, body) -> None:
    emulator.add_fault(kind="json", body=body)
    answer = call.read("onepin", emulator.create_run("onepin"))
    assert (answer.status_code, answer.json()) == (200, body)


def test_html_redirect_and_empty(call, emulator) -> None:
    run_id = emulator.create_run("b3os")
    emulator.add_fault(kind="html")
    emulator.add_fault(kind="html", status=200)
    emulator.add_fault(kind="redirect", location="http://127.0.0.1:9/elsewhere", status=307)
    emulator.add_fault(kind="empty", status=204)
    emulator.add_fault(kind="empty")
    pages = [call.read("b3os", run_id) for _ in range(5)]
    assert [page.status_code for page in pages] == [502, 200, 307, 204, 200]
    assert pages[0].headers["content-type"].startswith("text/html")
    assert pages[2].headers["location"] == "http://127.0.0.1:9/elsewhere"
    assert [page.content for page in pages[2:]] == [b"", b"", b""]


def test_a_bomb_is_small_on_the_wire_and_large_when_read(call, emulator) -> None:
    emulator.add_fault(kind="gzip_bomb", bytes=20_000_000)
    request = call.http.build_request("GET", call.server.base_url("nexio") + "/health")
    with_bomb = call.http.send(request, stream=True)
    raw = b"".join(with_bomb.iter_raw())
    assert len(raw) < 200_000
    emulator.add_fault(kind="gzip_bomb", bytes=20_000_000)
    answer = call("nexio", "GET", "/health")
    assert (len(answer.content), answer.json()) == (20_000_000, {})


def test_a_delay_is_kept_and_the_answer_is_the_usual_one(call, emulator) -> None:
    run_id = emulator.create_run("nekt", script="running")
    emulator.add_fault(kind="delay", seconds=0.3)
    began = time.monotonic()
    answer = call.read("nekt", run_id)
    assert time.monotonic() - began >= 0.3
    assert answer.json()["status"] == "running"
    emulator.add_fault(kind="delay", seconds=5)
    with pytest.raises(httpx.ReadTimeout):
        call.read("nekt", run_id, timeout=0.1)


def test_a_drip_is_slow_and_whole(call, emulator) -> None:
    run_id = emulator.create_run("nexio", script="queued")
    size = len(call.read("nexio", run_id).content)
    emulator.add_fault(kind="drip", bytes_per_second=size * 4)
    began = time.monotonic()
    answer = call.read("nexio", run_id)
    assert time.monotonic() - began >= 0.2
    assert answer.json()["run_id"] == run_id


def test_a_fault_befalls_the_requests_it_names_and_no_others(call, emulator) -> None:
    first, second = emulator.create_run("nyx"), emulator.create_run("nyx")
    emulator.add_fault(kind="empty", status=599, provider="nyx", run_id=first, count=2, skip=1)
    assert [call.read("nyx", first).status_code for _ in range(4)] == [200, 599, 599, 200]
    emulator.add_fault(kind="empty", status=598, path_contains=second, method="GET", count=None)
    assert [call.read("nyx", second).status_code for _ in range(3)] == [598] * 3
    assert call.read("nyx", first).status_code == 200
    emulator.reset(["faults"])
    assert call.read("nyx", second).status_code == 200


def test_the_list_tells_what_was_planned_and_what_befell(call, emulator) -> None:
    planned = call.control("POST", "/faults", json={"kind": "empty", "provider": "nexio", "count": 3})
    assert planned.status_code == 201
    call("nexio", "GET", "/health")
    fault = call.control("GET", "/faults").json()["faults"][0]
    assert (fault["id"], fault["kind"], fault["hits"], fault["remaining"]) == (planned.json()["id"], "empty", 1, 2)


def test_chance_befalls_about_as_often_as_said(call, emulator) -> None:
    emulator.add_fault(kind="empty", status=599, probability=0.25)
    statuses = [call("nexio", "GET", "/health").status_code for _ in range(200)]
    assert 25 < statuses.count(599) < 80
