"""The store of a limit that processes share: one line of places for each key, in Redis, by Redis's own clock.

Whatever happens to it, a question has an answer or an error within seconds, in a thread of its own: nothing that waits
for a run waits for Redis. redis-py is loaded there, when the first question is asked.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any, Protocol, cast

from runops.core.model.secret import Secret
from runops.core.model.shared_rate import ANSWER_SECONDS, RETRY_SECONDS, SETTLE_SECONDS, Question, Reply
from runops.core.transport.rate_settings import host_and_port

MICROSECONDS = 1_000_000
CONNECT_SECONDS = READ_SECONDS = ANSWER_SECONDS / 2 - 0.1
UNUSED_SECONDS = 120
"""Seconds after which nothing is left of a line whose last place is over."""
STALE_SECONDS = RETRY_SECONDS * 0.8
"""Seconds without any question after which all who wanted to send may have lost the store."""

SCRIPT = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local places, apart, pause = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local lost, known, ahead = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local settling, stale, unused = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local line = redis.call('HMGET', KEYS[1], 'free', 'born', 'woke', 'seen', 'settle', 'paused')
local free, born, woke, settle, paused = now, now, now, 0, 0
if line[4] then
  free, born, woke = tonumber(line[1]), tonumber(line[2]), tonumber(line[3])
  settle, paused = tonumber(line[5]), tonumber(line[6])
  local seen = tonumber(line[4])
  local back = seen - now
  if back > 0 then
    -- This machine's clock was set back: nothing must grow by that.
    free, woke, settle, paused = free - back, woke - back, settle - back, paused - back
  elseif now - math.max(seen, settle) > stale then
    woke = now
  end
end
if lost > 0 and woke > now - lost then
  -- Nobody was here while it was gone: all of them may be alone, and not all know yet that it is back.
  settle = math.max(settle, woke + settling)
end
if known > 0 and known ~= born then
  -- Places that were given away are forgotten here, and may still be used.
  free = math.max(free, born + ahead)
end
if pause > 0 then paused = math.max(paused, now + pause) end
free = math.max(free, now, paused, settle)
local first = free
if settle > now then places = 0 end
free = free + places * apart
local text = function(number) return string.format('%.0f', number) end
redis.call('HSET', KEYS[1], 'free', text(free), 'born', text(born), 'woke', text(woke), 'seen', text(now),
  'settle', text(settle), 'paused', text(paused))
redis.call('PEXPIRE', KEYS[1], text(math.ceil((free - now + unused) / 1000)))
return {places, first - now, free - now, math.max(settle - now, 0), math.max(paused - now, 0), born}
"""
"""Takes places at the end of a key's line, in one step, by Redis's own clock; numbers are microseconds."""


class TakePlaces(Protocol):
    """Takes places in the line of a key."""

    def __call__(self, key: str, question: Question) -> Reply:
        """The reply, within a few seconds.

        Raises:
            Exception: There is none, of any kind.
        """
        ...


Answered = Callable[[Question, "Reply | Exception"], None]


def line_key(*parts: str) -> str:
    """The name of a line in the store: a hash, so that it tells nothing of the credential that it belongs to."""
    return f"runops:rate:{hashlib.sha256(chr(0).join(parts).encode(errors='surrogatepass')).hexdigest()[:32]}"


def arguments_of(question: Question) -> list[int]:
    """A question as the script takes it."""
    seconds = (
        question.spacing,
        question.pause,
        question.lost,
    )
    return [
        question.places,
        *(round(each * MICROSECONDS) for each in seconds),
        question.born,
        *(round(each * MICROSECONDS) for each in (question.ahead, SETTLE_SECONDS, STALE_SECONDS, UNUSED_SECONDS)),
    ]


def reply_of(answer: Any) -> Reply:
    """What the script has returned.

    Raises:
        ValueError: It is not what the script returns.
    """
    numbers = [int(each) for each in answer]
    if len(numbers) != 6 or min(numbers) < 0:
        raise ValueError("The store has answered with something else.")
    places, wait, ahead, settle, pause, born = numbers
    return Reply(places, wait / MICROSECONDS, ahead / MICROSECONDS, settle / MICROSECONDS, pause / MICROSECONDS, born)


class Redis:
    """A Redis, asked in the thread that calls.

    Args:
        address: ``redis://`` or ``rediss://``.
    """

    def __init__(self, address: Secret) -> None:
        self._address = address
        self._run: Any = None

    def __call__(self, key: str, question: Question) -> Reply:
        """See :class:`TakePlaces`."""
        if self._run is None:
            self._run = self._open()
        return reply_of(self._run(keys=[key], args=arguments_of(question)))

    def _open(self) -> Any:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        more: dict[str, Any] = {"ssl_check_hostname": True} if self._address.reveal().startswith("rediss:") else {}
        client = cast("Any", redis.Redis).from_url(
            self._address.reveal(),
            socket_connect_timeout=CONNECT_SECONDS,
            socket_timeout=READ_SECONDS,
            # A kept connection may have been closed by a restart: that alone is no loss.
            retry=Retry(NoBackoff(), 1),
            retry_on_error=[redis.ConnectionError],
            protocol=2,
            **more,
        )
        return client.register_script(SCRIPT)


class RateStore:
    """One store, asked in a thread of its own, one question after the other.

    Args:
        name: Its address as messages name it.
        open_store: Gives what is asked, in that thread; it opens no connection yet.
    """

    def __init__(self, name: str, open_store: Callable[[], TakePlaces]) -> None:
        self.name = name
        self._open = open_store
        self.forget_thread()

    def forget_thread(self) -> None:
        """In a forked process: the thread and its connection are the other's."""
        self._questions: SimpleQueue[tuple[str, Question, Answered]] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def ask(self, key: str, question: Question, answered: Answered) -> None:
        """Ask something. ``answered`` is called in the thread of the store, with the reply or the error."""
        self._questions.put((key, question, answered))
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="runops-rate-store", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        take = self._open()
        while True:
            key, question, answered = self._questions.get()
            try:
                reply: Reply | Exception = take(key, question)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with the store, it is lost
                reply = error
            answered(question, reply)
            del key, question, answered, reply


_STORES: dict[str, RateStore] = {}


def store_at(address: Secret) -> RateStore:
    """The store of this process at an address."""
    store = _STORES.get(address.fingerprint)
    if store is None:
        # Of two threads that come here at once the second takes what the first has made.
        store = _STORES.setdefault(address.fingerprint, RateStore(host_and_port(address), partial(Redis, address)))
    return store


def _after_fork() -> None:
    for store in _STORES.values():
        store.forget_thread()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
