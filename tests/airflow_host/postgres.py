"""A PostgreSQL of our own for the length of a test run: on 127.0.0.1, in a temporary folder. It knows no Airflow."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from demo.processes import Component, Supervisor, clean_environment, free_port

REQUIRED = "RUNOPS_REQUIRE_POSTGRES"
"""With this variable set to 1 a missing PostgreSQL is a failure; otherwise what needs one is skipped."""

DATABASE_USER = "airflow"
START_SECONDS = 60.0
DRIVERS = ("psycopg2", "asyncpg")

FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "128MB",
}
"""Nothing here has to outlive the machine."""


class NoPostgres(Exception):
    """There is no PostgreSQL to be had here; the text says why."""


def programs() -> Path:
    """The folder with ``initdb`` and ``postgres``: from PATH or from the distribution, installed where we may.

    Raises:
        NoPostgres: There is none.
    """
    missing = [name for name in DRIVERS if importlib.util.find_spec(name) is None]
    if missing:
        raise NoPostgres(f"Airflow's drivers for PostgreSQL are not installed: {', '.join(missing)}")
    found = _found_programs()
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        _install()
        found = _found_programs()
    if found is None:
        raise NoPostgres("initdb and postgres are neither in PATH nor below /usr/lib/postgresql")
    return found


def _found_programs() -> Path | None:
    named = shutil.which("initdb")
    folders = [] if named is None else [Path(named).resolve().parent]
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next(
        (folder for folder in folders if all((folder / name).exists() for name in ("initdb", "postgres"))), None
    )


def _install() -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], env=environment, check=False, capture_output=True)
    command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "postgresql"]
    subprocess.run(command, env=environment, check=False, capture_output=True)


class Postgres:
    """One server.

    Args:
        supervisor: Where its process is started.
        binaries: The folder with its programs.
    """

    def __init__(self, supervisor: Supervisor, binaries: Path) -> None:
        self.port = free_port()
        self._supervisor = supervisor
        self._binaries = binaries
        # PostgreSQL refuses to be root, and whoever it is instead cannot look into a folder that is root's.
        self._account = _unprivileged() if os.geteuid() == 0 else None
        self._folder = Path(tempfile.mkdtemp(prefix="runops-postgres-"))
        self._component: Component | None = None
        if self._account is not None:
            os.chown(self._folder, self._account.pw_uid, self._account.pw_gid)

    @property
    def sqlalchemy_url(self) -> str:
        """What Airflow calls the database."""
        return f"postgresql+psycopg2://{DATABASE_USER}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Make a cluster and serve it.

        Raises:
            NoPostgres: It does not start.
        """
        data = self._folder / "data"
        made = subprocess.run(
            self._as_user([
                str(self._binaries / "initdb"), "--pgdata", str(data), "--username", DATABASE_USER, "--auth", "trust",
                "--encoding", "UTF8", "--no-locale", "--no-sync",
            ]),
            env=clean_environment(),
            cwd=self._folder,
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
        if made.returncode != 0:
            raise NoPostgres(f"initdb failed: {made.stderr[-500:]}")
        settings = FAST | {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self._folder),
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = self._as_user([str(self._binaries / "postgres"), "-D", str(data), *options])
        self._component = self._supervisor.start(
            "postgres", command, environment=clean_environment(), folder=self._folder, may_fail=True
        )
        self._wait_until_it_answers(self._component)

    def stop(self) -> None:
        """End it at once; its data go with it."""
        if self._component is not None and self._component.process.poll() is None:
            self._component.process.send_signal(signal.SIGINT)
            self._component.process.wait(20)
        shutil.rmtree(self._folder, ignore_errors=True)

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of a statement."""
        import psycopg2

        connection = psycopg2.connect(host="127.0.0.1", port=self.port, user=DATABASE_USER, dbname="postgres")
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(statement, values)
                return list(cursor.fetchall())
        finally:
            connection.close()

    def hang_up(self, ports: Sequence[int]) -> None:
        """End the sessions of clients that spoke from these ports, as when their machine is gone."""
        self.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE client_port = ANY(%s)", list(ports))

    def _wait_until_it_answers(self, component: Component) -> None:
        import psycopg2

        limit = time.monotonic() + START_SECONDS
        while time.monotonic() < limit and component.process.poll() is None:
            try:
                self.query("SELECT 1")
            except psycopg2.OperationalError:
                self._supervisor.sleep(0.1)
            else:
                return
        raise NoPostgres(f"PostgreSQL does not start:\n{component.last_lines()}")

    def _as_user(self, command: list[str]) -> list[str]:
        if self._account is None:
            return command
        identity = [f"--reuid={self._account.pw_uid}", f"--regid={self._account.pw_gid}", "--clear-groups"]
        return ["setpriv", *identity, *command]


def _unprivileged() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise NoPostgres("PostgreSQL refuses to run as root, and this machine has no user postgres or nobody")
