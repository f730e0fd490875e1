"""``runops orphans``: what a host has left behind, listed and, on request, cancelled. The host's own side reads it.

The one place of the command line that knows a host: the side is imported when its command runs, and not before.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from runops.cli import notes, settings
from runops.cli.codes import COULD_NOT_TELL, INTERRUPTED
from runops.cli.output import OutputError, complain, printable, say
from runops.core import PROVIDERS, ConfigurationError, Provider, RunClient, find
from runops.core.client.orphans import Host, OrphanReview
from runops.core.model.secret import Secret
from runops.core.telemetry import METER
from runops.core.transport.network_settings import NetworkSettings
from runops.core.waiting.orphans import Act, Orphan, Standing

UNITS = {"m": 60.0, "h": 3600.0, "d": 86_400.0}


def orphans(options: argparse.Namespace) -> int:
    """List what a host has left behind, and cancel it where that is wanted.

    Returns:
        0 all that is left is listed, or cancelled; 4 some of it could not be told, or could not be cancelled; 130
        interrupted while runs were cancelled.
    """
    since = moment("--since", options.since)
    with notes.shown(), _host(options, since) as host:
        review = OrphanReview(host, _Keys(options.provider), credentials=options.credential)
        with review:
            found = _listed(review.find(), options)
            if options.cancel and found:
                found, interrupted = _cancelled(review, found, options)
                if interrupted:
                    return INTERRUPTED
    METER.orphans(PROVIDERS, (each.suspect.provider for each in found if each.goes_on))
    if not options.json and not found:
        say("Nothing is left behind.")
    return 0 if all(each.settled for each in found) else COULD_NOT_TELL


def moment(name: str, value: str) -> datetime:
    """When a look back begins: ``90m``, ``12h``, ``7d``, or a date and time.

    Args:
        name: The option, for messages.
        value: What was given.

    Raises:
        ConfigurationError: It is neither.
    """
    ago = re.fullmatch(r"(\d+(?:\.\d+)?)([mhd])", value.strip())
    try:
        if ago is not None:
            return datetime.now(UTC) - timedelta(seconds=float(ago[1]) * UNITS[ago[2]])
        given = datetime.fromisoformat(value.strip())
    except (ValueError, OverflowError):
        raise ConfigurationError(
            f"{name} takes a duration such as 90m, 12h or 7d, or a date and time, not {value[:80]!r}."
        ) from None
    return given.astimezone(UTC) if given.tzinfo else given.replace(tzinfo=UTC)


@contextmanager
def _host(options: argparse.Namespace, since: datetime) -> Generator[Host]:
    """The host that was named."""
    if options.host == "dagster":
        try:
            from runops.dagster.orphans import DagsterRuns, instance_at
        except ModuleNotFoundError as error:
            if error.name != "dagster":
                raise
            raise ConfigurationError("Dagster is not installed here: pip install 'runops[dagster]'.") from None
        with instance_at(options.dagster_home) as instance:
            yield DagsterRuns(instance, since=since)
        return
    from runops.airflow.orphans import AirflowTasks
    from runops.airflow.rest import AirflowApi, open_api

    with open_api(
        _url(options),
        token=Secret(os.environ.get("AIRFLOW_TOKEN")),
        username=os.environ.get("AIRFLOW_USERNAME"),
        password=Secret(os.environ.get("AIRFLOW_PASSWORD")),
        origin="the environment (AIRFLOW_TOKEN, or AIRFLOW_USERNAME and AIRFLOW_PASSWORD)",
        allow_http=options.allow_http,
        network=NetworkSettings.of(**settings.network_of("AIRFLOW"), origin=settings.network_origin("AIRFLOW")),
    ) as api:
        yield AirflowTasks(AirflowApi(api), since=since, operators=frozenset(options.operator))


def _url(options: argparse.Namespace) -> str:
    url = options.url or os.environ.get("AIRFLOW_BASE_URL")
    if not url:
        raise ConfigurationError("Where Airflow's API server is, says --url, or the variable AIRFLOW_BASE_URL.")
    return url


class _Keys:
    """Opens clients with the keys of the environment.

    Args:
        given: Providers from elsewhere, by import path. No other path is imported, whatever a host has recorded.
    """

    def __init__(self, given: list[str]) -> None:
        self._given = {path: find(path) for path in given}

    def __call__(self, name: str, credential: str | None) -> RunClient:
        return settings.connect(self._provider(name))

    def _provider(self, name: str) -> Provider:
        if ":" in name and name not in self._given:
            raise ConfigurationError(f"The provider {name[:120]!r} is from elsewhere: add --provider {name[:120]}.")
        return self._given.get(name) or find(name)


def _listed(found: Iterator[Orphan], options: argparse.Namespace) -> list[Orphan]:
    """Everything that was found; where nothing is cancelled afterwards it is shown at once."""
    kept: list[Orphan] = []
    for orphan in found:
        kept.append(orphan)
        if not (options.cancel and options.json):
            _show(orphan, options)
    return kept


def _cancelled(review: OrphanReview, found: list[Orphan], options: argparse.Namespace) -> tuple[list[Orphan], bool]:
    """Cancel what is left, each shown as soon as it is done; what became of it, and whether somebody interrupted."""
    left = sum(each.standing is Standing.LEFT for each in found)
    wanted = left > 0 and _confirmed(left, options)
    if left and not wanted:
        complain("nothing was cancelled.")
    done: list[Orphan] = []
    try:
        for orphan in found:
            done.append(review.cancel(orphan) if wanted else orphan)
            _tell(done[-1], options)
    except KeyboardInterrupt:
        count = sum(each.act is Act.CANCELLED for each in done)
        complain(f"interrupted; {count} of the runs listed were cancelled before, and one may have been on the way.")
        return done, True
    return done, False


def _tell(done: Orphan, options: argparse.Namespace) -> None:
    """What became of one.

    Raises:
        OutputError: It could not be written. The text names the run: what was done cannot be done again to learn it.
    """
    line = f"{done.ref}: {_acted(done)}"
    try:
        if options.json:
            _show(done, options)
        elif done.act is not None:
            say(printable(line))
    except OutputError as error:
        raise OutputError(f"{error.text} {line if done.act is not None else ''}".rstrip()) from None


def _confirmed(count: int, options: argparse.Namespace) -> bool:
    """Ask, where there is somebody to answer."""
    if options.yes or not sys.stdin.isatty():
        return True
    runs = "this run" if count == 1 else f"these {count} runs"
    print(f"Cancel {runs}? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _show(orphan: Orphan, options: argparse.Namespace) -> None:
    if options.json:
        say(json.dumps(orphan.to_result()))
        return
    where = _place(orphan.suspect.holder)
    if orphan.standing is Standing.LEFT and orphan.snapshot is not None:
        say(printable(f"{orphan.snapshot.summary()}; of {where}: {orphan.suspect.why}"))
        if orphan.snapshot.url:
            say(f"  {printable(orphan.snapshot.url)}")
        return
    what = orphan.ref or f"a submit to {orphan.suspect.provider}"
    state = "could not be read" if orphan.standing is Standing.UNREADABLE else "cannot be told"
    say(printable(f"{what} {state}; of {where}: {orphan.suspect.why}. {orphan.message}"))
    for candidate in orphan.candidates:
        say(printable(f"  it may be {candidate}"))


def _place(holder: Any) -> str:
    """Who submitted it, in words: the names that the host knows it by."""
    names = [str(value) for key, value in holder.items() if key not in ("host", "try_number", "task_state", "status")]
    return "/".join(name for name in names if name not in ("-1", "None"))


def _acted(orphan: Orphan) -> str:
    if orphan.act is Act.CANCELLED:
        return "the provider was asked to stop it"
    if orphan.act is Act.TAKEN_UP:
        return "left alone, since it is over, or waited for, by now"
    return f"could not be cancelled and may go on: {orphan.message}"
