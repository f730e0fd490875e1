"""What the command line accepts. It imports nothing of the core, so that ``--help`` is quick."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from runops import __version__
from runops.cli.kit_arguments import add_kit
from runops.cli.output import say

# By the names of their files: neither the core nor pkgutil, which loads much, is worth its time for a help text.
_DECLARATIONS = (Path(__file__).parents[1] / "core" / "providers").glob("[!_]*.py")
_NAMES = ", ".join(sorted(each.stem for each in _DECLARATIONS if each.stem != "tables"))
PROVIDER = f"{_NAMES}, or 'package.module:NAME' of one of your own"

ENVIRONMENT = """\
environment:
  <PROVIDER>_API_KEY or <PROVIDER>_TOKEN   its key: a command without it names the variable
  <PROVIDER>_BASE_URL                      another root than the public API's
  <PROVIDER>_VERIFY                        a PEM file of the authorities to accept, in place of SSL_CERT_FILE
  <PROVIDER>_CLIENT_CERT, _CLIENT_KEY      PEM files, for a service that asks for a certificate
  <PROVIDER>_PROXY                         scheme://[user:password@]host:port, in place of HTTPS_PROXY
  <PROVIDER>_<OPTION>                      a further setting, such as <PROVIDER>_WORKSPACE_ID
  RUNOPS_DEBUG=1                           a traceback of what ends unexpectedly

exit codes:
  0 succeed or warn, or not over yet   1 fail   2 usage   3 skip
  4 could not tell (key, network, no such run, uncertain submit)   130 interrupted
  several runs: the first present of 4, 1, 3, 0
"""


SUBMIT_GRACE = 300.0
"""Seconds."""
ON_CONFLICT = ("wait", "attach", "fail")
SHELLS = ("bash", "zsh", "fish", "tcsh")
"""Those that runops completes in: each has a file in ``completions/``, which ``make generated`` writes."""
ABOUT_A_RUN = ("get", "explain", "watch", "cancel", "resume", "retry")
"""The commands that take the address of a run."""


class Parser(argparse.ArgumentParser):
    """argparse's own, which passes over a help text that cannot be written, and ends that of a command by examples."""

    def format_help(self) -> str:
        """The help text, with the examples of the command."""
        text = super().format_help()
        command = self.prog.partition(" ")[2]
        if not command:
            return text
        from runops.cli.examples import epilog

        return "\n".join(filter(None, (text, epilog(command))))

    def print_help(self, file: IO[str] | Any | None = None) -> None:
        """Print the help text.

        Raises:
            OutputError: Standard output takes nothing.
        """
        if file is None:
            say(self.format_help(), end="")
        else:
            super().print_help(file)


