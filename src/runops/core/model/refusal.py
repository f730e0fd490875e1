"""The root of all errors, and the one for bad input with its advice, which every other file of the model may raise."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class RunopsError(Exception):
    """The root of all errors of runops."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors cross processes, whatever their constructor asks for."""
        return _restored, (type(self), self.args), self.__dict__


def _restored(kind: type[RunopsError], args: tuple[Any, ...]) -> RunopsError:
    return kind.__new__(kind, *args)


class ConfigurationError(RunopsError, ValueError):
    """Bad input, refused before anything is sent: the text names the field and what to do."""


class TextRefused(ConfigurationError):
    """A text stands where an object or a list should be, and it is not the JSON of one."""


def nearest(name: object, known: Iterable[str]) -> str:
    """The end of a message about a wrong name: the right one that it is nearest to, if any is near."""
    by_case = {each.lower(): each for each in known}
    close = get_close_matches(str(name).lower(), by_case, n=1)
    return f" Did you mean {str(by_case[close[0]])!r}?" if close else ""
