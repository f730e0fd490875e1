"""Free text from a provider, made safe to show. The one place where such text is cleaned; it decides nothing else."""

from __future__ import annotations

import re

LONGEST = 200

_REMOVED = "[removed]"
_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://\S+|\bwww\.\S+", re.IGNORECASE)
_EMAIL = re.compile(r"[^\s@<>\"']+(?:@|%40)[^\s@<>\"']+", re.IGNORECASE)
_LONG_TOKEN = re.compile(r"[A-Za-z0-9_\-+/=.%~]{20,}")
_KEY = re.compile(
    r"\b(?:nx|nyx|op|b3sk|sk|pk|whsec)_\S+"
    r"|\bbearer\s+\S+"
    r"|\b[\w-]*(?:key|token|secret|password|authorization)[\"']?\s*[:=]\s*\S+",
    re.IGNORECASE,
)
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")


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
        if secret:
            line = line.replace(secret, _REMOVED)
    line = " ".join("".join(character if character.isprintable() else " " for character in line).split())
    for pattern in (_URL, _EMAIL, _KEY, _LONG_TOKEN):
        line = pattern.sub(_REMOVED, line)
    if len(line) > LONGEST:
        line = line[: LONGEST - 1].rstrip() + "…"
    return line or None


def code(value: object, *secrets: str) -> str | None:
    """A provider's error code, if it looks like one: a short word, never free text and never a secret."""
    if isinstance(value, str) and _CODE.fullmatch(value) and value not in secrets:
        return value
    return None
