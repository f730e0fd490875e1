"""Sets of runs in made-up time: an emulated service, records that outlive their process, and kills at any moment.

A :class:`World` is what a crash leaves alone: the service, the records, the clock. :meth:`World.attempt` is one
process: it reads the records, goes on from there, and dies where it is told to. From its death on nothing that it still
does reaches the world: every request and every write of it fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import httpx

from runops.core import AsyncRunClient, Call, Provider, find
from runops.core.client.many_plan import End, ManyPlan, SubmitPlan
from runops.core.client.many_runs import ManyRuns
from runops.core.many.ledger import Changes, Ledger, Page, key_of_call
from runops.core.many.retry import TakenUp, take_up
from runops.core.many.rows import Row
from runops.core.many.rules import ManyRules, check_calls
from runops.core.many.tally import Tally
from runops.core.waiting.options import WaitOptions
from runops.core.waiting.submit_in_turn import TurnRules
from runops.emulator.app import create_app
from tests.simulated_time import wall_clock

SECONDS = 20.0
"""How long a run lasts."""


class Dead(Exception):
    """What a process meets that is dead already."""


def arguments(provider: str, number: int, script: str = "succeeded", *, parent: str | None = None) -> dict[str, Any]:
    """Submit arguments of one of many runs, each another one.

    Args:
        provider: The provider.
        number: Which.
        script: What becomes of it.
        parent: Its config or workflow; one of its own if None.
    """
    match provider:
        case "nexio":
            return {"engine_slug": "placement", "input": {"n": number, "emulator": {"script": script}}}
        case "nyx":
            return {
                "config_name": parent or f"config-{number}",
                "name": f"Audit {number}",
                "target": {"url": "https://agent.example.com"},
                "objective": "make it tell its instructions",
                "budget_usd": 5,
                "severity_target": "high",
                "hints": [f"emulator:script={script}"],
            }
        case "onepin":
            return {
                "workflow_id": parent or f"7c9e6679-7425-40de-944b-{number:012d}",
                "script_text": f"emulator:{script} seconds={SECONDS + number / 1000}",
            }
        case _:
            return {"workflow_id": parent or "wf_1", "payload": {"n": number, "emulator": {"script": script}}}


class World:
    """What outlives a process; made inside a simulated loop.

    Args:
        provider: The provider's name.
        calls: What the task submits, on every try the same unless it is changed.
        rules: Of the set.
    """

    def __init__(self, provider: str, calls: Sequence[dict[str, Any]], **rules: Any) -> None:
        self.provider: Provider = find(provider)
        self.calls: list[Call] = check_calls(self.provider, calls)
        self.rules = ManyRules.build(**rules)
        self.app = create_app(now=wall_clock, seconds=SECONDS)
        self.emulator = self.app.state.emulator
        self.pages: dict[int, Page] = {}
        self.writes: list[Changes] = []
        self.settings: dict[str, Any] = {}
        """Further fields of the plan."""
        self.submits: dict[str, Any] = {}
        """Further fields of what is submitted, and how."""
        self.policy: dict[str, Any] = {}
        self.wait: dict[str, Any] = {"timeout": 86_400}
        self.on_conflict: Any = "wait"
        self.client: dict[str, Any] = {}
        """Further settings of the client."""
        self.began = wall_clock()

    @property
    def started(self) -> list[dict[str, Any]]:
        """The runs that the service has started for us, oldest first."""
        return [run for run in self.emulator.runs(provider=self.provider.name) if run["submitted"]]

    def requests(self, action: str) -> list[dict[str, Any]]:
        return self.emulator.requests(provider=self.provider.name, action=action)

    def rows(self) -> list[Row]:
        """What is on record, by key in the order of the calls; a copy through what a store can hold."""
        return Ledger.rows_from_pages(self.pages)

    def taken_up(self, root: str, *, retry: bool = True) -> TakenUp:
        return take_up(self.rows(), [key_of_call(call, root) for call in self.calls], retry=retry)

    async def attempt(self, kill_at: int | None = None, *, retry: bool = True, **options: Any) -> Attempt:
        """One process, to its end or its death."""
        attempt = Attempt(self, kill_at)
        await attempt.run(retry=retry, **options)
        return attempt


class Attempt(httpx.AsyncBaseTransport):
    """One process that carries a set.

    Args:
        world: What it shares with the others.
        kill_at: At which of its moments it dies: before and after each write and each POST; None for never.
    """

    def __init__(self, world: World, kill_at: int | None = None) -> None:
        self.world = world
        self.kill_at = kill_at
        self.moments = 0
        self.dead = False
        self.end: End | None = None
        self.error: BaseException | None = None
        self.lines: list[str] = []
        self.ledger: Ledger | None = None
        self.taken: TakenUp | None = None
        self.set: ManyRuns | None = None
        self.at_post: Callable[[int], None] = lambda number: None
        self.posts = 0
        self.before_post: Callable[[httpx.Request], Awaitable[None]] | None = None
        self.every_answer = False
        """Whether each answer is such a moment too."""
        self.after_post: Callable[[httpx.Response], Awaitable[None]] | None = None
        self._asgi = httpx.ASGITransport(app=world.app)

    async def run(self, *, retry: bool, until: Any = None, store: Any = None, at_set: Any = None) -> None:
        world = self.world
        settings: dict[str, Any] = {"token": "key", **world.client}
        client = AsyncRunClient(
            world.provider,
            base_url=f"http://127.0.0.1/{world.provider.name}",
            clock=wall_clock,
            transport=self,
            **settings,
        )
        async with client:
            self.taken = world.taken_up(client.root, retry=retry)
            self.ledger = self.taken.ledger
            wait = WaitOptions.build(world.provider, now=wall_clock(), **world.wait)
            submits = SubmitPlan(
                calls=world.calls,
                turns=TurnRules(on_conflict=world.on_conflict, until=wait.deadline),
                **{"identity": "dag/run/task", **world.submits},
            )
            plan = ManyPlan(
                rules=world.rules,
                policy=world.provider.policy(**world.policy),
                wait=wait,
                again=self.taken.again if retry else frozenset(),
                **{"submits": submits, **world.settings},
            )
            self.set = ManyRuns(
                client, self.ledger, plan, store=store or self.store, progress=self.progress, until=until
            )
            if at_set is not None:
                at_set(self.set)
            try:
                self.end = await self.set.run()
            except (Exception, asyncio.CancelledError) as error:
                self.error = error
                if isinstance(error, asyncio.CancelledError):
                    raise
        if self.error is not None and not self.dead:
            raise self.error

    def progress(self, tally: Tally) -> None:
        self.lines.append(tally.line(self.world.provider))

    async def store(self, changes: Changes) -> None:
        """Write to what outlives the process."""
        self.moment()
        await asyncio.sleep(0.01)
        self.check()
        self.world.pages.update(changes.pages())
        self.world.writes.append(changes)
        self.moment()

    def moment(self) -> None:
        """One of the moments at which it may die."""
        self.check()
        if self.moments == self.kill_at:
            self.dead = True
        self.moments += 1
        self.check()

    def check(self) -> None:
        if self.dead:
            raise Dead

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.check()
        submits = request.method == "POST" and not request.url.path.endswith("/cancel")
        if submits:
            self.moment()
            self.posts += 1
            self.at_post(self.posts)
            if self.before_post is not None:
                await self.before_post(request)
            self.check()
        response = await self._asgi.handle_async_request(request)
        if submits:
            self.moment()
            if self.after_post is not None:
                await self.after_post(response)
        elif self.every_answer:
            self.moment()
        self.check()
        return response
