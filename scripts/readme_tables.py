"""Write the README's tables from the declarations; ``--check`` only compares. It writes nothing else."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from runops.core.providers import tables

README = Path(__file__).resolve().parent.parent / "README.md"
_TABLE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def rendered(text: str) -> str:
    """The text with every marked table written anew."""
    return _TABLE.sub(lambda found: f"{found[1]}{tables.markdown(found[2])}\n{found[3]}", text)


def main() -> int:
    text = README.read_text()
    fresh = rendered(text)
    if "--check" in sys.argv:
        return int(fresh != text)
    README.write_text(fresh)
    return 0


if __name__ == "__main__":
    sys.exit(main())
