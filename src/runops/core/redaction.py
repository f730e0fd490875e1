"""Free text from a provider, made safe to show. The one place where such text is cleaned; it decides nothing else."""

from __future__ import annotations

import re
from base64 import b64encode
from urllib.parse import quote

LONGEST = 200

_REMOVED = "[removed]"
# Each pattern starts at the edge of a word only, so that a long body without spaces costs one pass.
_WORD = r"(?<![^\s\"'<>(),;=])[^\s\"'<>(),;=]*"
_ADDRESS = re.compile(rf"{_WORD}(?:(?<=[a-z0-9]):(?:\\?/){{2}}|\bwww\.|@|%40)\S*", re.IGNORECASE)
_LONG_TOKEN = re.compile(r"[A-Za-z0-9_\-+/=.%~]{20,}")
_KEY = re.compile(
    r"\b(?:nx|nyx|op|b3sk|sk|pk|whsec)_\S+"
    r"|\b(?:bearer|basic)\s+\S+"
    r"|\b[\w-]*(?:key|token|secret|password|authorization)[\"']?\s*[:=]\s*(?:(?:bearer|basic)\s+)?\S+",
    re.IGNORECASE,
)
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_TOKEN_IN_CODE = re.compile(r"(?=[A-Za-z]*\d)[A-Za-z0-9]{12,}")


def clean(text: object, *secrets: str) -> str | None:
    """One line of at most 200 characters without URLs, e-mail addresses, long tokens or control characters.

    Args:
        text: What the provider wrote; anything but a string with words in it gives None.
        secrets: Texts that must not appear whatever they look like, such as the credential in use.
    """
    if not isinstance(text, str):
        return None
    line = text[: LONGEST * 50]
    for secret in secrets:
        for spelling in _spellings(secret):
            line = line.replace(spelling, _REMOVED)
    line = _one_line(line)
    # Long tokens go before keys: what is left is short.
    for pattern in (_ADDRESS, _LONG_TOKEN, _KEY):
        line = pattern.sub(_REMOVED, line)
    return cut(line) or None


def shown(text: str) -> str:
    """An id or a name, at most 200 characters: without addresses, and cleaned like free text where it has spaces."""
    line = _one_line(text[: LONGEST * 50])
    return (clean(line) or "") if " " in line else cut(_ADDRESS.sub(_REMOVED, line))


def code(value: object, *secrets: str) -> str | None:
    """A provider's error code, if it looks like one: a short word, never free text and never with a secret in it."""
    if not isinstance(value, str) or not _CODE.fullmatch(value):
        return None
    if any(secret and secret in value for secret in secrets) or _TOKEN_IN_CODE.search(value):
        return None
    return value


def _spellings(secret: str) -> set[str]:
    if not secret:
        return set()
    encoded = b64encode(secret.encode()).decode()
    return {secret, quote(secret, safe=""), encoded, encoded.rstrip("=")}


def _one_line(text: str) -> str:
    if not text.isprintable():
        text = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(text.split())


def cut(line: str) -> str:
    """At most 200 characters of a line."""
    return line if len(line) <= LONGEST else line[: LONGEST - 1].rstrip() + "…"
