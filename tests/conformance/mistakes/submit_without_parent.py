"""Acme, with one mistake: a submit does not say of which parent the list shows its run."""

from dataclasses import replace

from runops.core.declaration import Call
from tests.conformance.acme_runs import submission, variant
from tests.conformance.acme_runs import submit as whole


def submit(*, plant: str, amount: int = 1, label: str = "") -> Call:
    """A job at a plant."""
    return replace(whole(plant=plant, amount=amount, label=label), provider="submit_without_parent", parent={})


MISTAKEN = variant(
    "submit_without_parent",
    submit=submission("submit_without_parent", build=submit),
)
