"""What a provider is: one value that declares its words, routes, auth, cadence and links. It opens no connection."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, cast

from runops.core.declaration import checks, consistency, registry
from runops.core.declaration.address import caseless, check_id, root_of
from runops.core.declaration.body import RunBody
from runops.core.declaration.decode import Observation, Reader, at, decoded
from runops.core.declaration.pages import Pages
from runops.core.declaration.routes import (
    BEARER,
    AuthScheme,
    Call,
    Explanation,
    Listing,
    Request,
    Retry,
    Route,
    Spend,
    Submission,
)
from runops.core.model.cadence import Cadence
from runops.core.model.codes import Code
from runops.core.model.errors import AnotherRun, ConfigurationError, MalformedAnswer, NotSupported, without_frames
from runops.core.model.policy import OutcomePolicy, Verdict
from runops.core.model.redaction import register_key_prefixes
from runops.core.model.run import Outcome, RunRef
from runops.core.model.states import StateTable

_EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Provider:
    """One service, declared. A missing ability is a missing declaration.

    Args:
        name: Lower-case name: connection type, CLI argument, key in results.
        title: The name that people know.
        position: Where it stands in lists of the providers that runops ships; equal ones stand by title.
        docs: Address of the API's documentation.
        base_url: Root of the public API, without a version.
        version_path: What stands before every route, which a user's base URL may repeat.
        auth: Which header carries the credential.
        key_variable: Environment variable that the command line reads the credential from.
        options: Further settings of a connection, each sent as the header it maps to, only when set.
        trace_header: The header that takes the id of a trace, 32 hex digits; None where the service knows none.
        body: The model of the run object.
        envelope: The key under which an answer about a run holds it, or a tuple of keys, or None. Where a list and the
            answer to a submit hold theirs, ``listing.items`` and ``submit.run_id`` say.
        states: All documented words.
        status: The cheapest route that shows a run's state.
        result: The route of the whole payload, where it is not ``status``.
        submit, cancel, resume, retry, explain, listing: Abilities, as far as the API has them. ``resume`` has a run
            that is paused go on, ``retry`` one that failed, as a new run.
        probe: A harmless route that proves a credential.
        probe_absent: Whether 404 is the good answer of ``probe``.
        cadence: When to look again.
        verdicts: Where this provider departs from the default verdicts.
        spend: What its runs spend, and in which unit; None where they do not say it.
        id_key: What all spellings of one id share, so that an answer about another run is noticed: the
            default for ids whose case may differ, ``uuid`` for UUIDs. A number and its text are one id always.
        link: Page of the provider's web interface, with holes for ids and details; the best one documented.
    """

    name: str
    title: str
    position: int = 100
    docs: str
    base_url: str
    version_path: str
    auth: AuthScheme = BEARER
    key_variable: str
    options: Mapping[str, str] = field(default_factory=dict[str, str])
    trace_header: str | None = None
    body: type[RunBody]
    envelope: str | tuple[str, ...] | None = None
    states: StateTable
    status: Route
    result: Route | None = None
    submit: Submission | None = None
    cancel: Route | None = None
    resume: Route | None = None
    retry: Retry | None = None
    explain: Explanation | None = None
    listing: Listing | None = None
    probe: Route
    probe_absent: bool = False
    cadence: Cadence
    verdicts: Mapping[Outcome, Verdict] = field(default_factory=dict[Outcome, Verdict])
    spend: Spend | None = None
    id_key: Callable[[str], str] = caseless
    link: str
    reader: Reader = field(init=False)
    """Reads the answers about its runs."""
    taught: Mapping[str, str] = field(init=False, default_factory=dict[str, str])
    """Words of ``states`` that no documentation has; see :meth:`with_states`."""
    _pages: Pages | None = field(init=False)
    _documented: StateTable = field(init=False)

    def __post_init__(self) -> None:
        self._check()
        _set(self, _documented=self.states, **_derived(self))
        register_key_prefixes(self.auth.key_prefixes)
        registry.enter(self.name, self)

    def with_states(self, states: Mapping[str, str] | None) -> Provider:
        """The same service with words that stand in no documentation; it is still found by its name as it was.

        Args:
            states: Word to the phase or outcome that it means; see :meth:`StateTable.with_words`. Words that were
                taught before stay, but where one is named again.

        Raises:
            ConfigurationError: A word is documented and means something else, or a meaning is wrong.
        """
        if not states:
            return self
        known = self._documented.with_words(states)
        if self.taught:
            again = {word.strip().lower() for word in states}
            states = {word: name for word, name in self.taught.items() if word.strip().lower() not in again} | {
                **states
            }
            known = self._documented.with_words(states)
        made = copy(self)
        _set(made, states=known, taught=dict(states))
        _set(made, **_derived(made))
        return made

    def _check(self) -> None:
        """Refuse what can never work."""
        owner = f"Provider {self.name!r}"
        checks.spelled(owner, "name", self.name, r"[a-z][a-z0-9_]*", "a name in lower case such as acme_runs")
        checks.spelled(owner, "title", self.title, r".*\S.*", "the name that people know")
        checks.spelled(owner, "key_variable", self.key_variable, r"[A-Za-z_]\w*", "the name of a variable")
        checks.spelled(owner, "version_path", self.version_path, r"(/[^/?#\s]+)*", "a path such as /v1, or empty")
        checks.keys(owner, "envelope", self.envelope_path, empty=True)
        self.root(allow_http=True)
        consistency.check_options(owner, self.options, self.auth)
        consistency.check_trace_header(owner, self.trace_header, self.options, self.auth)
        consistency.check_body(owner, self.body, self.submit)
        nested = {"explain": self.explain, "retry": self.retry}
        reads = {"status": self.status, "result": self.result}
        acts = {"cancel": self.cancel, "resume": self.resume}
        routes = {**reads, **acts, **{name: each.route if each else None for name, each in nested.items()}}
        consistency.check_routes(owner, routes, {"run_id", *self.parents}, self.probe)
        for name in (*acts, "retry"):
            consistency.check_act(owner, name, routes[name])
        consistency.check_link(owner, self.link, {"run_id", *self.parents}, self.body)
        if self.spend is not None:
            consistency.check_spend(owner, self.spend, self.body)
        if self.listing is not None:
            consistency.check_listing(owner, self.listing, self.parents, self.body)

    def __repr__(self) -> str:
        return f"<Provider {self.name}>"

    @property
    def envelope_path(self) -> tuple[str, ...]:
        """The keys that lead, in an answer about a run, to the run."""
        return (self.envelope,) if isinstance(self.envelope, str) else self.envelope or ()

    @property
    def pages(self) -> Pages:
        """The lists of runs.

        Raises:
            NotSupported: The provider documents no list of runs.
        """
        if self._pages is None:
            raise NotSupported(f"{self.title} documents no list of runs.")
        return self._pages

    # --- ids and addresses ---

    @property
    def parents(self) -> tuple[str, ...]:
        """What a :class:`RunRef` needs beside the run's id."""
        return tuple(name for name in self.status.holes if name != "run_id")

    def ref(self, run_id: str, parents: Mapping[str, str] | None = None) -> RunRef:
        """The address of a run, checked.

        Raises:
            ConfigurationError: An id is missing, empty or unusable in a path, or a parent is unknown here.
        """
        parents = dict(parents or {})
        unknown = sorted(set(parents) - set(self.parents))
        if unknown:
            expected = ", ".join(self.parents) or "none"
            raise ConfigurationError(
                f"{self.title} runs have no parent {', '.join(unknown)}; parents expected: {expected}.",
                error_code=Code.UNKNOWN_NAME,
            )
        self.status.fill({**parents, "run_id": run_id})
        return RunRef(
            provider=self.name,
            run_id=check_id("run_id", run_id),
            parents={name: check_id(name, value) for name, value in parents.items()},
        )

    def same_id(self, one: str, other: str) -> bool:
        """Whether two spellings are one id to this provider."""
        return self.reader.same_id(one, other)

    def url(self, ref: RunRef, details: Mapping[str, Any] = _EMPTY) -> str | None:
        """The best documented page for a run, or None where an id for it is not known yet."""
        return self.reader.url(ref, details)

    def root(self, base_url: str | None = None, *, allow_http: bool = False) -> str:
        """The root under which all routes stand: any of a host, a URL, a path prefix, with or without a version.

        Args:
            base_url: What the user gave, or None for the public API.
            allow_http: Allow plain HTTP to other machines too.

        Raises:
            ConfigurationError: It is no web address, holds credentials, or sends a key in the clear.
        """
        return root_of(
            base_url or self.base_url, example=self.base_url, version_path=self.version_path, allow_http=allow_http
        )

    def policy(
        self,
        on_outcome: Mapping[str, str] | None = None,
        *,
        soft_fail: bool = False,
        expect: object = None,
        on_unmet: str = Verdict.FAIL,
    ) -> OutcomePolicy:
        """The verdicts for this provider's runs; see :meth:`OutcomePolicy.build`."""
        return OutcomePolicy.build(
            on_outcome,
            provider_verdicts=self.verdicts,
            soft_fail=soft_fail,
            expect=expect,
            on_unmet=on_unmet,
            kinds=self.body.detail_kinds(),
            title=f"{self.title} runs",
        )

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
        route, description = self.probe, f"connection test of {self.title}"
        return Request(
            route.method,
            route.path,
            description,
            route.query,
            route.json,
            absent="There is no such API at this address",
        )

    def call(self, **arguments: Any) -> Call:
        """A checked submission.

        Args:
            arguments: The provider's own submit arguments; the operator of the same name lists them.

        Raises:
            ConfigurationError: An argument is wrong, missing or unknown.
            NotSupported: The provider has no documented submit.
        """
        try:
            if self.submit is None:
                raise NotSupported(f"{self.title} documents no way to start a run: wait for its runs instead.")
            return self.submit.call(self.title, arguments)
        except ConfigurationError as error:
            refused = without_frames(error)
        # No frame keeps what is to be submitted.
        arguments.clear()
        raise refused

    # --- answers ---

    def read(self, ref: RunRef, content: bytes) -> Observation:
        """What an answer of the status route says.

        Raises:
            MalformedAnswer: It is not the documented object.
            AnotherRun: It is about another run.
            UnknownStateError: The run is over in a word that is not documented.
        """
        return self.reader.read(ref, content)

    def check(self, request: Request, content: bytes) -> None:
        """Tell a good answer to a request from one to another request, whatever else it says. It need not name a run.

        Raises:
            AnotherRun: It is about another run, or shows only runs of another parent.
        """
        if request.about is not None:
            self.reader.check_run(request.about, content)
        elif request.parent is not None:
            try:
                (self.pages.read_latest if request.alone else self.pages.read)(content, request.parent)
            except AnotherRun:
                raise
            except MalformedAnswer:
                # Whoever reads it says what is wrong with it.
                return

    def payload(self, content: bytes) -> dict[str, Any]:
        """The whole payload of an answer, out of its envelope.

        Raises:
            MalformedAnswer: It is no JSON object.
        """
        payload = at(decoded(content), self.envelope_path)
        if not isinstance(payload, dict):
            raise MalformedAnswer("The answer is not a JSON object.")
        return cast("dict[str, Any]", payload)

    def account(self, content: bytes) -> str | None:
        """The account that a credential belongs to, as the answer of the probe names it; None where it does not.

        Raises:
            MalformedAnswer: It is not JSON.
        """
        found = at(decoded(content), self.submit.account if self.submit else ())
        return found if isinstance(found, str) else None

    def submitted(self, call: Call, content: bytes) -> RunRef:
        """The run that a submit has started, as the answer to it names it.

        Raises:
            MalformedAnswer: No usable id stands where the declaration says, or that of the run that was to be retried.
        """
        declared = self.submit if call.retry_of is None else self.retry
        path = declared.run_id if declared else ()
        run_id = at(decoded(content), path)
        if isinstance(run_id, (str, int)) and not isinstance(run_id, bool):
            try:
                ref = self.ref(str(run_id), call.parents)
            except ConfigurationError:
                ref = None
            if ref is not None and not (call.retry_of and self.same_id(ref.run_id, call.retry_of)):
                return ref
        what = "submit to" if call.retry_of is None else "retry at"
        raise MalformedAnswer(f"The answer to a {what} {self.title} holds no usable run id at {'.'.join(path)}.")


def _set(provider: Provider, **derived: Any) -> None:
    # A frozen value sets what it derives from its own fields in this way only.
    for name, value in derived.items():
        object.__setattr__(provider, name, value)


def _derived(provider: Provider) -> dict[str, Any]:
    """What reads a provider's answers, by the words that it knows."""
    reader = Reader(
        body=provider.body,
        states=provider.states,
        link=provider.link,
        id_key=provider.id_key,
        envelope=provider.envelope_path,
        parents=provider.parents,
        mark=provider.submit.mark if provider.submit else None,
    )
    listing = provider.listing
    return {"reader": reader, "_pages": Pages(provider.name, provider.title, listing, reader) if listing else None}
