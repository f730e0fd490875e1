"""The line of one triggerer before a parent: whose turn it is to submit next. It wakes one task at a time.

Each deferred task that waits for a turn stands in it, by the moment at which its wait began; a task that is refused
once more comes back to its place. Only the first one looks at the parent's runs. When nothing is active it leaves, and
its worker submits; until that run shows, the place is left to it for :data:`HELD_SECONDS`, so that 20 tasks do not
resume for one turn. Other triggerers, and workers that wait by themselves, are not seen from here: the service itself
decides between those, by its 409.
"""

from __future__ import annotations

import asyncio
from bisect import insort
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from typing import ClassVar
from weakref import WeakKeyDictionary

from runops.core import AsyncRunClient
from runops.core.waiting.turns import Standing, Turn, await_turn, expired, is_news, notice

HELD_SECONDS = 60.0
"""For so long a free place is left to the task that was woken for it: a busy host takes long to resume one."""

Key = tuple[str, str | None, frozenset[tuple[str, str]]]


@dataclass(order=True)
class _Place:
    since: float
    number: int
    called: asyncio.Event = field(default_factory=asyncio.Event, compare=False)


class Line:
    """All tasks of one event loop that wait for a turn at one parent of one connection."""

    _lines: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Key, Line]]] = WeakKeyDictionary()

    def __init__(self) -> None:
        self._places: list[_Place] = []
        self._numbers = count()
        self._woken: Turn | None = None
        """Who was woken last; None once its run shows, or once it is back."""
        self._woken_at = 0.0
        self._latest: Turn | None = None
        """The wait of whoever has looked last."""
        self._seen: frozenset[str] = frozenset()
        """The runs that the last look has shown."""

    @classmethod
    def before(cls, provider: str, conn_id: str | None, turn: Turn) -> Line:
        """The line for a turn; to be called on the event loop.

        :param provider: The provider's name.
        :param conn_id: The connection.
        :param turn: The turn.
        """
        lines = cls._lines.setdefault(asyncio.get_running_loop(), {})
        key = provider, conn_id, frozenset(turn.parent.items())
        return lines.setdefault(key, Line())

    async def wait(
        self,
        client: AsyncRunClient,
        turn: Turn,
        *,
        ends: float,
        tell: Callable[[str], None],
        see: Callable[[Turn], None] = lambda _: None,
    ) -> Turn:
        """Wait until it is this task's turn; the wait as it stands then.

        :param client: Looks.
        :param turn: The wait.
        :param ends: Unix seconds at which it ends, no later than its own time.
        :param tell: Given a line for people for each run in the way.
        :param see: Given the wait as it stands then.
        :raises ConflictError: Its time is over.
        :raises TransientError: The lists could not be had for longer than the error budget.
        """
        if self._woken is not None and self._woken.since == turn.since:
            self._woken = None
        until, turn = turn.until, replace(turn, until=ends)

        def update(turn: Turn) -> None:
            self._pass_on(turn)
            see(turn)

        with self._place(turn) as place:
            while True:
                turn = await self._until_first(place, client, turn, tell, see)
                flow = await_turn(
                    client.provider,
                    turn,
                    clock=client.clock,
                    tell=tell,
                    update=update,
                    left_to_others=lambda standing: self._held(standing, client.clock()),
                )
                turn = await client.drive(flow)
                # One that has waited for longer may have come meanwhile.
                if self._places[0] is place:
                    self._woken, self._woken_at = turn, client.clock()
                    return replace(turn, until=until)

    @contextmanager
    def _place(self, turn: Turn) -> Generator[_Place]:
        place = _Place(turn.since, next(self._numbers))
        insort(self._places, place)
        self._call()
        try:
            yield place
        finally:
            self._places.remove(place)
            self._call()

    def _call(self) -> None:
        """Have everybody look whether they are the first, or something is new to them."""
        for place in self._places:
            place.called.set()

    def _pass_on(self, turn: Turn) -> None:
        """Let those behind know what is in the way of all."""
        self._latest = turn
        self._call()

    async def _until_first(
        self,
        place: _Place,
        client: AsyncRunClient,
        turn: Turn,
        tell: Callable[[str], None],
        see: Callable[[Turn], None],
    ) -> Turn:
        while self._places[0] is not place:
            place.called.clear()
            try:
                async with asyncio.timeout(max(turn.until - client.clock(), 0.0)):
                    await place.called.wait()
            except TimeoutError:
                raise expired(client.provider, turn, client.clock()) from None
            latest = self._latest
            if latest is not None and is_news(latest, turn):
                turn = replace(turn, in_the_way=latest.in_the_way, state=latest.state, refusals=0)
                # In the context of this trigger, whose log it belongs to.
                tell(notice(client.provider, turn))
                see(turn)
        return turn

    def _held(self, standing: Standing, now: float) -> float:
        """Seconds for which a place is left to the task that was woken for it, as long as no run of it shows."""
        if self._woken is not None and not standing.ids <= self._seen:
            self._woken = None
        self._seen = standing.ids
        return 0.0 if self._woken is None else self._woken_at + HELD_SECONDS - now
