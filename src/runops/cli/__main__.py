"""``python -m runops.cli``: the same as ``runops``."""

from __future__ import annotations

import sys

from runops.cli import main

if __name__ == "__main__":
    sys.exit(main())
