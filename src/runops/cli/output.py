"""What is written to standard output and standard error, whatever they are: closed, full, or without Unicode."""

from __future__ import annotations

import io
import os
import sys


class OutputError(Exception):
    """Standard output takes nothing more: it is closed or full, or its reader has gone."""

    error_code = "output-broken"
    """As the core lists it, which takes long to import."""

    @property
    def text(self) -> str:
        """The text without the code, for texts that go on behind it."""
        return str(self.args[0]) if self.args else ""

    def __str__(self) -> str:
        return f"{self.text} [{self.error_code}]"


def prepare() -> None:
    """Let the streams of this process take every character; what an encoding lacks is written as an escape."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(text: str, end: str = "\n") -> None:
    """Write to standard output, at once.

    Raises:
        OutputError: It takes nothing.
    """
    try:
        print(text, end=end, flush=True)
    except (OSError, ValueError) as error:
        raise OutputError(_broken(error)) from None


def complain(text: object) -> None:
    """One line on standard error. Where that cannot be written either, only the exit code is left to tell."""
    try:
        print(f"runops: {printable(str(text))}", file=sys.stderr, flush=True)
    except (OSError, ValueError):
        return


def is_closed() -> bool:
    """Whether this process was started without a standard output, as by ``>&-``."""
    return getattr(sys, "stdout", None) is None


def flush() -> None:
    """Write what argparse has left in the buffer.

    Raises:
        OutputError: It cannot be written.
    """
    if is_closed():
        return
    try:
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        raise OutputError(_broken(error)) from None


def give_up() -> None:
    """Let nothing be written to standard output any more: Python itself would try again when it exits."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        return


def printable(text: str) -> str:
    """What a provider says must not steer the terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _broken(error: OSError | ValueError) -> str:
    reason = "its reader has gone" if isinstance(error, BrokenPipeError) else getattr(error, "strerror", None) or error
    return f"Standard output cannot be written: {reason}."
