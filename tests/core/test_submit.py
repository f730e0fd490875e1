"""A submit is never sent twice while an earlier one may be alive: over real connections, in both clients."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import pytest

from runops.core import (
    AuthError,
    ConfigurationError,
    ConflictError,
    NotSupported,
    Outcome,
    RequestRefused,
    RunClient,
    RunNotFound,
    RunRef,
    SubmitUncertainError,
    TransientError,
    find,
)
from runops.core.errors import ConnectionFailed

SUBMITTERS = ["nexio", "nyx", "onepin", "b3os"]
SINGLE = ["nyx", "onepin"]
LOST: dict[str, dict[str, Any]] = {
    "reset": {"kind": "reset"},
    "half_a_body": {"kind": "half_body"},
    "500": {"kind": "status", "status": 500},
    "502_html": {"kind": "html", "status": 502},
    "503": {"kind": "status", "status": 503, "code": "queue_unreachable"},
    "504": {"kind": "status", "status": 504},
    "408": {"kind": "status", "status": 408},
    "425": {"kind": "status", "status": 425},
    "html_200": {"kind": "html", "status": 200},
    "empty_204": {"kind": "empty", "status": 204},
    "empty_202": {"kind": "empty", "status": 202},
    "no_id": {"kind": "json", "body": {"data": {"status": "queued"}, "status": "queued"}},
    "null": {"kind": "json", "body": None},
    "list": {"kind": "json", "body": [], "status": 202},
    "an_id_that_is_none": {"kind": "json", "body": {"run_id": "../x", "data": {"id": "../x", "runId": ""}}},
    "gzip_bomb": {"kind": "gzip_bomb"},
}
NOT_KEPT = httpx.Limits(max_keepalive_connections=0)
PARENT = {"nyx": {"config_name": "nightly"}, "onepin": {"workflow_id": "7c9e6679-7425-40de-944b-e07fc1f90ae7"}}


def posts(runs: Any) -> list[dict[str, Any]]:
    return runs.requests(action="submit")


def submitted(runs: Any) -> list[str]:
    return [run["run_id"] for run in runs.emulator.runs(provider=runs.provider.name) if run["submitted"]]


@pytest.fixture
def call_of(calls: Mapping[str, dict[str, Any]]) -> Callable[..., Any]:
    def make(provider: str, **changes: Any) -> Any:
        return find(provider).call(**{**calls[provider], **changes})

    return make


@pytest.mark.parametrize("provider", SUBMITTERS)
def test_a_submit_starts_one_run_that_can_be_waited_for(
    runs_of: Callable[..., Any], call_of: Callable[..., Any], provider: str
) -> None:
    runs = runs_of(provider)
    ref = runs("submit", call_of(provider))
    assert [ref.run_id] == submitted(runs)
    assert ref.provider == provider
    assert runs("wait", ref).outcome is Outcome.SUCCEEDED
    assert len(posts(runs)) == 1


@pytest.mark.parametrize("provider", SUBMITTERS)
def test_what_is_asked_for_is_what_arrives(
    runs_of: Callable[..., Any], call_of: Callable[..., Any], calls: Mapping[str, dict[str, Any]], provider: str
) -> None:
    runs = runs_of(provider)
    runs("submit", call_of(provider))
    body = runs.emulator.runs(provider=provider)[0]["body"]
    asked = {key: value for key, value in calls[provider].items() if key not in ("engine_slug", "workflow_id")}
    assert body == asked


# --- created, or not, then lost --------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", LOST)
@pytest.mark.parametrize("provider", SINGLE)
def test_created_then_lost_is_found_and_adopted(
    runs_of: Callable[..., Any], call_of: Callable[..., Any], provider: str, lost: str
) -> None:
    runs = runs_of(provider)
    runs.made(script="succeeded", age_seconds=3600, parents=PARENT[provider])
    runs.emulator.add_fault(provider=provider, action="submit", when="after", **LOST[lost])
    # Some kinds replace the answer without carrying the request out; those that can, do.
    ref = runs("submit", call_of(provider))
    assert [ref.run_id] == submitted(runs)
    assert len(posts(runs)) == 1
    assert runs("wait", ref).outcome is Outcome.SUCCEEDED


# Resets everywhere, every other kind of loss with one provider each.
NOT_CREATED = [(provider, "reset") for provider in SUBMITTERS] + [
    (SUBMITTERS[n % 4], lost) for n, lost in enumerate(LOST) if lost != "reset"
]


@pytest.mark.parametrize(("provider", "lost"), NOT_CREATED)
def test_not_created_then_lost_is_uncertain_and_never_sent_again(
    runs_of: Callable[..., Any], call_of: Callable[..., Any], provider: str, lost: str
) -> None:
    runs = runs_of(provider)
    if provider != "nexio":
        runs.made(script="succeeded", age_seconds=3600, parents=PARENT.get(provider, {"workflow_id": "wf_1"}))
    runs.emulator.add_fault(provider=provider, action="submit", **{**LOST[lost], "when": "before"})
    with pytest.raises(SubmitUncertainError, match="Check at the provider before you submit again") as caught:
        runs("submit", call_of(provider), adopt_uncertain=True)
    assert caught.value.candidates == ()
    assert submitted(runs) == []
    assert len(posts(runs)) == 1


@pytest.mark.parametrize("adopt", [False, True])
def test_nexio_cannot_be_checked_and_never_adopts(
    runs_of: Callable[..., Any], call_of: Callable[..., Any], adopt: bool
) -> None:
    runs = runs_of("nexio")
    runs.emulator.add_fault(kind="reset", when="after", provider="nexio", action="submit")
    with pytest.raises(SubmitUncertainError, match="lists no runs"):
        runs("submit", call_of("nexio"), adopt_uncertain=adopt)
    assert len(posts(runs)) == 1
    assert len(submitted(runs)) == 1


def test_b3os_adopts_only_when_told_to(runs_of: Callable[..., Any], call_of: Callable[..., Any]) -> None:
    runs = runs_of("b3os")
    runs.emulator.add_fault(kind="reset", when="after", provider="b3os", action="submit", count=2)
    with pytest.raises(SubmitUncertainError) as caught:
        runs("submit", call_of("b3os"))
    assert [ref.run_id for ref in caught.value.candidates] == submitted(runs)
    runs.clock.now += 5
    ref = runs("submit", call_of("b3os"), adopt_uncertain=True)
    assert ref.run_id == submitted(runs)[1]
    assert len(posts(runs)) == 2


@pytest.mark.parametrize("adopt", [False, True])
def test_b3os_tells_nothing_apart_when_another_run_starts_too(
    runs_of: Callable[..., Any], call_of: Callable[..., Any], adopt: bool
) -> None:
    runs = runs_of("b3os")
    runs.emulator.add_fault(kind="reset", when="after", provider="b3os", action="submit")
    # The first look at the list fails too; by the second, somebody else has started a run.
    runs.emulator.add_fault(kind="reset", provider="b3os", action="list", skip=1)
    runs.clock.on_sleep = lambda _: (
        runs.emulator.runs(provider="b3os")[1:] or runs.made(script="forever", parents={"workflow_id": "wf_1"})
    )
    with pytest.raises(SubmitUncertainError) as caught:
        runs("submit", call_of("b3os"), adopt_uncertain=adopt)
    assert len(caught.value.candidates) == 2
    assert len(posts(runs)) == 1


def test_nyx_takes_no_stranger_for_its_own(runs_of: Callable[..., Any], call_of: Callable[..., Any]) -> None:
    runs = runs_of("nyx")
    runs.emulator.add_fault(kind="reset", provider="nyx", action="submit")
    runs.emulator.add_fault(kind="reset", provider="nyx", action="latest", skip=1)
    stranger: list[RunRef] = []
    runs.clock.on_sleep = lambda _: (
        stranger
        or stranger.append(runs.made(script="forever", parents=PARENT["nyx"], fields={"name": "Somebody else's audit"}))
    )
    with pytest.raises(SubmitUncertainError) as caught:
        runs("submit", call_of("nyx"))
    assert list(caught.value.candidates) == stranger
    assert submitted(runs) == []
    assert len(posts(runs)) == 1


@pytest.mark.parametrize("provider", SINGLE)
def test_a_run_that_appears_late_in_the_list_is_still_found(
    runs_of: Callable[..., Any], call_of: Callable[..., Any], provider: str
) -> None:
    runs = runs_of(provider)
    runs.emulator.set_defaults(provider, hidden_seconds=3)
    runs.emulator.add_fault(kind="reset", when="after", provider=provider, action="submit")
    ref = runs("submit", call_of(provider))
    assert [ref.run_id] == submitted(runs)


@pytest.mark.parametrize("provider", ["nyx", "onepin", "b3os"])
def test_a_list_that_cannot_be_read_leaves_a_lost_answer_uncertain(
    runs_of: Callable[..., Any], call_of: Callable[..., Any], provider: str
) -> None:
    runs = runs_of(provider)
    runs.emulator.add_fault(kind="reset", when="after", provider=provider, action="submit")
    action = "latest" if provider == "nyx" else "list"
    runs.emulator.add_fault(kind="status", status=500, provider=provider, action=action, skip=1, count=None)
    with pytest.raises(SubmitUncertainError):
        runs("submit", call_of(provider), adopt_uncertain=True)
    assert len(posts(runs)) == 1


def test_an_old_run_that_moves_up_the_page_is_not_taken_for_a_new_one(
    runs_of: Callable[..., Any], call_of: Callable[..., Any], payload: Callable[[str, str], Any]
) -> None:
    """Over a canned list: a deletion between two reads is nothing that an emulator can be told to make."""
    runs = runs_of("onepin")
    run = payload("onepin", "completed")["data"]
    old, newer = {**run, "id": "old"}, {**run, "id": "newer", "created_at": "2024-05-01T00:00:00Z"}
    runs.emulator.add_fault(kind="json", body={"data": [newer]}, provider="onepin", action="list")
    runs.emulator.add_fault(kind="json", body={"data": [newer, old]}, provider="onepin", action="list", count=None)
    runs.emulator.add_fault(kind="reset", provider="onepin", action="submit")
    with pytest.raises(SubmitUncertainError) as caught:
        runs("submit", call_of("onepin"))
    assert caught.value.candidates == ()


# --- refused, turned away, unreachable -------------------------------------------------------------------------


@pytest.mark.parametrize("provider", SINGLE)
def test_a_conflict_says_what_is_active_and_starts_nothing(
    runs_of: Callable[..., Any], call_of: Callable[..., Any], provider: str
) -> None:
    runs = runs_of(provider)
    active = runs.made(script="forever", parents=PARENT[provider])
    with pytest.raises(ConflictError, match=active.run_id) as caught:
        runs("submit", call_of(provider))
    assert caught.value.status == 409
    assert len(posts(runs)) == 1
    assert submitted(runs) == []


@pytest.mark.parametrize("provider", SUBMITTERS)
@pytest.mark.parametrize(
    "turned_away",
    [
        {"status": 429},
        {"status": 429, "retry_after": 20},
        {"status": 503, "body": {"code": "auth_unavailable", "message": "try later"}},
        {"status": 503, "body": {"error": {"code": "auth_unavailable", "message": "try later"}}},
    ],
    ids=["429", "429_retry_after", "auth_unavailable", "auth_unavailable_older_shape"],
)
def test_a_submit_that_was_turned_away_unread_is_repeated(
    runs_of: Callable[..., Any], call_of: Callable[..., Any], provider: str, turned_away: dict[str, Any]
) -> None:
    runs = runs_of(provider)
    runs.emulator.add_fault(kind="status", provider=provider, action="submit", count=2, **turned_away)
    ref = runs("submit", call_of(provider))
    assert [ref.run_id] == submitted(runs)
    assert len(posts(runs)) == 3


def test_a_submit_that_is_turned_away_for_long_gives_up_in_minutes(
    runs_of: Callable[..., Any], call_of: Callable[..., Any]
) -> None:
    runs = runs_of("nexio")
    runs.emulator.add_fault(kind="status", status=429, provider="nexio", action="submit", count=None)
    with pytest.raises(TransientError, match="429"):
        runs("submit", call_of("nexio"))
    assert 60 < runs.clock.passed <= 301


@pytest.mark.parametrize("provider", SUBMITTERS)
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, RequestRefused),
        (401, AuthError),
        (402, RequestRefused),
        (403, AuthError),
        (404, RunNotFound),
        (422, RequestRefused),
        (426, RequestRefused),
        (302, RequestRefused),
    ],
)
def test_a_refused_submit_is_an_error_at_once(
    runs_of: Callable[..., Any], call_of: Callable[..., Any], provider: str, status: int, error: type[Exception]
) -> None:
    runs = runs_of(provider)
    runs.emulator.add_fault(kind="status", status=status, provider=provider, action="submit", count=None)
    with pytest.raises(error, match=str(status)):
        runs("submit", call_of(provider))
    assert len(posts(runs)) == 1
    assert runs.clock.passed == 0


class Unreachable(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Fails to connect a number of times, then hands on to a real transport."""

    def __init__(self, failures: int, real: Any) -> None:
        self.left = failures
        self.real = real

    def _fail(self) -> None:
        if self.left:
            self.left -= 1
            raise httpx.ConnectError("no route to host")

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self._fail()
        return self.real.handle_request(request)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._fail()
        return await self.real.handle_async_request(request)


