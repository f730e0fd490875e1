"""The root of all errors, and the one for bad input, which every other file of the model may raise."""

from __future__ import annotations

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
