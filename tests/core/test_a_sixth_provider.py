"""A provider more in the package: four files and two edits, and every side has it.

The package is copied, so that Acme stands in it as the five do. What the twin from elsewhere can do, in one file and
without an edit, stands in ``tests/airflow_side/test_acme_from_elsewhere.py``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import runops

ACME = Path(__file__).parent / "acme"
FILES = {
    "core": "core/providers/acme.py",
    "emulator": "emulator/services/acme.py",
    "airflow": "airflow/providers/acme.py",
    "dagster": "dagster/providers/acme.py",
}
RECORD = """\
    "acme": Record(
        title="Acme",
        classes=("Hook", "RunSensor", "RunOperator"),
        docs="https://docs.acme.test",
        base_url="https://api.acme.test",
        key_placeholder="acme_...",
    ),
"""
FOR_TYPES = """\
    from runops.airflow.providers.acme import AcmeHook as AcmeHook
    from runops.airflow.providers.acme import AcmeRunOperator as AcmeRunOperator
    from runops.airflow.providers.acme import AcmeRunSensor as AcmeRunSensor
"""
RESOURCE = "    from runops.dagster.providers.acme import AcmeResource as AcmeResource\n"
EDITS = {
    "airflow/providers/__init__.py": {
        '    "nexio": Record(': RECORD,
        "    from runops.airflow.providers.b3os import B3osHook as": FOR_TYPES,
    },
    "dagster/__init__.py": {"    from runops.dagster.providers.b3os": RESOURCE},
}
"""By file: what is put before which text."""

SERVED = """
import os, sys
from runops.emulator.server import running
with running(seconds=0.2) as server:
    os.environ.update(ACME_API_KEY="acme_key", ACME_BASE_URL=server.base_url("acme"))
    exec(sys.argv[1])
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds runops with Acme in it."""
    root = tmp_path_factory.mktemp("with_acme")
    whole = root / "runops"
    # With what is compiled already: a file that is edited below is newer, and is compiled again.
    shutil.copytree(Path(runops.__file__).parent, whole)
    for name, path in FILES.items():
        assert not (whole / path).exists()
        shutil.copy(ACME / f"{name}.txt", whole / path)
    for path, changes in EDITS.items():
        text = (whole / path).read_text(encoding="utf-8")
        for place, added in changes.items():
            assert text.count(place) == 1, f"{path}: {place!r}"
            text = text.replace(place, added + place)
        (whole / path).write_text(text, encoding="utf-8")
    return root


def run(package: Path, code: str, *, served: bool = False) -> str:
    """What a process prints that has the copied package."""
    argv = [SERVED, code] if served else [code]
    env = {**os.environ, "PYTHONPATH": str(package), "DO_NOT_TRACK": "1"}
    done = subprocess.run(
        [sys.executable, "-c", *argv], cwd=package, env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_it_takes_four_files_and_two_edits() -> None:
    assert (len(FILES), len(EDITS)) == (4, 2)


@pytest.mark.long
def test_it_is_found_with_its_words_and_its_keys(package: Path) -> None:
    shown = run(
        package,
        "from runops.cli import main\nfrom runops.core import PROVIDERS, find\n"
        "from runops.core.model.redaction import clean\n"
        "print(list(PROVIDERS)[-1], find('acme').title, clean('bad key acme_x'), flush=True)\n"
        "assert main(['states', 'acme']) == 0\n",
    )
    first, *table = shown.splitlines()
    assert first == "acme Acme bad key [removed]"
    assert [line.split() for line in table[-4:]] == [
        ["Acme", "QUEUED", "queued", "goes", "on"],
        ["Acme", "ACTIVE", "running", "goes", "on"],
        ["Acme", "DONE", "succeeded", "succeed"],
        ["Acme", "BROKEN", "failed", "fail"],
    ]


@pytest.mark.http
def test_a_client_submits_waits_cancels_and_lists_at_its_emulator(package: Path) -> None:
    shown = run(
        package,
        """
from runops.core import RunClient, find
from runops.core.waiting.listing import listed
acme = find("acme")
with RunClient(acme, token="acme_key", base_url=os.environ["ACME_BASE_URL"]) as client:
    ref = client.submit(acme.call(plant="north"))
    last = client.wait(ref)
    print(last.state, last.outcome, last.url == f"https://acme.test/north/{ref.run_id}")
    server.emulator.set_defaults("acme", script="forever")
    jobs = [client.submit(acme.call(plant="north")) for _ in range(4)]
    client.cancel(jobs[0])
    print(client.wait(jobs[0]).state, client.get(jobs[1]).phase)
    found = client.drive(listed(acme, {"plant": "north"}, since=0.0))
    print(len(found.runs), found.whole, len(client.recent("north")))
""",
        served=True,
    )
    assert shown.splitlines() == ["DONE succeeded True", "BROKEN running", "5 True 2"]


@pytest.mark.http
def test_the_command_line_starts_and_follows_its_runs(package: Path) -> None:
    shown = run(
        package,
        "from runops.cli import main\n"
        "assert main(['submit', 'acme', '--plant', 'north', '--amount', '2', '--wait', '--json']) == 0\n",
        served=True,
    )
    assert '"state": "DONE"' in shown


@pytest.mark.long
@pytest.mark.skipif(find_spec("airflow") is None, reason="needs Airflow")
def test_airflow_has_its_connection_its_sensor_and_its_operator(package: Path) -> None:
    shown = run(
        package,
        """
from runops.airflow import AcmeHook, AcmeRunOperator, AcmeRunSensor
from runops.airflow._provider_info import get_provider_info
kinds = {each["connection-type"]: each["hook-class-name"] for each in get_provider_info()["connection-types"]}
operator = AcmeRunOperator(task_id="job", plant="north")
sensor = AcmeRunSensor(task_id="wait", run_id="J-1")
print(kinds["acme"], AcmeHook.conn_type, sensor.acme_conn_id)
print("plant" in operator.template_fields, operator.operator_extra_links[0].name)
""",
    )
    assert shown.splitlines()[-2:] == [
        "runops.airflow.providers.acme.AcmeHook acme acme_default",
        "True Open in Acme",
    ]


@pytest.mark.http
@pytest.mark.skipif(find_spec("dagster") is None, reason="needs Dagster")
def test_an_asset_of_dagster_runs_it_by_its_resource(package: Path) -> None:
    shown = run(
        package,
        """
import dagster as dg
from runops.dagster import AcmeResource, build_run_asset
resource = AcmeResource(api_key="acme_key", base_url=os.environ["ACME_BASE_URL"])
made = build_run_asset(key="job", resource_key="acme", call={"plant": "north"})
with dg.DagsterInstance.ephemeral() as instance:
    done = dg.materialize([made], resources={"acme": resource}, instance=instance)
print(done.success, done.asset_materializations_for_node("job")[0].metadata["runops/state"].value)
""",
        served=True,
    )
    assert shown.splitlines()[-1] == "True DONE"
