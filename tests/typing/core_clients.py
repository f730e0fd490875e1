"""How users type against the core: checked by pyright in ``make check``, never run."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, assert_type

from runops.core import (
    NYX_GATE,
    AsyncRunClient,
    Call,
    Outcome,
    OutcomePolicy,
    Phase,
    Provider,
    RunClient,
    RunRef,
    RunResult,
    RunSnapshot,
    Verdict,
    find,
)


def submit_and_wait(key: str) -> Verdict:
    provider = find("nexio")
    assert_type(provider, Provider)
    call = provider.call(engine_slug="credit", input={"applicant": 1})
    assert_type(call, Call)
    with RunClient(provider, token=key, request_timeout=timedelta(seconds=10)) as client:
        assert_type(client, RunClient)
        ref = client.submit(
            call,
            adopt_uncertain=True,
            submit_grace=timedelta(minutes=1),
            identity="me",
            resubmit=False,
            on_conflict="attach",
            timeout=60,
        )
        assert_type(ref, RunRef)
        last = client.wait(ref, 60)
        last = client.wait(
            ref, timeout=timedelta(hours=1), max_paused=None, max_spend=5, on_update=lambda snapshot: None
        )
        assert_type(last, RunSnapshot)
        assert_type(client.watch(ref), Iterator[RunSnapshot])
        assert_type(client.recent({"workflow_id": "w"}), list[RunSnapshot])
        assert_type(client.fetch_result(ref), dict[str, Any])
        assert_type(client.resume(ref), RunSnapshot)
        assert_type(client.retry(ref, adopt_uncertain=True, on_conflict="fail", timeout=timedelta(minutes=1)), RunRef)
        client.retry(ref, adopt=True)  # pyright: ignore[reportCallIssue]
    assert_type(last.outcome, Outcome | None)
    assert_type(last.phase, Phase | None)
    assert last.outcome is not None
    return provider.policy({"degraded": "warn"}).decide(last.outcome)


async def wait_in_asyncio(key: str) -> RunResult:
    async with AsyncRunClient(find("nyx"), token=key) as client:
        assert_type(client, AsyncRunClient)
        ref = client.ref("r_1")
        async for snapshot in client.watch(ref, timeout=60):
            assert_type(snapshot, RunSnapshot)
        last = await client.wait(ref)
        assert_type(await client.resume(ref), RunSnapshot)
        assert_type(await client.retry(ref, submit_grace=5), RunRef)
    policy = OutcomePolicy.build(NYX_GATE)
    assert_type(policy.decide(Outcome.SUCCEEDED), Verdict)
    return last.to_result("succeed")


def read_a_result(result: RunResult) -> str | None:
    assert_type(result["run_ended"], bool)
    assert_type(result["parents"], dict[str, str])
    return result["reason"]


def mistakes_are_found(client: RunClient, ref: RunRef) -> None:
    client.get("r_1")  # pyright: ignore[reportArgumentType]
    client.wait(ref, patience_seconds=3)  # pyright: ignore[reportCallIssue]
    client.submit({"engine_slug": "credit"})  # pyright: ignore[reportArgumentType]
    RunClient(find("nexio"))  # pyright: ignore[reportCallIssue]
    RunClient(find("nexio"), token="k", base_ulr="https://nexio.example")  # pyright: ignore[reportCallIssue]
    AsyncRunClient(find("nexio"), token="k", request_timeuot=3)  # pyright: ignore[reportCallIssue]
    RunClient(find("nexio"), token="k", mark_runs="no")  # pyright: ignore[reportArgumentType]
    RunClient(find("nexio"), token="k", verify=3.5)  # pyright: ignore[reportArgumentType]
    RunClient(find("nexio"), token="k", requests_per_minute=60, processes="3")  # pyright: ignore[reportArgumentType]
    AsyncRunClient(find("nexio"), token="k", rate_stoer="redis://h")  # pyright: ignore[reportCallIssue]
    RunClient(find("nexio"), token="k", proxi="http://proxy:3128")  # pyright: ignore[reportCallIssue]
    client.wait(ref, error_buget=3)  # pyright: ignore[reportCallIssue]
    client.wait(ref, max_paused="an hour")  # pyright: ignore[reportArgumentType]
    client.watch(ref, seen=True)  # pyright: ignore[reportCallIssue]


async def mistakes_are_found_in_asyncio(client: AsyncRunClient, call: Call, ref: RunRef) -> None:
    await client.submit(call, adopt_uncertian=True)  # pyright: ignore[reportCallIssue]
    await client.submit(call, submit_grace="long")  # pyright: ignore[reportArgumentType]
    await client.submit(call, on_conflict="queue")  # pyright: ignore[reportArgumentType]
    await client.wait(ref, poll_intervall=3)  # pyright: ignore[reportCallIssue]
