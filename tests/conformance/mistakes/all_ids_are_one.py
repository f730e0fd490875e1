"""Acme, with one mistake: an answer about any job is taken for one about the job that was asked for."""

from tests.conformance.acme_runs import variant

MISTAKEN = variant("all_ids_are_one", id_key=lambda value: value[:0])
