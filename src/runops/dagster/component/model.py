"""The parts of a ``defs.yaml``: what each may hold, checked while the file is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import dagster as dg
from pydantic import Field, ValidationInfo, field_validator, model_validator

from runops.core import OutcomePolicy
from runops.core.many.rules import DEFAULT_MAX_ACTIVE, ManySettings, Requirement
from runops.core.waiting.options import (
    DEFAULT_AUTH_GRACE,
    DEFAULT_ERROR_BUDGET,
    DEFAULT_TIMEOUT,
    SUBMIT_GRACE,
    OnConflict,
)
from runops.dagster.builders.sensor import DEFAULT_LOOKBACK
from runops.dagster.component.callbacks import callbacks_of
from runops.dagster.component.defs_file import Described, Template, WrongField, keep_template, sample_of
from runops.dagster.options import names_of

_ABOVE_ZERO = frozenset(
    {
        "timeout",
        "error_budget",
        "poll_interval",
        "max_paused",
        "max_stalled",
        "max_spend",
        "submit_grace",
        "max_partitions_per_run",
        "minimum_interval_seconds",
        "lookback",
        "request_timeout",
        "requests_per_minute",
        "processes",
        "max_active",
    }
)
_NOT_NEGATIVE = frozenset({"max_retries", "retry_delay", "auth_grace"})


class Part(Described):
    """A part of a file whose numbers and verdicts are checked by the names of their fields.

    By a validator alone: Dagster takes constraints of a field into a model of its own, whose errors name the line of
    the whole list and print what stands in it.
    """

    @field_validator("*")
    @classmethod
    def _usable(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None:
            return value
        if info.field_name in _ABOVE_ZERO and value <= 0:
            raise ValueError(f"must be more than 0, not {value:g}")
        if info.field_name in _NOT_NEGATIVE and value < 0:
            raise ValueError(f"must not be negative, but is {value:g}")
        if info.field_name == "on_outcome":
            OutcomePolicy.build(value)
        if info.field_name == "require":
            Requirement.of(value)
        if info.field_name == "on_phase":
            callbacks_of(value)
        return value


class Ending(Part):
    """What the end of a run means, and what may not go on for ever."""

    on_outcome: dict[str, str] | None = Field(
        default=None, description="Outcome to verdict, such as {degraded: warn}.", examples=[{"degraded": "warn"}]
    )
    states: dict[str, str] | None = Field(
        default=None, description="Words that no documentation has, and the phase or outcome that each means."
    )
    expect: dict[str, Any] | None = Field(
        default=None,
        description="What a run that ended well must show in its details.",
        examples=[{"attempts_completed": ">= 1", "findings_count": 0}],
    )
    on_unmet: str = Field(default="fail", description="The verdict on a run that does not.")
    soft_fail: bool = Field(
        default=False, description="Turn failed, cancelled and timed_out into a skip; on_outcome wins over it."
    )
    max_stalled: float | None = Field(default=None, description="Seconds for which nothing of a run may change.")
    max_spend: float | None = Field(default=None, description="What a run may spend, in the unit of its service.")


class Waiting(Ending):
    """How a run is waited for and what its end means."""

    timeout: float = Field(default=DEFAULT_TIMEOUT, description="Seconds for the whole wait.")
    error_budget: float = Field(default=DEFAULT_ERROR_BUDGET, description="Seconds of failed reads in a row.")
    auth_grace: float = Field(
        default=DEFAULT_AUTH_GRACE,
        description="Seconds for which the key may be refused after a good read, while it is read again; 0 for none.",
    )
    poll_interval: float | None = Field(default=None, description="The shortest time between two reads, in seconds.")
    max_paused: float | None = Field(default=None, description="Seconds that the run may stay paused or waiting.")
    on_phase: dict[str, str | list[str]] | None = Field(
        default=None,
        description="With call and run_id: who is called once each time that the run enters a phase, as an import "
        "path package.module:function of a function of the context and the snapshot, or a list of them.",
        examples=[{"waiting": "my_project.alerts:tell", "paused": []}],
    )


class BackfillChoice(Part):
    """How many partitions of a backfill one step takes."""

    type: Literal["single_run", "multi_run"] = Field(description="All of them, or some.")
    max_partitions_per_run: int = Field(default=1, description="With multi_run: the most of them.")

    @property
    def policy(self) -> dg.BackfillPolicy:
        """As Dagster takes it."""
        if self.type == "single_run":
            return dg.BackfillPolicy.single_run()
        return dg.BackfillPolicy.multi_run(max_partitions_per_run=self.max_partitions_per_run)


_CHOICE = "call (to submit a run), calls (to submit many), run_id (to wait for one) or run_ids (to wait for many)"


class RunAssets(Waiting):
    """Assets that one external run materialises, together or in part; or many runs together."""

    specs: Sequence[dg.ResolvedAssetSpec] = Field(
        description="The assets that the run feeds: key, deps, kinds, owners, automation_condition, partitions_def, ..."
    )
    call: Annotated[
        Template | None,
        dg.Resolver(
            keep_template,
            model_field_type=dict[str, Any],
            inject_before_resolve=False,
            description="What to submit: the arguments of the service's submit. Templates are filled in by each step, "
            "with partition_key, partition_key_range and partition_time_window; {$env: NAME} stands for a variable.",
            examples=[{"config_name": "nightly-{{ partition_key }}"}],
        ),
    ] = None
    calls: Annotated[
        Template | None,
        dg.Resolver(
            keep_template,
            model_field_type=list[Any],
            inject_before_resolve=False,
            description="What to submit in one step: a list of what call has. No two may be equal.",
            examples=[[{"config_name": "checkout"}, {"config_name": "search"}]],
        ),
    ] = None
    run_id: Annotated[
        Template | None,
        dg.Resolver(
            keep_template,
            model_field_type=str,
            inject_before_resolve=False,
            description="A run to wait for that something else starts; templates as in call.",
        ),
    ] = None
    run_ids: Annotated[
        Template | None,
        dg.Resolver(
            keep_template,
            model_field_type=list[str],
            inject_before_resolve=False,
            description="Runs to wait for in one step that something else starts; templates as in call.",
        ),
    ] = None
    parents: dict[str, str] | None = Field(
        default=None, description="With run_id and run_ids: further ids of the address."
    )
    name: str | None = Field(default=None, description="The name of the step; by default made of the first key.")
    max_active: int = Field(
        default=DEFAULT_MAX_ACTIVE, description="With calls: how many runs may be active at the same time."
    )
    require: str | float = Field(
        default="all",
        description="With calls and run_ids: how many runs have to end well: all, any, or a share such as 0.95.",
    )
    stop_early: bool = Field(
        default=False, description="With calls and run_ids: cancel the rest as soon as that is decided."
    )
    cancel_on_interrupt: bool | None = Field(default=None, description="Cancel the run on Terminate.")
    cancel_on_timeout: bool | None = Field(default=None, description="Cancel the run when the timeout is over.")
    cancel_on_failure: bool = Field(
        default=False, description="Cancel the run when the step fails for good while its run may go on."
    )
    adopt_uncertain: bool = Field(
        default=False, description="After a lost answer, where no mark proves whose a run is, take the single new one."
    )
    mark_runs: bool | None = Field(
        default=None, description="Let the submit add a mark to a text that the service shows again."
    )
    submit_grace: float = Field(
        default=SUBMIT_GRACE, description="Seconds for which the run of a lost answer is looked for."
    )
    on_conflict: OnConflict = Field(
        default="wait",
        description="Where something is active already (409): wait for a turn, attach to the active run, or fail.",
    )
    reattach: bool = Field(default=True, description="Take up the run that an earlier try of the step submitted.")
    max_retries: int = Field(default=0, description="Retries of the step.")
    retry_delay: float = Field(default=60.0, description="Seconds before a retry.")
    pool: str | None = Field(default=None, description="The pool of the step.")
    op_tags: dict[str, Any] | None = Field(default=None, description="Tags of the step, which executors read.")
    can_subset: bool = Field(default=False, description="Whether some of the assets may be materialised alone.")
    backfill_policy: BackfillChoice | None = Field(
        default=None, description="How many partitions of a backfill one step takes; by default one."
    )

    @field_validator("call", "calls", "run_id", "run_ids", mode="before")
    @classmethod
    def _kept_as_written(cls, value: object) -> Template | None:
        return Template.of(value)

    @model_validator(mode="after")
    def _one_source(self) -> RunAssets:
        if not self.specs:
            raise WrongField(["specs"], "specs is empty: name one asset at least")
        if len(self.sources) != 1:
            raise ValueError(f"give either {_CHOICE}")
        (source,) = self.sources
        if self.parents is not None and source in ("call", "calls"):
            raise WrongField(["parents"], "belongs to run_id and run_ids; a call names its own")
        wrong = sorted(names_of(ManySettings) & self.model_fields_set)
        if wrong and not self.many:
            raise WrongField(wrong[:1], "belongs to calls and run_ids, which are about many runs")
        if self.on_phase is not None and self.many:
            raise WrongField(["on_phase"], "belongs to call and run_id, which are about one run")
        return self

    @property
    def sources(self) -> dict[str, Template]:
        """What is submitted or waited for, by the name of its field: one, where the part is right."""
        given = {name: getattr(self, name) for name in ("call", "calls", "run_id", "run_ids")}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def many(self) -> bool:
        """Whether it is about many runs."""
        return not {"calls", "run_ids"}.isdisjoint(self.sources)

    @property
    def policy(self) -> dg.BackfillPolicy | None:
        """How many partitions of a backfill one step takes, where the file has it."""
        return self.backfill_policy.policy if self.backfill_policy else None

    @property
    def sample(self) -> dict[str, Any]:
        """What a template may use of a partition, with some partition's values."""
        partitions = {spec.partitions_def for spec in self.specs}
        return sample_of(partitions.pop() if len(partitions) == 1 else None, self.policy)


