"""What sample answers let one guess of a declaration: where the run stands, its id, word, times and details."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from runops.core.declaration import RunBody
from runops.core.model import redaction, times
from runops.core.model.errors import ConfigurationError
from runops.core.model.run import Outcome, Phase
from runops.core.model.states import meaning_of

IDS = ("run_id", "id", "job_id", "execution_id", "task_id", "uuid")
STATES = ("status", "state", "run_status", "job_status", "phase")
TIMES = {
    "created_at": ("created", "submitted", "queued", "made"),
    "started_at": ("started", "start", "began", "begin"),
    "finished_at": ("finished", "completed", "ended", "end", "finish", "done"),
    "updated_at": ("updated", "modified", "changed"),
}
"""By our own name: what the service's name of a time begins with."""
MEANINGS: Mapping[str, Phase | Outcome] = {
    **dict.fromkeys(("queued", "pending", "created", "submitted", "scheduled", "new", "accepted"), Phase.QUEUED),
    **dict.fromkeys(
        ("running", "processing", "in_progress", "in progress", "active", "started", "executing", "working"),
        Phase.RUNNING,
    ),
    **dict.fromkeys(("paused", "suspended", "on_hold"), Phase.PAUSED),
    **dict.fromkeys(("waiting", "blocked", "awaiting_approval"), Phase.WAITING),
    **dict.fromkeys(("stopping", "cancelling", "canceling"), Phase.STOPPING),
    **dict.fromkeys(
        ("succeeded", "success", "successful", "completed", "complete", "done", "finished"), Outcome.SUCCEEDED
    ),
    **dict.fromkeys(("degraded", "partial", "partially_succeeded"), Outcome.DEGRADED),
    **dict.fromkeys(("failed", "failure", "error", "errored", "broken", "crashed"), Outcome.FAILED),
    **dict.fromkeys(("cancelled", "canceled", "aborted", "stopped", "terminated"), Outcome.CANCELLED),
}
"""What words of many services mean; each guess is marked in what is written."""
_WORD = re.compile(r"[A-Za-z][A-Za-z _-]{1,39}")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")
_ENDS_AS_ID = re.compile(r"(_id|Id|ID)$")
MOST_DETAILS = 12
Path = tuple[str, ...]


@dataclass(frozen=True)
class Guess:
    """What is written into a declaration; all of it is to be checked.

    Args:
        envelope: The keys that lead to the run.
        run_id: The key of its id.
        status: The key of its word.
        words: By word, as it came.
        times: By our own name: the key.
        details: By our own name: the key, and the type that it is read as.
    """

    envelope: Path
    run_id: str
    status: str
    words: Mapping[str, Phase | Outcome]
    times: Mapping[str, str] = field(default_factory=dict[str, str])
    details: Mapping[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])


def guess(
    bodies: Sequence[Any],
    *,
    known: Sequence[Phase | Outcome | None],
    words: Mapping[str, str],
    run_id: str | None = None,
    status: str | None = None,
) -> Guess:
    """What the samples show.

    Args:
        bodies: Answers about runs.
        known: What each means, where somebody has said it.
        words: Word to meaning, as the command line gives them.
        run_id: The key of the id, where it is known.
        status: The key of the word, where it is known.

    Raises:
        ConfigurationError: Something cannot be guessed; names the argument that says it.
    """
    for flag, name in (("--id-field", run_id), ("--state-field", status)):
        if name is not None and not _NAME.fullmatch(name):
            raise ConfigurationError(f"{flag} takes the name of one field, such as job_id, not {name[:80]!r}.")
    for path in _objects(bodies):
        runs = [_at(body, path) for body in bodies]
        id_key = run_id if run_id else _id_key(runs)
        state_key = status if status else _state_key(runs)
        if (
            id_key
            and state_key
            and all(_is_id(run.get(id_key)) and isinstance(run.get(state_key), str) for run in runs)
        ):
            found = _words([run[state_key] for run in runs], known, words)
            moments = _times(runs, {id_key, state_key})
            taken = {id_key, state_key, *moments.values()}
            return Guess(path, id_key, state_key, found, moments, _details(runs, taken))
    wanted = "--id-field NAME" if not run_id else "--state-field NAME" if not status else "other answers"
    raise ConfigurationError(
        "--answers: no object that all answers have holds an id (such as run_id or id) and a word (such as status or "
        f"state): give {wanted}, or --state-field NAME where the word has a name of its own."
    )


def _objects(bodies: Sequence[Any]) -> Iterator[Path]:
    """The paths to the objects that all bodies have, the outermost first."""
    level: list[Path] = [()]
    while level:
        yield from level
        level = [(*path, key) for path in level if len(path) < 3 for key in _shared(bodies, path)]


