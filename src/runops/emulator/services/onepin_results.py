"""What OnePin tells of a run beside its state: steps, overview, outputs, data, analysis and downloads.

Routes and fields are those that the source of the official client (PyPI ``onepin`` 0.9.0 to 0.16.1) asks for and
reads. Every workflow has one graph of 15 nodes in a row, and every run speaks three lines in one language; a run has
delivered them once it is ``completed``.
Where a client fetches the files is :mod:`runops.emulator.services.onepin_files`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from runops.emulator.api import RefusedError, Route
from runops.emulator.runs import timestamp
from runops.emulator.services.onepin_files import LINES, LOCALE, TOTAL_MS, OnepinFiles
from runops.emulator.wire import Answer

if TYPE_CHECKING:
    from runops.emulator.runs import Run
    from runops.emulator.services.onepin_wire import OnepinWire
    from runops.emulator.wire import Request

TYPES = (
    "source_script", "operator_normalizer", "operator_translator", "operator_normalizer",
    "operator_phoneme_injector", "operator_generator", "validator_error_rate", "validator_naturalness",
    "validator_noise", "validator_pronunciation", "operator_pronunciation_corrector", "validator_error_rate",
    "validator_naturalness", "validator_noise", "sink_preview",
)  # fmt: skip
"""Of the nodes ``node-1`` to ``node-15``."""
NODES = [{"id": f"node-{number}", "type": kind} for number, kind in enumerate(TYPES, 1)]
SINK = NODES[-1]
GRAPH: dict[str, Any] = {
    "nodes": [{**node, "position": {"x": 240 * place, "y": 0}, "config": {}} for place, node in enumerate(NODES)],
    "edges": [
        {
            "id": f"edge-{place}",
            "source": before["id"],
            "sourcePort": "pass" if before["type"].startswith("validator_") else "lines",
            "target": after["id"],
            "targetPort": "lines",
        }
        for place, (before, after) in enumerate(pairwise(NODES), 1)
    ],
}
DEFINITION: dict[str, Any] = {"graph": GRAPH, "execution": {"steps": [node["id"] for node in NODES], "params": {}}}
CREDITS: dict[str, int] = {"node-3": 12, "node-6": 34}
"""What the nodes that cost anything are expected to cost."""


class OnepinResults:
    """The handlers of these routes.

    Args:
        api: The API whose runs they tell of.
    """

    def __init__(self, api: OnepinWire) -> None:
        self.api = api
        self.files = OnepinFiles(api)

    def routes(self, run: str) -> Iterable[Route]:
        """Return the routes below the path of a run, and that of the files."""
        yield Route("GET", f"{run}/steps", "steps", self._steps)
        yield Route("GET", f"{run}/overview", "overview", self._overview)
        yield Route("GET", f"{run}/outputs", "outputs", self._outputs)
        yield Route("GET", f"{run}/data", "data", self._rows)
        yield Route("GET", f"{run}/analysis", "analysis", self._analysis)
        yield Route("GET", f"{run}/download", "download", self._download)
        yield Route("GET", f"{run}/nodes/{{node_id}}/download", "download", self._download_node)
        yield Route("GET", f"{run}/audio/{{audio_id}}/url", "audio_url", self._audio_url)
        yield from self.files.routes()

    def _steps(self, request: Request) -> Answer:
        run = self.api.find_run(request)
        states = _node_states(run)
        for field in ("node_id", "node_type"):
            wanted = request.query.get(field)
            if wanted:
                states = [state for state in states if state[field] == wanted]
        steps = [{**state, "id": f"{run.run_id}-{state['node_id'].rpartition('-')[2]}"} for state in states]
        full = request.query.get("include_result", "").lower() == "true"
        return self.api.data([{**step, **_result_of(step, full), **_pause_of(run, step)} for step in steps])

    def _overview(self, request: Request) -> Answer:
        run = self.api.find_run(request)
        status = _readiness(run)
        shown = ("id", "status", "run_number", "created_at", "started_at", "completed_at", "paused_ms")
        done = status == "available"
        metric = {
            "key": "total_duration",
            "label": "Total duration",
            "value": TOTAL_MS if done else None,
            "formatted_value": f"{TOTAL_MS / 1000:g} s" if done else "-",
            "unit": "ms",
            "status": status,
            "reason": None if done else "The run is not completed.",
            "display": {"variant": "number", "emphasis": None},
            "annotation": None,
        }
        language = {"locale_code": LOCALE, "line_count": len(LINES), "total_duration_ms": TOTAL_MS}
        return self.api.data(
            {
                "workflow": {"id": run.parents["workflow_id"], "name": self.api.workflow_name},
                "run": {name: run.fields.get(name) for name in (*shown, "has_export", "error")},
                "share": None,
                "metric_sections": [{"key": "audio", "title": "Audio", "layout": "grid", "metrics": [metric]}],
                "audio_by_language": [{**language, "avg_duration_ms": TOTAL_MS // len(LINES)}] if done else [],
                "validators": [_validator(node, status) for node in NODES if node["type"].startswith("validator_")],
                "workflow_snapshot": {
                    "definition": DEFINITION,
                    "node_states": [{**state, "duration_ms": None} for state in _node_states(run)],
                },
                "capabilities": {"validator_drilldown": False, "live_trace_timing": False},
                "future_links": {"validator_drilldown": None, "live_trace": None},
            }
        )

    def _outputs(self, request: Request) -> Answer:
        run = self.api.find_run(request)
        lines = [
            {
                "line_id": f"line-{place}",
                # The client takes any object here; these are the names of the same things in ``data``.
                "audio_files": [self._audio(request, run, place)],
                "recommended_audio_file_index": 0,
                "delivery": {"passed": True, "failing_checks": []},
            }
            for place in range(1, len(LINES) + 1)
            if run.state == "completed"
        ]
        sink = {
            "node_id": SINK["id"],
            "node_type": SINK["type"],
            "display_name": "Preview",
            "status": next((each["status"] for each in _node_states(run) if each["node_id"] == SINK["id"]), "pending"),
            "lines": lines,
            "line_count": len(lines),
            "truncated": False,
        }
        paid = {name: run.fields.get(name) for name in ("credits", "credits_absorbed")}
        return self.api.data({"run_id": run.run_id, "run_status": run.state, **paid, "outputs": [sink]})

    def _rows(self, request: Request) -> Answer:
        run = self.api.find_run(request)
        search = request.query.get("search", "").lower()
        language = request.query.get("language", "").replace("_", "-").lower()
        places = [place for place, (script, _) in enumerate(LINES, 1) if search in script.lower()]
        limit, offset = self.api.limits_of(request)
        rows = [self._row(request, run, place, language) for place in places[offset : offset + limit]]
        status = _readiness(run)
        reason = None if status == "available" else "The run is not completed."
        data = {
            "workflow_id": run.parents["workflow_id"],
            "run_id": run.run_id,
            "run_status": run.state,
            "rows": rows,
            "partial": {"status": status, "reason": reason, "source": None},
            "dropped_truncated": False,
        }
        answer = self.api.page(request, data, limit=limit, offset=offset, total=len(places))
        # Playback addresses are short-lived.
        answer.headers["cache-control"] = "no-store"
        return answer

    def _row(self, request: Request, run: Run, place: int, language: str) -> dict[str, Any]:
        script = LINES[place - 1][0]
        line = {"line_id": f"line-{place}", "source_line_id": None, "line_index": place - 1}
        status = _readiness(run)
        card = {
            **line,
            "id": self._audio_id(run, place),
            "locale_code": LOCALE,
            "script": script,
            "audio": self._audio(request, run, place),
            "validations": [{"kind": "wer", "label": "Word accuracy", "score": 98.0, "status": status, "wer": 0.02}],
            "normalized": True,
            "voice": {"display_name": "Emulated voice", "status": "available", "reason": None},
            "waveform_url": None,
            "waveform_status": "unsupported",
            "waveform_reason": None,
            "retry_count": 0,
            "status": "delivered",
            "dropped": None,
            "rejected": None,
        }
        cards = [card] if status == "available" and language in ("", LOCALE) else []
        row = {**line, "id": f"row-{place}", "script": script, "script_status": "available", "script_reason": None}
        return {**row, "auto_corrected": 0, "auto_corrected_status": status, "cards": cards}

    def _analysis(self, request: Request) -> Answer:
        run = self.api.find_run(request)
        done = run.state == "completed"
        local = {"locale_code": LOCALE, "delivered_line_count": len(LINES), "delivered_duration_ms": TOTAL_MS}
        audio = {
            "status": "available" if done else "unavailable",
            "reason": None if done else "run_not_settled",
            "truncated": False,
            "delivered_total_ms": TOTAL_MS if done else None,
            "generated_total_ms": TOTAL_MS if done else None,
            "replaced_partial": False,
            "by_locale": [{**local, "replaced_duration_ms": 0, "replaced_partial": False}] if done else [],
        }
        shown = ("id", "status", "started_at", "completed_at", "paused_ms")
        return self.api.data(
            {
                "run": {**{name: run.fields.get(name) for name in shown}, "duration_ms": self.api.active_ms(run)},
                "audio": audio,
                "validators": [_scores(node, done) for node in NODES if node["type"].startswith("validator_")],
                "credits": _credits(run, done),
            }
        )

    def _download(self, request: Request) -> Answer:
        run = self._completed(request)
        return self._url(request, run, f"run-{run.fields.get('run_number', 1)}.zip")

    def _download_node(self, request: Request) -> Answer:
        run = self.api.find_run(request)
        if request.params["node_id"] != SINK["id"]:
            raise RefusedError(self.api.error(404, "No output node with this id"))
        self._completed(request)
        return self._url(request, run, f"{SINK['id']}.zip")

    def _audio_url(self, request: Request) -> Answer:
        run = self.api.find_run(request)
        places = [
            place for place in range(1, len(LINES) + 1) if self._audio_id(run, place) == request.params["audio_id"]
        ]
        if not places or run.state != "completed":
            raise RefusedError(self.api.error(404, "No audio with this id"))
        return self._url(request, run, f"line-{places[0]}.wav")

    def _completed(self, request: Request) -> Run:
        run = self.api.find_run(request)
        if run.state != "completed":
            raise RefusedError(self.api.error(409, "The run is not completed"))
        return run

    def _url(self, request: Request, run: Run, filename: str) -> Answer:
        url, until = self.files.signed(request, run, filename)
        return self.api.data({"url": url, "filename": filename, "expires_at": timestamp(until, self.api.digits)})

    def _audio(self, request: Request, run: Run, place: int) -> dict[str, Any]:
        return {
            "playback_url": self.files.signed(request, run, f"line-{place}.wav")[0],
            "status": "available",
            "reason": None,
            "duration_ms": LINES[place - 1][1],
            "content_type": "audio/wav",
            "provider": "emulated",
            "model": "silence-1",
        }

    def _audio_id(self, run: Run, place: int) -> str:
        """16 hexadecimal letters, as the client describes them."""
        return hashlib.sha256(f"{run.run_id}:{place}".encode()).hexdigest()[:16]


def estimate(api: OnepinWire, balance: int = 10_000) -> Answer:
    """Answer what a run would cost."""
    spread = {"node-3": (10, 15), "node-6": (30, 45)}
    kinds = {node["id"]: node["type"] for node in NODES}
    rows = [
        {"node_id": node, "node_type": kinds[node], "min_credits": low, "expected_credits": usual, "max_credits": high}
        for node, usual in CREDITS.items()
        for low, high in [spread[node]]
    ]
    totals = {name: sum(row[name] for row in rows) for name in ("min_credits", "expected_credits", "max_credits")}
    over = {"overage_rate_cents_per_credit": None, "will_incur_overage": False, "estimated_overage_cents": None}
    more = {"current_balance": balance, "deficit_at_max": 0, "can_run": True}
    return api.data({**totals, "breakdown": rows, **more, **over})


def _node_states(run: Run) -> list[dict[str, Any]]:
    """The nodes that have begun, in order: so many are done as the run says, and the next one is as the run is."""
    done = run.fields.get("finished_nodes")
    done = done if isinstance(done, int) else 0
    begun = NODES[: done if run.state == "completed" or not run.fields.get("started_at") else done + 1]
    states: list[dict[str, Any]] = []
    for place, node in enumerate(begun):
        finished = place < done
        states.append(
            {
                "node_id": node["id"],
                "node_type": node["type"],
                "node_display_name": node["type"].partition("_")[2].replace("_", " ").capitalize(),
                "status": "completed" if finished else run.state,
                "iteration": 1,
                "started_at": run.fields.get("started_at"),
                "completed_at": run.fields.get("completed_at") or (run.fields.get("updated_at") if finished else None),
                "error": None if finished else run.fields.get("error"),
            }
        )
    return states


def _result_of(step: Mapping[str, Any], full: bool) -> dict[str, Any]:
    done = step["status"] == "completed"
    return {"has_result": done, "result": {"lines": len(LINES)} if done and full else None, "locales": [LOCALE]}


def _pause_of(run: Run, step: Mapping[str, Any]) -> dict[str, Any]:
    held = step["status"] == "paused"
    return {name: run.fields.get(name) if held else None for name in ("pause_reason", "pause_error")}


def _validator(node: Mapping[str, str], status: str) -> dict[str, Any]:
    scored = {"avg_score": 97.5, "pass_rate": 1.0, "pass_count": len(LINES), "fail_count": 0, "retry_count": 0}
    kind = node["type"].removeprefix("validator_")
    base = {"node_id": node["id"], "kind": kind, "label": kind.replace("_", " ").capitalize(), "status": status}
    return {**base, **(scored if status == "available" else dict.fromkeys(scored)), "reason": None}


def _scores(node: Mapping[str, str], done: bool) -> dict[str, Any]:
    kind = node["type"].removeprefix("validator_")
    local = {"locale_code": LOCALE, "avg_score": 97.5, "line_count": len(LINES), "pass_count": len(LINES)}
    return {
        "node_id": node["id"],
        "node_type": node["type"],
        "kind": kind,
        "label": kind.replace("_", " ").capitalize(),
        "threshold": 90.0,
        "max_retries": 2,
        "retry_count": 0,
        "status": "available" if done else "unavailable",
        "reason": None,
        "truncated": False,
        "unscored_locale_count": 0,
        "locales": [{**local, "fail_count": 0, "status": "available"}] if done else [],
    }


def _credits(run: Run, done: bool) -> dict[str, Any]:
    rows = [
        {
            "node_id": node["id"],
            "node_type": node["type"],
            "display_name": None,
            "detail": LOCALE,
            "processed_units": 910 if node["id"] in CREDITS else None,
            "unit": "character" if node["id"] in CREDITS else None,
            "retries": 0,
            "credits_fractional": str(CREDITS[node["id"]]) if node["id"] in CREDITS else None,
            "status": "recorded" if node["id"] in CREDITS else "free",
        }
        for node in NODES
    ]
    reason = "run_paused" if run.state == "paused" else "run_not_settled"
    return {
        "status": "ok" if done else "unavailable",
        "reason": None if done else reason,
        "truncated": False,
        "rows": rows if done else [],
        "total_fractional": str(sum(CREDITS.values())) if done else None,
        "unattributed_fractional": "0" if done else None,
        "charged": run.fields.get("credits") if done else None,
        "overage_credits": 0 if done else None,
        "absorbed_fraction": "0" if done else None,
        "minimum_charge_fractional": "0" if done else None,
    }


def _readiness(run: Run) -> str:
    """Whether what a run delivers is there, in the client's words."""
    return "available" if run.state == "completed" else "not_ready"
