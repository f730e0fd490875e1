"""Waits at a service that mixes its answers up: one read in ten is answered about another run that is over.

Now and then a second answer follows that nobody asked for: in one piece with the right one, after it, or late. The
waits go over httpx and both pools, in threads and in forked processes. RUNOPS_MIXED_UP_READS=20000 makes it as long as
the promise is; without it CI makes fewer.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import socket
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from zlib import crc32

import pytest

from runops.core import AsyncRunClient, ConfigurationError, Provider, RunClient, RunSnapshot, find
from runops.core.model.cadence import Cadence
from runops.core.polling import dispatch
from runops.core.transport import open_pool
from runops.core.waiting import state
from runops.core.waiting.options import WaitOptions
from tests.clocked_client import ClockedClient

READS = int(os.environ.get("RUNOPS_MIXED_UP_READS", "3000"))
WORKFLOW = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
ENDS = {
    "nexio": {"completed": "succeeded", "degraded": "degraded", "failed": "failed"},
    "nyx": {"cancelled": "cancelled", "failed": "failed", "completed": "succeeded"},
    "onepin": {"completed": "succeeded", "failed": "failed", "cancelled": "cancelled"},
    "b3os": {"success": "succeeded", "cancelled": "cancelled"},
    "nekt": {"success": "succeeded", "failed": "failed", "canceled": "cancelled"},
}
ACTIVE = {"nexio": "processing", "nyx": "running", "onepin": "running", "b3os": "waiting", "nekt": "queued"}
ONE_FORK = threading.Lock()
LOOKS = 6
"""Reads of a run until it is over, at the least on average."""


def looks_of(run_id: str) -> int:
    """How many right answers say that a run goes on."""
    return 2 + crc32(run_id.encode()) % 11


def end_of(provider: str, run_id: str) -> str:
    """The provider's word for how a run ends."""
    return list(ENDS[provider])[crc32(run_id[::-1].encode()) % len(ENDS[provider])]


class MixedUp:
    """The service; one thread for each connection."""

    def __init__(self, seed: int) -> None:
        self.reads = 0
        self.answered: Counter[str] = Counter()
        """Right answers by run."""
        self.did: Counter[str] = Counter()
        self._chance = random.Random(seed)
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._open: set[socket.socket] = set()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()
        for connection in tuple(self._open):
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        pending = b""
        try:
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while True:
                    while b"\r\n\r\n" not in pending:
                        piece = connection.recv(65_536)
                        if not piece:
                            return
                        pending += piece
                    head, _, pending = pending.partition(b"\r\n\r\n")
                    for answer, pause in self._answers(head.split(b" ", 2)[1].decode()):
                        time.sleep(pause)
                        connection.sendall(answer)
        except OSError:
            return
        finally:
            self._open.discard(connection)

    def _answers(self, path: str) -> Sequence[tuple[bytes, float]]:
        """What goes out for a request, each after a pause in seconds."""
        parts = path.partition("?")[0].strip("/").split("/")
        provider, run_id = parts[0], parts[-2] if parts[-1] == "status" else parts[-1]
        with self._lock:
            self.reads += 1
            drawn, other = self._chance.random(), self._other(provider)
            if drawn < 0.1:
                self.did["wrong"] += 1
                return [(other, 0.0)]
            right = self._answer(provider, run_id, self.answered[run_id] >= looks_of(run_id))
            self.answered[run_id] += 1
            kind = next(
                (kind for share, kind in ((0.12, "joined"), (0.14, "after"), (0.16, "late")) if drawn < share), ""
            )
            self.did[kind or "right"] += 1
        if kind == "joined":
            return [(right + other, 0.0)]
        return [(right, 0.0), (other, 0.002 if kind == "late" else 0.0)] if kind else [(right, 0.0)]

    def _other(self, provider: str) -> bytes:
        return self._answer(provider, f"other-{self._chance.randrange(100)}", True)

    def _answer(self, provider: str, run_id: str, over: bool) -> bytes:
        status = end_of(provider, run_id) if over else ACTIVE[provider]
        run = {"id": run_id, "run_id": run_id, "status": status, "workflow_id": WORKFLOW}
        if provider == "nyx" and status == "completed":
            run["result"] = "success"
        content = json.dumps({"data": run} if find(provider).envelope else run).encode()
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content)


# --- the ways to wait ------------------------------------------------------------------------------------------

Ended = list[tuple[str, str, str]]
"""Provider, run and outcome of each wait."""
Way = Callable[[str, Sequence[tuple[Provider, str]]], Ended]


def patience() -> WaitOptions:
    return WaitOptions(deadline=time.time() + 300, error_budget=300, max_paused=None, cadence=Cadence(0.05, 1.0, 0.05))


def parents_of(provider: Provider) -> dict[str, str]:
    return dict.fromkeys(provider.parents, WORKFLOW)


def by_provider(runs: Sequence[tuple[Provider, str]]) -> dict[Provider, list[str]]:
    found: dict[Provider, list[str]] = {}
    for provider, run_id in runs:
        found.setdefault(provider, []).append(run_id)
    return found


