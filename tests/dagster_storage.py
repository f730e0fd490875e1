"""Dagster's storage of runs and events on disk, for as little as its tests need: copied, and flushed by nobody."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, event


@cache
def empty_storage() -> Path:
    """The folder of an instance that has seen nothing: to make its tables takes six times as long as to copy them."""
    folder = Path(tempfile.mkdtemp(prefix="runops-dagster-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with dg.instance_for_test(temp_dir=str(folder)) as made:
        made.get_runs()
    (folder / "dagster.yaml").unlink()
    return folder


def local_instance(folder: Path) -> dg.DagsterInstance:
    """What ``DagsterInstance.local_temp`` gives, in a folder that may be there already."""
    shutil.copytree(empty_storage(), folder, dirs_exist_ok=True)
    return dg.DagsterInstance.local_temp(str(folder))


_read = ScriptDirectory.from_config.__func__
_scripts: dict[str | None, ScriptDirectory] = {}


def _read_once(cls: type[ScriptDirectory], config: Any) -> ScriptDirectory:
    """Dagster asks for its newest migration at each opening of a database, of which each run has one.

    To read them all takes 0.1 s of CPU, and nothing changes them while tests run.
    """
    place = config.get_main_option("script_location")
    if config.config_file_name is None or "dagster" not in config.config_file_name:
        return _read(cls, config)
    if place not in _scripts:
        _scripts[place] = _read(cls, config)
    return _scripts[place]


def _trust_the_machine(connection: Any, record: Any) -> None:
    """Have SQLite write without waiting for the disk: a process that is killed loses nothing by it, a machine may."""
    if type(connection).__module__.startswith("sqlite3"):
        connection.execute("PRAGMA synchronous=OFF").close()


ScriptDirectory.from_config = classmethod(_read_once)  # pyright: ignore[reportAttributeAccessIssue]
event.listen(Engine, "connect", _trust_the_machine)
