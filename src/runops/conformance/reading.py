"""Checks that send nothing: routes, words, times and details of each answer, as the declaration reads it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, cast

from runops.conformance.answers import RecordedAnswer
from runops.conformance.facts import FIELDS, KEY_HINT, STAND_IN, Facts, changed, names_of
from runops.conformance.report import Finding, said_in
from runops.core.declaration import Observation, Route
from runops.core.declaration.decode import at
from runops.core.model import times
from runops.core.model.errors import AnotherRun, ConfigurationError, MalformedAnswer, RunopsError, UnknownStateError
from runops.core.model.run import Outcome, Phase

KEY_NAMES = frozenset({"api_key", "apikey", "api-key", "key", "token", "access_token", "auth", "secret", "password"})
NO_WORD = "runops-made-up-word"
OTHER_ID = "0f8c1d2e-3b4a-4c5d-8e6f-7a8b9c0d1e2f"
ACTS = {"submit": "POST", "cancel": "POST", "resume": "POST", "retry": "POST"}
"""What does something at a service, so that nothing but an answer of it proves the route."""
NOTHING: tuple[Any, ...] = ({}, [], None, "", 0)

Found = Iterator[Finding]


# --- routes ------------------------------------------------------------------------------------------------------


def routes(facts: Facts) -> Found:
    """Each answer's request is the one that the declaration sends; no key stands in an address."""
    for answer in facts.answers:
        yield from _route_of(facts, answer)
    for name in ("cancel", "resume", "retry", "submit", "listing", "explain", "result"):
        requested = "list" if name == "listing" else name
        if getattr(facts.provider, name) is not None and not facts.of(requested):
            level = "wrong" if name in ACTS else "unproven"
            what, advice = f"no answer of the folder shows this {requested}", f"Add an answer with route={requested!r}"
            yield Finding("routes", name, what, f"{advice}, or take the declaration out", level=level)
    yield from _version(facts)
    yield from _keys_in_addresses(facts)


def _version(facts: Facts) -> Found:
    """A user's base URL may repeat the version, which is known by what all routes begin with."""
    version = facts.provider.version_path
    if version and not all(answer.request.path.startswith(f"{version}/") for answer in facts.answers):
        problem = f"is {version!r}, and not all paths of the service begin with it"
        yield Finding("routes", "version_path", problem, "Write what all routes begin with, or an empty text")


def _route_of(facts: Facts, answer: RecordedAnswer) -> Found:
    requested = f"{answer.request.method} {answer.request.path}"
    if answer.route == "submit":
        yield from _submit_of(facts, answer, requested)
        return
    field, route = FIELDS.get(answer.route, answer.route), facts.route(answer.route)
    if route is None:
        problem = f"is not declared, but the service answers {requested}"
        yield Finding("routes", field, problem, f"Declare it, or remove {answer.file}", answer.file)
        return
    if route.method != answer.request.method or facts.ids(answer) is None:
        problem = f"asks {route.method} {route.path}, but the service answers {requested}"
        yield Finding("routes", field, problem, "Write the method and the path that the service documents", answer.file)
    missing = {name: value for name, value in route.query.items() if answer.request.query.get(name) != value}
    if missing and answer.request.query:
        problem = f"sends the query {dict(route.query)}, but the answer belongs to {answer.request.query}"
        yield Finding("routes", f"{field}.query", problem, "Send what was sent for this answer", answer.file)


def _submit_of(facts: Facts, answer: RecordedAnswer, requested: str) -> Found:
    if facts.provider.submit is None:
        problem = f"is not declared, but the service answers {requested}"
        yield Finding("routes", "submit", problem, f"Declare a Submission, or remove {answer.file}", answer.file)
        return
    try:
        call = facts.call(answer)
    except ConfigurationError as error:
        yield Finding(
            "routes",
            "submit.build",
            f"refuses the arguments: {said_in(error)}",
            "Mend either of them",
            answer.file,
        )
        return
    if call is None:
        advice = "Add request.arguments, what provider.call takes, so that the submit can be tried"
        yield Finding("routes", "submit.build", "nothing shows what it is called with", advice, answer.file, "unproven")
        return
    if call.provider != facts.provider.name:
        problem = f"makes a Call of {call.provider!r}, and the provider is {facts.provider.name!r}"
        yield Finding("routes", "submit.build", problem, "Write the provider's own name", answer.file)
    if f"{call.method} {call.path}" != requested:
        problem = f"sends {call.method} {call.path}, but the service answers {requested}"
        yield Finding("routes", "submit.build", problem, "Write the documented method and path", answer.file)
    body = answer.request.json_body
    if body is not None and body != call.json:
        wrong = sorted(name for name in {*body, *(call.json or {})} if body.get(name) != (call.json or {}).get(name))
        problem = f"makes another body than the one that was sent; they differ in {', '.join(wrong)}"
        yield Finding("routes", "submit.build", problem, "Put each argument under its documented field", answer.file)
    listing = facts.provider.listing
    if listing is not None and not set(call.parent) & set(listing.parent_kinds):
        kinds = ", ".join(listing.parent_kinds)
        problem = f"gives its Call no parent of {kinds}, so the run of a lost answer cannot be looked for"
        yield Finding("routes", "submit.build", problem, f"Return Call(..., parent={{{kinds!r}: ...}})", answer.file)


