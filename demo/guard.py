"""Ends the demo's processes when the demo itself is gone. It reads session ids from its input until that ends."""

from __future__ import annotations

import signal
import sys

from demo.processes import end_sessions


def main() -> None:
    """Take note of sessions, one id on a line; at the end of the input, end those that are left.

    The only argument is how many seconds they have to end by themselves.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sessions = [int(line) for line in sys.stdin]
    end_sessions(sessions, float(sys.argv[1]))


if __name__ == "__main__":
    main()
