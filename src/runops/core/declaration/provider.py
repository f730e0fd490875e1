"""What a provider is: one value that declares its words, routes, auth, cadence and links. It opens no connection."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache
from hashlib import blake2b
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, TypeVar, cast, get_args
from urllib.parse import quote, unquote, urlsplit, urlunsplit
from uuid import UUID

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    ValidationInfo,
    WrapValidator,
    create_model,
)

from runops.core.declaration import checks, registry
from runops.core.declaration.decode import LARGE
from runops.core.declaration.routes import NO_SUCH_RUN, no_such
from runops.core.model import times
from runops.core.model.cadence import Cadence
from runops.core.model.errors import (
    AnotherRun,
    ConfigurationError,
    MalformedAnswer,
    NotSupported,
    UnknownStateError,
    without_frames,
)
from runops.core.model.policy import OutcomePolicy, Verdict
from runops.core.model.redaction import shown
from runops.core.model.run import Outcome, Phase, Progress, RunRef, RunSnapshot
from runops.core.model.states import StateReading, StateTable

_EMPTY: Mapping[str, Any] = MappingProxyType({})

_MIXED_UP = "a proxy or a cache on the way may mix up answers"

NO_STATUS = "without a status"
"""Stands for the word of a run that a list shows by its id, but without a readable status."""


# --- what comes in ---------------------------------------------------------------------------------------------


def _moment(value: object, field: ValidationInfo) -> datetime | None:
    """An aware time, or None. An end that is told in a way nobody can read is an end all the same."""
    found = times.moment(value)
    return None if found == times.UNREADABLE and field.field_name != "finished_at" else found


def _or_none(value: object, parse: Callable[[object], Any]) -> Any:
    """A field of an unexpected type is as good as absent: it must not end a wait."""
    try:
        return parse(value)
    except ValidationError:
        return None


Moment = Annotated[datetime | None, BeforeValidator(_moment)]
Text = Annotated[str | None, WrapValidator(_or_none)]
Number = Annotated[FiniteFloat | None, WrapValidator(_or_none)]
Count = Annotated[int | None, WrapValidator(_or_none)]
Flag = Annotated[bool | None, WrapValidator(_or_none)]
T = TypeVar("T", bound=BaseModel)
Lenient = Annotated[T | None, WrapValidator(_or_none)]
"""An optional nested object: anything else in its place reads as absent."""

Id = Annotated[str, Field(min_length=1)]


class Part(BaseModel):
    """A part of an answer: only what it declares is read, and no error about it quotes what came."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Nothing: what it holds is not cleaned yet, and a frame with it may be shown."""
        return iter(())


class RunBody(Part):
    """The fields that we read of a provider's run object. Only the id and the status are required.

    A subclass declares its fields under the provider's own names (by ``validation_alias`` where ours differ),
    and names in ``DETAILS`` those that people may see. Everything else in the payload is never read. A ``finished_at``
    that is given and cannot be read is :data:`~runops.core.model.times.UNREADABLE`: it has ended at an unknown time.
    """

    model_config = ConfigDict(coerce_numbers_to_str=True)

    DETAILS: ClassVar[tuple[str, ...]] = ()

    run_id: Id
    status: Id
    created_at: Moment = None
    started_at: Moment = None
    finished_at: Moment = None

    def qualifier(self) -> str | None:
        """A second field that decides beside the status, where the provider has one."""
        return None

    def reason(self) -> str | None:
        """Why the run ended or stands as it does, already cleaned."""
        return None

    def progress(self) -> Progress | None:
        """How far the run is."""
        return None

    def started_by(self) -> str | None:
        """The account that the provider shows as the one that started the run; None where it shows none."""
        return None

    def paused_since(self) -> datetime | None:
        """Since when the run is paused or waiting, where the provider says it."""
        return None

    def belongs_to(self, kind: str) -> Sequence[str] | None:
        """The ids and names by which a parent of this kind is known in this body; None where it carries none."""
        value = getattr(self, kind, None)
        return None if value is None else (str(value),)

    def details(self) -> dict[str, Any]:
        """The fields that people may see, those without a value left out."""
        values = {name: getattr(self, name) for name in self.DETAILS}
        return {name: detail(value) for name, value in values.items() if value is not None}


class _Ids(Part):
    """The base of what reads only the ids in an answer."""

    model_config = ConfigDict(coerce_numbers_to_str=True)


def detail(value: Any) -> Any:
    """A detail as people see it: a text is one line of at most 200 characters, cleaned as far as its kind allows."""
    return shown(value) if isinstance(value, str) else value


# --- what goes out ---------------------------------------------------------------------------------------------


