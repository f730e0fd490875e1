"""The example project for Dagster in the demo: what its assets, check, sensors and components must come to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from demo.dagster_host import DagsterRecords, StepResult
from demo.story import (
    FAILED_CHECK,
    MATERIALIZED,
    MATERIALIZED_WITH_WARNING,
    NOTHING,
    REPORTED,
    REPORTED_WITH_ERROR,
    Row,
)
from demo.vendors import word

MODULE = "agent_desk.definitions"
LOCATION = "agent_desk"
AUTOMATION = "automation"
"""The project's sensor for automation conditions."""

DAY = "2026-11-02"
"""The partition of the payout."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run of one of the project's jobs.

    Args:
        partition: The partition that it works on.
        config: Its run config.
    """

    partition: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])


JOBS: Mapping[str, Job] = {
    "regions": Job(
        partition="north",
        config={
            "ops": {
                "quotes": {
                    "config": {
                        "engine_slug": "desk-quotes",
                        "input": {"company": "Example Bakery", "emulator": {"script": "degraded", "seconds": 1.5}},
                    }
                }
            }
        },
    ),
    "release_agent": Job(),
    "pay_out": Job(partition=DAY),
}
"""The jobs that are run, by name; the sensors run by themselves."""


@dataclass(frozen=True, kw_only=True)
class ProjectPromise:
    """One external run that the project deals with, and the row that it must lead to.

    Args:
        provider: The provider's name.
        run: What it is, for people.
        parent: What the emulator calls the run's parent, and its id.
        script: How the run goes, where something else starts it; None where a job of the project does.
        late: Whether it starts only once Dagster looks out for what changes.
        asset: The asset that it feeds or judges.
        job: The job whose run tells of it; None where a sensor does.
        check: The check that judges it, where it judges.
        word: The provider's word when all is over; for Nyx with its result.
        outcome: How runops says it ended.
        verdict: What runops did about it.
        dagster: What Dagster shows.
    """

    provider: str
    run: str
    parent: tuple[str, str]
    script: str | None = None
    late: bool = False
    asset: str
    job: str | None = None
    check: str | None = None
    word: str
    outcome: str
    verdict: str
    dagster: str

    @property
    def row(self) -> Row:
        """The row that must come out."""
        return Row(self.provider, self.run, self.word, self.outcome, self.verdict, NOTHING, self.dagster)


PROJECT_PROMISES: tuple[ProjectPromise, ...] = (
    ProjectPromise(
        provider="nexio", run="quotes of a region", parent=("engine_slug", "desk-quotes"),
        asset="quotes", job="regions",
        word="degraded", outcome="degraded", verdict="warn", dagster=MATERIALIZED_WITH_WARNING,
    ),
    ProjectPromise(
        provider="nyx", run="audit of a region, in YAML", parent=("config_name", "agent-north"),
        asset="security/audit", job="regions",
        word="completed, success", outcome="succeeded", verdict="succeed", dagster=MATERIALIZED,
    ),
    ProjectPromise(
        provider="nyx", run="newest audit, as a check", parent=("config_name", "agent-nightly"), script="succeeded",
        asset="agent", job="release_agent", check="nothing_found",
        word="completed, success", outcome="succeeded", verdict="fail", dagster=FAILED_CHECK,
    ),
    ProjectPromise(
        provider="b3os", run="payout, no worker waits", parent=("workflow_id", "wf_payout"), asset="payouts",
        word="success", outcome="succeeded", verdict="succeed", dagster=REPORTED,
    ),
    ProjectPromise(
        provider="nekt", run="load from elsewhere", parent=("pipeline", "crm-orders"), script="succeeded",
        late=True, asset="crm/orders", word="success", outcome="succeeded", verdict="succeed", dagster=REPORTED,
    ),
    ProjectPromise(
        provider="nekt", run="load from elsewhere, fails", parent=("pipeline", "crm-customers"), script="failed",
        asset="crm/customers", word="failed", outcome="failed", verdict="fail", dagster=REPORTED_WITH_ERROR,
    ),
    ProjectPromise(
        provider="onepin", run="voice from elsewhere, in YAML",
        parent=("workflow_id", "7c9e6679-7425-40de-944b-e07fc1f90ae7"), script="succeeded",
        asset="voices/announcement",
        word="completed", outcome="succeeded", verdict="succeed", dagster=REPORTED,
    ),
)  # fmt: skip
"""All runs of the project, in the order of the table."""

FOLLOWING = "orders_report"
"""The asset that an automation condition makes after a sensor has reported its parent."""


SENSED = (*(promise.asset for promise in PROJECT_PROMISES if promise.job is None), FOLLOWING)
"""The assets of which sensors tell, and what follows them."""


def rows(records: DagsterRecords, runs: Sequence[Mapping[str, Any]]) -> list[Row]:
    """What became of the promises, in their order.

    Args:
        records: What Dagster has recorded.
        runs: All runs of the emulator.
    """
    return [_row(promise, records, runs) for promise in PROJECT_PROMISES]


def other_differences(records: DagsterRecords) -> Iterator[str]:
    """What is wrong beside the rows."""
    if not records.reported(FOLLOWING):
        yield f"{FOLLOWING} was not made after a sensor had reported its parent"
    started = records.steps("release_agent")
    if "agent_release" in started:
        yield "agent_release was started although its gate was shut"
    made = records.result("regions", "price_list").shown
    if made != MATERIALIZED:
        yield f"price_list: promised {MATERIALIZED!r}, found {made!r}"


def _row(promise: ProjectPromise, records: DagsterRecords, runs: Sequence[Mapping[str, Any]]) -> Row:
    told = _told(promise, records)
    named = [run for run in runs if run["run_id"] == told.fact("run_id")]
    kind, parent = promise.parent
    under_parent = [run for run in runs if run["provider"] == promise.provider and run["parents"].get(kind) == parent]
    if len(under_parent) == 1 and named == under_parent:
        found = word(under_parent[0])
    else:
        found = f"{len(under_parent)} run(s), Dagster names {told.fact('run_id')}"
    return Row(promise.provider, promise.run, found, told.fact("outcome"), told.fact("verdict"), NOTHING, told.shown)


def _told(promise: ProjectPromise, records: DagsterRecords) -> StepResult:
    if promise.job is None:
        return records.reported(promise.asset) or StepResult(NOTHING, {})
    if promise.check is not None:
        return records.check(promise.job, promise.asset, promise.check)
    return records.result(promise.job, promise.asset)
