"""Acme, with one mistake: the cursor of the page before is taken for that of the next one."""

from dataclasses import replace

from tests.conformance.acme_runs import ACME, variant

assert ACME.listing is not None
MISTAKEN = variant("wrong_end_of_list", listing=replace(ACME.listing, next=("previous_cursor",)))