def check_id(name: str, value: object) -> str:
    """An id that may stand in a path.

    Raises:
        ConfigurationError: It is empty, no string, or could leave its place in the path.
    """
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} must be a text, not {type(value).__name__}.")
    if not value.strip():
        raise ConfigurationError(f"{name} is empty: give the id as the provider shows it.")
    plain = value.strip()
    for _ in range(3):
        plain = unquote(plain)
    if plain == "." or ".." in plain or any(bad in plain for bad in "/\\") or not plain.isprintable():
        raise ConfigurationError(
            f"{name}={value[:80]!r} cannot be an id: it holds '..', a slash or a control character."
        )
    return value.strip()


def caseless(value: str) -> str:
    """What all spellings of one id share where only upper and lower case may differ."""
    return value.strip().casefold()


def uuid(value: str) -> str:
    """What all spellings of one UUID share: case, dashes and braces may differ. Other ids are taken as they are."""
    try:
        return UUID(value.strip()).hex
    except ValueError:
        return caseless(value)


@dataclass(frozen=True, slots=True)
class AuthScheme:
    """Which header carries the credential, and what stands before it.

    Args:
        header: The header's name.
        prefix: What stands before the secret in the header's value, such as ``"Bearer "``.
    """

    header: str
    prefix: str = ""

    def __post_init__(self) -> None:
        checks.header("AuthScheme", "header", self.header)
        checks.spelled("AuthScheme", "prefix", self.prefix, r"[ -~]*", "a text of printable ASCII characters")


BEARER = AuthScheme("Authorization", "Bearer ")


