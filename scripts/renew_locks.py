"""Renews the locks within the bounds of pyproject.toml, for every platform and Python that is supported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV = Path(sys.executable).with_name("uv")
OPTIONS = (
    "--universal",
    "--python-version=3.11",
    "--generate-hashes",
    "--no-emit-index-url",
    "--no-emit-find-links",
    "--custom-compile-command=make lock",
    "--upgrade",
    "--quiet",
)


def main() -> None:
    """Write dev.lock, then uv.lock with the same uv, and the locks of what has an environment of its own."""
    lock = ROOT / "requirements" / "dev.lock"
    compile_pins("pyproject.toml", "--all-extras", "--group=dev", output=lock)
    pins = (line.split()[0] for line in lock.read_text(encoding="utf-8").splitlines() if line.startswith("uv=="))
    compile_pins("-", output=ROOT / "requirements" / "uv.lock", given=next(pins))
    for name in ("bench", "airflow-lowest", "airflow-3.2", "airflow-next", "dagster-lowest", "screenshots"):
        compile_pins(f"requirements/{name}.in", output=ROOT / "requirements" / f"{name}.lock")


def compile_pins(source: str, *more: str, output: Path, given: str | None = None) -> None:
    """One run of uv's resolver."""
    command = [UV, "pip", "compile", source, *more, *OPTIONS, "--output-file", output]
    subprocess.run(command, cwd=ROOT, input=given, text=True, check=True)
    print(f"renewed {output.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
