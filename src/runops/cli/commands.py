"""The commands, and how their ends become exit codes."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable

from runops.cli import notes, settings
from runops.cli.bars import Bars
from runops.cli.codes import COULD_NOT_TELL, USAGE
from runops.cli.display import Display, JsonLines, Lines, judgement_of, print_json, print_run
from runops.cli.output import OutputError, complain, printable, say
from runops.cli.verdict_codes import CODES, WORST_FIRST
from runops.cli.watching import watch_runs
from runops.cli.whole import Whole
from runops.core import (
    ConfigurationError,
    NotSupported,
    OutcomePolicy,
    Provider,
    RunopsError,
    RunRef,
    RunSnapshot,
    find,
)
from runops.core.providers import tables
from runops.core.waiting import flows

KIT = ("conform", "record", "new-provider")
"""Commands about a declaration, and not about a run."""
LIMITS = ("max_stalled", "max_spend")
"""What ends the wait for a run that goes on to no good, so that it is stopped where it is ours."""


def run(options: argparse.Namespace) -> int:
    """Do what a parsed command line says; its exit code."""
    commands = {"get": get, "watch": watch, "cancel": cancel, "states": states, "orphans": left_behind}
    commands["explain"] = explained
    commands |= dict.fromkeys(KIT, for_writers)
    return guarded(commands[options.command], options)


def left_behind(options: argparse.Namespace) -> int:
    """What a host has left behind."""
    from runops.cli.orphans import orphans

    return orphans(options)


def explained(options: argparse.Namespace) -> int:
    """Which rule gives which verdict."""
    from runops.cli.explain import explain

    return explain(options)


def for_writers(options: argparse.Namespace) -> int:
    """What whoever writes a provider needs."""
    from runops.cli.kit import run

    return run(options)


def guarded(command: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    """Run a command; errors become one line and an exit code."""
    try:
        return command(options)
    except ConfigurationError as error:
        complain(error)
        return USAGE
    except RunopsError as error:
        complain(error)
        return COULD_NOT_TELL


def worst(codes: Iterable[int]) -> int:
    """The exit code of several runs: the first present of 4, 1, 3, 0."""
    present = set(codes)
    return next((code for code in WORST_FIRST if code in present), 0)


def get(options: argparse.Namespace) -> int:
    """Look at a run once."""
    provider = settings.provider(options)
    policy = settings.policy(provider, options)
    ref = settings.address(provider, options, options.run_id)
    with settings.connect(provider) as client, notes.waiting_for(provider, client.root):
        snapshot = client.drive(flows.get(client.provider, ref, policy.expect.details))
    judgement = judgement_of(policy, snapshot)
    if options.json:
        print_json(snapshot, judgement)
    else:
        print_run(snapshot, judgement)
    return 0 if judgement is None else CODES[judgement.verdict]


def watch(options: argparse.Namespace) -> int:
    """Wait until runs are over."""
    provider = settings.provider(options)
    refs = [settings.address(provider, options, run_id) for run_id in dict.fromkeys(options.run_ids)]
    return wait_for(provider, refs, options)


def wait_for(provider: Provider, refs: list[RunRef], options: argparse.Namespace, *, own: bool = False) -> int:
    """Wait for runs and report each; the exit code of all.

    Args:
        provider: The provider.
        refs: The runs.
        options: What the command line says.
        own: Whether this command has started them.
    """
    policy = settings.policy(provider, options)
    client = settings.connect_async(provider)
    clocks = settings.wait_options(provider, options, policy, now=client.clock())
    display = display_for(provider, refs, policy, as_json=options.json)
    ends = watch_runs(client, refs, clocks, display, policy)
    if own:
        stop_what_reached_a_limit(provider, ends)
    return worst(COULD_NOT_TELL if end is None else CODES[policy.judge(end).verdict] for end in ends)


def stop_what_reached_a_limit(provider: Provider, ends: Iterable[RunSnapshot | None]) -> None:
    """Cancel the runs that this command has started and that stalled or spent too much, where the provider can."""
    for end in ends:
        if end is None or end.ended_by not in LIMITS or provider.cancel is None:
            continue
        try:
            with settings.connect(provider) as client, notes.waiting_for(provider, client.root):
                client.cancel(end.ref)
        except RunopsError as error:
            complain(f"{end.ref} could not be cancelled and may go on: {error}")
        else:
            complain(f"{end.ref}: the provider was asked to stop it")


def display_for(provider: Provider, refs: list[RunRef], policy: OutcomePolicy, *, as_json: bool) -> Display:
    """The display that fits the output."""
    if as_json:
        return JsonLines(policy)
    whole = Whole(provider, refs, policy)
    if sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        return Bars(refs, policy, sys.stdout.encoding, whole)
    return Lines(policy, whole)


def cancel(options: argparse.Namespace) -> int:
    """Ask the provider to stop a run."""
    provider = find(options.provider)
    ref = settings.address(provider, options, options.run_id)
    if provider.cancel is None:
        raise NotSupported(f"{provider.title} documents no way to cancel a run.")
    with settings.connect(provider) as client, notes.waiting_for(provider, client.root):
        client.cancel(ref)
    announce(provider, ref, "the provider was asked to stop it", as_json=options.json)
    return 0


def states(options: argparse.Namespace) -> int:
    """Every documented word of one provider or all."""
    shown = tables.all_states() if options.provider is None else tables.all_states([find(options.provider)])
    header = ("provider", "word", "meaning", "verdict")
    if options.json:
        say(json.dumps([dict(zip(header, row, strict=True)) for row in shown]))
        return 0
    widths = [max(len(row[column]) for row in (header, *shown)) for column in range(len(header))]
    for row in (header, *shown):
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def announce(provider: Provider, ref: RunRef, what: str, *, as_json: bool) -> None:
    """A run that was acted on but not looked at.

    Raises:
        OutputError: It could not be written. The text names the run: what was done cannot be done again to learn it.
    """
    try:
        if as_json:
            print_json(RunSnapshot(ref=ref, state=None, url=provider.url(ref)), None)
        else:
            say(printable(f"{ref}: {what}"))
    except OutputError as error:
        raise OutputError(f"{error.text} {ref}: {what}.") from None
