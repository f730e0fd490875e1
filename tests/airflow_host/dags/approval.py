"""The example of approvals, with seconds of patience in place of minutes.

It is not imported and built anew: Airflow would find both DAGs, which have one name.
"""

from __future__ import annotations

from pathlib import Path

MINUTES, SECONDS = "PATIENCE = timedelta(minutes=10)", "PATIENCE = timedelta(seconds=3)"

source = (Path(__file__).parents[3] / "example_dags" / "example_approval.py").read_text(encoding="utf-8")
assert MINUTES in source
exec(compile(source.replace(MINUTES, SECONDS), __file__, "exec"))
