"""The commands for whoever writes a provider: ``conform``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from runops.cli.output import printable, say
from runops.core import find

WRONG = 1


def run(options: argparse.Namespace) -> int:
    """Do what a parsed command line says; its exit code."""
    # A console script has its own folder there, and the file that is written stands in this one.
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    return conform(options)


def conform(options: argparse.Namespace) -> int:
    """Check a declaration against a folder of answers."""
    from runops.conformance import conform as check

    report = check(find(options.provider), options.answers, only=options.only)
    if options.json:
        say(json.dumps(report.to_dict()))
    else:
        for line in report.lines():
            say(printable(line))
    return 0 if report.ok else WRONG
