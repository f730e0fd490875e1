"""The calls of many runs as a DAG has them: what no template mends is refused when the DAG is built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from runops.airflow.good_end import is_template
from runops.core import ConfigurationError, Provider
from runops.core.declaration.registry import nearest
from runops.core.many.rules import check_calls
from runops.core.model.codes import Code


def check_written(service: Provider, value: object) -> None:
    """Refuse what is wrong in ``calls`` as it stands in the DAG, as far as no template fills it later.

    :param service: The provider.
    :param value: A list of mappings, or whatever gives one when it is rendered.
    :raises ConfigurationError: Names the entry by its index, and the argument.
    """
    if not isinstance(value, (list, tuple)):
        if not _later(value):
            check_calls(service, value)
        return
    entries = cast("Sequence[object]", value)
    if not any(map(_later, entries)):
        check_calls(service, entries)
        return
    takes = service.submit.arguments if service.submit else ()
    for index, entry in enumerate(entries):
        if not _later(entry):
            _check_one(service, entry, index)
        elif isinstance(entry, Mapping):
            for name in cast("Mapping[object, object]", entry):
                if name not in takes:
                    raise ConfigurationError(
                        f"calls[{index}]: {name!r} is no argument of a submit to {service.title}: {', '.join(takes)}."
                        f"{nearest(str(name), takes)}",
                        error_code=Code.UNKNOWN_NAME,
                    )


def _check_one(service: Provider, entry: object, index: int) -> None:
    try:
        check_calls(service, [entry])
    except ConfigurationError as error:
        refused = type(error)(error.text.replace("calls[0]", f"calls[{index}]", 1), error_code=error.error_code)
    else:
        return
    del entry
    raise refused


def _later(value: object) -> bool:
    """Whether only rendering shows what a value is, or what is in it."""
    match value:
        case dict():
            return any(_later(each) for each in cast("dict[object, object]", value).values())
        case list() | tuple():
            return any(_later(each) for each in cast("Sequence[object]", value))
        case _:
            return is_template(value)
