"""What is built, and that each extra installs and works alone, in environments that hold nothing else."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from email.message import Message
from email.parser import Parser
from pathlib import Path, PurePosixPath

import pytest

import runops

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements" / "dev.lock"
UV = Path(sys.executable).with_name("uv")


def run(*command: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A command that nothing of this process reaches: neither its settings nor its source tree."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_"))}
    if ssl.create_default_context().cert_store_stats()["x509_ca"]:
        environment.setdefault("UV_SYSTEM_CERTS", "1")
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600, check=False)


class TestTheLocks:
    def test_they_name_no_index_and_no_folder_of_anyone(self) -> None:
        for lock in (ROOT / "requirements").glob("*.lock"):
            text = lock.read_text(encoding="utf-8")
            assert "://" not in text
            assert "--index-url" not in text
            assert "--find-links" not in text
            assert " @ " not in text

    def test_every_package_has_a_hash(self) -> None:
        lines = LOCK.read_text(encoding="utf-8").splitlines()
        pins = [number for number, line in enumerate(lines) if "==" in line and not line.startswith((" ", "#"))]
        assert len(pins) > 100
        assert all(lines[number + 1].strip().startswith("--hash=sha256:") for number in pins)

    def test_setup_uses_the_uv_that_is_locked(self) -> None:
        (pinned,) = [
            line.split()[0]
            for line in (ROOT / "requirements" / "uv.lock").read_text(encoding="utf-8").splitlines()
            if line.startswith("uv==")
        ]
        assert any(line.split()[:1] == [pinned] for line in LOCK.read_text(encoding="utf-8").splitlines())


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the sdist, and the wheel that was built from that sdist."""
    folder = tmp_path_factory.mktemp("built")
    done = run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="session")
def wheel(built: Path) -> Path:
    (found,) = built.glob("*.whl")
    return found


