"""The one line that logs say of a run."""

from __future__ import annotations

from runops.core import Outcome, Phase, RunRef, RunSnapshot

REF = RunRef(provider="nexio", run_id="r-1")


def test_a_word_that_is_the_status_too_is_said_once() -> None:
    assert RunSnapshot(ref=REF, state="failed", outcome=Outcome.FAILED).summary() == "nexio run r-1: failed"


def test_a_word_of_the_provider_stands_beside_what_it_means() -> None:
    assert RunSnapshot(ref=REF, state="pending", phase=Phase.QUEUED).summary() == "nexio run r-1: pending (queued)"
