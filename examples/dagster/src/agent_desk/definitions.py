"""Everything below ``defs``, for ``dg dev`` and ``dagster dev``."""

from __future__ import annotations

from pathlib import Path

import dagster as dg


@dg.definitions
def defs() -> dg.Definitions:
    """All that the files and folders of ``defs`` define."""
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
