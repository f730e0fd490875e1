"""OnePin's workflows and what they tell of their runs: the list, one of them, the summary, the estimate.

Routes and fields are those that the source of the official client (PyPI ``onepin`` 0.9.0 to 0.16.1) asks for and
reads. Workflows are not made here: there is the default one, and one for each workflow that has had a run.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from runops.emulator.api import RefusedError, Route, invalid_field
from runops.emulator.runs import timestamp
from runops.emulator.services.onepin_files import TOTAL_MS
from runops.emulator.services.onepin_results import DEFINITION, estimate

if TYPE_CHECKING:
    from runops.emulator.services.onepin_wire import OnepinWire
    from runops.emulator.wire import Answer, Request

MADE = "2024-04-20T14:00:00Z"
ACTIVE = frozenset({"running", "paused"})
SORTS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "name": (lambda row: row["name"], "asc"),
    "updated_at": (lambda row: row["updated_at"], "desc"),
    "runs_count": (lambda row: row["runs_count"], "desc"),
}
"""What a list may be sorted by, each with its usual direction."""
FILTERS: dict[str, Callable[[str | None], bool]] = {
    "draft": lambda last: last is None,
    "running": lambda last: last in ACTIVE,
    "completed": lambda last: last == "completed",
    "failed": lambda last: last == "failed",
    # Taken, and without any result: the client says so.
    "paused": lambda last: False,
}
"""What a workflow's status is, by the state of its newest run."""


class OnepinWorkflows:
    """The handlers of these routes.

    Args:
        api: The API whose workflows they are.
    """

    def __init__(self, api: OnepinWire) -> None:
        self.api = api

    def routes(self, workflow: str) -> Iterable[Route]:
        """Return the routes; ``workflow`` is the path of one."""
        yield Route("GET", "/api/v1/workflows", "workflows", self._list)
        yield Route("GET", workflow, "workflow", self._workflow)
        yield Route("POST", f"{workflow}/estimate", "preview", self._preview)
        yield Route("POST", f"{workflow}/runs/preview", "preview", self._preview)
        yield Route("GET", f"{workflow}/runs/summary", "summary", self._summary)

    def _list(self, request: Request) -> Answer:
        limit, offset = self.api.limits_of(request)
        parents = [run.parents["workflow_id"] for run in self.api.store.children()]
        rows = [self._row(workflow_id) for workflow_id in dict.fromkeys([*parents, self.api.default_parent])]
        rows = _sorted(_filtered(rows, request), request)
        page = rows[offset : offset + limit]
        full = request.query.get("include_definition", "").lower() == "true"
        page = [{**row, "definition": DEFINITION if full else None} for row in page]
        return self.api.page(request, page, limit=limit, offset=offset, total=len(rows))

    def _workflow(self, request: Request) -> Answer:
        row = self._row(self.api.check_parent(request.params["workflow_id"], "Workflow"))
        return self.api.data({**row, "definition": DEFINITION})

    def _row(self, workflow_id: str) -> dict[str, Any]:
        runs = self.api.store.children(workflow_id)
        last = runs[0] if runs else None
        return {
            "id": workflow_id,
            "user_id": self.api.user_id,
            "name": self.api.workflow_name,
            "name_source": "user",
            "description": None,
            "created_at": MADE,
            "updated_at": timestamp(last.changed, self.api.digits) if last else MADE,
            "runs_count": len(runs),
            "last_run_at": last.fields.get("created_at") if last else None,
            "last_run_status": last.state if last else None,
            "run_status_counts": self.api.counts(runs),
        }

    def _preview(self, request: Request) -> Answer:
        self.api.check_parent(request.params["workflow_id"], "Workflow")
        return estimate(self.api)

    def _summary(self, request: Request) -> Answer:
        runs = self.api.store.children(self.api.check_parent(request.params["workflow_id"], "Workflow"))
        since, until = _window(request, "from", "to")
        runs = [run for run in runs if since <= run.created <= until]
        counts = self.api.counts(runs)
        judged = counts["completed"] + counts["failed"]
        lengths = [
            length for run in runs if run.state == "completed" and (length := self.api.active_ms(run)) is not None
        ]
        return self.api.data(
            {
                "total_runs": len(runs),
                **counts,
                "pass_rate": counts["completed"] / judged if judged else None,
                "delivered_audio_ms": TOTAL_MS * counts["completed"],
                "average_duration_seconds": sum(lengths) / len(lengths) / 1000 if lengths else None,
            }
        )


def _filtered(rows: list[dict[str, Any]], request: Request) -> list[dict[str, Any]]:
    status, search = request.query.get("status"), request.query.get("search", "").lower()
    if status is not None and status not in FILTERS:
        raise RefusedError(invalid_field("query", "status", f"Input should be one of {', '.join(FILTERS)}"))
    since, until = _window(request, "last_run_after", "last_run_before")
    bounded = {"last_run_after", "last_run_before"} & set(request.query)
    failed = request.query.get("has_failed_run", "").lower()

    def wanted(row: dict[str, Any]) -> bool:
        last = row["last_run_at"]
        return (
            (status is None or FILTERS[status](row["last_run_status"]))
            and search in row["name"].lower()
            and (not bounded or (last is not None and since <= dt.datetime.fromisoformat(last).timestamp() <= until))
            and (not failed or (row["run_status_counts"]["failed"] > 0) == (failed == "true"))
        )

    return [row for row in rows if wanted(row)]


def _sorted(rows: list[dict[str, Any]], request: Request) -> list[dict[str, Any]]:
    """Sort by several fields: ``sort`` and ``order`` are lists that go together."""
    given = parse_qsl(request.query_text)
    sorts = [value for name, value in given if name == "sort"] or ["updated_at"]
    orders = [value for name, value in given if name == "order"]
    if unknown := [name for name in sorts if name not in SORTS]:
        raise RefusedError(
            invalid_field("query", "sort", f"Input should be one of {', '.join(SORTS)}, not {unknown[0]}")
        )
    if set(orders) - {"asc", "desc"}:
        raise RefusedError(invalid_field("query", "order", "Input should be 'asc' or 'desc'"))
    rows = sorted(rows, key=lambda row: row["id"])
    for place, name in reversed(list(enumerate(sorts))):
        key, usual = SORTS[name]
        rows.sort(key=key, reverse=(orders[place] if place < len(orders) else usual) == "desc")
    return rows


def _window(request: Request, since: str, until: str) -> tuple[float, float]:
    """Read two times, in seconds since the epoch; without one there is no bound."""
    bounds = [float("-inf"), float("inf")]
    for place, name in enumerate((since, until)):
        text = request.query.get(name)
        if text is None:
            continue
        try:
            moment = dt.datetime.fromisoformat(text)
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            raise RefusedError(invalid_field("query", name, "Input should be a datetime with an offset from UTC"))
        bounds[place] = moment.timestamp()
    if bounds[0] > bounds[1]:
        raise RefusedError(invalid_field("query", since, f"Input should not be after {until}"))
    return bounds[0], bounds[1]
