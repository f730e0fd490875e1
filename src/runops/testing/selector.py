"""The system's selector behind one that decides itself how long it waits: what loops of made-up time are built on."""

from __future__ import annotations

import selectors
from collections.abc import Mapping
from typing import Any


class ForwardingSelector(selectors.BaseSelector):
    """Hands everything but ``select`` on to the system's selector, ``_real``."""

    def __init__(self) -> None:
        self._real = selectors.DefaultSelector()

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Watch a file."""
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """Watch it no more."""
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Watch it for something else."""
        return self._real.modify(fileobj, events, data)

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        """What a file is watched for."""
        return self._real.get_key(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """All that is watched, by file."""
        return self._real.get_map()

    def close(self) -> None:
        """Let the system's selector go."""
        self._real.close()
