"""What a declaration is made of: how a credential is sent, routes, submissions, lists; and requests made of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal
from urllib.parse import quote

from runops.core.declaration import checks
from runops.core.declaration.address import check_id, holes_of
from runops.core.declaration.registry import nearest
from runops.core.model.codes import Code
from runops.core.model.errors import ConfigurationError
from runops.core.model.run import RunRef

NO_SUCH_RUN = "There is no such run"


def no_such(parent: Mapping[str, str]) -> str:
    """What a 404 means for a request about the runs of a parent, in words."""
    return f"There is no such {' or '.join(parent)}" if parent else "There is nothing at this address"


@dataclass(frozen=True, slots=True)
class AuthScheme:
    """Which header carries the credential, and what stands before it.

    Args:
        header: The header's name.
        prefix: What stands before the secret in the header's value, such as ``"Bearer "``.
        key_prefixes: What keys of this service begin with, such as ``("acme_",)``: a word that begins so is removed
            from every text that people see.
    """

    header: str
    prefix: str = ""
    key_prefixes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        checks.header("AuthScheme", "header", self.header)
        checks.spelled("AuthScheme", "prefix", self.prefix, r"[ -~]*", "a text of printable ASCII characters")
        checks.keys("AuthScheme", "key_prefixes", self.key_prefixes, empty=True)
        for prefix in self.key_prefixes:
            what = "what keys begin with, at least two letters and digits with '_' or '-' behind them, such as acme_"
            checks.spelled("AuthScheme", "key_prefixes", prefix, r"[A-Za-z][A-Za-z0-9_-]*[A-Za-z0-9][_-]", what)


BEARER = AuthScheme("Authorization", "Bearer ")
"""``Authorization: Bearer <key>``."""


def bearer(*key_prefixes: str) -> AuthScheme:
    """``Authorization: Bearer``, with keys that begin so."""
    return replace(BEARER, key_prefixes=key_prefixes)


@dataclass(frozen=True, slots=True)
class Route:
    """One documented route.

    Args:
        method: The HTTP method: any whose answer has a body.
        path: The path from the root of the API, with ``{holes}`` for ids.
        query: Query parameters, exactly as they go on the wire.
        json: The JSON body that always goes with it, or None for no body.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    json: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        owner = f"Route {self.path!r}"
        checks.method(owner, self.method)
        checks.path(owner, "path", self.path)
        checks.sendable(owner, "query", self.query, self.json)

    @property
    def holes(self) -> tuple[str, ...]:
        """The names that :meth:`fill` needs."""
        return holes_of(self.path)

    def fill(self, ids: Mapping[str, str]) -> str:
        """The path with every hole filled, each id quoted as one segment.

        Raises:
            ConfigurationError: An id is missing, empty, or could leave its place in the path.
        """
        missing = [name for name in self.holes if name not in ids]
        if missing:
            raise ConfigurationError(f"{', '.join(missing)} is missing: this provider's runs need it beside run_id.")
        quoted = {name: quote(check_id(name, ids[name]), safe="") for name in self.holes}
        return self.path.format(**quoted)


@dataclass(frozen=True, slots=True)
class Spend:
    """What runs of a provider spend, which ``max_spend`` bounds.

    Args:
        unit: In what it is counted, such as ``"USD"``.
        details: The details of a run that say how much, in that unit; their sum counts.
    """

    unit: str
    details: tuple[str, ...]

    def of(self, details: Mapping[str, Any]) -> float | None:
        """What a run has spent so far; None where it does not say so (yet)."""
        found = [details[name] for name in self.details if details.get(name) is not None]
        numbers = [each for each in found if isinstance(each, (int, float))]
        return float(sum(numbers)) if numbers else None


@dataclass(frozen=True, slots=True)
class Request:
    """One request as data: what the clients send. It holds no credential.

    Args:
        method: The HTTP method.
        path: The filled path, from the root of the API.
        description: The request in words, for messages.
        query: Query parameters.
        json: The body.
        absent: What a 404 means, in words.
        about: The run that the answer must be about.
        parent: The parent whose runs the answer must show, where the address names it.
        alone: Whether it shows one run of the parent, and not a page of them.
        url: In the place of path and query, an address that the service gave, below the same root.
    """

    method: str
    path: str
    description: str
    """The request in words, for messages."""
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    json: Any = field(default=None, repr=False)
    absent: str = NO_SUCH_RUN
    """What a 404 means, in words."""
    about: RunRef | None = None
    """The run that the answer must be about."""
    parent: Mapping[str, str] | None = None
    """The parent whose runs the answer must show, where the address names it."""
    alone: bool = False
    """Whether it shows one run of the parent, and not a page of them."""
    url: str = field(default="", repr=False)
    """In the place of path and query, an address that the service gave. It must stand below the same root."""


