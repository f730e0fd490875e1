"""The examples of every command, from the file beside it; it is read when a help text is wanted, and not before."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple


class Example(NamedTuple):
    """A line that can be typed as it stands, but for the ids.

    ``code`` is what it exits with where the run is as ``what`` says.
    """

    line: str
    what: str
    code: int = 0


@cache
def examples() -> Mapping[str, tuple[Example, ...]]:
    """All examples, by the name of their command."""
    text = Path(__file__).with_name("examples.toml").read_text(encoding="utf-8")
    return {name: tuple(Example(**each) for each in given) for name, given in tomllib.loads(text).items()}


def epilog(command: str) -> str:
    """The examples of a command as the end of its help text; empty if it has none.

    Args:
        command: Its words after ``runops``. Of a command that only groups others, the examples of all.
    """
    found = [each for name, given in examples().items() if f"{name} ".startswith(f"{command} ") for each in given]
    lines = [f"  {each.line}\n      {each.what}" for each in found]
    return "\n".join(["examples:", *lines]) + "\n" if lines else ""
