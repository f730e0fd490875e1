"""Nekt's sources, transformations and triggers, field by field as its pages show them."""

from __future__ import annotations

import pytest

SOURCE = {
    "id", "name", "logo", "current_connector_slug", "current_connector_allow_manual_incremental_sync",
    "current_connector_allow_manual_log_based_sync", "current_connector_requires_manual_replication_key",
    "current_connector_config", "description", "full_sync_cron", "full_sync_cron_timezone", "pipeline_slug",
    "pipeline_active", "pipeline_current_status", "pipeline_triggers", "last_run", "created_at", "updated_at",
}  # fmt: skip
TRANSFORMATION = {
    "id", "type", "pipeline_slug", "pipeline_active", "pipeline_current_status", "output_table_name",
    "output_table_id", "output_layer", "last_run", "created_at", "updated_at", "created_by", "description", "code",
    "dependencies",
}  # fmt: skip
TRIGGER = {"id", "created_at", "updated_at", "type", "cron_expression", "cron_timezone", "events", "event_rule"}
PIPELINE = {
    "id", "slug", "description", "type", "active", "created_at", "updated_at", "latest_run_started",
    "latest_run_ended", "latest_run_status", "triggers", "current_status",
}  # fmt: skip
LAST_RUN = {"id", "created_at", "updated_at", "started_at", "ended_at", "status"}


def rows(call, path: str, **params: object) -> list[dict]:
    answer = call("nekt", "GET", f"/api/v1/{path}/", params=params)
    assert answer.status_code == 200, answer.text
    assert set(answer.json()) == {"count", "next", "previous", "results"}
    return answer.json()["results"]


def test_the_pipeline_of_a_run_says_what_starts_it(call, emulator) -> None:
    run_id = emulator.create_run("nekt", script="succeeded")
    emulator.advance(run_id=run_id)
    run = call.read("nekt", run_id).json()
    assert set(run["pipeline"]) == PIPELINE
    assert [set(trigger) for trigger in run["pipeline"]["triggers"]] == [TRIGGER] * 2
    assert {trigger["type"] for trigger in run["pipeline"]["triggers"]} <= {"manual", "cron", "event", "api"}
    times = [run["pipeline"][f"latest_run_{name}"] for name in ("started", "ended")]
    assert times == [run["started_at"], run["ended_at"]]


def test_a_source_tells_of_the_last_run_of_its_pipeline(call, emulator) -> None:
    emulator.advance(run_id=emulator.create_run("nekt", script="failed", parents={"source": "crm"}))
    newest = emulator.create_run("nekt", script="running", parents={"source": "crm"})
    emulator.create_run("nekt", script="queued", parents={"transformation": "join"})
    emulator.create_run("nekt", script="queued", parents={"destination": "warehouse"})
    crm, usual = rows(call, "sources")
    assert (set(crm), set(crm["last_run"])) == (SOURCE, LAST_RUN)
    assert (crm["pipeline_slug"], crm["last_run"]["id"], crm["pipeline_current_status"]) == ("crm", newest, "running")
    # One that has never run has no last run.
    assert (usual["pipeline_slug"], usual["last_run"]) == ("orders-extractor", None)


def test_a_pipeline_of_the_older_shape_is_a_source_with_the_same_triggers(call, emulator) -> None:
    run_id = emulator.create_run("nekt", script="running")
    (source,) = rows(call, "sources")
    assert source["last_run"]["id"] == run_id
    assert source["pipeline_triggers"] == call.read("nekt", run_id).json()["pipeline"]["triggers"]


def test_a_transformation_tells_of_its_last_run(call, emulator) -> None:
    assert rows(call, "transformations") == []
    run_id = emulator.create_run("nekt", script="running", parents={"transformation": "join-orders"})
    (row,) = rows(call, "transformations")
    assert set(row) == TRANSFORMATION
    assert (row["last_run"]["id"], row["output_table_name"]) == (run_id, "join_orders")


def test_the_lists_are_filtered_and_paged_as_documented(call, emulator) -> None:
    for number, script in enumerate(["running", "queued", "running"]):
        emulator.create_run("nekt", script=script, parents={"source": f"crm-{number}"})
    emulator.create_run("nekt", script="queued", parents={"source": "shop-1"})
    assert [row["name"] for row in rows(call, "sources", last_run_status="running")] == ["crm-2", "crm-0"]
    assert len(rows(call, "sources", last_run_status="running,queued")) == 4
    assert [row["name"] for row in rows(call, "sources", connector_slug="shop")] == ["shop-1"]
    first = call("nekt", "GET", "/api/v1/sources/", params={"page_size": 2, "connector_slug": "crm"}).json()
    assert (first["count"], len(first["results"]), first["previous"]) == (3, 2, None)
    second = call.http.get(first["next"], headers={"x-api-key": "k"}).json()
    assert ([row["name"] for row in second["results"]], second["next"]) == (["crm-0"], None)
    assert "page" not in second["previous"].replace("page_size", "")
    assert call("nekt", "GET", "/api/v1/sources/", params={"last_run_status": "done"}).status_code == 400


@pytest.mark.parametrize("path", ["sources", "transformations"])
def test_the_lists_want_their_slash_and_a_key(call, emulator, path) -> None:
    assert call("nekt", "GET", f"/api/v1/{path}").headers["location"] == f"/nekt/api/v1/{path}/"
    assert call("nekt", "GET", f"/api/v1/{path}/", key=None).status_code == 401


def test_the_ids_of_things_are_the_same_each_time_and_move_no_run(call, emulator) -> None:
    before = emulator.create_run("nekt")
    triggers = call.read("nekt", before).json()["pipeline"]["triggers"]
    rows(call, "sources")
    emulator.reset()
    rows(call, "sources")
    assert emulator.create_run("nekt") == before
    assert call.read("nekt", before).json()["pipeline"]["triggers"] == triggers


def test_a_run_of_the_newer_shape_says_how_long_it_took_once_it_is_over(call, emulator) -> None:
    made = {"script": "succeeded", "seconds": 80, "shape": "flat"}
    assert call.read("nekt", emulator.create_run("nekt", age_seconds=40, **made)).json()["duration_seconds"] is None
    over = emulator.create_run("nekt", age_seconds=100, **made)
    # It waits in the queue for a quarter of its time.
    assert call.read("nekt", over).json()["duration_seconds"] == 60
    emulator.set_fields("nekt", over, {"duration_seconds": 90})
    assert call.read("nekt", over).json()["duration_seconds"] == 90
