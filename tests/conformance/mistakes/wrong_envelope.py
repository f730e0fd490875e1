"""Acme, with one mistake: the job is looked for where the answer has none."""

from tests.conformance.acme_runs import variant

MISTAKEN = variant("wrong_envelope", envelope=("answer", "data"))
