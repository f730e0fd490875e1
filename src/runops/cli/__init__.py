"""The command ``runops``: arguments in, exit codes out. What a run means is decided in the core, never here."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from runops.cli import output
from runops.cli.codes import COULD_NOT_TELL, INTERRUPTED, USAGE

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        argv: The arguments; ``sys.argv[1:]`` if None.

    Returns:
        0 succeed or warn, 1 fail, 2 usage, 3 skip, 4 could not tell, 130 interrupted. Of several runs the first
        present of 4, 1, 3, 0. 1 is never anything but the verdict on a run: whatever goes wrong unforeseen is 4.
    """
    output.prepare()
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        if not _can_show(given):
            return USAGE
        code = _ended(given)
        output.flush()
    except output.OutputError as error:
        output.give_up()
        output.complain(error)
        return COULD_NOT_TELL
    return code


def _can_show(argv: list[str]) -> bool:
    # Python has no standard output where it was closed. A server can do without.
    if not output.is_closed() or argv[:1] == ["emulate"]:
        return True
    text = "standard output is closed, so nothing could be shown; nothing was sent. Use >/dev/null."
    output.complain(output.OutputError(text))
    return False


def _ended(argv: list[str]) -> int:
    """The exit code of a command, however it ends."""
    try:
        return _dispatch(argv)
    except output.OutputError:
        raise
    except SystemExit as leaving:
        return _left(leaving.code)
    except KeyboardInterrupt:
        output.complain("interrupted; no run was cancelled.")
        return INTERRUPTED
    except BaseException as error:  # noqa: BLE001
        from runops.cli.unexpected import describe

        output.complain(describe(error))
        return COULD_NOT_TELL


def _left(code: object) -> int:
    """argparse leaves with 0 after --help, and with 2 after a usage error; nothing else has a say in exit codes."""
    if code is None or code == 0:
        return 0
    if code == USAGE:
        return USAGE
    output.complain(code if isinstance(code, str) else f"left with code {code}.")
    return COULD_NOT_TELL


def _dispatch(argv: list[str]) -> int:
    # Each import waits until it is needed, so that --help answers at once.
    if argv[:1] == ["emulate"]:
        from runops.cli.examples import epilog
        from runops.emulator.server import main as emulate

        return emulate(argv[1:], examples=epilog("emulate"))
    if argv[:1] == ["submit"]:
        from runops.cli.submission import submit

        return submit(argv[1:])
    options = _parser(argv).parse_args(argv)
    if options.command == "completion":
        from runops.cli.completion import show

        return show(options.shell)
    if options.command in ("resume", "retry"):
        from runops.cli import acts

        return acts.run(options)
    from runops.cli import commands

    return commands.run(options)


def _parser(argv: list[str]) -> argparse.ArgumentParser:
    from runops.cli import arguments

    words = [word for word in argv[1:] if not word.startswith("-")]
    if argv[:1] and argv[0] in arguments.ABOUT_A_RUN and words:
        from runops.cli.settings import parents_of

        return arguments.parser(parents_of(words))
    return arguments.parser()
