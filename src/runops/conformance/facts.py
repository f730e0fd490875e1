"""A declaration beside a folder of answers: which route each belongs to, which run it is about, and how it is read."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import unquote

from runops.conformance.answers import RecordedAnswer
from runops.core.declaration import Call, Observation, Provider, Route
from runops.core.declaration.decode import at
from runops.core.model.errors import AnswerError, RunopsError
from runops.core.model.run import Outcome, Phase, RunRef
from runops.core.transport.base import Answer
from runops.core.transport.retry import from_answer

FIELDS = {"list": "listing.route", "latest": "listing.latest", "submit": "submit"}
"""The declaration's field behind the name of a route, where that is called otherwise."""
KEY_HINT = re.compile(r"[A-Za-z][A-Za-z0-9]*[_-]")
STAND_IN = "stand-in"
"""What a made-up key ends with, behind what keys of the service begin with."""


@dataclass(frozen=True)
class Facts:
    """What the checks start from.

    Args:
        provider: The declaration.
        answers: The folder.
    """

    provider: Provider
    answers: tuple[RecordedAnswer, ...]

    def of(self, *routes: str, ok: bool | None = None) -> list[RecordedAnswer]:
        """The answers of these routes; with ``ok`` only those that are a 2xx, or are none."""
        found = [each for each in self.answers if each.route in routes]
        return [each for each in found if ok is None or each.ok is ok]

    # --- routes and runs ---

    def route(self, name: str) -> Route | None:
        """The declared route of a name; None where there is none. A submit has no fixed one."""
        provider = self.provider
        if name in ("list", "latest"):
            listing = provider.listing
            return None if listing is None else listing.route if name == "list" else listing.latest
        if name in ("retry", "explain"):
            nested = provider.retry if name == "retry" else provider.explain
            return nested.route if nested else None
        return None if name == "submit" else cast("Route | None", getattr(provider, name))

    def ids(self, answer: RecordedAnswer) -> dict[str, str] | None:
        """The ids in the address that an answer belongs to; None where the declared route has another address."""
        route = self.route(answer.route)
        return None if route is None else holes_in(route, answer.request.path)

    def ref(self, answer: RecordedAnswer) -> RunRef | None:
        """The run that an answer is about, by its address; None where the declared route has another one."""
        ids = self.ids(answer)
        if ids is None or "run_id" not in ids:
            return None
        known = {name: ids[name] for name in self.provider.parents if name in ids}
        try:
            return self.provider.ref(ids["run_id"], known)
        except RunopsError:
            return None

    def parent(self, answer: RecordedAnswer) -> dict[str, str]:
        """Whose runs a list shows, by ``read_as.parent`` or by its address."""
        if answer.read_as.parent:
            return dict(answer.read_as.parent)
        kinds = self.provider.listing.parent_kinds if self.provider.listing else ()
        return {name: value for name, value in (self.ids(answer) or {}).items() if name in kinds}

    def call(self, answer: RecordedAnswer) -> Call | None:
        """What a submit's answer belongs to, built anew; None without its arguments.

        Raises:
            ConfigurationError: The declaration refuses them.
        """
        if answer.request.arguments is None or self.provider.submit is None:
            return None
        return self.provider.call(**copy.deepcopy(answer.request.arguments))

    # --- how it is read ---

    def read(self, answer: RecordedAnswer, content: bytes | None = None) -> Observation:
        """A good answer about a run, as the declaration reads it.

        Raises:
            RunopsError: It cannot be read.
        """
        ref = self.ref(answer)
        assert ref is not None
        return self.provider.read(ref, answer.content if content is None else content)

    def error(self, answer: RecordedAnswer) -> AnswerError:
        """What an answer that is no 2xx is to a client."""
        headers = {name.lower(): value for name, value in answer.headers.items()}
        came = Answer(answer.status, headers, answer.content)
        return from_answer(came, origin="the folder", description=f"{answer.request.method} {answer.route}")

    # --- what can be played ---

    @property
    def readable(self) -> list[RecordedAnswer]:
        """The answers of the status route that show a run, and whose address is the declared one."""
        shown = [each for each in self.of("status", ok=True) if each.meaning is not None]
        return [each for each in shown if self.ref(each) is not None]

    @property
    def phases(self) -> list[RecordedAnswer]:
        """Those of a run that goes on, but for words that are only believed for a while."""
        return [each for each in self.readable if isinstance(each.meaning, Phase) and not self._provisional(each)]

    def _provisional(self, answer: RecordedAnswer) -> bool:
        try:
            return self.read(answer).reading.grace_seconds is not None
        except RunopsError:
            return False

    @property
    def ends(self) -> list[RecordedAnswer]:
        """Those of a run that is over."""
        return [each for each in self.readable if isinstance(each.meaning, Outcome)]

    @property
    def submits(self) -> list[RecordedAnswer]:
        """Good answers to submits that can be sent again."""
        return [each for each in self.of("submit", ok=True) if each.request.arguments is not None]

    @property
    def refuses_second(self) -> bool:
        """Whether an answer shows that a submit is refused while something is active."""
        return any("ConflictError" in names_of(self.error(each)) for each in self.of("submit", ok=False))

    def shows(self, alias: str) -> bool:
        """Whether all answers about runs show a field."""
        bodies = [at(each.body, self.provider.envelope_path) for each in self.readable]
        for page in self.of("list", ok=True):
            bodies += cast("list[Any]", at(page.body, self.items) or [])
        return bool(bodies) and all(isinstance(each, dict) and alias in each for each in bodies)

    @property
    def items(self) -> tuple[str, ...]:
        """The keys that lead to the runs of a list."""
        return self.provider.listing.items if self.provider.listing else ()

    def alias(self, name: str) -> str:
        """The key under which an answer holds a field of the body."""
        found = self.provider.body.model_fields.get(name)
        alias = found.validation_alias if found else None
        return alias if isinstance(alias, str) else name

    def keys(self, answer: RecordedAnswer) -> list[str]:
        """The outermost keys of an answer."""
        body: object = answer.body
        return list(cast("dict[str, Any]", body)) if isinstance(body, dict) else []

    def key(self, tail: str) -> str:
        """A made-up key that begins as keys of the service do."""
        prefixes = self.provider.auth.key_prefixes
        return f"{prefixes[0] if prefixes else ''}{tail}"


