"""Drives a flow without a service: a function of the test replies to what the flow asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from runops.core.model.errors import AnswerError
from runops.core.waiting.steps import Effect, Flow


def drive(flow: Flow[Any], reply_to: Callable[[Effect], Any]) -> Any:
    """What a flow gives.

    Args:
        flow: The flow.
        reply_to: Gives the reply to what it asks for; an ``AnswerError`` that it raises goes into the flow.
    """
    reply: Any = None
    error: AnswerError | None = None
    while True:
        try:
            effect = flow.send(reply) if error is None else flow.throw(error)
        except StopIteration as stop:
            return stop.value
        reply, error = None, None
        try:
            reply = reply_to(effect)
        except AnswerError as failure:
            error = failure
