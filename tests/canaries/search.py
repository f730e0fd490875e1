"""Looks for texts that must never be written, in every spelling in which they could be."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from functools import cache
from urllib.parse import quote, quote_plus


@cache
def spellings(canary: str) -> frozenset[str]:
    """A canary plain, url-encoded, and in base64 wherever it may start in the encoded text."""
    raw = canary.encode()
    found = {canary, quote(canary, safe=""), quote_plus(canary)}
    for alphabet in (base64.b64encode, base64.urlsafe_b64encode):
        for shift in range(3):
            encoded = alphabet(b"\0" * shift + raw).decode().rstrip("=")
            # The first and the last character also hold bits of what stands beside the canary.
            found.add(encoded[-(-shift * 4 // 3) : len(encoded) - 1 if (shift + len(raw)) % 3 else None])
    return frozenset(found)


def find_leaks(canaries: Mapping[str, str], texts: Mapping[str, str] | Iterable[str]) -> list[str]:
    """The canaries that stand in a text, each as ``name in place``; empty when nothing leaked.

    Args:
        canaries: What must not be found, by a name that may be shown.
        texts: What was written, by the name of the place where it was (or in order).
    """
    places = dict(texts) if isinstance(texts, Mapping) else {f"text {n}": text for n, text in enumerate(texts)}
    return [
        f"{name} in {place}"
        for name, canary in canaries.items()
        for place, text in places.items()
        if any(spelling in text for spelling in spellings(canary))
    ]
