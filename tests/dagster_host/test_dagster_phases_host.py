"""on_phase in a real Dagster whose processes are killed after the call: the next entry calls, that one not again."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from runops.dagster.step.phases import PHASE

pytestmark = pytest.mark.promise("on_phase calls once each time that a run enters a phase")

PARENT = "phases"


def test_a_re_execution_after_a_kill_calls_for_no_entry_twice(host: Any) -> None:
    host.emulator.set_defaults("b3os", script="running")

    def told() -> list[str]:
        file = host.folder / "phases.calls"
        return file.read_text().splitlines() if file.exists() else []

    def run() -> dict[str, Any]:
        (found,) = host.external("b3os", PARENT)
        return found

    def is_now(status: str) -> None:
        host.emulator.set_fields("b3os", run()["run_id"], {"status": status})

    def watched() -> None:
        before = run()["reads"]
        host.until(lambda: run()["reads"] > before + 3, "the run is looked at")

    def tag(run_id: str) -> str | None:
        return host.instance.get_run_by_id(run_id).tags.get(PHASE)

    first = host.launch("phases", PARENT)
    host.until(lambda: host.external("b3os", PARENT), "the run is submitted")
    is_now("waiting")
    host.until(lambda: len(told()) == 1 and tag(first) == "waiting", "somebody is called")
    watched()
    waits = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED], tags={PHASE: "waiting"})
    assert [each.run_id for each in host.instance.get_runs(waits)] == [first]
    host.kill(first, "both")
    assert host.ended(first) is dg.DagsterRunStatus.FAILURE

    again = host.reexecute(first)
    watched()
    assert len(told()) == 1
    is_now("running")
    watched()
    is_now("waiting")
    host.until(lambda: len(told()) == 2, "somebody is called for the next entry")
    is_now("success")
    assert host.ended(again) is dg.DagsterRunStatus.SUCCESS
    assert told() == [f"{run()['run_id']} waiting"] * 2
    assert tag(again) == "over"
    assert host.cancels("b3os", PARENT) == []
