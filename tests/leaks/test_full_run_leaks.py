"""A full run of the five services writes nothing secret or personal anywhere, whatever the services say."""

from __future__ import annotations

import base64
import gzip
import json
import sqlite3
import zlib
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

pytestmark = pytest.mark.slow

ENDINGS: dict[str, dict[str, set[str]]] = {
    "airflow": {
        "succeeded": {"success"},
        "soft": {"skipped"},
        "failed": {"failed"},
        "cancelled": {"skipped"},
        "timed_out": {"failed"},
        "wrong_key": {"failed"},
        "trouble": {"success"},
        "refused": {"failed"},
        # Nyx, which shows the mark of none of its runs, is sent the submit once more.
        "uncertain": {"failed", "success"},
        "lost": {"success", "failed"},
    },
    "plain": {
        "succeeded": {"succeeded", "0"},
        "soft": {"degraded", "exhausted", "cancelled", "1", "3"},
        "failed": {"failed", "1"},
        "cancelled": {"cancelled", "1"},
        "timed_out": {"timed_out", "1"},
        "wrong_key": {"AuthError", "4"},
        "trouble": {"succeeded", "0"},
        "refused": {"RequestRefused", "4"},
        "uncertain": {"SubmitUncertainError", "succeeded", "0", "4"},
        "lost": {"succeeded", "SubmitUncertainError", "0", "4"},
    },
}
ENDINGS["dagster"] = ENDINGS["airflow"]
# Where a person, or a program, reads what became of a run.
PLACES = {
    "airflow": {
        "task log": r"stdout",
        "database": r"airflow\.db, table task_instance$",
        "XCom": r"airflow\.db, table xcom$",
        "rendered fields": r"airflow\.db, table rendered_task_instance_fields$",
        "task state": r"airflow\.db, table task_state",
        "trigger": r"^triggers",
        "failure": r"^failures",
        "serialised DAG": r"airflow\.db, table serialized_dag$",
        "event log": r"airflow\.db, table log$",
    },
    "dagster": {
        "compute log": r"^stderr|storage/.*\.err$",
        "event log": r"history/runs/.*\.db, table event_logs$",
        "run storage": r"history/runs\.db, table",
        "job snapshot": r"history/runs\.db, a cell of snapshots, unpacked$",
        "repository snapshot": r"^repository",
        "events": r"^events",
        "resource": r"^resources",
    },
    "plain": {
        "log": r"^debug\.log$",
        "output": r"^stdout",
        "complaints": r"^stderr",
        "values": r"^values",
        "errors": r"^errors",
    },
}


@pytest.fixture(scope="module", params=["airflow", "dagster", "plain"])
def run(request: pytest.FixtureRequest, full_run: Callable[[str], Any]) -> Any:
    return full_run(request.param)


def test_a_full_run_writes_no_key_and_nothing_personal_anywhere(run: Any) -> None:
    assert run.leaks() == []


def test_every_scenario_came_to_its_end(run: Any) -> None:
    endings = ENDINGS[run.host]
    met: set[str] = set()
    for name, end in run.told["states"].items():
        scenario = next(scenario for scenario in endings if scenario in name)
        assert end in endings[scenario], f"{name} ended as {end}"
        met.add(scenario)
    assert met == set(endings)


def test_what_may_be_seen_was_found_in_every_place_that_was_searched(run: Any, fields: Any) -> None:
    run_ids = [wait["run_id"] for waits in run.plan["waits"].values() for wait in waits.values()]
    for name, place in PLACES[run.host].items():
        word = "runops" if name in ("repository snapshot", "resource", "job snapshot") else None
        words = [word] if word else ["submits_succeeded", *run_ids, *run.submitted_ids]
        assert any(run.holds(word, place) for word in words), f"the {name} was not searched"
    shown = {"airflow": r"stdout", "dagster": r"table event_logs$", "plain": r"^stdout|^values"}[run.host]
    assert run.holds(fields.ALLOWED, shown), "the reason of a failure is shown"
    assert run.holds("[removed]", shown), "a reason was shown without what stood in it"
    assert run.holds("httpcore", r"."), "everything logged at DEBUG"


def test_the_services_were_told_every_input_and_said_every_private_thing(run: Any, fields: Any) -> None:
    said = json.dumps(run.served)
    missing = [name for name, canary in fields.CANARIES.items() if canary not in said and fields.in_payloads(name)]
    assert missing == []
    sent = json.dumps(run.submitted)
    missing = [name for name, canary in fields.CANARIES.items() if fields.in_submits(canary) and canary not in sent]
    assert missing == []


@pytest.mark.parametrize(
    "spell",
    [
        str,
        str.upper,
        lambda text: quote(text, safe=""),
        quote_plus,
        lambda text: json.dumps({"x": json.dumps(text)}),
        lambda text: text.encode().hex(),
        lambda text: text.encode().hex().upper(),
        lambda text: json.dumps(text.encode("utf-16-le").decode("latin-1")).replace("\\u0000", "\0"),
        *(lambda text, n=n: base64.b64encode(b"x" * n + text.encode() + b"yz").decode() for n in range(3)),
        *(lambda text, n=n: base64.urlsafe_b64encode(b"?" * n + text.encode()).decode() for n in range(3)),
        lambda text: base64.b64encode(quote(f"user:{text}").encode()).decode(),
    ],
)
def test_the_search_finds_every_canary_in_every_spelling(
    spell: Callable[[str], str], canaries: Mapping[str, str], fields: Any, search: Any
) -> None:
    for name, canary in canaries.items():
        hidden = f"before {spell(canary)} after".encode("latin-1")
        assert search.places_of(fields.STEM, [("here", hidden)]), name
    assert not search.places_of(fields.STEM, [("here", b"nothing of the kind")])


def test_the_search_looks_into_files_databases_and_what_is_packed(
    tmp_path: Path, canaries: Mapping[str, str], fields: Any, search: Any
) -> None:
    secret = next(iter(canaries.values())).encode()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "plain.log").write_bytes(b"\xff\n" + secret)
    (tmp_path / "a" / "log.gz").write_bytes(gzip.compress(secret))
    (tmp_path / "a" / "twice.gz").write_bytes(gzip.compress(gzip.compress(secret)))
    (tmp_path / f"named-{fields.STEM}").touch()
    with closing(sqlite3.connect(tmp_path / "some.db")) as database:
        database.execute("CREATE TABLE texts (a TEXT)")
        database.execute("CREATE TABLE packed (a BLOB)")
        database.execute("CREATE TABLE clean (a TEXT)")
        database.execute("INSERT INTO texts VALUES (?)", (secret.decode(),))
        database.execute("INSERT INTO packed VALUES (?)", (zlib.compress(secret),))
        database.execute("INSERT INTO clean VALUES ('fine')")
        database.commit()
    places = {place for place, _ in search.places_of(fields.STEM, search.everything_under(tmp_path))}
    assert places == {
        "a/plain.log",
        "a/log.gz, unpacked",
        "a/twice.gz, unpacked, unpacked",
        f"name of named-{fields.STEM}",
        "some.db",
        "some.db, table texts",
        "some.db, a cell of packed, unpacked",
    }
