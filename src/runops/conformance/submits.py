"""Checks of a submit on a real connection: one POST, the right id, nothing sent twice, and nobody else's run taken."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

from runops.conformance.canaries import CANARY
from runops.conformance.clients import SIDES, Stage, Stages
from runops.conformance.facts import FIELDS, Facts, names_of
from runops.conformance.report import Finding
from runops.conformance.service import Fault, Reply
from runops.core.declaration import Call
from runops.core.model.errors import ConfigurationError, ConflictError, RunopsError, SubmitUncertainError
from runops.core.model.run import RunRef
from runops.core.waiting import flows
from runops.core.waiting.retry_call import retry_call

Found = Iterator[Finding]
CONFLICT = 409
GRACE = 60.0
"""Seconds for which the run of a lost answer is looked for here."""
JSON = {"content-type": "application/json"}
LOST = {
    "a reset": Reply(200, kind="reset"),
    "half a body": Reply(201, b'{"half": "a body"}', JSON, kind="half"),
    "a 500": Reply(500, b'{"message": "planned"}', JSON),
    "an answer without an id": Reply(200, b"{}", JSON),
}


def submits(facts: Facts, stages: Stages) -> tuple[list[Finding], int]:
    """All rules of a submit, in both clients; the ids of submits and retries; acts by their routes."""
    found = [*_evidence(facts), *_ids(facts)]
    tried = len(facts.of("submit", "retry"))
    call = call_of(facts)
    if call is not None and facts.phases and facts.ends:
        for side in SIDES:
            found += _once(facts, stages.new(side, call))
            found += _conflict(facts, stages.new(side, call))
            found += _stranger(facts, stages.new(side, call))
            for lost, reply in LOST.items():
                for carried_out in (True, False):
                    stage = stages.new(side, call, refuses_second=facts.refuses_second)
                    found += _lost(facts, stage, lost, reply, carried_out=carried_out)
        tried += len(SIDES) * (3 + 2 * len(LOST))
    for side in SIDES:
        found += _cancelled(facts, stages.new(side))
    return found, tried


def call_of(facts: Facts) -> Call | None:
    """What the folder's first submit sends; None where nothing can be submitted. routes() says why."""
    if facts.provider.submit is None or not facts.submits:
        return None
    try:
        return facts.call(facts.submits[0])
    except ConfigurationError:
        return None


def bears_mark(facts: Facts) -> bool:
    """Whether a run that was started shows, in its parent's list, the mark that its submit was given."""
    declared = facts.provider.submit
    return bool(declared and declared.mark and facts.provider.listing and facts.shows(facts.alias(declared.mark)))


# --- what the folder shows ---------------------------------------------------------------------------------------


def _evidence(facts: Facts) -> Found:
    """What a declaration claims of a submit must be shown by an answer: by each claim a second POST may be sent."""
    declared = facts.provider.submit
    if declared is None:
        return
    if declared.one_at_a_time and not facts.refuses_second:
        problem = "no answer shows that a second active run is refused (409), and by that claim one more POST is sent"
        yield Finding("submits", "submit.one_at_a_time", problem, "Add that answer, or leave the claim out")
    for status, code in declared.turned_away:
        if status == CONFLICT:
            problem = "takes a conflict (409) for an answer after which the submit is simply sent again"
            advice = "Take it out: on_conflict says what becomes of a submit that another run is in the way of"
            yield Finding("submits", "submit.turned_away", problem, advice)
        refused = facts.of("submit", ok=False)
        if not any(each.status == status and facts.error(each).code == code for each in refused):
            problem = f"no answer of a submit shows {status} with the code {code!r}, after which it is sent again"
            yield Finding("submits", "submit.turned_away", problem, "Add that answer, or leave the claim out")
    alias = facts.alias(declared.mark) if declared.mark else ""
    if declared.mark and not facts.shows(alias):
        problem = f"no run of the folder's answers shows {alias!r}, so no mark in it would prove whose a run is"
        yield Finding("submits", "submit.mark", problem, "Name a text that runs and lists show again, or leave it out")
    call = call_of(facts)
    if call is not None and declared.mark and not isinstance((call.json or {}).get(declared.mark), str):
        problem = f"the body of a submit has no text {declared.mark!r} that a mark could be added to"
        yield Finding("submits", "submit.mark", problem, "Name a text of the body, under the service's own name")


def _ids(facts: Facts) -> Found:
    """The id of the new run stands where the declaration says."""
    for answer in facts.of("submit", "retry", ok=True):
        declared = facts.provider.submit if answer.route == "submit" else facts.provider.retry
        if declared is None or answer.read_as.run_id is None:
            continue
        try:
            call = _sent(facts, answer)
            found = facts.provider.submitted(call, answer.content).run_id if call else answer.read_as.run_id
        except ConfigurationError:
            continue
        except RunopsError:
            found = None
        if found != answer.read_as.run_id:
            path, field = ".".join(declared.run_id), FIELDS.get(answer.route, answer.route)
            problem = f"finds {'no id' if found is None else 'another id'} at {path!r}"
            advice = f"Write the keys that lead to it; it stands at {_place(answer.body, answer.read_as.run_id)}"
            yield Finding("submits", f"{field}.run_id", problem, advice, answer.file)


def _sent(facts: Facts, answer: Any) -> Call | None:
    if answer.route == "submit":
        return facts.call(answer)
    ref = facts.ref(answer)
    return retry_call(facts.provider, ref) if ref else None


def _place(body: Any, wanted: str) -> str:
    left: list[tuple[Any, tuple[str, ...]]] = [(body, ())]
    while left:
        value, path = left.pop(0)
        if isinstance(value, dict):
            left += [(inner, (*path, key)) for key, inner in cast("dict[str, Any]", value).items()]
        elif str(value) == wanted:
            return repr(path)
    return "no place of this answer: mend read_as.run_id"


