"""What ``--help`` shows of each command: what each value is called, what each option is for, and the text around."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from typing import Any

import pytest

from runops import __version__
from runops.cli import arguments, kit_arguments
from runops.cli.submission import JSON_HELP, parser_for
from runops.core import Call, find

RUN = {"provider": "PROVIDER", "run_id": "RUN_ID", "--parent": "NAME=ID"}
VERDICTS = {
    "--on-outcome": "OUTCOME=VERDICT",
    "--state": "WORD=MEANING",
    "--expect": "CONDITION",
    "--on-unmet": "VERDICT",
}
LIMITS = {"--max-paused": "S", "--max-stalled": "S", "--max-spend": "N"}
CLOCKS = {"--timeout": "S", "--error-budget": "S", "--auth-grace": "S", "--poll-interval": "S", **LIMITS}
LEFT = {"--since": "TIME", "--credential": "NAME", "--provider": "PATH"}
SUBMIT = {"--submit-grace": "SECONDS", "--on-conflict": "{wait,attach,fail}"}
AT = {"--workflow-id": "ID"}
VALUES: dict[str, dict[str, str]] = {
    "": {},
    "get": {**RUN, **VERDICTS, **AT},
    "explain": {**RUN, **VERDICTS, **LIMITS, **AT},
    "watch": {"provider": "PROVIDER", "run_ids": "RUN_ID", "--parent": "NAME=ID", **CLOCKS, **VERDICTS, **AT},
    "cancel": {**RUN, **AT},
    "resume": {**RUN, **CLOCKS, **VERDICTS, **AT},
    "retry": {**RUN, **CLOCKS, **VERDICTS, **SUBMIT, **AT},
    "submit": {},
    "states": {"provider": "PROVIDER"},
    "orphans": {},
    "orphans airflow": {"--url": "URL", "--operator": "CLASS", **LEFT},
    "orphans dagster": {"--dagster-home": "DIR", **LEFT},
    "conform": {"provider": "PROVIDER", "--answers": "DIR", "--only": "CHECK"},
    "record": {
        "provider": "PROVIDER", "run_id": "RUN_ID", "--to": "DIR", "--from": "FILE", "--timeout": "S",
        "--list": "NAME=ID", "--keep-word": "WORD", "--parent": "NAME=ID",
    },
    "new-provider": {
        "name": "NAME", "--answers": "FILE", "--status": "ROUTE", "--probe": "ROUTE", "--base-url": "URL",
        "--docs": "URL", "--link": "URL", "--key-header": "HEADER", "--key-prefix": "TEXT", "--cancel": "ROUTE",
        "--submit": "ROUTE", "--submit-answer": "FILE", "--word": "WORD=MEANING", "--id-field": "NAME",
        "--state-field": "NAME", "--submit-id": "KEY.KEY", "--to": "DIR",
    },
    "emulate": {},
    "completion": {"shell": "SHELL"},
}  # fmt: skip
TEXTS = {
    "": ["Runs at external services: how they stand, and how they end.", arguments.ENVIRONMENT,
         "runops COMMAND --help shows examples."],
    "retry": ["Starts a run, which costs what a run costs: it asks first where it runs on a terminal."],
    "orphans": ["exit codes: 0 all is listed, or cancelled 2 usage 4 some could not be told, read or cancelled"],
    "orphans airflow": ["The credential for Airflow is AIRFLOW_TOKEN, or AIRFLOW_USERNAME and AIRFLOW_PASSWORD."],
    "conform": [kit_arguments.CONFORM,
                "Asks nothing outside of this machine. Modules are looked for in the current folder too."],
    "record": [kit_arguments.RECORD, "Reads only. Key and address come from the environment, as for runops get."],
    "new-provider": [kit_arguments.NEW, "what no answer shows:", "where a guess would be wrong:"],
    "completion": ["Complete the commands, providers and options of runops in a shell. It changes nothing by itself.",
                   "bash, zsh, fish, tcsh"],
}  # fmt: skip
AS_WRITTEN = ("", "conform", "record", "new-provider")
"""Commands whose texts keep their lines."""


def commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Each command by its words, with what it takes."""
    yield parser.prog.partition(" ")[2], parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from commands(each)


@pytest.fixture(scope="module")
def known() -> dict[str, argparse.ArgumentParser]:
    return dict(commands(arguments.parser(["workflow_id"])))


