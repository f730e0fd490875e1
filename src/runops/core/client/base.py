"""What both clients share: their settings, and the flow behind each of their methods. Nothing here waits."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from runops.core.declaration import Call, Provider
from runops.core.declaration.arguments import check_names, grace, one_of, seconds
from runops.core.metrics import Meter
from runops.core.model.errors import ConfigurationError, ConflictError, RunopsError, without_frames
from runops.core.model.run import RunRef, RunSnapshot
from runops.core.model.secret import Secret
from runops.core.telemetry import METER, RunEnd, now, record
from runops.core.transport.connections import check_network
from runops.core.transport.network_settings import NETWORK_SETTINGS, NetworkSettings
from runops.core.transport.rate_settings import RATE_SETTINGS, RateSettings
from runops.core.transport.session import ClientSettings, Session
from runops.core.waiting import submission
from runops.core.waiting.flows import WaitContext
from runops.core.waiting.intent import Intent, list_before_submit
from runops.core.waiting.options import (
    DEFAULT_TIMEOUT,
    ON_CONFLICT,
    SUBMIT_GRACE,
    SearchSettings,
    Seconds,
    SubmitOptions,
    WaitClocks,
    WaitOptions,
)
from runops.core.waiting.retry_call import learnt_call
from runops.core.waiting.state import WaitState
from runops.core.waiting.steps import Flow
from runops.core.waiting.submit_in_turn import SubmitEvents, TurnRules, submit_in_turn
from runops.core.waiting.turns import Turn


class WaitArguments(WaitClocks, WaitContext, total=False):
    """What ``wait`` takes beside the run and ``timeout``."""

    patience: WaitOptions | None
    """Takes the place of ``timeout`` and of the clocks."""


class RepeatArguments(SubmitOptions, total=False):
    """What ``submit_again`` takes beside the call and the intent."""

    rules: TurnRules | None
    """Takes the place of ``on_conflict`` and ``timeout``."""
    turn: Turn | None
    """A wait for a turn that goes on, with its place and its deadline."""
    before: Callable[[Intent], None] | None
    """Given what is known right before the POST, so that a host can record what ``submit_again`` and
    ``find_submitted`` need after a crash. If it raises, nothing is sent. After a wait for a turn it is called anew."""
    waiting: Callable[[Turn], None] | None
    """Given the wait for a turn when it begins, and when another run is in the way: nothing of ours is under way."""
    attached: Callable[[RunRef], None] | None
    """Given the active run that is taken as if it were given, with ``on_conflict="attach"``."""

    resubmit: bool
    """Whether one more POST may be sent after the grace, where it is safe. False for those who go on looking
    elsewhere. Default: True."""


class SubmitArguments(RepeatArguments, total=False):
    """What ``submit`` takes beside the call."""

    identity: str | None
    """What names the submitter for good; a part of the mark is a hash of it."""


class Client:
    """The base of both clients. ``settings`` is emptied where it is refused: it may hold a password."""

    def __init__(
        self, provider: Provider, token: Secret, settings: ClientSettings, *, others: Collection[str], real: bool
    ) -> None:
        try:
            check_names(type(self).__name__, settings, [*others, *ClientSettings.__annotations__])
            given = cast("dict[str, Any]", settings)
            self._mark_runs: bool = given.pop("mark_runs", True)
            states = given.pop("states", None)
            origin: str = given.pop("network_origin", "")
            meter: Meter | None = given.pop("meter", None)
            # In no local of this frame: the address of a proxy or a store may hold a password.
            network = NetworkSettings.of(
                **{name: given.pop(name) for name in NETWORK_SETTINGS if name in given}, origin=origin
            )
            rate = RateSettings.of(
                **{name: given.pop(name) for name in RATE_SETTINGS if name in given},
                origin=origin,
            )
            self._session = Session(provider.with_states(states), token=token, network=network, rate=rate, **given)
            if real:
                check_network(self.root, network)
        except ConfigurationError as error:
            refused = without_frames(error)
        else:
            self.clock = self._session.clock
            """Unix seconds: where this client and the flows that it drives read the time."""
            self.meter = meter or METER
            """Who counts what this client does."""
            self._ends_alone = meter is None
            return
        cast("dict[str, Any]", settings).clear()
        raise refused

    @property
    def provider(self) -> Provider:
        """The service."""
        return self._session.provider

    @property
    def root(self) -> str:
        """The address under which all routes stand."""
        return self._session.root

    @property
    def marks_runs(self) -> bool:
        """Whether a submit adds a mark to a text that the provider shows again."""
        return self._mark_runs

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.provider.name!r}, root={self.root!r})"

    def ref(self, run_id: str, parents: Mapping[str, str] | None = None) -> RunRef:
        """The address of a run; see :meth:`Provider.ref`."""
        return self.provider.ref(run_id, parents)

    def _check(self, method: str, given: Mapping[str, Any], allowed: type) -> None:
        check_names(f"{type(self).__name__}.{method}", given, allowed.__annotations__)

    def _options(self, timeout: Seconds, clocks: Mapping[str, Any]) -> WaitOptions:
        return WaitOptions.build(
            self.provider,
            now=self.clock(),
            timeout=timeout,
            interval=clocks.get("poll_interval"),
            **{name: clocks[name] for name in WaitClocks.__annotations__ if name in clocks and name != "poll_interval"},
        )

    def _wait_options(self, timeout: Seconds, settings: WaitArguments) -> tuple[WaitOptions, WaitContext]:
        """The clocks of a wait, and what else its flow takes."""
        self._check("wait", settings, WaitArguments)
        context = {name: value for name, value in settings.items() if name in WaitContext.__annotations__}
        context["on_update"] = self.meter.reads(settings.get("on_update"), self.clock)
        return settings.get("patience") or self._options(timeout, settings), cast("WaitContext", context)

    @contextmanager
    def _waits(self, ref: RunRef) -> Generator[Callable[[RunSnapshot], RunSnapshot]]:
        """Around a wait: counts and traces its end, unless a host does, which alone knows what the end is worth."""
        began = now()

        def ended(last: RunSnapshot) -> RunSnapshot:
            if self._ends_alone:
                self.meter.ended(self.provider, last, None)
                record(RunEnd.of(self.provider, last, None, began=began, ended=now()))
            return last

        try:
            yield ended
        except RunopsError as error:
            if self._ends_alone:
                self.meter.erred(self.provider.name, error)
                record(RunEnd.unknown(ref, error, began=began, ended=now()))
            raise

    def _watched(self, ref: RunRef, timeout: Seconds, clocks: WaitClocks) -> WaitState:
        self._check("watch", clocks, WaitClocks)
        return WaitState(self.provider, ref, self._options(timeout, clocks), began=self.clock())

    def _intent(self, call: Call, identity: str | None) -> Flow[Intent]:
        return list_before_submit(self.provider, call, identity=identity, mark_runs=self._mark_runs)

    def _run_of(self, call: Call, intent: Intent | None, settings: SubmitArguments | RepeatArguments) -> Flow[RunRef]:
        on_conflict = settings.get("on_conflict", "wait")
        one_of("on_conflict", on_conflict, ON_CONFLICT)
        until = self.clock() + seconds("timeout", settings.get("timeout", DEFAULT_TIMEOUT))
        return submit_in_turn(
            self.provider,
            call,
            settings.get("rules") or TurnRules(on_conflict=on_conflict, until=until),
            SubmitEvents(
                before=settings.get("before"),
                waiting=self._turns(settings.get("waiting"), begun=settings.get("turn") is not None),
                attached=settings.get("attached"),
                adopted=self._adopted,
            ),
            clock=self.clock,
            intent=intent,
            turn=settings.get("turn"),
            identity=settings.get("identity"),
            mark_runs=self._mark_runs,
            adopt_uncertain=settings.get("adopt_uncertain", False),
            grace=grace("submit_grace", settings.get("submit_grace", SUBMIT_GRACE)),
            resubmit=settings.get("resubmit", True),
        )

    def _retried(self, ref: RunRef, settings: SubmitArguments) -> Flow[RunRef]:
        call = yield from learnt_call(self.provider, ref)
        return (yield from self._run_of(call, None, settings))

    def refused(
        self, rules: TurnRules, call: Call, conflict: ConflictError, earlier: Turn | None, *, mark: str | None
    ) -> Turn:
        """As :meth:`TurnRules.refused`, for hosts that wait for a turn elsewhere; counted where the wait begins."""
        if earlier is None:
            self.meter.turn(self.provider.name)
        return rules.refused(self.provider, call, conflict, earlier, now=self.clock(), mark=mark)

    def _turns(self, on_turn: Callable[[Turn], None] | None, *, begun: bool) -> Callable[[Turn], None]:
        """Counts the wait for a turn once, as it begins, and tells it on."""

        def waiting(turn: Turn) -> None:
            nonlocal begun
            if not begun:
                self.meter.turn(self.provider.name)
            begun = True
            if on_turn is not None:
                on_turn(turn)

        return waiting

    def _adopted(self) -> None:
        self.meter.adopted(self.provider.name)

    def _lost_run(self, parent: Mapping[str, str], intent: Intent, settings: SearchSettings) -> Flow[RunRef]:
        return submission.find_submitted(
            self.provider,
            parent,
            intent,
            clock=self.clock,
            adopt_uncertain=settings.get("adopt_uncertain", False),
            grace=grace("submit_grace", settings.get("submit_grace", SUBMIT_GRACE)),
            adopted=self._adopted,
        )