# --- on a connection ---------------------------------------------------------------------------------------------


def _submitted(stage: Stage, call: Call, **settings: Any) -> RunRef | RunopsError:
    try:
        return stage.submit(call, submit_grace=GRACE, timeout=GRACE, **settings)
    except RunopsError as error:
        return error


def _once(facts: Facts, stage: Stage) -> Found:
    call = stage.service.call
    assert call is not None
    end = _submitted(stage, call)
    sent = [seen for seen in stage.service.requests if seen.route == "submit"]
    started = stage.service.started
    if isinstance(end, RunopsError) or [end.run_id] != started or len(sent) != 1:
        how = _how(end)
        problem = f"a good submit was sent {len(sent)} times and ends with {how}; {len(started)} runs were started"
        yield Finding("submits", "submit", problem, "Mend the route, the body or run_id", facts.submits[0].file)
    for seen in sent[:1]:
        if seen.headers.get(facts.provider.auth.header.lower()) != f"{facts.provider.auth.prefix}{stage.key}":
            yield Finding("submits", "auth", "the key does not come in its header", "Mend AuthScheme")
        if CANARY in f"{seen.path} {dict(seen.query)} {json.dumps(seen.body)}":
            problem = "the key stands in the address or the body of a submit"
            advice = f"Take it out: the key goes into the header {facts.provider.auth.header} alone"
            yield Finding("submits", "submit.build", problem, advice)


def _how(end: RunRef | RunopsError) -> str:
    if isinstance(end, RunRef):
        return "a run"
    return f"{type(end).__name__}: {end.text.rstrip('.')[:160]}"


def _conflict(facts: Facts, stage: Stage) -> Found:
    """A 409 is no run, and nothing is sent again before the way is free."""
    call = stage.service.call
    assert call is not None
    refused = [each for each in facts.of("submit", ok=False) if each.status == CONFLICT]
    body = refused[0].content if refused else b'{"message": "a run is active"}'
    reply = Reply(CONFLICT, body, JSON)
    stage.service.faults = [Fault("submit", reply) for _ in range(50)]
    end = _submitted(stage, call, on_conflict="fail")
    file = refused[0].file if refused else ""
    if not isinstance(end, ConflictError):
        problem = f"a conflict (409) ends with {_how(end)}, and not with a ConflictError"
        yield Finding("submits", "submit", problem, "Take 409 for what it is: nothing was started", file)
    elif stage.service.count("submit") != 1:
        problem = f"after a conflict (409) the submit was sent {stage.service.count('submit')} times"
        yield Finding("submits", "submit.turned_away", problem, "Take 409 out of it", file)


def _stranger(facts: Facts, stage: Stage) -> Found:
    """After a lost answer somebody else's run stands alone on the list: it is not ours."""
    call = stage.service.call
    assert call is not None
    if facts.provider.listing is None:
        return
    stage.service.faults = [Fault("submit", LOST["a reset"]) for _ in range(3)]
    theirs = stage.service.new_id()
    stage.service.make(theirs, facts.phases[:1])
    stage.service.strangers = [theirs]
    end = _submitted(stage, call)
    if isinstance(end, RunRef):
        problem = "takes somebody else's run for its own after a lost answer"
        yield Finding("submits", "submit.mark", problem, "Name a text of the submit that only its own run shows again")


def _lost(facts: Facts, stage: Stage, lost: str, reply: Reply, *, carried_out: bool) -> Found:
    """The answer is lost; the run may exist or not. Two runs never come of it."""
    call = stage.service.call
    assert call is not None
    stage.service.faults = [Fault("submit", reply, carried_out=carried_out)]
    end = _submitted(stage, call)
    service = stage.service
    sent, started = service.count("submit"), service.started
    what = f"after {lost} {'with' if carried_out else 'without'} a run started"
    if len(started) > 1:
        problem = f"{what} a second run was started"
        advice = "Leave the claim out, or the mark, which no run shows"
        yield Finding("submits", "submit.one_at_a_time", problem, advice)
    elif isinstance(end, RunRef) and end.run_id not in started:
        yield Finding("submits", "submit", f"{what} a run is named that is none", "Mend run_id")
    elif not isinstance(end, RunRef) and started and bears_mark(facts):
        problem = f"{what} the run bears the mark of its submit, and is not found by it"
        yield Finding("submits", "listing", problem, "Mend the list: its items, its parents, the field of the mark")
    elif not isinstance(end, RunRef) and not isinstance(end, (SubmitUncertainError, ConflictError)):
        problem = f"{what} the submit ends with {_how(end)}"
        yield Finding("submits", "submit", problem, "An answer that is lost is uncertain, and nothing else")
    elif sent > 1 and not facts.refuses_second:
        problem = f"{what} the submit was sent {sent} times, and no answer shows that a second run is refused"
        yield Finding("submits", "submit.one_at_a_time", problem, "Leave the claim out")


def _cancelled(facts: Facts, stage: Stage) -> Found:
    """A cancel is sent once, to the route that the service documents."""
    if facts.provider.cancel is None or not facts.of("cancel", ok=True) or not facts.phases:
        return
    ref = facts.ref(facts.phases[0])
    assert ref is not None
    stage.service.make(ref.run_id, facts.phases[:1])
    try:
        stage.drive(lambda provider, clock: flows.cancel(provider, ref))
    except RunopsError as error:
        problem = f"a cancel ends with {'/'.join(names_of(error)[:1])}"
        yield Finding("submits", "cancel", problem, "Mend the route")
    if stage.service.count("cancel") != 1:
        problem = f"{stage.service.count('cancel')} cancels arrived at the service, and not one"
        yield Finding("submits", "cancel", problem, "Write the documented route")
