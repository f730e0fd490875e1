"""The declarations of the providers as tables: what each can do, by which key, and what its runs show."""

from __future__ import annotations

import pytest

from runops.core import PROVIDERS, find
from runops.core.providers import tables

TABLES = {
    "verdicts": """\
| outcome | verdict by default | with `soft_fail=True` |
| --- | --- | --- |
| succeeded | succeed | succeed |
| degraded | skip | skip |
| exhausted | skip | skip |
| failed | fail | skip |
| cancelled | fail | skip |
| timed_out | fail | skip |""",
    "abilities": """\
| provider | read | submit | cancel | resume | retry | list | is read |
| --- | --- | --- | --- | --- | --- | --- | --- |
| Nexio | by run_id | yes | no | no | no | no | 2 s, slowing to 30 s |
| Nyx | by run_id | yes | yes | no | no | yes | every 5 s |
| OnePin | by workflow_id, run_id | yes | yes | yes | no | yes | 2 s, slowing to 15 s |
| B3OS | by run_id | yes | yes | no | yes | yes | 2 s, slowing to 20 s |
| Nekt | by run_id | no | yes | no | no | yes | 5 s, slowing to 30 s |""",
    "keys": """\
| provider | connection type | header | environment variable | options | documentation |
| --- | --- | --- | --- | --- | --- |
| Nexio | `nexio` | `Authorization` | `NEXIO_API_KEY` | none | https://docs.usenexio.com |
| Nyx | `nyx` | `X-Verification-Token` | `NYX_TOKEN` | none | https://docs.fabraix.com |
| OnePin | `onepin` | `Authorization` | `ONEPIN_API_KEY` | `workspace_id` | https://docs.onepin.ai |
| B3OS | `b3os` | `Authorization` | `B3OS_API_KEY` | `org_id` | https://docs.b3os.org |
| Nekt | `nekt` | `x-api-key` | `NEKT_API_KEY` | none | https://docs.nekt.com |""",
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_shows_what_users_rely_on(name: str) -> None:
    assert tables.markdown(name) == TABLES[name]


TEXT, NUMBER, FLAG = "text", "number", "flag"
DETAILS = {
    "Nexio": ({"environment": TEXT, "engine_version": TEXT, "stage": TEXT, "duration_ms": NUMBER}, "not shown"),
    "Nyx": (
        {
            "config_name": TEXT, "name": TEXT, "result": TEXT, "budget_usd": NUMBER, "spent_usd": NUMBER,
            "attempts_completed": NUMBER, "findings_count": NUMBER,
        },
        "USD (`spent_usd`)",
    ),
    "OnePin": (
        {
            "run_number": NUMBER, "token_cost": NUMBER, "total_nodes": NUMBER, "finished_nodes": NUMBER,
            "total_steps": NUMBER, "finished_steps": NUMBER, "has_export": FLAG, "pause_reason": TEXT,
            "paused_ms": NUMBER,
        },
        "characters (`token_cost`)",
    ),
    "B3OS": (
        {
            "workflowId": TEXT, "workflowVersion": NUMBER, "totalCu": NUMBER, "triggerSource": TEXT,
            "isSimulation": FLAG, "isDustTest": FLAG, "sourceRunId": TEXT,
        },
        "CU (`totalCu`)",
    ),
    "Nekt": (
        {
            "pipeline": TEXT, "source": TEXT, "destination": TEXT, "transformation": TEXT, "trigger_type": TEXT,
            "number": NUMBER, "duration_seconds": NUMBER, "full_sync": FLAG, "credit_charge_status": TEXT,
            "el_cost_usd": NUMBER, "transformation_cost_usd": NUMBER,
        },
        "USD (`el_cost_usd` + `transformation_cost_usd`)",
    ),
}  # fmt: skip


def test_what_a_run_shows_can_be_expected_and_what_it_spends_bounded() -> None:
    assert tables.details() == [
        (title, ", ".join(f"`{name}` ({kind})" for name, kind in shown.items()), spend)
        for title, (shown, spend) in DETAILS.items()
    ]
    header = tables.markdown("details").splitlines()[0]
    assert header == "| provider | details of a run | it spends |"


def test_the_words_of_each_provider_stand_under_its_title() -> None:
    rows = tables.all_states()
    assert [row[0] for row in rows] == [
        provider.title for provider in PROVIDERS.values() for _ in range(len(tables.states(provider)))
    ]
    assert ("Nyx", "completed", "failed (after 60 s without a result)", "fail") in rows
    assert tables.all_states([find("b3os")]) == [
        ("B3OS", "running", "running", "goes on"),
        ("B3OS", "waiting", "waiting", "goes on"),
        ("B3OS", "success", "succeeded", "succeed"),
        ("B3OS", "failure", "failed", "fail"),
        ("B3OS", "cancelled", "cancelled", "fail"),
    ]
    header = tables.markdown("states").splitlines()[0]
    assert header == "| provider | its word | means | verdict by default |"
