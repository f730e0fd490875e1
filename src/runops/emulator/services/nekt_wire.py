"""How Nekt speaks: its key, its errors, its slashes and its pages, whatever they tell of."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from runops.emulator.api import Api, RefusedError
from runops.emulator.runs import Run
from runops.emulator.wire import Answer, Request

LONGEST_PAGE = 18
"""Digits of a page's number."""


class NektWire(Api):
    """What the handlers of all its routes share."""

    name = "nekt"
    title = "Nekt"
    state_field = "status"
    over = frozenset({"success", "failed", "canceled"})
    parent_name = "pipeline"
    default_parent = "orders-extractor"
    digits = 6

    def read_key(self, request: Request) -> str | None:
        """Return the key of ``x-api-key``."""
        return request.headers.get("x-api-key") or None

    def error(self, status: int, message: str, code: str | None = None) -> Answer:
        """Write an error in Nekt's body."""
        return Answer.json(status, {"detail": message} if code is None else {"detail": message, "code": code})

    def not_found(self, request: Request) -> Answer:
        """Send a path that lacks its slash to the one with it."""
        slashed = [*request.segments, ""]
        if any(route.match(slashed) is not None for route in self.routes):
            query = f"?{request.query_text}" if request.query_text else ""
            return Answer(301, b"", {"location": f"{request.root_path}{request.path}/{query}"})
        return super().not_found(request)

    def find_run(self, request: Request) -> Run:
        """Return the run named in the path."""
        run = self.store.lookup(request.params["run_id"])
        if run is None:
            raise RefusedError(self.error(404, "Not found."))
        return run

    def paged(self, request: Request, rows: list[dict[str, Any]], size: int) -> Answer:
        """Answer the page that ``page`` names, of so many rows.

        Raises:
            RefusedError: With 404 if there is no such page.
        """
        text = request.query.get("page", "1")
        pages = max(1, -(-len(rows) // size))
        if not text.isdecimal() or len(text) > LONGEST_PAGE or not 1 <= int(text) <= pages:
            raise RefusedError(self.error(404, "Invalid page."))
        number = int(text)
        return Answer.json(
            200,
            {
                "count": len(rows),
                "next": _page_url(request, number + 1) if number < pages else None,
                "previous": _page_url(request, number - 1) if number > 1 else None,
                "results": rows[(number - 1) * size : number * size],
            },
        )


def _page_url(request: Request, number: int) -> str:
    query = {name: value for name, value in request.query.items() if name != "page"}
    if number > 1:
        query["page"] = str(number)
    return f"{request.root_url}{request.path}" + (f"?{urlencode(query)}" if query else "")
