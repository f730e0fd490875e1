"""What ``conform`` accepts, and the other commands for whoever writes a provider. It imports nothing of the core."""

from __future__ import annotations

import argparse
from typing import Any

CONFORM = """\
exit codes: 0 it conforms   1 something is wrong   2 usage, such as a folder that cannot be read
What is unproven, since no answer of the folder shows it, is listed and leaves the exit code as it is.
"""


def add_kit(commands: Any) -> None:
    """The commands.

    Args:
        commands: The subparsers of the whole command line.
    """
    conform = commands.add_parser(
        "conform",
        help="check a provider's declaration against a folder of recorded answers",
        description="Asks nothing outside of this machine. Modules are looked for in the current folder too.",
        epilog=CONFORM,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    conform.add_argument("provider", metavar="PROVIDER", help="a name, or 'package.module:NAME'")
    conform.add_argument("--answers", metavar="DIR", required=True, help="the folder of answers")
    conform.add_argument(
        "--only", metavar="CHECK", action="append", default=[], help="one check by its name; may be repeated"
    )
    conform.add_argument("--json", action="store_true", help="print one JSON object, and nothing else")
