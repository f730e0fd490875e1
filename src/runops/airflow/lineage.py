"""What OpenLineage learns of a task, where its package is installed. Nothing else of runops loads that package."""

from __future__ import annotations

from typing import Any

from runops.core import RunResult


def facets(result: RunResult) -> Any:
    """The external run of a task, as an ``OperatorLineage`` with the standard facet for queries outside of Airflow.

    :param result: How the run ended.
    """
    from airflow.providers.openlineage.extractors import OperatorLineage
    from openlineage.client.facet_v2 import external_query_run

    facet = external_query_run.ExternalQueryRunFacet(externalQueryId=result["run_id"], source=result["provider"])
    return OperatorLineage(run_facets={"externalQuery": facet})
