"""What nobody may see: whatever shows a credential or a body, or collects the locals of a frame, sees a mask."""

from __future__ import annotations

import hashlib
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from functools import cached_property
from typing import Any, NoReturn, cast
from urllib.parse import quote, quote_plus

MASK = "[removed]"


class Secret:
    """A key or token. ``str``, ``repr`` and format give a mask; it is not pickled, and a copy is itself.

    Only :meth:`reveal` gives the text. Call it inside the expression that needs the text and keep the result in no
    variable: error trackers collect the variables of every frame.

    Args:
        value: The text, or a secret, whose text is taken over. Anything else counts as empty.
    """

    def __init__(self, value: object) -> None:
        # A closure, since some tools that show locals look into attributes.
        text: str = value.reveal() if isinstance(value, Secret) else value.strip() if isinstance(value, str) else ""
        self._held: Callable[[], str] = lambda: text

    def reveal(self) -> str:
        """The text itself."""
        return self._held()

    def __repr__(self) -> str:
        return "Secret(****)"

    def __str__(self) -> str:
        return "****"

    def __bool__(self) -> bool:
        return bool(self.reveal())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.reveal() == other.reveal()

    def __hash__(self) -> int:
        return hash(self.reveal())

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("A credential does not travel between processes; read it again where it is needed.")

    @property
    def fits_header(self) -> bool:
        """Whether it can stand in an HTTP header."""
        return self.reveal().isascii() and self.reveal().isprintable()

    @property
    def fingerprint(self) -> str:
        """A hash that tells credentials apart without holding one."""
        return hashlib.sha256(self.reveal().encode(errors="surrogatepass")).hexdigest()

    @property
    def mark(self) -> str:
        """A short form of :attr:`fingerprint`, to tell a few credentials apart."""
        return self.fingerprint[:16]

    @cached_property
    def longest_spelling(self) -> int:
        """Characters of the longest way in which :meth:`removed_from` finds it."""
        return max(map(len, self._spellings()), default=0)

    def removed_from(self, text: str) -> str:
        """A text without this secret: plain, percent-encoded, or in base64."""
        for spelling in self._spellings():
            text = text.replace(spelling, MASK)
        return text

    def _spellings(self) -> list[str]:
        """Longest first, so that no shorter one leaves a part of a longer one."""
        text = self.reveal()
        if not text:
            return []
        raw = text.encode(errors="surrogatepass")
        encoded = [b64encode(raw).decode(), urlsafe_b64encode(raw).decode()]
        quoted = [quote(raw, safe=""), quote_plus(raw)]
        spellings = {text, *quoted, *map(_lower_escapes, quoted), *encoded, *(each.rstrip("=") for each in encoded)}
        return sorted(spellings, key=len, reverse=True)


class Opaque(bytes):
    """Bytes that hold a body or a signed request. ``repr`` and ``str`` show how many, as do those of a slice."""

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"

    __str__ = __repr__

    def __getitem__(self, key: Any) -> Any:
        # Some tools that show locals show the first bytes of a long value.
        taken = cast("int | bytes", bytes.__getitem__(self, key))
        return Opaque(taken) if isinstance(taken, bytes) else taken


def _lower_escapes(quoted: str) -> str:
    """``%2B`` as ``%2b``, which services write too."""
    head, *rest = quoted.split("%")
    return "%".join([head, *(part[:2].lower() + part[2:] for part in rest)])
