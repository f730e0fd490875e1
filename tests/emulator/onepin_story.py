"""What OnePin's published SDK does with runs, every call of it once: ``python onepin_story.py EMULATOR_URL``.

It runs with the Python of any environment that has a version of ``onepin``, so it imports nothing of runops. It prints
one JSON object: the version, the calls that were made, those that the version has, and the fields that its models do
not know.
"""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import io
import json
import sys
import zipfile
from collections.abc import Iterator
from typing import Any

import httpx
import onepin
from onepin.core.api_error import ApiError

WORKFLOW = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
OLD_STEPS: tuple[str, dict[str, Any]] = ("get_run_steps", {})


class Story:
    """The calls, each noted by its name."""

    def __init__(self, url: str, http: httpx.Client) -> None:
        self.url, self.http = url, http
        self.client = onepin.OnepinClient(api_key="op_live_x", base_url=f"{url}/onepin", httpx_client=http)
        self.called: list[str] = []
        self.unknown: set[str] = set()

    def has(self, name: str) -> bool:
        """Whether this version has a call."""
        return hasattr(self._owner(name), name.rpartition(".")[2])

    def call(self, name: str, *ids: str, **options: Any) -> Any:
        """Make a call, and return what it answers."""
        answer = getattr(self._owner(name), name.rpartition(".")[2])(*ids, **options)
        self.called.append(name)
        self.unknown |= set(unknown_fields(answer, name))
        return answer

    def start(self, script: str) -> Any:
        """Start a run as the command line of every version does: with a body beside the SDK's own arguments."""
        options = {"additional_body_parameters": {"script_text": script}}
        return self.call("runs.start", WORKFLOW, request_options=options).data

    def refused(self, status: int, name: str, *ids: str, **options: Any) -> None:
        """Make a call that ends in an error, without the client's own further tries."""
        found: Any = None
        try:
            self.call(name, *ids, request_options={"max_retries": 0}, **options)
        except ApiError as problem:
            found = problem.status_code
        assert found == status, f"{name}: {found}"

    def control(self, path: str, **body: Any) -> None:
        """Steer the emulator."""
        self.http.post(f"{self.url}/_control/{path}", json=body).raise_for_status()

    def fetch(self, url: str) -> bytes:
        """Fetch what an answer names the address of, without a key."""
        answer = self.http.get(url)
        answer.raise_for_status()
        return answer.content

    def names(self) -> list[str]:
        """Every call of this version's ``workflows`` and ``workflows.runs``."""
        workflows = self.client.workflows
        runs = [f"runs.{name}" for name in dir(workflows.runs)]
        names = [name for name in [*dir(workflows), *runs] if not name.startswith(("_", "runs._"))]
        return [name for name in names if name != "runs" and not name.endswith("with_raw_response")]

    def _owner(self, name: str) -> Any:
        return self.client.workflows.runs if name.startswith("runs.") else self.client.workflows


def unknown_fields(value: Any, path: str) -> Iterator[str]:
    """The fields of an answer that the models of this version do not know."""
    if isinstance(value, list):
        for each in value:
            yield from unknown_fields(each, f"{path}[]")
        return
    fields = getattr(type(value), "model_fields", None)
    if fields is None:
        return
    yield from (f"{path}.{name}" for name in value.model_extra or {})
    for name in fields:
        yield from unknown_fields(getattr(value, name), f"{path}.{name}")


def before_a_run(story: Story) -> None:
    """What is asked before a run is started."""
    assert [row.id for row in story.call("list", limit=5).data] == [WORKFLOW]
    assert story.call("get", WORKFLOW).data.last_run_status is None
    for name in ("preview_run", "estimate_workflow"):
        estimate = story.call(name, WORKFLOW).data
        assert sum(row.expected_credits for row in estimate.breakdown) == estimate.expected_credits == 46
        assert estimate.can_run


def a_run_to_its_end(story: Story) -> str:
    """Start a run, hold it up, let it go on, and return its id once it is completed."""
    run = story.start("emulator:succeeded seconds=10")
    story.control("advance", seconds=6, run_id=run.id)
    assert story.call("runs.status", WORKFLOW, run.id).data.status == "running"
    story.refused(409, "download_run", WORKFLOW, run.id)
    story.refused(409, "resume_run", WORKFLOW, run.id)
    asked = story.call("pause_run", WORKFLOW, run.id).data
    assert (asked.status, asked.pause_requested_at is None) == ("running", False)
    story.control("advance", run_id=run.id)
    assert story.call("pause_run", WORKFLOW, run.id).data.status == "paused"
    assert story.call("resume_run", WORKFLOW, run.id).data.status == "running"
    story.control("advance", run_id=run.id)
    assert story.call("runs.get", WORKFLOW, run.id).data.status == "completed"
    return run.id


