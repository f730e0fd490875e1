"""Acme, with one mistake: nothing says how its keys begin, so one in a message of the service is shown."""

from runops.core.declaration import AuthScheme
from tests.conformance.acme_runs import variant

MISTAKEN = variant("no_key_prefix", auth=AuthScheme("X-Acme-Key"))
