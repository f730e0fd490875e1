"""Workflows, forms and files for whoever comes to the repository: valid, without known weaknesses, and in step."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import runops
from runops.core import PROVIDERS

ROOT = Path(__file__).resolve().parents[2]
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS = sorted(path for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")


def tool(name: str, *arguments: str | Path) -> str:
    """What a tool of the environment prints; it has to be content."""
    done = subprocess.run(
        [Path(sys.executable).with_name(name), *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def jobs() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in WORKFLOWS:
        for name, job in loaded(path)["jobs"].items():
            yield f"{path.stem}.{name}", job


def test_zizmor_finds_nothing_in_the_workflows() -> None:
    assert "No findings to report" in tool("zizmor", "--offline", "--no-progress", "--persona=auditor", GITHUB)


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.github-workflows", WORKFLOWS),
        ("custom.github-workflows-require-timeout", WORKFLOWS),
        ("vendor.dependabot", [GITHUB / "dependabot.yml"]),
        ("vendor.github-issue-forms", FORMS),
        ("vendor.github-issue-config", [GITHUB / "ISSUE_TEMPLATE" / "config.yml"]),
        ("vendor.citation-file-format", [ROOT / "CITATION.cff"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_is_valid_by_its_schema(schema: str, files: list[Path]) -> None:
    assert files
    tool("check-jsonschema", "--builtin-schema", schema, *files)


def test_every_action_is_pinned_by_commit_and_says_its_version_and_one_action_has_one_commit() -> None:
    commits: dict[str, set[str]] = {}
    for path in WORKFLOWS:
        for line in path.read_text().splitlines():
            if "uses:" in line:
                found = re.fullmatch(r"\s*(?:- )?uses: ([\w./-]+)@([0-9a-f]{40}) # v\d+\.\d+\.\d+", line)
                assert found, line
                commits.setdefault(found[1], set()).add(found[2])
    assert len(commits) >= 6
    assert {action: each for action, each in commits.items() if len(each) > 1} == {}


def test_no_job_may_do_more_than_it_says_and_only_publishing_signs() -> None:
    assert all(loaded(path)["permissions"] == {} for path in WORKFLOWS)
    writes = {name: {may for may, how in job["permissions"].items() if how == "write"} for name, job in jobs()}
    assert {name: may for name, may in writes.items() if may} == {
        "release.attest": {"id-token", "attestations"},
        "release.publish": {"id-token"},
        "release.announce": {"contents"},
    }
    assert dict(jobs())["release.publish"]["environment"] == "pypi"
    assert "secrets." not in "".join(path.read_text() for path in WORKFLOWS)


def test_a_release_is_checked_before_anything_else_and_publishes_what_was_checked() -> None:
    release = dict(jobs())
    commands = [step["run"] for step in release["release.build"]["steps"] if "run" in step]
    assert commands[:2] == [
        "make setup", '.venv/bin/python -m scripts.release check --tag "$GITHUB_REF_NAME" --out dist',
    ]  # fmt: skip
    assert ".ci/run" in commands
    assert release["release.attest"]["needs"] == "build"
    assert release["release.publish"]["needs"] == ["build", "attest"]
    assert release["release.announce"]["needs"] == "publish"


def test_pull_requests_run_what_anybody_can_run() -> None:
    assert ".ci/run" in [step.get("run") for step in dict(jobs())["ci.all"]["steps"]]


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.stem)
class TestAForm:
    def test_it_lists_the_providers_there_are(self, form: Path) -> None:
        fields = {field["id"]: field for field in loaded(form)["body"] if "id" in field}
        if "provider" in fields:
            options = fields["provider"]["attributes"]["options"]
            assert set(options) >= {provider.title for provider in PROVIDERS.values()}

    def test_where_a_log_or_an_answer_may_be_pasted_it_warns_of_secrets(self, form: Path) -> None:
        fields = loaded(form)["body"]
        if any(field.get("id") in ("log", "word") for field in fields):
            assert "public" in fields[0]["attributes"]["value"]
            assert fields[-1]["attributes"]["options"][0]["required"]


def test_a_bug_asks_for_versions_host_provider_and_log() -> None:
    (bug,) = [form for form in FORMS if form.stem == "bug"]
    fields = {field.get("id"): field for field in loaded(bug)["body"]}
    assert {"versions", "host", "provider", "log"} <= set(fields)
    assert all(fields[name]["validations"]["required"] for name in ("versions", "host", "provider"))


def test_the_citation_names_the_version_and_no_address_that_is_not_there() -> None:
    cited = loaded(ROOT / "CITATION.cff")
    assert cited["version"] == runops.__version__
    given = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["runops"]["addresses"]
    assert {cited[key] for key in ("url", "repository-code") if key in cited} <= set(given.values())


def test_the_code_of_conduct_is_the_covenant_and_names_a_way_that_exists() -> None:
    text = (ROOT / "CODE_OF_CONDUCT.md").read_text()
    assert "version 2.1" in text
    assert "[INSERT" not in text
    assert "[tool.runops.addresses]" in text
    assert "**Report a vulnerability**" in (ROOT / "SECURITY.md").read_text()
