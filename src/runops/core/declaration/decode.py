"""Bytes of an answer, decoded: JSON, models of it, and what an answer about a run says of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from types import MappingProxyType
from typing import Any, TypeVar, cast, get_args
from urllib.parse import quote

from pydantic import BaseModel, Field, ValidationError, create_model

from runops.core.declaration.address import holes_of
from runops.core.declaration.body import Ids, Part, RunBody, Text
from runops.core.model import times
from runops.core.model.errors import AnotherRun, MalformedAnswer, UnknownStateError
from runops.core.model.redaction import shown
from runops.core.model.run import Outcome, Phase, RunRef, RunSnapshot
from runops.core.model.states import StateReading, StateTable

LARGE = 100_000
"""Bytes up to which a body is read at once: a thread, or steps, cost more than it takes."""

T = TypeVar("T", bound=BaseModel)
_EMPTY: Mapping[str, Any] = MappingProxyType({})
_MIXED_UP = "a proxy or a cache on the way may mix up answers"

# --- JSON ------------------------------------------------------------------------------------------------------


def decoded(content: bytes) -> Any:
    """A body as JSON says it.

    Raises:
        MalformedAnswer: It is no JSON.
    """
    try:
        if len(content) <= LARGE:
            return json.loads(content)
        # The parser lets other threads go on only where it calls Python: so it does that for each object and number.
        return json.loads(content, object_hook=_as_it_is, parse_int=_whole, parse_float=_real)
    except (ValueError, RecursionError):
        raise MalformedAnswer("The answer is not JSON.") from None


def _as_it_is(found: dict[str, Any]) -> dict[str, Any]:
    return found


def _whole(digits: str) -> int:
    return int(digits)


def _real(digits: str) -> float:
    return float(digits)


def at(value: Any, path: Sequence[str]) -> Any:
    """What stands in a decoded answer behind these keys; None where there is nothing."""
    for key in path:
        value = cast("dict[str, Any]", value).get(key) if isinstance(value, dict) else None
    return value


def check_json(content: bytes) -> None:
    """Tell an API's answer from the page of a proxy or of a wrong address.

    Raises:
        MalformedAnswer: It is neither empty nor JSON.
    """
    if content.strip():
        decoded(content)


# --- models ----------------------------------------------------------------------------------------------------


def validated(model: type[T], content: bytes, *, by_steps: bool = True) -> T:
    """A JSON body as a model, read as leniently as a list is: with a byte order mark, in UTF-16, with half a surrogate.

    Args:
        model: What is read of it.
        content: The body.
        by_steps: Read a large one by steps, between which other threads go on. That costs memory: a model that wants
            next to nothing of it is better off without.

    Raises:
        ValidationError: It is no JSON, or not as the model wants it.
    """
    if by_steps and len(content) > LARGE:
        # What is no JSON is left to the model's parser, for its error.
        with suppress(MalformedAnswer):
            return model.model_validate(decoded(content))
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        if error.errors(include_url=False, include_context=False, include_input=False)[0]["type"] != "json_invalid":
            raise
        try:
            value = decoded(content)
        except MalformedAnswer:
            raise error from None
    return model.model_validate(value)


@cache
def _enveloped(model: type[BaseModel], path: tuple[str, ...]) -> type[BaseModel]:
    """Reads an answer that holds ``model`` at ``path``.

    The inner model is not lenient: a wrapped validator would be handed all of it as Python objects.
    """
    for key in reversed(path):
        inner: dict[str, Any] = {"inner": (model, Field(validation_alias=key))}
        model = create_model(f"{model.__name__}Answer", __base__=Part, **inner)
    return model


@cache
def _ids_of(body: type[RunBody], parents: tuple[str, ...]) -> type[BaseModel]:
    """Reads the ids in an answer about a run and nothing else of it."""
    declared = body.model_fields
    wanted: dict[str, Any] = {
        name: (Text, Field(None, validation_alias=declared[name].validation_alias))
        for name in ("run_id", *parents)
        if name in declared
    }
    return create_model(f"{body.__name__}Ids", __base__=Ids, **wanted)


def malformed(request: str, error: ValidationError, model: type[BaseModel]) -> MalformedAnswer:
    """What is wrong with an answer, by the names that its model declares: anything else in it is nobody's business."""
    declared = _declared(model)
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    # A place may hold the key of a mapping, which the provider chose.
    places = {
        ".".join(str(part) if isinstance(part, int) or part in declared else "?" for part in problem["loc"])
        for problem in problems[:100]
    }
    named = ", ".join(sorted(place or "the body" for place in places)[:5])
    return MalformedAnswer(f"The answer to the {request} is not as documented; unreadable: {named}.")


@cache
def _declared(model: type[BaseModel]) -> frozenset[str]:
    """The names of all fields of a model and of the models in it, as they may stand in the place of an error."""
    names: set[str] = set()
    seen: set[object] = set()
    left: list[Any] = [model]
    while left:
        kind = left.pop()
        if kind in seen:
            continue
        seen.add(kind)
        left.extend(get_args(kind))
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            for name, info in kind.model_fields.items():
                names.update(text for text in (name, info.alias, info.validation_alias) if isinstance(text, str))
                left.append(info.annotation)
    return frozenset(names)


