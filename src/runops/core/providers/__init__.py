"""The providers that runops ships, and how to find one by name or import path. Each is declared in its own file."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType

from runops.core.errors import ConfigurationError
from runops.core.provider import Provider
from runops.core.providers.b3os import B3OS
from runops.core.providers.nekt import NEKT
from runops.core.providers.nexio import NEXIO
from runops.core.providers.nyx import NYX
from runops.core.providers.onepin import ONEPIN

PROVIDERS: Mapping[str, Provider] = MappingProxyType(
    {provider.name: provider for provider in (NEXIO, NYX, ONEPIN, B3OS, NEKT)}
)
"""The shipped providers by name."""


def find(name: str) -> Provider:
    """A provider by name (``"nexio"``) or by import path (``"acme_runs:ACME"``), so that a sixth needs no edit here.

    Raises:
        ConfigurationError: There is none of that name, the module cannot be imported, or it is no Provider.
    """
    shipped = PROVIDERS.get(name)
    if shipped is not None:
        return shipped
    module, colon, attribute = name.partition(":")
    if not colon:
        known = ", ".join(PROVIDERS)
        raise ConfigurationError(f"There is no provider {name!r}; use one of {known}, or 'package.module:NAME'.")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ConfigurationError(f"The provider {name!r} cannot be imported: {error}.") from error
    if not isinstance(found, Provider):
        raise ConfigurationError(f"{name!r} is a {type(found).__name__}, not a runops Provider.")
    return found