def test_a_submit_that_never_left_the_machine_is_repeated(
    runs_of: Callable[..., Any], call_of: Callable[..., Any], kind: str
) -> None:
    with httpx.HTTPTransport() as real:
        runs = runs_of(
            "nexio", transport=Unreachable(3, real if kind == "sync" else httpx.AsyncHTTPTransport(limits=NOT_KEPT))
        )
        ref = runs("submit", call_of("nexio"))
    assert [ref.run_id] == submitted(runs)


def test_a_service_that_nobody_runs_is_named_as_unreachable(
    runs_of: Callable[..., Any], call_of: Callable[..., Any]
) -> None:
    runs = runs_of("nexio", base_url="http://127.0.0.1:9")
    with pytest.raises(ConnectionFailed, match="No connection"):
        runs("submit", call_of("nexio"))
    assert 60 < runs.clock.passed <= 301


def test_a_connect_that_takes_too_long_is_no_lost_answer(
    runs_of: Callable[..., Any], call_of: Callable[..., Any], kind: str
) -> None:
    class SlowToConnect(Unreachable):
        def _fail(self) -> None:
            if self.left:
                self.left -= 1
                raise httpx.ConnectTimeout("too slow")

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if self.left:
                await asyncio.sleep(request.extensions["timeout"]["connect"])
            return await super().handle_async_request(request)

    with httpx.HTTPTransport() as real:
        transport = SlowToConnect(1, real if kind == "sync" else httpx.AsyncHTTPTransport(limits=NOT_KEPT))
        runs = runs_of("nexio", transport=transport, request_timeout=0.6)
        ref = runs("submit", call_of("nexio"))
    assert [ref.run_id] == submitted(runs)


