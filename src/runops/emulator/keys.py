"""Which keys the services take from now on, so that a key can be rotated. Keys are held and shown as hashes only."""

from __future__ import annotations

import hashlib
import threading
from typing import Any

from runops.emulator import checks
from runops.emulator.runs import ScriptError

STATES = ("accepted", "revoked", "forbidden")
"""What a key may be; a revoked one is answered 401, a forbidden one 403."""
MOST = 1_000
"""Keys that are remembered."""
LETTERS = 12
"""Of the hash that names a key."""


def id_of(key: str) -> str:
    """The name of a key: the first letters of its SHA-256 hash."""
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()[:LETTERS]


class Keys:
    """The keys of which something was said. It may be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._states: dict[tuple[str | None, str], dict[str, Any]] = {}

    def put(self, key: Any, state: Any, *, provider: str | None = None, label: Any = None) -> str:
        """Say what a key is from now on; return its name.

        Args:
            key: The key itself.
            state: One of :data:`STATES`.
            provider: At one service, or at all of them.
            label: What the journal calls it, beside its hash.

        Raises:
            ScriptError: If any of this makes no sense.
        """
        if not isinstance(key, str) or not key:
            raise ScriptError("key is required, as a text")
        if state not in STATES:
            raise ScriptError(f"state is one of {', '.join(STATES)}; got {checks.shown(state)}")
        named = None if label is None else checks.text("label", label)
        entry = {"key_id": id_of(key), "state": state, "provider": provider, "label": named}
        with self._lock:
            if len(self._states) >= MOST and (provider, entry["key_id"]) not in self._states:
                raise ScriptError(f"no more than {MOST} keys are remembered; reset them")
            self._states[provider, entry["key_id"]] = entry
        return entry["key_id"]

    def state(self, provider: str, key: str) -> str:
        """What a key is at a service; what nothing was said of is accepted."""
        entry = self._entry(provider, key)
        return "accepted" if entry is None else entry["state"]

    def label(self, provider: str, key: str) -> str | None:
        """What the journal calls it, if anything."""
        entry = self._entry(provider, key)
        return None if entry is None else entry["label"]

    def described(self) -> list[dict[str, Any]]:
        """What was said, oldest first."""
        with self._lock:
            return [dict(entry) for entry in self._states.values()]

    def clear(self) -> None:
        """Forget it: every key is accepted again."""
        with self._lock:
            self._states.clear()

    def _entry(self, provider: str, key: str) -> dict[str, Any] | None:
        with self._lock:
            if not self._states:
                return None
            name = id_of(key)
            return self._states.get((provider, name)) or self._states.get((None, name))
