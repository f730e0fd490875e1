"""Three triggerers' loops and fifty Dagster steps on one key, in processes of their own, and a Redis that is killed."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from runops.emulator.server import running
from tests import redis_server
from tests.dagster_host.conftest import until
from tests.limited import Limited, longest_gap, most_within
from tests.redis_server import RedisServer

LIMIT, LOOPS, STEPS = 1000, (3, 400), 50
STEADY, DOWN, AFTER = 65.0, 10.0, 70.0
"""Seconds: whole minutes before and after the store is lost, each with all processes at work."""


@pytest.mark.slow
@pytest.mark.parametrize("steps", ["dagster", "plain"])
def test_no_minute_has_more_than_the_limit_and_nobody_starves_and_no_wait_ends_while_redis_is_killed(
    tmp_path: Path, steps: str
) -> None:
    light = steps == "plain"
    with (
        running() as server,
        RedisServer(redis_server.program(install=True)) as redis,
        Limited(
            server, redis, tmp_path, limit=LIMIT, loops=LOOPS, steps=STEPS, intervals=(15.0, 5.0), light=light
        ) as limited,
    ):
        if not light:
            (tmp_path / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
            code = "from tests.dagster_host.limited_job import main; main()"
            limited.start("job", ["-c", code], DAGSTER_HOME=str(tmp_path))
        until(limited.all_have_begun, "every process has looked once", 200)
        begun = time.time()
        time.sleep(STEADY)
        redis.kill()
        lost = time.time()
        time.sleep(DOWN)
        redis.start()
        time.sleep(AFTER)
        end = time.time()
        requests = limited.requests()
        assert all(each.poll() is None for each in limited.processes.values())
        if not light:
            limited.let_steps_end()
        assert limited.ended_before_they_were_told() == []
        if not light:
            limited.processes["job"].wait(120)
            assert "ENDED True" in limited.log("job"), limited.log("job")[-3000:]
        figures = figures_of(limited, requests, begun, lost, end)
    print(json.dumps({"steps": steps, **figures}))
    assert figures["most in any minute"] <= 1.02 * LIMIT
    # The limit is used, before and after.
    assert figures["in the minute before the loss"] >= 0.85 * LIMIT
    assert figures["in the last minute"] >= 0.85 * LIMIT
    # Nobody starves: a step that would look every 5 s waits for a place behind one round of all others.
    assert figures["processes"] == LOOPS[0] + STEPS
    assert figures["longest gap of a step"] < 20
    assert figures["longest gap over the loss"] < 45
    assert min(figures["each loop"]) > 0.5 * max(figures["each loop"])


def figures_of(limited: Limited, requests: list[dict], begun: float, lost: float, end: float) -> dict:
    """What the emulator's log says."""
    moments = [entry["time"] for entry in requests]
    steady, later = limited.moments(requests, begun, lost), limited.moments(requests, lost, end)
    gaps = {name: longest_gap(seen, begun, lost) for name, seen in steady.items()}
    counts = {name: len(seen) for name, seen in steady.items()}
    of_steps = [counts[name] for name in limited.steps]
    return {
        "processes": len(steady.keys() & later.keys()),
        "requests": len(moments),
        "most in any minute": most_within(60.0, moments),
        "in the minute before the loss": sum(lost - 60 < moment < lost for moment in moments),
        "in the last minute": sum(end - 60 < moment < end for moment in moments),
        "longest gap of a step": round(max(gaps[name] for name in limited.steps), 1),
        "longest gap of a loop": round(max(gaps[name] for name in limited.loops), 1),
        "longest gap over the loss": round(max(longest_gap(seen, lost, end) for seen in later.values()), 1),
        "each loop": [counts[name] for name in limited.loops],
        "fewest and most of a step": [min(of_steps), max(of_steps)],
        "said lost": limited.said("cannot be used"),
        "said back": limited.said("is back: all"),
    }