def told(provider: Provider, snapshot: RunSnapshot) -> tuple[str, str, str]:
    assert snapshot.outcome is not None
    return provider.name, snapshot.ref.run_id, snapshot.outcome.value


def sync(url: str, runs: Sequence[tuple[Provider, str]]) -> Ended:
    """The client for plain Python, over httpx."""
    ended: Ended = []
    for provider, run_ids in by_provider(runs).items():
        with RunClient(provider, token="k", base_url=f"{url}/{provider.name}", sleep=lambda seconds: None) as client:
            for run_id in run_ids:
                ref = client.ref(run_id, parents_of(provider))
                ended.append(told(provider, client.wait(ref, patience=patience())))
    return ended


async def _all_at_once(url: str, runs: Sequence[tuple[Provider, str]], real_time: bool) -> Ended:
    async def no_pause(seconds: float) -> None:
        await asyncio.sleep(0)

    async def of(provider: Provider, run_ids: list[str]) -> Ended:
        sleep = asyncio.sleep if real_time else no_pause
        kind = AsyncRunClient if real_time else ClockedClient
        client = kind(provider, token="k", base_url=f"{url}/{provider.name}", sleep=sleep)
        async with client:
            refs = [client.ref(run_id, parents_of(provider)) for run_id in run_ids]
            waits = (client.wait(ref, patience=patience()) for ref in refs)
            return [told(provider, snapshot) for snapshot in await asyncio.gather(*waits)]

    ended = await asyncio.gather(*(of(provider, run_ids) for provider, run_ids in by_provider(runs).items()))
    return [each for part in ended for each in part]


def single_async(url: str, runs: Sequence[tuple[Provider, str]]) -> Ended:
    """The client for asyncio without the poller, over httpx."""
    return asyncio.run(_all_at_once(url, runs, real_time=False))


def polled(url: str, runs: Sequence[tuple[Provider, str]]) -> Ended:
    """The client for asyncio over the poller and the pool that the test has chosen."""
    return asyncio.run(_all_at_once(url, runs, real_time=True))


def forked(way: Way, url: str, runs: Sequence[tuple[Provider, str]]) -> Ended:
    """The same in a forked process, which must also be refused a client of ours whose connection is kept."""
    with RunClient(find("nexio"), token="k", base_url=f"{url}/nexio", sleep=lambda seconds: None) as theirs:
        reads, writes = os.pipe()
        # What a process has loaded (filelock, by way of a host) may refuse a fork while another thread forks.
        with ONE_FORK, warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            said = b"it died"
            try:
                try:
                    theirs.get(theirs.ref("theirs"))
                except ConfigurationError:
                    said = json.dumps(way(url, runs)).encode()
                else:
                    said = b"the client was not refused"
            except BaseException as error:
                said = repr(error).encode()
            finally:
                with os.fdopen(writes, "wb") as pipe:
                    pipe.write(said)
                os._exit(0)
        os.close(writes)
        with os.fdopen(reads, "rb") as pipe:
            said = pipe.read()
        os.waitpid(child, 0)
    return [tuple(each) for each in json.loads(said)]


WAYS: dict[str, Way] = {"sync": sync, "async": single_async, "http1": polled, "httpx": polled}


@pytest.fixture
def service() -> Iterator[MixedUp]:
    mixed_up = MixedUp(seed=1)
    yield mixed_up
    mixed_up.close()


@pytest.mark.http
@pytest.mark.parametrize(
    "processes",
    ["threads", pytest.param("forks", marks=pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here"))],
)
@pytest.mark.parametrize("name", list(WAYS))
def test_no_wait_ends_by_an_answer_about_another_run(
    service: MixedUp, name: str, processes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "open_pool", partial(open_pool, lean=name == "http1"))
    # A wait that has met a wrong answer looks again soon, so that it meets many.
    monkeypatch.setattr(state, "backoff", lambda attempt, **_: 0.05)
    way = WAYS[name] if processes == "threads" else partial(forked, WAYS[name])
    share = READS / (2 * len(WAYS))
    count = math.ceil(share / LOOKS)
    runs = [(find(list(ENDS)[n % 5]), f"run-{name}-{processes}-{n}") for n in range(count)]
    with ThreadPoolExecutor(3) as threads:
        parts = list(threads.map(lambda n: way(service.url, runs[n::3]), range(3)))

    ended = [each for part in parts for each in part]
    wrong = [
        (provider, run_id, outcome)
        for provider, run_id, outcome in ended
        if outcome != ENDS[provider][end_of(provider, run_id)] or service.answered[run_id] <= looks_of(run_id)
    ]
    assert wrong == []
    assert sorted(run_id for _, run_id, _ in ended) == sorted(run_id for _, run_id in runs)
    assert service.reads >= share
    assert min(service.did[kind] for kind in ("wrong", "joined", "after", "late")) >= 1
    print(f"{name}, {processes}: {service.reads} reads, {len(ended)} waits, 0 wrong ends; {dict(service.did)}")
