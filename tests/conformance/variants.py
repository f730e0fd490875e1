"""Declarations that differ from Acme's in one thing, and bodies that read its answers in ways of their own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pydantic import Field, field_validator

from runops.core import Provider, StateTable
from runops.core.declaration import Explanation, Moment, Retry, Route, Text
from tests.conformance.acme_runs import ACME, AcmeJob, submission, submit, variant

NAME = "acme_other"
JOB = "/v3/jobs/{run_id}"


def other(**changes: Any) -> Provider:
    return variant(NAME, **changes)


def listing(**changes: Any) -> Provider:
    assert ACME.listing is not None
    return other(listing=replace(ACME.listing, **changes))


def submitting(**changes: Any) -> Provider:
    return other(submit=submission(NAME, **changes))


def orphan(*, plant: str, amount: int = 1, label: str = "") -> Any:
    return replace(submit(plant=plant, amount=amount, label=label), provider=NAME, parent={})


def asked(method: str = "GET", path: str = JOB, **query: str) -> Route:
    return Route(method, path, query)


def states(**words_of: Any) -> StateTable:
    table: dict[str, Any] = {state: row.meaning for state, _, row in ACME.states}
    return StateTable({word: meaning for word, meaning in {**table, **words_of}.items() if meaning is not None})


class Deadline(AcmeJob):
    """One whose end is believed to stand in another field."""

    finished_at: Moment = Field(None, validation_alias="limit")


class Contact(AcmeJob):
    """One that shows a whole object."""

    DETAILS = ("plant", "contact")
    contact: dict[str, Any] | None = None


class Believed(AcmeJob):
    """One that reads a text beside its word."""

    note: Text = None

    def qualifier(self) -> str | None:
        return "late" if self.note == "late" else None


class Spelled(AcmeJob):
    """One that takes a word in small letters for another one."""

    @field_validator("status", mode="before")
    @classmethod
    def _spelled(cls, value: Any) -> Any:
        return "ACTIVE" if value == "done" else value


class Defaults(AcmeJob):
    """One that needs nothing of an answer."""

    run_id: str = Field("J-1", validation_alias="job_id")
    status: str = Field("DONE", validation_alias="state")


class Guessing(AcmeJob):
    """One that takes words that it does not know for a failure."""

    @field_validator("status", mode="before")
    @classmethod
    def _guessed(cls, value: Any) -> Any:
        return value if str(value).strip().upper() in WORDS_OF_ACME else "BROKEN"


WORDS_OF_ACME = [state for state, _, _ in ACME.states]


def nothing(_: bytes) -> str | None:
    return None


EVERY_ROUTE: dict[str, Any] = {
    "resume": asked("POST", f"{JOB}/resume"),
    "retry": Retry(asked("POST", f"{JOB}/retry"), ("job", "job_id")),
    "explain": Explanation(asked("GET", f"{JOB}/why"), nothing),
    "result": asked("GET", f"{JOB}/result"),
}
