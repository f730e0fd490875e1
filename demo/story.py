"""What the demo promises: every run, how it goes, and what both hosts make of it. The only place that says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from runops.core import NYX_AUDIT

NOTHING = "-"
"""What a cell holds where there is nothing to tell."""

MATERIALIZED = "materialized"
MATERIALIZED_WITH_WARNING = "materialized, check warns"
SKIPPED = "skipped, check warns"
FAILED = "step failed"
NOT_RUN = "not started"
FAILED_CHECK = "check fails and blocks"
REPORTED = "reported, materialized"
REPORTED_WITH_ERROR = "reported, check fails"

AUDIT: Mapping[str, Any] = {
    "name": "Audit of the demo",
    "target": {"url": "https://agent.example.com/chat"},
    "objective": "Make the agent reveal another customer's data",
    "budget_usd": 5,
    "severity_target": "high",
}


@dataclass(frozen=True)
class Row:
    """One line of the table: a run and what became of it."""

    provider: str
    run: str
    word: str
    outcome: str
    verdict: str
    airflow: str
    dagster: str


COLUMNS: Mapping[str, str] = {
    "provider": "provider",
    "run": "run",
    "word": "provider's word",
    "outcome": "outcome",
    "verdict": "verdict",
    "airflow": "Airflow task",
    "dagster": "Dagster result",
}
"""The titles of a row's cells."""


Host = Literal["airflow", "dagster"]


@dataclass(frozen=True, kw_only=True)
class Promise:
    """One run of the story and the row that it must lead to. Each host makes or meets a run of its own.

    Args:
        key: Its name; the ids of its parents in the emulator begin with it.
        provider: The provider's name.
        run: What it is, for people.
        task: Where it is in Airflow: a key of :data:`DAG_RUNS`, and a task.
        asset: Where it is in Dagster: a key of :data:`DAGSTER_RUNS`, and an asset.
        script: How the run goes, in the emulator's words; None where no run may come to be.
        seconds: How long it takes.
        given: Whether the run is there before a host looks, because no task starts it.
        parent_kind: What the emulator calls the run's parent.
        on_outcome: The verdicts asked for where they are not the default ones.
        clocks: Arguments of a wait in Dagster that end it early.
        word: The provider's word when all is over; for Nyx with its result.
        seen: The word that the wait saw last, where a cancel has changed it since.
        outcome: How runops says it ended.
        verdict: What runops did about it.
        airflow: The state of the task.
        dagster: What Dagster's event log shows.
    """

    key: str
    provider: str
    run: str
    task: tuple[str, str]
    asset: tuple[str, str]
    script: str | None
    seconds: float = 1.5
    given: bool = False
    parent_kind: str
    on_outcome: Mapping[str, str] = field(default_factory=dict)
    clocks: Mapping[str, float] = field(default_factory=dict)
    word: str
    seen: str | None = None
    outcome: str
    verdict: str
    airflow: str
    dagster: str

    @property
    def row(self) -> Row:
        """The row that must come out."""
        return Row(self.provider, self.run, self.word, self.outcome, self.verdict, self.airflow, self.dagster)

    def parent(self, host: Host) -> str:
        """The id of the parent under which a host's run is kept."""
        return f"{self.key}-{host}"

    def arguments(self, host: Host) -> dict[str, Any]:
        """What a host submits, by the names of the operator's arguments; empty for a run that is given.

        The emulator reads its marks in it; for a real service they are input like any other.
        """
        if self.given:
            return {}
        plan = {"script": self.script or "succeeded", "seconds": self.seconds}
        parent = {self.parent_kind: self.parent(host)}
        match self.provider:
            case "nexio":
                return {**parent, "input": {"company": "Example Bakery", "emulator": plan}}
            case "nyx":
                return {**parent, **AUDIT, "hints": [f"emulator:{name}={value}" for name, value in plan.items()]}
            case "onepin":
                return {**parent, "script_text": f"emulator:{plan['script']} seconds={plan['seconds']}"}
            case "b3os":
                return {**parent, "payload": {"amount": 10, "emulator": plan}}
            case _:
                raise ValueError(f"{self.provider} documents no submit")


def _nexio(key: str, run: str, **promise: Any) -> Promise:
    return Promise(key=key, provider="nexio", run=run, parent_kind="engine_slug", **promise)


def _nyx(key: str, run: str, **promise: Any) -> Promise:
    return Promise(key=key, provider="nyx", run=run, parent_kind="config_name", **promise)


def _onepin(key: str, run: str, **promise: Any) -> Promise:
    return Promise(key=key, provider="onepin", run=run, parent_kind="workflow_id", **promise)


def _b3os(key: str, run: str, **promise: Any) -> Promise:
    return Promise(key=key, provider="b3os", run=run, parent_kind="workflow_id", **promise)


