"""What an answer is once everything that nobody needs is gone: its shape, its words, made-up ids, shifted times.

What survives is an allow-list: the keys that the declaration names, documented words, null, and the differences between
the declaration's times. Ids become made-up ones, the same for the same id. Every other text, number, flag and key
becomes a stand-in, also those that nobody has thought of.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast, get_args
from uuid import UUID

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from runops.core.declaration import Moment, Provider, RunBody
from runops.core.model import times

TEXT = "stand-in"
NUMBER = 1
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
"""The earliest time of the first answer becomes this one."""
UNKNOWN_WORD = "unknown-word"
ERROR_KEYS = frozenset({"error", "code", "message", "detail", "type"})
MOST_ITEMS = 2
"""Items of an array that nothing reads; of one that something reads :data:`MOST_RUNS`."""
MOST_RUNS = 20
MOST_KEYS = 20
DEEPEST = 4
_MOMENT = get_args(Moment)[1]


@dataclass
class StandIns:
    """The stand-ins of one folder, so that the same id and the same unknown key are the same in all its files.

    Args:
        provider: Whose answers they are.
        words: Words that are kept although no table holds them.
    """

    provider: Provider
    words: frozenset[str] = frozenset()
    _ids: dict[str, str] = field(default_factory=dict[str, str], repr=False)
    _keys: dict[str, str] = field(default_factory=dict[str, str], repr=False)
    _shift: timedelta | None = None

    # --- ids and keys ---

    def id_of(self, value: str, kind: str) -> str:
        """The made-up id for one, in its form: a UUID, a number, or a text.

        Args:
            value: The id as it came.
            kind: What it names, such as ``run``.
        """
        # Two spellings of one id are one.
        key = self.provider.id_key(value)
        known = self._ids.get(key)
        if known is None:
            number = len(self._ids) + 1
            known = f"{kind.removesuffix('_id').replace('_', '-')}-{number}"
            if value.isdecimal():
                known = str(1_000 + number)
            elif _is_uuid(value):
                known = f"00000000-0000-4000-8000-{number:012d}"
            self._ids[key] = known
        return known

    def _key(self, key: str, allowed: frozenset[str]) -> str:
        return key if key in allowed else self._keys.setdefault(key, f"field_{len(self._keys) + 1}")

    # --- answers ---

    def run_answer(self, body: Any) -> Any:
        """An answer about a run."""
        return self._enveloped(body, self.provider.envelope_path, self.run)

    def page(self, body: Any) -> Any:
        """A page of a list."""
        listing = self.provider.listing
        assert listing is not None
        made = self._enveloped(body, listing.items, self._runs)
        if listing.next and isinstance(made, dict):
            # A cursor or an address of the service; only whether there is one counts.
            _put(cast("dict[str, Any]", made), listing.next, TEXT if _at(body, listing.next) else None)
        return cast("Any", made)

    def started(self, body: Any, path: tuple[str, ...]) -> Any:
        """An answer to a submit, whose new run's id stands behind these keys."""
        return self._enveloped(body, path, self._run_id)

    def refusal(self, body: Any, codes: frozenset[str] = frozenset()) -> Any:
        """The body of an answer that is no 2xx: its shape, and codes that the declaration names."""
        return self.anything(body, ERROR_KEYS, keep=codes)

    def run(self, found: Any) -> Any:
        """A run object."""
        if not isinstance(found, dict):
            return self.anything(found)
        return self._model(cast("dict[str, Any]", found), self.provider.body, deep=0)

    def _runs(self, found: Any) -> Any:
        if not isinstance(found, list):
            return self.anything(found)
        return [self.run(each) for each in cast("list[Any]", found)[:MOST_RUNS]]

    def _enveloped(self, body: Any, path: tuple[str, ...], inner: Callable[[Any], Any]) -> Any:
        """Keep the keys that lead to what is read; all beside them is a stand-in."""
        if not path:
            return inner(body)
        if not isinstance(body, dict):
            return self.anything(body)
        key, *rest = path
        made: dict[str, Any] = {}
        for name, value in list(cast("dict[str, Any]", body).items())[: 10 * MOST_KEYS]:
            if name == key:
                made[name] = self._enveloped(value, tuple(rest), inner)
            elif len(made) < MOST_KEYS:
                made[self._key(name, frozenset())] = self.anything(value, deep=1)
        return made

    # --- values ---

    def _model(self, found: dict[str, Any], model: type[BaseModel], *, deep: int) -> dict[str, Any]:
        declared = {_alias(name, info): (name, info) for name, info in model.model_fields.items()}
        made: dict[str, Any] = {}
        for key, value in found.items():
            if key in declared:
                made[key] = self._declared(*declared[key], value, model, deep=deep)
            elif len(made) < MOST_KEYS + len(declared):
                made[self._key(key, frozenset(declared))] = self.anything(value, deep=deep + 1)
        return made

    def _declared(self, name: str, info: FieldInfo, value: Any, model: type[BaseModel], *, deep: int) -> Any:
        of_run = issubclass(model, RunBody)
        if of_run and name == "run_id":
            return self._as_id(value, "run")
        if of_run and name == "status":
            return self._word(value)
        if of_run and name in self._parent_kinds and value is not None:
            return self._parent(name, value)
        if _MOMENT in info.metadata:
            return self._moment(value)
        inner = _part_of(info)
        if inner is not None and isinstance(value, dict):
            return self._model(cast("dict[str, Any]", value), inner, deep=deep + 1)
        if isinstance(value, str) and self.provider.id_key(value) in self._ids:
            return self._ids[self.provider.id_key(value)]
        if of_run and isinstance(value, str) and value.strip().lower() in self._qualifiers:
            return value
        if of_run and isinstance(value, str) and times.moment(value) not in (None, times.UNREADABLE):
            # A time that is read as a text, such as one whose mere presence decides.
            return self._moment(value)
        return self.anything(value, deep=deep + 1)

    @property
    def _parent_kinds(self) -> frozenset[str]:
        listing = self.provider.listing
        return frozenset((*self.provider.parents, *(listing.parent_kinds if listing else ())))

    def _parent(self, kind: str, value: Any) -> Any:
        """A parent, which may be an object with an id and a name."""
        if not isinstance(value, dict):
            return self._as_id(value, kind)
        made: dict[str, Any] = {}
        for key, inner in list(cast("dict[str, Any]", value).items())[:MOST_KEYS]:
            kept = key if key in ("id", "slug") else self._key(key, frozenset())
            made[kept] = self._as_id(inner, kind) if kept == key else self.anything(inner, deep=2)
        return made

    @property
    def _qualifiers(self) -> frozenset[str]:
        return frozenset(qualifier.lower() for _, qualifier, _ in self.provider.states if qualifier)

    def _word(self, value: Any) -> Any:
        if not isinstance(value, str):
            return self.anything(value)
        documented = {state.lower() for state, _, _ in self.provider.states}
        kept = value.strip().lower() in documented or value in self.words
        return value if kept else UNKNOWN_WORD

    def _run_id(self, value: Any) -> Any:
        return self._as_id(value, "run")

    def _as_id(self, value: Any, kind: str) -> Any:
        if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
            return self.anything(value)
        made = self.id_of(str(value), kind)
        return int(made) if isinstance(value, int) else made

    def _moment(self, value: Any) -> Any:
        found = times.moment(value)
        if found is None:
            return value if value in (None, "", 0) else None
        if found == times.UNREADABLE:
            return TEXT
        if self._shift is None:
            self._shift = BEGINNING - found
        try:
            shifted = found + self._shift
        except OverflowError:
            return TEXT
        if isinstance(value, str):
            return shifted.isoformat(timespec="milliseconds" if "." in value else "seconds").replace("+00:00", "Z")
        scale = next(scale for scale in (1, 10**3, 10**6, 10**9) if value < 1e11 * scale)
        return type(value)(shifted.timestamp() * scale)

    def anything(
        self, value: Any, allowed: frozenset[str] = frozenset(), *, keep: frozenset[str] = frozenset(), deep: int = 0
    ) -> Any:
        """A value that nothing reads: its type, and the shape of what it holds, up to a size.

        Args:
            value: As it came.
            allowed: Keys that are kept.
            keep: Texts that are kept.
            deep: How deep in the answer it stands.
        """
        if isinstance(value, bool):
            return False
        if isinstance(value, (int, float)):
            return type(value)(NUMBER)
        if isinstance(value, str):
            return value if value in keep else TEXT
        if isinstance(value, list):
            shown = cast("list[Any]", value)[:MOST_ITEMS] if deep < DEEPEST else []
            return [self.anything(each, allowed, keep=keep, deep=deep + 1) for each in shown]
        if isinstance(value, dict):
            pairs = list(cast("dict[str, Any]", value).items())[:MOST_KEYS] if deep < DEEPEST else []
            return {
                self._key(key, allowed): self.anything(inner, allowed, keep=keep, deep=deep + 1) for key, inner in pairs
            }
        return None


