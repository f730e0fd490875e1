"""Acme, with one mistake: people see whom the customer has named as a contact."""

from typing import Any

from tests.conformance.acme_runs import AcmeJob, variant


class Job(AcmeJob):
    """A job that shows too much."""

    contact: Any = None

    def details(self) -> dict[str, Any]:
        """All of it."""
        return {**super().details(), **({"contact": str(self.contact)} if self.contact else {})}


MISTAKEN = variant("detail_of_a_payload", body=Job)
