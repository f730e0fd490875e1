"""The tables of docs/reference/emulator.md, from what the emulated services declare; the words around them stay."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from runops.emulator.api import Api
from runops.emulator.services import default_apis
from runops.emulator.store import Emulator

PAGE = "docs/reference/emulator.md"
_TABLE = re.compile(r"(<!-- emulator: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def page() -> str:
    """The page with its tables written anew."""
    text = (Path(__file__).resolve().parents[2] / PAGE).read_text(encoding="utf-8")
    return _TABLE.sub(lambda found: f"{found[1]}{TABLES[found[2]]()}\n{found[3]}", text)


def choices() -> str:
    """How a submit chooses a script, and what groups the runs."""
    rows = [
        (
            api.title,
            f"`/{api.name}`",
            f"`{json.dumps(api.choosing_script)}`" if api.choosing_script else "runs are made by the control API",
            f"`{api.parent_name}`, `{api.default_parent}`",
        )
        for api in default_apis()
    ]
    return _table(("provider", "below", "the part of a submitted body that chooses a script", "parent, default"), rows)


def scripts() -> str:
    """The scripts of each provider, with the states that they show in order."""
    rows = [
        (
            api.title if place == 0 else "",
            f"`{name}`" + (", the usual one" if name == api.default_script else ""),
            states,
        )
        for api in default_apis()
        for place, (name, states) in enumerate((name, _states(api, name)) for name in api.scripts)
    ]
    return _table(("provider", "script", "states"), rows)


def routes() -> str:
    """The routes of each provider, with the names by which faults and the list of requests know them."""
    rows = [
        (api.title if place == 0 else "", f"`{route.method} {route.template}`", f"`{route.action}`")
        for api in Emulator(default_apis()).apis.values()
        for place, route in enumerate(api.routes)
    ]
    return _table(("provider", "route", "action"), rows)


def _states(api: type[Api], script: str) -> str:
    shown: list[str] = []
    for moment in api.scripts[script]:
        state: Any = moment.changes.get(api.state_field)
        result = moment.changes.get("result")
        word = f"`{state or shown[-1].split('`')[1]}`" + (f" with result `{result}`" if result else "")
        if (state or result) and (not shown or shown[-1] != word):
            shown.append(word)
    return ", ".join(shown)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


TABLES = {"choices": choices, "scripts": scripts, "routes": routes}