def _nekt(key: str, run: str, *, parent_kind: str = "pipeline", **promise: Any) -> Promise:
    return Promise(key=key, provider="nekt", run=run, parent_kind=parent_kind, given=True, **promise)


_GOOD = {"outcome": "succeeded", "verdict": "succeed", "airflow": "success", "dagster": MATERIALIZED}
_FAIL = {"verdict": "fail", "airflow": "failed", "dagster": FAILED}
_SKIP = {"verdict": "skip", "airflow": "skipped", "dagster": SKIPPED}
_NOT_RUN = {"script": None, "word": NOTHING, "outcome": NOTHING, "verdict": NOTHING, "dagster": NOT_RUN}

PROMISES: tuple[Promise, ...] = (
    # A release that goes out.
    _nekt("orders-come", "orders for the release", task=("release-out", "orders"), asset=("release-out", "orders"),
          script="succeeded", word="success", **_GOOD),
    _nexio("rate-all", "rates for the release", task=("release-out", "rate"), asset=("release-out", "rate"),
           script="succeeded", word="completed", **_GOOD),
    _nyx("gate-open", "gate: nothing found", task=("release-out", "gate"), asset=("release-out", "gate"),
         script="exhausted", word="completed, exhausted", outcome="exhausted", verdict="succeed", airflow="success",
         dagster=MATERIALIZED),
    _b3os("payout-made", "payout of the release", task=("release-out", "pay_out"), asset=("release-out", "pay_out"),
          script="succeeded", word="success", **_GOOD),
    _onepin("voice-spoken", "announcement of the release", task=("release-out", "announce"),
            asset=("release-out", "announce"), script="succeeded", word="completed", **_GOOD),
    # A release that the gate stops, and whose rates came only in part.
    _nekt("orders-come-flat", "orders, newer shape", task=("release-stopped", "orders"),
          asset=("release-stopped", "orders"), parent_kind="source", script="succeeded", word="success", **_GOOD),
    _nexio("rate-part", "rates, one carrier silent", task=("release-stopped", "rate"),
           asset=("release-stopped", "rate"), script="degraded", word="degraded", outcome="degraded", **_SKIP),
    _nyx("gate-shut", "gate: a finding", task=("release-stopped", "gate"), asset=("release-stopped", "gate"),
         script="succeeded", word="completed, success", outcome="succeeded", **_FAIL),
    _b3os("payout-held", "payout, never started", task=("release-stopped", "pay_out"),
          asset=("release-stopped", "pay_out"), airflow="upstream_failed", **_NOT_RUN),
    _onepin("voice-held", "announcement, never started", task=("release-stopped", "announce"),
            asset=("release-stopped", "announce"), airflow="upstream_failed", **_NOT_RUN),
    # The other ends, provider by provider.
    _nexio("quote-fails", "a quote that fails", task=("nexio-fails", "quote"), asset=("matrix", "quote_fails"),
           script="failed", word="failed", outcome="failed", **_FAIL),
    _nexio("quote-warns", "a partial quote, used", task=("nexio-warns", "evaluate"), asset=("matrix", "quote_warns"),
           script="degraded", word="degraded", outcome="degraded", on_outcome={"degraded": "warn"}, verdict="warn",
           airflow="success", dagster=MATERIALIZED_WITH_WARNING),
    _nexio("quote-hangs", "a quote without end", task=("clocks", "engine_never_ends"), asset=("matrix", "quote_hangs"),
           script="forever", word="processing", outcome="timed_out", clocks={"timeout": 3}, **_FAIL),
    _nyx("audit-finds", "audit: a finding", task=("nyx-finds", "audit"), asset=("matrix", "audit_finds"),
         script="succeeded", on_outcome=NYX_AUDIT, word="completed, success", **_GOOD),
    _nyx("audit-spent", "audit: nothing found", task=("nyx-spent", "audit"), asset=("matrix", "audit_spent"),
         script="exhausted_failed", on_outcome=NYX_AUDIT, word="failed, exhausted", outcome="exhausted", **_SKIP),
    _nyx("audit-fails", "audit that breaks", task=("nyx-fails", "audit"), asset=("matrix", "audit_fails"),
         script="error", on_outcome=NYX_AUDIT, word="completed, error", outcome="failed", **_FAIL),
    _nyx("audit-cancelled", "audit, cancelled", task=("nyx-cancelled", "audit"), asset=("matrix", "audit_cancelled"),
         script="cancelled", on_outcome=NYX_AUDIT, word="cancelled", outcome="cancelled", **_FAIL),
    _nyx("audit-hangs", "audit without end", task=("clocks", "audit_never_ends"), asset=("matrix", "audit_hangs"),
         script="forever", on_outcome=NYX_AUDIT, word="cancelled", seen="running", outcome="timed_out",
         clocks={"timeout": 3}, **_FAIL),
    _onepin("voice-fails", "a voice that is missing", task=("onepin-fails", "speak"), asset=("matrix", "voice_fails"),
            script="failed", word="failed", outcome="failed", **_FAIL),
    _onepin("voice-cancelled", "announcement, cancelled", task=("onepin-cancelled", "speak"),
            asset=("matrix", "voice_cancelled"), script="cancelled", word="cancelled", outcome="cancelled", **_FAIL),
    _onepin("voice-paused", "announcement, left paused", task=("clocks", "voice_is_paused"),
            asset=("matrix", "voice_paused"), script="paused", word="cancelled", seen="paused", outcome="timed_out",
            clocks={"max_paused": 1}, **_FAIL),
    _b3os("payout-fails", "payout without funds", task=("b3os-fails", "pay_out"), asset=("matrix", "payout_fails"),
          script="failed", word="failure", outcome="failed", **_FAIL),
    _b3os("payout-cancelled", "payout, cancelled", task=("b3os-cancelled", "pay_out"),
          asset=("matrix", "payout_cancelled"), script="cancelled", word="cancelled", outcome="cancelled", **_FAIL),
    _b3os("payout-waits", "payout without approval", task=("clocks", "approval_does_not_come"),
          asset=("matrix", "payout_waits"), given=True, script="waiting", word="waiting", outcome="timed_out",
          on_outcome={"timed_out": "skip"}, clocks={"max_paused": 1}, **_SKIP),
    _nekt("load-fails", "load that fails", task=("clocks", "load_fails"), asset=("matrix", "load_fails"),
          script="failed", word="failed", outcome="failed", **_FAIL),
    _nekt("load-canceled", "load, canceled", task=("clocks", "load_is_canceled"), asset=("matrix", "load_canceled"),
          parent_kind="destination", script="cancelled", word="canceled", outcome="cancelled", **_FAIL),
    _nekt("load-late", "load that does not begin", task=("clocks", "load_is_late"), asset=("matrix", "load_late"),
          script="pending_events", word="pending_events", outcome="timed_out", clocks={"timeout": 2}, **_FAIL),
    _nekt("load-soft", "failed load, done without", task=("nekt-soft", "orders"), asset=("matrix", "load_soft"),
          script="failed", word="failed", outcome="failed", on_outcome={"failed": "skip"}, **_SKIP),
)  # fmt: skip
"""All runs, in the order of the table."""


