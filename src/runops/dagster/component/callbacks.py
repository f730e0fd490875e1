"""The functions that a ``defs.yaml`` names by their import paths, since a file cannot hold any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from runops.core import ConfigurationError
from runops.core.declaration.registry import nearest
from runops.core.model.codes import Code
from runops.core.waiting.phases import check_callbacks

Named = Mapping[str, str | Sequence[str]]
"""Phase to an import path ``package.module:function``, or to a list of them, which may be empty."""


def callbacks_of(named: Named) -> dict[str, Any]:
    """Who is called in which phase, imported and checked.

    Args:
        named: As a file says it.

    Raises:
        ConfigurationError: Names the phase, the place in a list, and what cannot be imported or called.
    """
    found = {phase: _functions(f"on_phase[{phase}]", value) for phase, value in named.items()}
    check_callbacks(found)
    return found


def _functions(place: str, value: str | Sequence[str]) -> Any:
    if isinstance(value, str):
        return _function(place, value)
    return [_function(f"{place}[{nth}]", each) for nth, each in enumerate(value)]


def _function(place: str, path: str) -> Any:
    module_name, _, name = path.partition(":")
    if not module_name or not name:
        raise ConfigurationError(
            f"{place}={path[:120]!r} is no import path: write package.module:function, such as my_project.alerts:tell.",
            error_code=Code.UNKNOWN_NAME,
        )
    try:
        module = import_module(module_name)
    except Exception as error:
        raise ConfigurationError(
            f"{place}: the module {module_name!r} cannot be imported ({type(error).__name__}: {error}).",
            error_code=Code.UNKNOWN_NAME,
        ) from error
    target: Any = module
    for part in name.split("."):
        if not hasattr(target, part):
            public = [each for each in vars(target) if not each.startswith("_")] if hasattr(target, "__dict__") else []
            raise ConfigurationError(
                f"{place}: {module_name!r} has no {name!r}.{nearest(part, public)}", error_code=Code.UNKNOWN_NAME
            )
        target = getattr(target, part)
    return target
