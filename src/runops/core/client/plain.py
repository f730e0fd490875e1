"""The client for plain Python: it sends and sleeps, as the flows ask. No decision is made here."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Self, TypeVar, Unpack

import httpx

from runops.core.client.acts import Acts
from runops.core.client.base import RepeatArguments, SubmitArguments, WaitArguments
from runops.core.declaration import Call, Provider
from runops.core.model.errors import ConfigurationError, RunopsError
from runops.core.model.run import RunRef, RunSnapshot
from runops.core.model.secret import Secret
from runops.core.transport.connections import sync_transport
from runops.core.transport.httpx_pool import send
from runops.core.transport.keys import KeyInUse, KeyRead
from runops.core.transport.session import ClientSettings, Session
from runops.core.waiting import flows
from runops.core.waiting.intent import Intent
from runops.core.waiting.options import DEFAULT_TIMEOUT, SearchSettings, Seconds, WaitClocks
from runops.core.waiting.state import WaitState
from runops.core.waiting.steps import Ended, Flow, Read, ReadKey, Reply, Send, Sleep, step

R = TypeVar("R")


class RunClient(Acts):
    """A provider's runs, for plain Python. A context manager; not for several threads at once.

    Used in a process that was forked from its own it raises :class:`ConfigurationError`: make a client there. An
    argument whose name is wrong is a :class:`ConfigurationError` too, in all methods, and names the nearest right one.

    ::

        with RunClient(find("nexio"), token=key) as client:
            last = client.wait(client.ref(run_id), timeout=3600)
    """

    def __init__(
        self,
        provider: Provider,
        *,
        token: str | Secret,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] | None = None,
        **settings: Unpack[ClientSettings],
    ) -> None:
        """
        Args:
            provider: The service.
            token: The API key or token.
            transport: Takes the place of real connections, for tests.
            sleep: For tests. Default: ``time.sleep``, as it is when the client sleeps.
            settings: See :class:`ClientSettings`: base_url, options, origin, request_timeout (s or a timedelta),
                max_response_bytes, requests_per_minute, processes, rate_store, allow_http, user_agent, mark_runs,
                clock, address_origin, reread.

        Raises:
            ConfigurationError: A setting, or a proxy or certificate file of the environment, is wrong; names it.
        """
        token = Secret(token)
        super().__init__(provider, token, settings, others=("token", "transport", "sleep"), real=transport is None)
        if inspect.iscoroutinefunction(self._session.reread):
            raise ConfigurationError("reread of a RunClient must be a plain function; AsyncRunClient takes this one.")
        self._given = transport
        self._kept: httpx.BaseTransport | None = transport
        self._sleep = _sleep if sleep is None else sleep
        self._key = KeyInUse(self._session.token, self._session.origin)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections. The client may be used again."""
        if self._kept is not None and self._given is None:
            # In a forked process they are the other's, who may use them at this moment.
            if not self._session.is_forked:
                self._kept.close()
            self._kept = None

    def list_before_submit(self, call: Call, *, identity: str | None = None) -> Intent:
        """What :meth:`submit` asks for first, for hosts that do the steps of a submit one by one.

        Args:
            call: What will be submitted.
            identity: As :meth:`submit` takes it.
        """
        return self.drive(self._intent(call, identity))

    def submit(self, call: Call, **settings: Unpack[SubmitArguments]) -> RunRef:
        """Start a run, once; see :mod:`runops.core.waiting.submission` for what is never repeated.

        Args:
            call: From ``provider.call(...)``.
            settings: See :class:`SubmitArguments`: adopt_uncertain, submit_grace (s or a timedelta), resubmit,
                identity, on_conflict (wait, attach or fail), timeout of a wait for a turn (s or a timedelta), before,
                waiting, attached.

        Raises:
            ConflictError: Something is active there, and still is after ``timeout`` or is not to be waited for.
            SubmitUncertainError: The answer is lost; the candidates are in the error.
            AnswerError: Nothing was started.
        """
        self._check("submit", settings, SubmitArguments)
        return self.drive(self._run_of(call, None, settings))

    def submit_again(self, call: Call, intent: Intent, **settings: Unpack[RepeatArguments]) -> RunRef:
        """The run of a submit that an earlier process may have sent; a new one only where none of it can be alive.

        Args:
            call: What was submitted.
            intent: What ``before`` of :meth:`submit` was given.
            settings: See :class:`RepeatArguments`: adopt_uncertain, submit_grace (0 for a single look), resubmit,
                and what :meth:`submit` takes for a submit that is refused.

        Raises:
            SubmitUncertainError: It cannot be told.
            AnswerError: Nothing was started.
        """
        self._check("submit_again", settings, RepeatArguments)
        return self.drive(self._run_of(call, intent, settings))

    def find_submitted(self, parent: Mapping[str, str], intent: Intent, **settings: Unpack[SearchSettings]) -> RunRef:
        """The run of a submit whose answer never reached us, if it can be told; nothing is sent but reads.

        Args:
            parent: ``call.parent`` of what was submitted.
            intent: What ``before`` of :meth:`submit` was given.
            settings: See :class:`SearchSettings`: adopt_uncertain, submit_grace (0 for a single look).

        Raises:
            SubmitUncertainError: It cannot be told.
        """
        self._check("find_submitted", settings, SearchSettings)
        return self.drive(self._lost_run(parent, intent, settings))

    def get(self, ref: RunRef) -> RunSnapshot:
        """One look at a run.

        Args:
            ref: The run.

        Raises:
            AnswerError: The look failed.
            UnknownStateError: The run is over in a word that is not documented.
        """
        return self.drive(flows.get(self.provider, ref))

    def wait(self, ref: RunRef, timeout: Seconds = DEFAULT_TIMEOUT, **settings: Unpack[WaitArguments]) -> RunSnapshot:
        """Wait until a run is over; its last snapshot, with outcome ``timed_out`` when a clock ended the wait.

        Args:
            ref: The run.
            timeout: Seconds (or a timedelta) for the whole wait.
            settings: See :class:`WaitArguments`: error_budget, auth_grace, max_paused, poll_interval (s or timedeltas),
                patience, submitted_at, seen, past, on_update.

        Raises:
            PollingError: The error budget is used up.
            FinalError: The run cannot be read: bad key, no such run.
            UnknownStateError: The run is over in a word that is not documented.
        """
        options, context = self._wait_options(timeout, settings)
        with self._waits(ref) as ended:
            return ended(self.drive(flows.wait(self.provider, ref, options, clock=self.clock, **context)))

    def watch(
        self, ref: RunRef, timeout: Seconds = DEFAULT_TIMEOUT, **clocks: Unpack[WaitClocks]
    ) -> Iterator[RunSnapshot]:
        """Every change of a run, as it is seen; the last one has an outcome.

        Args:
            ref: The run.
            timeout: Seconds (or a timedelta) for the whole wait.
            clocks: As :meth:`wait` takes them: error_budget, auth_grace, poll_interval, max_paused, ...
        """
        return self._changes(self._watched(ref, timeout, clocks))

    def _changes(self, state: WaitState) -> Iterator[RunSnapshot]:
        with self._waits(state.ref) as ended:
            while True:
                snapshot = self.drive(flows.next_change(state, self.clock))
                if snapshot.outcome is not None:
                    yield ended(snapshot)
                    return
                yield snapshot

    def recent(self, parent: str | Mapping[str, str]) -> list[RunSnapshot]:
        """The newest runs of a parent, newest first.

        Args:
            parent: Its id, or its kind and id, such as ``{"workflow_id": "wf_1"}``.

        Raises:
            NotSupported: The provider lists no runs.
        """
        return self.drive(flows.recent(self.provider, parent))

    def fetch_result(self, ref: RunRef) -> dict[str, Any]:
        """The whole payload of a run. It may hold personal data and secrets: no wait calls this, nothing logs it.

        Args:
            ref: The run.

        Raises:
            AnswerError: The read failed.
        """
        return self.drive(flows.payload(self.provider, ref))

    def probe(self) -> None:
        """A harmless read that only a good credential gets through.

        Raises:
            AuthError: The credential is bad.
            AnswerError: The service cannot be reached.
        """
        self.drive(flows.probe(self.provider))

    def drive(self, flow: Flow[R]) -> R:
        """Do what a flow of :mod:`runops.core.waiting.flows` asks for, and give its result.

        For hosts that keep a record between the steps of a submit.

        Args:
            flow: The steps.

        Raises:
            RunopsError: The flow failed.
        """
        reply: Any = None
        error: RunopsError | None = None
        while True:
            self._session.check_process()
            match step(flow, reply, error):
                case Ended(result):
                    return result
                case Sleep(seconds):
                    reply, error = None, None
                    self._sleep(seconds)
                case ReadKey(refused):
                    error = None
                    self._session, reply = _read_again(self._session, self._key, refused)
                case Send() | Read() as effect:
                    try:
                        reply, error = self._answer(effect), None
                    except RunopsError as failure:
                        reply, error = None, failure
                case failure:
                    raise failure

    def _answer(self, effect: Send | Read) -> object:
        if isinstance(effect, Send):
            reply = self._send(effect)
            if effect.read is not None:
                return effect.read(reply.content)
            return reply if effect.dated else reply.content
        request = self.provider.request(self.provider.status, effect.ref)
        return self.provider.read(effect.ref, self._send(Send(request, by=effect.by)).content)

    def _send(self, effect: Send) -> Reply:
        for seconds in self._session.turns(effect.by):
            self._sleep(seconds)
        session = self._session
        prepared = session.prepare(effect.request)
        seconds, bound = session.time_for(effect.by)
        accept = partial(session.check, effect.request)
        with self._transport(effect.fresh) as transport:
            answer = send(
                transport,
                prepared,
                limit=session.limit,
                seconds=seconds,
                peer=session.peer,
                bound=bound,
                accept=accept,
            )
        content = session.judge(effect.request.description, answer, absent=effect.request.absent)
        return Reply(content, answer.date)

    @contextmanager
    def _transport(self, fresh: bool) -> Generator[httpx.BaseTransport]:
        if fresh and self._given is None:
            with sync_transport(self.root, keep=False, network=self._session.network) as transport:
                yield transport
            return
        if self._kept is None:
            self._kept = sync_transport(self.root, network=self._session.network)
        yield self._kept


def _read_again(session: Session, key: KeyInUse, refused: str) -> tuple[Session, KeyRead]:
    """Read a key again where it was set; the session of the one that stands there, and what is known of it."""
    if session.reread is None:
        return session, KeyRead(changed=False, readable=False)
    now, refused = session.clock(), refused or key.token.mark
    if key.token.mark == refused and key.due_in(now) <= 0:
        try:
            changed = key.was_read(session.reread(), now)
        except Exception as error:  # noqa: BLE001 - as many kinds as there are places for keys
            key.was_not_read(error, now)
        else:
            session = session.with_token(key.token) if changed else session
    return session, key.reply(refused, now)


def _sleep(seconds: float) -> None:
    # Looked up anew each time: a test may have put another one in its place since this module was imported.
    time.sleep(seconds)
