"""All commands with all their options as one parser; what shells complete and the page of the command line from it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import shtab

from runops.cli import arguments, settings
from runops.cli.examples import examples
from runops.cli.submission import parser_for
from runops.core import PROVIDERS, Outcome, Verdict
from runops.emulator.server import command_line as emulate

Parser = argparse.ArgumentParser
VERDICTS = [str(verdict) for verdict in Verdict]
WORDS = {
    "PROVIDER": list(PROVIDERS),
    "OUTCOME=VERDICT": [f"{outcome}={verdict}" for outcome in Outcome for verdict in VERDICTS],
    "VERDICT": VERDICTS,
}
"""What a shell offers for a value, by how the help text calls it."""


def whole() -> Parser:
    """The parser of ``runops``, with the commands in it that have parsers of their own."""
    parser = arguments.parser(settings.parents_of([]))
    commands = _commands(parser)
    assert commands is not None
    _put(commands, "emulate", emulate())
    submit = Parser(prog="runops submit", description="Start a run. The options depend on the provider.")
    providers = submit.add_subparsers(metavar="PROVIDER")
    for provider in PROVIDERS.values():
        if provider.submit is not None:
            providers.add_parser(provider.name, help=f"start a run at {provider.title}")
            _put(providers, provider.name, parser_for(provider, provider.submit.build))
    _put(commands, "submit", submit)
    return parser


def each(parser: Parser, path: str = "") -> Iterator[tuple[str, Parser]]:
    """Every command that is no group of others, by its words after ``runops``, in the order of the help text."""
    commands = _commands(parser)
    if commands is None:
        yield path, parser
        return
    for name, command in commands.choices.items():
        yield from each(command, f"{path} {name}".strip())


def completion(shell: str) -> str:
    """The script that makes a shell complete runops."""
    parser = whole()
    for _, command in each(parser):
        for action in command._actions:
            # The parser itself takes more: a provider of one's own by its path, for example.
            if action.choices is None and _value(action) in WORDS:
                action.choices = WORDS[_value(action)]
            elif _value(action) in ("DIR", "FOLDER", "FILE"):
                action.complete = shtab.FILE  # pyright: ignore[reportAttributeAccessIssue]
    text = shtab.complete(parser, shell)
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def page() -> str:
    """``docs/reference/command_line.md``."""
    parser = whole()
    commands = dict(each(parser))
    parts = [
        "<!-- Written by `python -m scripts.generated` from the commands themselves. -->",
        "# The command `runops`",
        "Every command, as `--help` shows it. Ids in the examples are made up; `runops emulate` serves runs to try.",
        _list(commands),
        _completion(),
        *(_command(name, command) for name, command in commands.items()),
        _environment(),
    ]
    return "\n\n".join(parts) + "\n"


def _list(commands: dict[str, Parser]) -> str:
    rows = [f"| [`runops {name}`](#runops-{name.replace(' ', '-')}) | {_what(name)} |" for name in commands]
    return "\n".join(["| command | does |", "|---|---|", *rows])


def _what(name: str) -> str:
    parser = whole()
    help_text = ""
    for word in name.split():
        commands = _commands(parser)
        assert commands is not None
        help_text = next(str(each.help) for each in commands._choices_actions if each.dest == word)
        parser = commands.choices[word]
    return _cell(help_text)


def _completion() -> str:
    lines = "\n".join(f"{each.line:<40} # {each.what}" for each in examples()["completion"])
    return (
        "## Complete commands, providers and options in your shell\n\nOne line, which needs nothing but runops:\n\n"
        f"```bash\n{lines}\n```"
    )


def _command(name: str, parser: Parser) -> str:
    text = parser.description or _what(name)[:1].upper() + _what(name)[1:]
    said = [f"## `runops {name}`", text.rstrip(".") + ".", f"```text\nrunops {name}{_usage(parser)}\n```"]
    rows = [_row(action) for action in parser._actions if action.dest != "help"]
    said.append("\n".join(["| argument | is | default |", "|---|---|---|", *rows]))
    if parser.epilog:
        said.append(f"```text\n{parser.epilog.rstrip()}\n```")
    shown = examples().get(name, ())
    if shown:
        said.append("```bash\n" + "\n".join(f"# {each.what}\n{each.shown}" for each in shown) + "\n```")
    return "\n\n".join(said)


def _usage(parser: Parser) -> str:
    """What must be given. It is not argparse's own, which each version of Python writes in another way."""
    needed = ""
    for action in (each for each in parser._actions if each.required):
        value = _value(action)
        more = f" [{value} ...]" if action.nargs == "+" else ""
        needed += f" {action.option_strings[0]} {value}{more}" if action.option_strings else f" {value}{more}"
    return (
        f"{needed} [option ...]"
        if any(each.option_strings for each in parser._actions if not each.required)
        else needed
    )


def _value(action: argparse.Action) -> str:
    return action.metavar if isinstance(action.metavar, str) else action.dest.upper()


def _row(action: argparse.Action) -> str:
    if action.option_strings:
        value = "" if action.nargs == 0 else f" {_value(action)}"
        name = ", ".join(f"`{option}{value}`" for option in action.option_strings)
    else:
        name = f"`{_value(action)}`"
    default = action.default
    plain = default in (None, False, True, argparse.SUPPRESS, []) or not action.option_strings
    needed = "required" if action.required else ""
    return f"| {name} | {_cell(_help(action))} | {needed if plain else f'`{_number(default)}`'} |"


def _help(action: argparse.Action) -> str:
    text = action.help or ""
    values: dict[str, Any] = {**vars(action), "prog": "runops"}
    if isinstance(action.default, float):
        values["default"] = _number(action.default)
        text = text.replace("%(default)g", "%(default)s")
    return text % values


def _number(value: object) -> str:
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _environment() -> str:
    """What all commands read and give, as the help text of ``runops`` says it."""
    variables, _, codes = arguments.ENVIRONMENT.partition("exit codes:\n")
    variables = variables.partition("environment:\n")[2]
    blocks = [
        f"## {title}\n\n```text\n{text.rstrip()}\n```"
        for title, text in (("Environment", variables), ("Exit codes", codes))
    ]
    return "\n\n".join(blocks)


def _commands(parser: Parser) -> argparse._SubParsersAction[Parser] | None:
    return next((each for each in parser._actions if isinstance(each, argparse._SubParsersAction)), None)


def _put(commands: argparse._SubParsersAction[Parser], name: str, parser: Parser) -> None:
    """A parser of its own in the place of the one that is only listed."""
    commands._name_parser_map[name] = parser
