"""A provider's file, its test, its answers and its entry point, begun from two or three sample answers."""

from __future__ import annotations

import json
import keyword
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from runops.conformance import template
from runops.conformance.answers import SCHEMA, RecordedAnswer, read_file, read_json
from runops.conformance.guesses import IDS, Guess, guess
from runops.conformance.record import RawAnswer, Recording
from runops.conformance.stand_ins import StandIns, key_header
from runops.conformance.template import Given
from runops.core.declaration import Provider, Route
from runops.core.declaration.decode import at
from runops.core.model.errors import ConfigurationError
from runops.core.model.run import Outcome, Phase, RunRef
from runops.core.providers import PROVIDERS

_PATH = re.compile(r"[A-Za-z0-9/_.~:{}-]+")


@dataclass(frozen=True)
class Sample:
    """An answer that somebody has given.

    Args:
        body: JSON.
        meaning: What it means, where the file says it.
        recorded: The answer, where the file is one of a folder of answers.
    """

    body: Any
    meaning: Phase | Outcome | None = None
    recorded: RecordedAnswer | None = None


def read_sample(path: Path) -> Sample:
    """A file of a folder of answers, or a body as it came.

    Raises:
        ConfigurationError: It cannot be read, or is no JSON object.
    """
    body = read_json(path, repr(str(path)))
    if not isinstance(body, dict):
        raise ConfigurationError(f"{str(path)!r} is no JSON object.")
    if "route" in body and "read_as" in body:
        recorded = read_file(path)
        return Sample(recorded.body, recorded.meaning, recorded)
    return Sample(cast("Any", body))


