"""The id of a trace that a service is sent: 32 hex digits, the same for all requests about one run, and no secret."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from runops.core import ConfigurationError, RunClient, find
from runops.core.client.asynchronous import AsyncRunClient
from tests.open_telemetry import Spans, spans
from tests.services import CALLS

__all__ = ["spans"]

OURS = "0af7651916cd43dd8448eb211c80319c"


def sent(runs: Any, **filters: Any) -> set[str | None]:
    return {each["trace_id"] for each in runs.requests(**filters)}


def test_all_requests_of_a_client_bear_one_id(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("nyx")

    async def both() -> None:
        async with runs.new_async() as client:
            ref = await client.submit(find("nyx").call(**CALLS["nyx"]))
            await client.wait(ref)

    if runs.kind == "sync":
        with runs.new() as client:
            client.wait(client.submit(find("nyx").call(**CALLS["nyx"])))
    else:
        asyncio.run(both())
    (trace_id,) = sent(runs)
    assert re.fullmatch(r"[0-9a-f]{32}", str(trace_id))
    assert len(runs.requests(action="submit")) == 1
    assert len(runs.requests(action="get")) >= 2


def test_two_clients_have_two(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("nyx")
    ref = runs.made(script="succeeded", seconds=1)
    runs("get", ref)
    runs("get", ref)
    assert len(sent(runs)) == 2


def test_the_one_that_is_given_is_sent(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("nyx", trace_id=OURS.upper())
    runs("wait", runs.made(script="succeeded"))
    assert sent(runs) == {OURS}


def test_that_of_an_active_trace_goes_first(runs_of: Callable[..., Any], spans: Spans) -> None:
    runs = runs_of("nyx", trace_id=OURS)
    ref = runs.made(script="failed")
    with spans.provider.get_tracer("users").start_as_current_span("theirs") as theirs:
        runs("wait", ref)
    assert sent(runs) == {format(theirs.get_span_context().trace_id, "032x")}


def test_waits_of_several_traces_share_a_poller_and_send_each_its_own(
    runs_of: Callable[..., Any], spans: Spans, served: Any
) -> None:
    runs = runs_of("nyx")
    if runs.kind == "sync":
        pytest.skip("one thread has one trace")
    # Over already, so that the poller's own clock need not go on.
    refs = [runs.made(script="succeeded", seconds=1, age_seconds=5000) for _ in range(3)]
    tracer, ids = spans.provider.get_tracer("users"), dict[str, str]()

    async def one(client: AsyncRunClient, ref: Any) -> None:
        with tracer.start_as_current_span("theirs") as span:
            ids[ref.run_id] = format(span.get_span_context().trace_id, "032x")
            await client.wait(ref)

    async def all_of_them() -> None:
        async with AsyncRunClient(runs.provider, token="a-key", base_url=served.base_url("nyx")) as client:
            await asyncio.gather(*(one(client, ref) for ref in refs))

    asyncio.run(all_of_them())
    assert len(set(ids.values())) == 3
    for ref in refs:
        assert sent(runs, run_id=ref.run_id, action="get") == {ids[ref.run_id]}


def test_a_service_that_knows_no_such_header_is_sent_none(runs_of: Callable[..., Any]) -> None:
    runs = runs_of("nexio", trace_id=OURS)
    runs("wait", runs.made(script="succeeded"))
    assert sent(runs) == {None}


@pytest.mark.parametrize("wrong", ["", "0" * 32, "xyz", OURS[:-1], 7])
def test_what_is_no_id_of_a_trace_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="trace_id must be 32 hex digits"):
        RunClient(find("nyx"), token="x", trace_id=wrong)


@pytest.mark.parametrize("wrong", ["X Trace", "X-Verification-Token"])
def test_a_declared_header_must_be_one_of_its_own(wrong: str) -> None:
    with pytest.raises(ConfigurationError, match="trace_header"):
        replace(find("nyx"), trace_header=wrong)
