"""The example of approvals, as it stands; Airflow reads only files that name airflow and a DAG."""

from __future__ import annotations

from example_dags.example_approval import approval

__all__ = ["approval"]
