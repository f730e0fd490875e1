"""A submit is never sent twice while an earlier one may be alive: over real connections, in both clients."""

from __future__ import annotations

import asyncio
import json
import logging
import re
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
from runops.core.model.errors import ConnectionFailed
from runops.core.model.redaction import clean, shown
from runops.core.waiting.intent import Intent, new_mark

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
EMPTY: dict[str, Any] = {"nyx": {"runs": []}, "onepin": {"data": []}, "b3os": {"data": {"items": []}}}
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
    if provider == "nyx":
        # A mark at the end of the name, and nothing else, is ours.
        sent = body["name"]
        assert re.fullmatch(r"Nightly audit \[[b-df-hj-np-tv-xz]{13}\]", sent)
        body = {**body, "name": sent[: len("Nightly audit")]}
    assert body == asked


def test_a_text_is_sent_as_it_is_where_runs_are_not_to_be_marked(
    runs_of: Callable[..., Any], call_of: Callable[..., Any]
) -> None:
    runs = runs_of("nyx", mark_runs=False)
    runs("submit", call_of("nyx"))
    assert runs.emulator.runs(provider="nyx")[0]["body"]["name"] == "Nightly audit"


# --- created, or not, then lost --------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", LOST)
def test_created_then_lost_is_found_by_its_mark(
    runs_of: Callable[..., Any], call_of: Callable[..., Any], lost: str
) -> None:
    runs = runs_of("nyx")
    runs.made(script="succeeded", age_seconds=3600, parents=PARENT["nyx"])
    runs.emulator.add_fault(provider="nyx", action="submit", when="after", **LOST[lost])
    # Some kinds replace the answer without carrying the request out; those that can, do.
    ref = runs("submit", call_of("nyx"))
    assert [ref.run_id] == submitted(runs)
    assert runs("wait", ref).outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("provider", ["onepin", "b3os"])
def test_created_then_lost_is_uncertain_where_nothing_proves_whose_a_run_is(
    runs_of: Callable[..., Any], call_of: Callable[..., Any], provider: str
) -> None:
    runs = runs_of(provider)
    runs.emulator.add_fault(kind="reset", when="after", provider=provider, action="submit")
    with pytest.raises(SubmitUncertainError) as caught:
        runs("submit", call_of(provider))
    assert [ref.run_id for ref in caught.value.candidates] == submitted(runs)
    assert len(posts(runs)) == 1


@pytest.mark.parametrize("lost", LOST)
@pytest.mark.parametrize("provider", ["onepin", "b3os"])
def test_created_then_lost_is_taken_for_ours_only_when_the_user_says_so(
    runs_of: Callable[..., Any], call_of: Callable[..., Any], provider: str, lost: str
) -> None:
    runs = runs_of(provider)
    runs.made(script="succeeded", age_seconds=3600, parents=PARENT.get(provider, {"workflow_id": "wf_1"}))
    runs.emulator.add_fault(provider=provider, action="submit", when="after", **LOST[lost])
    ref = runs("submit", call_of(provider), adopt_uncertain=True)
    assert [ref.run_id] == submitted(runs)
    assert len(posts(runs)) == 1
    # Until then a second new run could have shown that nobody can tell them apart.
    assert runs.clock.passed >= 300