@pytest.mark.parametrize("provider", ["nyx", "onepin", "b3os"])
def test_nothing_is_sent_when_the_list_before_cannot_be_read(
    runs_of: Callable[..., Any], call_of: Callable[..., Any], provider: str
) -> None:
    runs = runs_of(provider)
    runs.emulator.add_fault(kind="status", status=500, provider=provider, method="GET", count=None)
    with pytest.raises(TransientError):
        runs("submit", call_of(provider))
    assert posts(runs) == []


def test_a_submit_goes_out_on_a_connection_of_its_own(served: Any, emulator: Any, call_of: Callable[..., Any]) -> None:
    with RunClient(find("onepin"), token="k", base_url=served.base_url("onepin")) as client:
        client.probe()
        ref = client.submit(call_of("onepin"))
        client.get(ref)
    seen = [(entry["action"], entry["client"]) for entry in emulator.requests(provider="onepin")]
    probe, survey, submit, get = (client for _, client in seen)
    assert probe == survey == get
    assert submit != probe


def test_what_a_host_must_record_is_told_before_anything_is_sent(
    runs_of: Callable[..., Any], call_of: Callable[..., Any]
) -> None:
    runs = runs_of("onepin")
    earlier = runs.made(script="succeeded", age_seconds=60)

    def refuse(known: frozenset[str] | None) -> None:
        assert known == {earlier.run_id}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runs("submit", call_of("onepin"), before=refuse)
    assert posts(runs) == []


