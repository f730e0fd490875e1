"""What OpenLineage's own extraction makes of our tasks. It needs the package; test_metrics has the shape without it."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("airflow.providers.openlineage", reason="needs apache-airflow-providers-openlineage")

DAG_RUN: Any = SimpleNamespace(dag_id="a_dag", run_id="a_run")


def extracted(task: Any, context: Any, state: str) -> Any:
    from airflow.providers.openlineage.extractors.manager import (
        ExtractorManager,
    )
    from airflow.utils.state import TaskInstanceState

    return ExtractorManager().extract_metadata(
        DAG_RUN, task, task_instance_state=TaskInstanceState(state), task_instance=context["ti"]
    )


@pytest.mark.parametrize(("script", "state"), [("succeeded", "success"), ("failed", "failed"), ("degraded", "skipped")])
def test_the_external_run_is_told_on_every_end_in_every_mode(
    host: Any, sensors: Any, mode: Any, script: str, state: str
) -> None:
    from openlineage.client.serde import Serde

    run = host.made("nexio", script=script)
    task, context = sensors["nexio"](task_id="a_task", **run, **mode), host.context()
    assert extracted(task, context, "running").run_facets == {}
    host.run(task, context)
    told = json.loads(Serde.to_json(extracted(task, context, state).run_facets["externalQuery"]))
    assert (told["externalQueryId"], told["source"]) == (run["run_id"], "nexio")
    assert told["_schemaURL"].startswith("https://openlineage.io/spec/facets/")


def test_what_an_operator_submits_is_not_told(host: Any, operators: Any, calls: Any, key: str) -> None:
    from openlineage.client.serde import Serde

    for provider, arguments in calls.items():
        task, context = operators[provider](task_id="a_task", **arguments), host.context()
        ended = host.run(task, context)
        facets = extracted(task, context, "success").run_facets
        told = json.dumps({name: Serde.to_dict(facet) for name, facet in facets.items()})
        assert ended.xcoms["run_id"] in told
        assert key not in told
        assert "Example Ltd" not in told
