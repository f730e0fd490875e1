"""``runops submit PROVIDER``: its options are the provider's own submit arguments, read from their signature."""

from __future__ import annotations

import argparse
import inspect
import json
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from runops.cli import arguments, notes, settings
from runops.cli.codes import INTERRUPTED
from runops.cli.commands import announce, guarded, wait_for
from runops.cli.output import complain
from runops.core import Call, ConfigurationError, NotSupported, Provider, RunClient, RunRef, find
from runops.core.client.base import SubmitArguments
from runops.core.declaration.arguments import grace, seconds
from runops.core.model.codes import Code
from runops.core.waiting.options import DEFAULT_ERROR_BUDGET, DEFAULT_TIMEOUT
from runops.core.waiting.submit_in_turn import TurnRules
from runops.core.waiting.turns import Turn

JSON_HELP = "JSON, or @file.json, or @- for standard input"


Start = Callable[[RunClient, SubmitArguments], RunRef]
"""Sends what starts a run, with what a submit takes beside what is submitted."""
SUBMITTED = "submitted"
"""What was done about a run that is ours."""


def submit(argv: list[str]) -> int:
    """Start a run, and with ``--wait`` stay until it is over; the exit code."""
    first = argparse.Namespace(argv=argv)
    return guarded(_submit, first)


def _submit(given: argparse.Namespace) -> int:
    argv: list[str] = given.argv
    if not argv or argv[0].startswith("-"):
        _stub().parse_args(argv)
    provider = find(argv[0])
    if provider.submit is None:
        raise NotSupported(f"{provider.title} documents no way to start a run: watch its runs instead.")
    build = provider.submit.build
    try:
        parser = parser_for(provider, build)
    except argparse.ArgumentError as error:
        raise ConfigurationError(
            f"A submit to {provider.title} takes an argument that is called like the option {error.argument_name} of "
            "this command: give it another name in the provider's declaration.",
            error_code=Code.NAME_CLASH,
        ) from None
    options = parser.parse_args(argv[1:])
    # A wrong word must be found before there is a run.
    provider = provider.with_states(settings.pairs("--state", options.state))
    settings.wait_options(provider, options, settings.policy(provider, options), now=0.0)
    call = provider.call(**_call_arguments(build, options))

    def start(client: RunClient, settings: SubmitArguments) -> RunRef:
        return client.submit(call, **settings)

    return start_and_wait(provider, start, options, mark_runs=options.mark_runs)


def start_and_wait(provider: Provider, start: Start, options: argparse.Namespace, **client_settings: Any) -> int:
    """Start a run, and with ``--wait`` stay until it is over; the exit code.

    Args:
        provider: The provider.
        start: Sends what starts it.
        options: What the command line says.
        client_settings: Settings of the client that sends it.
    """
    started = _started(provider, start, options, client_settings)
    if started is None:
        return INTERRUPTED
    ref, what = started
    if not options.wait:
        announce(provider, ref, what, as_json=options.json)
        return 0
    # Told at once, whatever becomes of the wait; with --json, standard output is for its end alone.
    if options.json:
        complain(f"{ref}: {what}")
    else:
        announce(provider, ref, what, as_json=False)
    return wait_for(provider, [ref], options, own=what == SUBMITTED)


def _started(
    provider: Provider, start: Start, options: argparse.Namespace, client_settings: Mapping[str, Any]
) -> tuple[RunRef, str] | None:
    """The run and what was done about it, in words; None where a person has interrupted it."""
    submit_grace = seconds("--submit-grace", options.submit_grace)
    clocks = settings.clocks(options)
    attached: list[RunRef] = []
    waits: list[Turn] = []
    try:
        with (
            settings.connect(provider, **client_settings) as client,
            notes.waiting_for(provider, client.root) as answered,
        ):

            def wait(turn: Turn) -> None:
                waits.append(turn)
                answered()

            rules = TurnRules(
                on_conflict=options.on_conflict,
                until=client.clock() + (clocks["timeout"] or DEFAULT_TIMEOUT),
                interval=clocks["poll_interval"],
                error_budget=clocks["error_budget"] or DEFAULT_ERROR_BUDGET,
                auth_grace=grace("--auth-grace", options.auth_grace),
            )
            ref = start(
                client,
                {
                    "adopt_uncertain": options.adopt_uncertain,
                    "submit_grace": submit_grace,
                    "rules": rules,
                    "before": lambda intent: waits.clear(),
                    "waiting": wait,
                    "attached": attached.append,
                },
            )
    except KeyboardInterrupt:
        if waits:
            complain("interrupted while it waited for a turn: nothing was submitted.")
        else:
            complain(f"interrupted; a run may have been started. Look at {provider.title} before you submit again.")
        return None
    return ref, "active already, and taken in place of a new run" if attached else SUBMITTED


