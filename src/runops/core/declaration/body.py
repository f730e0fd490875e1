"""The models that a declaration reads answers with: the run object, its parts, and fields that forgive."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, ClassVar, TypeVar, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    ValidationInfo,
    WrapValidator,
)

from runops.core.model import times
from runops.core.model.expectation import DetailKind
from runops.core.model.redaction import shown
from runops.core.model.run import Progress


def _moment(value: object, field: ValidationInfo) -> datetime | None:
    """An aware time, or None. An unreadable end is an end all the same."""
    found = times.moment(value)
    return None if found == times.UNREADABLE and field.field_name != "finished_at" else found


def _or_none(value: object, parse: Callable[[object], Any]) -> Any:
    """A field of an unexpected type is as good as absent: it must not end a wait."""
    try:
        return parse(value)
    except ValidationError:
        return None


Moment = Annotated[datetime | None, BeforeValidator(_moment)]
"""A time in UTC, of ISO-8601 text or Unix seconds or milliseconds. What cannot be read is absent, but for an end."""
Text = Annotated[str | None, WrapValidator(_or_none)]
"""Text; anything else in its place reads as absent."""
Number = Annotated[FiniteFloat | None, WrapValidator(_or_none)]
"""A finite number; anything else in its place reads as absent."""
Count = Annotated[int | None, WrapValidator(_or_none)]
"""A whole number; anything else in its place reads as absent."""
Flag = Annotated[bool | None, WrapValidator(_or_none)]
"""True or false; anything else in its place reads as absent."""
T = TypeVar("T", bound=BaseModel)
Lenient = Annotated[T | None, WrapValidator(_or_none)]
"""An optional nested object: anything else in its place reads as absent."""

Id = Annotated[str, Field(min_length=1)]


class Part(BaseModel):
    """A part of an answer: only what it declares is read, and no error about it quotes what came."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Nothing: what it holds is not cleaned yet, and a frame with it may be shown."""
        return iter(())


class RunBody(Part):
    """The fields that we read of a provider's run object. Only the id and the status are required.

    A subclass declares its fields under the provider's own names (by ``validation_alias`` where ours differ),
    and names in ``DETAILS`` those that people may see. Everything else in the payload is never read. A ``finished_at``
    that is given and cannot be read is :data:`~runops.core.model.times.UNREADABLE`: it has ended at an unknown time.

    Args:
        run_id: The run's id.
        status: The provider's own word for how the run stands.
        created_at: When it was made.
        started_at: When it began to run.
        finished_at: When it ended.
        updated_at: When the provider last changed anything of it.
    """

    model_config = ConfigDict(coerce_numbers_to_str=True)

    DETAILS: ClassVar[tuple[str, ...]] = ()

    run_id: Id
    status: Id
    created_at: Moment = None
    started_at: Moment = None
    finished_at: Moment = None
    updated_at: Moment = None
    """When the provider last changed anything of it."""

    @classmethod
    def detail_kinds(cls) -> Mapping[str, DetailKind] | None:
        """What people may see, by name, and of what kind each is; None where :meth:`details` has names of its own."""
        if cls.details is not RunBody.details:
            return None
        return cls.declared_details()

    @classmethod
    def declared_details(cls) -> dict[str, DetailKind]:
        """The kinds of what stands in ``DETAILS``; for a body whose :meth:`details` adds to that."""
        return {name: _kind(cls, name) for name in cls.DETAILS}

    def qualifier(self) -> str | None:
        """A second field that decides beside the status, where the provider has one."""
        return None

    def reason(self) -> str | None:
        """Why the run ended or stands as it does, already cleaned."""
        return None

    def progress(self) -> Progress | None:
        """How far the run is."""
        return None

    def started_by(self) -> str | None:
        """The account that the provider shows as the one that started the run; None where it shows none."""
        return None

    def paused_since(self) -> datetime | None:
        """Since when the run is paused or waiting, where the provider says it."""
        return None

    def belongs_to(self, parent_kind: str) -> Sequence[str] | None:
        """The ids and names by which a parent of this kind is known in this body; None where it carries none."""
        value = getattr(self, parent_kind, None)
        return None if value is None else (str(value),)

    def details(self) -> dict[str, Any]:
        """The fields that people may see, those without a value left out."""
        values = {name: getattr(self, name) for name in self.DETAILS}
        return {name: detail(value) for name, value in values.items() if value is not None}


def _kind(body: type[RunBody], name: str) -> DetailKind:
    """By its annotation: ``Number | None`` and the like; a property may be anything."""
    field = body.model_fields.get(name)
    types = set(get_args(field.annotation) or (field.annotation,)) - {type(None)} if field else set[Any]()
    if types == {bool}:
        return "flag"
    if types and types <= {int, float, FiniteFloat, get_args(FiniteFloat)[0]}:
        return "number"
    return "text" if types == {str} else "any"


class Ids(Part):
    """The base of what reads only the ids in an answer."""

    model_config = ConfigDict(coerce_numbers_to_str=True)


def detail(value: Any) -> Any:
    """A detail as people see it: a text is one line of at most 200 characters, cleaned as far as its kind allows.

    Args:
        value: What the provider sent.
    """
    return shown(value) if isinstance(value, str) else value
