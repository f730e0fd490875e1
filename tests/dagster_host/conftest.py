"""A whole Dagster: web server, daemon and code server, in processes of their own; the emulator is in this one."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg
import httpx
import pytest

from runops.emulator.server import Server, running
from runops.emulator.store import Emulator

T = TypeVar("T")
FOLDER = Path(__file__).parent
SOURCES = FOLDER.parents[1] / "src"
PARENTS = {"nexio": "engine_slug", "nyx": "config_name", "onepin": "workflow_id", "b3os": "workflow_id"}
SETTINGS = """
telemetry:
  enabled: false
run_coordinator:
  module: dagster._core.run_coordinator
  class: DefaultRunCoordinator
run_retries:
  enabled: true
  max_retries: 0
run_monitoring:
  enabled: true
  poll_interval_seconds: 2
"""
LIKE_DEV = ("--inject-env-vars-from-instance", "--location-name", "host")
"""As Dagster itself starts the server of a code location: with what the secrets loader has."""
WORKSPACE = """
load_from:
  - grpc_server: {{host: 127.0.0.1, port: {port}, location_name: host}}
"""
LAUNCH = """
mutation($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  }
}"""
LAUNCH_AGAIN = """
mutation($params: ReexecutionParams!) {
  launchRunReexecution(reexecutionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  }
}"""
LAUNCH_WITH = """
mutation($params: ExecutionParams!) {
  launchRunReexecution(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  }
}"""
TERMINATE = "mutation($run: String!) { terminateRun(runId: $run) { __typename } }"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if FOLDER in item.path.parents:
            item.add_marker(pytest.mark.dagster_host)


def until(seen: Callable[[], T], what: str, seconds: float = 120) -> T:
    """What ``seen`` gives as soon as it gives something."""
    deadline = time.monotonic() + seconds
    while True:
        found = seen()
        if found:
            return found
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Host:
    """Dagster as a person uses it: what a button of its web interface does, and what its log shows then."""

    until = staticmethod(until)
    first_key = "canary-old-variable-5d1c07"
    """Stands in the variable of a ``.env`` file when the code server begins; workers and steps inherit it."""

    def __init__(
        self,
        url: str,
        instance: dg.DagsterInstance,
        emulator: Emulator,
        folder: Path,
        environment: Mapping[str, str],
    ) -> None:
        self.instance, self.emulator, self.folder = instance, emulator, folder
        self.environment = environment
        self._url = f"{url}/graphql"
        self._http = httpx.Client(timeout=60, trust_env=False)

    def close(self) -> None:
        self._http.close()

    # --- buttons ---

    def launch(self, job: str, parent: str | None = None, tags: Mapping[str, str] | None = None) -> str:
        """Launch a job; the id of its run."""
        config = {"ops": {"external_run": {"config": {"parent": parent}}}} if parent else {}
        params = {
            "selector": {
                "repositoryLocationName": "host",
                "repositoryName": "__repository__",
                "jobName": job,
            },
            "runConfigData": config,
            "mode": "default",
            "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in (tags or {}).items()]},
        }
        return self._run_id(self._ask(LAUNCH, {"params": params})["launchRun"])

    def reexecute(self, run_id: str, strategy: str = "FROM_FAILURE") -> str:
        """Re-execute a run; the id of the new one."""
        params = {"parentRunId": run_id, "strategy": strategy}
        return self._run_id(self._ask(LAUNCH_AGAIN, {"params": params})["launchRunReexecution"])

    def reexecute_with(self, run_id: str, *, steps: Sequence[str] = (), tags: Mapping[str, str] | None = None) -> str:
        """Re-execute a run as the launchpad does, with steps or tags of one's own; the id of the new run."""
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        params = {
            "selector": {
                "repositoryLocationName": "host",
                "repositoryName": "__repository__",
                "jobName": run.job_name,
            },
            "runConfigData": run.run_config,
            "mode": "default",
            "stepKeys": list(steps) or None,
            "executionMetadata": {
                "parentRunId": run_id,
                "rootRunId": run.root_run_id or run_id,
                "tags": [{"key": key, "value": value} for key, value in (tags or {}).items()],
            },
        }
        return self._run_id(self._ask(LAUNCH_WITH, {"params": params})["launchRunReexecution"])

    def reexecute_in_python(self, run_id: str, *options: str) -> str:
        """Re-execute a run by ``dagster.execute_job`` in a process of its own, and wait for its end; its id."""
        command = [sys.executable, str(FOLDER / "reexecute.py"), run_id, *options]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=180, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()[-1]

    def terminate(self, run_id: str) -> None:
        """Press Terminate."""
        answer = self._ask(TERMINATE, {"run": run_id})["terminateRun"]
        assert answer["__typename"] == "TerminateRunSuccess", answer

    def _run_id(self, answer: Mapping[str, Any]) -> str:
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return str(answer["run"]["runId"])

    def _ask(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        reply = self._http.post(self._url, json={"query": query, "variables": variables})
        assert reply.status_code == httpx.codes.OK, reply.text
        said = reply.json()
        assert "errors" not in said, said["errors"]
        return said["data"]

    # --- processes ---

    def ask_to_park(self, parent: str, moment: str) -> None:
        """Let the step that submits for a parent stand still at a moment."""
        (self.folder / f"{parent}.{moment}").touch()

    def parked(self, parent: str) -> bool:
        return (self.folder / f"{parent}.parked").exists()

    def release(self, parent: str) -> None:
        """Let a parked step go on."""
        (self.folder / f"{parent}.parked").unlink(missing_ok=True)

    def kill(self, run_id: str, what: str) -> None:
        """SIGKILL to the run's worker, to its one step, or to both."""
        found = self._processes(run_id)
        for name in ("worker", "step") if what == "both" else (what,):
            os.kill(found[name], signal.SIGKILL)

    def worker_is_gone(self, run_id: str) -> bool:
        try:
            os.kill(self._processes(run_id)["worker"], 0)
        except ProcessLookupError:
            return True
        return False

    def _processes(self, run_id: str) -> dict[str, int]:
        found: dict[str, int] = {}
        for entry in self.instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
            pid = entry.get_dagster_event().engine_event_data.metadata.get("pid")
            if pid is not None and "worker" not in found:
                # The first thing that a worker tells.
                found["worker"] = int(str(pid.value))
        for entry in self.instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_WORKER_STARTED):
            pid = entry.get_dagster_event().engine_event_data.metadata["pid"]
            found["step"] = int(str(pid.value))
        return found

    # --- what is there ---

    def status(self, run_id: str) -> dg.DagsterRunStatus:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run.status

    def ended(self, run_id: str, seconds: float = 120) -> dg.DagsterRunStatus:
        """The status of a run once it is over."""
        over = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
        until(lambda: self.status(run_id) in over, f"the end of {run_id}", seconds)
        return self.status(run_id)

    def first_of(self, parent: str) -> str:
        """The Dagster run that was launched first for a parent."""
        for run in self.instance.get_runs(ascending=True):
            if parent in str(run.run_config):
                return run.run_id
        raise AssertionError(f"no run was launched for {parent}")

    def children(self, run_id: str) -> list[str]:
        """The re-executions of a run."""
        tags = {"dagster/parent_run_id": run_id}
        return [run.run_id for run in self.instance.get_runs(dg.RunsFilter(tags=tags))]

    def log(self, run_id: str) -> str:
        """Everything that people can read of a run."""
        said: list[str] = []
        for entry in self.instance.all_logs(run_id):
            said += [entry.user_message, (entry.dagster_event and entry.dagster_event.message) or ""]
            data = entry.dagster_event.event_specific_data if entry.dagster_event else None
            failure = getattr(data, "user_failure_data", None)
            said += [failure.description] if failure else []
        return "\n".join(said)

    def external(self, provider: str, parent: str) -> list[dict[str, Any]]:
        """The external runs of a parent: as many as submits have started."""
        kind = PARENTS[provider]
        return [run for run in self.emulator.runs(provider=provider) if run["parents"].get(kind) == parent]

    def cancels(self, provider: str, parent: str) -> list[dict[str, Any]]:
        ours = {run["run_id"] for run in self.external(provider, parent)}
        return [each for each in self.emulator.requests(provider=provider, action="cancel") if each["run_id"] in ours]


