"""A real Dagster on this machine: its command line executes jobs, its instance is read afterwards."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from demo.processes import Component, DemoError, Supervisor, clean_environment
from demo.story import FAILED, MATERIALIZED, MATERIALIZED_WITH_WARNING, NOT_RUN, NOTHING, SKIPPED

TAG = "runops_demo"
"""The tag by which a run is found again."""

SETTINGS = """
telemetry:
  enabled: false
# Runs that people start in the web interface begin at once: there is no daemon that would take them from a queue.
run_coordinator:
  module: dagster._core.run_coordinator
  class: DefaultRunCoordinator
"""

IN_PROCESS = {"execution": {"config": {"in_process": {}}}}
"""One process for all steps: the default starts one for each, which takes seconds."""


@dataclass(frozen=True)
class StepResult:
    """What the event log says of one asset in one run.

    Args:
        shown: What Dagster shows, in a few words.
        metadata: What stands beside it: at the materialization, the check or the failure.
    """

    shown: str
    metadata: Mapping[str, Any]

    def fact(self, name: str) -> str:
        """A fact about the external run, such as ``outcome``."""
        return str(self.metadata.get(f"runops/{name}", NOTHING))


class Dagster:
    """An instance in a folder of its own.

    Args:
        supervisor: Where the processes are started.
        home: ``DAGSTER_HOME``; created.
        variables: Keys and addresses for the definitions.
    """

    def __init__(self, supervisor: Supervisor, home: Path, variables: Mapping[str, str]) -> None:
        self._supervisor = supervisor
        self.home = home
        home.mkdir()
        (home / "dagster.yaml").write_text(SETTINGS)
        self.environment = clean_environment(DAGSTER_HOME=str(home), **variables)

    def start_job(
        self, name: str, definitions: Path, job: str, config: Mapping[str, Any], **variables: str
    ) -> Component:
        """Execute a job in a process of its own.

        Args:
            name: The name by which the run is found again.
            definitions: The file with the definitions.
            job: The job's name.
            config: Its run config.
            **variables: Further environment variables.
        """
        config_file = self.home / f"{name}.json"
        config_file.write_text(json.dumps({**config, **IN_PROCESS}))
        command = [sys.executable, "-m", "dagster", "job", "execute", "--python-file", str(definitions)]
        command += ["--working-directory", str(definitions.parent), "--job", job, "--config", str(config_file)]
        command += ["--tags", json.dumps({TAG: name})]
        return self._supervisor.start(
            f"dagster-{name}",
            command,
            environment={**self.environment, **variables},
            folder=self.home,
            may_fail=True,
        )

    def read(self) -> DagsterRecords:
        """Open the instance's records."""
        return DagsterRecords(dg.DagsterInstance.from_config(str(self.home)))


class DagsterRecords:
    """What an instance has recorded."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance

    def run(self, name: str) -> dg.DagsterRun:
        """The run that was started under a name.

        Raises:
            DemoError: There is none, or more than one.
        """
        runs = self._instance.get_runs(dg.RunsFilter(tags={TAG: name}))
        if len(runs) != 1:
            raise DemoError(f"Dagster has {len(runs)} runs of {name}.")
        return runs[0]

    def close(self) -> None:
        """Close the instance."""
        self._instance.dispose()

    def result(self, name: str, asset: str) -> StepResult:
        """What became of an asset in a run."""
        key = dg.AssetKey(asset)
        events = [event for event in self._events(name) if event.step_key == asset]
        kinds = {event.event_type for event in events}
        checks = [event.asset_check_evaluation_data for event in events if _is(event, "ASSET_CHECK_EVALUATION")]
        warned = any(not check.passed for check in checks)
        materialized = [event.materialization for event in events if _is(event, "ASSET_MATERIALIZATION")]
        if dg.DagsterEventType.STEP_FAILURE in kinds:
            failures = [event.step_failure_data for event in events if _is(event, "STEP_FAILURE")]
            entries = failures[-1].user_failure_data.metadata if failures[-1].user_failure_data else {}
            return StepResult(FAILED, _plain(entries))
        if materialized:
            found = materialized[-1]
            assert found.asset_key == key
            return StepResult(MATERIALIZED_WITH_WARNING if warned else MATERIALIZED, _plain(found.metadata))
        if warned:
            return StepResult(SKIPPED, _plain(checks[-1].metadata))
        if dg.DagsterEventType.STEP_START not in kinds:
            return StepResult(NOT_RUN, {})
        return StepResult(f"unclear: {', '.join(sorted(kind.value for kind in kinds))}", {})

    def _events(self, name: str) -> Iterator[Any]:
        for entry in self._instance.all_logs(self.run(name).run_id):
            if entry.dagster_event is not None:
                yield entry.dagster_event


def _is(event: Any, kind: str) -> bool:
    return event.event_type == dg.DagsterEventType[kind]


def _plain(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.value for name, value in metadata.items()}
