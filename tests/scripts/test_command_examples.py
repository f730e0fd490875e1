"""Each command of the command line has examples."""

from __future__ import annotations

import argparse

from runops.cli.examples import examples
from scripts.generated.command_line import each, whole


def test_every_command_has_examples() -> None:
    commands = dict(each(whole()))
    assert set(commands) == set(examples())
    for name, parser in commands.items():
        assert any(isinstance(action, argparse._HelpAction) for action in parser._actions), name
