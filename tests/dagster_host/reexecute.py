"""Re-executes a Dagster run by ``execute_job``: ``reexecute.py RUN_ID [whole]``. It prints the id of the new run."""

from __future__ import annotations

import sys
from pathlib import Path

import dagster as dg
from dagster._core.definitions.reconstruct import ReconstructableRepository

if __name__ == "__main__":
    repository = ReconstructableRepository.for_file(str(Path(__file__).with_name("host_definitions.py")), "defs")
    with dg.DagsterInstance.get() as instance:
        parent = sys.argv[1]
        run = instance.get_run_by_id(parent)
        assert run is not None
        whole = "whole" in sys.argv[2:]
        options = dg.ReexecutionOptions(parent) if whole else dg.ReexecutionOptions.from_failure(parent, instance)
        job = repository.get_reconstructable_job(run.job_name)
        with dg.execute_job(job, instance, reexecution_options=options, raise_on_error=False) as result:
            print(result.run_id)
