"""Checks of a wait on a real connection: it goes on through all that can go wrong, and ends as the run does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from runops.conformance.answers import RecordedAnswer
from runops.conformance.canaries import CANARY, planted_everywhere
from runops.conformance.clients import LARGEST, SIDES, Stage, Stages
from runops.conformance.facts import Facts
from runops.conformance.report import Finding, said_in
from runops.conformance.service import Fault, Reply
from runops.core.model.errors import RunopsError
from runops.core.model.run import Outcome, RunSnapshot

Found = Iterator[Finding]
JSON = {"content-type": "application/json"}
ASKED_PAUSE = 37
"""Seconds of a Retry-After."""
DRIP_LIMIT = 0.25
"""Real seconds for one request where a body drips for longer."""
GOOD = b'{"status": "ok", "message": "planned by the conformance kit"}'
TROUBLES: dict[str, Reply] = {
    "429 with Retry-After": Reply(429, GOOD, {**JSON, "retry-after": str(ASKED_PAUSE)}),
    "500": Reply(500, GOOD, JSON),
    "502 of a gateway": Reply(502, b"<html><body>Bad gateway</body></html>", {"content-type": "text/html"}),
    "503": Reply(503, GOOD, JSON),
    "504 without a body": Reply(504),
    "a reset": Reply(200, kind="reset"),
    "half a body": Reply(200, GOOD, JSON, kind="half"),
    "a page of HTML": Reply(200, b"<!DOCTYPE html><html></html>", {"content-type": "text/html"}),
    "an empty object": Reply(200, b"{}", JSON),
    "a redirect": Reply(302, b"", {"location": "/elsewhere"}),
    "a huge body": Reply(200, b'{"a": "' + b"x" * (2 * LARGEST) + b'"}', JSON),
    "a slow drip": Reply(200, GOOD, JSON, kind="drip"),
}
MOST_READS_AN_HOUR = 3_600


def faults(facts: Facts, stages: Stages) -> tuple[list[Finding], int]:
    """Each way to fail, in both clients; and each end that the folder shows."""
    if not facts.phases or not facts.ends:
        missing = "a run that goes on" if not facts.phases else "a run that is over"
        problem = f"no answer of the status route that the declaration can ask for shows {missing}"
        return [Finding("faults", "status", problem, "Add one, so that a wait can be played")], 1
    found: list[Finding] = []
    for side in SIDES:
        for end in facts.ends:
            found += _ends_right(facts, stages.new(side), end)
        for trouble in TROUBLES:
            found += _goes_on(facts, stages.new(side), trouble)
        found += _cadence(facts, stages.new(side))
    return found, len(SIDES) * (len(facts.ends) + len(TROUBLES) + 1)


def _ends_right(facts: Facts, stage: Stage, end: RecordedAnswer) -> Found:
    ref = facts.ref(end)
    assert ref is not None
    stage.service.make(ref.run_id, [*facts.phases, end])
    last = _waited(stage, ref.run_id, dict(ref.parents))
    if not isinstance(last, RunSnapshot):
        problem = f"a wait for this run ends with {last}"
        yield Finding("faults", "status", problem, "Mend the route and the body", end.file)
    elif last.outcome is not end.meaning:
        problem = f"a wait for this run ends as {last.outcome} after {last.state!r}, and the run as {end.meaning}"
        yield Finding("faults", f"states[{last.state!r}]", problem, "Mend the word", end.file)


def _goes_on(facts: Facts, stage: Stage, trouble: str) -> Found:
    end = facts.ends[0]
    ref = facts.ref(end)
    assert ref is not None
    stage.service.make(ref.run_id, [facts.phases[0], *facts.phases[:1], end])
    stage.service.faults = [Fault("status", TROUBLES[trouble], skip=1)]
    if TROUBLES[trouble].kind == "drip":
        stage.request_seconds = DRIP_LIMIT
    last = _waited(stage, ref.run_id, dict(ref.parents))
    field = "status" if isinstance(last, str) else "body"
    if not isinstance(last, RunSnapshot) or last.outcome is not end.meaning:
        how = last if isinstance(last, str) else f"{last.outcome} after {last.state!r}"
        problem = f"after {trouble} on the way the wait ends with {how}, and not as {end.meaning}"
        yield Finding("faults", field, problem, "Require the id and the status, and give them no default", end.file)
    elif stage.service.faults:
        yield Finding("faults", field, "the wait ended before its second read", "Mend the words", end.file)
    elif trouble.startswith("429") and stage.clock.now < 1_800_000_000 + ASKED_PAUSE:
        yield Finding("faults", "cadence", "looks again before Retry-After is over", "Mend the cadence", end.file)
    if any(seen.path == "/elsewhere" for seen in stage.service.requests):
        yield Finding("faults", field, "follows a redirect, with the key", "Ask the address that answers", end.file)


def _waited(stage: Stage, run_id: str, parents: dict[str, str]) -> RunSnapshot | str:
    """How a wait ended: the last snapshot, or what it failed with."""
    try:
        return stage.wait(run_id, parents)
    except RunopsError as error:
        return f"{type(error).__name__}: {said_in(error)[:200]}"


def _cadence(facts: Facts, stage: Stage) -> Found:
    """How often a run is looked at that goes on for an hour."""
    ref = facts.ref(facts.phases[0])
    assert ref is not None
    cadence = facts.provider.cadence
    age, looks = 0.0, 0
    while age < 3_600 and looks <= MOST_READS_AN_HOUR:
        age, looks = age + cadence.delay(age), looks + 1
    if looks > MOST_READS_AN_HOUR:
        problem = f"looks every {cadence.first:g} s, more than {MOST_READS_AN_HOUR} times an hour for each run"
        advice = "Name the pace that the service documents, 1 s or more"
        yield Finding("faults", "cadence", problem, advice, level="unproven")
    stage.service.make(ref.run_id, [facts.phases[0]])
    timeout = min(20 * cadence.ceiling, 600.0)
    last = stage.wait(ref.run_id, dict(ref.parents), timeout=timeout)
    if last.outcome is not Outcome.TIMED_OUT or last.run_ended:
        problem = f"a run that never ends is over as {last.outcome} when the wait's own timeout is"
        yield Finding("faults", "states", problem, "Mend the words", facts.phases[0].file)


# --- what nobody may see -----------------------------------------------------------------------------------------


def secrets(facts: Facts, stages: Stages) -> tuple[list[Finding], int]:
    """Keys and payloads in answers of every kind: neither logs, nor texts of errors, nor results show them."""
    if not facts.phases or not facts.ends:
        return [], 0
    found: list[Finding] = []
    tried = 0
    for side in SIDES:
        for status in (200, 401, 403, 404, 422, 500):
            stage = stages.new(side)
            stages.log.lines.clear()
            shown = _all_that_is_shown(facts, stage, status)
            tried += 1
            found += _leaks(facts, stage, status, [*shown, *stages.log.lines])
    return found, tried


def _all_that_is_shown(facts: Facts, stage: Stage, status: int) -> list[str]:
    end = facts.ends[0]
    ref = facts.ref(end)
    assert ref is not None
    old_key = facts.key(f"{CANARY}old4k")
    body = f'{{"message": "the key {stage.key} was refused, use {old_key} for {CANARY}@example.test", "code": 7}}'
    if status == 200:
        keep = frozenset(facts.alias(name) for name in ("run_id", "status", *facts.provider.parents))
        stage.service.alter = lambda answer: planted_everywhere(answer, keep, facts.provider.envelope_path)
    else:
        stage.service.faults = [Fault("status", Reply(status, body.encode(), JSON)) for _ in range(40)]
    stage.service.make(ref.run_id, [facts.phases[0], end])
    shown = [stage.shown(), repr(facts.provider)]
    try:
        last = stage.wait(ref.run_id, dict(ref.parents), timeout=60.0, error_budget=30.0)
    except RunopsError as error:
        return [*shown, str(error), repr(error), repr(error.args), repr(vars(error))]
    return [*shown, repr(last), last.summary(), str(last.to_result()), str(last.to_dict())]


def _leaks(facts: Facts, stage: Stage, status: int, shown: list[Any]) -> Found:
    texts = "\n".join(map(str, shown))
    if stage.key in texts:
        problem = f"the key itself is shown after a {status}"
        yield Finding("secrets", "auth", problem, "Send it in the header alone, and write it into no text")
    elif f"{CANARY}old4k" in texts and facts.provider.auth.key_prefixes:
        problem = f"a key in the message of a {status} is shown"
        yield Finding("secrets", "auth.key_prefixes", problem, "Name what all keys of the service begin with")
    elif f"{CANARY}@" in texts:
        problem = f"an address in the answer ({status}) is shown"
        yield Finding("secrets", "body", problem, "Take it out of the allow-list, or clean it")
    for seen in stage.service.requests:
        sent = f"{seen.path} {dict(seen.query)} {seen.body}"
        if stage.key in sent or f"{CANARY}environment" in sent:
            problem = f"the key stands in the address or the body of {seen.method} {seen.path.split(CANARY)[0]}"
            advice = f"Take it out: the key goes into the header {facts.provider.auth.header} alone"
            yield Finding("secrets", seen.route, problem, advice)
