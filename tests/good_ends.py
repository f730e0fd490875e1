"""What users may say of a good end, as one table of cases: a run of the emulator, what is said, and how it must end.

Each side runs the same table in all its ways to wait. Data only; seconds are those of a run that takes :data:`SECONDS`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

SECONDS = 40.0
"""How long a run takes that ends by itself."""
LIMIT = 20.0
"""Seconds that a run may stand still, in the cases of ``max_stalled``."""
NOW = "$now"


@dataclass(frozen=True, kw_only=True)
class Service:
    """What the cases need of one service.

    Args:
        running: Wire fields of a run that goes on, so that it spends what the limit allows.
        ended: Wire fields of a run that has succeeded.
        word: A word that no documentation has, as ``states`` spells it, and the wire fields of a run that ends in it.
        met: What a succeeded run meets.
        unmet: What it does not meet, and what is found instead.
        missing: A detail that a run may lack.
        spend: A limit that a running one reaches; None where runs do not say what they spend.
        options: Further arguments of ``create_run``.
    """

    running: Mapping[str, Any]
    ended: Mapping[str, Any]
    word: tuple[str, Mapping[str, Any]]
    met: Mapping[str, Any]
    unmet: Mapping[str, tuple[Any, Any]]
    missing: str
    spend: float | None
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def state(self) -> str:
        """The word of a run that has succeeded."""
        return self.ended["status"]


SERVICES: dict[str, Service] = {
    "nexio": Service(
        running={"status": "processing", "stage": "FILTER"},
        ended={"status": "completed", "stage": "DECIDE", "duration_ms": 1840, "completed_at": NOW},
        word=("partial", {"status": "Partial", "completed_at": NOW}),
        met={"duration_ms": "<= 2000", "stage": ["DECIDE", "EVALUATE"]},
        unmet={"duration_ms": ("< 1000", 1840)},
        missing="engine_version",
        spend=None,
    ),
    "nyx": Service(
        running={"status": "running", "spent_usd": 2.5, "attempts_completed": 7},
        ended={
            "status": "completed",
            "result": "success",
            "spent_usd": 2.5,
            "attempts_completed": 14,
            "findings_count": 1,
            "completed_at": NOW,
        },
        word=("completed+partial", {"status": "completed", "result": "partial", "completed_at": NOW}),
        met={"attempts_completed": ">= 1", "findings_count": "!= 0"},
        unmet={"findings_count": (0, 1)},
        missing="findings_count",
        spend=2.5,
    ),
    "onepin": Service(
        running={"status": "running", "token_cost": 350, "finished_nodes": 3},
        ended={"status": "completed", "token_cost": 350, "finished_nodes": 15, "has_export": True, "completed_at": NOW},
        word=("archived", {"status": "archived", "completed_at": NOW}),
        met={"has_export": True, "token_cost": "< 1000"},
        unmet={"finished_nodes": (">= 16", 15)},
        missing="paused_ms",
        spend=300,
    ),
    "b3os": Service(
        running={"status": "running", "totalCu": 3.0},
        ended={"status": "success", "totalCu": 3.0, "finishedAt": NOW},
        word=("partial", {"status": "partial", "finishedAt": NOW}),
        met={"totalCu": "> 0", "isDustTest": False},
        unmet={"totalCu": ("<= 1.5", 3.0)},
        missing="sourceRunId",
        spend=2,
    ),
    "nekt": Service(
        running={"status": "running", "started_at": NOW, "el_cost_usd": "0.40", "transformation_cost_usd": "0.20"},
        ended={
            "status": "success",
            "el_cost_usd": "0.40",
            "transformation_cost_usd": "0.20",
            "duration_seconds": 40,
            "ended_at": NOW,
        },
        word=("compacted", {"status": "compacted", "ended_at": NOW}),
        met={"duration_seconds": ">= 40", "el_cost_usd": 0.4},
        unmet={"duration_seconds": ("> 3600", 40)},
        missing="credit_charge_status",
        spend=0.5,
        options={"shape": "flat"},
    ),
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One case.

    Args:
        provider: The service.
        name: What it is about.
        steps: What happens to the run: seconds from its creation, and the wire fields then.
        settings: What a user says.
        outcome, verdict, ended_by: How it must end.
        unmet: What must be found instead, by the name of the detail.
        options: Further arguments of ``create_run``.
    """

    provider: str
    name: str
    steps: tuple[tuple[float, Mapping[str, Any]], ...]
    settings: Mapping[str, Any]
    outcome: str
    verdict: str
    ended_by: str | None = None
    unmet: Mapping[str, Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __str__(self) -> str:
        return f"{self.provider}-{self.name}"

    def run(self, unit: float = 1.0) -> dict[str, Any]:
        """Arguments of ``create_run``.

        Args:
            unit: What a second of the table is.
        """
        script = [{"at": at * unit, "set": dict(fields)} for at, fields in self.steps]
        return {"script": script, **self.options}

    def said(self, unit: float = 1.0) -> dict[str, Any]:
        """What a user says, its seconds in another unit."""
        clocks = {"max_stalled", "max_paused"}
        return {name: value * unit if name in clocks else value for name, value in self.settings.items()}


def _of(provider: str, service: Service) -> Iterator[Case]:
    begins: tuple[tuple[float, Mapping[str, Any]], ...] = ((0.0, service.running),)
    ends = (*begins, (SECONDS, service.ended))
    word, fields = service.word
    taught = (*begins, (SECONDS, fields))

    def case(name: str, steps: Any, settings: Mapping[str, Any], *ended: Any, **more: Any) -> Case:
        outcome, verdict = ended
        return Case(
            provider=provider,
            name=name,
            steps=steps,
            settings=settings,
            outcome=outcome,
            verdict=verdict,
            options=service.options,
            **more,
        )

    yield case("taught_end", taught, {"states": {word: "degraded"}}, "degraded", "skip")
    yield case("taught_success", taught, {"states": {word.upper(): "succeeded"}}, "succeeded", "succeed")
    phase = (*begins, (5.0, {"status": "reviewing"}))
    yield case(
        "taught_phase",
        phase,
        {"states": {"reviewing": "waiting"}, "max_paused": LIMIT},
        "timed_out",
        "fail",
        ended_by="max_paused",
    )
    yield case("met", ends, {"expect": service.met}, "succeeded", "succeed")
    expect = {name: wanted for name, (wanted, _) in service.unmet.items()}
    found = {name: value for name, (_, value) in service.unmet.items()}
    yield case("unmet", ends, {"expect": expect}, "succeeded", "fail", unmet=found)
    yield case("unmet_skip", ends, {"expect": expect, "on_unmet": "skip"}, "succeeded", "skip", unmet=found)
    yield case("unmet_warn", ends, {"expect": expect, "on_unmet": "warn"}, "succeeded", "warn", unmet=found)
    without = (*begins, (SECONDS, {**service.ended, service.missing: None}))
    missing = {service.missing: ["0", "1"]}
    yield case("missing", without, {"expect": missing}, "succeeded", "fail", unmet={service.missing: None})
    yield case("stalled", begins, {"max_stalled": LIMIT}, "timed_out", "fail", ended_by="max_stalled")
    yield case("not_stalled", ends, {"max_stalled": SECONDS * 2}, "succeeded", "succeed")
    if service.spend is not None:
        spend = {"max_spend": service.spend}
        yield case("spent", begins, spend, "timed_out", "fail", ended_by="max_spend")
        yield case("not_spent", ends, {"max_spend": service.spend * 100}, "succeeded", "succeed")
        yield case("spent_but_over", ((0.0, service.ended),), spend, "succeeded", "succeed")


CASES: tuple[Case, ...] = tuple(case for name, service in SERVICES.items() for case in _of(name, service))

WRONG: tuple[tuple[str, dict[str, Any], tuple[str, ...]], ...] = (
    ("nexio", {"states": {"completed": "degraded"}}, ("states['completed']", "means succeeded")),
    ("nexio", {"states": {"partial": "degradet"}}, ("states['partial']='degradet'", "Did you mean 'degraded'?")),
    ("nexio", {"states": {"partial": "timed_out"}}, ("states['partial']='timed_out'", "succeeded")),
    ("nyx", {"states": {"completed+success": "failed"}}, ("states['completed+success']", "means succeeded")),
    ("nyx", {"states": {"Running": "waiting"}}, ("states['Running']", "means running")),
    ("nyx", {"expect": {"finding_count": 0}}, ("expect['finding_count']", "Did you mean 'findings_count'?")),
    ("nyx", {"expect": {"findings_count": "=> 1"}}, ("expect['findings_count']='=> 1'", ">=")),
    ("nyx", {"expect": {"findings_count": "none"}}, ("expect['findings_count']='none'", "a number")),
    ("onepin", {"expect": {"pause_reason": "> 1"}}, ("expect['pause_reason']='> 1'", "no number")),
    ("b3os", {"on_unmet": "skipp"}, ("on_unmet", "'skipp'", "Did you mean 'skip'?")),
    ("nekt", {"max_stalled": 0}, ("max_stalled", "0")),
    ("nekt", {"max_spend": "much"}, ("max_spend", "'much'")),
    ("nexio", {"max_spend": 5}, ("max_spend=5", "Nexio does not show what its runs spend")),
)
"""What must be refused when a DAG or definition is built: provider, settings, and what the text must name."""
