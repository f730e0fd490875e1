"""Says whether what is checked out can be released, and what its notes are; the release workflow runs it first.

``python -m scripts.release check --tag v1.2.3`` names everything that is missing, and fails. ``notes`` prints the
section of the changelog.
"""

from __future__ import annotations

import argparse
import hashlib
import ipaddress
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from datetime import UTC, date, datetime
from email.message import Message
from email.parser import Parser
from pathlib import Path
from urllib.parse import urlsplit

import yaml
from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).resolve().parents[1]
WANTED = ("documentation", "source", "issues", "changelog", "security", "conduct")
NOWHERE = {"example", "invalid", "test", "localhost", "local", "internal", "lan"}
"""Top-level names that lead nobody anywhere (RFC 2606, RFC 6762), and the second level of example.com."""
INDEXES = ("pypi.org", "test.pypi.org")
Complaints = Iterator[str]


def main(argv: list[str] | None = None) -> int:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m scripts.release", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="name everything that is missing, and fail")
    check.add_argument("--tag", default=os.environ.get("GITHUB_REF_NAME"), help="by default GITHUB_REF_NAME")
    check.add_argument("--out", type=Path, help="where the sdist and the wheel are put, if nothing is missing")
    commands.add_parser("notes", help="print the changelog's section of this version")
    options = parser.parse_args(argv)
    if options.command == "check":
        return _report(list(complaints(ROOT, options.tag, options.out)))
    print(changes(ROOT).get(version(ROOT), ("", ""))[1])
    return 0


def _report(found: list[str]) -> int:
    for complaint in found:
        print(f"- {complaint}")
    print("Not ready: see docs/project/releasing.md." if found else "Ready.")
    return int(bool(found))


def complaints(root: Path, tag: str | None, out: Path | None = None) -> Complaints:
    """Everything that keeps a checked-out tree from being released.

    Args:
        root: The tree.
        tag: What it is released as.
        out: Where the sdist and the wheel are put, if nothing else is missing.
    """
    found = [
        *addresses(root),
        *tagged(root, tag),
        *changelog(root),
        *citation(root),
        *from_clones(root),
        *tree(root, tag),
        *generated(root),
    ]
    yield from found
    # They hold all of that, so there is nothing to be learnt from them before.
    if not found:
        yield from built(root, out)


def version(root: Path) -> str:
    """The version of the package."""
    found = re.search(r'^__version__ = "(.+)"$', (root / "src/runops/__init__.py").read_text(encoding="utf-8"), re.M)
    assert found is not None
    return found[1]


def addresses(root: Path) -> Complaints:
    """Each address is given, and looks as if it led somewhere."""
    given = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["runops"]["addresses"]
    for name in (*WANTED, *sorted(given.keys() - set(WANTED))):
        address = given.get(name, "")
        why = unreachable(address, mail=name == "conduct")
        if why:
            yield f"[tool.runops.addresses] {name} in pyproject.toml {why}."


def unreachable(address: str, *, mail: bool = False) -> str:
    """Why an address leads nobody anywhere; empty if it may.

    Args:
        address: What is given.
        mail: Whether ``mailto:`` will do.
    """
    if not address:
        return "is empty"
    parts = urlsplit(address)
    host = parts.path.rpartition("@")[2] if mail and parts.scheme == "mailto" else parts.hostname or ""
    if re.search(r"[\s<>{}]|TODO|FIXME", address):
        return f"is a place to fill in: {address!r}"
    if parts.scheme != "https" and not (mail and parts.scheme == "mailto"):
        return f"does not begin with https://: {address!r}"
    if parts.username or parts.password:
        return "holds a name or a password"
    labels = host.split(".")
    if len(labels) < 2 or not all(labels) or labels[-1] in NOWHERE or labels[-2] == "example" or _is_number(host):
        return f"leads nowhere: {address!r}"
    if host in INDEXES:
        return f"leads to a package index: {address!r}"
    return ""


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def tagged(root: Path, tag: str | None) -> Complaints:
    """The tag is the version's."""
    own = version(root)
    try:
        plain = str(Version(own)) == own and not Version(own).is_devrelease and Version(own).local is None
    except InvalidVersion:
        plain = False
    if not plain:
        yield f"the version {own!r} in src/runops/__init__.py is none that an index takes as it stands."
    if tag != f"v{own}":
        yield f"the tag is {tag!r}, and the version is {own}: tag v{own}."


def changes(root: Path) -> dict[str, tuple[str, str]]:
    """The sections of the changelog: for each version its date and its text."""
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    parts = re.split(r"^## \[?([^\]\s]+)\]?(?: - (\S+))?\n", text, flags=re.M)[1:]
    return {name: (day or "", body.strip()) for name, day, body in zip(*[iter(parts)] * 3, strict=True)}


