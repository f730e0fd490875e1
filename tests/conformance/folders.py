"""Folders of answers that differ from Acme's by a few values, without a file of their own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runops.conformance.answers import RecordedAnswer

ACME_ANSWERS = Path(__file__).parent / "answers" / "acme"
GONE = object()
"""In the place of a value: take the key out; in that of a file's changes: take the file out."""

Changes = Mapping[str, Any]
"""By file: the values by their dotted places, a whole new file, or GONE."""


def folder(changes: Changes | None = None) -> tuple[RecordedAnswer, ...]:
    """Acme's answers with these changes."""
    found = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted(ACME_ANSWERS.glob("*.json"))}
    for file, wanted in (changes or {}).items():
        if wanted is GONE:
            del found[file]
        elif "route" in wanted:
            found[file] = wanted
        else:
            for place, value in wanted.items():
                _put(found[file], place.split("."), value)
    return tuple(RecordedAnswer.model_validate({**found[name], "file": name}) for name in sorted(found))


def answer(route: str, request: str, body: Any = None, *, status: int = 200, **read_as: Any) -> dict[str, Any]:
    """A whole file."""
    method, path = request.split(" ")
    asked = {"method": method, "path": path}
    return {"route": route, "request": asked, "status": status, "body": body or {}, "read_as": read_as}


def _put(outer: Any, place: list[str], value: Any) -> None:
    for key in place[:-1]:
        outer = outer[int(key) if isinstance(outer, list) else key]
    last: Any = int(place[-1]) if isinstance(outer, list) else place[-1]
    if value is GONE:
        del outer[last]
    else:
        outer[last] = value