@dataclass(frozen=True)
class DagRun:
    """One run of a DAG.

    Args:
        dag_id: The DAG.
        params: Where the values of its params come from: the key of a promise, and the name of one of its arguments,
            ``run_id`` for a run that is given, or ``*`` for all arguments.
        tasks: The states of the tasks beside those of :data:`PROMISES`.
        xcoms: What tasks must have returned.
    """

    dag_id: str
    params: Mapping[str, tuple[str, str]]
    tasks: Mapping[str, str] = field(default_factory=dict)
    xcoms: Mapping[str, Any] = field(default_factory=dict)


def _release(orders: str, rate: str, gate: str, pay_out: str, announce: str) -> dict[str, tuple[str, str]]:
    return {
        "nekt_run_id": (orders, "run_id"),
        "engine_slug": (rate, "engine_slug"),
        "engine_input": (rate, "input"),
        "config_name": (gate, "config_name"),
        "target": (gate, "target"),
        "hints": (gate, "hints"),
        "payout_workflow_id": (pay_out, "workflow_id"),
        "payload": (pay_out, "payload"),
        "voice_workflow_id": (announce, "workflow_id"),
        "script_text": (announce, "script_text"),
    }


def _same(key: str, *names: str) -> dict[str, tuple[str, str]]:
    return {name: (key, name) for name in names}


RELEASES: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "release-out": _release("orders-come", "rate-all", "gate-open", "payout-made", "voice-spoken"),
    "release-stopped": _release("orders-come-flat", "rate-part", "gate-shut", "payout-held", "voice-held"),
}

_NEXIO = ("engine_slug", "input")
_NYX = ("config_name", "target", "budget_usd", "hints")
_ONEPIN = ("workflow_id", "script_text")
_B3OS = ("workflow_id", "payload")

