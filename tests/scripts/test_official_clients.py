"""The table of official clients counts each client's own tests, and says nothing of one that was not tried."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import official_clients

CASES = """<testsuites><testsuite>
<testcase classname="t.test_onepin_versions" name="test_every_run_command[onepin-0.9.0]"/>
<testcase classname="t.test_onepin_versions" name="test_every_run_command[.venv]"/>
<testcase classname="t.test_onepin_versions" name="test_every_run_command[onepin-0.13.0]"><failure/></testcase>
<testcase classname="t.test_nyx_client" name="test_a_run"><skipped/></testcase>
<testcase classname="t.test_b3os_client" name="test_a_tool[get_run]"/>
<testcase classname="t.test_b3os_client" name="test_each_tool_of_the_client_itself_is_answered"><skipped/></testcase>
</testsuite></testsuites>"""


@pytest.fixture
def page(tmp_path, monkeypatch) -> Path:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- clients -->\n| nyx 0.1.8 | 2026-01-01 | 7 | 0 |\n<!-- end -->\nafter\n")
    monkeypatch.setattr(official_clients, "PAGE", page)
    return page


def test_each_client_is_counted_and_what_was_not_tried_keeps_its_line(page, tmp_path) -> None:
    (tmp_path / "results.xml").write_text(CASES)
    official_clients.write(tmp_path / "results.xml")
    rows = {line.split(" | ")[0].strip("| "): line for line in page.read_text().splitlines() if line.startswith("| ")}
    assert rows["onepin 0.9.0"].endswith("| 1 | 0 |")
    assert rows["onepin 0.13.0"].endswith("| 0 | 1 |")
    assert "not yet" in rows["onepin 0.16.1"]
    assert rows["nyx 0.1.8"] == "| nyx 0.1.8 | 2026-01-01 | 7 | 0 |"
    assert rows["b3os-mcp 0.1.8, its calls replayed"].endswith("| 1 | 0 |")
    assert "not yet" in rows["b3os-mcp 0.1.8 itself"]
    assert page.read_text().endswith("<!-- end -->\nafter\n")
