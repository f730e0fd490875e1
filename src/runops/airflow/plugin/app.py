"""The server of the page "External runs": its files, and routes that answer from Airflow's own database.

Routes are plain functions, so they run in threads: none holds up the event loop that the API server shares.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles

from runops.airflow.plugin._compat import SessionDep
from runops.airflow.plugin.charts import charts_of
from runops.airflow.plugin.guard import HEADERS, NOT_KEPT, Headers, Reader
from runops.airflow.plugin.queries import RunQueries
from runops.airflow.plugin.questions import Address, ChartsAsked, RunsAsked, TaskAsked
from runops.airflow.plugin.rights import Rights
from runops.airflow.plugin.rows import Stored, shown, stored, usual_seconds
from runops.core import find
from runops.core.model.errors import ConfigurationError

log = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
"""The built front end: index.html, and what it needs under ``assets/``, with a hash in each name."""
FOREVER = {"cache-control": "public, max-age=31536000, immutable"}

routes = APIRouter()


class Assets(StaticFiles):
    """Files whose names change with what is in them."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """A file, to be kept."""
        response = super().file_response(*args, **kwargs)
        response.headers.update(FOREVER)
        return response


def create_app() -> FastAPI:
    """The application that Airflow mounts."""
    app = FastAPI(title="runops: external runs", docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(routes)
    app.mount("/assets", Assets(directory=STATIC / "assets", check_dir=False))
    app.add_exception_handler(RequestValidationError, _refused)
    app.add_exception_handler(Exception, _broken)
    app.add_middleware(Headers)
    return app


@routes.get("/", include_in_schema=False)
def index(user: Reader) -> FileResponse:
    """The page itself."""
    return FileResponse(STATIC / "index.html", media_type="text/html", headers={"cache-control": "no-cache"})


@routes.get("/api/runs")
def runs(asked: RunsAsked, user: Reader, session: SessionDep) -> dict[str, Any]:
    """One page of runs."""
    rights, queries = _for(user, session)
    total = session.scalar(queries.total(asked)) or 0
    records = stored(session.execute(queries.page(asked))) if total else []
    usual = usual_seconds(queries, records, session)
    now = datetime.now(UTC)
    return {
        "runs": [_shown(each, rights, now, usual) for each in records],
        "total": total,
        "now": now.isoformat(),
    }


@routes.get("/api/run")
def run(asked: TaskAsked, user: Reader, session: SessionDep) -> dict[str, Any]:
    """One run."""
    rights, queries = _for(user, session)
    return row_of(found(Address.of(asked), rights, queries, session), rights, queries, session)


@routes.get("/api/facets")
def facets(user: Reader, session: SessionDep) -> dict[str, Any]:
    """What the filters offer."""
    _, queries = _for(user, session)
    providers, dags, tasks = (
        [str(each) for each in session.scalars(queries.choices(name))] for name in ("provider", "dag_id", "task_id")
    )
    return {"providers": [{"name": name, "title": _title(name)} for name in providers], "dags": dags, "tasks": tasks}


@routes.get("/api/charts")
def charts(asked: ChartsAsked, user: Reader, session: SessionDep) -> dict[str, Any]:
    """How runs ended over days."""
    _, queries = _for(user, session)
    return charts_of(queries, asked, session, datetime.now(UTC))


# --- what the routes share ---


def _for(user: Any, session: Any) -> tuple[Rights, RunQueries]:
    rights = Rights(user)
    return rights, RunQueries(session.get_bind().dialect.name, rights.dags)


def found(address: Address, rights: Rights, queries: RunQueries, session: Any) -> Stored:
    """The record of a task instance.

    :raises HTTPException: 404, where there is none or this person may not see it: which of both is not said.
    """
    row = session.execute(queries.one(address)).one_or_none() if rights.sees(address.dag_id) else None
    record = None if row is None else Stored.of(row)
    if record is None:
        raise HTTPException(404, "There is no such run, or you may not see it.")
    return record


def row_of(record: Stored, rights: Rights, queries: RunQueries, session: Any) -> dict[str, Any]:
    """A record as the page shows it."""
    return _shown(record, rights, datetime.now(UTC), usual_seconds(queries, [record], session))


def _shown(each: Stored, rights: Rights, now: datetime, usual: dict[tuple[str, str], float]) -> dict[str, Any]:
    return shown(each, rights, now, usual.get((each.address.dag_id, each.address.task_id)))


def _title(provider: str) -> str:
    try:
        return find(provider).title
    except ConfigurationError:
        return provider


def _refused(request: Request, error: Exception) -> JSONResponse:
    """What is wrong with a question, without repeating it."""
    errors = error.errors() if isinstance(error, RequestValidationError) else []
    said = [f"{'.'.join(str(part) for part in each['loc'][1:])}: {each['msg']}" for each in errors[:5]]
    return JSONResponse({"detail": "; ".join(said) or "This cannot be read."}, 422)


def _broken(request: Request, error: Exception) -> JSONResponse:
    """An error of ours: the log has it, the browser only that it was one."""
    return JSONResponse(
        {"detail": "The page met an error of its own; the log of the API server has it."}, 500, {**NOT_KEPT, **HEADERS}
    )