def parser(parents: Sequence[str] = ()) -> argparse.ArgumentParser:
    """All commands; ``submit`` and ``emulate`` have parsers of their own and are only listed.

    Args:
        parents: What the address of a run needs beside its id, for the provider that is meant.
    """
    whole = Parser(
        prog="runops",
        description="Runs at external services: how they stand, and how they end.",
        epilog=f"{ENVIRONMENT}\nrunops COMMAND --help shows examples.\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action="version", version=f"runops {__version__}")
    commands = whole.add_subparsers(dest="command", metavar="COMMAND", required=True)

    about_a_run(commands, parents)
    commands.add_parser("submit", help="start a run (runops submit PROVIDER --help)", add_help=False)

    states = commands.add_parser("states", help="every word of a provider, its meaning and its verdict by default")
    states.add_argument("provider", nargs="?", metavar="PROVIDER", help=f"{PROVIDER}; all shipped ones if left out")
    add_json(states)

    add_orphans(commands)
    add_kit(commands)

    commands.add_parser("emulate", help="serve the APIs of all providers on this machine", add_help=False)

    completion = commands.add_parser(
        "completion",
        help="print what makes a shell complete the commands, providers and options of runops",
        description="Complete the commands, providers and options of runops in a shell. It changes nothing by itself.",
    )
    completion.add_argument("shell", metavar="SHELL", choices=SHELLS, help=", ".join(SHELLS))
    return whole


def about_a_run(
    commands: argparse._SubParsersAction[Parser],  # pyright: ignore[reportPrivateUsage]
    parents: Sequence[str],
) -> None:
    """The commands that take the address of a run."""
    get = commands.add_parser("get", help="look at a run once")
    add_run(get)
    add_verdicts(get)
    add_json(get)

    explain = commands.add_parser("explain", help="say which rule gives which verdict on a run")
    add_what_decides(explain)

    watch = commands.add_parser("watch", help="wait until runs are over; interrupting it cancels nothing")
    add_run(watch, several=True)
    add_clocks(watch)
    add_verdicts(watch)
    add_json(watch)

    cancel = commands.add_parser("cancel", help="ask the provider to stop a run")
    add_run(cancel)
    add_json(cancel)

    resume = commands.add_parser("resume", help="have a run that is paused go on, where its provider can")
    add_act(resume)

    retry = commands.add_parser(
        "retry",
        help="have a run that failed go on from its point of failure, as a new run, where its provider can",
        description="Starts a run, which costs what a run costs: it asks first where it runs on a terminal.",
    )
    add_act(retry)
    retry.add_argument("--yes", action="store_true", help="ask no question")
    add_submit(retry)

    for command in (get, explain, watch, cancel, resume, retry):
        add_parents(command, parents)


def add_act(command: argparse.ArgumentParser) -> None:
    """A run that is to go on, and the wait for it."""
    add_run(command)
    command.add_argument("--wait", action="store_true", help="stay until the run is over")
    add_clocks(command)
    add_verdicts(command)
    add_json(command)


def add_submit(command: argparse.ArgumentParser) -> None:
    """What becomes of a submit whose answer is lost, or that is refused."""
    command.add_argument(
        "--adopt-uncertain",
        action="store_true",
        help="after a lost answer, where no mark proves whose a run is, take the single new one for this one",
    )
    command.add_argument(
        "--submit-grace",
        metavar="SECONDS",
        default=SUBMIT_GRACE,
        help="seconds for which the run of a lost answer is looked for (default: %(default)g)",
    )
    command.add_argument(
        "--on-conflict",
        choices=ON_CONFLICT,
        default="wait",
        help="where another run is active (409): wait for a turn, for --timeout at the most; attach to the active run; "
        "or fail (default: %(default)s)",
    )


def add_orphans(commands: argparse._SubParsersAction[Parser]) -> None:  # pyright: ignore[reportPrivateUsage]
    """What a host has submitted and does not wait for."""
    orphans = commands.add_parser(
        "orphans",
        help="runs that a host has submitted, that may still run, and that nothing waits for",
        epilog="exit codes: 0 all is listed, or cancelled   2 usage   4 some could not be told, read or cancelled",
    )
    hosts = orphans.add_subparsers(dest="host", metavar="HOST", required=True)
    airflow = hosts.add_parser(
        "airflow",
        help="by its public REST API",
        description="The credential for Airflow is AIRFLOW_TOKEN, or AIRFLOW_USERNAME and AIRFLOW_PASSWORD.",
    )
    airflow.add_argument("--url", metavar="URL", help="the API server; by default AIRFLOW_BASE_URL")
    airflow.add_argument("--allow-http", action="store_true", help="allow plain HTTP to another machine")
    airflow.add_argument(
        "--operator",
        metavar="CLASS",
        action="append",
        default=[],
        help="an operator class of your own, where no task of it has left a trace; may be repeated",
    )
    dagster = hosts.add_parser("dagster", help="by its instance")
    dagster.add_argument("--dagster-home", metavar="DIR", help="where its dagster.yaml is; by default DAGSTER_HOME")
    for host, name in ((airflow, "connection id"), (dagster, "resource key")):
        host.add_argument(
            "--since", metavar="TIME", default="7d", help="look at what has changed since: 90m, 12h, 7d, or a date (7d)"
        )
        host.add_argument(
            "--credential",
            metavar="NAME",
            action="append",
            default=[],
            help=f"only runs that were submitted with this {name}; may be repeated",
        )
        host.add_argument(
            "--provider",
            metavar="PATH",
            action="append",
            default=[],
            help="'package.module:NAME' of a provider of your own; may be repeated",
        )
        host.add_argument("--cancel", action="store_true", help="cancel what is left, after a question on a terminal")
        host.add_argument("--yes", action="store_true", help="ask no question")
        add_json(host)


def add_run(command: argparse.ArgumentParser, *, several: bool = False) -> None:
    """The address of one run, or of several under one parent."""
    command.add_argument("provider", metavar="PROVIDER", help=PROVIDER)
    if several:
        command.add_argument("run_ids", metavar="RUN_ID", nargs="+", help="ids as the provider shows them")
    else:
        command.add_argument("run_id", metavar="RUN_ID", help="the id as the provider shows it")
    command.add_argument(
        "--parent",
        metavar="NAME=ID",
        action="append",
        default=[],
        help="an id that the address of a run needs beside its own; workflow_id=ID is --workflow-id ID in short",
    )


def add_parents(command: argparse.ArgumentParser, parents: Sequence[str]) -> None:
    """Further ids of a run's address, as options of their own; after all others, which win."""
    for name in parents:
        what = f"the {name} of the run, where its address needs it"
        # One that is called like another option can be given by --parent still.
        with suppress(argparse.ArgumentError):
            command.add_argument(flag(name), dest=f"parent_{name}", metavar="ID", help=what)


def flag(name: str) -> str:
    """The option that is called like a parameter."""
    return "--" + name.replace("_", "-")


def add_clocks(command: argparse.ArgumentParser) -> None:
    """The clocks of a wait."""
    command.add_argument("--timeout", metavar="S", default=604_800.0, help="seconds for the whole wait (a week)")
    command.add_argument("--error-budget", metavar="S", default=900.0, help="seconds of failures in a row (900)")
    command.add_argument(
        "--auth-grace",
        metavar="S",
        default=300.0,
        help="seconds for which a key may be refused after a good read; it is tried once more then (300; 0 for none)",
    )
    command.add_argument("--poll-interval", metavar="S", help="shortest time between two looks, in seconds")
    add_limits(command)


def add_what_decides(command: argparse.ArgumentParser) -> None:
    """A run, and all that a task may say of its end."""
    add_run(command)
    add_verdicts(command)
    command.add_argument(
        "--soft-fail", action="store_true", help="as soft_fail=True: failed, cancelled and timed_out are a skip"
    )
    add_limits(command)
    add_json(command)


def add_limits(command: argparse.ArgumentParser) -> None:
    """What a run itself may not go beyond."""
    command.add_argument("--max-paused", metavar="S", help="seconds that a run may stay paused or waiting (no bound)")
    command.add_argument("--max-stalled", metavar="S", help="seconds for which nothing of a run may change (no bound)")
    command.add_argument("--max-spend", metavar="N", help="what a run may spend, in its provider's unit (no bound)")


def add_verdicts(command: argparse.ArgumentParser) -> None:
    """What an outcome is worth."""
    command.add_argument(
        "--on-outcome",
        metavar="OUTCOME=VERDICT",
        action="append",
        default=[],
        help="such as degraded=warn; verdicts are succeed, warn, skip, fail; may be repeated",
    )
    command.add_argument(
        "--state",
        metavar="WORD=MEANING",
        action="append",
        default=[],
        help="a word that no documentation has, and the phase or outcome it means, such as partial=degraded",
    )
    command.add_argument(
        "--expect",
        metavar="CONDITION",
        action="append",
        default=[],
        help="what a run that ended well must show, such as 'findings_count=0' or 'attempts_completed>=1'",
    )
    command.add_argument(
        "--on-unmet", metavar="VERDICT", default="fail", help="the verdict on one that does not (%(default)s)"
    )


def add_json(command: argparse.ArgumentParser) -> None:
    """Output for programs."""
    command.add_argument("--json", action="store_true", help="print JSON, one line for each run, and nothing else")
