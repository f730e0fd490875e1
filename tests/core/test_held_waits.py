"""What holds a wait up, as the poller tells it: a refused key, a limit of the service, or nothing of here."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from runops.core import AsyncRunClient, RunRef
from runops.core.polling.poller import LATE_BY
from tests.core.test_poller import Service, body, run, until

pytestmark = pytest.mark.http

REF = RunRef(provider="nexio", run_id="r1")


def tells(client: AsyncRunClient, seconds: float, wanted: str | None) -> bool:
    return client.poller is not None and client.poller.hold(REF, seconds) == wanted


def test_a_limit_holds_up_a_wait_whose_next_look_is_late_by_half_an_interval() -> None:
    async def scenario(service: Service) -> None:
        async with service.client(requests_per_minute=6) as client:
            assert client.poller is None
            others = [RunRef(provider="nexio", run_id=f"r{number}") for number in range(1, 30)]
            waits = [asyncio.create_task(client.wait(ref, poll_interval=1)) for ref in others]
            await until(lambda: service.asked)
            await until(lambda: tells(client, 1_000.0, "rate_limit"))
            assert client.poller is not None
            assert client.poller.hold(REF, 0.0) is None
            assert client.poller.hold(RunRef(provider="nexio", run_id="unknown"), 1_000.0) is None
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    run(scenario)


def test_a_pause_that_the_service_asks_for_holds_up_a_wait_though_it_plans_no_sooner_look() -> None:
    def answer(path: str, key: str) -> Any:
        return (429, {"retry-after": "600"}, b"{}") if refused else body("r1", "processing")

    refused = False

    async def scenario(service: Service) -> None:
        nonlocal refused
        service.answer = answer
        async with service.client("key-limited") as client:
            wait = asyncio.create_task(client.wait(REF, poll_interval=0.1))
            await until(lambda: service.asked)
            assert not tells(client, 15.0, "rate_limit")
            refused = True
            await until(lambda: tells(client, 15.0, "rate_limit"))
            wait.cancel()
            await asyncio.gather(wait, return_exceptions=True)

    run(scenario)


def test_nothing_holds_up_a_wait_that_is_only_slow() -> None:
    async def scenario(service: Service) -> None:
        async with service.client() as client:
            wait = asyncio.create_task(client.wait(REF, poll_interval=1))
            await until(lambda: service.asked)
            assert client.poller is not None
            assert client.poller.hold(REF, LATE_BY * 1_000) is None
            wait.cancel()
            await asyncio.gather(wait, return_exceptions=True)

    run(scenario)


def test_a_refused_key_holds_up_a_wait_at_once() -> None:
    def answer(path: str, key: str) -> Any:
        return (401, {}, b"{}") if refused else body("r1", "processing")

    refused = False

    async def scenario(service: Service) -> None:
        nonlocal refused
        service.answer = answer
        async with service.client() as client:
            wait = asyncio.create_task(client.wait(REF, poll_interval=0.1))
            await until(lambda: service.asked)
            refused = True
            await until(lambda: tells(client, 0.0, "key"))
            wait.cancel()
            await asyncio.gather(wait, return_exceptions=True)

    run(scenario)
