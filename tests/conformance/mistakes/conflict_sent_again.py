"""Acme, with one mistake: a submit that is refused since a job is active is simply sent again."""

from tests.conformance.acme_runs import submission, variant

MISTAKEN = variant("conflict_sent_again", submit=submission("conflict_sent_again", turned_away=((409, "busy"),)))