@pytest.mark.parametrize("provider", SINGLE)
def test_a_run_submitted_before_a_crash_is_found_by_what_was_known(
    runs_of: Callable[..., Any], call_of: Callable[..., Any], provider: str
) -> None:
    runs = runs_of(provider)
    known: list[frozenset[str] | None] = []
    ref = runs("submit", call_of(provider), before=known.append)
    assert runs("reconcile", call_of(provider), known[0]) == ref
    assert len(posts(runs)) == 1


@pytest.mark.parametrize("kind", ["async"])
def test_submits_side_by_side_each_get_their_own_run(runs_of: Callable[..., Any], call_of: Callable[..., Any]) -> None:
    runs = runs_of("b3os")

    async def all_at_once() -> list[RunRef]:
        async with runs.new_async() as client:
            return await asyncio.gather(*(client.submit(call_of("b3os", payload={"n": n})) for n in range(20)))

    refs = asyncio.run(all_at_once())
    assert sorted(ref.run_id for ref in refs) == sorted(submitted(runs))
    assert len(posts(runs)) == 20


@pytest.mark.parametrize("kind", ["async"])
def test_side_by_side_submits_to_one_workflow_start_one_run(
    runs_of: Callable[..., Any], call_of: Callable[..., Any]
) -> None:
    runs = runs_of("onepin")

    async def all_at_once() -> list[Any]:
        async with runs.new_async() as client:
            submits = (client.submit(call_of("onepin")) for _ in range(5))
            return await asyncio.gather(*submits, return_exceptions=True)

    ends = asyncio.run(all_at_once())
    assert sum(isinstance(end, RunRef) for end in ends) == 1
    assert sum(isinstance(end, ConflictError) for end in ends) == 4


def test_a_call_of_another_provider_is_refused(runs_of: Callable[..., Any], call_of: Callable[..., Any]) -> None:
    runs = runs_of("nyx")
    with pytest.raises(ConfigurationError, match="for b3os, not for Nyx"):
        runs("submit", call_of("b3os"))
    assert runs.requests() == []


def test_nekt_documents_no_submit() -> None:
    with pytest.raises(NotSupported, match="wait for its runs"):
        find("nekt").call()
