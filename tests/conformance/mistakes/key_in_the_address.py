"""Acme, with one mistake: the key goes into the address too, where proxies write it into their logs."""

from runops.core.declaration import Route
from tests.conformance.acme_runs import variant

MISTAKEN = variant("key_in_the_address", status=Route("GET", "/v3/jobs/{run_id}", query={"x-acme-key": "acme_1"}))
