"""What parsing a DAG file with everything of ours costs in CPU time, beside one with Airflow's own sensors.

Both files make one task of each class. Each is parsed as the dag-processor does it: it imports what a file wants of
Airflow's own modules, and then a forked child parses the file. Bytecode is compiled, and the files take turns, so
that a busy machine slows both alike. Exits 1 when the ratio of the whole is over the budget.

The second figure is what a running dag-processor pays for each further parse: modules that are not Airflow's own are
imported in the child, over and over.
"""

from __future__ import annotations

import compileall
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROUNDS = 9
BUDGET = 1.15
"""Times the CPU time of the file with Airflow's own sensors."""

AIRFLOWS = """
from datetime import datetime, time, timedelta
from airflow.providers.standard.sensors.bash import BashSensor
from airflow.providers.standard.sensors.date_time import DateTimeSensor, DateTimeSensorAsync
from airflow.providers.standard.sensors.external_task import ExternalTaskSensor
from airflow.providers.standard.sensors.filesystem import FileSensor
from airflow.providers.standard.sensors.python import PythonSensor
from airflow.providers.standard.sensors.time import TimeSensor
from airflow.providers.standard.sensors.time_delta import TimeDeltaSensor
from airflow.providers.standard.sensors.weekday import DayOfWeekSensor
from airflow.sdk import DAG

with DAG("airflows", schedule=None):
    BashSensor(task_id="bash", bash_command="true")
    DateTimeSensor(task_id="date_time", target_time="2026-01-01T00:00:00Z")
    DateTimeSensorAsync(task_id="date_time_async", target_time="2026-01-01T00:00:00Z")
    ExternalTaskSensor(task_id="external_task", external_dag_id="another")
    FileSensor(task_id="file", filepath="a_file")
    PythonSensor(task_id="python", python_callable=print)
    TimeSensor(task_id="time", target_time=time(6))
    TimeDeltaSensor(task_id="time_delta", delta=timedelta(hours=1))
    DayOfWeekSensor(task_id="weekday", week_day="Monday")
"""
OURS = """
from airflow.sdk import DAG
from runops.airflow import *

WORKFLOW = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
with DAG("ours", schedule=None):
    NexioRunSensor(task_id="nexio", run_id="a_run")
    NyxRunSensor(task_id="nyx", run_id="a_run")
    OnepinRunSensor(task_id="onepin", workflow_id=WORKFLOW, run_id=WORKFLOW)
    B3osRunSensor(task_id="b3os", run_id="a_run")
    NektRunSensor(task_id="nekt", run_id="a_run")
    NyxConfigSensor(task_id="nyx_config", config_name="nightly")
    OnepinWorkflowSensor(task_id="onepin_workflow", workflow_id=WORKFLOW)
    B3osWorkflowSensor(task_id="b3os_workflow", workflow_id="wf_1")
    NektPipelineSensor(task_id="nekt_pipeline", pipeline="orders")
"""

# A dag-processor that parses one file once, in a forked child: CPU seconds of both, and of the child alone.
PARSED = """
import gc, json, os, resource, sys
from pathlib import Path
from airflow.dag_processing import manager, processor
import structlog
file, log = sys.argv[1], structlog.get_logger()
processor._pre_import_airflow_modules(file, log)
gc.freeze()  # as the manager does before it forks
if not os.fork():
    request = processor.DagFileParseRequest(file=file, bundle_path=Path(file).parent, bundle_name="measured")
    result = processor._parse_file(request, log)
    assert len(result.serialized_dags) == 1, result.import_errors
    sys.stdout.flush()
    os._exit(0)
assert os.wait()[1] == 0
own, child = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
parsing = child.ru_utime + child.ru_stime
print(json.dumps([own.ru_utime + own.ru_stime + parsing, parsing]))
"""


def parsed(file: Path) -> tuple[float, float]:
    """CPU seconds of a fresh dag-processor that parses a file, and of its child alone."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"AIRFLOW_HOME": str(file.parent / "home"), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    done = subprocess.run(
        [sys.executable, "-c", PARSED, str(file)], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{file.name} could not be parsed:\n{done.stdout}{done.stderr}")
    whole, child = json.loads(done.stdout.splitlines()[-1])
    return whole, child


def told(what: str, airflows: list[float], ours: list[float]) -> float:
    """Print one figure of both files; the ratio of the medians."""
    theirs, own = statistics.median(airflows), statistics.median(ours)
    print(f"{what}: Airflow's own sensors {theirs:.3f} s CPU, everything of ours {own:.3f} s CPU: {own / theirs:.2f}")
    return own / theirs


def main() -> int:
    """Measure, print, judge."""
    spec = importlib.util.find_spec("runops")
    assert spec is not None
    for folder in spec.submodule_search_locations or []:
        compileall.compile_dir(folder, quiet=1)
    with tempfile.TemporaryDirectory() as made:
        files = Path(made, "airflows.py"), Path(made, "ours.py")
        for file, text in zip(files, (AIRFLOWS, OURS), strict=True):
            file.write_text(text)
            parsed(file)
        rounds = [[parsed(file) for file in files] for _ in range(ROUNDS)]
    print(f"Medians of {ROUNDS} rounds. The budget of the first ratio is {BUDGET}.")
    ratio = told("a dag-processor that parses it once", *([r[side][0] for r in rounds] for side in (0, 1)))
    told("of that, the child that it forks", *([r[side][1] for r in rounds] for side in (0, 1)))
    return 0 if ratio <= BUDGET else 1


if __name__ == "__main__":
    sys.exit(main())
