"""Keys, personal data and payloads appear in no log, no text and no repr: canaries stand in every such field."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from pydantic import ValidationError

from runops.core import PROVIDERS, ConfigurationError, RunClient, RunopsError, find

KEY = "nx_live_canary.key+5f2b/9c7e=1d"
PERSON = "canary.person@example.org"
TOKEN = "canary-token-0f9e8d7c6b5a4f3e2d1c"
ADDRESS = "https://hooks.example.org/canary-address/T0"
CANARIES = {
    "key": KEY,
    "person": PERSON,
    "token": TOKEN,
    "address": ADDRESS,
    "address, in part": "canary-address",
    **{f"private {n}": f"canary-private-{n}" for n in range(12)},
}
TEXT = f"Failed for {PERSON} at {ADDRESS} with {TOKEN} and key {KEY}"

# What each provider's payload holds that nobody may see, and text fields with such things inside.
FIELDS: dict[str, dict[str, Any]] = {
    "nexio": {
        "output": {"insured": "canary-private-0", "degradation_reason": TEXT},
        "solutions": [{"driver": "canary-private-1"}],
        "input": {"vin": "canary-private-2"},
        "error_details": {"seen": "canary-private-3"},
        "error": TEXT,
        "stage": f"EVALUATE for {PERSON}",
    },
    "nyx": {
        "target": {"credentials": TOKEN},
        "objective": "canary-private-4",
        "report": "canary-private-5",
        "name": f"Audit of {ADDRESS} for {PERSON}",
    },
    "onepin": {
        "triggered_by": {"user_id": "canary-private-6", "user_name": PERSON},
        "playback_url": ADDRESS,
        "definition_snapshot": {"text": "canary-private-7"},
        "error": TEXT,
        "pause_error": TEXT,
        "pause_reason": TEXT,
    },
    "b3os": {
        "propValues": {"wallet": "canary-private-8"},
        "simulationForks": [{"chainId": 1, "forkId": "canary-private-9", "rpcUrl": ADDRESS}],
        "triggeredBy": PERSON,
        "triggerSource": ADDRESS,
        "workflowDefinition": {"nodes": {"root": {"secret": "canary-private-10"}}},
        "executionState": {
            "send": {
                "type": "send-token",
                "status": "failure",
                "input": {"memo": "canary-private-11"},
                "result": {"error": TEXT, "stack": "canary-private-0"},
            },
            "quote": {"type": "http", "status": "success", "result": {"error": "canary-private-1"}},
        },
    },
    "nekt": {
        "triggered_by_token": {"token": TOKEN},
        "triggered_by": {"email": PERSON, "first_name": "canary-private-2", "picture": ADDRESS},
        "log": {"parsed_log": f"canary-private-3 {TEXT}"},
        "extra_config": {"password": "canary-private-4"},
        "source": {"id": {"secret": "canary-private-5"}, "connection": TOKEN},
    },
}
SUBMITS: dict[str, dict[str, Any]] = {
    "nexio": {"engine_slug": "e", "input": {"insured": "canary-private-0", "key": KEY}},
    "nyx": {
        "config_name": "nightly",
        "name": "Nightly",
        "target": {"url": "https://agent.example.org", "credentials": TOKEN},
        "objective": "canary-private-1",
        "budget_usd": 5,
        "severity_target": "low",
        "extra": {"secret": "canary-private-2"},
    },
    "onepin": {"workflow_id": "7c9e6679-7425-40de-944b-e07fc1f90ae7", "script_text": "canary-private-3"},
    "b3os": {"workflow_id": "wf_1", "payload": {"wallet": "canary-private-4"}},
}


class Written:
    """Everything that a person could come to see."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def add(self, *things: Any) -> None:
        for thing in things:
            self.texts[f"{len(self.texts)}: {type(thing).__name__}"] = f"{thing!s} {thing!r}"
            if isinstance(thing, BaseException):
                told = "".join(traceback.format_exception(thing))
                self.texts[f"{len(self.texts)}: traceback"] = f"{told} {vars(thing)!r} {pickle.dumps(thing)!r}"

    def trying(self, act: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        try:
            result = act(*arguments, **options)
        except RunopsError as error:
            self.add(error)
            return None
        self.add(result)
        if hasattr(result, "to_result"):
            self.add(json.dumps(result.to_result()), result.summary(), json.dumps(result.to_dict()))
        return result


@pytest.fixture
def written(caplog: pytest.LogCaptureFixture) -> Written:
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "httpcore", "asyncio", "runops"):
        caplog.set_level(logging.DEBUG, logger=name)
    return Written()


