"""What a release needs: each thing that is missing is named, and two builds of one tree are the same bytes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from importlib.metadata import metadata
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from trove_classifiers import classifiers, deprecated_classifiers

from hatch_build import LABELS, long_description, sbom
from scripts import release

ROOT = Path(__file__).resolve().parents[2]
SITE, SOURCE = "https://docs.runops.home.arpa", "https://code.runops.home.arpa/runops"
FILLED = {
    "documentation": SITE,
    "source": SOURCE,
    "issues": f"{SOURCE}/issues",
    "changelog": f"{SITE}/project/changelog.html",
    "security": f"{SOURCE}/security",
    "conduct": "mailto:conduct@runops.home.arpa",
}
"""Of the domain that RFC 8375 keeps for homes: nobody's."""
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("", "is empty"),
        ("https://", "leads nowhere"),
        ("http://docs.runops.home.arpa", "does not begin with https://"),
        ("docs.runops.home.arpa", "does not begin with https://"),
        ("https://example.com/runops", "leads nowhere"),
        ("https://docs.example.org", "leads nowhere"),
        ("https://runops.example", "leads nowhere"),
        ("https://localhost/docs", "leads nowhere"),
        ("https://127.0.0.1/docs", "leads nowhere"),
        ("https://runops", "leads nowhere"),
        ("https://runops.internal/docs", "leads nowhere"),
        ("https://<owner>.github.io/runops", "is a place to fill in"),
        ("https://github.com/TODO/runops", "is a place to fill in"),
        ("https://user:word@docs.runops.home.arpa", "holds a name or a password"),
        ("https://pypi.org/project/runops/", "leads to a package index"),
        ("mailto:conduct@runops.home.arpa", "does not begin with https://"),
        (SITE, ""),
    ],
)
def test_an_address_that_leads_nowhere_is_refused(address: str, why: str) -> None:
    assert release.unreachable(address).startswith(why)
    assert bool(release.unreachable(address)) == bool(why)


def test_a_breach_of_the_code_of_conduct_may_go_to_a_mailbox() -> None:
    assert release.unreachable("mailto:conduct@runops.home.arpa", mail=True) == ""
    assert release.unreachable("mailto:conduct@example.com", mail=True)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def git(root: Path, *arguments: str) -> None:
    who = [
        "-c",
        "user.name=t",
        "-c",
        "user.email=t@runops.home.arpa",
        "-c",
        "commit.gpgsign=false",
        "-c",
        "tag.gpgsign=false",
    ]
    subprocess.run(["git", *who, "-C", root, *arguments], check=True, capture_output=True)


