"""The exit codes that are no verdict on a run."""

from __future__ import annotations

USAGE = 2
COULD_NOT_TELL = 4
INTERRUPTED = 130