def own(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """What a command takes of its own, without --help and its commands."""
    left_out = (argparse._HelpAction, argparse._VersionAction, argparse._SubParsersAction)
    return [action for action in parser._actions if not isinstance(action, left_out)]


def values(parser: argparse.ArgumentParser) -> dict[str, str]:
    """What each value that a command takes is called where its usage is shown."""
    formatter = parser._get_formatter()
    found: dict[str, str] = {}
    for action in own(parser):
        name = (action.option_strings or [action.dest])[0]
        usual = action.dest.upper() if action.option_strings else action.dest
        if action.nargs != 0:
            found[name] = formatter._metavar_formatter(action, usual)(1)[0]
    return found


def test_each_command_is_known(known: dict[str, argparse.ArgumentParser]) -> None:
    assert list(known) == list(VALUES)


@pytest.mark.parametrize("command", VALUES)
def test_each_value_is_called_by_what_it_is(known: dict[str, argparse.ArgumentParser], command: str) -> None:
    assert values(known[command]) == VALUES[command]


@pytest.mark.parametrize("command", VALUES)
def test_each_option_says_what_it_is_for(known: dict[str, argparse.ArgumentParser], command: str) -> None:
    assert [action.dest for action in own(known[command]) if len(action.help or "") < len("a new folder")] == []


@pytest.mark.parametrize("command", [name for name in VALUES if name not in ("submit", "emulate")])
def test_the_text_around_the_options_stands_in_the_help(
    known: dict[str, argparse.ArgumentParser], command: str
) -> None:
    shown = known[command].format_help()
    assert f"usage: runops {command}".rstrip() in shown
    for text in TEXTS.get(command, []):
        if command in AS_WRITTEN:
            assert text.rstrip() in shown
        else:
            assert text in " ".join(shown.split())


@pytest.mark.parametrize("command", ["submit", "emulate"])
def test_a_command_that_reads_its_own_line_is_only_listed(
    known: dict[str, argparse.ArgumentParser], command: str
) -> None:
    assert known[command]._actions == []


@pytest.mark.parametrize(("command", "word"), [("", "COMMAND"), ("orphans", "HOST")])
def test_a_word_that_is_left_out_is_asked_for_by_its_name(
    known: dict[str, argparse.ArgumentParser], capsys: pytest.CaptureFixture[str], command: str, word: str
) -> None:
    with pytest.raises(SystemExit):
        known[command].parse_args([])
    assert f"the following arguments are required: {word}" in capsys.readouterr().err
    assert re.search(rf"^usage: .* {word} \.\.\.$", known[command].format_help(), re.MULTILINE)


def test_each_command_and_host_has_a_line_in_the_list(known: dict[str, argparse.ArgumentParser]) -> None:
    listed = {"": [name for name in known if name and " " not in name], "orphans": ["airflow", "dagster"]}
    for command, names in listed.items():
        shown = known[command].format_help()
        assert [name for name in names if not re.search(rf"^    {name}\s+\S", shown, re.MULTILINE)] == []


def test_the_version_is_told_and_nothing_else_is_done(
    known: dict[str, argparse.ArgumentParser], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        known[""].parse_args(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"runops {__version__}\n")


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--credential", {"airflow": "this connection id", "dagster": "this resource key"}),
        ("--url", {"airflow": "by default AIRFLOW_BASE_URL"}),
        ("--dagster-home", {"dagster": "by default DAGSTER_HOME"}),
    ],
)
def test_each_host_s_own_words_stand_in_its_help(
    known: dict[str, argparse.ArgumentParser], option: str, says: dict[str, str]
) -> None:
    for host, text in says.items():
        (action,) = [each for each in known[f"orphans {host}"]._actions if option in each.option_strings]
        assert text in str(action.help)


def test_defaults_are_shown_as_they_are(known: dict[str, argparse.ArgumentParser]) -> None:
    shown = " ".join(known["retry"].format_help().split())
    said = ["looked for (default: 300)", "or fail (default: wait)", "one that does not (fail)", "whole wait (a week)"]
    assert [text for text in said if text not in shown] == []


# --- submit ---


def made(*, engine: str, count: int = 1, values: dict[str, str] | None = None, tags: list[str] | None = None) -> Call:
    """Start it.

    Args:
        engine: Which ``engine``
            runs, at 100% of its speed.
        values: What it
            works on.
        count: How often.

    Returns:
        engine: Not this.
    """
    raise NotImplementedError


def test_a_submit_s_own_arguments_are_shown_as_its_docstring_says() -> None:
    parser = parser_for(find("nyx"), made)
    shown = values(parser)
    assert shown == {
        "--engine": "VALUE", "--count": "VALUE", "--values": "JSON", "--tags": "JSON", **SUBMIT, **CLOCKS, **VERDICTS,
    }  # fmt: skip
    helped = {action.option_strings[0]: action.help for action in own(parser)}
    assert (helped["--engine"], helped["--count"]) == ("Which engine runs, at 100%% of its speed", "How often")
    assert (helped["--values"], helped["--tags"]) == (f"What it works on ({JSON_HELP})", f" ({JSON_HELP})")
    assert [name for name, text in helped.items() if not text] == []
    required = [action.dest for action in own(parser) if action.required]
    assert required == ["call_engine"]
    text = " ".join(parser.format_help().split())
    assert "usage: runops submit nyx [-h] --engine VALUE" in text
    assert f"Start a run at Nyx; see {find('nyx').docs}." in text
    assert "at 100% of its speed" in text


def test_a_submit_without_a_provider_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    from runops.cli import main

    assert main(["submit", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.startswith("usage: runops submit [-h] PROVIDER")
    assert "Start a run. The options depend on the provider: runops submit PROVIDER --help." in shown
    assert f"PROVIDER {arguments.PROVIDER}" in shown


def test_a_help_text_goes_where_it_is_sent(capsys: pytest.CaptureFixture[str], tmp_path: Any) -> None:
    parser = arguments.Parser(prog="nothing")
    with (tmp_path / "help").open("w") as file:
        parser.print_help(file)
    assert (tmp_path / "help").read_text() == parser.format_help()
    assert capsys.readouterr().out == ""
    parser.print_help()
    assert capsys.readouterr().out == parser.format_help()
