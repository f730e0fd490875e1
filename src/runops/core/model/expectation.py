"""What a user expects of a run's details, checked when it is written, and what of it a run has not met. It is pure."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeAlias, TypedDict, cast

from runops.core.model.codes import Code
from runops.core.model.refusal import ConfigurationError, nearest
from runops.core.model.run import Unmet

DetailKind: TypeAlias = Literal["number", "text", "flag", "any"]
"""What a detail of a run is: a number, a text, yes or no, or what its declaration does not say."""

Expected: TypeAlias = "str | float | bool | list[str] | list[float]"
"""What a user may write: a value, ``">= 1"``, or a list of values of which the detail is to be one."""

_ORDERS: Mapping[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_OPERATORS = ("==", "!=", *_ORDERS)
_SIGNS = frozenset((*_OPERATORS, "in"))
_FLAGS = {"true": True, "yes": True, "false": False, "no": False}


class ConditionDict(TypedDict):
    """A :class:`Condition` as JSON primitives."""

    sign: str
    values: list[Any]


@dataclass(frozen=True, slots=True)
class Condition:
    """What one detail is to be.

    Args:
        sign: One of ``== != < <= > >=``, or ``in``.
        values: What it is compared with: one value, or several for ``in``.
    """

    sign: str
    values: tuple[Any, ...]

    def __str__(self) -> str:
        shown = [str(value).lower() if isinstance(value, bool) else f"{value!r}" for value in self.values]
        return f"in [{', '.join(shown)}]" if self.sign == "in" else f"{self.sign} {shown[0]}"

    def to_dict(self) -> ConditionDict:
        """JSON primitives that :meth:`from_dict` reads."""
        return {"sign": self.sign, "values": list(self.values)}

    @classmethod
    def from_dict(cls, value: object) -> Self:
        """Read what :meth:`to_dict` wrote.

        Raises:
            ConfigurationError: It is something else, or of a later version that knows more signs.
        """
        given: Mapping[str, Any] = cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}
        sign, values = given.get("sign"), given.get("values")
        if sign not in _SIGNS or not isinstance(values, (list, tuple)) or not values:
            raise ConfigurationError(f"This is no condition on a detail: the sign is {str(sign)[:20]!r}.")
        return cls(str(sign), tuple(cast("list[Any]", values)))

    def holds(self, found: object) -> bool:
        """Whether a detail is as it should be. A missing one never is."""
        if found is None:
            return False
        if self.sign in _ORDERS:
            return not isinstance(found, bool) and isinstance(found, (int, float)) and self._orders(found)
        same = any(_same(found, value) for value in self.values)
        return not same if self.sign == "!=" else same

    def _orders(self, found: float) -> bool:
        return _ORDERS[self.sign](found, self.values[0])


@dataclass(frozen=True)
class Expectations:
    """What is expected of the details of a run that ended well.

    Args:
        conditions: By the name of the detail.
    """

    conditions: Mapping[str, Condition]

    @classmethod
    def build(cls, expect: object, kinds: Mapping[str, DetailKind] | None, *, title: str = "a run") -> Expectations:
        """From what a user writes, checked.

        Args:
            expect: Detail to what it is to be, such as ``{"attempts_completed": ">= 1", "findings_count": 0}``.
            kinds: The details that there are, with their kinds; None where nobody can know them.
            title: Whose details these are, for messages.

        Raises:
            ConfigurationError: A detail is unknown, or what it is to be cannot be read; names both.
        """
        if expect is None:
            return cls({})
        if not isinstance(expect, Mapping):
            raise ConfigurationError(
                f"expect must be a mapping such as {{'findings_count': 0}}, not {type(expect).__name__}."
            )
        given = cast("Mapping[object, object]", expect)
        conditions: dict[str, Condition] = {}
        for name, wanted in given.items():
            check_detail(name, kinds, title=title)
            kind = "any" if kinds is None else kinds[str(name)]
            conditions[str(name)] = _condition(f"expect[{str(name)!r}]", wanted, kind)
        return cls(conditions)

    @property
    def details(self) -> tuple[str, ...]:
        """The details that are looked at."""
        return tuple(self.conditions)

    def unmet(self, details: Mapping[str, Any]) -> dict[str, Unmet]:
        """Which conditions do not hold, and what was found instead."""
        return {
            name: Unmet(expected=str(condition), found=details.get(name))
            for name, condition in self.conditions.items()
            if not condition.holds(details.get(name))
        }


NOTHING = Expectations({})
"""Nothing is expected."""


def check_detail(name: object, kinds: Mapping[str, DetailKind] | None, *, title: str) -> None:
    """Refuse the name of a detail that there is not.

    Args:
        name: The name.
        kinds: The details that there are; None where nobody can know them.
        title: Whose details these are.

    Raises:
        ConfigurationError: There is none; names the nearest.
    """
    if kinds is not None and name not in kinds:
        raise ConfigurationError(
            f"expect[{str(name)[:80]!r}] is no detail of {title}; there is {', '.join(kinds) or 'none'}."
            f"{nearest(name, kinds)}",
            error_code=Code.UNKNOWN_NAME,
        )


def in_words(unmet: Mapping[str, Unmet]) -> str:
    """What was not met, as a part of a sentence."""
    return ", ".join(
        f"{name} is {'missing' if each['found'] is None else repr(each['found'])}, expected {each['expected']}"
        for name, each in unmet.items()
    )


def _condition(place: str, wanted: object, kind: DetailKind) -> Condition:
    if isinstance(wanted, (list, tuple)):
        values = tuple(_value(place, value, kind) for value in cast("list[object]", wanted))
        if not values:
            raise ConfigurationError(f"{place} is an empty list, which no run meets: name one value at least.")
        return Condition("in", values)
    if not isinstance(wanted, str):
        return Condition("==", (_value(place, wanted, kind),))
    text = wanted.strip()
    sign = next((each for each in _OPERATORS if text.startswith(each)), "")
    if not sign and text[:1] in ("=", "!", "~"):
        raise ConfigurationError(f"{place}={wanted[:80]!r} begins with no operator; use {' '.join(_OPERATORS)}.")
    operand = text.removeprefix(sign).strip()
    if not operand:
        raise ConfigurationError(f"{place}={wanted[:80]!r} compares with nothing: write such as '>= 1'.")
    if sign in _ORDERS and kind in ("text", "flag"):
        raise ConfigurationError(f"{place}={wanted[:80]!r} orders a detail that is no number: use == or !=, or a list.")
    return Condition(sign or "==", (_value(place, operand, "number" if sign in _ORDERS else kind),))


def _value(place: str, value: object, kind: DetailKind) -> Any:
    """A value to compare a detail of this kind with; a text is read as templates and command lines write it."""
    read = _READ[kind](value)
    if read is None:
        what = {"number": "a number", "text": "a text", "flag": "true or false"}.get(kind, "a number, text or flag")
        raise ConfigurationError(f"{place}={str(value)[:80]!r} cannot be compared: the detail is {what}.")
    return read


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = int(value) if isinstance(value, str) and value.strip().lstrip("+-").isdigit() else float(value)
    except ValueError:
        return None
    return (value if isinstance(value, int) else number) if math.isfinite(number) else None


def _text(value: object) -> str | None:
    if isinstance(value, str):
        text = value.strip()
        quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"
        return text[1:-1] if quoted else text
    # Versions and numbers that look like one.
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else _FLAGS.get(value.strip().lower()) if isinstance(value, str) else None


def _any(value: object) -> Any:
    return value if isinstance(value, (bool, int, float, str)) else None


_READ: Mapping[str, Callable[[object], Any]] = {"number": _number, "text": _text, "flag": _flag, "any": _any}


def _same(found: object, value: object) -> bool:
    """Whether they are one value; where the declaration does not say what a detail is, a number and its text are."""
    if isinstance(found, bool) or isinstance(value, bool):
        return found is value or str(found).lower() == str(value).lower()
    return found == value or str(found) == str(value)
