"""What an import brings with it, and the public names. Each question is asked in a fresh process."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

import runops
import runops.core

PUBLIC = [
    "DEFAULT_VERDICTS",
    "NYX_AUDIT",
    "NYX_GATE",
    "PROVIDERS",
    "AnswerError",
    "AsyncRunClient",
    "AuthError",
    "Call",
    "ConfigurationError",
    "ConflictError",
    "FinalError",
    "NotSupported",
    "Outcome",
    "OutcomePolicy",
    "Phase",
    "PollingError",
    "Progress",
    "Provider",
    "RequestRefused",
    "RunClient",
    "RunInPhase",
    "RunNotFound",
    "RunRef",
    "RunResult",
    "RunSnapshot",
    "RunopsError",
    "StateTable",
    "SubmitUncertainError",
    "TransientError",
    "UnknownStateError",
    "Verdict",
    "WrongState",
    "find",
]

# Hides packages from a process, as if they were not installed.
WITHOUT = """
import sys
class Hiding:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in {missing!r} else self.finder.find_spec(name, path, target)
sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]
"""


def answer(code: str) -> Any:
    """What a fresh process prints last, as JSON."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def brought(statement: str, *, after: str = "") -> set[str]:
    """The modules that a statement imports, beyond those that another one has imported before it."""
    return set(
        answer(
            f"import json, sys\n{after}\nbefore = set(sys.modules)\n{statement}\n"
            "print(json.dumps(sorted(set(sys.modules) - before)))"
        )
    )


def packages(names: set[str]) -> set[str]:
    """The top-level packages that do not come with Python."""
    tops = {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names)
    return {top for top in tops if not top.startswith("_sysconfigdata")}


def test_the_public_names_of_the_core_change_only_on_purpose() -> None:
    assert runops.core.__all__ == PUBLIC
    for name in PUBLIC:
        assert getattr(runops.core, name) is not None


def test_the_root_package_holds_its_version_and_brings_nothing() -> None:
    assert answer("import json, runops\nprint(json.dumps([n for n in vars(runops) if n[:1] != '_']))") == []
    assert brought("import runops") == {"runops"}


@pytest.mark.long
def test_the_core_brings_no_package_beyond_httpx_and_pydantic() -> None:
    extra = packages(brought("import runops.core", after="import httpx, pydantic")) - {"runops"}
    # Both load parts of themselves, and of what they need, when they are first used.
    theirs = {"annotated_types", "anyio", "certifi", "h11", "httpcore", "httpx", "pydantic", "pydantic_core"}
    assert extra <= theirs


@pytest.mark.long
def test_the_core_brings_no_host_no_emulator_and_no_command_line() -> None:
    loaded = brought("import runops.core")
    assert "runops.core.providers.nekt" in loaded
    assert {name for name in loaded if name.startswith(("runops.airflow", "runops.dagster"))} == set()
    assert {name for name in loaded if name.startswith(("runops.emulator", "runops.cli"))} == set()


@pytest.mark.long
def test_the_emulator_brings_nothing_of_the_core() -> None:
    loaded = brought("import runops.emulator, runops.emulator.app, runops.emulator.server")
    assert {name for name in loaded if name.startswith("runops.core")} == set()


@pytest.mark.parametrize("argv", [["--help"], ["get", "--help"], ["--version"]])
def test_help_answers_without_loading_the_core(argv: list[str]) -> None:
    loaded = answer(
        f"import json, sys\nfrom runops.cli import main\nassert main({argv!r}) == 0\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    assert {"httpx", "pydantic", "runops.core"} & set(loaded) == set()


@pytest.mark.parametrize(
    ("side", "host", "name"),
    [("airflow", "airflow", "NexioRunSensor"), ("dagster", "dagster", "NexioResource")],
)
class TestASide:
    def test_importing_it_brings_no_host_and_nothing_else(self, side: str, host: str, name: str) -> None:
        assert packages(brought(f"import runops.{side}")) == {"runops"}

    @pytest.mark.long
    def test_without_its_host_it_names_the_extra_to_install(self, side: str, host: str, name: str) -> None:
        told = answer(
            WITHOUT.format(missing={host}) + f"import json, runops.{side}\n"
            f"try:\n    runops.{side}.{name}\n"
            "except ImportError as error:\n    print(json.dumps(str(error)))"
        )
        assert f"pip install 'runops[{side}]'" in told

    def test_a_name_that_does_not_exist_is_an_attribute_error(self, side: str, host: str, name: str) -> None:
        told = answer(
            WITHOUT.format(missing={host}) + f"import json, runops.{side}\n"
            f"try:\n    runops.{side}.Nonsense\n"
            "except AttributeError as error:\n    print(json.dumps(str(error)))"
        )
        assert "Nonsense" in told

    def test_its_public_names_are_listed_without_the_host(self, side: str, host: str, name: str) -> None:
        listed = answer(
            WITHOUT.format(missing={host}) + f"import json, runops.{side}\nprint(json.dumps(dir(runops.{side})))"
        )
        assert name in listed


def test_without_starlette_the_emulator_names_the_extra_to_install() -> None:
    code = WITHOUT.format(missing={"starlette", "uvicorn"}) + (
        "from runops.cli import main\nraise SystemExit(main(['emulate', '--port', '0']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode not in (0, 3)
    assert "pip install 'runops[emulator]'" in done.stderr
    assert "Traceback" not in done.stderr
