"""What the page tells in words and headers: refusals, what a look stores, who claimed it, what the audit log has."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_mock import MockerFixture

from runops.airflow.external_run import ExternalRun, Moment, iso
from runops.core import Outcome, RunRef, RunSnapshot, find
from runops.core.model.run import Phase, Progress
from runops.emulator.store import Emulator
from tests.airflow_side.page.database import Database, ended, record
from tests.airflow_side.page.people import Person

Opens = Callable[[str | None], Person]
SET = {"kind": "set", "run_id": None, "counts": {"total": 3}}
AT = 1_900_000_000.0
REF = RunRef(provider="nyx", run_id="r-1")

# --- refusals ---

ALONE = "only it knows which runs of the set are its own."
REFUSED: dict[str, tuple[str, dict[str, Any], str, int, str]] = {
    "a look at a set": ("look", SET, "deferred", 409, "The runs of a set are looked at by their task only."),
    "a look without a run": ("look", {"run_id": None}, "deferred", 409, "There is no run yet."),
    "a look without a connection": ("look", {"conn_id": None}, "deferred", 409, "The record names no connection."),
    "a cancel of what is over": ("cancel", {"run_ended": True}, "deferred", 409, "The run is over."),
    "a cancel of a left set": ("cancel", SET, "failed", 409, f"The task does not wait any more, and {ALONE}"),
    "a cancel of an unknown provider's": (
        "cancel", {"provider": "acme:GONE"}, "failed", 409, "The provider is not known to the API server.",
    ),
    "a cancel without a run": ("cancel", {"run_id": None}, "failed", 409, "There is no run yet."),
    "a cancel without a connection": ("cancel", {"conn_id": None}, "failed", 409, "The record names no connection."),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_a_refusal_says_why_and_nobody_is_asked(
    what: str, emulator: Emulator, database: Database, person: Opens
) -> None:
    action, fields, state, status, detail = REFUSED[what]
    task = database.add(record(**fields), state=state)
    answer = person("ada").act(action, task)
    assert (answer.status_code, answer.json()) == (status, {"detail": detail})
    assert emulator.requests() == []
    assert database.audit() == []


def test_somebody_who_may_not_is_told_which_right_is_missing(database: Database, person: Opens) -> None:
    alive, over = database.add(record()), database.add(record(), state="failed")
    connection = "This needs the task's connection, which Airflow does not let you see."
    for name, action, task, detail in (
        ("vera", "look", alive, "Airflow does not let you change tasks of this DAG."),
        ("vera", "cancel", alive, "Airflow does not let you change tasks of this DAG."),
        ("uma", "look", alive, connection),
        ("uma", "cancel", over, connection),
    ):
        answer = person(name).act(action, task)
        assert (answer.status_code, answer.json()["detail"]) == (403, detail)


HEADERS = {
    "a content type": ({"content_type": "text/plain"}, 415, "Send JSON, with the content type application/json."),
    "our header": ({"x_runops": None}, 403, "The header X-Runops is missing."),
    "a site": ({"sec_fetch_site": "cross-site"}, 403, "This was sent by a page of another site."),
    "an origin": ({"origin": "https://evil.example"}, 403, "This was sent by a page of another site."),
    "both": (
        {"sec_fetch_site": None, "origin": None}, 403, "The headers Origin and Sec-Fetch-Site are missing.",
    ),
    "a token of another kind": (
        {"sec_fetch_site": None, "origin": None, "authorization": "Basic YTpi"}, 403,
        "The headers Origin and Sec-Fetch-Site are missing.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", HEADERS)
def test_a_request_that_our_page_would_not_send_is_told_what_it_lacks(
    what: str, database: Database, person: Opens
) -> None:
    headers, status, detail = HEADERS[what]
    answer = person("ada").act("cancel", database.add(), **headers)
    assert (answer.status_code, answer.json()) == (status, {"detail": detail})


@pytest.mark.parametrize(
    "headers",
    [
        {"content_type": " Application/JSON ; charset=utf-8"}, {"sec_fetch_site": None, "origin": "HTTP://AIRFLOW.TEST"},
        {"origin": None}, {"sec_fetch_site": None, "origin": "https://airflow.test"},
    ],
    ids=str,
)  # fmt: skip
def test_what_browsers_and_proxies_spell_in_another_way_is_ours(
    headers: dict[str, str | None], database: Database, person: Opens
) -> None:
    task = database.add()
    assert person("ada").act("cancel", task, **headers).status_code == 200


def test_the_policy_allows_what_the_page_has_and_nothing_else(person: Opens) -> None:
    headers = person("ada").get("/").headers
    assert headers["content-security-policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    )
    assert headers["cross-origin-resource-policy"] == "same-origin"


def test_files_with_a_hash_in_their_name_are_kept_for_a_year_and_others_asked_for_again(person: Opens) -> None:
    ada = person("ada")
    script = next(word for word in ada.get("/").text.split('"') if word.startswith("assets/app-"))
    assert ada.get(f"/{script}").headers["cache-control"] == "public, max-age=31536000, immutable"
    assert ada.get("/assets/icon.svg").headers["cache-control"] == "no-cache"


def test_each_thing_that_is_wrong_with_a_question_is_named_by_its_field(database: Database, person: Opens) -> None:
    detail = person("ada").get("/api/runs", limit=0, offset=-1, sort="none").json()["detail"]
    first, second, third = detail.split("; ")
    assert first == "limit: Input should be greater than or equal to 1"
    assert second == "offset: Input should be greater than or equal to 0"
    assert third.startswith("sort: Value error, allowed are began_at, created_at, dag_id, ")
    assert third.endswith("with - in front for the largest first")
    many = {f"unknown_{number}": 1 for number in range(7)}
    assert person("ada").get("/api/runs", **many).json()["detail"].count("; ") == 4


def test_a_person_may_ask_240_times_a_minute_and_act_30_times(person: Opens) -> None:
    from fastapi import HTTPException

    from runops.airflow.plugin import guard

    somebody: Any = SimpleNamespace(get_id=lambda: "ada")
    own: Any = SimpleNamespace(
        headers={"content-type": "application/json", "x-runops": "1", "sec-fetch-site": "same-origin"}
    )
    for times, ask in ((240, lambda: guard.reader(somebody)), (30, lambda: guard.actor(own, somebody))):
        assert [ask() for _ in range(times)] == [somebody] * times
        with pytest.raises(HTTPException, match=r"Too many requests: again in \d+ s\.") as raised:
            ask()
        assert raised.value.status_code == 429
        assert 1 <= int((raised.value.headers or {})["retry-after"]) <= 61


# --- what is left of an action ---


def test_a_claim_names_who_made_it_and_when(emulator: Emulator, database: Database, person: Opens) -> None:
    task = database.add(record(run_id=emulator.create_run("nyx")), state="failed")
    began = iso(datetime.now(UTC).timestamp())
    person("otto").act("look", task)
    person("ada").act("cancel", task)
    looked, cancelled = database.xcom(task, "external_run_look"), database.xcom(task, "external_run_cancel")
    assert (looked["by"], cancelled["by"]) == ("otto", "ada")
    assert began <= looked["at"] <= cancelled["at"]


def test_a_second_cancel_within_a_minute_is_told_of_the_first(
    emulator: Emulator, database: Database, person: Opens
) -> None:
    task = database.add(record(run_id=emulator.create_run("nyx"), cancels=True))
    assert person("ada").act("cancel", task).status_code == 200
    otto = person("otto")
    for seconds, status in ((0.0, 409), (55.0, 409), (5.0, 200)):
        database.age(task, "external_run_cancel", seconds)
        answer = otto.act("cancel", task)
        assert answer.status_code == status
        assert status == 200 or answer.json()["detail"] == "Somebody had it cancelled within the last 60 s."


def test_the_audit_log_has_the_provider_and_the_map_index(
    emulator: Emulator, database: Database, person: Opens
) -> None:
    from airflow.models import Log
    from airflow.utils.session import create_session
    from sqlalchemy import select

    task = database.add(record(run_id=emulator.create_run("nyx")), map_index=3)
    person("otto").act("look", task)
    with create_session() as session:
        line = session.execute(select(Log.extra, Log.map_index, Log.owner_display_name)).one()
    assert tuple(line) == ('{"provider": "nyx"}', 3, "otto")


# --- what a look makes of a record ---


def looked(before: dict[str, Any], **seen: Any) -> ExternalRun:
    from runops.airflow.plugin.looked import with_look

    run = ExternalRun.from_dict(before)
    assert run is not None
    snapshot = RunSnapshot(**{"ref": REF, "state": "running", "phase": Phase.RUNNING, **seen})
    return with_look(run, find("nyx"), snapshot, AT)


def test_a_look_stores_all_that_it_has_seen_of_a_run_that_goes_on() -> None:
    moments = {name: datetime(2026, 5, day, tzinfo=UTC) for day, name in enumerate(("created_at", "started_at"), 1)}
    seen = looked(
        record(run_id="r-1", state="queued", phase="queued", timeline=[]),
        reason="it takes long", progress=Progress(done=3, total=7, unit="attempts"), url="https://nyx.example/r-1",
        details={"spent_usd": 2.5}, **moments,
    )  # fmt: skip
    assert (seen.state, seen.phase, seen.outcome, seen.reason) == ("running", "running", None, "it takes long")
    assert seen.progress == {"done": 3, "total": 7, "unit": "attempts"}
    assert (seen.spend, seen.spend_unit, seen.url) == (2.5, "USD", "https://nyx.example/r-1")
    assert (seen.created_at, seen.started_at) == ("2026-05-01T00:00:00.000Z", "2026-05-02T00:00:00.000Z")
    assert seen.looked_at == seen.written_at == iso(AT)
    assert seen.run_ended is False
    assert seen.timeline[-1] == Moment(iso(AT), "running", "running")


def test_what_a_look_has_not_seen_stays_as_it_was() -> None:
    before = record(
        run_id="r-1", progress={"done": 1, "total": 9, "unit": "x"}, spend=0.5, spend_unit="credits",
        started_at=iso(AT - 9), finished_at=None,
    )  # fmt: skip
    seen = looked(before)
    assert (seen.progress, seen.spend, seen.spend_unit) == (before["progress"], 0.5, "credits")
    assert (seen.url, seen.created_at, seen.started_at) == (before["url"], before["created_at"], iso(AT - 9))
    # Nothing has changed in how it stands, so the timeline has no other entry.
    assert len(seen.timeline) == 1


@pytest.mark.parametrize("change", [{"state": "probing"}, {"phase": Phase.PAUSED}])
def test_a_change_of_the_word_or_of_the_phase_is_an_entry_of_the_timeline(change: dict[str, Any]) -> None:
    timeline = [
        {"at": iso(AT - 90), "state": "paused", "phase": "paused"},
        {"at": iso(AT - 60), "state": "running", "phase": "running"},
    ]
    seen = looked(record(run_id="r-1", timeline=timeline), **change)
    assert [each.at for each in seen.timeline] == [iso(AT - 90), iso(AT - 60), iso(AT)]
    assert len(looked(record(run_id="r-1", timeline=timeline)).timeline) == 2


@pytest.mark.parametrize(
    ("before", "phase", "after"),
    [
        ({}, Phase.PAUSED, ("paused", None)),
        ({"holds": "paused", "holds_for": "a person"}, Phase.PAUSED, ("paused", "a person")),
        ({"holds": "paused", "holds_for": "a person"}, Phase.WAITING, ("waiting", None)),
        ({"holds": "paused", "holds_for": "a person"}, Phase.RUNNING, (None, None)),
        ({"holds": "turn", "holds_for": "r-0"}, Phase.RUNNING, ("turn", "r-0")),
        ({"holds": "key"}, Phase.WAITING, ("waiting", None)),
    ],
)
def test_a_look_says_what_holds_the_run_up_and_leaves_what_holds_up_the_wait(
    before: dict[str, Any], phase: Phase, after: tuple[str | None, str | None]
) -> None:
    seen = looked(record(run_id="r-1", **before), phase=phase)
    assert (seen.holds, seen.holds_for) == after


def test_a_look_at_a_run_that_is_over_stores_its_end() -> None:
    end = datetime(2026, 5, 3, tzinfo=UTC)
    seen = looked(
        record(run_id="r-1"), state="completed", phase=None, outcome=Outcome.FAILED, reason="broke", finished_at=end
    )
    assert (seen.phase, seen.outcome, seen.reason, seen.run_ended) == (None, "failed", "broke", True)
    assert (seen.finished_at, seen.ended_at) == ("2026-05-03T00:00:00.000Z", None)


def test_where_the_wait_is_over_a_look_changes_neither_phase_nor_reason() -> None:
    before = ended(run_id="r-1", outcome="timed_out", reason="too long", holds="paused", run_ended=False)
    seen = looked(before, reason="it goes on")
    assert (seen.phase, seen.outcome, seen.reason, seen.holds) == (None, "timed_out", "too long", "paused")


@pytest.mark.parametrize("ago", [0.5, -0.5])
def test_of_two_looks_the_one_that_began_later_counts(ago: float, database: Database) -> None:
    from runops.airflow.plugin.looked import store
    from runops.airflow.plugin.questions import Address

    now = datetime.now(UTC)
    task = database.add(record(run_id="r-1", looked_at=iso(now.timestamp() - ago)))
    store(Address(**task), find("nyx"), RunSnapshot(ref=REF, state="probing", phase=Phase.RUNNING), now, now)
    assert database.xcom(task)["state"] == ("probing" if ago > 0 else "running")


def test_a_look_is_stored_over_what_was_written_in_the_middle_of_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    from runops.airflow.plugin import looked as module
    from runops.airflow.plugin.questions import Address

    task, now = database.add(record(run_id="r-1")), datetime.now(UTC)
    added, between = module.with_look, iter((1.0, 1.0))

    def meanwhile(*given: Any) -> ExternalRun:
        for seconds in between:
            database.age(task, "external_run", seconds)
            break
        return added(*given)

    monkeypatch.setattr(module, "with_look", meanwhile)
    snapshot = RunSnapshot(ref=REF, state="probing", phase=Phase.RUNNING)
    module.store(Address(**task), find("nyx"), snapshot, now, now)
    assert database.xcom(task)["state"] == "probing"


# --- the service ---


def test_a_claim_of_a_clock_that_is_a_minute_ahead_counts_and_one_beyond_does_not(database: Database) -> None:
    from runops.airflow.plugin.claims import claim

    task = database.add(record())
    holder = SimpleNamespace(
        dag_run_id=database.number_of(task), dag_id=task["dag_id"], run_id=task["dag_run_id"], task_id="wait",
        map_index=-1,
    )  # fmt: skip
    assert claim(holder, "external_run_look", 5.0, "somebody")
    database.age(task, "external_run_look", -50.0)
    assert not claim(holder, "external_run_look", 5.0, "somebody")
    database.age(task, "external_run_look", -15.0)
    assert claim(holder, "external_run_look", 5.0, "somebody else")
    assert database.xcom(task, "external_run_look")["by"] == "somebody else"


def test_a_sleep_that_would_outlast_the_time_of_a_person_is_not_begun() -> None:
    import time

    from runops.airflow.plugin.service import OutOfTimeError, _until

    with pytest.raises(OutOfTimeError, match="not answered within 16 s, or its limit of requests is used up"):
        _until(time.monotonic() + 1.0)(1.5)
    _until(time.monotonic() + 60.0)(0.0)


def test_the_api_server_s_views_have_their_routes_places_and_icons(server: Any) -> None:
    from runops.airflow.plugin.views import views

    made = views("/runops", "External runs")
    assert [(each["destination"], each["url_route"], each.get("category")) for each in made] == [
        ("nav", "external-runs", "browse"),
        ("dag", "external-runs-dag", None),
        ("dag_run", "external-runs-dag-run", None),
        ("task", "external-runs-task", None),
        ("task_instance", "external-runs-task-instance", None),
    ]
    assert {(each["icon"], each["icon_dark_mode"]) for each in made} == {
        ("/runops/assets/icon.svg", "/runops/assets/icon-dark.svg")
    }


def test_a_run_whose_rows_have_gone_meanwhile_is_no_run_any_more() -> None:
    from fastapi import HTTPException

    from runops.airflow.plugin import actions
    from runops.airflow.plugin.questions import Address
    from runops.airflow.plugin.rows import Stored

    run = ExternalRun.from_dict(record())
    assert run is not None
    stored = Stored(Address("d", "r", "t", -1), run, datetime.now(UTC), "deferred")
    session: Any = SimpleNamespace(execute=lambda _: [], commit=lambda: None)
    queries: Any = SimpleNamespace(same_run=lambda *_: None)
    with pytest.raises(HTTPException) as raised:
        actions._same_run(queries, stored, session)
    assert (raised.value.status_code, raised.value.detail) == (404, "There is no such run any more.")


@pytest.mark.parametrize(
    ("later", "free"),
    [
        (timedelta(seconds=5), True),
        (timedelta(seconds=5, microseconds=-1), False),
        (timedelta(minutes=-1), False),
        (timedelta(minutes=-1, microseconds=-1), True),
    ],
)
def test_a_claim_is_free_again_after_its_seconds_and_where_its_clock_was_over_a_minute_ahead(
    later: timedelta, free: bool, database: Database, mocker: MockerFixture
) -> None:
    from runops.airflow.plugin.claims import claim

    task = database.add(record())
    holder = SimpleNamespace(
        dag_run_id=database.number_of(task), dag_id=task["dag_id"], run_id=task["dag_run_id"], task_id="wait",
        map_index=-1,
    )  # fmt: skip
    now = datetime(2030, 1, 1, tzinfo=UTC)
    clock = mocker.patch("runops.airflow.plugin.claims.datetime")
    clock.now.return_value = now
    assert claim(holder, "external_run_look", 5.0, "the first")
    clock.now.return_value = now + later
    assert claim(holder, "external_run_look", 5.0, "the second") is free
    stored = database.xcom(task, "external_run_look")
    assert stored == {
        "by": "the second" if free else "the first", "at": iso((now + later if free else now).timestamp()),
    }  # fmt: skip


@pytest.mark.parametrize(("others", "looks", "state"), [(0, 1, "probing"), (2, 3, "probing"), (3, 3, "running")])
def test_a_look_is_written_once_and_gives_way_to_who_writes_thrice_in_between(
    others: int, looks: int, state: str, database: Database, mocker: MockerFixture
) -> None:
    from runops.airflow.plugin import looked as module
    from runops.airflow.plugin.questions import Address

    task, now = database.add(record(run_id="r-1")), datetime.now(UTC)
    added = module.with_look

    def meanwhile(*given: Any) -> ExternalRun:
        if made.call_count <= others:
            database.age(task, "external_run", 1.0)
        return added(*given)

    made = mocker.patch.object(module, "with_look", side_effect=meanwhile)
    module.store(Address(**task), find("nyx"), RunSnapshot(ref=REF, state="probing", phase=Phase.RUNNING), now, now)
    assert made.call_count == looks
    assert database.xcom(task)["state"] == state


@pytest.mark.parametrize(("states", "entries"), [([], 1), (["queued"], 2), (["queued", "running"], 2),
                                                 (["running", "queued"], 3)])  # fmt: skip
def test_only_the_last_entry_of_a_timeline_is_compared_with_a_look(states: list[str], entries: int) -> None:
    timeline = [{"at": iso(AT - 90 + at), "state": state, "phase": state} for at, state in enumerate(states)]
    seen = looked(record(run_id="r-1", timeline=timeline), state="running", phase=Phase.RUNNING)
    assert len(seen.timeline) == entries
    assert seen.timeline[-1].state == "running"
