"""Writes the generated files that differ, or with ``--check`` names them and fails."""

from __future__ import annotations

import sys

from scripts.generated import ROOT, different


def main() -> int:
    found = different()
    for path, text in found.items():
        if "--check" not in sys.argv:
            (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / path).write_text(text, encoding="utf-8")
        print(path)
    return int(bool(found) and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