class RunCheck(Waiting):
    """A check of an asset that judges a run."""

    asset: str = Field(description="The key of the asset.", examples=["security/release"])
    parent: str | dict[str, str] | None = Field(default=None, description="Whose newest run is judged.")
    run_id: str | None = Field(default=None, description="The run that is judged.")
    parents: dict[str, str] | None = Field(default=None, description="With run_id: further ids of its address.")
    name: str = Field(default="runops_outcome", description="The name of the check.")
    blocking: bool = Field(default=False, description="Whether an error keeps what is downstream from starting.")

    @model_validator(mode="after")
    def _one_source(self) -> RunCheck:
        if (self.parent is None) == (self.run_id is None):
            raise ValueError("give either parent (to judge its newest run) or run_id (to judge that run)")
        return self


class RunTarget(Part):
    """An asset outside of Dagster, and whose runs feed it."""

    spec: dg.ResolvedAssetSpec = Field(description="The asset.")
    parent: str | dict[str, str] = Field(description="Whose runs are reported to it: an id or name, or {kind: id}.")
    with_check: bool = Field(default=True, description="Define the check that shows how the last run ended.")


class RunSensor(Ending):
    """A sensor that reports runs which Dagster did not start."""

    name: str = Field(description="The name of the sensor.")
    targets: Sequence[RunTarget] = Field(description="What is watched.")
    minimum_interval_seconds: int = Field(default=30, description="The shortest time between two ticks.")
    lookback: float = Field(default=DEFAULT_LOOKBACK, description="Seconds that the first tick looks back.")
    running: bool = Field(default=False, description="Whether it runs unless somebody switches it off.")
    request_job: str | None = Field(default=None, description="A job to run for each run, instead of reporting it.")

    @field_validator("targets")
    @classmethod
    def _one_at_least(cls, value: Sequence[RunTarget]) -> Sequence[RunTarget]:
        if not value:
            raise ValueError("is empty: name one target at least")
        return value
