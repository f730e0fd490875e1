"""What a flow may ask for, and how it is driven: one step at a time, by whoever can send and sleep.

A flow is a generator. It yields what takes time (:class:`Send`, :class:`Read`, :class:`Sleep`, :class:`ReadKey`) and
gets the reply, or the :class:`RunopsError` that stands in its place. Everything else it is given when it is made: a
clock, and whom to tell of an update. So a flow runs in no thread and on no loop of its own, and a test plays the
service by answering.

- :func:`step` lets a flow go on until it asks for something, ends or fails. The clients and the poller all drive by
  it, and differ only in how they wait for the reply.
- :func:`intercept` puts a handler between a flow and its driver: it may change what is asked for, answer it itself, or
  note what came back.
- :func:`renewed` sends a request again with another credential, where one stands by now.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar, cast

from runops.core.declaration.provider import Request
from runops.core.model.errors import AuthError, RunopsError, without_frames
from runops.core.model.run import RunRef
from runops.core.transport.keys import KeyRead

R = TypeVar("R")
Clock = Callable[[], float]
"""Unix seconds."""


@dataclass(frozen=True, slots=True)
class Send:
    """Ask for an answer. A 2xx comes back as its body; everything else is raised as an :class:`AnswerError`."""

    request: Request
    fresh: bool = False
    """On a connection that is new, or was used within the last second: one gone stale could swallow a submit."""
    read: Callable[[bytes], Any] | None = None
    """What the body becomes before it comes back, as the driver sees fit: an event loop has it done in a thread."""
    by: float | None = None
    """Unix seconds: fail with a :class:`TransientError` rather than be held back for longer than this. An exchange that
    is under way then has ``LAST_LOOK_SECONDS`` (session.py) left."""
    dated: bool = False
    """Whether the reply is a :class:`Reply`, which has the service's own clock beside the body."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A good answer and when it was given, by the service's own clock."""

    content: bytes = field(repr=False)
    date: float | None
    """Unix seconds, or None where the answer bears no date."""


@dataclass(slots=True)
class Read:
    """Ask how a run stands, as an :class:`Observation`. Where from is the driver's choice: its own route, or a list."""

    ref: RunRef
    by: float | None = None
    """As in :class:`Send`."""


@dataclass(slots=True)
class Sleep:
    """Ask for a pause."""

    seconds: float
    for_key: bool = False
    """Whether the pause is over as soon as another credential is known."""


@dataclass(frozen=True, slots=True)
class ReadKey:
    """Ask for the credential to be read again where it was set, as a :class:`runops.core.transport.keys.KeyRead`.

    The driver reads it no more often than ``REREAD_SECONDS`` allows, for all who ask; with another one it goes on."""

    refused: str
    """The mark of the credential that was refused; empty for the one in use."""


Effect = Send | Read | Sleep | ReadKey
Flow = Generator[Effect, Any, R]


@dataclass(frozen=True, slots=True)
class Ended(Generic[R]):
    """What a flow gave in the end."""

    result: R


def step(flow: Flow[R], reply: Any = None, error: BaseException | None = None) -> Effect | Ended[R] | RunopsError:
    """Let a flow go on with a reply, or with the error in its place, until it asks for something.

    A failure of ours is returned and not raised, without its frames: they may hold a body or a key.

    Raises:
        BaseException: What a callback that the flow was given has raised.
    """
    try:
        return flow.send(reply) if error is None else flow.throw(error)
    except StopIteration as stop:
        return Ended(cast("R", stop.value))
    except RunopsError as failure:
        return without_frames(failure)


def intercept(flow: Flow[R], handle: Callable[[Effect], Flow[Any]]) -> Flow[R]:
    """The same flow, with a handler between it and its driver.

    Args:
        flow: Any flow.
        handle: Given what the flow asks for; a flow that ends in the reply. The usual one yields the effect itself.
            An error of ours goes on into the flow; any other one ends it.
    """
    reply: Any = None
    error: RunopsError | None = None
    while True:
        try:
            effect = flow.send(reply) if error is None else flow.throw(error)
        except StopIteration as stop:
            return cast("R", stop.value)
        reply, error = None, None
        try:
            reply = yield from handle(effect)
        except RunopsError as failure:
            error = failure


def renewed(flow: Flow[R]) -> Flow[R]:
    """A flow whose requests are sent once more if their credential is refused and another one stands there by now.

    Not what starts a run: there a refusal is the end.
    """

    def handle(effect: Effect) -> Flow[Any]:
        try:
            return (yield effect)
        except AuthError as error:
            if isinstance(effect, Send) and effect.fresh:
                raise
            reply: KeyRead = yield ReadKey(error.key_mark)
            if not reply.changed:
                raise
        return (yield effect)

    return intercept(flow, handle)


def within(flow: Flow[R], by: float) -> Flow[R]:
    """A flow whose requests fail rather than outlast a moment by more than a last look may.

    Args:
        flow: Any flow.
        by: Unix seconds; see :class:`Send`.
    """

    def bounded(effect: Effect) -> Flow[Any]:
        return (yield replace(effect, by=by) if isinstance(effect, Send) and effect.by is None else effect)

    return intercept(flow, bounded)
