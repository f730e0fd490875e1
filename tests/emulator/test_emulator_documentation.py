"""The page of the emulator: each control route is on it, and each way to choose a script does what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from runops.emulator.control import control_routes
from runops.emulator.faults import KINDS
from runops.emulator.services import default_apis
from tests.services import CALLS

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "emulator.md"
CHOOSING = [cls for cls in default_apis() if cls.choosing_script]


def test_every_control_route_and_every_kind_of_fault_is_on_the_page(emulator) -> None:
    text = PAGE.read_text(encoding="utf-8")
    control, faults = text.partition("## Control")[2].partition("## Faults")[::2]
    methods = {"GET", "POST"}
    declared = {
        f"{method} {route.path}" for route in control_routes(emulator) for method in methods & set(route.methods or ())
    }
    assert set(re.findall(r"^\| `((?:GET|POST) /\w+)` ", control, re.MULTILINE)) == declared
    assert set(re.findall(r"^\| `(\w+)` \|", faults.partition("## Routes")[0], re.MULTILINE)) - {"kind"} == KINDS


@pytest.mark.parametrize("cls", CHOOSING, ids=[cls.name for cls in CHOOSING])
def test_a_submit_chooses_its_script_as_the_page_shows(call, emulator, cls) -> None:
    path = {
        "nexio": "/api/v1/engines/placement/runs",
        "nyx": "/v1/nyx/runs",
        "onepin": f"/api/v1/workflows/{cls.default_parent}/runs",
        "b3os": "/v1/workflows/wf_emulated/run",
    }[cls.name]
    answer = call(cls.name, "POST", path, json={**CALLS[cls.name], **cls.choosing_script})
    assert answer.status_code < 300, answer.text
    assert emulator.runs(provider=cls.name)[0]["script"] == "failed"


def test_a_provider_without_a_known_submit_has_no_way_to_choose(emulator) -> None:
    without = {name for name, api in emulator.apis.items() if not api.choosing_script}
    assert without == {name for name, api in emulator.apis.items() if "submit" not in {r.action for r in api.routes}}
