"""What ``dg scaffold defs`` writes for the component."""

from __future__ import annotations

from typing import Any

import dagster as dg
from pydantic import BaseModel, ConfigDict, Field, field_validator

from runops.core import find
from runops.dagster.component.defs_file import check_variable
from runops.dagster.providers import example_call


class RunopsScaffoldParams(BaseModel):
    """What ``dg scaffold defs`` may be params."""

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
        """What the command line takes."""
        return RunopsScaffoldParams

    def scaffold(self, request: dg.ScaffoldRequest[RunopsScaffoldParams]) -> None:
        """Write the file."""
        params = request.params
        provider = find(params.provider)
        attributes: dict[str, Any] = {
            "provider": params.provider,
            "api_key_env_var": params.api_key_env_var or provider.key_variable,
        }
        key = params.asset_key or f"{provider.name}/run"
        spec = {"key": key, "kinds": [provider.name], "description": f"Fed by {provider.title}."}
        call = dict(example_call(provider.name))
        source = {"call": call} if call else {"run_id": "an-id"}
        attributes["assets"] = [{"specs": [spec], **source, "on_outcome": {"degraded": "warn"}}]
        if provider.listing is not None:
            outside = {"key": f"{key}_outside", "kinds": [provider.name]}
            parent = {provider.listing.parent_kinds[0]: "its-id"}
            name = "_".join(dg.AssetKey.from_user_string(key).path) + "_runs"
            attributes["sensors"] = [{"name": name, "targets": [{"spec": outside, "parent": parent}]}]
        dg.scaffold_component(request, attributes)
