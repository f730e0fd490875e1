"""A limit that holds over processes, with real ones: a loop of many waits and steps beside it, and Redis killed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from runops.emulator.server import running
from tests import redis_server
from tests.limited import Limited, longest_gap, most_within
from tests.redis_server import RedisServer

LIMIT = 600


@pytest.mark.http
@pytest.mark.slow
def test_real_processes_keep_to_one_limit_and_no_wait_ends_while_redis_is_killed(tmp_path: Path) -> None:
    with (
        running() as server,
        RedisServer(redis_server.program()) as redis,
        Limited(server, redis, tmp_path, limit=LIMIT, loops=(2, 60), steps=4, intervals=(2.0, 2.0)) as limited,
    ):
        deadline = time.monotonic() + 60
        while not limited.all_have_begun():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        begun = time.time()
        time.sleep(6)
        redis.kill()
        lost = time.time()
        time.sleep(2)
        redis.start()
        # Every process has asked again by now, and they share the limit since a while.
        time.sleep(22)
        end = time.time()
        requests = limited.requests()
        assert limited.ended_before_they_were_told() == []
        assert limited.said("cannot be used") == limited.said("is back: all") >= 2, [
            limited.log(name) for name in limited.processes
        ]
    moments = [entry["time"] for entry in requests]
    # As evenly as a limit of a minute asks for, in each 15 s of it; half a second may be late.
    assert most_within(15.0, moments) <= 1.02 * LIMIT / 4 + 5
    assert sum(end - 6 < moment < end for moment in moments) >= 0.8 * LIMIT / 10
    seen = limited.moments(requests, begun, lost)
    assert len(seen) == 6
    assert max(longest_gap(each, begun, lost) for each in seen.values()) < 5
