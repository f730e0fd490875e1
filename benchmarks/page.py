"""``python -m benchmarks.page``: how fast the page "External runs" answers, beside Airflow's list of task instances.

A database of 10,000 runs (``benchmarks.stored_runs``), Airflow's own API server application in this process, and both
lists asked in turn in the same run, through all of its middlewares: the same number of rows, the newest first. With
``--url`` and ``--token`` a server that is up already is measured over HTTP instead.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "build" / "page.json"
AT_MOST = 1.5
"""How many times the time of Airflow's own list the page's may take."""
OWN = "/api/v2/dags/~/dagRuns/~/taskInstances"
PAGE = "/runops/api/runs"

ASKED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # What of both lists is the same question: Airflow's parameters, and ours.
    "newest 50": ({"limit": 50, "order_by": "-start_date"}, {"limit": 50}),
    "newest 100": ({"limit": 100, "order_by": "-start_date"}, {"limit": 100}),
    "page 100 of 100": ({"limit": 100, "order_by": "-start_date", "offset": 9_900}, {"limit": 100, "offset": 9_900}),
    "a search": (
        {"limit": 50, "order_by": "-start_date", "dag_id_pattern": "%pay%"},
        {"limit": 50, "q": "pay"},
    ),
    "one state": ({"limit": 50, "order_by": "-start_date", "state": "deferred"}, {"limit": 50, "open": "true"}),
}

LISTS = ("newest 50", "newest 100", "page 100 of 100")
"""What is the same list on both sides, for which :data:`AT_MOST` holds. Airflow's filters ask columns of their own, and
ours look into the stored records: those figures are for comparison."""


def measure(
    ask: Callable[[str], dict[str, Any]], *, times: int = 15, pause: float = 0.0
) -> dict[str, dict[str, float]]:
    """The medians of both lists, in ms, and how many times the first the second is.

    Args:
        ask: Gives the JSON that a path gives: :func:`over_http`.
        times: How often each is asked; all questions to the page together stay below its limit for a minute.
        pause: Seconds between two rounds.
    """
    found: dict[str, dict[str, float]] = {}
    for name, (own, ours) in ASKED.items():
        took: dict[str, list[float]] = {OWN: [], PAGE: []}
        totals: dict[str, int] = {}
        for round_number in range(times + 2):
            for path, asked in ((OWN, own), (PAGE, ours)):
                began = time.perf_counter()
                answer = ask(f"{path}?{urlencode(asked)}")
                # The first two fill caches: connections, prepared statements, DAGs.
                if round_number >= 2:
                    took[path].append((time.perf_counter() - began) * 1000)
                totals[path] = answer["total_entries" if path == OWN else "total"]
            time.sleep(pause)
        own_ms, page_ms = (statistics.median(took[path]) for path in (OWN, PAGE))
        found[name] = {
            "airflow_ms": round(own_ms, 1),
            "page_ms": round(page_ms, 1),
            "ratio": round(page_ms / own_ms, 2),
            "airflow_total": totals[OWN],
            "page_total": totals[PAGE],
        }
    return found


@contextmanager
def in_process(count: int, database: str | None) -> Iterator[Callable[[str], dict[str, Any]]]:
    """Asks Airflow's API server application over so many stored runs, as an admin.

    Args:
        count: Stored runs.
        database: SQLAlchemy's address of an empty database; sqlite if None.
    """
    with tempfile.TemporaryDirectory(prefix="runops-page-") as folder:
        os.environ |= {
            "AIRFLOW_HOME": folder,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database or f"sqlite:///{folder}/airflow.db",
        }
        fill(count)
        from airflow.api_fastapi.app import create_app
        from fastapi.testclient import TestClient

        logging.disable(logging.INFO)
        with TestClient(create_app(apps="core")) as client:
            token = client.get("/auth/token").json()["access_token"]

            def ask(path: str) -> dict[str, Any]:
                answer = client.get(path, headers={"Authorization": f"Bearer {token}"})
                assert answer.status_code == 200, answer.text
                return answer.json()

            yield ask


def fill(count: int) -> None:
    """Make Airflow's tables in an empty database, and write DAGs and so many runs."""
    from airflow import settings
    from airflow.models import DagModel, import_all_models
    from airflow.models.base import Base
    from airflow.models.dagbundle import DagBundleModel
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.sdk import DAG
    from airflow.serialization.serialized_objects import LazyDeserializedDAG
    from airflow.utils.session import create_session

    from benchmarks.stored_dags.names import DAG_IDS, PARENTS, TASKS
    from benchmarks.stored_dags.stored_runs import SENSORS
    from benchmarks.stored_runs import stored, write

    import_all_models()
    tables: Any = Base
    tables.metadata.create_all(settings.engine)
    with create_session() as session:
        session.add(DagBundleModel(name="benchmark"))
        session.flush()
        for provider, dag_id in DAG_IDS.items():
            with DAG(dag_id, schedule=None) as dag:
                for task_id in TASKS[provider]:
                    parents = PARENTS[provider] if provider == "onepin" else {}
                    SENSORS[provider](task_id=task_id, run_id="given", deferrable=True, **parents)
            session.add(DagModel(dag_id=dag_id, bundle_name="benchmark", fileloc="benchmark.py", is_paused=False))
            session.flush()
            SerializedDagModel.write_dag(LazyDeserializedDAG.from_dag(dag), bundle_name="benchmark", session=session)
    with create_session() as session:
        write(list(stored(count, count // 50, datetime.now(UTC), 13)), session)


def over_http(url: str, token: str) -> Callable[[str], dict[str, Any]]:
    """Asks a server that is up.

    Args:
        url: The API server.
        token: Of somebody who may see everything.
    """

    def ask(path: str) -> dict[str, Any]:
        request = urllib.request.Request(f"{url}{path}", headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())

    return ask


def shown(found: dict[str, dict[str, float]]) -> str:
    """A table for people."""
    lines = [f"{'question':<18} {'Airflow':>10} {'page':>10} {'ratio':>7} {'rows':>8}"]
    for name, each in found.items():
        lines.append(
            f"{name:<18} {each['airflow_ms']:>7.1f} ms {each['page_ms']:>7.1f} ms {each['ratio']:>7.2f} "
            f"{each['page_total']:>8.0f}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.page", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="stored runs (default: 10,000)")
    parser.add_argument("--database", help="SQLAlchemy's address of an empty database (default: sqlite)")
    parser.add_argument("--url", help="an API server that is up already")
    parser.add_argument("--token", help="the token of somebody there who may see everything")
    asked = parser.parse_args(arguments)
    if asked.url:
        found = measure(over_http(asked.url.rstrip("/"), asked.token or ""))
    else:
        with in_process(asked.count, asked.database) as ask:
            found = measure(ask)
    print(shown(found))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    slow = {name: found[name]["ratio"] for name in LISTS if found[name]["ratio"] > AT_MOST}
    if slow:
        raise SystemExit(f"more than {AT_MOST} times Airflow's own list: {slow}")


if __name__ == "__main__":
    main()
