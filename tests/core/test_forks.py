"""What a process that is forked from one with clients may do: nothing with theirs, and everything with its own."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
import traceback
import warnings
from collections.abc import Awaitable, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from pytest_mock import MockerFixture

from runops.core import AsyncRunClient, ConfigurationError, Outcome, RunClient, find
from runops.core.model.cadence import Cadence
from runops.core.model.shared_rate import Reply, SharedRate
from runops.core.polling import poller
from runops.core.polling.poller import Poller
from runops.core.transport.base import Pool, timeouts
from runops.core.transport.http1_pool import Http1Pool
from runops.core.transport.httpx_pool import HttpxPool
from runops.core.transport.rate_store import RateStore
from runops.core.transport.session import Session
from runops.core.transport.shared_budget import SharedBudget
from runops.core.waiting import flows
from runops.core.waiting.options import WaitOptions

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

NEXIO = find("nexio")
REF = NEXIO.ref("r-2")


class Service(ThreadingHTTPServer):
    """Answers that a run goes on until ``over`` is set."""

    daemon_threads = True

    def __init__(self) -> None:
        self.opened = self.asked = 0
        self.over = threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        assert isinstance(self.server, Service)
        self.server.opened += 1

    def do_GET(self) -> None:
        assert isinstance(self.server, Service)
        self.server.asked += 1
        status = "completed" if self.server.over.is_set() else "processing"
        body = json.dumps({"run_id": self.path.rpartition("/")[2], "status": status}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output quiet."""


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def in_child(work: Callable[[], object]) -> str:
    """What a forked process says of some work: its result, or the error that it ended in."""
    reads, writes = os.pipe()
    with warnings.catch_warnings():
        # Python warns that threads do not come along, which is the very point.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            said = str(work())
        except ConfigurationError as error:
            said = f"refused: {error}"
        except BaseException:
            said = traceback.format_exc()
        os.write(writes, said.encode()[:60_000])
        os._exit(0)
    os.close(writes)
    with os.fdopen(reads, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(child, 0)
    return said


def refused(said: str) -> bool:
    return (
        said.startswith("refused:") and "Make a new client in the forked process." in said and str(os.getpid()) in said
    )


def patience(timeout: float = 30) -> WaitOptions:
    return WaitOptions(
        deadline=time.time() + timeout, error_budget=timeout, max_paused=None, cadence=Cadence(0.05, 1.0, 0.05)
    )


ACTIONS: dict[str, Callable[[RunClient], object]] = {
    "get": lambda client: client.get(REF),
    "wait": lambda client: client.wait(REF),
    "watch": lambda client: list(client.watch(REF)),
    "fetch_result": lambda client: client.fetch_result(REF),
    "probe": lambda client: client.probe(),
    "submit": lambda client: client.submit(NEXIO.call(engine_slug="a", input={}), before=lambda known: recorded()),
}


def recorded() -> None:
    raise AssertionError("a submit that is refused must not be recorded as sent")


@pytest.mark.parametrize("action", list(ACTIONS))
def test_a_client_is_refused_in_a_forked_process(service: Service, action: str) -> None:
    with RunClient(NEXIO, token="k", base_url=service.url) as client:
        assert client.get(REF).phase is not None
        assert refused(in_child(lambda: ACTIONS[action](client)))
        assert service.asked == 1


def test_a_watch_that_began_before_the_fork_is_refused(service: Service) -> None:
    with RunClient(NEXIO, token="k", base_url=service.url, sleep=lambda seconds: None) as client:
        watching = client.watch(REF)
        next(iter(watching))
        assert refused(in_child(lambda: next(iter(watching))))


def test_closing_a_client_in_a_forked_process_leaves_the_others_connections_alone(service: Service) -> None:
    with RunClient(NEXIO, token="k", base_url=service.url) as client:
        client.get(REF)
        assert in_child(client.close) == "None"
        client.get(REF)
        assert (service.opened, service.asked) == (1, 2)


def test_a_forked_process_makes_its_own_client(service: Service) -> None:
    service.over.set()

    def its_own() -> object:
        with RunClient(NEXIO, token="k", base_url=service.url) as own:
            return own.wait(REF).outcome

    with RunClient(NEXIO, token="k", base_url=service.url) as client:
        client.get(REF)
        for _ in range(3):
            assert in_child(its_own) == "succeeded"
        client.get(REF)
    assert service.opened == 4


def test_an_async_client_is_refused_in_a_forked_process_and_a_new_one_works(service: Service) -> None:
    async def its_own() -> object:
        async with AsyncRunClient(NEXIO, token="k", base_url=service.url) as own:
            return (await own.wait(REF)).outcome

    async def story() -> None:
        async with AsyncRunClient(NEXIO, token="k", base_url=service.url) as client:
            await client.get(REF)
            for action in (client.get, client.wait, client.fetch_result):
                assert refused(in_child(lambda action=action: asyncio.run(awaited(action(REF)))))
            assert in_child(lambda: asyncio.run(awaited(client.close()))) == "None"
            await client.get(REF)
            assert (service.opened, service.asked) == (1, 2)
            service.over.set()
            assert in_child(lambda: asyncio.run(its_own())) == "succeeded"

    asyncio.run(story())


async def awaited(what: Awaitable[object]) -> object:
    return await what


@pytest.mark.parametrize("kind", [Http1Pool, HttpxPool])
def test_a_pool_is_refused_in_a_forked_process(service: Service, kind: type[Http1Pool | HttpxPool]) -> None:
    pool: Pool = kind(service.url, max_connections=2)
    request = httpx.Request("GET", f"{service.url}/runs/r-2", extensions=timeouts(5))

    async def exchange() -> object:
        return (await pool.exchange(pool.prepare(request), limit=10_000, seconds=5)).status

    assert refused(in_child(lambda: asyncio.run(awaited(exchange()))))
    assert in_child(lambda: asyncio.run(awaited(pool.close()))) == "None"
    assert service.opened == 0


@pytest.mark.long
def test_a_fork_beside_waits_disturbs_neither_them_nor_the_new_process(service: Service) -> None:
    """As where a host forks while its triggers wait: from another thread, over the same key."""
    waits, ready, leased = 5, threading.Event(), list[Poller]()
    ended: list[object] = []

    async def story() -> None:
        async with AsyncRunClient(NEXIO, token="k", base_url=service.url) as client:
            waiting = [asyncio.create_task(client.wait(NEXIO.ref(f"r-{n}"), patience=patience())) for n in range(waits)]
            while service.asked < 3 * waits:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            leased.extend(each for pollers in poller._POLLERS.values() for each in pollers.values())
            ready.set()
            ended.extend(snapshot.outcome for snapshot in await asyncio.gather(*waiting))

    def in_the_child() -> object:
        assert poller._POLLERS == {}

        async def its_own() -> object:
            async with AsyncRunClient(NEXIO, token="k", base_url=service.url) as own:
                return (await own.wait(NEXIO.ref("r-9"), 0.4, poll_interval=0.2)).outcome

        assert asyncio.run(its_own()) is Outcome.TIMED_OUT
        (theirs,) = leased
        asyncio.run(awaited(theirs.release()))
        return asyncio.run(awaited(theirs.carry(flows.wait(NEXIO, REF, patience(), clock=time.time), REF, patience())))

    loop = threading.Thread(target=lambda: asyncio.run(story()))
    loop.start()
    assert ready.wait(20)
    for _ in range(3):
        assert refused(in_child(in_the_child))
    service.over.set()
    loop.join(30)
    assert ended == [Outcome.SUCCEEDED] * waits


def test_a_pause_that_was_asked_for_before_the_fork_is_kept_after_it() -> None:
    asked = Session(NEXIO, token="k", base_url="https://service.example", clock=clock)
    asked.rate_limiter.hold(clock() + 30)
    assert in_child(lambda: Session(NEXIO, token="k", base_url="https://service.example", clock=clock).turn()) == str(
        30.0
    )


def clock() -> float:
    return 1_000_000.0


def test_a_forked_process_asks_the_store_of_a_limit_for_places_of_its_own(mocker: MockerFixture) -> None:
    store = RateStore("a store", mocker.Mock())
    asked = mocker.patch.object(store, "ask")
    budget = SharedBudget(SharedRate(60), store, key="k", title="Nexio", share=1.0, clock=lambda: 1_700_000_000.0)
    assert budget.refill(1, lambda: None) is False
    _, question, answered = asked.call_args.args
    answered(question, Reply(1, 0.0, ahead=0.0, settle=0.0, pause=0.0, born=7))
    assert budget.refill(1, lambda: None) is True
    assert in_child(lambda: budget.refill(1, lambda: None)) == "False"
    assert budget.refill(1, lambda: None) is True
