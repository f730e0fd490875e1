"""The id of a trace that a service is sent, where its declaration names a header for one. It is no secret."""

from __future__ import annotations

import os
import sys

from runops.core.declaration import arguments


class TraceId:
    """What a client's requests bear.

    Args:
        given: The id where no trace is active, 32 hex digits; None for one of its own.

    Raises:
        ConfigurationError: It is no id of a trace.
    """

    def __init__(self, given: str | None) -> None:
        self._own = os.urandom(16).hex() if given is None else arguments.trace_id(given)

    def here(self) -> str:
        """The id of OpenTelemetry's trace that is active here, else the client's own.

        Nothing is imported for it: a process with an active trace has done so.
        """
        api = sys.modules.get("opentelemetry.trace")
        if api is None:
            return self._own
        context = api.get_current_span().get_span_context()
        return format(context.trace_id, "032x") if context.is_valid else self._own
