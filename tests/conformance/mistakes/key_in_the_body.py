"""Acme, with one mistake: the key is read from the environment and sent in the body of a submit."""

import os
from dataclasses import replace

from runops.core.declaration import Call
from tests.conformance.acme_runs import submission, variant
from tests.conformance.acme_runs import submit as whole


def submit(*, plant: str, amount: int = 1, label: str = "") -> Call:
    """A job at a plant."""
    call = whole(plant=plant, amount=amount, label=label)
    return replace(call, provider="key_in_the_body", query={"by": os.environ.get("ACME_JOBS_KEY", "nobody")})


MISTAKEN = variant(
    "key_in_the_body",
    submit=submission("key_in_the_body", build=submit),
)