def _keys_in_addresses(facts: Facts) -> Found:
    auth, header = facts.provider.auth, facts.provider.auth.header.lower()
    sent: dict[str, Route] = {"probe": facts.provider.probe}
    for name in ("status", "result", "cancel", "resume", "retry", "explain", "list", "latest"):
        route = facts.route(name)
        if route is not None:
            sent[name] = route
    for name, route in sent.items():
        for parameter, value in route.query.items():
            if parameter.lower() in (*KEY_NAMES, header) or (value and value.startswith(auth.key_prefixes or ("\0",))):
                problem = f"puts the key, or its name, into the address: the query parameter {parameter!r}"
                advice = f"Take it out: the key goes into the header {auth.header} alone, addresses are logged"
                yield Finding("routes", f"{FIELDS.get(name, name)}.query", problem, advice)
    for answer in facts.answers:
        yield from _key_header(facts, answer)


def _key_header(facts: Facts, answer: RecordedAnswer) -> Found:
    auth = facts.provider.auth
    headers = {name.lower(): value for name, value in answer.request.headers.items()}
    if not headers:
        return
    value = headers.get(auth.header.lower())
    if value is None:
        problem = f"sends the key in {auth.header}, but the request had {', '.join(answer.request.headers)}"
        yield Finding("routes", "auth.header", problem, "Write the header that the service documents", answer.file)
        return
    if not value.startswith(auth.prefix):
        problem = f"puts {auth.prefix!r} before the key, which the request did not"
        yield Finding("routes", "auth.prefix", problem, "Write what stands before the key, or nothing", answer.file)
        return
    begins = KEY_HINT.match(value[len(auth.prefix) :].removesuffix(STAND_IN))
    if begins and not any(begins[0].lower().startswith(prefix.lower()) for prefix in auth.key_prefixes):
        problem = f"do not know {begins[0]!r}, which keys of the service begin with: a key in a message would be shown"
        advice = f"Write AuthScheme(..., key_prefixes=({begins[0]!r},))"
        yield Finding("routes", "auth.key_prefixes", problem, advice, answer.file)


# --- words -------------------------------------------------------------------------------------------------------


def words(facts: Facts) -> Found:
    """Each answer is read as it is to be read, in any case of its word; what is no answer is never a success."""
    for answer in facts.of("status", "result"):
        if facts.ref(answer) is not None:
            yield from _word_of(facts, answer)
    for answer in facts.answers:
        if not answer.ok:
            yield from _error_of(facts, answer)
    for answer in facts.readable:
        yield from _bad_words(facts, answer)
    shown = {answer.meaning for answer in facts.readable}
    if not any(isinstance(each, Outcome) and each is Outcome.SUCCEEDED for each in shown):
        problem, advice = "no answer of the status route shows a run that succeeded", "Record one, or write one by hand"
        yield Finding("words", "states", problem, advice)
    yield from _unseen(facts)


