"""What the build adds: the project's addresses, a long description whose links lead somewhere, and an SBOM.

It uses the standard library and hatchling only, and nothing of the machine that it runs on, so that the same sources
give the same bytes everywhere.
"""

from __future__ import annotations

import base64
import json
import os.path
import re
import tempfile
import tomllib
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LABELS = {
    "documentation": "Documentation",
    "source": "Source",
    "issues": "Issues",
    "changelog": "Changelog",
    "security": "Security",
}
"""The addresses that the metadata shows, and how an index calls them."""
BUNDLED = "src/runops/airflow/plugin/static"
"""Where what npm packages are built into lies."""
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|!\[[^\]]*\]\([^)]*\))*)\]\(((?![a-z]+:|#)[^()\s]+)\)")


class AddressesHook(MetadataHookInterface):
    """Takes ``[project.urls]`` and the links of the README from ``[tool.runops.addresses]``."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Fill the fields that pyproject.toml calls dynamic."""
        addresses = settings(self.root)["addresses"]
        metadata["urls"] = {label: addresses[name] for name, label in LABELS.items() if addresses.get(name)}
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        version = re.search(r'^__version__ = "(.+)"$', Path(self.root, "src/runops/__init__.py").read_text(), re.M)
        assert version is not None
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": long_description(text, addresses, version[1]),
        }


class SbomHook(BuildHookInterface[Any]):
    """Puts a CycloneDX list of what runops asks for, and of what is built into it, into the wheel (PEP 770)."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the list beside the build, and name it."""
        # The wheel is written after this, and before finalize.
        self.folder = tempfile.TemporaryDirectory(prefix="runops-sbom-")
        path = Path(self.folder.name, "runops.cdx.json")
        core = self.metadata.core
        extras = {name: list(requirements) for name, requirements in core.optional_dependencies.items()}
        found = sbom(self.root, self.metadata.version, list(core.dependencies), extras)
        path.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n", encoding="utf-8", newline="\n")
        build_data["sbom_files"].append(str(path))

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was written beside the build."""
        self.folder.cleanup()


def settings(root: str) -> dict[str, Any]:
    """The table ``[tool.runops]``."""
    return tomllib.loads(Path(root, "pyproject.toml").read_text(encoding="utf-8"))["tool"]["runops"]


def long_description(text: str, addresses: Mapping[str, str], version: str) -> str:
    """The README, with links to files of the repository that lead on where there is no repository.

    Args:
        text: Markdown.
        addresses: Without ``source``, links stay as they are; ``documentation`` is where pages of ``docs`` lead.
        version: Whose files are shown.
    """
    source, site = (addresses.get(name, "").rstrip("/") for name in ("source", "documentation"))

    def link(found: re.Match[str]) -> str:
        picture, label, target = found[1], _LINK.sub(link, found[2]), found[3]
        path, _, anchor = target.partition("#")
        anchor = anchor and f"#{anchor}"
        page = os.path.normpath(path).replace(os.sep, "/")
        if site and page.startswith("docs/") and page.endswith(".md"):
            return f"[{label}]({site}/{page.removeprefix('docs/').removesuffix('.md')}.html{anchor})"
        return f"{picture}[{label}]({source}/{'raw' if picture else 'blob'}/v{version}/{page}{anchor})"

    return _LINK.sub(link, text) if source else text


def sbom(root: str, version: str, dependencies: list[str], extras: Mapping[str, list[str]]) -> dict[str, Any]:
    """The list, in CycloneDX 1.6, which every reader knows.

    Args:
        root: The folder of pyproject.toml.
        version: Of runops.
        dependencies: What it asks for, as requirements.
        extras: What each extra asks for.
    """
    licences: dict[str, str] = settings(root)["licences"]
    package = f"pkg:pypi/runops@{version}"
    bundled = list(_bundled(root))
    asked = _asked(dependencies, extras, licences)
    components = sorted([*bundled, *asked], key=lambda component: component["bom-ref"])
    found: dict[str, Any] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "lifecycles": [{"phase": "build"}],
            "component": {
                "type": "library",
                "bom-ref": package,
                "name": "runops",
                "version": version,
                "purl": package,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            },
        },
        "components": components,
        "dependencies": [
            {"ref": package, "dependsOn": [component["bom-ref"] for component in components]},
            *({"ref": component["bom-ref"]} for component in bundled),
        ],
        # What the packages that are asked for bring along is decided where they are installed.
        "compositions": [{"aggregate": "incomplete", "dependencies": [component["bom-ref"] for component in asked]}],
    }
    text = json.dumps(found, sort_keys=True)
    return {**found, "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, text)}"}


def _asked(
    dependencies: list[str], extras: Mapping[str, list[str]], licences: Mapping[str, str]
) -> list[dict[str, Any]]:
    """What pip installs beside runops; its versions are ranges."""
    found: dict[str, dict[str, Any]] = {}
    for extra, texts in (("", dependencies), *sorted(extras.items())):
        for text in sorted(texts):
            requirement = Requirement(text)
            name = canonicalize_name(requirement.name)
            if name == "runops":
                continue
            component = found.setdefault(
                name,
                {
                    "type": "library",
                    "bom-ref": f"pkg:pypi/{name}",
                    "name": name,
                    "purl": f"pkg:pypi/{name}",
                    "scope": "optional" if extra else "required",
                    # A test misses one that nobody wrote down; no build fails for it.
                    **({"licenses": [{"license": {"id": licences[name]}}]} if name in licences else {}),
                    "properties": [{"name": "runops:versions", "value": str(requirement.specifier)}],
                },
            )
            if extra:
                component["properties"].append({"name": "runops:extra", "value": extra})
    return list(found.values())


def _bundled(root: str) -> Iterator[dict[str, Any]]:
    """What npm has installed for the front end, and is no tool of its build: it is part of the script in the wheel."""
    lock = json.loads(Path(root, "ui", "package-lock.json").read_text(encoding="utf-8"))
    for path, package in sorted(lock["packages"].items()):
        if not path or package.get("dev"):
            continue
        name = path.rpartition("node_modules/")[2]
        algorithm, _, digest = package["integrity"].partition("-")
        purl = f"pkg:npm/{name.replace('@', '%40')}@{package['version']}"
        yield {
            "type": "library",
            "bom-ref": purl,
            "name": name,
            "version": package["version"],
            "purl": purl,
            "scope": "required",
            "licenses": [{"license": {"id": package["license"]}}],
            # Of the archive that npm installs.
            "hashes": [{"alg": algorithm.replace("sha", "SHA-"), "content": base64.b64decode(digest).hex()}],
            "properties": [{"name": "runops:bundled", "value": f"{BUNDLED.removeprefix('src/')}/assets"}],
        }
