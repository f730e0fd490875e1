"""The maintenance DAG of the examples, as it stands."""

from __future__ import annotations

from example_dags.example_orphans import maintenance

__all__ = ["maintenance"]
