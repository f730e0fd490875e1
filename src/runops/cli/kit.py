"""The commands for whoever writes a provider: ``conform``, ``record`` and ``new-provider``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from runops.cli import notes, settings
from runops.cli.output import complain, printable, say
from runops.core import ConfigurationError, Provider, RunRef, find
from runops.core.declaration.arguments import seconds
from runops.core.model.errors import MalformedAnswer
from runops.core.waiting.flows import patient_read

if TYPE_CHECKING:
    from runops.conformance.new_provider import Given, Sample
    from runops.conformance.record import RawAnswer, Recording

WRONG = 1


def run(options: argparse.Namespace) -> int:
    """Do what a parsed command line says; its exit code."""
    # A console script has its own folder there, and the file that is written stands in this one.
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    commands = {"conform": conform, "record": record, "new-provider": new_provider}
    return commands[options.command](options)


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


def record(options: argparse.Namespace) -> int:
    """Write a run's answers as a folder of answers."""
    from runops.conformance.record import Recording

    provider = find(options.provider)
    if bool(options.saved) == bool(options.run_id):
        raise ConfigurationError(
            "record takes either a RUN_ID or --from FILE: the run to read, or what was saved of it."
        )
    words = frozenset(options.keep_word)
    if options.saved:
        if options.result or options.listed or options.until_over:
            raise ConfigurationError("--result, --list and --until-over ask the service: give a RUN_ID for them.")
        ref, answers = _saved(provider, options)
        made = Recording(provider, ref, words)
        for answer in answers:
            made.add(answer)
    else:
        made = Recording(provider, settings.address(provider, options, options.run_id), words)
        _read(provider, made, options)
    names = made.write(Path(options.to))
    for notice in dict.fromkeys(made.notices):
        complain(notice)
    if options.json:
        say(json.dumps({"folder": options.to, "files": names}))
    else:
        for name in names:
            say(printable(str(Path(options.to) / name)))
    return 0


def _saved(provider: Provider, options: argparse.Namespace) -> tuple[RunRef, list[RawAnswer]]:
    from runops.conformance.record import saved

    try:
        contents = [sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes() for name in options.saved]
    except OSError as error:
        raise ConfigurationError(f"--from {error.filename!r} cannot be read: {error.strerror}.") from None
    try:
        return saved(provider, contents, settings.pairs("--parent", options.parent))
    except MalformedAnswer as error:
        raise ConfigurationError(f"--from {options.saved[0]!r}: {error.text}") from None


def _read(provider: Provider, made: Recording, options: argparse.Namespace) -> None:
    """Ask the service for what is to be recorded."""
    from runops.conformance.record import RawAnswer, follow

    parent = provider.pages.parent(settings.pairs("--list", [options.listed])) if options.listed else {}
    if options.result and provider.result is None:
        raise ConfigurationError(f"--result: {provider.title} shows the whole payload by its status route already.")
    timeout = seconds("--timeout", options.timeout)
    with settings.connect(provider) as client, notes.waiting_for(provider, client.root):
        followed = follow(provider, made.ref, clock=client.clock, until_over=options.until_over, timeout=timeout)
        for answer in client.drive(followed):
            made.add(answer)
        if options.result and provider.result is not None:
            reply = client.drive(patient_read(provider.request(provider.result, made.ref)))
            made.add(RawAnswer("result", reply.content))
        if parent:
            reply = client.drive(patient_read(provider.pages.request(parent)))
            made.add_page(RawAnswer("list", reply.content), parent)


def new_provider(options: argparse.Namespace) -> int:
    """Begin a provider's file from sample answers."""
    from runops.conformance.new_provider import NewProvider, read_sample

    samples = [read_sample(Path(name)) for name in options.answers]
    submitted = read_sample(Path(options.submit_answer)) if options.submit_answer else None
    made = NewProvider.of(
        _given(options, submitted),
        samples,
        words=settings.pairs("--word", options.word),
        id_field=options.id_field,
        state_field=options.state_field,
        submitted=submitted,
    )
    for name in made.write(Path(options.to)):
        say(printable(str(Path(options.to) / name)))
    return 0


def _given(options: argparse.Namespace, submitted: Sample | None) -> Given:
    """What the command line says of a new provider."""
    from runops.conformance.new_provider import Given, checked_name, id_path, written_route

    if bool(options.submit) != bool(submitted):
        missing = "--submit-answer FILE, which shows the id of a new run" if options.submit else "--submit ROUTE"
        raise ConfigurationError(f"A submit needs both its route and an answer to it: give {missing}.")
    path: tuple[str, ...] = tuple(filter(None, (options.submit_id or "").split(".")))
    if submitted is not None and not path:
        path = id_path(submitted, options.id_field or "")
    header, _, before = (options.key_header or "Authorization: Bearer").partition(":")
    return Given(
        name=checked_name(options.name),
        base_url=options.base_url,
        docs=options.docs,
        link=options.link,
        status=written_route("--status", options.status),
        probe=written_route("--probe", options.probe, about_a_run=False),
        cancel=written_route("--cancel", options.cancel) if options.cancel else None,
        submit=written_route("--submit", options.submit, about_a_run=False) if options.submit else None,
        submit_id=path,
        key_header=header.strip(),
        key_before=f"{before.strip()} " if before.strip() else "",
        key_prefixes=tuple(options.key_prefix),
    )
