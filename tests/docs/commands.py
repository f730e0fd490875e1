"""Whether the commands in a block of shell are there: the command line's own, make's targets, the package's extras."""

from __future__ import annotations

import argparse
import re
import shlex
import tomllib
from collections.abc import Iterator

import pytest

from runops import cli
from scripts.documentation.blocks import ROOT

_EXTRAS = re.compile(r"runops\[([\w,]+)\]")
_HEREDOC = re.compile(r"<<-?\s*'?(\w+)'?[^\n]*\n.*?^\1$", re.MULTILINE | re.DOTALL)
_BETWEEN = frozenset({"|", "||", "&&", "&", ";", "(", ")"})


class Parsed(Exception):
    """The arguments were understood; nothing else is done with them."""


def commands_of(text: str) -> Iterator[list[str]]:
    """The words of each command: without comments, settings before it, and where its output goes."""
    text = _HEREDOC.sub("", text).replace("\\\n", " ")
    for line in text.splitlines():
        lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        command: list[str] = []
        for word in [*lexer, ";"]:
            if word not in _BETWEEN:
                command.append(word)
                continue
            while command and re.fullmatch(r"\w+=.*", command[0]):
                del command[0]
            for number, each in enumerate(command):
                if re.fullmatch(r"\d?[<>]+&?", each):
                    del command[number:]
                    break
            if command:
                yield command
            command = []


def check_commands(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where a command of ours is not there, or does not take what it is given."""
    for command in commands_of(text):
        name = command[0].rpartition("/")[2]
        if name == "runops":
            _parse(command[1:], monkeypatch)
        elif name == "make":
            targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
            wanted = {word for word in command[1:] if not word.startswith("-") and "=" not in word}
            assert wanted <= targets, f"make knows no {wanted - targets}"
        for extras in (found for word in command for found in _EXTRAS.findall(word)):
            known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
            assert set(extras.split(",")) <= set(known), f"there is no such extra: {extras}"


def _parse(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    parse_args = argparse.ArgumentParser.parse_args

    def only_parse(parser: argparse.ArgumentParser, *args: object, **kwargs: object) -> None:
        raise Parsed(parse_args(parser, *args, **kwargs))

    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", only_parse)
        try:
            cli._dispatch(arguments)
        except Parsed:
            return
        except SystemExit as left:
            if left.code:
                raise AssertionError(f"runops does not take {shlex.join(arguments)}") from None
