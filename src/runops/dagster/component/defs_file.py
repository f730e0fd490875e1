"""Values of a ``defs.yaml`` that are filled in when a step runs, and errors that name its line and field."""

from __future__ import annotations

import re
from collections import UserString
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Self, cast

import dagster as dg
from pydantic import BaseModel, ConfigDict, ValidationError

from runops.core import ConfigurationError
from runops.core.model.codes import Code, Coded, with_code
from runops.dagster import _compat

ENV = "$env"
"""``{$env: NAME}`` stands for what the environment variable holds when the run is submitted."""

Path = tuple[str | int, ...]
"""Where in a file: names of fields and places in lists."""


class WrongField(ValueError):
    """A value that cannot be used, and where it stands below the part that is checked.

    Args:
        path: Names of fields and places in lists.
        text: What is wrong and what to write instead.
    """

    def __init__(self, path: Sequence[str | int], text: str) -> None:
        self.path: Path = tuple(path)
        self.text = text
        super().__init__(with_code(f"{named(path)}: {text}" if path else text, Code.BAD_DEFS_FILE))


class Described(dg.Model, dg.Resolvable):
    """A part of a file: an error names the line and the field."""

    # A message about one field must not quote its neighbours.
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, arbitrary_types_allowed=True)

    @classmethod
    def resolve_from_model(cls, context: dg.ResolutionContext, model: BaseModel) -> Any:
        """The part that a file describes.

        Raises:
            ResolutionException: It is wrong; the text names file, line and field.
        """
        try:
            return super().resolve_from_model(context, model)
        except ValidationError as error:
            raise _at_its_line(context, error) from None


def named(path: Sequence[str | int]) -> str:
    """A place as people write it, such as ``assets[0].call``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def _at_its_line(context: dg.ResolutionContext, error: ValidationError) -> Exception:
    lines: list[str] = []
    for entry in error.errors(include_url=False, include_input=False):
        cause = entry.get("ctx", {}).get("error")
        below = cause.path if isinstance(cause, WrongField) else ()
        text = cause.text if isinstance(cause, (WrongField, Coded)) else entry["msg"].removeprefix("Value error, ")
        path = (*context.path, *entry["loc"], *below)
        lines.append(f"{_line_of(context, path)}{named(path)}: {text}")
    # Without the lines of the file: a key may stand in one of them, and that may be just what is wrong.
    return _compat.ResolutionException(with_code("\n".join(lines), Code.BAD_DEFS_FILE))


def _line_of(context: dg.ResolutionContext, path: Path) -> str:
    tree = context.source_position_tree
    if tree is None:
        return ""
    position, _ = tree.lookup_closest_and_path(path, None)
    return f"{position.filename}:{position.start.line} - "


@dataclass(frozen=True, repr=False)
class Template:
    """A value of a file as it is written there, for each step to fill in.

    Beside what templates may use anywhere, they may use ``partition_key``, ``partition_key_range`` and
    ``partition_time_window`` of the step's partition.

    Args:
        written: The value, with its templates.
        context: What else templates may use; of the file that it is written in.
    """

    written: Any
    context: dg.ResolutionContext | None = None

    @classmethod
    def of(cls, value: object) -> Self | None:
        """A template of a value that may be one already."""
        return value if isinstance(value, cls) or value is None else cls(value)

    def __repr__(self) -> str:
        # What is filled in may be secret; what is written is in the file for all to see.
        return f"Template({self.written!r})"

    def filled(self, partition: Mapping[str, Any]) -> Any:
        """The value for a partition; ``{$env: NAME}`` has become a ``dg.EnvVar``.

        Args:
            partition: From :func:`partition_of` or :func:`sample_of`.

        Raises:
            ResolutionException: A template uses what is not there, or fails.
        """
        context = self.context or dg.ResolutionContext.default()
        return _plain(context.with_scope(**partition).resolve_value(self.written))

    def for_step(self, context: dg.AssetExecutionContext) -> Any:
        """The value in the step that runs.

        Raises:
            ConfigurationError: A template uses what is not there, or fails.
        """
        try:
            return self.filled(partition_of(context))
        except _compat.ResolutionException as error:
            raise ConfigurationError(
                f"The templates of {named(self.path)} cannot be filled in: {error}", error_code=Code.BAD_DEFS_FILE
            ) from error

    @property
    def path(self) -> Path:
        """Where in the file."""
        return tuple(self.context.path) if self.context else ()


def keep_template(context: dg.ResolutionContext, value: Any) -> Template | None:
    """Resolves a field of a file to a :class:`Template`."""
    return None if value is None else Template(value, context)


class _Key(UserString):
    """A partition's key in a template. A plain text that looks like a number would become one there."""


