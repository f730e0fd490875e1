"""Single changes of a right declaration, all that a seed draws: most of them are caught, and the share is bounded."""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field
from pydantic.fields import FieldInfo

from runops.conformance import conform
from runops.core import ConfigurationError, Outcome, Phase, Provider, StateTable
from runops.core.declaration import AuthScheme, Listing, Moment, Route, RunBody, Submission
from tests.conformance.acme_runs import ACME, AcmeJob, submission, variant

ANSWERS = Path(__file__).parent / "answers" / "acme"
SEED = 1409
CHANGES = 120
WORDS = {state: row.meaning for state, _, row in ACME.states}
MEANINGS = [*Phase, *(outcome for outcome in Outcome if outcome is not Outcome.TIMED_OUT)]
KEYS = (
    "answer",
    "job",
    "job_id",
    "state",
    "plant",
    "made",
    "began",
    "ended",
    "limit",
    "label",
    "note",
    "parts",
    "error",
)
KEYS_OF_LISTS = ("jobs", "next_cursor", "previous_cursor", "items", "after")

Change = tuple[str, Callable[[], Provider]]
"""What is changed, and the declaration with it."""


def other(chance: random.Random, value: str, known: tuple[str, ...]) -> str:
    """Another one of these, or a slip of the pen."""
    if chance.random() < 0.7:
        return chance.choice([each for each in known if each != value])
    place = chance.randrange(len(value))
    letter = chance.choice([each for each in string.ascii_lowercase if each != value[place].lower()])
    return value[:place] + letter + value[place + 1 :]


def of_words(chance: random.Random) -> Change:
    word = chance.choice(list(WORDS))
    kind = chance.choice(("meaning", "gone", "spelled"))
    words: dict[str, Any] = dict(WORDS)
    if kind == "meaning":
        words[word] = chance.choice([each for each in MEANINGS if each is not words[word]])
    else:
        meaning = words.pop(word)
        if kind == "spelled":
            words[other(chance, word, ("READY", "OK"))] = meaning
    return f"states[{word}] {kind}", lambda: variant("mutant", states=StateTable(words))


def of_route(chance: random.Random) -> Change:
    name = chance.choice(("status", "cancel"))
    route: Route = getattr(ACME, name)
    kind = chance.choice(("method", "path", "query"))
    if kind == "method":
        changed = replace(route, method=other(chance, route.method, ("GET", "POST", "PUT", "PATCH", "DELETE")).upper())
    elif kind == "path":
        changed = replace(route, path=route.path.replace("jobs", other(chance, "jobs", ("job", "runs", "jobs/now"))))
    else:
        changed = replace(route, query={chance.choice(("key", "token", "X-Acme-Key", "api_key")): "acme_x"})
    return f"{name}.{kind}", lambda: variant("mutant", **{name: changed})


def of_envelope(chance: random.Random) -> Change:
    keys = list(ACME.envelope_path)
    place = chance.randrange(len(keys) + 1)
    if place == len(keys):
        keys.pop(chance.randrange(len(keys)))
    else:
        keys[place] = other(chance, keys[place], KEYS)
    return "envelope", lambda: variant("mutant", envelope=tuple(keys))


def body_with(**fields: tuple[Any, FieldInfo]) -> type[RunBody]:
    made = {name: info for name, (_, info) in fields.items()}
    return type("Job", (AcmeJob,), {**made, "__annotations__": {name: kind for name, (kind, _) in fields.items()}})


def of_field(chance: random.Random) -> Change:
    name, kind, alias = chance.choice(
        [
            ("run_id", str, "job_id"),
            ("status", str, "state"),
            ("created_at", Moment, "made"),
            ("started_at", Moment, "began"),
            ("finished_at", Moment, "ended"),
        ]
    )
    wrong = other(chance, alias, KEYS)
    default: Any = ... if kind is str else None
    body = body_with(**{name: (kind, Field(default, validation_alias=wrong))})
    return f"body.{name}={wrong}", lambda: variant("mutant", body=body)


def of_details(chance: random.Random) -> Change:
    shown = chance.choice((("plant",), ("plant", "parts", "label"), ("plant", "parts", "error"), ("parts",), ()))
    body = type("Job", (AcmeJob,), {"DETAILS": shown})
    return f"DETAILS={shown}", lambda: variant("mutant", body=body, listing=listing(parent_detail=None), spend=None)