def checked_name(name: str) -> str:
    """A name that a new provider and its file can bear.

    Raises:
        ConfigurationError: It is another one's, or no name of a module.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name) or keyword.iskeyword(name):
        raise ConfigurationError(f"NAME {name[:80]!r} is no name in lower case such as acme.")
    if name in PROVIDERS:
        raise ConfigurationError(f"NAME {name!r} is that of a provider that runops ships: choose another.")
    return name


def written_route(flag: str, text: str, *, about_a_run: bool = True) -> tuple[str, str]:
    """``"GET /v3/jobs/{run_id}"`` as method and path.

    Raises:
        ConfigurationError: It is none.
    """
    method, _, path = text.strip().partition(" ")
    try:
        route = Route(method, path.strip())
    except ConfigurationError as error:
        raise ConfigurationError(
            f"{flag} takes METHOD /path, such as 'GET /v1/runs/{{run_id}}': {error.text}"
        ) from None
    if not _PATH.fullmatch(route.path):
        raise ConfigurationError(f"{flag} {text[:80]!r} holds a character that no path of an API needs.")
    if about_a_run and "run_id" not in route.holes:
        raise ConfigurationError(f"{flag} {text!r} names no run: put {{run_id}} where the id stands.")
    return route.method, route.path


@dataclass(frozen=True)
class NewProvider:
    """What is about to be written.

    Args:
        given: What was said.
        samples: Answers about runs.
        guess: What they show.
        submitted: The answer to a submit, where one was given.
    """

    given: Given
    samples: Sequence[Sample]
    guess: Guess
    submitted: Sample | None = None

    @classmethod
    def of(
        cls,
        given: Given,
        samples: Sequence[Sample],
        *,
        words: Mapping[str, str],
        id_field: str | None = None,
        state_field: str | None = None,
        submitted: Sample | None = None,
    ) -> NewProvider:
        """Guess what the samples show.

        Raises:
            ConfigurationError: Something cannot be guessed; names the argument that says it.
        """
        bodies, known = [each.body for each in samples], [each.meaning for each in samples]
        found = guess(bodies, known=known, words=words, run_id=id_field, status=state_field)
        shown = {found.words[at(body, (*found.envelope, found.status))] for body in bodies}
        if not any(isinstance(each, Phase) for each in shown):
            raise ConfigurationError("--answers show no run that goes on: give an answer of one that does, too.")
        if Outcome.SUCCEEDED not in shown:
            raise ConfigurationError("--answers show no run that succeeded: give an answer of one that did, too.")
        return cls(given, samples, found, submitted)

    def texts(self) -> dict[str, str]:
        """The files that are no answers, by their names."""
        name = self.given.name
        return {
            f"{name}_runs.py": template.declaration(self.guess, self.given, samples=len(self.samples)),
            f"test_{name}_runs.py": template.test_file(self.given),
            f"{name}_entry_point.toml": template.entry_point(self.given),
        }

    def declared(self) -> Provider:
        """The declaration that the file makes.

        Raises:
            ConfigurationError: It can never work; says why.
        """
        name = f"_new_{self.given.name}_runs"
        module = sys.modules[name] = ModuleType(name)
        try:
            # It is our own text: what came from outside stands in it as quoted texts, or as names that were checked.
            exec(self.texts()[f"{self.given.name}_runs.py"], vars(module))
        finally:
            del sys.modules[name]
        found: object = vars(module)[self.given.constant]
        assert isinstance(found, Provider)
        return found

    def answers(self) -> dict[str, dict[str, Any]]:
        """The folder of answers, with nothing of the samples but their shapes and words."""
        provider = self.declared()
        parents = {name: f"{name.removesuffix('_id').replace('_', '-')}-0" for name in provider.parents}
        refs = [self._ref(provider, each, parents) for each in self.samples]
        made = Recording(provider, refs[0])
        for number, (sample, ref) in enumerate(zip(self.samples, refs, strict=True)):
            made.add(RawAnswer("status", json.dumps(sample.body).encode(), float(number)), ref)
        files = dict(made.files)
        if self.given.submit and self.submitted is not None:
            files["submit.json"] = self._submit_answer(provider, made.stand_ins, self.submitted)
        if self.given.cancel:
            method, path = self.given.cancel
            filled = Route(method, path).fill({**made.made_up.parents, "run_id": made.made_up.run_id})
            files["cancel.json"] = _answer(provider, "cancel", method, filled, {}, {})
        return files

    def _ref(self, provider: Provider, sample: Sample, parents: dict[str, str]) -> RunRef:
        return provider.ref(str(at(sample.body, (*self.guess.envelope, self.guess.run_id))), parents)

    def _submit_answer(self, provider: Provider, stand_ins: StandIns, sample: Sample) -> dict[str, Any]:
        assert self.given.submit is not None
        method, path = self.given.submit
        body = stand_ins.started(sample.body, self.given.submit_id)
        holes = Route(method, path).holes
        arguments: dict[str, Any] = {hole: f"{hole.removesuffix('_id').replace('_', '-')}-0" for hole in holes}
        filled = Route(method, path).fill(arguments)
        found = _answer(provider, "submit", method, filled, body, {"run_id": str(at(body, self.given.submit_id))})
        found["request"] |= {"arguments": {**arguments, "payload": {"field": "stand-in"}}}
        return found

    def write(self, folder: Path) -> list[str]:
        """Write all files; their names, from the folder.

        Raises:
            ConfigurationError: One is there already, or cannot be written; nothing was written then.
        """
        texts = {**self.texts()}
        place = f"answers/{self.given.name}"
        texts |= {f"{place}/{name}": json.dumps(each, indent=2) + "\n" for name, each in self.answers().items()}
        there = [name for name in (*texts, place) if (folder / name).exists()]
        if there:
            raise ConfigurationError(f"{str(folder / there[0])!r} is there already: nothing was written.")
        try:
            (folder / place).mkdir(parents=True)
            for name, text in texts.items():
                (folder / name).write_text(text, encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"{str(folder)!r} cannot be written: {error.strerror}.") from None
        return list(texts)


def _answer(
    provider: Provider, route: str, method: str, path: str, body: Any, read_as: dict[str, Any]
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "route": route,
        "request": {"method": method, "path": path, "headers": key_header(provider)},
        "status": 200,
        "headers": {"content-type": "application/json"},
        "body": body,
        "read_as": read_as,
    }


def id_path(sample: Sample, run_id: str) -> tuple[str, ...]:
    """Where the answer to a submit holds the id of the new run, as far as it can be guessed.

    Args:
        sample: The answer.
        run_id: The key under which an answer about a run holds it.

    Raises:
        ConfigurationError: It cannot.
    """
    if sample.recorded is not None and sample.recorded.read_as.run_id is not None:
        wanted = sample.recorded.read_as.run_id
        found = [path for path, value in _leaves(sample.body) if str(value) == wanted]
    else:
        known = [run_id, *IDS]
        leaves = list(_leaves(sample.body))
        found = [path for key in known for path, _ in leaves if path[-1] == key]
        found += [path for path, _ in leaves if re.search(r"(_id|Id|ID)$", path[-1])]
    if not found:
        raise ConfigurationError(
            "--submit-answer holds nothing that looks like the id of a run: give --submit-id KEY.KEY."
        )
    return found[0]


def _leaves(body: Any) -> list[tuple[tuple[str, ...], Any]]:
    found: list[tuple[tuple[str, ...], Any]] = []
    left: list[tuple[Any, tuple[str, ...]]] = [(body, ())]
    while left:
        value, path = left.pop(0)
        if isinstance(value, dict):
            left += [(inner, (*path, key)) for key, inner in cast("dict[str, Any]", value).items()]
        elif path and isinstance(value, (str, int)) and not isinstance(value, bool):
            found.append((path, value))
    return found
