"""Twenty tasks on one Nyx config and on one OnePin workflow, in two DAG runs: each gets a run of its own, in turn."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator

import pytest

from demo.processes import Supervisor
from tests.airflow_host.dags.turns import TASKS
from tests.airflow_host.host import TASK_OVER, Host, Outside, until
from tests.airflow_host.postgres import Postgres, programs
from tests.airflow_host.test_host_load import UNHURRIED

pytestmark = pytest.mark.slow

DAG_RUNS = 2
SECONDS = float(os.environ.get("RUNOPS_TURN_SECONDS", "20"))
"""How long each run takes."""


@pytest.fixture(scope="module")
def turns_host(supervisor: Supervisor, outside: Outside, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """Airflow with two triggerers, in which all tasks of a worker may run at once."""
    own = tmp_path_factory.mktemp("turns")
    database = Postgres(supervisor, programs())
    database.start()
    settings = UNHURRIED | {"AIRFLOW__CORE__PARALLELISM": "32"}
    host = Host(supervisor, own, outside.connections(), database=database, triggerers=2, settings=settings)
    host.migrate()
    host.start()
    host.wait_until_healthy()
    yield host
    host.kill(*[name for name, component in host.components.items() if component.process.poll() is None])
    host.close()
    database.stop()


@pytest.mark.parametrize(
    "dags",
    [
        pytest.param({"nyx": "turns_nyx_deferrable", "onepin": "turns_onepin_deferrable"}, id="deferrable"),
        pytest.param({"nyx": "turns_nyx_worker"}, id="nyx in workers"),
        pytest.param({"onepin": "turns_onepin_worker"}, id="onepin in workers"),
    ],
)
def test_all_end_well_one_run_at_a_time_and_nobody_waits_for_long(
    turns_host: Host, outside: Outside, dags: dict[str, str]
) -> None:
    host = turns_host
    host.wait_for_dags(dags.values())
    outside.tell("reset")
    for provider in dags:
        outside.tell("defaults", provider=provider, script="succeeded", seconds=SECONDS)
    began = time.time()
    for dag_id, number in itertools.product(dags.values(), range(DAG_RUNS)):
        host.trigger(dag_id, f"{dag_id}_{number}", {})
    everyone = len(dags) * DAG_RUNS * TASKS
    limit = 3 * DAG_RUNS * TASKS * SECONDS + 120
    until("all tasks are over", limit, lambda: len(_states(host, dags, *TASK_OVER)) == everyone, pause=2.0)
    assert set(_states(host, dags, *TASK_OVER)) == {"success"}
    for provider in dags:
        runs = sorted((run["created"], run["changed"]) for run in outside.runs() if run["provider"] == provider)
        assert len(runs) == DAG_RUNS * TASKS
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(runs))
        whole = sum(end - start for start, end in runs)
        # The turn of the last one came when its run began.
        longest = runs[-1][0] - began
        refused = len(outside.requests(provider=provider, action="submit", status="409"))
        looks = len(outside.requests(provider=provider, action="list")) + len(
            outside.requests(provider=provider, action="latest")
        )
        print(
            f"\n{provider}: {len(runs)} runs of {SECONDS:.0f} s; the longest wait for a turn took {longest:.0f} s, "
            f"{longest / whole:.2f} times the sum; {refused} refusals, {looks} looks at lists"
        )
        assert longest <= 1.5 * whole


def _states(host: Host, dags: dict[str, str], *states: str) -> list[str]:
    assert host.database is not None
    rows = host.database.query(
        "SELECT state FROM task_instance WHERE dag_id = ANY(%s) AND state = ANY(%s)", list(dags.values()), list(states)
    )
    return [row[0] for row in rows]
