"""End times in any form: read where they can be, an end even where they cannot, and no end where they only say so."""

from __future__ import annotations

import json
import math
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runops.core import Provider, UnknownStateError, find
from runops.core.model.times import UNREADABLE, moment
from runops.core.waiting.flows import Send
from runops.core.waiting.listing import listed

END = datetime(2026, 4, 18, 14, 30, 45, tzinfo=UTC)
SECONDS = 1776522645
FIELDS = {
    "nexio": ("completed_at", "completed"),
    "nyx": ("completed_at", "cancelled"),
    "onepin": ("completed_at", "completed"),
    "b3os": ("finishedAt", "success"),
    "nekt": ("ended_at", "success"),
}
READABLE: list[Any] = [
    SECONDS,
    float(SECONDS),
    SECONDS * 1_000,
    SECONDS * 1_000_000,
    SECONDS * 1_000_000_000,
    str(SECONDS),
    f"{SECONDS}.0",
    f"{SECONDS}000",
    "2026-04-18T14:30:45Z",
    "2026-04-18T14:30:45",
    "2026-04-18T16:30:45+02:00",
    "2026-04-18 14:30:45 UTC",
    "2026-04-18 14:30:45.000000000 +0000 UTC",
    "2026-04-18 16:30:45 +0200 CEST",
    "2026-04-18T16:30:45+02:00[Europe/Berlin]",
    "2026-04-18 16:30:45 Europe/Berlin",
    "20260418T143045Z",
    "20260418143045",
    "Sat, 18 Apr 2026 14:30:45 GMT",
    "Sat, 18 Apr 2026 16:30:45 +0200",
    "Saturday, 18-Apr-26 14:30:45 GMT",
    "Sat Apr 18 14:30:45 2026",
    "18 Apr 2026 10:30:45 EDT",
]
UNREADABLE_ENDS: list[Any] = [
    "soon",
    "yesterday",
    "18.04.2026 14:30",
    "04/18/2026 2:30 PM",
    "Apr 18, 2026, 2:30 PM",
    "2026-04-18 14:30:45 XYZ",
    "Sat, 18 Apr 2026 14:30:45 CEST",
    "2026-13-45T99:00:00Z",
    "x" * 10_000,
    {"seconds": SECONDS},
    [SECONDS],
    True,
    1e300,
]
NOT_YET: list[Any] = [
    *(None, "", " ", 0, 0.0, "0", "0.0", "-0", "null", "None", "NULL", "nil", "n/a", "-", "--", "—"),
    *(False, [], {}, -1, "-1", 5, "5", -62_135_596_800, "-62135596800", -62_135_596_800_000),
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+14:00",
    "0001-01-01 00:00:00 +0000 UTC",
    "0000-00-00 00:00:00",
    "0000-00-00T00:00:00Z",
    "1970-01-01T00:00:00Z",
    "Thu, 01 Jan 1970 00:00:00 GMT",
    "Mon, 01 Jan 0001 00:00:00 GMT",
    "9999-12-31T23:59:59Z",
    "9999-99-99",
]


def body(provider: Provider, status: str, end: Any) -> dict[str, Any]:
    field, _ = FIELDS[provider.name]
    return {"id": "r1", "run_id": "r1", "status": status, "workflow_id": "wf_1", "workflowId": "wf_1", field: end}


def read(provider: Provider, status: str, end: Any) -> Any:
    run = body(provider, status, end)
    content = json.dumps(run if provider.envelope is None else {provider.envelope: run}).encode()
    return provider.read(provider.ref("r1", dict.fromkeys(provider.parents, "wf_1")), content).snapshot


@pytest.fixture(params=sorted(FIELDS))
def provider(request: pytest.FixtureRequest) -> Provider:
    return find(request.param)


@pytest.mark.parametrize("end", READABLE, ids=repr)
def test_an_end_time_in_any_known_form_is_shown_as_what_it_is(provider: Provider, end: Any) -> None:
    assert read(provider, FIELDS[provider.name][1], end).finished_at == END


