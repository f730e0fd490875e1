"""Runs the providers' own published clients against the emulator, and writes what came of it.

``make official-clients`` installs each version of OnePin's client into an environment of its own below build/clients,
from a package index. Nyx's command line and B3OS's MCP server are on none: they are tried where ``RUNOPS_NYX`` and
``RUNOPS_B3OS_MCP`` name what you have built from their repositories. The table of docs/project/official_clients.md is
written anew; what was not tried keeps the line that it had.
"""

from __future__ import annotations

import datetime as dt
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "project" / "official_clients.md"
BUILD = ROOT / "build" / "clients"
ONEPIN = ("0.9.0", "0.13.0", "0.16.1")
CLIENTS = {
    **{f"onepin {version}": f"onepin-{version}]" for version in ONEPIN},
    "nyx 0.1.8": "test_nyx_client",
    "b3os-mcp 0.1.8, its calls replayed": "test_b3os_client",
    "b3os-mcp 0.1.8 itself": "test_each_tool_of_the_client_itself",
}
"""Each client, and what its tests have in their names."""
TESTS = ("test_onepin_versions.py", "test_nyx_client.py", "test_b3os_client.py")


def main() -> int:
    """Install what can be installed, run the tests, and write the table."""
    pythons = [environment(version) for version in ONEPIN]
    results = BUILD / "results.xml"
    variables = {**os.environ, "RUNOPS_ONEPIN": os.pathsep.join(map(str, pythons))}
    command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={results}", "-p", "no:cacheprovider"]
    tests = [f"tests/emulator/{name}" for name in TESTS]
    code = subprocess.run([*command, *tests], cwd=ROOT, env=variables, check=False).returncode
    write(results)
    return code


def environment(version: str) -> Path:
    """The interpreter of an environment that has a version of OnePin's client; it is made where there is none."""
    folder = BUILD / f"onepin-{version}"
    python = folder / "bin" / "python"
    uv = Path(sys.executable).with_name("uv")
    if not python.exists():
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder], check=True)
    subprocess.run([uv, "pip", "install", "--quiet", "--python", python, f"onepin=={version}"], check=True)
    return python


def write(results: Path) -> None:
    """Write the table of the page from the results of the tests."""
    text = PAGE.read_text(encoding="utf-8")
    table = re.search(r"(<!-- clients -->\n).*?(<!-- end -->)", text, re.DOTALL)
    assert table is not None, f"{PAGE} has lost the marks of its table"
    known = dict(re.findall(r"^\| ([^|]+?) +\| (.*) \|$", table[0], re.MULTILINE))
    lines = ["| client | tried | passed | failed |", "|---|---|---|---|"]
    for client, part in CLIENTS.items():
        lines.append(f"| {client} | {counted(results, client, part) or known.get(client, 'not yet | | ')} |")
    print("\n".join(lines))
    PAGE.write_text(text.replace(table[0], table[1] + "\n".join(lines) + "\n" + table[2]), encoding="utf-8")


def counted(results: Path, client: str, part: str) -> str | None:
    """When a client was tried and how many of its tests passed and failed, or None where none was run."""
    found = {"passed": 0, "failed": 0}
    for case in ElementTree.parse(results).getroot().iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        itself = CLIENTS["b3os-mcp 0.1.8 itself"] in name
        if part not in name or case.find("skipped") is not None or (itself and "itself" not in client):
            continue
        broken = case.find("failure") is not None or case.find("error") is not None
        found["failed" if broken else "passed"] += 1
    today = dt.datetime.now(dt.UTC).date()
    return f"{today} | {found['passed']} | {found['failed']}" if any(found.values()) else None


if __name__ == "__main__":
    sys.exit(main())
