"""What the played checks say of each way in which a submit, a conflict, a lost answer or a cancel can end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from runops.conformance import submits
from runops.core import RunNotFound
from runops.core.declaration import Provider
from tests.conformance.acme_runs import ACME
from tests.conformance.folders import GONE, Changes
from tests.conformance.played import (
    CONFLICT,
    GOOD_HEADERS,
    KEY,
    NOT_FOUND,
    UNCERTAIN,
    Played,
    facts_of,
    lines,
    stage,
)
from tests.conformance.variants import other, submitting


def sends_and_ends(times: int = 1, end: Any = None) -> Callable[[Played], Any]:
    """Send a submit so many times; end with the run that was started, with another one, or with an error."""

    def does(played: Played) -> Any:
        played.sends(times)
        if isinstance(end, Exception):
            raise end
        return ACME.ref(end or played.service.started[-1])

    return does


# --- a good submit -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("does", "found"),
    [
        (sends_and_ends(), []),
        (
            sends_and_ends(2),
            ["was sent 2 times and ends with a run; 2 runs were started. Mend the route, the body or run_id."],
        ),
        (sends_and_ends(1, "J-9"), ["was sent 1 times and ends with a run; 1 runs were started"]),
        (sends_and_ends(0, "J-9"), ["was sent 0 times and ends with a run; 0 runs were started"]),
        (
            sends_and_ends(1, NOT_FOUND),
            ["was sent 1 times and ends with RunNotFound: No such run; 1 runs were started"],
        ),
    ],
)
def test_a_good_submit_is_sent_once_and_ends_with_its_run(does: Any, found: list[str]) -> None:
    facts = facts_of()
    played = stage(facts, does)
    told = lines(submits._once(facts, played))
    assert len(told) == len(found)
    for line, part in zip(told, found, strict=True):
        assert line.startswith("submits: submit (submit.json): a good submit ")
        assert part in line
    assert played.settings == {"submit_grace": 60.0, "timeout": 60.0}


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({"x-acme-key": "another"}, ["submits: auth: the key does not come in its header. Mend AuthScheme."]),
        ({"x-other": KEY}, ["submits: auth: the key does not come in its header. Mend AuthScheme."]),
        (GOOD_HEADERS, []),
    ],
)
def test_the_key_of_a_submit_comes_in_its_header(headers: dict[str, str], found: list[str]) -> None:
    def does(played: Played) -> Any:
        played.sends(headers=headers)
        return ACME.ref(played.service.started[-1])

    facts = facts_of()
    assert lines(submits._once(facts, stage(facts, does))) == found


@pytest.mark.parametrize("place", ["path", "query", "body"])
def test_a_key_in_the_address_or_the_body_of_a_submit_is_found(place: str) -> None:
    def does(played: Played) -> Any:
        played.sends()
        played.service.requests[0] = replace(played.service.requests[0], **{place: {"a": KEY}})
        return ACME.ref(played.service.started[-1])

    facts = facts_of()
    assert lines(submits._once(facts, stage(facts, does))) == [
        (
            "submits: submit.build: the key stands in the address or the body of a submit. Take it "
            "out: the key goes into the header X-Acme-Key alone."
        )
    ]


def test_a_long_error_of_a_submit_is_cut() -> None:
    assert submits._how(RunNotFound("x" * 200, status=404)) == f"RunNotFound: {'x' * 160}"
    assert submits._how(ACME.ref("J-1")) == "a run"


# --- a conflict --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("times", "end", "changes", "found"),
    [
        (1, CONFLICT, {}, []),
        (
            1,
            "J-9",
            {},
            [
                (
                    "submits: submit (submit_conflict.json): a conflict (409) ends with a run, and not with a "
                    "ConflictError. Take 409 for what it is: nothing was started."
                )
            ],
        ),
        (
            1,
            UNCERTAIN,
            {"submit_conflict.json": GONE},
            [
                (
                    "submits: submit: a conflict (409) ends with SubmitUncertainError: Nobody knows. No run of "
                    "it could be found so far. Check at the provider before you submit again, and not with a "
                    "ConflictError. Take 409 for what it is: nothing was started."
                )
            ],
        ),
        (
            2,
            CONFLICT,
            {},
            [
                (
                    "submits: submit.turned_away (submit_conflict.json): after a conflict (409) the submit was "
                    "sent 2 times. Take 409 out of it."
                )
            ],
        ),
    ],
)
def test_a_conflict_is_no_run_and_is_not_sent_again(times: int, end: Any, changes: Changes, found: list[str]) -> None:
    facts = facts_of(changes=changes)
    played = stage(facts, sends_and_ends(times, end))
    assert lines(submits._conflict(facts, played)) == found
    assert played.settings["on_conflict"] == "fail"
    assert played.service.started == []
    assert len(played.service.faults) == 50 - times


def test_a_conflict_is_played_as_the_folder_shows_it_and_else_by_a_message() -> None:
    for changes, body in (({}, b'"busy"'), ({"submit_conflict.json": GONE}, b'{"message": "a run is active"}')):
        facts = facts_of(changes=changes)
        seen: list[Any] = []

        def does(played: Played, seen: list[Any] = seen) -> Any:
            seen += played.service.faults
            raise CONFLICT

        list(submits._conflict(facts, stage(facts, does)))
        assert {(each.route, each.reply.status, each.carried_out) for each in seen} == {("submit", 409, False)}
        assert body in seen[0].reply.body
        assert seen[0].reply.headers == {"content-type": "application/json"}


# --- somebody else's run -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["J-9", UNCERTAIN])
def test_somebody_elses_run_is_not_taken(end: Any) -> None:
    facts = facts_of()
    played = stage(facts, sends_and_ends(3, end))
    told = lines(submits._stranger(facts, played))
    mine = "submits: submit.mark: takes somebody else's run for its own after a lost answer. Name a text of the submit "
    assert told == ([f"{mine}that only its own run shows again."] if end == "J-9" else [])
    assert played.service.faults == played.service.started == []
    played.reads(1, played.service.strangers[0])
    assert played.service.requests[-1].route == "status"


def test_without_a_list_nobody_elses_run_is_played() -> None:
    facts = facts_of(other(listing=None))
    assert lines(submits._stranger(facts, stage(facts, sends_and_ends(1, "J-9")))) == []


# --- a lost answer -----------------------------------------------------------------------------------------------


def lost(provider: Provider, does: Any, *, carried_out: bool, changes: Changes | None = None) -> list[str]:
    facts = facts_of(provider, changes)
    found = submits._lost(facts, stage(facts, does), "a reset", submits.LOST["a reset"], carried_out=carried_out)
    return lines(found)


UNMARKED = submitting(mark=None)


@pytest.mark.parametrize(
    ("provider", "does", "carried_out", "found"),
    [
        (ACME, sends_and_ends(1, UNCERTAIN), False, None),
        (ACME, sends_and_ends(1, CONFLICT), False, None),
        (ACME, sends_and_ends(1), True, None),
        (UNMARKED, sends_and_ends(1, UNCERTAIN), True, None),
        (ACME, sends_and_ends(2), False, None),
        (
            ACME,
            sends_and_ends(2),
            True,
            "submit.one_at_a_time: after a reset with a run started a second run was started",
        ),
        (
            ACME,
            sends_and_ends(1, "J-9"),
            False,
            "submit: after a reset without a run started a run is named that is none",
        ),
        (
            ACME,
            sends_and_ends(1, UNCERTAIN),
            True,
            ("listing: after a reset with a run started the run bears the mark of its submit, and is not found by it"),
        ),
        (
            UNMARKED,
            sends_and_ends(1, NOT_FOUND),
            True,
            (
                "submit: after a reset with a run started the submit ends with RunNotFound: No such run. "
                "An answer that is lost is uncertain, and nothing else."
            ),
        ),
    ],
)
def test_a_lost_answer_ends_with_one_run_or_none(provider: Provider, does: Any, carried_out: bool, found: Any) -> None:
    told = lost(provider, does, carried_out=carried_out)
    assert len(told) == (0 if found is None else 1)
    assert found is None or told[0].startswith(f"submits: {found}")


def test_a_submit_is_sent_again_only_where_a_second_run_is_shown_to_be_refused() -> None:
    told = lost(ACME, sends_and_ends(2), carried_out=False, changes={"submit_conflict.json": GONE})
    assert told == [
        (
            "submits: submit.one_at_a_time: after a reset without a run started the submit was sent 2 "
            "times, and no answer shows that a second run is refused. Leave the claim out."
        )
    ]
    assert lost(ACME, sends_and_ends(1, UNCERTAIN), carried_out=False, changes={"submit_conflict.json": GONE}) == []


# --- a cancel ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("times", "error", "found"),
    [
        (1, None, []),
        (0, None, ["submits: cancel: 0 cancels arrived at the service, and not one. Write the documented route."]),
        (2, None, ["submits: cancel: 2 cancels arrived at the service, and not one. Write the documented route."]),
        (1, NOT_FOUND, ["submits: cancel: a cancel ends with RunNotFound. Mend the route."]),
    ],
)
def test_a_cancel_arrives_once(times: int, error: Exception | None, found: list[str]) -> None:
    def does(played: Played) -> None:
        for _ in range(times):
            played.service.answer("DELETE", "/v3/jobs/J-1", {}, GOOD_HEADERS, None)
        if error:
            raise error

    facts = facts_of()
    assert lines(submits._cancelled(facts, stage(facts, does))) == found


@pytest.mark.parametrize(
    ("provider", "changes"),
    [
        (other(cancel=None), {}),
        (ACME, {"cancel.json": GONE}),
        (ACME, {"1_queued.json": GONE, "2_active.json": GONE}),
    ],
)
def test_a_cancel_is_played_only_where_it_is_declared_and_shown(provider: Provider, changes: Changes) -> None:
    facts = facts_of(provider, changes)
    assert lines(submits._cancelled(facts, stage(facts, lambda _: 1 / 0))) == []
