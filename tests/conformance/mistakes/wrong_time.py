"""Acme, with one mistake: the time until when a job may take is read as that of its end."""

from pydantic import Field

from runops.core.declaration import Moment
from tests.conformance.acme_runs import AcmeJob, variant


class Job(AcmeJob):
    """A job with another end."""

    finished_at: Moment = Field(None, validation_alias="limit")


MISTAKEN = variant("wrong_time", body=Job)
