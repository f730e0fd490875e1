"""Makes a virtual environment from a lock, with nothing but the standard library. It never touches another one.

Called by make; runs under whatever ``python3`` is there, so it checks that one first and says what is missing.
"""

import argparse
import os
import shutil
import ssl
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements" / "dev.lock"
UV_LOCK = ROOT / "requirements" / "uv.lock"
OLDEST = (3, 11)

# What a user may have set for other projects, and what would lead the installation elsewhere.
MISLEADING = (
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONHOME",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "PIP_PREFIX",
    "PIP_TARGET",
    "PIP_USER",
)


def main() -> None:
    """Make or renew the environment, then install the project into it where that is wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("environment", type=Path, help="folder of the virtual environment")
    parser.add_argument("--wheel", type=Path, help="install this wheel instead of the source tree")
    parser.add_argument("--lock", type=Path, default=LOCK, help="what goes into it; the development lock if not given")
    parser.add_argument("--without-project", action="store_true", help="install the packages of the lock only")
    arguments = parser.parse_args()
    environment = {name: value for name, value in os.environ.items() if name not in MISLEADING}
    if ssl.create_default_context().cert_store_stats()["x509_ca"]:
        # A machine may trust more than uv's own list: a company's proxy, a mirror.
        environment.setdefault("UV_SYSTEM_CERTS", "1")
    try:
        uv = install_packages(arguments.environment, arguments.lock, environment)
        if not arguments.without_project:
            install_project(arguments.environment, uv, arguments.wheel, environment)
    except subprocess.CalledProcessError as error:
        command = " ".join(str(part) for part in error.cmd[:6])
        sys.exit(
            f"Setting up {arguments.environment} failed at: {command} ... (exit code {error.returncode}). Its own "
            "message stands above. A package index must be reachable; behind a mirror, pip reads its usual "
            "configuration and uv reads UV_DEFAULT_INDEX."
        )


def install_packages(folder: Path, lock: Path, environment: "dict[str, str]") -> Path:
    """The environment with what the lock says; returns the uv that did it. Each step is repeatable."""
    python = folder / "bin" / "python"
    if not usable(python):
        create(folder)
    uv = next((each for each in (folder / "bin" / "uv", Path(sys.executable).with_name("uv")) if current(each)), None)
    if uv is None:
        install_uv(python, environment)
        uv = folder / "bin" / "uv"
    print(f"Installing the pinned packages into {folder} (a minute or two the first time) ...", flush=True)
    subprocess.run([uv, "pip", "sync", *into(python), "--require-hashes", lock], env=environment, check=True)
    return uv


def install_project(folder: Path, uv: Path, wheel: "Path | None", environment: "dict[str, str]") -> None:
    """The project itself: as it stands, or a wheel of it."""
    python = folder / "bin" / "python"
    project = [wheel] if wheel else ["--no-build-isolation", "--editable", ROOT]
    subprocess.run(
        [uv, "pip", "install", *into(python), "--no-deps", "--reinstall-package", "runops", *project],
        env={**environment, "PATH": f"{python.parent}{os.pathsep}{environment.get('PATH', os.defpath)}"},
        check=True,
    )


def into(python: Path) -> "list[str | Path]":
    """What tells uv where to, and to be quiet."""
    return ["--quiet", "--python", python, "--compile-bytecode"]


def usable(python: Path) -> bool:
    """Whether an environment is there and young enough."""
    if not python.exists():
        return False
    test = f"import sys; sys.exit(sys.version_info < {OLDEST})"
    return subprocess.run([python, "-c", test], check=False).returncode == 0


def current(uv: Path) -> bool:
    """Whether the pinned uv is there."""
    if not uv.exists():
        return False
    shown = subprocess.run([uv, "--version"], check=False, stdout=subprocess.PIPE, text=True)
    words = shown.stdout.split()
    return len(words) > 1 and f"uv=={words[1]} " in UV_LOCK.read_text(encoding="utf-8")


def create(folder: Path) -> None:
    """A new environment with pip in it."""
    if sys.version_info < OLDEST:
        sys.exit(
            f"runops needs Python {OLDEST[0]}.{OLDEST[1]} or newer, and {sys.executable} is {sys.version.split()[0]}. "
            "Name another one: make setup PYTHON=/path/to/python3.12"
        )
    print(f"Making {folder} with Python {sys.version.split()[0]} ...", flush=True)
    try:
        venv.EnvBuilder(with_pip=True, clear=True, symlinks=True).create(folder)
    except subprocess.CalledProcessError:
        shutil.rmtree(folder, ignore_errors=True)
        sys.exit(
            f"{sys.executable} cannot make virtual environments with pip. On Debian and Ubuntu: "
            "apt install python3-venv. Or name another one: make setup PYTHON=/path/to/python3.12"
        )


def install_uv(python: Path, environment: "dict[str, str]") -> None:
    """The pinned uv, by pip: first as the user has configured pip, then without that configuration."""
    if subprocess.run([python, "-m", "pip", "--version"], check=False, stdout=subprocess.DEVNULL).returncode:
        subprocess.run([python, "-m", "ensurepip"], check=True, env=environment, stdout=subprocess.DEVNULL)
    install = ["install", "--quiet", "--disable-pip-version-check", "--require-hashes", "--requirement", UV_LOCK]
    configured = subprocess.run([python, "-m", "pip", *install], check=False, env=environment)
    if configured.returncode:
        print("Trying again without pip's own configuration ...", flush=True)
        subprocess.run(
            [python, "-m", "pip", "--isolated", *install],
            check=True,
            env={**environment, "PIP_CONFIG_FILE": os.devnull},
        )


if __name__ == "__main__":
    main()
