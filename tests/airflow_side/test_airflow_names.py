"""The public names of the Airflow side, and what happens without Airflow."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

import runops.airflow
from runops.airflow import exceptions
from runops.airflow._compat import AirflowException, AirflowFailException, AirflowSensorTimeout
from runops.core.model.codes import Code

NAMES = {
    "NexioHook", "NyxHook", "OnepinHook", "B3osHook", "NektHook", "RunHook",
    "NexioRunSensor", "NyxRunSensor", "OnepinRunSensor", "B3osRunSensor", "NektRunSensor", "RunSensor",
    "NexioRunOperator", "NyxRunOperator", "OnepinRunOperator", "B3osRunOperator", "RunOperator",
    "NyxConfigSensor", "OnepinWorkflowSensor", "B3osWorkflowSensor", "NektPipelineSensor", "RunDiscoverySensor",
    "NexioRunsSensor", "NyxRunsSensor", "OnepinRunsSensor", "B3osRunsSensor", "NektRunsSensor", "RunsSensor",
    "NexioRunsOperator", "NyxRunsOperator", "OnepinRunsOperator", "B3osRunsOperator",
    "RunTrigger", "RunsOperator", "RunsTrigger", "RunFinishedTrigger", "cancel_orphans", "runops_retry_policy",
}  # fmt: skip


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_all_public_names_can_be_imported_and_no_other_is_named() -> None:
    assert set(runops.airflow.__all__) == NAMES
    for name in NAMES:
        assert getattr(runops.airflow, name).__name__ == name
    assert set(dir(runops.airflow)) >= NAMES


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="NektRunOperator"):
        _ = runops.airflow.NektRunOperator


def test_importing_the_package_loads_no_host() -> None:
    code = "import sys, runops.airflow; print([name for name in sys.modules if name.startswith(('airflow', 'httpx'))])"
    assert run_python(code).stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["NexioRunSensor", "RunOperator", "RunHook", "RunTrigger"])
def test_without_airflow_a_class_says_what_to_install(name: str) -> None:
    done = run_python(f"import sys; sys.modules['airflow'] = None\nfrom runops.airflow import {name}")
    assert done.returncode == 1
    assert "pip install 'runops[airflow]'" in done.stderr


FINAL = {
    "RunCancelled", "RunRejected", "UnknownStateError", "AuthError", "RunNotFound", "SubmitUncertainError",
    "RequestRefused", "ConfigurationError", "SensorRunFailed",
}  # fmt: skip
RETRIED = {
    "RunFailed", "RunTimedOut", "PollingError", "ServiceUnavailable", "ConflictError", "TriggerCrashed",
}  # fmt: skip


def test_every_exception_is_airflows_and_retried_as_the_table_says() -> None:
    lines = (exceptions.__doc__ or "").splitlines()
    column = next(line.index("retried by Airflow") for line in lines if "retried by Airflow" in line)
    for name in FINAL | RETRIED:
        kind: Any = getattr(exceptions, name)
        assert issubclass(kind, AirflowException)
        assert issubclass(kind, AirflowFailException) == (name in FINAL)
        row = next(line for line in lines if line.startswith(f"``{name}``"))
        assert row[column:].startswith("no " if name in FINAL else "yes"), row


def test_a_sensors_timeout_is_both_ours_and_airflows() -> None:
    assert issubclass(exceptions.SensorTimedOut, exceptions.RunTimedOut)
    assert issubclass(exceptions.SensorTimedOut, AirflowSensorTimeout)


def test_every_error_of_the_core_has_its_place_here() -> None:
    from runops.core.model import errors

    for kind in vars(errors).values():
        if not (isinstance(kind, type) and issubclass(kind, errors.RunopsError)):
            continue
        if kind in (errors.RunopsError, errors.AnswerError):
            continue
        made = kind.__new__(kind)
        made.args = ("a text",)
        assert type(exceptions.as_airflow(made)) is not AirflowException, kind


def test_an_error_of_no_kind_keeps_its_text_and_its_code() -> None:
    from runops.core.model.errors import RunopsError

    ours: Any = exceptions.as_airflow(RunopsError("It is odd."))
    assert (type(ours), ours.error_code) == (exceptions.RunopsException, Code.UNEXPECTED_ERROR)
    assert str(ours) == "It is odd. [unexpected-error]"
