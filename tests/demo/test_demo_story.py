"""The story of the demo is complete, and a cell that is not as promised does not go unnoticed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from demo.scenes import leaked_keys, one_cell, seen_by
from demo.screen import table
from demo.story import COLUMNS, DAG_RUNS, DAGSTER_RUNS, PROMISES, conf, differences, find, release_config
from demo.vendors import KEYS, word
from runops.core import PROVIDERS, Outcome, Verdict

GIVEN = {promise.key: f"run-of-{promise.key}" for promise in PROMISES if promise.given}


def _run(**changes: Any) -> dict[str, Any]:
    fields = {"status": "completed", "result": "success"}
    return {
        "provider": "nyx",
        "run_id": "r_1",
        "parents": {"config_name": "audit-finds-airflow"},
        "fields": fields,
    } | changes


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_story_tells_every_end_that_a_provider_knows(provider: str) -> None:
    declared = {row.meaning for _, _, row in PROVIDERS[provider].states if isinstance(row.meaning, Outcome)}
    told = {promise.outcome for promise in PROMISES if promise.provider == provider}
    assert told >= declared | {Outcome.TIMED_OUT}


def test_the_story_tells_every_verdict_and_every_outcome() -> None:
    assert {promise.verdict for promise in PROMISES} >= set(Verdict)
    assert {promise.outcome for promise in PROMISES} >= set(Outcome)


def test_every_promise_has_a_place_of_its_own_in_both_hosts() -> None:
    assert len({promise.key for promise in PROMISES}) == len(PROMISES)
    assert len({promise.task for promise in PROMISES}) == len(PROMISES)
    assert len({promise.asset for promise in PROMISES}) == len(PROMISES)
    assert {promise.task[0] for promise in PROMISES} == set(DAG_RUNS)
    assert {promise.asset[0] for promise in PROMISES} == set(DAGSTER_RUNS)


@pytest.mark.parametrize("name", DAG_RUNS)
def test_a_dag_run_gets_the_inputs_of_the_promises_that_it_keeps(name: str) -> None:
    values = conf(name, GIVEN)
    assert set(values) == set(DAG_RUNS[name].params)
    assert all(value for value in values.values())


def test_a_submission_of_the_story_is_one_that_the_provider_takes() -> None:
    submitted = [promise for promise in PROMISES if not promise.given]
    assert {promise.provider for promise in submitted} == {"nexio", "nyx", "onepin", "b3os"}
    for promise in submitted:
        assert PROVIDERS[promise.provider].call(**promise.arguments("dagster")).provider == promise.provider


def test_a_row_as_promised_has_no_differences() -> None:
    assert [line for promise in PROMISES for line in differences(promise.row, promise.row)] == []


@pytest.mark.parametrize("column", COLUMNS)
def test_one_wrong_cell_is_named(column: str) -> None:
    promised = find("rate-part").row
    (line,) = differences(promised, replace(promised, **{column: "something else"}))
    assert line.startswith(f"nexio, rates, one carrier silent, {COLUMNS[column]}: ")
    assert "found 'something else'" in line


def test_hosts_that_disagree_do_not_share_a_cell() -> None:
    assert one_cell("failed", "failed") == "failed"
    assert one_cell("failed", "succeeded") == "failed (Dagster: succeeded)"
    assert one_cell(None, "-") == "-"


def test_the_word_is_the_emulators_and_not_the_hosts() -> None:
    promise = find("audit-finds")
    told = {"run_id": "r_1", "state": "completed"}
    assert seen_by(promise, "airflow", told, [_run()]).word == promise.word == "completed, success"
    failed = _run(fields={"status": "failed", "result": "error"})
    assert seen_by(promise, "airflow", told, [failed]).word == "failed, error, but airflow has seen completed"
    assert word(_run(provider="b3os", fields={"status": "failure"})) == "failure"


def test_a_run_of_another_row_does_not_pass_for_this_one() -> None:
    told = {"run_id": "r_1", "state": "completed"}
    other = _run(parents={"config_name": "gate-shut-airflow"})
    assert seen_by(find("audit-finds"), "airflow", told, [other]).word == "0 run(s), airflow names r_1"


def test_a_second_run_is_not_overlooked() -> None:
    runs = [_run(), _run(run_id="r_2")]
    told = {"run_id": "r_1", "state": "completed"}
    assert seen_by(find("audit-finds"), "airflow", told, runs).word == "2 run(s), airflow names r_1"


def test_a_run_that_nobody_promised_is_not_overlooked() -> None:
    promise = find("payout-held")
    stray = _run(provider="b3os", run_id="run_1", parents={"workflow_id": promise.parent("airflow")})
    assert seen_by(promise, "airflow", {}, []).word == promise.word
    assert seen_by(promise, "airflow", {}, [stray]).word == "1 run(s), airflow names -"


def test_a_key_in_a_log_is_found(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "scheduler.log"
    log.parent.mkdir()
    log.write_text("all is well\n")
    assert leaked_keys(tmp_path) == []
    log.write_bytes(b"\x00" + KEYS["nyx"].encode() + b"\x00")
    assert leaked_keys(tmp_path) == ["logs/scheduler.log: the key of nyx stands in it"]


def test_the_table_has_all_columns_and_all_rows() -> None:
    lines = table([promise.row for promise in PROMISES]).splitlines()
    assert len(lines) == len(PROMISES) + 2
    assert all(title in lines[0] for title in COLUMNS.values())
    assert all(promise.run in line for promise, line in zip(PROMISES, lines[2:], strict=True))


def test_the_example_for_dagster_is_configured_for_each_release() -> None:
    config = release_config("release-out", GIVEN)["ops"]
    assert set(config) == {"orders", "rate", "gate", "pay_out", "announce"}
    assert config["orders"]["config"] == {"run_id": "run-of-orders-come"}
