"""What must come out nowhere: texts that look like secrets and personal data, put into every place of an answer."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any, cast

from runops.conformance.answers import RecordedAnswer
from runops.conformance.facts import Facts
from runops.conformance.report import Finding
from runops.core.declaration.decode import at
from runops.core.model.errors import RunopsError

CANARY = "canaryq7w3"
MOST_PLACES = 400
"""Places of one answer that are tried."""
LONGEST = 200

Found = Iterator[Finding]
Place = tuple[str | int, ...]


def hot(facts: Facts) -> tuple[Any, ...]:
    """Values that no text for people may hold: an address, a link with a token, a key, a whole object."""
    key = facts.key(f"{CANARY}9f2c4d7e1b") if facts.provider.auth.key_prefixes else f"sk-{CANARY}9f2c4d7e1b"
    return (
        f"{CANARY}@example.test",
        f"see https://example.test/?token={CANARY}",
        f"the key {key} was refused",
        {"owner": {"email": f"{CANARY}@example.test", "note": CANARY}},
        [CANARY, {"token": CANARY}],
    )


def canaries(facts: Facts) -> Found:
    """No value of an answer that looks like a secret comes out of it, wherever it stands and whatever its type."""
    for answer in facts.readable:
        for place in _places(answer.body):
            yield from _planted(facts, answer, place)
        yield from _unknown_fields(facts, answer)


def _planted(facts: Facts, answer: RecordedAnswer, place: Place) -> Found:
    for value in hot(facts):
        leak = _leak(facts, answer, _with(answer.body, place, value))
        if leak:
            kind = "an object" if isinstance(value, dict) else "a list" if isinstance(value, list) else "a text"
            named = _shown(place)
            problem = f"shows what stands in {named!r} as it came ({kind} with a canary)"
            advice = "Take it out of the allow-list, or pass it through clean() or detail()"
            yield Finding("redaction", leak, problem, advice, answer.file)
            return


def _unknown_fields(facts: Facts, answer: RecordedAnswer) -> Found:
    """A field that no documentation has, in every object of the answer."""
    leak = _leak(facts, answer, _sown(copy.deepcopy(answer.body)))
    if leak:
        problem = "shows fields that it does not declare"
        yield Finding("redaction", leak, problem, "Declare each field that people may see by its name", answer.file)


def _leak(facts: Facts, answer: RecordedAnswer, body: Any) -> str:
    """Where a canary comes out of an answer; empty where it does nowhere."""
    try:
        seen = facts.read(answer, json.dumps(body).encode())
    except RunopsError as error:
        return "body" if CANARY in f"{error!s} {error!r}" else ""
    snapshot = seen.snapshot
    for name, value in snapshot.details.items():
        if CANARY in json.dumps(value, default=repr):
            return f"body.details[{name!r}]"
    if CANARY in (snapshot.reason or ""):
        return "body.reason"
    if CANARY in (snapshot.url or ""):
        return "link"
    progress = snapshot.progress
    if progress is not None and CANARY in str(progress.unit):
        return "body.progress"
    # The word itself is shown where it is not known, cleaned; a reference holds what was asked for.
    return "body" if CANARY in f"{snapshot!r} {seen!r}" else ""


def _places(value: Any, place: Place = ()) -> list[Place]:
    """Each place of an answer, from the outside in."""
    found: list[Place] = []
    left: list[tuple[Any, Place]] = [(value, place)]
    while left and len(found) < MOST_PLACES:
        inner, here = left.pop(0)
        if here:
            found.append(here)
        if isinstance(inner, dict):
            left += [(each, (*here, key)) for key, each in cast("dict[str, Any]", inner).items()]
        elif isinstance(inner, list):
            left += [(each, (*here, number)) for number, each in enumerate(cast("list[Any]", inner)[:5])]
    return found


def _with(body: Any, place: Place, value: Any) -> Any:
    made = copy.deepcopy(body)
    inner = made
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    return made


def _sown(value: Any) -> Any:
    if isinstance(value, dict):
        found = cast("dict[str, Any]", value)
        for inner in list(found.values()):
            _sown(inner)
        found.update({"runops_unknown": f"{CANARY}@example.test", f"https://x.test/{CANARY}": CANARY})
    elif isinstance(value, list):
        for inner in cast("list[Any]", value):
            _sown(inner)
    return cast("Any", value)


def _shown(place: Place) -> str:
    return ".".join(map(str, place))[:80]


def planted_everywhere(body: Any, keep: frozenset[str], envelope: tuple[str, ...]) -> Any:
    """A body whose texts are canaries, but for some fields of the run; for what goes over a connection."""
    made = _sown(copy.deepcopy(body))
    inner = at(made, envelope)
    if isinstance(inner, dict):
        run = cast("dict[str, Any]", inner)
        for name, value in list(run.items()):
            if name not in keep and isinstance(value, str):
                run[name] = f"{CANARY}@example.test"
    return made
