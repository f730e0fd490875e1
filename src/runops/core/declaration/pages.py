"""Lists of runs: the requests for their pages, and what a page shows.

A page is read entry by entry, so that one that cannot be read does not spoil the others. An entry without a readable
status still counts by its id, since its own route tells the rest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, cast

from pydantic import ValidationError

from runops.core.declaration.address import check_id
from runops.core.declaration.body import RunBody
from runops.core.declaration.decode import Observation, Reader, at, decoded, malformed
from runops.core.declaration.routes import Listing, Request, Route, no_such
from runops.core.model.codes import Code
from runops.core.model.errors import ConfigurationError, MalformedAnswer
from runops.core.model.run import RunRef

NO_STATUS = "without a status"
"""Stands for the state of a run that a list shows by its id, but without a readable status."""


@dataclass(frozen=True, slots=True)
class Page:
    """What a page of a list showed.

    Args:
        observations: Its runs, as the provider orders them.
        unread: What stands for each entry that names no run: a digest, since nothing else tells it from others.
        date: When it was answered, by the service's own clock in unix seconds; None where that is not known.
    """

    observations: list[Observation]
    unread: tuple[str, ...] = ()
    date: float | None = None


@dataclass(frozen=True, slots=True)
class Pages:
    """The lists of one provider; a declaration with a listing makes its own.

    Args:
        name: The provider's name.
        title: The name that people know.
        listing: Where it lists runs.
        reader: Reads its runs.
    """

    name: str
    title: str
    listing: Listing
    reader: Reader

    # --- requests ---

    def parent(self, parent: str | Mapping[str, str]) -> dict[str, str]:
        """A parent by its kind, checked.

        Args:
            parent: The parent's id or name, or ``{kind: id}`` where the provider knows several kinds.

        Raises:
            ConfigurationError: The kind is unknown, or none or several are given.
        """
        kinds = self.listing.parent_kinds
        given = {kinds[0]: parent} if isinstance(parent, str) else dict(parent)
        if len(given) != 1 or not set(given) <= set(kinds):
            raise ConfigurationError(
                f"A parent of {self.title} runs is one of {', '.join(kinds)}, not {list(given)}.",
                error_code=Code.UNKNOWN_NAME,
            )
        return {kind: check_id(kind, value) for kind, value in given.items()}

    def request(self, parent: Mapping[str, str], page: int = 0) -> Request:
        """The request for a page of the list.

        Args:
            parent: The parent by its kind; empty for all runs that the credential sees, where the list shows them.
            page: Which page; the first is 0. Without effect where each page says where the next one is.

        Raises:
            ConfigurationError: An id cannot stand in a path.
        """
        listing = self.listing
        first = self._request(listing.route, parent)
        if listing.filtered or not parent:
            first = replace(first, parent=None)
        if page == 0 or listing.paging not in ("offset", "page"):
            return first
        return self._turned(first, page + 1 if listing.paging == "page" else page * (listing.page_size or 0))

    def next_request(self, parent: Mapping[str, str], page: int, content: bytes) -> Request | None:
        """The request for the page after one that came; None where that was the last one.

        Args:
            parent: As :meth:`request` takes it.
            page: How many pages came.
            content: The last one.

        Raises:
            MalformedAnswer: The last one is not JSON.
        """
        if not self.listing.follows:
            return self.request(parent, page)
        place = at(decoded(content), self.listing.next)
        if not isinstance(place, (str, int)) or isinstance(place, bool) or place == "":
            return None
        first = self.request(parent)
        return replace(first, url=str(place), query={}) if self.listing.paging == "next" else self._turned(first, place)

    def latest_request(self, parent: Mapping[str, str]) -> Request | None:
        """The request for a parent's newest run alone, where a route answers it."""
        latest = self.listing.latest
        if latest is None or not set(latest.holes) <= set(parent):
            return None
        return replace(self._request(latest, parent), alone=True)

    def _request(self, route: Route, parent: Mapping[str, str]) -> Request:
        named = ", ".join(f"{kind} {value}" for kind, value in parent.items()) or "all parents"
        description = f"list of {self.title} runs of {named}"
        return Request(
            route.method, route.fill(parent), description, route.query, route.json, no_such(parent), parent=parent
        )

    def _turned(self, first: Request, place: str | int) -> Request:
        """The request for a later page."""
        name = self.listing.parameter or self.listing.paging or ""
        if first.json is not None:
            return replace(first, json={**first.json, name: place})
        return replace(first, query={**first.query, name: str(place)})

    # --- answers ---

    def read(self, content: bytes, parent: Mapping[str, str]) -> Page:
        """The runs on one page of the list. An entry that cannot be read does not spoil the others.

        Args:
            content: The body.
            parent: The parent whose runs are wanted; empty for all on the page.

        Raises:
            MalformedAnswer: It is not the documented page.
            AnotherRun: All runs on it are of another parent, where its address names the parent.
            ConfigurationError: The page names no parents of the kind asked for.
        """
        bodies: list[RunBody] = []
        unread: list[str] = []
        for item in self.items(content):
            try:
                bodies.append(self._body(item))
            except MalformedAnswer:
                unread.append(blake2b(json.dumps(item, sort_keys=True).encode(), digest_size=8).hexdigest())
        if unread and not bodies:
            raise MalformedAnswer("No entry of the list of runs is as documented.")
        if self.listing.filtered and parent:
            bodies = _of_parent(bodies, parent)
        elif parent:
            self._check_parent(bodies, parent)
        return Page([self._observe(body, parent) for body in bodies], tuple(unread))

    def items(self, content: bytes) -> list[object]:
        """What stands on a page of the list, as it came; :meth:`observe` reads one of it.

        Raises:
            MalformedAnswer: It is not the documented page.
        """
        found = at(decoded(content), self.listing.items)
        if not isinstance(found, list):
            where = f" at {'.'.join(self.listing.items)}" if self.listing.items else ""
            raise MalformedAnswer(f"The list of runs has no array{where}.")
        return cast("list[object]", found)

    def observe(self, item: object, parent: Mapping[str, str]) -> Observation:
        """What an item of a page says; a run that is over in an unknown word has a reading without a meaning.

        Raises:
            MalformedAnswer: It is not the documented object.
        """
        return self._observe(self._body(item), parent)

    def read_latest(self, content: bytes, parent: Mapping[str, str]) -> Observation:
        """The one run that the ``latest`` route of the listing answered.

        Raises:
            MalformedAnswer: It is not the documented object.
            AnotherRun: It is a run of another parent.
        """
        body = self._body(decoded(content))
        self._check_parent([body], parent)
        return self._observe(body, parent)

    def _observe(self, body: RunBody, parent: Mapping[str, str]) -> Observation:
        parents = {name: parent[name] for name in self.reader.parents}
        return self.reader.observe_listed(RunRef(provider=self.name, run_id=body.run_id, parents=parents), body)

    def _body(self, item: object) -> RunBody:
        try:
            return self.reader.body.model_validate(item)
        except ValidationError as error:
            body = self._without_status(item)
            if body is None:
                raise malformed("list of runs", error, self.reader.body) from None
            return body

    def _without_status(self, item: object) -> RunBody | None:
        """A run that is known by its id at least, in a word that no table holds; its own route tells the rest."""
        name = self.reader.body.model_fields["status"].validation_alias or "status"
        if not isinstance(item, dict) or not isinstance(name, str):
            return None
        try:
            return self.reader.body.model_validate({**cast("dict[str, Any]", item), name: NO_STATUS})
        except ValidationError:
            return None

    def _check_parent(self, bodies: list[RunBody], parent: Mapping[str, str]) -> None:
        (kind,) = parent
        named = [names for body in bodies if (names := body.belongs_to(kind))]
        self.reader.check_parent(f"list of {self.title} runs of {kind} {parent[kind]}", parent, named)


def _of_parent(bodies: list[RunBody], parent: Mapping[str, str]) -> list[RunBody]:
    ((kind, wanted),) = parent.items()
    names = [body.belongs_to(kind) for body in bodies]
    if bodies and all(name is None for name in names):
        raise ConfigurationError(
            f"The list of runs carries no {kind}, so runs cannot be found by it: this API answers in another shape. "
            "Name the parent by another kind."
        )
    return [body for body, known in zip(bodies, names, strict=True) if known and wanted in known]
