"""Real answers turned into a folder of answers and an emulator script, with a stand-in for all that nobody needs.

Each answer is read twice by the declaration: as it came, and as it is written. Both must mean the same, so that what
was taken out was not needed. What is written says what the declaration makes of it today: read it over before you
trust it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runops.conformance.answers import SCHEMA, SCRIPT
from runops.conformance.stand_ins import StandIns, headers, key_header
from runops.core.declaration import Observation, Provider
from runops.core.declaration.decode import at, decoded
from runops.core.model.errors import ConfigurationError, MalformedAnswer, RunopsError, UnknownStateError
from runops.core.model.run import RunRef, RunSnapshot
from runops.core.waiting.flows import patient_read
from runops.core.waiting.steps import Clock, Flow, Sleep


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """An answer as it came. It may hold anything: it is neither shown nor kept.

    Args:
        route: The name of the route, such as ``status``.
        content: The body.
        at: Seconds since the first answer.
        status: The HTTP status.
        headers: As they came.
    """

    route: str
    content: bytes = field(repr=False)
    at: float = 0.0
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)


def follow(provider: Provider, ref: RunRef, *, clock: Clock, until_over: bool, timeout: float) -> Flow[list[RawAnswer]]:
    """The answers of the status route of one run: one, or one for each change until it is over.

    Args:
        provider: The declaration.
        ref: The run.
        clock: Unix seconds.
        until_over: Whether to go on until the run is over.
        timeout: Seconds for that.

    Raises:
        RunopsError: The run could not be read.
    """
    began = clock()
    found: list[RawAnswer] = []
    before: RunSnapshot | None = None
    while True:
        reply = yield from patient_read(provider.request(provider.status, ref))
        now = clock()
        answer = RawAnswer("status", reply.content, now - began, headers={"content-type": "application/json"})
        try:
            seen = provider.read(ref, reply.content).snapshot
        except UnknownStateError:
            return [*found, answer]
        if seen.changed_from(before):
            found.append(answer)
        before = seen
        if not until_over or seen.run_ended or now - began >= timeout:
            return found
        yield Sleep(provider.cadence.delay(now - began))


def saved(provider: Provider, contents: Sequence[bytes], parents: Mapping[str, str]) -> tuple[RunRef, list[RawAnswer]]:
    """Answers of the status route that somebody has saved; the run that the first one is about.

    Args:
        provider: The declaration.
        contents: The bodies.
        parents: What the address of the run needs beside its id.

    Raises:
        MalformedAnswer: The first one is no answer about a run.
    """
    alias = provider.body.model_fields["run_id"].validation_alias
    run = at(decoded(contents[0]), provider.envelope_path)
    run_id = at(run, (alias if isinstance(alias, str) else "run_id",))
    if not isinstance(run_id, (str, int)) or isinstance(run_id, bool):
        raise MalformedAnswer("The first answer names no run where the declaration looks for its id.")
    answers = [RawAnswer("status", each, 10.0 * number) for number, each in enumerate(contents)]
    return provider.ref(str(run_id), parents), answers


@dataclass
class Recording:
    """A folder that is about to be written.

    Args:
        provider: The declaration.
        ref: The run, as it is at the service.
        words: Words that are kept although no table holds them.
    """

    provider: Provider
    ref: RunRef = field(repr=False)
    words: frozenset[str] = frozenset()
    files: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    notices: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        self.stand_ins = StandIns(self.provider, self.words)
        self.made_up = self._made_up(self.ref)
        """The run as the files name it."""
        self._moments: list[tuple[float, Any]] = []

    def _made_up(self, ref: RunRef) -> RunRef:
        parents = {kind: self.stand_ins.id_of(value, kind) for kind, value in ref.parents.items()}
        return self.provider.ref(self.stand_ins.id_of(ref.run_id, "run"), parents)

    # --- one answer after the other ---

    def add(self, answer: RawAnswer, ref: RunRef | None = None) -> None:
        """Take in an answer of the status or the result route.

        Args:
            answer: The answer.
            ref: The run that it is about, where it is another one.

        Raises:
            ConfigurationError: What is left of it would not mean the same.
        """
        route = self.provider.result if answer.route == "result" else self.provider.status
        assert route is not None
        ref = ref or self.ref
        made_up = self._made_up(ref)
        body = self.stand_ins.run_answer(_json(answer.content))
        seen = self._meaning(ref, answer.content)
        kept = self._meaning(made_up, json.dumps(body).encode())
        if _status(seen) != _status(kept) and not isinstance(kept, UnknownStateError):
            raise ConfigurationError(
                f"An answer of {self.provider.title} means {_status(seen)}, and {_status(kept)} once nothing is left "
                "in it but what the declaration names: a field that decides is read in a way of its own. Nothing was "
                "written; write this answer by hand."
            )
        if isinstance(kept, UnknownStateError) or (isinstance(kept, Observation) and not kept.reading.known):
            self.notices.append("A word stands in no table, and is not kept; --keep-word WORD keeps it.")
        if answer.route == "status":
            self._moments.append((answer.at, at(body, self.provider.envelope_path)))
        ids = {**made_up.parents, "run_id": made_up.run_id}
        path, query = route.fill(ids), route.query
        self._write(answer, route.method, path, query, body, _read_as(kept, made_up))

    def add_page(self, answer: RawAnswer, parent: Mapping[str, str]) -> None:
        """Take in the first page of the list of a parent.

        Raises:
            RunopsError: It cannot be read as a page of it.
        """
        listing = self.provider.listing
        assert listing is not None
        made_up = {kind: self.stand_ins.id_of(value, kind) for kind, value in parent.items()}
        body = self.stand_ins.page(_json(answer.content))
        page = self.provider.pages.read(json.dumps(body).encode(), made_up)
        runs = [{"run_id": each.snapshot.ref.run_id, **_meaning_of(each.snapshot)} for each in page.observations]
        read_as: dict[str, Any] = {"parent": made_up, "runs": runs}
        if listing.follows:
            read_as["more"] = self.provider.pages.next_request(made_up, 1, json.dumps(body).encode()) is not None
        self._write(answer, listing.route.method, listing.route.fill(made_up), listing.route.query, body, read_as)

    def _meaning(self, ref: RunRef, content: bytes) -> Observation | RunopsError:
        try:
            return self.provider.read(ref, content)
        except RunopsError as error:
            return error

    def _write(
        self, answer: RawAnswer, method: str, path: str, query: Mapping[str, str], body: Any, read_as: dict[str, Any]
    ) -> None:
        how = read_as.get("outcome") or read_as.get("phase") or answer.route
        name = f"{len(self.files) + 1:02}_{answer.route}_{how}.json" if how != answer.route else f"{answer.route}.json"
        request: dict[str, Any] = {"method": method, "path": path, "headers": key_header(self.provider)}
        if query:
            request["query"] = dict(query)
        self.files[name] = {
            "schema": SCHEMA,
            "route": answer.route,
            "request": request,
            "status": answer.status,
            "headers": headers(answer.headers) or {"content-type": "application/json"},
            "body": body,
            "read_as": read_as,
        }

    # --- all of them ---

    def script(self) -> dict[str, Any]:
        """What ``POST /_control/runs`` of the emulator takes, so that the same run is played again."""
        times = self._time_aliases()
        first = self._moments[0][1]
        fields = {name: "$now" if name in times and value else value for name, value in first.items()}
        run_id, status = self._alias("run_id"), self._alias("status")
        fields = {name: value for name, value in fields.items() if name not in (run_id, status)}
        steps: list[dict[str, Any]] = [{"at": 0.0, "set": {status: first.get(status)}}]
        before = first
        for moment, run in self._moments[1:]:
            change = {name: value for name, value in run.items() if before.get(name) != value and name != run_id}
            change = {name: "$now" if name in times and value else value for name, value in change.items()}
            step: dict[str, Any] = {"at": round(moment, 3), "set": change}
            gone = sorted(set(before) - set(run))
            steps.append({**step, "unset": gone} if gone else step)
            before = run
        made: dict[str, Any] = {"provider": self.provider.name, "run_id": self.made_up.run_id}
        if self.made_up.parents:
            made["parents"] = dict(self.made_up.parents)
        return {**made, "fields": fields, "script": steps}

    def _alias(self, name: str) -> str:
        alias = self.provider.body.model_fields[name].validation_alias
        return alias if isinstance(alias, str) else name

    def _time_aliases(self) -> frozenset[str]:
        return frozenset(self._alias(name) for name in ("created_at", "started_at", "finished_at", "updated_at"))

    def write(self, folder: Path) -> list[str]:
        """Write all files; their names.

        Raises:
            ConfigurationError: The folder holds something already, or cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if any(folder.iterdir()):
                raise ConfigurationError(f"--to {str(folder)!r} is not empty: name a new folder. Nothing was written.")
            made: dict[str, dict[str, Any]] = dict(self.files)
            if self._moments:
                made[SCRIPT] = self.script()
            for name, content in made.items():
                (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"--to {str(folder)!r} cannot be written: {error.strerror}.") from None
        return list(made)


def _json(content: bytes) -> Any:
    return decoded(content)


def _status(seen: Observation | RunopsError) -> str:
    return seen.snapshot.status.value if isinstance(seen, Observation) else type(seen).__name__


def _meaning_of(snapshot: RunSnapshot) -> dict[str, str]:
    return {"outcome" if snapshot.outcome else "phase": snapshot.status.value}


def _read_as(seen: Observation | RunopsError, ref: RunRef) -> dict[str, Any]:
    if isinstance(seen, RunopsError):
        return {"error": type(seen).__name__}
    snapshot = seen.snapshot
    moments = {name: getattr(snapshot, name) for name in ("created_at", "started_at", "finished_at")}
    read: dict[str, Any] = {**_meaning_of(snapshot), "run_id": ref.run_id}
    read |= {name: each.isoformat().replace("+00:00", "Z") if each else None for name, each in moments.items()}
    return {**read, "details": snapshot.details, "reason": snapshot.reason, "url": snapshot.url}
