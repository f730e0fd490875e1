"""The named resources: one file per service. A file more here is a resource more."""

from __future__ import annotations

from pkgutil import iter_modules

RESOURCES = {f"{module.name.capitalize()}Resource": module.name for module in iter_modules(__path__)}
"""The module of each named resource, found without importing any: ``{"NyxResource": "nyx", ...}``."""