@cache
def _holes_of(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"{(\w+)}", text))


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
        return _holes_of(self.path)

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
class Request:
    """One request as data: what the clients send. It holds no credential."""

    method: str
    path: str
    asked: str
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
        family: The parent under which the provider lists runs of this kind, by name; empty where it lists none.
        method: The HTTP method.
    """

    provider: str
    path: str
    json: Mapping[str, Any] | None = field(default=None, repr=False)
    parents: Mapping[str, str] = field(default_factory=dict[str, str])
    family: Mapping[str, str] = field(default_factory=dict[str, str])
    method: str = "POST"

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
            as; empty where that cannot be asked. :meth:`RunBody.started_by` is compared with it.
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
        return inspect.signature(self.build).parameters


PAGINGS = ("offset", "page", "cursor", "next")


@dataclass(frozen=True, slots=True)
class Listing:
    """Where a provider lists runs, newest first.

    Args:
        route: The route, its holes filled by the parent.
        items: The keys that lead to the array of runs.
        kinds: The names by which a parent can be given.
        latest: A route that answers a parent's newest run alone, where there is one.
        filtered: Whether the page holds runs of other parents too, which we sort out.
        page_size: How many runs a full page holds, where that is known.
        paging: How the page is turned: by ``offset`` in runs, by ``page`` from 1, by a ``cursor`` that the page before
            holds, or by the address of the ``next`` page, which the page before holds and which is followed only
            below the same root. None for a list of one page.
        parameter: The parameter that says the offset, page or cursor; the word of ``paging`` if not given. It goes into
            the query or, where the route has a JSON body, into that.
        next: The keys that lead, in a page, to the cursor or the address of the next one; nothing there: the last page.
        complete: Whether an item says all that we read of a run, its end included.
        parent_detail: The detail of a run that names its parent, where its address does not.
    """

    route: Route
    items: tuple[str, ...]
    kinds: tuple[str, ...]
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
        checks.keys("Listing", "kinds", self.kinds)
        checks.keys("Listing", "next", self.next, empty=not self.follows)
        if self.paging not in (None, *PAGINGS):
            advice = f"write offset, page, cursor, next or None.{registry.nearest(self.paging, PAGINGS)}"
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


@dataclass(frozen=True, slots=True)
class Observation:
    """A snapshot, and what else the wait of this process needs: others take the snapshot only.

    Args:
        snapshot: What people and other processes may see.
        reading: How the run's word was read.
        paused_since: Since when the run is paused or waiting, where the provider says it.
        label: The text in which a submit's mark stands, whole and as it came. It is for comparison, not for people.
        started_by: The account that started the run, where the provider shows it.
    """

    snapshot: RunSnapshot
    reading: StateReading
    paused_since: datetime | None = None
    label: str | None = field(default=None, repr=False)
    started_by: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Page:
    """What a page of a list showed.

    Args:
        looks: Its runs, as the provider orders them.
        unread: What stands for each entry that names no run: a digest, since nothing else tells it from others.
        date: When it was answered, by the service's own clock in unix seconds; None where that is not known.
    """

    looks: list[Observation]
    unread: tuple[str, ...] = ()
    date: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Provider:
    """One service, declared. A missing ability is a missing declaration.

    Args:
        name: Lower-case name: connection type, CLI argument, key in results.
        title: The name that people know.
        docs: Address of the API's documentation.
        base_url: Root of the public API, without a version.
        version_path: What stands before every route, which a user's base URL may repeat.
        auth: Which header carries the credential.
        key_variable: Environment variable that the command line reads the credential from.
        options: Further settings of a connection, each sent as the header it maps to, only when set.
        body: The model of the run object.
        envelope: The key under which an answer about a run holds it, or a tuple of keys, or None. Where a list and the
            answer to a submit hold theirs, ``listing.items`` and ``submit.run_id`` say.
        states: All documented words.
        status: The cheapest route that shows a run's state.
        result: The route of the whole payload, where it is not ``status``.
        submit, cancel, explain, listing: Abilities, as far as the API has them.
        probe: A harmless route that proves a credential. ``probe_absent`` tells that 404 is its good answer.
        cadence: When to look again.
        verdicts: Where this provider departs from the default verdicts.
        id_key: What all spellings of one id share, so that an answer can be told from one about another run: the
            default for ids whose case may differ, :func:`uuid` for UUIDs. A number and its text are one id always.
        link: Page of the provider's web interface, with holes for ids and details; the best one documented.
    """

    name: str
    title: str
    docs: str
    base_url: str
    version_path: str
    auth: AuthScheme = BEARER
    key_variable: str
    options: Mapping[str, str] = field(default_factory=dict[str, str])
    body: type[RunBody]
    envelope: str | tuple[str, ...] | None = None
    states: StateTable
    status: Route
    result: Route | None = None
    submit: Submission | None = None
    cancel: Route | None = None
    explain: Explanation | None = None
    listing: Listing | None = None
    probe: Route
    probe_absent: bool = False
    cadence: Cadence
    verdicts: Mapping[Outcome, Verdict] = field(default_factory=dict[Outcome, Verdict])
    id_key: Callable[[str], str] = caseless
    link: str

    def __post_init__(self) -> None:
        self._check_words()
        self._check_routes()
        if self.listing is not None:
            self._check_listing(self.listing)
        if self.submit is not None and self.submit.mark not in (None, *self.body.model_fields):
            raise self._wrong(
                "submit.mark",
                self.submit.mark,
                f"is no field of {self.body.__name__}, so no run shows it again",
                "name a field of the body, or leave it out",
            )
        registry.enter(self.name, self)

    def _wrong(self, field: str, value: object, problem: str, advice: str) -> ConfigurationError:
        return checks.wrong(f"Provider {self.name!r}", field, value, problem, advice)

    def _check_words(self) -> None:
        owner = f"Provider {self.name!r}"
        checks.spelled(owner, "name", self.name, r"[a-z][a-z0-9_]*", "a name in lower case such as acme_runs")
        checks.spelled(owner, "title", self.title, r".*\S.*", "the name that people know")
        checks.spelled(owner, "key_variable", self.key_variable, r"[A-Za-z_]\w*", "the name of a variable")
        checks.spelled(owner, "version_path", self.version_path, r"(/[^/?#\s]+)*", "a path such as /v1, or empty")
        for name, header in self.options.items():
            checks.header(owner, f"options[{name!r}]", header)
            if header.lower() == self.auth.header.lower():
                raise self._wrong(f"options[{name!r}]", header, "is the header of the key", "name another header")
        checks.keys(owner, "envelope", self.envelope_path, empty=True)
        self.root(allow_http=True)
        unknown = [
            name for name in self.body.DETAILS if not hasattr(self.body, name) and name not in self.body.model_fields
        ]
        if unknown:
            raise self._wrong("body.DETAILS", unknown[0], f"is no field of {self.body.__name__}", "declare the field")

    def _check_routes(self) -> None:
        owner, ids = f"Provider {self.name!r}", {"run_id", *self.parents}
        if "run_id" not in self.status.holes:
            raise self._wrong("status", self.status.path, "names no run", "put {run_id} where the id stands")
        explain = self.explain.route if self.explain else None
        for name, route in (("result", self.result), ("cancel", self.cancel), ("explain", explain)):
            if route is not None:
                checks.holes(owner, name, route.path, ids)
        checks.holes(owner, "probe", self.probe.path, ())
        checks.spelled(owner, "link", self.link, r"https?://\S+", "a web address")
        if self.body.details is RunBody.details:
            checks.holes(owner, "link", self.link, {*ids, *self.body.DETAILS})

    def _check_listing(self, listing: Listing) -> None:
        owner, body = f"Provider {self.name!r}", self.body
        checks.holes(owner, "listing.route", listing.route.path, listing.kinds)
        if listing.latest is not None:
            checks.holes(owner, "listing.latest", listing.latest.path, listing.kinds)
        if (self.parents or listing.route.holes) and len(listing.kinds) > 1:
            raise self._wrong("listing.kinds", listing.kinds, "are several, but each address needs its own", "name one")
        if self.parents and self.parents != listing.kinds:
            raise self._wrong(
                "listing.kinds",
                listing.kinds,
                f"do not name what the address of a run needs: {', '.join(self.parents)}",
                "list the runs by that parent, or declare no listing",
            )
        if not listing.filtered and not listing.route.holes:
            raise self._wrong(
                "listing.route",
                listing.route.path,
                "shows the runs of all parents alike",
                f"put {{{', '.join(listing.kinds)}}} into its path, or set filtered=True",
            )
        for kind in listing.kinds if listing.filtered and body.belongs_to is RunBody.belongs_to else ():
            if kind not in body.model_fields:
                raise self._wrong(
                    "listing.kinds",
                    kind,
                    f"is no field of {body.__name__}, so no run on the list can be told to be of it",
                    "declare the field, or override belongs_to",
                )
        detail = listing.parent_detail
        if detail is not None and body.details is RunBody.details and detail not in body.DETAILS:
            raise self._wrong(
                "listing.parent_detail", detail, f"is no detail of {body.__name__}", "add the field to its DETAILS"
            )

    def __repr__(self) -> str:
        return f"<Provider {self.name}>"

    @property
    def envelope_path(self) -> tuple[str, ...]:
        """The keys that lead, in an answer about a run, to the run."""
        return (self.envelope,) if isinstance(self.envelope, str) else self.envelope or ()

    # --- ids ---

    @property
    def parents(self) -> tuple[str, ...]:
        """What a :class:`RunRef` needs beside the run's id."""
        return tuple(name for name in self.status.holes if name != "run_id")

    def ref(self, run_id: str, parents: Mapping[str, str] | None = None) -> RunRef:
        """The address of a run, checked.

        Raises:
            ConfigurationError: An id is missing, empty or unusable in a path, or a parent is unknown here.
        """
        given = dict(parents or {})
        unknown = sorted(set(given) - set(self.parents))
        if unknown:
            expected = ", ".join(self.parents) or "none"
            raise ConfigurationError(
                f"{self.title} runs have no parent {', '.join(unknown)}; parents expected: {expected}."
            )
        self.status.fill({**given, "run_id": run_id})
        return RunRef(
            provider=self.name,
            run_id=check_id("run_id", run_id),
            parents={name: check_id(name, value) for name, value in given.items()},
        )

    def same_id(self, one: str, other: str) -> bool:
        """Whether two spellings are one id to this provider."""
        return one == other or self.id_key(one) == self.id_key(other)

    def policy(self, on_outcome: Mapping[str, str] | None = None, *, soft_fail: bool = False) -> OutcomePolicy:
        """The verdicts for this provider's runs; see :meth:`OutcomePolicy.build`."""
        return OutcomePolicy.build(on_outcome, provider_verdicts=self.verdicts, soft_fail=soft_fail)

    # --- requests ---

    def request(self, route: Route, ref: RunRef, verb: str = "read") -> Request:
        """The request that asks ``route`` about a run.

        Raises:
            ConfigurationError: The reference belongs to another provider, or lacks an id.
        """
        if ref.provider != self.name:
            raise ConfigurationError(f"{ref} is not a run of {self.title}.")
        path = route.fill({**ref.parents, "run_id": ref.run_id})
        return Request(route.method, path, f"{verb} of {ref}", route.query, route.json, about=ref)

    def probe_request(self) -> Request:
        """The request that proves a credential."""
        route, asked = self.probe, f"connection test of {self.title}"
        return Request(
            route.method, route.path, asked, route.query, route.json, absent="There is no such API at this address"
        )

    def account(self, content: bytes) -> str | None:
        """The account that a credential belongs to, as the answer of the probe names it; None where it does not.

        Raises:
            MalformedAnswer: It is not JSON.
        """
        found = _at(_decoded(content), self.submit.account if self.submit else ())
        return found if isinstance(found, str) else None

    def submitted(self, call: Call, content: bytes) -> RunRef:
        """The run that a submit has started, as the answer to it names it.

        Raises:
            MalformedAnswer: No usable id stands where the declaration says.
        """
        path = self.submit.run_id if self.submit else ()
        run_id = _at(_decoded(content), path)
        if isinstance(run_id, (str, int)) and not isinstance(run_id, bool):
            try:
                return self.ref(str(run_id), call.parents)
            except ConfigurationError:
                pass
        raise MalformedAnswer(f"The answer to a submit to {self.title} holds no usable run id at {'.'.join(path)}.")

    def call(self, **arguments: Any) -> Call:
        """A checked submission.

        Args:
            arguments: The provider's own submit arguments; the operator of the same name lists them.

        Raises:
            ConfigurationError: An argument is wrong, missing or unknown.
            NotSupported: The provider has no documented submit.
        """
        try:
            return self._call(arguments)
        except ConfigurationError as error:
            refused = without_frames(error)
        # No frame keeps what is to be submitted.
        arguments.clear()
        raise refused

    def _call(self, arguments: Mapping[str, Any]) -> Call:
        if self.submit is None:
            raise NotSupported(f"{self.title} documents no way to start a run: wait for its runs instead.")
        parameters = self.submit.arguments
        needed = [name for name, parameter in parameters.items() if parameter.default is parameter.empty]
        for problem, names in (
            ("unknown", [name for name in arguments if name not in parameters]),
            ("missing", [name for name in needed if name not in arguments]),
        ):
            if names:
                told = f"A submit to {self.title} has {problem} arguments: {', '.join(names)}"
                near = registry.nearest(names[0], parameters) if problem == "unknown" else ""
                raise ConfigurationError(f"{told}; it takes {', '.join(parameters)}.{near}")
        return self.submit.build(**arguments)

    # --- answers ---

    def read(self, ref: RunRef, content: bytes) -> Observation:
        """What an answer of the status route says.

        Raises:
            MalformedAnswer: It is not the documented object.
            AnotherRun: It is about another run.
            UnknownStateError: The run is over in a word that is not documented.
        """
        try:
            answer = validated(_enveloped(self.body, self.envelope_path), content)
        except ValidationError as error:
            raise malformed(f"read of {ref}", error, _enveloped(self.body, self.envelope_path)) from None
        body = cast("RunBody", self._opened(answer))
        self._check_ids(ref, body.run_id, {name: body.belongs_to(name) for name in self.parents})
        return self.look(ref, body)

    def check(self, request: Request, content: bytes) -> None:
        """Tell a good answer to a request from one to another request, whatever else it says. It need not name a run.

        Raises:
            AnotherRun: It is about another run, or shows only runs of another parent.
        """
        if request.about is not None:
            self._check_about(request.about, content)
        elif request.parent is not None:
            try:
                (self.newest if request.alone else self.page)(content, request.parent)
            except AnotherRun:
                raise
            except MalformedAnswer:
                # Whoever reads it says what is wrong with it.
                return

    def _check_about(self, ref: RunRef, content: bytes) -> None:
        try:
            model = _enveloped(_ids_of(self.body, self.parents), self.envelope_path)
            answer = validated(model, content, by_steps=False)
        except ValidationError:
            return
        ids = self._opened(answer)
        known = {name: getattr(ids, name, None) for name in ("run_id", *self.parents)}
        run_id = known.pop("run_id")
        self._check_ids(ref, run_id, {name: None if value is None else (value,) for name, value in known.items()})

    def _opened(self, answer: Any) -> Any:
        for _ in self.envelope_path:
            answer = answer.inner
        return answer

    def _check_ids(self, ref: RunRef, run_id: str | None, parents: Mapping[str, Sequence[str] | None]) -> None:
        if run_id is not None and not self.same_id(run_id, ref.run_id):
            raise AnotherRun(f"The answer to the read of {ref} is about another run, {shown(run_id)!r}: {_MIXED_UP}.")
        for kind, names in parents.items():
            if names and kind in ref.parents:
                self._check_parent(f"read of {ref}", {kind: ref.parents[kind]}, [names])

    def _check_parent(self, asked: str, parent: Mapping[str, str], named: Sequence[Sequence[str]]) -> None:
        """Refuse what names only other parents than the one asked for."""
        ((kind, wanted),) = parent.items()
        if named and not any(self.same_id(wanted, name) for names in named for name in names):
            raise AnotherRun(f"The answer to the {asked} is about another {kind}, {shown(named[0][0])!r}: {_MIXED_UP}.")

    def look(self, ref: RunRef, body: RunBody) -> Observation:
        """A body as a snapshot.

        Raises:
            UnknownStateError: The run is over in a word that is not documented.
        """
        reading = self.states.read(body.status, body.qualifier(), ended=body.finished_at is not None)
        if reading.meaning is None:
            raise UnknownStateError(ref, reading.word, self.states.known)
        # A word that has yet to settle is not believed, and neither is what it gives as its reason.
        provisional = reading.grace_seconds is not None
        meaning = Phase.RUNNING if provisional else reading.meaning
        details = body.details()
        snapshot = RunSnapshot(
            ref=ref,
            state=reading.state,
            phase=meaning if isinstance(meaning, Phase) else None,
            outcome=meaning if isinstance(meaning, Outcome) else None,
            reason=body.reason() or (None if provisional else reading.reason),
            progress=body.progress(),
            created_at=body.created_at,
            started_at=body.started_at,
            finished_at=None if body.finished_at == times.UNREADABLE else body.finished_at,
            url=self.url(ref, details),
            details=details,
        )
        return Observation(snapshot, reading, body.paused_since(), self._label(body), body.started_by())

    def _label(self, body: RunBody) -> str | None:
        text = getattr(body, self.submit.mark, None) if self.submit and self.submit.mark else None
        return text if isinstance(text, str) else None

    def payload(self, content: bytes) -> dict[str, Any]:
        """The whole payload of an answer, out of its envelope.

        Raises:
            MalformedAnswer: It is no JSON object.
        """
        payload = _at(_decoded(content), self.envelope_path)
        if not isinstance(payload, dict):
            raise MalformedAnswer("The answer is not a JSON object.")
        return cast("dict[str, Any]", payload)

    def check_json(self, content: bytes) -> None:
        """Tell an API's answer from the page of a proxy or of a wrong address.

        Raises:
            MalformedAnswer: It is neither empty nor JSON.
        """
        if content.strip():
            _decoded(content)

    def page_request(self, parent: Mapping[str, str], page: int = 0) -> Request:
        """The request for a page of the list.

        Args:
            parent: The parent by its kind; empty for all runs that the credential sees, where the list shows them.
            page: Which page; the first is 0.

        Raises:
            NotSupported: The provider documents no list of runs.
            ConfigurationError: An id cannot stand in a path.
        """
        listing = self._listing()
        shown_for = parent if parent and not listing.filtered else None
        path, asked = listing.route.fill(parent), f"list of {self.title} runs of {_named(parent)}"
        route = listing.route
        first = Request(route.method, path, asked, route.query, route.json, no_such(parent), parent=shown_for)
        if page == 0 or listing.paging not in ("offset", "page"):
            return first
        return _turned(first, listing, page + 1 if listing.paging == "page" else page * (listing.page_size or 0))

    def next_request(self, parent: Mapping[str, str], page: int, content: bytes) -> Request | None:
        """The request for the page after one that came; None where that was the last one.

        Args:
            parent: As :meth:`page_request` takes it.
            page: How many pages came.
            content: The last one.

        Raises:
            MalformedAnswer: The last one is not JSON.
        """
        listing = self._listing()
        if not listing.follows:
            return self.page_request(parent, page)
        told = _at(_decoded(content), listing.next)
        if not isinstance(told, (str, int)) or isinstance(told, bool) or told == "":
            return None
        first = self.page_request(parent)
        return replace(first, url=str(told), query={}) if listing.paging == "next" else _turned(first, listing, told)

    def shows_latest(self, parent: Mapping[str, str]) -> bool:
        """Whether a route answers a parent's newest run alone."""
        latest = self.listing and self.listing.latest
        return latest is not None and set(latest.holes) <= set(parent)

    def latest_request(self, parent: Mapping[str, str]) -> Request:
        """The request for a parent's newest run.

        Raises:
            NotSupported: The provider documents no route for that.
        """
        latest = self._listing().latest
        if latest is None:
            raise NotSupported(f"{self.title} documents no route of a parent's newest run.")
        path, asked = latest.fill(parent), f"list of {self.title} runs of {_named(parent)}"
        return Request(
            latest.method, path, asked, latest.query, latest.json, absent=no_such(parent), parent=parent, alone=True
        )

    def page(self, content: bytes, parent: Mapping[str, str]) -> Page:
        """The runs on one page of the list. An entry that cannot be read does not spoil the others.

        Args:
            content: The body.
            parent: The parent whose runs are wanted; empty for all on the page.

        Raises:
            MalformedAnswer: It is not the documented page.
            AnotherRun: All runs on it are of another parent, where its address names the parent.
            ConfigurationError: The page names no parents of the kind asked for.
        """
        bodies: list[RunBody] = []
        unread: list[str] = []
        for item in self.page_items(content):
            try:
                bodies.append(self._item_body(item))
            except MalformedAnswer:
                unread.append(blake2b(json.dumps(item, sort_keys=True).encode(), digest_size=8).hexdigest())
        if unread and not bodies:
            raise MalformedAnswer("No entry of the list of runs is as documented.")
        return Page(self._looks(bodies, parent), tuple(unread))

    def page_items(self, content: bytes) -> list[object]:
        """What stands on a page of the list, as it came; :meth:`page_look` reads one of it.

        Raises:
            MalformedAnswer: It is not the documented page.
        """
        listing = self._listing()
        found = _at(_decoded(content), listing.items)
        if not isinstance(found, list):
            where = f" at {'.'.join(listing.items)}" if listing.items else ""
            raise MalformedAnswer(f"The list of runs has no array{where}.")
        return cast("list[object]", found)

    def page_look(self, item: object, parent: Mapping[str, str]) -> Observation:
        """What an item of a page says; a run that is over in an unknown word has a reading without a meaning.

        Raises:
            MalformedAnswer: It is not the documented object.
        """
        return self._look_at(self._item_body(item), {name: parent[name] for name in self.parents})

    def newest(self, content: bytes, parent: Mapping[str, str]) -> list[Observation]:
        """The one run that the ``latest`` route of the listing answered.

        Raises:
            MalformedAnswer: It is not the documented object.
            AnotherRun: It is a run of another parent.
        """
        body = self._item_body(_decoded(content))
        self._check_bodies([body], parent)
        return [self._look_at(body, {name: parent[name] for name in self.parents})]

    def _check_bodies(self, bodies: list[RunBody], parent: Mapping[str, str]) -> None:
        (kind,) = parent
        named = [names for body in bodies if (names := body.belongs_to(kind))]
        self._check_parent(f"list of {self.title} runs of {kind} {parent[kind]}", parent, named)

    def _listing(self) -> Listing:
        if self.listing is None:
            raise NotSupported(f"{self.title} documents no list of runs.")
        return self.listing

    def _looks(self, bodies: list[RunBody], parent: Mapping[str, str]) -> list[Observation]:
        if self._listing().filtered and parent:
            bodies = _of_parent(bodies, parent)
        elif parent:
            self._check_bodies(bodies, parent)
        ids = {name: parent[name] for name in self.parents}
        return [self._look_at(body, ids) for body in bodies]

    def _item_body(self, item: object) -> RunBody:
        try:
            return self.body.model_validate(item)
        except ValidationError as error:
            told = self._without_status(item)
            if told is None:
                raise malformed("list of runs", error, self.body) from None
            return told

    def _without_status(self, item: object) -> RunBody | None:
        """A run that is known by its id at least, in a word that no table holds; its own route tells the rest."""
        name = self.body.model_fields["status"].validation_alias or "status"
        if not isinstance(item, dict) or not isinstance(name, str):
            return None
        try:
            return self.body.model_validate({**cast("dict[str, Any]", item), name: NO_STATUS})
        except ValidationError:
            return None

    def _look_at(self, body: RunBody, parents: Mapping[str, str]) -> Observation:
        ref = RunRef(provider=self.name, run_id=body.run_id, parents=parents)
        try:
            return self.look(ref, body)
        except UnknownStateError as error:
            # A list only finds runs; what an unknown word means is judged where the run is waited for.
            snapshot = RunSnapshot(
                ref=ref,
                state=error.word,
                created_at=body.created_at,
                started_at=body.started_at,
                finished_at=body.finished_at,
            )
            reading = StateReading(error.word, error.word, None, known=False)
            return Observation(snapshot, reading, None, self._label(body), body.started_by())

    def family(self, parent: str | Mapping[str, str]) -> dict[str, str]:
        """A parent by its kind, checked.

        Args:
            parent: The parent's id or name, or ``{kind: id}`` where the provider knows several kinds.

        Raises:
            NotSupported: The provider documents no list of runs.
            ConfigurationError: The kind is unknown, or none or several are given.
        """
        kinds = self._listing().kinds
        given = {kinds[0]: parent} if isinstance(parent, str) else dict(parent)
        if len(given) != 1 or not set(given) <= set(kinds):
            raise ConfigurationError(f"A parent of {self.title} runs is one of {', '.join(kinds)}, not {list(given)}.")
        return {kind: check_id(kind, value) for kind, value in given.items()}

    def url(self, ref: RunRef, details: Mapping[str, Any] = _EMPTY) -> str | None:
        """The best documented page for a run, or None where an id for it is not known yet."""
        holes = _holes_of(self.link)
        if not holes:
            return self.link
        ids = {**details, **ref.parents, "run_id": ref.run_id}
        if any(name not in ids for name in holes):
            return None
        return self.link.format(**{name: quote(str(ids[name]), safe="") for name in holes})

    # --- addresses ---

    def root(self, base_url: str | None = None, *, allow_http: bool = False) -> str:
        """The root under which all routes stand: any of a host, a URL, a path prefix, with or without a version.

        Args:
            base_url: What the user gave, or None for the public API.
            allow_http: Allow plain HTTP to other machines too.

        Raises:
            ConfigurationError: It is no web address, holds credentials, or sends a key in the clear.
        """
        given = (base_url or self.base_url).strip()
        try:
            parts = urlsplit(given if "://" in given else f"https://{given}")
            host, port = parts.hostname, parts.port
        except ValueError:
            parts, host, port = urlsplit(""), None, None
        if parts.scheme not in ("http", "https") or not host or not re.fullmatch(r"[A-Za-z0-9._:%-]+", host):
            raise ConfigurationError(
                f"base_url {_without_userinfo(given)!r} is not a web address such as {self.base_url}."
            )
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ConfigurationError(
                f"base_url for {host} must hold no user, password, query or fragment: the key has a field of its own."
            )
        if parts.scheme == "http" and not (allow_http or _is_loopback(host)):
            raise ConfigurationError(
                f"base_url http://{host} would send the key in the clear: use https://, or set allow_http if you "
                "know the network."
            )
        path = parts.path.rstrip("/")
        version = self.version_path
        endings = (version, f"/{version.rsplit('/', 1)[-1]}", version.rsplit("/", 1)[0])
        for ending in endings:
            if ending and path.endswith(ending):
                path = path.removesuffix(ending)
                break
        netloc = f"[{host}]" if ":" in host else host
        return urlunsplit((parts.scheme, netloc if port is None else f"{netloc}:{port}", path.rstrip("/"), "", ""))


