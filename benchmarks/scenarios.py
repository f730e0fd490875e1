"""What is measured: each claim is a scenario with a name."""

from __future__ import annotations

from typing import Any

from benchmarks.waits import Scenario

SIZES = (100, 1_000, 5_000, 10_000)
PEERS = ("databricks", "dbt-cloud", "http-sensor", "http-event")
MINUTE = 60.0


def all_scenarios() -> dict[str, Scenario]:
    """Every scenario by name."""
    found: list[Scenario] = []
    for waits in SIZES:
        found += [
            Scenario(f"nothing-{waits}", waits, "nothing", seconds=21.0, watch_lag=False),
            Scenario(f"runops-{waits}", waits),
            Scenario(f"set-{waits}", waits, "runops-set"),
            Scenario(f"plain-httpx-{waits}", waits, lean=False),
            Scenario(f"latency-{waits}", waits, server={"latency": 0.1}),
        ]
        # With 10,000 waits the peers need several minutes of a whole core.
        found += [Scenario(f"{peer}-{waits}", waits, peer) for peer in PEERS if waits <= 5_000]
        found += [
            Scenario(f"list-{provider}-{waits}", waits, provider=provider)
            for provider in ("b3os", "nyx", "onepin", "nekt")
        ]
    found += busy()
    found += [
        # Between two polls nothing should happen: the first round is over after a minute and a half.
        Scenario(
            "idle-10000",
            10_000,
            cadence=300.0,
            server={"run_seconds": (3600, 7200)},
            seconds=150.0,
            measure_from=90.0,
            watch_lag=False,
        ),
        limited("limited-declared", 10_000, 1_000, client={"requests_per_minute": 1_000}),
        limited("limited-learnt", 10_000, 1_000),
        # The same arithmetic in less time: a tenth of the waits on a tenth of the limit.
        limited("limited-declared-1000", 1_000, 100, client={"requests_per_minute": 100}),
        Scenario(
            "held-back",
            1_000,
            keys=2,
            server={"run_seconds": (20, 150), "limited": {"key-0": (30.0, 90.0)}},
        ),
        Scenario(
            "host-down",
            1_000,
            keys=2,
            places=2,
            server={"run_seconds": (20, 150), "down": (30.0, 90.0)},
        ),
        Scenario(
            "faults",
            1_000,
            server={
                "run_seconds": (20, 600),
                "faults": {"error": 0.10, "reset": 0.05, "cut": 0.02, "hang": 0.01},
            },
        ),
        Scenario(
            "faults-short",
            1_000,
            server={"run_seconds": (20, 60), "faults": {"error": 0.10, "reset": 0.05, "cut": 0.02, "hang": 0.01}},
        ),
        Scenario(
            "soak",
            100_000,
            cadence=1.0,
            server={"run_seconds": (0.5, 2.0), "rolling": True},
            at_once=2_000,
        ),
    ]
    return {scenario.name: scenario for scenario in found}


def limited(name: str, waits: int, per_minute: int, **settings: Any) -> Scenario:
    """Waits on a key that allows less than they want."""
    return Scenario(name, waits, server={"per_minute": per_minute}, **settings)


def busy() -> list[Scenario]:
    """All waits on a core that another process uses as well, and a loop that only measures how late it is."""
    whose = (("empty", 1, "nothing"), ("runops", 5_000, "runops"), ("runops", 10_000, "runops"))
    peers = (("databricks", 5_000, "databricks"), ("dbt-cloud", 5_000, "dbt-cloud"))
    scenarios = [
        Scenario(f"busy-{name}-{waits}", waits, what, busy=True, **BUSY) for name, waits, what in whose + peers
    ]
    slow = {**BUSY, "server": {**BUSY["server"], "latency": 0.1}}
    return [*scenarios, Scenario("busy-latency-5000", 5_000, busy=True, **slow)]


BUSY: dict[str, Any] = {"server": {"run_seconds": (3600, 7200)}, "seconds": 20.0}
USUAL = (
    "nothing-10000",
    "runops-100",
    "runops-1000",
    "runops-5000",
    "runops-10000",
    "databricks-5000",
    "dbt-cloud-5000",
    "http-event-1000",
    "latency-5000",
    "list-b3os-1000",
    "list-nyx-1000",
    "list-nyx-10000",
)
"""What runs without a name: under 15 minutes on two cores."""
