"""Pages of lists, and single answers: which request asks for each, what is read of it, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import blake2b
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from runops.core import ConfigurationError, Outcome, RunRef, find
from runops.core.declaration import Listing, Part, Request, Route
from runops.core.declaration.decode import LARGE, at, check_json, decoded, malformed, validated
from runops.core.declaration.pages import Page
from runops.core.model.errors import AnotherRun, MalformedAnswer, UnknownStateError

NEXIO, NYX, ONEPIN, B3OS, NEKT = (find(name) for name in ("nexio", "nyx", "onepin", "b3os", "nekt"))
NIGHTLY, W = {"config_name": "nightly"}, {"workflow_id": "w"}


def body(value: Any) -> bytes:
    return json.dumps(value).encode()


# --- requests ----------------------------------------------------------------------------------------------------

NEWEST = {"limit": "100", "sort": "created_at", "order": "desc"}


@pytest.mark.parametrize(
    ("provider", "parent", "page", "path", "query", "whose", "absent"),
    [
        ("nyx", NIGHTLY, 0, "/v1/nyx/runs", {"limit": "100"}, None, "There is no such config_name"),
        ("nyx", NIGHTLY, 2, "/v1/nyx/runs", {"limit": "100", "offset": "200"}, None, "There is no such config_name"),
        ("nyx", {}, 1, "/v1/nyx/runs", {"limit": "100", "offset": "100"}, None, "There is nothing at this address"),
        ("onepin", W, 0, "/api/v1/workflows/w/runs", NEWEST, W, "There is no such workflow_id"),
        ("onepin", W, 1, "/api/v1/workflows/w/runs", {**NEWEST, "offset": "100"}, W, "There is no such workflow_id"),
        ("b3os", W, 3, "/v1/workflows/w/runs", {"limit": "100", "offset": "300"}, W, "There is no such workflow_id"),
        ("nekt", {"source": "s"}, 0, "/api/v1/runs/", {}, None, "There is no such source"),
        ("nekt", {"source": "s"}, 1, "/api/v1/runs/", {"page": "2"}, None, "There is no such source"),
    ],
)
def test_a_page_is_asked_for_as_declared(
    provider: str, parent: dict[str, str], page: int, path: str, query: dict[str, str], whose: Any, absent: str
) -> None:
    declared = find(provider)
    named = ", ".join(f"{kind} {value}" for kind, value in parent.items()) or "all parents"
    words = f"list of {declared.title} runs of {named}"
    assert declared.pages.request(parent, page) == Request("GET", path, words, query, absent=absent, parent=whose)
    if page:
        assert declared.pages.next_request(parent, page, b"not read") == declared.pages.request(parent, page)


@pytest.mark.parametrize(
    ("place", "cursor", "url"),
    [
        ("c 1", "c 1", "c 1"), (17, "17", "17"), (0, "0", "0"),
        (None, None, None), ("", None, None), (True, None, None), (False, None, None), (1.5, None, None),
        (["c"], None, None), ({}, None, None),
    ],
)  # fmt: skip
def test_the_next_page_is_where_the_last_one_says_and_nowhere_where_it_does_not(
    place: Any, cursor: str | None, url: str | None
) -> None:
    route = Route("GET", "/all", {"size": "5"})
    by_cursor = Listing(route, (), ("workflow_id",), filtered=True, paging="cursor", next=("next",))
    by_url = Listing(route, (), ("workflow_id",), filtered=True, paging="next", next=("next",))
    content = body({"next": place})
    found = replace(B3OS, listing=by_cursor).pages.next_request(W, 1, content)
    assert (found and (found.query, found.url)) == (cursor and ({"size": "5", "cursor": cursor}, ""))
    found = replace(B3OS, listing=by_url).pages.next_request(W, 1, content)
    assert (found and (found.query, found.url)) == (url and ({}, url))


def test_the_newest_run_alone_is_asked_for_where_a_route_answers_it() -> None:
    assert NYX.pages.latest_request(NIGHTLY) == Request(
        "GET",
        "/v1/nyx/runs/by-config/nightly",
        "list of Nyx runs of config_name nightly",
        absent="There is no such config_name",
        parent=NIGHTLY,
        alone=True,
    )
    assert NYX.pages.latest_request({}) is None
    assert B3OS.pages.latest_request(W) is None


def test_a_parent_is_named_by_its_kind_or_as_the_first_one() -> None:
    assert NEKT.pages.parent(" p ") == {"pipeline": "p"}
    assert NEKT.pages.parent({"source": " s "}) == {"source": "s"}


# --- pages -------------------------------------------------------------------------------------------------------


def entry(run_id: str = "a", **more: Any) -> dict[str, Any]:
    return {"run_id": run_id, "status": "running", "config_name": "nightly", **more}


def ids(page: Page) -> list[str]:
    return [each.snapshot.ref.run_id for each in page.observations]


def test_an_entry_that_cannot_be_read_is_kept_by_a_digest_and_spoils_no_other() -> None:
    odd = {"status": "running", "b": 1, "a": 2}
    page = NYX.pages.read(body({"runs": [odd, entry("a"), 5, entry("b", config_name="other")]}), NIGHTLY)
    digests = [
        blake2b(text.encode(), digest_size=8).hexdigest() for text in ('{"a": 2, "b": 1, "status": "running"}', "5")
    ]
    assert (ids(page), list(page.unread), page.date) == (["a"], digests, None)
    assert ids(NYX.pages.read(body({"runs": [entry("a"), entry("b", config_name="other")]}), {})) == ["a", "b"]


@pytest.mark.parametrize(
    ("provider", "content", "parent", "error", "said"),
    [
        (NYX, {"runs": [5]}, NIGHTLY, MalformedAnswer, "No entry of the list of runs is as documented."),
        (NYX, {"runs": {}}, NIGHTLY, MalformedAnswer, "The list of runs has no array at runs."),
        (B3OS, {"data": []}, W, MalformedAnswer, "The list of runs has no array at data.items."),
        (
            B3OS, {"data": {"items": [{"id": "a", "status": "running", "workflowId": "v"}]}}, W, AnotherRun,
            ("The answer to the list of B3OS runs of workflow_id w is about another workflow_id, 'v': "
            "a proxy or a cache on the way may mix up answers."),
        ),
        (
            NEKT, {"results": [{"id": "a", "status": "running"}]}, {"source": "s"}, ConfigurationError,
            ("The list of runs carries no source, so runs cannot be found by it: this API answers in another shape. "
            "Name the parent by another kind."),
        ),
    ],
)  # fmt: skip
def test_a_page_that_is_none_is_refused(provider: Any, content: Any, parent: Any, error: Any, said: str) -> None:
    with pytest.raises(error) as caught:
        provider.pages.read(body(content), parent)
    assert caught.value.text == said


def test_an_empty_page_is_a_page() -> None:
    assert NYX.pages.read(body({"runs": []}), NIGHTLY) == Page([])
    assert NEKT.pages.read(body({"results": []}), {"source": "s"}) == Page([])
    mixed = {"results": [{"id": "a", "status": "running", "source": "s"}, {"id": "b", "status": "running"}]}
    assert ids(NEKT.pages.read(body(mixed), {"source": "s"})) == ["a"]
    some = [{"id": "a", "status": "running", "workflowId": "v"}, {"id": "b", "status": "running", "workflowId": "w"}]
    assert ids(B3OS.pages.read(body({"data": {"items": some}}), W)) == ["a", "b"]


@pytest.mark.parametrize("status", [None, 5, "", {}])
def test_an_entry_without_a_readable_status_counts_by_its_id(status: Any) -> None:
    (seen,) = NYX.pages.read(body({"runs": [entry("a", status=status)]}), NIGHTLY).observations
    state = "5" if status == 5 else "without a status"
    assert (seen.snapshot.ref, seen.snapshot.state, seen.reading.known) == (NYX.ref("a"), state, False)


def test_an_entry_that_is_over_in_an_unknown_word_says_when_and_no_outcome() -> None:
    times = {"created_at": 1e9, "started_at": 1e9 + 1, "completed_at": 1e9 + 2, "updated_at": 1e9 + 3}
    (seen,) = NYX.pages.read(body({"runs": [entry("a", status="odd", name="n", **times)]}), NIGHTLY).observations
    shown = seen.snapshot
    moments = [moment and moment.timestamp() for moment in (shown.created_at, shown.started_at, shown.finished_at)]
    assert (shown.state, shown.phase, shown.outcome, moments) == ("odd", None, None, [1e9, 1e9 + 1, 1e9 + 2])
    assert (seen.reading.state, seen.reading.full_state, seen.reading.meaning, seen.reading.known) == (
        "odd", "odd", None, False,
    )  # fmt: skip
    assert (seen.label, seen.paused_since, seen.updated_at and seen.updated_at.timestamp()) == ("n", None, 1e9 + 3)
    item = NYX.pages.observe(entry("a"), NIGHTLY)
    assert item.snapshot.phase == "running"


def test_a_run_on_a_list_bears_the_parents_of_its_address() -> None:
    (seen,) = ONEPIN.pages.read(body({"data": [{"id": "a", "status": "running"}]}), W).observations
    assert seen.snapshot.ref == RunRef(provider="onepin", run_id="a", parents=W)


def test_the_newest_run_must_be_of_its_parent() -> None:
    assert NYX.pages.read_latest(body(entry("a")), NIGHTLY).snapshot.ref.run_id == "a"
    with pytest.raises(AnotherRun, match="is about another config_name, 'other'"):
        NYX.pages.read_latest(body(entry("a", config_name="other")), NIGHTLY)
    with pytest.raises(
        MalformedAnswer, match="The answer to the list of runs is not as documented; unreadable: run_id"
    ):
        NYX.pages.read_latest(body({"status": "running"}), NIGHTLY)


# --- single answers ----------------------------------------------------------------------------------------------


class Inner(Part):
    numbers: dict[str, int]


class Outer(Part):
    inner: Inner
    many: list[int] | None = None


@pytest.mark.parametrize(
    ("content", "places"),
    [
        (b"{", "the body"),
        (b"{}", "inner"),
        (b'{"inner": {}}', "inner.numbers"),
        (b'{"inner": {"numbers": {"secret": "x"}}}', "inner.numbers.?"),
        (b'{"inner": {"numbers": {}}, "many": [1, "x"]}', "many.1"),
        (body({"inner": {"numbers": {}}, "many": ["x"] * 9}), "many.0, many.1, many.2, many.3, many.4"),
    ],
)
def test_a_malformed_answer_is_told_by_declared_names_alone(content: bytes, places: str) -> None:
    with pytest.raises(ValidationError) as caught:
        validated(Outer, content)
    said = malformed("read of it", caught.value, Outer).text
    assert said == f"The answer to the read of it is not as documented; unreadable: {places}."


@pytest.mark.parametrize("size", [0, LARGE])
@pytest.mark.parametrize("by_steps", [True, False])
def test_any_json_is_read_whatever_its_size_and_spelling(size: int, by_steps: bool) -> None:
    class Shown(BaseModel):
        a: int
        b: float
        c: str

    text = json.dumps({"a": 12345678901234567890, "b": 1.5, "c": "x", "pad": "p" * size})
    for content in (text.encode(), b"\xef\xbb\xbf" + text.encode(), text.encode("utf-16")):
        assert validated(Shown, content, by_steps=by_steps) == Shown(a=12345678901234567890, b=1.5, c="x")
        assert decoded(content)["b"] == 1.5
    for content in (text.encode()[:-1], b"<html>" + b" " * size):
        with pytest.raises(ValidationError):
            validated(Shown, content, by_steps=by_steps)
        with pytest.raises(MalformedAnswer, match=r"^The answer is not JSON\."):
            decoded(content)


@pytest.mark.parametrize(
    ("path", "found"),
    [((), {"a": {"b": 1}}), (("a",), {"b": 1}), (("a", "b"), 1), (("a", "b", "c"), None), (("x",), None)],
)
def test_a_place_in_an_answer_is_found_by_its_keys(path: tuple[str, ...], found: Any) -> None:
    assert at({"a": {"b": 1}}, path) == found


def test_an_answer_without_content_is_no_page_of_a_proxy() -> None:
    for content in (b"", b" \n", b"null", b"[1]"):
        check_json(content)
    with pytest.raises(MalformedAnswer):
        check_json(b"ok")


ONE = ONEPIN.ref("r", W)


def answer(**run: Any) -> bytes:
    return body({"data": {"id": "r", "status": "running", **run}})


@pytest.mark.parametrize(
    ("run", "about"),
    [({"id": "s"}, "about another run, 's'"), ({"workflow_id": "v"}, "about another workflow_id, 'v'")],
)
def test_an_answer_about_another_run_is_refused_whatever_else_it_says(run: dict[str, Any], about: str) -> None:
    said = f"The answer to the read of onepin run r is {about}: a proxy or a cache on the way may mix up answers."
    for status in ({}, {"status": None}):
        with pytest.raises(AnotherRun) as caught:
            ONEPIN.check(ONEPIN.request(ONEPIN.status, ONE), answer(**run, **status))
        assert caught.value.text == said
    with pytest.raises(AnotherRun) as caught:
        ONEPIN.read(ONE, answer(**run))
    assert caught.value.text == said


@pytest.mark.parametrize("content", [b"", b"[]", answer(), answer(id=None), answer(id="R", workflow_id="W"), b"<html>"])
def test_an_answer_that_names_no_other_run_passes(content: bytes) -> None:
    ONEPIN.check(ONEPIN.request(ONEPIN.status, ONE), content)


def test_a_list_of_another_parents_runs_is_refused_and_one_that_cannot_be_read_is_left_to_its_reader() -> None:
    request = NYX.pages.latest_request(NIGHTLY)
    assert request is not None
    with pytest.raises(AnotherRun):
        NYX.check(request, body(entry("a", config_name="other")))
    NYX.check(request, b"<html>")
    listed = B3OS.pages.request(W)
    with pytest.raises(AnotherRun):
        B3OS.check(listed, body({"data": {"items": [{"id": "a", "status": "running", "workflowId": "v"}]}}))
    B3OS.check(listed, body({"data": 5}))
    NYX.check(NYX.pages.request(NIGHTLY), body({"runs": [entry("a", config_name="other")]}))


def test_a_payload_is_an_object_out_of_its_envelope() -> None:
    assert B3OS.payload(b'{"data": {"id": "r"}}') == {"id": "r"}
    for content in (b'{"data": [1]}', b'{"id": "r"}', b"[]"):
        with pytest.raises(MalformedAnswer, match=r"^The answer is not a JSON object\."):
            B3OS.payload(content)


def test_the_account_of_a_key_is_read_where_it_is_declared() -> None:
    assert ONEPIN.account(b'{"data": {"user_id": "u"}}') == "u"
    assert ONEPIN.account(b'{"data": {"user_id": 5}}') is None
    assert NEKT.account(b'"u"') == "u"


def test_a_page_of_a_run_is_linked_as_far_as_its_ids_are_known() -> None:
    assert NYX.url(NYX.ref("r 1")) == "https://app.fabraix.com/nyx/runs/r%201"
    assert B3OS.url(B3OS.ref("r")) is None
    assert B3OS.url(B3OS.ref("r"), {"workflowId": "w/1"}) == "https://b3os.org/workflows/edit?id=w%2F1"
    assert NEXIO.url(NEXIO.ref("r")) == "https://platform.usenexio.com/runs"


def test_a_run_that_is_over_in_an_unknown_word_names_those_that_are_known() -> None:
    with pytest.raises(UnknownStateError) as caught:
        NEXIO.read(NEXIO.ref("r"), body({"run_id": "r", "status": "odd", "completed_at": 1e9}))
    assert (caught.value.state, caught.value.ref) == ("odd", NEXIO.ref("r"))
    assert caught.value.known == ("completed", "degraded", "failed", "processing", "queued")
    taught = NEXIO.with_states({"resting": "paused"})
    with pytest.raises(UnknownStateError, match="that states= takes for one that goes on"):
        taught.read(NEXIO.ref("r"), body({"run_id": "r", "status": "resting", "completed_at": 1e9}))


def test_words_are_taught_one_after_another_and_the_last_one_counts() -> None:
    once = NEXIO.with_states({"Resting": "paused", "late": "failed"})
    twice = once.with_states({" resting ": "waiting"})
    assert (dict(once.taught), dict(twice.taught)) == (
        {"Resting": "paused", "late": "failed"},
        {"late": "failed", " resting ": "waiting"},
    )
    meanings = {word: row.meaning for word, _, row in twice.states if row.taught}
    assert meanings == {"late": Outcome.FAILED, "resting": "waiting"}
    assert (NEXIO.with_states(None), NEXIO.with_states({}), find("nexio")) == (NEXIO, NEXIO, NEXIO)
    assert twice.read(NEXIO.ref("r"), body({"run_id": "r", "status": "resting"})).snapshot.phase == "waiting"
