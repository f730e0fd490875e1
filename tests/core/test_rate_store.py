"""A limit that holds over processes, on a real Redis: the script, and what happens when the store is not there."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import socket
import subprocess
import sys
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from runops.core import AsyncRunClient, ConfigurationError, RunClient, TransientError, find
from runops.core.model import shared_rate
from runops.core.model.secret import Secret
from runops.core.model.shared_rate import ANSWER_SECONDS, FIRST_ANSWER_SECONDS, Question
from runops.core.polling import dispatch
from runops.core.transport import rate_settings, rate_store
from runops.core.transport.rate_settings import RateSettings
from runops.core.transport.rate_store import SCRIPT, Redis, arguments_of, line_key
from runops.emulator.server import Server, running
from tests import redis_server
from tests.authorities import Authority
from tests.rate_line import Line
from tests.redis_server import RedisServer, free_port
from tests.services import Clock

NEXIO = find("nexio")
KEY = "canary-key-5f2b9c7e1d"
PASSWORD = "canary-pass-8c1f"

pytestmark = pytest.mark.http


@pytest.fixture(scope="module")
def binary() -> str:
    return redis_server.program()


@pytest.fixture
def store(binary: str) -> Iterator[RedisServer]:
    with RedisServer(binary) as server:
        yield server


@pytest.fixture(autouse=True)
def stores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_store, "_STORES", {})


def asked(url: str) -> Redis:
    return Redis(Secret(url))


def raw(url: str) -> Any:
    import redis

    return redis.Redis.from_url(url, decode_responses=True)


# --- the script ---


def test_the_script_in_redis_and_the_line_in_memory_of_the_other_tests_give_the_same_replies(
    store: RedisServer,
) -> None:
    """The simulations of test_shared_rate.py are about what Redis does."""
    head = "local time = redis.call('TIME')\nlocal now = time[1] * 1000000 + time[2]"
    assert head in SCRIPT
    script = raw(store.url).register_script(SCRIPT.replace(head, "local now = tonumber(ARGV[10])"))
    chance = random.Random(7)
    for story in range(40):
        line, now = Line(time.time), 1_790_000_000_000_000
        births = [0, now]
        for _ in range(30):
            now += chance.choice((-3_000_000, 0, 1, 1500, 61_000, 900_000, 4_100_000, 20_000_000))
            question = Question(
                at=0.0,
                places=chance.choice((0, 1, 4, 250)),
                spacing=chance.choice((0.061224, 0.001, 10.2)),
                pause=chance.choice((0.0, 0.0, 0.0, 2.5, 40.0)),
                lost=chance.choice((0.0, 0.0, 0.0, 0.4, 5.5, 60.0)),
                born=chance.choice(births),
                ahead=chance.choice((0.0, 3.7)),
            )
            given = arguments_of(question)
            reply = script(keys=[f"story:{story}"], args=[*given, now])
            assert reply == line.take(now, *given)
            births.append(reply[5])


def test_places_are_given_once_however_many_ask_at_once(store: RedisServer) -> None:
    moments: list[float] = []
    lock = threading.Lock()

    def work() -> None:
        ask = asked(store.url)
        for _ in range(20):
            reply = ask("k", Question(0.0, 3, 0.05))
            with lock:
                moments.extend(time.time() + reply.wait + 0.05 * n for n in range(reply.places))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    moments.sort()
    assert len(moments) == 480
    assert min(b - a for a, b in pairwise(moments)) > 0.02
    assert moments[-1] - moments[0] == pytest.approx(479 * 0.05, abs=0.3)


def test_nothing_is_left_in_redis_and_a_key_tells_nothing(store: RedisServer) -> None:
    key = line_key("nexio", "https://service.example", Secret("canary-key").fingerprint)
    asked(store.url)(key, Question(0.0, 10, 1.0))
    redis = raw(store.url)
    (left,) = redis.keys("*")
    assert left == key
    assert left.startswith("runops:rate:")
    assert "nexio" not in left
    assert Secret("canary-key").fingerprint[:8] not in left
    assert 125_000 < redis.pttl(key) <= 131_000
    assert set(redis.hgetall(key)) == {"free", "born", "woke", "seen", "settle", "paused"}


# --- clients ---


@pytest.fixture
def service() -> Iterator[Server]:
    with running() as server:
        yield server


def settings(service: Server, store: str, **more: Any) -> dict[str, Any]:
    """Of a client that counts as a process of its own: what a process shares depends on its clock too."""
    given = {
        "token": KEY,
        "base_url": service.base_url("nexio"),
        "requests_per_minute": 1200,
        "processes": 6,
        "rate_store": store,
        "clock": lambda: time.time(),
    }
    return {**given, **more}


def another(given: dict[str, Any]) -> dict[str, Any]:
    """The same settings for a further process."""
    return {**given, "clock": lambda: time.time()}


def held_run(service: Server) -> str:
    return service.emulator.create_run("nexio", held=True)


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that comes, however busy the machine is."""
    ends = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < ends, "it did not come to pass"
        time.sleep(0.02)


