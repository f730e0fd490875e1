"""Keys that are rotated under twenty steps, each in a process of its own: in a file, and in Dagster's own ``.env``."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from runops.core import find

KINDS = ("file", "variable")
PROVIDERS = ("nexio", "nyx", "onepin", "b3os", "nekt")
WORKFLOW = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
OLD = {"file": "canary-old-file-7e2b11", "variable": "canary-old-variable-5d1c07"}
NEW = {kind: f"canary-new-{kind}-99ab42" for kind in KINDS}
UNUSED_AFTER = 60.0
"""Seconds after the key is changed from which nothing bears the old one."""


def write(folder: Path, keys: dict[str, str]) -> None:
    """Set the keys as a person or a mounted secret does: at once, never half."""
    for name, text in (("key", f"{keys['file']}\n"), (".env", f"HOST_ROTATED_KEY={keys['variable']}\n")):
        (folder / "new").write_text(text)
        (folder / "new").rename(folder / name)


@pytest.fixture
def keys(host: Any) -> Iterator[None]:
    assert host.first_key == OLD["variable"]
    host.emulator.reset()
    write(host.folder, OLD)
    for kind in KINDS:
        host.emulator.set_key(OLD[kind], "accepted", label=f"old {kind}")
        host.emulator.set_key(NEW[kind], "accepted", label=f"new {kind}")
    yield
    host.emulator.reset()


def accepted(host: Any, age: str) -> dict[str, set[str]]:
    """The runs that were read with the old or the new key, by where it stands."""
    return {
        kind: {each["run_id"] for each in host.emulator.requests(key_label=f"{age} {kind}", status=200)} - {None}
        for kind in KINDS
    }


def revoke(host: Any) -> float:
    for kind in KINDS:
        host.emulator.set_key(OLD[kind], "revoked", label=f"old {kind}")
    return time.time()


def told(host: Any, revoked: float, changed: float) -> dict[str, float]:
    """When an old key was used last, in seconds after the change; none of them may be after a minute."""
    last: dict[str, float] = {}
    for kind in KINDS:
        uses = [each["time"] for each in host.emulator.requests(key_label=f"old {kind}") if each["time"] >= revoked]
        last[kind] = max(uses) - changed
        print(f"\n{kind}: {len(uses)} requests with the revoked key, the last one {last[kind]:.1f} s after the change")
    return last


@pytest.mark.usefixtures("keys")
def test_twenty_steps_go_on_with_the_new_key_and_the_old_one_is_not_used_any_more(host: Any) -> None:
    made: dict[str, Any] = {}
    runs: dict[str, set[str]] = {kind: set() for kind in KINDS}
    for provider in PROVIDERS:
        parents = {"workflow_id": WORKFLOW} if provider == "onepin" else None
        for kind in KINDS:
            for number in range(2):
                run_id = host.emulator.create_run(provider, script="succeeded", seconds=3600, parents=parents)
                made[f"{provider}_{kind}_{number}"] = find(provider).ref(run_id, parents).model_dump(mode="json")
                runs[kind].add(run_id)
    (host.folder / "runs.json").write_text(json.dumps(made))
    assert len(made) == 20
    run_id = host.launch("keys")
    host.until(lambda: accepted(host, "old") == runs, "each step has read its run", 240)
    revoked = revoke(host)
    time.sleep(8)
    write(host.folder, NEW)
    changed = time.time()
    host.until(lambda: accepted(host, "new") == runs, "each step has read its run with the new key", 60)
    print(f"\nall 20 steps go on {time.time() - changed:.1f} s after the change")
    time.sleep(max(changed + UNUSED_AFTER + 3 - time.time(), 0.0))
    host.emulator.advance()
    assert host.ended(run_id, 180) is dg.DagsterRunStatus.SUCCESS, host.log(run_id)
    assert max(told(host, revoked, changed).values()) <= UNUSED_AFTER
    log = host.log(run_id)
    assert all(key not in log for key in (*OLD.values(), *NEW.values()))
