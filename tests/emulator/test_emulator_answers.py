"""What each route of the emulator answers, word for word: tests of other projects stand on it.

``python -m tests.emulator.test_emulator_answers`` writes ``tests/payloads/emulator_answers.json`` anew; the difference
in it is what such tests will see. The clock stands still, so times and ids are kept as they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from runops.emulator.server import Server
from runops.emulator.services import default_apis
from tests.emulator.conftest import Caller
from tests.emulator.test_emulator_scripts import difference
from tests.services import CALLS, Clock, on_clock

KEPT = Path(__file__).parents[1] / "payloads" / "emulator_answers.json"
BEGAN = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()
STATES = {
    "nexio": ("queued", "running", "succeeded", "failed"),
    "nyx": ("queued", "running", "succeeded", "failed"),
    "onepin": ("queued", "running", "paused", "succeeded", "failed"),
    "b3os": ("running", "waiting", "succeeded", "failed"),
    "nekt": ("queued", "running", "succeeded", "failed"),
}
"""The scripts of the runs that there are, oldest first."""
PARENTS: dict[str, dict[str, str]] = {
    "nexio": {"engine_slug": "placement"},
    "nyx": {"config_name": "nightly"},
    "onepin": {"workflow_id": "7c9e6679-7425-40de-944b-e07fc1f90ae7"},
    "b3os": {"workflow_id": "wf_1"},
    "nekt": {"pipeline": "orders-extractor"},
}
HOLES = {**PARENTS["nyx"], **PARENTS["b3os"], "node_id": "node-15", "action_type": "send-token"}
ONEPIN = f"/api/v1/workflows/{PARENTS['onepin']['workflow_id']}"
TARGET = {
    "name": "Support agent", "slug": "support", "url": "https://agent.example.com", "severity_target": "high",
    "default_budget_usd": 5,
}  # fmt: skip
DEFINITION = {"nodes": {"root": {"type": "manual", "children": []}}}
ASKED: dict[str, list[tuple[str, str, Any]]] = {
    "nexio": [
        ("POST", "/api/v1/engines/placement/runs", {"input": {}, "engine_version": "2.x"}),
        ("POST", "/api/v1/engines/placement/runs", {"input": {}, "engine_version": "2"}),
        ("POST", "/api/v1/engines/placement/runs", {"input": []}),
        ("POST", "/api/v1/engines/missing-1/runs", {"input": {}}),
        ("GET", "/api/v1/runs/", None),
    ],
    "nyx": [
        ("GET", "/v1/nyx/runs?limit=2&offset=1&status=completed", None),
        ("GET", "/v1/nyx/runs?limit=0", None),
        ("GET", "/v1/nyx/runs?limit=101", None),
        ("GET", "/v1/nyx/runs?offset=x", None),
        ("GET", "/v1/nyx/runs/by-config/other", None),
        ("POST", "/v1/nyx/runs", CALLS["nyx"]),
        ("POST", "/v1/nyx/runs", {**CALLS["nyx"], "config_name": "other"}),
        ("POST", "/v1/nyx/runs", {**CALLS["nyx"], "config_name": "missing-1"}),
        *(("POST", "/v1/nyx/runs", {**CALLS["nyx"], name: value}) for name, value in (
            ("config_name", ""), ("name", 1), ("objective", None), ("target", {}), ("budget_usd", 0), ("hints", 7),
            ("budget_usd", True), ("budget_usd", 1e12), ("severity_target", "huge"), ("target_id", 7),
        )),
        ("POST", "/v1/nyx/targets", TARGET),
        *(("POST", "/v1/nyx/targets", {**TARGET, name: value}) for name, value in (
            ("slug", ""), ("url", None), ("endpoint", 7), ("credentials", []), ("hints", {}),
            ("default_budget_usd", -1),
        )),
        ("GET", "/v1/nyx/targets", None),
    ],
    "onepin": [
        ("GET", "/api/v1/workflows?limit=1&offset=1&include_definition=TRUE", None),
        ("GET", "/api/v1/workflows?limit=101", None),
        ("GET", "/api/v1/workflows?has_failed_run=true&search=emulated", None),
        ("GET", f"{ONEPIN}/runs?limit=2&offset=1&status=paused,running,completed", None),
        ("GET", f"{ONEPIN}/runs?sort=completed_at&order=asc&search=JANE&limit=4", None),
        ("GET", f"{ONEPIN}/runs?sort=name", None),
        ("GET", f"{ONEPIN}/runs?order=up", None),
        ("GET", f"{ONEPIN}/runs?status=done", None),
        ("GET", f"{ONEPIN}/runs/summary?from=2026-03-01T11:59:40Z&to=2026-03-01T11:59:50Z", None),
        ("GET", f"{ONEPIN}/runs/summary?from=2026-03-01", None),
        ("GET", f"{ONEPIN}/runs/summary?from=2026-03-01T12:00:00Z&to=2026-03-01T11:00:00Z", None),
        ("GET", f"{ONEPIN}/runs/RUN/steps?node_type=operator_generator&include_result=TRUE", None),
        ("GET", f"{ONEPIN}/runs/RUN/steps?node_id=node-15&include_result=no", None),
        ("GET", f"{ONEPIN}/runs/RUN/data?search=LAND&language=EN_us", None),
        ("GET", f"{ONEPIN}/runs/RUN/data?limit=1&offset=1&language=de", None),
        ("GET", f"{ONEPIN}/runs/RUN/nodes/node-1/download", None),
        ("GET", f"{ONEPIN}/runs/RUN/audio/0123456789abcdef/url", None),
        ("GET", f"{ONEPIN}/runs/1", None),
        ("POST", f"{ONEPIN}/estimate", {}),
        ("POST", f"{ONEPIN}/runs/preview", {}),
        ("POST", f"{ONEPIN}/runs", {}),
        ("POST", f"{ONEPIN}/runs", {"script_text": 7}),
        ("POST", "/api/v1/workflows/11111111-2222-4333-8444-555555555555/runs", {"script_text": "emulator:x"}),
        ("POST", "/api/v1/workflows/11111111-2222-4333-8444-555555555555/runs", {"script_text": "emulator:failed"}),
        ("POST", "/api/v1/workflows/missing-1/runs", {}),
    ],
    "b3os": [
        ("GET", "/v1/runs?limit=1&offset=1&workflowId=wf_1", None),
        ("GET", "/v1/runs?limit=x", None),
        ("GET", "/v1/workflows/wf_1/runs?status=success", None),
        ("GET", "/v1/workflows?_fields_filter=id,name", None),
        ("GET", "/v1/workflows/missing-1", None),
        ("GET", "/v1/runs/RUN?summary=true", None),
        ("GET", "/v1/runs/RUN?nodeIds=quote,other", None),
        ("GET", "/v1/actions/missing-1", None),
        ("GET", "/v1/actions/No", None),
        ("POST", "/v1/actions/send-token/run", {"inputs": {"to": "0x1"}}),
        ("POST", "/v1/actions/send-token/run", {"inputs": 7}),
        ("POST", "/v1/workflows/wf_1/run", {"payload": {"amount": 3}}),
        ("POST", "/v1/workflows/wf_1/run", {"payload": 7}),
        ("POST", "/v1/workflows/wf_1/run", {"payload": {"emulator": {"seconds": "x"}}}),
        ("POST", "/v1/runs/sync", {"definition": DEFINITION, "payload": {"emulator": {"seconds": 3}}}),
        ("POST", "/v1/runs/sync", {"definition": {"nodes": {}}}),
        ("POST", "/v1/runs/sync", {"definition": {"nodes": {"root": {}, **{str(n): {} for n in range(20)}}}}),
    ],
    "nekt": [
        ("GET", "/api/v1/runs", None),
        ("GET", "/api/v1/runs?page=2", None),
        ("GET", "/api/v1/runs/?page=2", None),
        ("GET", "/api/v1/sources/?last_run_status=queued,failed&connector_slug=orders", None),
        ("GET", "/api/v1/sources/?last_run_status=lost", None),
        ("GET", "/api/v1/sources/?page_size=1&page=1", None),
        ("GET", "/api/v1/transformations/?page_size=1&page=2", None),
    ],
}  # fmt: skip
"""What is asked beside each route for each run; ``RUN`` is the newest run that succeeded."""

UNLIKE = ("client", "headers", "index", "user_agent")
"""What differs from one run of this test to the next."""


class Story:
    """What is asked of one provider and answered, in order."""

    def __init__(self, call: Caller, provider: str, clock: Clock) -> None:
        self._call = call
        self._provider = provider
        self.answers: dict[str, Any] = {}
        emulator = call.server.emulator
        self._runs: dict[str, str] = {}
        for age, script in enumerate(STATES[provider]):
            begun = 50 - 10 * age
            for parents in self._parents_of(script):
                run_id = emulator.create_run(
                    provider, script=script, seconds=8, parents=parents, age_seconds=begun, held=False
                )
                self._runs.setdefault(script, run_id)
        self._api = emulator.apis[provider]

    def _parents_of(self, script: str) -> Iterator[dict[str, str]]:
        yield PARENTS[self._provider]
        if self._provider == "nekt":
            yield {"transformation": f"{script}-orders"}

    def told(self) -> dict[str, Any]:
        """Everything that is asked and answered."""
        routes = [route for route in self._api.routes if "{filename}" not in route.template]
        for route in sorted(routes, key=lambda route: route.method):
            before: Any = {}
            for script, run_id in self._runs.items():
                holes = {**HOLES, **PARENTS[self._provider], "run_id": run_id, "audio_id": self._audio(run_id)}
                path = route.template.format_map(holes)
                if route.method == "POST" and "{run_id}" not in route.template:
                    continue
                label = f"{route.method} {route.template}"
                if "{run_id}" not in route.template:
                    self._ask(label, route.method, path)
                    break
                shown = self._ask(f"{label}: {script}", route.method, path)
                self.answers[f"{label}: {script}"], before = difference(before, shown), shown
        for method, path, body in ASKED[self._provider]:
            text = path.replace("RUN", self._runs["succeeded"])
            label = f"{method} {path} {json.dumps(body) if body else ''}".strip()
            self._ask(label, method, text, json=body)
        self._refusals(next(iter(self._runs.values())))
        self._noted()
        return self.answers

    def _noted(self) -> None:
        """What the control API tells of all that."""
        told = self._call.control("GET", f"/runs?provider={self._provider}").json()["runs"]
        self.answers["the runs"] = [{name: run[name] for name in run if name != "fields"} for run in told]
        requests = self._call.control("GET", f"/requests?provider={self._provider}").json()["requests"]
        several = {name: {entry[name] for entry in requests} for name in ("client", "fault", "provider", "time")}
        assert [len(values) for values in several.values()] == [1, 1, 1, 1], several
        self.answers["a request"] = {name: value for name, value in requests[0].items() if name not in UNLIKE}
        shown = ("action", "status", "run_id", "created_run_id", "key", "key_id")
        self.answers["the requests"] = [" ".join(str(entry[name]) for name in shown) for entry in requests]

    def _refusals(self, run_id: str) -> None:
        route = next(route for route in self._api.routes if route.method == "GET" and "{run_id}" in route.template)
        holes = {**HOLES, **PARENTS[self._provider], "run_id": run_id}
        path = route.template.format_map(holes)
        self._ask("without a key", "GET", path, key=None)
        self._ask("a wrong key", "GET", path, key="invalid-1")
        self._ask("a key that may not", "GET", path, key="forbidden-1")
        self._ask("another method", "PATCH", path)
        self._ask("no such path", "GET", "/v9/nothing")
        unknown = "00000000-0000-4000-8000-000000000000"
        self._ask("no such run", "GET", route.template.format_map({**holes, "run_id": unknown}))
        for place in {route.template.format_map(holes) for route in self._api.routes if route.action == "submit"}:
            self._ask("no JSON", "POST", place, content=b"{")
            self._ask("no object", "POST", place, content=b"[]")

    def _audio(self, run_id: str) -> str:
        if self._provider != "onepin":
            return ""
        rows = self._call("onepin", "GET", f"{ONEPIN}/runs/{run_id}/data").json()["data"]["rows"]
        return rows[1]["cards"][0]["id"] if rows[1]["cards"] else "0" * 16

    def _ask(self, label: str, method: str, path: str, **options: Any) -> Any:
        answer = self._call(self._provider, method, path, **options)
        text = answer.text.replace(self._call.server.url, "http://emulator")
        kind = answer.headers.get("content-type", "")
        kept = ("allow", "location", "cache-control")
        shown = {
            "status": answer.status_code,
            "headers": {name: answer.headers[name] for name in kept if name in answer.headers},
            "body": json.loads(text) if "json" in kind else text,
        }
        shown["headers"] |= {} if "json" in kind else {"content-type": kind}
        self.answers[label] = shown
        return shown


def story(server: Server, provider: str) -> dict[str, Any]:
    """What is asked of a provider and answered."""
    clock = Clock()
    clock.now = clock.began = BEGAN
    with on_clock(server, clock, seed=7):
        call = Caller(server)
        with call.http:
            return Story(call, provider, clock).told()


PROVIDERS = [cls.name for cls in default_apis()]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_each_route_answers_what_it_has_always_answered(served, provider: str) -> None:
    assert story(served, provider) == json.loads(KEPT.read_text())[provider]


def main() -> None:
    """Write what the routes answer now."""
    from runops.emulator.server import running

    with running(seed=7, seconds=0.4) as server:
        told = {provider: story(server, provider) for provider in PROVIDERS}
    # A line for each answer, so that a difference is short.
    texts = {
        provider: ",\n".join(f"  {json.dumps(label)}: {json.dumps(answer)}" for label, answer in answers.items())
        for provider, answers in told.items()
    }
    KEPT.write_text("{\n" + ",\n".join(f' "{name}": {{\n{text}\n }}' for name, text in texts.items()) + "\n}\n")


if __name__ == "__main__":
    main()