@dataclass(frozen=True, slots=True)
class Call:
    """A submission, checked and ready to be sent; its body shows in no ``repr``.

    Args:
        provider: The provider's name.
        path: The filled path.
        json: The body.
        parents: What a :class:`RunRef` of the new run needs beside its id.
        parent: The parent under which the provider lists runs of this kind, by name; empty where it lists none.
        method: The HTTP method.
        query: Query parameters.
        retry_of: The run that failed and that the new one goes on from, where this is a retry; see :class:`Retry`.
    """

    provider: str
    path: str
    json: Mapping[str, Any] | None = field(default=None, repr=False)
    parents: Mapping[str, str] = field(default_factory=dict[str, str])
    parent: Mapping[str, str] = field(default_factory=dict[str, str])
    method: str = "POST"
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    retry_of: str | None = None

    def __post_init__(self) -> None:
        checks.method(f"Call of {self.provider}", self.method)

    def marked(self, text_field: str, mark: str) -> Call:
        """The same submission, with a mark at the end of one of its texts."""
        text = f"{(self.json or {}).get(text_field) or ''} {mark}".lstrip()
        return replace(self, json={**(self.json or {}), text_field: text})


@dataclass(frozen=True, slots=True)
class Submission:
    """How a run is started.

    Args:
        build: Typed keyword arguments to a :class:`Call`; checks them and raises ConfigurationError.
        run_id: The keys that lead, in the whole answer, to the id of the new run, such as ``("data", "runId")``.
        one_at_a_time: The provider refuses a second active run of one parent.
        mark: The text of the body that the run shows again, itself and in lists: a mark at its end proves whose run
            it is. None where the provider shows no text of ours.
        account: The keys that lead, in the answer of the provider's ``probe``, to the account that runs are started
            as; empty where no answer names it. :meth:`RunBody.started_by` is compared with it.
        turned_away: Status and code of the answers by which the provider says that it has not begun with a request:
            then none was started, and it is sent again. 429 is one of them always.
    """

    build: Callable[..., Call]
    run_id: tuple[str, ...]
    one_at_a_time: bool = False
    mark: str | None = None
    account: tuple[str, ...] = ()
    turned_away: tuple[tuple[int, str], ...] = ()

    def __post_init__(self) -> None:
        checks.keys("Submission", "run_id", self.run_id)
        checks.keys("Submission", "account", self.account, empty=True)
        for name, parameter in inspect.signature(self.build).parameters.items():
            if name == "self" or parameter.kind not in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD):
                raise checks.wrong(
                    "Submission",
                    "build",
                    getattr(self.build, "__name__", self.build),
                    f"takes {name!r}, which cannot be given by that name",
                    "name each argument, none of them self: def submit(*, ...)",
                )

    @property
    def arguments(self) -> Mapping[str, inspect.Parameter]:
        """What a submit takes, by name."""
        return _parameters(self.build)

    def call(self, title: str, arguments: Mapping[str, Any]) -> Call:
        """A checked submission.

        Args:
            title: The provider's.
            arguments: What ``build`` takes, by name.

        Raises:
            ConfigurationError: An argument is wrong, missing or unknown.
        """
        parameters = self.arguments
        needed = [name for name, parameter in parameters.items() if parameter.default is parameter.empty]
        for problem, names in (
            ("unknown", [name for name in arguments if name not in parameters]),
            ("missing", [name for name in needed if name not in arguments]),
        ):
            if names:
                near = nearest(names[0], parameters) if problem == "unknown" else ""
                raise ConfigurationError(
                    f"A submit to {title} has {problem} arguments: {', '.join(names)}; "
                    f"it takes {', '.join(parameters)}.{near}",
                    error_code=Code.UNKNOWN_NAME if problem == "unknown" else Code.BAD_ARGUMENT,
                )
        return self.build(**arguments)