def check(written: Written, leaks: Any, caplog: pytest.LogCaptureFixture) -> None:
    written.texts["log"] = "\n".join(
        f"{record.getMessage()} {record.args!r} {record.exc_text or ''}" for record in caplog.records
    )
    assert leaks(CANARIES, written.texts) == []


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("script", ["failed", "unknown_word_forever", "unknown_word_ended"])
def test_nothing_private_of_a_payload_is_ever_written(
    runs_of: Callable[..., Any],
    written: Written,
    leaks: Any,
    caplog: pytest.LogCaptureFixture,
    provider: str,
    script: str,
) -> None:
    runs = runs_of(provider, token=KEY)
    ref = runs.made(script=script)
    runs.emulator.advance(None)
    runs.emulator.set_fields(provider, ref.run_id, FIELDS[provider])
    written.add(ref, runs.provider, runs.new(), runs.new_async())
    seen = []
    last = written.trying(runs, "wait", ref, 60, on_update=seen.append)
    written.add(seen, ref.model_dump_json())
    written.trying(runs, "watch", ref, 30)
    if provider != "nexio":
        written.trying(runs, "cancel", ref)
    assert last is not None or script == "unknown_word_ended"
    assert "canary" in json.dumps(runs("fetch_result", ref)), "the canaries were there to be found"
    check(written, leaks, caplog)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_status_that_is_no_word_at_all_leaks_nothing(
    runs_of: Callable[..., Any], written: Written, leaks: Any, caplog: pytest.LogCaptureFixture, provider: str
) -> None:
    runs = runs_of(provider, token=KEY)
    ref = runs.made(script="running")
    runs.emulator.set_fields(provider, ref.run_id, {"status": TEXT})
    written.trying(runs, "wait", ref, 20)
    end = {"nexio": "completed_at", "nyx": "completed_at", "onepin": "completed_at", "b3os": "finishedAt"}
    runs.emulator.set_fields(provider, ref.run_id, {end.get(provider, "ended_at"): "2026-01-01T00:00:00Z"})
    written.trying(runs, "get", ref)
    check(written, leaks, caplog)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("status", [401, 409, 500])
def test_an_error_that_quotes_the_key_and_the_payload_leaks_neither(
    runs_of: Callable[..., Any],
    written: Written,
    leaks: Any,
    caplog: pytest.LogCaptureFixture,
    provider: str,
    status: int,
) -> None:
    runs = runs_of(provider, token=KEY)
    bodies: list[Any] = [
        {"error": {"code": KEY, "message": TEXT, "details": [{"field": TEXT}]}},
        {"code": f"invalid.{KEY}", "message": f"key={KEY}"},
        {"detail": [{"loc": ["header", TEXT], "msg": TEXT, "input": KEY}]},
        {"error": f"Authorization: Bearer {KEY}", "type": TOKEN},
        TEXT,
    ]
    ref = runs.made(script="forever")
    for body in bodies:
        runs.emulator.add_fault(kind="status", status=status, body=body, provider=provider)
        written.trying(runs, "get", ref)
    for body in bodies:
        runs.emulator.add_fault(kind="status", status=status, body=body, provider=provider, count=5)
        written.trying(runs, "wait", ref, 30, error_budget=20)
        if provider in SUBMITS:
            written.trying(runs, "submit", runs.provider.call(**SUBMITS[provider]), timeout=60)
        if provider != "nexio":
            written.trying(runs, "cancel", ref)
            runs.emulator.reset(["faults"])
    check(written, leaks, caplog)