def validated(model: type[T], content: bytes, *, by_steps: bool = True) -> T:
    """A JSON body as a model, read as leniently as a list is: with a byte order mark, in UTF-16, with half a surrogate.

    Args:
        model: What is read of it.
        content: The body.
        by_steps: Read a large one by steps, between which other threads go on. That costs memory: a model that wants
            next to nothing of it is better off without.

    Raises:
        ValidationError: It is no JSON, or not as the model wants it.
    """
    if by_steps and len(content) > LARGE:
        # What is no JSON is left to the model's parser, for its error.
        with suppress(MalformedAnswer):
            return model.model_validate(_decoded(content))
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        if error.errors(include_url=False, include_context=False, include_input=False)[0]["type"] != "json_invalid":
            raise
        try:
            decoded = _decoded(content)
        except MalformedAnswer:
            raise error from None
    return model.model_validate(decoded)


@cache
def _enveloped(model: type[BaseModel], path: tuple[str, ...]) -> type[BaseModel]:
    """Reads an answer that holds ``model`` at ``path``. No property of the declaration, which would lock at a fork.

    The inner model is not lenient: a wrapped validator would be handed all of it as Python objects.
    """
    for key in reversed(path):
        inner: dict[str, Any] = {"inner": (model, Field(validation_alias=key))}
        model = create_model(f"{model.__name__}Answer", __base__=Part, **inner)
    return model


