"""``.airflow-registry.yaml``: what Airflow's provider registry shows of a package of somebody else."""

from __future__ import annotations

import inspect
import tomllib
from pathlib import Path
from typing import Any

import yaml

from scripts.documentation.hosts import without_a_home

without_a_home()

import runops.airflow as side  # noqa: E402 - Airflow reads its settings when it is imported
from runops.airflow._provider_info import get_provider_info  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
KINDS = {"operators": "Operator", "sensors": "Sensor", "hooks": "Hook", "triggers": "Trigger"}
"""Lists of the registry, and how the names of the classes in each end."""
HEAD = "# For Airflow's provider registry; written by `python -m scripts.generated` from what runops.airflow exports.\n"


def entry() -> str:
    """The file. An address that does not exist yet is left out."""
    info = get_provider_info()
    addresses = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["runops"]["addresses"]
    found: dict[str, Any] = {
        "package-name": info["package-name"],
        "display-name": "runops (runs at external services)",
        "description": info["description"],
    }
    for key, name in (("docs-url", "documentation"), ("source-url", "source")):
        if addresses.get(name):
            found[key] = addresses[name]
    classes = {name: getattr(side, name) for name in side.__all__ if inspect.isclass(getattr(side, name))}
    for kind, ending in KINDS.items():
        found[kind] = [
            {"module": f"runops.airflow.{name}", "description": _first(one)}
            for name, one in sorted(classes.items())
            if name.endswith(ending)
        ]
    return HEAD + yaml.safe_dump(found, sort_keys=False, width=120, allow_unicode=True)


def _first(one: type) -> str:
    text = " ".join((inspect.getdoc(one) or "").partition("\n\n")[0].split())
    return text.partition(" See :")[0].replace("``", "").rstrip(".")
