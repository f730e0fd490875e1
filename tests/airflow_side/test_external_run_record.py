"""The record that the page "External runs" reads: every field comes back, a stranger's value breaks nothing, bounds."""

from __future__ import annotations

import json
import random
from dataclasses import fields
from typing import Any

import pytest

from runops.airflow.external_run import (
    FIRST_MOMENTS,
    LONGEST_TEXT,
    MOST_BYTES,
    MOST_MOMENTS,
    Counts,
    ExternalRun,
    Moment,
    iso,
)

FULL = ExternalRun(
    provider="nyx",
    conn_id="nyx_default",
    run_id="run-1",
    parents={"workflow_id": "wf"},
    url="https://nyx.example/runs/run-1",
    own=True,
    cancels=True,
    try_number=2,
    state="running",
    phase="running",
    reason="one line",
    error="PollingError",
    progress={"done": 3, "total": 7, "unit": "attempts"},
    spend=1.25,
    spend_unit="USD",
    holds="turn",
    holds_for="run-0",
    began_at=iso(1_700_000_000),
    created_at=iso(1_700_000_001),
    started_at=iso(1_700_000_002.5),
    finished_at=iso(1_700_000_003),
    looked_at=iso(1_700_000_004),
    written_at=iso(1_700_000_005),
    ended_at=iso(1_700_000_006),
    run_ended=True,
    ended_by="timeout",
    verdict="fail",
    details={"spent_usd": 1.25, "stage": "scan", "flag": True},
    timeline=(Moment(iso(1_700_000_002), None, "queued"), Moment(iso(1_700_000_003), "running", "running")),
    counts=Counts(3, 1, 2, {"failed": 1}, {"fail": 1}, 1),
)


def moments(count: int) -> tuple[Moment, ...]:
    return tuple(Moment(iso(1_700_000_000 + each), f"s{each}", "running") for each in range(count))


def normal(run: ExternalRun | None) -> dict[str, Any]:
    assert run is not None
    return run.to_dict()


def test_every_field_comes_back_from_json_and_from_a_json_text_of_it() -> None:
    form = FULL.to_dict()
    assert set(form) >= {each.name for each in fields(ExternalRun)} - {"outcome"}
    for value in (form, json.loads(json.dumps(form)), json.dumps(form), json.dumps(json.dumps(form))):
        assert normal(ExternalRun.from_dict(value)) == form
        assert ExternalRun.from_dict(value) == FULL
    assert form["timeline"][1]["phase"] == "running"
    assert ExternalRun(
        provider="nyx", outcome="failed", timeline=(Moment(iso(1_700_000_000), "x", "failed"),)
    ).to_dict()["timeline"] == [{"at": iso(1_700_000_000), "state": "x", "outcome": "failed"}]


@pytest.mark.parametrize(
    "value", [None, 3, [], "", "{", "[1]", {"provider": 3}, {}, {"run_id": "x"}, "\x00", b"\xff", "[" * 9999]
)
def test_what_is_no_such_record_is_none(value: object) -> None:
    assert ExternalRun.from_dict(value) is None


def test_a_field_of_another_kind_counts_as_missing_and_the_others_stay() -> None:
    wrong: list[object] = [
        None,
        [],
        {},
        [[]],
        {"a": []},
        1e400,
        float("nan"),
        "\x1b[31m\x00",
        object(),
        {1: 2},
        True,
        -1,
        "",
    ]
    seeded = random.Random(13)
    for name in FULL.to_dict():
        if name == "provider":
            continue
        for value in wrong:
            read = ExternalRun.from_dict({**FULL.to_dict(), name: value})
            assert read is not None
            assert read.provider == "nyx"
            text = json.dumps(read.to_dict(), allow_nan=False)
            assert "\\u0000" not in text
            assert "\\u001b" not in text
    for _ in range(200):
        form = {name: seeded.choice(wrong) for name in FULL.to_dict()} | {"provider": "nyx"}
        normal(ExternalRun.from_dict(form))


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        "//evil",
        "https:\\\\evil",
        "https://a@evil/",
        "https://",
        "http://x\n.y",
        "x",
    ],
)
def test_an_address_that_is_no_plain_web_address_is_left_out(url: str) -> None:
    assert "url" not in normal(ExternalRun.from_dict({"provider": "nyx", "url": url}))
    assert "url" not in ExternalRun(provider="nyx", url=url).to_dict()


def test_an_unknown_word_is_no_phase_outcome_verdict_or_hold() -> None:
    words = dict.fromkeys(("kind", "phase", "outcome", "verdict", "holds"), "<script>")
    assert normal(ExternalRun.from_dict({"provider": "nyx", **words})) == ExternalRun(provider="nyx").to_dict()


def test_the_first_moments_and_the_newest_ones_are_kept() -> None:
    form = ExternalRun(provider="nyx", timeline=moments(50)).to_dict()
    kept = [each["state"] for each in form["timeline"]]
    assert len(kept) == MOST_MOMENTS
    assert kept[:FIRST_MOMENTS] == ["s0", "s1", "s2", "s3", "s4"]
    assert kept[-1] == "s49"


def test_it_never_grows_beyond_its_bound_and_keeps_what_the_run_is() -> None:
    huge = "ü" * 100_000
    run = ExternalRun(
        provider="nyx",
        run_id="r",
        state=huge,
        reason=huge,
        phase="running",
        url="https://x/" + "a" * 1_900,
        parents={f"p{each}": "i" * 1_000 for each in range(30)},
        details={f"d{each}": huge for each in range(500)},
        timeline=tuple(Moment(iso(1_700_000_000 + each), huge, "running") for each in range(100)),
    )
    form = run.to_dict()
    assert len(json.dumps(form)) <= MOST_BYTES
    assert (form["run_id"], form["phase"]) == ("r", "running")
    assert len(form["reason"]) == LONGEST_TEXT


def test_a_later_version_with_further_fields_is_read() -> None:
    later = {**FULL.to_dict(), "schema": 2, "new": {"x": 1}}
    assert normal(ExternalRun.from_dict(later)) == {**FULL.to_dict(), "schema": 2}
