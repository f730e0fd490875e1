"""Acme, with one mistake: submits are marked in a text that no run shows again."""

from tests.conformance.acme_runs import submission, variant

MISTAKEN = variant("mark_that_no_run_shows", submit=submission("mark_that_no_run_shows", mark="error"))
