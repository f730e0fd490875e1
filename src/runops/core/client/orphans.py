"""Find the runs that a host has left behind, and cancel them: each with a key that may read it, after a second look."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Protocol, Self

from runops.core.client.plain import RunClient
from runops.core.model.errors import RunopsError
from runops.core.model.run import RunRef
from runops.core.waiting import orphans
from runops.core.waiting.orphans import Act, Orphan, Standing, Suspect

OpenClient = Callable[[str, str | None], RunClient]
"""A client for a provider, as a suspect names it, and for the name of a credential."""


class Host(Protocol):
    """What knows who has submitted what, and who waits."""

    def suspects(self) -> Iterable[Suspect]:
        """All that was submitted in the time that is looked at, and that nothing waits for."""
        ...

    def still_left(self, suspect: Suspect) -> bool:
        """Look again whether nothing waits for a suspect."""
        ...

    def awaits(self, ref: RunRef) -> bool:
        """Whether something waits for a run that it was given, whoever has submitted it."""
        ...

    def cancelled(self, suspect: Suspect, ref: RunRef) -> None:
        """Note that a run was cancelled, so that whoever takes it up again knows it."""
        ...


class OrphanReview:
    """One look at everything that a host has left behind. A context manager: it keeps a client for each key.

    Args:
        host: The host.
        open_client: Opens a client; what it raises makes a suspect unreadable.
        credentials: The names of those credentials alone whose runs are looked at; empty for all.
    """

    def __init__(self, host: Host, open_client: OpenClient, *, credentials: Iterable[str] = ()) -> None:
        self._host = host
        self._open_client = open_client
        self._credentials = frozenset(credentials)
        self._clients: dict[tuple[str, str | None], RunClient | RunopsError] = {}
        self._pages: dict[tuple[str, str | None], orphans.Pages] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def find(self) -> Iterator[Orphan]:
        """Each run that is left behind, each that cannot be read, and each lost submit that cannot be told; once."""
        seen: set[RunRef] = set()
        for suspect in self._host.suspects():
            if self._credentials and suspect.credential not in self._credentials:
                continue
            for orphan in self._examine(suspect):
                if orphan.ref is None:
                    yield orphan
                elif orphan.ref not in seen:
                    seen.add(orphan.ref)
                    if not self._host.awaits(orphan.ref):
                        yield orphan

    def cancel(self, orphan: Orphan) -> Orphan:
        """Cancel a run that is left behind, unless something waits for it by now; with what became of that.

        Args:
            orphan: What :meth:`find` gave. What is not proven to be left is never cancelled.
        """
        ref, suspect = orphan.ref, orphan.suspect
        if orphan.standing is not Standing.LEFT or ref is None:
            return orphan
        try:
            client = self._client(suspect)
            waited_for = not self._host.still_left(suspect) or self._host.awaits(ref)
            if waited_for or client.get(ref).run_ended:
                return replace(orphan, act=Act.TAKEN_UP)
            client.cancel(ref)
        except RunopsError as error:
            return replace(orphan, act=Act.FAILED, message=error.text)
        self._host.cancelled(suspect, ref)
        return replace(orphan, act=Act.CANCELLED)

    def _examine(self, suspect: Suspect) -> list[Orphan]:
        try:
            client = self._client(suspect)
            pages = self._pages.setdefault((suspect.provider, suspect.credential), {})
            return client.drive(orphans.examine(client.provider, suspect, pages, clock=client.clock))
        except RunopsError as error:
            return [orphans.unreadable(suspect, error)]

    def _client(self, suspect: Suspect) -> RunClient:
        """The client for a suspect's key; what could not be opened once is not tried again."""
        key = (suspect.provider, suspect.credential)
        found = self._clients.get(key)
        if found is None:
            try:
                found = self._stack.enter_context(self._open_client(*key))
            except RunopsError as error:
                found = error
            self._clients[key] = found
        if isinstance(found, RunopsError):
            raise found
        return found