def _word_of(facts: Facts, answer: RecordedAnswer) -> Found:
    if not answer.ok:
        return
    expected = answer.read_as
    try:
        seen = facts.read(answer)
    except RunopsError as error:
        if expected.error is None or expected.error not in names_of(error):
            yield _unreadable(facts, answer, error)
        return
    if expected.error is not None:
        yield Finding(
            "words", "body", f"reads what is to be a {expected.error}", "Make the field required", answer.file
        )
        return
    snapshot, word = seen.snapshot, seen.reading.full_state
    if not seen.reading.known:
        problem = f"do not know the word {word!r}"
        advice = f"Add it to StateTable as {answer.meaning}, as the documentation has it"
        yield Finding("words", "states", problem, advice, answer.file)
    elif snapshot.status is not answer.meaning:
        problem = f"means {snapshot.status}, but the answer is to be read as {answer.meaning}"
        advice = f"Set it to {_spelled(answer.meaning)}, or mend read_as"
        yield Finding("words", f"states[{word!r}]", problem, advice, answer.file)
    if expected.run_id is not None and snapshot.ref.run_id != expected.run_id:
        problem = "reads another id than the answer's"
        yield Finding("words", "body.run_id", problem, "Name the field of the id", answer.file)
    if expected.says("reason") and snapshot.reason != expected.reason:
        none = snapshot.reason is None
        problem = "gives no reason, and read_as has one" if none else "gives another reason than read_as"
        yield Finding("words", "body.reason", problem, "Return what read_as has, cleaned by clean()", answer.file)


def _unreadable(facts: Facts, answer: RecordedAnswer, error: RunopsError) -> Finding:
    if isinstance(error, UnknownStateError):
        problem, advice = f"do not know the word {error.state!r}", "Add it to StateTable"
        return Finding("words", "states", problem, f"{advice} as {answer.meaning}", answer.file)
    if isinstance(error, AnotherRun):
        advice = "Name the field that holds the id of the address, or set id_key to what all its spellings share"
        return Finding("words", "body.run_id", "reads an id that is not the one in the address", advice, answer.file)
    where = facts.provider.envelope
    if isinstance(error, MalformedAnswer) and at(answer.body, facts.provider.envelope_path) is None:
        problem = f"leads nowhere in this answer: {where!r}"
        keys = ", ".join(sorted(facts.keys(answer))[:8]) or "none"
        advice = f"The answer's own keys are {keys}"
        return Finding("words", "envelope", problem, advice, answer.file)
    problem = f"cannot read the answer: {said_in(error)}"
    return Finding("words", "body", problem, "Set validation_alias to the name that the answer has", answer.file)


def _spelled(meaning: Phase | Outcome | None) -> str:
    return f"{type(meaning).__name__}.{meaning.name}" if meaning is not None else "nothing"


def _error_of(facts: Facts, answer: RecordedAnswer) -> Found:
    error = facts.error(answer)
    if answer.read_as.error is not None and answer.read_as.error not in names_of(error):
        problem = f"a {answer.status} is a {type(error).__name__} to runops, and read_as says {answer.read_as.error}"
        field = FIELDS.get(answer.route, answer.route)
        yield Finding("words", field, problem, "Mend read_as.error; no declaration changes it", answer.file)


def _bad_words(facts: Facts, answer: RecordedAnswer) -> Found:
    """What is no word, no answer and no run of this kind must never be a success, nor an end by itself."""
    alias, envelope = facts.alias("status"), facts.provider.envelope_path
    inner = at(answer.body, envelope)
    word: object = cast("dict[str, Any]", inner).get(alias) if isinstance(inner, dict) else None
    if isinstance(word, str):
        for spelled in (word.upper(), word.lower(), f" {word} "):
            meaning = _meaning(facts, answer, changed(answer.body, envelope, **{alias: spelled}))
            if meaning is not _meaning(facts, answer, answer.body):
                problem = f"reads {spelled!r} otherwise than {word!r}"
                yield Finding("words", "body.status", problem, "Hand the word on as it comes", answer.file)
    for made_up in (NO_WORD, ""):
        if _meaning(facts, answer, changed(answer.body, envelope, **{alias: made_up})) in _ENDS:
            problem = f"a word that stands in no table ({made_up!r}) is read as an end of the run"
            advice = "Hand the word on as it comes: no default, and no meaning for the rest"
            yield Finding("words", "body.status", problem, advice, answer.file)
    for nothing in NOTHING:
        for body in (nothing, _wrapped(nothing, envelope)):
            if _meaning(facts, answer, body) in _ENDS:
                problem = f"an answer that is only {json.dumps(body)} is read as an end of the run"
                yield Finding("words", "body", problem, "Give run_id and status no default", answer.file)
    if any(_meaning(facts, answer, body) is not None for body in _with_other_ids(facts, answer)):
        problem = "takes an answer about another run for the one that was asked for"
        advice = "Read the id from the answer, and let id_key tell two ids apart"
        yield Finding("words", "id_key", problem, advice, answer.file)


_ENDS = frozenset(Outcome)


def _wrapped(value: Any, envelope: tuple[str, ...]) -> Any:
    for key in reversed(envelope):
        value = {key: value}
    return value


