"""The clients for plain Python and for asyncio: they send and sleep, as the flows ask. No decision is made here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from runops.core.declaration import Call, Provider
from runops.core.model.errors import ConfigurationError, RunopsError, without_frames
from runops.core.model.run import RunRef, RunSnapshot
from runops.core.model.secret import Secret
from runops.core.polling.poller import Poller
from runops.core.transport.connections import async_transport, check_environment, sync_transport
from runops.core.transport.offload import off_loop
from runops.core.transport.pool import send, send_async, took_too_long
from runops.core.transport.session import Session
from runops.core.waiting import flows, submission
from runops.core.waiting.flows import OnUpdate
from runops.core.waiting.options import DEFAULT_ERROR_BUDGET, DEFAULT_TIMEOUT, SUBMIT_GRACE, WaitOptions
from runops.core.waiting.state import WaitProgress, WaitState
from runops.core.waiting.steps import Ended, Flow, Read, Reply, Send, Sleep, step
from runops.core.waiting.submission import Intent

R = TypeVar("R")


class _Client:
    """What both clients share."""

    def __init__(self, provider: Provider, token: Secret, settings: dict[str, Any]) -> None:
        mark_runs: bool = settings.pop("mark_runs", True)
        try:
            self._session = Session(provider, token=token, **settings)
        except ConfigurationError as error:
            refused = without_frames(error)
        else:
            self.clock = self._session.clock
            """Unix seconds: where this client and the flows that it drives read the time."""
            self._mark_runs = mark_runs
            return
        # A refused address may hold a password.
        settings.clear()
        raise refused

    @property
    def provider(self) -> Provider:
        """The service."""
        return self._session.provider

    @property
    def root(self) -> str:
        """The address under which all routes stand."""
        return self._session.root

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.provider.name!r}, root={self.root!r})"

    def ref(self, run_id: str, parents: Mapping[str, str] | None = None) -> RunRef:
        """The address of a run; see :meth:`Provider.ref`."""
        return self.provider.ref(run_id, parents)

    def _before_submit(self, call: Call, identity: str | None) -> Flow[Intent]:
        return submission.list_before_submit(self.provider, call, identity=identity, mark_runs=self._mark_runs)

    def _submit_flow(
        self, call: Call, intent: Intent, lost: bool, adopt_uncertain: bool, grace: float, resubmit: bool
    ) -> Flow[RunRef]:
        return submission.submit(
            self.provider,
            call,
            intent,
            clock=self.clock,
            lost=lost,
            adopt_uncertain=adopt_uncertain,
            grace=grace,
            resubmit=resubmit,
        )

    def _find_flow(
        self, parent: Mapping[str, str], intent: Intent, adopt_uncertain: bool, grace: float
    ) -> Flow[RunRef]:
        return submission.find_submitted(
            self.provider, parent, intent, clock=self.clock, adopt_uncertain=adopt_uncertain, grace=grace
        )

    def _patience(self, **settings: Any) -> WaitOptions:
        return WaitOptions.build(self.provider, now=self.clock(), **settings)


class RunClient(_Client):
    """A provider's runs, for plain Python. A context manager; not for several threads at once.

    Used in a process that was forked from its own it raises :class:`ConfigurationError`: make a client there.

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
        sleep: Callable[[float], None] = time.sleep,
        **settings: Any,
    ) -> None:
        """
        Args:
            provider: The service.
            token: The API key or token.
            transport: Takes the place of real connections, for tests.
            sleep: For tests.
            settings: As :class:`AsyncRunClient` takes them: base_url, options, origin, request_timeout (s),
                max_response_bytes, requests_per_minute, allow_http, user_agent, mark_runs, clock.

        Raises:
            ConfigurationError: A setting, or a proxy or certificate file of the environment, is wrong; names it.
        """
        token = Secret(token)
        super().__init__(provider, token, settings)
        if transport is None:
            check_environment(self.root)
        self._given = transport
        self._kept: httpx.BaseTransport | None = transport
        self._sleep = sleep

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
        return self.drive(self._before_submit(call, identity))

    def submit(
        self,
        call: Call,
        *,
        adopt_uncertain: bool = False,
        identity: str | None = None,
        submit_grace: float = SUBMIT_GRACE,
        resubmit: bool = True,
        before: Callable[[Intent], None] | None = None,
    ) -> RunRef:
        """Start a run, once; see :mod:`runops.core.waiting.submission` for what is never repeated.

        Args:
            call: From ``provider.call(...)``.
            adopt_uncertain: After a lost answer, where no mark proves whose a run is, take the single new one for
                ours.
            identity: What names the submitter for good; a part of the mark is a hash of it.
            submit_grace: Seconds for which the run of a lost answer is looked for.
            resubmit: Whether one more POST may be sent after that, where it is safe. False for those who go on
                looking elsewhere.
            before: Given what is known right before the POST, so that a host can record what :meth:`submit_again`
                and :meth:`find_submitted` need after a crash. If it raises, nothing is sent.

        Raises:
            ConflictError: Something is active there.
            SubmitUncertainError: The answer is lost; the candidates are in the error.
            AnswerError: Nothing was started.
        """
        intent = self.list_before_submit(call, identity=identity)
        if before is not None:
            before(intent)
        return self.drive(self._submit_flow(call, intent, False, adopt_uncertain, submit_grace, resubmit))

    def submit_again(
        self,
        call: Call,
        intent: Intent,
        *,
        adopt_uncertain: bool = False,
        submit_grace: float = SUBMIT_GRACE,
        resubmit: bool = True,
    ) -> RunRef:
        """The run of a submit that an earlier process may have sent; a new one only where none of it can be alive.

        Args:
            call: What was submitted.
            intent: What ``before`` of :meth:`submit` was given.
            adopt_uncertain: As :meth:`submit` takes it.
            submit_grace: Seconds for which the run is looked for; 0 for a single look.
            resubmit: As :meth:`submit` takes it.

        Raises:
            SubmitUncertainError: It cannot be told.
            AnswerError: Nothing was started.
        """
        return self.drive(self._submit_flow(call, intent, True, adopt_uncertain, submit_grace, resubmit))

    def find_submitted(
        self,
        parent: Mapping[str, str],
        intent: Intent,
        *,
        adopt_uncertain: bool = False,
        submit_grace: float = SUBMIT_GRACE,
    ) -> RunRef:
        """The run of a submit whose answer never reached us, if it can be told; nothing is sent but reads.

        Args:
            parent: ``call.family`` of what was submitted.
            intent: What ``before`` of :meth:`submit` was given.
            adopt_uncertain: As :meth:`submit` takes it.
            submit_grace: Seconds for which the run is looked for; 0 for a single look.

        Raises:
            SubmitUncertainError: It cannot be told.
        """
        return self.drive(self._find_flow(parent, intent, adopt_uncertain, submit_grace))

    def get(self, ref: RunRef) -> RunSnapshot:
        """One look at a run.

        Raises:
            AnswerError: The look failed.
            UnknownStateError: The run is over in a word that is not documented.
        """
        return self.drive(flows.get(self.provider, ref))

    def wait(
        self,
        ref: RunRef,
        timeout: float | timedelta = DEFAULT_TIMEOUT,
        *,
        error_budget: float | timedelta = DEFAULT_ERROR_BUDGET,
        max_paused: float | timedelta | None = None,
        poll_interval: float | timedelta | None = None,
        patience: WaitOptions | None = None,
        submitted_at: float | None = None,
        seen: bool = False,
        past: WaitProgress | None = None,
        on_update: OnUpdate | None = None,
    ) -> RunSnapshot:
        """Wait until a run is over; its last snapshot, with outcome ``timed_out`` when a clock ended the wait.

        Args:
            ref: The run.
            timeout: Seconds (or a timedelta) for the whole wait.
            error_budget: Seconds of failures in a row before the wait gives up.
            max_paused: Seconds that the run may stay paused or waiting.
            poll_interval: The shortest time between two looks, in seconds.
            patience: Takes the place of the four above.
            submitted_at: When the run was submitted, in unix seconds, where that is known.
            seen: Whether an earlier part of this wait has seen the run, so that a 404 is a passing error.
            past: All that an earlier part of this wait has learnt, kept up to date; takes the place of ``seen``.
            on_update: Told of every good look.

        Raises:
            PollingError: The error budget is used up.
            FinalError: The run cannot be read: bad key, no such run.
            UnknownStateError: The run is over in a word that is not documented.
        """
        patience = patience or self._patience(
            timeout=timeout, error_budget=error_budget, max_paused=max_paused, interval=poll_interval
        )
        return self.drive(
            flows.wait(
                self.provider,
                ref,
                patience,
                clock=self.clock,
                submitted_at=submitted_at,
                seen=seen,
                past=past,
                on_update=on_update,
            )
        )

    def watch(
        self,
        ref: RunRef,
        timeout: float | timedelta = DEFAULT_TIMEOUT,
        *,
        error_budget: float | timedelta = DEFAULT_ERROR_BUDGET,
        max_paused: float | timedelta | None = None,
        poll_interval: float | timedelta | None = None,
    ) -> Iterator[RunSnapshot]:
        """Every change of a run, as it is seen; the last one has an outcome. Takes what :meth:`wait` takes."""
        patience = self._patience(
            timeout=timeout, error_budget=error_budget, max_paused=max_paused, interval=poll_interval
        )
        state = WaitState(self.provider, ref, patience, began=self.clock())
        while True:
            snapshot = self.drive(flows.next_change(state, self.clock))
            yield snapshot
            if snapshot.outcome is not None:
                return

    def cancel(self, ref: RunRef) -> None:
        """Ask the provider to stop a run; one that is over is left alone.

        Raises:
            NotSupported: The provider cannot.
            AnswerError: The request failed, and the run is not known to be over.
        """
        self.drive(flows.cancel(self.provider, ref))

    def recent(self, parent: str | Mapping[str, str]) -> list[RunSnapshot]:
        """The newest runs of a parent, newest first.

        Raises:
            NotSupported: The provider lists no runs.
        """
        return self.drive(flows.recent(self.provider, parent))

    def fetch_result(self, ref: RunRef) -> dict[str, Any]:
        """The whole payload of a run. It may hold personal data and secrets: no wait calls this, nothing logs it.

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
        self._sleep(self._session.turn(effect.by))
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
        content = session.judge(effect.request.asked, answer, absent=effect.request.absent)
        return Reply(content, answer.date)

    @contextmanager
    def _transport(self, fresh: bool) -> Generator[httpx.BaseTransport]:
        if fresh and self._given is None:
            with sync_transport(self.root, keep=False) as transport:
                yield transport
            return
        if self._kept is None:
            self._kept = sync_transport(self.root)
        yield self._kept


class AsyncRunClient(_Client):
    """A provider's runs, for asyncio; the same methods as :class:`RunClient`. An async context manager.

    Like that one, it belongs to the process that made it.
    """

    def __init__(
        self,
        provider: Provider,
        *,
        token: str | Secret,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        **settings: Any,
    ) -> None:
        """
        Args:
            provider: The service.
            token: The API key or token.
            transport: Takes the place of real connections, for tests.
            sleep: For tests.
            settings: base_url, options, origin, request_timeout (s), max_response_bytes, requests_per_minute,
                allow_http, user_agent, mark_runs (whether a submit adds its mark to a text that the provider shows
                again, so that its run can be told from others), clock.

        Raises:
            ConfigurationError: A setting, or a proxy or certificate file of the environment, is wrong; names it.
        """
        token = Secret(token)
        super().__init__(provider, token, settings)
        if transport is None:
            check_environment(self.root)
        self._given = transport
        self._kept: httpx.AsyncBaseTransport | None = transport
        self._sleep = sleep

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections. The client may be used again."""
        if self._kept is not None and self._given is None:
            if not self._session.is_forked:
                await self._kept.aclose()
            self._kept = None

    async def list_before_submit(self, call: Call, *, identity: str | None = None) -> Intent:
        """As :meth:`RunClient.list_before_submit`."""
        return await self.drive(self._before_submit(call, identity))

    async def submit(
        self,
        call: Call,
        *,
        adopt_uncertain: bool = False,
        identity: str | None = None,
        submit_grace: float = SUBMIT_GRACE,
        resubmit: bool = True,
        before: Callable[[Intent], None] | None = None,
    ) -> RunRef:
        """As :meth:`RunClient.submit`."""
        intent = await self.list_before_submit(call, identity=identity)
        if before is not None:
            before(intent)
        return await self.drive(self._submit_flow(call, intent, False, adopt_uncertain, submit_grace, resubmit))

    async def submit_again(
        self,
        call: Call,
        intent: Intent,
        *,
        adopt_uncertain: bool = False,
        submit_grace: float = SUBMIT_GRACE,
        resubmit: bool = True,
    ) -> RunRef:
        """As :meth:`RunClient.submit_again`."""
        return await self.drive(self._submit_flow(call, intent, True, adopt_uncertain, submit_grace, resubmit))

    async def find_submitted(
        self,
        parent: Mapping[str, str],
        intent: Intent,
        *,
        adopt_uncertain: bool = False,
        submit_grace: float = SUBMIT_GRACE,
    ) -> RunRef:
        """As :meth:`RunClient.find_submitted`."""
        return await self.drive(self._find_flow(parent, intent, adopt_uncertain, submit_grace))

    async def get(self, ref: RunRef) -> RunSnapshot:
        """As :meth:`RunClient.get`."""
        return await self.drive(flows.get(self.provider, ref))

    async def wait(
        self,
        ref: RunRef,
        timeout: float | timedelta = DEFAULT_TIMEOUT,
        *,
        error_budget: float | timedelta = DEFAULT_ERROR_BUDGET,
        max_paused: float | timedelta | None = None,
        poll_interval: float | timedelta | None = None,
        patience: WaitOptions | None = None,
        submitted_at: float | None = None,
        seen: bool = False,
        past: WaitProgress | None = None,
        on_update: OnUpdate | None = None,
    ) -> RunSnapshot:
        """As :meth:`RunClient.wait`. All waits of one loop on one credential share a poller: see :class:`Poller`."""
        patience = patience or self._patience(
            timeout=timeout, error_budget=error_budget, max_paused=max_paused, interval=poll_interval
        )
        if self._sleep is not asyncio.sleep:
            # A poller keeps real time; a test that brings its own gets a wait of its own.
            return await self.drive(
                flows.wait(
                    self.provider,
                    ref,
                    patience,
                    clock=self.clock,
                    submitted_at=submitted_at,
                    seen=seen,
                    past=past,
                    on_update=on_update,
                )
            )
        poller = Poller.lease(self._session, self._given)
        try:
            return await poller.wait(
                ref, patience, submitted_at=submitted_at, seen=seen, past=past, on_update=on_update
            )
        finally:
            await poller.release()

    async def watch(
        self,
        ref: RunRef,
        timeout: float | timedelta = DEFAULT_TIMEOUT,
        *,
        error_budget: float | timedelta = DEFAULT_ERROR_BUDGET,
        max_paused: float | timedelta | None = None,
        poll_interval: float | timedelta | None = None,
    ) -> AsyncIterator[RunSnapshot]:
        """As :meth:`RunClient.watch`."""
        patience = self._patience(
            timeout=timeout, error_budget=error_budget, max_paused=max_paused, interval=poll_interval
        )
        state = WaitState(self.provider, ref, patience, began=self.clock())
        while True:
            snapshot = await self.drive(flows.next_change(state, self.clock))
            yield snapshot
            if snapshot.outcome is not None:
                return

    async def cancel(self, ref: RunRef) -> None:
        """As :meth:`RunClient.cancel`."""
        await self.drive(flows.cancel(self.provider, ref))

    async def recent(self, parent: str | Mapping[str, str]) -> list[RunSnapshot]:
        """As :meth:`RunClient.recent`."""
        return await self.drive(flows.recent(self.provider, parent))

    async def fetch_result(self, ref: RunRef) -> dict[str, Any]:
        """As :meth:`RunClient.fetch_result`."""
        return await self.drive(flows.payload(self.provider, ref))

    async def probe(self) -> None:
        """As :meth:`RunClient.probe`."""
        await self.drive(flows.probe(self.provider))

    async def drive(self, flow: Flow[R]) -> R:
        """As :meth:`RunClient.drive`."""
        reply: Any = None
        error: RunopsError | None = None
        while True:
            self._session.check_process()
            # What a flow makes of a body, it makes where it gets it.
            body = reply.content if isinstance(reply, Reply) else reply
            size = len(body) if isinstance(body, bytes) else 0
            match await off_loop(partial(step, flow, reply, error), size):
                case Ended(result):
                    return result
                case Sleep(seconds):
                    reply, error = None, None
                    await self._sleep(seconds)
                case Send() | Read() as effect:
                    try:
                        reply, error = await self._answer(effect), None
                    except RunopsError as failure:
                        reply, error = None, failure
                case failure:
                    raise failure

    async def _answer(self, effect: Send | Read) -> object:
        if isinstance(effect, Send):
            reply = await self._send(effect)
            if effect.read is not None:
                return await off_loop(partial(effect.read, reply.content), len(reply.content))
            return reply if effect.dated else reply.content
        request = self.provider.request(self.provider.status, effect.ref)
        reply = await self._send(Send(request, by=effect.by))
        return await off_loop(partial(self.provider.read, effect.ref, reply.content), len(reply.content))

    async def _send(self, effect: Send) -> Reply:
        await self._sleep(self._session.turn(effect.by))
        session = self._session
        prepared = session.prepare(effect.request)
        seconds, bound = session.time_for(effect.by)
        accept = partial(session.check_async, effect.request)
        fresh = effect.fresh and self._given is None
        if fresh:
            transport = async_transport(self.root, keep=False)
        else:
            transport = self._kept = self._kept or async_transport(self.root)
        try:
            async with asyncio.timeout(seconds):
                answer = await send_async(transport, prepared, limit=session.limit, peer=session.peer, accept=accept)
        except TimeoutError:
            raise took_too_long(seconds, session.peer, bound) from None
        finally:
            if fresh:
                await transport.aclose()
        content = session.judge(effect.request.asked, answer, absent=effect.request.absent)
        return Reply(content, answer.date)
