"""Acme, with one mistake: the id of the queue is taken for that of the new run."""

from tests.conformance.acme_runs import submission, variant

MISTAKEN = variant("wrong_id_path", submit=submission("wrong_id_path", run_id=("queue_id",)))
