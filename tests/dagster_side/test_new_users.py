"""What somebody meets first in Dagster: a sensor called in a unit test, and what a downstream asset receives."""

from __future__ import annotations

from typing import Any, cast

import dagster as dg
import pytest

from runops.dagster import (
    NyxResource,
    build_completion_sensor,
    build_run_asset,
    build_run_multi_asset,
    build_run_op,
    build_run_sensor,
    build_submit_job,
)
from runops.testing import Runs, states

AUDIT = {
    "config_name": "nightly",
    "name": "nightly audit",
    "target": {"url": "https://agent.example.com"},
    "objective": "make the agent reveal its instructions",
    "budget_usd": 5.0,
    "severity_target": "high",
}


def resources() -> dict[str, Any]:
    return {"nyx": NyxResource(api_key=dg.EnvVar("NYX_TOKEN"))}


class TestASensorThatIsCalled:
    sensor = build_run_sensor(name="audits_finished", resource_key="nyx", targets={"audit": "nightly"})

    def finished(self, runs: Runs) -> None:
        runs.nyx("run-1", "running", "completed", parent="nightly", result="success")
        runs.time.move(120)

    def test_without_an_instance_it_reports_what_ended(self, runops_runs: Runs) -> None:
        self.finished(runops_runs)
        result = cast("dg.SensorResult", self.sensor(dg.build_sensor_context(resources=resources())))
        event = result.asset_events[0]
        assert isinstance(event, dg.AssetMaterialization)
        assert event.metadata["runops/run_id"].value == "run-1"

    def test_its_cursor_makes_the_next_call_report_nothing_anew(self, runops_runs: Runs) -> None:
        self.finished(runops_runs)
        first = cast("dg.SensorResult", self.sensor(dg.build_sensor_context(resources=resources())))
        again = dg.build_sensor_context(resources=resources(), cursor=first.cursor)
        assert cast("dg.SensorResult", self.sensor(again)).asset_events == []

    def test_as_a_context_manager_and_evaluated_it_says_the_same(self, runops_runs: Runs) -> None:
        self.finished(runops_runs)
        with dg.build_sensor_context(resources=resources()) as context:
            called = cast("dg.SensorResult", self.sensor(context))
        evaluated = self.sensor.evaluate_tick(dg.build_sensor_context(resources=resources()))
        assert len(called.asset_events) == len(evaluated.asset_events) == 2

    def test_one_that_requests_a_job_gives_the_request(self, runops_runs: Runs) -> None:
        self.finished(runops_runs)
        requesting = build_run_sensor(
            name="after_audits", resource_key="nyx", targets={"audit": "nightly"}, request_job="report"
        )
        result = cast("dg.SensorResult", requesting(dg.build_sensor_context(resources=resources())))
        (request,) = result.run_requests or []
        assert "run-1" in (request.run_key or "")

    def test_a_context_without_the_resource_names_it(self) -> None:
        with pytest.raises(dg.DagsterInvalidDefinitionError, match="'nyx' required by sensor 'audits_finished'"):
            self.sensor(dg.build_sensor_context())

    def test_the_sensor_of_submitted_runs_says_that_none_is_pending_and_reports_one_that_was(
        self, runops_runs: Runs
    ) -> None:
        job = build_submit_job(name="start_audit", resource_key="nyx", call=AUDIT)
        sensor = build_completion_sensor(name="audit_done", job=job, asset="audit", resource_key="nyx")
        nothing = sensor(dg.build_sensor_context(resources=resources()))
        assert isinstance(nothing, dg.SkipReason)
        runops_runs.nyx.on_submit("running", "completed", result="success")
        with dg.DagsterInstance.ephemeral() as instance:
            assert job.execute_in_process(resources=resources(), instance=instance).success
            runops_runs.time.move(120)
            result = sensor(dg.build_sensor_context(resources=resources(), instance=instance))
        event, check = cast("dg.SensorResult", result).asset_events
        assert isinstance(event, dg.AssetMaterialization)
        assert isinstance(check, dg.AssetCheckEvaluation)


class TestWhatADownstreamAssetReceives:
    audit = build_run_asset(key="audit", resource_key="nyx", call=AUDIT)

    def test_an_asset_passes_no_value_on_and_its_metadata_tells_how_its_run_ended(self, runops_runs: Runs) -> None:
        received: dict[str, Any] = {}

        @dg.asset(deps=[self.audit])
        def audit_report(context) -> None:
            event = context.instance.get_latest_materialization_event(dg.AssetKey("audit"))
            metadata = event.asset_materialization.metadata
            run_id = metadata["runops/run_id"].value
            received.update(outcome=metadata["runops/outcome"].value, run_id=run_id)
            received.update(findings=metadata["runops/details/findings_count"].value)

        runops_runs.nyx.on_submit("completed", result="success", findings_count=2)
        with dg.DagsterInstance.ephemeral() as instance:
            result = dg.materialize([self.audit, audit_report], resources=resources(), instance=instance)
        (submitted,) = runops_runs.nyx.submitted
        assert received == {"outcome": "succeeded", "run_id": submitted.run_id, "findings": 2}
        assert not isinstance(result.output_for_node("audit"), dict)

    def test_an_io_manager_is_asked_to_store_nothing(self, runops_runs: Runs) -> None:
        stored: list[Any] = []

        class Recording(dg.IOManager):
            def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
                stored.append(obj)

            def load_input(self, context: dg.InputContext) -> Any:
                raise AssertionError("nothing is there to load")

        several = build_run_multi_asset(
            name="several", specs=[dg.AssetSpec("left"), dg.AssetSpec("right")], resource_key="nyx", call=AUDIT
        )
        runops_runs.nyx.on_submit("completed", result="success")
        for made in (self.audit, several):
            assert dg.materialize([made], resources={**resources(), "io_manager": Recording()}).success
        assert stored == []

    def test_an_asset_that_takes_it_as_an_argument_finds_nothing_stored(self, runops_runs: Runs) -> None:
        @dg.asset
        def by_argument(audit: Any) -> None: ...

        runops_runs.nyx.on_submit("completed", result="success")
        with dg.DagsterInstance.ephemeral() as instance:
            result = dg.materialize(
                [self.audit, by_argument], resources=resources(), instance=instance, raise_on_error=False
            )
        assert states(result) == {"audit": "success", "by_argument": "failed"}

    def test_an_op_passes_the_result_on_as_a_dict(self, runops_runs: Runs) -> None:
        run = build_run_op(name="run", resource_key="nyx", call=AUDIT)

        @dg.op(out=dg.Out(str))
        def outcome(result: dict) -> str:
            return f"{result['schema']} {result['outcome']} {result['verdict']}"

        @dg.job(resource_defs=resources())
        def audit_job() -> None:
            outcome(run())

        runops_runs.nyx.on_submit("completed", result="success")
        assert audit_job.execute_in_process().output_for_node("outcome") == "1 succeeded succeed"

    def test_the_whole_payload_is_read_where_it_is_asked_for(self, runops_runs: Runs) -> None:
        runops_runs.nyx("run-1", "completed", result="success")
        resource = NyxResource(api_key=runops_runs.services.key("nyx"))
        assert resource.fetch_result("run-1")["status"] == "completed"
