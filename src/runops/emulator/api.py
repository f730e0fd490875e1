"""What all emulated APIs have in common: routes, keys, and where a run comes from.

No provider's paths, words or bodies stand here; each has a file of its own in :mod:`runops.emulator.services`, or
wherever the one stands that is handed to :func:`runops.emulator.create_app`. Such a file subclasses :class:`Api`: it
declares its names and scripts, and its handlers answer a :class:`~runops.emulator.wire.Request` from the
:class:`Store` of its runs.
"""

from __future__ import annotations

import random
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from runops.emulator.runs import Moment, Run, ScriptError, Step
from runops.emulator.wire import Answer, Request

#: Keys that start like this are answered 401.
INVALID_KEY = "invalid-"
#: Keys that start like this are answered 403.
FORBIDDEN_KEY = "forbidden-"
#: Digits of a number in a query.
LONGEST_NUMBER = 18
#: Parents (engine, config, workflow) that start like this do not exist: 404.
MISSING_PARENT = "missing"


class RefusedError(Exception):
    """A request that ends in an error answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


@dataclass(frozen=True)
class Route:
    """One method and path template of an API; ``action`` is its name in faults and in the journal."""

    method: str
    template: str
    action: str
    handler: Callable[[Request], Answer]
    public: bool = False

    @property
    def segments(self) -> list[str]:
        """The parts of the template between its slashes."""
        return self.template.split("/")[1:]

    def match(self, segments: list[str]) -> dict[str, str] | None:
        """Return the values of the template's holes, or None if the path is another one."""
        own = self.segments
        if len(own) != len(segments):
            return None
        params: dict[str, str] = {}
        for expected, found in zip(own, segments, strict=True):
            if expected.startswith("{"):
                if not found:
                    return None
                params[expected[1:-1]] = found
            elif expected != found:
                return None
        return params


@dataclass
class Submission:
    """What a submitted run is to become; ``options`` is what the caller asked of the emulator.

    ``usual_script`` is followed when neither the caller nor the control API's defaults name one; None for the API's.
    """

    parents: dict[str, str]
    body: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)
    usual_script: str | None = None


class Store(Protocol):
    """The runs of one API, as its handlers use them."""

    @property
    def seconds(self) -> float:
        """How long a named script lasts when nothing else is said."""
        ...

    def now(self) -> float:
        """Return the time, in seconds since the epoch."""
        ...

    def submit(self, submission: Submission) -> Run:
        """Make a run that a client submitted.

        Raises:
            ScriptError: If the submission asks for a script that does not exist.
        """
        ...

    def lookup(self, run_id: str) -> Run | None:
        """Return a run that can be seen by now, brought up to date."""
        ...

    def children(self, parent: str | None = None) -> list[Run]:
        """Return the visible runs, those of one parent or all, newest first and up to date."""
        ...

    def active(self, parent: str) -> Run | None:
        """Return a run of a parent that is not over, hidden ones included."""
        ...

    def number_of(self, parent: str) -> int:
        """Return how many runs a parent has had."""
        ...

    def cancel(self, run: Run) -> None:
        """Do to a run what a cancel does."""
        ...

    def resume(self, run: Run, steps: Iterable[Step]) -> None:
        """Do to a run what a resume does: the given steps, where nothing else was said."""
        ...


