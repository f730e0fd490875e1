"""B3OS's workflow runs as its pages and its official client describe them.

A submitted run goes as ``payload.emulator`` says, an object with any of ``script`` (a name below or
a list of steps), ``seconds``, ``hidden_seconds``, ``fields``, ``on_cancel`` and ``on_retry`` (the script
of the run that a retry of it makes; ``retried`` if nothing is said). Workflows whose id starts with ``missing`` do
not exist. Runs of one workflow may be active side by side. A run in one go (``POST /v1/runs/sync``) goes the same way
and is answered at the end of its script, without anybody having waited.

``X-Org-ID`` is accepted and ignored. A page holds 100 rows at most; a higher ``limit``, such as the three times the
asked page of the official client, is taken for 100. ``/v1/runs`` ignores a ``status`` filter,
``/v1/workflows/{id}/runs`` does not. Where the vendor is silent: a cancel answers 200 with an empty body, a cancel of
a run that is over 409. What lies beside the runs is in :mod:`runops.emulator.services.b3os_workflows`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from runops.emulator.api import RefusedError, Route, Submission
from runops.emulator.runs import NOW, Moment, Run, Step, at
from runops.emulator.services.b3os_wire import B3osWire
from runops.emulator.services.b3os_workflows import DEFINITION, ORGANIZATION_ID, B3osWorkflows, check_definition
from runops.emulator.wire import Answer, Request

ZERO_TIME = "0001-01-01T00:00:00Z"
ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
HEAVY = frozenset({"executionState", "workflowDefinition"})
IN_LIST = (
    "finishedAt", "id", "isDustTest", "isSimulation", "sourceRunId", "startedAt", "status",
    "totalCu", "triggerSource", "triggeredBy", "workflowId", "workflowVersion",
)  # fmt: skip


def _node(kind: str, status: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, "status": status, "startedAt": NOW, **fields}


def _state(quote: dict[str, Any], swap: dict[str, Any] | None = None) -> dict[str, Any]:
    state = {"root": _node("manual", "success", result={"payload": {}}, finishedAt=NOW), "quote": quote}
    return state if swap is None else {**state, "swap": swap}


QUOTED = _node(
    "http-request",
    "success",
    input={"wallet": "0x52908400098527886E0F"},
    result={"price": 1.04},
    finishedAt=NOW,
)
STARTED = (
    at(0, status="running", executionState=_state(_node("http-request", "running"))),
    at(0.5, status="running", totalCu=1.5, executionState=_state(QUOTED, _node("send-token", "running"))),
)
SWAPPED = _state(QUOTED, _node("send-token", "success", result={"hash": "0xabc123"}, finishedAt=NOW))
RETRIED = _state(QUOTED, _node("send-token", "running"))
WAITING = _state(QUOTED, _node("wait", "waiting"))
SUCCESS: dict[str, Any] = {"status": "success", "finishedAt": NOW, "totalCu": 3.0, "executionState": SWAPPED}


def _failed(result: Any) -> Moment:
    state = _state(QUOTED, _node("send-token", "failure", input={"memo": "invoice 7"}, result=result, finishedAt=NOW))
    return at(1, status="failure", finishedAt=NOW, totalCu=2.0, executionState=state)


ALL_BUT_ID_AND_STATUS = (
    *(name for name in IN_LIST if name not in ("id", "status")), "executionState",
    "workflowDefinition", "organizationId", "propValues", "simulationForks", "simulationMode",
)  # fmt: skip

SCRIPTS: dict[str, tuple[Moment, ...]] = {
    "running": (STARTED[0],),
    "forever": STARTED,
    "succeeded": (*STARTED, at(1, **SUCCESS)),
    # What a retry makes: it goes on from the node that failed, and those that succeeded are skipped.
    "retried": (at(0, status="running", executionState=RETRIED), at(1, **SUCCESS)),
    "failed": (*STARTED, _failed({"error": "insufficient funds for gas"})),
    "failed_message": (*STARTED, _failed({"message": "the target contract reverted", "code": 3})),
    "failed_secret": (
        *STARTED,
        _failed(
            {
                "error": "POST https://hooks.example.com/services/T0/B0/s3cr3t failed "
                "for jane.doe@example.com with token sk_live_4f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c4d3e2f1a"
            }
        ),
    ),
    "failed_odd_result": (*STARTED, _failed(["not", "an", "object"])),
    "failed_without_state": (*STARTED, at(1, status="failure", finishedAt=NOW, removed=("executionState",))),
    "cancelled": (*STARTED, at(1, status="cancelled", finishedAt=NOW)),
    "waiting": (STARTED[0], at(0.5, status="waiting", finishedAt=ZERO_TIME, executionState=WAITING)),
    "waiting_then_succeeded": (
        STARTED[0],
        at(0.3, status="waiting", finishedAt=ZERO_TIME, executionState=WAITING),
        at(0.7, status="running", executionState=_state(QUOTED, _node("send-token", "running"))),
        at(1, **SUCCESS),
    ),
    "empty_times": (at(0, status="running", startedAt="", finishedAt=""), at(1, **SUCCESS)),
    "unknown_word": (STARTED[0], at(0.25, status="retrying"), at(1, **SUCCESS)),
    "unknown_word_forever": (STARTED[0], at(0.25, status="retrying")),
    "unknown_word_ended": (STARTED[0], at(1, status="archived", finishedAt=NOW)),
    "bare": (
        at(0, status="running", removed=ALL_BUT_ID_AND_STATUS),
        at(1, status="success"),
    ),
    "unreadable_times": (
        at(0, status="running", startedAt="yesterday"),
        at(1, status="success", finishedAt="soon", totalCu=3.0),
    ),
}


class B3osApi(B3osWire):
    """``/v1/runs``, ``/v1/workflows/{id}/runs`` and ``POST /v1/workflows/{id}/run``."""

    scripts = SCRIPTS
    choosing_script: ClassVar[Mapping[str, Any]] = {"payload": {"emulator": {"script": "failed", "seconds": 3}}}

    def declare_routes(self) -> Iterable[Route]:
        """Return the paths that B3OS's pages document and its official client calls."""
        yield Route("GET", "/v1/runs", "list", self._list_all)
        yield Route("POST", "/v1/runs/sync", "sync", self._run_in_one_go)
        yield Route("GET", "/v1/runs/{run_id}", "get", self._get)
        yield Route("POST", "/v1/runs/{run_id}/cancel", "cancel", self._cancel)
        yield Route("POST", "/v1/runs/{run_id}/retry", "retry", self._retry)
        yield Route("GET", "/v1/workflows/{workflow_id}/runs", "list", self._list_of_workflow)
        yield Route("POST", "/v1/workflows/{workflow_id}/run", "submit", self._submit)
        yield from B3osWorkflows(self).routes()

    def new_id(self) -> str:
        """Make an id of B3OS's form."""
        return "run_" + "".join(self.random.choices(ALPHABET, k=20))

    def first_fields(self, run_id: str, parents: Mapping[str, str], shape: str | None) -> dict[str, Any]:
        """Return what B3OS shows of a run just made."""
        return {
            "id": run_id,
            "status": "running",
            "workflowId": parents["workflow_id"],
            "workflowVersion": 3,
            "organizationId": ORGANIZATION_ID,
            "startedAt": NOW,
            "finishedAt": "",
            "isDustTest": False,
            "isSimulation": False,
            "propValues": {"amount": 10},
            "simulationForks": [{"chainId": 8453, "forkId": "fork-1", "rpcUrl": "https://rpc.example.com/k3y"}],
            "simulationMode": "",
            "sourceRunId": "",
            "totalCu": 0,
            "triggerSource": "api",
            "triggeredBy": "user_emulated",
            "executionState": {},
            "workflowDefinition": DEFINITION,
        }

    def cancel_steps(self, run: Run) -> list[Step]:
        """Return what B3OS does with a run on cancel."""
        return [Step(0, {"status": "cancelled", "finishedAt": NOW})]

    def _get(self, request: Request) -> Answer:
        run = self.read_run(request)
        if request.query.get("summary") == "true":
            return self.data({name: value for name, value in run.fields.items() if name not in HEAVY})
        nodes = request.query.get("nodeIds")
        state = run.fields.get("executionState")
        if nodes and isinstance(state, dict):
            wanted = nodes.split(",")
            return self.data({**run.fields, "executionState": {name: state[name] for name in wanted if name in state}})
        return self.data(run.fields)

    def _list_all(self, request: Request) -> Answer:
        return self._page(request, self.store.children(request.query.get("workflowId")))

    def _list_of_workflow(self, request: Request) -> Answer:
        runs = self.store.children(self.check_parent(request.params["workflow_id"], "Workflow"))
        wanted = request.query.get("status")
        if wanted:
            runs = [run for run in runs if run.state == wanted]
        return self._page(request, runs)

    def _submit(self, request: Request) -> Answer:
        workflow_id = self.check_parent(request.params["workflow_id"], "Workflow")
        return self._started(self._start(self._submission(request, workflow_id)))

    def _run_in_one_go(self, request: Request) -> Answer:
        submission = self._submission(request, self.default_parent)
        check_definition(self, submission.body.get("definition"))
        run = self._start(submission)
        run.advance(None, self.store.now())
        took = round(1000 * (run.changed - run.created))
        shown = {name: run.fields.get(name) for name in ("status", "executionState")}
        return self.data({"runId": run.run_id, **shown, "durationMs": took}).creating(run.run_id)

    def _submission(self, request: Request, workflow_id: str) -> Submission:
        body = self.body_of(request)
        payload = body.get("payload") or {}
        if not isinstance(payload, dict):
            raise RefusedError(self.error(400, "payload must be an object"))
        return Submission({"workflow_id": workflow_id}, body, payload.get("emulator") or {})

    def _retry(self, request: Request) -> Answer:
        run = self.find_run(request)
        if run.state != "failure":
            raise RefusedError(self.error(409, "only a failed run can be retried"))
        options = {} if run.on_retry is None else {"script": run.on_retry}
        submission = Submission(run.parents, {}, options, {"sourceRunId": run.run_id}, usual_script="retried")
        return self._started(self._start(submission))

    def _cancel(self, request: Request) -> Answer:
        run = self.find_run(request)
        if run.refuses_cancel or self.is_over(run):
            raise RefusedError(self.error(409, "only a running or waiting run can be cancelled"))
        self.store.cancel(run)
        return Answer(200)

    def _start(self, submission: Submission) -> Run:
        return self.start(submission, lambda problem: self.error(400, f"payload.emulator: {problem}"))

    def _started(self, run: Run) -> Answer:
        return self.data({"runId": run.run_id}).creating(run.run_id)

    def _page(self, request: Request, runs: list[Run]) -> Answer:
        rows = [{name: run.fields[name] for name in IN_LIST if name in run.fields} for run in runs]
        return self.paged(request, rows)
