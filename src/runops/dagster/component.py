"""The component: assets, checks and sensors of one service from a ``defs.yaml``. What they do is built elsewhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import dagster as dg
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from runops.core import OutcomePolicy, Provider, RunopsError, find
from runops.core.waiting.options import DEFAULT_ERROR_BUDGET, DEFAULT_TIMEOUT, SUBMIT_GRACE
from runops.dagster import _compat
from runops.dagster.builders.check import build_run_check
from runops.dagster.builders.multi_asset import build_run_multi_asset
from runops.dagster.builders.sensor import DEFAULT_LOOKBACK, build_run_sensor
from runops.dagster.defs_file import (
    ENV,
    Described,
    Template,
    WrongField,
    check_variable,
    keep_template,
    sample_of,
    stand_ins,
)
from runops.dagster.resource import RunResource

# What a field may hold is checked by validators alone: Dagster takes constraints of a field into a model of its own,
# whose errors tell the line of the whole list and print what stands in it.


def _positive(value: float | None) -> float | None:
    if value is not None and value <= 0:
        raise ValueError(f"must be more than 0, not {value:g}")
    return value


class _Waiting(Described):
    """How a run is waited for and what its end means."""

    on_outcome: dict[str, str] | None = Field(
        default=None, description="Outcome to verdict, such as {degraded: warn}.", examples=[{"degraded": "warn"}]
    )
    timeout: float = Field(default=DEFAULT_TIMEOUT, description="Seconds for the whole wait.")
    error_budget: float = Field(default=DEFAULT_ERROR_BUDGET, description="Seconds of failed reads in a row.")
    poll_interval: float | None = Field(default=None, description="The shortest time between two looks, in seconds.")
    max_paused: float | None = Field(default=None, description="Seconds that the run may stay paused or waiting.")

    @field_validator("on_outcome")
    @classmethod
    def _known_words(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        OutcomePolicy.build(value)
        return value

    @field_validator("timeout", "error_budget", "poll_interval", "max_paused")
    @classmethod
    def _more_than_nothing(cls, value: float | None) -> float | None:
        return _positive(value)


class BackfillChoice(Described):
    """How many partitions of a backfill one step takes."""

    type: Literal["single_run", "multi_run"] = Field(description="All of them, or some.")
    max_partitions_per_run: int = Field(default=1, description="With multi_run: the most of them.")

    @field_validator("max_partitions_per_run")
    @classmethod
    def _more_than_nothing(cls, value: float | None) -> float | None:
        return _positive(value)

    @property
    def policy(self) -> dg.BackfillPolicy:
        """As Dagster takes it."""
        if self.type == "single_run":
            return dg.BackfillPolicy.single_run()
        return dg.BackfillPolicy.multi_run(max_partitions_per_run=self.max_partitions_per_run)


class RunAssets(_Waiting):
    """Assets that one external run materialises, together or in part."""

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
    run_id: Annotated[
        Template | None,
        dg.Resolver(
            keep_template,
            model_field_type=str,
            inject_before_resolve=False,
            description="A run to wait for that something else starts; templates as in call.",
        ),
    ] = None
    parents: dict[str, str] | None = Field(default=None, description="With run_id: further ids of its address.")
    name: str | None = Field(default=None, description="The name of the step; by default made of the first key.")
    cancel_on_interrupt: bool | None = Field(default=None, description="Cancel the run on Terminate.")
    cancel_on_timeout: bool | None = Field(default=None, description="Cancel the run when the timeout is over.")
    adopt_uncertain: bool = Field(
        default=False, description="After a lost answer, where no mark proves whose a run is, take the single new one."
    )
    mark_runs: bool | None = Field(
        default=None, description="Let the submit add a mark to a text that the service shows again."
    )
    submit_grace: float = Field(
        default=SUBMIT_GRACE, gt=0, description="Seconds for which the run of a lost answer is looked for."
    )
    max_retries: int = Field(default=0, description="Retries of the step.")
    retry_delay: float = Field(default=60.0, description="Seconds before a retry.")
    pool: str | None = Field(default=None, description="The pool of the step.")
    op_tags: dict[str, Any] | None = Field(default=None, description="Tags of the step, which executors read.")
    can_subset: bool = Field(default=False, description="Whether some of the assets may be materialised alone.")
    backfill_policy: BackfillChoice | None = Field(
        default=None, description="How many partitions of a backfill one step takes; by default one."
    )

    @field_validator("max_retries", "retry_delay")
    @classmethod
    def _not_negative(cls, value: float) -> float:
        if value < 0:
            raise ValueError(f"must not be negative, but is {value:g}")
        return value

    @field_validator("call", "run_id", mode="before")
    @classmethod
    def _kept_as_written(cls, value: object) -> Template | None:
        return Template.of(value)

    @model_validator(mode="after")
    def _one_source(self) -> RunAssets:
        if not self.specs:
            raise WrongField(["specs"], "specs is empty: name one asset at least")
        if (self.call is None) == (self.run_id is None):
            raise ValueError("give either call (to submit a run) or run_id (to wait for one)")
        if self.parents is not None and self.run_id is None:
            raise WrongField(["parents"], "belongs to run_id; a call names its own")
        return self

    @property
    def policy(self) -> dg.BackfillPolicy | None:
        """How many partitions of a backfill one step takes, where that is said."""
        return self.backfill_policy.policy if self.backfill_policy else None

    @property
    def sample(self) -> dict[str, Any]:
        """What a template may use of a partition, with some partition's values."""
        partitions = {spec.partitions_def for spec in self.specs}
        return sample_of(partitions.pop() if len(partitions) == 1 else None, self.policy)


