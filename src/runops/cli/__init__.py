"""The command ``runops``: arguments in, exit codes out. What a run means is decided in the core, never here."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        argv: The arguments; ``sys.argv[1:]`` if None.

    Returns:
        0 succeed or warn, 1 fail, 2 usage, 3 skip, 4 could not tell, 130 interrupted. Of several runs the first
        present of 4, 1, 3, 0.
    """
    try:
        return _dispatch(list(sys.argv[1:] if argv is None else argv))
    except SystemExit as leaving:
        # argparse leaves this way: after --help, and with a usage error.
        return leaving.code if isinstance(leaving.code, int) else 0
    except KeyboardInterrupt:
        print("runops: interrupted; no run was cancelled.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader has gone; Python must not try to flush into the closed pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _dispatch(argv: list[str]) -> int:
    # Each import waits until it is needed, so that --help answers at once.
    if argv[:1] == ["emulate"]:
        from runops.emulator.server import main as emulate

        return emulate(argv[1:])
    if argv[:1] == ["submit"]:
        from runops.cli.submission import submit

        return submit(argv[1:])
    options = _parser().parse_args(argv)
    from runops.cli import commands

    return commands.run(options)


def _parser() -> argparse.ArgumentParser:
    from runops.cli import arguments

    return arguments.parser()
