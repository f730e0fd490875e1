"""Runs what a block made of Airflow: its DAGs, and tasks that stand in none, with ``dag.test()`` in this process."""

from __future__ import annotations

import importlib
import sys
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from scripts.documentation.blocks import Block
from tests.docs.world import World


@cache
def database() -> None:
    """Make Airflow's database, once in a process."""
    from airflow.configuration import conf
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.utils.db import initdb

    Path(conf.get("core", "dags_folder")).mkdir(parents=True, exist_ok=True)
    initdb()
    DagBundlesManager().sync_bundles_to_db()
    with warnings.catch_warnings():
        # Airflow imports a test client of starlette that deprecates itself.
        warnings.simplefilter("ignore")
        importlib.import_module("airflow.api_fastapi.execution_api.app")


def hurry(patch: pytest.MonkeyPatch) -> None:
    """No wait on a worker and no deferral lasts longer than it must."""
    from runops.airflow import runs_sensor, submission, task_base, tasks
    from runops.airflow.many import drive

    for module in (tasks, runs_sensor, drive, submission):
        patch.setattr(module, "WORKER_SECONDS", 0.1)
    patch.setattr(task_base, "EARLIEST_SECONDS", 0.0)
    patch.setattr(task_base, "heartbeat_seconds", lambda: 0.0)


@contextmanager
def collected(block: Block) -> Iterator[list[Any]]:
    """The DAGs that the block makes: those that its file would give to Airflow, and one of all tasks in none."""
    from airflow.sdk import DAG
    from airflow.sdk.definitions._internal.contextmanager import DagContext

    module = types.ModuleType(block.name)
    sys.modules[block.name] = module
    around = DAG(block.name, schedule=None)
    before = set(DagContext.autoregistered_dags)
    DagContext.current_autoregister_module_name = block.name
    made: list[Any] = []
    try:
        with around:
            yield made
    finally:
        DagContext.current_autoregister_module_name = None
        del sys.modules[block.name]
        new = DagContext.autoregistered_dags - before
        DagContext.autoregistered_dags -= new
    made += sorted((dag for dag, _ in new if dag.tasks), key=lambda dag: dag.dag_id)


def run_dags(dags: list[Any], block: Block, world: World) -> None:
    """Run each DAG; its tasks end as the comment says, and succeed where it says nothing.

    Raises:
        AssertionError: They do not.
    """
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db

    database()
    only = block.options.get("only")
    ends: dict[str, str] = {}
    for dag in dags:
        if only is not None and dag.dag_id not in only:
            continue
        bag = DagBag(world.folder / "no_dags", bundle_path=world.folder)
        bag.bag_dag(dag)
        sync_bag_to_db(bag, "dags-folder", None)
        dag_run = dag.test(run_conf=world.filled(block.options.get("conf", {})))
        for ti in dag_run.get_task_instances():
            ends[ti.task_id if ti.map_index < 0 else f"{ti.task_id}[{ti.map_index}]"] = str(ti.state)
    assert ends or only == []
    expected = dict.fromkeys(ends, "success") | block.options.get("ends", {})
    assert ends == expected, f"{block.where}: tasks end otherwise than the page says"
