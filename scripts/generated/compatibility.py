"""The table of versions in the compatibility policy, from the bounds in pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "project" / "compatibility.md"
NAMES = {
    "apache-airflow": "Airflow",
    "dagster": "Dagster",
    "httpx": "httpx",
    "pydantic": "pydantic",
    "opentelemetry-api": "OpenTelemetry",
    "pytest": "pytest",
}
"""How a package is called where its own name is not what people say."""
_PART = re.compile(r"(<!-- generated: bounds -->\n).*?(<!-- end -->)", re.DOTALL)


def page() -> str:
    """The page, with its table written anew."""
    return _PART.sub(lambda found: f"{found[1]}{table()}\n{found[2]}", PAGE.read_text(encoding="utf-8"))


def table() -> str:
    """What runops asks for, and what each extra adds."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    minors = [each.rpartition(" ")[2] for each in project["classifiers"] if re.search(r":: 3\.\d+$", each)]
    rows = [("Python", project["requires-python"], f"tested on {', '.join(minors)}")]
    rows += [(*_bounds(text), "always") for text in project["dependencies"]]
    asked: dict[tuple[str, str], list[str]] = {}
    for extra, texts in project["optional-dependencies"].items():
        for text in texts:
            if not text.startswith("runops["):
                asked.setdefault(_bounds(text), []).append(f"`runops[{extra}]`")
    rows += [(name, bounds, f"with {', '.join(extras)}") for (name, bounds), extras in asked.items()]
    lines = [f"| {name} | `{bounds}` | {when} |" for name, bounds, when in rows]
    return "\n".join(["| package | versions | asked for |", "|---|---|---|", *lines])


def _bounds(text: str) -> tuple[str, str]:
    requirement = Requirement(text)
    lower_first = sorted(map(str, requirement.specifier), key=lambda each: each.startswith("<"))
    return NAMES.get(requirement.name, requirement.name), ", ".join(lower_first)
