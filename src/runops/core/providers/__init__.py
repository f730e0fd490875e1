"""The providers that runops ships, and how to find one by name or import path. Each is declared in its own file.

Every file of this folder that declares a provider ships it, so that a new one needs no edit here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from pkgutil import iter_modules
from types import MappingProxyType

from runops.core.declaration import Provider, registry
from runops.core.model.codes import Code
from runops.core.model.errors import ConfigurationError

_TABLES = "tables"
"""The file of this folder that declares nothing, and reads what this one says."""


def _shipped() -> Iterator[Provider]:
    for module in iter_modules(__path__):
        if module.name != _TABLES:
            found = vars(import_module(f"{__name__}.{module.name}")).values()
            yield from (value for value in found if isinstance(value, Provider))


PROVIDERS: Mapping[str, Provider] = MappingProxyType(
    {each.name: each for each in sorted(_shipped(), key=lambda each: (each.position, each.title.lower()))}
)
"""The shipped providers by name, in the order of their positions, and by title where those are equal."""


def find(name: str) -> Provider:
    """A provider by name or by import path, so that a sixth needs no edit here.

    By name (``"nexio"``, ``"acme"``): a shipped one, one whose module is imported, or one that an installed package
    declares in the entry point group ``runops.providers``. By import path: ``"acme_runs:ACME"``; from then on its name
    finds it too.

    Args:
        name: The name or the import path.

    Raises:
        ConfigurationError: There is none of that name or several different ones, the module cannot be imported, or it
            is no Provider.
    """
    if name in PROVIDERS:
        return PROVIDERS[name]
    if ":" not in name:
        return _by_name(name)
    found = _imported(name)
    # A run of it bears its name, by which other code finds it again.
    if found is not PROVIDERS.get(found.name, found):
        raise ConfigurationError(
            f"{name!r} declares the name {found.name!r}, which a provider that runops ships bears: give it another.",
            error_code=Code.BAD_DECLARATION,
        )
    _only(found.name, registry.made(found.name))
    return found


def _by_name(name: str) -> Provider:
    paths = registry.installed(name)
    for path in paths:
        found = _imported(path)
        if found.name != name:
            raise ConfigurationError(
                f"The entry point {name!r} of {registry.GROUP} leads to {path!r}, whose name is {found.name!r}: both "
                "must be the same.",
                error_code=Code.BAD_DECLARATION,
            )
    made = registry.made(name)
    if made:
        return _only(name, made)
    others = [each for each in registry.names() if each not in PROVIDERS]
    also = f" Also known here: {', '.join(others)}." if others else ""
    raise ConfigurationError(
        f"There is no provider {name!r}; use one of {', '.join(PROVIDERS)}, or 'package.module:NAME'."
        f"{also}{registry.nearest(name, [*PROVIDERS, *others])}",
        error_code=Code.UNKNOWN_PROVIDER,
    )


def _only(name: str, made: list[tuple[Provider, str]]) -> Provider:
    if len(made) > 1:
        modules = " and ".join(sorted(module or "a module without a name" for _, module in made))
        raise ConfigurationError(
            f"The provider name {name!r} is declared twice, differently, in {modules}: give one of them another name.",
            error_code=Code.BAD_DECLARATION,
        )
    return made[0][0]


def _imported(path: str) -> Provider:
    module, _, attribute = path.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"The provider {path!r} cannot be imported: {error}.", error_code=Code.UNKNOWN_PROVIDER
        ) from error
    if not isinstance(found, Provider):
        raise ConfigurationError(
            f"{path!r} is a {type(found).__name__}, not a runops Provider.", error_code=Code.UNKNOWN_PROVIDER
        )
    return found
