"""The examples of every command, from the file beside it; it is read when a help text is wanted, and not before."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from textwrap import indent
from typing import NamedTuple

WIDTH = 100
"""Signs of a line in a help text and on a page."""


class Example(NamedTuple):
    """A line that can be typed as it stands, but for the ids.

    ``code`` is what it exits with where the run is as ``what`` says.
    """

    line: str
    what: str
    code: int = 0

    @property
    def shown(self) -> str:
        """The line in as many lines as it needs, broken before options, as a shell takes them."""
        lines = [""]
        for part in re.split(r" (?=--\w)", self.line):
            if lines[-1] and len(lines[-1]) + len(part) > WIDTH:
                lines[-1] += " \\"
                lines.append(f"    {part}")
            else:
                lines[-1] = f"{lines[-1]} {part}" if lines[-1] else part
        return "\n".join(lines)


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
    lines = [f"{indent(each.shown, '  ')}\n      {each.what}" for each in found]
    return "\n".join(["examples:", *lines]) + "\n" if lines else ""