class Api(ABC):
    """One provider's API; a subclass declares its routes, its scripts and its error bodies.

    Args:
        store: The runs of this API.
        seed: Where its ids start from.
    """

    #: The path below which it is served, and its name in the control API.
    name: ClassVar[str]
    title: ClassVar[str]
    #: Wire field that says how a run stands.
    state_field: ClassVar[str]
    #: What that field says of runs that are over.
    over: ClassVar[frozenset[str]]
    #: Named scripts: how runs of this provider can go.
    scripts: ClassVar[Mapping[str, tuple[Moment, ...]]]
    #: The one that a run follows when nothing else is said.
    default_script: ClassVar[str] = "succeeded"
    #: How the body of a submit chooses another one, by the example of ``failed`` in 3 seconds; empty where it cannot.
    choosing_script: ClassVar[Mapping[str, Any]] = {}
    #: Which of ``parents`` groups the provider's runs; None if nothing does.
    parent_name: ClassVar[str | None] = None
    default_parent: ClassVar[str] = "emulated"
    #: Wire field that follows every change of a run.
    updated_field: ClassVar[str | None] = None
    #: Digits of the fraction of a second in this provider's timestamps.
    digits: ClassVar[int] = 3

    def __init__(self, store: Store, seed: int) -> None:
        self.store = store
        self.seed = seed
        self.random = random.Random(f"{seed}:{self.name}")
        self.answered = 0
        self.routes = list(self.declare_routes())

    @abstractmethod
    def declare_routes(self) -> Iterable[Route]:
        """Return the routes of this API."""

    def read_key(self, request: Request) -> str | None:
        """Return the key of a request, or None if the documented header is missing or malformed.

        Here it is that of ``Authorization: Bearer``.
        """
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        return key.strip() or None if scheme.lower() == "bearer" else None

    @abstractmethod
    def error(self, status: int, message: str, code: str | None = None) -> Answer:
        """Write an error the way this provider does."""

    def new_id(self) -> str:
        """Make a run id of this provider's form; here it is a UUID."""
        return self.uuid()

    @abstractmethod
    def first_fields(self, run_id: str, parents: Mapping[str, str], shape: str | None) -> dict[str, Any]:
        """Return the wire fields of a run at its creation."""

    def cancel_steps(self, run: Run) -> list[Step]:
        """Return what a cancel does to a run of this provider."""
        raise ScriptError(f"{self.title} has no way to cancel a run")

    def shape_for(self, parents: Mapping[str, str], shape: str | None) -> str | None:
        """Return which of the provider's page shapes a run has."""
        if shape is not None:
            raise ScriptError(f"{self.title} has one shape of page only")
        return None

    def reset(self) -> None:
        """Start ids over from the seed."""
        self.random = random.Random(f"{self.seed}:{self.name}")
        self.answered = 0

    def uuid(self) -> str:
        """Make a random UUID from the seed."""
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))

    def request_id(self, prefix: str) -> str:
        """Number an answer; taken from a counter so that polling does not change run ids."""
        self.answered += 1
        return f"{prefix}{self.answered:016x}"

    def find_route(self, request: Request) -> Route | None:
        """Return the route of a request and fill in its parameters.

        Raises:
            RefusedError: With 405 if the path exists for other methods only.
        """
        others: list[str] = []
        for route in self.routes:
            params = route.match(request.segments)
            if params is None:
                continue
            if route.method == request.method:
                request.params = params
                return route
            others.append(route.method)
        if others:
            answer = self.error(405, "Method Not Allowed")
            answer.headers["allow"] = ", ".join(sorted(set(others)))
            raise RefusedError(answer)
        return None

    def not_found(self, request: Request) -> Answer:
        """Answer a path that this API does not have."""
        return self.error(404, "Not Found")

    def check_key(self, request: Request) -> str:
        """Check the key and say what came of it.

        Raises:
            RefusedError: With 401 or 403 in the provider's own error body.
        """
        key = self.read_key(request)
        if key is None:
            raise RefusedError(self.error(401, "Missing or malformed credentials"))
        request.key = key
        if key.startswith(INVALID_KEY):
            raise RefusedError(self.error(401, "Invalid credentials"))
        if key.startswith(FORBIDDEN_KEY):
            raise RefusedError(self.error(403, "This key may not do that"))
        return key

    def find_run(self, request: Request) -> Run:
        """Return the run named in the path, brought up to date.

        Raises:
            RefusedError: With 404 if there is none (yet).
        """
        run = self.store.lookup(request.params["run_id"])
        if run is None:
            raise RefusedError(self.error(404, "Run not found"))
        return run

    def read_run(self, request: Request) -> Run:
        """Return the run named in the path, and count the read."""
        run = self.find_run(request)
        run.reads += 1
        return run

    def is_over(self, run: Run) -> bool:
        """Tell whether a run has ended."""
        return run.state in self.over

    def start(self, submission: Submission, refusal: Callable[[str], Answer]) -> Run:
        """Make the run that a client submits.

        Args:
            submission: What it is to become.
            refusal: Writes the answer to a submission that asks for what the emulator cannot do.

        Raises:
            RefusedError: With that answer.
        """
        try:
            return self.store.submit(submission)
        except ScriptError as problem:
            raise RefusedError(refusal(str(problem))) from problem

    def check_parent(self, parent: str, what: str) -> str:
        """Refuse parents that are said not to exist.

        Raises:
            RefusedError: With 404.
        """
        if parent.startswith(MISSING_PARENT):
            raise RefusedError(self.error(404, f"{what} not found"))
        return parent

    def page_of(
        self, request: Request, *, default: int, maximum: int, minimum: int = 1, cut: bool = False
    ) -> tuple[int, int]:
        """Read ``limit`` and ``offset``.

        Args:
            request: Whose query it is.
            default: The limit where none is given.
            maximum: The highest limit.
            minimum: The lowest one.
            cut: Whether a higher limit is taken for the highest, instead of refused.

        Raises:
            ValueError: If one is out of bounds; the message names the parameter.
        """
        limit = _whole(request, "limit", default)
        offset = _whole(request, "offset", 0)
        if cut:
            limit = min(limit, maximum)
        if not minimum <= limit <= maximum:
            raise ValueError(f"limit must be between {minimum} and {maximum}")
        return limit, offset


def _whole(request: Request, name: str, default: int) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    if not text.isdecimal() or len(text) > LONGEST_NUMBER:
        raise ValueError(f"{name} must be a whole number")
    return int(text)


def invalid_field(place: str, name: str, message: str, kind: str = "value_error") -> Answer:
    """Write the 422 of a service that is built with FastAPI."""
    return Answer.json(422, {"detail": [{"loc": [place, name], "msg": message, "type": kind}]})


def is_uuid(text: str) -> bool:
    """Tell whether a text is a UUID."""
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def options_from_text(words: Iterable[str]) -> dict[str, Any]:
    """Read ``name=value`` words, as providers without a free input object carry them."""
    options: dict[str, Any] = {}
    for word in words:
        name, _, value = word.partition("=")
        options[name] = value
    return options
