"""What blocks run in: an emulator whose runs end at once, everybody's keys, clocks that run fast, a folder of files."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from runops.core import PROVIDERS
from runops.core.model.cadence import Cadence
from runops.emulator.server import Server
from scripts.documentation.blocks import Block

KEY = "key-of-the-documentation"
SECONDS = 0.3
"""How long a run lasts."""
PATIENCE = 60
"""Real seconds after which a block counts as stuck."""


def point_at(served: Server, patch: pytest.MonkeyPatch) -> None:
    """Have every service's connection, key and address lead to the emulator."""
    for name, provider in PROVIDERS.items():
        address = served.base_url(name)
        spelled = {"conn_type": name, "password": KEY, "host": address}
        patch.setenv(f"AIRFLOW_CONN_{name.upper()}_DEFAULT", json.dumps(spelled))
        patch.setenv(provider.key_variable, KEY)
        patch.setenv(f"{name.upper()}_BASE_URL", address)


@contextmanager
def public_addresses(served: Server) -> Iterator[None]:
    """Let each service's own address stand for the emulator, where a block names no other."""
    before = {name: provider.base_url for name, provider in PROVIDERS.items()}
    for name, provider in PROVIDERS.items():
        object.__setattr__(provider, "base_url", served.base_url(name))
    try:
        yield
    finally:
        for name, provider in PROVIDERS.items():
            object.__setattr__(provider, "base_url", before[name])


def hurry(patch: pytest.MonkeyPatch) -> None:
    """Look at a run ten times a second, whatever a block says about how often."""
    patch.setattr(Cadence, "delay", lambda self, age, *, jitter=0.0: 0.1)


@contextmanager
def patience(block: Block, seconds: int = PATIENCE) -> Iterator[None]:
    """End a block that waits for what does not come.

    Raises:
        TimeoutError: It took too long.
    """

    def give_up(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"{block.where} is not over after {seconds} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


class World:
    """What the blocks of one page share: the emulator, the names, the files and the runs that are there."""

    def __init__(self, served: Server, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.served = served
        self.folder = folder
        self.patch = patch
        self.names: dict[str, Any] = {"__name__": "page"}
        self.runs: dict[str, str] = {}
        patch.syspath_prepend(str(folder))

    def prepare(self, block: Block) -> None:
        """Make the runs that a block finds, and say what those become that it submits."""
        emulator = self.served.emulator
        for name in PROVIDERS:
            emulator.set_defaults(name, seconds=SECONDS)
        for name, settings in block.options.get("defaults", {}).items():
            emulator.set_defaults(name, **{"seconds": SECONDS, **settings})
        for name, settings in block.options.get("runs", {}).items():
            self.runs[name] = emulator.create_run(**{"seconds": SECONDS, **settings})

    def write(self, block: Block, path: str) -> Path:
        """Write the file that a block is; modules of its folder can be imported from now on."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block.text, encoding="utf-8")
        if path.startswith("dags/"):
            self.patch.syspath_prepend(str(file.parent))
        sys.modules.pop(file.stem, None)
        return file

    def filled(self, value: Any) -> Any:
        """A value of a comment, with the ids of runs in the place of their names."""
        if isinstance(value, str) and value.startswith("$"):
            return self.runs[value[1:]]
        if isinstance(value, Mapping):
            return {key: self.filled(each) for key, each in value.items()}
        return [self.filled(each) for each in value] if isinstance(value, list) else value
