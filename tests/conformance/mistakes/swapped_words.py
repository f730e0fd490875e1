"""Acme, with one mistake: what a job that is done says is taken for that of a broken one, and the other way round."""

from runops.core import Outcome, Phase, StateTable
from tests.conformance.acme_runs import variant

MISTAKEN = variant(
    "swapped_words",
    states=StateTable(
        {
            "QUEUED": Phase.QUEUED,
            "ACTIVE": Phase.RUNNING,
            "DONE": Outcome.FAILED,
            "BROKEN": Outcome.SUCCEEDED,
            "STOPPED": Outcome.CANCELLED,
        }
    ),
)