def key_header(provider: Provider) -> dict[str, str]:
    """The header of the key, with a stand-in that begins as the provider's keys do."""
    auth = provider.auth
    return {auth.header: f"{auth.prefix}{auth.key_prefixes[0] if auth.key_prefixes else ''}{TEXT}"}


def headers(given: Mapping[str, str]) -> dict[str, str]:
    """The headers of an answer that matter: the type of its body, and a pause that it asks for."""
    lower = {name.lower(): value for name, value in given.items()}
    kind = re.match(r"(application/json|text/html|text/plain)\b", lower.get("content-type", ""))
    pause = re.fullmatch(r"\d{1,6}", lower.get("retry-after", ""))
    found = {"content-type": kind[1] if kind else "", "retry-after": pause[0] if pause else ""}
    return {name: value for name, value in found.items() if value}


def _alias(name: str, info: FieldInfo) -> str:
    return info.validation_alias if isinstance(info.validation_alias, str) else name


def _part_of(info: FieldInfo) -> type[BaseModel] | None:
    """The model of a field that holds an object."""
    for kind in (info.annotation, *get_args(info.annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _is_uuid(value: str) -> bool:
    try:
        UUID(value)
    except ValueError:
        return False
    return True


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        value = cast("dict[str, Any]", value).get(key) if isinstance(value, dict) else None
    return value


def _put(value: dict[str, Any], path: tuple[str, ...], found: Any) -> None:
    *outer, last = path
    for key in outer:
        inner = value.get(key)
        value = cast("dict[str, Any]", inner) if isinstance(inner, dict) else value.setdefault(key, {})
    value[last] = found