def listing(**changes: Any) -> Listing:
    assert ACME.listing is not None
    return replace(ACME.listing, **changes)


def of_listing(chance: random.Random) -> Change:
    kind = chance.choice(("items", "next", "parameter", "paging", "route", "parent_detail"))
    changes: dict[str, Any] = {
        "items": {"items": (other(chance, "jobs", KEYS_OF_LISTS),)},
        "next": {"next": (other(chance, "next_cursor", KEYS_OF_LISTS),)},
        "parameter": {"parameter": other(chance, "after", ("cursor", "page", "before"))},
        "paging": {"paging": None, "next": ()},
        "route": {"route": Route("GET", f"/v3/plants/{{plant}}/{other(chance, 'jobs', ('job', 'runs'))}")},
        "parent_detail": {"parent_detail": "parts"},
    }[kind]
    return f"listing.{kind}", lambda: variant("mutant", listing=listing(**changes))


def of_submit(chance: random.Random) -> Change:
    kind = chance.choice(("run_id", "mark", "turned_away", "none"))
    if kind == "none":
        return "submit gone", lambda: variant("mutant", submit=None)
    changes: dict[str, Any] = {
        "run_id": {"run_id": ("job", other(chance, "job_id", KEYS)) if chance.random() < 0.5 else ("queue_id",)},
        "mark": {"mark": chance.choice(("error", "plant", "parts"))},
        "turned_away": {"turned_away": ((chance.choice((409, 500, 502, 503)), chance.choice(("busy", "down"))),)},
    }[kind]
    return f"submit.{kind}", lambda: variant("mutant", submit=submission("mutant", **changes))


def of_auth(chance: random.Random) -> Change:
    auth = chance.choice(
        (
            AuthScheme("X-Acme-Key"),
            AuthScheme("X-Acme-Token", key_prefixes=("acme_",)),
            AuthScheme("Authorization", "Bearer ", key_prefixes=("acme_",)),
            AuthScheme("X-Acme-Key", "Key ", key_prefixes=("acme_",)),
            AuthScheme("X-Acme-Key", key_prefixes=("amce_",)),
        )
    )
    return f"auth {auth.header} {auth.prefix}{auth.key_prefixes}", lambda: variant("mutant", auth=auth)


def of_the_rest(chance: random.Random) -> Change:
    changes: dict[str, Any] = chance.choice(
        (
            {"cancel": None},
            {"id_key": lambda value: value[:1]},
            {"link": "https://acme.test/{run_id}/{plant}"},
            {"version_path": "/v2"},
            {"listing": None},
            {"envelope": None},
        )
    )
    return f"{next(iter(changes))} {next(iter(changes.values()))}", lambda: variant("mutant", **changes)


KINDS = (of_words, of_route, of_envelope, of_field, of_details, of_listing, of_submit, of_auth, of_the_rest)


def changes() -> Iterator[Change]:
    chance = random.Random(SEED)
    for number in range(CHANGES):
        yield KINDS[number % len(KINDS)](chance)


def test_a_random_single_change_of_a_declaration_is_mostly_caught() -> None:
    """By the declaration itself, or by the checks that send nothing; the played ones find a few more."""
    survived: list[str] = []
    for name, make in changes():
        try:
            provider = make()
        except ConfigurationError:
            continue
        report = conform(provider, ANSWERS, only=["routes", "words", "times", "lists", "redaction"])
        if report.ok and not only_of_submits(provider, name):
            survived.append(name)
    share = 1 - len(survived) / CHANGES
    assert share >= 0.95, f"caught {share:.1%} of {CHANGES}; not caught: {', '.join(survived)}"


def only_of_submits(provider: Provider, name: str) -> bool:
    """What a submit declares is for the checks that play one."""
    return name.startswith("submit") and not conform(provider, ANSWERS, only=["submits"]).ok


def test_the_declaration_that_is_changed_conforms_by_itself() -> None:
    assert conform(variant("mutant"), ANSWERS, only=["routes", "words", "times", "lists", "redaction"]).findings == []
    assert isinstance(submission("mutant"), Submission)
