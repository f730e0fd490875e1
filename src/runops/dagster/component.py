"""The component: assets, checks and sensors of one service from a ``defs.yaml``. What they do is built elsewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import dagster as dg
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from runops.core import ConfigurationError, OutcomePolicy, Provider, find
from runops.core.watch import DEFAULT_ERROR_BUDGET, DEFAULT_TIMEOUT
from runops.dagster.check import build_run_check
from runops.dagster.multi_asset import build_run_multi_asset
from runops.dagster.resource import RunResource
from runops.dagster.sensor import DEFAULT_LOOKBACK, build_run_sensor

ENV = "$env"
"""In a call, ``{$env: NAME}`` stands for what the environment variable holds when the run is submitted."""


class _Described(dg.Model, dg.Resolvable):
    """What all parts share."""

    # A message about one field must not quote its neighbours.
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class _Waiting(_Described):
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
    def _positive(cls, value: float | None) -> float | None:
        if value is not None and value <= 0:
            raise ValueError(f"must be more than 0 seconds, not {value:g}")
        return value


class RunAssets(_Waiting):
    """Assets that one external run materialises, together or in part."""

    specs: Sequence[dg.ResolvedAssetSpec] = Field(
        description="The assets that the run feeds: key, deps, kinds, owners, automation_condition, partitions_def, ..."
    )
    call: dict[str, Any] | None = Field(
        default=None,
        description="What to submit: the arguments of the service's submit. {$env: NAME} stands for a variable.",
    )
    run_id: str | None = Field(default=None, description="A run to wait for that something else starts.")
    parents: dict[str, str] | None = Field(default=None, description="With run_id: further ids of its address.")
    name: str | None = Field(default=None, description="The name of the step; by default made of the first key.")
    cancel_on_interrupt: bool | None = Field(default=None, description="Cancel the run on Terminate.")
    cancel_on_timeout: bool | None = Field(default=None, description="Cancel the run when the timeout is over.")
    adopt_uncertain: bool = Field(default=False, description="After a lost answer, take a single new run for ours.")
    max_retries: int = Field(default=0, description="Retries of the step.", ge=0)
    retry_delay: float = Field(default=60.0, description="Seconds before a retry.", ge=0)
    pool: str | None = Field(default=None, description="The pool of the step.")
    can_subset: bool = Field(default=False, description="Whether some of the assets may be materialised alone.")

    @model_validator(mode="after")
    def _one_source(self) -> RunAssets:
        if not self.specs:
            raise ValueError("specs is empty: name one asset at least")
        if (self.call is None) == (self.run_id is None):
            raise ValueError("give either call (to submit a run) or run_id (to wait for one)")
        return self


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


class RunTarget(_Described):
    """An asset outside of Dagster, and whose runs feed it."""

    spec: dg.ResolvedAssetSpec = Field(description="The asset.")
    parent: str | dict[str, str] = Field(description="Whose runs are reported to it: an id or name, or {kind: id}.")
    with_check: bool = Field(default=True, description="Define the check that shows how the last run ended.")


class RunSensor(_Described):
    """A sensor that reports runs which Dagster did not start."""

    name: str = Field(description="The name of the sensor.")
    targets: Sequence[RunTarget] = Field(description="What is watched.", min_length=1)
    minimum_interval_seconds: int = Field(default=30, description="The shortest time between two ticks.", gt=0)
    lookback: float = Field(default=DEFAULT_LOOKBACK, description="Seconds that the first tick looks back.", gt=0)
    running: bool = Field(default=False, description="Whether it runs unless somebody switches it off.")
    request_job: str | None = Field(default=None, description="A job to run for each run, instead of reporting it.")
    on_outcome: dict[str, str] | None = Field(default=None, description="Outcome to verdict.")

    @field_validator("on_outcome")
    @classmethod
    def _known_words(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        OutcomePolicy.build(value)
        return value


class RunopsScaffoldParams(BaseModel):
    """What ``dg scaffold defs`` may be told."""

    provider: str = Field(default="nexio", description="nexio, nyx, onepin, b3os, nekt or package.module:NAME.")


class RunopsScaffolder(dg.Scaffolder[RunopsScaffoldParams]):
    """Writes a ``defs.yaml`` that loads as it stands."""

    @classmethod
    def get_scaffold_params(cls) -> type[RunopsScaffoldParams]:
        """What may be told on the command line."""
        return RunopsScaffoldParams

    def scaffold(self, request: dg.ScaffoldRequest[RunopsScaffoldParams]) -> None:
        """Write the file."""
        name = request.params.provider
        provider = find(name)
        attributes: dict[str, Any] = {"provider": name, "api_key_env_var": provider.key_variable}
        spec = {"key": f"{provider.name}/run", "kinds": [provider.name], "description": f"Fed by {provider.title}."}
        source = {"call": _EXAMPLES[provider.name]} if provider.name in _EXAMPLES else {"run_id": "an-id"}
        attributes["assets"] = [{"specs": [spec], **source, "on_outcome": {"degraded": "warn"}}]
        if provider.listing is not None:
            outside = {"key": f"{provider.name}/outside", "kinds": [provider.name]}
            parent = {provider.listing.kinds[0]: "its-id"}
            attributes["sensors"] = [
                {"name": f"{provider.name}_runs", "targets": [{"spec": outside, "parent": parent}]}
            ]
        dg.scaffold_component(request, attributes)


@dg.scaffold_with(RunopsScaffolder)
class RunopsComponent(dg.Component, dg.Model, dg.Resolvable):
    """Assets, checks and sensors of external runs of one service; use it several times for several accounts."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

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
    base_url_env_var: str | None = Field(default=None, description="The NAME of a variable that holds it, instead.")
    options: dict[str, str] = Field(default={}, description="The service's own settings, such as workspace_id.")
    resource_key: str | None = Field(
        default=None, description="The key of the resource; by default made of the place of this component."
    )
    request_timeout: float | None = Field(default=None, description="Seconds for one whole request.", gt=0)
    requests_per_minute: float | None = Field(default=None, description="The most requests in a minute.", gt=0)
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
        if value is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", value):
            # The text is not repeated: somebody may have put the key itself there.
            raise ValueError("must be the NAME of an environment variable, such as NYX_TOKEN; a key stands in no file")
        return value

    @field_validator("resource_key")
    @classmethod
    def _a_key(cls, value: str | None) -> str | None:
        if value is not None and not value.isidentifier():
            raise ValueError(f"{value!r} cannot be a resource key: use letters, digits and _")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> RunopsComponent:
        if self.base_url is not None and self.base_url_env_var is not None:
            raise ValueError("give base_url or base_url_env_var, not both")
        provider = find(self.provider)
        unknown = sorted(set(self.options) - set(provider.options))
        if unknown:
            known = ", ".join(provider.options) or "none"
            raise ValueError(f"options of {provider.title} has no {', '.join(unknown)}; there is {known}")
        if self.base_url is not None:
            provider.root(self.base_url)
        for nth, assets in enumerate(self.assets):
            if assets.call is not None:
                _check_call(provider, nth, assets.call)
        if provider.listing is None and (self.sensors or any(check.parent for check in self.checks)):
            raise ValueError(f"{provider.title} documents no list of runs: sensors and checks by parent cannot be")
        return self

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
            call=None if assets.call is None else cast("dict[str, Any]", _with_variables(assets.call)),
            run_id=assets.run_id,
            parents=assets.parents,
            cancel_on_interrupt=assets.cancel_on_interrupt,
            cancel_on_timeout=assets.cancel_on_timeout,
            adopt_uncertain=assets.adopt_uncertain,
            pool=assets.pool,
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


def _check_call(provider: Provider, nth: int, call: Mapping[str, Any]) -> None:
    """Refuse a wrong submission when the file is loaded."""
    try:
        provider.call(**cast("dict[str, Any]", _with_variables(call, stand_in="set when the run is submitted")))
    except ConfigurationError as error:
        raise ValueError(f"assets[{nth}].call: {error}") from None


def _with_variables(value: Any, stand_in: str | None = None) -> Any:
    """The same, with each ``{$env: NAME}`` as a variable."""
    if isinstance(value, Mapping):
        fields = cast("Mapping[str, Any]", value)
        if set(fields) == {ENV}:
            return stand_in or dg.EnvVar(str(fields[ENV]))
        return {name: _with_variables(item, stand_in) for name, item in fields.items()}
    if isinstance(value, list):
        return [_with_variables(item, stand_in) for item in cast("list[Any]", value)]
    return value


def _key_of(context: dg.ComponentLoadContext) -> str:
    """A key that no other component has: components of one service stand side by side with keys of their own."""
    place = context.component_path
    path = place.without_instance_key().get_relative_key(context.defs_module_path)
    nth = f"_{place.instance_key}" if place.instance_key else ""
    return "runops_" + re.sub(r"\W", "_", path + nth)
