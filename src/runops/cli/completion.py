"""``runops completion SHELL``: prints a file that comes with runops. It loads nothing, so that a shell starts fast."""

from __future__ import annotations

from pathlib import Path

from runops.cli.output import say

SCRIPTS = Path(__file__).with_name("completions")
"""One file for each shell, written by ``python -m scripts.generated`` from what the commands accept."""


def show(shell: str) -> int:
    """Print what makes a shell complete runops; the exit code."""
    say((SCRIPTS / f"runops.{shell}").read_text(encoding="utf-8"), end="")
    return 0
