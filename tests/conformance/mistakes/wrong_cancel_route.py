"""Acme, with one mistake: a job is cancelled by a route that the service does not have."""

from runops.core.declaration import Route
from tests.conformance.acme_runs import variant

MISTAKEN = variant("wrong_cancel_route", cancel=Route("POST", "/v3/jobs/{run_id}/cancel"))
