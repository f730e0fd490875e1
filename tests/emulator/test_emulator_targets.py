"""Nyx's targets and whose token it is, as its command line asks for them; the real one is in test_nyx_client."""

from __future__ import annotations

from typing import Any

import pytest

from tests.services import CALLS

TARGET: dict[str, Any] = {
    "name": "Playground",
    "slug": "playground.example.com",
    "url": "https://playground.example.com",
    "endpoint": None,
    "credentials": {},
    "hints": [],
    "severity_target": "medium",
    "default_budget_usd": 5,
}


def test_a_target_that_was_made_is_found_by_its_name(call, emulator) -> None:
    assert call("nyx", "GET", "/v1/nyx/targets").json() == []
    made = call("nyx", "POST", "/v1/nyx/targets", json=TARGET)
    assert made.status_code == 201
    shown = made.json()
    assert set(shown) == {*TARGET, "id", "user_id", "created_at", "updated_at"}
    assert {name: shown[name] for name in TARGET} == TARGET
    other = call("nyx", "POST", "/v1/nyx/targets", json={**TARGET, "name": "Other"}).json()
    assert call("nyx", "GET", "/v1/nyx/targets").json() == [shown, other]
    assert other["id"] != shown["id"]


def test_a_run_takes_the_id_of_a_target(call, emulator) -> None:
    target = call("nyx", "POST", "/v1/nyx/targets", json=TARGET).json()["id"]
    started = call("nyx", "POST", "/v1/nyx/runs", json={**CALLS["nyx"], "target_id": target})
    assert started.status_code == 201
    assert emulator.runs()[0]["body"]["target_id"] == target
    refused = call("nyx", "POST", "/v1/nyx/runs", json={**CALLS["nyx"], "config_name": "b", "target_id": 5})
    assert (refused.status_code, refused.json()["detail"][0]["loc"]) == (422, ["body", "target_id"])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("slug", None),
        ("url", None),
        ("credentials", []),
        ("hints", "none"),
        ("severity_target", "severe"),
        ("default_budget_usd", 0),
        ("default_budget_usd", True),
    ],
)
def test_a_target_that_makes_no_sense_is_refused_by_its_field(call, emulator, field, value) -> None:
    refused = call("nyx", "POST", "/v1/nyx/targets", json={**TARGET, field: value})
    assert (refused.status_code, refused.json()["detail"][0]["loc"]) == (422, ["body", field])
    assert call("nyx", "GET", "/v1/nyx/targets").json() == []


def test_targets_go_with_a_reset_and_move_no_id_of_a_run(call, emulator) -> None:
    alone = emulator.create_run("nyx")
    emulator.reset()
    first = call("nyx", "POST", "/v1/nyx/targets", json=TARGET).json()["id"]
    assert emulator.create_run("nyx") == alone
    emulator.reset()
    assert call("nyx", "GET", "/v1/nyx/targets").json() == []
    assert call("nyx", "POST", "/v1/nyx/targets", json=TARGET).json()["id"] == first


def test_a_token_says_whose_it_is(call, emulator) -> None:
    shown = call("nyx", "GET", "/v1/verify/token-validation", key="nyx_x").json()
    assert set(shown) == {"userId", "email", "username", "beta", "skillCreated", "token"}
    assert call("nyx", "GET", "/v1/verify/token-validation", key="invalid-x").status_code == 401
