"""How B3OS speaks: its envelope, its errors and its pages, whatever they tell of."""

from __future__ import annotations

from typing import Any

from runops.emulator.api import Api, RefusedError
from runops.emulator.wire import Answer, BadJsonError, Request

LONGEST_PAGE = 100
"""Rows."""


class B3osWire(Api):
    """What the handlers of all its routes share."""

    name = "b3os"
    title = "B3OS"
    state_field = "status"
    over = frozenset({"success", "failure", "cancelled"})
    parent_name = "workflow_id"
    default_parent = "wf_emulated"

    def error(self, status: int, message: str, code: str | None = None) -> Answer:
        """Write an error in B3OS's body."""
        if code is not None:
            return Answer.json(status, {"success": False, "error": {"message": message, "code": code}})
        return Answer.json(status, {"code": status, "message": message, "requestId": self.request_id("b3-")})

    def body_of(self, request: Request) -> dict[str, Any]:
        """Read a body, which may be empty.

        Raises:
            RefusedError: With 400 if it is no JSON object.
        """
        try:
            return request.json_object(empty_allowed=True)
        except BadJsonError as problem:
            raise RefusedError(self.error(400, str(problem))) from problem

    def paged(self, request: Request, rows: list[dict[str, Any]]) -> Answer:
        """Answer one page of rows.

        Raises:
            RefusedError: With 400 if ``limit`` or ``offset`` makes no sense.
        """
        try:
            limit, offset = self.page_of(request, default=20, maximum=LONGEST_PAGE, cut=True)
        except ValueError as problem:
            raise RefusedError(self.error(400, str(problem))) from problem
        more = offset + limit < len(rows)
        page = {"items": rows[offset : offset + limit], "limit": limit, "offset": offset, "hasMore": more}
        return self.data(page, code=0)

    def data(self, data: Any, code: int = 200) -> Answer:
        """Write an answer in B3OS's envelope."""
        return Answer.json(200, {"code": code, "data": data, "message": "success", "requestId": self.request_id("b3-")})
