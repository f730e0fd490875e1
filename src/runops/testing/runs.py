"""Scripts runs in a line, and reads what was submitted, cancelled and asked."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runops.core.model.refusal import nearest
from runops.emulator.faults import KINDS
from runops.emulator.runs import NOW, ScriptError
from runops.testing.errors import TestingError

if TYPE_CHECKING:
    from runops.emulator.api import Api
    from runops.emulator.store import Emulator
    from runops.testing.clock import FakeTime
    from runops.testing.emulated import EmulatedServices

EVERY = 60.0
"""Seconds that a word lasts when nothing is said."""

Story = str | float | Mapping[str, Any]
"""A word of the service, seconds that pass before the next one, or fields that change with or without a word."""


@dataclass(frozen=True)
class Submitted:
    """A run that was submitted, as the service got it."""

    run_id: str
    """Its id."""
    parents: Mapping[str, str]
    """What it runs in, such as ``{"engine_slug": "placement"}``."""
    body: Mapping[str, Any] = field(repr=False)
    """The body of the request."""


class Runs:
    """What the fixture ``runops_runs`` gives: a :class:`ProviderRuns` for each service, by its name.

    ::

        runops_runs.nyx("run-1", "queued", "running", "completed", result="exhausted")
        runops_runs.nexio.on_submit("queued", 3600, "degraded")
        runops_runs.nekt.fail(503, times=3)

    Args:
        services: The emulated services: addresses, keys, connections.
        time: The fake time of the test.
    """

    def __init__(self, services: EmulatedServices, time: FakeTime) -> None:
        self.services = services
        self.time = time

    def __getattr__(self, provider: str) -> ProviderRuns:
        if provider.startswith("_"):
            raise AttributeError(provider)
        try:
            return self[provider]
        except TestingError as error:
            raise AttributeError(str(error)) from None

    def __getitem__(self, provider: str) -> ProviderRuns:
        """As the attribute; for names that are no identifiers.

        Raises:
            TestingError: No such service is emulated.
        """
        apis = self.services.emulator.apis
        if provider not in apis:
            raise TestingError(
                f"No service {provider!r} is emulated; there is {', '.join(apis)}.{nearest(provider, list(apis))}"
            )
        return ProviderRuns(apis[provider], self.services)


class ProviderRuns:
    """The runs of one service.

    Args:
        api: The service.
        services: All of them.
    """

    def __init__(self, api: Api, services: EmulatedServices) -> None:
        self._api = api
        self._services = services

    @property
    def _emulator(self) -> Emulator:
        return self._services.emulator

    def __call__(
        self,
        run_id: str | None = None,
        *story: Story,
        parent: str | None = None,
        parents: Mapping[str, str] | None = None,
        script: str | None = None,
        any_word: bool = False,
        age: float = 0.0,
        hidden: float = 0.0,
        on_cancel: str | Sequence[Mapping[str, Any]] | None = None,
        **fields: Any,
    ) -> str:
        """Make a run that something else has started; its id.

        The words are the service's own, one after the other: each lasts 60 seconds of (fake) time, or as many as the
        number behind it says, and the last one for ever. What a run shows with a word follows from the service: a run
        that ends gets its end time.

        Args:
            run_id: Its id; one is made up if None.
            story: Words such as ``"queued", 3600, "running", "completed"``, or fields: ``{"spent_usd": 1.5}``.
            parent: What it belongs to: the name of its engine, config, workflow; see ``parents`` for others.
            parents: The same by name, such as ``{"pipeline": "pl-1"}``.
            script: The name of a script of the emulator in place of a story; see ``GET /_control/scripts``.
            any_word: Take words that no documentation of the service has.
            age: Seconds for which it has been going on already.
            hidden: Seconds for which reads answer 404.
            on_cancel: What a cancel does: ``"ignored"``, ``"refused"``, or the emulator's steps.
            fields: What it shows with its last word, such as ``result="exhausted"``.

        Raises:
            TestingError: A word is unknown, or any of it makes no sense.
        """
        named = parents if parents is not None else self._parents(parent)
        with _in_our_words():
            return self._emulator.create_run(
                self._api.name,
                run_id=run_id,
                script=self._script(script, story, fields, any_word),
                parents=named,
                age_seconds=age,
                hidden_seconds=hidden,
                on_cancel=on_cancel,
            )

    def on_submit(
        self,
        *story: Story,
        script: str | None = None,
        any_word: bool = False,
        hidden: float | None = None,
        on_cancel: str | Sequence[Mapping[str, Any]] | None = None,
        **fields: Any,
    ) -> None:
        """Say how the runs go that are submitted from now on; takes what a call takes.

        Args:
            story: Words, seconds and fields.
            script: The name of a script of the emulator in place of a story.
            any_word: Take words that no documentation of the service has.
            hidden: Seconds for which reads answer 404.
            on_cancel: What a cancel does.
            fields: What they show with their last word.

        Raises:
            TestingError: A word is unknown, or any of it makes no sense.
        """
        steps = self._script(script, story, fields, any_word)
        with _in_our_words():
            self._emulator.set_defaults(self._api.name, script=steps, hidden_seconds=hidden, on_cancel=on_cancel)

    def fail(
        self,
        how: int | str,
        *,
        on: str | None = None,
        run_id: str | None = None,
        times: int | None = 1,
        after: int = 0,
        carried_out: bool | None = None,
        **settings: Any,
    ) -> None:
        """Let requests go wrong from now on.

        Args:
            how: A status such as 503, or a kind of fault: reset, half_body, html, empty, redirect, delay, drip, json.
            on: Which requests: get, submit, cancel, list; all if None.
            run_id: Only those about one run.
            times: How many; None for all from now on.
            after: How many of them go well first.
            carried_out: Whether a submit or cancel is carried out all the same, so that only its answer is lost.
            settings: Of the fault, such as ``retry_after=60`` (seconds), ``body``, ``headers``, ``seconds``.

        Raises:
            TestingError: There is no such fault, or a setting makes no sense.
        """
        if isinstance(how, str) and how not in KINDS:
            raise TestingError(
                f"There is no fault {how!r}; there is a status such as 503, {', '.join(sorted(KINDS))}."
                f"{nearest(how, sorted(KINDS))}"
            )
        fault: dict[str, Any] = {"kind": how} if isinstance(how, str) else {"kind": "status", "status": how}
        if on is not None:
            self._check_action(on)
            fault["action"] = on
        if run_id is not None:
            fault["run_id"] = run_id
        if carried_out is not None:
            fault["when"] = "after" if carried_out else "before"
        with _in_our_words():
            self._emulator.add_fault(provider=self._api.name, count=times, skip=after, **fault, **settings)

    def revoke_key(self, key: str | None = None) -> None:
        """Answer 401 to a key from now on.

        Args:
            key: That of the test's environment if None.
        """
        self._emulator.set_key(key or self._services.key(self._api.name), "revoked", provider=self._api.name)

    def change(self, run_id: str, **fields: Any) -> None:
        """Change what a run shows now.

        Args:
            run_id: The run.
            fields: By the service's own names.

        Raises:
            TestingError: There is no such run.
        """
        with _in_our_words():
            self._emulator.set_fields(self._api.name, run_id, fields)

    @property
    def submitted(self) -> list[Submitted]:
        """The runs that were submitted, oldest first."""
        return [
            Submitted(run["run_id"], run["parents"], run["body"])
            for run in self._emulator.runs(provider=self._api.name)
            if run["submitted"]
        ]

    @property
    def cancelled(self) -> list[str]:
        """The ids of the runs that somebody has asked to cancel, in that order, each once."""
        asked = self.requests("cancel")
        return list(dict.fromkeys(request["run_id"] for request in asked if request["run_id"]))

    @property
    def asked(self) -> dict[str, int]:
        """How often each run was read."""
        return {run["run_id"]: run["reads"] for run in self._emulator.runs(provider=self._api.name)}

    def requests(self, action: str | None = None, **filters: Any) -> list[dict[str, Any]]:
        """What the service was asked, oldest first, without any key.

        Args:
            action: get, submit, cancel, list, ...; all if None.
            filters: ``status``, ``run_id``, ``fault``, ...: see ``GET /_control/requests``.

        Raises:
            TestingError: There is no such filter.
        """
        with _in_our_words():
            return self._emulator.requests(provider=self._api.name, action=action, **filters)

    def show(self, run_id: str) -> dict[str, Any]:
        """What the service shows of a run now, by its own names.

        Raises:
            TestingError: There is no such run.
        """
        with _in_our_words():
            (run,) = self._emulator.runs(provider=self._api.name, run_id=run_id)
        return run["fields"]

    def _parents(self, parent: str | None) -> dict[str, str] | None:
        if parent is None:
            return None
        if self._api.parent_name is None:
            raise TestingError(f"{self._api.title} knows several kinds of parents: give parents={{kind: id}}.")
        return {self._api.parent_name: parent}

    def _check_action(self, action: str) -> None:
        known = sorted({route.action for route in self._api.routes})
        if action not in known:
            raise TestingError(
                f"{self._api.title} has no request {action!r}; there is {', '.join(known)}.{nearest(action, known)}"
            )

    def _script(
        self, script: str | None, story: Sequence[Story], fields: Mapping[str, Any], any_word: bool
    ) -> str | list[dict[str, Any]]:
        if script is not None:
            if story or fields:
                raise TestingError(f"script={script!r} says how the run goes already: leave the words and fields out.")
            return script
        return list(self._steps(story, fields, any_word))

    def _steps(self, story: Sequence[Story], fields: Mapping[str, Any], any_word: bool) -> Iterator[dict[str, Any]]:
        usual = _usual_fields(self._api)
        pause, given = 0.0, True
        states = [each for each in story if isinstance(each, bool) or not isinstance(each, (int, float))]
        for each in story:
            if isinstance(each, (int, float)) and not isinstance(each, bool):
                pause, given = (pause + each if given else each), True
                continue
            changes = dict(each) if isinstance(each, Mapping) else {self._api.state_field: each}
            word = changes.get(self._api.state_field)
            if isinstance(word, str):
                if word not in usual and not any_word:
                    raise TestingError(
                        f"{self._api.title} documents no {self._api.state_field} {word!r}; there is "
                        f"{', '.join(usual)}.{nearest(word, list(usual))} Give any_word=True to try one all the same."
                    )
                changes = {**usual.get(word, {}), **changes}
            if each is states[-1]:
                changes |= fields
            yield {"after": pause, "set": changes}
            pause, given = EVERY, False
        if fields and not states:
            yield {"after": pause, "set": dict(fields)}


def _usual_fields(api: Api) -> dict[str, dict[str, Any]]:
    """The documented words, each with the moments that the service notes with it, such as the time of the end."""
    parents = {} if api.parent_name is None else {api.parent_name: api.default_parent}
    begins = api.first_fields("", parents, api.shape_for(parents, None)).get(api.state_field)
    usual: dict[str, dict[str, Any]] = {begins: {}} if isinstance(begins, str) else {}
    undocumented = [name for name in api.scripts if name.startswith("unknown_word")]
    for name, moments in api.scripts.items():
        if name in undocumented:
            continue
        for moment in moments:
            word = moment.changes.get(api.state_field)
            if isinstance(word, str) and word not in usual:
                usual[word] = {name: value for name, value in moment.changes.items() if value == NOW}
    for word in sorted(api.over):
        usual.setdefault(word, {})
    return usual


@contextmanager
def _in_our_words() -> Generator[None]:
    """Turn what the emulator refuses into an error of the kit."""
    try:
        yield
    except ScriptError as error:
        raise TestingError(str(error)) from None