@pytest.mark.packaging
class TestTheWheel:
    def names(self, wheel: Path) -> set[str]:
        with zipfile.ZipFile(wheel) as archive:
            return set(archive.namelist())

    def metadata(self, wheel: Path) -> Message:
        with zipfile.ZipFile(wheel) as archive:
            (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
            return Parser().parsestr(archive.read(name).decode())

    def test_it_holds_the_package_its_types_and_its_licence_and_nothing_else(self, wheel: Path) -> None:
        names = self.names(wheel)
        info = f"runops-{runops.__version__}.dist-info"
        assert {name.partition("/")[0] for name in names} == {"runops", info}
        assert {"runops/py.typed", f"{info}/licenses/LICENSE", f"{info}/entry_points.txt"} <= names
        assert not any("test" in PurePosixPath(name).parts or name.endswith(".pyc") for name in names)

    def test_it_holds_every_module_of_the_source_tree(self, wheel: Path) -> None:
        source = ROOT / "src"
        modules = {path.relative_to(source).as_posix() for path in (source / "runops").rglob("*.py")}
        assert {name for name in self.names(wheel) if name.endswith(".py")} == modules

    def test_it_holds_the_built_page_of_external_runs_and_not_its_sources(self, wheel: Path) -> None:
        built = ROOT / "src/runops/airflow/plugin/static"
        files = {path.relative_to(ROOT / "src").as_posix() for path in built.rglob("*") if path.is_file()}
        assert {"index.html", "app", "style"} <= {PurePosixPath(name).name.partition("-")[0] for name in files}
        assert files <= self.names(wheel)
        assert not any("node_modules" in name or name.endswith((".ts", ".tsx")) for name in self.names(wheel))

    def test_its_version_is_the_package_s(self, wheel: Path) -> None:
        assert self.metadata(wheel)["Version"] == runops.__version__

    def test_it_asks_for_httpx_and_pydantic_only_and_for_hosts_by_extra(self, wheel: Path) -> None:
        metadata = self.metadata(wheel)
        needed = [text for text in metadata.get_all("Requires-Dist", []) if "extra ==" not in text]
        assert sorted(text.partition("<")[0].partition(">")[0] for text in needed) == ["httpx", "pydantic"]
        assert {"airflow", "dagster", "emulator"} <= set(metadata.get_all("Provides-Extra", []))
        assert metadata["License-Expression"] == "Apache-2.0 AND MIT"

    def test_it_carries_the_licences_of_what_is_built_into_it_and_a_list_of_all_components(self, wheel: Path) -> None:
        info = f"runops-{runops.__version__}.dist-info"
        with zipfile.ZipFile(wheel) as archive:
            notices = archive.read(f"{info}/licenses/src/runops/airflow/plugin/static/THIRD_PARTY.txt").decode()
            found = json.loads(archive.read(f"{info}/sboms/runops.cdx.json"))
        assert "The MIT License" in notices
        assert {component["name"] for component in found["components"]} >= {"preact", "httpx", "pydantic"}


@pytest.mark.packaging
class TestTheSdist:
    def test_it_holds_what_is_needed_to_test_it(self, built: Path) -> None:
        (sdist,) = built.glob("*.tar.gz")
        with tarfile.open(sdist) as archive:
            names = {name.partition("/")[2] for name in archive.getnames()}
        wanted = {"pyproject.toml", "Makefile", "LICENSE", "README.md", "CHANGELOG.md", "requirements/dev.lock"}
        assert wanted <= names
        assert {"tests/conftest.py", "tests/core/test_packaging.py", "scripts/setup_environment.py"} <= names
        assert any(name.startswith("tests/payloads/nexio/") for name in names)
        assert any(name.startswith("example_dags/") for name in names)
        assert {"ui/package-lock.json", "ui/build.mjs", "ui/src/main.tsx"} <= names
        unwanted = {"__pycache__", "node_modules", ".venv", ".git", "dist", "build"}
        assert not any(unwanted & set(PurePosixPath(name).parts) for name in names)


Install = Callable[[str], Path]


@pytest.fixture(scope="session")
def install(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Install:
    """Installs the wheel with an extra, or without, into an environment of its own; the folder of its commands."""
    made: dict[str, Path] = {}

    def install(extra: str) -> Path:
        if extra not in made:
            folder = tmp_path_factory.mktemp("environment") / (extra or "plain")
            asked = f"{wheel}[{extra}]" if extra else str(wheel)
            create = run(UV, "venv", "--quiet", "--python", sys.executable, folder)
            assert create.returncode == 0, create.stderr
            python = folder / "bin" / "python"
            fill = run(UV, "pip", "install", "--quiet", "--python", python, "--constraint", LOCK, asked)
            assert fill.returncode == 0, fill.stderr
            made[extra] = folder / "bin"
        return made[extra]

    return install


@pytest.mark.packaging
class TestInstalledAlone:
    @pytest.mark.parametrize("extra", ["", "emulator", "dagster", "airflow"])
    def test_the_core_the_command_line_and_the_types_are_there(
        self, install: Install, tmp_path: Path, extra: str
    ) -> None:
        commands = install(extra)
        version = run(commands / "runops", "--version", cwd=tmp_path)
        assert version.stdout.strip() == f"runops {runops.__version__}"
        states = run(commands / "runops", "states", "--json", cwd=tmp_path)
        assert len(json.loads(states.stdout)) > 20
        completion = run(commands / "runops", "completion", "bash", cwd=tmp_path)
        assert "complete -o bashdefault -F _shtab_runops runops" in completion.stdout
        typed = "import pathlib, runops; print(pathlib.Path(runops.__file__).with_name('py.typed').exists())"
        assert run(commands / "python", "-c", typed, cwd=tmp_path).stdout.strip() == "True"

    @pytest.mark.parametrize(
        ("installed", "side", "name"),
        [
            ("", "airflow", "NexioRunSensor"),
            ("", "dagster", "NexioResource"),
            ("dagster", "airflow", "NexioRunSensor"),
            ("airflow", "dagster", "NexioResource"),
        ],
    )
    def test_a_side_without_its_host_says_which_extra_to_install(
        self, install: Install, tmp_path: Path, installed: str, side: str, name: str
    ) -> None:
        done = run(install(installed) / "python", "-c", f"from runops.{side} import {name}", cwd=tmp_path)
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith("ImportError: ")
        assert f"pip install 'runops[{side}]'" in last

    def test_emulate_without_its_extra_says_which_one_to_install(self, install: Install, tmp_path: Path) -> None:
        done = run(install("") / "runops", "emulate", "--port", "0", cwd=tmp_path)
        assert done.returncode not in (0, 3)
        assert "pip install 'runops[emulator]'" in done.stderr
        assert "Traceback" not in done.stderr

    def test_the_emulator_serves_the_command_line(self, install: Install, tmp_path: Path) -> None:
        commands = install("emulator")
        with subprocess.Popen(
            [commands / "runops", "emulate", "--port", "0"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
        ) as emulator:
            try:
                assert emulator.stdout is not None
                url = json.loads(emulator.stdout.readline())["url"]
                submit = [commands / "runops", "submit", "nexio", "--engine-slug", "e", "--input", "{}", "--json"]
                settings = {"NEXIO_BASE_URL": f"{url}/nexio", "NEXIO_API_KEY": "key", "PATH": os.defpath}
                done = subprocess.run(
                    submit, cwd=tmp_path, env=settings, capture_output=True, text=True, timeout=60, check=False
                )
            finally:
                emulator.terminate()
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["run_id"]

    @pytest.mark.parametrize(
        ("host", "code"),
        [
            ("airflow", "import runops.airflow as side"),
            ("dagster", "import runops.dagster as side"),
        ],
    )
    def test_with_its_host_every_public_name_of_a_side_loads(
        self, install: Install, tmp_path: Path, host: str, code: str
    ) -> None:
        folder = tmp_path / "home"
        folder.mkdir()
        every = f"import os\nos.environ['AIRFLOW_HOME'] = {str(folder)!r}\n{code}\n"
        done = run(
            *(install(host) / "python", "-c"),
            every + "print(all(getattr(side, name) for name in side.__all__))",
            cwd=tmp_path,
        )
        assert done.stdout.splitlines()[-1:] == ["True"], done.stderr

    def test_airflow_finds_the_provider(self, install: Install, tmp_path: Path) -> None:
        code = (
            "from importlib.metadata import entry_points\n"
            "(found,) = [e for e in entry_points(group='apache_airflow_provider') if e.dist.name == 'runops']\n"
            "info = found.load()()\nprint(info['package-name'], len(info['connection-types']))"
        )
        done = run(install("airflow") / "python", "-c", code, cwd=tmp_path)
        assert done.stdout.split() == ["runops", "6"], done.stderr
