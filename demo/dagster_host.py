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
from demo.story import (
    FAILED,
    FAILED_CHECK,
    MATERIALIZED,
    MATERIALIZED_WITH_WARNING,
    NOT_RUN,
    NOTHING,
    REPORTED,
    REPORTED_WITH_ERROR,
    SKIPPED,
)

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
"""One process for all steps: the default starts one for each, which takes seconds. A project says so by itself."""


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
        self,
        name: str,
        definitions: Path | str,
        job: str,
        config: Mapping[str, Any],
        *,
        partition: str | None = None,
        **variables: str,
    ) -> Component:
        """Execute a job in a process of its own.

        Args:
            name: The name by which the run is found again.
            definitions: The file with the definitions, or the module.
            job: The job's name.
            config: Its run config.
            partition: The partition that it works on.
            **variables: Further environment variables.
        """
        config_file = self.home / f"{name}.json"
        config_file.write_text(json.dumps({**config, **(IN_PROCESS if isinstance(definitions, Path) else {})}))
        tags = {TAG: name} | ({"dagster/partition": partition} if partition else {})
        command = [sys.executable, "-m", "dagster", "job", "execute", *_where(definitions), "--job", job]
        command += ["--config", str(config_file), "--tags", json.dumps(tags)]
        return self._supervisor.start(
            f"dagster-{name}",
            command,
            environment={**self.environment, **variables},
            folder=self.home,
            may_fail=True,
        )

    def start_daemon(self, module: str, location: str) -> Component:
        """Let the sensors of a module run, and the runs that they ask for.

        Args:
            module: The module with the definitions.
            location: The name of the code location.
        """
        workspace = self.write_workspace(
            "daemon", {"python_module": {"module_name": module, "location_name": location}}
        )
        command = [str(Path(sys.executable).with_name("dagster-daemon")), "run", "-w", str(workspace)]
        return self._supervisor.start("dagster-daemon", command, environment=self.environment, folder=self.home)

    def write_workspace(self, name: str, *locations: Mapping[str, Any]) -> Path:
        """Write down which code a process of Dagster is to load.

        Args:
            name: Whose file it is.
            *locations: As Dagster's ``workspace.yaml`` has them.
        """
        file = self.home / f"workspace-{name}.yaml"
        file.write_text(json.dumps({"load_from": list(locations)}))
        return file

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
        key = dg.AssetKey.from_user_string(asset)
        step = "__".join(key.path)
        events = [event for event in self._events(name) if event.step_key == step]
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

    def check(self, name: str, asset: str, check: str) -> StepResult:
        """What a check said of an asset in a run."""
        key = dg.AssetCheckKey(dg.AssetKey.from_user_string(asset), check)
        found = [
            event.asset_check_evaluation_data for event in self._events(name) if _is(event, "ASSET_CHECK_EVALUATION")
        ]
        said = [evaluation for evaluation in found if evaluation.asset_check_key == key]
        if len(said) != 1:
            return StepResult(f"{len(said)} evaluations", {})
        shown = "check passes" if said[0].passed else "check warns"
        if not said[0].passed and said[0].blocking and said[0].severity is dg.AssetCheckSeverity.ERROR:
            shown = FAILED_CHECK
        return StepResult(shown, _plain(said[0].metadata))

    def steps(self, name: str) -> set[str]:
        """The steps that a run has started."""
        return {str(event.step_key) for event in self._events(name) if _is(event, "STEP_START")}

    def reported(self, asset: str) -> StepResult | None:
        """What is known of an asset, whoever told it; None while there is nothing."""
        key = dg.AssetKey.from_user_string(asset)
        materialized = self._instance.fetch_materializations(key, limit=1).records
        if materialized and (event := materialized[0].asset_materialization):
            return StepResult(REPORTED, _plain(event.metadata))
        observed = self._instance.fetch_observations(key, limit=1).records
        if observed and (event := observed[0].event_log_entry.asset_observation):
            shown = REPORTED_WITH_ERROR if self._is_in_error(key) else "reported, no error"
            return StepResult(shown, _plain(event.metadata))
        return None

    def looks_out(self, automation: str) -> bool:
        """Whether a sensor for automation conditions has looked once: it acts on what changes after that."""
        states = [state for state in self._instance.all_instigator_state() if state.instigator_name == automation]
        return any(getattr(state.instigator_data, "cursor", None) for state in states)

    def _is_in_error(self, key: dg.AssetKey) -> bool:
        """Whether the newest evaluation of an asset's check of its runs is an error."""
        check = dg.AssetCheckKey(key, "runops_outcome")
        newest = self._instance.event_log_storage.get_asset_check_execution_history(check, limit=1)
        event = newest[0].event.dagster_event if newest and newest[0].event else None
        said = event.asset_check_evaluation_data if event else None
        return said is not None and not said.passed and said.severity is dg.AssetCheckSeverity.ERROR

    def _events(self, name: str) -> Iterator[Any]:
        for entry in self._instance.all_logs(self.run(name).run_id):
            if entry.dagster_event is not None:
                yield entry.dagster_event


def _where(definitions: Path | str) -> list[str]:
    if isinstance(definitions, str):
        return ["--module-name", definitions]
    return ["--python-file", str(definitions), "--working-directory", str(definitions.parent)]


def _is(event: Any, kind: str) -> bool:
    return event.event_type == dg.DagsterEventType[kind]


def _plain(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.value for name, value in metadata.items()}