@contextmanager
def lateness() -> Iterator[list[float]]:
    """By how many seconds a thread of this process was late at the most: that much later requests may leave too."""
    late, over = [0.0], threading.Event()

    def beat() -> None:
        began = time.monotonic()
        while not over.wait(0.02):
            late[0] = max(late[0], time.monotonic() - began - 0.02)
            began = time.monotonic()

    beating = threading.Thread(target=beat)
    beating.start()
    try:
        yield late
    finally:
        over.set()
        beating.join()


def looks(service: Server, is_over: Callable[[], bool], **given: Any) -> int:
    """One look after the other, as the steps of a Dagster run that share nothing with others."""
    count = 0
    with RunClient(NEXIO, **given) as client:
        ref = client.ref(held_run(service))
        while not is_over():
            client.get(ref)
            count += 1
    return count


def waits(service: Server, seconds: float, many: int, **given: Any) -> list[str]:
    """Many waits in one loop, as in a triggerer; how they ended."""

    async def story() -> list[str]:
        async with AsyncRunClient(NEXIO, **given) as client:
            refs = [client.ref(held_run(service)) for _ in range(many)]
            ended = await asyncio.gather(*(client.wait(ref, seconds, poll_interval=0.5) for ref in refs))
            return [str(each.outcome) for each in ended]

    return asyncio.run(story())


def most_within(seconds: float, moments: list[float]) -> int:
    moments = sorted(moments)
    return max(bisect_right(moments, moment + seconds) - index for index, moment in enumerate(moments))


def arrivals(service: Server) -> list[float]:
    return [entry["time"] for entry in service.emulator.requests(provider="nexio")]


def test_pollers_and_plain_clients_of_several_processes_keep_to_one_limit(service: Server, store: RedisServer) -> None:
    over = threading.Event()
    with ThreadPoolExecutor(6) as pool, lateness() as late:
        steps = [pool.submit(looks, service, over.is_set, **settings(service, store.url)) for _ in range(3)]
        triggerers = [pool.submit(waits, service, 300.0, 10, **settings(service, store.url)) for _ in range(3)]
        try:
            until(lambda: len(arrivals(service)) >= 90)
        finally:
            over.set()
            service.emulator.advance(provider="nexio")
        assert all(each.result() == ["succeeded"] * 10 for each in triggerers)
        counts = [each.result() for each in steps]
    # 19.6 a second, and half a second of lateness where the machine has none of its own.
    assert most_within(4.0, arrivals(service)) <= 20 * (4.0 + 0.5 + late[0])
    assert min(counts) >= 5


