"""Acme, jobs of plants: the declaration of a service from elsewhere as it is right, and others made of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pydantic import Field

from runops.core import Outcome, Phase, Provider, StateTable
from runops.core.declaration import (
    AuthScheme,
    Call,
    Count,
    Listing,
    Moment,
    Route,
    RunBody,
    Spend,
    Submission,
    Text,
    required_text,
)
from runops.core.model.cadence import Cadence
from runops.core.model.redaction import clean


class AcmeJob(RunBody):
    """GET /v3/jobs/{job_id}."""

    DETAILS = ("plant", "parts")

    run_id: str = Field(min_length=1, validation_alias="job_id")
    status: str = Field(min_length=1, validation_alias="state")
    created_at: Moment = Field(None, validation_alias="made")
    started_at: Moment = Field(None, validation_alias="began")
    finished_at: Moment = Field(None, validation_alias="ended")
    plant: Text = None
    parts: Count = None
    label: Text = None
    error: Text = None

    def reason(self) -> str | None:
        """Why it broke."""
        return clean(self.error)


def submit(*, plant: str, amount: int = 1, label: str = "") -> Call:
    """A job at a plant.

    Args:
        plant: The plant.
        amount: How many.
        label: What people call it.
    """
    parent = {"plant": required_text("plant", plant)}
    return Call("acme_jobs", _JOBS.fill(parent), {"amount": amount, "label": label}, parent=parent)


_JOBS = Route("POST", "/v3/plants/{plant}/jobs")

ACME = Provider(
    name="acme_jobs",
    title="Acme",
    docs="https://docs.acme.test",
    base_url="https://api.acme.test",
    version_path="/v3",
    auth=AuthScheme("X-Acme-Key", key_prefixes=("acme_",)),
    key_variable="ACME_JOBS_KEY",
    body=AcmeJob,
    envelope=("answer", "job"),
    states=StateTable(
        {
            "QUEUED": Phase.QUEUED,
            "ACTIVE": Phase.RUNNING,
            "DONE": Outcome.SUCCEEDED,
            "BROKEN": Outcome.FAILED,
            "STOPPED": Outcome.CANCELLED,
        }
    ),
    status=Route("GET", "/v3/jobs/{run_id}"),
    submit=Submission(submit, run_id=("job", "job_id"), one_at_a_time=True, mark="label"),
    cancel=Route("DELETE", "/v3/jobs/{run_id}"),
    listing=Listing(
        Route("GET", "/v3/plants/{plant}/jobs"),
        items=("jobs",),
        parent_kinds=("plant",),
        paging="cursor",
        parameter="after",
        next=("next_cursor",),
        parent_detail="plant",
    ),
    probe=Route("GET", "/v3/me"),
    cadence=Cadence(first=2.0, factor=1.5, ceiling=30.0),
    spend=Spend("parts", ("parts",)),
    link="https://acme.test/{plant}/{run_id}",
)


def submission(name: str, **changes: Any) -> Submission:
    """The same submit for another provider's name."""

    def named(*, plant: str, amount: int = 1, label: str = "") -> Call:
        return replace(submit(plant=plant, amount=amount, label=label), provider=name)

    assert ACME.submit is not None
    return replace(ACME.submit, **{"build": named, **changes})


def variant(name: str, **changes: Any) -> Provider:
    """The same service under another name, with something changed."""
    return replace(ACME, **{"name": name, "submit": submission(name), **changes})
