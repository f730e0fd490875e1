"""Links of the pages that leave the folder docs, and the files of the repository that are pages as they stand.

A page is read on the site and on a code host alike, so its links are relative paths. One that leaves docs leads on the
site to the page that shows that file, else to the file itself: at the repository's address where pyproject.toml names
one, and as a download where it does not.
"""

from __future__ import annotations

import os.path
import re
import tomllib
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from sphinx.application import Sphinx
from sphinx.util import logging

ROOT = Path(__file__).resolve().parents[2]
# Files of the repository that are shown as pages, and which.
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "project/changelog.md",
    "CODE_OF_CONDUCT.md": "project/code_of_conduct.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "benchmarks/README.md": "project/benchmarks.md",
}
_INCLUDE = re.compile(r"^```\{include\} (\S+)\n```$", re.MULTILINE)
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
_FENCE = re.compile(r"(^(```+|~~~+).*?^\2\s*$|`[^`\n]+`)", re.MULTILINE | re.DOTALL)
_log = logging.getLogger(__name__)


def source() -> str | None:
    """The address of the repository's files, where pyproject.toml names one."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return settings.get("tool", {}).get("runops", {}).get("addresses", {}).get("source") or None


def _aimed(path: PurePosixPath, folder: PurePosixPath, page: PurePosixPath) -> tuple[str, bool]:
    """Where a link to this file of the repository leads from a page of docs, and whether it is a file of ours."""
    target = PurePosixPath(os.path.normpath(folder / path))
    if str(target) in PAGES:
        target = PurePosixPath("docs") / PAGES[str(target)]
    return os.path.relpath(target, page.parent), (ROOT / target).exists()


def rewritten(text: str, origin: PurePosixPath, page: PurePosixPath) -> str:
    """The text of one file of the repository as a page: every relative link leads on from that page.

    Args:
        text: Markdown.
        origin: The file that it stands in, from the root of the repository.
        page: The page of docs that shows it, from the root of the repository.
    """

    def link(found: re.Match[str]) -> str:
        picture, label, target = found[1], found[2], found[3]
        address = urlsplit(target)
        if address.scheme or address.netloc or not address.path:
            return found[0]
        path, there = _aimed(PurePosixPath(address.path), origin.parent, page)
        anchor = f"#{address.fragment}" if address.fragment else ""
        inside = os.path.normpath(page.parent / path)
        if not there:
            _log.warning("%s: no such file: %s", origin, target)
        elif not inside.startswith("docs/"):
            home = source()
            if home is not None:
                return f"{picture}[{label}]({home.rstrip('/')}/blob/main/{inside}{anchor})"
            if (ROOT / inside).is_dir():
                return f"{label} (`{inside}` of the repository)" if label.strip("`") != inside else f"`{inside}`"
        return f"{picture}[{label}]({path}{anchor})"

    parts = _FENCE.split(text)
    # Of each group of three: text, what is quoted as it is, and how its fence looks.
    return "".join(
        _LINK.sub(link, part) if number % 3 == 0 else part for number, part in enumerate(parts) if number % 3 != 2
    )


def _read(app: Sphinx, name: str, content: list[str]) -> None:
    page = PurePosixPath("docs") / f"{name}.md"

    def include(found: re.Match[str]) -> str:
        path = PurePosixPath(os.path.normpath(page.parent / found[1]))
        app.env.note_dependency(str(ROOT / path))
        return rewritten((ROOT / path).read_text(encoding="utf-8"), path, page)

    # What is quoted stays as it is, and so does the fence that says what to include.
    content[0] = _INCLUDE.sub(include, rewritten(content[0], page, page))
    if app.builder.format == "html":
        # Beside the page, where llms.txt says that it is.
        beside = Path(app.outdir, f"{name}.md")
        beside.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(content[0], encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """What Sphinx calls."""
    app.connect("source-read", _read)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
