"""Acme, with one mistake: an answer without a word is that of a job that is done."""

from pydantic import Field

from tests.conformance.acme_runs import AcmeJob, variant


class Job(AcmeJob):
    """A job with a word of its own."""

    run_id: str = Field("J-1", validation_alias="job_id")
    status: str = Field("DONE", validation_alias="state")


MISTAKEN = variant("word_by_default", body=Job)