@cache
def _ids_of(body: type[RunBody], parents: tuple[str, ...]) -> type[BaseModel]:
    """Reads the ids in an answer about a run and nothing else of it."""
    declared = body.model_fields
    wanted: dict[str, Any] = {
        name: (Text, Field(None, validation_alias=declared[name].validation_alias))
        for name in ("run_id", *parents)
        if name in declared
    }
    return create_model(f"{body.__name__}Ids", __base__=_Ids, **wanted)


def malformed(asked: str, error: ValidationError, model: type[BaseModel]) -> MalformedAnswer:
    """What is wrong with an answer, by the names that its model declares: anything else in it is nobody's business."""
    declared = _declared(model)
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    # A place may hold the key of a mapping, which the provider chose.
    places = {
        ".".join(str(part) if isinstance(part, int) or part in declared else "?" for part in problem["loc"])
        for problem in problems[:100]
    }
    named = ", ".join(sorted(place or "the body" for place in places)[:5])
    return MalformedAnswer(f"The answer to the {asked} is not as documented; unreadable: {named}.")


@cache
def _declared(model: type[BaseModel]) -> frozenset[str]:
    """The names of all fields of a model and of the models in it, as they may stand in the place of an error."""
    names: set[str] = set()
    seen: set[object] = set()
    left: list[Any] = [model]
    while left:
        kind = left.pop()
        if kind in seen:
            continue
        seen.add(kind)
        left.extend(get_args(kind))
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            for name, info in kind.model_fields.items():
                names.update(text for text in (name, info.alias, info.validation_alias) if isinstance(text, str))
                left.append(info.annotation)
    return frozenset(names)