def _shared(bodies: Sequence[Any], path: Path) -> list[str]:
    """The keys under which all bodies hold an object at a path."""
    outer = [_at(body, path) for body in bodies]
    return [key for key in outer[0] if _NAME.fullmatch(key) and all(_is_object(each.get(key)) for each in outer)]


def _at(body: Any, path: Path) -> dict[str, Any]:
    for key in path:
        body = cast("dict[str, Any]", body).get(key) if isinstance(body, dict) else None
    return cast("dict[str, Any]", body) if isinstance(body, dict) else {}


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_id(value: Any) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool) and value != ""


def _id_key(runs: Sequence[Mapping[str, Any]]) -> str | None:
    """The first well-known name; else the first that ends like one."""
    named = [key for key in IDS if all(_is_id(run.get(key)) for run in runs)]
    ending = [key for key in runs[0] if _ENDS_AS_ID.search(key) and all(_is_id(run.get(key)) for run in runs)]
    return next((key for key in [*named, *ending] if _NAME.fullmatch(key)), None)


def _state_key(runs: Sequence[Mapping[str, Any]]) -> str | None:
    def is_word(key: str) -> bool:
        return all(isinstance(run.get(key), str) and _WORD.fullmatch(run[key]) for run in runs)

    named = [key for key in STATES if is_word(key)]
    ending = [key for key in runs[0] if re.search(r"(status|state)$", key, re.IGNORECASE) and is_word(key)]
    return next((key for key in [*named, *ending] if _NAME.fullmatch(key)), None)


# --- words -------------------------------------------------------------------------------------------------------


def _words(
    shown: Sequence[str], known: Sequence[Phase | Outcome | None], given: Mapping[str, str]
) -> dict[str, Phase | Outcome]:
    given_meanings: dict[str, Phase | Outcome] = {word: meaning_of(word, name) for word, name in given.items()}
    spelled = {word.lower(): meaning for word, meaning in given_meanings.items()}
    found: dict[str, Phase | Outcome] = {}
    for word, meaning in zip(shown, known, strict=True):
        if not _WORD.fullmatch(word):
            raise ConfigurationError("--answers: what stands in the state field is no word; give --state-field NAME.")
        means = meaning or spelled.get(word.lower()) or MEANINGS.get(word.strip().lower())
        if means is None:
            raise ConfigurationError(
                f"--answers: what the word {word!r} means cannot be guessed: give --word {word}=MEANING, a phase or an "
                "outcome such as running or succeeded."
            )
        found[word] = means
    have = {word.lower() for word in found}
    found |= {word: meaning for word, meaning in given_meanings.items() if word.lower() not in have}
    for needed in (Outcome.SUCCEEDED, Outcome.FAILED):
        if needed not in found.values():
            raise ConfigurationError(
                f"--answers show no word that means {needed}: give --word WORD={needed}, as the documentation has it."
            )
    return found


# --- times and details -------------------------------------------------------------------------------------------


def _times(runs: Sequence[Mapping[str, Any]], taken: set[str]) -> dict[str, str]:
    """Keys that are called like a time and hold one in a sample, or nothing in all of them."""
    found: dict[str, str] = {}
    keys = [key for key in dict.fromkeys(key for run in runs for key in run) if key not in taken]
    for ours, beginnings in TIMES.items():
        for key in keys:
            if not _NAME.fullmatch(key):
                continue
            words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key).lower().split("_")
            if words[0] in beginnings and key not in found.values() and _holds_time([run.get(key) for run in runs]):
                found.setdefault(ours, key)
    return found


def _holds_time(values: Sequence[Any]) -> bool:
    read = [times.moment(value) for value in values if not isinstance(value, (bool, dict, list))]
    some = [moment for moment in read if moment is not None]
    return times.UNREADABLE not in some and (bool(some) or all(value is None for value in values))


def _details(runs: Sequence[Mapping[str, Any]], taken: set[str]) -> dict[str, tuple[str, str]]:
    """Numbers and flags: a text may be anybody's, so none is shown unless a person says so."""
    found: dict[str, tuple[str, str]] = {}
    for key in runs[0]:
        values = [run.get(key) for run in runs if run.get(key) is not None]
        plain = _NAME.fullmatch(key) and redaction.code(key) and key not in taken and not _ENDS_AS_ID.search(key)
        if not plain or not values or not all(key in run for run in runs) or len(found) == MOST_DETAILS:
            continue
        kinds: set[type] = {type(value) for value in values}
        read = {"Flag": {bool}, "Count": {int}, "Number": {int, float}}
        kind = next((name for name, types in read.items() if kinds <= types), None)
        if kind is not None:
            found[python_name(key)] = (key, kind)
    return found


def python_name(key: str) -> str:
    """A service's name as one of Python's, which no method of the body bears."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).lower()
    taken = hasattr(RunBody, snake) or snake in RunBody.model_fields or keyword.iskeyword(snake)
    return f"run_{snake}" if taken or snake.startswith(("model_", "_")) else snake