def holes_in(route: Route, path: str) -> dict[str, str] | None:
    """What fills the holes of a route in a path; None where the path is another one."""
    pattern = "".join(
        f"(?P<{part}>[^/]+)" if odd else re.escape(part) for odd, part in _alternating(re.split(r"{(\w+)}", route.path))
    )
    found = re.fullmatch(pattern, path)
    return None if found is None else {name: unquote(value) for name, value in found.groupdict().items()}


def _alternating(parts: list[str]) -> Iterator[tuple[bool, str]]:
    return ((bool(number % 2), part) for number, part in enumerate(parts))


def names_of(error: BaseException) -> list[str]:
    """The names of the class of an error and of those that it derives from."""
    return [each.__name__ for each in type(error).__mro__ if issubclass(each, RunopsError)]


def changed(body: Any, path: tuple[str, ...], **changes: Any) -> Any:
    """A copy of an answer in which some fields of the object at a path are others; ``None`` values count too."""
    made = copy.deepcopy(body)
    found = at(made, path)
    if isinstance(found, dict):
        cast("dict[str, Any]", found).update(changes)
    return made


def replaced(value: Any, texts: Mapping[str, str]) -> Any:
    """A copy of an answer in which whole texts, and numbers that are spelled so, are others."""
    if isinstance(value, dict):
        return {key: replaced(inner, texts) for key, inner in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [replaced(inner, texts) for inner in cast("list[Any]", value)]
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        return texts.get(str(value), value)
    return value
