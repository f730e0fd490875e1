"""``runops resume`` and ``runops retry``: a run that stands still goes on, because somebody asks for it."""

from __future__ import annotations

import argparse
import sys

from runops.cli import notes, settings
from runops.cli.codes import INTERRUPTED
from runops.cli.commands import guarded, wait_for
from runops.cli.display import judgement_of, print_json, print_run
from runops.cli.output import OutputError, complain
from runops.cli.submission import start_and_wait
from runops.cli.verdict_codes import CODES
from runops.core import NotSupported, OutcomePolicy, Provider, RunClient, RunRef, RunSnapshot
from runops.core.client.base import SubmitArguments
from runops.core.waiting.retry_call import retry_call


def run(options: argparse.Namespace) -> int:
    """Do what a parsed command line says; its exit code."""
    return guarded(resume if options.command == "resume" else retry, options)


def resume(options: argparse.Namespace) -> int:
    """Have a paused run go on, and with ``--wait`` stay until it is over; the exit code."""
    provider, ref = _run_of(options)
    if provider.resume is None:
        raise NotSupported(f"{provider.title} documents no way to resume a run.")
    try:
        with settings.connect(provider) as client, notes.waiting_for(provider, client.root):
            now = client.resume(ref)
    except KeyboardInterrupt:
        complain(f"interrupted; {ref} may go on by now: look at it with runops get.")
        return INTERRUPTED
    if not options.wait:
        return _shown(now, settings.policy(provider, options), options)
    # Told at once, whatever becomes of the wait; with --json, standard output is for its end alone.
    complain(now.summary())
    return wait_for(provider, [ref], options)


def retry(options: argparse.Namespace) -> int:
    """Have a failed run go on as a new one, and with ``--wait`` stay until that is over; the exit code."""
    provider, ref = _run_of(options)
    retry_call(provider, ref)
    if not _confirmed(ref, options):
        complain("nothing was submitted.")
        return 0

    def start(client: RunClient, given: SubmitArguments) -> RunRef:
        return client.retry(ref, **given)

    return start_and_wait(provider, start, options)


def _run_of(options: argparse.Namespace) -> tuple[Provider, RunRef]:
    """The run; what a wait for it would refuse is refused before anything is sent."""
    provider = settings.provider(options)
    settings.wait_options(provider, options, settings.policy(provider, options), now=0.0)
    return provider, settings.address(provider, options, options.run_id)


def _confirmed(ref: RunRef, options: argparse.Namespace) -> bool:
    """Ask, where there is somebody to answer."""
    if options.yes or not sys.stdin.isatty():
        return True
    print(
        f"Retry {ref}? It starts a new run, which costs what a run costs. [y/N] ", end="", file=sys.stderr, flush=True
    )
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _shown(now: RunSnapshot, policy: OutcomePolicy, options: argparse.Namespace) -> int:
    """Show how a run stands that was resumed; the exit code. It may be over by now.

    Raises:
        OutputError: It could not be written. The text names the run: what was done cannot be done again to learn it.
    """
    judgement = judgement_of(policy, now)
    try:
        (print_json if options.json else print_run)(now, judgement)
    except OutputError as error:
        raise OutputError(f"{error.text} {now.summary()}.") from None
    return 0 if judgement is None else CODES[judgement.verdict]
