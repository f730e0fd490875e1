"""A wait that meets every trouble a service can make goes on and ends right, over real connections, in both clients."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import anyio
import pytest
from blockbuster import blockbuster_ctx

from runops.core import AuthError, Outcome, PollingError, RequestRefused, RunClient, RunNotFound, TransientError, find
from runops.core.model.errors import AnswerLost, MalformedAnswer
from tests.services import PROVIDERS

TROUBLES: dict[str, dict[str, Any]] = {
    "500": {"kind": "status", "status": 500},
    "502_html": {"kind": "html", "status": 502},
    "503": {"kind": "status", "status": 503},
    "408": {"kind": "status", "status": 408},
    "425": {"kind": "status", "status": 425},
    "429": {"kind": "status", "status": 429},
    "429_retry_after_seconds": {"kind": "status", "status": 429, "retry_after": 17},
    "429_retry_after_date": {"kind": "status", "status": 429, "retry_after_date": 17},
    "429_nonsense": {"kind": "status", "status": 429, "headers": {"Retry-After": "soon"}},
    "429_negative": {"kind": "status", "status": 429, "retry_after": -5},
    "429_huge": {"kind": "status", "status": 429, "retry_after": 10**15},
    "reset": {"kind": "reset"},
    "half_a_body": {"kind": "half_body"},
    "html_200": {"kind": "html", "status": 200},
    "null": {"kind": "json", "body": None},
    "list": {"kind": "json", "body": []},
    "text": {"kind": "json", "body": "running"},
    "empty_object": {"kind": "json", "body": {}},
    "empty_data": {"kind": "json", "body": {"data": None}},
    "no_status": {"kind": "json", "body": {"id": "x", "run_id": "x", "data": {"id": "x"}}},
    "odd_status": {
        "kind": "json",
        "body": {"id": "x", "run_id": "x", "status": {}, "data": {"id": "x", "status": 1.5}},
    },
    "empty_200": {"kind": "empty"},
    "empty_204": {"kind": "empty", "status": 204},
    "gzip_bomb": {"kind": "gzip_bomb", "bytes": 11_000_000},
    "redirect": {"kind": "redirect", "location": "http://127.0.0.1:9/elsewhere"},
    "redirect_308": {"kind": "redirect", "location": "/login", "status": 308},
    "404": {"kind": "status", "status": 404},
    "not_utf8": {
        "kind": "status",
        "status": 500,
        "body": "caf\udce9".encode("utf-8", "surrogateescape").decode("latin-1"),
    },
}


EVERYWHERE = (
    "500",
    "502_html",
    "429_retry_after_seconds",
    "429_retry_after_date",
    "reset",
    "half_a_body",
    "html_200",
    "null",
    "list",
    "redirect",
    "gzip_bomb",
    "404",
)
CASES = [(provider, trouble) for trouble in EVERYWHERE for provider in PROVIDERS] + [
    (PROVIDERS[n % len(PROVIDERS)], trouble) for n, trouble in enumerate(sorted(set(TROUBLES) - set(EVERYWHERE)))
]


@pytest.mark.parametrize(("provider", "trouble"), CASES)
def test_a_wait_goes_on_after(runs_of: Callable[..., Any], provider: str, trouble: str) -> None:
    runs = runs_of(provider)
    ref = runs.made(script="succeeded")
    runs.emulator.add_fault(provider=provider, action="get", skip=1, count=2, **TROUBLES[trouble])
    last = runs("wait", ref, 7200, error_budget=1900)
    assert (last.outcome, last.run_ended) == (Outcome.SUCCEEDED, True)
    assert len([entry for entry in runs.requests() if entry["fault"]]) == 2


@pytest.mark.parametrize("trouble", sorted(set(TROUBLES) - {"429_huge"}))
def test_a_wait_goes_on_although_its_very_first_reads_fail(runs_of: Callable[..., Any], trouble: str) -> None:
    runs = runs_of("b3os")
    ref = runs.made(script="failed")
    runs.emulator.add_fault(provider="b3os", count=2, **TROUBLES[trouble])
    last = runs("wait", ref)
    assert (last.outcome, last.reason) == (Outcome.FAILED, "swap (send-token): insufficient funds for gas")


@pytest.mark.parametrize("kind_of_pause", ["retry_after", "retry_after_date"])
def test_an_asked_for_pause_is_kept(runs_of: Callable[..., Any], kind_of_pause: str) -> None:
    runs = runs_of("nexio")
    ref = runs.made(script="succeeded")
    runs.emulator.add_fault(kind="status", status=429, provider="nexio", **{kind_of_pause: 45})
    assert runs("wait", ref).outcome is Outcome.SUCCEEDED
    assert runs.clock.sleeps[0] == pytest.approx(45, abs=2)


def test_an_asked_for_pause_holds_back_every_call_of_the_client(served: Any, emulator: Any, clock: Any) -> None:
    emulator.add_fault(kind="status", status=429, retry_after=30, provider="nexio")
    url = served.base_url("nexio")
    with RunClient(find("nexio"), token="k", base_url=url, sleep=clock.sleep, clock=clock) as client:
        with pytest.raises(TransientError):
            client.get(client.ref("a"))
        with pytest.raises(RunNotFound):
            client.get(client.ref("b"))
    assert clock.sleeps == [pytest.approx(30)]


def test_an_asked_for_pause_is_capped_at_a_quarter_of_an_hour(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("nexio")
    ref = runs.made(script="succeeded")
    runs.emulator.add_fault(kind="status", status=429, retry_after=10**9, provider="nexio")
    assert runs("wait", ref, error_budget=1000).outcome is Outcome.SUCCEEDED
    assert max(runs.clock.sleeps) == pytest.approx(900)


def test_an_asked_for_pause_beyond_the_deadline_does_not_outlast_it(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("nexio")
    ref = runs.made(script="forever")
    runs.emulator.add_fault(kind="status", status=429, retry_after=800, provider="nexio", skip=2, count=None)
    last = runs("wait", ref, 100)
    assert (last.outcome, last.ended_by) == (Outcome.TIMED_OUT, "timeout")
    assert runs.clock.passed == pytest.approx(100, abs=1)


def test_an_asked_for_pause_beyond_the_error_budget_does_not_outlast_it(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("nexio")
    ref = runs.made(script="forever")
    runs.emulator.add_fault(kind="status", status=429, retry_after=800, provider="nexio", skip=2, count=None)
    with pytest.raises(PollingError):
        runs("wait", ref, error_budget=60)
    assert runs.clock.passed < 100


def test_a_reset_time_sent_with_an_error_that_is_no_rate_limit_asks_for_nothing(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("nexio")
    ref = runs.made(script="succeeded")
    later = {"X-RateLimit-Reset": str(int(runs.clock.now) + 600)}
    runs.emulator.add_fault(kind="status", status=500, headers=later, provider="nexio")
    assert runs("wait", ref).outcome is Outcome.SUCCEEDED
    assert runs.clock.passed < 120


@pytest.mark.parametrize("method", ["get", "cancel", "fetch_result", "submit"])
def test_single_calls_of_either_client_keep_the_limit_that_was_set(
    runs_of: Callable[..., Any], calls: Mapping[str, dict[str, Any]], method: str
) -> None:
    runs = runs_of("b3os", requests_per_minute=60)
    run = runs.made(script="forever")
    argument = runs.provider.call(**calls["b3os"]) if method == "submit" else run
    with runs.new():  # the limit is that of the key, for as long as one client has it
        for _ in range(4):
            runs(method, argument)
    assert len(runs.requests()) >= 4
    assert runs.clock.passed == pytest.approx(len(runs.requests()) - 1, abs=0.01)


def test_a_clock_that_is_set_back_does_not_stop_the_reads(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("nexio", requests_per_minute=600)
    ref = runs.made(script="succeeded", seconds=60)
    clock = runs.clock

    def set_back(_: float) -> None:
        if len(clock.sleeps) == 2:
            clock.now -= 900

    clock.on_sleep = set_back
    assert runs("wait", ref, 7200).outcome is Outcome.SUCCEEDED
    assert max(clock.sleeps) < 60


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_error_budget_ends_a_wait_that_only_fails(runs_of: Callable[..., Any], provider: str) -> None:
    runs = runs_of(provider)
    ref = runs.made(script="forever")
    runs.emulator.add_fault(kind="status", status=502, provider=provider, skip=1, count=None)
    with pytest.raises(PollingError, match=r"could not be read for .* s; the last answer was: .*502") as caught:
        runs("wait", ref, error_budget=120)
    assert 120 <= runs.clock.passed <= 180
    assert caught.value.seconds >= 120
    assert not runs.requests(method="POST")


def test_one_good_read_renews_the_error_budget(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("nyx")
    ref = runs.made(script="succeeded", seconds=400)
    for skip in (1, 2, 3):
        runs.emulator.add_fault(kind="status", status=500, provider="nyx", skip=skip, count=5)
    assert runs("wait", ref, error_budget=60).outcome is Outcome.SUCCEEDED


def test_a_deadline_during_an_outage_times_out_with_what_was_last_seen(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("onepin")
    ref = runs.made(script="forever")
    runs.emulator.add_fault(kind="reset", provider="onepin", skip=6, count=None)
    last = runs("wait", ref, 120)
    assert (last.outcome, last.state) == (Outcome.TIMED_OUT, "running")
    assert "the last read failed" in last.reason


def test_a_deadline_before_any_good_read_is_no_time_out(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("onepin")
    runs.emulator.add_fault(kind="reset", provider="onepin", count=None)
    with pytest.raises(PollingError):
        runs("wait", runs.ref("3fa85f64-5717-4562-b3fc-2c963f66afa6"), 60)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(("token", "status"), [("invalid-canary-key", 401), ("forbidden-canary-key", 403)])
def test_a_bad_key_ends_a_wait_at_once_and_names_where_it_was_set(
    runs_of: Callable[..., Any], provider: str, token: str, status: int
) -> None:
    runs = runs_of(provider, token=token, origin="connection 'nightly'")
    ref = runs.made(script="forever")
    with pytest.raises(AuthError, match="connection 'nightly'") as caught:
        runs("wait", ref)
    assert caught.value.status == status
    assert "canary" not in str(caught.value) + repr(caught.value)
    assert len(runs.requests()) == 1


@pytest.mark.parametrize(
    ("status", "kind_of_error"),
    [(402, RequestRefused), (410, RequestRefused), (422, RequestRefused), (426, RequestRefused)],
)
def test_a_final_answer_ends_a_wait_at_once_and_quotes_status_and_code(
    runs_of: Callable[..., Any], status: int, kind_of_error: type[Exception]
) -> None:
    runs = runs_of("nexio")
    ref = runs.made(script="forever")
    runs.emulator.add_fault(kind="status", status=status, code="the_code", provider="nexio", skip=1, count=None)
    with pytest.raises(kind_of_error, match=f"{status}.*the_code"):
        runs("wait", ref)
    assert len(runs.requests()) == 2


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_run_that_nobody_knows_is_given_up_after_the_grace(runs_of: Callable[..., Any], provider: str) -> None:
    runs = runs_of(provider)
    with pytest.raises(RunNotFound, match="no such run"):
        runs("wait", runs.ref("3fa85f64-5717-4562-b3fc-2c963f66afa6"))
    assert 30 <= runs.clock.passed <= 45


def test_a_run_submitted_long_ago_has_no_grace(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("nyx")
    with pytest.raises(RunNotFound):
        runs("wait", runs.ref("r_unknown"), submitted_at=runs.clock.now - 3600)
    assert runs.clock.passed == 0


def test_a_run_that_is_visible_late_is_waited_for(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("nyx")
    ref = runs.made(script="succeeded", hidden_seconds=20)
    assert runs("wait", ref, submitted_at=runs.clock.now).outcome is Outcome.SUCCEEDED


class Recorder:
    """Another host, which must never be asked; it keeps what it is sent."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                recorder.seen.append(f"{self.requestline} {self.headers}")
                self.send_response(200)
                self.end_headers()

            do_POST = do_GET  # noqa: N815 - the name that http.server calls

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/steal"