@pytest.fixture(scope="session")
def served() -> Iterator[Server]:
    with running(seed=23) as server:
        yield server


@pytest.fixture(scope="session")
def whole_dagster(served: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    home, folder = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("exchange")
    code, web = free_port(), free_port()
    (home / "dagster.yaml").write_text(SETTINGS)
    (home / "workspace.yaml").write_text(WORKSPACE.format(port=code))
    environment = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
        "DAGSTER_HOME": str(home),
        "DAGSTER_DISABLE_TELEMETRY": "yes",
        "HOST_FOLDER": str(folder),
        "HOST_URL": served.url,
        "PYTHONPATH": str(SOURCES),
        # As `dg dev` names the folder of a project whose .env the secrets loader reads.
        "DAGSTER_PROJECT_ENV_FILE_PATHS": json.dumps({"host": str(folder)}),
    }
    (folder / ".env").write_text(f"HOST_ROTATED_KEY={Host.first_key}\n")
    definitions = str(FOLDER / "host_definitions.py")
    commands = {
        "code": [
            "dagster",
            "api",
            "grpc",
            "--host",
            "127.0.0.1",
            "--port",
            str(code),
            "--python-file",
            definitions,
            *LIKE_DEV,
        ],
        "web": ["dagster_webserver", "--host", "127.0.0.1", "--port", str(web), "--workspace", "workspace.yaml"],
        "daemon": ["dagster._daemon", "run", "--workspace", "workspace.yaml"],
    }
    with ExitStack() as stack:
        instance = stack.enter_context(dg.DagsterInstance.from_config(str(home)))
        children: list[subprocess.Popen[bytes]] = []
        stack.callback(_end_all, children)
        for name, command in commands.items():
            log = stack.enter_context((home / f"{name}.log").open("wb"))
            child = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=home,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            children.append(child)
            if name == "code":
                until(partial(_listens, code, child), "the code server")
        until(lambda: _listens(web, children[1]), "the web server")
        host = Host(f"http://127.0.0.1:{web}", instance, served.emulator, folder, environment)
        stack.callback(host.close)
        yield host


def _listens(port: int, child: subprocess.Popen[bytes]) -> bool:
    assert child.poll() is None, f"{child.args} has ended with {child.returncode}"
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _end_all(children: list[subprocess.Popen[bytes]]) -> None:
    for child in children:
        # Run workers and steps that outlive them are in the session of the code server.
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait(timeout=30)


@pytest.fixture(scope="module")
def host(whole_dagster: Host) -> Iterator[Host]:
    """The same Dagster for all, which remembers no run, with an emulator that remembers nothing."""
    whole_dagster.emulator.reset()
    for run in whole_dagster.instance.get_runs():
        whole_dagster.instance.delete_run(run.run_id)
    yield whole_dagster
    whole_dagster.emulator.reset()