DAG_RUNS: Mapping[str, DagRun] = {
    "release-out": DagRun(
        "example_release_story",
        RELEASES["release-out"],
        tasks={"rate_by_hand": "skipped", "rated": "success", "report_finding": "skipped"},
    ),
    "release-stopped": DagRun(
        "example_release_story",
        RELEASES["release-stopped"],
        tasks={"rate_by_hand": "success", "rated": "success", "report_finding": "success"},
    ),
    "nexio-fails": DagRun(
        "example_nexio",
        _same("quote-fails", *_NEXIO),
        tasks={"send_offer": "upstream_failed", "ask_underwriter": "skipped"},
    ),
    "nexio-warns": DagRun(
        "example_fetch_result",
        _same("quote-warns", *_NEXIO),
        tasks={"keep_evaluation": "success"},
        xcoms={"keep_evaluation": {"evaluated": 3, "incomplete_because": "one carrier did not answer"}},
    ),
    "nyx-finds": DagRun("example_nyx", _same("audit-finds", *_NYX), tasks={"open_ticket": "success"}),
    "nyx-spent": DagRun("example_nyx", _same("audit-spent", *_NYX), tasks={"open_ticket": "skipped"}),
    "nyx-fails": DagRun("example_nyx", _same("audit-fails", *_NYX), tasks={"open_ticket": "upstream_failed"}),
    "nyx-cancelled": DagRun("example_nyx", _same("audit-cancelled", *_NYX), tasks={"open_ticket": "upstream_failed"}),
    "onepin-fails": DagRun("example_onepin", _same("voice-fails", *_ONEPIN), tasks={"publish": "upstream_failed"}),
    "onepin-cancelled": DagRun(
        "example_onepin", _same("voice-cancelled", *_ONEPIN), tasks={"publish": "upstream_failed"}
    ),
    "b3os-fails": DagRun(
        "example_b3os",
        _same("payout-fails", *_B3OS),
        tasks={"confirm": "upstream_failed", "look_into_it": "success"},
    ),
    "b3os-cancelled": DagRun(
        "example_b3os",
        _same("payout-cancelled", *_B3OS),
        tasks={"confirm": "upstream_failed", "look_into_it": "success"},
    ),
    "nekt-soft": DagRun(
        "example_nekt",
        {"run_id": ("load-soft", "run_id")},
        tasks={"build_report": "skipped", "build_report_on_old_data": "success"},
    ),
    "clocks": DagRun(
        "demo_clocks",
        {
            "nexio": ("quote-hangs", "*"),
            "nyx": ("audit-hangs", "*"),
            "onepin": ("voice-paused", "*"),
            "b3os_run": ("payout-waits", "run_id"),
            "nekt_late": ("load-late", "run_id"),
            "nekt_failed": ("load-fails", "run_id"),
            "nekt_canceled": ("load-canceled", "run_id"),
        },
    ),
}
"""All runs of DAGs by the name that they get in Airflow."""

DAGSTER_RUNS = (*RELEASES, "matrix")
"""The runs in Dagster: the example definitions, once for each release, and the rest of the outcomes."""

GIVEN_RUNS = "RUNOPS_DEMO_RUNS"
"""The environment variable that tells the definitions of ``matrix`` the given runs: a JSON object by promise."""

DAGSTER_STEPS: Mapping[tuple[str, str], str] = {
    ("release-out", "price_list"): MATERIALIZED,
    ("release-stopped", "price_list"): NOT_RUN,
}
"""What becomes of assets beside those of :data:`PROMISES`."""


def find(key: str) -> Promise:
    """A promise by its key."""
    return next(promise for promise in PROMISES if promise.key == key)


def conf(dag_run: str, given: Mapping[str, str], host: Host = "airflow") -> dict[str, Any]:
    """The values of a DAG run's params.

    Args:
        dag_run: A key of :data:`DAG_RUNS`.
        given: The ids of the runs that are given, by promise.
        host: The host whose runs they are.
    """
    values: dict[str, Any] = {}
    for param, (key, name) in DAG_RUNS[dag_run].params.items():
        if name == "run_id":
            values[param] = given[key]
        else:
            found = find(key).arguments(host)
            values[param] = found if name == "*" else found[name]
    return values


def differences(promised: Row, found: Row) -> list[str]:
    """What is wrong with a row, one line for each cell that is not as promised; empty when all is well."""
    return [
        f"{promised.provider}, {promised.run}, {title}: promised {getattr(promised, name)!r}, "
        f"found {getattr(found, name)!r}"
        for name, title in COLUMNS.items()
        if getattr(promised, name) != getattr(found, name)
    ]


def release_config(name: str, given: Mapping[str, str]) -> dict[str, Any]:
    """The run config of the example definitions for one of :data:`RELEASES`.

    Args:
        name: The release.
        given: The ids of the runs that are given, by promise.
    """
    ops: dict[str, Any] = {}
    for promise in PROMISES:
        run, asset = promise.asset
        if run == name:
            config = {"run_id": given[promise.key]} if promise.given else promise.arguments("dagster")
            ops[asset] = {"config": config}
    return {"ops": ops}