# --- runs ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Observation:
    """A snapshot, and what else the wait of this process needs: others take the snapshot only.

    Args:
        snapshot: What people and other processes may see.
        reading: How the run's word was read.
        paused_since: Since when the run is paused or waiting, where the provider says it.
        updated_at: When the provider last changed anything of the run, where it says it.
        label: The text in which a submit's mark stands, whole and as it came. It is for comparison, not for people.
        started_by: The account that started the run, where the provider shows it.
    """

    snapshot: RunSnapshot
    reading: StateReading
    paused_since: datetime | None = None
    label: str | None = field(default=None, repr=False)
    started_by: str | None = field(default=None, repr=False)
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Reads answers about the runs of one provider; a declaration makes its own, of what it says.

    Args:
        body, states, link, id_key: As the declaration has them.
        envelope: The keys that lead, in an answer about a run, to the run.
        parents: What the address of a run needs beside its id.
        mark: The field in which a submit's mark stands, if any.
    """

    body: type[RunBody]
    states: StateTable
    link: str
    id_key: Callable[[str], str]
    envelope: tuple[str, ...]
    parents: tuple[str, ...]
    mark: str | None

    def read(self, ref: RunRef, content: bytes) -> Observation:
        """What an answer about a run says; see :meth:`Provider.read`."""
        model = _enveloped(self.body, self.envelope)
        try:
            answer = validated(model, content)
        except ValidationError as error:
            raise malformed(f"read of {ref}", error, model) from None
        body = cast("RunBody", self._opened(answer))
        self._check_ids(ref, body.run_id, {name: body.belongs_to(name) for name in self.parents})
        return self.observe(ref, body)

    def observe(self, ref: RunRef, body: RunBody) -> Observation:
        """A body as a snapshot.

        Raises:
            UnknownStateError: The run is over in a word that is not documented.
        """
        reading = self.states.read(body.status, body.qualifier(), ended=body.finished_at is not None)
        if reading.meaning is None:
            raise UnknownStateError(ref, reading.full_state, self.states.known, taught=reading.taught)
        # A provisional word is not believed yet, and neither is what it gives as its reason.
        provisional = reading.grace_seconds is not None
        meaning = Phase.RUNNING if provisional else reading.meaning
        details = body.details()
        snapshot = RunSnapshot(
            ref=ref,
            state=reading.state,
            phase=meaning if isinstance(meaning, Phase) else None,
            outcome=meaning if isinstance(meaning, Outcome) else None,
            reason=body.reason() or (None if provisional else reading.reason),
            progress=body.progress(),
            created_at=body.created_at,
            started_at=body.started_at,
            finished_at=_readable(body.finished_at),
            url=self.url(ref, details),
            details=details,
        )
        return Observation(
            snapshot, reading, body.paused_since(), self._label(body), body.started_by(), body.updated_at
        )

    def observe_listed(self, ref: RunRef, body: RunBody) -> Observation:
        """The same of an entry of a list, which only finds runs: that a word is unknown is judged by who waits."""
        try:
            return self.observe(ref, body)
        except UnknownStateError as error:
            snapshot = RunSnapshot(
                ref=ref,
                state=error.state,
                created_at=body.created_at,
                started_at=body.started_at,
                finished_at=_readable(body.finished_at),
            )
            reading = StateReading(error.state, error.state, None, known=False)
            return Observation(snapshot, reading, None, self._label(body), body.started_by(), body.updated_at)

    def url(self, ref: RunRef, details: Mapping[str, Any] = _EMPTY) -> str | None:
        """The page of a run; see :meth:`Provider.url`."""
        holes = holes_of(self.link)
        if not holes:
            return self.link
        ids = {**details, **ref.parents, "run_id": ref.run_id}
        if any(name not in ids for name in holes):
            return None
        return self.link.format(**{name: quote(str(ids[name]), safe="") for name in holes})

    def same_id(self, one: str, other: str) -> bool:
        """Whether two spellings are one id to this provider."""
        return one == other or self.id_key(one) == self.id_key(other)

    def check_run(self, ref: RunRef, content: bytes) -> None:
        """Refuse an answer about another run, whatever else it says. It need not name a run.

        Raises:
            AnotherRun: It is about another run.
        """
        try:
            answer = validated(_enveloped(_ids_of(self.body, self.parents), self.envelope), content, by_steps=False)
        except ValidationError:
            return
        ids = self._opened(answer)
        known = {name: getattr(ids, name, None) for name in ("run_id", *self.parents)}
        run_id = known.pop("run_id")
        self._check_ids(ref, run_id, {name: None if value is None else (value,) for name, value in known.items()})

    def check_parent(self, request: str, parent: Mapping[str, str], named: Sequence[Sequence[str]]) -> None:
        """Refuse what names only other parents than the one asked for.

        Args:
            request: What was asked for, in words.
            parent: The parent.
            named: The ids and names of the parents of each run that came.

        Raises:
            AnotherRun: None of them is of this parent.
        """
        ((kind, wanted),) = parent.items()
        if named and not any(self.same_id(wanted, name) for names in named for name in names):
            raise AnotherRun(
                f"The answer to the {request} is about another {kind}, {shown(named[0][0])!r}: {_MIXED_UP}."
            )

    def _check_ids(self, ref: RunRef, run_id: str | None, parents: Mapping[str, Sequence[str] | None]) -> None:
        if run_id is not None and not self.same_id(run_id, ref.run_id):
            raise AnotherRun(f"The answer to the read of {ref} is about another run, {shown(run_id)!r}: {_MIXED_UP}.")
        for kind, names in parents.items():
            if names and kind in ref.parents:
                self.check_parent(f"read of {ref}", {kind: ref.parents[kind]}, [names])

    def _opened(self, answer: Any) -> Any:
        for _ in self.envelope:
            answer = answer.inner
        return answer

    def _label(self, body: RunBody) -> str | None:
        text = getattr(body, self.mark, None) if self.mark else None
        return text if isinstance(text, str) else None


def _readable(end: datetime | None) -> datetime | None:
    """When a run has ended, for people; None also where that cannot be read."""
    return None if end == times.UNREADABLE else end
