"""What the lines of a terminal are drawn with, within what its encoding can spell and its columns can hold."""

from __future__ import annotations

import unicodedata

from runops.cli.output import printable


class Signs:
    """What lines are drawn with, within what an encoding can spell.

    Args:
        encoding: The terminal's.
        full: A piece of a bar that is done.
        empty: A piece of a bar that is not.
        gap: Stands for what was left out.
    """

    def __init__(self, encoding: str, full: str, empty: str, gap: str) -> None:
        self._encoding = encoding
        self._full = full
        self._empty = empty
        self._gap = gap

    @classmethod
    def for_encoding(cls, encoding: str | None) -> Signs:
        """Blocks where the terminal has them."""
        name = encoding or "ascii"
        try:
            "█·…".encode(name)
        except (UnicodeEncodeError, LookupError):
            return cls(name, "#", ".", "..")
        return cls(name, "█", "·", "…")

    def bar(self, done: float, width: int) -> str:
        """How far something is, from 0 to 1."""
        full = round(width * min(max(done, 0.0), 1.0))
        return self._full * full + self._empty * (width - full)

    def shortened(self, text: str, width: int) -> str:
        """The beginning and the end of a text, within a width."""
        if columns(text) <= width:
            return text
        half = (width - len(self._gap)) // 2
        return f"{text[: width - len(self._gap) - half]}{self._gap}{text[len(text) - half :]}"

    def beginning(self, text: str, width: int) -> str:
        """The beginning of a text, within a width."""
        if columns(text) <= width:
            return text
        while columns(text) > max(width - len(self._gap), 0):
            text = text[:-1]
        return text.rstrip() + self._gap

    def padded(self, text: str, width: int, *, right: bool = False) -> str:
        """A text in a column of a table."""
        space = " " * max(width - columns(text), 0)
        return space + text if right else text + space

    def fit(self, text: str, width: int) -> str:
        """A line that no terminal of this width wraps."""
        line = self.encodable(printable(text))
        while columns(line) > max(width, 1):
            line = line[:-1]
        return line

    def encodable(self, text: str) -> str:
        """A text without what the terminal cannot show; an escape in its place would be of another width."""
        try:
            return text.encode(self._encoding, "replace").decode(self._encoding)
        except LookupError:
            return text


def columns(text: str) -> int:
    """How many columns of a terminal a printable text takes."""
    if text.isascii():
        return len(text)
    return sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
