"""What a user may say about many runs in one task, typed once for every side, and its checks. It knows no host."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Self, TypedDict, TypeVar, cast

from runops.core.declaration import Call, Provider, arguments
from runops.core.model.codes import Code
from runops.core.model.errors import ConfigurationError, NotSupported
from runops.core.model.refusal import nearest
from runops.core.model.run import RunRef
from runops.core.waiting.intent import check_call, fingerprint

DEFAULT_MAX_ACTIVE = 20
"""Runs of one set that may be active at the same time."""
Require = Literal["all", "any"] | float
"""How many runs have to end well: all, at least one, or a share in (0, 1]."""
_WORDS = ("all", "any")
_EXACT = 1e-9
"""A share that is a fraction in decimal is none in binary: 0.29 of 100 are 29."""

R = TypeVar("R")
T = TypeVar("T")


class ManySettings(TypedDict, total=False):
    """What a user says about the whole of many runs."""

    max_active: int
    """How many runs may be active at the same time. Default: 20."""
    require: Require
    """How many runs have to end well, by the verdicts succeed, warn and skip: ``"all"``, ``"any"``, or a share such as
    ``0.95``. Default: all."""
    stop_early: bool
    """Whether the rest is cancelled, and not submitted, as soon as ``require`` is met or cannot be met any more.
    Default: False."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """How many runs of a set have to end well.

    Args:
        wanted: As the user has put it.
    """

    wanted: Require = "all"

    @classmethod
    def of(cls, value: object) -> Self:
        """From what a user says, checked.

        Raises:
            ConfigurationError: It is no word that is known, and no share above 0 and up to 1.
        """
        if isinstance(value, str) and value.strip().lower() in _WORDS:
            return cls(cast("Require", value.strip().lower()))
        try:
            share = arguments.positive("require", value)
        except ConfigurationError:
            share = 2.0
        if share > 1:
            shown = repr(value)[:80]
            raise ConfigurationError(
                f"require={shown} is not one of {', '.join(_WORDS)}, nor a share above 0 and up to 1 such as 0.95."
                f"{nearest(value, _WORDS)}",
                error_code=Code.UNKNOWN_NAME,
            )
        return cls("all" if share == 1 else share)

    def needed(self, total: int) -> int:
        """Of so many runs, how many have to end well: one at the least.

        Args:
            total: How many runs there are.
        """
        if isinstance(self.wanted, str):
            return total if self.wanted == "all" else 1
        return max(math.ceil(self.wanted * total - _EXACT), 1)

    def __str__(self) -> str:
        return self.wanted if isinstance(self.wanted, str) else f"{self.wanted:g}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ManyRules:
    """What a set of runs is held to, checked.

    Args:
        max_active: How many runs may be active at the same time.
        require: How many have to end well.
        stop_early: Whether the rest is cancelled once that is decided.
        max_spend: What all runs together may spend, in the provider's unit, or None for no such bound.
    """

    max_active: int = DEFAULT_MAX_ACTIVE
    require: Requirement = Requirement()
    stop_early: bool = False
    max_spend: float | None = None

    @classmethod
    def build(
        cls,
        *,
        max_active: object = DEFAULT_MAX_ACTIVE,
        require: object = "all",
        stop_early: object = False,
        max_spend: object = None,
    ) -> Self:
        """From what a user says, checked. That the provider shows what runs spend, :class:`WaitOptions` checks.

        Raises:
            ConfigurationError: A limit is none; the text names it.
        """
        if not isinstance(stop_early, bool):
            raise ConfigurationError(f"stop_early must be True or False, not {repr(stop_early)[:80]}.")
        return cls(
            max_active=_count("max_active", max_active),
            require=Requirement.of(require),
            stop_early=stop_early,
            max_spend=None if max_spend is None else arguments.positive("max_spend", max_spend),
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON primitives that :meth:`from_dict` reads."""
        return {
            "max_active": self.max_active,
            "require": self.require.wanted,
            "stop_early": self.stop_early,
            "max_spend": self.max_spend,
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` wrote; fields that are missing or unknown do no harm."""
        return cls.build(**{name: value[name] for name in cls.__dataclass_fields__ if name in value})


def check_calls(provider: Provider, calls: object, *, field: str = "calls") -> list[Call]:
    """All submissions of a set, checked before the first of them is sent.

    Args:
        provider: Who starts them.
        calls: A list of the provider's own submit arguments, one mapping each, or of calls that are made already.
        field: How the user calls the list.

    Raises:
        ConfigurationError: It is no list, is empty, names one submission twice, or an entry is wrong. The text names
            the entry by its index.
        NotSupported: The provider has no documented submit.
    """
    if provider.submit is None:
        raise NotSupported(f"{provider.title} documents no way to start a run: wait for its runs instead.")
    items = check_list(field, calls, "submissions")
    made, refused = _each(field, items, partial(_call, provider))
    if refused is not None:
        # No frame keeps what is to be submitted.
        del items, calls, made
        raise refused
    _refuse_twice(field, [fingerprint(call, "") for call in made], "the same submission", "let them differ")
    return made


def check_run_ids(
    provider: Provider,
    run_ids: object,
    parents: Mapping[str, str] | Sequence[Mapping[str, str]] | None = None,
    *,
    field: str = "run_ids",
) -> list[RunRef]:
    """The addresses of all runs of a set, checked before the first of them is read.

    Args:
        provider: Whose runs they are.
        run_ids: A list of ids, or of references.
        parents: What their addresses need beside the ids: one mapping for all runs, or a list of one for each.
        field: How the user calls the list.

    Raises:
        ConfigurationError: It is no list, is empty, names one run twice, or an entry is wrong. The text names the
            entry by its index.
    """
    items = check_list(field, run_ids, "run ids")
    if parents is None or isinstance(parents, Mapping):
        each: Sequence[Mapping[str, str] | None] = [parents] * len(items)
    else:
        each = parents
    if len(each) != len(items):
        raise ConfigurationError(
            f"{field} names {len(items)} runs and there are parents for {len(each)}: give one mapping for all runs, or "
            "a list of one for each."
        )
    refs, refused = _each(field, list(zip(items, each, strict=True)), partial(_ref, provider))
    if refused is not None:
        raise refused
    keys = [(provider.id_key(ref.run_id), tuple(sorted(ref.parents.items()))) for ref in refs]
    _refuse_twice(field, keys, "the same run", "name each run once")
    return refs


def _call(provider: Provider, item: object) -> Call:
    if isinstance(item, Call):
        check_call(provider, item)
        return item
    if not isinstance(item, Mapping):
        raise ConfigurationError(
            f"this must be a mapping of the arguments of a submit to {provider.title}, not {type(item).__name__}."
        )
    given = dict(cast("Mapping[object, Any]", item))
    wrong = next((name for name in given if not isinstance(name, str)), None)
    if wrong is not None:
        raise ConfigurationError(f"an argument is named by {type(wrong).__name__}, not by a text.")
    return provider.call(**cast("dict[str, Any]", given))


def _ref(provider: Provider, named: tuple[object, Mapping[str, str] | None]) -> RunRef:
    item, parents = named
    if isinstance(item, RunRef):
        provider.request(provider.status, item)
        return item
    # A JSON document may hold an id that is a number.
    run_id = str(item) if isinstance(item, int) and not isinstance(item, bool) else item
    return provider.ref(cast("str", run_id), parents)


def _each(field: str, items: Iterable[T], check: Callable[[T], R]) -> tuple[list[R], ConfigurationError | None]:
    """What a check makes of all entries; or of those before the first that it refuses, and why: by its index."""
    made: list[R] = []
    for index, item in enumerate(items):
        try:
            made.append(check(item))
        except ConfigurationError as error:
            return made, error.at(f"{field}[{index}]")
    return made, None


def check_list(field: str, value: object, of: str) -> Sequence[object]:
    """Refuse what is no list, or an empty one; a text and a mapping are none.

    Args:
        field: How the user calls it.
        value: What was given.
        of: What it holds, in words.

    Raises:
        ConfigurationError: As it says.
    """
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        hint = " Where a template gives it, let the DAG render native objects." if isinstance(value, str) else ""
        raise ConfigurationError(f"{field} must be a list of {of}, not {type(value).__name__}.{hint}")
    if not value:
        raise ConfigurationError(f"{field} is empty: name one at least, or leave the task out.")
    return cast("Sequence[object]", value)


def _refuse_twice(field: str, keys: Sequence[object], what: str, advice: str) -> None:
    first: dict[object, int] = {}
    for index, key in enumerate(keys):
        before = first.setdefault(key, index)
        if before != index:
            raise ConfigurationError(f"{field}[{index}] is {what} as {field}[{before}]: {advice}.")


def _count(field: str, value: object) -> int:
    """A whole number above 0. A text that spells one is taken: templates render to text."""
    text = value.strip() if isinstance(value, str) else value
    if isinstance(text, str) and text.isascii() and text.isdigit():
        text = int(text)
    if isinstance(text, bool) or not isinstance(text, int) or text < 1:
        raise ConfigurationError(f"{field} must be a whole number, 1 or more, not {repr(value)[:80]}.")
    return text
