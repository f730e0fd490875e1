"""A real Airflow with tracing on: each external run is one span below its task's, and asset events name the run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.processes import Supervisor
from runops.airflow._compat import renders_in_triggerer
from tests.airflow_host.conftest import running
from tests.airflow_host.host import TASK_OVER, Host, Outside, Task, until
from tests.collector import Collector

RUN = "traced"
SENSORS = ["poke", "reschedule", "deferrable", *(["started"] if renders_in_triggerer() else []), "ended", "failed"]
WITH_OUTLETS = [name for name in SENSORS if name not in ("ended", "failed")]
END_SECONDS = 240.0


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


@pytest.fixture(scope="module")
def tracing_host(supervisor: Supervisor, folder: Path, outside: Outside, collector: Collector) -> Iterator[Host]:
    """Airflow on sqlite with one triggerer, which sends its spans to this process."""
    own = folder / "traced"
    own.mkdir()
    settings = {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{own}/airflow/airflow.db?timeout=60",
        "AIRFLOW__CORE__PARALLELISM": "8",
        "AIRFLOW__TRACES__OTEL_ON": "True",
        **collector.settings,
        # Airflow 3.1 reads these, and not the standard variables.
        "AIRFLOW__TRACES__OTEL_HOST": "127.0.0.1",
        "AIRFLOW__TRACES__OTEL_PORT": str(collector.port),
    }
    yield from running(Host(supervisor, own, outside.connections(), settings=settings))


@pytest.fixture(scope="module")
def ids(tracing_host: Host, outside: Outside) -> dict[str, str]:
    """The runs by their tasks, after all have ended."""
    host = tracing_host
    host.wait_for_dags(["traced", "traced_reader_poke", "traced_reader_deferrable"])
    scripts = {"failed": "failed", "ended": "succeeded"}
    made = {
        name: outside.tell("runs", provider="nyx", script=scripts.get(name, "exhausted"), seconds=20)["run_id"]
        for name in SENSORS
    }
    host.trigger("traced", RUN, made)

    def over() -> bool:
        states = host.states("traced", RUN)
        return bool(states) and all(state in TASK_OVER for state in states.values())

    until("all tasks have ended", END_SECONDS, over, pause=1.0)
    task = Task("traced", RUN, "submitted")
    submitted = host.value(task)
    assert submitted is not None, host.log(task)
    return {**made, "submitted": submitted["run_id"]}


@pytest.fixture(scope="module")
def spans(ids: dict[str, str], collector: Collector) -> dict[str, list[dict[str, Any]]]:
    """The spans of each task's run, once no more are under way."""
    until("each run has its span", 60, lambda: all(collector.of_runs(run_id) for run_id in ids.values()))
    time.sleep(3.0)
    return {name: collector.of_runs(run_id) for name, run_id in ids.items()}


@pytest.mark.parametrize("name", [*SENSORS, "submitted"])
def test_a_run_is_one_span_in_the_trace_of_its_task(
    name: str, ids: dict[str, str], spans: dict[str, list[dict[str, Any]]], collector: Collector, tracing_host: Host
) -> None:
    (span,) = spans[name]
    told = span["attributes"]
    result = tracing_host.value(Task("traced", RUN, name))
    assert span["name"] == "nyx run"
    assert told["runops.outcome"] == result["outcome"]
    assert told["runops.verdict"] == result["verdict"]
    assert told["runops.spend_unit"] == "USD"
    assert told["runops.spend"] == result["details"]["spent_usd"]
    assert 0 < told["runops.waited_seconds"] < END_SECONDS
    assert abs(span["ended"] - span["began"] - told["runops.waited_seconds"]) < 0.1
    assert span["error"] is (result["verdict"] == "fail")
    # Airflow's own spans of the task: those of its workers and of its trigger stand below the same one.
    airflows = [each for each in collector.spans() if each["attributes"].get("airflow.task_id") == name]
    if airflows:
        assert {each["trace"] for each in airflows} == {span["trace"]}
        assert span["parent"] in {each["parent"] for each in airflows} | {each["span"] for each in airflows}
    assert ids[name] == told["runops.run_id"]


@pytest.mark.parametrize("name", [*SENSORS, "submitted"])
def test_the_requests_about_a_run_bear_one_trace(name: str, ids: dict[str, str], outside: Outside) -> None:
    requests = outside.requests(run_id=ids[name])
    assert requests
    assert len({each["trace_id"] for each in requests}) == 1
    assert all(each["trace_id"] for each in requests)


@pytest.mark.parametrize("name", [*WITH_OUTLETS, "submitted"])
def test_the_stored_asset_event_names_the_run(name: str, ids: dict[str, str], tracing_host: Host) -> None:
    events = tracing_host.ask("GET", "/api/v2/assets/events", limit=100, source_task_id=name)["asset_events"]
    (event,) = [each for each in events if each["source_run_id"] == RUN]
    result = tracing_host.value(Task("traced", RUN, name))
    assert event["extra"]["runops"] == {
        "provider": "nyx",
        "run_id": ids[name],
        "url": result["url"],
        "outcome": result["outcome"],
        "verdict": result["verdict"],
        "spend": result["details"]["spent_usd"],
        "spend_unit": "USD",
    }


@pytest.mark.parametrize("name", ["poke", "deferrable"])
def test_a_dag_that_the_event_starts_reads_which_run_it_was(name: str, ids: dict[str, str], tracing_host: Host) -> None:
    host, dag_id = tracing_host, f"traced_reader_{name}"

    def read() -> Any:
        states = host.states(dag_id)
        return next((task for task, state in states.items() if state == "success"), None)

    (extra,) = host.value(until("the reader has run", 120, read, pause=1.0), "return_value")
    assert extra["runops"]["run_id"] == ids[name]


def test_no_key_is_in_any_span(spans: dict[str, list[dict[str, Any]]], collector: Collector, outside: Outside) -> None:
    keys = [each["password"] for each in outside.connections().values()]
    assert not [span for span in collector.spans() if any(key in str(span) for key in keys)]
