"""The client for asyncio: it sends and sleeps, as the flows ask; its waits share a poller. No decision is made here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx

from runops.core.client.acts import AsyncActs
from runops.core.client.base import RepeatArguments, SubmitArguments, WaitArguments
from runops.core.declaration import Call, Provider
from runops.core.model.errors import RunopsError
from runops.core.model.run import RunRef, RunSnapshot
from runops.core.model.secret import Secret
from runops.core.polling.poller import Poller
from runops.core.polling.shared_key import KeyedSession
from runops.core.transport.connections import async_transport, young_only
from runops.core.transport.exchange import Exchange
from runops.core.transport.httpx_pool import out_of_time, send_async
from runops.core.transport.keys import KeyRead
from runops.core.transport.offload import off_loop
from runops.core.transport.session import ClientSettings
from runops.core.waiting import flows
from runops.core.waiting.intent import Intent
from runops.core.waiting.options import DEFAULT_TIMEOUT, SearchSettings, Seconds, WaitClocks, WaitOptions
from runops.core.waiting.state import WaitState
from runops.core.waiting.steps import Effect, Ended, Flow, Read, ReadKey, Reply, Send, Sleep, step

R = TypeVar("R")


class AsyncRunClient(AsyncActs):
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
        **settings: Unpack[ClientSettings],
    ) -> None:
        """
        Args:
            provider: The service.
            token: The API key or token.
            transport: Takes the place of real connections, for tests.
            sleep: For tests; a wait sleeps by its loop all the same.
            settings: As :class:`RunClient` takes them; see :class:`ClientSettings`.

        Raises:
            ConfigurationError: A setting, or a proxy or certificate file of the environment, is wrong; names it.
        """
        token = Secret(token)
        super().__init__(provider, token, settings, others=("token", "transport", "sleep"), real=transport is None)
        self._given = transport
        self._kept: httpx.AsyncBaseTransport | None = transport
        self._young: httpx.AsyncBaseTransport | None = None
        """For submits, which no connection may carry that has stood idle."""
        self._sleep = sleep
        self._keyed = KeyedSession(self._session)
        self.poller: Poller | None = None
        """That of the waits, for hosts that ask what holds one up; None before the first one, and maybe closed."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections. The client may be used again."""
        opened = [self._young] if self._given is not None else [self._kept, self._young]
        for transport in opened:
            if transport is not None and not self._session.is_forked:
                await transport.aclose()
        self._kept, self._young = self._given, None

    async def list_before_submit(self, call: Call, *, identity: str | None = None) -> Intent:
        """As :meth:`RunClient.list_before_submit`."""
        return await self.drive(self._intent(call, identity))

    async def submit(self, call: Call, **settings: Unpack[SubmitArguments]) -> RunRef:
        """As :meth:`RunClient.submit`."""
        self._check("submit", settings, SubmitArguments)
        return await self.drive(self._run_of(call, None, settings))

    async def submit_again(self, call: Call, intent: Intent, **settings: Unpack[RepeatArguments]) -> RunRef:
        """As :meth:`RunClient.submit_again`."""
        self._check("submit_again", settings, RepeatArguments)
        return await self.drive(self._run_of(call, intent, settings))

    async def find_submitted(
        self, parent: Mapping[str, str], intent: Intent, **settings: Unpack[SearchSettings]
    ) -> RunRef:
        """As :meth:`RunClient.find_submitted`."""
        self._check("find_submitted", settings, SearchSettings)
        return await self.drive(self._lost_run(parent, intent, settings))

    async def get(self, ref: RunRef) -> RunSnapshot:
        """As :meth:`RunClient.get`."""
        return await self.drive(flows.get(self.provider, ref))

    async def wait(
        self, ref: RunRef, timeout: Seconds = DEFAULT_TIMEOUT, **settings: Unpack[WaitArguments]
    ) -> RunSnapshot:
        """As :meth:`RunClient.wait`. All waits of one loop on one credential share a poller: see :class:`Poller`."""
        options, context = self._wait_options(timeout, settings)
        flow = flows.wait(self.provider, ref, options, clock=self.clock, **context)
        try:
            with self._waits(ref) as ended:
                return ended(await self._carried(flow, ref, options))
        finally:
            flow.close()

    async def _carried(self, flow: Flow[RunSnapshot], ref: RunRef, options: WaitOptions) -> RunSnapshot:
        """The end of a wait, in the poller of the key that stands now: it moves on where another one comes."""
        reply: KeyRead | None = None
        effect: Effect | None = None
        while True:
            session = self._keyed.current()
            poller = self.poller = Poller.lease(session, self._given)
            try:
                while session is self._keyed.current():
                    left = await poller.carry(
                        flow,
                        ref,
                        options,
                        reply=reply,
                        effect=effect,
                        key=self._keyed.key,
                        trace_id=session.trace_id.here() if session.provider.trace_header else None,
                    )
                    reply = effect = None
                    match left:
                        case Ended(result):
                            return result
                        case ReadKey(refused):
                            reply = await self._keyed.read_key(refused)
                        case moved:
                            effect = moved
            finally:
                await poller.release()

    def watch(
        self, ref: RunRef, timeout: Seconds = DEFAULT_TIMEOUT, **clocks: Unpack[WaitClocks]
    ) -> AsyncIterator[RunSnapshot]:
        """As :meth:`RunClient.watch`."""
        return self._changes(self._watched(ref, timeout, clocks))

    async def _changes(self, state: WaitState) -> AsyncIterator[RunSnapshot]:
        with self._waits(state.ref) as ended:
            while True:
                snapshot = await self.drive(flows.next_change(state, self.clock))
                if snapshot.outcome is not None:
                    yield ended(snapshot)
                    return
                yield snapshot

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
                case ReadKey(refused):
                    reply, error = await self._keyed.read_key(refused), None
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
        async for seconds in self._keyed.current().turns_async(effect.by):
            await self._sleep(seconds)
        session = self._keyed.current()
        prepared = session.prepare(effect.request)
        seconds, bound = session.time_for(effect.by)
        accept = partial(session.check_async, effect.request)
        if effect.fresh and self._given is None:
            # A thousand submits in a row would shake hands a thousand times, which is most of what they cost.
            transport = self._young = self._young or async_transport(
                self.root, limits=young_only(), network=session.network
            )
        else:
            transport = self._kept = self._kept or async_transport(self.root, network=session.network)
        exchange = Exchange()
        try:
            async with asyncio.timeout(seconds):
                answer = await send_async(
                    transport, prepared, limit=session.limit, peer=session.peer, accept=accept, exchange=exchange
                )
        except TimeoutError:
            raise out_of_time(exchange, seconds, session.peer, bound) from None
        content = session.judge(effect.request.description, answer, absent=effect.request.absent)
        return Reply(content, answer.date)
