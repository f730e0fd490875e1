"""What an emulated run spends follows from its budget, and a share of another field can be scripted."""

from __future__ import annotations

from typing import Any

import pytest

from tests.services import CALLS

BUDGETS = [0.005, 0.07, 1, 3, 12.34, 1_000_000]


def spends(call, emulator, budget: float, script: str) -> list[float]:
    emulator.hold(provider="nyx")
    body = {**CALLS["nyx"], "budget_usd": budget, "hints": [f"emulator:script={script}", "emulator:seconds=10"]}
    run_id = call("nyx", "POST", "/v1/nyx/runs", json=body).json()["run_id"]
    seen = [call.read("nyx", run_id).json()]
    for _ in range(10):
        emulator.advance(1, run_id=run_id)
        seen.append(call.read("nyx", run_id).json())
    assert {page["budget_usd"] for page in seen} == {budget}
    if seen[-1]["result"] == "exhausted":
        assert [page["spent_usd"] >= budget for page in seen] == [page["result"] == "exhausted" for page in seen]
    return [page["spent_usd"] for page in seen]


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("script", ["exhausted", "exhausted_failed", "spends"])
def test_a_run_is_exhausted_when_its_spend_reaches_its_budget(call, emulator, budget, script) -> None:
    spent = spends(call, emulator, budget, script)
    assert spent == sorted(spent)
    assert spent[-1] == budget


@pytest.mark.parametrize("script", ["succeeded", "failed", "cancelled", "running", "forever"])
def test_a_run_that_is_not_exhausted_spends_the_same_share_of_any_budget(call, emulator, script) -> None:
    of_one = spends(call, emulator, 1, script)
    emulator.reset()
    of_twenty = spends(call, emulator, 20, script)
    assert of_twenty == pytest.approx([20 * spent for spent in of_one])
    assert max(of_one) < 1


def test_the_amounts_of_a_budget_of_five_dollars_are_those_of_the_vendors_page(call, emulator) -> None:
    assert {0.41, 1.23, 2.87} <= set(spends(call, emulator, 5, "succeeded"))


def test_a_share_of_any_field_can_be_scripted(call, emulator) -> None:
    steps: list[Any] = [
        {"set": {"status": "running", "spent_usd": {"$share": 0.5, "of": "budget_usd"}}},
        {"after": 1, "set": {"budget_usd": 8.0}},
        {"after": 1, "set": {"spent_usd": {"$share": 0.25, "of": "budget_usd"}}},
    ]
    made = call.control("POST", "/runs", json={"provider": "nyx", "script": steps, "held": True})
    run_id = made.json()["run_id"]
    seen = []
    for _ in range(3):
        seen.append(call.read("nyx", run_id).json()["spent_usd"])
        emulator.advance(1, run_id=run_id)
    assert seen == [2.5, 2.5, 2.0]


def test_a_share_of_what_is_no_number_is_nothing(call, emulator) -> None:
    for of in ("name", "nowhere", "result"):
        steps: list[Any] = [{"set": {"spent_usd": {"$share": 0.5, "of": of}}}]
        assert call.read("nyx", emulator.create_run("nyx", script=steps)).json()["spent_usd"] == 0.0


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"$share": 0.5}, "spent_usd is a share such as"),
        ({"$share": 0.5, "of": "budget_usd", "more": 1}, "spent_usd is a share such as"),
        ({"$share": "half", "of": "budget_usd"}, "spent_usd.$share is a number"),
        ({"$share": -1, "of": "budget_usd"}, "spent_usd.$share is a number"),
        ({"$share": True, "of": "budget_usd"}, "spent_usd.$share is a number"),
        ({"$share": 0.5, "of": ""}, "spent_usd.of is a text"),
    ],
)
def test_a_share_that_makes_no_sense_is_refused_by_its_field(call, emulator, value, problem) -> None:
    body = {"provider": "nyx", "script": [{"set": {"spent_usd": value}}]}
    refused = call.control("POST", "/runs", json=body)
    assert (refused.status_code, problem in refused.json()["error"]) == (400, True), refused.text
    assert emulator.runs() == []
