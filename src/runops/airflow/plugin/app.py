"""The server of the page "External runs": its files, and routes that answer from Airflow's own database.

Routes are plain functions, so they run in threads: none holds up the event loop that the API server shares.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles

from runops.airflow.plugin import actions
from runops.airflow.plugin._compat import SessionDep
from runops.airflow.plugin.answers import found, of_person, row_of
from runops.airflow.plugin.charts import charts_of
from runops.airflow.plugin.guard import HEADERS, NOT_KEPT, Headers, Reader
from runops.airflow.plugin.questions import Address, ChartsParams, RowsParams, RunsParams, TaskParams
from runops.airflow.plugin.rows import shown, stored, usual_seconds
from runops.airflow.plugin.sets import rows_of_set
from runops.core import find
from runops.core.model.errors import ConfigurationError

STATIC = Path(__file__).parent / "static"
"""The built front end: index.html, and what it needs under ``assets/``, with a hash in each name."""
FOR_NOW = {"cache-control": "no-cache"}
FOREVER = {"cache-control": "public, max-age=31536000, immutable"}
HASHED = re.compile(r"-[0-9a-f]{8,}\.[a-z0-9]+$")
"""The end of a name that changes with what is in the file."""

routes = APIRouter()


class Assets(StaticFiles):
    """Files that anybody may have: what is in them is in the wheel."""

    def lookup_path(self, path: str) -> tuple[str, Any]:
        """The file of a path; none for one that no file can have."""
        try:
            return super().lookup_path(path)
        except ValueError:
            return "", None

    def file_response(self, full_path: Any, *args: Any, **kwargs: Any) -> Response:
        """A file; one whose name changes with what is in it is to be kept for good."""
        response = super().file_response(full_path, *args, **kwargs)
        response.headers.update(FOREVER if HASHED.search(str(full_path)) else FOR_NOW)
        return response


def create_app() -> FastAPI:
    """The application that Airflow mounts."""
    nothing: Any = {"docs_url": None, "redoc_url": None, "openapi_url": None, "redirect_slashes": False}
    app = FastAPI(title="runops: external runs", **nothing)
    app.include_router(routes)
    app.include_router(actions.routes)
    app.mount("/assets", Assets(directory=STATIC / "assets", check_dir=False))
    app.add_exception_handler(RequestValidationError, _refused)
    app.add_exception_handler(Exception, _broken)
    app.add_middleware(Headers)
    return app


@routes.get("/", include_in_schema=False)
def index(user: Reader) -> FileResponse:
    """The page itself."""
    return FileResponse(STATIC / "index.html", media_type="text/html", headers=FOR_NOW)


@routes.get("/api/runs")
def runs(question: RunsParams, user: Reader, session: SessionDep) -> JSONResponse:
    """One page of runs."""
    rights, queries = of_person(user, session)
    page = session.execute(queries.page(question)).all()
    total = page[0].total if page else session.scalar(queries.total(question)) if question.offset else 0
    records = stored(page)
    usual = usual_seconds(queries, records, session)
    now = datetime.now(UTC)
    found_now = [shown(each, rights, now, usual) for each in records]
    # It is JSON already: to look through it for what is none would take as long as the rest.
    return JSONResponse({"runs": found_now, "total": total, "now": now.isoformat()})


@routes.get("/api/run")
def run(question: TaskParams, user: Reader, session: SessionDep) -> dict[str, Any]:
    """One run."""
    rights, queries = of_person(user, session)
    return row_of(found(Address.of(question), rights, queries, session), rights, queries, session)


@routes.get("/api/facets")
def facets(user: Reader, session: SessionDep) -> dict[str, Any]:
    """What the filters offer."""
    _, queries = of_person(user, session)
    providers, dags, tasks = (
        [str(each) for each in session.scalars(queries.choices(name))] for name in ("provider", "dag_id", "task_id")
    )
    return {"providers": [{"name": name, "title": _title(name)} for name in providers], "dags": dags, "tasks": tasks}


@routes.get("/api/charts")
def charts(question: ChartsParams, user: Reader, session: SessionDep) -> dict[str, Any]:
    """How runs ended over days."""
    _, queries = of_person(user, session)
    return charts_of(queries, question, session, datetime.now(UTC))


@routes.get("/api/rows")
def rows(question: RowsParams, user: Reader, session: SessionDep) -> dict[str, Any]:
    """The runs of a set."""
    rights, queries = of_person(user, session)
    return rows_of_set(found(Address.of(question), rights, queries, session), question, session)


def _title(provider: str) -> str:
    try:
        return find(provider).title
    except ConfigurationError:
        return provider


# --- what goes wrong ---


def _refused(request: Request, error: Exception) -> JSONResponse:
    """What is wrong with a question, without repeating it."""
    errors = error.errors() if isinstance(error, RequestValidationError) else []
    problems = [f"{'.'.join(str(part) for part in each['loc'][1:])}: {each['msg']}" for each in errors[:5]]
    return JSONResponse({"detail": "; ".join(problems) or "This cannot be read."}, 422)


def _broken(request: Request, error: Exception) -> JSONResponse:
    """An error of ours: the log has it, the browser only that it was one."""
    return JSONResponse(
        {"detail": "The page met an error of its own; the log of the API server has it."}, 500, {**NOT_KEPT, **HEADERS}
    )
