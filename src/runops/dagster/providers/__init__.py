"""The named resources: one file per service. A file more here is a resource more."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

RESOURCES = {f"{module.name.capitalize()}Resource": module.name for module in iter_modules(__path__)}
"""The module of each named resource, found without importing any: ``{"NyxResource": "nyx", ...}``."""


def example_call(service: str) -> Mapping[str, Any]:
    """What a new ``defs.yaml`` submits to a service; empty where nothing is known to be submitted to it."""
    for name, module in RESOURCES.items():
        if module == service:
            return getattr(import_module(f"{__name__}.{module}"), name).example
    return {}
