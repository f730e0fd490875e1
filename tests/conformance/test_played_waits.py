"""What the played checks say of each way in which a wait can end, and of what is shown of keys."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runops.conformance import faults
from runops.conformance.answers import RecordedAnswer
from runops.conformance.canaries import CANARY
from runops.conformance.facts import Facts
from runops.conformance.service import Seen
from runops.core import Outcome, RunNotFound
from runops.core.model.cadence import Cadence
from runops.core.model.run import RunSnapshot
from tests.conformance.played import (
    GOOD_HEADERS,
    KEY,
    NOT_FOUND,
    Played,
    facts_of,
    lines,
    stage,
)
from tests.conformance.variants import other

# --- waits -------------------------------------------------------------------------------------------------------


def ended(facts: Facts, file: str = "3_done.json", **changes: Any) -> RunSnapshot:
    answer = next(each for each in facts.answers if each.file == file)
    return replace(facts.read(answer).snapshot, **changes)


def end_of(facts: Facts, file: str = "3_done.json") -> RecordedAnswer:
    return next(each for each in facts.answers if each.file == file)


@pytest.mark.parametrize(
    ("last", "found"),
    [
        ("3_done.json", []),
        (
            "4_broken.json",
            [
                (
                    "faults: states['BROKEN'] (3_done.json): a wait for this run ends as failed after "
                    "'BROKEN', and the run as succeeded. Mend the word."
                )
            ],
        ),
        (
            NOT_FOUND,
            [
                (
                    "faults: status (3_done.json): a wait for this run ends with RunNotFound: No such run. "
                    "Mend the route and the body."
                )
            ],
        ),
    ],
)
def test_a_wait_ends_as_its_run(last: Any, found: list[str]) -> None:
    facts = facts_of()

    def does(played: Played) -> Any:
        played.reads(3)
        if isinstance(last, Exception):
            raise last
        return ended(facts, last)

    played = stage(facts, does)
    assert lines(faults._ends_right(facts, played, end_of(facts))) == found
    assert (played.settings, played.parents) == ({}, {})


def trouble(name: str, *, reads: int = 3, passes: float = 37.0, last: Any = None, elsewhere: bool = False) -> Any:
    facts = facts_of()

    def does(played: Played) -> Any:
        played.reads(reads)
        played.clock.sleep(passes)
        if elsewhere:
            played.service.answer("GET", "/elsewhere", {}, {}, None)
        if isinstance(last, Exception):
            raise last
        return ended(facts, last or "3_done.json")

    played = stage(facts, does)
    return lines(faults._goes_on(facts, played, name)), played


DOES = "Require the id and the status, and give them no default."


@pytest.mark.parametrize(
    ("name", "settings", "found"),
    [
        ("500", {}, []),
        ("429 with Retry-After", {}, []),
        (
            "429 with Retry-After",
            {"passes": 36.9},
            ["faults: cadence (3_done.json): looks again before Retry-After is over. Mend the cadence."],
        ),
        ("500", {"passes": 1.0}, []),
        (
            "a reset",
            {"last": "4_broken.json"},
            [
                (
                    "faults: body (3_done.json): after a reset on the way the wait ends with failed after "
                    f"'BROKEN', and not as succeeded. {DOES}"
                )
            ],
        ),
        (
            "503",
            {"last": NOT_FOUND},
            [
                (
                    "faults: status (3_done.json): after 503 on the way the wait ends with RunNotFound: No "
                    f"such run, and not as succeeded. {DOES}"
                )
            ],
        ),
        (
            "502 of a gateway",
            {"reads": 1},
            ["faults: body (3_done.json): the wait ended before its second read. Mend the words."],
        ),
        (
            "a redirect",
            {"elsewhere": True},
            [("faults: body (3_done.json): follows a redirect, with the key. Ask the address that answers.")],
        ),
    ],
)
def test_a_wait_goes_on_through_a_trouble(name: str, settings: Any, found: list[str]) -> None:
    assert trouble(name, **settings)[0] == found


@pytest.mark.parametrize("name", faults.TROUBLES)
def test_a_trouble_befalls_the_second_read_and_a_slow_body_gets_little_time(name: str) -> None:
    played = trouble(name)[1]
    assert played.service.faults == []
    assert played.request_seconds == (0.25 if name == "a slow drip" else 20.0)
    one = trouble(name, reads=1)[1]
    assert [(each.route, each.skip, each.reply) for each in one.service.faults] == [
        ("status", 1, faults.TROUBLES[name])
    ]


def test_a_long_error_of_a_wait_is_cut() -> None:
    facts = facts_of()

    def does(_: Played) -> Any:
        raise RunNotFound("x" * 300, status=404)

    assert faults._waited(stage(facts, does), "J-1", {}) == f"RunNotFound: {'x' * 200}"


@pytest.mark.parametrize(("first", "unproven"), [(0.9, True), (0.99, True), (1.0, False), (2.0, False)])
def test_more_than_one_look_a_second_is_not_proven_to_be_right(first: float, unproven: bool) -> None:
    facts = facts_of(other(cadence=Cadence(first=first, factor=1.0, ceiling=max(first, 1.0))))
    over = replace(ended(facts, "2_active.json"), outcome=Outcome.TIMED_OUT)
    played = stage(facts, lambda _: over)
    told = [str(each) for each in faults._cadence(facts, played)]
    pace = (
        f"unproven  faults: cadence: looks every {first:g} s, more than 3600 times an hour for each run. Name the pace "
    )
    assert told == ([f"{pace}that the service documents, 1 s or more."] if unproven else [])
    assert played.settings == {"timeout": 20 * max(first, 1.0)}


def test_a_run_that_never_ends_is_over_only_for_its_wait() -> None:
    facts = facts_of()
    for last in (ended(facts, "4_broken.json"), ended(facts, "3_done.json", outcome=Outcome.TIMED_OUT)):
        told = lines(faults._cadence(facts, stage(facts, lambda _, last=last: last)))
        assert told == (
            []
            if not last.run_ended and last.outcome is Outcome.TIMED_OUT
            else [
                (
                    f"faults: states (1_queued.json): a run that never ends is over as {last.outcome} when the "
                    "wait's own timeout is. Mend the words."
                )
            ]
        )


# --- secrets -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shown", "found"),
    [
        (["nothing", 7], []),
        (
            [f"the key {KEY}"],
            [
                (
                    "secrets: auth: the key itself is shown after a 401. Send it in the header alone, and "
                    "write it into no text."
                )
            ],
        ),
        (
            [f"{CANARY}old4k"],
            [
                (
                    "secrets: auth.key_prefixes: a key in the message of a 401 is shown. Name what all keys of "
                    "the service begin with."
                )
            ],
        ),
        (
            ["a", f"{CANARY}@example.test"],
            [("secrets: body: an address in the answer (401) is shown. Take it out of the allow-list, or clean it.")],
        ),
    ],
)
def test_what_is_shown_holds_no_key_and_no_address(shown: list[Any], found: list[str]) -> None:
    facts = facts_of()
    assert lines(faults._leaks(facts, stage(facts, lambda _: None), 401, shown)) == found


@pytest.mark.parametrize(
    ("seen", "found"),
    [
        (Seen("status", "GET", "/v3/jobs/J-1", {}, GOOD_HEADERS, None), None),
        (
            Seen("status", "GET", f"/v3/{KEY}", {}, {}, None),
            "status: the key stands in the address or the body of GET /v3/acme_",
        ),
        (
            Seen("probe", "POST", "/v3/me", {"a": KEY}, {}, None),
            "probe: the key stands in the address or the body of POST /v3/me",
        ),
        (
            Seen("status", "GET", "/v3/me", {}, {}, {"a": KEY}),
            "status: the key stands in the address or the body of GET /v3/me",
        ),
        (
            Seen("status", "GET", "/v3/me", {"a": f"{CANARY}environment"}, {}, None),
            "status: the key stands in the address or the body of GET /v3/me",
        ),
    ],
)
def test_no_request_holds_a_key_outside_of_its_header(seen: Seen, found: str | None) -> None:
    facts = facts_of()
    played = stage(facts, lambda _: None)
    played.service.requests = [seen]
    advice = "Take it out: the key goes into the header X-Acme-Key alone."
    assert lines(faults._leaks(facts, played, 200, [])) == ([f"secrets: {found}. {advice}"] if found else [])