# Resets everywhere, every other kind of loss with one provider each.
UNMARKED = ["nexio", "onepin", "b3os"]
NOT_CREATED = [(provider, "reset") for provider in UNMARKED] + [
    (UNMARKED[n % 3], lost) for n, lost in enumerate(LOST) if lost != "reset"
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


@pytest.mark.parametrize("lost", LOST)
def test_not_created_then_lost_is_sent_once_more_where_a_second_active_run_is_refused(
    runs_of: Callable[..., Any], call_of: Callable[..., Any], lost: str
) -> None:
    runs = runs_of("nyx")
    runs.emulator.add_fault(provider="nyx", action="submit", **{**LOST[lost], "when": "before"})
    ref = runs("submit", call_of("nyx"))
    assert [ref.run_id] == submitted(runs)
    assert len(posts(runs)) == 2
    assert runs.clock.passed >= 300


def test_a_submit_that_is_lost_twice_is_uncertain(runs_of: Callable[..., Any], call_of: Callable[..., Any]) -> None:
    runs = runs_of("nyx")
    runs.emulator.add_fault(kind="reset", provider="nyx", action="submit", count=None)
    with pytest.raises(SubmitUncertainError):
        runs("submit", call_of("nyx"))
    assert len(posts(runs)) == 2


def test_a_lost_run_that_shows_up_in_the_way_of_the_second_submit_is_ours(
    runs_of: Callable[..., Any], call_of: Callable[..., Any]
) -> None:
    """The list and the newest run lag behind by more than the grace: the refusal is the first sign of our run."""
    runs = runs_of("nyx")
    runs.emulator.set_defaults("nyx", hidden_seconds=301)
    runs.emulator.add_fault(kind="reset", when="after", provider="nyx", action="submit")
    runs.emulator.set_defaults("nyx", script="forever")
    ref = runs("submit", call_of("nyx"))
    assert [ref.run_id] == submitted(runs)


@pytest.mark.parametrize("provider", ["onepin", "b3os", "nyx"])
def test_a_lost_submit_never_takes_a_run_that_was_over_before_for_its_own(
    runs_of: Callable[..., Any], call_of: Callable[..., Any], provider: str
) -> None:
    """The list before the submit is empty, as a replica that lags shows it; afterwards it shows yesterday's success."""
    runs = runs_of(provider, mark_runs=False)
    parents = PARENT.get(provider, {"workflow_id": "wf_1"})
    runs.made(script="succeeded", age_seconds=86_400, parents=parents, seconds=60)
    runs.emulator.add_fault(kind="json", body=EMPTY[provider], provider=provider, action="list")
    runs.emulator.add_fault(kind="status", status=404, body={"error": "no run"}, provider=provider, action="latest")
    runs.emulator.add_fault(kind="status", status=502, provider=provider, action="submit")
    with pytest.raises(SubmitUncertainError) as caught:
        runs("submit", call_of(provider), adopt_uncertain=True)
    assert caught.value.candidates == ()
    assert len(posts(runs)) == 1


@pytest.mark.parametrize("provider", ["onepin", "b3os", "nyx"])
def test_nothing_is_adopted_where_the_page_of_a_gateway_stood_for_the_list_before(
    runs_of: Callable[..., Any], call_of: Callable[..., Any], provider: str
) -> None:
    runs = runs_of(provider, mark_runs=False)
    parents = PARENT.get(provider, {"workflow_id": "wf_1"})
    runs.made(script="succeeded", age_seconds=86_400, parents=parents, seconds=60)
    runs.emulator.add_fault(kind="html", status=404, provider=provider, method="GET")
    runs.emulator.add_fault(kind="reset", provider=provider, action="submit")
    with pytest.raises(SubmitUncertainError, match="no whole list from before the submit"):
        runs("submit", call_of(provider), adopt_uncertain=True)


def test_a_run_that_another_user_is_shown_to_have_started_is_never_adopted(
    runs_of: Callable[..., Any], call_of: Callable[..., Any]
) -> None:
    runs = runs_of("onepin")
    runs.emulator.add_fault(kind="reset", provider="onepin", action="submit")
    theirs: list[RunRef] = []
    user = {"triggered_by": {"user_id": "somebody-else", "user_name": "x"}}
    runs.clock.on_sleep = lambda _: theirs or theirs.append(runs.made(script="forever", fields=user))
    with pytest.raises(SubmitUncertainError) as caught:
        runs("submit", call_of("onepin"), adopt_uncertain=True)
    assert list(caught.value.candidates) == theirs


def test_a_run_is_not_adopted_while_nobody_knows_whose_key_this_is(
    runs_of: Callable[..., Any], call_of: Callable[..., Any]
) -> None:
    runs = runs_of("onepin")
    runs.emulator.add_fault(kind="reset", when="after", provider="onepin", action="submit")
    runs.emulator.add_fault(kind="status", status=500, provider="onepin", action="probe", count=None)
    with pytest.raises(SubmitUncertainError):
        runs("submit", call_of("onepin"), adopt_uncertain=True)


def test_a_second_run_that_appears_within_the_grace_shows_that_nobody_can_tell_them_apart(
    runs_of: Callable[..., Any], call_of: Callable[..., Any]
) -> None:
    runs = runs_of("b3os")
    runs.emulator.add_fault(kind="reset", when="after", provider="b3os", action="submit")
    began = runs.clock.now
    runs.clock.on_sleep = lambda _: (
        runs.clock.now < began + 200
        or runs.emulator.runs(provider="b3os")[1:]
        or runs.made(script="forever", parents={"workflow_id": "wf_1"})
    )
    with pytest.raises(SubmitUncertainError) as caught:
        runs("submit", call_of("b3os"), adopt_uncertain=True)
    assert len(caught.value.candidates) == 2


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


@pytest.mark.parametrize("same", [True, False], ids=["same name and budget", "another name"])
def test_nyx_takes_no_stranger_for_its_own(
    runs_of: Callable[..., Any], call_of: Callable[..., Any], calls: Mapping[str, dict[str, Any]], same: bool
) -> None:
    """A's submit is lost before it is carried out; B's run of the same config stands alone on the list."""
    runs = runs_of("nyx")
    runs.emulator.add_fault(kind="reset", provider="nyx", action="submit")
    fields = {"name": calls["nyx"]["name"], "budget_usd": calls["nyx"]["budget_usd"]} if same else {"name": "Theirs"}
    stranger: list[RunRef] = []
    runs.clock.on_sleep = lambda _: (
        stranger or stranger.append(runs.made(script="forever", parents=PARENT["nyx"], fields=fields))
    )
    with pytest.raises(ConflictError, match="Active now") as caught:
        runs("submit", call_of("nyx"), on_conflict="fail")
    assert stranger[0].run_id in str(caught.value)
    assert submitted(runs) == []


def test_a_name_that_the_provider_cut_short_may_be_ours_and_nothing_is_sent_again(
    runs_of: Callable[..., Any], call_of: Callable[..., Any]
) -> None:
    runs = runs_of("nyx")
    runs.emulator.add_fault(kind="reset", provider="nyx", action="submit")
    made: list[RunRef] = []
    runs.clock.on_sleep = lambda _: (
        made
        or made.append(
            runs.made(script="succeeded", seconds=1, parents=PARENT["nyx"], fields={"name": "Nightly audit ["})
        )
    )
    with pytest.raises(SubmitUncertainError) as caught:
        runs("submit", call_of("nyx"))
    assert list(caught.value.candidates) == made
    assert len(posts(runs)) == 1


@pytest.mark.parametrize("hidden", [3, 40, 81, 299])
def test_a_run_that_appears_late_in_the_list_is_still_found(
    runs_of: Callable[..., Any], call_of: Callable[..., Any], hidden: int
) -> None:
    runs = runs_of("nyx")
    runs.emulator.set_defaults("nyx", hidden_seconds=hidden)
    runs.emulator.add_fault(kind="reset", when="after", provider="nyx", action="submit")
    ref = runs("submit", call_of("nyx"))
    assert [ref.run_id] == submitted(runs)
    assert len(posts(runs)) == 1


def test_the_search_ends_when_the_grace_that_the_user_gave_is_over(
    runs_of: Callable[..., Any], call_of: Callable[..., Any]
) -> None:
    runs = runs_of("b3os")
    runs.emulator.add_fault(kind="reset", provider="b3os", action="submit")
    with pytest.raises(SubmitUncertainError):
        runs("submit", call_of("b3os"), submit_grace=30)
    assert 30 <= runs.clock.passed < 31


@pytest.mark.parametrize("provider", ["nyx", "onepin", "b3os"])
def test_a_list_that_cannot_be_read_leaves_a_lost_answer_uncertain(
    runs_of: Callable[..., Any], call_of: Callable[..., Any], provider: str
) -> None:
    runs = runs_of(provider)
    runs.emulator.add_fault(kind="reset", when="after", provider=provider, action="submit")
    runs.emulator.add_fault(kind="status", status=500, provider=provider, method="GET", skip=1, count=None)
    with pytest.raises(SubmitUncertainError, match="could not be read whole"):
        runs("submit", call_of(provider), adopt_uncertain=True)
    assert len(posts(runs)) == 1


@pytest.mark.parametrize("broken", ["list", "latest"])
def test_one_of_two_routes_is_enough_to_find_a_mark_and_not_enough_to_miss_it(
    runs_of: Callable[..., Any], call_of: Callable[..., Any], broken: str
) -> None:
    runs = runs_of("nyx")
    runs.emulator.add_fault(kind="status", status=500, provider="nyx", action=broken, count=None)
    runs.emulator.add_fault(kind="reset", when="after", provider="nyx", action="submit")
    ref = runs("submit", call_of("nyx"))
    assert [ref.run_id] == submitted(runs)
    runs("cancel", ref)
    runs.emulator.add_fault(kind="reset", provider="nyx", action="submit")
    with pytest.raises(SubmitUncertainError):
        runs("submit", call_of("nyx"))
    assert len(posts(runs)) == 2


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
        runs("submit", call_of(provider), on_conflict="fail")
    assert caught.value.status == 409
    assert len(posts(runs)) == 1
    assert submitted(runs) == []


TURNED_AWAY: dict[str, dict[str, Any]] = {
    "429": {"status": 429},
    "429_retry_after": {"status": 429, "retry_after": 20},
    "auth_unavailable": {"status": 503, "body": {"code": "auth_unavailable", "message": "try later"}},
    "auth_unavailable_older_shape": {
        "status": 503,
        "body": {"error": {"code": "auth_unavailable", "message": "try later"}},
    },
}


@pytest.mark.parametrize(
    ("provider", "turned_away"),
    [
        # Only Nexio documents what its 503 means; elsewhere a run may have begun.
        pytest.param(provider, answer, id=f"{name}-{provider}")
        for name, answer in TURNED_AWAY.items()
        for provider in (("nexio",) if answer["status"] == 503 else SUBMITTERS)
    ],
)
def test_a_submit_that_was_turned_away_unread_is_repeated(
    runs_of: Callable[..., Any], call_of: Callable[..., Any], provider: str, turned_away: dict[str, Any]
) -> None:
    runs = runs_of(provider)
    runs.emulator.add_fault(kind="status", provider=provider, action="submit", count=2, **turned_away)
    ref = runs("submit", call_of(provider))
    assert [ref.run_id] == submitted(runs)
    assert len(posts(runs)) == 3


@pytest.mark.parametrize("provider", ["onepin", "b3os"])
def test_a_503_that_the_provider_does_not_document_may_have_started_a_run(
    runs_of: Callable[..., Any], call_of: Callable[..., Any], provider: str
) -> None:
    runs = runs_of(provider)
    runs.emulator.add_fault(
        kind="status", provider=provider, action="submit", count=1, **TURNED_AWAY["auth_unavailable"]
    )
    with pytest.raises(SubmitUncertainError, match="auth_unavailable"):
        runs("submit", call_of(provider))
    assert len(posts(runs)) == 1


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
@pytest.mark.parametrize("status", [403, 404, 410, 500])
def test_a_key_that_may_start_but_not_list_starts(
    runs_of: Callable[..., Any],
    call_of: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
    provider: str,
    status: int,
) -> None:
    runs = runs_of(provider)
    # A 404 of the service itself says that there is no newest run yet; that of a gateway says nothing.
    kind = {"kind": "html"} if status == 404 else {"kind": "status"}
    runs.emulator.add_fault(status=status, provider=provider, method="GET", count=None, **kind)
    with caplog.at_level(logging.WARNING, "runops"):
        ref = runs("submit", call_of(provider))
    assert [ref.run_id] == submitted(runs)
    assert caplog.text.count("could not be listed before the submit") == 1


@pytest.mark.parametrize("provider", ["nyx", "onepin", "b3os"])
def test_a_lost_answer_is_uncertain_where_nothing_may_be_listed(
    runs_of: Callable[..., Any], call_of: Callable[..., Any], provider: str
) -> None:
    runs = runs_of(provider)
    runs.emulator.add_fault(kind="status", status=403, provider=provider, method="GET", count=None)
    runs.emulator.add_fault(kind="reset", provider=provider, action="submit")
    with pytest.raises(SubmitUncertainError):
        runs("submit", call_of(provider), adopt_uncertain=True)
    assert len(posts(runs)) == 1


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

    def refuse(intent: Intent) -> None:
        assert intent.ids_before == {earlier.run_id}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runs("submit", call_of("onepin"), before=refuse)
    assert posts(runs) == []


def recorded(intents: list[Intent]) -> Intent:
    """An intent as a later process reads it."""
    return Intent.from_dict(json.loads(json.dumps(intents[0].to_dict())))


@pytest.mark.parametrize(("provider", "adopt"), [("nyx", False), ("onepin", True), ("b3os", True)])
def test_a_run_submitted_before_a_crash_is_found_by_what_was_recorded(
    runs_of: Callable[..., Any], call_of: Callable[..., Any], provider: str, adopt: bool
) -> None:
    runs = runs_of(provider)
    intents: list[Intent] = []
    call = call_of(provider)
    ref = runs("submit", call, before=intents.append)
    assert runs("find_submitted", call.parent, recorded(intents), adopt_uncertain=adopt) == ref
    assert runs("submit_again", call, recorded(intents), adopt_uncertain=adopt, submit_grace=0) == ref
    assert len(posts(runs)) == 1


@pytest.mark.parametrize("provider", ["nexio", "onepin", "b3os"])
def test_without_a_mark_a_later_process_sends_nothing_while_the_lost_run_may_live(
    runs_of: Callable[..., Any], call_of: Callable[..., Any], provider: str
) -> None:
    runs = runs_of(provider)
    intents: list[Intent] = []
    runs("submit", call_of(provider), before=intents.append)
    with pytest.raises(SubmitUncertainError):
        runs("submit_again", call_of(provider), recorded(intents))
    assert len(posts(runs)) == 1


def test_a_later_process_submits_where_the_provider_shows_that_the_earlier_one_never_did(
    runs_of: Callable[..., Any], call_of: Callable[..., Any]
) -> None:
    runs = runs_of("nyx")
    intents: list[Intent] = []

    def die(intent: Intent) -> None:
        intents.append(intent)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runs("submit", call_of("nyx"), before=die)
    ref = runs("submit_again", call_of("nyx"), recorded(intents))
    assert [ref.run_id] == submitted(runs)
    assert len(posts(runs)) == 1


def test_the_mark_of_a_submitter_begins_alike_and_no_two_submits_share_one() -> None:
    marks = {new_mark("dag/run/task") for _ in range(200)}
    assert len(marks) == 200
    assert len({mark[:8] for mark in marks}) == 1
    assert new_mark("dag/run/other")[:8] != new_mark("dag/run/task")[:8]
    assert all(len(mark) <= 16 and mark.isascii() and " " not in mark for mark in marks)
    assert len({new_mark()[:8] for _ in range(50)}) == 50


def test_a_mark_is_shown_as_it_is_and_never_taken_for_a_key() -> None:
    marks = [new_mark(f"dag/run/{number}") for number in range(2_000)]
    assert [clean(f"Nightly audit {mark}") for mark in marks] == [f"Nightly audit {mark}" for mark in marks]
    assert [shown(f"Nightly audit {mark}") for mark in marks] == [f"Nightly audit {mark}" for mark in marks]


@pytest.mark.parametrize("record", [None, {}, {"mark": 7}, {"ids_before": "abc", "clock": "now"}, {"known": ["a"]}])
def test_a_record_that_says_nothing_proves_nothing(record: Any) -> None:
    assert Intent.from_dict(record) == Intent()


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
            submits = (client.submit(call_of("onepin"), on_conflict="fail") for _ in range(5))
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
