"""A service that plays a folder: it answers the provider's own routes with the folder's answers, and keeps a journal.

It knows what a wait and a submit need and no more: a run goes through answers of the status route, one a read; a submit
makes a run; a list shows the runs that were made. A fault befalls the next request of its route.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any, Literal, cast

from runops.conformance.answers import RecordedAnswer
from runops.conformance.facts import Facts, changed, holes_in, replaced
from runops.core.declaration import Call
from runops.core.declaration.decode import at

FaultKind = Literal["answer", "reset", "half", "drip"]


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes back, whole."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    kind: FaultKind = "answer"
    """How it goes over the connection."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What befalls a request of a route.

    Args:
        route: The route's name.
        reply: What comes in the place of its answer.
        carried_out: Whether what was asked for is done all the same.
        skip: So many requests of the route go well before.
    """

    route: str
    reply: Reply
    carried_out: bool = False
    skip: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that came."""

    route: str
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any


def _as_it_is(body: Any) -> Any:
    return body


@dataclass
class Service:
    """One service, and what was asked of it.

    Args:
        facts: The declaration and the folder.
        clock: Unix seconds, for the date of its answers.
        call: What a submit sends; None where none is tried.
        refuses_second: Whether a submit is refused while a run of it is active.
    """

    facts: Facts
    clock: Callable[[], float]
    call: Call | None = None
    refuses_second: bool = False
    requests: list[Seen] = field(default_factory=list[Seen])
    started: list[str] = field(default_factory=list[str])
    faults: list[Fault] = field(default_factory=list[Fault])
    strangers: list[str] = field(default_factory=list[str])
    """Runs that somebody else has started, as the list shows them."""
    alter: Callable[[Any], Any] = _as_it_is
    """What becomes of each body before it is sent."""
    _timelines: dict[str, deque[RecordedAnswer]] = field(default_factory=dict[str, deque[RecordedAnswer]])
    _sent: dict[str, Any] = field(default_factory=dict[str, Any])

    # --- what a check sets up and asks ---

    def make(self, run_id: str, steps: Iterable[RecordedAnswer], sent: Any = None) -> None:
        """Let there be a run that goes through these answers, one a read; the last one stays."""
        self._timelines[run_id] = deque(steps)
        self._sent[run_id] = sent

    def count(self, route: str) -> int:
        """How many requests of a route came."""
        return sum(seen.route == route for seen in self.requests)

    # --- answering ---

    def answer(self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: Any) -> Reply:
        """What a request is answered."""
        route, ids = self._route(method, path, query)
        self.requests.append(Seen(route, method, path, query, headers, body))
        fault = self._fault(route)
        if fault is None:
            return self._usual(route, ids, body)
        if fault.carried_out:
            self._usual(route, ids, body)
        return fault.reply

    def _fault(self, route: str) -> Fault | None:
        before = self.count(route) - 1
        found = next((each for each in self.faults if each.route == route and each.skip <= before), None)
        if found is not None:
            self.faults.remove(found)
        return found

    def _route(self, method: str, path: str, query: Mapping[str, str]) -> tuple[str, dict[str, str]]:
        call = self.call
        if call is not None and (method, path) == (call.method, call.path):
            return "submit", {}
        best, most = ("", dict[str, str]()), -1
        for name in ("probe", "list", "latest", "status", "result", "cancel", "resume", "retry", "explain"):
            route = self.facts.route(name)
            ids = holes_in(route, path) if route is not None and route.method == method else None
            if route is None or ids is None:
                continue
            fits = sum(query.get(key) == value for key, value in route.query.items())
            literal = 100 if not route.holes and name == "probe" else 0
            if fits == len(route.query) and fits + literal > most:
                best, most = (name, ids), fits + literal
        return best

    def _usual(self, route: str, ids: dict[str, str], body: Any) -> Reply:
        match route:
            case "submit":
                return self._submitted(body)
            case "status" | "result":
                return self._read(route, ids)
            case "list" | "latest":
                return self._listed(route, ids)
            case "probe":
                return self._recorded("probe") or self._json(200, {})
            case "":
                return self._json(404, {"message": "there is nothing at this address"})
            case _:
                return self._recorded(route) or self._json(200, {})

    def _recorded(self, route: str) -> Reply | None:
        found = self.facts.of(route, ok=True)
        return self._reply(found[0]) if found else None

    def _submitted(self, body: Any) -> Reply:
        if self.refuses_second and self.started:
            refused = self.facts.of("submit", ok=False)
            conflict = [each for each in refused if each.status == 409]
            return self._reply(conflict[0]) if conflict else self._json(409, {"message": "a run is active"})
        recorded = self.facts.submits[0]
        run_id = self.new_id()
        self.started.append(run_id)
        self.make(run_id, [*self.facts.phases, *self.facts.ends[:1]], body)
        made = replaced(recorded.body, {str(recorded.read_as.run_id): run_id})
        return self._json(recorded.status, made)

    def new_id(self) -> str:
        """An id that no run of the folder has."""
        return f"0f8c1d2e-3b4a-4c5d-8e6f-{len(self._timelines) + 1:012x}"

    def _read(self, route: str, ids: dict[str, str]) -> Reply:
        run_id = ids.get("run_id", "")
        steps = self._timelines.get(run_id)
        if not steps:
            return self._json(404, {"message": "no such run"})
        step = steps[0] if len(steps) == 1 or route == "result" else steps.popleft()
        known = self.facts.ids(step) or {}
        body = replaced(step.body, {known[name]: value for name, value in ids.items() if name in known})
        return self._json(step.status, self._marked(body, self.facts.provider.envelope_path, self._sent[run_id]))

    def _listed(self, route: str, ids: dict[str, str]) -> Reply:
        shown = [*reversed(self.strangers), *reversed(self.started)]
        items = [self._item(run_id, ids) for run_id in shown]
        if route == "latest":
            return self._json(200, items[0]) if items else self._json(404, {"message": "no run"})
        listing, pages = self.facts.provider.listing, self.facts.of("list", ok=True)
        assert listing is not None
        page: Any = pages[0].body if pages else {}
        if not listing.items:
            return self._json(200, items)
        *outer, last = listing.items
        page = changed(page or _nested(outer), tuple(outer), **{last: items})
        if listing.next:
            *outer, last = listing.next
            page = changed(page, tuple(outer), **{last: None})
        return self._json(200, page)

    def _item(self, run_id: str, ids: dict[str, str]) -> Any:
        """A run as the list shows it: an entry of the folder's, with this id, this moment and what its submit sent."""
        facts, pages = self.facts, self.facts.of("list", ok=True)
        entries = cast("list[Any]", at(pages[0].body, facts.items) or []) if pages else []
        # A page may hold the runs of other parents too.
        ours = {run.run_id for each in pages[:1] for run in each.read_as.runs or ()}
        alias = facts.alias("run_id")
        of_parent = [each for each in entries if str(each.get(alias)) in ours]
        template: Any = of_parent[0] if of_parent else at(facts.phases[0].body, facts.provider.envelope_path)
        parent = facts.parent(pages[0]) if pages else {}
        wanted = {**(self.call.parent if self.call else {}), **ids}
        item = replaced(template, {value: wanted[name] for name, value in parent.items() if name in wanted})
        now = datetime.fromtimestamp(self.clock(), UTC).isoformat()
        running = at(facts.phases[0].body, facts.provider.envelope_path)
        fields = {"run_id": run_id, "created_at": now, "started_at": now, "finished_at": None}
        named = {facts.alias(name): value for name, value in fields.items()}
        known = {alias: value for alias, value in named.items() if alias in item or alias == facts.alias("run_id")}
        word = facts.alias("status")
        return self._marked({**item, **known, word: running[word]}, (), self._sent.get(run_id))

    def _marked(self, body: Any, envelope: tuple[str, ...], sent: Any) -> Any:
        """A run that shows again the text that its submit sent, where runs of the folder show that field."""
        mark = self.facts.provider.submit.mark if self.facts.provider.submit else None
        if mark is None or not isinstance(sent, dict) or not self.facts.shows(self.facts.alias(mark)):
            return body
        return changed(body, envelope, **{self.facts.alias(mark): cast("dict[str, Any]", sent).get(mark)})

    def _reply(self, answer: RecordedAnswer) -> Reply:
        return Reply(answer.status, answer.content, self._headers(answer.headers))

    def _json(self, status: int, body: Any) -> Reply:
        return Reply(status, json.dumps(self.alter(body)).encode(), self._headers({}))

    def _headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        return {"content-type": "application/json", **headers, "date": formatdate(self.clock(), usegmt=True)}


def _nested(path: list[str]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key in reversed(path):
        made = {key: made}
    return made
