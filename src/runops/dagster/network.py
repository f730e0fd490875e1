"""The fields of a resource about the way to its service: address, certificates, proxy, limits. They hold no key."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import ConfigDict, Field, field_validator

from runops.core import ConfigurationError, Provider
from runops.core.declaration.address import address_variable
from runops.core.declaration.arguments import DEFAULT_MAX_RESPONSE_BYTES, DEFAULT_REQUEST_TIMEOUT
from runops.core.model.codes import Code
from runops.core.transport.network_settings import NetworkSettings
from runops.core.transport.rate_settings import RateSettings
from runops.dagster import keys

_FILES = ("verify", "client_cert", "client_key")
_HIDDEN = ("proxy", "rate_store")
"""What may hold a password."""


class NetworkFields(dg.ConfigurableResource):
    """How a service is reached."""

    # A message of pydantic about one field must not quote its neighbours.
    model_config = ConfigDict(hide_input_in_errors=True)

    base_url: str | None = Field(
        default=None,
        description="Root of the API, where it is not the public one. A version at its end is fine. By default what "
        "the environment variable <PROVIDER>_BASE_URL says, where it is set.",
    )
    request_timeout: float = Field(default=DEFAULT_REQUEST_TIMEOUT, description="Seconds for one whole request.")
    requests_per_minute: float | None = Field(
        default=None,
        description="The most requests that one step sends in a minute, or all with a store or processes; none for no "
        "limit.",
    )
    processes: int | None = Field(
        default=None, description="How many processes send with this key: each keeps to the limit divided by it."
    )
    rate_store: str | None = Field(
        default=None,
        description="redis://[user:password@]host:port/db, or rediss:// for TLS, through which all processes share the "
        "limit. Use dg.EnvVar where it holds a password. Needs the extra redis.",
    )
    max_response_bytes: int = Field(
        default=DEFAULT_MAX_RESPONSE_BYTES, description="The largest answer, decompressed, that is read."
    )
    allow_http: bool = Field(default=False, description="Allow plain http:// to other machines than this one.")
    verify: str | None = Field(
        default=None,
        description="Path of a PEM file with the authorities that are accepted, and no others. By default the usual "
        "ones, or those that SSL_CERT_FILE names.",
    )
    client_cert: str | None = Field(
        default=None, description="Path of a PEM file, for a service that asks for a certificate of its clients."
    )
    client_key: str | None = Field(
        default=None, description="Path of the key of client_cert, without a password, where it is not in that file."
    )
    proxy: str | None = Field(
        default=None,
        description="scheme://[user:password@]host:port. Use dg.EnvVar where it holds a password. By default what "
        "HTTPS_PROXY and NO_PROXY say.",
    )

    if not TYPE_CHECKING:  # a type checker knows the fields by their declarations

        def __init__(self, **values: Any) -> None:
            # Before any frame of Dagster's holds it.
            for name in _HIDDEN:
                if name in values:
                    values[name] = keys.hide(values[name])
            super().__init__(**values)
            self._check_network()

    @field_validator(*_HIDDEN, mode="before")
    @classmethod
    def _hide_address(cls, value: object) -> object:
        return keys.hide(value)

    @property
    def _label(self) -> str:
        """The resource as messages name it."""
        return type(self).__name__

    def _check_network(self) -> None:
        """Refuse at once what is wrong whatever the variables of the step say; files are looked at there."""
        known: dict[str, Any] = {
            name: value for name in _FILES if not isinstance(value := getattr(self, name), dg.EnvVar)
        }
        if self.proxy is not None and keys.is_known(self.proxy):
            known["proxy"] = keys.reveal(self.proxy, field="proxy")[0]
        self._check_rate()
        if isinstance(self.client_cert, dg.EnvVar):
            # Whether there is one is known in the step.
            known.pop("client_key", None)
        NetworkSettings.of(**known, origin=self._label)

    def _check_rate(self) -> None:
        known = self.rate_store is not None and keys.is_known(self.rate_store)
        store = keys.reveal(self.rate_store or "", field="rate_store")[0] if known else None
        RateSettings.of(
            requests_per_minute=self.requests_per_minute,
            processes=self.processes,
            rate_store=store,
            origin=self._label,
        )

    def _network_settings(self, declaration: Provider) -> dict[str, Any]:
        """What a client takes of this.

        Raises:
            ConfigurationError: A variable is not set.
        """
        address, origin = plain(self.base_url), self._label
        if self.base_url is None:
            variable = address_variable(declaration.name)
            address = os.environ.get(variable) or None
            origin = f"environment variable {variable}" if address else origin
        return {
            "base_url": address,
            "address_origin": origin,
            "request_timeout": self.request_timeout,
            "requests_per_minute": self.requests_per_minute,
            "processes": self.processes,
            "rate_store": self._revealed("rate_store", "address of the store"),
            "max_response_bytes": self.max_response_bytes,
            "allow_http": self.allow_http,
            **{name: self._path(name) for name in _FILES},
            "proxy": self._revealed("proxy", "address of the proxy"),
            "network_origin": self._label,
        }

    def _path(self, name: str) -> str | None:
        value: str | None = getattr(self, name)
        path = plain(value)
        if value is not None and path is None:
            variable = getattr(value, "env_var_name", "")
            raise ConfigurationError(
                f"The environment variable {variable} ({name} of {self._label}) is not set: put the path there.",
                error_code=Code.BAD_CONNECTION,
            )
        return path

    def _revealed(self, name: str, what: str) -> Any:
        value: str | None = getattr(self, name)
        return None if value is None else keys.reveal(value, field=f"{name} of {self._label}", what=what)[0]


def plain(value: str | None) -> str | None:
    """What a field holds, or what the variable that it names does."""
    return value.get_value() if isinstance(value, dg.EnvVar) else value
