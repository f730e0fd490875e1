"""How much of each field of the page's record is kept, at its very bound, and what stands where nothing was given."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runops.airflow.external_run import Counts, ExternalRun, Moment, iso, shortened


def kept(name: str, value: Any) -> Any:
    """A field as it comes back; None where it counts as missing."""
    run = ExternalRun.from_dict({"provider": "nyx", name: value})
    assert run is not None
    return run.to_dict().get(name)


def test_a_record_of_a_provider_alone_has_no_more_than_its_flags_and_its_try() -> None:
    bare = {
        "schema": 1, "kind": "run", "provider": "nyx", "own": False, "cancels": False, "try_number": 0,
        "run_ended": False,
    }  # fmt: skip
    assert ExternalRun(provider="nyx").to_dict() == bare
    read = ExternalRun.from_dict({"provider": "nyx"})
    assert read is not None
    assert read.to_dict() == read.plain() == bare


def test_counts_that_were_not_given_are_none() -> None:
    nothing = {"total": 3, "ended": 0, "active": 0, "outcomes": {}, "verdicts": {}, "errors": 0}
    assert Counts(3).to_dict() == nothing
    assert kept("counts", {"total": 3}) == nothing
    assert kept("counts", {"total": 0}) == {**nothing, "total": 0}
    assert kept("counts", {"ended": 3}) is None
    assert kept("counts", {"total": -1}) is None
    assert kept("counts", {**nothing, "ended": 2, "active": 1, "errors": 4}) == {
        **nothing, "ended": 2, "active": 1, "errors": 4,
    }  # fmt: skip


TEXTS = {
    "conn_id": 200, "state": 200, "reason": 200, "holds_for": 200, "error": 64, "spend_unit": 64, "ended_by": 64,
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_is_kept_whole_up_to_its_bound_and_beyond_it_shows_that_it_was_cut(name: str) -> None:
    longest = TEXTS[name]
    assert kept(name, "x" * longest) == "x" * longest
    assert kept(name, "x" * (longest + 1)) == "x" * (longest - 1) + "…"
    assert kept(name, "y" * 10_000) == "y" * (longest - 1) + "…"
    assert kept(name, "one\ntwo\x1b") == "one two "


@pytest.mark.parametrize("name", ["provider"])
def test_a_path_of_a_declaration_may_be_three_names_long(name: str) -> None:
    run = ExternalRun.from_dict({"provider": "p" * 192})
    assert run is not None
    assert run.provider == "p" * 192
    cut = ExternalRun.from_dict({"provider": "p" * 193})
    assert cut is not None
    assert cut.provider == "p" * 191 + "…"


def test_an_id_is_kept_whole_or_not_at_all() -> None:
    assert kept("run_id", "r" * 1_000) == "r" * 1_000
    assert [kept("run_id", value) for value in ("r" * 1_001, "", "a\nb", 7)] == [None] * 4
    parents = {"a": "1" * 1_000, "b": "1" * 1_001, "c": ""}
    assert kept("parents", parents) == {"a": "1" * 1_000}


@pytest.mark.parametrize(("name", "most"), [("parents", 10), ("details", 40)])
def test_of_many_names_the_first_are_kept_and_none_that_is_too_long(name: str, most: int) -> None:
    many = {f"n{number}": str(number) for number in range(most + 5)}
    assert kept(name, many) == {f"n{number}": str(number) for number in range(most)}
    assert kept(name, {"n" * 64: "1", "n" * 65: "2", "a\nb": "3"}) == {"n" * 64: "1"}


def test_of_many_kinds_of_ends_the_first_ten_are_kept() -> None:
    counted = kept(
        "counts", {"total": 20, "outcomes": {f"o{number}": number for number in range(12)}, "verdicts": {"x": -1}}
    )
    assert list(counted["outcomes"]) == [f"o{number}" for number in range(10)]
    assert counted["verdicts"] == {}


@pytest.mark.parametrize(
    ("url", "whole"),
    [
        ("https://h/" + "a" * 1_990, True), ("https://h/" + "a" * 1_991, False), ("http://h", True), ("ftp://h", False),
        ("https://[::1", False), ("https://me@h/", False), ("https://h/a\\b", False), ("https://h/a b", True),
        ("https://h/\x7f", False),
    ],
    ids=lambda value: str(value)[:16],
)  # fmt: skip
def test_an_address_is_kept_whole_or_not_at_all(url: str, whole: bool) -> None:
    assert kept("url", url) == (url if whole else None)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (0, 0),
        (-1.5, -1.5),
        (9.9e17, 9.9e17),
        (1e18, None),
        (-1e18, None),
        (float("nan"), None),
        (True, None),
        ("1", None),
    ],
)
def test_a_number_is_finite_and_of_a_size_that_others_can_read(value: Any, number: float | None) -> None:
    assert kept("spend", value) == number


@pytest.mark.parametrize(("value", "number"), [(0, 0), (3, 3), (2.9, 2), (-1, 0), (True, 0), ("3", 0)])
def test_a_count_is_a_whole_number_from_none_on(value: Any, number: int) -> None:
    assert kept("try_number", value) == number


@pytest.mark.parametrize(
    ("value", "progress"),
    [
        ({"done": 0}, {"done": 0, "total": None, "unit": ""}),
        ({"done": 3, "total": 7, "unit": "x" * 64}, {"done": 3, "total": 7, "unit": "x" * 64}),
        ({"done": 3, "unit": "x" * 65}, {"done": 3, "total": None, "unit": "x" * 63 + "…"}),
        ({"total": 7}, None), ({"done": "3"}, None), (3, None),
    ],
)  # fmt: skip
def test_a_progress_has_what_is_done_at_least(value: Any, progress: Any) -> None:
    assert kept("progress", value) == progress


@pytest.mark.parametrize(
    ("value", "detail"),
    [("x" * 201, "x" * 199 + "…"), (True, True), (False, False), (1.5, 1.5), (None, None), ([1], None), (1e19, None)],
)
def test_a_detail_is_a_text_a_flag_or_a_number(value: Any, detail: Any) -> None:
    found = (kept("details", {"a": value, "b": "here"}) or {}).get("a")
    assert found == detail
    assert isinstance(found, type(detail))


@pytest.mark.parametrize(
    "word",
    [("kind", "set"), ("phase", "paused"), ("outcome", "degraded"), ("verdict", "warn"), ("holds", "rate_limit")],
)
def test_a_word_of_its_field_is_kept_and_another_is_not(word: tuple[str, str]) -> None:
    name, value = word
    assert kept(name, value) == value
    assert kept(name, "other") == ("run" if name == "kind" else None)


@pytest.mark.parametrize(
    ("value", "time"),
    [
        ("2026-01-31T06:00:00Z", "2026-01-31T06:00:00.000Z"),
        ("2026-01-31T06:00:00.1239+02:00", "2026-01-31T04:00:00.123Z"),
        ("", None), ("yesterday", None), (7, None),
    ],
)  # fmt: skip
def test_a_time_is_kept_in_one_form(value: Any, time: str | None) -> None:
    for name in ("began_at", "created_at", "started_at", "finished_at", "looked_at", "written_at", "ended_at"):
        assert kept(name, value) == time


@pytest.mark.parametrize("name", ["own", "cancels", "run_ended"])
def test_a_flag_is_kept_where_it_is_one(name: str) -> None:
    assert [kept(name, value) for value in (True, False, 1, "true", None)] == [True, False, False, False, False]


# --- the timeline ---


def entry(number: int, **fields: Any) -> dict[str, Any]:
    return {"at": iso(1_700_000_000 + number), "state": f"s{number}", "phase": "running", **fields}


def test_an_entry_without_a_time_or_a_known_status_is_left_out() -> None:
    entries = [
        entry(0), entry(1, at="never"), entry(2, phase="none"), "no entry", entry(3, phase=None),
        {"at": iso(1_700_000_004), "outcome": "failed"}, entry(5, outcome="succeeded"),
    ]  # fmt: skip
    assert kept("timeline", entries) == [
        entry(0),
        {"at": iso(1_700_000_004), "outcome": "failed"},
        {"at": iso(1_700_000_005), "state": "s5", "outcome": "succeeded"},
    ]
    assert kept("timeline", {"0": entry(0)}) is None


def test_of_a_long_timeline_that_was_read_the_last_two_hundred_entries_are_looked_at() -> None:
    read = kept("timeline", [entry(number) for number in range(205)])
    assert [each["state"] for each in read] == [f"s{number}" for number in (5, 6, 7, 8, 9, *range(190, 205))]


@pytest.mark.parametrize(
    ("entries", "most", "left"),
    [
        (20, 20, list(range(20))), (21, 20, [0, 1, 2, 3, 4, *range(6, 21)]), (9, 6, [0, 1, 2, 6, 7, 8]),
        (3, 2, [0, 2]), (2, 1, [1]),
    ],
)  # fmt: skip
def test_a_timeline_is_shortened_in_its_middle(entries: int, most: int, left: list[int]) -> None:
    timeline = [Moment(str(number), None, "running") for number in range(entries)]
    assert [int(each.at) for each in shortened(timeline, most)] == left


# --- the whole ---


def size(run: ExternalRun) -> int:
    return len(json.dumps(run.to_dict()))


def test_what_is_too_long_loses_its_details_first_then_its_middle_then_its_address() -> None:
    timeline = tuple(Moment(iso(1_700_000_000 + number), "ü" * 190, "running") for number in range(20))
    details = {f"d{number}": "ü" * 190 for number in range(40)}
    shared: dict[str, Any] = {"provider": "nyx", "run_id": "r", "url": "https://h/x", "parents": {"a": "1"}}
    short = ExternalRun(**shared, details={"a": 1}, timeline=timeline[:4]).to_dict()
    assert (short["details"], len(short["timeline"]), "url" in short, "parents" in short) == ({"a": 1}, 4, True, True)
    first = ExternalRun(**shared, details=details, timeline=timeline[:9]).to_dict()
    assert ("details" in first, len(first["timeline"]), "url" in first) == (False, 9, True)
    second = ExternalRun(**shared, details=details, timeline=timeline).to_dict()
    assert ("details" in second, len(second["timeline"]), "url" in second) == (False, 6, True)
    parents = {f"p{number}": "ü" * 990 for number in range(10)}
    third = ExternalRun(**{**shared, "parents": parents}, details=details, timeline=timeline).to_dict()
    assert ("details" in third, len(third["timeline"]), "url" in third, "parents" in third) == (False, 6, False, False)


def test_a_record_is_sixteen_thousand_bytes_long_at_the_most() -> None:
    def of(length: int) -> ExternalRun:
        texts = {f"p{number}": "x" * 1_000 for number in range(9)}
        details = {f"d{number}": "y" * 200 for number in range(25)}
        return ExternalRun(
            provider="nyx", run_id="r" * 900, parents={**texts, "q": "x" * 500}, details={**details, "z": "y" * length}
        )

    spare = 16_000 - size(of(1))
    assert 0 < spare < 199
    whole, longer = of(1 + spare), of(2 + spare)
    assert (size(whole), "details" in whole.to_dict()) == (16_000, True)
    assert "details" not in longer.to_dict()


def test_it_is_open_until_its_wait_has_ended_and_stands_as_its_outcome_or_its_phase_says() -> None:
    run = ExternalRun(provider="nyx", phase="running")
    assert (run.open, run.status) == (True, "running")
    over = ExternalRun(provider="nyx", outcome="failed", ended_at=iso(1_700_000_000))
    assert (over.open, over.status) == (False, "failed")
    assert ExternalRun(provider="nyx").status is None


def test_a_text_of_a_text_of_a_text_is_read_and_no_deeper_one() -> None:
    text = json.dumps({"provider": "nyx"})
    for deeper in range(4):
        assert (ExternalRun.from_dict(text) is not None) is (deeper < 3)
        text = json.dumps(text)
    assert ExternalRun.from_dict(b'{"provider": "nyx"}') is not None
