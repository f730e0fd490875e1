"""A key that all clients of one event loop share which read it from the same place: one read answers all who ask.

How it works:

- Clients join by :meth:`SharedKey.of`. Whoever joins with a key that is new here has just read it: all go on with it.
- A wait whose key was refused asks by :meth:`SharedKey.read`. The key is read again once, however many ask, and not
  before ``REREAD_SECONDS`` are over since the last time.
- Where another key is found, every wait that goes on with the old one is given back by its poller, and its client
  takes it to the poller of the new key. So the old one is used by none of them any more.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from asyncio import AbstractEventLoop
from typing import Any, Protocol
from weakref import WeakKeyDictionary, WeakValueDictionary

from runops.core.model.secret import Secret
from runops.core.transport.keys import REREAD_SECONDS, KeyInUse, KeyRead, Reread, Token
from runops.core.transport.session import Session

AT_ONCE = 100
"""Waits that change their poller in one round of the loop."""

_KEYS: WeakKeyDictionary[AbstractEventLoop, WeakValueDictionary[tuple[object, ...], SharedKey]] = WeakKeyDictionary()


class Carrier(Protocol):
    """A poller, as far as waits are taken from it."""

    def uses(self, token: Secret) -> bool:
        """Whether its requests bear this credential."""
        ...

    def give_back(self, wait: Any) -> None:
        """Let a wait go on elsewhere."""
        ...


class SharedKey:
    """See the module. Get one by :meth:`of`.

    Args:
        session: The first one that uses it.
        reread: Where it is read again.
    """

    def __init__(self, session: Session, reread: Reread) -> None:
        self.waits: dict[object, Carrier] = {}
        """The waits that go on with this key, by the poller that has them."""
        self._loop = asyncio.get_running_loop()
        self._clock = session.clock
        self._reread = reread
        self._in_use = KeyInUse(session.token, session.origin)
        self._reading: asyncio.Task[None] | None = None
        self._left: set[str] = set()
        """The marks of those that were refused and have given way: whoever brings one has read it before that."""

    @classmethod
    def of(cls, session: Session) -> SharedKey | None:
        """The running loop's key of the place that a session's key is from; None where there is no such place."""
        if session.reread is None:
            return None
        keys = _KEYS.setdefault(asyncio.get_running_loop(), WeakValueDictionary())
        place = (session.provider.name, session.root, _identity(session.reread))
        key = keys.get(place)
        if key is None:
            key = keys[place] = cls(session, session.reread)
        else:
            key._join(session.token)
        return key

    @property
    def is_here(self) -> bool:
        """Whether it is the running loop's."""
        return self._loop is asyncio.get_running_loop()

    @property
    def token(self) -> Secret:
        """The key as it was read last."""
        return self._in_use.token

    async def read(self, refused: str) -> KeyRead:
        """Read the key again, unless another one is known by now, or it is too early for that.

        Args:
            refused: The mark of the key that was refused.
        """
        refused = refused or self.token.mark
        if self.token.mark == refused:
            if self._reading is None and self._in_use.due_in(self._clock()) <= 0:
                # Nobody's own: whoever asked may be gone before the answer comes.
                self._reading = self._loop.create_task(self._read(), context=contextvars.Context())
            if self._reading is not None:
                await asyncio.shield(self._reading)
        return self._in_use.reply(refused, self._clock())

    async def _read(self) -> None:
        before = self.token.mark
        try:
            async with asyncio.timeout(REREAD_SECONDS):
                changed = self._in_use.was_read(await self._value(), self._clock())
        except Exception as error:  # noqa: BLE001 - as many kinds as there are places for keys
            self._in_use.was_not_read(error, self._clock())
        else:
            if changed:
                self._left.add(before)
                self._left.discard(self.token.mark)
                self._move()
        finally:
            self._reading = None

    async def _value(self) -> Token:
        if inspect.iscoroutinefunction(self._reread) or inspect.iscoroutinefunction(type(self._reread).__call__):
            value = self._reread()
        else:
            value = await asyncio.to_thread(self._reread)
        return await value if inspect.isawaitable(value) else value

    def _join(self, token: Secret) -> None:
        if token.mark not in self._left and self._in_use.take(token):
            self._move()

    def _move(self) -> None:
        """Let all waits go over to the new key, some at a time."""
        waits = [(wait, poller) for wait, poller in self.waits.items() if not poller.uses(self.token)]
        for number, (wait, poller) in enumerate(waits):
            if number < AT_ONCE:
                poller.give_back(wait)
            else:
                self._loop.call_soon(self._move, context=contextvars.Context())
                return


class KeyedSession:
    """The session of one client with the key that is in use by all who have theirs from the same place.

    Args:
        session: With the key that the client was made with.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self.key: SharedKey | None = None
        """Of the running loop, once it was asked for; None where there is no place to read it from."""

    def current(self) -> Session:
        """The session to send with."""
        if self.key is None or not self.key.is_here:
            self.key = SharedKey.of(self._session)
        if self.key is not None and self.key.token != self._session.token:
            self._session = self._session.with_token(self.key.token)
        return self._session

    async def read_key(self, refused: str) -> KeyRead:
        """Have the key read again.

        Args:
            refused: The mark of the one that was refused.
        """
        self.current()
        return KeyRead(changed=False, readable=False) if self.key is None else await self.key.read(refused)


def _identity(reread: Reread) -> object:
    try:
        hash(reread)
    except TypeError:
        return id(reread)
    return reread
