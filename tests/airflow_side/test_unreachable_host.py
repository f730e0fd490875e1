"""A service that cannot be reached ends a wait with a failure that says where to look."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def closed_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_host_that_cannot_be_reached_fails_under_soft_fail_and_says_what_to_check(
    host: Any, sensors: dict[str, Any], mode: dict[str, Any], connect: Callable[..., None], closed_port: int
) -> None:
    from runops.airflow.exceptions import PollingError

    connect("nekt_away", "nekt", host=f"http://127.0.0.1:{closed_port}")
    task = sensors["nekt"](
        task_id="a_task", run_id="a-run", nekt_conn_id="nekt_away", error_budget=12, soft_fail=True, **mode
    )
    ended = host.run(task)
    assert type(ended.error) is PollingError
    assert "Check the base URL (the host), and whether this machine can reach it." in str(ended.error)
    assert f"Nekt at 127.0.0.1:{closed_port} (connection 'nekt_away'): connection refused" in str(ended.error)
    assert "neither cancelled nor submitted again" in str(ended.error)
