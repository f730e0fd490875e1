"""``python -m runops.emulator``: hands over to the server's own entry point."""

from __future__ import annotations

import sys

from runops.emulator.server import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