def changelog(root: Path) -> Complaints:
    """The version has a section with its date, and nothing is left under Unreleased."""
    own, sections = version(root), changes(root)
    if re.search(r"^- ", sections.get("Unreleased", ("", ""))[1], re.M):
        yield f"CHANGELOG.md has entries under Unreleased: move them to [{own}]."
    if own not in sections:
        yield f"CHANGELOG.md has no section [{own}]."
        return
    day, body = sections[own]
    if not body:
        yield f"CHANGELOG.md says nothing under [{own}]."
    try:
        future = date.fromisoformat(day) > datetime.now(UTC).date()
    except ValueError:
        yield f"CHANGELOG.md gives [{own}] no date: ## [{own}] - YYYY-MM-DD."
        return
    if future:
        yield f"CHANGELOG.md dates [{own}] {day}, which is still to come."


def citation(root: Path) -> Complaints:
    """CITATION.cff names this version and its day."""
    given = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    own = version(root)
    if str(given.get("version")) != own:
        yield f"CITATION.cff names version {given.get('version')}, not {own}."
    day = changes(root).get(own, ("", ""))[0]
    if str(given.get("date-released", "")) != day:
        yield f"CITATION.cff gives date-released {given.get('date-released')}, and CHANGELOG.md {day or 'no date'}."


def from_clones(root: Path) -> Complaints:
    """First steps install what is released."""
    for page in (root / "README.md", *sorted((root / "docs/tutorials").glob("*.md"))):
        if page.exists() and "../runops" in page.read_text(encoding="utf-8"):
            yield f"{page.relative_to(root)} installs from a clone: let it install the released package."


def tree(root: Path, tag: str | None) -> Complaints:
    """What is checked out is what is tagged."""
    changed = _git(root, "status", "--porcelain")
    if changed is None:
        yield "this is no checkout of git."
        return
    if changed.strip():
        yield f"the tree is not clean: {', '.join(line[3:] for line in changed.splitlines()[:5])}."
    if tag and tag not in (_git(root, "tag", "--points-at", "HEAD") or "").split():
        yield f"the commit that is checked out does not bear the tag {tag}."


def generated(root: Path) -> Complaints:
    """What is written from declarations is as they give it."""
    for module in ("argument_tables", "readme_tables", "error_index", "generated"):
        done = _python(root, f"scripts.{module}", "--check")
        if done.returncode:
            yield f"python -m scripts.{module} would change files: run it, and commit."


def built(root: Path, out: Path | None = None) -> Complaints:
    """Two builds give the same bytes, an index can show the description, and the wheel holds what it must."""
    with tempfile.TemporaryDirectory(prefix="runops-release-") as folder:
        each = [Path(folder, name) for name in ("one", "other")]
        for place in each:
            done = _python(root, "build", "--no-isolation", "--outdir", str(place), ".")
            if done.returncode:
                yield f"it does not build: {done.stdout[-500:]}"
                return
        if len({tuple(digests(place).items()) for place in each}) != 1:
            yield f"two builds differ: {digests(each[0])}, {digests(each[1])}."
        files = sorted(each[0].iterdir())
        done = _python(root, "twine", "check", "--strict", *map(str, files))
        if done.returncode:
            yield f"twine check --strict: {done.stdout.strip()[-500:]}"
        found = list(inside(next(path for path in files if path.suffix == ".whl")))
        yield from found
        if out is not None and not found:
            out.mkdir(parents=True, exist_ok=True)
            for path in files:
                (out / path.name).write_bytes(path.read_bytes())


def digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def inside(wheel: Path) -> Complaints:
    """What the wheel must hold, and say of itself."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (path,) = [name for name in names if name.endswith(".dist-info/METADATA")]
        metadata: Message = Parser().parsestr(archive.read(path).decode())
    for wanted in ("licenses/LICENSE", "THIRD_PARTY.txt", "sboms/runops.cdx.json", "runops/py.typed"):
        if not any(name.endswith(wanted) for name in names):
            yield f"the wheel has no {wanted}."
    labels = {url.partition(",")[0] for url in metadata.get_all("Project-URL", [])}
    if len(labels) < len(WANTED) - 1:
        yield f"the metadata names only these addresses: {', '.join(sorted(labels)) or 'none'}."
    relative = re.findall(r"\]\((?![a-z]+:|#)([^)]+)\)", str(metadata.get_payload()))
    if relative:
        yield f"the long description has links that lead nowhere on an index: {', '.join(relative[:5])}."


def _git(root: Path, *arguments: str) -> str | None:
    done = subprocess.run(["git", "-C", root, *arguments], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else None


def _python(root: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    sys.exit(main())