@dataclass(frozen=True, slots=True)
class Retry:
    """How a run that failed goes on from its point of failure, as a new run with an id of its own.

    It starts a run, so all that holds for a submit holds for it. An API that has the same run go on, under its own id,
    has a ``resume`` and no retry.

    Args:
        route: The route, filled like the status route.
        run_id: The keys that lead, in the whole answer, to the id of the new run, such as ``("data", "runId")``.
        turned_away: As :class:`Submission` has it.
    """

    route: Route
    run_id: tuple[str, ...]
    turned_away: tuple[tuple[int, str], ...] = ()

    def __post_init__(self) -> None:
        checks.keys("Retry", "run_id", self.run_id)
        if "run_id" not in self.route.holes:
            raise checks.wrong("Retry", "route", self.route.path, "names no run", "put {run_id} where the id stands")

    def call(self, ref: RunRef, parent: Mapping[str, str]) -> Call:
        """The retry of a run, as the submission that it is.

        Args:
            ref: The run that failed.
            parent: The parent under which a list shows the new run; empty where none does, or it is not known.
        """
        route = self.route
        return Call(
            ref.provider,
            route.fill({**ref.parents, "run_id": ref.run_id}),
            route.json,
            parents=ref.parents,
            parent=parent,
            method=route.method,
            query=route.query,
            retry_of=ref.run_id,
        )


@lru_cache(maxsize=64)
def _parameters(build: Callable[..., Call]) -> Mapping[str, inspect.Parameter]:
    """What a function takes, by name. It is asked for each of a thousand calls, and takes longer than their check."""
    return inspect.signature(build).parameters


PAGINGS = ("offset", "page", "cursor", "next")


@dataclass(frozen=True, slots=True)
class Listing:
    """Where a provider lists runs, newest first.

    Args:
        route: The route, its holes filled by the parent.
        items: The keys that lead to the array of runs.
        parent_kinds: The names by which a parent can be given.
        latest: A route that answers a parent's newest run alone, where there is one.
        filtered: Whether the page holds runs of other parents too, which we sort out.
        page_size: How many runs a full page holds, where that is known.
        paging: How the page is turned: by ``offset`` in runs, by ``page`` from 1, by a ``cursor`` that the page before
            holds, or by the address of the ``next`` page, which the page before holds and which is followed only
            below the same root. None for a list of one page.
        parameter: The parameter that holds the offset, page or cursor; named like ``paging`` if not given. It goes into
            the query or, where the route has a JSON body, into that.
        next: The keys that lead, in a page, to the cursor or the address of the next one; nothing there: the last page.
        complete: Whether an item says all that we read of a run, its end included.
        parent_detail: The detail of a run that names its parent, where its address does not.
    """

    route: Route
    items: tuple[str, ...]
    parent_kinds: tuple[str, ...]
    latest: Route | None = None
    filtered: bool = False
    page_size: int | None = None
    paging: Literal["offset", "page", "cursor", "next"] | None = None
    complete: bool = False
    parent_detail: str | None = None
    parameter: str | None = None
    next: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        checks.keys("Listing", "items", self.items, empty=True)
        checks.keys("Listing", "parent_kinds", self.parent_kinds)
        checks.keys("Listing", "next", self.next, empty=not self.follows)
        if self.paging not in (None, *PAGINGS):
            advice = f"write offset, page, cursor, next or None.{nearest(self.paging, PAGINGS)}"
            raise checks.wrong("Listing", "paging", self.paging, "is no way to turn a page", advice)
        if self.next and not self.follows:
            raise checks.wrong("Listing", "next", self.next, f"is not used by paging={self.paging!r}", "leave it out")
        if self.paging == "offset" and not self.page_size:
            raise checks.wrong("Listing", "page_size", self.page_size, "gives no offset", "say how long a page is")

    @property
    def follows(self) -> bool:
        """Whether each page says where the next one is, and the last one that there is none."""
        return self.paging in ("cursor", "next")


@dataclass(frozen=True, slots=True)
class Explanation:
    """One more read that says why a run failed.

    Args:
        route: The route; filled like the status route.
        read: The body to one cleaned line, or None.
    """

    route: Route
    read: Callable[[bytes], str | None]
