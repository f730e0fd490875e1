"""Files that are written from what the package declares: each has one source, and a test compares it.

``python -m scripts.generated`` writes those that differ; ``--check`` only names them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from runops.cli.arguments import SHELLS
from scripts.generated import command_line, compatibility, emulator, llms

ROOT = Path(__file__).resolve().parents[2]


def _registry_entry() -> str:
    # It loads Airflow, which nothing else here needs.
    from scripts.generated import registry

    return registry.entry()


FILES: Mapping[str, Callable[[], str]] = {
    **{f"src/runops/cli/completions/runops.{shell}": partial(command_line.completion, shell) for shell in SHELLS},
    "docs/reference/command_line.md": command_line.page,
    "docs/project/compatibility.md": compatibility.page,
    "docs/llms.txt": llms.index,
    ".airflow-registry.yaml": _registry_entry,
    emulator.PAGE: emulator.page,
}
"""Paths below the root, and what gives the text of each."""


def different() -> dict[str, str]:
    """The text of each file that is not as it should be, by its path."""
    fresh = {path: text() for path, text in FILES.items()}
    return {path: text for path, text in fresh.items() if _written(ROOT / path) != text}


def _written(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None
