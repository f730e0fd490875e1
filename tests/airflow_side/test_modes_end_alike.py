"""Whatever a service does, a sensor ends alike in all three modes: verdict, XComs and exception."""

from __future__ import annotations

import random
from typing import Any

import pytest

pytestmark = pytest.mark.promise("every mode ends alike, with the same result")

SEEDS = range(60)
FAULTS: tuple[dict[str, Any], ...] = (
    {"kind": "status", "status": 500},
    {"kind": "status", "status": 502},
    {"kind": "status", "status": 429, "retry_after": 20},
    {"kind": "reset"},
    {"kind": "half_body"},
    {"kind": "html"},
    {"kind": "json", "body": []},
    {"kind": "empty"},
    {"kind": "redirect", "location": "https://elsewhere.example.com/"},
    {"kind": "status", "status": 404},
)
PHASES: dict[str, tuple[dict[str, Any], ...]] = {
    "nexio": ({"status": "queued"}, {"status": "processing"}),
    "nyx": ({"status": "queued"}, {"status": "running"}, {"status": "running", "spent_usd": 1.5}),
    "onepin": ({"status": "pending"}, {"status": "running", "paused_at": None}, {"status": "paused"}),
    "b3os": ({"status": "running"}, {"status": "waiting"}),
    "nekt": ({"status": "pending_events"}, {"status": "queued"}, {"status": "running"}, {"status": "cancelling"}),
}
END = {
    "nexio": "completed_at",
    "nyx": "completed_at",
    "onepin": "completed_at",
    "b3os": "finishedAt",
    "nekt": "ended_at",
}
ENDS: dict[str, tuple[dict[str, Any], ...]] = {
    "nexio": ({"status": "completed"}, {"status": "degraded"}, {"status": "failed"}, {"status": "archived"}),
    "nyx": (
        {"status": "completed", "result": "success"},
        {"status": "completed", "result": "exhausted"},
        {"status": "failed", "result": "exhausted"},
        {"status": "failed", "result": "success"},
        {"status": "cancelled", "result": "success"},
        {"status": "completed", "result": None},
        {"status": "completed", "result": "maybe"},
    ),
    "onepin": ({"status": "completed"}, {"status": "failed", "error": "A node failed"}, {"status": "cancelled"}),
    "b3os": ({"status": "success"}, {"status": "failure"}, {"status": "cancelled"}),
    "nekt": ({"status": "success"}, {"status": "failed"}, {"status": "canceled"}, {"status": "melted"}),
}
MODES: dict[str, dict[str, Any]] = {
    "poke": {"deferrable": False},
    "reschedule": {"deferrable": False, "mode": "reschedule"},
    "deferrable": {"deferrable": True},
}


def story(seed: int) -> dict[str, Any]:
    """A run's phases, how it ends if it does, the bad answers in between, and what the sensor is told about it."""
    draw = random.Random(seed)
    provider = draw.choice(sorted(PHASES))
    steps = [{"after": 0, "set": PHASES[provider][0]}]
    steps += [
        {"after": draw.choice((3, 8, 30, 90, 200)), "set": draw.choice(PHASES[provider])}
        for _ in range(draw.randint(0, 4))
    ]
    ends = draw.random() < 0.85
    if ends:
        end = {END[provider]: "$now", **draw.choice(ENDS[provider])}
        steps.append({"after": draw.choice((0, 4, 40, 150)), "set": end})
    options: dict[str, Any] = {
        "soft_fail": draw.random() < 0.4,
        "timeout": 1200,
        "on_outcome": draw.choice((None, {"degraded": "warn"}, {"failed": "skip"}, {"cancelled": "warn"})),
    }
    if draw.random() < 0.3:
        options["never_fail"], options["soft_fail"] = True, False
    if draw.random() < 0.3 and not ends:
        options["max_paused"] = 400
    bad = draw.sample(FAULTS, draw.randint(0, 3))
    # Reads that fail from the beginning on are no news of the run, and a 404 then ends the wait soon.
    faults = [{**fault, "skip": draw.randint(1, 6), "count": draw.randint(1, 3)} for fault in bad]
    return {"provider": provider, "steps": steps, "options": options, "faults": faults}


def ended(host: Any, sensors: Any, told: dict[str, Any], mode: dict[str, Any], run_id: str) -> dict[str, Any]:
    """How a sensor ends, without what the moment of its looks decides."""
    host.emulator.reset()
    host.clock.now = host.clock.began
    provider = told["provider"]
    run = host.made(provider, script=told["steps"], run_id=run_id)
    for fault in told["faults"]:
        host.emulator.add_fault(provider=provider, action="get", **fault)
    task = sensors[provider](task_id="w", **run, **told["options"], **mode)
    end = host.run(task)
    result = end.xcoms.get("run")
    return {
        "exception": type(end.error).__name__,
        "told": None if end.error is None or result is None else str(end.error).partition(";")[0],
        "returned": end.result,
        "xcoms": sorted(end.xcoms),
        "run": result,
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_all_three_modes_end_alike_whatever_the_service_does(host: Any, sensors: Any, seed: int) -> None:
    told = story(seed)
    run_id = f"00000000-0000-4000-8000-{seed:012d}"
    ends = {name: ended(host, sensors, told, mode, run_id) for name, mode in MODES.items()}
    first = ends["poke"]
    for name, end in ends.items():
        assert end == first, (name, told)


def test_the_stories_hold_every_kind_of_end() -> None:
    stories = [story(seed) for seed in SEEDS]
    assert {told["provider"] for told in stories} == set(PHASES)
    assert sum(bool(told["faults"]) for told in stories) > 20
    lasting = [told for told in stories if not set(END.values()) & set(told["steps"][-1]["set"])]
    assert len(lasting) >= 3
    assert any("max_paused" in told["options"] for told in lasting)
