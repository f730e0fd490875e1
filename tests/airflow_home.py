"""An Airflow home of this process: Airflow reads its settings where it is imported, so this comes before."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

# Where Airflow has been imported before, as in `make mutants`, its settings name a home already.
HOME = Path(os.environ.pop("RUNOPS_AIRFLOW_HOME", "") or tempfile.mkdtemp(prefix="runops-airflow-"))
os.environ["AIRFLOW_HOME"] = str(HOME)
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "False"
os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = str(HOME / "dags")
# A busy machine may take long to read a DAG file, and to let go of the database.
os.environ["AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT"] = "300"
os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = f"sqlite:///{HOME / 'airflow.db'}?timeout=120"