def test_a_submit_takes_its_turn_in_the_same_line(service: Server, store: RedisServer) -> None:
    given = settings(service, store.url, requests_per_minute=60, processes=1)
    call = NEXIO.call(engine_slug="risk", input={})
    with RunClient(NEXIO, **given) as first, RunClient(NEXIO, **another(given)) as second:
        first.submit(call)
        began = time.monotonic()
        second.submit(call)
        assert time.monotonic() - began > 0.8

        async def third() -> None:
            async with AsyncRunClient(NEXIO, **another(given)) as client:
                await client.submit(call)

        asyncio.run(third())
        assert time.monotonic() - began > 1.8
    assert len(service.emulator.requests(provider="nexio", method="POST")) == 3


def test_a_pause_that_one_process_is_asked_for_holds_for_the_others(service: Server, store: RedisServer) -> None:
    given = settings(service, store.url)
    with RunClient(NEXIO, **given) as first, RunClient(NEXIO, **another(given)) as second:
        ref = first.ref(held_run(service))
        service.emulator.add_fault(provider="nexio", kind="status", status=429, retry_after=2, count=1)
        with pytest.raises(TransientError):
            first.get(ref)
        began = time.monotonic()
        asking = threading.Thread(target=first.get, args=(ref,))
        asking.start()
        time.sleep(0.3)
        second.get(ref)
        assert time.monotonic() - began > 1.5
        asking.join()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is lost is asked again soon, so that a test need not wait for it."""
    for module in (shared_rate, dispatch):
        monkeypatch.setattr(module, "RETRY_SECONDS", 0.4)
    monkeypatch.setattr(rate_store, "SETTLE_SECONDS", 1.0)
    monkeypatch.setattr(rate_store, "STALE_SECONDS", 0.3)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("how", ["killed", "hangs"])
def test_no_wait_ends_while_the_store_is_lost_and_the_log_says_so_and_when_it_is_back(
    service: Server, store: RedisServer, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "runops")
    over = threading.Event()

    def seen(what: str) -> int:
        return sum(what in record.getMessage() for record in caplog.records)

    def arrived(after: float) -> int:
        return sum(moment > after for moment in arrivals(service))

    with ThreadPoolExecutor(2) as pool, lateness() as late:
        step = pool.submit(looks, service, over.is_set, **settings(service, store.url, processes=2))
        triggerer = pool.submit(waits, service, 300.0, 30, **settings(service, store.url, processes=2))
        try:
            until(lambda: arrived(0.0) >= 20)
            (store.kill if how == "killed" else store.hang)()
            until(lambda: seen("cannot be used") == 2)
            # Each goes on alone within its share.
            alone = time.time()
            until(lambda: arrived(alone) >= 6)
            (store.start if how == "killed" else store.go_on)()
            until(lambda: seen("is back: all") == 2)
        finally:
            over.set()
            service.emulator.advance(provider="nexio")
        assert step.result() > 3
        assert triggerer.result() == ["succeeded"] * 30
    assert most_within(4.0, arrivals(service)) <= 20 * (4.0 + 0.5 + late[0])
    said = [record.getMessage() for record in caplog.records]
    assert len([text for text in said if "cannot be used" in text]) == 2
    assert len([text for text in said if "is back: all" in text]) == 2
    assert all(f"127.0.0.1:{store.port}" in text for text in said if "store" in text)
    assert any("600 requests a minute" in text for text in said)


def test_a_wrong_password_is_named_once_and_shown_nowhere(
    service: Server, binary: str, caplog: pytest.LogCaptureFixture
) -> None:
    with RedisServer(binary, password="another") as locked:
        address = f"redis://default:{PASSWORD}@127.0.0.1:{locked.port}/0"
        with RunClient(NEXIO, **settings(service, address)) as client:
            ref = client.ref(held_run(service))
            for _ in range(3):
                client.get(ref)
            shown = [repr(client), repr(client._session), repr(client._session.rate), repr(client._session.key)]
            shown += [repr(vars(client._session)), repr(vars(client._session.budget))]
        (said,) = [record.getMessage() for record in caplog.records if "cannot be used" in record.getMessage()]
        assert "refuses the user or the password" in said
        assert "is back: all" not in caplog.text
        assert PASSWORD not in caplog.text + "".join(shown)


def test_the_right_password_opens_it(service: Server, binary: str, caplog: pytest.LogCaptureFixture) -> None:
    with RedisServer(binary, password=PASSWORD) as locked:
        address = f"redis://:{PASSWORD}@127.0.0.1:{locked.port}/3"
        with RunClient(NEXIO, **settings(service, address)) as client:
            client.get(client.ref(held_run(service)))
        assert len(raw(address).keys("runops:rate:*")) == 1
    assert "cannot be used" not in caplog.text


def test_a_user_who_may_do_no_more_than_the_page_says_is_enough(
    service: Server, binary: str, caplog: pytest.LogCaptureFixture
) -> None:
    rights = ("+evalsha", "+script|load", "+time", "+hmget", "+hset", "+pexpire")
    with RedisServer(binary, more=("--user", "limiter", "on", f">{PASSWORD}", "~runops:rate:*", *rights)) as server:
        address = f"redis://limiter:{PASSWORD}@127.0.0.1:{server.port}"
        with RunClient(NEXIO, **settings(service, address)) as client:
            client.get(client.ref(held_run(service)))
        assert len(raw(server.url).keys("runops:rate:*")) == 1
    assert "cannot be used" not in caplog.text


def test_tls_is_spoken_and_its_certificate_is_checked(
    service: Server, binary: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority = Authority(tmp_path)
    certificate = os.fspath(authority.sign("good", "127.0.0.1"))
    tls = free_port()
    files = ("--tls-cert-file", certificate, "--tls-key-file", certificate, "--tls-ca-cert-file", str(authority.path))
    more = ("--tls-port", str(tls), "--tls-auth-clients", "no", *files)
    with RedisServer(binary, more=more) as server:
        for query, works in ((f"?ssl_ca_certs={authority.path}", True), ("", False)):
            caplog.clear()
            with RunClient(NEXIO, **settings(service, f"rediss://127.0.0.1:{tls}/0{query}")) as client:
                client.get(client.ref(held_run(service)))
            assert ("cannot be used" not in caplog.text) is works
        assert len(raw(server.url).keys("runops:rate:*")) == 1


def test_a_store_that_nobody_answers_at_costs_a_look_two_seconds_at_the_most(service: Server) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        address = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        raw(address)
        with RunClient(NEXIO, **settings(service, address)) as client:
            ref = client.ref(held_run(service))
            began = time.monotonic()
            client.get(ref)
            assert time.monotonic() - began < ANSWER_SECONDS + 1.0
            began = time.monotonic()
            client.get(ref)
            assert time.monotonic() - began < 1.0


def test_the_next_client_of_a_process_knows_that_the_store_is_lost(
    service: Server, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        given = settings(service, f"redis://127.0.0.1:{silent.getsockname()[1]}", requests_per_minute=60_000)
        run_id = held_run(service)
        for most in (2 * FIRST_ANSWER_SECONDS, 1.5, 1.5):
            began = time.monotonic()
            with RunClient(NEXIO, **given) as client:
                client.get(client.ref(run_id))
            del client
            gc.collect()
            assert time.monotonic() - began < most
    assert caplog.text.count("cannot be used") == 1


def test_a_loop_is_never_held_by_a_store_that_hangs(service: Server, store: RedisServer) -> None:
    store.hang()

    async def story() -> float:
        late = [0.0]

        async def beat() -> None:
            while True:
                began = time.monotonic()
                await asyncio.sleep(0.02)
                late.append(time.monotonic() - began - 0.02)

        beating = asyncio.create_task(beat())
        async with AsyncRunClient(NEXIO, **settings(service, store.url)) as client:
            ref = client.ref(held_run(service))
            await asyncio.gather(client.get(ref), client.wait(ref, 3.0, poll_interval=0.5))
        beating.cancel()
        return max(late)

    assert asyncio.run(story()) < 0.5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_asks_the_store_itself_and_uses_no_place_of_the_other(
    service: Server, store: RedisServer
) -> None:
    given = settings(service, store.url, requests_per_minute=60_000)
    shared_clock = given["clock"]
    with RunClient(NEXIO, **given) as client:
        ref = client.ref(held_run(service))
        client.get(ref)
        budget = client._session.budget
        assert budget is not None
        budget.refill(50, lambda: None)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                with RunClient(NEXIO, **{**given, "clock": shared_clock}) as own:
                    began = time.monotonic()
                    same = own._session.budget is budget
                    own.get(ref)
                    took = time.monotonic() - began
                    alone = budget.is_alone
                os.write(write, f"{same} {alone} {took < 1.5}".encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert os.read(read, 100) == b"True False True"
        client.get(ref)


# --- bad input ---


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rate_store": "redis://h"}, "rate_store of the test is set without requests_per_minute"),
        ({"processes": 3}, "processes of the test is set without requests_per_minute"),
        ({"requests_per_minute": 60, "processes": 0}, "processes of the test must be a number above 0"),
        ({"requests_per_minute": 60, "processes": 2.5}, "processes of the test must be a whole number"),
        ({"requests_per_minute": 60, "processes": True}, "processes of the test"),
        ({"requests_per_minute": -1}, "requests_per_minute of the test must be a number above 0"),
        ({"requests_per_minute": 60, "rate_store": 7}, "rate_store of the test must be an address, not int"),
        ({"requests_per_minute": 60, "rate_store": f"http://u:{PASSWORD}@h"}, "none of redis, rediss"),
        ({"requests_per_minute": 60, "rate_store": PASSWORD}, "none of redis, rediss"),
        ({"requests_per_minute": 60, "rate_store": f"redis://u:{PASSWORD}@h:x"}, "none of redis, rediss|no address"),
        ({"requests_per_minute": 60, "rate_store": f"redis://u:a/{PASSWORD}@h"}, "no address"),
        ({"requests_per_minute": 60, "rate_store": f"redis://u:a#{PASSWORD}@h"}, "no address"),
        ({"requests_per_minute": 60, "rate_store": "redis://"}, "no address"),
        (
            {"requests_per_minute": 60, "rate_store": f"rediss://:{PASSWORD}@h?ssl_cert_req=none"},
            "has an option that is none of db, ssl_ca_certs",
        ),
        (
            {"requests_per_minute": 60, "rate_store": f"redis://:{PASSWORD}@h?socket_timeout=99"},
            "has an option that is none of",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_by_name_and_no_text_holds_the_address(
    given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message) as refused:
        RunClient(NEXIO, token="k", network_origin="the test", **given)
    assert PASSWORD not in str(refused.value)


def test_no_frame_of_a_refusal_holds_the_address() -> None:
    with pytest.raises(ConfigurationError) as refused:
        RateSettings.of(requests_per_minute=60, rate_store=Secret(f"redis://u:{PASSWORD}@h/a"))
    held = [repr(entry.frame.f_locals) for entry in refused.traceback if "runops" in str(entry.path)]
    assert len(held) >= 2
    assert PASSWORD not in "".join(held)


def test_without_redis_py_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_settings, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'runops\[redis\]'"):
        RunClient(NEXIO, token="k", requests_per_minute=60, rate_store="redis://h")


def test_redis_py_is_not_loaded_before_a_place_is_asked_for() -> None:
    code = (
        "import sys; from runops.core import RunClient, find;"
        "RunClient(find('nexio'), token='k', requests_per_minute=60, rate_store='redis://h');"
        "print('redis' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def test_without_a_store_each_process_keeps_to_its_part(service: Server) -> None:
    clock = Clock()
    with RunClient(
        NEXIO, token=KEY, base_url=service.base_url("nexio"), requests_per_minute=600, processes=10, clock=clock,
        sleep=clock.sleep,
    ) as client:  # fmt: skip
        ref = client.ref(held_run(service))
        for _ in range(4):
            client.get(ref)
    assert clock.passed == pytest.approx(3.0)
