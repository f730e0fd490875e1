"""The shared poller over connections, in made-up time: no wait is lost, nothing leaks, no service is ever pressed."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import itertools
import json
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx
import pytest
from blockbuster import blockbuster_ctx

from runops.core import (
    AsyncRunClient,
    Outcome,
    PollingError,
    RunNotFound,
    RunopsError,
    RunRef,
    RunSnapshot,
    UnknownStateError,
    find,
)
from runops.core.model.cadence import Cadence
from runops.core.model.errors import AnswerError, RequestRefused
from runops.core.polling import dispatch, pace, poller, timers
from runops.core.polling.poller import Poller
from runops.core.transport.session import Session
from runops.core.waiting import flows
from runops.core.waiting.options import WaitOptions
from runops.core.waiting.state import WaitState
from runops.emulator.server import Server
from tests import simulated_time
from tests.simulated_time import until, wall_clock

T = TypeVar("T")
Reply = tuple[int, dict[str, str], bytes]
NEXIO = find("nexio")
B3OS = find("b3os")
RESET, CUT, HANG = "reset", "cut", "hang"


def body(run_id: str, status: str, **fields: Any) -> Reply:
    over = status not in ("queued", "processing")
    run = {"run_id": run_id, "status": status, "completed_at": "2026-01-01T00:00:00Z" if over else None, **fields}
    return 200, {}, json.dumps(run).encode()


class Service:
    """A raw server in the loop of the test. ``answer`` says what a path is answered, or how it is not."""

    def __init__(self) -> None:
        self.answer: Callable[[str, str], Reply | str] = lambda path, key: body(path.rpartition("/")[2], "processing")
        self.delay = 0.0
        self.asked: list[tuple[float, str, str]] = []
        self.open: set[asyncio.StreamWriter] = set()
        self.tasks: set[asyncio.Task[Any]] = set()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        self.open.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                path = head.split(" ", 2)[1]
                key = head.lower().partition("authorization: bearer ")[2].partition("\r\n")[0]
                self.asked.append((now(), path, key))
                if self.delay:
                    await asyncio.sleep(self.delay)
                if not await self.reply(reader, writer, self.answer(path, key)):
                    return
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            self.open.discard(writer)
            self.tasks.discard(task)
            writer.close()

    async def reply(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, reply: Reply | str) -> bool:
        if reply == HANG:
            await reader.read()
        if isinstance(reply, str):
            if reply == CUT:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
                await writer.drain()
            writer.transport.abort()
            return False
        status, headers, content = reply
        more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"HTTP/1.1 {status} X\r\n{more}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        await writer.drain()
        return True

    def paths(self) -> Counter[str]:
        return Counter(path.rpartition("/")[2].partition("?")[0] for _, path, _ in self.asked)

    def client(self, key: str = "key-1", provider: str = "nexio", **settings: Any) -> AsyncRunClient:
        settings = {"request_timeout": 5, "clock": wall_clock, **settings}
        return AsyncRunClient(find(provider), token=key, base_url=self.url, **settings)


@asynccontextmanager
async def serving() -> AsyncIterator[Service]:
    service = Service()
    server = await asyncio.start_server(service.serve, "127.0.0.1", 0, backlog=1024)
    service.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield service
    finally:
        server.close()
        tasks = tuple(service.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def run(scenario: Callable[[Service], Awaitable[T]]) -> T:
    """Run a scenario in a loop that must never be blocked, and look for anything that it has left behind."""

    async def main() -> T:
        loop: Any = asyncio.get_running_loop()
        async with serving() as service:
            result = await scenario(service)
            await nothing_left(service)
        left = [handle for handle in loop._scheduled if not handle.cancelled()]
        assert left == []
        return result

    with blockbuster_ctx():
        return simulated_time.run(main())


async def carried(shared: Poller, run: RunRef, options: WaitOptions) -> Any:
    """A wait in a given poller, as a client has it there."""
    flow = flows.wait(NEXIO, run, options, clock=wall_clock)
    try:
        return await shared.carry(flow, run, options)
    finally:
        flow.close()


def now() -> float:
    """Seconds of the running loop."""
    return asyncio.get_running_loop().time()


async def nothing_left(service: Service) -> None:
    """No poller, no task, and soon no connection."""
    assert asyncio.get_running_loop() not in poller._POLLERS
    others: set[asyncio.Task[Any]] = set()
    for _ in range(200):
        others = {task for task in asyncio.all_tasks() - service.tasks if task is not asyncio.current_task()}
        if not service.open and not others and not poller._CLOSING:
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"left behind: {len(service.open)} connections, tasks {others}")


def fast(
    seconds: float = 0.05, timeout: float = 60.0, *, error_budget: float = 30.0, clock: Callable[[], float] = wall_clock
) -> WaitOptions:
    return WaitOptions(
        deadline=clock() + timeout,
        error_budget=error_budget,
        max_paused=None,
        cadence=Cadence(seconds, 1.0, seconds),
    )


def ref(run_id: str | int, provider: str = "nexio") -> RunRef:
    return find(provider).ref(str(run_id))


def the_poller() -> Poller:
    (found,) = poller._POLLERS[asyncio.get_running_loop()].values()
    return found


def alive() -> int:
    """How many objects of ours and of asyncio there are."""
    gc.collect()
    counts = Counter(map(type, gc.get_objects()))
    return sum(n for kind, n in counts.items() if str(kind.__module__).startswith(("runops", "_asyncio")))


async def cancelled(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


# --- one read for all ------------------------------------------------------------------------------------------


def test_waits_on_one_run_share_its_reads_and_all_wake() -> None:
    async def scenario(service: Service) -> None:
        client = service.client()
        seen: list[list[RunSnapshot]] = [[] for _ in range(20)]
        waits = [asyncio.create_task(client.wait(ref("a"), patience=fast(0.1), on_update=each.append)) for each in seen]
        await until(lambda: len(service.asked) == 3)
        assert {len(each) for each in seen} <= {2, 3}
        service.answer = lambda path, key: body("a", "completed")
        assert {last.outcome for last in await asyncio.gather(*waits)} == {Outcome.SUCCEEDED}
        assert len(service.asked) <= 5
        assert all(each[-1].outcome is Outcome.SUCCEEDED for each in seen)

    run(scenario)


def test_a_wait_that_joins_a_read_under_way_asks_nothing_itself() -> None:
    async def scenario(service: Service) -> None:
        service.delay = 0.2
        service.answer = lambda path, key: body("a", "completed")
        first = asyncio.create_task(service.client().wait(ref("a"), patience=fast()))
        await until(lambda: service.asked)
        second = await service.client().wait(ref("a"), patience=fast())
        assert second.outcome is (await first).outcome is Outcome.SUCCEEDED
        assert len(service.asked) == 1

    run(scenario)


def test_a_long_sleeper_is_woken_by_the_look_of_a_neighbour() -> None:
    async def scenario(service: Service) -> None:
        client = service.client()
        sleeper = asyncio.create_task(client.wait(ref("a"), patience=fast(3600, 7200)))
        await until(lambda: service.asked)
        quick = asyncio.create_task(client.wait(ref("a"), patience=fast()))
        await until(lambda: len(service.asked) > 3)
        service.answer = lambda path, key: body("a", "failed")
        async with asyncio.timeout(2):
            assert (await sleeper).outcome is (await quick).outcome is Outcome.FAILED

    run(scenario)


def test_a_sleeper_that_is_woken_often_leaves_nothing_in_the_heap() -> None:
    async def scenario(service: Service) -> None:
        client = service.client()
        looks: list[RunSnapshot] = []
        waits = [
            asyncio.create_task(client.wait(ref("a"), patience=fast(3600, 7200), on_update=looks.append))
            for _ in range(10)
        ]
        waits.append(asyncio.create_task(client.wait(ref("a"), patience=fast(0.005), on_update=looks.append)))
        await until(lambda: len(looks) > 11 * 40)
        shared = the_poller()
        assert len(shared._timers) <= 2 * len(waits) + timers.AT_ONCE
        await cancelled(*waits)

    run(scenario)


def test_a_body_that_says_the_same_again_is_not_read_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[bytes] = []
    real = type(NEXIO).read

    def counted(self: Any, of: RunRef, content: bytes) -> Any:
        read.append(content)
        return real(self, of, content)

    monkeypatch.setattr(type(NEXIO), "read", counted)

    async def scenario(service: Service) -> None:
        looks: list[RunSnapshot] = []
        wait = asyncio.create_task(service.client().wait(ref("a"), patience=fast(), on_update=looks.append))
        await until(lambda: len(looks) >= 5)
        assert len(read) == 1
        service.answer = lambda path, key: body("a", "processing", stage="second")
        await until(lambda: looks[-1].details.get("stage") == "second")
        service.answer = lambda path, key: body("a", "completed")
        assert (await wait).outcome is Outcome.SUCCEEDED
        assert len(read) == 3

    run(scenario)


# --- whose trouble it is ---------------------------------------------------------------------------------------


def test_the_trouble_of_one_run_stays_with_it() -> None:
    def answer(path: str, key: str) -> Reply | str:
        name = path.rpartition("/")[2]
        troubles: dict[str, Reply | str] = {
            "refused": (422, {}, b"{}"),
            "unknown": body(name, "melted"),
            "html": (200, {}, b"<html>"),
            "reset": RESET,
            "cut": CUT,
        }
        return troubles.get(name) or body(name, "completed" if name == "done" else "processing")

    async def scenario(service: Service) -> None:
        service.answer = answer
        client = service.client()
        impatient = fast(error_budget=0.5)
        looks: list[RunSnapshot] = []
        names = ("refused", "unknown", "html", "reset", "cut", "done")
        ends = {name: asyncio.create_task(client.wait(ref(name), patience=impatient)) for name in names}
        healthy = asyncio.create_task(client.wait(ref("healthy"), patience=fast(), on_update=looks.append))
        await asyncio.wait(ends.values())
        assert {name: type(task.exception()) for name, task in ends.items()} == {
            "refused": RequestRefused,
            "unknown": UnknownStateError,
            "html": PollingError,
            "reset": PollingError,
            "cut": PollingError,
            "done": type(None),
        }
        assert len(looks) >= 5
        assert not healthy.done()
        await cancelled(healthy)

    run(scenario)


def test_a_run_that_cannot_be_asked_for_ends_its_own_wait_only() -> None:
    async def scenario(service: Service) -> None:
        client = service.client()
        other = asyncio.create_task(client.wait(ref("a"), patience=fast()))
        with pytest.raises(httpx.InvalidURL):
            await client.wait(ref("x" * 70_000), patience=fast())
        service.answer = lambda path, key: body("a", "completed")
        assert (await other).outcome is Outcome.SUCCEEDED

    run(scenario)


@pytest.mark.parametrize("kind", [ValueError, asyncio.CancelledError])
def test_what_on_look_raises_ends_its_own_wait_only(kind: type[BaseException]) -> None:
    def refuse(snapshot: RunSnapshot) -> None:
        raise kind("mine")

    async def scenario(service: Service) -> None:
        client = service.client()
        others = [asyncio.create_task(client.wait(ref("a"), patience=fast())) for _ in range(3)]
        with pytest.raises(kind, match="mine"):
            await client.wait(ref("a"), patience=fast(), on_update=refuse)
        await until(lambda: len(service.asked) > 3)
        service.answer = lambda path, key: body("a", "completed")
        assert {(await other).outcome for other in others} == {Outcome.SUCCEEDED}

    run(scenario)


def test_on_look_may_cancel_the_wait_it_belongs_to() -> None:
    async def scenario(service: Service) -> None:
        client = service.client()
        other = asyncio.create_task(client.wait(ref("a"), patience=fast()))

        def give_up(snapshot: RunSnapshot) -> None:
            task.cancel()

        task = asyncio.create_task(client.wait(ref("a"), patience=fast(), on_update=give_up))
        with pytest.raises(asyncio.CancelledError):
            await task
        service.answer = lambda path, key: body("a", "completed")
        assert (await other).outcome is Outcome.SUCCEEDED

    run(scenario)


@pytest.mark.long
def test_an_error_that_is_kept_holds_no_frames_and_no_bodies() -> None:
    async def scenario(service: Service) -> None:
        service.answer = lambda path, key: (500, {}, b"x" * 100_000)
        ours = [ref(f"kept-{n}") for n in range(3)]
        waits = [asyncio.create_task(service.client().wait(each, patience=fast())) for each in ours]
        await until(lambda: len(service.asked) >= 6)
        await asyncio.sleep(0.05)
        gc.collect()
        watches = [each for each in gc.get_objects() if type(each) is WaitState and each.ref in ours]
        kept = [each._error for each in watches if each._error is not None]
        assert [each.status for each in kept] == [500] * 3
        assert [each.__traceback__ for each in kept] == [None] * 3
        await cancelled(*waits)

    run(scenario)


# --- coming and going ------------------------------------------------------------------------------------------


def test_the_last_waiter_out_closes_the_connections_and_the_next_one_opens_new_ones() -> None:
    async def scenario(service: Service) -> None:
        service.answer = lambda path, key: body(path.rpartition("/")[2], "completed")
        for round_ in range(3):
            await asyncio.gather(*(service.client().wait(ref(f"{round_}-{n}"), patience=fast()) for n in range(8)))
            await nothing_left(service)
        assert len(service.asked) == 24

    run(scenario)


def test_settings_or_credentials_that_differ_share_no_poller() -> None:
    async def scenario(service: Service) -> None:
        clients = [service.client("a"), service.client("b"), service.client("a", requests_per_minute=6000)]
        waits = [asyncio.create_task(client.wait(ref("a"), patience=fast())) for client in [*clients, clients[0]]]
        await until(lambda: len(service.asked) >= 3)
        assert len(poller._POLLERS[asyncio.get_running_loop()]) == 3
        await cancelled(*waits)

    run(scenario)


@pytest.mark.parametrize("moment", range(12))
def test_a_waiter_cancelled_at_any_moment_leaves_nothing(moment: int) -> None:
    async def scenario(service: Service) -> None:
        service.delay = 0.002
        client = service.client()
        waits = [asyncio.create_task(client.wait(ref(n % 3), patience=fast(0.005))) for n in range(6)]
        for _ in range(moment * 3):
            await asyncio.sleep(0)
        if moment > 8:
            await asyncio.sleep(0.003 * moment)
        rounds = random.Random(moment)
        rounds.shuffle(waits)
        for wait in waits:
            wait.cancel()
            for _ in range(rounds.randrange(4)):
                await asyncio.sleep(0)
            # Once more, while its own cleaning up goes on.
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        assert all(wait.cancelled() for wait in waits)

    run(scenario)


def test_a_cancelled_wait_in_a_long_line_takes_no_place_there() -> None:
    async def scenario(service: Service) -> None:
        client = service.client(requests_per_minute=60)
        waits = [asyncio.create_task(client.wait(ref(n), patience=fast(1))) for n in range(50)]
        await until(lambda: service.asked)
        await cancelled(*waits[:40], *waits[41:])
        began = now()
        await until(lambda: service.paths()["40"])
        assert now() - began < 2.5
        await cancelled(waits[40])

    run(scenario)


def test_closing_the_poller_ends_the_waits_that_are_still_under_way() -> None:
    async def scenario(service: Service) -> None:
        shared = Poller.lease(Session(NEXIO, token="k", base_url=service.url))
        service.delay = 0.05
        waits = [asyncio.create_task(carried(shared, ref(n), fast())) for n in range(30)]
        await until(lambda: len(service.asked) > 3)
        await shared.release()
        ends = await asyncio.gather(*waits, return_exceptions=True)
        assert all(isinstance(end, AnswerError) for end in ends)

    run(scenario)


def test_a_worker_that_is_cancelled_from_outside_loses_no_wait() -> None:
    async def scenario(service: Service) -> None:
        service.delay = 0.05
        client = service.client()
        waits = [asyncio.create_task(client.wait(ref(n), patience=fast())) for n in range(12)]
        for _ in range(5):
            await asyncio.sleep(0.03)
            for worker in tuple(the_poller()._dispatcher.connections._workers):
                worker.cancel()
        service.answer = lambda path, key: body(path.rpartition("/")[2], "completed")
        async with asyncio.timeout(5):
            assert {last.outcome for last in await asyncio.gather(*waits)} == {Outcome.SUCCEEDED}

    run(scenario)


def test_a_transport_that_cancels_itself_fails_a_read_and_not_the_wait() -> None:
    class Odd(httpx.AsyncBaseTransport):
        asked = 0

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            self.asked += 1
            if self.asked < 2:
                raise asyncio.CancelledError
            return httpx.Response(200, content=body("a", "completed")[2])

    async def scenario(service: Service) -> None:
        last = await service.client(transport=Odd()).wait(ref("a"), patience=fast())
        assert last.outcome is Outcome.SUCCEEDED

    run(scenario)


def test_a_loop_that_dies_over_its_waits_does_not_harm_the_next_one() -> None:
    loop = asyncio.new_event_loop()

    async def begin() -> asyncio.Task[Any]:
        transport = httpx.MockTransport(lambda request: httpx.Response(200, content=body("a", "processing")[2]))
        client = AsyncRunClient(NEXIO, token="k", base_url="http://127.0.0.1:9", transport=transport)
        task = asyncio.create_task(client.wait(ref("a"), patience=fast(clock=time.time)))
        await asyncio.sleep(0.02)
        return task

    task: Any = loop.run_until_complete(begin())
    task._log_destroy_pending = False
    for each in asyncio.all_tasks(loop):
        each._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    assert loop in poller._POLLERS

    async def scenario(service: Service) -> None:
        service.answer = lambda path, key: body("a", "completed")
        assert (await service.client().wait(ref("a"), patience=fast())).outcome is Outcome.SUCCEEDED
        assert loop not in poller._POLLERS

    run(scenario)


def test_one_asyncio_run_after_the_other_works_with_the_same_client(served: Server) -> None:
    client = AsyncRunClient(NEXIO, token="k", base_url=served.base_url("nexio"))
    for _ in range(4):
        run_id = served.emulator.create_run("nexio", script="succeeded", seconds=0.1)
        assert asyncio.run(client.wait(ref(run_id), patience=fast(clock=time.time))).outcome is Outcome.SUCCEEDED
    assert not poller._POLLERS


def test_two_loops_in_two_threads_do_not_meet(served: Server) -> None:
    ends: list[Outcome | None] = []

    def work() -> None:
        async def main() -> None:
            client = AsyncRunClient(NEXIO, token="k", base_url=served.base_url("nexio"))
            ids = [served.emulator.create_run("nexio", script="succeeded", seconds=0.3) for _ in range(20)]
            waits = [client.wait(ref(run_id), patience=fast(clock=time.time)) for run_id in ids]
            ends.extend([last.outcome for last in await asyncio.gather(*waits)])

        asyncio.run(main())

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert ends == [Outcome.SUCCEEDED] * 60
    assert not poller._POLLERS


def test_ctrl_c_leaves_nothing_behind() -> None:
    left: list[Any] = []

    async def main() -> None:
        async with serving() as service:
            waits = [asyncio.create_task(service.client().wait(ref(n), patience=fast())) for n in range(20)]
            await until(lambda: len(service.asked) > 30)
            left.extend(waits)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulated_time.run(main())
    assert all(task.cancelled() for task in left)
    assert not poller._POLLERS
    assert not poller._CLOSING


# --- whose log it is -------------------------------------------------------------------------------------------

WHO: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


def test_what_a_wait_says_lands_with_its_waiter_and_what_the_poller_says_with_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dispatch, "SETTLED", 0.3)
    said: list[tuple[str, str]] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append((WHO.get(), record.getMessage()))

    async def scenario(service: Service) -> None:
        service.answer = lambda path, key: body(path.rpartition("/")[2], "pondering", completed_at=None)
        client = service.client(requests_per_minute=480)
        looks: list[str] = []

        async def wait(number: int) -> None:
            WHO.set(f"waiter-{number}")
            await client.wait(ref(number), patience=fast(), on_update=lambda _: looks.append(WHO.get()))

        waits = [asyncio.create_task(wait(number)) for number in range(10)]
        await until(lambda: len(looks) > 15)
        assert set(looks) == {f"waiter-{number}" for number in range(10)}
        await cancelled(*waits)

    listener = Listener()
    logging.getLogger("runops").addHandler(listener)
    try:
        run(scenario)
    finally:
        logging.getLogger("runops").removeHandler(listener)
    unknown = sorted(who for who, line in said if "pondering" in line)
    assert unknown == sorted(f"waiter-{number}" for number in range(10))
    assert {who for who, line in said if "pondering" not in line} == {"nobody"}


# --- limits ----------------------------------------------------------------------------------------------------


def test_a_declared_limit_is_kept_fairly_and_its_delay_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(dispatch, "SETTLED", 0.8)
    per_second, count = 80, 100

    async def scenario(service: Service) -> None:
        client = service.client(requests_per_minute=per_second * 60)
        waits = [asyncio.create_task(client.wait(ref(n), patience=fast(0.2))) for n in range(count)]
        await asyncio.sleep(count / per_second * 2.3)
        moments = [moment for moment, _, _ in service.asked]
        for moment in moments:
            most = per_second * (1 + dispatch.LATENESS) + 1
            assert sum(moment <= other < moment + 1 for other in moments) <= most
        assert len(moments) > per_second * 0.9 * (moments[-1] - moments[0])
        # In order: nobody has a third look before all have had their second.
        turns = service.paths()
        assert len(turns) == count
        assert max(turns.values()) - min(turns.values()) <= 1
        await cancelled(*waits)

    with caplog.at_level(logging.WARNING, "runops"):
        run(scenario)
    (line,) = [record for record in caplog.records if "later than planned" in record.getMessage()]
    assert isinstance(line.args, tuple)
    late = line.args[-1]
    assert isinstance(late, float)
    assert late == pytest.approx(count / per_second - 0.2, rel=0.25)


def test_without_a_limit_a_429_halves_the_pace_and_it_recovers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "RECOVERY", 0.1)

    async def scenario(service: Service) -> None:
        client = service.client()
        waits = [asyncio.create_task(client.wait(ref(n), patience=fast(0.2))) for n in range(40)]
        await until(lambda: len(service.asked) > 100)
        shared = the_poller()
        planned = shared._pace.planned
        assert shared._pace.allowed == pytest.approx(planned * pace.CATCH_UP)
        service.answer = lambda path, key: (429, {}, b"{}")
        before = len(service.asked)
        await until(lambda: len(service.asked) > before)
        service.answer = lambda path, key: body(path.rpartition("/")[2], "processing")
        await until(lambda: shared._pace.is_stretched)
        assert shared._pace.allowed <= planned * 0.6
        await until(lambda: not shared._pace.is_stretched, 5)
        await cancelled(*waits)

    run(scenario)


def test_a_service_that_refuses_everything_is_asked_less_and_less_and_soon_as_before_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pace, "RECOVERY", 0.2)
    count, every = 100, 0.5
    planned = count / every

    async def scenario(service: Service) -> None:
        client = service.client()
        waits = [asyncio.create_task(client.wait(ref(n), patience=fast(every))) for n in range(count)]
        await until(lambda: len(service.asked) > 2 * count)
        shared = the_poller()
        service.answer = lambda path, key: (429, {}, b"{}")
        await until(lambda: shared._pace.allowed <= planned / 8, 10)
        service.answer = lambda path, key: body(path.rpartition("/")[2], "processing")
        began = now()
        await until(lambda: shared._pace.allowed >= planned / 2, 10)
        # By doubling; by tenths alone it would take three times as long.
        assert now() - began < 0.2 * 12
        await cancelled(*waits)

    run(scenario)


def test_retry_after_holds_back_its_credential_and_no_other() -> None:
    async def scenario(service: Service) -> None:
        held = [service.client("held"), service.client("held")]
        free = service.client("free")
        waits = [asyncio.create_task(held[n % 2].wait(ref(n), patience=fast())) for n in range(10)]
        waits.append(asyncio.create_task(free.wait(ref("z"), patience=fast())))
        await until(lambda: len(service.asked) > 30)
        before = len(service.asked)
        service.answer = lambda path, key: (
            (429, {"Retry-After": "1"}, b"{}") if key == "held" else body(path.rpartition("/")[2], "processing")
        )
        await until(lambda: any(key == "held" for _, _, key in service.asked[before:]))
        service.answer = lambda path, key: body(path.rpartition("/")[2], "processing")
        began = now()
        await asyncio.sleep(1.5)
        later = [(moment - began, key) for moment, _, key in service.asked[before:]]
        # What was on its way when the answer came is not called back.
        assert [moment for moment, key in later if key == "held" and 0.05 < moment < 0.9] == []
        assert [moment for moment, key in later if key == "held" and moment > 0.95] != []
        assert sum(key == "free" and 0.05 < moment < 0.9 for moment, key in later) > 8
        await cancelled(*waits)

    run(scenario)


@pytest.mark.long
@pytest.mark.parametrize("trouble", ["pause", "outage"])
def test_no_herd_comes_back_after_trouble(trouble: str) -> None:
    count, every = 150, 0.5
    planned = count / every

    async def scenario(service: Service) -> None:
        client = service.client()
        waits = [asyncio.create_task(client.wait(ref(n), patience=fast(every))) for n in range(count)]
        await until(lambda: len(service.asked) > count * 2)
        broken: Reply | str = (503, {"Retry-After": "1"}, b"{}") if trouble == "pause" else RESET
        service.answer = lambda path, key: broken
        await asyncio.sleep(1.2)
        service.answer = lambda path, key: body(path.rpartition("/")[2], "processing")
        began = now()
        # All are seen again, though not all at once.
        await until(lambda: len({path for moment, path, _ in service.asked if moment > began}) == count, 6)
        moments = [moment for moment, _, _ in service.asked]
        for start in moments:
            # A tenth of a second's worth, what leaves at the tick that ends it, and what a late timer may catch up.
            most = (0.1 + dispatch.LATENESS + dispatch.TICK) * planned * pace.CATCH_UP + 8
            assert sum(start <= other < start + 0.1 for other in moments) <= most
        await cancelled(*waits)

    run(scenario)


def test_a_wait_in_a_long_line_ends_at_its_deadline() -> None:
    async def scenario(service: Service) -> None:
        client = service.client(requests_per_minute=120)
        waits = [asyncio.create_task(client.wait(ref(n), patience=fast(0.5, 1.0))) for n in range(40)]
        began = now()
        ends = await asyncio.gather(*waits, return_exceptions=True)
        assert now() - began < 3.0
        for end in ends:
            # Those that were never seen cannot tell how the run stands.
            assert isinstance(end, PollingError) or (isinstance(end, RunSnapshot) and end.outcome is Outcome.TIMED_OUT)

    run(scenario)


def test_a_pause_that_is_asked_for_later_does_not_hold_a_wait_beyond_its_deadline() -> None:
    async def scenario(service: Service) -> None:
        client = service.client(requests_per_minute=240)
        patient = [asyncio.create_task(client.wait(ref(n), patience=fast(0.3, 90))) for n in range(4)]
        await until(lambda: len(service.asked) >= 4)
        wait = asyncio.create_task(client.wait(ref("short"), patience=fast(0.3, 1.5)))
        await until(lambda: service.paths()["short"])
        service.answer = lambda path, key: (503, {"Retry-After": "600"}, b"{}")
        began = now()
        last = await wait
        assert last.outcome is Outcome.TIMED_OUT
        assert now() - began < 4
        await cancelled(*patient)

    run(scenario)


def test_reads_that_hang_do_not_keep_the_others_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "OVERDUE", 0.2)
    monkeypatch.setattr(dispatch, "OVERDUE", 0.2)

    async def scenario(service: Service) -> None:
        service.answer = lambda path, key: HANG if "hang" in path else body(path.rpartition("/")[2], "processing")
        client = service.client(request_timeout=30)
        waits = [asyncio.create_task(client.wait(ref(f"hang-{n}"), patience=fast())) for n in range(12)]
        await until(lambda: len(service.asked) >= pace.FEWEST_CONNECTIONS)
        looks: list[RunSnapshot] = []
        waits.append(asyncio.create_task(client.wait(ref("well"), patience=fast(), on_update=looks.append)))
        await until(lambda: len(looks) > 5, 3)
        await cancelled(*waits)

    run(scenario)


# --- why a run failed ------------------------------------------------------------------------------------------


def b3os(path: str, status: str = "failure") -> Reply:
    run_id = path.rpartition("/")[2].partition("?")[0]
    run = {"id": run_id, "status": status, "finishedAt": "2026-01-01T00:00:00Z" if status != "running" else None}
    if "summary" not in path:
        run["executionState"] = {"n1": {"type": "http", "status": "failure", "result": {"error": "No gas."}}}
    return 200, {}, json.dumps({"data": run}).encode()


def test_the_reason_of_a_failure_is_asked_for_before_the_line() -> None:
    async def scenario(service: Service) -> None:
        service.answer = lambda path, key: b3os(path, "failure" if "bad" in path else "running")
        client = service.client(provider="b3os", requests_per_minute=1200)
        waits = [asyncio.create_task(client.wait(ref(n, "b3os"), patience=fast(0.2))) for n in range(40)]
        bad = asyncio.create_task(client.wait(ref("bad", "b3os"), patience=fast(0.2)))
        await until(lambda: service.paths()["bad"] == 2, 12)
        assert (await bad).reason == "n1 (http): No gas."
        moments = [moment for moment, path, _ in service.asked if "bad" in path]
        assert moments[1] - moments[0] < 0.6
        await cancelled(*waits)

    run(scenario)


def test_a_reason_that_is_held_back_does_not_hold_back_the_outcome() -> None:
    async def scenario(service: Service) -> None:
        service.answer = lambda path, key: b3os(path)
        service.delay = 0.3
        wait = asyncio.create_task(service.client(provider="b3os").wait(ref("bad", "b3os"), patience=fast(0.2, 60)))
        await until(lambda: service.asked)
        the_poller()._session.rate_limiter.hold(wall_clock() + 600)
        async with asyncio.timeout(3):
            last = await wait
        assert (last.outcome, last.reason, len(service.asked)) == (Outcome.FAILED, None, 1)

    run(scenario)


def test_a_reason_that_does_not_come_keeps_nobody_beyond_the_deadline() -> None:
    async def scenario(service: Service) -> None:
        service.answer = lambda path, key: b3os(path) if "summary" in path else HANG
        # Another key than that of the test before, which is held back for minutes.
        client = service.client("key-2", provider="b3os", request_timeout=60)
        began = now()
        last = await client.wait(ref("bad", "b3os"), patience=fast(0.2, 3.0))
        assert (last.outcome, last.reason, len(service.asked)) == (Outcome.FAILED, None, 2)
        assert now() - began < 3.0 + 2 * poller.IN_LINE

    run(scenario)


# --- all of it -------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2])
def test_every_wait_ends_right_through_faults_limits_and_cancellations(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "RECOVERY", 0.3)
    chance = random.Random(seed)
    count = 200
    ends = {str(n): chance.choice(["completed", "failed", "degraded"]) for n in range(count)}
    over = {name: chance.uniform(0.0, 1.5) for name in ends}
    wanted = {"completed": Outcome.SUCCEEDED, "failed": Outcome.FAILED, "degraded": Outcome.DEGRADED}

    def answer(path: str, key: str) -> Reply | str:
        drawn = chance.random()
        for kind, share in ((RESET, 0.05), (CUT, 0.03), (HANG, 0.005)):
            if drawn < share:
                return kind
            drawn -= share
        if drawn < 0.1:
            return 500, {}, b"oops"
        if drawn < 0.103:
            return 429, {"Retry-After": "0.2"}, b"{}"
        if drawn < 0.13:
            return 200, {}, b"<html>"
        name = path.rpartition("/")[2]
        return body(name, ends[name] if now() > over[name] else "processing")

    async def scenario(service: Service) -> None:
        service.answer = answer
        clients = [service.client(request_timeout=0.5) for _ in range(5)]
        waits: dict[asyncio.Task[RunSnapshot], str] = {}
        for n in range(count):
            for _ in range(chance.choice([1, 1, 2])):
                patience = fast(chance.choice([0.2, 0.4]), 60, error_budget=60)
                task = asyncio.create_task(chance.choice(clients).wait(ref(n), patience=patience))
                waits[task] = str(n)
            if n % 20 == 0:
                await asyncio.sleep(0.01)
        doomed = chance.sample(list(waits), 60)
        for task in doomed:
            task.cancel()
            await asyncio.sleep(0.01)
        async with asyncio.timeout(120):
            await asyncio.wait(waits)
        for task, name in waits.items():
            if not task.cancelled():
                assert task.result().outcome is wanted[ends[name]]
        assert {task for task in waits if task.cancelled()} <= set(doomed)

    run(scenario)


@pytest.mark.long
def test_many_short_waits_leave_no_memory_behind() -> None:
    async def scenario(service: Service) -> None:
        def answer(path: str, key: str) -> Reply:
            name = path.rpartition("/")[2]
            return body(name, "processing" if name == "stays" else "completed")

        service.answer = answer
        client = service.client()
        stays = asyncio.create_task(client.wait(ref("stays"), patience=fast(3600, 7200)))
        await until(lambda: service.asked)
        counts: list[int] = []
        for round_ in range(5):
            for batch in range(3):
                waits = (client.wait(ref(f"{round_}-{batch}-{n}"), patience=fast()) for n in range(100))
                await asyncio.gather(*waits)
            service.asked.clear()
            await asyncio.sleep(0.05)
            if round_ in (1, 4):
                counts.append(alive())
        shared = the_poller()
        assert (len(shared._runs), len(shared._reads.lists.batches), len(shared._dispatcher)) == (1, 0, 0)
        assert len(shared._timers) <= 2 * 101 + timers.AT_ONCE
        # A leak of two objects would show after 900 more waits; the heap is cleared of old entries now and then.
        assert counts[1] - counts[0] < 1800
        await cancelled(stays)

    run(scenario)


@pytest.mark.parametrize("provider", ["nexio", "nyx", "onepin", "b3os", "nekt"])
def test_many_waits_of_each_provider_end_as_their_runs_do(served: Server, provider: str) -> None:
    declared = find(provider)
    workflow = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
    parents = {"onepin": {"workflow_id": workflow}, "b3os": {"workflow_id": "wf_many"}}.get(provider)
    scripts = ["succeeded", "failed", "running"]
    runs = {
        served.emulator.create_run(provider, script=scripts[n % 3], seconds=0.2, parents=parents): scripts[n % 3]
        for n in range(30)
    }
    known = parents if declared.parents else None

    async def main() -> list[RunSnapshot]:
        client = AsyncRunClient(declared, token="k", base_url=served.base_url(provider))
        return await asyncio.gather(
            *(client.wait(declared.ref(run_id, known), patience=fast(0.2, 1.0, clock=time.time)) for run_id in runs)
        )

    wanted = {"succeeded": Outcome.SUCCEEDED, "failed": Outcome.FAILED, "running": Outcome.TIMED_OUT}
    with blockbuster_ctx():
        ends = asyncio.run(main())
    assert [end.outcome for end in ends] == [wanted[script] for script in runs.values()]
    assert not poller._POLLERS


def test_a_missing_run_has_its_grace_only_while_its_submit_is_recent() -> None:
    async def scenario(service: Service) -> None:
        service.answer = lambda path, key: (404, {}, b"{}")
        with pytest.raises(RunNotFound):
            await service.client().wait(ref("gone"), patience=fast(0.2, 60), submitted_at=wall_clock() - 31)
        assert len(service.asked) == 1
        with pytest.raises(RunopsError):
            await service.client().wait(ref("gone"), patience=fast(0.2, 1.2))
        assert len(service.asked) > 1

    run(scenario)


@pytest.mark.long
def test_waits_are_not_late_because_others_have_just_ended() -> None:
    count, every = 200, 1.0
    seen: dict[int, float] = {}

    async def scenario(service: Service) -> None:
        client = service.client()

        async def wait(number: int) -> None:
            await client.wait(ref(number), patience=fast(every))
            seen[number] = now()

        waits = [asyncio.create_task(wait(number)) for number in range(count)]
        await until(lambda: len(service.asked) > 3 * count, 10)
        service.answer = lambda path, key: body(path.rpartition("/")[2], "completed")
        ended = now()
        await asyncio.gather(*waits)
        # All runs ended at one moment: each is noticed at its next look, the last ones no later than the first.
        assert max(seen.values()) - ended < every * 1.05 + 1.0

    run(scenario)


@pytest.mark.parametrize(
    ("delay", "shortest", "longest"), [(0.1, 1.5, 1.5 * 1.05), (0.5, 0.5 + 1.35, 0.5 + 1.35 * 1.05)]
)
def test_the_interval_is_from_look_to_look_and_a_slow_service_has_nine_tenths_of_it_to_rest(
    delay: float, shortest: float, longest: float
) -> None:
    async def scenario(service: Service) -> None:
        service.delay = delay
        client = service.client()
        wait = asyncio.create_task(client.wait(ref("a"), patience=fast(1.5)))
        await until(lambda: len(service.asked) >= 12, 60)
        moments = [moment for moment, _, _ in service.asked]
        gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
        assert all(shortest - 0.001 <= gap <= longest + dispatch.TICK for gap in gaps[1:]), gaps
        await cancelled(wait)

    run(scenario)


def test_a_wait_without_an_end_waits_in_line_like_any_other() -> None:
    async def scenario(service: Service) -> None:
        client = service.client(requests_per_minute=600)
        waits = [asyncio.create_task(client.wait(ref(n), patience=fast(0.5, float("inf")))) for n in range(8)]
        await until(lambda: len(service.asked) >= 8)
        service.answer = lambda path, key: body(path.rpartition("/")[2], "completed")
        assert {end.outcome for end in await asyncio.gather(*waits)} == {Outcome.SUCCEEDED}

    run(scenario)