@dataclass(frozen=True)
class _KeyRange:
    """The first and the last key of a range, both included."""

    start: _Key
    end: _Key


def partition_of(context: dg.AssetExecutionContext) -> dict[str, Any]:
    """What a template may use of the partition that a step works on; nothing where there is none."""
    found: dict[str, Any] = {}
    if context.has_partition_key:
        found["partition_key"] = _Key(context.partition_key)
    if context.has_partition_key_range:
        keys = context.partition_key_range
        found["partition_key_range"] = _KeyRange(_Key(keys.start), _Key(keys.end))
    if found and isinstance(context.assets_def.partitions_def, dg.TimeWindowPartitionsDefinition):
        found["partition_time_window"] = context.partition_time_window
    return found


def sample_of(partitions: dg.PartitionsDefinition[Any] | None, policy: dg.BackfillPolicy | None) -> dict[str, Any]:
    """What a template may use of some partition, to see whether it can be filled in.

    Args:
        partitions: How the assets are partitioned, if they are.
        policy: Whether a step works on one partition or on several.
    """
    if partitions is None:
        return {}
    if isinstance(partitions, dg.TimeWindowPartitionsDefinition):
        key = _Key(partitions.start.strftime(partitions.fmt))
        window = dg.TimeWindow(partitions.start, partitions.start + timedelta(days=1))
        found: dict[str, Any] = {"partition_time_window": window}
    else:
        keys = partitions.get_partition_keys() if isinstance(partitions, dg.StaticPartitionsDefinition) else []
        key = _Key(keys[0] if keys else "a-partition")
        found = {}
    found["partition_key_range"] = _KeyRange(key, key)
    one_by_one = policy is None or policy.max_partitions_per_run == 1
    return found | ({"partition_key": key} if one_by_one else {})


def stand_ins(value: Any) -> Any:
    """The same, with a text for each variable: to see whether the rest is right, without any key."""
    match value:
        case dg.EnvVar():
            return "set when the run is submitted"
        case dict():
            return {name: stand_ins(item) for name, item in cast("dict[str, Any]", value).items()}
        case list():
            return [stand_ins(item) for item in cast("list[Any]", value)]
        case _:
            return value


def check_variable(path: Sequence[str | int], value: object) -> str:
    """The name of an environment variable.

    Raises:
        WrongField: It is none. The text is not repeated: somebody may have put the key itself there.
    """
    if not isinstance(value, str) or not re.fullmatch(r"[A-Z_][A-Z0-9_]{0,99}", value):
        raise WrongField(
            path,
            "must be the NAME of an environment variable in capitals, such as NYX_TOKEN, and no template; a key "
            "stands in no file.",
        )
    return value


def _plain(value: Any, path: Path = ()) -> Any:
    """The same of plain values: what a template gave as an object of Python becomes text."""
    match value:
        case {"$env": name} if len(cast("dict[str, Any]", value)) == 1:
            return dg.EnvVar(check_variable((*path, ENV), name))
        case dict():
            return {name: _plain(item, (*path, str(name))) for name, item in cast("dict[str, Any]", value).items()}
        case list() | tuple():
            return [_plain(item, (*path, nth)) for nth, item in enumerate(cast("Sequence[Any]", value))]
        case UserString():
            return str(value)
        case date():
            return value.isoformat()
        case _:
            return value
