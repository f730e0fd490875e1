"""Runs of five providers in every phase and outcome, made by a seed: what a server of the page would answer with."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

PROVIDERS = {"nexio": "Nexio", "nyx": "Nyx", "onepin": "OnePin", "b3os": "B3OS", "nekt": "Nekt"}
PHASES = ("queued", "running", "paused", "waiting", "stopping")
OUTCOMES = ("succeeded", "degraded", "exhausted", "failed", "cancelled", "timed_out")
VERDICTS = {"succeeded": "succeed", "degraded": "skip", "exhausted": "skip"}
UNITS = {"nyx": "USD", "onepin": "characters", "b3os": "CU", "nekt": "USD"}
NASTY = {
    "html": '<img src=x onerror="document.title=1"><script>window.broken=1</script>',
    "ansi": "\x1b[31mred\x1b[0m and \x1b]0;title\x07a bell\x00",
    "turned": "invoice\u202egpj.exe \u2066isolated \u0645\u0631\u062d\u0628\u0627 end",
    "long": "a-very-long-name-without-a-break-" + "x" * 10_000,
    "many lines": "\n".join(f"line {number} of a traceback" for number in range(400)),
    "marks": "Z" + "\u0301\u0316" * 500 + "algo",
}
"""Texts of strangers that must neither run nor break the page."""


def iso(at: datetime) -> str:
    """As the server writes times."""
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def made_runs(count: int, now: datetime, *, seed: int = 7) -> list[dict[str, Any]]:
    """Rows as the route ``runs`` gives them.

    Args:
        count: How many.
        now: The time.
        seed: The same gives the same rows.
    """
    draw = random.Random(seed)
    return [_row(number, now, draw) for number in range(count)]


def _row(number: int, now: datetime, draw: random.Random) -> dict[str, Any]:
    provider = list(PROVIDERS)[number % 5]
    word = (*PHASES, *OUTCOMES)[number % 11]
    over = word in OUTCOMES
    began = now - timedelta(seconds=30 + number * 97 + draw.randrange(60))
    took = draw.randrange(40, 9000)
    ended = began + timedelta(seconds=took) if over else None
    usual = draw.choice([None, 600.0, 3600.0, 40.0])
    row: dict[str, Any] = {
        "schema": 1,
        "kind": "run",
        "provider": provider,
        "conn_id": f"{provider}_default",
        "run_id": f"{provider}-{number:05d}-{draw.getrandbits(64):016x}",
        "url": f"https://app.{provider}.example/runs/{number}",
        "own": number % 4 != 0,
        "cancels": number % 4 != 0,
        "try_number": 1 + number % 3,
        "state": {"succeeded": "completed", "running": "processing"}.get(word, word),
        "reason": f"The service says: step {number % 9} of the run is {word}.",
        "began_at": iso(began),
        "created_at": iso(began),
        "started_at": iso(began + timedelta(seconds=12)),
        "looked_at": iso(now - timedelta(seconds=number % 50)),
        "run_ended": over and word != "timed_out",
        "details": {"stage": f"stage-{number % 5}", "findings_count": number % 17, "totalCu": number * 1.5},
        "timeline": [
            {"at": iso(began), "state": "queued", "phase": "queued"},
            {"at": iso(began + timedelta(seconds=12)), "state": "processing", "phase": "running"},
        ],
        "dag_id": f"team_{number % 7}_nightly_import",
        "dag_run_id": f"manual__{iso(began).replace('Z', '+00:00')}",
        "task_id": ["wait_for_audit", "run_model", "translate_script"][number % 3],
        "map_index": -1 if number % 6 else number % 40,
        "task_state": "deferred" if not over else "failed" if word in ("failed", "timed_out") else "success",
        "usual_seconds": usual,
        "age_seconds": float(took if over else (now - began).total_seconds()),
        "record_age_seconds": float(number % 50),
        "may": {"look": True, "cancel": not over and provider != "nexio"},
    }
    row["outcome" if over else "phase"] = word
    if ended is not None:
        row |= {"finished_at": iso(ended), "ended_at": iso(ended), "verdict": VERDICTS.get(word, "fail")}
        row["timeline"].append({"at": iso(ended), "state": row["state"], "outcome": word})
    if word == "timed_out":
        row["ended_by"] = "max_paused"
    if provider in UNITS:
        row |= {"spend": round(draw.random() * 90, 3), "spend_unit": UNITS[provider]}
    if number % 2 and not over:
        row["progress"] = {"done": number % 41, "total": 40 if number % 4 == 1 else None, "unit": "pages"}
    if not over and number % 3 == 0:
        row["holds"] = word if word in ("paused", "waiting") else draw.choice(["turn", "rate_limit", "key"])
        row["holds_for"] = "run nyx-00042-in-the-way" if row["holds"] == "turn" else "for 40 s"
    if provider == "onepin":
        row["parents"] = {"workflow_id": f"wf_{number}"}
    return row


def set_row(now: datetime, total: int) -> dict[str, Any]:
    """A task that waits for many runs.

    Args:
        now: The time.
        total: How many.
    """
    row = made_runs(1, now)[0]
    for name in ("run_id", "state", "url", "usual_seconds"):
        row.pop(name)
    ended = total * 3 // 4
    counts = {"total": total, "ended": ended, "active": 20, "errors": 3, "verdicts": {"succeed": ended - 40}}
    counts["outcomes"] = {"succeeded": ended - 40, "failed": 37}
    return row | {
        "kind": "set",
        "phase": "running",
        "counts": counts,
        "dag_id": "many_runs",
        "task_id": "translate_all",
        "map_index": -1,
        "spend": 1234.5,
        "spend_unit": "USD",
        "holds": None,
    }


def set_rows(total: int) -> list[dict[str, Any]]:
    """The runs of a set, as compact as their XCom has them.

    Args:
        total: How many.
    """
    rows: list[dict[str, Any]] = []
    for number in range(total):
        row: dict[str, Any] = {
            "index": number,
            "run_id": f"run-{number:05d}",
            "url": f"https://app.example/runs/{number}",
        }
        if number % 4 < 3:
            row |= {
                "outcome": "failed" if number % 20 == 0 else "succeeded",
                "verdict": "fail" if number % 20 == 0 else "succeed",
            }
            row["spend"] = number / 100
        rows.append(row)
    return rows


def nasty_runs(now: datetime) -> list[dict[str, Any]]:
    """One run for each text of :data:`NASTY`, which stands in every field that a stranger writes.

    Args:
        now: The time.
    """
    rows = made_runs(len(NASTY), now, seed=3)
    for row, text in zip(rows, NASTY.values(), strict=True):
        for name in ("run_id", "state", "reason", "holds_for", "dag_id", "task_id", "conn_id"):
            row[name] = text
        row |= {"holds": "turn", "url": "javascript:alert(1)", "parents": {"workflow_id": text}}
        row |= {"details": {"stage": text, text[:60]: text}, "progress": {"done": 1, "total": 9, "unit": text}}
        row |= {"spend": 5, "spend_unit": text}
        row["timeline"] = [{"at": iso(now), "state": text, "phase": "running"}]
    return rows


def charts_of(rows: list[dict[str, Any]], now: datetime, days: int) -> dict[str, Any]:
    """What the route ``charts`` gives, of days that lie closer together than the rows do.

    Args:
        rows: The runs.
        now: The time.
        days: How many days back.
    """
    groups: dict[tuple[str, ...], dict[str, Any]] = {}
    tasks: dict[tuple[str, ...], dict[str, Any]] = {}
    for number, row in enumerate(row for row in rows if row.get("outcome")):
        day = (now - timedelta(days=(number * 7 + number // 5) % days)).astimezone(UTC).date().isoformat()
        for key, into in (((day, row["provider"]), groups), ((row["dag_id"], row["task_id"], row["provider"]), tasks)):
            group = into.setdefault(
                key, {"outcomes": {}, "runs": 0, "spend": {}, "seconds_median": 0, "seconds_p90": 0}
            )
            group["runs"] += 1
            group["outcomes"][row["outcome"]] = group["outcomes"].get(row["outcome"], 0) + 1
            group["seconds_median"] = row["age_seconds"]
            group["seconds_p90"] = row["age_seconds"] * 1.6
            if "spend" in row:
                group["spend"][row["spend_unit"]] = group["spend"].get(row["spend_unit"], 0) + row["spend"]
    return {
        "days": [{"day": day, "provider": provider, **group} for (day, provider), group in sorted(groups.items())],
        "tasks": [
            {"dag_id": dag, "task_id": task, "provider": provider, **group}
            for (dag, task, provider), group in sorted(tasks.items(), key=lambda each: -each[1]["runs"])[:50]
        ],
        "truncated": False,
    }
