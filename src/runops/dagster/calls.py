"""How the ``call`` and ``submit`` of a named resource are made of the submit that its service declares."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

from runops.core import Call, RunRef
from runops.core.waiting.options import SubmitOptions
from runops.dagster.options import names_of

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")


def calls(build: Callable[P, Call]) -> Callable[Concatenate[Any, P], Call]:
    """The ``call`` of a named resource: a submission, checked and not yet sent.

    Args:
        build: The submit of the service's declaration, which has the arguments and describes them.
    """

    def call(self: Any, *args: P.args, **kwargs: P.kwargs) -> Call:
        return self.declaration.call(**kwargs)

    call.__doc__ = build.__doc__
    return _with_arguments_of(build, call)


def submits(build: Callable[P, Call]) -> Callable[Concatenate[Any, P], RunRef]:
    """The ``submit`` of a named resource: it takes what its ``call`` takes, and what :class:`SubmitOptions` has.

    Args:
        build: As :func:`calls` takes it.
    """
    own = names_of(SubmitOptions) - inspect.signature(build).parameters.keys()

    def submit(self: Any, *args: P.args, **kwargs: P.kwargs) -> RunRef:
        """Start a run, once; arguments as in ``call``.

        By default it waits while something is active there. With ``on_conflict="attach"`` it gives the active run
        instead, with ``"fail"`` it raises; ``timeout`` bounds the wait for a turn, in seconds or as a timedelta.

        Raises:
            ConflictError: Something is active there, and still is after ``timeout`` or is not to be waited for.
            SubmitUncertainError: The answer is lost; the candidates are in the error.
            AnswerError: Nothing was started.
        """
        given: dict[str, Any] = {**kwargs}
        settings: Any = {name: given.pop(name) for name in own & given.keys()}
        return self._submit(self.declaration.call(**given), **settings)

    return _with_arguments_of(build, submit, sorted(own))


def _with_arguments_of(
    build: Callable[..., Any], method: Callable[Q, R], further: Sequence[str] = ()
) -> Callable[Q, R]:
    """For ``help`` and editors: a method that takes what a function takes, and further arguments by name."""
    ours, theirs = inspect.signature(method), inspect.signature(build)
    first = next(iter(ours.parameters.values()))
    more = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in further]
    shown = theirs.replace(
        parameters=[first, *theirs.parameters.values(), *more], return_annotation=ours.return_annotation
    )
    setattr(method, "__signature__", shown)  # noqa: B010 - a type checker knows no such attribute
    return method
