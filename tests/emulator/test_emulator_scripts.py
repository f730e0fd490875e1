"""What each script of the emulator shows, word for word: tests of other projects stand on it.

``python -m tests.emulator.test_emulator_scripts`` writes ``tests/payloads/emulator_scripts.json`` anew; the difference
in it is what such tests will see.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from runops.emulator.runs import ScriptError, at
from runops.emulator.services import default_apis
from runops.emulator.store import Emulator

KEPT = Path(__file__).parents[1] / "payloads" / "emulator_scripts.json"
STEPS = 10
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
REQUEST = re.compile(r"\b[a-z0-9]+[-_][0-9a-f]{16}\b")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00)")

Read = Callable[[str, str], Any]


def story(emulator: Emulator, read: Read, provider: str, script: str) -> list[Any]:
    """The first body of a run of 10 seconds, and what changes in it at each further second; ids by their kind, and
    ``NOW`` for times of these days."""
    run_id = emulator.create_run(provider, script=script, seconds=STEPS, held=True)
    made = emulator.now()

    def plain(body: Any) -> Any:
        text = REQUEST.sub("REQUEST", UUID.sub("UUID", json.dumps(body).replace(run_id, "RUN")))
        return json.loads(TIME.sub(lambda found: "NOW" if _is_recent(found[0], made) else found[0], text))

    shown = [plain(read(provider, run_id))]
    changes: list[Any] = [shown[0]]
    for second in range(1, STEPS + 1):
        emulator.advance(1, run_id=run_id)
        shown.append(plain(read(provider, run_id)))
        changed = difference(shown[-2], shown[-1])
        if changed:
            changes.append({str(second): changed})
    return changes


def _is_recent(time: str, now: float) -> bool:
    return abs(datetime.fromisoformat(time).timestamp() - now) < 24 * 3600


def difference(before: Any, after: Any) -> Any:
    """What an object has come to hold since; what it holds no more is None under ``-`` and the name."""
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return after
    changed = {
        name: difference(before.get(name), value)
        for name, value in after.items()
        if name not in before or before[name] != value
    }
    return changed | {f"-{name}": None for name in before if name not in after}


SCRIPTS = [(cls.name, script) for cls in default_apis() for script in cls.scripts]


def test_every_script_is_kept() -> None:
    kept = json.loads(KEPT.read_text())
    assert [(provider, script) for provider, scripts in kept.items() for script in scripts] == SCRIPTS


@pytest.mark.parametrize(("provider", "script"), SCRIPTS)
def test_a_script_shows_what_it_has_always_shown(call, emulator, provider: str, script: str) -> None:
    read = lambda provider, run_id: call.read(provider, run_id).json()  # noqa: E731
    assert story(emulator, read, provider, script) == json.loads(KEPT.read_text())[provider][script]


@pytest.mark.parametrize("fraction", [-1, -0.001, 1.001, 2, float("nan")])
def test_a_moment_of_a_script_lies_within_its_duration(fraction: float) -> None:
    with pytest.raises(ScriptError, match=rf"lies at 0 to 1 of its duration; got {fraction}$"):
        at(fraction, status="running")


def main() -> None:
    """Write what the scripts show now."""
    from runops.emulator.server import running
    from tests.emulator.conftest import Caller

    with running(seed=7, seconds=0.4) as server:
        call = Caller(server)
        kept: dict[str, dict[str, Any]] = {}
        for provider, script in SCRIPTS:
            # As the fixture does, so that runs are counted from 1.
            server.emulator.reset()
            read = lambda provider, run_id: call.read(provider, run_id).json()  # noqa: E731
            kept.setdefault(provider, {})[script] = story(server.emulator, read, provider, script)
    # A line for each moment of each script, so that a difference is short.
    stories = {
        provider: ",\n".join(_lines(script, moments) for script, moments in scripts.items())
        for provider, scripts in kept.items()
    }
    KEPT.write_text("{\n" + ",\n".join(f' "{name}": {{\n{text}\n }}' for name, text in stories.items()) + "\n}\n")


def _lines(script: str, moments: list[Any]) -> str:
    shown = ",\n   ".join(map(json.dumps, moments))
    return f'  "{script}": [\n   {shown}\n  ]'


if __name__ == "__main__":
    main()
