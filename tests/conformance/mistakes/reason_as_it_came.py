"""Acme, with one mistake: why a job broke is told in the service's own words, with all that stands in them."""

from tests.conformance.acme_runs import AcmeJob, variant


class Job(AcmeJob):
    """A job that says too much."""

    def reason(self) -> str | None:
        """Why it broke."""
        return self.error


MISTAKEN = variant("reason_as_it_came", body=Job)