def what_it_brought_about(story: Story, run_id: str) -> None:
    """Read all that there is of a completed run."""
    listed = story.call("runs.list", WORKFLOW, status="completed,failed", sort="created_at", order="desc")
    assert [row.id for row in listed.data] == [run_id]
    # It has moved, and has learnt to filter.
    steps, filters = ("runs.steps", {"node_type": "operator_generator"}) if story.has("runs.steps") else OLD_STEPS
    assert len(story.call(steps, WORKFLOW, run_id).data) == 15
    found = story.call(steps, WORKFLOW, run_id, **filters).data
    assert ("node-6", "completed") in [(step.node_id, step.status) for step in found]
    assert len(found) == 1 or not filters
    overview = story.call("get_run_overview", WORKFLOW, run_id).data
    assert {state.status for state in overview.workflow_snapshot.node_states} == {"completed"}
    data = story.call("get_run_data", WORKFLOW, run_id, limit=2)
    assert (len(data.data.rows), data.pagination.total, data.data.partial.status) == (2, 3, "available")
    assert len(story.call("get_run_data", WORKFLOW, run_id, search="noon").data.rows) == 1
    assert story.call("get_run_data", WORKFLOW, run_id, language="ko-KR").data.rows[0].cards == []
    (card,) = data.data.rows[0].cards
    assert story.fetch(card.audio.playback_url).startswith(b"RIFF")
    if story.has("get_run_outputs"):
        (sink,) = story.call("get_run_outputs", WORKFLOW, run_id).data.outputs
        assert (sink.line_count, sink.truncated, sink.status) == (3, False, "completed")
    if story.has("get_run_analysis"):
        analysis = story.call("get_run_analysis", WORKFLOW, run_id).data
        assert (analysis.credits.charged, analysis.audio.delivered_total_ms) == (46, 4800)
    if story.has("get_run_audio_url"):
        assert story.fetch(story.call("get_run_audio_url", WORKFLOW, run_id, card.id).data.url).startswith(b"RIFF")
        story.refused(404, "get_run_audio_url", WORKFLOW, run_id, "0" * 16)
    for name, ids in (("download_run", ()), ("download_run_node", ("node-15",))):
        found = story.call(name, WORKFLOW, run_id, *ids).data
        assert len(zipfile.ZipFile(io.BytesIO(story.fetch(found.url))).namelist()) == 3
        assert found.filename.endswith(".zip")
    story.refused(404, "download_run_node", WORKFLOW, run_id, "node-6")


def other_ends(story: Story) -> None:
    """Cancel a run, refuse a second one beside it, and count."""
    run = story.start("emulator:forever")
    story.refused(409, "runs.start", WORKFLOW)
    assert story.call("runs.cancel", WORKFLOW, run.id).data.status == "cancelled"
    if story.has("get_run_outputs"):
        assert story.call("get_run_outputs", WORKFLOW, run.id).data.outputs[0].lines == []
    assert story.call("get_run_data", WORKFLOW, run.id).data.partial.status == "not_ready"
    now = dt.datetime.now(dt.UTC)
    window = {"from_": now - dt.timedelta(hours=1), "to": now + dt.timedelta(hours=1)}
    counts = story.call("runs_summary", WORKFLOW, **window).data
    assert (counts.total_runs, counts.completed, counts.cancelled, counts.pass_rate) == (2, 1, 1, 1.0)
    assert story.call("list", status="completed").data == []
    assert story.call("list", search="emulated", sort=["runs_count"], order=["asc"]).data[0].runs_count == 2


def main() -> None:
    """Tell the story."""
    with httpx.Client(follow_redirects=True) as http:
        story = Story(sys.argv[1], http)
        story.control("hold", held=True, provider="onepin")
        before_a_run(story)
        what_it_brought_about(story, a_run_to_its_end(story))
        other_ends(story)
    told = {
        "version": importlib.metadata.version("onepin"),
        "called": sorted(set(story.called)),
        "names": sorted(story.names()),
        "unknown": sorted(story.unknown),
    }
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main()
