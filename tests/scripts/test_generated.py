"""Files that are written from declarations: each is as they give it, and reads as those who read it expect."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from runops.cli.examples import examples
from scripts.generated import compatibility, llms

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
SKILL = ROOT / "src" / "runops" / ".agents" / "skills" / "runops" / "SKILL.md"


def test_what_is_written_from_declarations_is_as_they_give_it() -> None:
    command = [sys.executable, "-m", "scripts.generated", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.split() == [], "run make generated, and commit it"
    assert done.returncode == 0, done.stderr


class TestTheIndexForLanguageModels:
    TEXT = llms.index()

    def test_it_has_the_form_of_llmstxt_org(self) -> None:
        title, summary, *_ = self.TEXT.split("\n\n")
        assert title == "# runops"
        assert summary.startswith("> ")
        assert "\n" not in summary
        assert len(re.findall(r"^# ", self.TEXT, re.MULTILINE)) == 1
        for section in self.TEXT.split("\n## ")[1:]:
            lines = section.strip().splitlines()[2:]
            assert lines
            assert all(re.fullmatch(r"- \[[^\]]+\]\([^)]+\)(: \S.*)?", line) for line in lines), lines

    def test_it_names_every_page_once_and_each_is_there(self) -> None:
        named = re.findall(r"^- \[[^\]]+\]\(([^)]+)\)", self.TEXT, re.MULTILINE)
        pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md") if path.name != "index.md"}
        assert sorted(named) == sorted(pages)

    def test_what_it_says_of_a_page_is_short(self) -> None:
        assert all(len(line) < 600 for line in self.TEXT.splitlines())
        assert len(self.TEXT) < 40_000


class TestTheSkill:
    TEXT = SKILL.read_text(encoding="utf-8")
    HEAD = yaml.safe_load(TEXT.split("---\n")[1])

    def test_its_head_is_as_agentskills_io_asks_for(self) -> None:
        assert self.TEXT.startswith("---\n")
        assert set(self.HEAD) <= {"name", "description", "license", "compatibility", "metadata", "allowed-tools"}
        assert self.HEAD["name"] == SKILL.parent.name == "runops"
        assert 0 < len(self.HEAD["description"]) <= 1024
        assert len(self.HEAD["compatibility"]) <= 500
        assert len(self.TEXT.splitlines()) < 500

    @pytest.mark.parametrize("side", ["airflow", "dagster"])
    def test_every_name_in_it_exists(self, side: str) -> None:
        # In a process of its own: a host reads its settings when it is imported.
        code = (
            "from scripts.documentation.hosts import without_a_home; without_a_home(); "
            f"import runops.{side} as side, runops.core as core; print(*side.__all__, *core.__all__)"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        known = set(done.stdout.split())
        if side == "airflow":
            ours = r"`((?:Nexio|Nyx|Onepin|B3os|Nekt|RunFinished|Run)\w*(?:Operator|Sensor|Trigger))\b"
            told = set(re.findall(ours, self.TEXT)) | set(re.findall(r"NYX_\w+[ET]\b", self.TEXT))
            assert len(told) > 6
        else:
            told = set(re.findall(r"`(build_run\w+|build_\w+_\w+|wait_for_\w+|RunResource)\b", self.TEXT))
            assert len(told) > 6
        assert told <= known

    def test_its_commands_and_options_exist(self) -> None:
        fenced = "\n".join(re.findall(r"^```bash\n(.*?)^```", self.TEXT, re.MULTILINE | re.DOTALL))
        named = {*re.findall(r"`runops (\w+)", self.TEXT), *re.findall(r"^runops (\w+)", fenced, re.MULTILINE)}
        assert {"explain", "emulate", "submit"} <= named
        assert named <= {name.partition(" ")[0] for name in examples()}


def test_the_table_of_versions_has_what_pyproject_asks_for() -> None:
    table = compatibility.table()
    assert "| Python | `>=3.11` |" in table
    assert re.search(r"\| Airflow \| `>=3\.\d+, <4` \| with `runops\[airflow\]`", table)
    assert table in (DOCS / "project" / "compatibility.md").read_text(encoding="utf-8")


def test_the_registry_entry_leads_to_classes_that_airflow_users_import() -> None:
    entry = yaml.safe_load((ROOT / ".airflow-registry.yaml").read_text(encoding="utf-8"))
    assert entry["package-name"] == "runops"
    listed = [each for kind in ("operators", "sensors", "hooks", "triggers") for each in entry[kind]]
    assert len(listed) > 20
    assert all(each["module"].startswith("runops.airflow.") and each["description"] for each in listed)
    assert not any(":class:" in each["description"] for each in listed)