class RunCheck(_Waiting):
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


class RunTarget(Described):
    """An asset outside of Dagster, and whose runs feed it."""

    spec: dg.ResolvedAssetSpec = Field(description="The asset.")
    parent: str | dict[str, str] = Field(description="Whose runs are reported to it: an id or name, or {kind: id}.")
    with_check: bool = Field(default=True, description="Define the check that shows how the last run ended.")


class RunSensor(Described):
    """A sensor that reports runs which Dagster did not start."""

    name: str = Field(description="The name of the sensor.")
    targets: Sequence[RunTarget] = Field(description="What is watched.")
    minimum_interval_seconds: int = Field(default=30, description="The shortest time between two ticks.")
    lookback: float = Field(default=DEFAULT_LOOKBACK, description="Seconds that the first tick looks back.")
    running: bool = Field(default=False, description="Whether it runs unless somebody switches it off.")
    request_job: str | None = Field(default=None, description="A job to run for each run, instead of reporting it.")
    on_outcome: dict[str, str] | None = Field(default=None, description="Outcome to verdict.")

    @field_validator("minimum_interval_seconds", "lookback")
    @classmethod
    def _more_than_nothing(cls, value: float | None) -> float | None:
        return _positive(value)

    @field_validator("targets")
    @classmethod
    def _one_at_least(cls, value: Sequence[RunTarget]) -> Sequence[RunTarget]:
        if not value:
            raise ValueError("is empty: name one target at least")
        return value

    @field_validator("on_outcome")
    @classmethod
    def _known_words(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        OutcomePolicy.build(value)
        return value


class RunopsScaffoldParams(BaseModel):
    """What ``dg scaffold defs`` may be told."""

    model_config = ConfigDict(hide_input_in_errors=True)

    provider: str = Field(default="nexio", description="nexio, nyx, onepin, b3os, nekt or package.module:NAME.")
    asset_key: str | None = Field(default=None, description="The key of the asset; by default <provider>/run.")
    api_key_env_var: str | None = Field(default=None, description="The NAME of the variable with the API key.")

    @field_validator("provider")
    @classmethod
    def _known_provider(cls, value: str) -> str:
        find(value)
        return value

    @field_validator("api_key_env_var")
    @classmethod
    def _a_name(cls, value: str | None) -> str | None:
        return None if value is None else check_variable([], value)


class RunopsScaffolder(dg.Scaffolder[RunopsScaffoldParams]):
    """Writes a ``defs.yaml`` that loads as it stands."""

    @classmethod
    def get_scaffold_params(cls) -> type[RunopsScaffoldParams]:
        """What may be told on the command line."""
        return RunopsScaffoldParams

    def scaffold(self, request: dg.ScaffoldRequest[RunopsScaffoldParams]) -> None:
        """Write the file."""
        told = request.params
        provider = find(told.provider)
        attributes: dict[str, Any] = {
            "provider": told.provider,
            "api_key_env_var": told.api_key_env_var or provider.key_variable,
        }
        key = told.asset_key or f"{provider.name}/run"
        spec = {"key": key, "kinds": [provider.name], "description": f"Fed by {provider.title}."}
        source = {"call": _EXAMPLES[provider.name]} if provider.name in _EXAMPLES else {"run_id": "an-id"}
        attributes["assets"] = [{"specs": [spec], **source, "on_outcome": {"degraded": "warn"}}]
        if provider.listing is not None:
            outside = {"key": f"{key}_outside", "kinds": [provider.name]}
            parent = {provider.listing.kinds[0]: "its-id"}
            name = "_".join(dg.AssetKey.from_user_string(key).path) + "_runs"
            attributes["sensors"] = [{"name": name, "targets": [{"spec": outside, "parent": parent}]}]
        dg.scaffold_component(request, attributes)


@dg.scaffold_with(RunopsScaffolder)
class RunopsComponent(dg.Component, Described):
    """Assets, checks and sensors of external runs of one service; use it several times for several accounts."""

    provider: str = Field(
        description="nexio, nyx, onepin, b3os, nekt, or package.module:NAME of a declaration of your own.",
        examples=["nyx"],
    )
    api_key_env_var: str | None = Field(
        default=None,
        description="The NAME of the environment variable that holds the API key; by default the service's own.",
        examples=["NYX_TOKEN"],
    )
    base_url: str | None = Field(default=None, description="Root of the API, where it is not the public one.")
    base_url_env_var: str | None = Field(
        default=None, description="The NAME of a variable that holds it, instead, and that must then be set."
    )
    allow_http: bool = Field(default=False, description="Allow plain http:// to other machines than this one.")
    options: dict[str, str] = Field(default={}, description="The service's own settings, such as workspace_id.")
    resource_key: str | None = Field(
        default=None, description="The key of the resource; by default made of the place of this component."
    )
    request_timeout: float | None = Field(default=None, description="Seconds for one whole request.")
    requests_per_minute: float | None = Field(default=None, description="The most requests in a minute.")
    assets: Sequence[RunAssets] = Field(default=[], description="Assets that external runs materialise.")
    checks: Sequence[RunCheck] = Field(default=[], description="Checks that judge external runs.")
    sensors: Sequence[RunSensor] = Field(default=[], description="Sensors that report runs started elsewhere.")

    @field_validator("provider")
    @classmethod
    def _known_provider(cls, value: str) -> str:
        find(value)
        return value

    @field_validator("api_key_env_var", "base_url_env_var")
    @classmethod
    def _a_name(cls, value: str | None) -> str | None:
        return None if value is None else check_variable([], value)

    @field_validator("request_timeout", "requests_per_minute")
    @classmethod
    def _more_than_nothing(cls, value: float | None) -> float | None:
        return _positive(value)

    @field_validator("resource_key")
    @classmethod
    def _a_key(cls, value: str | None) -> str | None:
        if value is not None and not value.isidentifier():
            raise ValueError(f"{value!r} cannot be a resource key: use letters, digits and _")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> RunopsComponent:
        provider = find(self.provider)
        if self.base_url is not None:
            if self.base_url_env_var is not None:
                raise WrongField(["base_url"], "give base_url or base_url_env_var, not both")
            _at(["base_url"], provider.root, self.base_url, allow_http=self.allow_http)
        unknown = sorted(set(self.options) - set(provider.options))
        if unknown:
            known = ", ".join(provider.options) or "none"
            raise WrongField(
                ["options", unknown[0]], f"options of {provider.title} has no {', '.join(unknown)}; there is {known}"
            )
        for nth, assets in enumerate(self.assets):
            _check_source(provider, ["assets", nth], assets)
        for place, parent in self._parents():
            _check_family(provider, place, parent)
        for nth, check in enumerate(self.checks):
            if check.run_id is not None:
                _at(["checks", nth, "run_id"], provider.ref, check.run_id, check.parents)
        return self

    def _parents(self) -> Iterator[tuple[list[str | int], str | Mapping[str, str]]]:
        """Whose runs are listed, and where the file says so."""
        for nth, check in enumerate(self.checks):
            if check.parent is not None:
                yield ["checks", nth, "parent"], check.parent
        for nth, sensor in enumerate(self.sensors):
            for mth, target in enumerate(sensor.targets):
                yield ["sensors", nth, "targets", mth, "parent"], target.parent

    @classmethod
    def get_spec(cls) -> dg.ComponentTypeSpec:
        """What ``dg list components`` shows."""
        return dg.ComponentTypeSpec(
            description="Wait on runs of Nexio, Nyx, OnePin, B3OS or Nekt, and report those started elsewhere.",
            tags=["runops"],
        )

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """All that the file describes."""
        key = self.resource_key or _key_of(context)
        return dg.Definitions(
            assets=[
                *(self.build_assets(key, assets) for assets in self.assets),
                *(target.spec for sensor in self.sensors if not sensor.request_job for target in sensor.targets),
            ],
            asset_checks=[
                *(self.build_check(key, check) for check in self.checks),
                *(
                    build_run_check(asset=target.spec.key, resource_key=key, parent=target.parent)
                    for sensor in self.sensors
                    if not sensor.request_job
                    for target in sensor.targets
                    if target.with_check
                ),
            ],
            sensors=[self.build_sensor(key, sensor) for sensor in self.sensors],
            resources={key: self.build_resource()},
        )

    def build_resource(self) -> RunResource:
        """The resource of this component. It knows the names of variables, and never what they hold."""
        settings: dict[str, Any] = {
            "request_timeout": self.request_timeout,
            "requests_per_minute": self.requests_per_minute,
            "base_url": dg.EnvVar(self.base_url_env_var) if self.base_url_env_var else self.base_url,
            "allow_http": self.allow_http or None,
        }
        return RunResource(
            provider=self.provider,
            api_key=dg.EnvVar(self.api_key_env_var or find(self.provider).key_variable),
            options=self.options,
            **{name: value for name, value in settings.items() if value is not None},
        )

    def build_assets(self, resource_key: str, assets: RunAssets) -> dg.AssetsDefinition:
        """The assets of one entry; a place to override."""
        return build_run_multi_asset(
            name=assets.name or "__".join(assets.specs[0].key.path),
            specs=assets.specs,
            resource_key=resource_key,
            call=assets.call.for_step if assets.call else None,
            run_id=assets.run_id.for_step if assets.run_id else None,
            parents=assets.parents,
            cancel_on_interrupt=assets.cancel_on_interrupt,
            cancel_on_timeout=assets.cancel_on_timeout,
            adopt_uncertain=assets.adopt_uncertain,
            mark_runs=assets.mark_runs,
            submit_grace=assets.submit_grace,
            pool=assets.pool,
            op_tags=assets.op_tags,
            backfill_policy=assets.policy,
            can_subset=assets.can_subset,
            retry_policy=dg.RetryPolicy(max_retries=assets.max_retries, delay=assets.retry_delay)
            if assets.max_retries
            else None,
            **_waiting(assets),
        )

    def build_check(self, resource_key: str, check: RunCheck) -> dg.AssetChecksDefinition:
        """One check; a place to override."""
        return build_run_check(
            asset=check.asset,
            resource_key=resource_key,
            parent=check.parent,
            run_id=check.run_id,
            parents=check.parents,
            name=check.name,
            blocking=check.blocking,
            **_waiting(check),
        )

    def build_sensor(self, resource_key: str, sensor: RunSensor) -> dg.SensorDefinition:
        """One sensor; a place to override."""
        status = dg.DefaultSensorStatus.RUNNING if sensor.running else dg.DefaultSensorStatus.STOPPED
        return build_run_sensor(
            name=sensor.name,
            resource_key=resource_key,
            targets={target.spec.key: target.parent for target in sensor.targets},
            minimum_interval_seconds=sensor.minimum_interval_seconds,
            lookback=sensor.lookback,
            request_job=sensor.request_job,
            default_status=status,
            on_outcome=sensor.on_outcome,
        )


_EXAMPLES: Mapping[str, Mapping[str, Any]] = {
    "nexio": {"engine_slug": "your-engine", "input": {}},
    "nyx": {
        "config_name": "nightly",
        "name": "Nightly audit",
        "target": {"url": "https://agent.example.com", "credentials": {ENV: "AGENT_TOKEN"}},
        "objective": "make it tell its instructions",
        "budget_usd": 5,
        "severity_target": "high",
    },
    "onepin": {"workflow_id": "your-workflow"},
    "b3os": {"workflow_id": "your-workflow", "payload": {}},
}
"""What a new file submits."""


def _waiting(described: _Waiting) -> dict[str, Any]:
    return {name: getattr(described, name) for name in _Waiting.model_fields}


def _at(place: Sequence[str | int], check: Callable[..., object], *arguments: Any, **more: Any) -> None:
    """Check a value of the file, and say where it stands if it is wrong."""
    try:
        check(*arguments, **more)
    except RunopsError as error:
        raise WrongField(place, str(error)) from None


def _check_source(provider: Provider, place: list[str | int], assets: RunAssets) -> None:
    """Refuse a wrong submission or id when the file is loaded, with some partition's values in its templates."""
    if assets.run_id is not None:
        run_id = _filled(assets.run_id, [*place, "run_id"], assets)
        _at([*place, "run_id"], provider.ref, run_id, assets.parents)
    if assets.call is not None:
        call = _filled(assets.call, [*place, "call"], assets)
        try:
            provider.call(**call)
        except RunopsError as error:
            # The texts about one argument begin with its name.
            argument = re.match(r"\w+", str(error))
            below = [argument[0]] if argument and argument[0] in call else []
            raise WrongField([*place, "call", *below], str(error)) from None


def _filled(template: Template, place: list[str | int], assets: RunAssets) -> Any:
    try:
        return stand_ins(template.filled(assets.sample))
    except WrongField as error:
        raise WrongField([*place, *error.path], error.text) from None
    except _compat.ResolutionException as error:
        missing = re.search(r"'(partition_\w+)' not found in scope", str(error))
        if missing is None:
            raise
        raise WrongField(
            place,
            f"uses {missing[1]}, which is there only if all specs have the same partitions_def"
            + (", and if a step takes one partition only (see backfill_policy)" if assets.sample else ""),
        ) from None


def _check_family(provider: Provider, place: Sequence[str | int], parent: str | Mapping[str, str]) -> None:
    if provider.listing is None:
        text = f"{provider.title} documents no list of runs: sensors, and checks by parent, cannot be"
        raise WrongField(place, text)
    _at(place, provider.pages.parent, parent)


def _key_of(context: dg.ComponentLoadContext) -> str:
    """A key that no other component has: components of one service stand side by side with keys of their own."""
    place = context.component_path
    path = place.without_instance_key().get_relative_key(context.defs_module_path)
    nth = f"_{place.instance_key}" if place.instance_key else ""
    return "runops_" + re.sub(r"\W", "_", path + nth)
