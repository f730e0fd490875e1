"""The component itself: what a ``defs.yaml`` describes becomes assets, checks and sensors, built elsewhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import dagster as dg
from pydantic import Field, field_validator, model_validator

from runops.core import Provider, RunopsError, find
from runops.core.many.rules import check_calls, check_list, check_run_ids
from runops.dagster import _compat
from runops.dagster.builders.check import build_run_check
from runops.dagster.builders.multi_asset import build_run_multi_asset
from runops.dagster.builders.sensor import build_run_sensor
from runops.dagster.builders.shown import with_kinds
from runops.dagster.component.callbacks import callbacks_of
from runops.dagster.component.defs_file import Template, WrongField, check_variable, stand_ins
from runops.dagster.component.model import Ending, Part, RunAssets, RunCheck, RunSensor
from runops.dagster.component.network import check_network
from runops.dagster.component.scaffold import RunopsScaffolder
from runops.dagster.options import RunsStepSettings, StepSettings, check_for, names_of
from runops.dagster.run_resource import RunResource


@dg.scaffold_with(RunopsScaffolder)
class RunopsComponent(dg.Component, Part):
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
    api_key_file: str | None = Field(
        default=None, description="Path of a file that holds the API key instead, such as a mounted secret."
    )
    base_url: str | None = Field(default=None, description="Root of the API, where it is not the public one.")
    base_url_env_var: str | None = Field(
        default=None, description="The NAME of a variable that holds it, instead, and that must then be set."
    )
    allow_http: bool = Field(default=False, description="Allow plain http:// to other machines than this one.")
    verify: str | None = Field(
        default=None, description="Path of a PEM file with the authorities that are accepted, and no others."
    )
    client_cert: str | None = Field(default=None, description="Path of our own certificate, where it is asked for.")
    client_key: str | None = Field(default=None, description="Path of its key, where that is not in the same file.")
    proxy: str | None = Field(default=None, description="scheme://host:port, without a password: see proxy_env_var.")
    proxy_env_var: str | None = Field(
        default=None, description="The NAME of a variable that holds it, with user and password if it needs any."
    )
    options: dict[str, str] = Field(default={}, description="The service's own settings, such as workspace_id.")
    states: dict[str, str] = Field(
        default={}, description="Words that no documentation has, and the phase or outcome that each means."
    )
    resource_key: str | None = Field(
        default=None, description="The key of the resource; by default made of the place of this component."
    )
    request_timeout: float | None = Field(default=None, description="Seconds for one whole request.")
    requests_per_minute: float | None = Field(default=None, description="The most requests in a minute.")
    processes: int | None = Field(
        default=None, description="How many processes send with this key: each keeps to the limit divided by it."
    )
    rate_store_env_var: str | None = Field(
        default=None,
        description="The NAME of a variable that holds redis://[user:password@]host:port/db, through which all "
        "processes share the limit.",
    )
    assets: Sequence[RunAssets] = Field(default=[], description="Assets that external runs materialise.")
    checks: Sequence[RunCheck] = Field(default=[], description="Checks that judge external runs.")
    sensors: Sequence[RunSensor] = Field(default=[], description="Sensors that report runs started elsewhere.")

    @field_validator("provider")
    @classmethod
    def _known_provider(cls, value: str) -> str:
        find(value)
        return value

    @field_validator("api_key_env_var", "base_url_env_var", "proxy_env_var", "rate_store_env_var")
    @classmethod
    def _a_name(cls, value: str | None) -> str | None:
        return None if value is None else check_variable([], value)

    @field_validator("resource_key")
    @classmethod
    def _a_key(cls, value: str | None) -> str | None:
        if value is not None and not value.isidentifier():
            raise ValueError(f"{value!r} cannot be a resource key: use letters, digits and _")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> RunopsComponent:
        provider = find(self.provider)
        if self.api_key_file is not None and self.api_key_env_var is not None:
            raise WrongField(["api_key_file"], "give api_key_file or api_key_env_var, not both")
        if self.base_url is not None:
            if self.base_url_env_var is not None:
                raise WrongField(["base_url"], "give base_url or base_url_env_var, not both")
            _at(["base_url"], provider.root, self.base_url, allow_http=self.allow_http)
        check_network(self)
        unknown = sorted(set(self.options) - set(provider.options))
        if unknown:
            known = ", ".join(provider.options) or "none"
            raise WrongField(
                ["options", unknown[0]], f"options of {provider.title} has no {', '.join(unknown)}; there is {known}"
            )
        _at(["states"], provider.with_states, self.states)
        for kind in ("assets", "checks", "sensors"):
            for nth, part in enumerate(getattr(self, kind)):
                _check_end(provider.with_states(self.states), [kind, nth], part)
        for nth, assets in enumerate(self.assets):
            _check_source(provider, ["assets", nth], assets)
        for place, parent in self._parents():
            _check_parent(provider, place, parent)
        for nth, check in enumerate(self.checks):
            if check.run_id is not None:
                _at(["checks", nth, "run_id"], provider.ref, check.run_id, check.parents)
        return self

    def _parents(self) -> Iterator[tuple[list[str | int], str | Mapping[str, str]]]:
        """Whose runs are listed, and where in the file."""
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
                *(
                    with_kinds(target.spec, {find(self.provider).name})
                    for sensor in self.sensors
                    if not sensor.request_job
                    for target in sensor.targets
                ),
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
        variable = self.api_key_env_var or find(self.provider).key_variable
        key: dict[str, Any] = (
            {"api_key_file": self.api_key_file} if self.api_key_file else {"api_key": dg.EnvVar(variable)}
        )
        settings: dict[str, Any] = {
            "request_timeout": self.request_timeout,
            "requests_per_minute": self.requests_per_minute,
            "processes": self.processes,
            "rate_store": dg.EnvVar(self.rate_store_env_var) if self.rate_store_env_var else None,
            "base_url": dg.EnvVar(self.base_url_env_var) if self.base_url_env_var else self.base_url,
            "allow_http": self.allow_http or None,
            "verify": self.verify,
            "client_cert": self.client_cert,
            "client_key": self.client_key,
            "proxy": dg.EnvVar(self.proxy_env_var) if self.proxy_env_var else self.proxy,
        }
        return RunResource(
            provider=self.provider,
            **key,
            options=self.options,
            states=self.states,
            **{name: value for name, value in settings.items() if value is not None},
        )

    def build_assets(self, resource_key: str, assets: RunAssets) -> dg.AssetsDefinition:
        """The assets of one entry; a place to override."""
        return build_run_multi_asset(
            name=assets.name or "__".join(assets.specs[0].key.path),
            specs=[with_kinds(spec, {find(self.provider).name}) for spec in assets.specs],
            resource_key=resource_key,
            **{name: template.for_step for name, template in assets.sources.items()},
            parents=assets.parents,
            pool=assets.pool,
            op_tags=assets.op_tags,
            backfill_policy=assets.policy,
            can_subset=assets.can_subset,
            retry_policy=dg.RetryPolicy(max_retries=assets.max_retries, delay=assets.retry_delay)
            if assets.max_retries
            else None,
            **_settings(assets, RunsStepSettings if assets.many else StepSettings),
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
            **_settings(check, StepSettings),
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
            states=sensor.states,
            expect=sensor.expect,
            on_unmet=cast("Any", sensor.on_unmet),
            soft_fail=sensor.soft_fail,
            max_stalled=sensor.max_stalled,
            max_spend=sensor.max_spend,
        )


def _settings(part: Part, settings: type) -> dict[str, Any]:
    """The settings of a part of the file: how its runs are submitted and waited for.

    Args:
        part: The part.
        settings: The TypedDict of those that count.
    """
    found = {name: getattr(part, name) for name in type(part).model_fields if name in names_of(settings)}
    named = found.pop("on_phase", None)
    return found if named is None else {**found, "on_phase": callbacks_of(named)}


def _at(place: Sequence[str | int], check: Callable[..., object], *arguments: Any, **more: Any) -> None:
    """Check a value of the file, and name its place if it is wrong."""
    try:
        check(*arguments, **more)
    except RunopsError as error:
        raise WrongField(place, error.text) from None


def _check_end(provider: Provider, place: list[str | int], part: Ending) -> None:
    """Refuse what does not fit the service when the file is loaded."""
    for name in ("states", "expect", "on_unmet", "max_stalled", "max_spend"):
        _at([*place, name], check_for, provider, {name: getattr(part, name)})


def _check_source(provider: Provider, place: list[str | int], assets: RunAssets) -> None:
    """Refuse a wrong submission or id when the file is loaded, with some partition's values in its templates."""
    for name, template in assets.sources.items():
        here = [*place, name]
        value = _filled(template, here, assets)
        match name:
            case "call":
                _check_call(provider, here, value)
            case "calls":
                _at(here, check_list, name, value, "submissions")
                for nth, each in enumerate(value):
                    _check_call(provider, [*here, nth], each)
                _at(here, check_calls, provider, value)
            case "run_ids":
                _at(here, check_run_ids, provider, value, assets.parents)
            case _:
                _at(here, provider.ref, value, assets.parents)


def _check_call(provider: Provider, place: list[str | int], call: Any) -> None:
    if not isinstance(call, dict):
        raise WrongField(place, f"must be a mapping of arguments, not {type(call).__name__}")
    try:
        provider.call(**call)
    except RunopsError as error:
        # The texts about one argument begin with its name.
        argument = re.match(r"\w+", error.text)
        below = [argument[0]] if argument and argument[0] in call else []
        raise WrongField([*place, *below], error.text) from None


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


def _check_parent(provider: Provider, place: Sequence[str | int], parent: str | Mapping[str, str]) -> None:
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
