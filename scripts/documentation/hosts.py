"""Settings under which both hosts can be imported to be described, without a trace in anybody's home."""

from __future__ import annotations

import os
import tempfile


def without_a_home() -> None:
    """Airflow makes a folder where it is imported: an empty one of this build, and no example DAGs."""
    os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="runops-docs-")
    os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
