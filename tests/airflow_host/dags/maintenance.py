"""The maintenance DAG of the examples, as it stands; Airflow reads only files that name airflow and a DAG."""

from __future__ import annotations

from example_dags.example_orphans import maintenance

__all__ = ["maintenance"]