@pytest.mark.parametrize("provider", SUBMITS)
@pytest.mark.parametrize("trouble", ["none", "reset", "refused", "uncertain"])
def test_what_is_submitted_is_never_written(
    runs_of: Callable[..., Any],
    written: Written,
    leaks: Any,
    caplog: pytest.LogCaptureFixture,
    provider: str,
    trouble: str,
) -> None:
    runs = runs_of(provider, token=KEY)
    call = runs.provider.call(**SUBMITS[provider])
    faults: Mapping[str, dict[str, Any]] = {
        "reset": {"kind": "reset", "when": "after"},
        "refused": {"kind": "status", "status": 422, "body": {"detail": TEXT}},
        "uncertain": {"kind": "status", "status": 500, "body": {"error": TEXT}},
    }
    if trouble != "none":
        runs.emulator.add_fault(provider=provider, action="submit", **faults[trouble])
    written.add(call, copy.copy(call), [call])
    written.trying(runs, "submit", call)
    assert "canary" in json.dumps(call.json)
    check(written, leaks, caplog)


def test_wrong_arguments_are_named_and_not_quoted(leaks: Any) -> None:
    written = Written()
    written.trying(find("nexio").call, engine_slug="e", input={"x": {TOKEN, PERSON}})
    written.trying(find("nexio").call, engine_slug="e", input=KEY)
    written.trying(find("nexio").call, engine_slug="e", input=[KEY])
    written.trying(find("nyx").call, **{**SUBMITS["nyx"], "target": TOKEN})
    written.trying(find("nyx").call, **{**SUBMITS["nyx"], "target": {"credentials": TOKEN}})
    written.trying(find("b3os").call, workflow_id="w", payload=TOKEN)
    written.trying(find("b3os").call, workflow_id="w", payload={"at": object(), "token": TOKEN})
    assert len(written.texts) == 14
    assert leaks(CANARIES, written.texts) == []


@pytest.mark.parametrize(
    "settings",
    [
        {"token": f"{KEY}\nX-Injected: 1"},
        {"token": f"{KEY}\x00"},
        {"token": f"{KEY}é"},
        {"token": KEY, "base_url": f"https://user:{TOKEN}@api.example.org"},
        {"token": KEY, "base_url": f"https://{TOKEN}@api.example.org:99999"},
        {"token": KEY, "base_url": f"user:{TOKEN}/x@api.example.org:99999"},
        {"token": KEY, "base_url": f"https://user:{TOKEN}@[::1"},
        {"token": KEY, "base_url": f"https://user:pa/{TOKEN}@host"},
        {"token": KEY, "options": {"no_such": TOKEN}},
        {"token": KEY, "user_agent": f"x\r\nY: {TOKEN}"},
        {"token": KEY, "request_timeout": "soon"},
        {"token": KEY, "max_response_bytes": -1},
        {"token": KEY, "requests_per_minute": 0},
    ],
)
def test_a_wrong_setting_is_refused_without_showing_a_secret(leaks: Any, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RunClient(find("onepin"), **settings)
    written = Written()
    written.add(caught.value)
    assert leaks(CANARIES, written.texts) == []


def test_a_credential_does_not_travel(leaks: Any) -> None:
    client = RunClient(find("nexio"), token=KEY)
    texts: dict[str, str] = {}
    for name, things in {"client": client, "inside": vars(client)}.items():
        texts[name] = repr(things)
        with pytest.raises(TypeError):
            pickle.dumps(things)
    assert leaks(CANARIES, texts) == []


def test_the_search_finds_each_spelling_of_a_canary(leaks: Any) -> None:
    import base64
    from urllib.parse import quote

    canary = {"c": "canary a/b+c@d"}
    raw = canary["c"].encode()
    hiding = [canary["c"], quote(canary["c"], safe=""), quote(f"x={canary['c']}&", safe="")]
    hiding += [base64.b64encode(b"x" * n + raw + b"y" * m).decode() for n in range(4) for m in range(4)]
    hiding += [base64.urlsafe_b64encode(b"?" * n + raw).decode() for n in range(4)]
    for text in hiding:
        assert leaks(canary, [f"before {text} after"]) == ["c in text 0"], text
    assert leaks(canary, ["canary", "a/b+c@d"]) == []


@pytest.mark.parametrize("provider", PROVIDERS)
def test_an_error_of_a_body_quotes_nothing_of_what_came(provider: str) -> None:
    with pytest.raises(ValidationError) as refused:
        find(provider).body.model_validate({"id": [TOKEN], "run_id": [TOKEN], "status": {"text": TOKEN}})
    assert TOKEN not in str(refused.value)