@pytest.fixture
def other_host() -> Iterator[Recorder]:
    recorder = Recorder()
    thread = threading.Thread(target=recorder.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield recorder
    recorder.server.shutdown()
    recorder.server.server_close()
    thread.join()


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_host_is_never_followed(
    runs_of: Callable[..., Any], other_host: Recorder, provider: str, status: int
) -> None:
    runs = runs_of(provider)
    ref = runs.made(script="succeeded")
    runs.emulator.add_fault(kind="redirect", location=other_host.url, status=status, provider=provider, skip=1)
    assert runs("wait", ref).outcome is Outcome.SUCCEEDED
    assert other_host.seen == []


def test_a_service_that_only_redirects_is_an_error_that_quotes_the_status(
    runs_of: Callable[..., Any], other_host: Recorder
) -> None:
    runs = runs_of("nexio")
    runs.emulator.add_fault(kind="redirect", location=other_host.url, provider="nexio", count=None)
    with pytest.raises(RequestRefused, match="302"):
        runs("wait", runs.made(script="succeeded"))
    assert other_host.seen == []


# --- sizes and times -------------------------------------------------------------------------------------------


def test_a_body_over_the_limit_is_refused_and_one_within_it_is_read(runs_of: Callable[..., Any]) -> None:
    big = {"run_id": "x", "status": "completed", "output": {"text": "a" * 50_000}}
    small = runs_of("nexio", max_response_bytes=20_000)
    small.emulator.add_fault(kind="json", body=big, provider="nexio", count=None)
    with pytest.raises(MalformedAnswer, match="max_response_bytes=20000"):
        small("get", small.ref("x"))
    large = runs_of("nexio", max_response_bytes=100_000)
    assert large("get", large.ref("x")).outcome is Outcome.SUCCEEDED


def test_a_gzip_bomb_is_never_inflated(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("nexio")
    runs.emulator.add_fault(kind="gzip_bomb", bytes=2_000_000_000, provider="nexio")
    with pytest.raises(MalformedAnswer, match="larger than max_response_bytes=10000000"):
        runs("get", runs.ref("x"))


def test_an_answer_that_drips_is_given_up_in_time(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("nexio", request_timeout=0.25)
    ref = runs.made(script="succeeded")
    runs.emulator.add_fault(kind="drip", bytes_per_second=10, provider="nexio", count=1)
    with pytest.raises(AnswerLost, match=r"request_timeout=0\.25"):
        runs("get", ref)


def test_a_wait_goes_on_after_an_answer_that_drips_and_one_that_never_begins(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("nexio", request_timeout=0.25)
    ref = runs.made(script="succeeded")
    runs.emulator.add_fault(kind="drip", bytes_per_second=10, provider="nexio", skip=1, count=1)
    runs.emulator.add_fault(kind="delay", seconds=0.4, provider="nexio", count=1)
    assert runs("wait", ref).outcome is Outcome.SUCCEEDED


@contextlib.contextmanager
def raw_server(*answers: bytes | None) -> Iterator[str]:
    """A server that answers each connection with the next bytes (None: nothing at all), then closes."""
    left = list(answers)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.01)
    stop = threading.Event()
    open_connections: list[socket.socket] = []

    def serve() -> None:
        while not stop.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            answer = left.pop(0) if left else b""
            if answer is None:
                open_connections.append(connection)
                continue
            with connection:
                connection.settimeout(5)
                connection.recv(65_536)
                connection.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        stop.set()
        thread.join()
        listener.close()
        for connection in open_connections:
            connection.close()


GOOD = b'{"run_id": "x", "status": "completed"}'


def _answer(body: bytes, *headers: bytes, status: bytes = b"200 OK", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % size, b"Connection: close", *headers, b"", body]
    return b"\r\n".join(lines)


RAW: dict[str, bytes] = {
    "closed_at_once": b"",
    "not_http": b"SSH-2.0-OpenSSH_9.6\r\n",
    "headers_cut": b"HTTP/1.1 200 OK\r\nContent-Le",
    "body_cut": _answer(GOOD[:10], length=len(GOOD)),
    "gzip_cut": _answer(gzip.compress(GOOD * 50)[:40], b"Content-Encoding: gzip"),
    "gzip_broken": _answer(b"\x1f\x8b" + b"\0" * 40, b"Content-Encoding: gzip"),
    "gzip_that_is_none": _answer(GOOD, b"Content-Encoding: gzip"),
    "brotli": _answer(GOOD, b"Content-Encoding: br"),
    "deep_json": _answer(b"[" * 200_000),
    "deep_object": _answer(b'{"run_id":"x","status":"completed","output":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001),
    "not_utf8": _answer(b'{"run_id": "x", "status": "caf\xe9"}'),
    "lone_surrogate": _answer(b'{"run_id": "x", "status": "\\ud800"}'),
    "bom_and_html": _answer(b"\xef\xbb\xbf<html>", status=b"502 Bad Gateway"),
    "500_deep": _answer(b'{"error":' * 100_000, status=b"500 Oops"),
    "500_huge_number": _answer(b'{"code": ' + b"9" * 6000 + b"}", status=b"500 Oops"),
    "chunk_broken": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
}


@pytest.mark.parametrize("raw", RAW)
def test_a_wait_survives_bytes_that_no_service_should_send(runs_of: Callable[..., Any], raw: str) -> None:
    with raw_server(RAW[raw], RAW[raw], *[_answer(GOOD)] * 3) as url:
        runs = runs_of("nexio", base_url=url)
        assert runs("wait", runs.ref("x")).outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize(
    "body",
    [
        b'{"run_id": 12, "status": " Completed ", "output": 5, "duration_ms": "soon", "created_at": 1e400}',
        b'{"status": "queued", "status": "completed", "run_id": "x"}',
        b'{"run_id": "x", "status": "completed", "completed_at": "9999-12-31T23:59:59-12:00"}',
        b'{"run_id": "x", "status": "completed", "completed_at": "2026-01-01 10:00:00", "error": {"a": [1]}}',
        b'{"run_id": "x", "status": "completed", "output": {"degradation_reason": ["no text"]}, "solutions": {}}',
    ],
    ids=["numbers_for_texts", "double_keys", "a_time_beyond_the_calendar", "naive_time", "odd_objects"],
)
def test_odd_fields_beside_the_status_do_not_matter(runs_of: Callable[..., Any], body: bytes) -> None:
    with raw_server(_answer(body)) as url:
        runs = runs_of("nexio", base_url=url)
        snapshot = runs("get", runs.ref_of(json.loads(body)))
    assert snapshot.outcome is Outcome.SUCCEEDED
    assert snapshot.reason is None
    assert snapshot.finished_at is None or snapshot.finished_at.tzinfo is not None


def test_numbers_that_json_cannot_carry_never_reach_a_result(runs_of: Callable[..., Any]) -> None:
    body = b'{"run_id": "x", "status": "running", "spent_usd": NaN, "budget_usd": 1e999, "findings_count": Infinity}'
    with raw_server(_answer(body)) as url:
        runs = runs_of("nyx", base_url=url)
        assert runs("get", runs.ref("x")).to_result()["details"] == {}


def test_a_gzip_answer_is_read(runs_of: Callable[..., Any]) -> None:
    with raw_server(_answer(gzip.compress(GOOD), b"Content-Encoding: gzip")) as url:
        runs = runs_of("nexio", base_url=url)
        assert runs("get", runs.ref("x")).outcome is Outcome.SUCCEEDED


def test_a_server_that_accepts_and_says_nothing_is_given_up_in_time(runs_of: Callable[..., Any]) -> None:
    with raw_server(None, _answer(GOOD)) as url:
        runs = runs_of("nexio", base_url=url, request_timeout=0.3)
        assert runs("wait", runs.ref("x")).outcome is Outcome.SUCCEEDED


# --- the event loop --------------------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["async"])
async def test_the_event_loop_is_never_blocked(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("b3os", request_timeout=2)
    refs = [runs.made(script="failed", seconds=20 + n) for n in range(5)]
    for trouble in ("500", "reset", "half_a_body", "gzip_bomb", "429_retry_after_date"):
        runs.emulator.add_fault(provider="b3os", skip=3, **TROUBLES[trouble])
    with blockbuster_ctx("runops.core"):
        async with runs.new_async() as client:
            ends = await asyncio.gather(*(client.wait(ref, 3600) for ref in refs))
    assert {end.outcome for end in ends} == {Outcome.FAILED}


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["async"])
async def test_a_cancelled_wait_leaves_nothing_behind(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("nexio")
    ref = runs.made(script="forever")
    runs.emulator.add_fault(kind="delay", seconds=5, provider="nexio")
    async with runs.new_async() as client:
        with anyio.move_on_after(0.2) as scope:
            await client.wait(ref)
        assert scope.cancelled_caught
        assert (await client.get(ref)).state == "queued"


def test_nothing_is_logged_about_a_wait_that_meets_no_surprise(
    runs_of: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    runs = runs_of("nexio")
    with caplog.at_level(logging.INFO):
        runs("wait", runs.made(script="succeeded"))
    assert caplog.records == []
