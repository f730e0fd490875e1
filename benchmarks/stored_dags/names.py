"""What the DAGs of stored runs are called. Data only."""

from __future__ import annotations

DAG_IDS = {
    "nexio": "insurance_desk",
    "nyx": "agent_security",
    "onepin": "voice_news",
    "b3os": "payouts",
    "nekt": "warehouse",
}
TASKS: dict[str, tuple[str, ...]] = {
    "nexio": ("place_homes", "place_fleets", "renew", "quote"),
    "nyx": ("audit_agent", "audit_tools", "red_team", "recheck"),
    "onepin": ("speak_headlines", "speak_weather", "dub", "announce"),
    "b3os": ("pay_suppliers", "pay_refunds", "rebalance", "close_day"),
    "nekt": ("load_orders", "load_customers", "load_events", "transform"),
}
PARENTS: dict[str, dict[str, str]] = {
    "nexio": {"engine_slug": "home"},
    "nyx": {"config_name": "agent-nightly"},
    "onepin": {"workflow_id": "7c9e6679-7425-40de-944b-e07fc1f90ae7"},
    "b3os": {"workflowId": "wf_1"},
    "nekt": {"pipeline": "orders"},
}