def _stub() -> argparse.ArgumentParser:
    """Only knows that a provider is missing; its options are not known before."""
    parser = arguments.Parser(
        prog="runops submit",
        description="Start a run. The options depend on the provider: runops submit PROVIDER --help.",
    )
    parser.add_argument("provider", metavar="PROVIDER", help=arguments.PROVIDER)
    return parser


def parser_for(provider: Provider, build: Callable[..., Call]) -> argparse.ArgumentParser:
    """What a submit to a provider accepts: the arguments of its submit function, and those of every wait."""
    parser = arguments.Parser(
        prog=f"runops submit {provider.name}",
        description=f"Start a run at {provider.title}; see {provider.docs}.",
    )
    notes = _documented(build)
    for name, parameter in _parameters(build).items():
        note = notes.get(name, "")
        parser.add_argument(
            arguments.flag(name),
            dest=_destination(name),
            metavar="JSON" if _is_json(parameter.annotation) else "VALUE",
            required=parameter.default is parameter.empty,
            help=(f"{note} ({JSON_HELP})" if _is_json(parameter.annotation) else note).replace("%", "%%"),
        )
    arguments.add_submit(parser)
    parser.add_argument(
        "--no-mark",
        dest="mark_runs",
        action="store_false",
        help="send the name as it is, without the mark that proves whose the run is",
    )
    parser.add_argument("--wait", action="store_true", help="stay until the run is over")
    arguments.add_clocks(parser)
    arguments.add_verdicts(parser)
    arguments.add_json(parser)
    return parser


def _call_arguments(build: Callable[..., Call], options: argparse.Namespace) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for name, parameter in _parameters(build).items():
        value = getattr(options, _destination(name))
        if value is not None:
            given[name] = _json(arguments.flag(name), value) if _is_json(parameter.annotation) else value
    return given


def _parameters(build: Callable[..., Call]) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(build, eval_str=True).parameters)


def _destination(name: str) -> str:
    """A place of its own: a provider may have an argument that is called like one of ours."""
    return f"call_{name}"


def _is_json(annotation: Any) -> bool:
    """Whether a value of this type cannot be spelled as a plain text."""
    kinds = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    return any(typing.get_origin(kind) is not None or kind in (dict, list) for kind in kinds)


def _json(flag: str, text: str) -> Any:
    source = "its value"
    if text.startswith("@"):
        source = "standard input" if text == "@-" else text[1:]
        try:
            text = _standard_input() if text == "@-" else Path(text[1:]).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{flag}: {source} cannot be read: {error}.") from None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        # The place only: the text may hold credentials.
        where = f", line {error.lineno} column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise ConfigurationError(f"{flag}: {source} is not JSON{where}.") from None


def _standard_input() -> str:
    stream: TextIO | None = sys.stdin
    if stream is None:
        raise OSError("it is closed")
    return stream.read()


def _documented(build: Callable[..., Call]) -> dict[str, str]:
    """What the ``Args:`` of a docstring say of each argument."""
    _, _, section = (inspect.getdoc(build) or "").partition("Args:\n")
    section = section.partition("\n\n")[0]
    found: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        entry = re.match(r" {4}(\w+): (.*)", line)
        if entry:
            name = entry[1]
            found[name] = entry[2]
        elif name:
            found[name] += " " + line.strip()
    return {name: text.replace("``", "").rstrip(".") for name, text in found.items()}
