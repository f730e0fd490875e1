"""Calls functions that users give; an error names in one line which one failed and why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import dagster as dg

from runops.core import RunopsError
from runops.core.model.codes import Code, text_of
from runops.core.model.redaction import clean

R = TypeVar("R")


class FunctionFailed(RunopsError):
    """A function of the user's raised. The text names the argument that holds it, and is safe to show."""

    error_code = Code.FUNCTION_FAILED


def called(argument: str, function: Callable[..., R], *arguments: Any) -> R:
    """What a function of the user's gives.

    Args:
        argument: Who was given it and as what, such as ``build_run_asset('quote'): call``.
        function: The function.
        arguments: What it is called with.

    Raises:
        FunctionFailed: It raised. What it raised to steer Dagster, and errors of runops, pass as they are.
    """
    try:
        return function(*arguments)
    except (dg.Failure, dg.RetryRequested, RunopsError):
        raise
    except Exception as error:
        raise FunctionFailed(f"{argument} raised {described(error)}.") from error


def described(error: Exception) -> str:
    """An error of others in one line: its kind, and its text without addresses, long tokens and keys."""
    text = clean(text_of(error))
    return f"{type(error).__name__}: {text.rstrip('.')}" if text else type(error).__name__
