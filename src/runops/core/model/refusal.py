"""The root of all errors, and the one for bad input with its advice, which every other file of the model may raise."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from runops.core.model.codes import Code, Coded


class RunopsError(Coded, Exception):
    """The root of all errors of runops. ``str`` ends with the error's code, which names a page of the documentation."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors cross processes, whatever their constructor asks for."""
        return _restored, (type(self), self.args), self.__dict__


def _restored(kind: type[RunopsError], args: tuple[Any, ...]) -> RunopsError:
    return kind.__new__(kind, *args)


class ConfigurationError(RunopsError, ValueError):
    """Bad input, refused before anything is sent: the text names the field and what to do.

    Args:
        text: One line for a person.
        error_code: The code, where what to do is not that of an argument with a bad value.
    """

    error_code = Code.BAD_ARGUMENT

    def __init__(self, text: object = "", *, error_code: Code | None = None) -> None:
        super().__init__(text)
        if error_code is not None:
            self.error_code = error_code

    def at(self, place: str) -> ConfigurationError:
        """The same refusal, with the place of what is refused before it.

        Args:
            place: Such as the call and its argument.
        """
        return type(self)(f"{place}: {self.text}", error_code=self.error_code)


class TextRefused(ConfigurationError):
    """A text stands where an object or a list should be, and it is not the JSON of one."""

    error_code = Code.NEEDS_JSON


def nearest(name: object, known: Iterable[str]) -> str:
    """The end of a message about a wrong name: the right one that it is nearest to, if any is near."""
    by_case = {each.lower(): each for each in known}
    close = get_close_matches(str(name).lower(), by_case, n=1)
    return f" Did you mean {str(by_case[close[0]])!r}?" if close else ""
