"""Write the tables of the documentation from the declarations; ``--check`` only compares. Nothing else."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from runops.core.providers import tables

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
_TABLE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def rendered(text: str) -> str:
    """The text with every marked table written anew."""
    return _TABLE.sub(lambda found: f"{found[1]}{tables.markdown(found[2])}\n{found[3]}", text)


def main() -> int:
    fresh = {page: rendered(page.read_text()) for page in PAGES}
    if "--check" in sys.argv:
        return int(any(text != page.read_text() for page, text in fresh.items()))
    for page, text in fresh.items():
        page.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