def _with_other_ids(facts: Facts, answer: RecordedAnswer) -> Iterator[Any]:
    """The same answer about other runs: about one of quite another id, and about one whose id ends otherwise."""
    ref, alias = facts.ref(answer), facts.alias("run_id")
    known = ref.run_id if ref else ""
    for other in (OTHER_ID, f"{known[:-1]}{'0' if known[-1:] != '0' else '1'}"):
        yield changed(answer.body, facts.provider.envelope_path, **{alias: other})


def _meaning(facts: Facts, answer: RecordedAnswer, body: Any) -> Phase | Outcome | None:
    try:
        return facts.read(answer, json.dumps(body).encode()).snapshot.status
    except RunopsError:
        return None


def _unseen(facts: Facts) -> Found:
    seen: set[str] = set()
    for answer in facts.readable:
        try:
            seen.add(facts.read(answer).reading.full_state.lower())
        except RunopsError:
            continue
    for state, qualifier, row in facts.provider.states:
        word = state if qualifier is None else f"{state}+{qualifier}"
        if word.lower() not in seen:
            problem = f"no answer shows it, so that it means {row.meaning} is not proven"
            yield Finding("words", f"states[{word!r}]", problem, "Record a run that comes to it", level="unproven")


# --- times and details -------------------------------------------------------------------------------------------


def times_and_details(facts: Facts) -> Found:
    """The times are those of the answer, and people see what they may see and nothing else."""
    for answer in facts.readable:
        try:
            seen = facts.read(answer)
        except RunopsError:
            continue
        yield from _times_of(seen, answer)
        yield from _details_of(seen, answer)


def _times_of(seen: Observation, answer: RecordedAnswer) -> Found:
    snapshot, expected = seen.snapshot, answer.read_as
    for name in ("created_at", "started_at", "finished_at"):
        found: datetime | None = getattr(snapshot, name)
        wanted: datetime | None = getattr(expected, name)
        if expected.says(name) and found != (times.moment(wanted.isoformat()) if wanted else None):
            problem = f"is read as {found.isoformat() if found else 'no time'}, and read_as says {wanted or 'none'}"
            advice = "Set its validation_alias to the field that holds this time"
            yield Finding("times", f"body.{name}", problem, advice, answer.file)
    goes_on = isinstance(answer.meaning, Phase) and seen.reading.grace_seconds is None
    if goes_on and snapshot.finished_at is not None and not expected.says("finished_at"):
        problem, advice = "a run that goes on has an end time", "Name the field that is empty until the run is over"
        yield Finding("times", "body.finished_at", problem, advice, answer.file)
    started, finished = snapshot.started_at or snapshot.created_at, snapshot.finished_at
    if started and finished and finished < started:
        problem, advice = "lies before the start of the run", "Name the field of the end"
        yield Finding("times", "body.finished_at", problem, advice, answer.file)


def _details_of(seen: Observation, answer: RecordedAnswer) -> Found:
    details: Mapping[str, Any] = seen.snapshot.details
    for name, value in details.items():
        if not isinstance(value, (str, int, float, bool)):
            problem = f"shows a whole {type(value).__name__} of the answer"
            advice = "Declare the single fields that people may see, and leave the rest out"
            yield Finding("details", f"body.details[{name!r}]", problem, advice, answer.file)
    expected = answer.read_as.details
    if expected is not None and expected != details:
        more, less = sorted(set(details) - set(expected)), sorted(set(expected) - set(details))
        other = sorted(name for name in set(expected) & set(details) if expected[name] != details[name])
        parts = {"shows {} too": more, "lacks {}": less, "shows another value of {}": other}
        problem = " and ".join(text.format(", ".join(names)) for text, names in parts.items() if names)
        yield Finding("details", "body.DETAILS", problem, "Show what read_as.details has and nothing else", answer.file)
    if answer.read_as.says("url") and seen.snapshot.url != answer.read_as.url:
        yield Finding("links", "link", f"leads to {seen.snapshot.url}", "Write the page of the run", answer.file)
    elif seen.snapshot.url is not None and ("{" in seen.snapshot.url or "}" in seen.snapshot.url):
        yield Finding("links", "link", "has a hole that nothing fills", "Name a detail or an id", answer.file)


def count(check: Callable[[Facts], Found]) -> Callable[[Facts], tuple[list[Finding], int]]:
    """A check that sends nothing, with how many answers it looked at."""

    def counted(facts: Facts) -> tuple[list[Finding], int]:
        return list(check(facts)), len(facts.answers)

    return counted