@pytest.mark.parametrize("end", [*READABLE, *UNREADABLE_ENDS], ids=lambda end: repr(end)[:40])
def test_an_unknown_word_with_an_end_time_in_any_form_is_an_error_at_once(provider: Provider, end: Any) -> None:
    with pytest.raises(UnknownStateError, match="archived"):
        read(provider, "archived", end)


@pytest.mark.parametrize("end", NOT_YET, ids=repr)
def test_an_unknown_word_beside_what_says_not_yet_goes_on(provider: Provider, end: Any) -> None:
    snapshot = read(provider, "archived", end)
    assert (snapshot.phase, snapshot.finished_at) == ("running", None)


@pytest.mark.parametrize("end", UNREADABLE_ENDS, ids=lambda end: repr(end)[:40])
def test_an_end_time_that_nobody_can_read_is_not_shown(provider: Provider, end: Any) -> None:
    snapshot = read(provider, FIELDS[provider.name][1], end)
    assert (snapshot.run_ended, snapshot.finished_at) == (True, None)
    assert snapshot.to_result("succeed")["finished_at"] is None


@pytest.mark.parametrize("field", ["created_at", "started_at"])
def test_a_time_that_is_no_end_is_read_or_absent(field: str) -> None:
    nexio = find("nexio")
    for value, expected in ((SECONDS * 1000, END), ("yesterday", None), ("0", None)):
        content = json.dumps({"run_id": "r1", "status": "queued", field: value}).encode()
        assert getattr(nexio.read(nexio.ref("r1"), content).snapshot, field) == expected


def test_an_unknown_word_with_an_end_time_is_over_on_a_list_too(provider: Provider) -> None:
    if provider.listing is None:
        return
    parent = {provider.listing.parent_kinds[0]: "wf_1"}
    page: Any = [body(provider, "archived", "yesterday") | parent]
    for key in reversed(provider.listing.items):
        page = {key: page}
    flow = listed(provider, parent, since=0.0, has_time=lambda: False)
    assert isinstance(next(flow), Send)
    with pytest.raises(StopIteration) as stopped:
        flow.send(json.dumps(page).encode())
    (run,) = stopped.value.value.runs
    assert (run.phase, run.outcome, run.state, run.finished_at) == (None, None, "archived", None)


@given(st.one_of(st.text(max_size=120), st.integers(), st.floats(), st.binary(), st.lists(st.integers()), st.none()))
def test_whatever_comes_is_a_time_in_utc_or_none_and_never_an_error(value: Any) -> None:
    found = moment(value)
    assert found is None or found == UNREADABLE or (1971 <= found.year < 9000 and found.tzinfo is UTC)
    if isinstance(value, float) and math.isnan(value):
        assert found is None


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("1970-12-31T23:59:59Z", False),
        ("1971-01-01T00:00:00Z", True),
        ("Fri, 01 Jan 1971 00:00:00 GMT", True),
        ("8999-12-31T23:59:59Z", True),
        ("9000-01-01T00:00:00Z", False),
    ],
)
def test_a_time_is_one_from_1971_to_8999(text: str, counts: bool) -> None:
    assert (moment(text) is not None) is counts


def test_a_long_text_in_place_of_a_time_costs_nothing() -> None:
    began = time.process_time()
    for text in ("1" * 1_000_000, "2026-04-18T14:30:45." + "9" * 1_000_000, "-" * 1_000_000, "Sat, " * 200_000):
        moment(text)
    assert time.process_time() - began < 0.5


def test_a_time_of_up_to_100_characters_is_read() -> None:
    exact = "2026-01-01T00:00:00."
    assert moment(f"{exact}{'0' * (99 - len(exact))}Z") == datetime(2026, 1, 1, tzinfo=UTC)
    assert moment(f"{exact}{'0' * (100 - len(exact))}Z") == UNREADABLE