def fill_in(root: Path) -> None:
    """The addresses, the date of the version in the changelog and in CITATION.cff, a commit and its tag."""
    text = (root / "pyproject.toml").read_text()
    for name, address in FILLED.items():
        text, count = re.subn(rf'^{name} = ""', f'{name} = "{address}"', text, flags=re.M)
        assert count == 1, name
    write(root / "pyproject.toml", text)
    changes = (root / "CHANGELOG.md").read_text()
    write(root / "CHANGELOG.md", changes.replace("## [Unreleased]", "## [Unreleased]\n\n## [0.1.0] - 2026-11-01", 1))
    write(root / "CITATION.cff", (root / "CITATION.cff").read_text() + "date-released: 2026-11-01\n")
    for page in (root / "README.md", *(root / "docs/tutorials").glob("*.md")):
        if page.exists():
            write(page, page.read_text().replace("../runops", "runops"))
    if (root / "scripts").exists():
        environment = {**os.environ, "PYTHONPATH": str(root / "src")}
        subprocess.run([sys.executable, "-m", "scripts.generated"], cwd=root, env=environment, check=True)
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "Release")
    git(root, "tag", "v0.1.0")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A tree with what a release is asked for, and nothing to build."""
    write(tmp_path / "pyproject.toml", (ROOT / "pyproject.toml").read_text())
    write(tmp_path / "src/runops/__init__.py", '__version__ = "0.1.0"\n')
    write(tmp_path / "CHANGELOG.md", "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- Everything.\n")
    write(tmp_path / "CITATION.cff", (ROOT / "CITATION.cff").read_text())
    return tmp_path


def missing(root: Path, tag: str | None = "v0.1.0") -> list[str]:
    return [
        *release.addresses(root), *release.tagged(root, tag), *release.changelog(root), *release.citation(root),
        *release.from_clones(root), *release.tree(root, tag),
    ]  # fmt: skip


def test_a_tree_with_everything_lacks_nothing(small: Path) -> None:
    fill_in(small)
    assert missing(small) == []
    assert release.changes(small)["0.1.0"] == ("2026-11-01", "### Added\n\n- Everything.")


def test_the_tree_as_it_is_names_each_address_that_is_empty() -> None:
    told = list(release.addresses(ROOT))
    empty = [name for name, address in PROJECT["tool"]["runops"]["addresses"].items() if not address]
    assert [line.split()[1] for line in told] == empty
    assert set(release.WANTED) == set(PROJECT["tool"]["runops"]["addresses"])


@pytest.mark.parametrize(
    ("file", "before", "after", "told"),
    [
        ("pyproject.toml", f'source = "{SOURCE}"', 'source = ""', "source in pyproject.toml is empty"),
        ("pyproject.toml", SITE, "https://docs.example.com", "documentation in pyproject.toml leads nowhere"),
        ("CHANGELOG.md", " - 2026-11-01", "", "gives [0.1.0] no date"),
        ("CHANGELOG.md", "2026-11-01", "soon", "gives [0.1.0] no date"),
        ("CHANGELOG.md", "2026-11-01", "2999-11-01", "still to come"),
        ("CHANGELOG.md", "## [0.1.0]", "## [0.0.9]", "no section [0.1.0]"),
        ("CHANGELOG.md", "## [Unreleased]\n", "## [Unreleased]\n\n- More.\n", "entries under Unreleased"),
        ("CHANGELOG.md", "### Added\n\n- Everything.\n", "", "says nothing under [0.1.0]"),
        ("CITATION.cff", "version: 0.1.0", "version: 0.0.9", "names version 0.0.9"),
        ("CITATION.cff", "2026-11-01", "2026-11-02", "date-released 2026-11-02"),
        ("src/runops/__init__.py", "0.1.0", "0.2.0", "the tag is 'v0.1.0', and the version is 0.2.0"),
        ("src/runops/__init__.py", "0.1.0", "0.1.0.dev1", "is none that an index takes"),
        ("README.md", "", "new", "the tree is not clean"),
        ("README.md", "", "pip install '../runops[airflow]'", "README.md installs from a clone"),
    ],
)
def test_each_thing_that_is_missing_is_named(small: Path, file: str, before: str, after: str, told: str) -> None:
    fill_in(small)
    path = small / file
    write(path, (path.read_text() if path.exists() else "").replace(before, after, 1))
    assert any(told in line for line in missing(small)), missing(small)


def test_another_commit_than_the_tagged_one_is_refused(small: Path) -> None:
    fill_in(small)
    git(small, "commit", "-qm", "More", "--allow-empty")
    assert missing(small) == ["the commit that is checked out does not bear the tag v0.1.0."]
    assert any("the tag is None" in line for line in missing(small, None))


def test_the_classifiers_are_known_to_indexes_and_say_what_is_so() -> None:
    project = PROJECT["project"]
    told = project["classifiers"]
    assert set(told) <= classifiers - set(deprecated_classifiers)
    minors = [each.rpartition(" ")[2] for each in told if re.search(r":: 3\.\d+$", each)]
    assert project["requires-python"] == f">={minors[0]}"
    # The licence stands in project.license, and only there.
    assert not any(each.startswith("License ::") for each in told)
    assert ("Framework :: Pytest" in told) == ("pytest11" in project["entry-points"])
    assert ("Typing :: Typed" in told) == (ROOT / "src/runops/py.typed").exists()


class TestTheLongDescription:
    TEXT = (
        "[a](docs/how_to/turns.md#x) [b](LICENSE) ![c](docs/a.png) [d](https://e.org) [e](#here) "
        "[![f](docs/b.png)](docs/index.md)"
    )

    def test_its_links_lead_to_the_site_and_to_the_files_of_the_version(self) -> None:
        told = long_description(self.TEXT, FILLED, "1.0")
        assert told == (
            f"[a]({SITE}/how_to/turns.html#x) [b]({SOURCE}/blob/v1.0/LICENSE) ![c]({SOURCE}/raw/v1.0/docs/a.png) "
            f"[d](https://e.org) [e](#here) [![f]({SOURCE}/raw/v1.0/docs/b.png)]({SITE}/index.html)"
        )

    def test_without_addresses_it_is_the_readme(self) -> None:
        assert long_description(self.TEXT, {"source": "", "documentation": ""}, "1.0") == self.TEXT


class TestTheSbom:
    FOUND = sbom(str(ROOT), "0.1.0", PROJECT["project"]["dependencies"], PROJECT["project"]["optional-dependencies"])

    def component(self, name: str) -> dict[str, Any]:
        (found,) = [component for component in self.FOUND["components"] if component["name"] == name]
        return found

    def test_it_is_valid_by_the_schema_of_cyclonedx(self) -> None:
        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(self.FOUND)) is None

    def test_it_names_everything_that_is_asked_for_and_what_each_extra_adds(self) -> None:
        extras = PROJECT["project"]["optional-dependencies"].values()
        declared = [*PROJECT["project"]["dependencies"], *chain.from_iterable(extras)]
        names = {re.split(r"[<>=\[;]", text)[0].strip() for text in declared} - {"runops"}
        pypi = {each["name"] for each in self.FOUND["components"] if each["purl"].startswith("pkg:pypi/")}
        assert pypi == names
        assert self.component("httpx")["scope"] == "required"
        assert self.component("dagster")["scope"] == "optional"
        assert {"name": "runops:extra", "value": "dagster"} in self.component("dagster")["properties"]

    def test_a_licence_is_the_one_that_the_installed_package_names(self) -> None:
        classified = {"BSD License": "BSD-3-Clause"}
        for name, licence in PROJECT["tool"]["runops"]["licences"].items():
            told: Any = metadata(name)
            own = told.get("License-Expression") or told.get("License")
            assert classified.get(own, own) == licence, name

    def test_it_names_what_is_built_into_the_page_with_version_hash_and_licence(self) -> None:
        package = json.loads((ROOT / "ui" / "package.json").read_text())
        bundled = [each for each in self.FOUND["components"] if each["purl"].startswith("pkg:npm/")]
        assert {each["name"]: each["version"] for each in bundled}.items() >= package["dependencies"].items()
        notices = (ROOT / "src/runops/airflow/plugin/static/THIRD_PARTY.txt").read_text()
        for each in bundled:
            assert each["licenses"] == [{"license": {"id": "MIT"}}], "name it in project.license too"
            assert len(each["hashes"][0]["content"]) == 128
            assert f"contains {each['name']} (" in notices
        assert notices.count("The script in assets/ contains") == len(bundled)
        assert "MIT" in PROJECT["project"]["license"]

    def test_everything_that_is_asked_for_has_its_licence(self) -> None:
        assert [each["name"] for each in self.FOUND["components"] if "licenses" not in each] == []


def unpacked(sdist: Path, target: Path) -> Path:
    with tarfile.open(sdist) as archive:
        archive.extractall(target, filter="data")
    (tree,) = target.iterdir()
    (tree / "PKG-INFO").unlink()
    return tree


def build(tree: Path, out: Path, umask: int = 0o022, **environment: str) -> dict[str, str]:
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), "."]
    done = subprocess.run(
        command, cwd=tree, env={**os.environ, **environment}, umask=umask, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return release.digests(out)


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sdist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--sdist", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (found,) = out.glob("*.tar.gz")
    return found


@pytest.mark.packaging
def test_two_builds_in_other_folders_times_umasks_and_locales_are_the_same_bytes(sdist: Path, tmp_path: Path) -> None:
    one, other = unpacked(sdist, tmp_path / "one"), unpacked(sdist, tmp_path / "other" / "and" / "deeper")
    for number, path in enumerate(sorted(other.rglob("*"))):
        path.chmod(path.stat().st_mode & 0o700)
        os.utime(path, (1_000_000_000 + number, 1_000_000_000 + number))
    epoch = "1700000000"
    first = build(one, tmp_path / "first", TZ="UTC", LC_ALL="C", PYTHONHASHSEED="1", SOURCE_DATE_EPOCH=epoch)
    second = build(
        other, tmp_path / "second", 0o077, TZ="Pacific/Kiritimati", LC_ALL="C.UTF-8", LANG="tr_TR.UTF-8",
        PYTHONHASHSEED="2", SOURCE_DATE_EPOCH=epoch,
    )  # fmt: skip
    assert first == second
    assert len(first) == 2
    with zipfile.ZipFile(next((tmp_path / "first").glob("*.whl"))) as archive:
        assert {entry.date_time[:4] for entry in archive.infolist()} == {(2023, 11, 14, 22)}


@pytest.mark.packaging
def test_an_sdist_gives_the_sdist_that_it_is(sdist: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "--no-isolation", "--sdist", "--outdir", str(tmp_path / "out"), "."]
    subprocess.run(command, cwd=unpacked(sdist, tmp_path / "tree"), check=True, capture_output=True)
    assert release.digests(tmp_path / "out") == release.digests(sdist.parent)


@pytest.mark.packaging
def test_a_tree_with_everything_passes_the_check_and_gives_what_is_uploaded(sdist: Path, tmp_path: Path) -> None:
    tree = unpacked(sdist, tmp_path / "tree")
    fill_in(tree)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "scripts.release", "check", "--tag", "v0.1.0", "--out", str(out)]
    # The package that is looked at is the tree's.
    done = subprocess.run(
        command,
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "Ready.\n"), done.stdout + done.stderr
    (wheel,) = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        told: Message = Parser().parsestr(archive.read(name).decode())
    assert told.get_all("Project-URL") == [f"{label}, {FILLED[name]}" for name, label in LABELS.items()]
    assert "](docs/" not in str(told.get_payload())
    assert f"docs-url: {SITE}" in (tree / ".airflow-registry.yaml").read_text()


@pytest.mark.packaging
def test_while_addresses_are_empty_it_builds_and_names_none(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        (member,) = [name for name in archive.getnames() if name.count("/") == 1 and name.endswith("/PKG-INFO")]
        file = archive.extractfile(member)
        assert file is not None
        told: Message = Parser().parsestr(file.read().decode())
    given = PROJECT["tool"]["runops"]["addresses"]
    assert len(told.get_all("Project-URL", [])) == len([name for name in LABELS if given[name]])
