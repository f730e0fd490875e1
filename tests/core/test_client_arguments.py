"""What a method of a client is given arrives at its flow: every argument of both clients, each with its own value."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from pytest_mock import MockerFixture

from runops.core import AsyncRunClient, ConfigurationError, ConflictError, Outcome, RunClient, RunRef, RunSnapshot, find
from runops.core.client.base import Client, RepeatArguments, SubmitArguments, WaitArguments
from runops.core.metrics import Meter
from runops.core.waiting.intent import Intent
from runops.core.waiting.options import WaitClocks, WaitOptions
from runops.core.waiting.state import WaitProgress
from runops.core.waiting.submit_in_turn import TurnRules
from tests.services import CALLS

B3OS, NYX = find("b3os"), find("nyx")
NOW = 1_000_000.0
CALL = B3OS.call(**CALLS["b3os"])
REF = RunRef(provider="b3os", run_id="r1")
INTENT = Intent(mark=None, ids_before=frozenset({"a"}), clock=7.0)
PARENT = {"workflow_id": "wf_1"}
RULES = TurnRules(on_conflict="fail", until=5.0)
FLOWS = "runops.core.waiting.flows"
BASE = "runops.core.client.base"
KINDS: list[Any] = [RunClient, AsyncRunClient]
SUBMIT: dict[str, Any] = {
    "on_conflict": "attach",
    "timeout": timedelta(seconds=601),
    "adopt_uncertain": True,
    "submit_grace": timedelta(seconds=602),
    "resubmit": False,
    "identity": "dag/task",
    "rules": None,
    "turn": None,
    "before": print,
    "waiting": None,
    "attached": repr,
}
CLOCKS: dict[str, Any] = {
    "error_budget": 701,
    "auth_grace": 702,
    "max_paused": timedelta(seconds=703),
    "max_stalled": 704,
    "max_spend": 7.5,
    "poll_interval": 706,
}


def flow(result: Any) -> Generator[Any, Any, Any]:
    """One that asks for nothing."""
    return result
    yield


def client_of(kind: Any, provider: Any = B3OS, **settings: Any) -> Any:
    base: Any = httpx.AsyncBaseTransport if kind is AsyncRunClient else httpx.BaseTransport
    return kind(provider, token="k", transport=base(), clock=lambda: NOW, **settings)


def given(client: Any, method: str, *args: Any, **kwargs: Any) -> Any:
    """What a method of either client gives."""
    found = getattr(client, method)(*args, **kwargs)
    if not asyncio.iscoroutine(found):
        return found

    async def awaited() -> Any:
        return await found

    return asyncio.run(awaited())


def test_the_tables_have_every_argument() -> None:
    assert set(SUBMIT) == set(SubmitArguments.__annotations__)
    assert set(CLOCKS) == set(WaitClocks.__annotations__)
    assert set(RepeatArguments.__annotations__) == set(SUBMIT) - {"identity"}


# --- submits -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("marks", [True, False])
def test_a_submit_hands_on_every_argument(mocker: MockerFixture, kind: Any, marks: bool) -> None:
    sent = mocker.patch(f"{BASE}.submit_in_turn", side_effect=lambda *_, **__: flow(REF))
    mocker.patch(f"{BASE}.learnt_call", side_effect=lambda *_: flow(CALL))
    client = client_of(kind, mark_runs=marks)
    again = {name: value for name, value in SUBMIT.items() if name != "identity"}
    assert given(client, "submit", CALL, **SUBMIT) is REF
    assert given(client, "submit_again", CALL, INTENT, **again) is REF
    assert given(client, "retry", REF, **SUBMIT) is REF
    for (args, more), intent, identity in zip(
        sent.call_args_list, (None, INTENT, None), ("dag/task", None, "dag/task"), strict=True
    ):
        provider, call, rules, events = args
        assert (provider, call, rules) == (B3OS, CALL, TurnRules(on_conflict="attach", until=NOW + 601))
        assert (events.before, events.attached) == (print, repr)
        assert more.pop("clock")() == NOW
        assert more == {
            "intent": intent,
            "turn": None,
            "identity": identity,
            "mark_runs": marks,
            "adopt_uncertain": True,
            "grace": 602.0,
            "resubmit": False,
        }


@pytest.mark.parametrize("kind", KINDS)
def test_a_submit_of_which_little_is_said_is_sent_as_the_pages_say(mocker: MockerFixture, kind: Any) -> None:
    sent = mocker.patch(f"{BASE}.submit_in_turn", side_effect=lambda *_, **__: flow(REF))
    client = client_of(kind)
    given(client, "submit", CALL)
    given(client, "submit", CALL, rules=RULES, submit_grace=0)
    (_, _, rules, events), more = sent.call_args_list[0]
    assert rules == TurnRules(on_conflict="wait", until=NOW + 604_800)
    assert (events.before, events.attached) == (None, None)
    del more["clock"]
    assert more == {
        "intent": None,
        "turn": None,
        "identity": None,
        "mark_runs": True,
        "adopt_uncertain": False,
        "grace": 300.0,
        "resubmit": True,
    }
    args, more = sent.call_args_list[1]
    assert (args[2], more["grace"]) == (RULES, 0.0)
    with pytest.raises(ConfigurationError, match="on_conflict"):
        given(client, "submit", CALL, on_conflict="never")
    with pytest.raises(ConfigurationError, match="submit_grace"):
        given(client, "submit", CALL, submit_grace=-1)
    with pytest.raises(ConfigurationError, match="timeout"):
        given(client, "submit", CALL, timeout=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("begun", [True, False])
def test_a_wait_for_a_turn_is_counted_once_where_it_begins_and_an_adoption_each_time(
    mocker: MockerFixture, kind: Any, begun: bool
) -> None:
    meter = mocker.create_autospec(Meter, instance=True)
    turn, told = object(), []
    sent = mocker.patch(f"{BASE}.submit_in_turn", side_effect=lambda *_, **__: flow(REF))
    client = client_of(kind, meter=meter)
    given(client, "submit", CALL, waiting=told.append, turn=turn if begun else None)
    assert sent.call_args.kwargs["turn"] is (turn if begun else None)
    events = sent.call_args.args[3]
    events.waiting(turn)
    events.waiting(turn)
    assert told == [turn, turn]
    assert [call.args for call in meter.turn.call_args_list] == ([] if begun else [("b3os",)])
    events.adopted()
    assert [call.args for call in meter.adopted.call_args_list] == [("b3os",)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_refusal_is_counted_where_no_wait_for_a_turn_has_begun(mocker: MockerFixture, kind: Any) -> None:
    meter = mocker.create_autospec(Meter, instance=True)
    rules, conflict = mocker.create_autospec(TurnRules, instance=True), ConflictError("busy")
    client = client_of(kind, meter=meter)
    earlier: Any = object()
    assert client.refused(rules, CALL, conflict, None, mark="m") is rules.refused.return_value
    assert meter.turn.call_count == 1
    client.refused(rules, CALL, conflict, earlier, mark=None)
    assert [(call.args, call.kwargs) for call in rules.refused.call_args_list] == [
        ((B3OS, CALL, conflict, None), {"now": NOW, "mark": "m"}),
        ((B3OS, CALL, conflict, earlier), {"now": NOW, "mark": None}),
    ]
    assert [call.args for call in meter.turn.call_args_list] == [("b3os",)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ({"adopt_uncertain": True, "submit_grace": 0}, (True, 0.0)),
        ({"submit_grace": timedelta(minutes=1)}, (False, 60.0)),
        ({}, (False, 300.0)),
    ],
)
def test_the_search_for_a_lost_run_is_handed_what_is_known(
    mocker: MockerFixture, kind: Any, said: dict[str, Any], wanted: tuple[bool, float]
) -> None:
    meter = mocker.create_autospec(Meter, instance=True)
    searched = mocker.patch(f"{BASE}.submission.find_submitted", side_effect=lambda *_, **__: flow(REF))
    assert given(client_of(kind, meter=meter), "find_submitted", PARENT, INTENT, **said) is REF
    args, more = searched.call_args
    assert args == (B3OS, PARENT, INTENT)
    assert (more["adopt_uncertain"], more["grace"], more["clock"]()) == (*wanted, NOW)
    more["adopted"]()
    assert [call.args for call in meter.adopted.call_args_list] == [("b3os",)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("marks", [True, False])
def test_what_is_known_before_a_submit_is_asked_for_with_its_identity(
    mocker: MockerFixture, kind: Any, marks: bool
) -> None:
    listed = mocker.patch(f"{BASE}.list_before_submit", side_effect=lambda *_, **__: flow(INTENT))
    client = client_of(kind, mark_runs=marks)
    assert given(client, "list_before_submit", CALL, identity="dag/task") is INTENT
    given(client, "list_before_submit", CALL)
    assert [(call.args, call.kwargs) for call in listed.call_args_list] == [
        ((B3OS, CALL), {"identity": identity, "mark_runs": marks}) for identity in ("dag/task", None)
    ]
    assert client.marks_runs is marks


# --- looks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("method", "asked", "name"),
    [
        ("get", f"{FLOWS}.get", REF),
        ("recent", f"{FLOWS}.recent", PARENT),
        ("recent", f"{FLOWS}.recent", "wf_1"),
        ("fetch_result", f"{FLOWS}.payload", REF),
        ("cancel", f"{FLOWS}.cancel", REF),
        ("resume", "runops.core.client.acts.resume", REF),
    ],
)
def test_a_look_or_an_act_is_about_what_it_is_given(
    mocker: MockerFixture, kind: Any, method: str, asked: str, name: Any
) -> None:
    answer = object()
    called = mocker.patch(asked, side_effect=lambda *_, **__: flow(answer))
    client = client_of(kind)
    assert given(client, method, name) is (None if method == "cancel" else answer)
    assert called.call_args.args == (B3OS, name)
    assert called.call_args.kwargs == ({"clock": client.clock} if method == "resume" else {})


@pytest.mark.parametrize("kind", KINDS)
def test_a_probe_asks_the_service_and_gives_nothing(mocker: MockerFixture, kind: Any) -> None:
    called = mocker.patch(f"{FLOWS}.probe", side_effect=lambda *_: flow(object()))
    assert given(client_of(kind), "probe") is None
    assert called.call_args.args == (B3OS,)


# --- waits -------------------------------------------------------------------------------------------------------


def ended(outcome: Outcome = Outcome.SUCCEEDED) -> RunSnapshot:
    return RunSnapshot(ref=REF, state="success", outcome=outcome)


def options_of(client: Client, timeout: Any, **settings: Any) -> tuple[WaitOptions, Any]:
    return client._wait_options(timeout, settings)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("kind", KINDS)
def test_each_clock_of_a_wait_is_in_its_options(kind: Any) -> None:
    options, context = options_of(client_of(kind, NYX), timedelta(seconds=601), **CLOCKS)
    found = (options.deadline, options.error_budget, options.auth_grace, options.max_paused, options.max_stalled)
    assert found == (NOW + 601, 701.0, 702.0, 703.0, 704.0)
    assert (options.max_spend, options.cadence.first) == (7.5, 706.0)
    assert set(context) == {"on_update"}
    plain, _ = options_of(client_of(kind, NYX), 50)
    assert plain == WaitOptions.build(NYX, now=NOW, timeout=50)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_wait_takes_over_is_handed_on_and_patience_wins_over_its_clocks(
    mocker: MockerFixture, kind: Any
) -> None:
    patience = WaitOptions.build(B3OS, now=5.0, timeout=6)
    meter = mocker.create_autospec(Meter, instance=True)
    past, told = WaitProgress(), []
    context: dict[str, Any] = {"submitted_at": 3.0, "seen": True, "past": past, "on_update": told.append}
    assert set(context) | set(CLOCKS) | {"patience"} == set(WaitArguments.__annotations__)
    client = client_of(kind, meter=meter)
    options, found = options_of(client, 50, patience=patience, error_budget=7, **context)
    assert options is patience
    assert found == {**context, "on_update": meter.reads.return_value}
    meter.reads.assert_called_once_with(told.append, client.clock)


@pytest.mark.parametrize("counted", ["by the client", "by the host"])
def test_the_end_of_a_wait_is_counted_by_the_client_unless_a_host_counts(mocker: MockerFixture, counted: str) -> None:
    alone = counted == "by the client"
    meter = mocker.create_autospec(Meter, instance=True)
    shared = mocker.patch(f"{BASE}.METER", meter)
    spans = mocker.patch(f"{BASE}.record")
    mocker.patch(f"{BASE}.now", side_effect=[10.0, 20.0, 30.0, 40.0])
    waited = mocker.patch(f"{FLOWS}.wait", side_effect=lambda *_, **__: flow(ended()))
    client = client_of(RunClient, meter=None if alone else meter)
    assert client.meter is shared
    last = client.wait(REF, 50, seen=True)
    args, more = waited.call_args
    assert args[:2] == (B3OS, REF)
    assert args[2].deadline == NOW + 50
    assert (more["clock"], more["seen"]) == (client.clock, True)
    waited.side_effect = ConfigurationError("wrong")
    with pytest.raises(ConfigurationError):
        client.wait(REF, 50)
    assert [call.args for call in meter.ended.call_args_list] == ([(B3OS, last, None)] if alone else [])
    assert [call.args[0] for call in meter.erred.call_args_list] == (["b3os"] if alone else [])
    found = [(end.args[0].run_id, end.args[0].began, end.args[0].ended) for end in spans.call_args_list]
    assert found == ([("r1", 10.0, 20.0), ("r1", 30.0, 40.0)] if alone else [])
    outcomes = [(end.args[0].outcome, end.args[0].error) for end in spans.call_args_list]
    assert outcomes == ([("succeeded", None), (None, "ConfigurationError")] if alone else [])


@pytest.mark.parametrize("kind", KINDS)
def test_a_watch_gives_each_change_until_the_last_with_the_clocks_that_it_is_given(
    mocker: MockerFixture, kind: Any
) -> None:
    state = mocker.patch(f"{BASE}.WaitState")
    state.return_value.ref = REF
    running, over = RunSnapshot(ref=REF, state="running", phase="running"), ended()  # type: ignore[arg-type]
    changes = iter([running, running, over])
    mocker.patch(f"{FLOWS}.next_change", side_effect=lambda *_: flow(next(changes)))
    client = client_of(kind)
    seen = client.watch(REF, 50, error_budget=7)
    if kind is AsyncRunClient:

        async def collected() -> list[RunSnapshot]:
            return [each async for each in seen]

        found = asyncio.run(collected())
    else:
        found = list(seen)
    assert found == [running, running, over]
    args, more = state.call_args
    assert args == (B3OS, REF, WaitOptions.build(B3OS, now=NOW, timeout=50, error_budget=7))
    assert more == {"began": NOW}


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_says_what_it_is_and_never_its_key(kind: Any) -> None:
    client = client_of(kind, base_url="https://b3.example.com/", states={"half": "degraded"})
    assert repr(client) == f"{kind.__name__}('b3os', root='https://b3.example.com')"
    assert client.root == "https://b3.example.com"
    assert (client.provider.name, client.provider.states.read("half").meaning) == ("b3os", Outcome.DEGRADED)
    assert client.ref("r1") == REF
    assert client.clock() == NOW
