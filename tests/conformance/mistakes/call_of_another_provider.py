"""Acme, with one mistake: a submit says that it is for another provider."""

from dataclasses import replace

from tests.conformance.acme_runs import ACME

MISTAKEN = replace(ACME, name="call_of_another_provider")
