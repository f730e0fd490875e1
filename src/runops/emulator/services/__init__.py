"""The services that the emulator serves where no others are handed in, one file each.

A new file here is found by itself: every :class:`~runops.emulator.api.Api` that it defines is served. Files named after
a service and a word hold what would make its own too long; the abstract class of ``_wire`` is what they share.
"""

from __future__ import annotations

import inspect
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from runops.emulator.api import Api


@cache
def default_apis() -> tuple[type[Api], ...]:
    """Every API of this package, by the names of their files."""
    found: list[type[Api]] = []
    for name in sorted(module.name for module in iter_modules(__path__)):
        module = import_module(f"{__name__}.{name}")
        for each in vars(module).values():
            if isinstance(each, type) and issubclass(each, Api) and each.__module__ == module.__name__:
                found += [] if inspect.isabstract(each) else [each]
    return tuple(found)


def find_api(path: str) -> type[Api]:
    """The API that an import path names.

    Args:
        path: Such as ``acme.emulated:AcmeApi``.

    Raises:
        ValueError: There is none; the message says what is missing.
    """
    module, _, name = path.partition(":")
    if not module or not name:
        raise ValueError(f"{path!r} is no import path such as acme.emulated:AcmeApi")
    try:
        found = getattr(import_module(module), name, None)
    except ImportError as problem:
        raise ValueError(f"{path!r} cannot be imported: {problem}") from problem
    if not (isinstance(found, type) and issubclass(found, Api)):
        raise ValueError(f"{path!r} is no subclass of runops.emulator.api.Api")
    return found
