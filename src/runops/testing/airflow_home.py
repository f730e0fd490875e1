"""A home and a database for Airflow that belong to one session of pytest: ``dag.test()`` needs both.

Asked for by a setting of pytest, ``runops_airflow_dags = "dags"``. Airflow reads its settings when it is imported, so
they are set before any conftest.py or test is.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sqlite3
import sys
import tempfile
import warnings
from contextlib import closing
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

DATABASE = "airflow.db"
KEPT_IN = "runops-airflow"
"""Where pytest's cache keeps an empty database: to make one takes longer than most tests."""


def make_home(config: pytest.Config, folder: str) -> None:
    """Lead Airflow to a home of this session, in a temporary folder; once imported, it looks nowhere else.

    Args:
        config: Of the session.
        folder: Where the DAGs are, relative to the root of the project.

    Raises:
        UsageError: Airflow is imported already, or there is no such folder.
    """
    import pytest

    dags = config.rootpath / folder
    if not dags.is_dir():
        raise pytest.UsageError(f"runops_airflow_dags names {folder!r}, and there is no folder {dags}.")
    if "airflow" in sys.modules:
        raise pytest.UsageError(
            "runops_airflow_dags comes too late: a plugin or an option -p has imported airflow before it. Set "
            "AIRFLOW_HOME and run `airflow db migrate` yourself, and leave the setting out."
        )
    home = Path(tempfile.mkdtemp(prefix="runops-airflow-"))
    # Airflow closes its sessions at exit, so this is registered before it registers that.
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    os.environ |= {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / DATABASE}",
    }


def make_database(config: pytest.Config) -> None:
    """Fill the database with Airflow's tables, by a copy of one that an earlier session has made if there is one.

    Args:
        config: Of the session.
    """
    home = Path(os.environ["AIRFLOW_HOME"])
    kept = _kept(config)
    if kept is not None and kept.exists():
        _copy(kept, home / DATABASE)
        return
    with warnings.catch_warnings():
        # What Airflow and its packages say about themselves while they are imported is not about the tests.
        warnings.simplefilter("ignore")
        from airflow.utils.db import initdb

        initdb()
    if kept is not None:
        partly = kept.with_name(f"{kept.name}.{os.getpid()}")
        _copy(home / DATABASE, partly)
        partly.replace(kept)


def _copy(source: Path, target: Path) -> None:
    # By SQLite itself: what was written last may stand in a file beside the database.
    with closing(sqlite3.connect(source)) as there, closing(sqlite3.connect(target)) as here:
        there.backup(here)


def _kept(config: pytest.Config) -> Path | None:
    cache = getattr(config, "cache", None)
    try:
        return None if cache is None else cache.mkdir(KEPT_IN) / f"{version('apache-airflow-core')}.db"
    except PackageNotFoundError:
        return None
