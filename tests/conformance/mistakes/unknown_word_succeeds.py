"""Acme, with one mistake: a word that stands in no table is taken for a success."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from tests.conformance.acme_runs import AcmeJob, variant

KNOWN = ("QUEUED", "ACTIVE", "BROKEN", "STOPPED")


class Job(AcmeJob):
    """A job whose word is guessed."""

    status: Annotated[str, BeforeValidator(lambda word: word if str(word).strip().upper() in KNOWN else "DONE")] = (
        Field(min_length=1, validation_alias="state")
    )


MISTAKEN = variant("unknown_word_succeeds", body=Job)