def _named(parent: Mapping[str, str]) -> str:
    return ", ".join(f"{kind} {value}" for kind, value in parent.items()) or "all parents"


def _decoded(content: bytes) -> Any:
    try:
        if len(content) <= LARGE:
            return json.loads(content)
        # The parser lets other threads go on only where it calls Python: so it does that for each object and number.
        return json.loads(content, object_hook=_as_it_is, parse_int=_whole, parse_float=_real)
    except (ValueError, RecursionError):
        raise MalformedAnswer("The answer is not JSON.") from None


def _as_it_is(found: dict[str, Any]) -> dict[str, Any]:
    return found


def _whole(digits: str) -> int:
    return int(digits)


def _real(digits: str) -> float:
    return float(digits)


def _turned(first: Request, listing: Listing, place: str | int) -> Request:
    """The request for a later page."""
    name = listing.parameter or listing.paging or ""
    if first.json is not None:
        return replace(first, json={**first.json, name: place})
    return replace(first, query={**first.query, name: str(place)})


def _at(value: Any, path: Sequence[str]) -> Any:
    """What stands in a decoded answer behind these keys; None where there is nothing."""
    for key in path:
        value = cast("dict[str, Any]", value).get(key) if isinstance(value, dict) else None
    return value


def _of_parent(bodies: list[RunBody], parent: Mapping[str, str]) -> list[RunBody]:
    ((kind, wanted),) = parent.items()
    names = [body.belongs_to(kind) for body in bodies]
    if bodies and all(name is None for name in names):
        raise ConfigurationError(
            f"The list of runs carries no {kind}, so runs cannot be found by it: this API answers in another shape. "
            "Name the parent by another kind."
        )
    return [body for body, known in zip(bodies, names, strict=True) if known and wanted in known]


def _is_loopback(host: str) -> bool:
    return host == "localhost" or host == "::1" or bool(re.fullmatch(r"127(\.\d{1,3}){3}", host))


def _without_userinfo(address: str) -> str:
    return re.sub(r"^([a-z]*://)?.*@", r"\1", address, flags=re.IGNORECASE | re.DOTALL)[:120]
