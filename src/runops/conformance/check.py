"""All checks of the kit over one declaration and one folder."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from runops.conformance.answers import read_folder
from runops.conformance.canaries import canaries
from runops.conformance.clients import Stages, stages
from runops.conformance.facts import Facts
from runops.conformance.faults import faults, secrets
from runops.conformance.kills import kills
from runops.conformance.lists import lists
from runops.conformance.reading import count, routes, times_and_details, words
from runops.conformance.report import Finding, Report
from runops.conformance.submits import submits
from runops.core.declaration import Provider
from runops.core.declaration.registry import nearest
from runops.core.model.errors import ConfigurationError

Result = tuple[list[Finding], int]
PURE: Mapping[str, Callable[[Facts], Result]] = {
    "routes": count(routes),
    "words": count(words),
    "times": count(times_and_details),
    "lists": count(lists),
    "redaction": count(canaries),
}
"""The checks that send nothing."""
PLAYED: Mapping[str, Callable[[Facts, Stages], Result]] = {
    "faults": faults,
    "secrets": secrets,
    "submits": submits,
    "kills": kills,
}
"""Those against a server of this machine that plays the folder, in both clients."""
CHECKS = (*PURE, *PLAYED)
"""The names of all checks, in the order in which they are made."""


def conform(provider: Provider, folder: Path | str, *, only: Iterable[str] = ()) -> Report:
    """Check a declaration against a folder of answers.

    Nothing is asked outside of this machine. It takes seconds, and must not be called where an event loop runs.

    Args:
        provider: The declaration.
        folder: As :func:`~runops.conformance.answers.read_folder` reads it.
        only: Names of :data:`CHECKS`; all by default.

    Raises:
        ConfigurationError: The folder cannot be read, or a check is unknown.
    """
    wanted = set(only) or set(CHECKS)
    for name in sorted(wanted - set(CHECKS)):
        raise ConfigurationError(f"--only {name!r} is none of {', '.join(CHECKS)}.{nearest(name, CHECKS)}")
    facts = Facts(provider, read_folder(folder))
    report = Report(provider.name)
    for name, check in PURE.items():
        if name in wanted:
            report.add(name, *_tried(name, lambda check=check: check(facts)))
    if wanted & set(PLAYED):
        with stages(facts) as made:
            for name, played in PLAYED.items():
                if name in wanted:
                    report.add(name, *_tried(name, lambda played=played: played(facts, made)))
    return report


def _tried(name: str, check: Callable[[], Result]) -> Result:
    """What a check finds. What the declaration's own code raises is one more finding, without the error's text."""
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - the declaration may raise anything
        # The last frame is ours or pydantic's as often as not; that of the declaration says most.
        frames = traceback.extract_tb(error.__traceback__)
        places = [frame for frame in frames if "runops/conformance" not in frame.filename.replace("\\", "/")]
        last = (places or frames)[-1]
        where = f"{Path(last.filename).name}:{last.lineno} ({last.name})"
        problem = f"raises {type(error).__name__} at {where}, where only errors of runops may come"
        return [Finding(name, "the declaration's code", problem, "Mend it: an odd answer must not end a wait")], 1
